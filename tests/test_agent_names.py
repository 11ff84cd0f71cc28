"""The name service's answers, and what it makes of messages that are no questions."""

from __future__ import annotations

import random
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from trunkline.agent import questions
from trunkline.agent.resolver import Resolver
from trunkline.agent.zone import Zone
from trunkline.compiler.slices import NamesSlice, ZoneSlice
from trunkline.names import part_of

REGION = "cloud.internal"
OWN = {
    "web.example.org": ("10.0.0.5", "fd00::5"),
    "a.b.example.org": ("10.0.0.6",),
    "whole.cloud.internal": ("10.0.0.7",),
    "big.example.org": tuple(f"10.0.1.{n}" for n in range(60)),
}
BESIDE = {"outside.other.test": ("203.0.113.9",), "elsewhere.example.org": ("10.0.0.5",)}


def told(parts: int, **more: Any) -> ZoneSlice:
    """The names in so many parts."""
    names = tuple(
        NamesSlice(**{
            field: {name: addresses for name, addresses in all_.items() if part_of(name, parts) == number}
            for field, all_ in (("own", OWN), ("beside", BESIDE))
        })
        for number in range(parts)
    )  # fmt: skip
    return ZoneSlice(region_domain=REGION, domain="example.org", names=names, **more)


ZONE = Zone(told(1), ("10.0.0.2/23", "fd00::2/64"))
PARTED = Zone(told(8), ("10.0.0.2/23", "fd00::2/64"))
FORWARDING = Zone(told(1, forwarders=("192.0.2.53",)), ("10.0.0.2/23",))


def answered(name: str, kind: str = "A", zone: Zone = ZONE, **more: Any) -> dns.message.Message | None:
    """What a client reads of the answer, by UDP; None where others are asked."""
    query = dns.message.make_query(name, kind, **more)
    said = wire(query.to_wire(), zone)
    if said is None:
        return None
    reply = dns.message.from_wire(said)
    assert query.is_response(reply)
    return reply


def wire(message: bytes, zone: Zone = ZONE) -> bytes | None:
    """The answer to a question by UDP, both as octets."""
    asked = questions.read(message)
    assert asked is not None
    answer = zone.answer(asked)
    return None if answer is None else questions.write(answer, questions.room(asked))


def said(name: str, kind: str = "A", zone: Zone = ZONE, **more: Any) -> list[str] | str | None:
    """The contents of the answer's records, or its code."""
    reply = answered(name, kind, zone, **more)
    if reply is None:
        return None
    if reply.rcode() != dns.rcode.NOERROR:
        return dns.rcode.to_text(reply.rcode())
    return [rdata.to_text() for rrset in reply.answer for rdata in rrset]


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("web.example.org", "A", ["10.0.0.5"]),
        ("WEB.Example.ORG.", "AAAA", ["fd00::5"]),
        ("web", "A", ["10.0.0.5"]),
        ("web.example.org", "MX", []),
        ("web.example.org", "ANY", ["10.0.0.5", "fd00::5"]),
        ("a.b.example.org", "A", ["10.0.0.6"]),
        ("b.example.org", "A", []),
        ("whole.cloud.internal", "A", ["10.0.0.7"]),
        ("whole", "A", ["10.0.0.7"]),
        ("web.cloud.internal", "A", "NXDOMAIN"),
        ("nobody.example.org", "A", "NXDOMAIN"),
        ("nobody", "AAAA", "NXDOMAIN"),
        ("outside.other.test", "A", ["203.0.113.9"]),
        ("other.test", "A", "REFUSED"),
        ("www.example.com", "A", "REFUSED"),
        ("host-10-0-1-9.example.org", "A", ["10.0.1.9"]),
        ("host-10-0-1-9", "A", ["10.0.1.9"]),
        ("host-10-0-2-9", "A", "NXDOMAIN"),
        ("host-fd00--9.example.org", "AAAA", ["fd00::9"]),
        ("5.0.0.10.in-addr.arpa", "PTR", ["web.example.org."]),
        ("9.0.0.10.in-addr.arpa", "PTR", ["host-10-0-0-9.example.org."]),
        ("9.0.2.10.in-addr.arpa", "PTR", "REFUSED"),
        ("9.113.0.203.in-addr.arpa", "PTR", "REFUSED"),
        ("0.0.10.in-addr.arpa", "PTR", "REFUSED"),
        ("x.0.0.10.in-addr.arpa", "PTR", "REFUSED"),
        (f"5.{'0.' * 27}0.0.d.f.ip6.arpa", "PTR", ["web.example.org."]),
        (f"5.{'0.' * 27}1.0.d.f.ip6.arpa", "PTR", "REFUSED"),
        (f"5.{'0.' * 26}0.0.d.f.ip6.arpa", "PTR", "REFUSED"),
        (".", "NS", "REFUSED"),
    ],
)
@pytest.mark.parametrize("zone", [ZONE, PARTED], ids=["whole", "in parts"])
def test_a_name_is_answered(name: str, kind: str, expected: list[str] | str, zone: Zone) -> None:
    assert said(name, kind, zone) == expected


