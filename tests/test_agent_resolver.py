"""The name service of a network on a host: its sockets, and what it asks of the operator's name servers."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import pytest
from agent_lab import AgentLab, identity, wait

from trunkline.compiler.slices import MetadataSlice, NamesSlice, ZoneSlice
from trunkline.devices import namespace

pytestmark = pytest.mark.machine

NETWORK = identity(1, 2)
SERVICE, SERVICE6 = "10.0.0.2", "fd00::2"
UPSTREAM, NOBODY = "127.0.0.1", "127.0.0.9"
NAMES = (NamesSlice(own={"web.cloud.internal": ("10.0.0.5",)}),)
#: The address of every name of the world.
WORLD = "198.51.100.7"


class Upstream:
    """The operator's name server, where the host reaches it: every name of the world has one address."""

    def __init__(self, netns: str) -> None:
        self.asked: list[str] = []
        self.silent = False
        kinds = (socket.SOCK_DGRAM, socket.SOCK_STREAM)
        self._datagrams, self._stream = (
            namespace.open_socket_in(netns, UPSTREAM, 53, kind=kind) for kind in kinds
        )
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=t) for t in (self._serve_datagrams, self._serve_stream)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()
        self._datagrams.close()
        self._stream.close()

    def _answer(self, message: bytes, how: str) -> bytes:
        query = dns.message.from_wire(message)
        self.asked.append(f"{query.question[0].name} {how}")
        reply = dns.message.make_response(query)
        reply.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", WORLD))
        return reply.to_wire()

    def _serve_datagrams(self) -> None:
        self._datagrams.settimeout(0.1)
        while not self._ends.is_set():
            with contextlib.suppress(TimeoutError):
                message, source = self._datagrams.recvfrom(2000)
                said = self._answer(message, "UDP")
                if not self.silent:
                    self._datagrams.sendto(said, source)

    def _serve_stream(self) -> None:
        self._stream.settimeout(0.1)
        while not self._ends.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._stream.accept()
                with connection:
                    connection.settimeout(2)
                    (length,) = struct.unpack("!H", connection.recv(2))
                    said = self._answer(connection.recv(length), "TCP")
                    connection.sendall(struct.pack("!H", len(said)) + said)


class World:
    """A host with the service of one network. Who asks is where the service is: a host of the network."""

    def __init__(self, lab: AgentLab) -> None:
        self.lab = lab
        self.netns = f"{lab.prefix}m-{NETWORK[:8]}"
        lab.start_all()
        self.upstream = Upstream(lab.netns)
        self.tell(forwarders=(UPSTREAM,))

    def tell(self, zone: bool = True, addresses: tuple[str, ...] = (SERVICE, SERVICE6), **more: Any) -> None:
        told = ZoneSlice(region_domain="cloud.internal", domain="cloud.internal", names=NAMES, **more)
        lengths = {4: 24, 6: 64}
        service = MetadataSlice(
            network=NETWORK,
            port=identity(1, 4),
            mac="02:00:00:00:04:01",
            addresses=tuple(f"{a}/{lengths[6 if ':' in a else 4]}" for a in addresses),
            mtu=1442,
            zone=told if zone else None,
        )
        self.lab.put(metadata=(service,))
        self.lab.applied()

    def connect(self, server: str = SERVICE, *, tcp: bool = False) -> socket.socket:
        def make() -> socket.socket:
            family = socket.AF_INET6 if ":" in server else socket.AF_INET
            made = socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
            made.settimeout(5)
            made.connect((server, 53))
            return made

        return namespace.inside(self.netns, make)

    def ask(self, name: str, server: str = SERVICE, *, tcp: bool = False) -> list[str] | str:
        """The addresses that a name has, or the code of the answer."""
        query = dns.message.make_query(name, "A")
        wire = query.to_wire()
        with self.connect(server, tcp=tcp) as client:
            client.sendall(struct.pack("!H", len(wire)) + wire if tcp else wire)
            reply = dns.message.from_wire(client.recv(2000)[2 if tcp else 0 :])
        assert query.is_response(reply)
        found = [rdata.to_text() for rrset in reply.answer for rdata in rrset]
        return found or dns.rcode.to_text(reply.rcode())


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    lab = AgentLab()
    made = None
    try:
        made = World(lab)
        yield made
    finally:
        if made is not None:
            made.upstream.close()
        lab.close()


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("server", [SERVICE, SERVICE6])
def test_names_of_the_world_are_asked_of_the_operators_server(world: World, server: str, tcp: bool) -> None:
    world.upstream.asked.clear()
    assert world.ask("www.example.com", server, tcp=tcp) == [WORLD]
    assert world.upstream.asked == [f"www.example.com. {'TCP' if tcp else 'UDP'}"]


