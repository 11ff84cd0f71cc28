"""Dispatchers and data planes as they run on a host; the test is their manager.

| claim | and in reverse |
| --- | --- |
| traffic flows both ways, spread over all; the legs' addresses answer; hops and path MTU are right | |
| each of two dispatchers serves a leg; when one dies, the other serves both, nothing ends | it gets it back |
| a paused one goes on; so does one whose prober ends, which is started again | |
| a cut of the bus that heals ends with one server for each leg | |
| who gives a leg up and has it again at once has its routes, of IPv4 too | |
| who takes a leg anew that it serves tells the neighbours: another one may have told them, and ended | |
| on a busy machine nobody is silent who is there | |
| who leaves gives up its legs first, and next to nothing is lost | |
| a data plane dies: all goes on with the seconds; one that answers again waits for the manager | |
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator

import hooks
import msgspec
import pytest
from flows import Connection, Ping, Tcp, Udp, must_pass
from outage import Stream
from probes import wait_for
from unit_lab import LEGS, TAG, RunningUnit, UnitLab, member

from trunkline.devices import namespace
from trunkline.plan.shards import SHARDS
from trunkline.resources.reports import UnitStatus
from trunkline.units.documents import said
from trunkline.units.watch import PATIENT
from trunkline.units.words import PORT, Commit, Done, Lead, Prepare, Shards, ShardWord, Word

pytestmark = pytest.mark.machine
FIRST, OTHER, PLANES = 200, 201, (1, 2, 3)
SERVERS = ("192.0.2.9", "fd00:b::9")
OUT = {"name": "out", "from": "inside", "to": "outside", "action": "accept"}
POLICY = {
    "firewall": {"rules": [OUT]},
    "nat": {"source": [{"from": "inside", "to": "outside", "addresses": ["192.0.2.1"]}]},
}
#: Of units/fabric.bpf.c: a probe, and what is in its frame.
PROBE, PROBE_FRAME = 5, 0x88B5
#: The connections in a unit's kernel.
_READ = """
from trunkline.devices.conntrack import Conntrack
for entry in Conntrack(None).entries():
    print(entry.name.hex())
"""


class Manager:
    """A connection to a unit, on the out-of-band bus, that has told it the policy."""

    def __init__(self, lab: UnitLab, number: int) -> None:
        to = (lab.members[number].control_address, PORT)

        def connect() -> socket.socket | None:
            made = lab.switch.open(socket.AF_INET6, socket.SOCK_STREAM)
            made.settimeout(20)
            try:
                made.connect(to)
            except OSError:
                made.close()
                return None
            return made

        self._socket = wait_for(connect, 20, f"unit {number} listens")
        # An answer may come in pieces, for which a socket with a time limit does not wait.
        self._answers = self._socket.makefile("rb")
        for word in (Lead(1, 1, 1), Prepare(2, 1, said(POLICY)), Commit(3, 1)):
            self.ask(word)

    def ask(self, word: Word) -> None:
        """Raises AssertionError: it was not done."""
        data = msgspec.msgpack.encode(word)
        self._socket.sendall(struct.pack("!I", len(data)) + data)
        while True:
            (size,) = struct.unpack("!I", self._answers.read(4))
            answer = msgspec.msgpack.decode(self._answers.read(size), type=Word)
            if isinstance(answer, Done):
                assert not answer.problem, answer.problem
                return

    def close(self) -> None:
        self._answers.close()
        self._socket.close()


class Scene:
    """A lab of two dispatchers and three data planes; each one's second is the next."""

    def __init__(self) -> None:
        self.lab = UnitLab({})
        self.client, self.server = self.lab.client, self.lab.server
        self.lab.switch.ip("address add fd00:74:6c::ffff/64 dev control nodad")
        self._managers: dict[int, Manager] = {}
        self.lab.begin(
            *(member(number, "data-plane") for number in PLANES),
            *(member(number, "dispatcher") for number in (FIRST, OTHER)),
        )
        for number in self.lab.units:
            self.manage(number)
        self.must_share()

    def manage(self, number: int) -> None:
        """A unit that is new is told the policy, and who has which shard."""
        self.meet(number)
        self.tell(number)

    def meet(self, number: int) -> None:
        """... the policy alone."""
        if number in self._managers:
            self._managers[number].close()
        self._managers[number] = Manager(self.lab, number)

    def tell(self, number: int) -> None:
        places = [(PLANES[n % len(PLANES)], PLANES[(n + 1) % len(PLANES)]) for n in range(SHARDS)]
        words = tuple(ShardWord(n, owner, second) for n, (owner, second) in enumerate(places))
        self._managers[number].ask(Shards(4, words))

    def unit(self, number: int) -> RunningUnit:
        return self.lab.units[number]

    def status(self, number: int) -> UnitStatus:
        return self.unit(number).statuses[-1]

    def must_share(self) -> None:
        """Each dispatcher serves one leg."""

        def shared() -> bool:
            served = [self.status(n).serves for n in (FIRST, OTHER) if self.unit(n).statuses]
            return sorted(served) == [(leg.zone,) for leg in LEGS]

        wait_for(shared, 20, "each of two serves a leg")

    def must_serve_all(self, number: int) -> None:
        self.unit(number).must_say(lambda status: len(status.serves) == len(LEGS), 20)

    def many(self, stack: contextlib.ExitStack, count: int = 12) -> list[Connection]:
        flows = [Tcp(self.client, self.server, address, 80) for address in SERVERS for _ in range(count)]
        must_pass(*flows)
        connections = [stack.enter_context(flow.connected()) for flow in flows]
        must_pass(*connections)
        return connections

    def hears(self, number: int, *, others: bool) -> None:
        """Whether frames for that unit come to it, on the in-band bus."""
        # First all goes by the bridge, as between hosts: or nobody would be missed at the same time.
        for each in self.lab.units:
            hooks.take_off(self.lab.switch.netns, f"bus{each}")
        entry = (self.lab.members[number].bus_mac, "dev", f"bus{number}", "master", "static")
        verb = "replace" if others else "del"
        assert self.lab.switch.run("bridge", "fdb", verb, *entry).returncode == 0

    def close(self) -> None:
        for manager in self._managers.values():
            manager.close()
        self.lab.close()


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    try:
        with contextlib.closing(Scene()) as made:
            yield made
    finally:
        namespace.delete(*namespace.names(f"{TAG}-"))


