"""A large cloud held for minutes under a stream of changes: memory, and whether all was derived right.

python -m bench.soak [--minutes N] [--ports N] [--networks N] [--hosts N]

The hosts beside the lab's own are simulated (bench/hosts.py): they join and follow over the real host
channel, and plug in nothing. At the end the store is copied, compiled from nothing and translated, and
compared with the rows that OVN's northbound database has: not one may differ.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.cloud import Cloud, poll, running
from bench.figures import Figure, cpu_seconds, machine, resident, table

NETWORK = "/network/v2.0"
#: Seconds between two changes, and between two looks at the memory.
PAUSE, LOOK = 0.2, 5.0


@dataclass
class Size:
    """How large it is."""

    ports: int
    networks: int
    hosts: int


@dataclass
class Stream:
    """What came of changes that were asked for one after the other."""

    #: Seconds that each took.
    latencies: list[float] = field(default_factory=list)
    #: What was said where one was not done.
    errors: list[str] = field(default_factory=list)


class Soak:
    """What is there, and what is done to it."""

    def __init__(self, cloud: Cloud, size: Size) -> None:
        self._cloud = cloud
        self._size = size
        self._names = [f"sim{number}" for number in range(1, size.hosts + 1)]
        self._networks: list[str] = []
        self._ports: list[str] = []
        self._group = ""
        self._random = random.Random(1)
        self._places = itertools.cycle(self._names)
        # What was acknowledged: ports with their state, ports deleted, rules; and ports nobody is sure of.
        self._up: dict[str, bool] = {}
        self._gone: set[str] = set()
        self._rules: set[str] = set()
        self._unsure: set[str] = set()

    @property
    def there(self) -> set[str]:
        """The ids of the ports that are certainly there."""
        return self._up.keys() - self._unsure

    async def fill(self) -> None:
        """Networks with ports, all of them bound to simulated hosts; and a security group."""
        group = {"security_group": {"name": "soak"}}
        self._group = (await self._cloud.call("POST", f"{NETWORK}/security-groups", group))["security_group"][
            "id"
        ]
        quota = {"quota": dict.fromkeys(("port", "network", "subnet", "security_group_rule"), -1)}
        await self._cloud.call("PUT", f"{NETWORK}/quotas/{self._cloud.project}", quota)
        each = self._size.ports // self._size.networks
        for number in range(self._size.networks):
            network = await self._cloud.network(f"soak{number}", f"10.{number // 250}.{number % 250}.0/24")
            self._networks.append(network)
            bodies = {"ports": [self._port(network) for _ in range(each)]}
            made = await self._cloud.call("POST", f"{NETWORK}/ports", bodies)
            self._ports += [port["id"] for port in made["ports"]]
            self._up |= {port["id"]: True for port in made["ports"]}
            if number % 50 == 49:
                print(f"  {len(self._ports):,} ports", file=sys.stderr, flush=True)

    def _port(self, network: str) -> dict[str, Any]:
        return {
            "network_id": network,
            "device_owner": "compute:soak",
            "device_id": "soak",
            "binding:host_id": next(self._places),
        }

    async def hold(self, minutes: float) -> tuple[list[float], list[float], int]:
        """Changes one thing after the other: memory (MB), latencies of changes (s), and their number."""
        ending = time.monotonic() + minutes * 60
        memory, latencies, looked = [], [], 0.0
        turn = 0
        while (started := time.monotonic()) < ending:
            await self._change(turn)
            now = time.monotonic()
            latencies.append(now - started)
            if now - looked > LOOK:
                looked = now
                memory.append(resident(self._cloud.control))
            turn += 1
            await asyncio.sleep(max(0.0, PAUSE - (now - started)))
        return memory, latencies, turn

    @asynccontextmanager
    async def stream(self, rate: float) -> AsyncIterator[Stream]:
        """Changes one thing after the other in the block, so many a second; errors do not end it."""
        found = Stream()

        async def run() -> None:
            for turn in itertools.count():
                started = time.monotonic()
                try:
                    await self._change(turn)
                except (AssertionError, OSError, EOFError) as error:
                    found.errors.append(str(error) or repr(error))
                found.latencies.append(time.monotonic() - started)
                await asyncio.sleep(max(0.0, 1 / rate - found.latencies[-1]))

        running = asyncio.create_task(run())
        try:
            yield found
            assert not running.done(), running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def lost(self) -> int:
        """How many acknowledged changes the API does not show."""
        query = "fields=id&fields=admin_state_up"
        ports = (await self._cloud.call("GET", f"{NETWORK}/ports?{query}"))["ports"]
        seen = {port["id"]: port["admin_state_up"] for port in ports}
        wanted = f"security_group_id={self._group}&fields=id"
        rules = await self._cloud.call("GET", f"{NETWORK}/security-group-rules?{wanted}")
        missing = self._rules - {rule["id"] for rule in rules["security_group_rules"]}
        return (
            len(missing)
            + sum(seen.get(id) != self._up[id] for id in self.there)
            + len(self._gone & seen.keys())
        )

    async def _change(self, turn: int) -> None:
        place = self._random.randrange(len(self._ports))
        match turn % 4:
            case 0:
                network = self._random.choice(self._networks)
                body = {"port": self._port(network)}
                made = await self._cloud.call("POST", f"{NETWORK}/ports", body)
                self._ports.append(made["port"]["id"])
                self._up[made["port"]["id"]] = True
            case 1:
                port = self._ports.pop(place)
                self._unsure.add(port)
                await self._cloud.call("DELETE", f"{NETWORK}/ports/{port}")
                self._unsure.remove(port)
                del self._up[port]
                self._gone.add(port)
            case 2:
                port, up = self._ports[place], turn % 8 == 2
                self._unsure.add(port)
                await self._cloud.call("PUT", f"{NETWORK}/ports/{port}", {"port": {"admin_state_up": up}})
                self._unsure.remove(port)
                self._up[port] = up
            case _:
                rule = {
                    "security_group_id": self._group,
                    "direction": "ingress",
                    "protocol": "tcp",
                    "port_range_min": turn % 60000 + 1,
                    "port_range_max": turn % 60000 + 1,
                }
                path = f"{NETWORK}/security-group-rules"
                made = await self._cloud.call("POST", path, {"security_group_rule": rule})
                self._rules.add(made["security_group_rule"]["id"])

    @asynccontextmanager
    async def hosts(self) -> AsyncIterator[None]:
        """The simulated hosts, for as long as the block."""
        tokens = [self._token() for _ in self._names]
        lines = "".join(f"{name} {token['token']}\n" for name, token in zip(self._names, tokens, strict=True))
        with tempfile.TemporaryDirectory(prefix="tlsoak") as folder:
            inside = ("ip", "netns", "exec", f"{self._cloud.facts.prefix}c")
            command = (*inside, sys.executable, "-m", "bench.hosts", tokens[0]["control"], folder)
            child = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                child.stdin.write(lines.encode())
                child.stdin.write_eof()
                assert await child.stdout.readline() == b"joined\n", "the hosts could not join"
                yield
                assert child.returncode is None, "the hosts ended"
            finally:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()

    def _token(self) -> dict[str, str]:
        key = (self._cloud.state.run / "status.key").read_text().strip()
        request = urllib.request.Request(
            f"{self._cloud.url}/join-tokens", method="POST", headers={"X-Trunkline-Key": key}
        )
        with urllib.request.urlopen(request, timeout=10) as reply:
            found: dict[str, str] = json.load(reply)
            return found

    async def settle(self) -> None:
        """Returns when the backend is given nothing more: nobody changes anything now."""
        before = -1

        async def settled() -> bool | None:
            nonlocal before
            former, before = (
                before,
                json.loads(await asyncio.to_thread(self._status))["control"]["applied_revision"],
            )
            return True if former == before else None

        await poll(settled, 3.0, 300.0)

    def _status(self) -> str:
        command = [sys.executable, "-m", "trunkline", "--state", str(self._cloud.state.root), "status"]
        return subprocess.run([*command, "--json"], capture_output=True, text=True, check=False).stdout

    async def differences(self) -> int:
        """How many operations would lead from what OVN has to what follows from the store."""
        from trunkline.api import wiring
        from trunkline.backends.ovn.diff import Memory, compare
        from trunkline.backends.ovn.names import OWNED
        from trunkline.backends.ovn.rows import desired
        from trunkline.compiler.network import logical_network
        from trunkline.compiler.settings import Settings
        from trunkline.control.replica import Replica
        from trunkline.devices.ovsdb import Database
        from trunkline.store import Store

        assert wiring, "it declares all kinds of resources"
        with tempfile.TemporaryDirectory(prefix="tlsoak") as folder:
            copy = Path(folder) / "store.sqlite"
            with (
                contextlib.closing(
                    sqlite3.connect(self._cloud.state.root / "db" / "trunkline.sqlite")
                ) as store,
                contextlib.closing(sqlite3.connect(copy)) as copied,
            ):
                store.backup(copied)
            opened = Store.open(copy)
            try:
                network = logical_network(Replica(opened).refresh(), Settings())
            finally:
                opened.close()
        remotes = self._cloud.state.remotes(self._cloud.facts, "nb")
        north = await Database.connect(remotes, "OVN_Northbound", tables=OWNED)
        try:
            assert len(network.ports) >= len(self._ports), "the copy is not whole"
            return len(compare(desired(network), north.tables, north.schema, Memory()).operations)
        finally:
            await north.close()


async def measure(cloud: Cloud, size: Size, minutes: float) -> Sequence[Figure]:
    """The whole of it."""
    soak = Soak(cloud, size)
    async with soak.hosts():
        started = time.monotonic()
        await soak.fill()
        await soak.settle()
        filled = time.monotonic() - started
        used = cpu_seconds(cloud.control)
        memory, latencies, changes = await soak.hold(minutes)
        spent = (cpu_seconds(cloud.control) - used) / changes * 1e3
        await soak.settle()
        differences = await soak.differences()
    third = len(memory) // 3 or 1
    growth = statistics.median(memory[-third:]) - statistics.median(memory[third : 2 * third] or memory)
    return [
        Figure(f"{size.ports:,} ports in {size.networks} networks on {size.hosts} hosts made", [filled], "s"),
        Figure(f"changes in {minutes:g} minutes", [changes], ""),
        Figure("  each answered", [seconds * 1e3 for seconds in latencies], "ms"),
        Figure("  control's processor time for each, hosts' reports too", [spent], "ms"),
        Figure("control process, resident", memory, "MB", 1000.0),
        Figure("  its growth from the middle third to the last", [growth], "MB", 10.0),
        Figure("rows that differ from those of a new compilation", [differences], "", 0.0),
    ]


def main() -> int:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(prog="bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--ports", type=int, default=20_000)
    parser.add_argument("--networks", type=int, default=500)
    parser.add_argument("--hosts", type=int, default=50)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("clouds need root")
    print(machine(), flush=True)
    with running() as cloud:
        minutes = vars(arguments).pop("minutes")
        figures = asyncio.run(measure(cloud, Size(**vars(arguments)), minutes))
    print(f"load average at the end: {' '.join(f'{load:.2f}' for load in os.getloadavg())}\n")
    print(table(figures))
    return 1 if any(figure.met is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
