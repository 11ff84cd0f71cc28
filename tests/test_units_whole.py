"""A whole appliance of real units, between a client and a server whose connections are compared in each byte.

| claim | and in reverse |
| --- | --- |
| client and server reach each other through it, and all data planes have as many shards and copies | |
| data planes come and go, and no connection breaks | who leaves has nothing left |
| then each connection is at two data planes, at one as a copy, which does not end by itself | |
| a data plane is killed, or its host is cut off, and no connection breaks | |
| its kernel forwards as long as nobody asks it, and it is passed by at once when somebody does | |
| what begins in a kernel whose process has ended goes on elsewhere | |
| a dispatcher is killed, and flows go on, of those who ask for the neighbour meanwhile, too | |
| the leading manager is killed: the other one leads, and nothing moves | |
| without any manager connections go on, old and new; a new manager learns, and nothing moves | |
| a policy comes into force at all units, and breaks nothing | one that is refused changes nothing anywhere |
| what begins while shards move gets no port that another one has: neither breaks | |
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import pytest
from flows import Tcp, must_pass, must_stop
from probes import Space, wait_for
from unit_lab import RunningUnit, UnitLab, member

from trunkline.agent.unit_runtime import LINGER
from trunkline.devices import namespace
from trunkline.devices.conntrack import Conntrack, Entry
from trunkline.plan.shards import SHARDS
from trunkline.resources.reports import UnitStatus
from trunkline.traffic.pair import Traffic
from trunkline.traffic.plans import FarPlan, NearPlan
from trunkline.units.connections import SHARD

pytestmark = pytest.mark.machine
MANAGERS, DISPATCHERS, PLANES = (240, 241, 242), (200, 201), (1, 2)
OUT = {"name": "out", "from": "inside", "to": "outside", "action": "accept"}
NAT = {"source": [{"from": "inside", "to": "outside", "addresses": ["192.0.2.1"], "ports": "2048-18431"}]}
POLICY = {"firewall": {"rules": [OUT]}, "nat": NAT}
#: Nothing begins any more but to port 81.
NARROW = {"firewall": {"rules": [OUT | {"service": "tcp/81"}]}, "nat": NAT}
#: How long whatever is to happen may take, on a machine that has no time.
SOON = 60.0
#: How long a flow may stand still when a program ends and kernels forward, seconds; three probes take longer.
STILL = 0.08
#: And how long dispatchers may send packets to a unit whose program has ended.
AT_ONCE = 0.1
#: Of units/fabric.bpf.c, enum kind; of asm-generic/socket.h.
DATA, _RCVBUFFORCE, _TIMESTAMPNS = 1, 33, 35
#: No kernel keeps a connection so long of which it sees nothing, seconds: those are copies.
COPY = 6 * 24 * 3600


class Whole:
    """The appliance, and connections through it that are not to break."""

    def __init__(self) -> None:
        self.lab = UnitLab(POLICY)
        kinds = dict.fromkeys(DISPATCHERS, "dispatcher") | dict.fromkeys(PLANES, "data-plane")
        kinds |= {MANAGERS[0]: "manager"}
        self.lab.begin(*(member(n, kind) for n, kind in kinds.items()))
        self._next = max(PLANES) + 1
        self.settle()
        plan = NearPlan(
            targets=("192.0.2.9:8000", "[fd00:b::9]:8000"), connections=200, flows=4, every=0.5, silent=30.0
        )
        listen = FarPlan(listen=("192.0.2.9:8000", "[fd00:b::9]:8000"))
        self.traffic = Traffic(near=self.lab.client.netns, plan=plan, far={self.lab.server.netns: listen})

    def close(self) -> None:
        self.lab.close()

    def planes(self) -> list[RunningUnit]:
        return [unit for unit in self.lab.of("data-plane") if unit.own.number in self.lab.members]

    def managers(self) -> list[RunningUnit]:
        return [unit for unit in self.lab.of("manager") if unit.process.poll() is None]

    def leader(self) -> RunningUnit:
        """The manager that leads, as soon as one does, and no other."""

        def leads() -> RunningUnit | None:
            found = [unit for unit in self.managers() if unit.statuses and unit.statuses[-1].leads]
            return found[0] if len(found) == 1 else None

        return wait_for(leads, SOON, "a manager leads")

    def settle(self) -> None:
        """Each data plane has its share of shards and of copies."""
        count = len(self.planes())

        def even(parts: int) -> bool:
            return SHARDS // count <= parts <= -(-SHARDS // count)

        def fits(status: UnitStatus) -> bool:
            return even(status.shards) and (even(status.copies) or count == 1)

        for unit in self.planes():
            unit.must_say(fits, SOON)

    def must_be_copied(self) -> None:
        """Each connection is known to its owner, and to another data plane as a copy, and to nobody else."""
        self.leader().must_say(lambda status: not status.uncopied, SOON)

        def known(unit: RunningUnit) -> list[Entry]:
            netns = f"/proc/{unit.process.pid}/ns/net"
            with contextlib.closing(Conntrack(netns)) as conntrack:
                return conntrack.entries(lambda mark: mark <= SHARD)

        def are_two() -> bool:
            copies: dict[bytes, list[bool]] = {}
            for unit in self.planes():
                for entry in known(unit):
                    copies.setdefault(entry.name, []).append(entry.timeout > COPY)
            return len(copies) > 0 and all(sorted(found) == [False, True] for found in copies.values())

        wait_for(are_two, SOON, "each connection is at two data planes, once as a copy")

    def grow(self, count: int = 1) -> list[int]:
        """As many data planes more."""
        numbers = list(range(self._next, self._next + count))
        self._next += count
        self.lab.begin(*(member(n, "data-plane") for n in numbers))
        self.settle()
        return numbers

    def shrink(self, numbers: list[int]) -> None:
        """These go, when nothing depends on them."""
        for number in numbers:
            self.lab.leave(number)
        self.leader().must_say(lambda status: {*numbers} <= {*status.empty}, SOON)
        for number in numbers:
            last = self.lab.units[number].statuses[-1]
            assert (last.shards, last.copies) == (0, 0)
        self.forget(*numbers)
        self.settle()

    def forget(self, *numbers: int) -> None:
        """They are no members any more."""
        for number in numbers:
            if self.lab.units[number].process.poll() is None:
                self.lab.kill(number)
            del self.lab.members[number]
        self.lab.tell_all()

    def must_carry(self) -> None:
        """All connections answer, and none is or was broken."""
        began = self.traffic.mark(f"{time.monotonic()}").at

        def answers() -> bool:
            live = self.traffic.live()
            return live is not None and live.at > began + 1.0 and live.connections.count > 0 < live.answered

        wait_for(answers, SOON, "answers")
        assert not self.traffic.broken()


@pytest.fixture(scope="module")
def whole() -> Iterator[Whole]:
    made = Whole()
    try:
        with made.traffic:
            assert made.traffic.ready().refused == 0
            yield made
    finally:
        made.close()


def test_client_and_server_reach_each_other(whole: Whole) -> None:
    client, server = whole.lab.client, whole.lab.server
    must_pass(Tcp(client, server, "192.0.2.9", 80), Tcp(client, server, "fd00:b::9", 80))
    whole.must_carry()
    assert whole.leader().statuses[-1].policy_revision == whole.lab.policy.revision


def test_data_planes_come_and_go(whole: Whole) -> None:
    more = whole.grow(2)
    whole.must_carry()
    whole.must_be_copied()
    whole.shrink(more)
    whole.must_carry()
    whole.must_be_copied()


@pytest.mark.parametrize("how", [RunningUnit.kill, RunningUnit.cut])
def test_a_data_plane_dies(whole: Whole, how: Callable[[RunningUnit], None]) -> None:
    (one,) = whole.grow()
    whole.must_be_copied()
    how(whole.lab.units[one])
    whole.must_carry()
    whole.forget(one)
    whole.settle()
    whole.must_carry()


@contextlib.contextmanager
def flowing(whole: Whole) -> Iterator[Traffic]:
    """Connections and flows through the appliance: none is to break, and none to be translated anew."""
    targets = ("192.0.2.9:8003", "[fd00:b::9]:8003")
    plan = NearPlan(targets=targets, connections=100, flows=32, flow_rate=100.0, every=0.2, silent=8.0)
    far = {whole.lab.server.netns: FarPlan(listen=targets)}
    with Traffic(near=whole.lab.client.netns, plan=plan, far=far) as traffic:
        assert traffic.ready().refused == 0
        whole.must_be_copied()
        yield traffic


def must_go_on(traffic: Traffic, *marks: str) -> None:
    """No connection broke, no flow was translated anew, and none stood still in these times."""
    result = traffic.end()
    gaps = {mark: round(1000 * result.period(mark).longest_gap) for mark in marks}
    print(f"flows stood still for, ms: {gaps}")
    assert not result.broken
    assert not result.moved
    assert max(gaps.values()) < 1000 * STILL, gaps


@contextlib.contextmanager
def asleep(units: Iterable[RunningUnit]) -> Iterator[None]:
    """These dispatchers' probers stand still."""
    pids = []
    for unit in units:
        asked = ["pgrep", "-P", str(unit.process.pid)]
        pids.append(int(subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout))
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_the_kernel_of_a_killed_data_plane_forwards_until_it_is_passed_by(whole: Whole) -> None:
    (one,) = whole.grow()
    unit, dispatchers = whole.lab.units[one], list(whole.lab.of("dispatcher"))
    with flowing(whole) as traffic:
        with asleep(dispatchers):
            traffic.mark("nobody asks")
            unit.end()
            # Each connection is heard several times, and each flow.
            time.sleep(1.0)
            traffic.mark("somebody asks")
        passed_by(one, dispatchers)
        # Others pass it by: nothing changes when its kernel is gone, too.
        traffic.mark("it is cut")
        unit.unplug()
        time.sleep(1.0)
        must_go_on(traffic, "nobody asks", "somebody asks", "it is cut")
    whole.forget(one)
    whole.settle()
    whole.must_carry()