def test_a_zone_that_is_made_of_the_one_before_answers_as_a_new_one() -> None:
    names = list(PARTED.told.names)
    new, gone = part_of("new", 8), part_of("whole", 8)
    assert new != gone
    names[new] = NamesSlice(own={"new.example.org": ("10.0.0.77",)})
    names[gone] = NamesSlice()
    told = replace(PARTED.told, names=tuple(names))
    for zone in (Zone(told, ("10.0.0.2/23",)), Zone(told, ("10.0.0.2/23",), PARTED)):
        assert [said(name, zone=zone) for name in ("new", "whole", "a.b")] == [
            ["10.0.0.77"],
            "NXDOMAIN",
            ["10.0.0.6"],
        ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web.example.org", ["10.0.0.5"]),
        ("www.example.org", None),
        ("example.org", None),
        ("www.example.com", None),
        ("nobody.cloud.internal", "NXDOMAIN"),
        ("nobody", "NXDOMAIN"),
    ],
)
def test_others_are_asked_for_what_is_not_the_regions(name: str, expected: list[str] | str | None) -> None:
    assert said(name, zone=FORWARDING) == expected


def test_others_are_asked_only_where_that_is_wished() -> None:
    assert said("www.example.com", zone=FORWARDING, flags=0) == "REFUSED"


def test_what_is_not_there_may_be_kept_as_shortly_as_what_is() -> None:
    for name, kind in (("nobody.cloud.internal", "A"), ("web.example.org", "MX")):
        reply = answered(name, kind)
        assert reply is not None
        (start,) = reply.authority
        assert (start.rdtype, start[0].minimum, start.ttl) == (dns.rdatatype.SOA, 5, 5)
        assert reply.flags & dns.flags.AA


def test_an_answer_without_room_says_so_and_has_room_in_a_connection() -> None:
    short = answered("big.example.org", use_edns=False)
    assert short is not None
    assert (bool(short.flags & dns.flags.TC), short.answer) == (True, [])
    longer = answered("big.example.org", use_edns=0, payload=4096)
    assert longer is not None
    assert (bool(longer.flags & dns.flags.TC), len(longer.answer[0])) == (False, 60)
    assert len(longer.to_wire()) <= questions.LONGEST_DATAGRAM


#: Written down by hand (RFC 1035, section 4; RFC 6891, section 6.1.2): neither end of it is the library's.
ASKED = "abcd 0100 0001 0000 0000 000103 576562 07 6578616d706c65 03 6f7267 00 0001 0001"
OPTIONS = "00 0029 1000 00000000 0000"
SAID = (
    "abcd 8500 0001 0001 0000 0001"
    "03 576562 07 6578616d706c65 03 6f7267 00 0001 0001"
    "c00c 0001 0001 00000005 0004 0a000005"
    "00 0029 04d0 00000000 0000"
)


def test_octet_for_octet_as_the_standards_have_it() -> None:
    assert wire(bytes.fromhex(ASKED + OPTIONS)) == bytes.fromhex(SAID)


def test_an_answer_is_not_filled_up_to_what_its_asker_wishes_for() -> None:
    padding = dns.edns.GenericOption(dns.edns.OptionType.PADDING, b"")
    said = wire(dns.message.make_query("web.example.org", "A", use_edns=0, options=[padding]).to_wire())
    assert said is not None
    assert len(said) < 100


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"rdclass": "CH"}, "REFUSED"),
        ({"use_edns": 1}, "BADVERS"),
        ({"use_edns": 0, "options": [dns.edns.ECSOption("10.0.0.0")]}, ["10.0.0.5"]),
    ],
)
def test_what_is_not_served_is_told_by_its_code(change: Any, code: str | list[str]) -> None:
    assert said("web.example.org", **change) == code


def test_an_update_is_not_served() -> None:
    message = bytearray(dns.message.make_query("example.org", "SOA").to_wire())
    message[2] |= 5 << 3
    said = wire(bytes(message))
    assert said is not None
    assert said[3] & 15 == dns.rcode.NOTIMP


