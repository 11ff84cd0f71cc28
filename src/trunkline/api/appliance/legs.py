"""The networks of an appliance: its addresses there, and the ports of its dispatchers.

    inside    the gateway's address of each subnet      ──┐  held by a port `network:appliance` each,
    outside   an address of each family, or those wished  │  which is plugged in nowhere
    further   an address of each subnet                 ──┘
    each dispatcher   a port `network:appliance_dispatcher` on each, without addresses

The dispatcher that serves a network announces the appliance's addresses there by itself. Units know the
networks that there were when they came: those that were added since are there when all have been replaced.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from msgspec.structs import replace

from trunkline.api.appliance import lent
from trunkline.api.engine import Call
from trunkline.api.network import addressing, ports, sharing
from trunkline.errors import BadField, Conflict, Forbidden, Refusal
from trunkline.plan import ipam
from trunkline.resources.appliance import (
    BETWEEN,
    INSIDE,
    MOST_LEGS,
    OUTSIDE,
    Appliance,
    Unit,
    networks,
    zones,
)
from trunkline.resources.network import (
    APPLIANCE,
    APPLIANCE_DISPATCHER,
    FixedIp,
    Network,
    Port,
    Subnet,
    physical_networks,
)


def claim(
    call: Call, appliance: Appliance, wanted: Sequence[FixedIp] | None = None, port_id: str = ""
) -> Appliance:
    """Gives a new appliance its addresses on its networks.

    Args:
        wanted: outside, besides those of the port; None for one of each family.
        port_id: a port outside that is lent to it: its addresses are the first ones.
    Raises:
        BadField, Forbidden, Conflict: with the field of the network named.
    """
    there = [_network(call, appliance, zone) for zone in zones(appliance)]
    check(appliance)
    _refuse_overlap(call, appliance, there)
    if appliance.inside_network_id:
        _refuse_others_gateway(call, appliance, there[0])
        gateways = [gateway(call, subnet) for subnet in _subnets(call, INSIDE, there[0])]
        port = _hold(call, appliance, INSIDE, there[0], gateways)
        appliance = with_addresses(call, replace(appliance, leg_ports=[port.id]), port)
    outside = there[len(appliance.leg_ports)]
    first: list[str] = []
    if port_id:
        appliance, given = lent.take(call, appliance, port_id)
        first = _addresses(given)
    port = _hold(call, appliance, OUTSIDE, outside, wanted if wanted is not None or not port_id else ())
    appliance = replace(
        appliance,
        leg_ports=[*appliance.leg_ports, port.id],
        outside_addresses=[*first, *_addresses(port)],
    )
    return _join(call, appliance, there)


def extend(call: Call, old: Appliance, new: Appliance) -> Appliance:
    """Gives an appliance its addresses on networks that were added.

    Raises:
        BadField, Forbidden, Conflict: as `claim`; one that it was on is missing.
    """
    kept = new.network_ids[: len(old.network_ids)]
    if kept != old.network_ids:
        raise BadField(
            "network_ids",
            "an appliance stays on its networks, in their order. Add others after them: "
            f"{', '.join(old.network_ids) or 'there is none so far'}.",
        )
    there = [_network(call, new, zone) for zone in zones(new)]
    check(new)
    _refuse_overlap(call, new, there)
    return _join(call, new, there)


def check(appliance: Appliance) -> None:
    """Refuses networks that contradict each other or the services."""
    between = [service for service in appliance.services if service in BETWEEN]
    # Who orders one for the cloud knows of a router that sends it both directions.
    if between and not appliance.inside_network_id and not appliance.owner:
        raise BadField(
            "inside_network_id",
            f"it is required: {between[0]} is between two networks. Name one, or have other services.",
        )
    seen: dict[str, str] = {}
    for zone, network in zip(zones(appliance), networks(appliance), strict=True):
        if network in seen:
            raise BadField(_field(zone), f"it is the network {seen[network]} too. Name another one.")
        seen[network] = zone
    if len(seen) > MOST_LEGS:
        raise BadField("network_ids", f"an appliance is on {MOST_LEGS} networks at the most. Name fewer.")


def needed_by(call: Call, appliance: Appliance) -> frozenset[str]:
    """The physical networks that a dispatcher's host must be connected to."""
    found = (call.tx.get(Network, id) for id in networks(appliance))
    return frozenset(name for network in found if network for name in physical_networks(network))


