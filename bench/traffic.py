"""Traffic that goes on while something else is done: pings between ports on two hosts, twenty a second."""

from __future__ import annotations

import asyncio
import itertools
import re
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bench.cloud import Cloud
from bench.wire import PROBE, configure, first_answer

EVERY = 0.05
API = "/network/v2.0"


@dataclass
class Pings:
    """What became of them; known at the end."""

    sent: int = 0
    lost: int = 0
    #: Seconds between two answers that followed one another, at most.
    longest_gap: float = 0.0


@asynccontextmanager
async def pings(cloud: Cloud) -> AsyncIterator[Pings]:
    """Pings for as long as the block, from a port on h1 to one on h2, which are made for it."""
    network = await cloud.network("traffic", "192.168.77.0/24")
    made = [await _probe(cloud, network, host) for host in ("h1", "h2")]
    try:
        (here, _), (_, address) = made
        await asyncio.to_thread(first_answer, here, address)
        found = Pings()
        with tempfile.TemporaryFile("w+") as said:
            command = ("ip", "netns", "exec", here, "ping", "-n", "-D", "-i", str(EVERY), address)
            child = await asyncio.create_subprocess_exec(*command, stdout=said)
            try:
                yield found
            finally:
                child.send_signal(signal.SIGINT)
                await child.wait()
                said.seek(0)
                _read(said.read(), found)
    finally:
        for port in (await cloud.call("GET", f"{API}/ports?network_id={network}&device_owner={PROBE}"))[
            "ports"
        ]:
            await cloud.call("DELETE", f"{API}/ports/{port['id']}")


async def _probe(cloud: Cloud, network: str, host: str) -> tuple[str, str]:
    """A port on a host: its namespace, in which it is configured, and its address."""
    wanted = {"port": {"network_id": network, "device_owner": PROBE, "binding:host_id": host}}
    port: dict[str, Any] = (await cloud.call("POST", f"{API}/ports", wanted))["port"]
    space = f"{cloud.facts.prefix}{host}-p-{port['id'].replace('-', '')[:8]}"
    address = port["fixed_ips"][0]["ip_address"]
    await asyncio.to_thread(configure, space, f"{address}/24")
    return space, address


def _read(said: str, found: Pings) -> None:
    counted = re.search(r"(\d+) packets transmitted, (\d+) received", said)
    assert counted, said[-500:]
    # The last one may be on its way when it is told to end.
    found.sent, found.lost = int(counted[1]), max(0, int(counted[1]) - int(counted[2]) - 1)
    times = [float(at) for at in re.findall(r"^\[([\d.]+)\].*icmp_seq=", said, re.M)]
    found.longest_gap = max((b - a for a, b in itertools.pairwise(times)), default=float("inf"))
