"""Connections as the kernel tracks them, read in one network namespace and put into another (ctnetlink).

What is read is kept as the bytes that another kernel takes. It sets a translation up only for an entry whose
reply is told as it would be without (conntrackd calls this undoing), with the translation as an attribute of
its own.

Formats: linux/netfilter/nfnetlink_conntrack.h, linux/netfilter/nf_conntrack_common.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from trunkline.devices import namespace

_NETFILTER = 12  # NETLINK_NETFILTER
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1  # of netlink(7)
_RCVBUFFORCE = 33  # SO_RCVBUFFORCE: above net.core.rmem_max, as root
_ERROR, _DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
_REQUEST, _ACK, _DUMP, _CREATE, _REPLACE = 0x1, 0x4, 0x300, 0x400, 0x100
_NEW, _GET, _DELETE = 0x100, 0x101, 0x102  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_*
_GROUPS = (1, 2, 3)  # NFNLGRP_CONNTRACK_NEW, _UPDATE, _DESTROY
_NESTED = 0x8000
#: Bits of a connection's status that are its own to tell (IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED).
_TOLD, _CONFIRMED = 0x2 | 0x4 | 0x8, 0x8
_SOURCE_TRANSLATED, _TARGET_TRANSLATED = 0x10, 0x20
#: Entries put in one message; as many answers are waited for.
_BATCH = 64
_MESSAGE = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_PORTS_FROM, _PORTS_TO = 1, 2  # CTA_PROTONAT_PORT_MIN, CTA_PROTONAT_PORT_MAX

_Parts = dict[int, bytes]


class _Cta(IntEnum):
    """Attributes of a connection."""

    ORIGINAL = 1
    REPLY = 2
    STATUS = 3
    PROTOCOL = 4
    NAT_SOURCE = 6
    TIMEOUT = 7
    MARK = 8
    NAT_TARGET = 13


class _Tuple(IntEnum):
    """Attributes of one direction, and of its two parts."""

    ADDRESSES = 1
    PROTOCOL = 2
    V4_SOURCE = 1
    V4_TARGET = 2
    V6_SOURCE = 3
    V6_TARGET = 4
    PORT_SOURCE = 2
    PORT_TARGET = 3
    ICMP_ID = 4
    ICMP6_ID = 7


@dataclass(frozen=True)
class Entry:
    """One connection: its mark, and what a kernel is told to have it."""

    mark: int
    told: bytes


@dataclass(frozen=True)
class Event:
    """A connection that came or changed, or, where it is `gone`, went."""

    entry: Entry
    gone: bool


class Lost(Exception):
    """The kernel had more to tell than there was room for: what is known is to be read anew."""


class Conntrack:
    """The connections of one network namespace. Owns a socket; for one thread."""

    def __init__(self, netns: str | None) -> None:
        """Raises PermissionError without the right to administer that namespace."""

        def connect() -> socket.socket:
            made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
            made.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 8 << 20)
            made.bind((0, 0))
            return made

        self._socket = namespace.inside(netns, connect)

    def close(self) -> None:
        self._socket.close()

    def entries(self, wanted: Callable[[int], bool] = lambda mark: True) -> list[Entry]:
        """The connections whose mark is wanted."""
        self._socket.send(_message(_GET, _REQUEST | _DUMP, 0, _family(0)))
        found = (_entry(body) for body in self._answers(_DONE))
        return [entry for entry in found if wanted(entry.mark)]

    def put(self, entries: Iterable[Entry]) -> list[tuple[Entry, int]]:
        """Makes the kernel have these, as told where it has them; returns what it refused, and errnos."""
        refused = self._put([(entry, entry.told) for entry in entries])
        # The translation of one that is there stays as it is; the kernel wants nothing said about it.
        there = [(entry, _untranslated(entry.told)) for entry, error in refused if error == errno.EOPNOTSUPP]
        return [pair for pair in refused if pair[1] != errno.EOPNOTSUPP] + self._put(there)

    def _put(self, told: list[tuple[Entry, bytes]]) -> list[tuple[Entry, int]]:
        refused = []
        flags = _REQUEST | _ACK | _CREATE | _REPLACE
        for start in range(0, len(told), _BATCH):
            batch = told[start : start + _BATCH]
            self._socket.send(b"".join(_message(_NEW, flags, n, body) for n, (_, body) in enumerate(batch)))
            refused += [(batch[n][0], error) for n, error in self._acknowledged(len(batch)) if error]
        return refused

    def drop(self, entries: Iterable[Entry]) -> None:
        """Makes the kernel have these no longer; those it has not are no error."""
        waiting = list(entries)
        for start in range(0, len(waiting), _BATCH):
            batch = waiting[start : start + _BATCH]
            messages = (
                _message(_DELETE, _REQUEST | _ACK, n, _named(entry.told)) for n, entry in enumerate(batch)
            )
            self._socket.send(b"".join(messages))
            for _ in self._acknowledged(len(batch)):
                pass

    def _acknowledged(self, count: int) -> Iterator[tuple[int, int]]:
        while count:
            for _, sequence, body in _messages(self._socket.recv(1 << 20)):
                count -= 1
                yield sequence, -int(struct.unpack_from("=i", body)[0])

    def _answers(self, until: int) -> Iterator[bytes]:
        while True:
            for kind, _, body in _messages(self._socket.recv(1 << 20)):
                if kind == until:
                    return
                if kind == _ERROR:
                    error = -struct.unpack_from("=i", body)[0]
                    raise OSError(error, os.strerror(error))
                yield body


class Watch(Conntrack):
    """What becomes of the connections of one network namespace, as it does."""

    def __init__(self, netns: str | None) -> None:
        super().__init__(netns)
        for group in _GROUPS:
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Readable when there are events."""
        return self._socket.fileno()

    def events(self) -> list[Event]:
        """What happened since; raises Lost where that is not known."""
        found: list[Event] = []
        while True:
            try:
                heard = self._socket.recv(1 << 20)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise Lost from error
                raise
            for kind, _, body in _messages(heard):
                found.append(Event(_entry(body), gone=kind == _DELETE))


