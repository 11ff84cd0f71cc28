"""Smaller things about servers: diagnostics, the password's place, events from outside."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from trunkline.api.compute import networking
from trunkline.api.compute.server_api import ServerApi
from trunkline.api.compute.wire import Body, at, only, shaped
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import BadField, BadRequest, Conflict
from trunkline.resources.compute import FlavorFacts, Server
from trunkline.resources.network import Port
from trunkline.store import Reader

#: power_state -> what diagnostics call it.
_POWER = {0: "pending", 1: "running", 3: "paused", 4: "shutdown", 6: "crashed"}
_EVENTS = frozenset(
    {
        "network-changed", "network-vif-plugged", "network-vif-unplugged", "network-vif-deleted",
        "volume-extended", "power-update", "accelerator-request-bound", "volume-reimaged",
    }
)  # fmt: skip


class Event(Body):
    """Something that another service tells of a server."""

    name: str
    server_uuid: str
    status: Literal["failed", "completed", "in-progress"] | None = None
    tag: Annotated[str, Meta(max_length=255)] | None = None


class DetailApi:
    """Their handlers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.servers = ServerApi(engine)

    async def diagnostics(self, request: Request, minor: int) -> Reply:
        """What is known of a running server; counters of devices are not read."""

        def run(reader: Reader) -> dict[str, Any]:
            server = self.servers.find(reader, request, "os_compute_api:os-server-diagnostics")
            if server.vm_state not in ("active", "paused"):
                raise Conflict(
                    f"Cannot 'get_diagnostics' instance {server.id} while it is in vm_state {server.vm_state}"
                )
            ports = [port for id in server.ports if (port := reader.get(Port, id)) is not None]
            return _diagnostics(server, ports, minor)

        return Reply(await self.engine.read(run))

    async def password(self, request: Request, minor: int) -> Reply:
        """The password that a guest left encrypted: none."""
        rule = "os_compute_api:os-server-password:show"
        await self.engine.read(lambda reader: self.servers.find(reader, request, rule))
        return Reply({"password": ""})

    async def clear_password(self, request: Request, minor: int) -> Reply:
        """Forgets it."""
        rule = "os_compute_api:os-server-password:clear"
        await self.engine.read(lambda reader: self.servers.find(reader, request, rule))
        return Reply(status=204)

    async def shares(self, request: Request, minor: int) -> Reply:
        """The shares of a server: none."""
        rule = "os_compute_api:os-server-shares:index"
        await self.engine.read(lambda reader: self.servers.find(reader, request, rule))
        if request.method == "POST":
            raise BadRequest("This cloud does not offer shares.")
        return Reply({"shares": []})

    async def remote_console(self, request: Request, minor: int) -> Reply:
        """A graphical console: not offered."""
        rule = "os_compute_api:os-remote-consoles"
        await self.engine.read(lambda reader: self.servers.find(reader, request, rule))
        raise BadRequest("This cloud does not offer consoles. Read the log with os-getConsoleOutput.")

    async def events(self, request: Request, minor: int) -> Reply:
        """Takes note of what other services tell. What they tell is seen by the hosts themselves."""
        body = await request.json()
        if not isinstance(body, dict) or not isinstance(body.get("events"), list) or not body["events"]:
            raise BadField("events", "it must be a list of events.")
        only(body, {"events"})
        events = [shaped(event, Event, f"events[{i}]") for i, event in enumerate(body["events"])]
        for index, event in enumerate(events):
            if event.name not in _EVENTS:
                raise BadField(f"events[{index}].name", f"it must be one of {', '.join(sorted(_EVENTS))}.")
            networking.uuid_of(f"events[{index}].server_uuid", event.server_uuid)

        def run(call: Call) -> list[dict[str, Any]]:
            call.require("os_compute_api:os-server-external-events:create", {})
            return [_taken(call, event) for event in events]

        taken = await self.engine.write(request.context, run)
        worst = max(event["code"] for event in taken)
        return Reply({"events": taken}, 200 if worst == 200 else 207)


def _taken(call: Call, event: Event) -> dict[str, Any]:
    known = call.tx.get(Server, str(uuid.UUID(event.server_uuid))) is not None
    shown: dict[str, Any] = {
        "name": event.name,
        "server_uuid": event.server_uuid,
        "status": "completed" if known else "failed",
        "code": 200 if known else 404,
    }
    if event.tag is not None:
        shown["tag"] = event.tag
    return shown


def _diagnostics(server: Server, ports: list[Port], minor: int) -> dict[str, Any]:
    flavor = server.flavor or FlavorFacts(name="", vcpus=0, ram=0)
    if minor < 48:
        return {"memory": flavor.ram * 1024, "state": _POWER.get(server.power_state, "pending")}
    began = datetime.fromisoformat(server.launched_at) if server.launched_at else datetime.now(UTC)
    counters = [f"{way}_{n}" for way in ("rx", "tx") for n in ("octets", "errors", "drop", "packets", "rate")]
    disks = 1 + bool(flavor.ephemeral) + bool(flavor.swap)
    counted = ("read_bytes", "read_requests", "write_bytes", "write_requests", "errors_count")
    return {
        "state": _POWER.get(server.power_state, "pending"),
        # The names that clients know have none for QEMU without libvirt.
        "driver": "libvirt",
        "hypervisor": "kvm" if server.accelerated else "qemu",
        "hypervisor_os": "linux",
        "uptime": int((datetime.now(UTC) - began).total_seconds()),
        "config_drive": server.config_drive,
        "num_cpus": flavor.vcpus,
        "num_nics": len(ports),
        "num_disks": disks,
        "memory_details": {"maximum": flavor.ram, "used": None},
        "cpu_details": [{"id": i, "time": None, "utilisation": None} for i in range(flavor.vcpus)],
        "nic_details": [{"mac_address": p.mac_address, **dict.fromkeys(counters)} for p in ports],
        "disk_details": [dict.fromkeys(counted) for _ in range(disks)],
    }


def endpoints(engine: Engine) -> list[Endpoint]:
    """Their paths."""
    api = DetailApi(engine)
    one = "/v2.1/servers/{id}"
    return [
        at("GET", f"{one}/diagnostics", api.diagnostics, kind="server"),
        at("GET", f"{one}/os-server-password", api.password, kind="server"),
        at("DELETE", f"{one}/os-server-password", api.clear_password, 204, kind="server"),
        at("POST", f"{one}/remote-consoles", api.remote_console, since=6, kind="server"),
        at("GET", f"{one}/shares", api.shares, since=97, kind="server"),
        at("POST", f"{one}/shares", api.shares, 201, since=97, kind="server"),
        at("POST", "/v2.1/os-server-external-events", api.events, kind="server"),
    ]