def serials(unit: RunningUnit) -> set[int]:
    return {event.serial for event in unit.statuses[-1].events}


def happened(unit: RunningUnit, what: str, before: Collection[int] = ()) -> list[str]:
    """The causes of such events, besides those of before."""
    events = unit.statuses[-1].events
    return [event.cause for event in events if what in event.what and event.serial not in before]


@contextlib.contextmanager
def flowing(scene: Scene, what: str) -> Iterator[None]:
    """Echoes of several flows, which go on after the block; the longest time without any is printed."""
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(Stream(scene.client, SERVERS[0], 0.02)) for _ in range(6)]
        for stream in streams:
            wait_for(lambda s=stream: s.flows(0), 20, "a stream")
        since = time.monotonic()
        yield
        for stream in streams:
            wait_for(lambda s=stream: s.flows(since), 20, f"{what}: the streams go on")
        gaps = sorted(1000 * stream.outage(since) for stream in streams)
        print(f"{what}: flows stood still for {gaps[0]:.0f} to {gaps[-1]:.0f} ms")


def test_traffic_flows(scene: Scene) -> None:
    before = [scene.status(number).packets for number in PLANES]
    client, server = scene.client, scene.server
    with contextlib.ExitStack() as stack:
        must_pass(*scene.many(stack))
        # The legs' own addresses, from both sides: a data plane answers.
        own = [Ping(client, address) for address in ("10.0.0.1", "fd00:a::1", "192.0.2.1")]
        own += [Ping(server, address) for address in ("192.0.2.1", "fd00:b::1")]
        must_pass(*own, *(Udp(client, server, address, 7) for address in SERVERS))
    for number, packets in zip(PLANES, before, strict=True):
        scene.unit(number).must_say(lambda status, packets=packets: status.packets > packets + 10)
    # One hop, and no more.
    assert "Time to live exceeded" in client.run("ping", "-c1", "-t1", "-W5", SERVERS[0]).stdout
    for address in SERVERS:
        assert "ttl=63" in client.run("ping", "-c1", "-t2", "-W5", address).stdout
    # What does not fit is told by the data plane, in the leg's name.
    for number in PLANES:
        scene.unit(number).run("ip", "link", "set", "dev", "outside", "mtu", "1300")
    assert client.told_mtu(SERVERS[0], size=1442) == 1300
    for number in PLANES:
        scene.unit(number).run("ip", "link", "set", "dev", "outside", "mtu", "1442")
    for number in (FIRST, OTHER):
        status = scene.unit(number).must_say(lambda status: status.packets > 50)
        assert status.bytes > 20 * status.packets
        assert status.silent == ()


def lose(scene: Scene, number: int, how: str) -> None:
    """Kills a unit, of which others hear by its kernel; or cuts it off, and it misses probes."""
    (scene.lab.kill if how == "killed" else scene.lab.cut)(number)


#: What dispatchers say then.
CAUSES = {"killed": "its program ended", "cut off": "probes were not answered"}


