"""The fabric of an appliance: a dispatcher, and data planes that are routers with nftables.

| claim | and in reverse |
| --- | --- |
| flows reach the other side, spread over all data planes: routed IPv6, translated IPv4 | |
| both directions meet the same data plane; so do ICMP errors and fragments | |
| targets that are published are translated | |
| shards that move with their state break nothing | without state, what is translated ends |
| what the new owner does not know, the former one forwards | |
| a probe is answered from the kernel | when the unit's process has ended it says so |
| who asks for a dispatcher's address is answered | when its process has ended nobody is |
| packets of what is established need no kernel | what begins or ends, and what is too long or too old, does |
| packets have as much of processors as they may have | and no more |
| the object is of this source | |
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from flows import Connection, Flood, Ping, Tcp, Udp, must_pass
from probes import Space, wait_for

from trunkline.devices import namespace
from trunkline.devices.conntrack import Conntrack
from trunkline.plan.shards import SHARDS
from trunkline.units.fabric import OBJECT, SAME, Blocks, Fabric, Leg

TAG = f"fb{os.getpid()}"
DISPATCHER, PLANES = 200, (0, 1, 2)
INSIDE, OUTSIDE = ("10.0.0.{}", "fd00:a::{}"), ("192.0.2.{}", "fd00:b::{}")
CONTROL = "02:0c:00:00:00:01"
#: Of an answer's flags (units/fabric.bpf.c).
GONE = 0x04
BLOCKS = Blocks(2048, 64)
RULES = """
table inet t {{
  chain marks {{ type filter hook prerouting priority -150; ct mark set meta mark and 0xffff; }}
  chain only {{ type filter hook forward priority 0; policy drop;
    ct state established meta mark set meta mark or {same:#x}
    ct state established,related accept
    ct state invalid drop
    iifname "in" accept
    ct status dnat accept
  }}
  chain sources {{ type nat hook postrouting priority 100;
    oifname "out" meta l4proto {{ tcp, udp }} snat ip to ct mark map {{ {blocks} }}
  }}
  chain targets {{ type nat hook prerouting priority -100;
    iifname "out" tcp dport 80 dnat ip to 10.0.0.5:8080
  }}
}}
"""


def bus(unit: int) -> str:
    return f"02:0b:00:00:00:{unit:02x}"


class Scene:
    """A client inside, a server outside, between them an appliance of a dispatcher and three data planes."""

    def __init__(self) -> None:
        self.client, self.server = Space(f"{TAG}-c"), Space(f"{TAG}-s")
        self.switch, self.dispatcher = Space(f"{TAG}-b"), Space(f"{TAG}-d", "in")
        self.planes = [Space(f"{TAG}-{n}", "in") for n in PLANES]
        self.units = dict(zip((DISPATCHER, *PLANES), [self.dispatcher, *self.planes], strict=True))
        for space in (self.client, self.server, self.switch, *self.units.values()):
            namespace.create(space.netns)
            # Or neighbours are asked for a second later.
            namespace.sysctl(
                space.netns, [(f"ipv6/conf/{which}/accept_dad", 0) for which in ("all", "default")]
            )
        self.switch.ip("link add name bus type bridge", "link set dev bus up")
        for number, unit in self.units.items():
            self._unit(number, unit)
        self._side(self.client, "in", INSIDE, 5)
        self._side(self.server, "out", OUTSIDE, 9)
        self.fabrics = {n: self._fabric(n, unit) for n, unit in self.units.items()}
        chance = random.Random(1)
        self.owner = [chance.choice(PLANES) for _ in range(SHARDS)]
        for shard, owner in enumerate(self.owner):
            self.tell(shard, owner)

    def _unit(self, number: int, unit: Space) -> None:
        self.switch.ip(
            f"link add b{number} mtu 9000 type veth peer name bus address {bus(number)} netns {unit.netns}",
            f"link set dev b{number} master bus up",
            f"link set dev b{number} type bridge_slave learning off flood off",
        )
        entry = ("fdb", "add", bus(number), "dev", f"b{number}", "master", "static")
        assert self.switch.run("bridge", *entry).returncode == 0
        unit.ip(
            "link set dev bus mtu 9000 up", f"link add control address {CONTROL} type veth peer name control-"
        )
        unit.ip("link set dev control up", "link set dev control- up")
        given = [("ipv4/ip_forward", 1), ("ipv6/conf/all/forwarding", 1), ("ipv6/conf/bus/disable_ipv6", 1)]
        namespace.sysctl(unit.netns, given)
        if number == DISPATCHER:
            return
        for leg, addresses in (("in", INSIDE), ("out", OUTSIDE)):
            unit.ip(
                f"link add {leg} address {bus(number)} arp off type veth peer name {leg}-",
                f"link set dev {leg}- up",
                f"link set dev {leg} arp off up",
                *_addresses(leg, addresses, 1),
            )
        namespace.sysctl(unit.netns, [("netfilter/nf_conntrack_tcp_be_liberal", 1)])
        ranges = {s: f"{BLOCKS.of(s)[0]}-{BLOCKS.of(s)[-1]}" for s in range(SHARDS)}
        blocks = ", ".join(f"{shard} : 192.0.2.1 . {ports}" for shard, ports in ranges.items())
        done = unit.run("nft", "-f", "-", input=RULES.format(blocks=blocks, same=SAME))
        assert done.returncode == 0, done.stderr[:500]

    def _side(self, end: Space, leg: str, addresses: tuple[str, str], number: int) -> None:
        end.ip(
            f"link add eth0 type veth peer name {leg} netns {self.dispatcher.netns}", "link set dev eth0 up"
        )
        end.ip(*_addresses("eth0", addresses, number))
        self.dispatcher.ip(f"link set dev {leg} up", *_addresses(leg, addresses, 1))
        end.ip(*(f"route add default via {a.format(1)}" for a in addresses))

    def _fabric(self, number: int, unit: Space) -> Fabric:
        legs = [Leg("in", False, bus(DISPATCHER)), Leg("out", True, bus(DISPATCHER))]
        made = Fabric(unit.netns, "bus", "control", number, legs, spreads=number == DISPATCHER)
        for other in self.units:
            made.tell_unit(other, bus(other))
        made.tell_sources({"192.0.2.1": BLOCKS})
        made.tell_published("192.0.2.1", 80, 6)
        made.tell_published("10.0.0.5", 8080, 6)
        return made

    def close(self) -> None:
        for fabric in self.fabrics.values():
            fabric.close()

    def tell(self, shard: int, owner: int, former: int | None = None, *, begins: bool = False) -> None:
        """Everybody who has a shard; the owner, who had it, before dispatchers send to it."""
        for number in (*PLANES, DISPATCHER):
            before = former if number == owner else None
            self.fabrics[number].tell_shard(shard, owner, before, begins=begins and before is not None)
        self.owner[shard] = owner

    def move(self, shard: int, to: int) -> None:
        """A shard with the state of its flows."""
        before, self_ = self.owner[shard], Conntrack(self.planes[self.owner[shard]].netns)
        after = Conntrack(self.planes[to].netns)
        try:
            for final in (False, True):
                entries = self_.entries(lambda mark: mark == shard)
                assert after.put(entries) == []
                self.tell(shard, to, None if final else before)
            self_.drop(entries)
        finally:
            self_.close()
            after.close()

    def many(self, stack: contextlib.ExitStack, count: int = 12) -> list[Connection]:
        flows = [Tcp(self.client, self.server, a.format(9), 80) for a in OUTSIDE for _ in range(count)]
        flows += [Tcp(self.server, self.client, "192.0.2.1", 80, listening=8080) for _ in range(count)]
        return [stack.enter_context(flow.connected()) for flow in flows]


def _addresses(device: str, addresses: tuple[str, str], number: int) -> list[str]:
    v4, v6 = (address.format(number) for address in addresses)
    return [f"address add {v4}/24 dev {device}", f"address add {v6}/64 dev {device} nodad"]


@pytest.fixture
def scene() -> Iterator[Scene]:
    try:
        with contextlib.closing(Scene()) as made:
            yield made
    finally:
        namespace.delete(*namespace.names(f"{TAG}-"))


@pytest.mark.machine
def test_flows_are_spread_and_both_directions_meet(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        connections = scene.many(stack)
        must_pass(*connections)
    # All is at rest, and each packet was one data plane's.
    counters = {n: scene.fabrics[n].counters() for n in PLANES}
    assert all(found["received"] > 20 for found in counters.values())
    spread = scene.fabrics[DISPATCHER].counters()["received"]
    assert sum(found["received"] for found in counters.values()) == spread
    assert not any(found["handed_over"] for found in counters.values())
    inside, outside = scene.client, scene.server
    for address, seen in zip(OUTSIDE, ("192.0.2.1", INSIDE[1].format(5)), strict=True):
        flow = Udp(inside, outside, address.format(9), 7)
        must_pass(flow, Ping(inside, address.format(9)))
        assert flow.seen_from == seen
        pinged = inside.run(
            "ping", "-M", "dont", "-s", "3000", "-i", "0.1", "-c", "5", "-W", "2", address.format(9)
        )
        assert " 0% packet loss" in pinged.stdout


def carried(scene: Scene) -> int:
    """Packets that no data plane's kernel saw."""
    return sum(scene.fabrics[n].counters()["carried"] for n in PLANES)


@pytest.mark.machine
def test_packets_of_what_is_established_need_no_kernel(scene: Scene) -> None:
    data = random.Random(3).randbytes(3 << 20)
    with contextlib.ExitStack() as stack:
        for connection in scene.many(stack, 2):
            before = carried(scene)
            assert connection.carries(data)
            assert carried(scene) > before + 20
    # The kernel sees what begins and ends, though it is of the same ports.
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        with scene.server.open(family, socket.SOCK_STREAM) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.settimeout(5)
            listening.bind(("", 90))
            listening.listen()
            for turn in range(20):
                with scene.client.open(family, socket.SOCK_STREAM) as client:
                    client.settimeout(5)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.bind(("", 5555))
                    client.connect((OUTSIDE[version == 6].format(9), 90))
                    server, _ = listening.accept()
                    with server:
                        server.settimeout(5)
                        assert Connection(client, server, str(turn)).carries(data[:2000])


def is_too_long(end: socket.socket, size: int) -> bool:
    """Whether a datagram of that size may not be sent, as somebody on the way said."""
    try:
        end.send(bytes(size))
    except OSError as error:
        return error.errno == errno.EMSGSIZE
    return False


@pytest.mark.machine
@pytest.mark.parametrize("version", [4, 6])
def test_hops_and_lengths_count_for_what_needs_no_kernel(scene: Scene, version: int) -> None:
    v6 = version == 6
    family, level = (socket.AF_INET6, socket.IPPROTO_IPV6) if v6 else (socket.AF_INET, socket.IPPROTO_IP)
    with (
        scene.server.open(family, socket.SOCK_DGRAM) as far,
        scene.client.open(family, socket.SOCK_DGRAM) as near,
    ):
        far.setsockopt(level, 51 if v6 else 12, 1)  # IPV6_RECVHOPLIMIT, IP_RECVTTL
        near.setsockopt(
            level, 23 if v6 else 10, 2
        )  # IPV6_MTU_DISCOVER, IP_MTU_DISCOVER: it may not be broken up
        far.bind(("", 7))
        near.connect((OUTSIDE[v6].format(9), 7))
        for end in (far, near):
            end.settimeout(5)
        before, hops = carried(scene), set()
        for turn in range(30):
            near.send(words := f"datagram {turn}".encode())
            data, told, _, peer = far.recvmsg(2000, 100)
            hops.add(struct.unpack("=i", told[0][2])[0])
            assert data == words
            far.sendto(words, peer)
            assert near.recv(2000) == words
        assert carried(scene) > before + 30
        assert hops == {63}
        # Of a flow that needs no kernel somebody says that nobody is there: its sender is told.
        with scene.client.open(family, socket.SOCK_DGRAM) as lone:
            lone.settimeout(5)
            lone.bind((near.getsockname()[0], 0))
            lone.connect((OUTSIDE[v6].format(9), 7))
            lone.send(b"it begins")
            _, peer = far.recvfrom(2000)
            far.sendto(b"and goes on", peer)
            lone.recv(2000)
            # It is carried both ways by now.
            for _ in range(5):
                lone.send(b"again")
                far.recvfrom(2000)
                far.sendto(b"again", peer)
                lone.recv(2000)
            seen = carried(scene)
            far.close()
            lone.send(b"nobody is there")
            with pytest.raises(ConnectionRefusedError):
                lone.recv(2000)
            assert carried(scene) == seen + 1
        scene.dispatcher.ip("link set dev out mtu 1300")
        for plane in scene.planes:
            plane.ip("link set dev out mtu 1300")
        wait_for(lambda: is_too_long(near, 1400), 5, "the sender is told that it is too long")
        assert near.getsockopt(level, 24 if v6 else 14) == 1300  # IPV6_MTU, IP_MTU


def had(fabric: Fabric, seconds: float) -> tuple[float, int]:
    """The part of a processor that a unit's packets had for so long, and how many more were dropped."""
    began, before = time.monotonic(), fabric.counters()
    time.sleep(seconds)
    after, took = fabric.counters(), time.monotonic() - began
    dropped = after["dropped_over_quota"] - before["dropped_over_quota"]
    return (after["processor_time"] - before["processor_time"]) / 1e9 / took, dropped


@pytest.mark.machine
@pytest.mark.parametrize("kind", ["data plane", "dispatcher"])
def test_packets_have_their_part_of_a_processor_and_no_more(scene: Scene, kind: str) -> None:
    with Flood(scene.client, OUTSIDE[0].format(9)):
        busiest = max(PLANES, key=lambda n: had(scene.fabrics[n], 0.3)[0])
        limited = scene.fabrics[busiest if kind == "data plane" else DISPATCHER]
        without, dropped = had(limited, 1.0)
        assert without > 0.06
        assert dropped == 0
        for cores in (0.05, 0.02):
            limited.limit(cores)
            # What it may have had ahead is gone then.
            time.sleep(0.5)
            found, dropped = had(limited, 1.0)
            assert cores * 0.9 < found < cores * 1.1
            assert dropped > 0
        limited.limit(None)
        assert had(limited, 0.5)[1] == 0


@pytest.mark.machine
def test_an_error_reaches_the_data_plane_of_its_flow(scene: Scene) -> None:
    scene.server.ip("link set dev eth0 mtu 1300")
    # What the server cannot take, the dispatcher's leg says: it stands for a router on the way.
    scene.dispatcher.ip("link set dev out mtu 1300")
    for plane in scene.planes:
        plane.ip("link set dev out mtu 1300")
    assert scene.client.told_mtu("192.0.2.9", size=1500) == 1300


@pytest.mark.machine
def test_shards_that_move_with_their_state_break_nothing(scene: Scene) -> None:
    chance = random.Random(7)
    with contextlib.ExitStack() as stack:
        connections = scene.many(stack)
        for _ in range(40):
            shard = chance.randrange(SHARDS)
            scene.move(shard, chance.choice([n for n in PLANES if n != scene.owner[shard]]))
            assert all(connection.once() for connection in chance.sample(connections, 4))
        must_pass(*connections)


@pytest.mark.machine
def test_what_the_owner_does_not_know_the_former_one_forwards(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        connections = scene.many(stack)
        for shard, owner in enumerate(scene.owner):
            scene.tell(shard, (owner + 1) % len(PLANES), owner)
        must_pass(*connections)
        assert sum(scene.fabrics[n].counters()["handed_over"] for n in PLANES) > len(connections)
        # What begins now is the new owner's; what nobody knows comes back to him.
        must_pass(
            Tcp(scene.client, scene.server, "192.0.2.9", 81), Udp(scene.client, scene.server, "192.0.2.9", 7)
        )
        assert sum(scene.fabrics[n].counters()["handed_back"] for n in PLANES) > 0


@pytest.mark.machine
@pytest.mark.parametrize("begins", [False, True])
def test_fragments_stay_together_while_shards_move(scene: Scene, begins: bool) -> None:
    flows = [
        Udp(scene.client, scene.server, address.format(9), 7, source_port=4000 + n, size=4000)
        for address in OUTSIDE
        for n in range(8)
    ]
    must_pass(*flows)
    # Who knows them is the former owner ...
    for shard, owner in enumerate(scene.owner):
        scene.tell(shard, (owner + 1) % len(PLANES), owner, begins=begins)
    must_pass(*flows)
    # ... or the owner, too.
    for shard, owner in enumerate(scene.owner):
        before = (owner - 1) % len(PLANES)
        scene.tell(shard, before)
        scene.move(shard, owner)
        scene.tell(shard, owner, before, begins=begins)
    must_pass(*flows)


@pytest.mark.machine
def test_what_begins_may_begin_at_the_former_one(scene: Scene) -> None:
    for shard, owner in enumerate(scene.owner):
        scene.tell(shard, (owner + 1) % len(PLANES), owner, begins=True)
    before = sum(scene.fabrics[n].counters()["handed_back"] for n in PLANES)
    with contextlib.ExitStack() as stack:
        connections = scene.many(stack)
        must_pass(*connections, Udp(scene.client, scene.server, "192.0.2.9", 7))
        assert sum(scene.fabrics[n].counters()["handed_back"] for n in PLANES) == before
        for shard, owner in enumerate(scene.owner):
            # Nobody knows them but who had the shard before.
            scene.tell(shard, (owner - 1) % len(PLANES))
        must_pass(*connections)


@pytest.mark.machine
def test_without_state_what_is_translated_ends(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        connections = scene.many(stack, 6)
        must_pass(*connections)
        for shard, owner in enumerate(scene.owner):
            scene.tell(shard, (owner + 1) % len(PLANES))
        # One of 64 gets the port that it had by chance.
        assert sum(connection.once() for connection in connections[:6]) < 3


@pytest.mark.machine
@pytest.mark.parametrize("by", ["bus", "control"])
def test_a_probe_is_answered_from_the_kernel_which_says_who_is_gone(scene: Scene, by: str) -> None:
    # On the out-of-band bus here is nobody but the unit.
    place, to = (scene.dispatcher.netns, bus(1)) if by == "bus" else (scene.units[1].netns, CONTROL)
    with contextlib.closing(Space(place, by if by == "bus" else f"{by}-").frames()) as ear:
        ear.setblocking(False)
        me, kind = bytes.fromhex(bus(DISPATCHER).replace(":", "")), 5
        label = bytes((2, kind, 0, DISPATCHER, 0, 0))
        probe = bytes.fromhex(to.replace(":", "")) + label + b"\x88\xb5" + me + bytes(60)

        def answers() -> list[int]:
            """The flags of those that came since this was asked last."""
            heard = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    frame = ear.recv(2000)
                    if frame[:6] == me and frame[6:10] == bytes((2, kind + 1, 0, 1)):
                        heard.append(frame[20])
            return heard

        ear.send(probe)
        assert wait_for(lambda: answers() or None, 5, "an answer") == [0]
        # As the kernel does when a process ends: nobody has its maps open any more.
        scene.fabrics.pop(1).close()

        def gone() -> bool:
            ear.send(probe)
            time.sleep(0.05)
            return answers()[-1:] == [GONE]

        wait_for(gone, 5, "it says that its program is gone")


def test_nobody_hears_of_the_addresses_of_a_dispatcher_whose_process_has_ended(scene: Scene) -> None:
    def is_told() -> bool:
        scene.client.run("ip", "neigh", "flush", "dev", "eth0")
        for address in INSIDE:
            scene.client.run("ping", "-c1", "-W0.2", address.format(1))
        shown = scene.client.run("ip", "neigh", "show", "dev", "eth0").stdout
        return "lladdr" in shown

    assert is_told()
    scene.fabrics.pop(DISPATCHER).close()
    wait_for(lambda: not is_told(), 5, "nobody is told")


def test_the_object_is_of_this_source() -> None:
    source = OBJECT.with_suffix(".c").read_bytes()
    assert hashlib.sha256(source).hexdigest().encode() in OBJECT.read_bytes()
