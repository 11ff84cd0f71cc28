"""What every operation of the APIs answers to every role, compared with the table in roles.txt.

Each operation is asked with a valid request about things of the project `demo`, by callers of every role:

    nobody    without a token              other    a member of another project
    reader    of the project               domain   an administrator of the domain, not of a project
    member    of the project               admin    of the project admin: the cloud's administrator
    manager   of the project               program  an application credential of the member

Nothing that is asked is kept: each transaction is undone when it has succeeded, so that all are asked
about the same things. A cell is ``yes`` for any success, ``401``, ``403``, ``404``, or what else was
answered. An operation that the table does not have yet must refuse by the rules at `_may_be_new`; write
the table anew, and read the difference:

    python tests/test_roles.py
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from api_lab import ApiLab
from things import LATEST, Things, Valid
from valid_requests import valid_requests

from trunkline.store import Tx

TABLE = Path(__file__).with_name("roles.txt")
SERVICES = ("identity", "network", "compute", "image", "appliance", "load-balancer")
ROLES = ("nobody", "reader", "member", "manager", "other", "domain", "admin", "program")
#: What is said to a caller without a token by what needs none.
OPEN = re.compile(
    r"GET /[\w-]+/(v[0-9.]+/?|versions|openapi\.json|v3/extensions)?$|POST /identity/v3/auth/tokens$"
)


class Callers:
    """Headers for each role."""

    def __init__(self, lab: ApiLab) -> None:
        self._lab = lab
        identity = "/identity/v3"
        roles = {role["name"]: role["id"] for role in lab.ok("GET", f"{identity}/roles")["roles"]}

        def user(name: str, where: str, role: str, scope: dict[str, Any]) -> str:
            body = {"user": {"name": name, "password": "secret"}}
            made = lab.ok("POST", f"{identity}/users", body)["user"]["id"]
            lab.ok("PUT", f"{identity}/{where}/users/{made}/roles/{roles[role]}")
            password = {"user": {"id": made, "password": "secret"}}
            return self._token({"methods": ["password"], "password": password}, scope)

        demo = lab.projects["demo"]
        in_demo, in_domain = {"project": {"id": demo}}, {"domain": {"id": "default"}}
        program = {"application_credential": {"name": "program", "secret": "secret"}}
        made = lab.ok(
            "POST", f"{identity}/users/{lab.users['demo']}/application_credentials", program, by="demo"
        )["application_credential"]["id"]
        self.program = str(made)
        by_program = {"id": made, "secret": "secret"}
        tokens = {
            "reader": lab.tokens["rita"],
            "member": lab.tokens["demo"],
            "manager": user("mary", f"projects/{demo}", "manager", in_demo),
            "other": lab.tokens["otto"],
            "domain": user("dora", "domains/default", "admin", in_domain),
            "admin": lab.tokens["admin"],
            "program": self._token(
                {"methods": ["application_credential"], "application_credential": by_program}
            ),
        }
        self.headers: Mapping[str, Mapping[str, str]] = {
            "nobody": {},
            **{role: {"x-auth-token": token} for role, token in tokens.items()},
        }

    def _token(self, identity: dict[str, Any], scope: dict[str, Any] | None = None) -> str:
        auth = {"identity": identity, **({"scope": scope} if scope else {})}
        reply = self._lab.ask("POST", "/identity/v3/auth/tokens", {"auth": auth}, by=None)
        assert reply.status_code == 201, reply.text
        return str(reply.headers["x-subject-token"])


class _Undo(Exception):
    """Ends a transaction that has succeeded; what it would have returned is in it."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result


@contextlib.contextmanager
def undone(lab: ApiLab) -> Iterator[None]:
    """Every transaction of the block is undone when it has succeeded, and tells its result all the same."""
    write: Callable[..., Awaitable[Any]] = lab.store.write

    async def dry(run: Callable[[Tx], Any]) -> Any:
        def whole(tx: Tx) -> Any:
            raise _Undo(run(tx))

        try:
            return await write(whole)
        except _Undo as undo:
            return undo.result

    with mock.patch.object(lab.store, "write", dry), lab.unchanged():
        yield


def operations(things: Things, more: Mapping[str, str]) -> Iterator[tuple[str, Valid]]:
    """(label, request) of every operation; `more` are places of things beside those of the requests."""
    valid: dict[str, list[Valid]] = {}
    for request in valid_requests(things):
        valid.setdefault(request.endpoint, []).append(request)
    known = _places(valid, more)
    for service in SERVICES:
        for endpoint in things.lab.services[service].endpoints:
            label = f"{endpoint.method} /{service}{endpoint.path}"
            found = valid.get(label)
            if found is None:
                yield label, Valid(label, _filled(f"/{service}{endpoint.path}", known), None)
                continue
            yield label, found[0]
            for request in found[1:]:
                if request.by == "admin" != found[0].by:
                    yield f"{label} with fields of admins", request
                    break


