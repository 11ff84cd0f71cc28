"""What does not grow with the cloud: one change with 10,000 ports there costs what it costs with 100.

python -m bench.scale [--state DIR]

Ports are on networks of 100, all of one project and in its default security group.

The processor time is all that the control process spends on one change that nothing else is done with: the
request, the commit, what follows from it, OVN's transaction, and taking in what OVN says of it. Changes are
made, far enough apart for that, and what as much time at rest has cost just before is taken off. Both last
for some whole rounds of the hosts' reports, so that neither has more of them. Changes come in two paces: to
processors that do this work now and then, and to some that have done other things for more than a second.

The time to the southbound database is from the request, or from the start of ``ovn-nbctl`` that adds the same
port by hand, to the row in a replica of OVN's southbound database, both in turns.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bench.cloud import Cloud, alone, poll
from bench.figures import Figure, cpu_seconds, resident
from trunkline.devices.ovsdb import Database, Row

API = "/network/v2.0"
FEW, MANY, EACH = 100, 10_000, 100
RUNS, REST = 5, 2.0
#: What Neutron's processes had with 5,000 ports on this kind of machine, MB; ours must have a fifth at most.
PEER = 1590.0
Change = Callable[[int], Coroutine[Any, Any, object]]


@dataclass(frozen=True)
class Pace:
    """How changes come. Hosts report every 2 seconds."""

    what: str
    #: How often changes are compared with rest, how many there are each time, and seconds between them.
    turns: int
    changes: int
    apart: float


PACES = (Pace("five a second", 2, 30, 0.2), Pace("after 1.5 s of rest", 2, 4, 1.5))


async def measure(cloud: Cloud) -> Sequence[Figure]:
    """With few ports first, then with many."""
    async with _southbound(cloud) as seen:
        bench = _Scale(cloud, seen)
        await bench.begin()
        await bench.fill(FEW)
        few = await bench.changes()
        await bench.fill(MANY)
        listed = await bench.listing()
        many = await bench.changes()
        figures = [figure for what in few for figure in bench.compared(what, few[what], many[what])]
        memory = Figure(f"control process, {MANY:,} ports", [resident(cloud.control)], "MB", PEER / 5)
        return [*figures, memory, listed, *await bench.southbound()]


class _Scale:
    def __init__(self, cloud: Cloud, seen: dict[str, float]) -> None:
        self._cloud = cloud
        self._seen = seen
        self._networks: list[str] = []
        self._ports: list[str] = []
        self._made = 0

    async def begin(self) -> None:
        """What the changes are of: a group, an address outside, and a port that it leads to."""
        limits = dict.fromkeys(("port", "network", "subnet", "security_group_rule", "router"), -1)
        await self._cloud.call("PUT", f"{API}/quotas/{self._cloud.project}", {"quota": limits})
        (public,) = (await self._cloud.call("GET", f"{API}/networks?router:external=True"))["networks"]
        self._inner = await self._cloud.network("scale", "10.200.0.0/16")
        (subnet,) = (await self._cloud.call("GET", f"{API}/subnets?network_id={self._inner}"))["subnets"]
        self._subnet = subnet["id"]
        router = await self._post("router", external_gateway_info={"network_id": public["id"]})
        where = f"{API}/routers/{router}/add_router_interface"
        await self._cloud.call("PUT", where, {"subnet_id": self._subnet})
        self._port = await self._post("port", network_id=self._inner)
        self._floating = await self._post("floatingip", floating_network_id=public["id"])
        self._group = await self._post("security-group", name="scale")

    async def _post(self, path: str, **fields: Any) -> str:
        kind = path.replace("-", "_")
        return str((await self._cloud.call("POST", f"{API}/{path}s", {kind: fields}))[kind]["id"])

    async def fill(self, ports: int) -> None:
        """Makes ports until there are so many, and waits until OVN has them."""
        while len(self._ports) < ports:
            number = len(self._networks)
            network = await self._cloud.network(f"scale{number}", f"10.{number >> 8}.{number & 255}.0/24")
            self._networks.append(network)
            bodies = {"ports": [{"network_id": network}] * EACH}
            made = await self._cloud.call("POST", f"{API}/ports", bodies)
            self._ports += [port["id"] for port in made["ports"]]

        async def there() -> bool | None:
            return True if all(port in self._seen for port in self._ports) else None

        await poll(there, 1.0, 600.0)
        await asyncio.sleep(4 * REST)

    async def changes(self) -> dict[str, list[float]]:
        """Milliseconds of processor time by kind of change."""
        kinds: dict[str, Change] = {
            "port create": lambda run: self._post("port", network_id=self._networks[0]),
            "rule create": self._rule,
            "floating IP associated": self._associate,
            "subnet update": self._update,
        }
        return {
            f"{what}, {pace.what}": [
                await self._spent(pace, change, turn * pace.changes) for turn in range(pace.turns)
            ]
            for pace in PACES
            for what, change in kinds.items()
        }

    async def _rule(self, run: int) -> None:
        self._made += 1
        match = {"protocol": "tcp", "port_range_min": self._made, "port_range_max": self._made}
        await self._post("security-group-rule", security_group_id=self._group, direction="ingress", **match)

    async def _associate(self, run: int) -> None:
        body = {"floatingip": {"port_id": None if run % 2 else self._port}}
        await self._cloud.call("PUT", f"{API}/floatingips/{self._floating}", body)

    async def _update(self, run: int) -> None:
        self._made += 1
        body = {"subnet": {"dns_nameservers": [f"9.9.{self._made >> 8}.{self._made & 255}"]}}
        await self._cloud.call("PUT", f"{API}/subnets/{self._subnet}", body)

    async def _spent(self, pace: Pace, change: Change, run: int) -> float:
        """Milliseconds for each of some changes."""
        control = self._cloud.control
        first = cpu_seconds(control)
        await asyncio.sleep(pace.changes * pace.apart)
        second = cpu_seconds(control)
        started = time.monotonic()
        for number in range(pace.changes):
            await change(run + number)
            await asyncio.sleep(max(0.0, started + (number + 1) * pace.apart - time.monotonic()))
        return max((cpu_seconds(control) - second) - (second - first), 0.0) * 1e3 / pace.changes

    @staticmethod
    def compared(what: str, few: Sequence[float], many: Sequence[float]) -> list[Figure]:
        """The figures of one kind of change."""
        ratio = statistics.median(many) / max(statistics.median(few), 0.1)
        return [
            Figure(f"{what}, control's processor time, {FEW} ports there", few, "ms", 5.0),
            Figure(f"  {MANY:,} ports there", many, "ms", 5.0),
            Figure("  the one over the other", [ratio], "x", 2.0),
        ]

    async def listing(self) -> Figure:
        """A list of all."""
        result = await self._cloud.drive(1, iter([("GET", f"{API}/ports", None)] * 5))
        assert not result.failures, result.failures[:1]
        return Figure(f"{MANY:,} ports listed", [each * 1e3 for each in result.latencies], "ms", 500.0)

    async def southbound(self) -> list[Figure]:
        """Seconds from a port asked for to its row, by the API and by hand."""
        by_api, by_hand = [], []
        for run in range(RUNS + 1):
            await asyncio.sleep(REST)
            started = time.monotonic()
            port = await self._post("port", network_id=self._networks[1])
            api = await self._row(port) - started
            await asyncio.sleep(REST)
            hand = await self._by_hand(f"hand{run}", run)
            if run:  # the first of each warms up
                by_api.append(api * 1e3)
                by_hand.append(hand * 1e3)
        ratio = statistics.median(by_api) / statistics.median(by_hand)
        return [
            Figure(f"port create to its southbound row, {MANY:,} ports there", by_api, "ms"),
            Figure("  by hand, with ovn-nbctl", by_hand, "ms"),
            Figure("  the one over the other", [ratio], "x", 1.3),
        ]

    async def _by_hand(self, name: str, run: int) -> float:
        pair = f"fa:16:3e:ff:00:{run:02x} 10.0.1.{240 + run}"
        command = f"lsp-add ls-{self._networks[1]} {name} -- lsp-set-addresses {name}".split()
        command += [pair, "--", "lsp-set-port-security", name, pair]
        database = f"--db=unix:{self._cloud.state.central / 'nb.sock'}"
        started = time.monotonic()
        child = await asyncio.create_subprocess_exec("ovn-nbctl", database, *command)
        assert await child.wait() == 0, "ovn-nbctl failed"
        return await self._row(name) - started

    async def _row(self, port: str) -> float:
        """When the row of a port was seen."""

        async def there() -> float | None:
            return self._seen.get(port)

        return await poll(there, 0.002, 300.0)


@asynccontextmanager
async def _southbound(cloud: Cloud) -> AsyncIterator[dict[str, float]]:
    """The names of the ports in OVN's southbound database, each with when it was seen (monotonic seconds)."""
    seen: dict[str, float] = {}

    def changed(table: str, uuid: str, old: Row | None, new: Row | None) -> None:
        if new is not None:
            seen.setdefault(new["logical_port"], time.monotonic())

    database = await Database.connect(
        [f"unix:{cloud.state.central / 'sb.sock'}"],
        "OVN_Southbound",
        tables={"Port_Binding": ("logical_port",)},
        listener=changed,
        probe=60.0,
    )
    try:
        yield seen
    finally:
        await database.close()


if __name__ == "__main__":
    alone(measure)
