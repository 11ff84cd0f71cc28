"""Faults that last, under a stream of changes to many ports: what is lost of traffic and of the changes.

python -m bench.faults northd   northd stands still (or is killed again and again, --kill) for some minutes
python -m bench.faults leaders  OVN's databases are clusters of three, whose leaders change every minute
python -m bench.faults wipe     OVN's northbound database is wiped

Ports are bound to simulated hosts (bench/hosts.py), and pings go between two of the lab's own all the time.
What was acknowledged is asked for at the end, and OVN's rows are compared with those of a new compilation.
The exit status is 1 where something was lost, or took longer than it may.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal

from bench import rebuild
from bench.cloud import Cloud, poll, running
from bench.figures import Figure, machine, table
from bench.soak import Size, Soak
from bench.traffic import pings
from trunkline.devices import process

Options = argparse.Namespace
#: How long the stream goes on before a fault and after it, seconds.
CALM = 3.0
_DATABASES: dict[Literal["nb", "sb"], str] = {"nb": "OVN_Northbound", "sb": "OVN_Southbound"}


async def northd(cloud: Cloud, soak: Soak, options: Options) -> Sequence[Figure]:
    """northd does nothing for some minutes."""
    ending = time.monotonic() + options.minutes * 60
    deaths = 0
    if options.kill:
        while time.monotonic() < ending:
            if (found := process.find(cloud.state.pidfile("northd"))) is not None:
                found.signal(signal.SIGKILL)
                deaths += 1
            await asyncio.sleep(0.05)
    else:
        found = process.find(cloud.state.pidfile("northd"))
        assert found is not None, "northd does not run"
        found.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(options.minutes * 60)
        finally:
            found.signal(signal.SIGCONT)
    done = await _translated(cloud)
    how = f"killed {deaths} times in" if options.kill else "stopped for"
    return [Figure(f"northd {how} {options.minutes:g} minutes: all translated after", [done], "s", 60.0)]


async def leaders(cloud: Cloud, soak: Soak, options: Options) -> Sequence[Figure]:
    """Other members lead, again and again."""
    ending = time.monotonic() + options.minutes * 60
    times = []
    while time.monotonic() < ending:
        due = time.monotonic() + options.every
        for kind in _DATABASES:
            began = time.monotonic()
            await _hand_over(cloud, kind)
            times.append(time.monotonic() - began)
        await asyncio.sleep(max(0.0, min(due, ending) - time.monotonic()))
    done = await _translated(cloud)
    return [
        Figure(f"a leader handed over, every {options.every:g} s", times, "s"),
        Figure("all translated after the last", [done], "s", 60.0),
    ]


async def wipe(cloud: Cloud, soak: Soak, options: Options) -> Sequence[Figure]:
    """OVN's northbound database is emptied."""

    def whole(north: Any) -> bool:
        rows = north.tables["Logical_Switch_Port"]
        # Looked at row by row only when it may be so: nearly as many rows as ports.
        return len(rows) >= 0.99 * len(soak.there) and soak.there <= {row["name"] for row in rows.values()}

    return await rebuild.wipe(cloud, options.ports, whole)


FAULTS: Mapping[str, Callable[[Cloud, Soak, Options], Coroutine[Any, Any, Sequence[Figure]]]] = {
    "northd": northd,
    "leaders": leaders,
    "wipe": wipe,
}


async def _translated(cloud: Cloud, seconds: float = 180.0) -> float:
    """How long until northd has made of the northbound database all that it makes."""
    began = time.monotonic()
    north = await rebuild.follow(cloud)
    try:
        return await rebuild.translated(north, seconds) - began
    finally:
        await north.close()


async def _hand_over(cloud: Cloud, kind: Literal["nb", "sb"]) -> None:
    """Another member leads when it returns."""
    former = await poll(lambda: asyncio.to_thread(_leader, cloud, kind), 0.05, 30.0)
    await asyncio.to_thread(_tell, cloud, former, "cluster/failure-test", "transfer-leadership")

    async def another() -> str | None:
        found = await asyncio.to_thread(_leader, cloud, kind)
        return found if found != former else None

    await poll(another, 0.05, 30.0)


def _leader(cloud: Cloud, kind: Literal["nb", "sb"]) -> str | None:
    """The member that leads, if one does. (A cut off one may believe so too: the last to say it is taken.)"""
    names = cloud.facts.members(kind)
    said = {name: _tell(cloud, name, "cluster/status", _DATABASES[kind]) for name in names}
    return next((name for name in reversed(names) if "Role: leader" in said[name]), None)


def _tell(cloud: Cloud, member: str, *words: str) -> str:
    socket = cloud.state.central / f"{member}.ctl"
    command = ["ovs-appctl", "--timeout=5", "-t", str(socket), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


async def measure(cloud: Cloud, options: Options) -> Sequence[Figure]:
    """One fault."""
    soak = Soak(cloud, Size(options.ports, options.networks, options.hosts))
    async with soak.hosts():
        await soak.fill()
        await soak.settle()
        await _translated(cloud, 600.0)
        async with pings(cloud) as traffic, soak.stream(options.rate) as stream:
            await asyncio.sleep(CALM)
            print("  the fault begins", file=sys.stderr, flush=True)
            of_fault = await FAULTS[options.fault](cloud, soak, options)
            print("  it is over", file=sys.stderr, flush=True)
            await asyncio.sleep(CALM)
        await soak.settle()
        lost, differences = await soak.lost(), await soak.differences()
    for error in stream.errors[:5]:
        print(f"  refused: {error}", file=sys.stderr)
    longest = max(stream.latencies)
    return [
        *of_fault,
        Figure(f"changes, of {options.rate:g} a second", [len(stream.latencies)], ""),
        Figure("  each answered", [seconds * 1e3 for seconds in stream.latencies], "ms"),
        Figure("  the longest that a client waited", [longest], "s", 5.0),
        Figure("  that were not done", [len(stream.errors)], "", 0.0),
        Figure("  acknowledged, and lost", [lost], "", 0.0),
        Figure(f"pings lost, of {traffic.sent:,}", [traffic.lost], "", 0.0),
        Figure("  longest time without an answer", [traffic.longest_gap * 1e3], "ms"),
        Figure("rows that differ from those of a new compilation", [differences], "", 0.0),
    ]


def main() -> int:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(prog="bench.faults", description=__doc__, formatter_class=_AsWritten)
    parser.add_argument("fault", choices=list(FAULTS))
    parser.add_argument(
        "--minutes", type=float, default=5.0, help="how long northd is stopped, leaders change"
    )
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two changes of leaders")
    parser.add_argument("--kill", action="store_true", help="northd is killed whenever it runs, not stopped")
    parser.add_argument("--rate", type=float, default=5.0, help="changes a second")
    parser.add_argument("--ports", type=int, default=10_000)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--hosts", type=int, default=20, help="simulated ones")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("clouds need root")
    print(machine(), flush=True)
    members = "3" if options.fault == "leaders" else "1"
    with running(None, "--databases", members) as cloud:
        figures = asyncio.run(measure(cloud, options))
    print(f"load average at the end: {' '.join(f'{load:.2f}' for load in os.getloadavg())}\n")
    print(table(figures))
    return 1 if any(figure.met is False for figure in figures) else 0


class _AsWritten(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The description in its own lines, and defaults beside the options."""


if __name__ == "__main__":
    sys.exit(main())
