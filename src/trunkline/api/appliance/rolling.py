"""Units that are not as new ones would be are replaced, one by one, each as one that is drained."""

from __future__ import annotations

from trunkline.api.appliance import units
from trunkline.api.engine import Call
from trunkline.errors import Exhausted
from trunkline.resources.appliance import Appliance, Unit, zones


def outdated(appliance: Appliance, unit: Unit) -> str:
    """Why a unit is to be replaced; "" where it is not."""
    missing = zones(appliance)[unit.legs :]
    return f"came before {', '.join(missing)}" if missing and unit.kind != "manager" else ""


def follow(call: Call, appliance: Appliance) -> Appliance:
    """Has the next one replaced, where none is on its way; the appliance, to be stored by the caller.

    Where no host has room, that waits until one has.
    """
    there = units.of(call.tx, appliance.id)
    if any(unit.leaves or unit.replaced_by is not None for unit in there):
        return appliance
    for unit in there:
        if why := outdated(appliance, unit):
            try:
                appliance, _ = units.succeed(call, appliance, unit, f"Unit {unit.number} {why}", f"It {why}")
            except Exhausted:
                continue
            break
    return appliance
