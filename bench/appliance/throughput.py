"""What goes through: TCP, and small datagrams, each beside the plain router of the same path, in turn."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
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
    #: How many measurements ended early, because a connection broke, and were made again.
    failed: int

    @property
    def value(self) -> float:
        return statistics.median(self.turns)


def measure(path: Path, target: str, seconds: float, turns: int, *, datagrams: bool) -> Ratio:
    """`target` is reached through what is measured."""
    through: list[float] = []
    plain: list[float] = []
    failed = 0
    for _ in range(turns):
        for rates, to in ((plain, PLAIN), (through, target)):
            found = None
            while found is None:
                assert failed <= 3 * turns, f"no measurement comes to its end: {path.log('iperf3')}"
                found = _iperf(path, to, seconds, datagrams)
                failed += found is None
            rates.append(found)
    ratios = tuple(a / b for a, b in zip(through, plain, strict=True))
    return Ratio(statistics.median(through), statistics.median(plain), ratios, failed)


def serve(path: Path) -> None:
    """The server's end, which waits for both."""
    # One for each address, or answers to datagrams come from another one.
    for address in (SERVERS[0], PLAIN):
        path.start(path.server, "iperf3", "iperf3", "--server", "--bind", address, "--port", str(_PORT))
    listening = ("ss", "-Hltn", f"sport = :{_PORT}")
    wait_for(lambda: len(path.run(path.server, *listening).splitlines()) == 2, 10, lambda: path.log("iperf3"))


def _iperf(path: Path, target: str, seconds: float, datagrams: bool) -> float | None:
    """The rate; None where it ended early."""
    kind = ("--udp", "--bitrate", "0", "--length", str(SMALL)) if datagrams else ("--parallel", "4")
    client = ("iperf3", "--client", target, "--port", str(_PORT), "--json", "--time", f"{seconds:g}")
    try:
        said = json.loads(path.run(path.client, *client, *kind, seconds=seconds + 20))
    except (AssertionError, subprocess.TimeoutExpired):
        said = {"error": "it did not end well"}
    if "error" in said:
        # The server notices a little later.
        time.sleep(1.0)
        return None
    end = said["end"]
    if not datagrams:
        return float(end["sum_received"]["bits_per_second"])
    # The server tells how many are missing of those that were sent.
    total = end["sum"]
    return float((total["packets"] - total["lost_packets"]) / total["seconds"])
