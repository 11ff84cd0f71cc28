"""Interfaces of servers: attached, listed and detached, also while they run. Volumes: none."""

from __future__ import annotations

from typing import Any

from trunkline.api.compute import changes, networking
from trunkline.api.compute.networking import NetworkItem
from trunkline.api.compute.server_api import ServerApi
from trunkline.api.compute.wire import Body, at, unwrap
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import BadField, BadRequest, NotFound
from trunkline.resources.compute import Server
from trunkline.resources.network import Port
from trunkline.store import Reader

_RULE = "os_compute_api:os-attach-interfaces:"
_STATES = ("active", "paused", "stopped")


class Fixed(Body):
    """An address for a new port."""

    ip_address: str


class Attach(Body):
    """The body of an attach request: a port, or a network, or neither."""

    port_id: str | None = None
    net_id: str | None = None
    fixed_ips: list[Fixed] | None = None
    tag: str | None = None


class AttachmentApi:
    """The handlers of /v2.1/servers/{id}/os-interface and os-volume_attachments."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.servers = ServerApi(engine)

    async def list(self, request: Request, minor: int) -> Reply:
        """The interfaces of a server."""

        def run(reader: Reader) -> list[dict[str, Any]]:
            server = self.servers.find(reader, request, f"{_RULE}list")
            ports = [port for id in server.ports if (port := reader.get(Port, id)) is not None]
            return [_render(server, port, minor) for port in ports]

        return Reply({"interfaceAttachments": await self.engine.read(run)})

    async def show(self, request: Request, minor: int) -> Reply:
        """One interface."""

        def run(reader: Reader) -> dict[str, Any]:
            server = self.servers.find(reader, request, f"{_RULE}show")
            return _render(server, _port(reader, server, request.path["port"]), minor)

        return Reply({"interfaceAttachment": await self.engine.read(run)})

    async def attach(self, request: Request, minor: int) -> Reply:
        """Attaches an interface: a given port, or a new one on a network."""
        body = await request.json()
        if isinstance(body, dict) and body.get("interfaceAttachment") is None:
            body = {**body, "interfaceAttachment": {}}
        given = unwrap(body, "interfaceAttachment", Attach)
        if given.tag is not None and minor < 49:
            raise BadField("tag", "it is there from microversion 2.49 on.")
        if given.port_id and given.net_id:
            raise BadField("net_id", "a port is on a network already: give net_id or port_id, not both.")
        addresses = given.fixed_ips or []
        if addresses and not given.net_id:
            raise BadField("fixed_ips", "addresses are on a network: give its net_id with them.")
        if len(addresses) > 1:
            raise BadField("fixed_ips", "one address can be given. Add others to the port.")
        item = NetworkItem(
            uuid=given.net_id,
            port=given.port_id,
            fixed_ip=addresses[0].ip_address if addresses else None,
            tag=given.tag,
        )
        wanted = [item] if given.port_id or given.net_id else None

        def run(call: Call, server: Server) -> dict[str, Any]:
            changes.check(call, server, "attach_interface", _STATES)
            interfaces = networking.understand(call, wanted, (), 1)
            if not interfaces.items:
                raise BadRequest("There is no network to attach to. Give net_id or port_id.")
            server = changes.attach(call, server, interfaces)
            return _render(server, _port(call.tx, server, server.ports[-1]), minor)

        return Reply({"interfaceAttachment": await self.servers.change(request, f"{_RULE}create", run)})

    async def detach(self, request: Request, minor: int) -> Reply:
        """Detaches an interface; a port that was made for the server goes with it."""

        def run(call: Call, server: Server) -> None:
            port = _port(call.tx, server, request.path["port"])
            changes.check(call, server, "detach_interface", _STATES)
            changes.detach(call, server, port.id)

        await self.servers.change(request, f"{_RULE}delete", run)
        return Reply(None, 202)

    async def volumes(self, request: Request, minor: int) -> Reply:
        """The volumes of a server: none."""
        rule = "os_compute_api:os-volumes-attachments:index"
        await self.engine.read(lambda reader: self.servers.find(reader, request, rule))
        return Reply({"volumeAttachments": []})

    async def no_volume(self, request: Request, minor: int) -> Reply:
        """Volumes are not offered."""
        rule = "os_compute_api:os-volumes-attachments:index"
        await self.engine.read(lambda reader: self.servers.find(reader, request, rule))
        if request.method == "POST":
            raise BadRequest("This cloud does not offer volumes.")
        raise NotFound(f"Volume {request.path['volume'][:80]} is not attached.")


def _port(reader: Reader, server: Server, id: str) -> Port:
    port = reader.get(Port, id) if id in server.ports else None
    if port is None:
        raise NotFound(f"No interface with port {id[:80]} on instance {server.id}.")
    return port


def _render(server: Server, port: Port, minor: int) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "port_id": port.id,
        "net_id": port.network_id,
        "mac_addr": port.mac_address,
        "port_state": port.status,
        "fixed_ips": [{"subnet_id": f.subnet_id, "ip_address": f.ip_address} for f in port.fixed_ips],
    }
    if minor >= 70:
        shown["tag"] = server.port_tags.get(port.id)
    return shown


def endpoints(engine: Engine) -> list[Endpoint]:
    """The paths of interfaces and volumes."""
    api = AttachmentApi(engine)
    many, volumes = "/v2.1/servers/{id}/os-interface", "/v2.1/servers/{id}/os-volume_attachments"
    return [
        at("GET", many, api.list, kind="server"),
        at("POST", many, api.attach, kind="server"),
        at("GET", f"{many}/{{port}}", api.show, kind="server"),
        at("DELETE", f"{many}/{{port}}", api.detach, 202, kind="server"),
        at("GET", volumes, api.volumes, kind="server"),
        at("POST", volumes, api.no_volume, kind="server"),
        at("GET", f"{volumes}/{{volume}}", api.no_volume, kind="server"),
        at("PUT", f"{volumes}/{{volume}}", api.no_volume, kind="server"),
        at("DELETE", f"{volumes}/{{volume}}", api.no_volume, kind="server"),
    ]
