"""Claims about packets: this one comes through, that one does not.

A *flow* sends one packet (or makes one connection) when asked, and tells whether it came through. What
is claimed of flows is said by three functions:

    must_pass(flow, ...)                    each comes through, soon
    must_stop(flow, ..., control=other)     soon none comes through any more, while `other` does
    comes_through(flow)                     just now

A packet that is not there within `PATIENCE` did not come through; `must_stop` wants that three times in
a row of each, with the control there each time: a network that is merely slow passes no such test.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import secrets
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from agent_lab import checksum
from probes import Space

#: How long a packet may be on its way, seconds.
PATIENCE = 0.25
#: How long a change may take to reach the data plane, on a slow machine too. Who is not told that a neighbour
#: is another one now notices it after eight seconds: five of trust and three questions (arp(7)).
SOON = 20.0
_DONT_FRAGMENT = {4: (socket.IPPROTO_IP, 10, 2), 6: (socket.IPPROTO_IPV6, 23, 2)}
#: linux/if_packet.h.
_SOL_PACKET, _PACKET_AUXDATA, _TP_STATUS_VLAN_VALID = 263, 8, 0x10
_numbers = itertools.count(1)
_ears: defaultdict[tuple[str, str, int], threading.Lock] = defaultdict(threading.Lock)
_ears_lock = threading.Lock()


class Flow(Protocol):
    """One kind of packet from one place to another."""

    def once(self) -> bool:
        """Sends one; whether it (and its answer, where there is one) came through."""


def comes_through(flow: Flow) -> bool:
    """Whether it does just now."""
    return flow.once()


def must_pass(*flows: Flow, within: float = SOON) -> None:
    """Each comes through, at the latest after `within` seconds.

    Raises:
        AssertionError: names those that do not.
    """
    deadline, left = time.monotonic() + within, list(flows)
    with ThreadPoolExecutor(max(len(flows), 1)) as pool:
        while left:
            came = list(pool.map(lambda flow: flow.once(), left))
            left = [flow for flow, through in zip(left, came, strict=True) if not through]
            assert not left or time.monotonic() < deadline, f"did not come through: {left}"


def must_stop(*flows: Flow, control: Flow, within: float = SOON, times: int = 3) -> None:
    """None comes through any more, at the latest after `within` seconds; `control` does all the time.

    Raises:
        AssertionError: names those that still come through, or the control that does not.
    """
    deadline, quiet = time.monotonic() + within, 0
    # A control that has never come through says nothing about the others.
    must_pass(control, within=within)
    with ThreadPoolExecutor(len(flows) + 1) as pool:
        while quiet < times:
            controlled = pool.submit(control.once)
            came = list(pool.map(lambda flow: flow.once(), flows))
            passing = [flow for flow, through in zip(flows, came, strict=True) if through]
            well = controlled.result()
            quiet = 0 if passing or not well else quiet + 1
            late = time.monotonic() > deadline
            assert quiet or not late, f"still coming through: {passing}; the control {control} does: {well}"


def _marker() -> bytes:
    """Of 18 bytes, and never twice."""
    return b"marker" + struct.pack("!IQ", next(_numbers), time.monotonic_ns())


def _socket(space: Space, version: int, kind: int, protocol: int = 0) -> socket.socket:
    if version == 4:
        return space.open(socket.AF_INET, kind, protocol)
    made = space.open(socket.AF_INET6, kind, protocol)
    if kind != socket.SOCK_RAW:
        # Or it would take the port of IPv4 too, where another one may listen.
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made


def _ear(space: Space, kind: str, port: int) -> threading.Lock:
    """Held by who listens on a port of that place: flows are tried side by side."""
    with _ears_lock:
        return _ears[space.netns, kind, port]


def _version(address: str) -> int:
    return ipaddress.ip_address(address.partition("%")[0]).version


def _until(what: Callable[[], bool | None]) -> bool:
    """The first result that is not None, or False when patience ends; the socket has its own timeout."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError, BlockingIOError):
            if (found := what()) is not None:
                return found
    return False


