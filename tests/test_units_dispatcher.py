"""Dispatchers as they run on a host, with data planes made by hand, and a manager that says what it is told.

| claim | and in reverse |
| --- | --- |
| traffic flows both ways, spread over all; the leg's addresses answer; hops and path MTU are right | |
| each of two dispatchers serves a leg; killed, the other serves both, nothing ends | a paused one goes on |
| a data plane that dies: its flows go on with the second, that knows them | |
| a cut of the bus that heals ends with one server for each leg | |
| on a busy machine nobody is silent who is there | |
| who leaves gives up its legs, and nothing is lost | |
| a prober that ends is started again, and serves what it served | |
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import msgspec
import pytest
from flows import Connection, Ping, Tcp, Udp, must_pass
from outage import Stream
from probes import Space, wait_for
from unit_lab import LEGS, TAG, RunningUnit, UnitLab, member

from trunkline.devices import namespace
from trunkline.devices.conntrack import Conntrack
from trunkline.plan.shards import SHARDS
from trunkline.resources.reports import UnitStatus
from trunkline.units.fabric import Fabric, Leg
from trunkline.units.words import PORT, Done, Lead, Shards, ShardWord, Word

pytestmark = pytest.mark.machine
FIRST, OTHER, PLANES = 200, 201, (0, 1, 2)
#: Only what is known, or begins inside, may pass.
RULES = """
table inet appliance {
  chain marks { type filter hook prerouting priority -150; ct mark set meta mark and 0xffff; }
  chain only { type filter hook forward priority 0; policy drop;
    ct state established,related accept
    ct state invalid drop
    iifname "inside" accept
  }
}
"""


class Manager:
    """A connection to a unit, on the out-of-band bus."""

    def __init__(self, lab: UnitLab, number: int) -> None:
        to = (lab.members[number].control_address, PORT)

        def connect() -> socket.socket | None:
            made = lab.switch.open(socket.AF_INET6, socket.SOCK_STREAM)
            made.settimeout(10)
            try:
                made.connect(to)
            except OSError:
                made.close()
                return None
            return made

        self._socket = wait_for(connect, 20, f"unit {number} listens")
        self._number = 0
        self.ask(Lead(1, 1, 1))

    def ask(self, word: Word) -> None:
        """Raises AssertionError: it was not done."""
        data = msgspec.msgpack.encode(word)
        self._socket.sendall(struct.pack("!I", len(data)) + data)
        while True:
            (size,) = struct.unpack("!I", self._socket.recv(4, socket.MSG_WAITALL))
            answer = msgspec.msgpack.decode(self._socket.recv(size, socket.MSG_WAITALL), type=Word)
            if isinstance(answer, Done):
                assert not answer.problem, answer.problem
                return

    def close(self) -> None:
        self._socket.close()


class Scene:
    """A lab with dispatchers, and planes that are routers with conntrack; each one's second is the next."""

    def __init__(self, *dispatchers: int) -> None:
        self.lab = UnitLab({})
        self.client, self.server = self.lab.client, self.lab.server
        self.lab.switch.ip("address add fd00:74:6c::ffff/64 dev control nodad")
        self.planes: dict[int, Space] = {}
        self.fabrics: dict[int, Fabric] = {}
        self.managers: list[Manager] = []
        self.owner = [PLANES[shard % len(PLANES)] for shard in range(SHARDS)]
        self.lab.members |= {number: member(number, "data-plane") for number in PLANES}
        for number in PLANES:
            self._plane(number)
        self.lab.begin(*(member(number, "dispatcher") for number in dispatchers))
        for number in dispatchers:
            self.tell(number)
        self.must_serve(*dispatchers)

    def _plane(self, number: int) -> None:
        unit = self.planes[number] = Space(f"{TAG}-{number}", "bus")
        mac = self.lab.members[number].bus_mac
        namespace.create(unit.netns)
        self.lab.switch.ip(
            f"link add bus{number} mtu 1500 type veth peer name bus address {mac} netns {unit.netns}",
            f"link set dev bus{number} master bus up",
            f"link set dev bus{number} type bridge_slave learning off flood off",
        )
        entry = ("fdb", "replace", mac, "dev", f"bus{number}", "master", "static")
        assert self.lab.switch.run("bridge", *entry).returncode == 0
        unit.ip("link set dev bus up")
        given = [("ipv4/ip_forward", 1), ("ipv6/conf/all/forwarding", 1), ("ipv6/conf/bus/disable_ipv6", 1)]
        given += [("netfilter/nf_conntrack_tcp_be_liberal", 1), ("netfilter/nf_conntrack_tcp_loose", 0)]
        namespace.sysctl(unit.netns, given)
        for leg in LEGS:
            unit.ip(
                f"link add {leg.zone} address {mac} mtu {leg.mtu} arp off type veth peer name {leg.zone}-",
                f"link set dev {leg.zone}- up",
                f"link set dev {leg.zone} arp off up",
                *(f"address add {a} dev {leg.zone}{' nodad' if ':' in a else ''}" for a in leg.addresses),
                *(f"route add {prefix} via {hop} dev {leg.zone}" for prefix, hop in leg.routes),
            )
        assert unit.run("nft", "-f", "-", input=RULES).returncode == 0
        # Which dispatcher is the one of a leg, they are told by its probes.
        fabric = Fabric(unit.netns, "bus", number, [Leg(x.zone, x.outside) for x in LEGS], spreads=False)
        for other in PLANES:
            fabric.tell_unit(other, self.lab.members[other].bus_mac)
        for shard, owner in enumerate(self.owner):
            fabric.tell_shard(shard, owner)
        self.fabrics[number] = fabric

    def tell(self, number: int) -> None:
        """A dispatcher who has which shard."""
        words = tuple(ShardWord(n, owner, (owner + 1) % len(PLANES)) for n, owner in enumerate(self.owner))
        manager = Manager(self.lab, number)
        self.managers.append(manager)
        manager.ask(Shards(2, words))

    def must_serve(self, *numbers: int) -> None:
        """These serve the legs, no leg is served by two, and data planes know by whom."""

        def settled() -> bool:
            said = [self.status(number).serves for number in numbers if self.lab.units[number].statuses]
            return sorted(zone for zones in said for zone in zones) == [leg.zone for leg in LEGS]

        wait_for(settled, 20, f"{numbers} serve each leg once")

    def status(self, number: int) -> UnitStatus:
        return self.lab.units[number].statuses[-1]

    def serves(self, number: int) -> set[str]:
        return set(self.status(number).serves)

    def many(self, stack: contextlib.ExitStack, count: int = 12) -> list[Connection]:
        flows = [
            Tcp(self.client, self.server, a, 80) for a in ("192.0.2.9", "fd00:b::9") for _ in range(count)
        ]
        must_pass(*flows)
        return [stack.enter_context(flow.connected()) for flow in flows]

    def die(self, plane: int) -> None:
        """Nothing comes to a data plane any more, nor from it."""
        self.lab.switch.ip(f"link set dev bus{plane} down")

    def close(self) -> None:
        for manager in self.managers:
            manager.close()
        for fabric in self.fabrics.values():
            fabric.close()
        self.lab.close()