@pytest.mark.parametrize("how", CAUSES)
def test_a_dispatcher_that_dies_breaks_nothing(scene: Scene, how: str) -> None:
    with contextlib.ExitStack() as stack:
        connections = scene.many(stack)
        before = serials(scene.unit(OTHER))
        with flowing(scene, f"a dispatcher is {how}"):
            lose(scene, FIRST, how)
            scene.must_serve_all(OTHER)
        must_pass(*connections)
        scene.unit(OTHER).must_say(lambda status: status.silent == (FIRST,))
        (cause,) = happened(scene.unit(OTHER), f"Unit {FIRST} is silent", before)
        assert CAUSES[how] in cause
        # One that is new serves when it knows the policy and the shards.
        scene.lab.begin(member(FIRST, "dispatcher"))
        scene.unit(OTHER).must_say(lambda status: status.silent == ())
        assert len(scene.status(OTHER).serves) == len(LEGS)
        for leg in range(len(LEGS)):
            # It may ask for IPv6 neighbours at once: a tentative address is none to ask from.
            shown = scene.unit(FIRST).run("ip", "-6", "address", "show", "dev", f"leg{leg}", "scope", "link")
            assert "fe80::" in shown, shown
            assert "tentative" not in shown, shown
        scene.manage(FIRST)
        scene.must_share()
        must_pass(*connections)


def test_a_paused_dispatcher_goes_on(scene: Scene) -> None:
    """Its kernel forwards, and its prober is a process by itself."""
    with contextlib.ExitStack() as stack:
        connections = scene.many(stack, 4)
        before = serials(scene.unit(OTHER))
        paused = scene.unit(FIRST).process
        paused.send_signal(signal.SIGSTOP)
        try:
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                must_pass(*connections)
        finally:
            paused.send_signal(signal.SIGCONT)
        scene.must_share()
        assert not happened(scene.unit(OTHER), "is silent", before)


