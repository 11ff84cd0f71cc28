"""Logging in, and what tokens are good for while the cloud changes under them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from identity_lab import CHEAP, SECRET, SYSTEM, Client, IdentityLab, project, roles

from trunkline.api.identity import IdentityOptions, Rate, SeedOptions, seed


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


def test_discovery_needs_no_token(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        versions = await anyone.http.get("/identity/")
        assert versions.status_code == 300
        assert versions.json()["versions"]["values"][0]["id"] == "v3.14"
        shown = await anyone.call("GET", "")
        assert shown.json()["version"]["links"] == [{"rel": "self", "href": "http://cloud/identity/v3/"}]

    lab.run(claim)


@pytest.mark.parametrize(
    "user",
    [
        {"name": "demo", "domain": {"id": "default"}},
        {"name": "demo", "domain": {"name": "Default"}},
        {"id": "?"},
    ],
)
def test_a_user_is_named_by_id_or_by_name_and_domain(lab: IdentityLab, user: dict[str, Any]) -> None:
    if "id" in user:
        user = {"id": lab.seeded.demo_user_id}

    async def claim(anyone: Client) -> None:
        reply = await anyone.log_in(user, project("demo"))
        assert reply.status_code == 201
        token = reply.json()["token"]
        assert token["user"]["id"] == lab.seeded.demo_user_id
        assert token["project"]["name"] == "demo"
        assert roles(token) == {"member", "reader"}
        assert {service["type"] for service in token["catalog"]} == {
            "identity",
            "network",
            "compute",
            "image",
        }
        assert token["expires_at"].endswith("Z")

    lab.run(claim)


def test_scopes_are_project_domain_system_and_nothing(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        role = (await admin.ok("GET", "/roles?name=member"))[0]
        await admin.ok("PUT", f"/domains/default/users/{lab.seeded.demo_user_id}/roles/{role['id']}")
        by_domain = await (await anyone.as_user("demo", {"domain": {"name": "Default"}})).shown()
        assert (by_domain["domain"]["id"], roles(by_domain)) == ("default", {"member", "reader"})
        system = await (await anyone.as_user("admin", SYSTEM)).shown()
        assert system["system"] == {"all": True}
        for scope in ("unscoped", {"unscoped": {}}):
            nothing = await (await anyone.as_user("demo", scope)).shown()
            assert not {"roles", "project", "domain", "system", "catalog"} & set(nothing)
        chosen = await (await anyone.as_user("demo")).shown()
        assert chosen["project"]["name"] == "demo", "the default project, where no scope is given"

    lab.run(claim)


def test_every_failed_log_in_looks_the_same(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        off = await admin.make("user", password=SECRET, enabled=False)
        domain = await admin.make("domain", enabled=False)
        inside = await admin.make("user", password=SECRET, domain_id=domain["id"])
        nobody = await admin.make("user")
        replies = [
            await anyone.log_in("nobody"),
            await anyone.log_in({"id": "nobody"}),
            await anyone.log_in({"name": "demo", "domain": {"name": "Nowhere"}}),
            await anyone.log_in("demo", password="wrong"),
            await anyone.log_in({"id": off["id"]}),
            await anyone.log_in({"id": inside["id"]}),
            await anyone.log_in({"id": nobody["id"]}, password=""),
            await anyone.log_in("demo", project("admin")),
            await anyone.log_in("demo", project("nowhere")),
            await anyone.log_in("demo", {"project": {"id": "nowhere"}}),
            await anyone.log_in("demo", SYSTEM),
            await anyone.log_in("demo", {"domain": {"id": "default"}}),
            await anyone.log_in("demo", {"OS-TRUST:trust": {"id": "nothing"}}),
        ]
        assert {(reply.status_code, reply.text) for reply in replies} == {(401, replies[0].text)}

    lab.run(claim)


@pytest.mark.parametrize(
    ("auth", "names"),
    [
        ({}, "identity"),
        ({"identity": {"methods": []}}, "methods"),
        ({"identity": {"methods": ["password"]}}, "password"),
        ({"identity": {"methods": "password"}}, "methods"),
        ({"identity": {"methods": ["password"], "password": {"user": {"name": "x"}}}}, "user"),
        ({"identity": {"methods": ["password"], "password": {"user": {"id": "x"}}}}, "password"),
        (
            {"identity": {"methods": ["password"], "password": {"user": {"id": 7, "password": "x"}}}},
            "user.id",
        ),
        (
            {
                "identity": {
                    "methods": ["password"],
                    "password": {"user": {"id": "x", "password": "x" * 5000}},
                }
            },
            "password",
        ),
        ({"identity": {"methods": ["token"], "token": {"id": "x\x00"}}}, "NUL"),
        ({"identity": {"methods": ["application_credential"], "application_credential": {}}}, "credential"),
        ({"identity": {"methods": ["token"], "token": {"id": "x"}}, "scope": "all"}, "scope"),
        ({"identity": {"methods": ["token"], "token": {"id": "x"}}, "scope": {}}, "scope"),
        (
            {
                "identity": {"methods": ["token"], "token": {"id": "x"}},
                "scope": {"system": {}, "unscoped": {}},
            },
            "scope",
        ),
        ([], "auth"),
    ],
)
def test_a_malformed_log_in_is_told_what_is_wrong(untouched: IdentityLab, auth: Any, names: str) -> None:
    async def claim(anyone: Client) -> None:
        reply = await anyone.call("POST", "/auth/tokens", {"auth": auth})
        assert reply.status_code == 400
        error = reply.json()["error"]
        assert (error["code"], error["title"]) == (400, "Bad Request")
        assert names in error["message"]

    untouched.run(claim)


def test_a_token_is_exchanged_for_another_scope_and_does_not_live_longer(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        first = await anyone.as_user("admin", "unscoped")
        lab.now += 1000
        auth = {"identity": {"methods": ["token"], "token": {"id": first.token}}, "scope": SYSTEM}
        reply = await anyone.call("POST", "/auth/tokens", {"auth": auth})
        old, new = await first.shown(), reply.json()["token"]
        assert new["methods"] == ["password", "token"]
        assert new["expires_at"] == old["expires_at"]
        assert new["audit_ids"][1:] == old["audit_ids"]
        assert new["system"] == {"all": True}

    lab.run(claim)


def test_a_token_ends_with_its_life(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        demo = await anyone.as_user("demo")
        lab.now += 3599
        assert await demo.valid()
        lab.now += 2
        assert not await demo.valid()

    lab.run(claim)


def test_a_revoked_token_is_no_token_and_others_of_the_user_are(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        one, two = await anyone.as_user("demo"), await anyone.as_user("demo")
        admin = await anyone.admin()
        assert (
            await two.call("DELETE", "/auth/tokens", headers={"x-subject-token": one.token})
        ).status_code == 204
        assert not await one.valid()
        assert await two.valid()
        reply = await admin.call("GET", "/auth/tokens", headers={"x-subject-token": one.token})
        assert reply.status_code == 404
        assert "Could not find token" in reply.json()["error"]["message"]

    lab.run(claim)


def test_who_may_look_at_a_token(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        demo, admin = await anyone.as_user("demo"), await anyone.admin()

        async def look(who: Client, at: Client, method: str = "GET") -> int:
            return (await who.call(method, "/auth/tokens", headers={"x-subject-token": at.token})).status_code

        assert await look(admin, demo) == 200
        assert await look(admin, demo, "HEAD") == 200
        assert await look(demo, demo) == 200
        assert await look(demo, admin) == 403
        assert await look(demo, admin, "DELETE") == 403
        assert await look(anyone, demo) == 401
        assert (await demo.call("GET", "/auth/tokens")).status_code == 400

    lab.run(claim)


async def _world(anyone: Client) -> tuple[Client, dict[str, Any], dict[str, Any], dict[str, Any], Client]:
    admin = await anyone.admin()
    domain = await admin.make("domain")
    home = await admin.make("project", domain_id=domain["id"])
    user = await admin.make("user", domain_id=domain["id"], password=SECRET)
    role = (await admin.ok("GET", "/roles?name=member"))[0]
    await admin.ok("PUT", f"/projects/{home['id']}/users/{user['id']}/roles/{role['id']}")
    client = await anyone.as_user({"id": user["id"]}, {"project": {"id": home["id"]}})
    assert await client.valid()
    return admin, domain, home, user, client


@pytest.mark.parametrize("what", ["domain", "project", "user"])
def test_disabling_ends_tokens_at_once(lab: IdentityLab, what: str) -> None:
    async def claim(anyone: Client) -> None:
        admin, domain, home, user, client = await _world(anyone)
        id = {"domain": domain, "project": home, "user": user}[what]["id"]
        await admin.ok("PATCH", f"/{what}s/{id}", {what: {"enabled": False}})
        assert not await client.valid()
        await admin.ok("PATCH", f"/{what}s/{id}", {what: {"enabled": True}})
        assert await client.valid() is (what != "user"), "a disabled user's tokens never come back"

    lab.run(claim)


@pytest.mark.parametrize("what", ["project", "user", "role", "grant"])
def test_removing_what_a_token_stands_on_ends_it(lab: IdentityLab, what: str) -> None:
    async def claim(anyone: Client) -> None:
        admin, _, home, user, client = await _world(anyone)
        role = (await admin.ok("GET", "/roles?name=member"))[0]
        path = {
            "project": f"/projects/{home['id']}",
            "user": f"/users/{user['id']}",
            "role": f"/roles/{role['id']}",
            "grant": f"/projects/{home['id']}/users/{user['id']}/roles/{role['id']}",
        }[what]
        await admin.ok("DELETE", path)
        assert not await client.valid()

    lab.run(claim)


def test_a_changed_password_ends_the_old_tokens_and_not_the_new(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        _, _, _, user, client = await _world(anyone)
        path = f"/users/{user['id']}/password"
        wrong = {"user": {"original_password": "wrong", "password": "new"}}
        assert await anyone.status("POST", path, wrong) == 401
        right = {"user": {"original_password": SECRET, "password": "new"}}
        assert await anyone.status("POST", path, right) == 204
        assert not await client.valid()
        assert (await anyone.log_in({"id": user["id"]})).status_code == 401
        again = await anyone.log_in({"id": user["id"]}, password="new")
        assert again.status_code == 201
        assert await anyone.using(again.headers["x-subject-token"]).valid(), "within the very same second"

    lab.run(claim)


def test_guessing_is_slowed_down_and_says_when_to_come_back(tmp_path: Path) -> None:
    options = IdentityOptions(cost=CHEAP, user_rate=Rate(3, 0.01), source_rate=Rate(6, 0.01))
    lab = IdentityLab(tmp_path, options)

    async def claim(anyone: Client) -> None:
        for _ in range(3):
            assert (await anyone.log_in("demo", password="wrong")).status_code == 401
        refused = await anyone.log_in({"id": lab.seeded.demo_user_id})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 10
        assert refused.json()["error"]["title"] == "Too Many Requests"
        assert (await anyone.log_in("admin")).status_code == 201
        for n in range(3):
            assert (await anyone.log_in(f"guess{n}")).status_code == 401
        assert (await anyone.log_in("admin")).status_code == 429, "the source is slowed down too"

    try:
        lab.run(claim)
    finally:
        lab.close()


def test_what_is_no_token_is_refused(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        for text in ("x", "gAAAAA", "A" * 9000):
            reply = await anyone.using(text).call("GET", "/users")
            assert reply.status_code == 401
            assert reply.headers["www-authenticate"].startswith("Keystone")
        assert await anyone.status("GET", "/users") == 401

    lab.run(claim)


def test_a_token_is_resolved_again_only_when_identity_has_changed(
    lab: IdentityLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trunkline.api.identity import sessions

    resolved: list[str] = []
    real = sessions.resolve

    def counted(reader: Any, token: Any, now: float) -> Any:
        resolved.append(token.user_id)
        return real(reader, token, now)

    monkeypatch.setattr(sessions, "resolve", counted)

    async def claim(anyone: Client) -> None:
        admin = await anyone.admin()
        for _ in range(5):
            await admin.ok("GET", "/users")
        await admin.ok("POST", "/regions", {"region": {"id": "elsewhere"}})
        await admin.ok("GET", "/users")
        assert len(resolved) == 1
        await admin.make("user")
        await admin.ok("GET", "/users")
        assert len(resolved) == 2

    lab.run(claim)


def test_seeding_again_changes_nothing_but_urls_and_passwords_asked_for(lab: IdentityLab) -> None:
    before = lab.store.revision
    assert lab.store.write_sync(lambda tx: seed(tx, lab.options)) == lab.seeded
    assert lab.store.revision == before
    new = lab.identity.passwords.hash_now("new")
    options = SeedOptions(
        base_url="http://elsewhere", admin_password_hash=new, demo_password_hash=new, reset_passwords=True
    )
    lab.store.write_sync(lambda tx: seed(tx, options))

    async def claim(anyone: Client) -> None:
        assert (await anyone.log_in("demo")).status_code == 401
        token = (await anyone.log_in("demo", password="new")).json()["token"]
        urls = {endpoint["url"] for service in token["catalog"] for endpoint in service["endpoints"]}
        assert all(url.startswith("http://elsewhere/") for url in urls)

    lab.run(claim)
