"""The Identity API: people and places, who may touch them, and what goes when they go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from identity_lab import SECRET, SYSTEM, Client, IdentityLab, project, roles


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[IdentityLab]:
    made = IdentityLab(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityLab]:
    """For tests that leave nothing behind."""
    made = IdentityLab(tmp_path_factory.mktemp("untouched"))
    yield made
    made.close()


async def role_id(admin: Client, name: str) -> str:
    return str((await admin.ok("GET", f"/roles?name={name}"))[0]["id"])


async def grant(admin: Client, role: str, user: str, where: str) -> str:
    """Gives a role to a user: `where` is a path such as /projects/ID. Returns the path of the grant."""
    path = f"{where}/users/{user}/roles/{await role_id(admin, role)}"
    await admin.ok("PUT", path)
    return path


async def manager(admin: Client, anyone: Client) -> tuple[Client, dict[str, Any]]:
    """The manager of a new domain, and the domain."""
    domain = await admin.make("domain")
    user = await admin.make("user", domain_id=domain["id"], password=SECRET)
    await grant(admin, "manager", user["id"], f"/domains/{domain['id']}")
    return await anyone.as_user({"id": user["id"]}, {"domain": {"id": domain["id"]}}), domain


KINDS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("domain", {"name": "a", "tags": ["x"]}, {"description": "new", "tags": []}),
    ("project", {"name": "a", "enabled": False}, {"name": "b", "enabled": True}),
    ("user", {"name": "a", "email": "a@example.org"}, {"name": "b", "default_project_id": None}),
    ("group", {"name": "a"}, {"description": None}),
    ("role", {"name": "a"}, {"description": "new"}),
    ("region", {"id": "north"}, {"description": "new"}),
    ("service", {"type": "dns"}, {"name": "new", "enabled": False}),
    ("credential", {"type": "cert", "blob": "x"}, {"blob": "y"}),
]


@pytest.mark.parametrize(("kind", "fields", "change"), KINDS, ids=[kind for kind, _, _ in KINDS])
def test_create_show_list_change_delete(
    lab: IdentityLab, kind: str, fields: dict[str, Any], change: dict[str, Any]
) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        path = f"/{kind}s"
        created = await admin.call("POST", path, {kind: fields})
        assert created.status_code == 201
        item = created.json()[kind]
        one = f"{path}/{item['id']}"
        assert item["links"] == {"self": f"http://cloud/identity/v3{one}"}
        assert {name: item[name] for name in fields} == fields
        assert await admin.ok("GET", one) == item
        assert item in await admin.ok("GET", path)
        changed = await admin.ok("PATCH", one, {kind: change})
        assert changed == {**item, **change}
        assert await admin.ok("PATCH", one, {kind: {"id": item["id"], **change}}) == changed
        other = await admin.call("PATCH", one, {kind: {"id": "other"}})
        assert (other.status_code, "id" in other.json()["error"]["message"]) == (400, True)
        if kind == "domain":
            assert await admin.status("DELETE", one) == 403
            await admin.ok("PATCH", one, {kind: {"enabled": False}})
        assert await admin.status("DELETE", one) == 204
        for method in ("GET", "DELETE"):
            gone = await admin.call(method, one)
            assert gone.status_code == 404
            assert gone.json()["error"]["message"].startswith("Could not find")
        assert await admin.status("PATCH", one, {kind: change}) == 404

    lab.run(claim)


@pytest.mark.parametrize("kind", ["domain", "project", "user", "group", "role"])
def test_a_name_is_there_once(lab: IdentityLab, kind: str) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        first, second = await admin.make(kind), await admin.make(kind)
        again = await admin.call("POST", f"/{kind}s", {kind: {"name": first["name"]}})
        assert again.status_code == 409
        assert first["name"] in again.json()["error"]["message"]
        body = {kind: {"name": first["name"]}}
        assert await admin.status("PATCH", f"/{kind}s/{second['id']}", body) == 409
        if kind in ("project", "user", "group"):
            domain = await admin.make("domain")
            await admin.make(kind, name=first["name"], domain_id=domain["id"])

    lab.run(claim)


@pytest.mark.parametrize(
    ("path", "body", "status", "names"),
    [
        ("/projects", {"project": {}}, 400, "name"),
        ("/projects", {"project": {"name": ""}}, 400, "name"),
        ("/projects", {"project": {"name": "  "}}, 400, "name"),
        ("/projects", {"project": {"name": "x" * 65}}, 400, "name"),
        ("/projects", {"project": {"name": 7}}, 400, "name"),
        ("/projects", {"project": {"name": "x", "colour": "red"}}, 400, "colour"),
        ("/projects", {"project": {"name": "x", "enabled": "true"}}, 400, "enabled"),
        ("/projects", {"project": {"name": "x", "tags": ["a,b"]}}, 400, "tags"),
        ("/projects", {"project": {"name": "x", "is_domain": True}}, 400, "is_domain"),
        ("/projects", {"project": {"name": "x", "parent_id": "nowhere"}}, 404, "nowhere"),
        ("/projects", {"project": {"name": "x", "domain_id": "nowhere"}}, 404, "nowhere"),
        ("/projects", {"project": {"name": "x", "domain_id": None, "parent_id": []}}, 400, "parent_id"),
        ("/projects", {"project": []}, 400, "project"),
        ("/projects", {}, 400, "project"),
        ("/projects", [], 400, "project"),
        ("/users", {"user": {"name": "x\x00"}}, 400, "name"),
        ("/users", {"user": {"name": "\ud800"}}, 400, "JSON"),
        ("/users", {"user": {"name": "x", "password": 7}}, 400, "password"),
        ("/users", {"user": {"name": "x", "password": "x" * 5000}}, 400, "password"),
        ("/users", {"user": {"name": "x", "default_project_id": "default"}}, 400, "default_project_id"),
        ("/users", {"user": {"name": "x", "tokens_from": 1}}, 400, "tokens_from"),
        ("/endpoints", {"endpoint": {"interface": "public", "url": "http://x"}}, 400, "service_id"),
        (
            "/endpoints",
            {"endpoint": {"interface": "public", "url": "http://x", "service_id": "nothing"}},
            400,
            "service_id",
        ),
        (
            "/endpoints",
            {"endpoint": {"interface": "odd", "url": "http://x", "service_id": "s"}},
            400,
            "interface",
        ),
        ("/endpoints", {"endpoint": {"interface": "public", "url": "x", "service_id": "s"}}, 400, "url"),
        ("/endpoints", {"endpoint": {"region": 7}}, 400, "region"),
        ("/regions", {"region": {"parent_region_id": "nowhere"}}, 404, "nowhere"),
        ("/regions", {"region": {"id": "RegionOne"}}, 409, "RegionOne"),
        ("/credentials", {"credential": {"type": "ec2", "blob": "x", "project_id": None}}, 400, "project_id"),
        ("/credentials", {"credential": {"type": "cert", "blob": "x", "user_id": "nobody"}}, 400, "user_id"),
        ("/OS-EP-FILTER/endpoint_groups", {"endpoint_group": {"name": "g", "filters": {"x": "y"}}}, 400, "x"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(
    untouched: IdentityLab, path: str, body: Any, status: int, names: str
) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        before = untouched.store.revision
        reply = await admin.http.post(
            f"/identity/v3{path}",
            content=json.dumps(body),
            headers={"x-auth-token": admin.token, "content-type": "application/json"},
        )
        assert reply.status_code == status, reply.text
        assert names in reply.json()["error"]["message"]
        assert untouched.store.revision == before

    untouched.run(claim)


def test_lists_are_filtered_and_paged(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        made = [
            await admin.make("project", name=f"list-{n}", tags=["even"] if n % 2 == 0 else [])
            for n in range(5)
        ]
        await admin.ok("PATCH", f"/projects/{made[3]['id']}", {"project": {"enabled": False}})

        async def names(query: str) -> list[str]:
            return [
                item["name"] for item in await admin.ok("GET", f"/projects?name__startswith=list-&{query}")
            ]

        assert await names("name=list-2") == ["list-2"]
        assert await names("enabled=false") == ["list-3"]
        assert "list-3" not in await names("enabled")
        assert sorted(await names("tags=even")) == ["list-0", "list-2", "list-4"]
        assert sorted(await names("not-tags=even")) == ["list-1", "list-3"]
        assert await names("name__iendswith=T-1&colour=red") == ["list-1"]
        assert sorted(await names("parent_id=default")) == [f"list-{n}" for n in range(5)]
        page = await admin.call("GET", "/projects?name__startswith=list-&limit=2&sort_key=name")
        seen: list[str] = []
        while True:
            seen += [item["name"] for item in page.json()["projects"]]
            following = page.json()["links"]["next"]
            if following is None:
                break
            page = await admin.call("GET", following.removeprefix("http://cloud/identity/v3"))
        assert seen == [f"list-{n}" for n in range(5)]

    lab.run(claim)


# Projects.


def test_a_project_tree_is_of_one_domain_and_bounded(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        domain = await admin.make("domain")
        top = await admin.make("project", domain_id=domain["id"])
        assert top["parent_id"] == domain["id"]
        line = [top]
        for _ in range(4):
            line.append(await admin.make("project", parent_id=line[-1]["id"]))
        assert {one["domain_id"] for one in line} == {domain["id"]}
        body = {"project": {"name": "deeper", "parent_id": line[-1]["id"]}}
        assert await admin.status("POST", "/projects", body) == 403
        body = {"project": {"name": "elsewhere", "parent_id": top["id"], "domain_id": "default"}}
        assert await admin.status("POST", "/projects", body) == 400
        assert await admin.status("DELETE", f"/projects/{top['id']}") == 403
        off = {"project": {"enabled": False}}
        assert await admin.status("PATCH", f"/projects/{top['id']}", off) == 403
        for one in reversed(line):
            await admin.ok("PATCH", f"/projects/{one['id']}", off)
        on = {"project": {"enabled": True}}
        assert await admin.status("PATCH", f"/projects/{line[1]['id']}", on) == 403

    lab.run(claim)


def test_deleting_a_domain_takes_all_that_is_in_it(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        domain = await admin.make("domain")
        inside = {
            "users": await admin.make("user", domain_id=domain["id"]),
            "groups": await admin.make("group", domain_id=domain["id"]),
            "roles": await admin.make("role", domain_id=domain["id"]),
            "projects": await admin.make("project", domain_id=domain["id"]),
        }
        child = await admin.make("project", parent_id=inside["projects"]["id"])
        await grant(admin, "member", lab.seeded.demo_user_id, f"/domains/{domain['id']}")
        await grant(admin, "member", lab.seeded.demo_user_id, f"/projects/{child['id']}")
        before = len(await admin.ok("GET", "/role_assignments"))
        await admin.ok("PATCH", f"/domains/{domain['id']}", {"domain": {"enabled": False}})
        await admin.ok("DELETE", f"/domains/{domain['id']}")
        for plural, one in inside.items():
            assert await admin.status("GET", f"/{plural}/{one['id']}") == 404
        assert await admin.status("GET", f"/projects/{child['id']}") == 404
        assert len(await admin.ok("GET", "/role_assignments")) == before - 2

    lab.run(claim)


def test_tags_of_a_project(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        path = f"/projects/{(await admin.make('project'))['id']}/tags"
        assert await admin.status("PUT", f"{path}/one") == 201
        assert await admin.status("PUT", f"{path}/one") == 201
        assert await admin.ok("GET", path) == ["one"]
        assert await admin.ok("PUT", path, {"tags": ["b", "a", "a"]}) == ["a", "b"]
        assert await admin.status("GET", f"{path}/a") == 204
        assert await admin.status("GET", f"{path}/one") == 404
        assert await admin.status("DELETE", f"{path}/a") == 204
        assert await admin.status("DELETE", f"{path}/a") == 404
        assert await admin.status("PUT", path, {"tags": ["x"] * 81 + [str(n) for n in range(81)]}) == 400
        assert await admin.status("PUT", f"{path}/a,b") == 400
        await admin.ok("DELETE", path)
        assert await admin.ok("GET", path) == []

    lab.run(claim)


def test_members_of_a_group_come_and_go(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        group, user = await admin.make("group"), await admin.make("user")
        member = f"/groups/{group['id']}/users/{user['id']}"
        assert await admin.status("GET", member) == 404
        for _ in range(2):
            assert await admin.status("PUT", member) == 204
        assert await admin.status("HEAD", member) == 204
        assert [u["id"] for u in await admin.ok("GET", f"/groups/{group['id']}/users")] == [user["id"]]
        assert [g["id"] for g in await admin.ok("GET", f"/users/{user['id']}/groups")] == [group["id"]]
        await admin.ok("DELETE", f"/users/{user['id']}")
        assert await admin.ok("GET", f"/groups/{group['id']}/users") == []

    lab.run(claim)


# Who may what.


def test_an_ordinary_user_sees_itself_and_its_own(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        demo = await anyone.as_user("demo")
        me, other = lab.seeded.demo_user_id, lab.seeded.admin_user_id
        assert (await demo.ok("GET", f"/users/{me}"))["name"] == "demo"
        assert [p["name"] for p in await demo.ok("GET", f"/users/{me}/projects")] == ["demo"]
        assert [p["name"] for p in await demo.ok("GET", "/auth/projects")] == ["demo"]
        assert (await demo.ok("GET", f"/projects/{lab.seeded.demo_project_id}"))["name"] == "demo"
        assert (await demo.ok("GET", "/domains/default"))["name"] == "Default"
        assert await demo.ok("GET", "/regions")
        for path in (
            f"/users/{other}",
            f"/users/{other}/projects",
            "/users/nobody",
            "/users",
            f"/projects/{lab.seeded.admin_project_id}",
            "/projects/nothing",
            "/projects",
            "/domains",
            "/roles",
            "/role_assignments",
            "/services",
            "/groups",
        ):
            assert await demo.status("GET", path) == 403, path
        assert await demo.status("PATCH", f"/users/{me}", {"user": {"enabled": True}}) == 403
        assert await demo.status("POST", "/users", {"user": {"name": "x"}}) == 403
        assert await demo.status("DELETE", f"/users/{other}") == 403

    lab.run(claim)


def test_a_reader_of_the_system_reads_everything_and_changes_nothing(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        user = await admin.make("user", password=SECRET)
        await grant(admin, "reader", user["id"], "/system")
        reader = await anyone.as_user({"id": user["id"]}, SYSTEM)
        for path in (
            "/users",
            "/projects",
            "/domains",
            "/roles",
            "/role_assignments",
            "/services",
            "/groups",
        ):
            assert await reader.status("GET", path) == 200, path
        assert await reader.status("POST", "/users", {"user": {"name": "x"}}) == 403
        assert await reader.status("DELETE", f"/users/{lab.seeded.demo_user_id}") == 403

    lab.run(claim)


def test_the_manager_of_a_domain_ends_at_its_border(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        boss, domain = await manager(admin, anyone)
        user = await boss.make("user")
        home = await boss.make("project")
        assert user["domain_id"] == home["domain_id"] == domain["id"]
        group = await boss.make("group")
        await boss.ok("PUT", f"/groups/{group['id']}/users/{user['id']}")
        await grant(boss, "member", user["id"], f"/projects/{home['id']}")
        assert {u["domain_id"] for u in await boss.ok("GET", "/users")} == {domain["id"]}
        assert {p["domain_id"] for p in await boss.ok("GET", "/projects")} == {domain["id"]}
        assert [d["id"] for d in await boss.ok("GET", "/domains")] == [domain["id"]]
        lines = await boss.ok("GET", "/role_assignments")
        assert {line["scope"].get("project", line["scope"].get("domain"))["id"] for line in lines} == {
            home["id"],
            domain["id"],
        }
        admin_role = await role_id(admin, "admin")
        outside = lab.seeded.demo_user_id
        member = await role_id(admin, "member")
        for method, path, body in (
            ("PUT", f"/projects/{home['id']}/users/{user['id']}/roles/{admin_role}", None),
            ("PUT", f"/domains/{domain['id']}/users/{user['id']}/roles/{admin_role}", None),
            ("PUT", f"/projects/{home['id']}/users/{outside}/roles/{member}", None),
            ("PUT", f"/projects/{lab.seeded.demo_project_id}/users/{user['id']}/roles/{member}", None),
            ("PUT", f"/system/users/{user['id']}/roles/{member}", None),
            ("PUT", f"/groups/{group['id']}/users/{outside}", None),
            ("POST", "/users", {"user": {"name": "x", "domain_id": "default"}}),
            ("PATCH", f"/users/{outside}", {"user": {"password": "mine"}}),
            ("DELETE", f"/projects/{lab.seeded.demo_project_id}", None),
            ("PATCH", f"/domains/{domain['id']}", {"domain": {"description": "mine"}}),
            ("GET", "/users?domain_id=default", None),
            ("GET", f"/users/{outside}", None),
        ):
            assert await boss.status(method, path, body) == 403, (method, path)

    lab.run(claim)


def test_the_administrator_of_a_domain_is_none_of_the_cloud(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        domain = await admin.make("domain")
        user = await admin.make("user", domain_id=domain["id"], password=SECRET)
        await grant(admin, "admin", user["id"], f"/domains/{domain['id']}")
        own = await anyone.as_user({"id": user["id"]}, {"domain": {"id": domain["id"]}})
        made = await own.make("user")
        assert made["domain_id"] == domain["id"]
        assert {u["domain_id"] for u in await own.ok("GET", "/users")} == {domain["id"]}
        top = await role_id(admin, "admin")
        for method, path, body in (
            ("GET", f"/users/{lab.seeded.demo_user_id}", None),
            ("PATCH", f"/users/{lab.seeded.admin_user_id}", {"user": {"password": "mine"}}),
            ("POST", "/domains", {"domain": {"name": "mine"}}),
            ("POST", "/regions", {"region": {"id": "mine"}}),
            ("PUT", f"/system/users/{made['id']}/roles/{top}", None),
            ("PUT", f"/projects/{lab.seeded.demo_project_id}/users/{made['id']}/roles/{top}", None),
            ("DELETE", f"/roles/{top}", None),
        ):
            assert await own.status(method, path, body) == 403, (method, path)

    lab.run(claim)


# Roles.


def test_a_grant_is_there_until_it_is_taken(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        user, group, home = await admin.make("user"), await admin.make("group"), await admin.make("project")
        role = await admin.make("role")
        for actor in (f"users/{user['id']}", f"groups/{group['id']}"):
            for path in (
                f"/projects/{home['id']}/{actor}/roles",
                f"/domains/default/{actor}/roles",
                f"/system/{actor}/roles",
            ):
                one = f"{path}/{role['id']}"
                assert await admin.status("GET", one) == 404
                for _ in range(2):
                    assert await admin.status("PUT", one) == 204
                assert await admin.status("HEAD", one) == 204
                assert [r["id"] for r in await admin.ok("GET", path)] == [role["id"]]
                assert await admin.status("DELETE", one) == 204
                assert await admin.status("DELETE", one) == 404
                assert await admin.status("PUT", f"{path}/nothing") == 404
        assert await admin.status("PUT", f"/projects/nothing/users/{user['id']}/roles/{role['id']}") == 404
        assert await admin.status("PUT", f"/projects/{home['id']}/users/nobody/roles/{role['id']}") == 404

    lab.run(claim)


def test_implied_roles_are_in_the_token_and_in_the_list(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        boss, under = await admin.make("role"), await admin.make("role")
        path = f"/roles/{boss['id']}/implies/{under['id']}"
        created = await admin.call("PUT", path)
        assert created.status_code == 201
        assert created.json()["role_inference"]["implies"]["name"] == under["name"]
        assert await admin.status("HEAD", path) == 204
        assert [r["id"] for r in (await admin.ok("GET", f"/roles/{boss['id']}/implies"))["implies"]] == [
            under["id"]
        ]
        user = await admin.make("user", password=SECRET)
        await grant(admin, boss["name"], user["id"], f"/projects/{lab.seeded.demo_project_id}")
        token = await (await anyone.as_user({"id": user["id"]}, project("demo"))).shown()
        assert roles(token) == {boss["name"], under["name"]}
        lines = await admin.ok("GET", f"/role_assignments?effective&user.id={user['id']}&include_names")
        assert {line["role"]["name"] for line in lines} == {boss["name"], under["name"]}
        assert ["prior_role" in line["links"] for line in lines].count(True) == 1
        back = f"/roles/{under['id']}/implies/{boss['id']}"
        assert await admin.status("PUT", back) == 403, "a circle"
        top = await role_id(admin, "admin")
        assert await admin.status("PUT", f"/roles/{under['id']}/implies/{top}") == 403, (
            "nothing implies admin"
        )
        await admin.ok("DELETE", path)
        assert await admin.status("GET", path) == 404
        token = await (await anyone.as_user({"id": user["id"]}, project("demo"))).shown()
        assert roles(token) == {boss["name"]}

    lab.run(claim)


def test_a_role_of_a_domain_counts_by_what_it_implies_and_only_there(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        domain = await admin.make("domain")
        own = await admin.make("role", domain_id=domain["id"])
        assert own not in await admin.ok("GET", "/roles")
        assert own in await admin.ok("GET", f"/roles?domain_id={domain['id']}")
        await admin.ok("PUT", f"/roles/{own['id']}/implies/{await role_id(admin, 'reader')}")
        home = await admin.make("project", domain_id=domain["id"])
        user = await admin.make("user", password=SECRET)
        await admin.ok("PUT", f"/projects/{home['id']}/users/{user['id']}/roles/{own['id']}")
        elsewhere = f"/projects/{lab.seeded.demo_project_id}/users/{user['id']}/roles/{own['id']}"
        assert await admin.status("PUT", elsewhere) == 403
        token = await (await anyone.as_user({"id": user["id"]}, {"project": {"id": home["id"]}})).shown()
        assert roles(token) == {"reader"}

    lab.run(claim)


def test_an_immutable_role_stays(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        role = await admin.make("role", options={"immutable": True})
        path = f"/roles/{role['id']}"
        assert await admin.status("DELETE", path) == 403
        assert await admin.status("PATCH", path, {"role": {"name": "x"}}) == 403
        await admin.ok("PATCH", path, {"role": {"options": {"immutable": False}}})
        assert await admin.status("DELETE", path) == 204

    lab.run(claim)


@pytest.mark.parametrize(
    "query",
    [
        "user.id=a&group.id=b",
        "scope.project.id=a&scope.domain.id=b",
        "scope.project.id=a&scope.system=all",
        "effective&group.id=a",
        "effective&scope.domain.id=a&scope.OS-INHERIT:inherited_to=projects",
        "include_subtree",
    ],
)
def test_questions_about_assignments_that_contradict_themselves(untouched: IdentityLab, query: str) -> None:
    async def claim(anyone: Client) -> None:
        assert await (await anyone.admin()).status("GET", f"/role_assignments?{query}") == 400

    untouched.run(claim)


# The catalog.


def test_the_catalog_has_what_is_enabled_and_fits_the_token(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        service = await admin.make("service", type="object-store")
        body = {"service_id": service["id"], "interface": "public", "region": "south"}
        endpoint = await admin.ok(
            "POST", "/endpoints", {"endpoint": {**body, "url": "http://x/AUTH_$(project_id)s"}}
        )
        assert (endpoint["region"], endpoint["region_id"]) == ("south", "south")
        assert await admin.status("GET", "/regions/south") == 200

        async def urls(scope: Any) -> list[str]:
            found = (await anyone.log_in("admin", scope)).json()["token"]["catalog"]
            return [e["url"] for s in found if s["type"] == "object-store" for e in s["endpoints"]]

        assert await urls(project("admin")) == [f"http://x/AUTH_{lab.seeded.admin_project_id}"]
        assert await urls(SYSTEM) == [], "there is no project to put in"
        assert await admin.status("DELETE", "/regions/south") == 409
        await admin.ok("PATCH", f"/services/{service['id']}", {"service": {"enabled": False}})
        assert await urls(project("admin")) == []
        await admin.ok("DELETE", f"/services/{service['id']}")
        assert await admin.status("GET", f"/endpoints/{endpoint['id']}") == 404
        reply = await anyone.call(
            "POST",
            "/auth/tokens?nocatalog",
            {
                "auth": {
                    "identity": {
                        "methods": ["password"],
                        "password": {"user": {"id": lab.seeded.demo_user_id, "password": SECRET}},
                    }
                }
            },
        )
        assert "catalog" not in reply.json()["token"]

    lab.run(claim)


def test_an_endpoint_group_picks_endpoints(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        group = await admin.ok(
            "POST",
            "/OS-EP-FILTER/endpoint_groups",
            {"endpoint_group": {"name": "g", "filters": {"interface": "public"}}},
        )
        picked = await admin.ok("GET", f"/OS-EP-FILTER/endpoint_groups/{group['id']}/endpoints")
        assert {e["interface"] for e in picked} == {"public"}
        assert len(picked) == 4

    lab.run(claim)