def test_a_prober_that_ends_is_started_again(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        connections = scene.many(stack, 4)
        unit = scene.unit(OTHER)
        children = subprocess.run(
            ["pgrep", "-P", str(unit.process.pid)], capture_output=True, text=True, timeout=10, check=True
        )
        os.kill(int(children.stdout), signal.SIGKILL)
        unit.must_say(lambda status: any("started again" in event.what for event in status.events))
        must_pass(*connections)
        scene.must_share()


def test_a_cut_that_heals_ends_with_one_server(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        connections = scene.many(stack)
        scene.lab.switch.ip(f"link set dev bus{FIRST} down")
        scene.must_serve_all(OTHER)
        scene.unit(FIRST).must_say(lambda status: status.serves == ())
        must_pass(*connections)
        scene.lab.switch.ip(f"link set dev bus{FIRST} up")
        scene.must_share()
        must_pass(*connections)
        # One that hears nobody, but is heard.
        before = serials(scene.unit(OTHER))
        scene.hears(FIRST, others=False)
        scene.must_serve_all(OTHER)
        # It answered on the other bus, and might have been slow.
        causes = wait_for(
            lambda: happened(scene.unit(OTHER), f"Unit {FIRST} is silent", before) or None,
            5,
            "an event",
            lambda: str(scene.status(OTHER).events),
        )
        assert causes[0].startswith(f"{PATIENT} probes"), causes
        scene.unit(FIRST).must_say(lambda status: status.serves == ())
        scene.hears(FIRST, others=True)
        scene.must_share()
        must_pass(*connections)


def test_who_serves_a_leg_again_at_once_has_its_routes(scene: Scene) -> None:
    # Its process may hear nothing of that.
    for number, leg in itertools.product((FIRST, OTHER), range(len(LEGS))):
        unit, device = scene.lab.units[number], f"leg{leg}"
        before = unit.run("ip", "-4", "route", "show", "dev", device)
        own = {address for address in LEGS[leg].addresses if ":" not in address}
        there = [a for a in own if f" {a} " in unit.run("ip", "-4", "address", "show", "dev", device)]
        for address in there:
            unit.run("ip", "address", "delete", address, "dev", device)
        assert before.count("scope link") > 0
        assert unit.run("ip", "-4", "route", "show", "dev", device) == before
        for address in there:
            unit.run("ip", "address", "add", address, "dev", device, "noprefixroute")
    with contextlib.ExitStack() as stack:
        must_pass(*scene.many(stack))


def test_who_takes_a_leg_anew_tells_the_neighbours(scene: Scene) -> None:
    zone = scene.status(FIRST).serves[0]
    leg = next(number for number, each in enumerate(LEGS) if each.zone == zone)
    end, mac = (scene.client, scene.server)[leg], f"02:0d:00:00:{leg:02x}:{FIRST:02x}"
    # A take of this leg that nobody knows of but a data plane, by a probe to it; the last 8 bits say whose.
    takes = [0] * 8
    takes[leg] = 10_000 << 8 | FIRST
    own, plane = scene.lab.members[FIRST].bus_mac, scene.lab.members[PLANES[0]].bus_mac
    label = bytes([0x02, PROBE, 0, FIRST, 0, 0])
    probe = bytes.fromhex(own.replace(":", "")) + struct.pack("!BBI8III", 0, 0, 0, *takes, 0, 0)
    frame = bytes.fromhex(plane.replace(":", "")) + label + struct.pack("!H", PROBE_FRAME) + probe

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
            raw.bind(("bus", 0))
            raw.send(frame)

    # What was told when it took the leg has been told.
    time.sleep(1.5)
    with end.frames() as ear:
        ear.settimeout(10)
        namespace.inside(namespace.of_process(scene.unit(FIRST).process.pid), send)
        # RFC 826: who says that it has an address which it asks for has it.
        while (heard := ear.recv(2000))[6:14] != bytes.fromhex(mac.replace(":", "")) + b"\x08\x06" or (
            heard[28:32] != heard[38:42]
        ):
            pass
    scene.must_share()


def test_nobody_is_silent_who_is_there_though_the_machine_is_busy(scene: Scene) -> None:
    before = {number: serials(scene.unit(number)) for number in (FIRST, OTHER)}
    with contextlib.ExitStack() as stack:
        connections = scene.many(stack, 4)
        for _ in range(3 * (os.cpu_count() or 2)):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        end = time.monotonic() + 4
        while time.monotonic() < end:
            must_pass(*connections)
    for number in (FIRST, OTHER):
        assert not happened(scene.unit(number), "is silent", before[number]), scene.status(number).events


def test_who_leaves_gives_up_its_legs_first(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        connections = scene.many(stack)
        with Stream(scene.client, SERVERS[0]) as stream:
            wait_for(lambda: stream.flows(0), 20, "a stream")
            scene.lab.leave(FIRST)
            scene.unit(FIRST).must_say(lambda status: status.serves == ())
            scene.must_serve_all(OTHER)
            must_pass(*connections)
            assert stream.lost() <= 2
        scene.lab.members[FIRST] = member(FIRST, "dispatcher")
        scene.lab.tell_all()
        scene.must_share()
        must_pass(*connections)


def test_who_is_no_member_any_more_is_passed_by(scene: Scene) -> None:
    one = PLANES[0]
    with contextlib.ExitStack() as stack:
        connections = scene.many(stack)
        wait_for(lambda: copied(scene), 20, "two know each connection")
        own = scene.lab.members.pop(one)
        try:
            # It is there, and answers; no manager says anything.
            for number in (FIRST, OTHER):
                scene.unit(number).tell()
            for number in (FIRST, OTHER):
                scene.unit(number).must_say(
                    lambda _, number=number: happened(scene.unit(number), "is no member")
                )
            # It says how it is once a second.
            time.sleep(1.5)
            before = scene.status(one).packets
            must_pass(*connections)
            time.sleep(1.5)
            assert scene.status(one).packets < before + 10
        finally:
            scene.lab.members[one] = own
            scene.lab.tell_all()
        for number in (one, FIRST, OTHER):
            scene.tell(number)
        must_pass(*connections)


@pytest.mark.parametrize("how", CAUSES)
def test_what_a_dead_data_plane_had_goes_on_with_the_seconds(scene: Scene, how: str) -> None:
    one = PLANES[0]
    with contextlib.ExitStack() as stack:
        connections = scene.many(stack)
        wait_for(lambda: copied(scene), 20, "two know each connection")
        before = {number: serials(scene.unit(number)) for number in (FIRST, OTHER)}
        with flowing(scene, f"a data plane is {how}"):
            lose(scene, one, how)
            for number in (FIRST, OTHER):
                scene.unit(number).must_say(lambda status: status.silent == (one,))
        must_pass(*connections)
        for number in (FIRST, OTHER):
            (cause,) = happened(scene.unit(number), f"Unit {one} is silent", before[number])
            assert CAUSES[how] in cause
        assert any(happened(scene.unit(number), "to their seconds") for number in (FIRST, OTHER))
        # One that is new gets nothing before a manager says so.
        scene.lab.begin(member(one, "data-plane"))
        scene.meet(one)
        for number in (FIRST, OTHER):
            scene.unit(number).must_say(lambda status: status.silent == ())
        must_pass(*connections)
        # What it says by itself is little: groups that it is in.
        assert scene.status(one).packets < 10
        # Nor what its shards' flows were: those end here.
        for number in (one, FIRST, OTHER):
            scene.tell(number)
        flows = [Udp(scene.client, scene.server, SERVERS[1], 7) for _ in range(20)]
        must_pass(*flows)
        scene.unit(one).must_say(lambda status: status.packets > 0)


def copied(scene: Scene) -> bool:
    known = [scene.unit(number).run(sys.executable, "-c", _READ).split() for number in PLANES]
    return set(Counter(itertools.chain(*known)).values()) == {2}
