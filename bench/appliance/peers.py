"""What is to be had without us, on the same path: who breaks what, and for how long nothing comes through.

python -m bench.appliance.peers [plain] [haproxy] [keepalived] [ovn]

Each is built anew, beside a plain router; connections are made through it, and what it is known for is done
to it. Of HAProxy, no datagrams are asked: it is TCP's.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from bench.appliance import throughput
from bench.appliance.haproxy import Haproxy
from bench.appliance.keepalived import Keepalived
from bench.appliance.ovn import Ovn
from bench.appliance.path import Path, path
from bench.appliance.peer import Deed, Peer
from bench.appliance.plain import Plain
from bench.figures import columns, machine
from trunkline.traffic import plans
from trunkline.traffic.pair import Result, Traffic
from trunkline.traffic.plans import FarPlan, NearPlan

PEERS: Mapping[str, type[Peer]] = {
    "plain": Plain,
    "haproxy": Haproxy,
    "keepalived": Keepalived,
    "ovn": Ovn,
}
_HEAD = ["what", "done to it", "connections", "broken", "how", "outage of a flow, ms", "flows", "note"]


@dataclass(frozen=True)
class Outcome:
    """What one deed did to the traffic."""

    deed: Deed
    established: int
    broken: Mapping[str, int]
    #: The longest that a flow (or, where there are none, a new connection) waited for an answer, seconds.
    outage: float
    #: How late the measuring itself was at worst: what is above is not known better.
    own: float
    #: How many had a gap, what became of them.
    flows: str
    note: str = ""

    def row(self, peer: str) -> list[str]:
        """Its cells."""
        how = ", ".join(f"{count} {why}" for why, count in sorted(self.broken.items()))
        note = "; ".join(filter(None, (self.note, f"own {self.own * 1e3:.0f} ms")))
        broken = str(sum(self.broken.values()))
        return [
            *(peer, self.deed.name, str(self.established), broken, how),
            *(f"{self.outage * 1e3:.0f}", self.flows, note),
        ]


def measure(name: str, options: argparse.Namespace) -> tuple[list[list[str]], list[str]]:
    """Rows of what its deeds did, and lines about its throughput."""
    with path() as way:
        peer = PEERS[name](way)
        peer.build()
        said = [] if options.no_throughput else _throughput(name, way, peer, options)
        rows = [_do(way, peer, deed, options).row(name) for deed in peer.deeds()]
        return rows, said


def _throughput(name: str, way: Path, peer: Peer, options: argparse.Namespace) -> list[str]:
    throughput.serve(way)
    said = []
    for datagrams, kind, unit in ((False, "TCP", "Gbit/s"), (True, "small packets", "k/s")):
        if datagrams and not peer.datagrams:
            said.append(f"{name}, {kind}: none")
            continue
        ratio = throughput.measure(way, peer.bulk, options.seconds, options.turns, datagrams=datagrams)
        scale = 1e3 if datagrams else 1e9
        turns = ", ".join(f"{turn:.2f}" for turn in ratio.turns)
        said.append(
            f"{name}, {kind}: {ratio.value:.2f} of plain forwarding ({turns}), "
            f"{ratio.through / scale:.3g} beside {ratio.plain / scale:.3g} {unit}"
            + (f"; {ratio.failed} ended early and were made again" if ratio.failed else "")
        )
    return said


def _do(way: Path, peer: Peer, deed: Deed, options: argparse.Namespace) -> Outcome:
    connections = min(options.connections, peer.most())
    plan = NearPlan(
        targets=peer.targets,
        connections=connections,
        every=options.every,
        flows=32 if peer.datagrams else 0,
        flow_rate=100.0,
        silent=options.silent,
    )
    far = {way.server: FarPlan(listen=peer.listens)}
    with Traffic(near=way.client, plan=plan, far=far) as traffic:
        established = traffic.ready(120 + connections / 500).established
        assert established, f"{peer.__class__.__name__} lets nobody through"
        # Each has sent at least once.
        time.sleep(options.every)
        traffic.mark(deed.name)
        waited = deed.do()
        # A connection that fell silent is known after that; all had a turn meanwhile.
        time.sleep(options.silent + options.every)
        traffic.mark("afterwards")
        result = traffic.end()
    if deed.undo is not None:
        deed.undo()
    fewer = "as many as it may have here" if connections < options.connections else ""
    refused = f"{connections - established} were refused" if established < connections else ""
    note = "; ".join(filter(None, (deed.note, deed.says(), refused, fewer)))
    return _outcome(deed, established, result, waited, options.silent, note)


def _outcome(
    deed: Deed, established: int, result: Result, waited: float | None, silent: float, note: str
) -> Outcome:
    near = [said[0] for each in result.broken.values() if (said := [b for b in each if b.side == "near"])]
    period = result.period(deed.name)
    gaps = [gap for gap in result.gaps if gap.mark == deed.name]
    # All that is long enough for a connection to count as broken, and goes on at the end.
    ended = result.near.periods[-1].began
    gone = [gap for gap in gaps if gap.began + gap.seconds > ended and gap.seconds > silent]
    counts = {
        "waited": len({gap.flow for gap in gaps}),
        "did not come back": len({gap.flow for gap in gone}),
        "translated anew": len({move.flow for move in result.moved}),
    }
    flows = [f"{count} {what}" for what, count in counts.items() if count]
    return Outcome(
        deed=deed,
        established=established,
        broken=Counter(each.why for each in near),
        outage=period.longest_gap if waited is None else waited,
        own=period.own.longest,
        flows=", ".join(flows),
        note=note,
    )


def main() -> int:
    """Measures, and prints."""
    parser = argparse.ArgumentParser(
        prog="bench.appliance.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(PEERS)}; default all")
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two words of a connection")
    parser.add_argument("--silent", type=float, default=10.0, help="seconds after which one is broken")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement of throughput")
    parser.add_argument("--turns", type=int, default=3, help="measurements of throughput, each beside plain")
    parser.add_argument("--no-throughput", action="store_true")
    options = parser.parse_args()
    unknown = [name for name in options.peers if name not in PEERS]
    if unknown:
        parser.error(f"there is no peer {unknown[0]}")
    if os.geteuid() != 0:
        parser.error("network namespaces need root")
    if options.connections > plans.most():
        print(f"one process may have {plans.most()} connections here: several share them", file=sys.stderr)
    print(machine(), flush=True)
    rows: list[list[str]] = []
    lines: list[str] = []
    status = 0
    for name in options.peers or list(PEERS):
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        try:
            found, said = measure(name, options)
        except AssertionError as error:
            # The others are measured all the same.
            found, said = [], [f"{name} could not be measured: {error}"]
            status = 1
        rows += found
        lines += said
    print(f"load average at the end: {' '.join(f'{load:.2f}' for load in os.getloadavg())}\n")
    print(columns(_HEAD, rows))
    print("\n" + "\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main())
