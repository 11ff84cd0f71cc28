"""From a port that does not exist to a ping over it: by the API, and by hand.

python -m bench.wire [--state DIR]

By the API: one request creates a port that is bound to host h2, of the kind that its agent attaches as a
network namespace. By hand, on the same host of the same cloud: a shell script runs ``ovn-nbctl`` (a port
on a switch, with its addresses and port security), makes the same namespace with the same interfaces, and
plugs it in with ``ovs-vsctl``. Either way the interface is then given its address here, and sends a ping
every 5 ms to a port on host h1 that was there before. The clock runs from the request, or from the start
of the script, to the first answer.

Both in turns, ten times. What the API does beyond what is done by hand is in its time: authorising,
storing durably, security groups, the guard bridge before the port. Neighbours are asked for every 20 ms
instead of every second on both sides, for otherwise the kernel's second is what is measured.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.cloud import Cloud, alone
from bench.figures import Figure
from trunkline.devices import namespace

RUNS = 10
PROBE = "trunkline:probe"
_SCRIPT = """
set -e
ovn-nbctl --timeout=10 lsp-add {switch} {port} -- lsp-set-addresses {port} '{mac} {address}' \\
    -- lsp-set-port-security {port} '{mac} {address}'
ip netns add {space}
ip -n {host} link add {outer} mtu 1442 type veth peer name eth0 netns {space} address {mac} mtu 1442
ip -n {host} link set {outer} up
ip -n {space} link set eth0 up
ip netns exec {space} ethtool -K eth0 tx off >{null}
ovs-vsctl --timeout=10 add-port br-int {outer} -- set Interface {outer} external_ids:iface-id={port}
"""


async def measure(cloud: Cloud) -> Sequence[Figure]:
    """Times of both ways, and their ratio."""
    network = await cloud.network("wire", "10.8.0.0/16")
    hand = _Hand(cloud)
    api = _Api(cloud, network)
    by_api, by_hand = [], []
    try:
        hand.begin()
        await api.begin()
        for run in range(RUNS + 1):
            times = await api.once(run), hand.once(run)
            if run:  # the first of each warms up
                by_api.append(times[0])
                by_hand.append(times[1])
    finally:
        hand.end()
        await api.end()
    ratio = statistics.median(by_api) / statistics.median(by_hand)
    return [
        Figure("port create to first ping, by the API", [t * 1e3 for t in by_api], "ms"),
        Figure("  by hand, with ovn-nbctl", [t * 1e3 for t in by_hand], "ms"),
        Figure("  the one over the other", [ratio], "x", 1.5),
    ]


class _Api:
    """Ports by the API: one on h1 that answers, one after the other on h2 that ask."""

    def __init__(self, cloud: Cloud, network: str) -> None:
        self._cloud = cloud
        self._network = network
        self._made: list[str] = []
        self._target = ""

    async def begin(self) -> None:
        """Makes the port that answers."""
        id, address = await self._create("h1")
        await asyncio.to_thread(configure, self._space(id, "h1"), f"{address}/16")
        self._target = address

    async def once(self, run: int) -> float:
        """Seconds to the first answer."""
        started = time.monotonic()
        id, address = await self._create("h2")
        answered = await asyncio.to_thread(self._ask, self._space(id, "h2"), address)
        await self._cloud.call("DELETE", f"/network/v2.0/ports/{id}")
        self._made.remove(id)
        return answered - started

    def _ask(self, space: str, address: str) -> float:
        configure(space, f"{address}/16")
        return first_answer(space, self._target)

    async def end(self) -> None:
        """Takes the ports and the network away."""
        for id in self._made:
            await self._cloud.call("DELETE", f"/network/v2.0/ports/{id}")
        await self._cloud.call("DELETE", f"/network/v2.0/networks/{self._network}")

    async def _create(self, host: str) -> tuple[str, str]:
        """The id and the address of a new port."""
        port = {"network_id": self._network, "device_owner": PROBE, "binding:host_id": host}
        made = (await self._cloud.call("POST", "/network/v2.0/ports", {"port": port}))["port"]
        self._made.append(made["id"])
        return made["id"], made["fixed_ips"][0]["ip_address"]

    def _space(self, id: str, host: str) -> str:
        return f"{self._cloud.facts.prefix}{host}-p-{id.replace('-', '')[:8]}"


class _Hand:
    """Ports by hand, on a switch that the cloud does not know."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._switch = "bench-by-hand"
        self._ports: list[tuple[str, int]] = []

    def begin(self) -> None:
        """Makes the switch, and the port that answers."""
        self._north("--may-exist", "ls-add", self._switch)
        self._create("h1", 1)
        configure(self._name("h1", 1), "10.9.0.1/16")

    def once(self, run: int) -> float:
        """Seconds to the first answer."""
        started = time.monotonic()
        self._create("h2", run + 2)
        configure(self._name("h2", run + 2), f"10.9.0.{run + 2}/16")
        answered = first_answer(self._name("h2", run + 2), "10.9.0.1")
        self._delete("h2", run + 2)
        return answered - started

    def end(self) -> None:
        """Takes everything away."""
        for host, number in list(self._ports):
            self._delete(host, number)
        self._north("--if-exists", "ls-del", self._switch)

    def _create(self, host: str, number: int) -> None:
        self._ports.append((host, number))
        script = _SCRIPT.format(
            switch=self._switch,
            port=f"hand{number}",
            mac=f"0a:00:00:00:00:{number:02x}",
            address=f"10.9.0.{number}",
            space=self._name(host, number),
            host=f"{self._cloud.facts.prefix}{host}",
            outer=f"hand{number}",
            null=os.devnull,
        )
        subprocess.run(["sh", "-c", script], env=self._environment(host), check=True, timeout=60)

    def _delete(self, host: str, number: int) -> None:
        self._ports.remove((host, number))
        command = ["ovs-vsctl", "--timeout=10", "--if-exists", "del-port", "br-int", f"hand{number}"]
        subprocess.run(command, env=self._environment(host), check=True, timeout=60)
        self._north("--if-exists", "lsp-del", f"hand{number}")
        namespace.delete(self._name(host, number))

    def _north(self, *command: str) -> None:
        environment = self._environment("h1")
        subprocess.run(["ovn-nbctl", "--timeout=10", *command], env=environment, check=True, timeout=60)

    def _environment(self, host: str) -> dict[str, str]:
        """Where the tools find the databases."""
        state = self._cloud.state
        return {
            **os.environ,
            "OVN_NB_DB": f"unix:{state.central / 'nb.sock'}",
            "OVS_RUNDIR": str(state.host(host)),
        }

    def _name(self, host: str, number: int) -> str:
        return f"{self._cloud.facts.prefix}bench-{host}-{number}"


