"""Servers as clients see them: the body of a server at every microversion."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trunkline.api.compute.status import fault_of
from trunkline.api.compute.wire import bookmark, links
from trunkline.api.context import Context
from trunkline.api.engine import Engine
from trunkline.api.http import Request
from trunkline.resources.compute import FlavorFacts, Server
from trunkline.resources.network import FloatingIP, Network, Port, SecurityGroup
from trunkline.resources.region import Host
from trunkline.store import Reader, table_of

#: Statuses that have a progress.
_PROGRESS = frozenset({"ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE"})
#: Scheduler hints that are lists; of the others, one was given.
_LISTED_HINTS = frozenset({"same_host", "different_host"})


#: The access rules of what is the operators' own: hosts and internal names; how hosts are.
_INNER = "os_compute_api:os-extended-server-attributes"
_HOST_STATUS = "os_compute_api:servers:show:host_status"


def host_id(project: str, host: str) -> str:
    """What a project is told of its server's host: equal for equal hosts, and no name."""
    return hashlib.sha224(f"{project}{host}".encode()).hexdigest() if host else ""


@dataclass
class Surroundings:
    """What else is needed to show servers, read for all of them at once."""

    ports: dict[str, list[Port]] = field(default_factory=dict)
    networks: dict[str, Network] = field(default_factory=dict)
    floating: dict[str, list[FloatingIP]] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    #: Whether the caller sees what is the operators' own.
    inner: bool = False
    host_status: bool = False


def surroundings(engine: Engine, reader: Reader, context: Context, servers: Sequence[Server]) -> Surroundings:
    """Reads what is around servers, in a fixed number of queries, and what of it the caller may see."""
    own = {"project_id": context.project_id}
    found = Surroundings(
        inner=engine.rules.allows(_INNER, context, own),
        host_status=engine.rules.allows(_HOST_STATUS, context, own),
    )
    ids = [port for server in servers for port in server.ports]
    by_id = {port.id: port for port in _by(reader, Port, "id", ids)}
    for server in servers:
        found.ports[server.id] = [by_id[id] for id in server.ports if id in by_id]
    networks = {port.network_id for port in by_id.values()}
    found.networks = {network.id: network for network in _by(reader, Network, "id", networks)}
    for address in _by(reader, FloatingIP, "port_id", by_id):
        found.floating.setdefault(address.port_id or "", []).append(address)
    groups = {group for port in by_id.values() for group in port.security_groups}
    found.groups = {group.id: group.name for group in _by(reader, SecurityGroup, "id", groups)}
    found.hosts = {host.id: host for host in reader.select(Host)}
    return found


def _by(reader: Reader, cls: Any, column: str, values: Any) -> list[Any]:
    values = sorted(v for v in values if v)
    result: list[Any] = []
    for start in range(0, len(values), 500):
        clause = table_of(cls).c[column].in_(values[start : start + 500])
        result.extend(reader.select(cls, clause))
    return result


def brief(request: Request, server: Server) -> dict[str, Any]:
    """A server in a short list."""
    return {"id": server.id, "name": server.name, "links": links(request, f"servers/{server.id}")}


def basic(request: Request, server: Server, around: Surroundings, minor: int) -> dict[str, Any]:
    """What update and rebuild tell before 2.75."""
    shown: dict[str, Any] = {
        "id": server.id,
        "name": server.name,
        "status": server.status,
        "tenant_id": server.project_id,
        "user_id": server.user_id,
        "metadata": server.metadata,
        "hostId": host_id(server.project_id, server.host),
        "image": _image(request, server, minor),
        "flavor": _flavor(request, server, minor),
        "created": server.created_at,
        "updated": server.updated_at,
        "addresses": plain_addresses(server, around),
        "accessIPv4": server.access_ip_v4,
        "accessIPv6": server.access_ip_v6,
        "links": links(request, f"servers/{server.id}"),
        "OS-DCF:diskConfig": server.disk_config,
    }
    if server.status in _PROGRESS:
        shown["progress"] = 0
    fault = fault_of(server)
    if fault is not None:
        shown["fault"] = {"code": fault.code, "created": fault.created, "message": fault.message}
        if fault.details and (around.inner or fault.code != 500):
            shown["fault"]["details"] = fault.details
    if minor >= 9:
        shown["locked"] = server.locked
    if minor >= 73:
        shown["locked_reason"] = server.locked_reason
    if minor >= 19:
        shown["description"] = server.description
    if minor >= 26:
        shown["tags"] = server.tags
    if minor >= 63:
        shown["trusted_image_certificates"] = None
    return shown


