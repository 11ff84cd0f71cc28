"""What a network's name service answers: pure, by what the control plane tells of the network's names.

a name that is told             its addresses
host-10-0-0-5 in a domain       the address itself, where it is on a subnet of the network
5.0.0.10.in-addr.arpa           the name of an address on a subnet of the network
below the region's domain       there is no such name
a single label                  there is no such name: nobody outside knows it
anything else                   is asked of the operator's name servers, or refused where there are none
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence

import dns.flags
import dns.opcode
import dns.rdata
import dns.rrset
from dns.message import Message
from dns.rcode import Rcode
from dns.rdataclass import IN
from dns.rdatatype import RdataType

from trunkline.agent import questions
from trunkline.compiler.slices import NamesSlice, ZoneSlice
from trunkline.names import generic_address, generic_name, part_of

#: How long an answer may be kept, seconds: so soon is seen what changes.
TTL = 5
_REVERSE = {".in-addr.arpa": 4, ".ip6.arpa": 6}
#: An answer with more records than this is of no use to anybody.
_MOST = 64


class _Names:
    """Some of the names, as they are asked for."""

    def __init__(self, told: Mapping[str, tuple[str, ...]], domains: Sequence[str]) -> None:
        #: Whole names to their addresses, and names relative to one of the domains.
        self.addresses = dict(told)
        #: Addresses to their names.
        self.called: dict[str, str] = {}
        #: Names that are there because there are names below them (RFC 8020).
        self.between: set[str] = set()
        for whole, addresses in told.items():
            for each in addresses:
                self.called.setdefault(each, whole)
            inside = _inside(whole, domains)
            if inside:
                self.addresses.setdefault(whole.removesuffix(f".{inside}"), addresses)
            above = whole.partition(".")[2]
            while above and above not in self.between:
                self.between.add(above)
                above = above.partition(".")[2]


class _Part:
    """One part of the names: the network's own, and those that are told beside."""

    def __init__(self, told: NamesSlice, domains: Sequence[str]) -> None:
        self.told = told
        self.own = _Names(told.own, domains)
        self.beside = _Names(told.beside, domains)


