"""Questions for names as they come in, and as they are passed on; dnspython reads and writes them.

Who asks may be anybody. What is not one plain question is not handed to the library at all: it remembers each
type and class of records that it ever read, and loads code for some.
"""

from __future__ import annotations

import struct

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.wire
from dns.message import Message

#: The longest question that is looked at, and the longest answer by UDP whatever the asker has room for: it
#: passes without fragments wherever IPv6 does (DNS flag day 2020).
LONGEST_QUESTION, LONGEST_DATAGRAM = 1024, 1232
_LEAST_ROOM = 512


def read(message: bytes) -> Message | None:
    """The one question of a message; None where it is none, or is not well formed."""
    try:
        return dns.message.from_wire(message) if _plain(message) else None
    except dns.exception.DNSException:
        return None


def _plain(message: bytes) -> bool:
    """Whether there is one question, with its name written out, and at most an OPT record (RFC 6891)."""
    if len(message) > LONGEST_QUESTION:
        return False
    parser = dns.wire.Parser(message)
    _, flags, *counts, more = parser.get_struct("!6H")
    if flags & dns.flags.QR or counts != [1, 0, 0] or more > 1:
        return False
    parser.get_name()
    parser.get_struct("!2H")
    return not more or (parser.get_name(), *parser.get_struct("!H")) == (dns.name.root, dns.rdatatype.OPT)


def room(asked: Message) -> int:
    """What the asker has room for by UDP, octets."""
    return min(max(asked.payload, _LEAST_ROOM), LONGEST_DATAGRAM)


def response(asked: Message, code: dns.rcode.Rcode, *, recursive: bool) -> Message:
    """An answer without records.

    Args:
        recursive: whether others are asked here.
    """
    # It is not filled up to a length that the asker may wish for: it would be longer than the question.
    made = dns.message.make_response(asked, recursive, our_payload=LONGEST_DATAGRAM, pad=0)
    made.set_rcode(code)
    return made


def write(answer: Message, room: int = 65535) -> bytes:
    """An answer on the wire; where the room, octets, is not enough for its records, the flag TC says so."""
    return answer.to_wire(max_size=room, prefer_truncation=True)


def passed_on(asked: Message, id: int) -> Message:
    """The same question, to ask somebody else with an id of one's own."""
    (question,) = asked.question
    return dns.message.make_query(
        question.name,
        question.rdtype,
        question.rdclass,
        use_edns=0 if asked.edns >= 0 else False,
        want_dnssec=bool(asked.ednsflags & dns.flags.DO),
        payload=room(asked),
        id=id,
    )


def handed_back(asked: Message, passed: Message, message: bytes) -> bytes | None:
    """What somebody else answered to `passed`, as an answer to who asked; None where it is none to it."""
    try:
        said = dns.message.from_wire(message, question_only=True)
    except dns.exception.DNSException:
        return None
    # Letter by letter: who asks in mixed case wants to know by it that nobody guessed the answer.
    same = [each.name.labels for each in said.question] == [each.name.labels for each in passed.question]
    return struct.pack("!H", asked.id) + message[2:] if same and passed.is_response(said) else None
