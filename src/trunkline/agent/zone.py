"""What a network's name service answers: pure, by what the control plane tells of the network's names.

a name that is told             its addresses
host-10-0-0-5 in a domain       the address itself, where it is on a subnet of the network
5.0.0.10.in-addr.arpa           the name of an address on a subnet of the network
below the region's domain       there is no such name
a single label                  there is no such name: nobody outside knows it
anything else                   is asked of the operator's name servers, or refused where there are none
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from trunkline.agent.dns_wire import IN, Answer, Code, Question, Type, address, name, start
from trunkline.compiler.slices import ZoneSlice
from trunkline.names import generic_address, generic_name

_REFUSED = Answer(Code.REFUSED)
_REVERSE = {".in-addr.arpa": 4, ".ip6.arpa": 6}
#: An answer with more records than this is of no use to anybody.
_MOST = 64


class Zone:
    """The names of one network, as its hosts are told them."""

    def __init__(self, told: ZoneSlice, prefixes: Iterable[str]) -> None:
        """`prefixes`: of the subnets that have the name service."""
        self.told = told
        self._prefixes = [ipaddress.ip_network(prefix, strict=False) for prefix in prefixes]
        self._domains = list(dict.fromkeys((told.domain, told.region_domain)))
        self._names = dict(told.names)
        self._called: dict[str, str] = {}
        #: Names that are there because there are names below them (RFC 8020).
        self._between = set(self._domains)
        for whole, addresses in told.names.items():
            for each in addresses:
                self._called.setdefault(each, whole)
            relative = self._relative(whole)
            if relative is not None:
                self._names.setdefault(relative, addresses)
            above = whole.partition(".")[2]
            while above and above not in self._between:
                self._between.add(above)
                above = above.partition(".")[2]

    def knows(self, source: str) -> bool:
        """Whether an address is of a host of the network: nobody else is answered."""
        found = ipaddress.ip_address(source.partition("%")[0])
        return self._has(found) or (found.version == 6 and found.is_link_local)

    def answer(self, asked: Question) -> Answer | None:
        """What is said to a question; None where others are to be asked."""
        if asked.opcode != 0:
            return Answer(Code.NOTIMP)
        if asked.version != 0:
            return Answer(Code.BADVERS)
        if asked.class_ != IN:
            return _REFUSED
        addresses = self._addresses(asked.name)
        if addresses is not None:
            return self._said(asked, [address(each) for each in addresses])
        pointed = self._pointed(asked.name)
        if pointed is not None:
            return self._said(asked, [(int(Type.PTR), name(pointed))])
        return self._unknown(asked)

    def _unknown(self, asked: Question) -> Answer | None:
        told, inside = asked.name, self._inside(asked.name)
        if inside is not None and (inside == self.told.region_domain or not self.told.forwarders):
            if told not in self._between:
                return Answer(Code.NXDOMAIN, authority=inside)
            return self._said(asked, [(int(Type.SOA), start(inside))] if told == inside else [])
        if "." not in told and asked.type in (Type.A, Type.AAAA):
            return Answer(Code.NXDOMAIN)
        return None if self.told.forwarders and asked.recursive else _REFUSED

    def _said(self, asked: Question, records: list[tuple[int, bytes]]) -> Answer:
        fitting = [r for r in records if asked.type in (r[0], Type.ANY)]
        return Answer(records=tuple(fitting[:_MOST]), authority=self._inside(asked.name) or "")

    def _addresses(self, told: str) -> tuple[str, ...] | None:
        found = self._names.get(told)
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
                return self._called.get(str(found), f"{generic_name(str(found))}.{self.told.domain}")
        return None

    def _has(self, found: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        return any(found in prefix for prefix in self._prefixes)

    def _inside(self, told: str) -> str | None:
        """The domain that a name is in."""
        return next((d for d in self._domains if told == d or told.endswith(f".{d}")), None)

    def _relative(self, whole: str) -> str | None:
        inside = self._inside(whole)
        return whole.removesuffix(f".{inside}") if inside else None
