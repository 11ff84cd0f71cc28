"""DNS on the wire: questions that are read, answers that are written (RFC 1035, RFC 6891).

What an authoritative server of a few types needs, and no more: nothing that is read is followed by a
pointer, so that no message can lead it in circles.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import IntEnum

#: The longest question that is looked at, and the longest answer by UDP whatever the asker has room for: it
#: passes without fragments wherever IPv6 does (DNS flag day 2020).
LONGEST_QUESTION, LONGEST_DATAGRAM = 1024, 1232
#: How long an answer may be kept, seconds: so soon is seen what changes.
TTL = 5

_HEADER = struct.Struct("!6H")
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _DESIRED, _AVAILABLE = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_OPCODE = 0x7800
#: In an answer, the name that was asked for: a pointer to the octet after the header.
_ASKED = b"\xc0\x0c"
_OPT = 41
IN = 1


class Type(IntEnum):
    """Types of records (IANA: Resource Record (RR) TYPEs)."""

    A = 1
    SOA = 6
    PTR = 12
    AAAA = 28
    ANY = 255


class Code(IntEnum):
    """Codes of answers (IANA: DNS RCODEs). Those over 15 need an OPT record."""

    NOERROR = 0
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


@dataclass(frozen=True, slots=True)
class Question:
    """A question that was read."""

    id: int
    flags: int
    #: In lower case, with no dot at the end; "" is the root. Octets that are no text are as in latin-1.
    name: str
    type: int
    class_: int
    #: The section as it came: in an answer it stands the same, letter by letter.
    section: bytes
    #: What the asker has room for by UDP, octets; and its flag DO (RFC 4035), where it says anything of both.
    room: int = 512
    options: bool = False
    dnssec: bool = False
    version: int = 0

    @property
    def opcode(self) -> int:
        """What is asked for: 0 is a query."""
        return (self.flags & _OPCODE) >> 11

    @property
    def recursive(self) -> bool:
        """Whether others are to be asked."""
        return bool(self.flags & _DESIRED)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to a question."""

    code: Code = Code.NOERROR
    #: (type, contents) of records of the name that was asked for.
    records: tuple[tuple[int, bytes], ...] = ()
    #: The domain that the answer is from authority about; None where it is from none.
    authority: str | None = None


def read(message: bytes) -> Question | None:
    """The one question of a message; None where it is none, or is not well formed."""
    if not 17 <= len(message) <= LONGEST_QUESTION:
        return None
    id, flags, questions, answers, authorities, additional = _HEADER.unpack_from(message)
    if flags & _RESPONSE or (questions, answers, authorities) != (1, 0, 0):
        return None
    labels, at = [], _HEADER.size
    while (length := message[at]) != 0:
        label = message[at + 1 : at + 1 + length]
        at += 1 + length
        # Longer ones are pointers, which a question has none of.
        if length > 63 or at + 4 >= len(message) or at - _HEADER.size > 254:
            return None
        labels.append(label.decode("latin-1"))
    if any("." in label for label in labels) or at + 5 > len(message):
        return None
    type_, class_ = struct.unpack_from("!2H", message, at + 1)
    end = at + 5
    section, rest = message[_HEADER.size : end], message[end:]
    asked = Question(id, flags, ".".join(labels).lower(), type_, class_, section)
    if additional == 0:
        return asked if not rest else None
    return _with_options(asked, rest) if additional == 1 else None


def _with_options(asked: Question, rest: bytes) -> Question | None:
    """With the one further record, which is of type OPT: its name is the root (RFC 6891, section 6.1.2)."""
    if len(rest) < 11 or rest[0] != 0:
        return None
    type_, room, _, version, flags, length = struct.unpack_from("!2H2BHH", rest, 1)
    if type_ != _OPT or len(rest) != 11 + length:
        return None
    room = min(max(room, 512), LONGEST_DATAGRAM)
    known = (asked.id, asked.flags, asked.name, asked.type, asked.class_, asked.section)
    return Question(*known, room, True, bool(flags & 0x8000), version)


def write(asked: Question, answer: Answer, *, recursive: bool, room: int = 65535) -> bytes:
    """The message that answers a question.

    Args:
        recursive: whether others are asked here.
        room: octets; where the records have not, there are none, and the flag TC says so.
    """
    flags = _RESPONSE | asked.flags & (_OPCODE | _DESIRED) | answer.code & 15
    flags |= _AUTHORITATIVE if answer.authority is not None else 0
    flags |= _AVAILABLE if recursive else 0
    records = b"".join(_record(_ASKED, type_, data) for type_, data in answer.records)
    authority = b""
    if not answer.records and answer.authority:
        authority = _record(name(answer.authority), Type.SOA, start(answer.authority))
    options = b""
    if asked.options:
        options = struct.pack("!B2H2BHH", 0, _OPT, LONGEST_DATAGRAM, answer.code >> 4, 0, 0, 0)
    whole = _HEADER.size + len(asked.section) + len(records) + len(authority) + len(options)
    count = len(answer.records)
    if whole > room:
        flags, records, authority, count = flags | _TRUNCATED, b"", b"", 0
    header = _HEADER.pack(asked.id, flags, 1, count, bool(authority), bool(options))
    return b"".join((header, asked.section, records, authority, options))


def query(asked: Question, id: int) -> bytes:
    """The same question, to ask somebody else with an id of one's own."""
    options = b""
    if asked.options:
        options = struct.pack("!B2H2BHH", 0, _OPT, asked.room, 0, 0, 0x8000 * asked.dnssec, 0)
    header = _HEADER.pack(id, _DESIRED, 1, 0, 0, asked.options)
    return header + asked.section + options


def reply(asked: Question, id: int, message: bytes) -> bytes | None:
    """What somebody else answered to `query`, as an answer to the asker; None where it is none to it."""
    if len(message) < _HEADER.size + len(asked.section):
        return None
    found, flags, questions = struct.unpack_from("!3H", message)
    same = message[_HEADER.size : _HEADER.size + len(asked.section)] == asked.section
    if (found, questions, bool(flags & _RESPONSE)) != (id, 1, True) or not same:
        return None
    return struct.pack("!H", asked.id) + message[2:]


def name(text: str) -> bytes:
    """A name on the wire."""
    labels = text.encode("latin-1").split(b".") if text else []
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def address(text: str) -> tuple[int, bytes]:
    """The record of an address."""
    found = ipaddress.ip_address(text)
    return (Type.A if found.version == 4 else Type.AAAA), found.packed


def start(domain: str) -> bytes:
    """The contents of a domain's SOA record. What is not there may be kept as long as what is (RFC 2308)."""
    people = name(f"nobody.{domain}" if domain else "")
    return name(domain) + people + struct.pack("!5I", 1, 3600, 600, 86400, TTL)


def _record(owner: bytes, type_: int, data: bytes) -> bytes:
    return owner + struct.pack("!2HIH", type_, IN, TTL, len(data)) + data