def malformed() -> dict[str, bytes]:
    good = dns.message.make_query("web.example.org", "A", use_edns=0).to_wire()
    return {
        "nothing": b"",
        "a header alone": good[:12],
        "an answer": good[:2] + b"\x80" + good[3:],
        "two questions": good[:5] + b"\x02" + good[6:],
        "an answer section": good[:7] + b"\x01" + good[8:],
        "a pointer": good[:12] + b"\xc0\x0c" + good[29:],
        "a pointer to itself behind a label": good[:16] + b"\xc0\x10" + good[18:],
        "a label that ends behind the message": good[:12] + b"\x3f" + good[13:30],
        "a record that is no option": good[:-9] + b"\x00\x01" + good[-7:],
        "an option of somebody": good[:-11] + b"\x01a" + good[-10:],
        "something behind": good + b"\x00",
        "less than it says": good[:-1],
        "a name that is too long": good[:12] + b"\x3f" + b"a" * 63 + (b"\x3f" + b"a" * 63) * 4 + good[28:],
        "too much of it": good + b"\x00" * 2000,
    }


@pytest.mark.parametrize("kind", malformed())
def test_what_is_not_well_formed_is_left_unanswered(kind: str) -> None:
    assert questions.read(malformed()[kind]) is None


def test_a_dot_within_a_label_makes_another_name() -> None:
    message = dns.message.make_query("web.example.org", "A").to_wire().replace(b"\x03web", b"\x03w.b")
    said = wire(message.replace(b"\x03w.b\x07example", b"\x0bweb.example"))
    assert said is not None
    assert said[3] & 15 == dns.rcode.NXDOMAIN


def test_what_anybody_asks_for_leaves_nothing_behind() -> None:
    known: Any = dns.rdata
    said("web.example.org", use_edns=0)
    before = len(known._rdata_classes)
    good = dns.message.make_query("web.example.org", "A", use_edns=0).to_wire()
    for number in range(2, 200):
        room = number.to_bytes(2, "big")
        for message in (good[:-8] + room + good[-6:], good[:-10] + room + good[-8:], good[:29] + room * 2):
            questions.read(message)
        said("web.example.org", f"TYPE{number + 2000}", rdclass=number)
    assert len(known._rdata_classes) == before


@given(st.binary(max_size=80), st.integers(0, 2**32))
def test_no_message_breaks_the_reader(rest: bytes, seed: int) -> None:
    chance = random.Random(seed)
    message = bytearray(dns.message.make_query("web.example.org", "A", use_edns=0).to_wire() + rest)
    for _ in range(chance.randrange(8)):
        message[chance.randrange(len(message))] = chance.randrange(256)
    asked = questions.read(bytes(message))
    if asked is not None and (answer := ZONE.answer(asked)) is not None:
        questions.write(answer, questions.room(asked))


def test_only_hosts_of_the_network_are_answered() -> None:
    sources = ("10.0.1.200", "fd00::77", "fe80::1%2", "10.0.2.1", "203.0.113.9", "fd01::1")
    assert [ZONE.knows(source) for source in sources] == [True, True, True, False, False, False]


def test_a_question_is_passed_on_and_its_answer_handed_back() -> None:
    query = dns.message.make_query("wWw.Example.com", "A", use_edns=0, payload=900, want_dnssec=True)
    asked = questions.read(query.to_wire())
    assert asked is not None
    sent = questions.passed_on(asked, 77)
    passed = dns.message.from_wire(sent.to_wire())
    assert (passed.id, passed.question, passed.payload) == (77, query.question, 900)
    assert passed.ednsflags & dns.flags.DO
    assert passed.question[0].name.labels[0] == b"wWw"
    answer = dns.message.make_response(passed).to_wire()
    handed = questions.handed_back(asked, sent, answer)
    assert handed is not None
    assert query.is_response(dns.message.from_wire(handed))
    for other in (b"ab" + answer[2:], answer.replace(b"wWw", b"www"), answer[:20], sent.to_wire()):
        assert questions.handed_back(asked, sent, other) is None


def test_who_asks_while_others_are_busy_is_remembered_by_nothing() -> None:
    """An asker may have as many addresses as a prefix of IPv6 holds."""
    resolver = Resolver(FORWARDING)
    busy = [resolver._begins(f"10.0.0.{n}") for n in range(10, 14) for _ in range(16)]
    assert all(busy)
    assert not any(resolver._begins(f"fe80::{n:x}") for n in range(1, 2000))
    assert len(resolver._asked) == 4