@contextlib.contextmanager
def echoing(netns: str, address: str, port: int) -> Iterator[None]:
    """Somebody there says back what is said."""
    listening = namespace.inside(netns, lambda: socket.create_server((address, port), backlog=200))
    kept: list[socket.socket] = []

    def echo(one: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while said := one.recv(100):
                one.sendall(said)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                kept.append(listening.accept()[0])
                threading.Thread(target=echo, args=(kept[-1],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        for each in (listening, *kept):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def must_answer(connections: Iterable[socket.socket]) -> None:
    for each in connections:
        each.settimeout(SOON)
        each.sendall(b"still there?")
        assert each.recv(100) == b"still there?"


def test_what_begins_when_a_data_plane_is_dead_goes_on(whole: Whole) -> None:
    (one,) = whole.grow()
    unit, dispatchers = whole.lab.units[one], list(whole.lab.of("dispatcher"))
    connections: list[socket.socket] = []
    begun = 0
    with echoing(whole.lab.server.netns, "192.0.2.9", 81):
        try:
            with asleep(dispatchers):
                unit.end()
                for _ in range(60):
                    begin = functools.partial(socket.create_connection, ("192.0.2.9", 81), SOON)
                    connections.append(namespace.inside(whole.lab.client.netns, begin))
                must_answer(connections)
                # Nobody has passed it by: its kernel began a third of them, and they are nowhere else.
                begun = unit.bequeath()
            passed_by(one, dispatchers)
            unit.unplug()
            must_answer(connections)
            whole.forget(one)
            whole.settle()
            must_answer(connections)
        finally:
            for each in connections:
                each.close()
    assert begun > 5
    whole.must_carry()


def passed_by(unit: int, dispatchers: Iterable[RunningUnit]) -> None:
    """Dispatchers say of a unit that its program has ended; it did not miss probes."""
    for each in dispatchers:
        status = each.must_say(lambda status: unit in status.silent, SOON)
        event = [event for event in status.events if f"Unit {unit} is silent" in event.what][-1]
        assert "program ended" in event.cause


def given_at(ear: socket.socket) -> list[float]:
    """When dispatchers sent packets to the unit whose bus it hears, seconds since the epoch."""
    found = []
    ear.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            frame, told, _, _ = ear.recvmsg(2000, socket.CMSG_SPACE(16))
            ((_, _, when),) = told
            seconds, rest = struct.unpack("=qq", when)
            if frame[7] == DATA:
                found.append(seconds + rest / 1e9)
    return found


def test_a_killed_data_plane_is_passed_by_at_once(whole: Whole) -> None:
    (one,) = whole.grow()
    unit, dispatchers = whole.lab.units[one], list(whole.lab.of("dispatcher"))
    with flowing(whole) as traffic:
        traffic.mark("it is killed")
        with Space(namespace.of_process(unit.process.pid), "bus").frames() as ear:
            ear.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 1 << 24)
            ear.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
            unit.end()
            ended = time.time()
            # Its kernel is there until all have said so.
            passed_by(one, dispatchers)
            given = given_at(ear)
        assert "table inet" in unit.run("nft", "list", "tables")
        assert given
        assert max(given) - ended < AT_ONCE
        traffic.mark("it is cut")
        unit.unplug()
        time.sleep(1.0)
        must_go_on(traffic, "it is killed", "it is cut")
    whole.forget(one)
    whole.settle()
    whole.must_carry()


def test_flows_through_a_killed_dispatcher_go_on(whole: Whole) -> None:
    dispatchers = list(whole.lab.of("dispatcher"))
    ends = (whole.lab.client, whole.lab.server)
    # Each serves a leg: one is killed, and then the other.
    for one, unit in zip(DISPATCHERS, dispatchers, strict=True):
        for each in dispatchers:
            each.must_say(lambda status: len(status.serves) == 1, SOON)
        with flowing(whole) as traffic:
            traffic.mark("it is killed")
            began = time.monotonic()
            unit.end()
            while time.monotonic() < began + LINGER - 0.02:
                # Who asks now may hear of either.
                for end in ends:
                    end.ip("neigh flush dev eth0")
                time.sleep(0.02)
            time.sleep(max(0.0, began + LINGER - time.monotonic()))
            traffic.mark("it is cut")
            unit.unplug()
            time.sleep(1.0)
            must_go_on(traffic, "it is killed", "it is cut")
        whole.lab.begin(member(one, "dispatcher"))
        dispatchers = list(whole.lab.of("dispatcher"))
    for each in dispatchers:
        each.must_say(lambda status: len(status.serves) == 1, SOON)
    whole.must_carry()


def test_the_leading_manager_is_killed(whole: Whole) -> None:
    whole.lab.begin(member(MANAGERS[1], "manager"))
    first = whole.leader()
    first.kill()
    second = whole.leader()
    must_have_learned(second)
    assert second.statuses[-1].epoch > first.statuses[-1].epoch
    whole.grow()
    whole.must_carry()
    # And without any.
    second.kill()
    whole.must_carry()
    client, server = whole.lab.client, whole.lab.server
    must_pass(Tcp(client, server, "192.0.2.9", 80), Tcp(client, server, "fd00:b::9", 80))
    whole.forget(*MANAGERS[:2])
    whole.lab.begin(member(MANAGERS[2], "manager"))
    must_have_learned(whole.leader())
    whole.settle()
    whole.must_carry()


def must_have_learned(manager: RunningUnit) -> None:
    """It took over what there was, and moved nothing."""
    learned = f"The shards are known: {SHARDS} have an owner."
    status = manager.must_say(lambda status: any(event.what == learned for event in status.events), SOON)
    assert not any("have moved" in event.what for event in status.events)


def test_a_policy_comes_into_force(whole: Whole) -> None:
    client, server = whole.lab.client, whole.lab.server
    old, new = Tcp(client, server, "192.0.2.9", 80), Tcp(client, server, "192.0.2.9", 81)
    whole.lab.set_policy(NARROW)
    must_stop(old, control=new, within=SOON)
    revision = whole.lab.policy.revision
    for unit in (*whole.planes(), *whole.lab.of("dispatcher")):
        unit.must_say(lambda status: status.policy_revision == revision, SOON)
    whole.lab.set_policy({"firewall": {"rules": [OUT | {"from": "nowhere"}]}, "nat": NAT})
    status = whole.leader().must_say(lambda status: bool(status.refused), SOON)
    assert "nowhere" in status.refused
    assert not old.once()
    must_pass(new)
    for unit in (*whole.planes(), *whole.lab.of("dispatcher")):
        assert unit.statuses[-1].policy_revision == revision
    whole.lab.set_policy(POLICY)
    must_pass(old)
    assert not whole.leader().statuses[-1].refused
    whole.must_carry()


def test_what_begins_while_shards_move_breaks_nothing(whole: Whole) -> None:
    # To one target, so that no two of them may have the same port; of a shard's, a tenth is taken in the end.
    target = ("192.0.2.9:8002",)
    plan = NearPlan(targets=target, connections=6000, setup_rate=600.0, every=2.0, silent=30.0)
    near, far = whole.lab.client.netns, {whole.lab.server.netns: FarPlan(listen=target)}
    many = {
        "source": [{"from": "inside", "to": "outside", "addresses": ["192.0.2.1"], "ports": "1024-65535"}]
    }
    whole.lab.set_policy({"firewall": {"rules": [OUT]}, "nat": many})
    revision = whole.lab.policy.revision
    for unit in (*whole.planes(), *whole.lab.of("dispatcher")):
        unit.must_say(lambda status: status.policy_revision == revision, SOON)
    whole.settle()
    with Traffic(near=near, plan=plan, far=far) as traffic:
        whole.shrink(whole.grow(2))
        assert traffic.ready().refused == 0
        # Whoever lost its port to another one hears of it when it speaks.
        time.sleep(2 * plan.every)
        broken = traffic.broken()
        assert not broken, (len(broken), list(broken.items())[:3])
    whole.must_carry()