@contextlib.contextmanager
def scene(*dispatchers: int) -> Iterator[Scene]:
    try:
        with contextlib.closing(Scene(*dispatchers)) as made:
            yield made
    finally:
        namespace.delete(*namespace.names(f"{TAG}-"))


def events(unit: RunningUnit) -> list[str]:
    return [f"{event.what} {event.cause}" for event in unit.statuses[-1].events]


def must_not_have_been_alarmed(made: Scene, numbers: Sequence[int]) -> None:
    for number in numbers:
        assert not any("silent" in event for event in events(made.lab.units[number]))


def test_traffic_flows_through_a_dispatcher() -> None:
    with scene(FIRST) as made, contextlib.ExitStack() as stack:
        connections = made.many(stack)
        must_pass(*connections)
        must_pass(
            Udp(made.client, made.server, "192.0.2.9", 7),
            Udp(made.client, made.server, "fd00:b::9", 7),
            # The legs' own addresses, from both sides; and the dispatcher's link-local one is its own.
            *(Ping(made.client, address) for address in ("10.0.0.1", "fd00:a::1", "192.0.2.1")),
            *(Ping(made.server, address) for address in ("192.0.2.1", "fd00:b::1")),
        )
        received = [fabric.counters()["received"] for fabric in made.fabrics.values()]
        assert all(count > 10 for count in received)
        # One hop, and no more.
        hops = made.client.run("ping", "-c1", "-t1", "-W2", "192.0.2.9").stdout
        assert "Time to live exceeded" in hops, hops
        assert "ttl=63" in made.client.run("ping", "-c1", "-t2", "-W2", "192.0.2.9").stdout
        assert "ttl=63" in made.client.run("ping", "-6", "-c1", "-t2", "-W2", "fd00:b::9").stdout
        # What does not fit is told by the data plane, in the leg's name.
        for plane in made.planes.values():
            plane.ip("link set dev outside mtu 1300")
        assert made.client.told_mtu("192.0.2.9", size=1442) == 1300
        status = made.lab.units[FIRST].must_say(lambda status: status.packets > 2 * sum(received))
        assert status.bytes > 40 * status.packets
        assert status.silent == ()