class Ping:
    """An echo request and its reply (RFC 792, RFC 4443), each in one packet that must not be fragmented.

    Args:
        size: of the whole IP packet, bytes.
        source: the address that it is sent from; by default the kernel chooses.
    """

    def __init__(self, space: Space, address: str, *, size: int = 64, source: str = "") -> None:
        self.space, self.address, self.size, self.source = space, address, size, source
        self.version = _version(address)

    def __repr__(self) -> str:
        source = f" as {self.source}" if self.source else ""
        return f"ping {self.space}{source} -> {self.address}, {self.size} bytes"

    def once(self) -> bool:
        protocol = socket.IPPROTO_ICMP if self.version == 4 else socket.IPPROTO_ICMPV6
        request, reply, header = (8, 0, 20) if self.version == 4 else (128, 129, 40)
        marker = struct.pack("!IQ", next(_numbers), time.monotonic_ns())
        payload = marker.ljust(self.size - header - 8, b".")
        with _socket(self.space, self.version, socket.SOCK_RAW, protocol) as raw:
            raw.settimeout(PATIENCE)
            level, name, value = _DONT_FRAGMENT[self.version]
            raw.setsockopt(level, name, value)
            # Address translation tells echoes of several hosts apart by their identifiers alone.
            head = struct.pack("!BBHHH", request, 0, 0, secrets.randbits(16), 1)
            if self.version == 4:
                head = head[:2] + struct.pack("!H", checksum(head + payload)) + head[4:]
            try:
                if self.address.startswith("fe80"):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.space.device.encode())
                if self.source:
                    raw.bind((self.source, 0))
                raw.sendto(head + payload, (self.address, 0))
            except OSError:
                # No route, too large, no such address: it does not come through. Not a busy loop either.
                time.sleep(0.05)
                return False

            def answered() -> bool | None:
                data = raw.recv(65536)
                if self.version == 4:
                    data = data[(data[0] & 15) * 4 :]
                return True if data[:1] == bytes([reply]) and data[8 : 8 + len(marker)] == marker else None

            return _until(answered)


class Udp:
    """A datagram to a port where somebody listens, and the answer.

    Args:
        source_port: what it is sent from; 0 for any.
        answered: whether the answer must come too.
        size: of the data, bytes; by default a few.
        listening: the port that the listener has, where something between translates it.

    `seen_from` is the address that the last one came from, as the listener saw it.
    """

    def __init__(
        self,
        space: Space,
        at: Space,
        address: str,
        port: int,
        *,
        source_port: int = 0,
        source: str = "",
        answered: bool = True,
        size: int = 0,
        listening: int = 0,
    ) -> None:
        self.space, self.at, self.address, self.port, self.size = space, at, address, port, size
        self.listening = listening or port
        self.source_port, self.source, self.answered = source_port, source, answered
        self.version = _version(address)
        self.seen_from = ""

    def __repr__(self) -> str:
        return f"UDP {self.space} -> {self.at} at {self.address} port {self.port}"

    def once(self) -> bool:
        marker = f"datagram {next(_numbers)}".encode().ljust(self.size, b".")
        with (
            _ear(self.at, f"UDP{self.version}", self.listening),
            _socket(self.at, self.version, socket.SOCK_DGRAM) as server,
            _socket(self.space, self.version, socket.SOCK_DGRAM) as client,
        ):
            for end in (server, client):
                end.settimeout(PATIENCE)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("", self.listening))
            try:
                client.bind((self.source, self.source_port))
                client.sendto(marker, (self.address, self.port))
            except OSError:
                time.sleep(0.05)
                return False

            def came() -> bool | None:
                data, peer = server.recvfrom(65536)
                if data != marker:
                    return None
                self.seen_from = peer[0]
                server.sendto(b"re: " + marker, peer)
                return True

            def answered() -> bool | None:
                return True if client.recv(65536) == b"re: " + marker else None

            return _until(came) and (not self.answered or _until(answered))


