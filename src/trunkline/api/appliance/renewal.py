"""A new version of the program rolls through an appliance: a new unit comes for each, one after the other.

    begin ──▶ left: 3, 4, 1, 2 ── follow ──▶ a unit comes for 3 ──▶ it works, 3 leaves ──▶ 3 is gone ──▶ next
                                                 `──▶ it does not get to work: it goes, 3 stays, stopped

Those who are spoken to are first: data planes, dispatchers, managers. Each step is in the store before it has
an effect, so that whoever runs control next goes on from there.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from trunkline.api.appliance import events, status, units
from trunkline.api.engine import Call
from trunkline.errors import Conflict, Exhausted
from trunkline.resources.appliance import Appliance, Kind, Renewal, Unit

#: A new unit works after so many seconds, and the appliance is well again, or the renewal stops.
PATIENCE = 60.0
_ORDER: tuple[Kind, ...] = ("data-plane", "dispatcher", "manager")


def begin(call: Call, appliance: Appliance) -> Appliance:
    """All units that are there are to be replaced.

    Raises:
        Conflict: that goes on already.
    """
    if appliance.renewal is not None and appliance.renewal.state == "running":
        raise Conflict(
            f"The appliance is being renewed already: {len(appliance.renewal.left)} units are left. "
            "Wait, or abort that first.",
            type="RenewalRuns",
        )
    there = [unit for unit in units.of(call.tx, appliance.id) if not unit.leaves and unit.replaced_by is None]
    there.sort(key=lambda unit: (_ORDER.index(unit.kind), unit.number))
    numbers = [unit.number for unit in there]
    events.note(call, appliance, f"Its {len(numbers)} units are renewed, one after the other", "Asked for")
    new = Renewal(state="running", left=numbers, units=len(numbers), started_at=call.now)
    return call.save(replace(appliance, renewal=new, renewal_since=call.tx.now.timestamp()))


def abort(call: Call, appliance: Appliance) -> Appliance:
    """No further unit is replaced; what is on its way for one goes on.

    Raises:
        Conflict: there is nothing to abort.
    """
    if appliance.renewal is None or appliance.renewal.state != "running":
        raise Conflict("The appliance is not being renewed.", type="NoRenewalRuns")
    return call.save(_ended(call, appliance, "aborted", "Asked for"))


def follow(call: Call, appliance: Appliance, silent: Collection[str]) -> Appliance:
    """Does the next step, where it is due. `silent`: the hosts that are not heard of."""
    renewal = appliance.renewal
    if renewal is None or renewal.state != "running":
        return appliance
    now = call.tx.now.timestamp()
    there = {unit.number: unit for unit in units.of(call.tx, appliance.id)}
    if renewal.left and renewal.left[0] not in there:
        renewal = replace(renewal, left=[number for number in renewal.left if number in there])
        appliance = replace(appliance, renewal=renewal, renewal_since=now)
    if not renewal.left:
        return _ended(call, appliance, "done", f"{renewal.units} units were replaced")
    old = there[renewal.left[0]]
    new = there.get(old.replaced_by or 0)
    if new is not None and not old.leaves:
        late = now - max(new.since, appliance.renewal_since) > PATIENCE
        return _give_up(call, appliance, old, new) if late and not status.works(new, appliance) else appliance
    if any(unit.leaves or unit.replaced_by is not None for unit in there.values()):
        return appliance
    late = now - appliance.renewal_since > PATIENCE
    found = status.state(appliance, list(there.values()), silent, now)
    if found.status not in ("ACTIVE", "DOWN"):
        told = "; ".join(f"{each.what}: {each.cause}" for each in found.conditions[:3])
        cause = f"It is {found.status} for longer than {PATIENCE:g} s: {told}"
        return _ended(call, appliance, "stopped", cause) if late else appliance
    try:
        appliance, _ = units.succeed(call, appliance, old, f"Unit {old.number} is renewed", "It was renewed")
    except Exhausted as full:
        return _ended(call, appliance, "stopped", full.message.partition(": ")[2]) if late else appliance
    return appliance


def _give_up(call: Call, appliance: Appliance, old: Unit, new: Unit) -> Appliance:
    """The old one stays, the new one goes."""
    call.tx.replace(replace(old, replaced_by=None))
    seen = new.seen
    problem = seen.problem if seen is not None else None
    why = f"{problem.what}: {problem.cause}" if problem is not None else "its host does not say why"
    cause = (
        f"unit {new.number} ({new.kind}), which came instead of unit {old.number}, does not work after "
        f"{PATIENCE:g} s: {why}"
    )
    units.leave(call, appliance, new, "It did not get to work")
    return _ended(call, appliance, "stopped", cause)


def _ended(call: Call, appliance: Appliance, state: str, cause: str) -> Appliance:
    assert appliance.renewal is not None
    new = replace(appliance.renewal, state=state, cause="" if state == "done" else cause)
    events.note(call, appliance, f"The renewal is {state}", cause)
    return replace(appliance, renewal=new)