def test_a_killed_dispatcher_breaks_nothing() -> None:
    with scene(FIRST, OTHER) as made, contextlib.ExitStack() as stack:
        made.must_serve(FIRST, OTHER)
        wait_for(lambda: len(made.serves(FIRST)) == 1, 20, "each serves one")
        connections = made.many(stack)
        must_pass(*connections)
        # Stopped, it goes on: its prober is a process by itself, and the kernel forwards.
        paused = made.lab.units[FIRST].process
        paused.send_signal(signal.SIGSTOP)
        try:
            must_pass(*connections)
            time.sleep(0.5)
            must_pass(*connections)
        finally:
            paused.send_signal(signal.SIGCONT)
        with Stream(made.client, "192.0.2.9") as stream:
            wait_for(lambda: stream.flows(0), 20, "a stream")
            since = time.monotonic()
            made.lab.kill(FIRST)
            made.must_serve(OTHER)
            wait_for(lambda: stream.flows(since), 20, "the stream goes on")
            print(f"longest gap, dispatcher killed: {1000 * stream.outage(since):.0f} ms")
        must_pass(*connections)
        assert made.status(OTHER).silent == (FIRST,)
        # It comes back, with nothing in its head, and gets its share when it knows the shards.
        made.lab.begin(member(FIRST, "dispatcher"))
        assert len(made.serves(OTHER)) == 2
        made.tell(FIRST)
        made.must_serve(FIRST, OTHER)
        wait_for(lambda: len(made.serves(FIRST)) == 1, 20, "each serves one")
        must_pass(*connections)


def test_what_a_dead_data_plane_had_goes_on_with_the_second() -> None:
    with scene(FIRST) as made, contextlib.ExitStack() as stack:
        connections = made.many(stack)
        must_pass(*connections)
        for plane, unit in made.planes.items():
            with contextlib.closing(Conntrack(unit.netns)) as known:
                entries = known.entries()
            with contextlib.closing(Conntrack(made.planes[(plane + 1) % 3].netns)) as second:
                assert second.put(entries) == []
        with Stream(made.client, "192.0.2.9") as stream:
            wait_for(lambda: stream.flows(0), 20, "a stream")
            since = time.monotonic()
            made.die(0)
            made.lab.units[FIRST].must_say(lambda status: status.silent == (0,))
            wait_for(lambda: stream.flows(since), 20, "the stream goes on")
            print(f"longest gap, data plane cut off: {1000 * stream.outage(since):.0f} ms")
        must_pass(*connections)
        assert any("went to their seconds" in event for event in events(made.lab.units[FIRST]))
        # It answers again, and gets nothing before a manager says so.
        made.lab.switch.ip("link set dev bus0 up")
        made.lab.units[FIRST].must_say(lambda status: status.silent == ())
        before = made.fabrics[0].counters()["received"]
        must_pass(*connections)
        assert made.fabrics[0].counters()["received"] == before
        made.tell(FIRST)
        must_pass(*connections)
        assert made.fabrics[0].counters()["received"] > before