class Tcp:
    """A connection to a port where somebody listens, and words both ways. See `Udp` for the rest."""

    def __init__(
        self, space: Space, at: Space, address: str, port: int, *, source: str = "", listening: int = 0
    ) -> None:
        self.space, self.at, self.address, self.port, self.source = space, at, address, port, source
        self.listening = listening or port
        self.version = _version(address)
        self.seen_from = ""
        #: How far the last one came.
        self.trouble = ""

    def __repr__(self) -> str:
        trouble = f" ({self.trouble})" if self.trouble else ""
        return f"TCP {self.space} -> {self.at} at {self.address} port {self.port}{trouble}"

    def once(self) -> bool:
        try:
            with self.connected() as connection:
                self.trouble = "connected"
                return connection.once()
        except OSError as error:
            self.trouble = str(error)
            return False

    @contextlib.contextmanager
    def connected(self) -> Iterator[Connection]:
        """A connection that stays while the block runs: a flow by itself.

        Raises:
            OSError: it cannot be made.
        """
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(_socket(self.space, self.version, socket.SOCK_STREAM))
            # It ends by a reset, and leaves no state behind at the ends.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.settimeout(PATIENCE)
            if self.source:
                client.bind((self.source, 0))
            with (
                _ear(self.at, f"TCP{self.version}", self.listening),
                _socket(self.at, self.version, socket.SOCK_STREAM) as listening,
            ):
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.settimeout(PATIENCE)
                listening.bind(("", self.listening))
                listening.listen()
                client.connect((self.address, self.port))
                client.sendall(marker := _marker())
                server, self.seen_from = _accepted(listening, marker)
            stack.enter_context(server)
            yield Connection(client, server, str(self))


