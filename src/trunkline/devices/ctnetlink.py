"""Connections as messages of ctnetlink, coded: what one kernel tells becomes what another one takes. Pure.

A kernel sets a translation up only for an entry whose reply is told as it would be without (conntrackd calls
this undoing), with the translation as an attribute of its own.

Thousands of connections come and go in a second, so nothing is looked at before it is needed: what names a
connection stands at the beginning of whatever is told of it, and ports have their places.

Formats: linux/netfilter/nfnetlink_conntrack.h, linux/netfilter/nf_conntrack_common.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

NEW, GET, DELETE = 0x100, 0x101, 0x102  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_*
_NESTED = 0x8000
#: Bits of a connection's status that are its own to tell (IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED).
_TOLD, ASSURED, _CONFIRMED = 0x2 | 0x4 | 0x8, 0x4, 0x8
_SOURCE_TRANSLATED, _TARGET_TRANSLATED, _SEQUENCE_ADJUSTED = 0x10, 0x20, 0x40
_MESSAGE = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_attribute_at = _ATTRIBUTE.unpack_from
#: How long CTA_TIMEOUT is with its header, which a told entry has after its name.
_TIMEOUT = 8
_PORTS_FROM, _PORTS_TO = 1, 2  # CTA_PROTONAT_PORT_MIN, CTA_PROTONAT_PORT_MAX
_TCP, _TCP_STATE = 1, 1  # CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE
_START = 1  # CTA_TIMESTAMP_START
#: What both directions are told by where the protocol has ports: length, places of the source and the target
#: address, of the source and the target port. By family.
_PLACES = {
    socket.AF_INET: (48, slice(8, 12), slice(16, 20), slice(36, 38), slice(44, 46)),
    socket.AF_INET6: (72, slice(8, 24), slice(28, 44), slice(60, 62), slice(68, 70)),
}

#: Of enum tcp_conntrack: what comes behind it has ended (TIME_WAIT, CLOSE).
_LAST_OPEN = 6
ESTABLISHED = 3

Parts = dict[int, bytes]


class Cta(IntEnum):
    """Attributes of a connection."""

    ORIGINAL = 1
    REPLY = 2
    STATUS = 3
    PROTOCOL = 4
    NAT_SOURCE = 6
    TIMEOUT = 7
    MARK = 8
    NAT_TARGET = 13
    SEQUENCE_ORIGINAL = 15
    SEQUENCE_REPLY = 16
    TIMESTAMP = 20
    MARK_MASK = 21
    SYNPROXY = 24


#: Told on as they are: a connection that was begun for its server has numbers that are shifted.
_SHIFTED = (Cta.SEQUENCE_ORIGINAL, Cta.SEQUENCE_REPLY, Cta.SYNPROXY)


class _Tuple(IntEnum):
    """Attributes of one direction, and of its two parts."""

    ADDRESSES = 1
    PROTOCOL = 2
    V4_SOURCE = 1
    V4_TARGET = 2
    V6_SOURCE = 3
    V6_TARGET = 4
    NUMBER = 1
    PORT_SOURCE = 2
    PORT_TARGET = 3
    ICMP_ID = 4
    ICMP6_ID = 7


class Entry(NamedTuple):
    """One connection: its mark, and what a kernel is told to have it.

    What is told begins with its name, then its timeout, and ends with its translations.
    """

    mark: int
    told: bytes

    @property
    def name(self) -> bytes:
        """What no other connection has: its family and the direction that it began in."""
        return name_of(self.told)

    @property
    def timeout(self) -> int:
        """Seconds for which the kernel that told it would have kept it without another packet."""
        at = len(self.name)
        return int.from_bytes(self.told[at + 4 : at + 8], "big")

    def lasting(self, seconds: int) -> Entry:
        """The same, to be kept for so long."""
        name = self.name
        return Entry(self.mark, name + _timeout(seconds) + self.told[len(name) + _TIMEOUT :])

    def timeout_alone(self, seconds: int) -> Entry:
        """What tells a kernel that has it to keep it for so long, and nothing else."""
        return Entry(self.mark, self.name + _timeout(seconds))

    @property
    def untranslated(self) -> bytes:
        """What is told to a kernel that has it: the translation of one that is there stays as it is."""
        return self.told[: self._place(Cta.NAT_SOURCE, Cta.NAT_TARGET)]

    def _place(self, *kinds: Cta) -> int:
        """Where the first attribute of these kinds stands in what is told, or where that ends."""
        told, at = self.told, 4
        while at < len(told):
            length, kind = _attribute_at(told, at)
            if kind & 0x3FFF in kinds:
                break
            at += (length + 3) & ~3
        return at

    @property
    def translations(self) -> bytes:
        return self.told[len(self.untranslated) :]

    @property
    def protocol(self) -> int:
        """As in the IP header."""
        original = parts_of(parts_of(self.name[4:])[Cta.ORIGINAL])
        return parts_of(original[_Tuple.PROTOCOL])[_Tuple.NUMBER][0]

    @property
    def tcp_state(self) -> int:
        """As enum tcp_conntrack; 0 of what is not TCP."""
        protocol = parts_of(parts_of(self.told[4:]).get(Cta.PROTOCOL, b""))
        return parts_of(protocol.get(_TCP, b"")).get(_TCP_STATE, b"\0")[0]

    @property
    def opened(self) -> Entry:
        """The same, as established where it is TCP that begins: the rest of a handshake passes there, too."""
        if self.protocol != socket.IPPROTO_TCP or not 0 < self.tcp_state < ESTABLISHED:
            return self
        state = _ATTRIBUTE.pack(5, _TCP_STATE)
        at = self.told.index(state, self._place(Cta.PROTOCOL)) + len(state)
        return Entry(self.mark, self.told[:at] + bytes([ESTABLISHED]) + self.told[at + 1 :])

    @property
    def assured(self) -> bool:
        """It was seen to go both ways, and is not what is dropped first where there is no room."""
        return bool(int.from_bytes(parts_of(self.told[4:])[Cta.STATUS], "big") & ASSURED)


class Ends(NamedTuple):
    """Whom a connection was made to, and who answers it: addresses as packets have them, and ports."""

    protocol: int
    target: bytes
    port: int
    answers: bytes
    answers_port: int


def ends_of(heard: bytes) -> Ends | None:
    """Of what a kernel tells; None where the protocol has no ports, or the connection has ended."""
    length, source, target, source_port, target_port = _PLACES[socket.AddressFamily(heard[0])]
    if _attribute_at(heard, 4)[0] != length + 4:
        return None
    original, reply = heard[8 : 8 + length], heard[12 + length : 12 + 2 * length]
    # Its number is the first of three attributes, of eight bytes each.
    number = original[length - 20]
    if number == socket.IPPROTO_TCP:
        protocol = parts_of(parts_of(heard[4:]).get(Cta.PROTOCOL, b""))
        if parts_of(protocol.get(_TCP, b"")).get(_TCP_STATE, b"\0")[0] > _LAST_OPEN:
            return None
    return Ends(
        number,
        original[target],
        int.from_bytes(original[target_port], "big"),
        reply[source],
        int.from_bytes(reply[source_port], "big"),
    )


def family(number: int) -> bytes:
    """struct nfgenmsg."""
    return struct.pack("=BBH", number, 0, 0)


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return _MESSAGE.pack(_MESSAGE.size + len(body), kind, flags, sequence, 0) + body


def messages(heard: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Kind, sequence number and body of each."""
    at = 0
    while at < len(heard):
        length, kind, _, sequence, _ = _MESSAGE.unpack_from(heard, at)
        yield kind, sequence, heard[at + _MESSAGE.size : at + length]
        at += (length + 3) & ~3