class Zone:
    """The names of one network, as its hosts are told them."""

    def __init__(self, told: ZoneSlice, prefixes: Iterable[str], before: Zone | None = None) -> None:
        """Of what is told.

        Args:
            prefixes: of the subnets that have the name service.
            before: the zone until now; what is the same is taken from it.
        """
        self.told = told
        self._prefixes = [ipaddress.ip_network(prefix, strict=False) for prefix in prefixes]
        self._domains = list(dict.fromkeys((told.domain, told.region_domain)))
        same = before._parts if before is not None and before._domains == self._domains else []
        known = {id(part.told): part for part in same}
        self._parts: list[_Part] = [
            known.get(id(each)) or _Part(each, self._domains) for each in told.names if each is not None
        ]

    def knows(self, source: str) -> bool:
        """Whether an address is of a host of the network: nobody else is answered."""
        found = ipaddress.ip_address(source.partition("%")[0])
        return self._has(found) or (found.version == 6 and found.is_link_local)

    def answer(self, asked: Message) -> Message | None:
        """What is said to a question; None where others are to be asked."""
        if asked.opcode() != dns.opcode.QUERY:
            return self._coded(asked, Rcode.NOTIMP)
        if asked.edns > 0:
            return self._coded(asked, Rcode.BADVERS)
        (question,) = asked.question
        if question.rdclass != IN:
            return self._coded(asked, Rcode.REFUSED)
        told = question.name.to_text(omit_final_dot=True).lower()
        addresses = self._addresses(told)
        if addresses is not None:
            return self._said(asked, told, [_address(each) for each in addresses])
        pointed = self._pointed(told)
        if pointed is not None:
            return self._said(asked, told, [(RdataType.PTR, f"{pointed}.")])
        return self._unknown(asked, told)

    def _unknown(self, asked: Message, told: str) -> Message | None:
        inside = self._inside(told)
        if inside is not None and (inside == self.told.region_domain or not self.told.forwarders):
            if told in self._domains or any(told in names.between for names in self._all()):
                return self._said(asked, told, [(RdataType.SOA, _start(inside))] if told == inside else [])
            return self._with_authority(self._coded(asked, Rcode.NXDOMAIN), inside)
        if "." not in told and asked.question[0].rdtype in (RdataType.A, RdataType.AAAA):
            return self._coded(asked, Rcode.NXDOMAIN)
        recursive = asked.flags & dns.flags.RD
        return None if self.told.forwarders and recursive else self._coded(asked, Rcode.REFUSED)

    def _said(self, asked: Message, told: str, records: list[tuple[RdataType, str]]) -> Message:
        """Those of the records, each of a type and as text, that were asked for."""
        (question,) = asked.question
        fitting = [each for each in records if question.rdtype in (each[0], RdataType.ANY)][:_MOST]
        answer = self._coded(asked, Rcode.NOERROR)
        answer.flags |= dns.flags.AA
        for type_ in dict.fromkeys(each for each, _ in fitting):
            same = [_record(each, text) for each, text in fitting if each == type_]
            answer.answer.append(dns.rrset.from_rdata_list(question.name, TTL, same))
        inside = self._inside(told)
        return self._with_authority(answer, inside) if inside and not fitting else answer

    def _coded(self, asked: Message, code: Rcode) -> Message:
        return questions.response(asked, code, recursive=bool(self.told.forwarders))

    @staticmethod
    def _with_authority(answer: Message, domain: str) -> Message:
        """The same, from authority about a domain, in which what was asked for is not (RFC 2308)."""
        answer.flags |= dns.flags.AA
        answer.authority.append(
            dns.rrset.from_rdata(f"{domain}.", TTL, _record(RdataType.SOA, _start(domain)))
        )
        return answer

    def _addresses(self, told: str) -> tuple[str, ...] | None:
        if self._parts:
            part = self._parts[part_of(told, len(self._parts))]
            found = part.own.addresses.get(told) or part.beside.addresses.get(told)
            if found is not None:
                return found
        label, _, rest = told.partition(".")
        if rest and rest not in self._domains:
            return None
        generic = generic_address(label)
        return (generic,) if generic and self._has(ipaddress.ip_address(generic)) else None

    def _pointed(self, told: str) -> str | None:
        """The name of the address that a name for questions the other way is of (RFC 1035, RFC 3596)."""
        for suffix, version in _REVERSE.items():
            if told.endswith(suffix):
                parts = told.removesuffix(suffix).split(".")[::-1]
                if len(parts) != (4 if version == 4 else 32) or (
                    version == 6 and set(map(len, parts)) != {1}
                ):
                    return None
                groups = ["".join(parts[at : at + 4]) for at in range(0, 32, 4)]
                text = ".".join(parts) if version == 4 else ":".join(groups)
                try:
                    found = ipaddress.ip_address(text)
                except ValueError:
                    return None
                if not self._has(found):
                    return None
                called = (names.called.get(str(found)) for names in self._all())
                return next(filter(None, called), f"{generic_name(str(found))}.{self.told.domain}")
        return None

    def _has(self, found: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        return any(found in prefix for prefix in self._prefixes)

    def _all(self) -> Iterator[_Names]:
        """All names, the network's own first."""
        yield from (part.own for part in self._parts)
        yield from (part.beside for part in self._parts)

    def _inside(self, told: str) -> str | None:
        return _inside(told, self._domains)


def _inside(told: str, domains: Sequence[str]) -> str | None:
    """The domain that a name is in."""
    return next((d for d in domains if told == d or told.endswith(f".{d}")), None)


def _address(text: str) -> tuple[RdataType, str]:
    return (RdataType.AAAA if ":" in text else RdataType.A), text


@functools.lru_cache(maxsize=4096)
def _record(type_: RdataType, text: str) -> dns.rdata.Rdata:
    return dns.rdata.from_text(IN, type_, text)


def _start(domain: str) -> str:
    """What a domain's SOA record says. What is not there may be kept as long as what is (RFC 2308)."""
    return f"{domain}. nobody.{domain}. 1 3600 600 86400 {TTL}"