def test_a_cut_that_heals_ends_with_one_server() -> None:
    with scene(FIRST, OTHER) as made, contextlib.ExitStack() as stack:
        connections = made.many(stack)
        made.lab.switch.ip(f"link set dev bus{FIRST} down")
        made.lab.units[OTHER].must_say(lambda status: len(status.serves) == 2)
        made.lab.units[FIRST].must_say(lambda status: status.serves == ())
        must_pass(*connections)
        made.lab.switch.ip(f"link set dev bus{FIRST} up")
        made.must_serve(FIRST, OTHER)
        must_pass(*connections)
        # They do not hear each other, but all data planes.
        for number, other in ((FIRST, OTHER), (OTHER, FIRST)):
            mac = made.lab.members[number].bus_mac
            entry = ("fdb", "del", mac, "dev", f"bus{number}", "master", "static")
            assert made.lab.switch.run("bridge", *entry).returncode == 0, other
        made.lab.units[FIRST].must_say(lambda status: OTHER in status.silent)
        for number in (FIRST, OTHER):
            mac = made.lab.members[number].bus_mac
            entry = ("fdb", "replace", mac, "dev", f"bus{number}", "master", "static")
            assert made.lab.switch.run("bridge", *entry).returncode == 0
        made.lab.units[FIRST].must_say(lambda status: status.silent == ())
        made.must_serve(FIRST, OTHER)
        must_pass(*connections)


def test_nobody_is_silent_who_is_there_though_the_machine_is_busy() -> None:
    with scene(FIRST, OTHER) as made, contextlib.ExitStack() as stack:
        connections = made.many(stack, 4)
        busy = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            for _ in range(3 * (os.cpu_count() or 2))
        ]
        try:
            end = time.monotonic() + 6
            while time.monotonic() < end:
                must_pass(*connections)
        finally:
            for process in busy:
                process.kill()
        must_not_have_been_alarmed(made, (FIRST, OTHER))


def test_who_leaves_gives_up_its_legs_first() -> None:
    with scene(FIRST, OTHER) as made, contextlib.ExitStack() as stack:
        made.must_serve(FIRST, OTHER)
        connections = made.many(stack)
        with Stream(made.client, "192.0.2.9") as stream:
            wait_for(lambda: stream.flows(0), 20, "a stream")
            made.lab.leave(FIRST)
            made.lab.units[FIRST].must_say(lambda status: status.serves == ())
            made.must_serve(OTHER)
            must_pass(*connections)
            assert stream.lost() <= 2
        made.lab.kill(FIRST)
        must_pass(*connections)


def test_a_prober_that_ends_is_started_again() -> None:
    with scene(FIRST) as made, contextlib.ExitStack() as stack:
        connections = made.many(stack, 4)
        unit = made.lab.units[FIRST]
        children = subprocess.run(["pgrep", "-P", str(unit.process.pid)], capture_output=True, text=True)
        (prober,) = children.stdout.split()
        os.kill(int(prober), signal.SIGKILL)
        unit.must_say(lambda status: any("started again" in event.what for event in status.events))
        must_pass(*connections)
        assert len(made.serves(FIRST)) == 2
        made.die(0)
        unit.must_say(lambda status: status.silent == (0,))
