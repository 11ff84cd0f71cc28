"""Events at random, one after the other, under traffic; and the table of what was seen."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from bench.appliance import delays
from bench.appliance.appliance import Appliance, draw
from bench.appliance.loads import Loads
from bench.figures import Figure, columns
from trunkline.errors import Refusal
from trunkline.traffic.pair import Result
from trunkline.traffic.words import Broken, Period

_QUIET = "quiet"
_SCALING = ("scale out", "scale in")
#: Connections of which is told when they break, at each event at most.
_TOLD = 40
#: Copies of a connection take their time: who begins in so many seconds before a unit dies is told apart.
_YOUNG = 0.1
_DEATHS = ("data plane killed", "dispatcher killed", "host cut")
#: What dies, and how long a flow may wait then, ms.
_BOUNDS = {"data plane killed": 150.0, "dispatcher killed": 150.0, "host cut": 150.0}


@dataclass(frozen=True)
class Happened:
    """An event that is over."""

    name: str
    #: As the traffic knows it.
    mark: str
    #: Until all was as it is to be, seconds.
    took: float


@dataclass
class Run:
    """What was done."""

    happened: list[Happened] = field(default_factory=list)
    #: Seconds without an event, at the beginning, and how many units were taken for dead meanwhile.
    quiet: float = 0.0
    alarms: int = 0
    #: Why it ended before its time.
    problem: str = ""


def put_through(
    appliance: Appliance, loads: Loads, *, events: int, kills: bool, seed: int, quiet: float, pause: float
) -> Run:
    """A quiet time, then so many events; it ends with one after which not all is as it is to be, and when
    the program is interrupted.
    """
    run = Run(quiet=quiet)
    chance, told = random.Random(seed), set[tuple[str, int]]()
    loads.mark(_QUIET)
    alarms = appliance.alarms()
    time.sleep(quiet)
    run.alarms = appliance.alarms() - alarms
    print(json.dumps({"quiet": quiet, "false alarms": run.alarms}), file=sys.stderr, flush=True)
    try:
        for number in range(events):
            event = draw(appliance, chance, kills=kills)
            mark = f"{number} {event.name}"
            loads.mark(mark)
            began = time.monotonic()
            words = event.do(appliance)
            appliance.settle()
            run.happened.append(Happened(event.name, mark, time.monotonic() - began))
            time.sleep(pause)
            _tell(loads, run.happened[-1], words, told)
    except (AssertionError, Refusal, OSError) as error:
        # What was seen until then is told all the same.
        run.problem = f"{mark}: {error}"
    except KeyboardInterrupt:
        pass
    loads.mark("afterwards")
    return run


def _tell(loads: Loads, event: Happened, words: str, told: set[tuple[str, int]]) -> None:
    """A line about what happened, with how it stands; and one for each of the first connections that broke
    and are not among those that were told of, to which they are added.
    """
    live = loads.live()
    line = {
        "event": event.mark,
        "done": words,
        "took": round(event.took, 3),
        "established": live.established if live else 0,
        "broken": live.broken if live else {},
        "longest_gap": round(live.longest_gap, 4) if live else 0.0,
    }
    print(json.dumps(line), file=sys.stderr, flush=True)
    new = [
        (name, each)
        for name, found in loads.broken().items()
        for each in found
        if (name, each.connection) not in told
    ]
    told |= {(name, each.connection) for name, each in new}
    for name, each in new[:_TOLD]:
        print(json.dumps({"way": name, **msgspec.to_builtins(each)}), file=sys.stderr, flush=True)


def figures(
    run: Run,
    established: Mapping[str, int],
    results: Mapping[str, Result],
    plain: Result | None,
    shares: Sequence[float],
) -> list[Figure]:
    """The table of what was seen. `plain`: of flows by the plain router; `shares`: how long new data planes
    waited for theirs, seconds.
    """
    found = [Figure("events after which not all was as it is to be", [float(bool(run.problem))], "", 0.0)]
    for name, result in results.items():
        why = Counter(said[0].why for said in result.broken.values())
        young = sum(_young(said, result) for said in result.broken.values())
        what = f"{name}: connections broken, of {established[name]:,}, in {len(run.happened):,} events"
        note = ", ".join(f"{count} {each}" for each, count in why.items())
        if young:
            note += f"; {young} of them begun less than {_YOUNG * 1e3:.0f} ms before a unit died"
        found.append(Figure(what, [why.total()], "", 0.0, note=note))
        found.append(Figure(f"{name}: refused at the beginning", [len(result.refused)], "", 0.0))
    first = next(iter(results.values()))
    found.append(Figure("flows translated anew", [len(first.moved)], "", 0.0))
    periods = {period.name: period for period in first.near.periods}
    found += _of_events(run, periods)
    scaling = {event.mark for event in run.happened if event.name in _SCALING}
    found += delays.added(first, plain, {_QUIET}, scaling)
    if shares:
        took = [seconds * 1e3 for seconds in shares]
        found.append(Figure("a new data plane has its share after", took, "ms", 250.0))
    found.append(Figure(f"false alarms in {run.quiet:g} s without events", [run.alarms], "", 0.0))
    own = first.near.own
    how = delays.measured_by((first, plain))
    found.append(Figure("datagrams of flows sent late, 99.9%", [own.p999 * 1e3], "ms", note=how))
    found.append(Figure("datagrams of flows sent late, longest", [own.longest * 1e3], "ms"))
    return found


def _of_events(run: Run, periods: Mapping[str, Period]) -> list[Figure]:
    """By kind of event: for how long no answer came, and how long it took."""
    quiet = periods[_QUIET]
    found = [Figure("quiet: outage of a flow, longest", [quiet.longest_gap * 1e3], "ms")]
    by_name: dict[str, list[Happened]] = defaultdict(list)
    for event in run.happened:
        by_name[event.name].append(event)
    for name, events in sorted(by_name.items()):
        gaps = sorted(periods[event.mark].longest_gap * 1e3 for event in events)
        what = f"{name} ({len(events)}): outage of a flow, longest"
        found.append(
            Figure(what, [gaps[-1]], "ms", _BOUNDS.get(name), note=f"median {gaps[len(gaps) // 2]:.0f}")
        )
        found.append(Figure(f"{name}: until all was settled", [event.took for event in events], "s"))
    return found


def _young(said: Sequence[Broken], result: Result) -> bool:
    """Whether a connection that broke had just begun when a unit died after its last answer."""
    began = {period.name: period.began for period in result.near.periods}
    return any(
        began[mark] - _YOUNG < each.made < began[mark] + _YOUNG
        for each in said
        for mark in each.marks
        if mark.endswith(_DEATHS)
    )


def broken(results: Mapping[str, Result]) -> str:
    """The first connections that broke, by what happened since they last answered, and the first flows that
    were translated anew, by what had happened last; "" where none did.
    """
    rows = [
        [name, str(number), each.side, each.why, str(each.position), " | ".join(each.marks[-3:]), each.detail]
        for name, result in results.items()
        for number, said in list(result.broken.items())[:20]
        for each in said
    ]
    rows += [
        [
            name,
            f"flow {each.flow}",
            "far",
            f"{each.before}, then {each.after}",
            "",
            result.mark_at(each.at),
            "",
        ]
        for name, result in results.items()
        for each in result.moved[:20]
    ]
    head = ["", "connection", "seen by", "why", "byte", "marks since its last answer", ""]
    return columns(head, rows) if rows else ""


def outages(result: Result, more_than: float = 0.5) -> str:
    """The times without an answer that were longer than so many seconds, in their order; "" for none."""
    began = {period.name: period.began for period in result.near.periods}
    rows = [
        [
            f"flow {gap.flow}",
            f"{gap.seconds * 1e3:.0f} ms",
            f"{(gap.began - began[gap.mark]) * 1e3:+.0f} ms after {gap.mark}",
            f"{gap.own * 1e3:.0f} ms",
        ]
        for gap in sorted(result.gaps, key=lambda gap: gap.began)
        if gap.seconds > more_than and gap.mark in began
    ]
    return columns(["", "without an answer for", "from", "sent late by"], rows[:20]) if rows else ""