def test_names_of_the_region_are_asked_of_nobody(world: World) -> None:
    world.upstream.asked.clear()
    assert world.ask("web.cloud.internal") == ["10.0.0.5"]
    assert [world.ask(name) for name in ("nobody.cloud.internal", "nobody")] == ["NXDOMAIN", "NXDOMAIN"]
    assert world.upstream.asked == []


def test_the_next_server_is_asked_where_one_is_not_there(world: World) -> None:
    world.tell(forwarders=(NOBODY, UPSTREAM))
    assert [world.ask("www.example.com", tcp=tcp) for tcp in (False, True)] == [[WORLD], [WORLD]]
    world.tell(forwarders=(NOBODY,))
    assert [world.ask("www.example.com", tcp=tcp) for tcp in (False, True)] == ["SERVFAIL", "SERVFAIL"]
    world.tell(forwarders=(UPSTREAM,))


def test_one_asker_has_few_questions_open_with_a_server_that_is_silent(world: World) -> None:
    world.upstream.silent = True
    world.upstream.asked.clear()
    try:
        with world.connect() as client:
            for number in range(60):
                client.send(dns.message.make_query(f"{number}.example.com", "A").to_wire())
            assert world.ask("web") == ["10.0.0.5"]
            reply = dns.message.from_wire(client.recv(2000))
            assert reply.rcode() == dns.rcode.SERVFAIL
            assert len(world.upstream.asked) == 16
    finally:
        world.upstream.silent = False
    assert wait(lambda: world.ask("www.example.com") == [WORLD])


def test_one_asker_has_few_connections_and_none_that_is_silent(world: World) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(world.connect(tcp=True)) for _ in range(8)]
        began = time.monotonic()
        with world.connect(tcp=True) as one_more:
            assert one_more.recv(1) == b""
        assert time.monotonic() - began < 2
        assert world.ask("web") == ["10.0.0.5"]
        silent[0].settimeout(20)
        assert silent[0].recv(1) == b""


def test_what_is_no_question_is_not_answered_and_breaks_nothing(world: World) -> None:
    with world.connect() as client:
        client.settimeout(0.3)
        for rubbish in (b"", b"\x00" * 12, b"\xff" * 600, b"\x00" * 3000):
            client.send(rubbish)
        with pytest.raises(TimeoutError):
            client.recv(100)
    for rubbish in (b"\xff\xff", b"\x00\x00", b"\x00\x0c" + b"\x00" * 12):
        with world.connect(tcp=True) as stream:
            stream.sendall(rubbish)
            assert stream.recv(100) == b""
    assert world.ask("web") == ["10.0.0.5"]


def test_it_follows_addresses_and_ends_with_the_zone(world: World) -> None:
    world.tell(addresses=("10.0.0.9", SERVICE6))
    assert world.ask("web", "10.0.0.9") == ["10.0.0.5"]
    world.tell(zone=False)
    with pytest.raises(ConnectionRefusedError):
        world.ask("web")
    world.tell(forwarders=(UPSTREAM,))
    assert world.ask("web") == ["10.0.0.5"]