def plug_in(call: Call, appliance: Appliance, unit: Unit) -> list[str]:
    """Makes the ports of a dispatcher, one on each network, bound to its host; their ids."""
    made = []
    for id in networks(appliance):
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


def with_addresses(call: Call, appliance: Appliance, port: Port) -> Appliance:
    """The appliance, as the port of one of its legs has addresses now; to be stored by the caller."""
    zone, found = zones(appliance)[appliance.leg_ports.index(port.id)], _addresses(port)
    if zone == INSIDE:
        # The same, whichever dispatcher serves: nobody else on the network has the port's MAC address.
        router = ipam.eui64("fe80::/64", port.mac_address)
        return replace(appliance, inside_addresses=found, inside_router=router)
    if zone == OUTSIDE:
        lent = call.tx.get(Port, appliance.lent_port) if appliance.lent_port else None
        return replace(appliance, outside_addresses=[*(_addresses(lent) if lent else ()), *found])
    all_of = list(appliance.network_addresses)
    all_of[zones(appliance).index(zone) - len(zones(appliance))] = found
    return replace(appliance, network_addresses=all_of)


def gateway(call: Call, subnet: Subnet) -> FixedIp:
    """The gateway's address of a subnet, which nobody has.

    Raises:
        BadField: it has none, or one elsewhere. Conflict: a port has it.
    """
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
            f"its subnet {subnet.id}. Detach that first, or change the gateway_ip.",
            type="IpAddressInUse",
            field=field,
        )
    return FixedIp(subnet_id=subnet.id, ip_address=address)


def drop(call: Call, ids: Sequence[str]) -> None:
    """Removes ports of an appliance, and gives back what they hold."""
    for id in ids:
        port = call.tx.get(Port, id)
        if port is not None:
            call.drop(port)


def _field(zone: str) -> str:
    """The field that names the network of a zone."""
    return f"{zone}_network_id" if zone in (INSIDE, OUTSIDE) else "network_ids"


def _network(call: Call, appliance: Appliance, zone: str) -> Network:
    """A network that the appliance's project may attach to."""
    field = _field(zone)
    network = call.get(Network, networks(appliance)[zones(appliance).index(zone)])
    if network.segments:
        raise BadField(field, "it has several segments, which routers on their physical networks join.")
    if zone == OUTSIDE and network.external:
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
        raise BadField(_field(zone), f"network {network.id} has no subnet. Create one first.")
    return subnets


def _refuse_overlap(call: Call, appliance: Appliance, there: Sequence[Network]) -> None:
    """An address is on one of its networks alone."""
    seen: list[tuple[str, Subnet]] = []
    for zone, network in zip(zones(appliance), there, strict=True):
        own = _subnets(call, zone, network)
        for subnet in own:
            for other, theirs in seen:
                if ipam.overlap(subnet.cidr, theirs.cidr):
                    raise BadField(
                        _field(zone),
                        f"{subnet.cidr} of its subnet {subnet.id} overlaps with {theirs.cidr} {other}. "
                        "Use others.",
                    )
        seen += [(zone, subnet) for subnet in own]


def _join(call: Call, appliance: Appliance, there: Sequence[Network]) -> Appliance:
    """Addresses on the further networks that it has none on."""
    for zone, network in list(zip(zones(appliance), there, strict=True))[len(appliance.leg_ports) :]:
        wanted = [FixedIp(subnet_id=subnet.id) for subnet in _subnets(call, zone, network)]
        port = _hold(call, appliance, zone, network, wanted)
        appliance = replace(
            appliance,
            leg_ports=[*appliance.leg_ports, port.id],
            network_addresses=[*appliance.network_addresses, _addresses(port)],
        )
    return appliance


def _addresses(port: Port) -> list[str]:
    return [fixed.ip_address for fixed in port.fixed_ips if fixed.ip_address]


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


def _hold(
    call: Call, appliance: Appliance, zone: str, network: Network, wanted: Sequence[FixedIp] | None
) -> Port:
    """The port that holds the addresses on a network: those wanted, or one of each family."""
    id = str(uuid.uuid4())
    mac = addressing.claim_mac(call, network.id, id, "")
    try:
        addresses = addressing.assign(call, network, id, mac, APPLIANCE, wanted)
    except Refusal as refusal:
        problem = f"Invalid input for {_field(zone)}: {refusal.message}"
        raise type(refusal)(problem, type=refusal.type, field=_field(zone)) from None
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