def _more_places(things: Things, callers: Callers) -> dict[str, str]:
    """Makes what only some paths name, and says where it is."""
    lab = things.lab
    for request in valid_requests(things):
        if request.endpoint.endswith("/tags") and request.method == "PUT":
            headers = {**LATEST, **(request.headers or {})}
            lab.ok("PUT", request.path, request.body, by=request.by, headers=headers)
    identity, user = "/identity/v3", f"/identity/v3/users/{things.user}"
    roles = {role["name"]: role["id"] for role in lab.ok("GET", f"{identity}/roles")["roles"]}
    trust = {
        "trustor_user_id": things.user,
        "trustee_user_id": lab.users["otto"],
        "impersonation": False,
        "project_id": things.project,
        "roles": [{"name": "member"}],
    }
    trusted = lab.ok("POST", f"{identity}/OS-TRUST/trusts", {"trust": trust}, by="demo")["trust"]["id"]
    own = {"tenant_id": things.project}
    key = lab.ok("POST", f"{user}/credentials/OS-EC2", own, by="demo")["credential"]["access"]
    known = {
        "/network/v2.0/quotas/{project}": f"/network/v2.0/quotas/{things.project}",
        "/network/v2.0/local_ips/{id}/port_associations/{port}": (
            f"/network/v2.0/local_ips/{things.local_ip}/port_associations/{things.led_to}"
        ),
        "/network/v2.0/flavors/{id}": f"/network/v2.0/flavors/{things.router_flavor}",
        "/network/v2.0/flavors/{id}/service_profiles": (
            f"/network/v2.0/flavors/{things.router_flavor}/service_profiles"
        ),
        "/network/v2.0/flavors/{id}/service_profiles/{profile}": (
            f"/network/v2.0/flavors/{things.router_flavor}/service_profiles/{things.profile}"
        ),
        "/network/v2.0/metering/metering-label-rules/{id}": (
            f"/network/v2.0/metering/metering-label-rules/{things.metered}"
        ),
        "/network/v2.0/extensions/{alias}": "/network/v2.0/extensions/router",
        "/compute/v2.1/servers/{id}": f"/compute/v2.1/servers/{things.server}",
        "/compute/v2.1/os-server-groups/{id}": f"/compute/v2.1/os-server-groups/{things.server_group}",
        "/compute/v2.1/os-quota-sets/{project}": f"/compute/v2.1/os-quota-sets/{things.project}",
        "/compute/v2.1/images/{id}": f"/compute/v2.1/images/{things.image}",
        "/appliance/v1/appliances/{id}/units/{number}": (
            f"/appliance/v1/appliances/{things.appliance}/units/1"
        ),
        "/appliance/v1/quotas/{project}": f"/appliance/v1/quotas/{things.project}",
        "/load-balancer/v2/lbaas/quotas/{project}": f"/load-balancer/v2/lbaas/quotas/{things.project}",
        "/load-balancer/v2/lbaas/providers/{provider}": "/load-balancer/v2/lbaas/providers/trunkline",
        f"{identity}/users/{{user_id}}": user,
        f"{identity}/users/{{user_id}}/application_credentials/{{id}}": (
            f"{user}/application_credentials/{callers.program}"
        ),
        f"{identity}/users/{{user_id}}/credentials/OS-EC2/{{id}}": f"{user}/credentials/OS-EC2/{key}",
        f"{identity}/OS-TRUST/trusts/{{id}}": f"{identity}/OS-TRUST/trusts/{trusted}",
        f"{identity}/OS-TRUST/trusts/{{id}}/roles/{{role_id}}": (
            f"{identity}/OS-TRUST/trusts/{trusted}/roles/{roles['member']}"
        ),
        f"{identity}/roles/{{id}}/implies/{{implied_id}}": (
            f"{identity}/roles/{roles['admin']}/implies/{roles['manager']}"
        ),
        f"{identity}/groups/{{id}}/users/{{user_id}}": (
            f"{identity}/groups/{things.dummies['group']}/users/{things.user}"
        ),
    }
    actors = {"users": things.user, "groups": things.dummies["group"]}
    scopes = {"projects/{scope_id}": f"projects/{things.project}", "domains/{scope_id}": "domains/default"}
    for scope, at in {**scopes, "system": "system"}.items():
        for actor, id in actors.items():
            for outer in ("", "OS-INHERIT/"):
                template, place = f"{outer}{scope}/{actor}/{{actor_id}}", f"{outer}{at}/{actor}/{id}"
                known[f"{identity}/{template}/roles"] = f"{identity}/{place}/roles"
                known[f"{identity}/{template}/roles/{{role_id}}"] = (
                    f"{identity}/{place}/roles/{roles['member']}"
                )
                if scope != "system" and not outer:
                    lab.ok("PUT", f"{identity}/{place}/roles/{roles['member']}")
    return known


