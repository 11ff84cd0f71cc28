"""What hosts see of units, into the store; and what follows from it.

a report ──▶ Unit.seen ──▶ settle: units of silent hosts are replaced, drained ones leave when their
                                   replacement works, those that left go; the status follows
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from trunkline.api.appliance import events, policies, renewal, rolling, status, units
from trunkline.api.appliance.figures import Counts, Figures, added
from trunkline.api.engine import Call
from trunkline.errors import Exhausted
from trunkline.resources.appliance import Appliance, Unit, zones
from trunkline.resources.region import Host
from trunkline.resources.reports import UnitReport, UnitStatus
from trunkline.store import Reader

#: A unit leaves for so many seconds at least: what its manager says of it may be older than that.
LEAST = 2.0
#: What changes all the time, and is worth nothing a moment later: shown, not stored.
_FLEETING: dict[str, Any] = {
    "load": 0.0,
    "packets": 0,
    "bytes": 0,
    "drops": {},
    "flows": 0,
    "ends": (),
    "listeners": {},
    "events": (),
    "logged": (),
    "unlogged": 0,
}


def observe(
    call: Call, host: str, reports: Sequence[UnitReport], ended: Mapping[str, Counts] | None = None
) -> list[str]:
    """Writes what a host sees of its units, all of them.

    Args:
        call: the cloud's own.
        ended: what units counted that have ended there, by their appliances.

    Returns: the appliances of which something was seen that was not known.
    """
    there = call.tx.find(Unit, host=host)
    changed: set[str] = set()
    seen = {report.id: report for report in reports}
    where = call.tx.get(Host, host)
    for unit in there:
        report = seen.get(unit.id)
        if where is not None and where.bus_address not in ("", unit.underlay):
            unit = replace(unit, underlay=where.bus_address)
            call.tx.replace(unit)
        new = replace(unit, seen=None if report is None else steady(report))
        if report is not None and report.status is not None:
            new = _hear(call, new, report.status)
        if new != unit:
            call.tx.observe(new)
            changed.add(unit.appliance_id)
    for id, counts in (ended or {}).items():
        _count(call, id, counts)
    for id in sorted({unit.appliance_id for unit in there}):
        settle(call, id)
    return sorted(changed)


def _count(call: Call, appliance_id: str, counts: Counts) -> None:
    """Adds what units counted that have gone, of the listeners that there are."""
    appliance = call.tx.get(Appliance, appliance_id)
    if appliance is None:
        return
    document = policies.of(call.tx, appliance).document
    there = {each.get("name") for each in document.get("balancer", {}).get("listeners", ())}
    all_of = added(appliance.counted, counts)
    call.tx.observe(replace(appliance, counted={n: c for n, c in all_of.items() if n in there}))


def steady(report: UnitReport) -> UnitReport:
    """A report without what changes all the time."""
    if report.status is None:
        return report
    return replace(report, status=replace(report.status, **_FLEETING))


def _hear(call: Call, unit: Unit, told: UnitStatus) -> Unit:
    """Stores the events that a unit tells for the first time."""
    appliance = call.tx.get(Appliance, unit.appliance_id)
    incarnation, last = unit.heard
    if incarnation != told.incarnation:
        last = 0
    for event in sorted(told.events, key=lambda event: event.serial):
        if event.serial > last and appliance is not None:
            events.note(call, appliance, event.what, event.cause, unit=unit.number, at=event.at, told=True)
            last = event.serial
    return replace(unit, heard=(told.incarnation, last))


def waiting(reader: Reader) -> list[str]:
    """The appliances of which something may follow though nobody reports: by silence, or in time."""
    alive = {host.id for host in reader.find(Host, alive=True)}
    found = {
        each.id
        for each in reader.select(Appliance)
        if each.status not in ("ACTIVE", "DOWN") or (each.renewal and each.renewal.state == "running")
    }
    for unit in reader.select(Unit):
        if unit.leaves or unit.replaced_by is not None or unit.host not in alive:
            found.add(unit.appliance_id)
    return sorted(found)


def settle(call: Call, appliance_id: str) -> None:
    """Does what follows from what was seen of an appliance, and writes how it is."""
    appliance = call.tx.get(Appliance, appliance_id)
    if appliance is None:
        return
    silent = _silent(call, appliance)
    before = appliance
    appliance = _replace_lost(call, appliance, silent)
    _let_drained_leave(call, appliance)
    _remove_left(call, appliance)
    appliance = rolling.follow(call, renewal.follow(call, appliance, silent))
    if appliance != before:
        call.tx.replace(appliance)
    found = status.state(appliance, units.of(call.tx, appliance.id), silent, call.tx.now.timestamp())
    new = replace(
        appliance,
        status=found.status,
        conditions=found.conditions,
        was_active=appliance.was_active or found.status == "ACTIVE",
    )
    if new.status != appliance.status:
        causes = [f"{c.what}: {c.cause}" for c in new.conditions[:3]]
        events.note(call, appliance, f"It was {appliance.status}, and is {new.status}", "; ".join(causes))
    if new != appliance:
        call.tx.observe(new)


def _silent(call: Call, appliance: Appliance) -> set[str]:
    """The hosts of its units that are not heard of."""
    names = {unit.host for unit in call.tx.find(Unit, appliance_id=appliance.id)}
    hosts = {name: call.tx.get(Host, name) for name in names}
    return {name for name, host in hosts.items() if host is None or not host.alive}


def _replace_lost(call: Call, appliance: Appliance, silent: set[str]) -> Appliance:
    """Units of silent hosts come anew elsewhere, and are given up when those that come do their work.

    Not before: who is not heard of may forward all the same.
    """
    there = units.of(call.tx, appliance.id) if silent else []
    by_number = {unit.number: unit for unit in there}
    for unit in there:
        if unit.host not in silent:
            continue
        if not unit.leaves and unit.replaced_by is None:
            cause = f"Unit {unit.number} may be lost: its host is silent"
            try:
                appliance, new = units.add(call, appliance, unit.kind, cause, without=[unit.host])
            except Exhausted:
                continue  # Told by the status, until there is room.
            _follow_replacement(call, appliance, unit, new.number)
            unit = replace(unit, replaced_by=new.number)
            call.tx.replace(unit)
        instead = by_number.get(unit.replaced_by or 0)
        if unit.leaves or unit.seen is None or (instead and status.works(instead, appliance)):
            what = f"The {unit.kind} is given up"
            events.note(call, appliance, what, "Its host is silent", unit=unit.number)
            units.drop(call, unit)
    return appliance


def _follow_replacement(call: Call, appliance: Appliance, old: Unit, number: int) -> None:
    """Who waited for a unit that is lost waits for the one that comes instead."""
    for unit in call.tx.find(Unit, appliance_id=appliance.id, replaced_by=old.number):
        call.tx.replace(replace(unit, replaced_by=number))


def _let_drained_leave(call: Call, appliance: Appliance) -> None:
    """Units that are replaced leave as soon as those that come instead do their work."""
    there = {unit.number: unit for unit in units.of(call.tx, appliance.id)}
    for unit in there.values():
        if unit.replaced_by is None or unit.leaves:
            continue
        new = there.get(unit.replaced_by)
        if new is None:
            # It went before it worked: this one stays.
            call.tx.replace(replace(unit, replaced_by=None))
        elif status.works(new, appliance):
            units.leave(call, appliance, unit, f"Unit {new.number} is there instead")


def _remove_left(call: Call, appliance: Appliance) -> None:
    """Units that are to go, and that nothing depends on any more, go."""
    there = units.of(call.tx, appliance.id)
    leads = status.leader(there)
    for unit in there:
        late = call.tx.now.timestamp() - unit.left_at > LEAST
        if unit.leaves and late and _idle(unit, there, leads, zones(appliance)[: unit.legs]):
            events.note(call, appliance, f"The {unit.kind} is gone", unit.cause, unit=unit.number)
            units.drop(call, unit)


def _idle(unit: Unit, there: Sequence[Unit], leads: UnitStatus | None, legs: Sequence[str]) -> bool:
    """Whether nothing depends on a unit, that knows these legs."""
    own = unit.seen.status if unit.seen is not None else None
    if unit.kind == "manager":
        others = [u for u in there if u.kind == "manager" and u.id != unit.id and not u.leaves]
        return status.leader(others) is not None
    if leads is None or unit.number not in leads.empty:
        return False
    if own is None:
        return True
    if unit.kind == "data-plane":
        return not own.shards
    others = [u for u in there if u.kind == "dispatcher" and u.id != unit.id and not u.leaves]
    served = {zone for u in others if u.seen and u.seen.status for zone in u.seen.status.serves}
    return served >= set(legs) or not own.serves


def shown(unit: Unit, figures: Figures, alive: bool) -> dict[str, Any]:
    """What is known of a unit now."""
    newest = figures.of(unit) if alive else None
    report = newest or unit.seen
    told: dict[str, Any] = {}
    if report is not None and report.status is not None:
        told = msgspec.to_builtins(msgspec.structs.asdict(report.status))
    for name in ("incarnation", "events", "logged"):
        told.pop(name, None)
    problem = report.problem if report is not None else None
    return {
        "state": "silent" if not alive else "waiting" if report is None else report.state,
        "restarts": 0 if report is None else report.restarts,
        "problem": None if problem is None else msgspec.to_builtins(problem),
        "observed": told,
    }
