"""What an appliance does to connections while it is scaled, changed, replaced, and (--kills) while units die.

python -m bench.appliance --events 1000 --connections 20000 --kills

Units are started by hand on one host, and may use of its processors what they can. Events come at random
(--seed), one after the other. Every byte of every connection is compared; what is told at the end is how many
broke, how long nothing came through, beside what was to be reached. `python -m bench.appliance.peers` is for
others on the same path.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from bench.appliance import events, throughput
from bench.appliance.by_hand import ByHand
from bench.appliance.loads import Loads
from bench.appliance.path import SERVERS, Path, path, reaches, wait_for
from bench.figures import Figure, machine, table


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
    print("".join(f"\n{each}\n" for each in lines if each))
    return 1 if any(figure.met is False for figure in found) else 0


def _measure(way: Path, appliance: ByHand, options: argparse.Namespace) -> tuple[list[Figure], list[str]]:
    appliance.settle()
    wait_for(lambda: reaches(way.client, SERVERS[0]), 30, lambda: "the appliance forwards")
    rates = [] if options.no_throughput else _through(way, options)
    with Loads(appliance, options.connections, options.every, options.silent) as loads:
        made = loads.ready(60 + options.connections / 200)
        # Each has sent at least once.
        time.sleep(options.every)
        run = events.put_through(
            appliance,
            loads,
            events=options.events,
            kills=options.kills,
            seed=options.seed,
            quiet=options.quiet,
            pause=options.pause,
        )
        # All have a turn, and a connection that fell silent is known.
        time.sleep(options.every + options.silent)
        results = loads.end()
    established = {name: each.established for name, each in made.items()}
    found = events.figures(run, established, results, appliance.shares())
    return [*found, *rates], [run.problem, events.broken(results)]


def _through(way: Path, options: argparse.Namespace) -> list[Figure]:
    """What goes through, beside the plain router."""
    found = []
    throughput.serve(way)
    for datagrams, what, bound in ((False, "TCP", 0.9), (True, "small packets", 0.8)):
        ratio = throughput.measure(way, SERVERS[0], options.seconds, options.turns, datagrams=datagrams)
        name = f"throughput, {what}, of plain forwarding"
        found.append(Figure(name, ratio.turns, "", bound, least=True))
    return found


if __name__ == "__main__":
    sys.exit(main())
