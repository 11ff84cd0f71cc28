"""How an appliance is, as its units were seen. Pure: nothing is assumed of what nobody has seen.

units, hosts ──▶ findings: what, why, what to do; whether it is only a matter of time
             ──▶ one word
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from trunkline.plan.shards import SHARDS
from trunkline.plan.sides import Sides, View
from trunkline.resources.appliance import Appliance, Unit, zones
from trunkline.resources.reports import Condition, UnitStatus

#: A unit that does not run so many seconds after it was made is told of as something that is not well.
PATIENCE = 60.0
#: One that was made so many seconds ago, and runs, may still be on its way to be heard by the others.
_JOINS = 10.0
#: How many findings are told.
MOST = 20


@dataclass(frozen=True)
class Finding:
    """Something that is not as it is to be."""

    condition: Condition
    #: A change is under way, and this is a part of it.
    passing: bool = False
    #: A unit says so of itself; what it is for, it does.
    remark: bool = False


@dataclass(frozen=True)
class State:
    """How an appliance is."""

    status: str
    findings: tuple[Finding, ...]

    @property
    def conditions(self) -> list[Condition]:
        """What is told of it."""
        return [finding.condition for finding in self.findings[:MOST]]


def state(appliance: Appliance, units: Sequence[Unit], silent: Collection[str], now: float) -> State:
    """How it is.

    Args:
        silent: the hosts that are not heard of.
        now: seconds since the epoch.
    """
    heard = [unit for unit in units if unit.host not in silent]
    findings = (
        *_units(units, silent, now),
        *_in_band(heard, now),
        *_out_of_band(heard, now),
        *_legs(appliance, heard, units, now),
        *_policy(appliance, heard),
        *_shards(heard),
        *([Finding(appliance.short, remark=True)] if appliance.short is not None else []),
        *(Finding(told, remark=True) for told in appliance.unserved.values()),
        *_renewal(appliance),
    )
    if not appliance.admin_state_up:
        return State("DOWN", findings)
    wrong = [finding for finding in findings if not finding.remark]
    if not wrong:
        return State("ACTIVE", findings)
    passing = all(finding.passing for finding in wrong)
    forwards = _served(heard) >= set(known(appliance, units)) and any(_status(unit).shards for unit in heard)
    if not appliance.was_active and passing:
        return State("BUILD", findings)
    if not forwards:
        return State("ERROR", findings)
    return State("UPDATING" if passing else "DEGRADED", findings)


def leader(units: Sequence[Unit]) -> UnitStatus | None:
    """What the manager says that leads.

    Of two that say so, which are cut off from each other, the one that reaches more units, or else the one
    whose epoch is newer.
    """
    leading = [_status(unit) for unit in units if unit.kind == "manager" and _status(unit).leads]
    return max(leading, key=lambda status: (-len(status.silent), status.epoch), default=None)


def works(unit: Unit, appliance: Appliance) -> bool:
    """Whether a unit does its part: it runs, and a data plane has its policy."""
    if unit.seen is None or unit.seen.state != "running" or unit.seen.status is None:
        return False
    return unit.kind != "data-plane" or _status(unit).policy_revision == appliance.policy_revision


def known(appliance: Appliance, units: Sequence[Unit]) -> tuple[str, ...]:
    """The zones that all units know, so that policies can name them."""
    least = min((unit.legs for unit in units if unit.kind != "manager"), default=len(zones(appliance)))
    return zones(appliance)[:least]


def _status(unit: Unit) -> UnitStatus:
    status = unit.seen.status if unit.seen is not None and unit.seen.state == "running" else None
    return status or UnitStatus(incarnation="")


def _served(units: Sequence[Unit]) -> set[str]:
    """The zones that a dispatcher has the addresses of, and a data plane to send to."""
    planes = {unit.number for unit in units if unit.kind == "data-plane" and _runs(unit)}
    spread = [_status(unit) for unit in units if unit.kind == "dispatcher"]
    return {zone for one in spread if planes - {*one.silent} or not planes for zone in one.serves}


def _runs(unit: Unit) -> bool:
    """It says how it is."""
    return bool(_status(unit).incarnation)


def _unheard(units: Sequence[Unit]) -> dict[int, list[int]]:
    """Units that run, of whom these dispatchers hear nothing.

    Neither who hears nobody at all nor who stands aside is asked.
    """
    there = [unit for unit in units if unit.kind != "manager" and _runs(unit)]
    told = {u.number: _status(u) for u in there if u.kind == "dispatcher" and not _is_cut_off(u, there)}
    sides = Sides()
    views = {n: View(frozenset(said.silent), len(said.serves), fresh=True) for n, said in told.items()}
    sides.look(views, {unit.number for unit in there if unit.kind == "data-plane"}, 0.0)
    asked = told.keys() - sides.aside
    found = {unit.number: [n for n in sorted(asked) if unit.number in told[n].silent] for unit in there}
    return {number: by for number, by in found.items() if by}


def _is_cut_off(dispatcher: Unit, there: Sequence[Unit]) -> bool:
    others = {unit.number for unit in there if unit.kind != "manager" and _runs(unit)} - {dispatcher.number}
    return bool(others) and others <= {*_status(dispatcher).silent}


def _name(unit: Unit) -> str:
    return f"unit {unit.number} ({unit.kind})"


def _units(units: Sequence[Unit], silent: Collection[str], now: float) -> Iterator[Finding]:
    for unit in units:
        seen = unit.seen
        if unit.host in silent:
            yield _found(
                f"{_name(unit)} is not heard of",
                "its host is silent",
                "It is replaced on another host as soon as one has room.",
            )
        elif seen is not None and seen.state == "failed":
            cause = (
                f"{seen.problem.what}: {seen.problem.cause}" if seen.problem else "its host does not say why"
            )
            remedy = (seen.problem.remedy if seen.problem else "") or "Its host starts it again by itself."
            yield _found(f"{_name(unit)} failed", cause, remedy)
        elif seen is None or seen.state != "running" or seen.status is None:
            late = now - unit.since > PATIENCE
            cause = f"its host {'has not reported it yet' if seen is None else 'is starting it'}"
            remedy = "Wait, or drain it to have it started elsewhere." if late else "Wait a moment."
            yield _found(f"{_name(unit)} does not run yet", cause, remedy, passing=not late)
        else:
            for problem in seen.status.problems:
                what = f"{_name(unit)}: {problem.what}"
                yield Finding(Condition(what=what, cause=problem.cause, remedy=problem.remedy), remark=True)


def _in_band(heard: Sequence[Unit], now: float) -> Iterator[Finding]:
    """Who forwards, and is not heard by those whom it forwards with."""
    unheard = _unheard(heard)
    for unit in heard:
        new = now - unit.since < _JOINS
        if unit.kind == "dispatcher" and _is_cut_off(unit, heard):
            yield _found(
                f"{_name(unit)} is cut off",
                "nobody answers it on the in-band bus",
                "If there is another dispatcher, that one serves. It ends when hosts reach each other again; "
                "drain the unit to have it replaced elsewhere.",
                passing=new,
            )
        elif unit.number in unheard:
            yield _found(
                f"{_name(unit)} does not answer",
                f"unit {', '.join(map(str, unheard[unit.number]))} hears nothing of it on the in-band bus",
                "Others have its flows. It ends when hosts reach each other again; drain the unit to have it "
                "replaced elsewhere.",
                passing=new,
            )


def _out_of_band(heard: Sequence[Unit], now: float) -> Iterator[Finding]:
    """Who is not led, though a manager leads."""
    leads = leader(heard)
    away = [unit for unit in heard if leads is not None and unit.number in leads.silent and _runs(unit)]
    if away:
        yield _found(
            f"the manager does not reach unit {', '.join(str(unit.number) for unit in away[:10])}",
            "nothing comes from there on the out-of-band bus",
            "What is there goes on forwarding as it is, and follows when hosts reach each other again.",
            passing=all(now - unit.since < _JOINS for unit in away),
        )


def _legs(
    appliance: Appliance, heard: Sequence[Unit], units: Sequence[Unit], now: float
) -> Iterator[Finding]:
    served = _served(heard)
    new = any(u.kind == "dispatcher" and now - u.since < PATIENCE for u in units)
    there = known(appliance, units)
    for zone in zones(appliance):
        if zone not in there:
            before = [u for u in units if u.kind != "manager" and u.legs <= zones(appliance).index(zone)]
            yield _found(
                f"the leg {zone} is not there yet",
                f"unit {', '.join(str(unit.number) for unit in before[:10])} came before it",
                "Units are replaced one by one. If none comes, see that hosts have room.",
                passing=True,
            )
        elif zone not in served:
            yield _found(
                f"the leg {zone} is not served",
                "no dispatcher has its addresses, and a data plane that answers it",
                "It is served when a dispatcher runs.",
                passing=new,
            )


def _policy(appliance: Appliance, heard: Sequence[Unit]) -> Iterator[Finding]:
    leads = leader(heard)
    if leads is None:
        # A manager that was just started learns first what there is.
        yield _found(
            "no manager leads",
            "none is heard of that does",
            "What is there goes on forwarding; changes wait for a manager.",
            passing=not appliance.was_active,
        )
    elif leads.refused:
        yield _found(
            f"policy revision {appliance.policy_revision} is refused",
            leads.refused,
            "The one before stays in force. Correct it, and set it again.",
        )
    behind = [
        unit
        for unit in heard
        if unit.kind == "data-plane"
        and not unit.leaves
        and _runs(unit)
        and _status(unit).policy_revision != appliance.policy_revision
    ]
    if behind and not (leads and leads.refused):
        yield _found(
            f"policy revision {appliance.policy_revision} is not in force everywhere",
            f"unit {', '.join(str(unit.number) for unit in behind[:10])} has another one",
            "A manager brings it to them.",
            passing=True,
        )


def _shards(heard: Sequence[Unit]) -> Iterator[Finding]:
    planes = [unit for unit in heard if unit.kind == "data-plane"]
    owned = sum(_status(unit).shards for unit in planes)
    unheard = _unheard(heard)
    without = [u for u in planes if not (u.leaves or _status(u).shards or u.number in unheard) and _runs(u)]
    if owned != SHARDS or without:
        told = f"; unit {', '.join(str(u.number) for u in without[:10])} has none" if without else ""
        yield _found(
            "the flows are being divided anew",
            f"data planes have {owned} of {SHARDS} shards{told}",
            "A manager gives each its share.",
            passing=True,
        )
    leads = leader(heard)
    if leads is not None and leads.uncopied:
        yield _found(
            "not all connections would survive a crash",
            f"copies of {leads.uncopied} of {SHARDS} shards are yet to be made at other data planes",
            "It ends when they are, as soon as units have time for it.",
            passing=True,
        )


def _renewal(appliance: Appliance) -> Iterator[Finding]:
    renewal = appliance.renewal
    if renewal is not None and renewal.state == "stopped":
        what = f"its renewal is stopped, with {len(renewal.left)} of {renewal.units} units left"
        remedy = "Put that right, and renew it again."
        yield Finding(Condition(what=what, cause=renewal.cause, remedy=remedy), remark=True)


def _found(what: str, cause: str, remedy: str, *, passing: bool = False) -> Finding:
    return Finding(Condition(what=what, cause=cause, remedy=remedy), passing)
