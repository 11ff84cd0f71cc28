"""What the Network API does in a second: ports created, read and listed, over HTTP, durably.

python -m bench.api [--state DIR]
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bench.cloud import Cloud, alone
from bench.figures import Figure, cpu_seconds
from bench.load import Result

API = "/network/v2.0"
#: Runs of each kind, and requests of one run.
RUNS, COUNT = 5, 300


async def measure(cloud: Cloud) -> Sequence[Figure]:
    """Ports on one network; 1,000 of them are there first."""
    await cloud.lift_limits()
    bench = _Bench(cloud, await cloud.network("bench", "10.64.0.0/12"))
    await bench.fill(1000)
    return [
        *await bench.creating(1, 100.0, "1 client"),
        *await bench.creating(32, 300.0, "32 clients"),
        *await bench.reading(),
        await bench.listing(),
    ]


class _Bench:
    def __init__(self, cloud: Cloud, network: str) -> None:
        self._cloud = cloud
        self._network = network
        self._made: list[str] = []

    def _ports(self, number: int) -> Iterator[tuple[str, str, Any]]:
        for n in range(number):
            yield "POST", f"{API}/ports", {"port": {"network_id": self._network, "name": f"port {n}"}}

    async def fill(self, number: int) -> None:
        """Makes ports, of which nothing is measured."""
        result = await self._cloud.drive(8, self._ports(number), keep=True)
        self._made += [json.loads(body)["port"]["id"] for body in result.bodies]

    async def _runs(
        self, clients: int, requests: Callable[[], Iterator[tuple[str, str, Any]]]
    ) -> tuple[list[Result], Figure]:
        """The results, and the processor time of control for one request."""
        results, used = [], []
        for _ in range(RUNS):
            before = cpu_seconds(self._cloud.control)
            results.append(await self._cloud.drive(clients, requests()))
            used.append((cpu_seconds(self._cloud.control) - before) / COUNT * 1e3)
            assert not results[-1].failures, results[-1].failures[:2]
        return results, Figure("  control's processor time for each", used, "ms")

    async def creating(self, clients: int, rate: float, label: str) -> list[Figure]:
        """Creates of one port each."""
        results, used = await self._runs(clients, lambda: self._ports(COUNT))
        worst = [result.percentile(99) * 1e3 for result in results]
        return [
            Figure(f"port create, {label}", [r.rate for r in results], "/s", rate, least=True),
            Figure("  its 99th percentile", worst, "ms", 100.0),
            used,
        ]

    async def reading(self) -> list[Figure]:
        """Reads of one port each."""

        def reads() -> Iterator[tuple[str, str, Any]]:
            ids = itertools.islice(itertools.cycle(self._made), COUNT)
            return (("GET", f"{API}/ports/{id}", None) for id in ids)

        results, used = await self._runs(1, reads)
        return [Figure("port read, 1 client", [r.rate for r in results], "/s"), used]

    async def listing(self) -> Figure:
        """Lists of 1,000."""
        result = await self._cloud.drive(1, iter([("GET", f"{API}/ports?limit=1000", None)] * 15))
        return Figure("1,000 ports listed", [seconds * 1e3 for seconds in result.latencies], "ms", 50.0)


if __name__ == "__main__":
    alone(measure)
