"""A data plane's table: packets through a router that was made by hand, and nothing else of an appliance.

    client, other ── inside ── router ── outside ── server

| claim | and in reverse |
| --- | --- |
| what a rule accepts passes; what none does, does not | |
| sources are translated to ports of their shard: TCP, UDP, echoes | what has no ports is dropped |
| a destination is translated, for its zone; rules speak of it as it was | without a rule it is dropped |
| an address is seen as another, both ways | |
| subscribers have ports of their own, of each shard | who is none is translated as others |
| the first rule that fits decides | |
| rules look at the ports that connections come from | |
| a refusal is told | |
| a log tells the packets that begin connections | |
| what is above a rate is dropped | |
| SYNs above their limits are dropped, those of others pass | |
| members have their shares; a source stays with one | those that are down get nothing |
| each of many packets meets the rule that is first, as an evaluation one by one finds | |
| of policies that were made ready the last one is in force | |
| what is not put in force is taken away | |
| while policies change, what both drop never passes, and what both translate is translated | |
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import json
import os
import random
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from first_match import first_match
from flows import Packet, Ping, Tcp, Udp, must_pass, must_stop
from probes import Space, wait_for

from trunkline.compiler.unit_slices import LegSlice
from trunkline.devices import namespace
from trunkline.devices.packet_log import Logged, PacketLog
from trunkline.resources.appliance_policy import parse
from trunkline.resources.appliance_policy.carrier import blocks
from trunkline.resources.appliance_policy.words import UDP
from trunkline.units import counts, enforcer
from trunkline.units.balancing import Seen
from trunkline.units.documents import said
from trunkline.units.enforcer import Enforcer
from trunkline.units.filtering import LOG_GROUP
from trunkline.units.proxy import Proxy
from trunkline.units.ruleset import discarded, ruleset, steps, translated

TAG = f"pr{os.getpid()}"
OWN4, OWN6 = "192.0.2.{}", "fd00:b::{}"
LEGS = (
    LegSlice(zone="inside", addresses=("10.0.0.1/24", "fd00:a::1/64"), mtu=1500),
    LegSlice(
        zone="outside",
        outside=True,
        addresses=(*(f"{OWN4.format(n)}/24" for n in (1, 2, 3)), "fd00:b::1/64", "fd00:b::2/64"),
        mtu=1500,
    ),
)
FAR = ("192.0.2.9", "fd00:b::9")
TRANSLATED = "ip saddr 192.0.2.2"
ALLOWED = {"name": "out", "from": "inside", "to": "outside", "action": "accept"}


class Scene:
    """The router, and who is on both sides of it. The mark of what comes stands for its shard."""

    def __init__(self) -> None:
        self.client, self.server = Space(f"{TAG}-c"), Space(f"{TAG}-s")
        self.other, self.router = Space(f"{TAG}-o"), Space(f"{TAG}-r", "inside")
        self.ends = {self.client: ("inside", 5), self.other: ("inside", 6), self.server: ("outside", 9)}
        self.text = ""
        for space in (self.router, *self.ends):
            namespace.create(space.netns)
            dad = [(f"ipv6/conf/{which}/accept_dad", 0) for which in ("all", "default")]
            namespace.sysctl(space.netns, dad)
        namespace.sysctl(self.router.netns, [("ipv4/ip_forward", 1), ("ipv6/conf/all/forwarding", 1)])
        for leg in LEGS:
            self.router.ip(f"link add {leg.zone} type bridge", f"link set dev {leg.zone} up")
            self.router.ip(*(_address(address, leg.zone) for address in leg.addresses))
        for end, (zone, number) in self.ends.items():
            self.router.ip(
                f"link add e{number} type veth peer name eth0 netns {end.netns}",
                f"link set dev e{number} master {zone} up",
            )
            end.ip("link set dev eth0 up")
            four, six = (("10.0.0", "fd00:a"), ("192.0.2", "fd00:b"))[zone == "outside"]
            end.ip(_address(f"{four}.{number}/24", "eth0"), _address(f"{six}::{number}/64", "eth0"))
            end.ip(f"route add default via {four}.1", f"route add default via {six}::1")
        self.come_in_shard(7)

    def come_in_shard(self, shard: int) -> None:
        """What comes to the router from now on is of this shard, as the fabric would say."""
        text = (
            "add table inet shards\ndelete table inet shards\ntable inet shards {\nchain arriving {\n"
            f"type filter hook prerouting priority -300; meta mark set {1 << 16 | shard}\n}}\n}}\n"
        )
        assert (done := self.router.run("nft", "-f", "-", input=text)).returncode == 0, done.stderr

    def apply(self, document: dict[str, Any], **how: Any) -> None:
        """The policy is in force, in place of the one before."""
        text = ruleset(parse(document), LEGS, replaces=self.text, **how)
        for step in steps(text):
            done = self.router.run("nft", "-f", "-", input=step)
            assert done.returncode == 0, done.stderr[:2000]
        self.text = text

    def table(self) -> list[dict[str, Any]]:
        """What the router has, as nft tells it."""
        found: list[dict[str, Any]] = json.loads(
            self.router.run("nft", "-j", "list", "table", "inet", "appliance").stdout
        )["nftables"]
        return found

    def dropped(self) -> dict[str, int]:
        counters = [each["counter"] for each in self.table() if "counter" in each]
        return {each["name"]: each["packets"] for each in counters}


def _address(address: str, device: str) -> str:
    return f"address add {address} dev {device}{' nodad' if ':' in address else ''}"


def came_from(ear: socket.socket) -> set[tuple[int, str, int]]:
    """Protocol, source and its port or identifier, of the TCP, UDP and echo requests that came."""
    found = set()
    with contextlib.closing(ear), contextlib.suppress(BlockingIOError):
        while True:
            frame, whence = ear.recvfrom(2000)
            kind, packet = frame[12:14], frame[14:]
            if whence[2] == socket.PACKET_OUTGOING or kind not in (b"\x08\x00", b"\x86\xdd"):
                continue
            four = kind == b"\x08\x00"
            protocol, source = (packet[9], packet[12:16]) if four else (packet[6], packet[8:24])
            header = packet[20:] if four else packet[40:]
            if protocol in (6, 17):
                port = header[0:2]
            elif (protocol, header[0]) in ((1, 8), (58, 128)):
                port = header[4:6]
            else:
                continue
            found.add((protocol, str(ipaddress.ip_address(source)), int.from_bytes(port, "big")))
    return found


@pytest.fixture
def scene() -> Iterator[Scene]:
    try:
        yield Scene()
    finally:
        namespace.delete(*namespace.names(f"{TAG}-"))


@pytest.mark.machine
def test_what_a_rule_accepts_passes_and_nothing_else(scene: Scene) -> None:
    scene.apply({"firewall": {"rules": [ALLOWED]}})
    there = [Tcp(scene.client, scene.server, address, 80) for address in FAR]
    back = [
        Tcp(scene.server, scene.client, "10.0.0.5", 80),
        Udp(scene.server, scene.client, "fd00:a::5", 7),
    ]
    must_stop(*back, control=there[0])
    must_pass(*there, *(Ping(scene.client, address) for address in FAR))
    assert scene.dropped()["dropped_default"] > 0
    scene.apply({})
    must_pass(*there, *back)


@pytest.mark.machine
@pytest.mark.parametrize("shard", [0, 255])
def test_sources_are_translated_to_ports_of_their_shard(scene: Scene, shard: int) -> None:
    document = {"nat": {"source": [{"from": "inside", "to": "outside", "addresses": []}]}}
    document["nat"]["source"][0]["addresses"] = [OWN4.format(2), OWN4.format(3), OWN6.format(2)]
    scene.apply(document)
    scene.come_in_shard(shard)
    blocks = translated(parse(document))
    ear = scene.server.frames()
    ear.setblocking(False)
    for client in (scene.client, scene.other):
        for far in FAR:
            must_pass(
                Tcp(client, scene.server, far, 80), Udp(client, scene.server, far, 7), Ping(client, far)
            )
    # What the server saw: the source's port, or the echo's identifier, is of the shard.
    seen = came_from(ear)
    assert {protocol for protocol, *_ in seen} == {1, 6, 17, 58}
    for _, address, port in seen:
        assert port in blocks[address].of(shard)


@pytest.mark.machine
def test_what_has_no_ports_does_not_pass_untranslated(scene: Scene) -> None:
    plain = [Packet(scene.client, scene.server, far, 47, lambda marker: bytes(4) + marker) for far in FAR]
    scene.apply({})
    must_pass(*plain)
    scene.apply({"nat": {"source": [source(OWN4.format(2), OWN6.format(2))]}})
    must_stop(*plain, control=Udp(scene.client, scene.server, FAR[0], 7))
    # A family that is not translated is none of its business.
    scene.apply({"nat": {"source": [source(OWN4.format(2))]}})
    must_pass(plain[1])


def source(*addresses: str) -> dict[str, Any]:
    return {"from": "inside", "to": "outside", "addresses": list(addresses)}


@pytest.mark.machine
def test_a_destination_is_translated_and_rules_speak_of_it_as_it_was(scene: Scene) -> None:
    targets = [
        {"zone": "outside", "address": own, "service": "tcp/80", "to": to, "port": 8080}
        for own, to in ((OWN4.format(1), "10.0.0.5"), (OWN6.format(1), "fd00:a::5"))
    ]
    targets.append({"zone": "outside", "address": OWN4.format(1), "service": "udp/53", "to": "10.0.0.6"})
    rules = [
        {
            **ALLOWED,
            "name": own.replace(":", "-"),
            "from": "outside",
            "to": "inside",
            "destination": own,
            "service": "tcp/80",
        }
        for own in (OWN4.format(1), OWN6.format(1))
    ]
    rules.append({**rules[0], "name": "names", "service": "udp/53"})
    web = [Tcp(scene.server, scene.client, own.format(1), 80, listening=8080) for own in (OWN4, OWN6)]
    scene.apply({"firewall": {"rules": [*rules, ALLOWED]}, "nat": {"destination": targets}})
    must_pass(*web, Udp(scene.server, scene.other, OWN4.format(1), 53))
    # Who is behind it is not what the rule speaks of.
    hidden = Tcp(scene.server, scene.client, "10.0.0.5", 8080)
    must_stop(hidden, control=web[0])
    narrow = {"firewall": {"rules": [rules[1], ALLOWED]}, "nat": {"destination": targets}}
    scene.apply(narrow)
    must_stop(web[0], control=web[1])


@pytest.mark.machine
def test_an_address_is_seen_as_another_both_ways(scene: Scene) -> None:
    pairs = [
        {"inside": "10.0.0.5", "outside": OWN4.format(3)},
        {"inside": "fd00:a::5", "outside": OWN6.format(2)},
    ]
    scene.apply({"nat": {"static": pairs, "source": [source(OWN4.format(1))]}})
    for pair, far in zip(pairs, FAR, strict=True):
        out = [Tcp(scene.client, scene.server, far, 80), Udp(scene.client, scene.server, far, 7)]
        come = Tcp(scene.server, scene.client, pair["outside"], 81)
        plain = Packet(scene.client, scene.server, far, 47, lambda marker: bytes(4) + marker)
        must_pass(*out, come, Ping(scene.client, far), Ping(scene.server, pair["outside"]), plain)
        assert {flow.seen_from for flow in out} == {pair["outside"]}
    other = Udp(scene.other, scene.server, FAR[0], 7)
    must_pass(other)
    assert other.seen_from == OWN4.format(1)


@pytest.mark.machine
def test_subscribers_have_ports_of_their_own(scene: Scene) -> None:
    carrier = {
        "from": "inside",
        "to": "outside",
        "subscribers": ["10.0.0.4/30"],
        "addresses": [OWN4.format(2), OWN4.format(3)],
        "block": 63 * 256 * 2,
        "untranslated": ["192.0.2.77/32"],
    }
    document = {"nat": {"carrier_grade": [carrier], "source": [source(OWN4.format(1))]}}
    policy = parse(document)
    scene.apply(document)
    for client, address in ((scene.client, "10.0.0.5"), (scene.other, "10.0.0.6")):
        ear = scene.server.frames()
        ear.setblocking(False)
        must_pass(*(Tcp(client, scene.server, FAR[0], 80) for _ in range(4)))
        must_pass(Udp(client, scene.server, FAR[0], 7), Ping(client, FAR[0]))
        seen = came_from(ear)
        assert {protocol for protocol, *_ in seen} == {1, 6, 17}
        found = [list(blocks(policy, source, port)) for _, source, port in seen]
        assert {each.subscriber for (each,) in found} == {address}
    plain = Packet(scene.client, scene.server, FAR[0], 47, lambda marker: bytes(4) + marker)
    must_stop(plain, control=Ping(scene.client, FAR[0]))
    # Some see subscribers as they are.
    with scene.server.address("192.0.2.77/24") as far:
        seen_there = Udp(scene.client, scene.server, far, 7, source="10.0.0.5", answered=False)
        must_pass(seen_there)
        assert seen_there.seen_from == "10.0.0.5"
        must_pass(Packet(scene.client, scene.server, far, 47, lambda marker: bytes(4) + marker))
    # Who is no subscriber is translated as others are.
    scene.client.ip(_address("10.0.0.77/24", "eth0"))
    other = Udp(scene.client, scene.server, FAR[0], 7, source="10.0.0.77")
    must_pass(other)
    assert other.seen_from == OWN4.format(1)


@pytest.mark.machine
def test_the_first_rule_that_fits_decides(scene: Scene) -> None:
    groups = {
        "addresses": {"far": ["192.0.2.8/31", "fd00:b::/64"]},
        "services": {"web": ["tcp/80", "tcp/443"]},
    }
    rules = [
        {"name": "no", "source": ["10.0.0.6", "fd00:a::6"], "service": "web", "action": "drop"},
        {"name": "far web", "destination": "far", "service": "web", "action": "accept"},
        {"name": "not this", "service": "tcp/443", "action": "drop"},
        {"name": "echo", "from": "inside", "service": "icmp", "action": "accept"},
        {"name": "all but", "from": "inside", "service": ["udp/1-99", "tcp/8080"], "action": "accept"},
    ]
    scene.apply({"firewall": {"groups": groups, "rules": rules}})
    for far in FAR:
        passing = [Tcp(scene.client, scene.server, far, port) for port in (80, 443, 8080)]
        passing += [Udp(scene.client, scene.server, far, 99), Ping(scene.other, far)]
        must_pass(*passing)
        stopped = [Tcp(scene.other, scene.server, far, port) for port in (80, 443)]
        stopped += [Udp(scene.client, scene.server, far, 100), Ping(scene.server, "10.0.0.5")]
        must_stop(*stopped, control=passing[0])
    must_stop(Tcp(scene.server, scene.client, "10.0.0.5", 443), control=Ping(scene.client, FAR[0]))
    met = counts.rules(scene.router.run(*counts.RULES).stdout)
    assert all(met[number] > 0 for number in range(5))


@pytest.mark.machine
def test_rules_look_at_the_ports_that_connections_come_from(scene: Scene) -> None:
    rules = [
        {"name": "low", "service": "udp", "source_port": "2000-2009", "action": "accept"},
        {"name": "web", "service": "udp/80", "action": "accept"},
    ]
    scene.apply({"firewall": {"rules": rules}})
    for far in FAR:
        low, web = (
            Udp(scene.client, scene.server, far, p, source_port=s) for p, s in ((7, 2009), (80, 2010))
        )
        must_pass(low, web)
        must_stop(Udp(scene.client, scene.server, far, 7, source_port=2010), control=low)


@pytest.mark.machine
def test_a_refusal_is_told(scene: Scene) -> None:
    rules = [{"name": "no", "service": ["tcp/80", "udp/80"], "action": "reject"}]
    scene.apply({"firewall": {"rules": rules, "default": "accept"}})
    for family, far in zip((socket.AF_INET, socket.AF_INET6), FAR, strict=True):
        with scene.client.open(family, socket.SOCK_STREAM) as wire:
            wire.settimeout(10)
            with pytest.raises(ConnectionRefusedError):
                wire.connect((far, 80))
        with scene.client.open(family, socket.SOCK_DGRAM) as wire:
            wire.settimeout(10)
            wire.connect((far, 80))
            wire.send(b"?")
            with pytest.raises(OSError, match=r"refused|denied|unreachable|prohibited|route"):
                wire.recv(10)


@pytest.mark.machine
def test_a_log_tells_the_packets_that_begin_connections(scene: Scene) -> None:
    rules = [
        {"name": "web", "from": "outside", "service": "tcp/80", "action": "accept", "log": True},
        {"name": "rest", "from": "outside", "action": "drop", "log": True},
        ALLOWED,
    ]
    target = {"zone": "outside", "address": OWN4.format(1), "service": "tcp/80", "to": "10.0.0.5"}
    scene.apply({"firewall": {"rules": rules}, "nat": {"destination": [target]}})
    with contextlib.closing(PacketLog(scene.router.netns, LOG_GROUP)) as log:
        must_pass(
            Tcp(scene.server, scene.client, OWN4.format(1), 80), Tcp(scene.client, scene.server, FAR[1], 80)
        )
        must_stop(
            Udp(scene.server, scene.client, "fd00:a::5", 7), control=Ping(scene.client, FAR[0]), times=1
        )
        expected = {
            # Its target is translated by then.
            ("accept web", FAR[0], "10.0.0.5", 6, 80),
            ("drop rest", FAR[1], "fd00:a::5", 17, 7),
        }
        heard: list[Logged] = []

        def told() -> set[tuple[str, str, str, int, int]]:
            heard.extend(log.read())
            return {
                (each.prefix, each.source, each.target, each.protocol, each.target_port) for each in heard
            }

        wait_for(lambda: told() >= expected, 10, f"{expected} are told")
        assert told() == expected


def begin(space: Space, far: str, port: int, count: int, source: str = "") -> int:
    """How many of so many connections come about, begun one after the other to somebody who listens."""
    family, begun = socket.AF_INET6 if ":" in far else socket.AF_INET, 0
    with contextlib.ExitStack() as stack:
        wires = []
        for _ in range(count):
            wire = stack.enter_context(space.open(family, socket.SOCK_STREAM))
            wire.setblocking(False)
            if source:
                wire.bind((source, 0))
            wire.connect_ex((far, port))
            wires.append(wire)
        # A SYN that was dropped is sent again after a second: until then, whoever is there came at once.
        deadline = time.monotonic() + 0.8
        while time.monotonic() < deadline and begun < count:
            _, able, _ = select.select([], wires, [], 0.05)
            begun += len([wire for wire in able if not wire.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)])
            wires = [wire for wire in wires if wire not in able]
    return begun


@contextlib.contextmanager
def listening(space: Space, port: int) -> Iterator[None]:
    with space.open(socket.AF_INET6, socket.SOCK_STREAM) as ear:
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ear.bind(("::", port))
        ear.listen(1000)
        yield


@pytest.mark.machine
def test_what_is_above_a_rate_is_dropped(scene: Scene) -> None:
    rules = [{"name": "few", "service": "tcp/80", "action": "accept", "rate": "20/hour"}]
    scene.apply({"firewall": {"rules": rules}}, share=0.5)
    with listening(scene.server, 80):
        assert begin(scene.client, FAR[0], 80, 30) == 10
    assert scene.dropped()["dropped_rate"] >= 20


@pytest.mark.machine
def test_syns_above_their_limits_are_dropped(scene: Scene) -> None:
    limits = {"zone": "inside", "per_source": "10/hour", "connections": 6}
    scene.apply({"firewall": {"syn_protection": [limits], "default": "accept"}})
    with listening(scene.server, 80), listening(scene.client, 80):
        for far, second in zip(FAR, ("10.0.0.7", "fd00:a::7"), strict=True):
            scene.client.ip(_address(f"{second}/{64 if ':' in second else 24}", "eth0"))
            first = second[:-1] + "5"
            assert begin(scene.client, far, 80, 15, first) == 6
            # The others are those of another one.
            assert begin(scene.client, far, 80, 3, second) == 3
        # Nobody asks those who come from elsewhere.
        assert begin(scene.server, "10.0.0.5", 80, 30) == 30
    assert scene.dropped()["dropped_syn"] >= 18


@pytest.mark.machine
def test_members_have_their_shares(scene: Scene) -> None:
    def listener(name: str, own: str, algorithm: str, near: str) -> dict[str, Any]:
        members = [
            {"address": near.format(5), "port": 7000, "weight": 3},
            {"address": near.format(6), "port": 7000},
        ]
        port = {"even": 80, "stay": 81}[name[:4]]
        return {
            "name": name,
            "address": own,
            "protocol": "udp",
            "port": port,
            "algorithm": algorithm,
            "members": members,
        }

    ends = ((OWN4.format(1), "10.0.0.{}"), (OWN6.format(1), "fd00:a::{}"))
    listeners = [listener(f"even {own}".replace(":", "-"), own, "round_robin", near) for own, near in ends]
    listeners += [listener(f"stay {own}".replace(":", "-"), own, "source", near) for own, near in ends]
    document = {"balancer": {"listeners": listeners}}
    scene.apply(document)
    ears = {end: end.open(socket.AF_INET6, socket.SOCK_DGRAM) for end in (scene.client, scene.other)}
    ports = itertools.count(20000)
    with contextlib.ExitStack() as stack:
        for ear in ears.values():
            stack.enter_context(ear)
            ear.bind(("::", 7000))

        def shares(own: str, port: int, count: int) -> list[int]:
            """Of so many datagrams, each from a port of its own, how many client and other get."""
            family = socket.AF_INET6 if ":" in own else socket.AF_INET
            for _ in range(count):
                with scene.server.open(family, socket.SOCK_DGRAM) as wire:
                    # One that was there before would go on as it went.
                    wire.bind(("", next(ports)))
                    wire.sendto(b"?", (own, port))
            got = [0, 0]

            def all_came() -> bool:
                for place, ear in enumerate(ears.values()):
                    with contextlib.suppress(BlockingIOError):
                        while ear.recv(10, socket.MSG_DONTWAIT):
                            got[place] += 1
                return sum(got) == count

            wait_for(all_came, 10, f"{count} came to {own}")
            return got

        for own, _ in ends:
            # Neighbours are asked for first.
            wait_for(lambda own=own: shares(own, 80, 4) == [3, 1], 5, "they are found")
            assert shares(own, 80, 40) == [30, 10]
            assert sorted(shares(own, 81, 20)) == [0, 20]
        down = {(each["name"], each["members"][0]["address"], 7000) for each in listeners}
        scene.apply(document, seen=Seen(down=down))
        for own, _ in ends:
            assert shares(own, 80, 10) == shares(own, 81, 10) == [0, 10]


@pytest.mark.machine
def test_each_packet_meets_the_rule_that_is_first(scene: Scene) -> None:
    chance = random.Random(11)
    near, far = ipaddress.ip_network("10.0.0.16/28"), ipaddress.ip_network("192.0.2.16/28")

    def some(network: ipaddress.IPv4Network) -> str:
        return str(chance.choice(list(network.subnets(new_prefix=chance.choice((29, 30, 31, 32))))))

    def service() -> str:
        first = chance.randrange(1, 9)
        return chance.choice(("any", "tcp", f"udp/{first}", f"udp/{first}-{chance.randrange(first, 12)}"))

    rules = [
        {
            "name": str(n),
            "source": some(near),
            "destination": some(far),
            "service": service(),
            "action": "drop",
        }
        for n in range(60)
    ]
    document = {"firewall": {"rules": rules}}
    scene.apply(document)
    scene.client.ip(*(_address(f"{a}/24", "eth0") for a in near))
    scene.router.ip(*(f"neigh add {a} lladdr {scene.server.mac} dev outside" for a in far))
    expected: Counter[int] = Counter()
    for port in range(1, 12):
        with scene.client.open(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as wire:
            for source in near:
                for target in chance.sample(list(far), 5):
                    # Another source port each time: another connection.
                    wire.sendto(datagram(source, target, port), (str(target), 0))
                    expected[first_match(parse(document), source, target, UDP, port)] += 1
    unmatched = expected.pop(-1)
    assert unmatched
    assert len(expected) > 15

    def met() -> bool:
        return counts.rules(scene.router.run(*counts.RULES).stdout) == {n: expected[n] for n in range(60)}

    wait_for(met, 10, "each packet has met its rule")
    assert scene.dropped()["dropped_default"] >= unmatched


def datagram(source: ipaddress.IPv4Address, target: ipaddress.IPv4Address, port: int) -> bytes:
    """A UDP datagram, in IPv4 whose checksum and length the kernel fills in."""
    udp = struct.pack("!HHHH", 5000, port, 8, 0)
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, UDP, 0, source.packed, target.packed) + udp


@pytest.mark.machine
def test_what_is_not_put_in_force_is_taken_away(scene: Scene) -> None:
    document = {"firewall": {"rules": [ALLOWED]}, "nat": {"source": [source(OWN4.format(2), OWN6.format(2))]}}
    scene.apply(document)
    scene.apply(document)
    before = scene.table()
    text = ruleset(parse(document), LEGS, replaces=scene.text)
    for part in (steps(text)[0], discarded(text)):
        done = scene.router.run("nft", "-f", "-", input=part)
        assert done.returncode == 0, done.stderr[:2000]
    names = [
        {each[kind]["name"] for each in found for kind in each if "name" in each[kind]}
        for found in (before, scene.table())
    ]
    assert names[0] == names[1]
    must_pass(Tcp(scene.client, scene.server, FAR[0], 80), Tcp(scene.client, scene.server, FAR[1], 80))
    for _ in range(3):
        scene.apply(document)


@pytest.mark.machine
def test_of_policies_made_ready_the_last_is_in_force(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def apply(rules: str, *options: str) -> None:
        done = scene.router.run("nft", *options, "-f", "-", input=rules)
        assert done.returncode == 0, done.stderr[:2000]

    def document(port: int) -> dict[str, Any]:
        return {"firewall": {"rules": [{**ALLOWED, "service": f"udp/{port}", "rate": "1000/second"}]}}

    async def change() -> None:
        made = Enforcer(Proxy(tmp_path))
        made.fit(LEGS, 1.0)
        for revision in (1, 2, 3):
            await made.prepare(revision, said(document(revision)))
        await made.commit(3)
        for revision in (4, 5):
            await made.prepare(revision, said(document(revision)))
        # What is in force changes for another reason meanwhile.
        made.fit(LEGS, 0.5)
        looking = asyncio.create_task(made.run())
        async with asyncio.timeout(10):
            while made.dropped == {}:
                await asyncio.sleep(0.01)
        looking.cancel()
        assert made.revision == 3
        assert "rate 500/second" in scene.router.run("nft", "list", "table", "inet", "appliance").stdout
        await made.commit(5)
        assert made.revision == 5
        await made.prepare(6, said(document(6)))

    monkeypatch.setattr(enforcer, "apply", apply)
    monkeypatch.setattr(enforcer, "counters", lambda: {"dropped_rate": (1, 40)})
    asyncio.run(change())
    must_pass(Udp(scene.client, scene.server, FAR[0], 5), Udp(scene.client, scene.server, FAR[1], 5))
    others = [Udp(scene.client, scene.server, FAR[0], port) for port in (3, 4, 6)]
    must_stop(*others, control=Udp(scene.client, scene.server, FAR[1], 5), times=1)


@pytest.mark.machine
def test_while_policies_change_no_packet_meets_none(scene: Scene) -> None:
    def document(rounds: int) -> dict[str, Any]:
        rules = [{"name": f"{rounds}-{n}", "service": f"tcp/{n}", "action": "drop"} for n in range(1, 400)]
        rules += [
            {"name": "no", "service": "udp/6600-6699", "action": "drop"},
            {"name": "yes", "service": "udp/7700-7799", "action": "accept"},
        ]
        return {
            "firewall": {"rules": rules, "default": "reject"},
            "nat": {"source": [source(OWN4.format(2))]},
        }

    scene.apply(document(0))
    must_pass(Udp(scene.client, scene.server, FAR[0], 7700))
    over = threading.Event()
    sent = Counter({66: 0, 77: 0})
    targets = [ipaddress.IPv4Address(f"192.0.2.{n}") for n in range(16, 32)]
    scene.router.ip(*(f"neigh add {a} lladdr {scene.server.mac} dev outside" for a in targets))

    def send() -> None:
        source = ipaddress.IPv4Address("10.0.0.5")
        with scene.client.open(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as wire:
            # Each is a connection by itself, so that each is asked about.
            for port, target in itertools.product(range(100), targets):
                for kind in sent:
                    wire.sendto(datagram(source, target, kind * 100 + port), (str(target), 0))
                    sent[kind] += 1
                time.sleep(0.0005)
                if over.is_set():
                    return

    # Counted by the server's kernel, which loses none, whatever its processes do.
    kinds = {
        f"{kind}{who}": f"{who} udp dport {kind}00-{kind}99" for kind in sent for who in ("", TRANSLATED)
    }
    seen = "\n".join(f"{rule} counter" for rule in kinds.values())
    text = (
        f"table inet seen {{\nchain arriving {{\ntype filter hook prerouting priority -300\n{seen}\n}}\n}}\n"
    )
    done = scene.server.run("nft", "-f", "-", input=text)
    assert done.returncode == 0, done.stderr
    thread = threading.Thread(target=send)
    thread.start()
    try:
        for rounds in range(20):
            scene.apply(document(rounds))
    finally:
        over.set()
        thread.join()
    assert min(sent.values()) > 300

    def came() -> list[int]:
        found = json.loads(scene.server.run("nft", "-j", "list", "table", "inet", "seen").stdout)["nftables"]
        rules = [each["rule"]["expr"] for each in found if "rule" in each]
        return [expr["counter"]["packets"] for rule in rules for expr in rule if "counter" in expr]

    wait_for(lambda: came()[2] == sent[77], 10, f"all {sent[77]} came")
    assert came() == [0, 0, sent[77], sent[77]]