def full(
    request: Request, server: Server, around: Surroundings, minor: int, *, groups: bool = True
) -> dict[str, Any]:
    """A server in full.

    Args:
        groups: tell its server group too, from 2.71 on: single servers do, lists do not.
    """
    shown = basic(request, server, around, minor)
    shown |= {
        "addresses": addresses(server, around),
        "key_name": server.key_name,
        "config_drive": "True" if server.config_drive else "",
        "OS-EXT-AZ:availability_zone": server.zone,
        "OS-EXT-STS:task_state": server.task_state,
        "OS-EXT-STS:vm_state": server.vm_state,
        "OS-EXT-STS:power_state": server.power_state,
        "OS-SRV-USG:launched_at": _stamp(server.launched_at),
        "OS-SRV-USG:terminated_at": None,
        "os-extended-volumes:volumes_attached": [],
    }
    names = security_groups(server, around)
    if names:
        shown["security_groups"] = names
    if around.inner:
        shown |= _inner(server, minor)
    if minor >= 16 and around.host_status:
        shown["host_status"] = _host_status(around.hosts.get(server.host))
    if minor >= 90:
        shown["OS-EXT-SRV-ATTR:hostname"] = server.hostname
    if minor >= 71 and groups:
        shown["server_groups"] = [server.group_id] if server.group_id else []
    if minor >= 96:
        shown["pinned_availability_zone"] = server.requested_zone or None
    if minor >= 100:
        shown["scheduler_hints"] = {
            name: values if name in _LISTED_HINTS else values[0]
            for name, values in server.scheduler_hints.items()
            if values
        }
    return shown


def _inner(server: Server, minor: int) -> dict[str, Any]:
    """What operators see."""
    shown: dict[str, Any] = {
        "OS-EXT-SRV-ATTR:host": server.host or None,
        "OS-EXT-SRV-ATTR:hypervisor_hostname": server.host or None,
        "OS-EXT-SRV-ATTR:instance_name": f"instance-{server.id[:8]}",
    }
    if minor >= 3:
        shown |= {
            "OS-EXT-SRV-ATTR:hostname": server.hostname,
            "OS-EXT-SRV-ATTR:reservation_id": server.reservation_id,
            "OS-EXT-SRV-ATTR:launch_index": server.launch_index,
            "OS-EXT-SRV-ATTR:kernel_id": "",
            "OS-EXT-SRV-ATTR:ramdisk_id": "",
            "OS-EXT-SRV-ATTR:root_device_name": "/dev/vda",
            "OS-EXT-SRV-ATTR:user_data": server.user_data or None,
        }
    return shown


def _host_status(host: Host | None) -> str:
    if host is None:
        return ""
    if not host.enabled:
        return "MAINTENANCE"
    return "UP" if host.alive else "DOWN"


def addresses(server: Server, around: Surroundings) -> dict[str, list[dict[str, Any]]]:
    """The addresses of a server by the name of the network, floating ones behind those they stand for."""
    result: dict[str, list[dict[str, Any]]] = {}
    for port in around.ports.get(server.id, []):
        network = around.networks.get(port.network_id)
        entries = result.setdefault(network.name or network.id if network else port.network_id, [])
        floating = around.floating.get(port.id, [])
        for fixed in port.fixed_ips:
            entries.append(_address(fixed.ip_address or "", "fixed", port.mac_address))
            entries += [
                _address(f.floating_ip_address or "", "floating", port.mac_address)
                for f in floating
                if f.fixed_ip_address == fixed.ip_address
            ]
    return {name: entries for name, entries in result.items() if entries}


def plain_addresses(server: Server, around: Surroundings) -> dict[str, list[dict[str, Any]]]:
    """The addresses of a server by the name of the network, and nothing else about them."""
    return {
        name: [{"version": entry["version"], "addr": entry["addr"]} for entry in entries]
        for name, entries in addresses(server, around).items()
    }


def _address(address: str, kind: str, mac: str) -> dict[str, Any]:
    return {
        "addr": address,
        "version": 6 if ":" in address else 4,
        "OS-EXT-IPS:type": kind,
        "OS-EXT-IPS-MAC:mac_addr": mac,
    }


def security_groups(server: Server, around: Surroundings) -> list[dict[str, str]]:
    """The security groups of a server's ports, by name, once for each port that has one."""
    ports = around.ports.get(server.id, [])
    return [{"name": around.groups[g]} for port in ports for g in port.security_groups if g in around.groups]


def _image(request: Request, server: Server, minor: int) -> Any:
    if not server.image_id:
        return ""
    shown: dict[str, Any] = {
        "id": server.image_id,
        "links": bookmark(request, f"images/{server.image_id}"),
    }
    if minor >= 98:
        properties = server.image.properties if server.image is not None else {}
        shown["properties"] = {n: v for n, v in properties.items() if len(v) <= 255}
    return shown


def _flavor(request: Request, server: Server, minor: int) -> dict[str, Any]:
    if minor < 47:
        path = f"flavors/{server.flavor_id}"
        return {"id": server.flavor_id, "links": bookmark(request, path)}
    flavor = server.flavor or FlavorFacts(name="", vcpus=0, ram=0)
    return {
        "vcpus": flavor.vcpus,
        "ram": flavor.ram,
        "disk": flavor.disk,
        "ephemeral": flavor.ephemeral,
        "swap": flavor.swap,
        "original_name": flavor.name,
        "extra_specs": flavor.extra_specs,
    }


def _stamp(text: str | None) -> str | None:
    return None if text is None else text.removesuffix("Z") + ".000000"


def created(request: Request, server: Server, names: Sequence[str], password: str) -> Mapping[str, Any]:
    """What create tells."""
    return {
        "id": server.id,
        "links": links(request, f"servers/{server.id}"),
        "OS-DCF:diskConfig": server.disk_config,
        "security_groups": [{"name": name} for name in names],
        "adminPass": password,
    }
