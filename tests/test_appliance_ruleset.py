"""A data plane's table: packets through a router that was made by hand, and nothing else of an appliance.

    client, other ── inside ── router ── outside ── server

| claim | and in reverse |
| --- | --- |
| what a rule accepts passes; what none does, does not | |
| sources are translated to ports of their shard: TCP, UDP, echoes; both families | |
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from flows import Ping, Tcp, Udp, must_pass, must_stop
from probes import Space

from trunkline.compiler.unit_slices import LegSlice
from trunkline.devices import namespace
from trunkline.resources.appliance_policy import parse
from trunkline.units.ruleset import ruleset, translated

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
ALLOWED = {"name": "out", "from": "inside", "to": "outside", "action": "accept"}


class Scene:
    """The router, and who is on both sides of it. The mark of what comes stands for its shard."""

    def __init__(self) -> None:
        self.client, self.server = Space(f"{TAG}-c"), Space(f"{TAG}-s")
        self.other, self.router = Space(f"{TAG}-o"), Space(f"{TAG}-r", "inside")
        self.ends = {self.client: ("inside", 5), self.other: ("inside", 6), self.server: ("outside", 9)}
        self._text: str | None = None
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
        text = ruleset(parse(document), LEGS, replaces=self._text, **how)
        done = self.router.run("nft", "-f", "-", input=text)
        assert done.returncode == 0, done.stderr[:2000]
        self._text = text

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
