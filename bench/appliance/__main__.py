"""What an appliance does to connections while it is scaled, changed, replaced, and (--kills) while units die.

python -m bench.appliance --events 1000 --connections 20000 --kills
python -m bench.appliance --growth

Units are started by hand on one host, and may use of its processors what they can, or what --parts says. With
--cloud, a cloud of four hosts runs them. With --kills, programs of units are killed, and hosts are cut off:
in a cloud a whole host, which comes back; by hand a data plane or a dispatcher loses its interfaces before
its program, and nobody is told. Events come at random (--seed), one after the other. Every byte of every
connection is compared; what is told at the end is how many broke, and how long nothing came through, beside
what was to be reached.
`python -m bench.appliance.peers` is for others on the same path.

--growth measures something else alone: data planes by hand, each with a small part of a processor, and how
what goes through grows with their number.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping

from bench.appliance import events, growth, policies, throughput
from bench.appliance.appliance import Appliance, Kind
from bench.appliance.by_cloud import ByCloud
from bench.appliance.by_hand import ByHand
from bench.appliance.loads import Loads
from bench.appliance.path import SERVERS, Path, path, reaches, wait_for
from bench.cloud import running
from bench.figures import Figure, machine, table


def main() -> int:
    """Measures, and prints the table; 1 where something is not reached."""
    parser = argparse.ArgumentParser(
        prog="bench.appliance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=20_000)
    parser.add_argument("--flows", type=int, default=32, help="of 50 datagrams a second: for outages, delays")
    parser.add_argument("--kills", action="store_true", help="units die, and hosts are cut off, too")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between two events")
    parser.add_argument("--quiet", type=float, default=10.0, help="seconds before the first")
    parser.add_argument("--every", type=float, default=8.0, help="seconds between two words of a connection")
    parser.add_argument(
        "--begin", type=float, default=20.0, help="connections that begin in each second, and last a minute"
    )
    parser.add_argument("--silent", type=float, default=10.0, help="seconds after which one is broken")
    parser.add_argument("--data-planes", type=int, default=3)
    parser.add_argument("--dispatchers", type=int, default=2)
    parser.add_argument("--managers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement of throughput")
    parser.add_argument("--turns", type=int, default=3, help="measurements of throughput, each beside plain")
    parser.add_argument("--no-throughput", action="store_true")
    parser.add_argument(
        "--parts",
        type=float,
        nargs=2,
        metavar=("DP", "DPD"),
        help="by hand: processors that packets of a data plane and of a dispatcher may have, as on a host",
    )
    parser.add_argument("--cloud", action="store_true", help="on a cloud of four hosts, not by hand")
    parser.add_argument("--cu-size", type=float, default=0.2, help="with --cloud: processors of a unit")
    parser.add_argument("--growth", action="store_true", help="with 1, 2, 4, 8 data planes, and nothing else")
    parser.add_argument("--part", type=float, default=0.1, help="with --growth: processors of a data plane")
    parser.add_argument(
        "--rules", type=int, default=10_000, help="with --cloud: of a policy for 8 data planes"
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("network namespaces need root")
    # Or what runs here would stay behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    # Shells have what runs in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(machine(), flush=True)
    found, lines = _measured(options)
    print(f"load average at the end: {' '.join(f'{load:.2f}' for load in os.getloadavg())}\n")
    print(table(found))
    print("".join(f"\n{each}\n" for each in lines if each))
    return 1 if any(figure.met is False for figure in found) else 0


def _measured(options: argparse.Namespace) -> tuple[list[Figure], list[str]]:
    if options.growth:
        return growth.measure(options.part, options.seconds, options.turns), []
    return _by_cloud(options) if options.cloud else _by_hand(options)


def _by_hand(options: argparse.Namespace) -> tuple[list[Figure], list[str]]:
    kinds: tuple[Kind, ...] = ("data-plane", "dispatcher")
    parts = dict(zip(kinds, options.parts, strict=True)) if options.parts else {}
    with _running(options, parts) as (way, appliance):
        rates = [] if options.no_throughput else _through(way, options)
        found, lines = _measure(appliance, options)
        words = ", ".join(f"{kind} {part:g}" for kind, part in parts.items()) or "all that there is"
        return [*found, *rates], [f"processors for packets: {words}", *lines]


@contextlib.contextmanager
def _running(options: argparse.Namespace, parts: Mapping[str, float]) -> Iterator[tuple[Path, ByHand]]:
    """An appliance by hand that forwards, and the path that it is on."""
    with path() as way:
        sizes = (options.data_planes, options.dispatchers, options.managers)
        appliance = ByHand(way, *sizes, seed=options.seed, parts=parts)
        try:
            appliance.settle()
            wait_for(lambda: reaches(way.client, SERVERS[0]), 30, lambda: "the appliance forwards")
            yield way, appliance
        finally:
            appliance.close()


def _by_cloud(options: argparse.Namespace) -> tuple[list[Figure], list[str]]:
    with running(None, "--hosts", "4") as cloud:
        sizes = (options.data_planes, options.dispatchers, options.managers)
        appliance = ByCloud(cloud.state, *sizes, cu=options.cu_size, seed=options.seed)
        try:
            appliance.settle()
            wait_for(lambda: reaches(appliance.inside, SERVERS[0]), 30, lambda: "the appliance forwards")
            rules = policies.measure(appliance, options.rules) if options.rules else []
            found, lines = _measure(appliance, options)
            return [*found, *rules], lines
        finally:
            appliance.close()


def _measure(appliance: Appliance, options: argparse.Namespace) -> tuple[list[Figure], list[str]]:
    asked = (options.connections, options.flows, options.every, options.silent, options.begin)
    with Loads(appliance, *asked) as loads:
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
        results, plain = loads.end(), loads.end_plain()
    established = {
        name: each.near.established + each.near.ended + sum(each.near.broken.values())
        for name, each in results.items()
    }
    established |= {name: each.established for name, each in made.items()}
    found = events.figures(run, established, results, plain, appliance.shares())
    return found, [run.problem, events.broken(results), events.outages(next(iter(results.values())))]


def _through(way: Path, options: argparse.Namespace) -> list[Figure]:
    """What goes through, beside the plain router."""
    found = []
    throughput.serve(way)
    for datagrams, what, bound in ((False, "TCP", 0.9), (True, "small packets", 0.8)):
        ratio = throughput.measure(way, SERVERS[0], options.seconds, options.turns, datagrams=datagrams)
        name = f"throughput, {what}, of plain forwarding"
        rate = f"{ratio.through / 1e3:.3g} k/s" if datagrams else f"{ratio.through / 1e9:.3g} Gbit/s"
        found.append(Figure(name, ratio.turns, "", bound, least=True, note=rate))
    return found


if __name__ == "__main__":
    sys.exit(main())
