"""A Network API on a real store, without hosts: callers by a header, over ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from trunkline.api import network
from trunkline.api.app import application
from trunkline.api.context import Context
from trunkline.api.engine import Engine
from trunkline.api.network import security_rules
from trunkline.api.network.collection import path_of
from trunkline.api.policy import Rules
from trunkline.resources.network import Router
from trunkline.resources.region import Host
from trunkline.resources.schema import spec_of
from trunkline.store import Store

ROLES = {
    "admin": frozenset({"admin", "manager", "member", "reader"}),
    "manager": frozenset({"manager", "member", "reader"}),
    "member": frozenset({"member", "reader"}),
    "reader": frozenset({"reader"}),
}
#: Read once: the rules never change.
RULES = Rules.load()
ANN, BOB, ROOT = "ann@p1", "bob@p2", "root@p0:admin"


async def authenticate(request: Request) -> Context:
    """Takes `X-Caller: USER@PROJECT:ROLE` for a token."""
    caller = request.headers.get("x-caller")
    if caller is None:
        return Context()
    user, _, rest = caller.partition("@")
    project, _, role = rest.partition(":")
    return Context(user_id=user, project_id=project, roles=ROLES[role or "member"], is_admin=role == "admin")


class Cloud:
    """The API, and short ways to ask it."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(folder / "store")
        self.store.write_sync(security_rules.seed)
        engine = Engine(self.store, RULES, network.STAGES, limit=network.quota_limit)
        self.engine = engine
        transport = httpx.ASGITransport(application([network.service(engine)], authenticate))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://cloud/network/v2.0")
        self.loop = asyncio.new_event_loop()

    def ask(
        self, method: str, path: str, body: Any = None, *, by: str = ANN, **headers: str
    ) -> httpx.Response:
        """One request."""
        given = {"x-caller": by, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.loop.run_until_complete(self.client.request(method, path, json=body, headers=given))

    def make(self, kind: str, *, by: str = ANN, **fields: Any) -> dict[str, Any]:
        """Creates; `__` in a field's name stands for a colon."""
        body = {kind: {name.replace("__", ":"): value for name, value in fields.items()}}
        reply = self.ask("POST", path(kind), body, by=by)
        assert reply.status_code == 201, reply.text
        return dict(reply.json()[kind])

    def show(self, kind: str, id: str, *, by: str = ANN) -> dict[str, Any]:
        """Shows one."""
        reply = self.ask("GET", f"{path(kind)}/{id}", by=by)
        assert reply.status_code == 200, reply.text
        return dict(reply.json()[kind])

    def change(self, kind: str, id: str, *, by: str = ANN, **fields: Any) -> dict[str, Any]:
        """Changes one."""
        body = {kind: {name.replace("__", ":"): value for name, value in fields.items()}}
        reply = self.ask("PUT", f"{path(kind)}/{id}", body, by=by)
        assert reply.status_code == 200, reply.text
        return dict(reply.json()[kind])

    def remove(self, kind: str, id: str, *, by: str = ANN) -> None:
        """Deletes one."""
        reply = self.ask("DELETE", f"{path(kind)}/{id}", by=by)
        assert reply.status_code == 204, reply.text

    def all(self, kind: str, query: str = "", *, by: str = ANN) -> list[dict[str, Any]]:
        """Lists."""
        reply = self.ask("GET", f"{path(kind)}{query}", by=by)
        assert reply.status_code == 200, reply.text
        return list(reply.json()[spec_of(kind).plural])

    def refused(self, method: str, where: str, body: Any = None, *, by: str = ANN) -> tuple[int, str]:
        """The status and the type of an error."""
        reply = self.ask(method, where, body, by=by)
        assert reply.status_code >= 400, reply.text
        return reply.status_code, reply.json()["NeutronError"]["type"]

    def refuses(self, kind: str, *, by: str = ANN, **fields: Any) -> tuple[int, str]:
        """As `refused`, of a create."""
        body = {kind: {name.replace("__", ":"): value for name, value in fields.items()}}
        return self.refused("POST", path(kind), body, by=by)

    def hosts(self, *names: str, physical: str | tuple[str, ...] = "physnet1") -> None:
        """Has hosts that report a physical network, or several."""
        found = [physical] if isinstance(physical, str) else list(physical)

        async def write() -> None:
            await self.store.write(
                lambda tx: [tx.insert(Host(id=n, alive=True, physical_networks=found)) for n in names]
            )

        self.loop.run_until_complete(write())

    def net(self, *cidrs: str, by: str = ANN, **fields: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """A network with subnets."""
        made = self.make("network", by=by, **fields)
        return made, [self.sub(made, cidr, by=by) for cidr in cidrs]

    def sub(self, on: dict[str, Any], cidr: str, *, by: str = ANN, **fields: Any) -> dict[str, Any]:
        """A subnet."""
        version = 6 if ":" in cidr else 4
        return self.make("subnet", by=by, network_id=on["id"], cidr=cidr, ip_version=version, **fields)

    def public(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """An external network with an IPv4 subnet."""
        physical = {"provider:network_type": "flat", "provider:physical_network": "physnet1"}
        made = self.make("network", by=ROOT, router__external=True, **physical)
        return made, self.sub(made, "203.0.113.0/24", by=ROOT, enable_dhcp=False)

    def attach(self, router: dict[str, Any], subnet: dict[str, Any], *, by: str = ANN) -> dict[str, Any]:
        """A router's interface on a subnet."""
        where = f"/routers/{router['id']}/add_router_interface"
        reply = self.ask("PUT", where, {"subnet_id": subnet["id"]}, by=by)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def close(self) -> None:
        """Lets go of everything."""
        self.loop.run_until_complete(self.client.aclose())
        self.loop.close()
        self.store.close()


def path(kind: str) -> str:
    """Where a kind's collection is."""
    return path_of(spec_of(kind)).removeprefix("/v2.0")


def addresses(port: dict[str, Any]) -> list[str]:
    """The addresses of a port."""
    return [fixed["ip_address"] for fixed in port["fixed_ips"]]


def hosts_of(cloud: Cloud, router: dict[str, Any]) -> list[str]:
    """The hosts that may carry a router's gateway."""
    with cloud.store.read() as reader:
        stored = reader.get(Router, router["id"])
    assert stored is not None
    return sorted(stored.gateway_hosts)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """An empty cloud."""
    made = Cloud(tmp_path)
    yield made
    made.close()