def _family(number: int) -> bytes:
    """struct nfgenmsg."""
    return struct.pack("=BBH", number, 0, 0)


def _message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return _MESSAGE.pack(_MESSAGE.size + len(body), kind, flags, sequence, 0) + body


def _messages(heard: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Kind, sequence number and body of each."""
    at = 0
    while at < len(heard):
        length, kind, _, sequence, _ = _MESSAGE.unpack_from(heard, at)
        yield kind, sequence, heard[at + _MESSAGE.size : at + length]
        at += (length + 3) & ~3


def _parts(body: bytes) -> _Parts:
    """Attributes by type, without the bits that say how they are coded."""
    found = {}
    at = 0
    while at + 4 <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        found[kind & 0x3FFF] = body[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _attribute(kind: int, body: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(body), kind) + body + bytes(-len(body) & 3)


def _nested(kind: int, parts: _Parts) -> bytes:
    return _attribute(kind | _NESTED, b"".join(_attribute(k, v) for k, v in parts.items()))


def _entry(heard: bytes) -> Entry:
    """What a kernel told, as another one is to be told it."""
    told = _parts(heard[4:])
    status = int.from_bytes(told.get(_Cta.STATUS, bytes(4)), "big")
    body = [heard[:1] + bytes(3), _attribute(_Cta.ORIGINAL | _NESTED, told[_Cta.ORIGINAL])]
    if status & (_SOURCE_TRANSLATED | _TARGET_TRANSLATED):
        body += _translated(told[_Cta.ORIGINAL], told[_Cta.REPLY], status)
    else:
        body.append(_attribute(_Cta.REPLY | _NESTED, told[_Cta.REPLY]))
    if _Cta.PROTOCOL in told:
        body.append(_attribute(_Cta.PROTOCOL | _NESTED, told[_Cta.PROTOCOL]))
    body += [_attribute(kind, told[kind]) for kind in (_Cta.TIMEOUT, _Cta.MARK) if kind in told]
    body.append(_attribute(_Cta.STATUS, (status & _TOLD | _CONFIRMED).to_bytes(4, "big")))
    return Entry(int.from_bytes(told.get(_Cta.MARK, b""), "big"), b"".join(body))


def _translated(original: bytes, reply: bytes, status: int) -> Iterator[bytes]:
    """The reply as it would be without translation, then the translations."""
    there, back = _parts(original), _parts(reply)
    addresses, protocol = _parts(there[_Tuple.ADDRESSES]), _parts(there[_Tuple.PROTOCOL])
    told, told_protocol = _parts(back[_Tuple.ADDRESSES]), _parts(back[_Tuple.PROTOCOL])
    six = _Tuple.V6_SOURCE in addresses
    source, target = (_Tuple.V6_SOURCE, _Tuple.V6_TARGET) if six else (_Tuple.V4_SOURCE, _Tuple.V4_TARGET)
    plain, plain_protocol = dict(told), dict(told_protocol)
    if status & _SOURCE_TRANSLATED:
        plain[target] = addresses[source]
        for mine, theirs in (
            (_Tuple.PORT_TARGET, _Tuple.PORT_SOURCE),
            (_Tuple.ICMP_ID, _Tuple.ICMP_ID),
            (_Tuple.ICMP6_ID, _Tuple.ICMP6_ID),
        ):
            if mine in plain_protocol:
                plain_protocol[mine] = protocol[theirs]
    if status & _TARGET_TRANSLATED:
        plain[source] = addresses[target]
        if _Tuple.PORT_SOURCE in plain_protocol:
            plain_protocol[_Tuple.PORT_SOURCE] = protocol[_Tuple.PORT_TARGET]
    yield _attribute(
        _Cta.REPLY | _NESTED,
        _nested(_Tuple.ADDRESSES, plain) + _nested(_Tuple.PROTOCOL, plain_protocol),
    )
    identifier = told_protocol.get(_Tuple.ICMP_ID, told_protocol.get(_Tuple.ICMP6_ID))
    if status & _SOURCE_TRANSLATED:
        port = told_protocol.get(_Tuple.PORT_TARGET, identifier)
        yield _translation(_Cta.NAT_SOURCE, told[target], port)
    if status & _TARGET_TRANSLATED:
        yield _translation(_Cta.NAT_TARGET, told[source], told_protocol.get(_Tuple.PORT_SOURCE))


def _translation(kind: int, address: bytes, port: bytes | None) -> bytes:
    """To this one address, and this one port where there is one (CTA_NAT_V4_MINIP and what follows it)."""
    first, last = (1, 2) if len(address) == 4 else (4, 5)
    body = _attribute(first, address) + _attribute(last, address)
    if port is not None:
        body += _nested(3, {_PORTS_FROM: port, _PORTS_TO: port})
    return _attribute(kind | _NESTED, body)


def _named(told: bytes) -> bytes:
    """What names a connection: its family and the direction that it began in."""
    return told[:4] + _attribute(_Cta.ORIGINAL | _NESTED, _parts(told[4:])[_Cta.ORIGINAL])


def _untranslated(told: bytes) -> bytes:
    """An entry without its translations."""
    parts = _parts(told[4:])
    nested = (_Cta.ORIGINAL, _Cta.REPLY, _Cta.PROTOCOL)
    kept = [(kind, body) for kind, body in parts.items() if kind not in (_Cta.NAT_SOURCE, _Cta.NAT_TARGET)]
    return told[:4] + b"".join(_attribute(kind | _NESTED * (kind in nested), body) for kind, body in kept)