def configure(space: str, address: str) -> None:
    """Waits for the namespace and its interface, and gives it its address."""
    deadline = time.monotonic() + 20.0
    while not namespace.has(space, "eth0"):
        assert time.monotonic() < deadline, f"{space} was not made within 20 s"
        time.sleep(0.002)
    often = (("ipv4/neigh/eth0/retrans_time_ms", 20), ("ipv4/neigh/eth0/mcast_solicit", 1000))
    namespace.sysctl(space, often)
    namespace.ip(space, f"address add {address} dev eth0", "link set dev eth0 up")


def first_answer(space: str, target: str) -> float:
    """When the first of many pings from a namespace is answered (monotonic seconds)."""
    with _pinging(space) as ping:
        deadline = time.monotonic() + 20.0
        for number in range(4000):
            try:
                ping.sendto(_echo(number), (target, 0))
            except OSError:
                pass  # No route yet, or no room in the queue that waits for the neighbour.
            try:
                packet = ping.recv(2048)
            except TimeoutError:
                assert time.monotonic() < deadline, f"no answer from {target} within 20 s"
                continue
            if packet[20] == 0:  # an echo reply, behind the header of IP
                return time.monotonic()
    raise AssertionError(f"no answer from {target}")


@contextmanager
def _pinging(space: str) -> Iterator[socket.socket]:
    def make() -> socket.socket:
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)

    with namespace.inside(space, make) as ping:
        ping.settimeout(0.005)
        yield ping


def _echo(number: int) -> bytes:
    """An echo request (RFC 792)."""
    plain = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, number)
    words = sum(struct.unpack("!4H", plain))
    words = (words & 0xFFFF) + (words >> 16)
    return struct.pack("!BBHHH", 8, 0, ~(words + (words >> 16)) & 0xFFFF, os.getpid() & 0xFFFF, number)


if __name__ == "__main__":
    alone(measure)