def _places(valid: Mapping[str, list[Valid]], more: Mapping[str, str]) -> dict[str, str]:
    """The beginnings of paths, each with one that is there in its place."""
    known = dict(more)
    for requests in valid.values():
        for request in requests:
            template = request.endpoint.partition(" ")[2].split("/")
            path = request.path.partition("?")[0].split("/")
            for end in range(2, len(template) + 1):
                known.setdefault("/".join(template[:end]), "/".join(path[:end]))
    return known


#: What stands for parameters that are names.
_NAMES = {"{tag}": "one", "{key}": "a"}


def _filled(template: str, known: Mapping[str, str]) -> str:
    """A path of the template, of things that are there as far as that is known."""
    parts = template.split("/")
    for end in range(len(parts), 1, -1):
        if (place := known.get("/".join(parts[:end]))) is not None:
            rest = (re.sub(r"{\w+}", lambda name: _NAMES.get(name[0], "x"), part) for part in parts[end:])
            return "/".join([place, *rest])
    return re.sub(r"{\w+}", "x", template)


def answers(lab: ApiLab) -> dict[str, list[str]]:
    """What every operation answers: label to a cell for each role."""
    things = Things(lab)
    callers = Callers(lab)
    more = _more_places(things, callers)
    found: dict[str, list[str]] = {}
    with undone(lab):
        for label, request in operations(things, more):
            cells = []
            for role in ROLES:
                latest = LATEST if request.service == "compute" else {}
                headers = {**latest, **(request.headers or {}), **callers.headers[role]}
                subject = {"x-subject-token": lab.tokens["demo"]} if label.endswith("/auth/tokens") else {}
                reply = lab.ask(
                    request.method, request.path, request.body, by=None, headers={**headers, **subject}
                )
                assert reply.status_code < 500, f"{label} by {role}: {reply.status_code} {reply.text[:300]}"
                cells.append("yes" if reply.status_code < 400 else str(reply.status_code))
            found[label] = cells
    return found


def rendered(found: Mapping[str, list[str]]) -> str:
    """The table as text."""
    wide = max(map(len, found))
    head = (
        f"# {'written by tests/test_roles.py':{wide - 2}} {' '.join(f'{role:7}' for role in ROLES)}".rstrip()
    )
    lines = [
        f"{label:{wide}} {' '.join(f'{cell:7}' for cell in cells)}".rstrip() for label, cells in found.items()
    ]
    return "\n".join([head, *lines]) + "\n"


def read(text: str) -> dict[str, list[str]]:
    """The table of a text that was rendered."""
    rows = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {" ".join(row[: -len(ROLES)]): row[-len(ROLES) :] for row in rows}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[str]]]:
    lab = ApiLab(tmp_path_factory.mktemp("roles"))
    yield answers(lab)
    lab.close()


def test_every_operation_answers_each_role_as_the_table_says(found: dict[str, list[str]]) -> None:
    table = read(TABLE.read_text())
    differing = {
        label: dict(zip(ROLES, zip(table[label], cells, strict=True), strict=True))
        for label, cells in found.items()
        if label in table and table[label] != cells
    }
    assert differing == {}, "(table, now): if that is meant, python tests/test_roles.py"


def test_the_table_has_no_operation_that_is_gone(found: dict[str, list[str]]) -> None:
    assert read(TABLE.read_text()).keys() - found.keys() == set()


def test_an_operation_that_the_table_does_not_have_refuses_strangers(found: dict[str, list[str]]) -> None:
    table = read(TABLE.read_text())
    refused = {
        label: cells
        for label, cells in found.items()
        if label not in table and not _may_be_new(label, dict(zip(ROLES, cells, strict=True)))
    }
    assert refused == {}


def _may_be_new(label: str, cells: Mapping[str, str]) -> bool:
    """Nobody without a token; no reader writes; nothing of one's own is another project's."""
    writes = not label.startswith("GET")
    own = "{" in label
    return (
        (cells["nobody"] == "401" or OPEN.match(label) is not None)
        and not (writes and cells["reader"] == "yes")
        and not (own and writes and cells["other"] == "yes")
    )


def test_without_a_token_nothing_is_told_but_versions_and_tokens(found: dict[str, list[str]]) -> None:
    told = [label for label, cells in found.items() if cells[0] != "401" and not OPEN.match(label)]
    assert told == []


def main() -> None:
    """Writes the table anew."""
    with tempfile.TemporaryDirectory() as folder:
        lab = ApiLab(Path(folder))
        try:
            TABLE.write_text(rendered(answers(lab)))
        finally:
            lab.close()
    assert not asyncio.all_tasks(lab.loop)


if __name__ == "__main__":
    sys.exit(main())
