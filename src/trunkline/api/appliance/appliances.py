"""Appliances: what comes with a new one, and what follows from a change, in the transaction of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from msgspec.structs import replace

from trunkline.api.appliance import events, growth, legs, lent, policies, rolling, units
from trunkline.api.engine import Call
from trunkline.errors import BadField, Conflict, Exhausted
from trunkline.plan import numbers
from trunkline.resources.appliance import Appliance, ApplianceEvent, AppliancePolicy, Unit
from trunkline.resources.network import FixedIp

#: The scope of the claims on network identifiers of buses, which are theirs alone.
VNI_SCOPE = "bus-vni"


def create(call: Call, appliance: Appliance, given: frozenset[str]) -> Appliance:
    """Gives a new appliance its addresses, its buses and its units."""
    if not appliance.project_id:
        raise BadField("project_id", "it is required with a token that is not of a project.")
    appliance = growth.follow(call, appliance, given)
    return begin(call, appliance)


def begin(
    call: Call, appliance: Appliance, wanted: Sequence[FixedIp] | None = None, port_id: str = ""
) -> Appliance:
    """The same, with addresses and a port as `legs.claim` takes them."""
    units.check_size(call, appliance)
    appliance = legs.claim(call, appliance, wanted, port_id)
    appliance = replace(appliance, bus_vni=_vni(call, appliance), control_vni=_vni(call, appliance))
    return units.follow(call, appliance, "The appliance was created")


def created(call: Call, appliance: Appliance) -> None:
    """It has a policy from the beginning."""
    call.tx.insert(policies.first(appliance))


def update(call: Call, old: Appliance, new: Appliance, given: frozenset[str]) -> Appliance:
    """Adds units or has some leave, or networks; switches it on or off."""
    refuse_owned(old)
    return change(call, old, new, given)


def refuse_owned(appliance: Appliance) -> None:
    """Raises Conflict: it is changed with what it does the work of."""
    if appliance.owner:
        raise Conflict(
            f"Appliance {appliance.id} does the work of {appliance.owner}, and changes with it. Change that.",
            type="ApplianceOwned",
        )


def change(call: Call, old: Appliance, new: Appliance, given: frozenset[str]) -> Appliance:
    """As `update`, whoever has it changed."""
    if new.network_ids != old.network_ids:
        new = rolling.follow(call, legs.extend(call, old, new))
        added = ", ".join(new.network_ids[len(old.network_ids) :])
        events.note(call, new, f"It is to be on network {added} too", "Asked for: network_ids")
    if new.services != old.services:
        legs.check(new)
        try:
            document = policies.of(call.tx, new).document
            policies.checked(call.tx, new, document, document)
        except BadField as error:
            raise BadField("services", f"its policy does not fit them. {error.message}") from None
    if new.scaling != old.scaling or new.data_planes != old.data_planes:
        new = growth.follow(call, new, given)
    counts = {field: (getattr(old, field), getattr(new, field)) for field in units.FIELDS.values()}
    changed = [f"{field} {had} to {has}" for field, (had, has) in counts.items() if had != has]
    if changed:
        units.check_size(call, new)
        new = units.follow(call, new, f"Asked for: {', '.join(changed)}")
    if new.admin_state_up != old.admin_state_up:
        for unit in units.of(call.tx, new.id):
            legs.switch(call, unit, new.admin_state_up)
        what = "It is to forward" if new.admin_state_up else "It is not to forward"
        events.note(call, new, what, "Asked for: admin_state_up")
    return new


def delete(call: Call, appliance: Appliance) -> None:
    """Its units, addresses and policy go with it."""
    refuse_owned(appliance)
    clear(call, appliance)


def clear(call: Call, appliance: Appliance) -> None:
    """As `delete`, whoever has it deleted."""
    for unit in units.of(call.tx, appliance.id):
        units.drop(call, unit)
    legs.drop(call, appliance.leg_ports)
    lent.give_back(call, appliance)
    for event in call.tx.find(ApplianceEvent, appliance_id=appliance.id):
        call.tx.delete(ApplianceEvent, event.id)
    call.tx.delete(AppliancePolicy, appliance.id)


def drain(call: Call, appliance: Appliance, number: int) -> Unit:
    """Has a unit replaced on another host, and leave when its replacement does its work.

    Raises:
        NotFound: there is no such unit. Conflict: it leaves already. Exhausted: no other host has room.
    """
    unit = next((each for each in units.of(call.tx, appliance.id) if each.number == number), None)
    if unit is None:
        raise call.engine.missing(Unit, str(number))
    if unit.leaves or unit.replaced_by is not None:
        by = f": unit {unit.replaced_by} comes instead" if unit.replaced_by is not None else ""
        raise Conflict(f"Unit {number} is about to leave already{by}.", type="UnitLeaves")
    try:
        appliance, unit = units.succeed(
            call, appliance, unit, f"Unit {number} is drained", "It was drained", without=[unit.host]
        )
    except Exhausted as full:
        raise Exhausted(
            f"Unit {number} cannot be drained: {full.message.partition(': ')[2]}", type=full.type
        ) from None
    call.save(appliance)
    events.note(call, appliance, f"The {unit.kind} is drained", "Asked for", unit=number)
    return unit


def _vni(call: Call, appliance: Appliance) -> int:
    """Claims a number for a bus."""

    def taken(at_least: str, limit: int) -> list[str]:
        return call.tx.claimed(VNI_SCOPE, at_least=at_least, limit=limit)

    # Each begins elsewhere: what hosts still have of an appliance that is gone is not met.
    digest = hashlib.blake2b(appliance.id.encode(), digest_size=4).digest()
    start = numbers.VNI[0] + int.from_bytes(digest) % (numbers.VNI[1] - numbers.VNI[0])
    number = numbers.free([numbers.VNI], taken, 6, start)
    if number is None:
        raise Exhausted("No number is left for the appliance's buses.", type="NoNetworkAvailable")
    call.tx.claim(VNI_SCOPE, numbers.vni_text(number), appliance.id)
    return number
