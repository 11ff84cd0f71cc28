"""Connections as the kernel tracks them, read in one network namespace and put into another (ctnetlink).

What is read is kept as the bytes that another kernel takes; `ctnetlink` codes it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from trunkline.devices import namespace
from trunkline.devices.ctnetlink import (
    DELETE,
    ESTABLISHED,
    GET,
    NEW,
    Ends,
    Entry,
    began_at,
    changed_by,
    ends_of,
    entry_of,
    family,
    mark_of,
    marked,
    message,
    messages,
    name_of,
    whole,
)

K = TypeVar("K", bound=Hashable)

__all__ = ["Conntrack", "Entry", "Event", "Lost", "Watch", "timeouts"]

_NETFILTER = 12  # NETLINK_NETFILTER
_SOL_NETLINK, _ADD_MEMBERSHIP, _CAP_ACK = 270, 1, 10  # of netlink(7)
_RCVBUFFORCE = 33  # SO_RCVBUFFORCE: above net.core.rmem_max, as root
_ERROR, _DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
_REQUEST, _ACK, _DUMP, _CREATE, _REPLACE = 0x1, 0x4, 0x300, 0x400, 0x100
_GROUPS = (1, 2, 3)  # NFNLGRP_CONNTRACK_NEW, _UPDATE, _DESTROY
#: Messages that are sent at once; the last one is answered, and those that are refused.
_BATCH = 128
#: The longest that the kernel sends at once, bytes.
_LONGEST = 1 << 16
#: Events that are read at once.
_EVENTS = 4096
#: enum tcp_conntrack, from 1 on, as /proc/sys/net/netfilter names their timeouts.
_TCP_STATES = (
    "syn_sent", "syn_recv", "established", "fin_wait", "close_wait", "last_ack", "time_wait", "close",
    "syn_sent",
)  # fmt: skip
_TCP, _UDP, _ICMP, _ICMPV6 = 6, 17, 1, 58
_SYN_SENT = 1  # of enum tcp_conntrack


class Event:
    """A connection that came or changed, or, where it is `gone`, went."""

    __slots__ = ("_heard", "gone")

    def __init__(self, heard: bytes, *, gone: bool) -> None:
        self._heard, self.gone = heard, gone

    @property
    def name(self) -> bytes:
        """As `Entry.name`."""
        return name_of(self._heard)

    @property
    def mark(self) -> int:
        return mark_of(self._heard)

    @property
    def entry(self) -> Entry:
        return entry_of(self._heard)

    @property
    def whole(self) -> bool:
        """Whether another kernel that does not have it could be told by this alone; else it is to be read."""
        return whole(self._heard)


class Lost(Exception):
    """The kernel had more to tell than there was room for: what is known is to be read anew."""


class Conntrack:
    """The connections of one network namespace. Owns a socket; for one thread."""

    #: How much the kernel may have to tell before it is read, bytes.
    room = 8 << 20

    def __init__(self, netns: str | None) -> None:
        """Raises PermissionError without the right to administer that namespace."""

        def connect() -> socket.socket:
            made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
            made.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, self.room)
            made.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
            made.bind((0, 0))
            return made

        self._socket = namespace.inside(netns, connect)
        self._buffer = memoryview(bytearray(_LONGEST))

    def close(self) -> None:
        self._socket.close()

    @property
    def port(self) -> int:
        """By which the kernel knows who changed something."""
        return int(self._socket.getsockname()[0])

    def entries(self, wanted: Callable[[int], bool] = lambda mark: True) -> list[Entry]:
        """The connections whose mark is wanted."""
        return [entry for some in self.dump(wanted) for entry in some]

    def marked(self, mark: int, mask: int) -> list[Entry]:
        """The connections whose mark is this one, in the bits of the mask: the kernel looks."""
        return [entry for some in self._dump(marked(mark, mask), lambda mark: True) for entry in some]

    def begun(self, since: float, wanted: Callable[[int], bool]) -> list[Entry]:
        """As `entries`, of those that began since then, seconds since the epoch. The kernel is to take times
        (nf_conntrack_timestamp).
        """
        found = self._dump(b"", wanted, lambda body: began_at(body) >= since)
        return [entry for some in found for entry in some]

    def dump(self, wanted: Callable[[int], bool]) -> Iterator[list[Entry]]:
        """As `entries`, some at a time: between them there is time for other things, but not for this."""
        return self._dump(b"", wanted)

    def _dump(
        self,
        which: bytes,
        wanted: Callable[[int], bool],
        fits: Callable[[bytes], bool] = lambda body: True,
    ) -> Iterator[list[Entry]]:
        self._socket.send(message(GET, _REQUEST | _DUMP, 0, family(0) + which))
        done = False
        while not done:
            found = []
            for kind, _, body in messages(self._heard()):
                if kind == _ERROR:
                    raise _error(body)
                done = done or kind == _DONE
                if kind != _DONE and wanted(mark_of(body)) and fits(body):
                    found.append(entry_of(body))
            yield found

    def tally(
        self, key: Callable[[Ends], K | None], wanted: Callable[[int], bool] = lambda mark: True
    ) -> Counter[K]:
        """How many connections have each key, of those that have not ended and whose mark is wanted."""
        found: Counter[K] = Counter()
        self._socket.send(message(GET, _REQUEST | _DUMP, 0, family(0)))
        while True:
            for kind, _, body in messages(self._heard()):
                if kind == _ERROR:
                    raise _error(body)
                if kind == _DONE:
                    return found
                ends = ends_of(body) if wanted(mark_of(body)) else None
                if ends is not None and (which := key(ends)) is not None:
                    found[which] += 1

    def find(self, names: Sequence[bytes]) -> list[Entry]:
        """Those of these connections that there are: the kernel looks each up, and goes through no table."""
        found: list[Entry] = []
        for start in range(0, len(names), _BATCH):
            batch = names[start : start + _BATCH]
            self._socket.send(b"".join(message(GET, _REQUEST, n, name) for n, name in enumerate(batch)))
            answered = 0
            while answered < len(batch):
                for kind, _, body in messages(self._heard()):
                    answered += 1
                    if kind != _ERROR:
                        found.append(entry_of(body))
                    elif (error := _error(body)).errno != errno.ENOENT:
                        raise error
        return found

    def put(self, entries: Iterable[Entry]) -> list[tuple[Entry, int]]:
        """Makes the kernel have these, as told where it has them; returns what it refused, and errnos."""
        flags = _CREATE | _REPLACE
        refused = self._tell(NEW, flags, [(entry, entry.told) for entry in entries])
        # The translation of one that is there stays as it is; the kernel wants nothing said about it.
        there = [(entry, entry.untranslated) for entry, error in refused if error == errno.EOPNOTSUPP]
        others = [pair for pair in refused if pair[1] != errno.EOPNOTSUPP]
        return others + self._tell(NEW, flags, there) if there else others

    def change(self, entries: Iterable[Entry]) -> None:
        """What is told of these is so from now on; those it has not are no error."""
        self._tell(NEW, 0, [(entry, entry.told) for entry in entries])

    def drop(self, entries: Iterable[Entry]) -> None:
        """Makes the kernel have these no longer; those it has not are no error."""
        self._tell(DELETE, 0, [(entry, entry.name) for entry in entries])

    def _tell(self, kind: int, flags: int, told: list[tuple[Entry, bytes]]) -> list[tuple[Entry, int]]:
        """Returns what was refused, and why. Only refusals are answered, and the last."""
        refused: list[tuple[Entry, int]] = []
        for start in range(0, len(told), _BATCH):
            batch = told[start : start + _BATCH]
            last = len(batch) - 1
            self._socket.send(
                b"".join(
                    message(kind, flags | _REQUEST | _ACK * (n == last), n, body)
                    for n, (_, body) in enumerate(batch)
                )
            )
            answered = -1
            while answered != last:
                for _, answered, body in messages(self._heard()):
                    if number := _error(body).errno:
                        refused.append((batch[answered][0], number))
        return refused

    def _heard(self) -> bytes:
        return bytes(self._buffer[: self._socket.recv_into(self._buffer)])


class Watch(Conntrack):
    """What becomes of the connections of one network namespace, as it does."""

    def __init__(self, netns: str | None, but: int | None = None) -> None:
        """`but`: what the one of that `port` does is no news."""
        super().__init__(netns)
        self._but = but
        for group in _GROUPS:
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Readable when there are events."""
        return self._socket.fileno()

    def events(self) -> list[Event]:
        """What happened since, some thousands at the most; raises Lost where that is not known."""
        found: list[Event] = []
        while len(found) < _EVENTS:
            try:
                heard = self._heard()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    self._empty()
                    raise Lost from error
                raise
            if self._but is None or changed_by(heard) != self._but:
                found += [Event(body, gone=kind == DELETE) for kind, _, body in messages(heard)]
        return found

    def _empty(self) -> None:
        """A kernel that had no room drops all and does not say so again, until what it told is read."""
        while True:
            try:
                self._heard()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise


def timeouts(folder: Path = Path("/proc/sys/net/netfilter")) -> Callable[[Entry], int]:
    """For how long this process's kernel keeps a connection of which no further packet comes, seconds."""

    def of(name: str) -> int:
        return int((folder / f"nf_conntrack_{name}").read_text())

    tcp = {state: of(f"tcp_timeout_{name}") for state, name in enumerate(_TCP_STATES, 1)}
    udp, stream = of("udp_timeout"), of("udp_timeout_stream")
    others = {_ICMP: of("icmp_timeout"), _ICMPV6: of("icmpv6_timeout")}
    generic = of("generic_timeout")

    def usual(entry: Entry) -> int:
        protocol = entry.protocol
        if protocol == _TCP:
            state = entry.tcp_state
            # A copy may say that it is established before it is (`Entry.opened`).
            return tcp.get(state if state != ESTABLISHED or entry.assured else _SYN_SENT, generic)
        if protocol == _UDP:
            return stream if entry.assured else udp
        return others.get(protocol, generic)

    return usual


def _error(body: bytes) -> OSError:
    number = -int(struct.unpack_from("=i", body)[0])
    return OSError(number, os.strerror(number))
