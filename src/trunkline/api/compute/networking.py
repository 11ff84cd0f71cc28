"""The ports of servers: which networks a request means, ports made for it, ports taken and let go.

A server's own ports are made through the stages of the Network API, as its user; binding a port to a
host is the cloud's own act.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace
from sqlalchemy import or_

from trunkline.api.compute.wire import Body, shaped
from trunkline.api.context import CLOUD
from trunkline.api.engine import Call
from trunkline.api.network import promises, reach, sharing, topology
from trunkline.errors import BadField, BadRequest, Conflict, Forbidden, NotFound
from trunkline.plan.placement import Spread
from trunkline.plan.promises import Amounts, total
from trunkline.resources.compute import Server
from trunkline.resources.network import ACCESS_AS_SHARED, FixedIp, Network, Port, SecurityGroup, Subnet
from trunkline.resources.network.dns import dns_name
from trunkline.resources.types import ip_address
from trunkline.store import table_of

#: What the device owner of a server's port begins with; the availability zone follows.
OWNER = "compute:"


@dataclass(frozen=True)
class Interface:
    """An interface that a request asks for: on a network, or with a port that is there."""

    network: Network
    port: Port | None = None
    address: str = ""
    tag: str = ""


@dataclass(frozen=True)
class Interfaces:
    """All interfaces of a new server, and the groups of the ports that are made for it."""

    items: tuple[Interface, ...] = ()
    #: Ids of security groups; None for the network service's default.
    groups: tuple[str, ...] | None = None
    physical_networks: frozenset[str] = field(default_factory=frozenset)
    #: Those networks that are made of segments.
    spread: Sequence[Spread] = ()
    #: What the ports are promised.
    promises: Amounts = field(default_factory=dict)


class NetworkItem(Body):
    """One entry of `networks`."""

    uuid: str | None = None
    port: str | None = None
    fixed_ip: str | None = None
    tag: str | None = None


def uuid_of(name: str, value: str) -> str:
    """A UUID in its normal form.

    Raises:
        BadField: it is none.
    """
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise BadField(name, f"'{value[:80]}' is not a UUID.") from None


def understand(
    call: Call, wanted: Sequence[NetworkItem] | str | None, groups: Sequence[str], count: int
) -> Interfaces:
    """What a request for networks means.

    Args:
        wanted: entries; "none"; "auto"; or None where the request does not say.
        groups: names or ids of security groups.
        count: how many servers are asked for.
    Raises:
        BadField, BadRequest: it names what is not there or cannot be.
        Conflict: a port is in use, or several networks could be meant.
    """
    if wanted == "none":
        return Interfaces()
    if wanted is None or wanted == "auto":
        items = tuple(Interface(network) for network in _only_network(call, auto=wanted == "auto"))
    else:
        items = tuple(
            _interface(call, item, f"networks[{index}]", count)
            for index, item in enumerate(wanted)
            if isinstance(item, NetworkItem)
        )
    ports = [item.port.id for item in items if item.port is not None]
    for port in ports:
        if ports.count(port) > 1:
            raise BadField("networks", f"port {port} is given twice.")
    for item in items:
        _usable(call, item)
    physical = frozenset(i.network.physical_network for i in items if i.network.physical_network)
    asked = total(promises.of_interface(call.tx, item.network, item.port) for item in items)
    found = (reach.spread(call.tx, item.network, item.port, item.address) for item in items)
    spread = [each for each in found if each is not None]
    return Interfaces(items, security_groups(call, groups), physical, spread, asked)


def _only_network(call: Call, *, auto: bool) -> list[Network]:
    """The one network that the project can mean: its own, or shared with it; with `auto`, one made for it."""
    networks, project = table_of(Network), call.context.project_id
    shared = sharing.granted(Network, project, ACCESS_AS_SHARED)
    usable = call.tx.select(
        Network,
        or_(networks.c.project_id == project, networks.c.id.in_(shared)),
        networks.c.external.is_(False),
        networks.c.admin_state_up.is_(True),
    )
    found = [network for network in usable if network.subnets]
    if len(found) > 1:
        raise Conflict(
            "Multiple possible networks found, use a Network ID to be more specific.",
            type="NetworkAmbiguous",
            field="networks",
        )
    if found or not auto:
        return found
    try:
        made = topology.get(call, project)
    except BadRequest as error:
        raise BadField(
            "networks",
            f"Unable to automatically allocate a network for project {project}: it has none. "
            f"Create a network with a subnet. {error.message}",
        ) from None
    return [call.get(Network, made["id"])]


def _interface(call: Call, item: NetworkItem, where: str, count: int) -> Interface:
    tag = item.tag or ""
    if len(tag) > 60 or "," in tag or "/" in tag:
        raise BadField(f"{where}.tag", "a tag has up to 60 characters, no comma and no slash.")
    if item.port:
        if item.fixed_ip:
            raise BadField(f"{where}.fixed_ip", "it does not go with port, which has its addresses.")
        if count > 1:
            raise BadField(f"{where}.port", "one port cannot be given to several servers.")
        port = free_port(call, uuid_of(f"{where}.port", item.port), f"{where}.port")
        network = call.tx.get(Network, port.network_id)
        assert network is not None, "a port is on a network"
        return Interface(network, port, tag=tag)
    if not item.uuid:
        raise BadField(f"{where}.uuid", "give the id of a network, or a port.")
    network = _network(call, item.uuid, f"{where}.uuid")
    address = ""
    if item.fixed_ip:
        if count > 1:
            raise BadField(f"{where}.fixed_ip", "one address cannot be given to several servers.")
        try:
            address = ip_address(item.fixed_ip)
        except ValueError as error:
            raise BadField(f"{where}.fixed_ip", str(error)) from None
    return Interface(network, None, address, tag)


def _network(call: Call, id: str, where: str) -> Network:
    try:
        return call.get(Network, uuid_of(where, id))
    except NotFound:
        raise BadField(where, f"Network {id} could not be found.") from None


def free_port(call: Call, id: str, where: str) -> Port:
    """A port that the caller sees and nobody uses.

    Raises:
        BadField: it is not there, or has no address.
        Conflict: it is in use.
    """
    try:
        port = call.get(Port, id)
    except NotFound:
        raise BadField(where, f"Port id {id} could not be found.") from None
    if port.device_id:
        raise Conflict(f"Port {id} is still in use.", type="PortInUse", field=where)
    if not port.fixed_ips and port.ip_allocation != "deferred":
        raise BadField(where, f"Port {id} requires a FixedIP in order to be used.")
    return port


def _usable(call: Call, item: Interface) -> None:
    network = item.network
    if item.port is not None:
        return
    if network.external and not call.context.is_admin and not _is_shared(call, network):
        raise Forbidden(f"It is not allowed to create an interface on external network {network.id}.")
    if call.tx.count(Subnet, network_id=network.id) == 0:
        raise BadField("networks", f"Network {network.id} requires a subnet in order to boot instances on.")


def _is_shared(call: Call, network: Network) -> bool:
    return sharing.is_shared_with(call.tx, network, call.context.project_id)


def security_groups(call: Call, names: Sequence[str]) -> tuple[str, ...] | None:
    """The groups of new ports; None for the default one alone, which the Network API gives by itself."""
    if not names or list(names) == ["default"]:
        return None
    return group_ids(call, names)


def group_ids(call: Call, names: Sequence[str]) -> tuple[str, ...]:
    """The ids of security groups by names or ids, in the caller's project.

    Raises:
        BadField: there is none of a name.
        Conflict: there are several.
    """
    project = call.context.project_id
    groups = call.tx.find(SecurityGroup, project_id=project)
    found: dict[str, None] = {}
    for name in names:
        named = [g for g in groups if g.id == name] or [g for g in groups if g.name == name]
        if not named:
            raise BadField("security_groups", f"Security group {name[:80]} not found for project {project}.")
        if len(named) > 1:
            raise Conflict(
                f"Multiple security groups found matching '{name[:80]}'. Use an ID to be more specific.",
                type="NoUniqueMatch",
            )
        found[named[0].id] = None
    return tuple(found)


def plug(call: Call, server: Server, interfaces: Interfaces) -> Server:
    """Makes or takes the ports of a server, bound to its host; the server with its ports.

    Raises:
        trunkline.errors.Refusal: whatever the Network API says to a port.
    """
    ports, own, tags = list(server.ports), list(server.own_ports), dict(server.port_tags)
    for item in interfaces.items:
        if item.port is None:
            port = call.create(Port, _values(server, item, interfaces.groups))
            own.append(port.id)
        else:
            port = item.port
        ports.append(port.id)
        if item.tag:
            tags[port.id] = item.tag
        bind(call, port, server)
    return replace(server, ports=ports, own_ports=own, port_tags=tags)


def _values(server: Server, item: Interface, groups: tuple[str, ...] | None) -> dict[str, Any]:
    values: dict[str, Any] = {"network_id": item.network.id, "project_id": server.project_id}
    if item.address:
        values["fixed_ips"] = [FixedIp(ip_address=item.address)]
    if groups is not None and item.network.port_security_enabled:
        values["security_groups"] = list(groups)
    elif groups:
        raise BadField("security_groups", f"network {item.network.id} has no port security, which they need.")
    return values


def by_cloud(call: Call) -> Call:
    """The same transaction, for what the cloud does by itself."""
    return Call(call.engine, CLOUD, call.tx)


def bind(call: Call, port: Port, server: Server) -> Port:
    """Gives a port to a server, on the server's host. One without a name has the server's in DNS."""
    values = {"device_id": server.id, "device_owner": f"{OWNER}{server.zone or 'nova'}"}
    if port.device_id != server.id and not port.dns_name:
        values["dns_name"] = name_of(server)
    if server.host:
        values["host_id"] = server.host
    return by_cloud(call).update(port, values)


def name_of(server: Server) -> str:
    """The name that a server has in DNS: its host name without a domain; empty where that is none."""
    try:
        return dns_name(server.hostname.partition(".")[0])
    except ValueError:
        return ""


def rename(call: Call, old: Server, new: Server) -> None:
    """Ports that have a server's name have its new one."""
    name = name_of(old)
    for port in attached(call, new):
        if name and port.dns_name == name:
            by_cloud(call).update(port, {"dns_name": name_of(new)})


