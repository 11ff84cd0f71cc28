"""Acting for somebody: application credentials, access rules, trusts, keys. Never more than was given."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from identity_lab import SECRET, Client, IdentityLab, roles


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[IdentityLab]:
    made = IdentityLab(tmp_path)
    yield made
    made.close()


def at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def credential(user: Client, **fields: Any) -> dict[str, Any]:
    fields.setdefault("name", user.name("credential"))
    path = f"/users/{user.lab.seeded.demo_user_id}/application_credentials"
    made: dict[str, Any] = await user.ok("POST", path, {"application_credential": fields})
    return made


async def log_in(anyone: Client, given: dict[str, Any], **more: Any) -> Any:
    who = {"id": given["id"], "secret": given["secret"]}
    identity = {"methods": ["application_credential"], "application_credential": who}
    return await anyone.call("POST", "/auth/tokens", {"auth": {"identity": identity, **more}})


async def program(anyone: Client, given: dict[str, Any]) -> Client:
    reply = await log_in(anyone, given)
    assert reply.status_code == 201, reply.text
    return anyone.using(reply.headers["x-subject-token"])


def test_a_program_logs_in_with_the_roles_it_was_given(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        demo = await anyone.as_user("demo")
        given = await credential(demo, roles=[{"name": "reader"}])
        token = await (await program(anyone, given)).shown()
        assert roles(token) == {"reader"}
        assert token["project"]["id"] == lab.seeded.demo_project_id
        assert token["application_credential"] == {
            "id": given["id"],
            "name": given["name"],
            "restricted": True,
        }
        path = f"/users/{lab.seeded.demo_user_id}/application_credentials"
        shown = await demo.ok("GET", f"{path}/{given['id']}")
        assert "secret" not in shown
        assert [one["id"] for one in await demo.ok("GET", path)] == [given["id"]]
        by_name = {
            "name": given["name"],
            "user": {"name": "demo", "domain": {"id": "default"}},
            "secret": given["secret"],
        }
        identity = {"methods": ["application_credential"], "application_credential": by_name}
        assert await anyone.status("POST", "/auth/tokens", {"auth": {"identity": identity}}) == 201
        wrong = {**given, "secret": "wrong"}
        assert (await log_in(anyone, wrong)).status_code == 401
        assert (await log_in(anyone, {**wrong, "id": "nothing"})).status_code == 401
        assert (await log_in(anyone, given, scope={"project": {"id": "x"}})).status_code == 401

    lab.run(claim)


def test_a_program_ends_with_its_credential_its_time_and_its_user(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        demo, admin = await anyone.as_user("demo"), await anyone.admin()
        path = f"/users/{lab.seeded.demo_user_id}/application_credentials"
        first, short = await credential(demo), await credential(demo, expires_at=at(lab.now + 100))
        one, two = await program(anyone, first), await program(anyone, short)
        assert await one.valid()
        await demo.ok("DELETE", f"{path}/{first['id']}")
        assert not await one.valid()
        assert await two.valid()
        lab.now += 101
        assert not await two.valid()
        assert (await log_in(anyone, short)).status_code == 401
        third = await credential(demo)
        last = await program(anyone, third)
        await admin.ok("PATCH", f"/users/{lab.seeded.demo_user_id}", {"user": {"enabled": False}})
        assert not await last.valid()

    lab.run(claim)


def test_a_program_loses_the_roles_that_its_user_loses(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        demo, admin = await anyone.as_user("demo"), await anyone.admin()
        one = await program(anyone, await credential(demo))
        role = (await admin.ok("GET", "/roles?name=member"))[0]["id"]
        where = f"/projects/{lab.seeded.demo_project_id}/users/{lab.seeded.demo_user_id}/roles/{role}"
        await admin.ok("DELETE", where)
        assert not await one.valid()
        await admin.ok("PUT", where)
        assert roles(await one.shown()) == {"member", "reader"}

    lab.run(claim)


def test_a_program_does_not_make_itself_more_ways_in(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        demo = await anyone.as_user("demo")
        path = f"/users/{lab.seeded.demo_user_id}/application_credentials"
        body = {"application_credential": {"name": "more"}}
        restricted = await program(anyone, await credential(demo))
        assert await restricted.status("POST", path, body) == 403
        assert await restricted.status("GET", "/credentials") == 403
        assert (
            await restricted.status("POST", "/credentials", {"credential": {"type": "x", "blob": "y"}}) == 403
        )
        trust = {
            "trust": {
                "trustor_user_id": lab.seeded.demo_user_id,
                "trustee_user_id": lab.seeded.admin_user_id,
                "impersonation": True,
                "project_id": lab.seeded.demo_project_id,
                "roles": [{"name": "member"}],
            }
        }
        assert await restricted.status("POST", "/OS-TRUST/trusts", trust) == 403
        auth = {"identity": {"methods": ["token"], "token": {"id": restricted.token}}, "scope": "unscoped"}
        assert await anyone.status("POST", "/auth/tokens", {"auth": auth}) == 403
        free = await program(anyone, await credential(demo, unrestricted=True))
        assert await free.status("POST", path, body) == 201
        assert await free.status("POST", "/OS-TRUST/trusts", trust) == 403

    lab.run(claim)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"roles": [{"name": "admin"}]}, "roles"),
        ({"roles": [{"name": "no such role"}]}, "roles"),
        ({"roles": [{}]}, "roles"),
        ({"roles": "member"}, "roles"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"access_rules": [{"service": "compute", "method": "FETCH", "path": "/x"}]}, "method"),
        ({"access_rules": [{"service": "compute", "method": "GET"}]}, "path"),
        ({"name": ""}, "name"),
        ({"colour": "red"}, "colour"),
        ({"project_id": "another"}, "project_id"),
        ({"secret": 7}, "secret"),
    ],
)
def test_a_bad_application_credential_is_refused(
    lab: IdentityLab, fields: dict[str, Any], names: str
) -> None:
    async def claim(anyone: Client) -> None:
        demo = await anyone.as_user("demo")
        path = f"/users/{lab.seeded.demo_user_id}/application_credentials"
        reply = await demo.call("POST", path, {"application_credential": {"name": "x", **fields}})
        assert reply.status_code == 400
        assert names in reply.json()["error"]["message"]
        assert await demo.ok("GET", path) == []

    lab.run(claim)


def test_access_rules_bound_what_a_program_may_ask(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        demo = await anyone.as_user("demo")
        me = lab.seeded.demo_user_id
        rules = [
            {"service": "identity", "method": "GET", "path": "/v3/users/*"},
            {"service": "identity", "method": "GET", "path": "/v3/auth/**"},
            {"service": "compute", "method": "GET", "path": "/v3/regions"},
        ]
        given = await credential(demo, access_rules=rules)
        one = await program(anyone, given)
        assert await one.status("GET", f"/users/{me}") == 200
        assert await one.status("GET", "/auth/projects") == 200
        assert await one.status("GET", f"/users/{me}/projects") == 403, "one part, not two"
        assert await one.status("GET", "/regions") == 403, "the rule is for another service"
        assert await one.status("HEAD", f"/users/{me}") == 403
        assert await one.status("DELETE", "/auth/tokens") == 403
        listed = await demo.ok("GET", f"/users/{me}/access_rules")
        assert {rule["path"] for rule in listed} == {rule["path"] for rule in rules}
        rule = f"/users/{me}/access_rules/{listed[0]['id']}"
        assert await demo.status("DELETE", rule) == 403, "in use"
        await demo.ok("DELETE", f"/users/{me}/application_credentials/{given['id']}")
        assert await demo.status("DELETE", rule) == 204
        assert await demo.status("GET", rule) == 404

    lab.run(claim)


def test_a_credential_without_any_rule_is_good_for_no_request(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        demo = await anyone.as_user("demo")
        one = await program(anyone, await credential(demo, access_rules=[]))
        assert await one.status("GET", "/regions") == 403

    lab.run(claim)


def test_what_is_of_a_user_is_not_of_another(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        demo, admin = await anyone.as_user("demo"), await anyone.admin()
        given = await credential(demo, access_rules=[{"service": "x", "method": "GET", "path": "/"}])
        other = await admin.make("user", password=SECRET)
        role = (await admin.ok("GET", "/roles?name=member"))[0]["id"]
        await admin.ok("PUT", f"/projects/{lab.seeded.demo_project_id}/users/{other['id']}/roles/{role}")
        eve = await anyone.as_user({"id": other["id"]}, {"project": {"id": lab.seeded.demo_project_id}})
        theirs = f"/users/{lab.seeded.demo_user_id}"
        mine = f"/users/{other['id']}"
        id, rule = given["id"], given["access_rules"][0]["id"]
        for path in (
            f"{theirs}/application_credentials",
            f"{theirs}/application_credentials/{id}",
            f"{theirs}/access_rules",
            f"{theirs}/access_rules/{rule}",
            f"{theirs}/credentials/OS-EC2",
        ):
            assert await eve.status("GET", path) == 403, path
        for path in (f"{mine}/application_credentials/{id}", f"{mine}/access_rules/{rule}"):
            assert await eve.status("GET", path) == 404, path
            assert await eve.status("DELETE", path) == 404, path
        body = {"application_credential": {"name": "x"}}
        assert await admin.status("POST", f"{theirs}/application_credentials", body) == 403

    lab.run(claim)


# EC2 keys.


def test_ec2_keys_come_and_go(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        demo = await anyone.as_user("demo")
        path = f"/users/{lab.seeded.demo_user_id}/credentials/OS-EC2"
        key = await demo.ok("POST", path, {"tenant_id": lab.seeded.demo_project_id})
        assert await demo.ok("GET", f"{path}/{key['access']}") == key
        assert await demo.ok("GET", path) == [key]
        assert [c["type"] for c in await demo.ok("GET", "/credentials")] == ["ec2"]
        assert await demo.status("POST", path, {"tenant_id": "nothing"}) == 404
        assert await demo.status("POST", path, {}) == 400
        assert await demo.status("DELETE", f"{path}/{key['access']}") == 204
        assert await demo.status("GET", f"{path}/{key['access']}") == 404

    lab.run(claim)


# Trusts.


async def trust(anyone: Client, **fields: Any) -> tuple[Client, Client, dict[str, Any]]:
    """Admin (trustor) trusts demo (trustee) with the role reader in project admin, unless said otherwise."""
    seeded = anyone.lab.seeded
    admin, demo = await anyone.admin(), await anyone.as_user("demo")
    body = {
        "trustor_user_id": seeded.admin_user_id,
        "trustee_user_id": seeded.demo_user_id,
        "project_id": seeded.admin_project_id,
        "impersonation": True,
        "roles": [{"name": "reader"}],
        **fields,
    }
    return admin, demo, await admin.ok("POST", "/OS-TRUST/trusts", {"trust": body})


async def use(anyone: Client, given: dict[str, Any], user: str = "demo") -> Any:
    return await anyone.log_in(user, {"OS-TRUST:trust": {"id": given["id"]}})


@pytest.mark.parametrize("impersonation", [True, False])
def test_a_trustee_acts_with_the_roles_of_the_trust(lab: IdentityLab, impersonation: bool) -> None:
    async def claim(anyone: Client) -> None:
        _, demo, given = await trust(anyone, impersonation=impersonation)
        reply = await use(anyone, given)
        token = reply.json()["token"]
        assert roles(token) == {"reader"}
        assert token["project"]["id"] == lab.seeded.admin_project_id
        seeded = lab.seeded
        assert token["user"]["id"] == (seeded.admin_user_id if impersonation else seeded.demo_user_id)
        assert token["OS-TRUST:trust"] == {
            "id": given["id"],
            "impersonation": impersonation,
            "trustor_user": {"id": seeded.admin_user_id},
            "trustee_user": {"id": seeded.demo_user_id},
        }
        assert (await use(anyone, given, "admin")).status_code == 401, "the trust is for the trustee"
        acting = anyone.using(reply.headers["x-subject-token"])
        assert await acting.status("POST", "/users", {"user": {"name": "x"}}) == 403
        auth = {"identity": {"methods": ["token"], "token": {"id": acting.token}}, "scope": "unscoped"}
        assert await anyone.status("POST", "/auth/tokens", {"auth": auth}) == 403
        path = f"/users/{seeded.admin_user_id}/application_credentials"
        assert await acting.status("POST", path, {"application_credential": {"name": "x"}}) == 403
        assert await acting.status("GET", "/credentials") == 403
        assert (await demo.ok("GET", f"/OS-TRUST/trusts/{given['id']}"))["roles"][0]["name"] == "reader"

    lab.run(claim)


def test_a_trust_ends_when_deleted_over_or_used_up(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        admin, demo, given = await trust(anyone)
        acting = anyone.using((await use(anyone, given)).headers["x-subject-token"])
        path = f"/OS-TRUST/trusts/{given['id']}"
        assert await acting.valid()
        assert await demo.status("DELETE", path) == 403
        assert await admin.status("DELETE", path) == 204
        assert await admin.status("GET", path) == 404
        assert not await acting.valid()
        _, _, twice = await trust(anyone, remaining_uses=2)
        assert [(await use(anyone, twice)).status_code for _ in range(3)] == [201, 201, 401]
        _, _, short = await trust(anyone, expires_at=at(lab.now + 100))
        acting = anyone.using((await use(anyone, short)).headers["x-subject-token"])
        lab.now += 101
        assert not await acting.valid()
        assert (await use(anyone, short)).status_code == 401

    lab.run(claim)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"roles": []}, 403),
        ({"roles": [{"name": "no such role"}]}, 400),
        ({"trustor_user_id": "?"}, 403),
        ({"trustee_user_id": "nobody"}, 404),
        ({"project_id": "nothing"}, 404),
        ({"expires_at": "2001-01-01T00:00:00Z"}, 400),
        ({"expires_at": "bad.123Z"}, 400),
        ({"remaining_uses": 0}, 400),
        ({"allow_redelegation": True}, 400),
        ({"impersonation": None}, 400),
    ],
)
def test_a_bad_trust_is_refused(lab: IdentityLab, fields: dict[str, Any], status: int) -> None:
    if "trustor_user_id" in fields:
        fields = {"trustor_user_id": lab.seeded.demo_user_id}

    async def claim(anyone: Client) -> None:
        with pytest.raises(AssertionError) as caught:
            await trust(anyone, **fields)
        assert f'"code":{status}' in str(caught.value)

    lab.run(claim)


def test_nobody_gives_away_what_it_does_not_have(lab: IdentityLab) -> None:
    async def claim(anyone: Client) -> None:
        demo = await anyone.as_user("demo")
        body = {
            "trustor_user_id": lab.seeded.demo_user_id,
            "trustee_user_id": lab.seeded.admin_user_id,
            "project_id": lab.seeded.demo_project_id,
            "impersonation": False,
            "roles": [{"name": "admin"}],
        }
        assert await demo.status("POST", "/OS-TRUST/trusts", {"trust": body}) == 403
        body["project_id"] = lab.seeded.admin_project_id
        body["roles"] = [{"name": "member"}]
        assert await demo.status("POST", "/OS-TRUST/trusts", {"trust": body}) == 403

    lab.run(claim)
