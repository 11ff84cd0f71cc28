"""What an appliance does to connections while it is scaled, changed, replaced, and (--kills) while units die.

python -m bench.appliance --events 1000 --connections 20000 --kills

Units are started by hand on one host. Events come at random (--seed), one after the other. Every byte of
every connection is compared; what is told at the end is how many broke, how long nothing came through, beside
what was to be reached. `python -m bench.appliance.peers` measures others on the same path.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from bench.appliance import throughput
from bench.appliance.appliance import TARGETS, Appliance, draw
from bench.appliance.by_hand import ByHand
from bench.appliance.path import SERVERS, Path, path, reaches, wait_for
from bench.figures import Figure, columns, machine, table
from trunkline.traffic.pair import Result, Traffic
from trunkline.traffic.plans import FarPlan, NearPlan

_QUIET = "quiet"
_SCALING = ("scale out", "scale in")
_LISTENS = ("192.0.2.9:8000-8001", "192.0.2.10:8000", "192.0.2.11:8000", "[fd00:b::9]:8000")
#: Of flows, for gaps: where they go.
_FLOWS = ("192.0.2.9:8000", "[fd00:b::9]:8000")


@dataclass(frozen=True)
class Happened:
    """An event that is over."""

    name: str
    #: As the traffic knows it.
    mark: str
    words: str
    #: Until all was as it is to be, seconds.
    took: float


def put_through(
    appliance: Appliance, traffic: Traffic, options: argparse.Namespace
) -> tuple[list[Happened], int]:
    """All events, one after the other, and a quiet time before, of which the false alarms are told."""
    chance = random.Random(options.seed)
    traffic.mark(_QUIET)
    alarms = appliance.alarms()
    time.sleep(options.quiet)
    alarms = appliance.alarms() - alarms
    happened = []
    for number in range(options.events):
        event = draw(appliance, chance, kills=options.kills)
        mark = f"{number} {event.name}"
        traffic.mark(mark)
        began = time.monotonic()
        words = event.do(appliance)
        appliance.settle()
        happened.append(Happened(event.name, mark, words, time.monotonic() - began))
        time.sleep(options.pause)
        _tell(traffic, happened[-1])
    traffic.mark("afterwards")
    # All connections have a turn, and a connection that fell silent is known.
    time.sleep(options.every + options.silent)
    return happened, alarms


def _tell(traffic: Traffic, event: Happened) -> None:
    """A line a thing that happened, with how it stands."""
    live = traffic.live()
    line = {
        "event": event.mark,
        "done": event.words,
        "took": round(event.took, 3),
        "established": live.established if live else 0,
        "broken": live.broken if live else {},
        "longest_gap": round(live.longest_gap, 4) if live else 0.0,
    }
    print(json.dumps(line), file=sys.stderr, flush=True)


def figures(
    happened: Sequence[Happened], result: Result, established: int, appliance: Appliance
) -> list[Figure]:
    """The table, of what was seen."""
    broken = Counter(said[0].why for said in result.broken.values())
    why = ", ".join(f"{count} {each}" for each, count in broken.items())
    what = f"connections broken, of {established:,}, in {len(happened):,} events"
    found = [
        Figure(what, [broken.total()], "", 0.0, note=why),
        Figure("flows translated anew", [len(result.moved)], "", 0.0),
    ]
    quiet = result.period(_QUIET)
    periods = {period.name: period for period in result.near.periods}
    by_name: dict[str, list[Happened]] = defaultdict(list)
    for event in happened:
        by_name[event.name].append(event)
    for name, events in sorted(by_name.items()):
        gaps = [periods[event.mark].longest_gap * 1e3 for event in events]
        bound = 150.0 if name in ("data plane killed", "dispatcher killed") else None
        note = f"median {sorted(gaps)[len(gaps) // 2]:.0f}"
        what = f"{name} ({len(events)}): outage of a flow, longest"
        found.append(Figure(what, [max(gaps)], "ms", bound, note=note))
        found.append(Figure(f"{name}: until all was settled", [event.took for event in events], "s"))
    found.append(Figure("quiet: outage of a flow, longest", [quiet.longest_gap * 1e3], "ms"))
    added = [
        (periods[event.mark].flows.p999 - quiet.flows.p999) * 1e3
        for event in happened
        if event.name in _SCALING
    ]
    if added:
        found.append(Figure("delay added while scaling, 99.9%", added, "ms", 1.0))
    if appliance.shares():
        took = [seconds * 1e3 for seconds in appliance.shares()]
        found.append(Figure("a new data plane has its share after", took, "ms", 250.0))
    own = result.near.own
    found.append(Figure("the measuring itself was late, 99.9%", [own.p999 * 1e3], "ms"))
    found.append(Figure("the measuring itself was late, longest", [own.longest * 1e3], "ms"))
    return found


def through(way: Path, options: argparse.Namespace) -> list[Figure]:
    """What goes through, beside the plain router."""
    found = []
    throughput.serve(way)
    for datagrams, what, bound in ((False, "TCP", 0.9), (True, "small packets", 0.8)):
        ratio = throughput.measure(way, SERVERS[0], options.seconds, options.turns, datagrams=datagrams)
        name = f"throughput, {what}, of plain forwarding"
        found.append(Figure(name, ratio.turns, "", bound, least=True))
    return found


def broken(result: Result) -> str:
    """The first connections that broke, by what happened since they last answered."""
    rows = [
        [str(number), each.side, each.why, str(each.position), " | ".join(each.marks[-3:]), each.detail]
        for number, said in list(result.broken.items())[:40]
        for each in said
    ]
    return columns(["connection", "seen by", "why", "byte", "marks since its last answer", ""], rows)


def main() -> int:
    """Measures, and prints the table; 1 where something is not reached."""
    parser = argparse.ArgumentParser(
        prog="bench.appliance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=20_000)
    parser.add_argument("--kills", action="store_true", help="units die, too")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between two events")
    parser.add_argument("--quiet", type=float, default=10.0, help="seconds before the first")
    parser.add_argument("--every", type=float, default=8.0, help="seconds between two words of a connection")
    parser.add_argument("--silent", type=float, default=10.0, help="seconds after which one is broken")
    parser.add_argument("--data-planes", type=int, default=3)
    parser.add_argument("--dispatchers", type=int, default=2)
    parser.add_argument("--managers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement of throughput")
    parser.add_argument("--turns", type=int, default=3, help="measurements of throughput, each beside plain")
    parser.add_argument("--no-throughput", action="store_true")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("network namespaces need root")
    print(machine(), flush=True)
    with path() as way:
        sizes = (options.data_planes, options.dispatchers, options.managers)
        appliance = ByHand(way, *sizes, seed=options.seed)
        try:
            found, lines = _measure(way, appliance, options)
        finally:
            appliance.close()
    print(f"load average at the end: {' '.join(f'{load:.2f}' for load in os.getloadavg())}\n")
    print(table(found))
    if lines:
        print(f"\n{lines}")
    return 1 if any(figure.met is False for figure in found) else 0


def _measure(way: Path, appliance: ByHand, options: argparse.Namespace) -> tuple[list[Figure], str]:
    appliance.settle()
    wait_for(lambda: reaches(way.client, SERVERS[0]), 30, lambda: "the appliance forwards")
    rates = [] if options.no_throughput else through(way, options)
    plan = NearPlan(
        targets=tuple(TARGETS.values()),
        flow_targets=_FLOWS,
        connections=options.connections,
        every=options.every,
        silent=options.silent,
        flows=32,
    )
    far = {appliance.far: FarPlan(listen=_LISTENS)}
    with Traffic(near=appliance.near, plan=plan, far=far) as traffic:
        set_up = traffic.ready(60 + options.connections / 200)
        assert not set_up.refused, f"{set_up.refused} of {options.connections} connections were refused"
        happened, alarms = put_through(appliance, traffic, options)
        result = traffic.end()
    quiet = Figure(f"false alarms in {options.quiet:g} s without events", [alarms], "", 0.0)
    found = [*figures(happened, result, set_up.established, appliance), quiet, *rates]
    return found, broken(result) if result.broken else ""


if __name__ == "__main__":
    sys.exit(main())
