"""What goes through with 1, 2, 4, 8 data planes, each held to a small part of a processor.

Parts are so small that all of them, the dispatcher and both ends fit on few processors. More is offered than
all together can take: then what arrives is what they can take. To each data plane as much is offered, in as
many flows, however many there are: what a packet costs depends on how soon after another one of its flow it
comes, and on how many others are dropped between them. It depends on how busy the processors are as well, for
idle ones forget how it is done (caches): what is not offered to data planes goes by the plain router. The
dispatcher has as much as there is.
"""

from __future__ import annotations

import os
import socket
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path as File

from bench.appliance.by_hand import ByHand
from bench.appliance.path import PLAIN, SERVERS, Path, path, reaches, wait_for
from bench.figures import Figure
from trunkline.devices import namespace

SIZES = (1, 2, 4, 8)
#: How far from linear it may be.
_BOUND = 0.1
#: Flows, for each data plane.
_PORT, _FLOWS = 9000, 128
#: Of what data planes can take, how much is offered.
_ABOVE = 1.5
#: Offered to find out what one can take: more than can be expected of a whole processor, datagrams a second.
_FIRST = 150_000
#: Until all flows are known, seconds.
_WARM = 1.5


@dataclass(frozen=True)
class Seen:
    """Of a few seconds: datagrams a second, `passed` those that data planes let through, of which the
    dispatcher may lose some; how often a unit was taken for silent since they were sent.
    """

    offered: float
    arrived: float
    passed: float
    alarms: int


def measure(part: float, seconds: float, turns: int) -> list[Figure]:
    """Rows of the table. `part`: of a processor, for each data plane."""
    alone = _of(1, part, round(_FIRST * part), seconds)
    each = round(_ABOVE * alone.arrived)
    found = []
    for turn in range(turns):
        found.append({size: _of(size, part, each, seconds) for size in SIZES})
        print(f"turn {turn}: {found[-1]}", file=sys.stderr, flush=True)
    return figures(found, part)


def figures(turns: Sequence[Mapping[int, Seen]], part: float) -> list[Figure]:
    """The rows: how much goes through, and how far that is from as many times what one alone lets through."""
    found = []
    for size in SIZES:
        seen = [turn[size] for turn in turns]
        offered = statistics.median(one.offered for one in seen) / 1e3
        notes = [
            f"{offered:.3g} k/s offered",
        ]
        passed = statistics.median(one.passed for one in seen) / 1e3
        notes.append(f"{passed:.3g} k/s left data planes")
        if alarms := sum(one.alarms for one in seen):
            notes.append(f"units taken for silent {alarms} times")
        what = f"growth: through {size} data plane{'' if size == 1 else 's'} of {part:g} core"
        found.append(Figure(what, [one.arrived / 1e3 for one in seen], "k/s", note="; ".join(notes)))
    for size in SIZES[1:]:
        ratios = [turn[size].arrived / (size * turn[SIZES[0]].arrived) for turn in turns]
        what = f"growth: {size} data planes, off {size} times one"
        left = statistics.median(turn[size].passed / (size * turn[SIZES[0]].passed) for turn in turns)
        note = f"{statistics.median(ratios):.3f} of {size} times one; {left:.3f} of what left data planes"
        found.append(Figure(what, [abs(ratio - 1) for ratio in ratios], "", _BOUND, note=note))
    return found


def _of(size: int, part: float, each: int, seconds: float) -> Seen:
    """An appliance of so many data planes, so much offered to each."""
    with path() as way:
        appliance = ByHand(way, size, 1, 1, seed=1, parts={"data-plane": part})
        try:
            appliance.settle()
            wait_for(lambda: reaches(way.client, SERVERS[0]), 30, lambda: "the appliance forwards")
            return _through(way, appliance, size, each, seconds)
        finally:
            appliance.close()


def _through(way: Path, appliance: ByHand, size: int, each: int, seconds: float) -> Seen:
    buses = appliance.buses_of("data-plane")

    def counts() -> list[int]:
        return _counts(way, buses)

    alarms = appliance.alarms()
    with _sending(way, SERVERS[0], size, each), _sending(way, PLAIN, SIZES[-1] - size, each):
        time.sleep(_WARM)
        with _first():
            before, began = counts(), time.monotonic()
            time.sleep(seconds)
            after, took = counts(), time.monotonic() - began
        alarms = appliance.alarms() - alarms
    sent, arrived, passed = ((new - old) / took for old, new in zip(before, after, strict=True))
    return Seen(sent, arrived, passed, alarms)


@contextmanager
def _first() -> Iterator[None]:
    """This thread goes before others meanwhile, or what is counted would belong to another span of time."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@contextmanager
def _sending(way: Path, target: str, times: int, each: int) -> Iterator[None]:
    """New flows, for as long as the block, so many times what is for one. Nobody reads what arrives."""
    if not times:
        yield
        return
    # Datagrams are made of bursts before anything is counted.
    way.run(way.client, "ethtool", "-K", "eth0", "tx-udp-segmentation", "off")
    wanted = [target, str(_PORT), str(times * _FLOWS), str(times * each)]
    with namespace.open_socket_in(way.server, target, _PORT, kind=socket.SOCK_DGRAM):
        sender = way.start(way.client, "sender", sys.executable, "-m", "bench.appliance.sender", *wanted)
        try:
            yield
            assert sender.poll() is None, way.log("sender")
        finally:
            sender.kill()
            sender.wait(10)


def _counts(way: Path, planes: Sequence[str]) -> list[int]:
    """Datagrams that left the client, that reached the server, and that left data planes (`planes` are the
    switch's ends of their interfaces); without those of the plain router.
    """
    plain = _packets(way.plain)
    sent = _packets(way.client)["eth0"][1] - plain["inside"][0]
    arrived = _packets(way.server)["eth0"][0] - plain["outside"][1]
    between = _packets(way.switch)
    return [sent, arrived, sum(between[name][0] for name in planes)]


def _packets(netns: str) -> dict[str, tuple[int, int]]:
    return packets(namespace.inside(netns, File("/proc/thread-self/net/dev").read_text))


def packets(table: str) -> dict[str, tuple[int, int]]:
    """Received and sent by each interface (proc_pid_net(5), /proc/pid/net/dev)."""
    lines = (line.partition(":") for line in table.splitlines() if ":" in line)
    return {name.strip(): (int((words := rest.split())[1]), int(words[9])) for name, _, rest in lines}
