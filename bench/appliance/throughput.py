"""What goes through: TCP, and small datagrams, each beside the plain router of the same path, in turn."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass

from bench.appliance.path import PLAIN, SERVERS, Path, wait_for

_PORT = 5201
#: Payload of small datagrams, bytes.
SMALL = 64


@dataclass(frozen=True)
class Ratio:
    """Beside the plain router: medians, and of each turn the ratio."""

    #: Bit/s, or datagrams a second that arrived.
    through: float
    plain: float
    turns: tuple[float, ...]

    @property
    def value(self) -> float:
        return statistics.median(self.turns)


def measure(path: Path, target: str, seconds: float, turns: int, *, datagrams: bool) -> Ratio:
    """`target` is reached through what is measured."""
    through, plain = [], []
    for _ in range(turns):
        plain.append(_iperf(path, PLAIN, seconds, datagrams))
        through.append(_iperf(path, target, seconds, datagrams))
    ratios = tuple(a / b for a, b in zip(through, plain, strict=True))
    return Ratio(statistics.median(through), statistics.median(plain), ratios)


def serve(path: Path) -> None:
    """The server's end, which waits for both."""
    # One for each address, or answers to datagrams come from another one.
    for address in (SERVERS[0], PLAIN):
        path.start(path.server, "iperf3", "iperf3", "--server", "--bind", address, "--port", str(_PORT))
    listening = ("ss", "-Hltn", f"sport = :{_PORT}")
    wait_for(lambda: len(path.run(path.server, *listening).splitlines()) == 2, 10, lambda: path.log("iperf3"))


def _iperf(path: Path, target: str, seconds: float, datagrams: bool) -> float:
    kind = ("--udp", "--bitrate", "0", "--length", str(SMALL)) if datagrams else ("--parallel", "4")
    client = ("iperf3", "--client", target, "--port", str(_PORT), "--json", "--time", f"{seconds:g}")
    end = json.loads(path.run(path.client, *client, *kind, seconds=seconds + 30))["end"]
    if not datagrams:
        return float(end["sum_received"]["bits_per_second"])
    # The server tells how many are missing of those that were sent.
    total = end["sum"]
    return float((total["packets"] - total["lost_packets"]) / total["seconds"])
