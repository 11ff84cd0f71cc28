"""How much comes through, and how it is marked: a sender that offers more than may pass, and who counts."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator

from flows import PATIENCE
from probes import Space

#: What is offered, kilobits a second, and for how long.
OFFERED, SECONDS = 20_000, 1.0
#: ... and packets a second; the first ones, as many as may come at once, are not counted.
PACKETS, EARLY, COUNTED = 3000, 0.6, 0.6
_SIZE = 1200
#: linux/in6.h: the traffic class, and that it comes beside what is received.
_IPV6_RECVTCLASS, _IPV6_TCLASS = 66, 67
#: asm-generic/socket.h: more than the system's most.
_SO_RCVBUFFORCE = 33


def rate(space: Space, at: Space, address: str, port: int = 5001) -> float:
    """Kilobits a second of data that come through, of `OFFERED`, as datagrams of 1,200 bytes.

    What comes at once at the start, the burst of a limit, is not counted.
    """
    with _pair(space, at, address, port) as (client, server):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        with _offering(client, (address, port)):
            _count(server, SECONDS / 3)
            return _count(server, SECONDS) * 8 / 1000 / SECONDS


def pace(space: Space, at: Space, address: str) -> float:
    """Packets a second that come through, of `PACKETS`."""
    with _pair(space, at, address, 5004) as (client, server), _packets(client, address):
        _packets_of(server, EARLY)
        return _packets_of(server, COUNTED) / COUNTED


def at_once(space: Space, at: Space, address: str, seconds: float) -> int:
    """How many come through of what is sent in so many seconds, at `PACKETS` a second, after a silence."""
    with _pair(space, at, address, 5004) as (client, server):
        _packets_of(server, 1.2)
        with _packets(client, address):
            return _packets_of(server, seconds)


def _packets(client: socket.socket, address: str) -> contextlib.AbstractContextManager[None]:
    return _offering(client, (address, 5004), 60, PACKETS * 60 * 8 / 1000)


def _packets_of(server: socket.socket, seconds: float) -> int:
    server.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 22)
    return _count(server, seconds) // 60


@contextlib.contextmanager
def flooded(space: Space, at: Space, address: str) -> Iterator[None]:
    """As much as `OFFERED` is sent there in the block."""
    with _pair(space, at, address, 5006) as (client, _), _offering(client, (address, 5006)):
        yield


@contextlib.contextmanager
def _offering(
    client: socket.socket, to: tuple[str, int], size: int = _SIZE, kbps: float = OFFERED
) -> Iterator[None]:
    """Datagrams are sent there in the block, at that rate."""
    done = threading.Event()
    sender = threading.Thread(target=_offer, args=(client, to, done, size, kbps))
    sender.start()
    try:
        yield
    finally:
        done.set()
        sender.join()


def _offer(client: socket.socket, to: tuple[str, int], done: threading.Event, size: int, kbps: float) -> None:
    data, start, sent = bytes(size), time.monotonic(), 0
    while not done.is_set():
        due = (time.monotonic() - start) * kbps * 1000 / 8 / size
        for _ in range(int(due) - sent):
            with contextlib.suppress(OSError):
                client.sendto(data, to)
        sent = int(due)
        done.wait(0.005)


def _count(server: socket.socket, seconds: float) -> int:
    deadline, count = time.monotonic() + seconds, 0
    while (left := deadline - time.monotonic()) > 0:
        server.settimeout(left)
        with contextlib.suppress(TimeoutError):
            count += len(server.recv(2000))
    return count


def must_be_limited(
    space: Space, at: Space, address: str, kbps: int, within: float = 20.0, least: float = 0.6
) -> None:
    """About so much comes through, this part of it at `least`, and not much more, soon.

    Raises:
        AssertionError: says how much does.
    """
    _settles(space, at, address, kbps * least, kbps * 1.4, within)


def must_be_free(space: Space, at: Space, address: str, within: float = 20.0) -> None:
    """Most of what is offered comes through, soon."""
    _settles(space, at, address, OFFERED * 0.6, OFFERED * 1.2, within)


def _settles(space: Space, at: Space, address: str, least: float, most: float, within: float) -> None:
    deadline = time.monotonic() + within
    while not least <= (found := rate(space, at, address)) <= most:
        late = time.monotonic() > deadline
        assert not late, f"{space} -> {address}: {found:.0f} kbit/s, not {least:.0f} to {most:.0f}"


def must_be_paced(space: Space, at: Space, address: str, packets: int, within: float = 20.0) -> None:
    """So many packets a second come through, within a tenth, soon.

    Raises:
        AssertionError: says how many do.
    """
    deadline = time.monotonic() + within
    while not packets * 0.9 <= (found := pace(space, at, address)) <= packets * 1.1:
        late = time.monotonic() > deadline
        assert not late, f"{space} -> {address}: {found:.0f} packets/s, not about {packets}"


class Marked:
    """A datagram that arrives with this differentiated services code point (RFC 2474): a flow."""

    def __init__(self, space: Space, at: Space, address: str, dscp: int, port: int = 5002) -> None:
        self.space, self.at, self.address, self.dscp, self.port = space, at, address, dscp, port
        self.seen: int | None = None

    def __repr__(self) -> str:
        return f"{self.space} -> {self.at} marked {self.dscp} (seen: {self.seen})"

    def once(self) -> bool:
        with _pair(self.space, self.at, self.address, self.port) as (client, server):
            six = server.family == socket.AF_INET6
            level, option = (
                (socket.IPPROTO_IPV6, _IPV6_RECVTCLASS) if six else (socket.IPPROTO_IP, socket.IP_RECVTOS)
            )
            server.setsockopt(level, option, 1)
            server.settimeout(PATIENCE)
            try:
                client.sendto(b"marked", (self.address, self.port))
                _, beside, _, _ = server.recvmsg(2000, 256)
            except OSError:
                self.seen = None
                return False
        kind = _IPV6_TCLASS if six else socket.IP_TOS
        self.seen = next(data[0] >> 2 for where, what, data in beside if (where, what) == (level, kind))
        return self.seen == self.dscp


@contextlib.contextmanager
def _pair(space: Space, at: Space, address: str, port: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    with at.open(family, socket.SOCK_DGRAM) as server, space.open(family, socket.SOCK_DGRAM) as client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("", port))
        yield client, server
