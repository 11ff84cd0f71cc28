"""The networks of an appliance: its addresses there, and the ports of its dispatchers.

    inside    the gateway's address of each subnet      ──┐  held by a port `network:appliance` each,
    outside   an address of each family                 ──┘  which is plugged in nowhere
    each dispatcher   a port `network:appliance_dispatcher` on each, without addresses

The dispatcher that serves a network announces the appliance's addresses there by itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.api.network import addressing, ports, sharing
from trunkline.errors import BadField, Conflict, Forbidden, Refusal
from trunkline.plan import ipam
from trunkline.resources.appliance import ZONES, Appliance, Unit
from trunkline.resources.network import (
    APPLIANCE,
    APPLIANCE_DISPATCHER,
    FixedIp,
    Network,
    Port,
    Subnet,
    physical_networks,
)


def claim(call: Call, appliance: Appliance) -> Appliance:
    """Gives a new appliance its addresses on both networks.

    Raises:
        BadField, Forbidden, Conflict: with the field of the network named.
    """
    inside, outside = (_network(call, appliance, zone) for zone in ZONES)
    if inside.id == outside.id:
        raise BadField("outside_network_id", "it is the network inside too. Name another one.")
    near, far = _subnets(call, "inside", inside), _subnets(call, "outside", outside)
    for one in near:
        for other in far:
            if ipam.overlap(one.cidr, other.cidr):
                raise BadField(
                    "outside_network_id",
                    f"{other.cidr} of its subnet {other.id} overlaps with {one.cidr} inside. Use others.",
                )
    _refuse_others_gateway(call, appliance, inside)
    gateways = [_gateway(call, subnet) for subnet in near]
    first = _hold(call, appliance, "inside", inside, gateways)
    second = _hold(call, appliance, "outside", outside, None)
    return replace(
        appliance,
        leg_ports=[first.id, second.id],
        inside_addresses=[fixed.ip_address or "" for fixed in first.fixed_ips],
        outside_addresses=[fixed.ip_address or "" for fixed in second.fixed_ips],
    )


def networks_of(appliance: Appliance) -> tuple[str, str]:
    """Its networks, in the order of `ZONES`."""
    return appliance.inside_network_id, appliance.outside_network_id


def needed_by(call: Call, appliance: Appliance) -> frozenset[str]:
    """The physical networks that a dispatcher's host must be connected to."""
    found = (call.tx.get(Network, id) for id in networks_of(appliance))
    return frozenset(name for network in found if network for name in physical_networks(network))


def plug_in(call: Call, appliance: Appliance, unit: Unit) -> list[str]:
    """Makes the ports of a dispatcher, one on each network, bound to its host; their ids."""
    made = []
    for id in networks_of(appliance):
        network = call.tx.get(Network, id)
        assert network is not None, "it stays while ports are on it"
        port_id = str(uuid.uuid4())
        port = Port(
            id=port_id,
            project_id=_owner(appliance, network),
            network_id=id,
            admin_state_up=appliance.admin_state_up,
            mac_address=addressing.claim_mac(call, id, port_id, ""),
            ip_allocation="none",
            device_owner=APPLIANCE_DISPATCHER,
            device_id=unit.id,
            port_security_enabled=False,
            host_id=unit.host,
            **ports.binding(call, unit.host),
        )
        made.append(call.add(port).id)
    return made


def switch(call: Call, unit: Unit, up: bool) -> None:
    """Has the ports of a dispatcher forward frames, or not."""
    for id in unit.ports:
        port = call.tx.get(Port, id)
        if port is not None and port.admin_state_up != up:
            call.save(replace(port, admin_state_up=up))


def drop(call: Call, ids: Sequence[str]) -> None:
    """Removes ports of an appliance, and gives back what they hold."""
    for id in ids:
        port = call.tx.get(Port, id)
        if port is not None:
            call.drop(port)


def _network(call: Call, appliance: Appliance, zone: str) -> Network:
    """A network that the appliance's project may attach to."""
    field = f"{zone}_network_id"
    network = call.get(Network, getattr(appliance, field))
    if network.segments:
        raise BadField(field, "it has several segments, which routers on their physical networks join.")
    if zone == "outside" and network.external:
        return network
    port = Port(project_id=appliance.project_id, network_id=network.id)
    if not call.allowed("create_port:network_id", call.engine.target(call.tx, port)):
        raise Forbidden(
            f"Invalid input for {field}: your project may not attach to network {network.id}. Have its owner "
            "share it, or use a network of your own.",
            type="PolicyNotAuthorized",
            field=field,
        )
    return network


def _subnets(call: Call, zone: str, network: Network) -> list[Subnet]:
    subnets = addressing.subnets_of(call, network)
    if not subnets:
        raise BadField(f"{zone}_network_id", f"network {network.id} has no subnet. Create one first.")
    return subnets


def _refuse_others_gateway(call: Call, appliance: Appliance, network: Network) -> None:
    """As for routers: all on a network send to its gateway what is for elsewhere, so it is the owner's."""
    if call.context.is_admin or network.project_id == appliance.project_id:
        return
    if sharing.is_named(call.tx, network, appliance.project_id) and not network.pvlan:
        return
    raise Forbidden(
        f"Invalid input for inside_network_id: your project does not own network {network.id}, so it may not "
        "be its gateway. Use a network of your own.",
        type="PolicyNotAuthorized",
        field="inside_network_id",
    )


def _gateway(call: Call, subnet: Subnet) -> FixedIp:
    """The gateway's address of a subnet, which nobody has."""
    field, address = "inside_network_id", subnet.gateway_ip
    if address is None:
        raise BadField(field, f"its subnet {subnet.id} has no gateway. Give it one, by its gateway_ip.")
    if not ipam.is_host(subnet.cidr, address):
        raise BadField(
            field,
            f"{address}, the gateway of its subnet {subnet.id}, is not in {subnet.cidr}. Change it.",
        )
    owner = addressing.owner_of(call, subnet.id, address)
    if owner is not None:
        port = call.tx.get(Port, owner)
        held = f" ({port.device_owner or 'a server or a service'})" if port is not None else ""
        raise Conflict(
            f"Invalid input for inside_network_id: port {owner}{held} has the gateway's address {address} of "
            f"its subnet {subnet.id}. Detach that first, or use another network.",
            type="IpAddressInUse",
            field=field,
        )
    return FixedIp(subnet_id=subnet.id, ip_address=address)


def _hold(
    call: Call, appliance: Appliance, zone: str, network: Network, wanted: Sequence[FixedIp] | None
) -> Port:
    """The port that holds the addresses on a network: those wanted, or one of each family."""
    id = str(uuid.uuid4())
    mac = addressing.claim_mac(call, network.id, id, "")
    try:
        addresses = addressing.assign(call, network, id, mac, APPLIANCE, wanted)
    except Refusal as refusal:
        problem = f"Invalid input for {zone}_network_id: {refusal.message}"
        raise type(refusal)(problem, type=refusal.type, field=f"{zone}_network_id") from None
    return call.add(
        Port(
            id=id,
            project_id=_owner(appliance, network),
            network_id=network.id,
            status="N/A",
            mac_address=mac,
            fixed_ips=addresses,
            device_owner=APPLIANCE,
            device_id=appliance.id,
            port_security_enabled=False,
        )
    )


def _owner(appliance: Appliance, network: Network) -> str:
    """Whose a port is: on an external network nobody's, as a router's gateway is."""
    return "" if network.external and network.project_id != appliance.project_id else appliance.project_id