def changed_by(heard: bytes) -> int:
    """Who brought about what is told; 0 where packets did. Events are told one by one."""
    return int(_MESSAGE.unpack_from(heard)[4])


def parts_of(body: bytes) -> Parts:
    """Attributes by type, without the bits that say how they are coded."""
    found = {}
    at, end = 0, len(body)
    while at + 4 <= end:
        length, kind = _attribute_at(body, at)
        found[kind & 0x3FFF] = body[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def attribute(kind: int, body: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(body), kind) + body + bytes(-len(body) & 3)


def marked(mark: int, mask: int) -> bytes:
    """What tells connections apart by their mark."""
    return attribute(Cta.MARK, mark.to_bytes(4, "big")) + attribute(Cta.MARK_MASK, mask.to_bytes(4, "big"))


def name_of(heard: bytes) -> bytes:
    """What names the connection that is told of: kernels begin with it, and so do entries."""
    length, _ = _attribute_at(heard, 4)
    return heard[: 4 + ((length + 3) & ~3)]


def mark_of(heard: bytes) -> int:
    """The mark of the connection that a kernel tells of; one without a mark has none told."""
    at, end = 4, len(heard)
    while at < end:
        length, kind = _attribute_at(heard, at)
        if kind == Cta.MARK:
            return int.from_bytes(heard[at + 4 : at + 8], "big")
        at += (length + 3) & ~3
    return 0


def began_at(heard: bytes) -> float:
    """When a connection began, seconds since the epoch; 0 where the kernel takes no times."""
    times = parts_of(parts_of(heard[4:]).get(Cta.TIMESTAMP, b""))
    return int.from_bytes(times.get(_START, b""), "big") / 1e9


def whole(heard: bytes) -> bool:
    """Whether all is told that another kernel needs; an event may leave out what did not change."""
    told = parts_of(heard[4:])
    if int.from_bytes(told[Cta.STATUS], "big") & _SEQUENCE_ADJUSTED and Cta.SEQUENCE_ORIGINAL not in told:
        return False
    return Cta.PROTOCOL in told or Entry(0, name_of(heard)).protocol != socket.IPPROTO_TCP


def entry_of(heard: bytes) -> Entry:
    """What a kernel told, as another one is to be told it."""
    told = parts_of(heard[4:])
    status = int.from_bytes(told[Cta.STATUS], "big")
    mark = told.get(Cta.MARK, bytes(4))
    reply, translations = told[Cta.REPLY], b""
    if status & (_SOURCE_TRANSLATED | _TARGET_TRANSLATED):
        reply, translations = _undone(heard[0], told[Cta.ORIGINAL], reply, status)
    body = [
        name_of(heard),
        _ATTRIBUTE.pack(_TIMEOUT, Cta.TIMEOUT) + told.get(Cta.TIMEOUT, bytes(4)),
        attribute(Cta.REPLY | _NESTED, reply),
        _ATTRIBUTE.pack(8, Cta.STATUS) + (status & _TOLD | _CONFIRMED).to_bytes(4, "big"),
        _ATTRIBUTE.pack(8, Cta.MARK) + mark,
    ]
    if Cta.PROTOCOL in told:
        body.append(attribute(Cta.PROTOCOL | _NESTED, told[Cta.PROTOCOL]))
    if status & _SEQUENCE_ADJUSTED:
        body += [attribute(kind | _NESTED, told[kind]) for kind in _SHIFTED if kind in told]
    body.append(translations)
    return Entry(int.from_bytes(mark, "big"), b"".join(body))


def _timeout(seconds: int) -> bytes:
    return _ATTRIBUTE.pack(_TIMEOUT, Cta.TIMEOUT) + seconds.to_bytes(4, "big")


def _undone(kind: int, original: bytes, reply: bytes, status: int) -> tuple[bytes, bytes]:
    """The reply as it would be without translation, and the translations."""
    length, source, target, source_port, target_port = _PLACES[socket.AddressFamily(kind)]
    if len(original) != length or len(reply) != length:
        return _undone_by_parts(original, reply, status)
    plain, translations = bytearray(reply), b""
    if status & _SOURCE_TRANSLATED:
        plain[target], plain[target_port] = original[source], original[source_port]
        translations = _translation(Cta.NAT_SOURCE, reply[target], reply[target_port])
    if status & _TARGET_TRANSLATED:
        plain[source], plain[source_port] = original[target], original[target_port]
        translations += _translation(Cta.NAT_TARGET, reply[source], reply[source_port])
    return bytes(plain), translations


def _undone_by_parts(original: bytes, reply: bytes, status: int) -> tuple[bytes, bytes]:
    """As `_undone`, of protocols that have something else than two ports."""
    there, back = parts_of(original), parts_of(reply)
    addresses, protocol = parts_of(there[_Tuple.ADDRESSES]), parts_of(there[_Tuple.PROTOCOL])
    told, told_protocol = parts_of(back[_Tuple.ADDRESSES]), parts_of(back[_Tuple.PROTOCOL])
    six = _Tuple.V6_SOURCE in addresses
    source, target = (_Tuple.V6_SOURCE, _Tuple.V6_TARGET) if six else (_Tuple.V4_SOURCE, _Tuple.V4_TARGET)
    plain, plain_protocol, translations = dict(told), dict(told_protocol), b""
    identifier = told_protocol.get(_Tuple.ICMP_ID, told_protocol.get(_Tuple.ICMP6_ID))
    if status & _SOURCE_TRANSLATED:
        plain[target] = addresses[source]
        for mine in (_Tuple.ICMP_ID, _Tuple.ICMP6_ID):
            if mine in plain_protocol:
                plain_protocol[mine] = protocol[mine]
        translations = _translation(Cta.NAT_SOURCE, told[target], identifier)
    if status & _TARGET_TRANSLATED:
        plain[source] = addresses[target]
        translations += _translation(Cta.NAT_TARGET, told[source], None)
    return _nested(_Tuple.ADDRESSES, plain) + _nested(_Tuple.PROTOCOL, plain_protocol), translations


def _nested(kind: int, parts: Parts) -> bytes:
    return attribute(kind | _NESTED, b"".join(attribute(k, v) for k, v in parts.items()))


def _translation(kind: int, address: bytes, port: bytes | None) -> bytes:
    """To this one address, and this one port where there is one (CTA_NAT_V4_MINIP and what follows it)."""
    first, last = (1, 2) if len(address) == 4 else (4, 5)
    body = attribute(first, address) + attribute(last, address)
    if port is not None:
        body += _nested(3, {_PORTS_FROM: port, _PORTS_TO: port})
    return attribute(kind | _NESTED, body)
