"""What stands in the document as text: addresses, services, ports, rates."""

from __future__ import annotations

import functools
import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
#: Those of a service; "icmp" is the one of the packet's family (RFC 792, RFC 4443).
_PROTOCOLS = {"tcp": (TCP,), "udp": (UDP,), "icmp": (ICMP, ICMP6), "esp": (50,), "gre": (47,), "sctp": (132,)}
_SERVICE = re.compile(r"([a-z]+)(?:/(\d{1,5})(?:-(\d{1,5}))?)?")
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
_RATE = re.compile(r"(\d{1,7})/(second|minute|hour)")
_UNITS = {"second": 1, "minute": 60, "hour": 3600}


class Ports(msgspec.Struct, frozen=True, order=True, gc=False):
    """From `first` to `last`, both included."""

    first: int = 0
    last: int = 65535

    def __str__(self) -> str:
        return f"{self.first}-{self.last}" if self.first != self.last else str(self.first)

    def meets(self, other: Ports) -> bool:
        return self.first <= other.last and other.first <= self.last


class Service(msgspec.Struct, frozen=True, order=True, gc=False):
    """IP protocols from `first` to `last`; of TCP and UDP, target ports."""

    first: int
    last: int
    ports: Ports = Ports()

    @property
    def has_ports(self) -> bool:
        return self.first == self.last and self.first in (TCP, UDP)


@dataclass(frozen=True)
class Rate:
    """So many in so many seconds."""

    count: int
    seconds: int


def address(text: str) -> Address:
    """Raises ValueError: it is none, or none that a single interface can have; with the remedy."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"'{text}' is no IP address. Write it as 192.0.2.1 or 2001:db8::1.") from None
    if getattr(found, "scope_id", None) or found.is_multicast or found.is_unspecified or found.is_loopback:
        raise ValueError(f"'{text}' is not the address of one interface of a network. Give one that is.")
    return found


@functools.lru_cache(65536)
def network(text: str) -> Network:
    """Of a prefix or an address. Raises ValueError with the remedy."""
    try:
        # Most are addresses of IPv4: read so, one takes a third of the time.
        return ipaddress.IPv4Network((socket.inet_pton(socket.AF_INET, text), 32))
    except (OSError, ValueError):
        pass
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        if "has host bits set" in str(error):
            proper = ipaddress.ip_network(text, strict=False)
            raise ValueError(f"'{text}' has bits behind its prefix. Write {proper}.") from None
        raise ValueError(
            f"'{text}' is neither an address, nor a prefix as 10.0.0.0/24, nor a group of this policy."
        ) from None


@functools.lru_cache(65536)
def services(text: str) -> tuple[Service, ...]:
    """What a word for a service means. Raises ValueError with the remedy."""
    found = _SERVICE.fullmatch(text)
    protocol, first, last = found.groups() if found else ("", None, None)
    if protocol == "ip" and first is not None and last is None and int(first) < 256:
        return (Service(int(first), int(first)),)
    if protocol not in _PROTOCOLS or (first is not None and protocol not in ("tcp", "udp")):
        raise ValueError(
            f"'{text}' is neither a service, as tcp/80, udp/5000-5999, tcp, udp, icmp, esp, gre, sctp or "
            "ip/47, nor a group of this policy."
        )
    span = Ports() if first is None else _span(text.partition("/")[2], first, last)
    return tuple(Service(number, number, span) for number in _PROTOCOLS[protocol])


def ports(text: str) -> Ports:
    """Raises ValueError with the remedy."""
    found = _PORTS.fullmatch(text)
    return _span(text, *(found.groups() if found else ("0", None)))


def _span(text: str, first: str, last: str | None) -> Ports:
    """From one of these numbers to the other, which stand in a text. Raises as `ports`."""
    span = Ports(int(first), int(last or first))
    if not 0 < span.first <= span.last < 65536:
        raise ValueError(
            f"'{text}' are no ports. Write one of 1 to 65535, or two with a dash, the lower first."
        )
    return span


def rate(text: str) -> Rate:
    """Raises ValueError with the remedy."""
    found = _RATE.fullmatch(text)
    if not found or not int(found[1]):
        raise ValueError(f"'{text}' is no rate. Write it as 100/second, 30/minute or 5/hour.")
    return Rate(int(found[1]), _UNITS[found[2]])


def collapsed(networks: Iterable[Network]) -> list[Network]:
    """The same addresses, none of them twice."""
    given = list(networks)
    if len({network.version for network in given}) == len(given):
        return given
    four = ipaddress.collapse_addresses(n for n in given if isinstance(n, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(n for n in given if isinstance(n, ipaddress.IPv6Network))
    return [*four, *six]
