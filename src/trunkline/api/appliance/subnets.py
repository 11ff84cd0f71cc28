"""Subnets that come to the networks of an appliance while it is there, and those that go.

    a subnet, or its gateway ── came ──▶ the port of the leg has an address there, and so have the units
                                    └──▶ or the appliance says why not, and what to do
    a subnet goes ── going ──▶ the address goes with it, unless the policy names it

Those that do the work of something else get addresses where that asks for them (`serve`), and keep them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from msgspec.structs import replace

from trunkline.api.appliance import events, legs, policies
from trunkline.api.engine import Call, Stages
from trunkline.api.network import addressing
from trunkline.errors import BadField, InUse, Refusal
from trunkline.plan import ipam
from trunkline.resources.appliance import INSIDE, OUTSIDE, Appliance, networks, zones
from trunkline.resources.network import APPLIANCE, FixedIp, Network, Port, Subnet
from trunkline.resources.reports import Condition


def followed(stages: Stages[Subnet]) -> Stages[Subnet]:
    """What a subnet does, and what follows from it for appliances on its network."""

    def created(call: Call, subnet: Subnet) -> None:
        if stages.created is not None:
            stages.created(call, subnet)
        came(call, subnet.network_id, "A subnet was created")

    def update(call: Call, old: Subnet, new: Subnet, given: frozenset[str]) -> Subnet:
        if stages.update is not None:
            new = stages.update(call, old, new, given)
        if new.gateway_ip != old.gateway_ip:
            # Addresses are given by what is stored.
            call.tx.replace(new)
            came(call, new.network_id, "The gateway of a subnet changed")
        return new

    def delete(call: Call, subnet: Subnet) -> None:
        going(call, subnet)
        if stages.delete is not None:
            stages.delete(call, subnet)

    return dataclasses.replace(stages, created=created, update=update, delete=delete)


def came(call: Call, network_id: str, cause: str) -> None:
    """Gives the appliances on a network addresses on the subnets that have come there."""
    for appliance, port in _on(call, network_id):
        zone = _zone(appliance, port)
        for subnet in _to_serve(call, zone, port):
            try:
                appliance = _join(call, appliance, subnet)
            except Refusal as refusal:
                why, _, remedy = refusal.message.removeprefix(
                    f"Invalid input for {refusal.field}: "
                ).partition(". ")
                what = f"subnet {subnet.cidr} of {zone} is not served"
                unserved = Condition(what=what, cause=why, remedy=remedy)
                if appliance.unserved.get(subnet.id) != unserved:
                    events.note(call, appliance, what.capitalize(), why)
                    appliance = replace(appliance, unserved={**appliance.unserved, subnet.id: unserved})
                    call.tx.replace(appliance)
            else:
                events.note(call, appliance, f"Subnet {subnet.cidr} of {zone} is served", cause)
                call.save(appliance)


def going(call: Call, subnet: Subnet) -> None:
    """Takes the addresses of appliances on a subnet back. What else holds it there is not looked at.

    Raises:
        InUse: the policy of one names the address.
    """
    for appliance, port in _on(call, subnet.network_id):
        unserved = {id: told for id, told in appliance.unserved.items() if id != subnet.id}
        left = [fixed for fixed in port.fixed_ips if fixed.subnet_id != subnet.id]
        if not left or (len(left) == len(port.fixed_ips) and unserved == appliance.unserved):
            continue
        new = legs.with_addresses(call, replace(appliance, unserved=unserved), replace(port, fixed_ips=left))
        document = policies.of(call.tx, new).document
        try:
            policies.checked(call.tx, new, document, document)
        except BadField as error:
            raise InUse(
                f"Unable to complete operation on subnet {subnet.id}: the policy of appliance {new.id} "
                f"needs its address there. {error.message} Change the policy first.",
                type="SubnetInUse",
            ) from None
        addressing.release(call, port.id, [fixed for fixed in port.fixed_ips if fixed not in left])
        call.save(replace(port, fixed_ips=left))
        if new != appliance:
            call.save(new)
            events.note(call, new, f"Subnet {subnet.cidr} of {_zone(new, port)} is gone", "It was deleted")


def serve(call: Call, appliance: Appliance, subnet: Subnet) -> Appliance:
    """Gives an appliance an address on a subnet of one of its networks, where it has none.

    Returns: the appliance, stored if it changed.
    Raises:
        BadField, Conflict, Exhausted: it cannot have one; `BadField` where subnets overlap.
    """
    port = _port(call, appliance, subnet)
    held = [*port.fixed_ips, *(_lent(call, appliance) if port.id == _outside(appliance) else ())]
    if any(fixed.subnet_id == subnet.id for fixed in held):
        return appliance
    return call.save(_join(call, appliance, subnet))


def _on(call: Call, network_id: str) -> Iterator[tuple[Appliance, Port]]:
    """The appliances on a network that nothing else changes, and the port that each has there."""
    for port in call.tx.find(Port, network_id=network_id, device_owner=APPLIANCE):
        appliance = call.tx.get(Appliance, port.device_id)
        if appliance is not None and not appliance.owner and port.id in appliance.leg_ports:
            yield appliance, port


def _to_serve(call: Call, zone: str, port: Port) -> list[Subnet]:
    """The subnets of a leg's network that the leg is to have an address on, and has not."""
    network = call.tx.get(Network, port.network_id)
    there = addressing.subnets_of(call, network) if network is not None else []
    has = {fixed.subnet_id for fixed in port.fixed_ips}
    if zone != OUTSIDE:
        return [subnet for subnet in there if subnet.id not in has]
    # An address of each family.
    families = {subnet.ip_version for subnet in there if subnet.id in has}
    first = {subnet.ip_version: subnet for subnet in reversed(addressing.for_owner(there, APPLIANCE))}
    return [subnet for family, subnet in sorted(first.items()) if family not in families]