def release(call: Call, server: Server, ports: Sequence[str]) -> None:
    """Deletes the ports that were made for a server, and lets go of those that were given to it."""
    cloud = by_cloud(call)
    for id in ports:
        port = call.tx.get(Port, id)
        if port is None or port.device_id != server.id:
            continue
        # One that its user put in a trunk stays with it: nobody else may delete it.
        if id in server.own_ports and not port.trunk_id:
            cloud.delete(port)
        else:
            kept = "" if port.dns_name == name_of(server) else port.dns_name
            cloud.update(port, {"device_id": "", "device_owner": "", "host_id": "", "dns_name": kept})


def attached(call: Call, server: Server) -> list[Port]:
    """The ports of a server that are there, in order."""
    return [port for id in server.ports if (port := call.tx.get(Port, id)) is not None]


def items_of(value: Any, minor: int) -> Sequence[NetworkItem] | str | None:
    """`networks` of a request, understood as far as its form goes.

    Raises:
        BadField: it is malformed.
    """
    if value is None:
        if minor >= 37:
            raise BadField("networks", "it is required from microversion 2.37 on. Give auto, none or a list.")
        return None
    if isinstance(value, str):
        if minor < 37 or value not in ("auto", "none"):
            raise BadField("networks", "it must be a list, or from microversion 2.37 on auto or none.")
        return value
    if not isinstance(value, list) or len(value) > 64:
        raise BadField("networks", "it must be a list of up to 64 networks.")
    items = [shaped(each, NetworkItem, f"networks[{index}]") for index, each in enumerate(value)]
    for index, item in enumerate(items):
        if item.tag is not None and not (minor >= 42 or 32 <= minor <= 36):
            raise BadField(f"networks[{index}].tag", "it is there from microversion 2.42 on.")
    # An empty list means the same as none at all.
    return items or None
