"""The traffic program: nothing is broken where nothing is, and what is broken somewhere is named exactly.

| claim | and in reverse |
| --- | --- |
| over a wire all bytes of 1,000 connections come back | what nobody listens for is refused, one by one |
| of connections it names those that were altered, reset, closed or held back, and no other | |
| of flows it names those with a gap, altered or moved, and no other | |
| a gap belongs to the mark that was set before it | |
| delays are what they are | what the far end itself does late is none, nor a gap |
| connections that have lasted for as long as they are to are made anew | nobody counts them as broken |
| when the far end dies all are broken | |
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from probes import Space, wait_for

from trunkline.devices import namespace
from trunkline.traffic import plans, promptness, streams
from trunkline.traffic.pair import Result, Traffic, make_room, together
from trunkline.traffic.plans import FarPlan, NearPlan
from trunkline.traffic.streams import HEAD, Streams
from trunkline.traffic.tally import Histogram, Turns
from trunkline.traffic.words import Delays, NearTotal, Period, SetUp

TAG = f"pt{os.getpid()}"
HERE, THERE = ("10.9.0.1", "10.9.0.3", "fd09::1"), ("10.9.0.2", "fd09::2")
#: Where the middlebox listens, in front of port 8000.
MIDDLE = "10.9.0.2:7000"


@pytest.fixture(scope="module")
def wire() -> Iterator[tuple[Space, Space]]:
    """Two namespaces and a cable."""
    near, far = Space(f"{TAG}-n"), Space(f"{TAG}-f")
    try:
        namespace.create(near.netns, far.netns)
        near.ip(f"link add eth0 type veth peer name eth0 netns {far.netns}")
        for space, addresses in ((near, HERE), (far, THERE)):
            lengths = (f"{a}/64 dev eth0 nodad" if ":" in a else f"{a}/24 dev eth0" for a in addresses)
            space.ip("link set dev eth0 up", *(f"address add {each}" for each in lengths))
            make_room(space.netns)
        yield near, far
    finally:
        namespace.delete(near.netns, far.netns)


class Middlebox:
    """Passes on connections and datagrams from `MIDDLE` to port 8000, and does to some what it is told."""

    def __init__(self, space: Space) -> None:
        self._space = space
        #: What is done to a connection's next piece: flip-there, flip-back, reset, close, hold. By number.
        self.connections: dict[int, str] = {}
        #: What is done to a flow's datagrams, until it is taken away: drop, flip, delay, move.
        self.flows: dict[int, str] = {}
        self._out: dict[int, socket.socket] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Middlebox:
        host, port = plans.addresses((MIDDLE,))[0]
        self._thread.start()
        listener = namespace.open_socket_in(self._space.netns, host, port, backlog=1024)
        self._datagrams = namespace.open_socket_in(self._space.netns, host, port, kind=socket.SOCK_DGRAM)
        self._server = self._wait(asyncio.start_server(self._connection, sock=listener))
        self._loop.call_soon_threadsafe(self._loop.add_reader, self._datagrams, self._datagram)
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self._ends())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for each in (self._datagrams, *self._out.values()):
            each.close()

    def _wait(self, work: object) -> object:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)  # type: ignore[arg-type]

    async def _ends(self) -> None:
        self._server.close()  # type: ignore[attr-defined]
        for each in (self._datagrams, *self._out.values()):
            self._loop.remove_reader(each)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = namespace.inside(self._space.netns, lambda: socket.socket(socket.AF_INET))
        onward.setblocking(False)
        await self._loop.sock_connect(onward, (THERE[0], 8000))
        there, back = await asyncio.open_connection(sock=onward)
        head = await reader.readexactly(HEAD.size)
        number = streams.number(head)
        assert number is not None
        back.write(head)
        ways = [self._pass(number, "there", reader, back), self._pass(number, "back", there, writer)]
        try:
            done, rest = await asyncio.wait(map(asyncio.ensure_future, ways), return_when="FIRST_COMPLETED")
            if done.pop().result() == "reset":
                # Closed at once, without a farewell (socket(7), SO_LINGER).
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            for each in rest:
                each.cancel()
        finally:
            for end in (writer, back):
                end.close()

    async def _pass(
        self, number: int, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> str:
        while data := await reader.read(65536):
            told = self.connections.get(number, "")
            if told in ("reset", "close"):
                del self.connections[number]
                return told
            if told == "hold":
                continue
            if told == f"flip-{way}":
                del self.connections[number]
                data = _flipped(data)
            writer.write(data)
        return ""

    def _datagram(self) -> None:
        data, where = self._datagrams.recvfrom(65536)
        flow, _ = streams.opened(memoryview(data)) or (-1, 0)
        told = self.flows.get(flow, "")
        if told == "drop":
            return
        if told == "move":
            del self.flows[flow]
            self._loop.remove_reader(self._out[flow])
            self._out.pop(flow).close()
        if flow not in self._out:
            self._out[flow] = out = namespace.open_socket_in(
                self._space.netns, THERE[0], 0, kind=socket.SOCK_DGRAM
            )
            self._loop.add_reader(out, lambda: self._datagrams.sendto(out.recv(65536), where))
        if told == "flip":
            del self.flows[flow]
            data = _flipped(data)
        if told == "delay":
            self._loop.call_later(0.5, self._out[flow].sendto, data, (THERE[0], 8000))
        else:
            self._out[flow].sendto(data, (THERE[0], 8000))


def _flipped(data: bytes) -> bytes:
    return data[:20] + bytes([data[20] ^ 1]) + data[21:]


def steady(traffic: Traffic, answered: int) -> None:
    """So many datagrams more are answered."""
    live = traffic.live()
    wanted = (live.answered if live is not None else 0) + answered
    wait_for(lambda: (now := traffic.live()) is not None and now.answered >= wanted, 20, "it goes on")


# Over a wire.


@pytest.mark.machine
def test_over_a_wire_all_bytes_come_back(wire: tuple[Space, Space]) -> None:
    near, far = wire
    targets = (f"{THERE[0]}:8000-8001", f"[{THERE[1]}]:8000")
    plan = NearPlan(targets=targets, sources=HERE, connections=1000, every=1.0, flows=16)
    with Traffic(near=near.netns, plan=plan, far={far.netns: FarPlan(listen=targets)}) as traffic:
        assert traffic.ready().established == 1000
        steady(traffic, 1000)
        result = traffic.end()
    assert (result.near.established, result.near.refused, result.near.unanswered) == (1000, 0, 0)
    assert (result.broken, result.refused, result.altered, result.moved) == ({}, (), (), ())
    assert result.far.accepted == 1000
    assert result.near.bytes == result.far.bytes > 1000 * (HEAD.size + plan.size)
    assert result.near.sent == result.near.answered == result.far.datagrams > 1000


@pytest.mark.machine
def test_connections_that_have_lasted_are_made_anew(wire: tuple[Space, Space]) -> None:
    near, far = wire
    targets = (f"{THERE[0]}:8000",)
    plan = NearPlan(targets=targets, connections=100, every=0.5, lasts=1.0)
    with Traffic(near=near.netns, plan=plan, far={far.netns: FarPlan(listen=targets)}) as traffic:
        assert traffic.ready().established == 100
        time.sleep(4.0)
        result = traffic.end()
    # Each lasts for a second, and until its turn comes; then there is another one.
    assert 200 <= result.near.ended <= 400
    assert result.near.established == 100
    assert result.far.accepted == 100 + result.near.ended
    assert (result.broken, result.refused, result.near.unanswered) == ({}, (), 0)


@pytest.mark.machine
def test_what_nobody_listens_for_is_refused(wire: tuple[Space, Space]) -> None:
    near, far = wire
    plan = NearPlan(targets=("10.9.0.2:8000", "10.9.0.2:8001"), connections=10)
    with Traffic(near=near.netns, plan=plan, far={far.netns: FarPlan(listen=("10.9.0.2:8000",))}) as traffic:
        assert traffic.ready().refused == 5
        result = traffic.end()
    assert [(each.connection, each.why) for each in result.refused] == [
        (number, "Connection refused") for number in range(1, 10, 2)
    ]


@pytest.mark.machine
def test_when_the_far_end_dies_all_are_broken(wire: tuple[Space, Space]) -> None:
    near, far = wire
    plan = NearPlan(targets=("10.9.0.2:8000",), connections=100)
    with Traffic(near=near.netns, plan=plan, far={far.netns: FarPlan(listen=plan.targets)}) as traffic:
        traffic.ready()
        traffic.mark("killed")
        traffic.kill_far(far.netns)
        wait_for(lambda: len(traffic.broken()) == 100, 20, "all are broken")
        result = traffic.end()
    broken = [each for found in result.broken.values() for each in found]
    assert result.far is None
    assert {each.why for each in broken} <= {"reset", "closed"}
    assert {each.marks for each in broken} == {("", "killed")}


# By a middlebox.


def through(
    wire: tuple[Space, Space], plan: NearPlan, faults: Callable[[Middlebox, Traffic], None]
) -> Result:
    """What becomes of traffic while the middlebox does something."""
    near, far = wire
    place = {far.netns: FarPlan(listen=("10.9.0.2:8000",))}
    with Middlebox(far) as middlebox, Traffic(near=near.netns, plan=plan, far=place) as traffic:
        assert traffic.ready().established == plan.connections
        faults(middlebox, traffic)
        return traffic.end()


@pytest.mark.machine
def test_of_connections_exactly_the_broken_ones_are_named(wire: tuple[Space, Space]) -> None:
    faults = {3: "flip-there", 50: "flip-back", 99: "reset", 100: "close", 257: "hold"}

    def break_some(middlebox: Middlebox, traffic: Traffic) -> None:
        traffic.mark("faults")
        middlebox.connections |= faults
        wait_for(lambda: len(traffic.broken()) >= len(faults), 30, "all are found")

    plan = NearPlan(targets=(MIDDLE,), connections=300, every=1.0, silent=4.0)
    result = through(wire, plan, break_some)
    found = {n: {(each.side, each.why) for each in said} for n, said in result.broken.items()}
    assert found == {
        3: {("far", "wrong byte"), ("near", "wrong byte")},
        50: {("near", "wrong byte")},
        99: {("near", "reset")},
        100: {("near", "closed")},
        257: {("near", "silent")},
    }
    for number in (3, 50):
        assert {(each.position - HEAD.size) % plan.size for each in result.broken[number]} == {20}
    assert {each.marks for said in result.broken.values() for each in said if each.side == "near"} == {
        ("", "faults")
    }
    assert result.near.broken == {"wrong byte": 2, "reset": 1, "closed": 1, "silent": 1}
    assert result.near.established == 295


@pytest.mark.machine
def test_of_flows_exactly_the_disturbed_ones_are_named(wire: tuple[Space, Space]) -> None:
    def disturb(middlebox: Middlebox, traffic: Traffic) -> None:
        steady(traffic, 100)
        traffic.mark("drop")
        middlebox.flows |= {2: "drop"}
        time.sleep(2.0)
        middlebox.flows.clear()
        steady(traffic, 100)
        traffic.mark("others")
        middlebox.flows |= {4: "flip", 5: "move"}
        wait_for(lambda: not middlebox.flows, 10, "both are done")
        steady(traffic, 100)

    # A gap of less than that may be the machine's own.
    plan = NearPlan(targets=(MIDDLE,), flows=8, gap=1.7)
    result = through(wire, plan, disturb)
    assert [(gap.flow, gap.mark) for gap in result.gaps] == [(2, "drop")]
    assert result.gaps[0].seconds > 1.9
    assert result.period("drop").flow == 2
    assert result.near.longest_gap == result.period("drop").longest_gap == result.gaps[0].seconds
    assert {(each.flow, each.side) for each in result.altered} == {(4, "far"), (4, "near")}
    assert [each.flow for each in result.moved] == [5]
    # Of two seconds, one and a few more.
    assert 20 < result.near.sent - result.near.answered < 4 * plan.flow_rate


@pytest.mark.machine
def test_delays_are_what_they_are(wire: tuple[Space, Space]) -> None:
    def delay(middlebox: Middlebox, traffic: Traffic) -> None:
        steady(traffic, 100)
        traffic.mark("delay")
        middlebox.flows |= dict.fromkeys(range(8), "delay")
        # So many that nearly all of them were asked after the mark.
        steady(traffic, 900)

    result = through(wire, NearPlan(targets=(MIDDLE,), flows=8), delay)
    assert result.period("").flows.median < 0.45
    assert result.period("delay").flows.median > 0.49


@pytest.mark.machine
def test_what_the_far_end_does_late_is_no_delay(wire: tuple[Space, Space]) -> None:
    near, far = wire
    plan = NearPlan(targets=("10.9.0.2:8000",), flows=8, gap=0.5)
    with Traffic(near=near.netns, plan=plan, far={far.netns: FarPlan(listen=plan.targets)}) as traffic:
        steady(traffic, 100)
        traffic.mark("it sleeps")
        (pid,) = traffic.far_processes(far.netns)
        os.kill(pid, signal.SIGSTOP)
        # So many are sent meanwhile that they would be half of all.
        time.sleep(1.0)
        os.kill(pid, signal.SIGCONT)
        steady(traffic, 300)
        traffic.mark("it is awake")
        result = traffic.end()
    period = result.period("it sleeps")
    assert period.flows.count > 300
    assert period.flows.p99 < 0.3
    assert (period.longest_gap < 0.5, result.gaps) == (True, ())


# Of the parts.


def test_the_bytes_of_a_connection_are_its_own() -> None:
    one, other = Streams("one"), Streams("other")
    assert one.piece(5, 0, 200) == Streams("one").piece(5, 0, 200) != other.piece(5, 0, 200)
    assert one.piece(5, 0, 200) == one.piece(5, 0, 3) + one.piece(5, 3, 100) + one.piece(5, 103, 97)
    assert streams.number(one.piece(5, 0, HEAD.size)) == 5
    # Neither is it what came long before, nor what others have at that place.
    here = one.piece(5, 1000, 64)
    assert here not in one.piece(5, 1001, 60_000)
    assert len({one.piece(number, 1000, 64) for number in range(100_000)}) == 100_000


def test_everybody_has_a_turn_once_in_a_period() -> None:
    turns = Turns(4, 2.0, 100.0, forgotten=1.0)
    assert [who for who, _ in turns.due(100.0)] == [0]
    assert turns.next() == 100.5
    assert turns.due(100.4) == []
    assert turns.due(101.1) == [(1, pytest.approx(0.6)), (2, pytest.approx(0.1))]


def test_who_slept_does_not_send_all_at_once() -> None:
    turns = Turns(10, 1.0, 0.0, forgotten=0.25)
    assert turns.due(0.0) == [(0, 0.0)]
    (_, late), *others = turns.due(500.0)
    assert (late, len(others)) == (pytest.approx(499.9), 2)


def test_quantiles_are_within_two_percent() -> None:
    histogram = Histogram()
    for n in range(1, 10_001):
        histogram.add(n / 1000)
    delays = histogram.delays()
    assert delays.count == 10_000
    assert delays.median == pytest.approx(5.0, rel=0.02)
    assert delays.p99 == pytest.approx(9.9, rel=0.02)
    assert delays.p999 == pytest.approx(9.99, rel=0.02)
    assert delays.longest == 10.0


def test_a_histogram_is_put_together_from_its_buckets() -> None:
    histograms = [Histogram(), Histogram()]
    for n in range(1, 1001):
        histograms[n % 2].add(n / 1000)
    whole = Histogram().join(Histogram(each.buckets(), each.delays().longest) for each in histograms)
    assert whole.delays().count == 1000
    assert whole.delays().p999 == pytest.approx(0.999, rel=0.02)
    assert whole.delays().longest == 1.0


def test_a_datagram_is_again_what_it_was_when_its_time_was_read() -> None:
    sent = streams.datagram(Streams("one"), 3, 7, streams.SHORTEST + 5)
    there = bytearray(sent)
    streams.hold(memoryview(there), 123_456_789)
    assert there != sent
    assert streams.release(memoryview(there)) == 123_456_789
    assert (bytes(there), streams.opened(memoryview(there))) == (sent, (3, 7))


def test_the_kernel_says_when_a_datagram_came() -> None:
    beside = struct.pack("@ll", 5, 7)
    assert promptness.came([(socket.SOL_SOCKET, 35, beside)]) == 5_000_000_007
    before = promptness.day()
    assert before <= promptness.came([]) <= promptness.day()


def test_of_several_processes_lateness_is_that_of_the_flows() -> None:
    def total(late: float, flows: int) -> NearTotal:
        own, seen = Delays(count=9, p999=late), Delays(count=flows)
        period = Period(name="", began=0.0, flows=seen, own=own)
        names = ("established", "refused", "ended", "unanswered", "bytes", "sent", "answered")
        return NearTotal(
            **dict.fromkeys(names, 0),
            at=1.0,
            broken={},
            longest_gap=0.0,
            connections=Delays(),
            flows=seen,
            own=own,
            periods=(period,),
        )

    def of(*totals: NearTotal) -> tuple[float, float]:
        found = together(totals)
        return found.own.p999, found.periods[0].own.p999

    assert of(total(0.001, 5), total(0.07, 0)) == (0.001, 0.001)
    assert of(total(0.001, 0), total(0.07, 0)) == (0.07, 0.07)


def test_counts_of_several_processes_are_added() -> None:
    both = together([SetUp(at=1.0, established=3, refused=1), SetUp(at=2.0, established=4, refused=0)])
    assert both == SetUp(at=2.0, established=7, refused=1)


def test_addresses_have_ports() -> None:
    assert plans.addresses(("[fd00::1]:80", "192.0.2.1:7-8")) == [
        ("fd00::1", 80),
        ("192.0.2.1", 7),
        ("192.0.2.1", 8),
    ]
    for wrong in ("192.0.2.1", "192.0.2.1:", "host:80", "[fd00::1]:80-x"):
        with pytest.raises(ValueError, match=r"no address|does not appear"):
            plans.addresses((wrong,))
