"""A control plane without hosts, for tests of the Compute and Image APIs: callers by a header, over ASGI.

`Agent` plays a host's agent: it reports what a host with the server would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from msgspec.structs import replace
from starlette.requests import Request

from trunkline.api import compute, image, network, wiring
from trunkline.api.app import application
from trunkline.api.compute.observation import observe
from trunkline.api.context import CLOUD, Context
from trunkline.api.engine import Call, Engine
from trunkline.api.image import register_image
from trunkline.api.network import security_rules
from trunkline.api.policy import Rules
from trunkline.devices.image_files import ImageFiles
from trunkline.devices.web import Sources, Web
from trunkline.resources.compute import Server
from trunkline.resources.network import Port
from trunkline.resources.region import Host
from trunkline.resources.reports import Condition, HostLink, ServerReport, SnapshotReport
from trunkline.store import Store, Tx

ROLES = {
    "admin": frozenset({"admin", "manager", "member", "reader"}),
    "member": frozenset({"member", "reader"}),
    "reader": frozenset({"reader"}),
}
ROOT = "root@p0:admin"
IMAGE = "6e1b6f3a-0f0b-4c3e-9a55-0123456789ab"


async def authenticate(request: Request) -> Context:
    """Takes `X-Caller: USER@PROJECT:ROLE` for a token."""
    caller = request.headers.get("x-caller")
    if caller is None:
        return Context()
    user, _, rest = caller.partition("@")
    project, _, role = rest.partition(":")
    return Context(
        user_id=user,
        user_name=user,
        project_id=project,
        roles=ROLES[role or "member"],
        is_admin=role == "admin",
    )


@dataclass
class Lab:
    """A store, the APIs on it, and a client."""

    folder: Path
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def __post_init__(self) -> None:
        self.files = ImageFiles(self.folder / "images", max_bytes=8 * 1024 * 1024)
        self.store = Store.open(self.folder / "db" / "store")
        settings = network.Settings()
        self.engine = Engine(self.store, Rules.load(), wiring.stages(settings), limit=network.quota_limit)
        #: The list of servers that images may be fetched from.
        self.sources = self.folder / "sources.yaml"
        self.imports = image.Imports(self.engine, self.files, Web(Sources(self.sources)))
        services = [
            network.service(self.engine),
            compute.service(self.engine, self.console),
            image.service(self.engine, self.files, self.imports),
        ]
        self.app = application(services, authenticate)
        self.store.write_sync(compute.seed)
        self.store.write_sync(security_rules.seed)

    async def console(self, host: str, server: str, lines: int | None) -> str:
        """What every server wrote."""
        return f"{host} {lines}"

    async def call(
        self, method: str, path: str, caller: str = "ann@p1", *, json: Any = None, **more: Any
    ) -> httpx.Response:
        """One request."""
        given = {"x-caller": caller, **more.pop("headers", {})}
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://cloud") as client:
            return await client.request(method, path, json=json, headers=given, **more)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        by: str = "ann@p1",
        version: str = "",
        status: int | None = None,
    ) -> Any:
        """One request to the Compute API; the decoded body.

        Args:
            version: the microversion, as 2.37.
            status: the status it must have; any of success where it is not given.
        """
        headers = {"openstack-api-version": f"compute {version}"} if version else {}
        path = path if path.startswith(("/network", "/image")) else f"/compute/v2.1{path}"
        reply = self.loop.run_until_complete(self.call(method, path, by, json=body, headers=headers))
        shown = f"{method} {path} {body}: {reply.status_code} {reply.text}"
        assert reply.status_code == status if status else reply.status_code < 300, shown
        return reply.json() if reply.content else None

    def with_hosts(self, *names: str, **facts: Any) -> Lab:
        """Adds hosts, and an image that servers can be made from."""
        known = {"vcpus": 4, "memory_mib": 4096, "disk_gib": 100, "physical_networks": ["physnet1"]}

        def write(tx: Tx) -> None:
            for name in names:
                tx.insert(Host(id=name, alive=True, **(known | facts)))

        self.store.write_sync(write)
        file = self.files.path(IMAGE)
        file.write_bytes(bytes(1024))
        found = self.files.describe(file, "raw")
        self.store.write_sync(
            lambda tx: register_image(tx, IMAGE, "tiny", found, disk_format="raw", project_id="p0")
        )
        return self

    def network(self, name: str = "net", cidr: str = "10.0.0.0/24", by: str = "ann@p1", **more: Any) -> str:
        """A network with a subnet; its id."""
        body = {"network": {"name": name, **more}}
        id = self.ask("POST", "/network/v2.0/networks", body, by=by)["network"]["id"]
        subnet = {"network_id": id, "cidr": cidr, "ip_version": 4, "name": name}
        self.ask("POST", "/network/v2.0/subnets", {"subnet": subnet}, by=by)
        return str(id)

    def promising(self, **egress: int) -> str:
        """A network whose ports are promised 600 kbit/s that they send, and hosts that can send so much."""

        def write(tx: Tx) -> None:
            for host in tx.find(Host):
                links = [HostLink(egress_kbps=egress[host.id], ingress_kbps=0)]
                tx.observe(replace(host, links=links))

        self.store.write_sync(write)
        qos = "/network/v2.0/qos/policies"
        made = self.ask("POST", qos, {"policy": {"name": "sure", "shared": True}}, by=ROOT)["policy"]["id"]
        least = {"minimum_bandwidth_rule": {"min_kbps": 600}}
        self.ask("POST", f"{qos}/{made}/minimum_bandwidth_rules", least, by=ROOT)
        return self.network(qos_policy_id=made)

    def boot(self, *, by: str = "ann@p1", version: str = "2.90", **fields: Any) -> str:
        """A server, as it is asked for; its id."""
        hints = fields.pop("hints", {})
        body = {"name": "s", "imageRef": IMAGE, "flavorRef": "1", "networks": "none", **fields}
        asked = {"server": body, "os:scheduler_hints": hints}
        return str(self.ask("POST", "/servers", asked, by=by, version=version)["server"]["id"])

    def show(self, id: str, *, by: str = "ann@p1", version: str = "2.96") -> dict[str, Any]:
        """A server, as the API shows it."""
        return dict(self.ask("GET", f"/servers/{id}", by=by, version=version)["server"])

    def act(self, id: str, action: Any, *, status: int = 202, **more: Any) -> Any:
        """An action on a server."""
        body = {action: None} if isinstance(action, str) else action
        return self.ask("POST", f"/servers/{id}/action", body, status=status, **more)

    def row(self, id: str) -> Server | None:
        """A server, as it is stored."""
        with self.store.read() as reader:
            return reader.get(Server, id)

    def report(self, host: str, *servers: ServerReport) -> None:
        """What a host says it sees."""
        self.store.write_sync(lambda tx: observe(Call(self.engine, CLOUD, tx), host, servers))

    def running(self, *ids: str, state: str = "running", **more: Any) -> None:
        """Every host of these servers reports them, as wanted, in a state; other servers it has not."""
        rows = [row for id in ids if (row := self.row(id)) is not None]
        for host in {row.host for row in rows}:
            self.report(host, *(seen(row, state, **more) for row in rows if row.host == host))

    def booted(self, **fields: Any) -> str:
        """A server that runs."""
        id = self.boot(**fields)
        self.running(id)
        return id

    def alive(self, host: str, alive: bool) -> None:
        """A host is heard of, or not."""

        def write(tx: Tx) -> None:
            found = tx.get(Host, host)
            assert found is not None
            tx.observe(replace(found, alive=alive))

        self.store.write_sync(write)

    def close(self) -> None:
        """Closes the store."""
        self.loop.close()
        self.store.close()


def seen(
    row: Server,
    state: str,
    *,
    problem: Condition | None = None,
    ports: Sequence[str] | None = None,
    snapshot: SnapshotReport | None = None,
) -> ServerReport:
    """What a host reports of a server that has reached what is wanted."""
    return ServerReport(
        id=row.id,
        state=state,
        disk_serial=row.disk_serial,
        hard_reboot_serial=row.hard_reboot_serial,
        soft_reboot_serial=row.soft_reboot_serial,
        ports=tuple(row.ports if ports is None else ports),
        problem=problem,
        snapshot=snapshot,
    )


def ports_of(lab: Lab, id: str) -> list[Port]:
    """The ports of a server."""
    with lab.store.read() as reader:
        return reader.find(Port, device_id=id)


def status(lab: Lab, id: str) -> tuple[str, str | None]:
    """What a server is shown as: its status, and what is under way."""
    shown = lab.show(id)
    return shown["status"], shown["OS-EXT-STS:task_state"]
