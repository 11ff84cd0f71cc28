"""Growth by load: which appliances are looked at, and how their data planes become more or fewer.

hosts' figures ──▶ Growth.look: a curve for each ──▶ Step ──▶ take: in one transaction, if it is as it was
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from trunkline.api.appliance import events, units
from trunkline.api.appliance.figures import Figures
from trunkline.api.engine import Call
from trunkline.errors import BadField, Exhausted, OverQuota
from trunkline.plan.growth import Curve, fits, wanted
from trunkline.resources.appliance import Appliance, Unit
from trunkline.resources.region import Host
from trunkline.resources.reports import Condition
from trunkline.store import Reader

#: What could not be had is asked for again after so many seconds.
AGAIN = 5.0


@dataclass(frozen=True)
class Watched:
    """An appliance that grows by its load, with the data planes whose load counts."""

    appliance: Appliance
    planes: Sequence[Unit]
    #: The hosts of these that are heard of.
    heard: frozenset[str]


@dataclass(frozen=True)
class Step:
    """What is to be done with an appliance, if it still is as it was seen."""

    appliance: Appliance
    #: How many data planes its load wants.
    planes: int
    #: Their load, 0 to 1, where it is known.
    load: float | None


def watched(reader: Reader) -> list[Watched]:
    """Those that are to be looked at."""
    alive = frozenset(host.id for host in reader.find(Host, alive=True))
    return [
        Watched(appliance, [u for u in units.of(reader, appliance.id) if u.kind == "data-plane"], alive)
        for appliance in reader.select(Appliance)
        if appliance.scaling is not None
    ]


class Growth:
    """What was seen of appliances of late. One a control process: one that begins anew sees it all anew."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._curves: dict[str, Curve] = {}
        #: When what could not be had may be asked for again.
        self._again: dict[str, float] = {}

    def look(self, there: Sequence[Watched], now: float, clock: float) -> list[Step]:
        """Looks at all of them; what there is to do.

        Args:
            now: seconds of a clock that does not go back.
            clock: seconds since the epoch.
        """
        known = {each.appliance.id for each in there}
        for gone in self._curves.keys() - known:
            del self._curves[gone]
        self._again = {id: at for id, at in self._again.items() if id in known and at > now}
        return [step for each in there if (step := self._step(each, now, clock)) is not None]

    def _step(self, each: Watched, now: float, clock: float) -> Step | None:
        appliance, rule = each.appliance, each.appliance.scaling
        assert rule is not None
        curve = self._curves.setdefault(appliance.id, Curve())
        loads = self._loads(each)
        curve.look(now, sum(loads), whole=len(loads) == len(each.planes), keep=rule.cool_down)
        had, demand = appliance.data_planes, curve.demand()
        planes = wanted(rule, had, curve, now, max(0.0, clock - appliance.scaled_at))
        load = None if demand is None or not loads else demand / len(loads)
        may, short = min(planes, rule.most), appliance.short is not None
        if may > had:
            due = not short or now >= self._again.get(appliance.id, 0.0)
        elif may < had:
            due = True
        elif planes > had:
            due = not short
        else:
            due = short and demand is not None and fits(rule, had, demand)
        if not due:
            return None
        self._again[appliance.id] = now + AGAIN
        return Step(appliance, planes, load)

    def _loads(self, each: Watched) -> list[float]:
        """Those of the data planes that are known."""
        found = []
        for unit in each.planes:
            report = self._figures.of(unit) if unit.host in each.heard else None
            if report is not None and report.status is not None:
                # One that has no share of the flows yet is busy with itself.
                found.append(report.status.load if report.status.shards else 0.0)
        return found


def take(call: Call, step: Step) -> None:
    """Gives an appliance the data planes that its load wants, as far as they can be had.

    Nothing is done where somebody else has changed it since it was seen.
    """
    old, rule = step.appliance, step.appliance.scaling
    appliance = call.tx.get(Appliance, old.id)
    if appliance is None or rule is None or appliance.scaling != rule:
        return
    if (appliance.data_planes, appliance.scaled_at) != (old.data_planes, old.scaled_at):
        return
    had, cause = old.data_planes, f"Its scaling keeps it from {rule.least} to {rule.most}"
    if step.load is not None:
        cause = f"They use {step.load:.2f} of their processors, and are to use {rule.target_load:g}"
    new, short = appliance, None
    for planes in range(had + 1, min(step.planes, rule.most) + 1) or [min(step.planes, rule.most)]:
        try:
            new = units.follow(call, replace(new, data_planes=planes), cause)
        except (Exhausted, OverQuota) as full:
            # What came until now stays.
            short = _short(new, full.message)
            break
    if short is None and step.planes > rule.most:
        remedy = "Raise most in its scaling, or order one with larger units."
        short = _short(new, f"{rule.most} is the most that its scaling allows", remedy)
    if new.data_planes != had:
        what = f"By its load it is to have {new.data_planes} data planes instead of {had}"
        events.note(call, appliance, what, cause)
        call.save(replace(new, scaled_at=call.tx.now.timestamp(), short=short))
    elif short != appliance.short:
        call.tx.replace(replace(appliance, short=short))


def follow(call: Call, appliance: Appliance, given: frozenset[str]) -> Appliance:
    """What a client asks for, with a number of data planes that its scaling allows.

    Args:
        given: the names that the client gave.
    Raises:
        BadField: it asks for a number of them that its scaling would change at once.
    """
    if "scaling" in given or "data_planes" in given:
        appliance = replace(appliance, scaled_at=call.tx.now.timestamp(), short=None)
    rule = appliance.scaling
    if rule is None or rule.least <= appliance.data_planes <= rule.most:
        return appliance
    if "data_planes" in given:
        raise BadField(
            "data_planes",
            f"its scaling keeps it from {rule.least} to {rule.most}. Take one of these, or another scaling.",
        )
    return replace(appliance, data_planes=min(max(appliance.data_planes, rule.least), rule.most))


def _short(appliance: Appliance, cause: str, remedy: str = "It is tried again by itself.") -> Condition:
    what = f"its load wants more than {appliance.data_planes} data planes"
    return Condition(what=what, cause=cause, remedy=remedy)