def _join(call: Call, appliance: Appliance, subnet: Subnet) -> Appliance:
    """Gives the leg of a subnet's network an address there; the appliance, to be stored by the caller."""
    port = _port(call, appliance, subnet)
    _refuse_overlap(call, appliance, subnet)
    network = call.tx.get(Network, subnet.network_id)
    assert network is not None, "its subnet is there"
    inside = _zone(appliance, port) == INSIDE
    wanted = legs.gateway(call, subnet) if inside else FixedIp(subnet_id=subnet.id)
    fixed = addressing.assign(
        call, network, port.id, port.mac_address, APPLIANCE, [*port.fixed_ips, wanted], port.fixed_ips
    )
    port = call.save(replace(port, fixed_ips=fixed))
    unserved = {id: told for id, told in appliance.unserved.items() if id != subnet.id}
    return legs.with_addresses(call, replace(appliance, unserved=unserved), port)


def _refuse_overlap(call: Call, appliance: Appliance, subnet: Subnet) -> None:
    """An address is on one of its networks alone."""
    for zone, id in zip(zones(appliance), networks(appliance), strict=True):
        for other in call.tx.find(Subnet, network_id=id):
            beside = other.id != subnet.id and other.id not in appliance.unserved
            if beside and ipam.overlap(subnet.cidr, other.cidr):
                raise BadField(
                    "cidr", f"it overlaps with {other.cidr} of {zone}. Delete it, and create another one."
                )


def _zone(appliance: Appliance, port: Port) -> str:
    return zones(appliance)[appliance.leg_ports.index(port.id)]


def _port(call: Call, appliance: Appliance, subnet: Subnet) -> Port:
    """The port that holds its addresses on the network of a subnet."""
    place = networks(appliance).index(subnet.network_id)
    port = call.tx.get(Port, appliance.leg_ports[place])
    assert port is not None, "it goes with the appliance alone"
    return port


def _outside(appliance: Appliance) -> str:
    return appliance.leg_ports[zones(appliance).index(OUTSIDE)]


def _lent(call: Call, appliance: Appliance) -> list[FixedIp]:
    port = call.tx.get(Port, appliance.lent_port) if appliance.lent_port else None
    return port.fixed_ips if port is not None else []
