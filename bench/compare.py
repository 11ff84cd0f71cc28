"""The Network API beside the original's, in one run: ``make bench-peer``.

python -m bench.compare PEER [--json FILE]

PEER is the folder that ``scripts/install-peer`` filled. Both clouds are fresh and run at the same time;
each is measured while the other one rests, operation by operation, by the same driver. The original is
Neutron with OVN, MariaDB and Keystone (bench/peer). Its lists are of ports that are cloned in its database,
for it would take an hour to make 10,000.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import cloud
from bench.figures import columns, machine
from bench.load import Connection, Result, drive
from bench.peer import daemons
from bench.peer.clones import clone_ports
from bench.peer.daemons import Peer, proportional
from trunkline.devices import process

Request = tuple[str, str, Any]
#: How many requests for each number of clients; the faster one is asked so many times more.
COUNTS = {1: 24, 8: 48, 32: 96}
FASTER = 10
MANY = 10_000


@dataclass
class Side:
    """One of the two, and what was made there."""

    name: str
    url: str
    prefix: str
    headers: dict[str, str]
    #: How many times more it is asked.
    times: int
    numbers: Iterator[int] = field(default_factory=itertools.count)
    made: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request, and its decoded answer.

        Raises:
            AssertionError: it was refused.
        """
        connection = Connection(self.url, self.headers)
        await connection.open()
        status, content = await connection.request(method, f"{self.prefix}/v2.0{path}", body)
        connection.close()
        assert status < 300, (self.name, method, path, status, content[:300])
        return json.loads(content) if content else None

    async def make(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Creates one object."""
        made: dict[str, Any] = (await self.call("POST", _path(kind), {kind: fields}))[kind]
        return made

    async def run(self, clients: int, requests: Sequence[Request], kind: str = "") -> Result:
        """Sends all of them; the objects of answers are kept under their kind."""
        requests = [(method, f"{self.prefix}/v2.0{path}", body) for method, path, body in requests]
        result = await drive(self.url, self.headers, clients, iter(requests), keep=bool(kind))
        assert not result.failures, (self.name, requests[0], result.failures[:2])
        if kind:
            self.made.setdefault(kind, []).extend(json.loads(body)[kind] for body in result.bodies)
        return result


@dataclass
class Row:
    """One operation on both."""

    what: str
    clients: int
    ours: float
    peers: float
    unit: str
    #: How many times better we are to be.
    wanted: float
    #: What ours is to be by itself, where that is said too: at least, or at most for times.
    bound: float | None = None
    #: Whether less is better.
    less: bool = False
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times better ours is."""
        return self.peers / self.ours if self.less else self.ours / self.peers

    @property
    def met(self) -> bool:
        """Whether that is enough."""
        alone = self.bound is None or (self.ours <= self.bound if self.less else self.ours >= self.bound)
        return alone and self.ratio >= self.wanted

    def cells(self) -> list[str]:
        """Its line."""
        bound = "" if self.bound is None else f", {'<=' if self.less else '>='} {self.bound:g} {self.unit}"
        figures = [f"{value:.4g} {self.unit}" for value in (self.ours, self.peers)]
        reach = f"{self.wanted:g}x{bound}"
        verdict = "yes" if self.met else "NO"
        return [self.what, str(self.clients), *figures, f"{self.ratio:.1f}x", reach, verdict, self.note]


_HEAD = ["what", "clients", "trunkline", "neutron", "ratio", "to be reached", "met", ""]


class Comparison:
    """Measures operation by operation; each leaves what the next ones need."""

    def __init__(self, ours: Side, peer: Side) -> None:
        self.sides = (ours, peer)
        self.rows: list[Row] = []

    async def _rates(
        self,
        what: str,
        clients: int,
        wanted: float,
        requests: Callable[[Side, int], Sequence[Request]],
        kind: str = "",
        *,
        bound: float | None = None,
        count: int = 0,
        each: int = 1,
    ) -> None:
        """Requests a second of both; `each` is how many things one request makes."""
        rates, tails = [], []
        for side in self.sides:
            number = (count or COUNTS[clients]) * side.times
            result = await side.run(clients, requests(side, number), kind)
            rates.append(result.rate * each)
            tails.append(result.percentile(99) * 1e3)
        note = f"99th percentile {tails[0]:.1f} ms, {tails[1]:.0f} ms"
        self._add(Row(what, clients, *rates, "/s", wanted, bound, note=note))

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        print(f"  {row.what}, {row.clients}: {row.ours:.4g} {row.unit}, {row.peers:.4g} {row.unit}",
              file=sys.stderr, flush=True)  # fmt: skip

    async def networks(self) -> None:
        """Networks, and a subnet on each."""
        for clients in (1, 8):
            await self._rates("network create", clients, 20, _creates("network"), "network")
        for clients in (1, 8):
            await self._rates("subnet create", clients, 20, _subnets, "subnet")

    async def ports(self) -> None:
        """Ports on one network, one and a hundred at once."""
        for side in self.sides:
            network = await side.make("network", name="ports")
            await side.make("subnet", network_id=network["id"], ip_version=4, cidr="10.64.0.0/12")
            side.made["big"] = [network]
        for clients, bound in ((1, None), (8, None), (32, 400.0)):
            await self._rates("port create", clients, 50, _ports, "port", bound=bound)
        await self._rates("ports, 100 at once", 1, 50, _hundreds, count=1, each=100, bound=2000.0)
        for clients in (1, 8, 32):
            await self._rates("port read", clients, 20, _reads)

    async def rules(self) -> None:
        """Rules of one group."""
        for side in self.sides:
            side.made["group"] = [await side.make("security_group", name="rules")]
        for clients in (1, 8):
            await self._rates("security group rule create", clients, 20, _rules)

    async def routers(self) -> None:
        """Routers, interfaces, floating IPs and what they stand for."""
        for clients in (1, 8):
            await self._rates("router create", clients, 20, _creates("router"), "router", count=12)
            await self._rates("router interface added", clients, 20, _interfaces, count=12)
        for side in self.sides:
            outside, inside = await _outside(side)
            side.made["outside"], side.made["inside"] = [outside], [inside]
            ports = {"ports": [{"network_id": inside["id"]} for _ in range(24 * side.times)]}
            side.made["behind"] = (await side.call("POST", "/ports", ports))["ports"]
        for clients in (1, 8):
            await self._rates("floating IP create", clients, 20, _floating, "floatingip", count=12)
            await self._rates("floating IP associated", clients, 20, _associations, count=12)

    async def lists(self, fill: Callable[[int], Any]) -> None:
        """Lists of 1,000 and of 10,000 ports."""
        network = self.sides[0].made["big"][0]["id"]
        for number, bound in ((1_000, None), (MANY, 500.0)):
            await _fill(self.sides[0], network, number)
            await asyncio.to_thread(fill, number)
            medians = []
            for side in self.sides:
                where = f"/ports?network_id={side.made['big'][0]['id']}&limit={number}"
                result = await side.run(1, [("GET", where, None)] * (3 if side.times == 1 else 9))
                medians.append(result.percentile(50) * 1e3)
            self._add(Row(f"{number:,} ports listed", 1, *medians, "ms", 20, bound, less=True))

    def memory(self, ours: float, peers: float) -> None:
        """What the control planes hold now."""
        note = "without OVN and Open vSwitch, which both have"
        self._add(Row(f"memory with {MANY:,} ports", 0, ours, peers, "MB", 5, less=True, note=note))


def _path(kind: str) -> str:
    return f"/{kind.replace('_', '-')}s"


def _creates(kind: str) -> Callable[[Side, int], Sequence[Request]]:
    def make(side: Side, count: int) -> Sequence[Request]:
        return [("POST", _path(kind), {kind: {"name": f"{kind}{next(side.numbers)}"}}) for _ in range(count)]

    return make


def _subnets(side: Side, count: int) -> Sequence[Request]:
    networks = [side.made["network"].pop() for _ in range(count)]
    bodies = [{"network_id": n["id"], "ip_version": 4, "cidr": _range(side)} for n in networks]
    return [("POST", "/subnets", {"subnet": body}) for body in bodies]


def _range(side: Side) -> str:
    number = next(side.numbers)
    return f"10.{number // 256 % 64}.{number % 256}.0/24"


def _port(side: Side) -> dict[str, Any]:
    return {"network_id": side.made["big"][0]["id"], "name": f"port{next(side.numbers)}"}


def _ports(side: Side, count: int) -> Sequence[Request]:
    return [("POST", "/ports", {"port": _port(side)}) for _ in range(count)]


def _hundreds(side: Side, count: int) -> Sequence[Request]:
    return [("POST", "/ports", {"ports": [_port(side) for _ in range(100)]}) for _ in range(count)]


def _reads(side: Side, count: int) -> Sequence[Request]:
    ids = itertools.cycle([port["id"] for port in side.made["port"]])
    return [("GET", f"/ports/{id}", None) for id in itertools.islice(ids, count)]


def _rules(side: Side, count: int) -> Sequence[Request]:
    rule = {
        "security_group_id": side.made["group"][0]["id"],
        "direction": "ingress",
        "ethertype": "IPv4",
        "protocol": "tcp",
    }
    ports = [next(side.numbers) + 1 for _ in range(count)]
    bodies = [{**rule, "port_range_min": port, "port_range_max": port} for port in ports]
    return [("POST", "/security-group-rules", {"security_group_rule": body}) for body in bodies]


def _interfaces(side: Side, count: int) -> Sequence[Request]:
    routers, subnets = side.made["router"], side.made["subnet"]
    pairs = [(routers.pop(), subnets.pop()) for _ in range(count)]
    return [
        ("PUT", f"/routers/{router['id']}/add_router_interface", {"subnet_id": subnet["id"]})
        for router, subnet in pairs
    ]


async def _outside(side: Side) -> tuple[dict[str, Any], dict[str, Any]]:
    """An external network, and one behind a router on it."""
    if side.times > 1:
        outside = (await side.call("GET", "/networks?router:external=true"))["networks"][0]
        wide = {"network_id": outside["id"], "ip_version": 4, "cidr": "172.24.0.0/16", "enable_dhcp": False}
    else:
        physical = {"provider:network_type": "flat", "provider:physical_network": "physnet1"}
        outside = await side.make("network", name="outside", **{"router:external": True}, **physical)
        wide = {"network_id": outside["id"], "ip_version": 4, "cidr": "172.24.0.0/16", "enable_dhcp": False}
    subnet = await side.make("subnet", **wide)
    side.made["outside subnet"] = [subnet]
    inside = await side.make("network", name="inside")
    within = await side.make("subnet", network_id=inside["id"], ip_version=4, cidr="10.130.0.0/16")
    gateway = {"network_id": outside["id"], "external_fixed_ips": [{"subnet_id": subnet["id"]}]}
    router = await side.make("router", name="edge", external_gateway_info=gateway)
    await side.call("PUT", f"/routers/{router['id']}/add_router_interface", {"subnet_id": within["id"]})
    return outside, inside


def _floating(side: Side, count: int) -> Sequence[Request]:
    network, subnet = side.made["outside"][0]["id"], side.made["outside subnet"][0]["id"]
    body = {"floating_network_id": network, "subnet_id": subnet}
    return [("POST", "/floatingips", {"floatingip": body})] * count


def _associations(side: Side, count: int) -> Sequence[Request]:
    pairs = [(side.made["floatingip"].pop(), side.made["behind"].pop()) for _ in range(count)]
    return [
        ("PUT", f"/floatingips/{floating['id']}", {"floatingip": {"port_id": port["id"]}})
        for floating, port in pairs
    ]


async def _fill(side: Side, network: str, number: int) -> None:
    there = len((await side.call("GET", f"/ports?fields=id&network_id={network}"))["ports"])
    while there < number:
        some = min(500, number - there)
        body = {"ports": [{"network_id": network} for _ in range(some)]}
        await side.call("POST", "/ports", body)
        there += some


async def _compare(ours: cloud.Cloud, peer: Peer) -> list[Row]:
    sides = (
        Side("trunkline", ours.url, "/network", ours.headers, FASTER),
        Side("neutron", peer.url, "", peer.headers, 1),
    )
    kinds = ("network", "subnet", "port", "router", "floatingip", "security_group", "security_group_rule")
    await sides[0].call("PUT", f"/quotas/{ours.project}", {"quota": dict.fromkeys(kinds, -1)})
    comparison = Comparison(*sides)
    await comparison.networks()
    await comparison.ports()
    await comparison.rules()
    await comparison.routers()
    template = sides[1].made["port"][0]
    await comparison.lists(lambda number: clone_ports(peer, template, number))
    names = ("control", "keeper")
    found = [process.find(ours.state.pidfile(name)) for name in names]
    comparison.memory(sum(proportional(one.pid) for one in found if one is not None), peer.memory())
    return comparison.rows


def main() -> int:
    """Measures, and prints one table."""
    parser = argparse.ArgumentParser(prog="bench.compare", description=__doc__)
    parser.add_argument("peer", type=Path, help="the folder that scripts/install-peer filled")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("clouds need root")
    print(machine(), flush=True)
    print("starting both ...", file=sys.stderr, flush=True)
    with cloud.running() as ours, daemons.running(arguments.peer.resolve()) as peer:
        rows = asyncio.run(_compare(ours, peer))
    print(f"load average at the end: {' '.join(f'{load:.2f}' for load in os.getloadavg())}\n")
    print(columns(_HEAD, [row.cells() for row in rows]))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