def _accepted(listening: socket.socket, marker: bytes) -> tuple[socket.socket, str]:
    """The connection on which this comes first, and the address that it is from.

    Flows are tried side by side, and another one's connection may be led here: what is to stop, when what was
    there before is somewhere else now.

    Raises:
        OSError: none comes.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        server, peer = listening.accept()
        server.settimeout(PATIENCE)
        with contextlib.suppress(OSError):
            if server.recv(len(marker), socket.MSG_WAITALL) == marker:
                return server, str(peer[0])
        server.close()
    raise TimeoutError("others came")


class Connection:
    """An established connection, as a flow: words one way and back."""

    def __init__(self, client: socket.socket, server: socket.socket, name: str) -> None:
        self._client, self._server, self._name = client, server, name

    def __repr__(self) -> str:
        return f"in the established connection {self._name}"

    def once(self) -> bool:
        words = f"<{next(_numbers)}>".encode()
        return self._says(self._client, self._server, words) and self._says(self._server, self._client, words)

    def carries(self, data: bytes) -> bool:
        """Whether all of it comes to the other side as it is, both ways at once."""

        def says(one: socket.socket) -> None:
            with contextlib.suppress(OSError):
                one.sendall(data)

        def hears(one: socket.socket) -> bool:
            heard = bytearray()
            with contextlib.suppress(OSError):
                while len(heard) < len(data) and (more := one.recv(1 << 16)):
                    heard += more
            return heard == data

        ends = (self._client, self._server)
        with ThreadPoolExecutor(4) as workers:
            heard = [workers.submit(hears, end) for end in ends]
            for end in ends:
                workers.submit(says, end)
            return all(each.result() for each in heard)

    @staticmethod
    def _says(one: socket.socket, other: socket.socket, words: bytes) -> bool:
        heard = bytearray()

        def hears() -> bool | None:
            heard.extend(other.recv(2000))
            return True if heard.endswith(words) else None

        try:
            one.sendall(words)
            return _until(hears)
        except OSError:
            return False


class Packet:
    """An IP packet of any protocol, one way: whether it comes to the interface of `at`.

    Args:
        body: makes what follows the IP header of a marker that no other packet has.
    """

    def __init__(
        self,
        space: Space,
        at: Space,
        address: str,
        protocol: int,
        body: Callable[[bytes], bytes] = bytes,
        name: str = "",
    ) -> None:
        self.space, self.at, self.address, self.protocol, self.body = space, at, address, protocol, body
        self.version = _version(address)
        self.name = name or f"protocol {protocol}"

    def __repr__(self) -> str:
        return f"{self.name} {self.space} -> {self.at} at {self.address}"

    def once(self) -> bool:
        marker = _marker()
        with (
            self.at.frames() as ear,
            _socket(self.space, self.version, socket.SOCK_RAW, self.protocol) as raw,
        ):
            ear.settimeout(PATIENCE)
            try:
                raw.sendto(self.body(marker), (self.address, 0))
            except OSError:
                time.sleep(0.05)
                return False

            def heard() -> bool | None:
                seen, source = ear.recvfrom(65536)
                return True if source[2] != socket.PACKET_OUTGOING and marker in seen else None

            return _until(heard)


def icmp(space: Space, at: Space, address: str, kind: int, code: int = 0) -> Packet:
    """An ICMP or ICMPv6 message of that type and code, one way."""
    version = _version(address)

    def body(marker: bytes) -> bytes:
        # What an error message quotes begins with an IP header; of requests it is an identifier and data.
        rest = struct.pack("!HH", secrets.randbits(16), 1) + marker
        whole = struct.pack("!BBH", kind, code, 0) + rest
        return whole[:2] + struct.pack("!H", checksum(whole)) + rest if version == 4 else whole

    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    return Packet(space, at, address, protocol, body, f"ICMP{'' if version == 4 else 'v6'} {kind}/{code}")


class Frame:
    """A frame sent as it is from one interface, looked for as it is on another.

    Args:
        build: makes the frame of a marker that no other one has.
        vlan: the VLAN that it must be in where it arrives, 0 for none; by default it arrives as it was sent.
        kind: the type of that tag.
    """

    def __init__(
        self,
        space: Space,
        at: Space,
        build: Callable[[bytes], bytes],
        name: str,
        *,
        vlan: int | None = None,
        kind: int = 0x8100,
    ) -> None:
        self.space, self.at, self.build, self.name, self.vlan = space, at, build, name, vlan
        self.kind = kind

    def __repr__(self) -> str:
        return f"{self.name} {self.space} -> {self.at}"

    def once(self) -> bool:
        frame = self.build(_marker())
        with self.at.frames() as ear, self.space.frames() as mouth:
            ear.settimeout(PATIENCE)
            mouth.send(frame.ljust(60, b"\0"))
            return _until(lambda: True if self._hears(ear, frame) else None)

    def _hears(self, ear: socket.socket, sent: bytes) -> bool:
        seen, beside, _, source = ear.recvmsg(65536, 256)
        if source[2] == socket.PACKET_OUTGOING:
            return False
        # The kernel takes the outer tag out of a frame, and hands it out beside it (packet(7)).
        tags = [data for level, kind, data in beside if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA)]
        status, tag, protocol = struct.unpack("=I12xHH", tags[0]) if tags else (0, 0, 0)
        if status & _TP_STATUS_VLAN_VALID:
            seen = seen[:12] + struct.pack("!HH", protocol, tag) + seen[12:]
        if self.vlan is None:
            return seen.startswith(sent)
        expected = struct.pack("!HH", self.kind, self.vlan) if self.vlan else b""
        return seen.startswith(sent[:12] + expected + sent[12:])


class Flood:
    """Small datagrams of one flow, as fast as one thread sends them."""

    def __init__(self, space: Space, to: str) -> None:
        self._socket = space.open(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((to, 9))
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._ends.is_set():
            for _ in range(100):
                # Nobody listens there, which is said now and then.
                with contextlib.suppress(OSError):
                    self._socket.send(b"x")

    def __enter__(self) -> Flood:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        self._socket.close()
