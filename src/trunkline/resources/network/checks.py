"""Checks of the values that network resources hold. Each returns the normal form or raises ValueError."""

from __future__ import annotations

import ipaddress
import re
import uuid
from typing import Annotated

from msgspec import Meta

from trunkline.resources.schema import Check
from trunkline.resources.types import ip_address, mac_address

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

#: Names and numbers of IP protocols that rules can name (IANA's registry of protocol numbers).
PROTOCOLS: dict[str, int] = {
    "hopopt": 0,
    "icmp": 1,
    "igmp": 2,
    "ipip": 4,
    "tcp": 6,
    "egp": 8,
    "udp": 17,
    "dccp": 33,
    "ipv6-encap": 41,
    "ipv6-route": 43,
    "ipv6-frag": 44,
    "rsvp": 46,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "ipv6-icmp": 58,
    "icmpv6": 58,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "ospf": 89,
    "pgm": 113,
    "vrrp": 112,
    "sctp": 132,
    "udplite": 136,
}
#: Protocols whose rules may name ports.
WITH_PORTS = frozenset({6, 17, 33, 132, 136})
ICMP, ICMPV6 = 1, 58

#: What `extra_dhcp_opts` may ask for, by IP version: the option's name, and its number as a name.
DHCP_OPTIONS: dict[int, dict[str, str]] = {
    4: {
        "1": "netmask",
        "3": "router",
        "6": "dns-server",
        "7": "log-server",
        "9": "lpr-server",
        "15": "domain-name",
        "16": "swap-server",
        "19": "ip-forward-enable",
        "21": "policy-filter",
        "23": "default-ttl",
        "26": "mtu",
        "31": "router-discovery",
        "32": "router-solicitation",
        "35": "arp-timeout",
        "36": "ethernet-encap",
        "37": "tcp-ttl",
        "38": "tcp-keepalive",
        "41": "nis-server",
        "42": "ntp-server",
        "51": "lease-time",
        "58": "T1",
        "59": "T2",
        "66": "tftp-server",
        "67": "bootfile-name",
        "119": "domain-search",
        "121": "classless-static-route",
        "150": "tftp-server-address",
        "210": "path-prefix",
        "249": "ms-classless-static-route",
        "252": "wpad",
    },
    6: {"23": "dns-server", "24": "domain-search"},
}


def clean_uuid(value: str) -> str:
    """Normal form of a UUID."""
    try:
        if len(value) > 40:
            raise ValueError
        return str(uuid.UUID(value))
    except ValueError:
        raise ValueError(f"'{value[:80]}' is not a valid UUID.") from None


def mac_or_new(value: str) -> str:
    """Normal form of a MAC address; the empty text asks for a new one."""
    return mac_address(value) if value else ""


def subnet_cidr(value: str) -> str:
    """A subnet's range: host bits clear, length written, of unicast addresses."""
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"'{value}' is not a valid IP subnet. Write it as 10.0.0.0/24.") from None
    given, _, _ = value.partition("/")
    if "/" not in value or ipaddress.ip_address(given) != network.network_address:
        raise ValueError(f"'{value}' isn't a recognized IP subnet cidr, '{network}' is recommended.")
    if network.prefixlen == 0:
        raise ValueError("0 is not allowed as CIDR prefix length.")
    if network.is_multicast:
        raise ValueError(f"'{network}' is a multicast range, which no port can have an address of.")
    if network.is_loopback:
        raise ValueError(f"'{network}' is a loopback range, which no port can have an address of.")
    if network.version == 6 and network.is_link_local:
        raise ValueError(f"'{network}' is link-local, which every port has by itself.")
    return str(network)


def prefix(value: str) -> str:
    """A prefix or an address, as given (its normal form is shown beside it)."""
    normal_prefix(value)
    return value


def normal_prefix(value: str) -> str:
    """Normal form of a prefix; an address stands for itself alone."""
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError(f"'{value}' is neither an IP address nor a prefix such as 10.0.0.0/24.") from None


def address_or_prefix(value: str) -> str:
    """Normal form of an address, or of a prefix with its host bits cleared."""
    if "/" not in value:
        return ip_address(value)
    return normal_prefix(value)


def community_name(text: str) -> str:
    """The name of a community of ports."""
    if not re.fullmatch(r"[a-zA-Z_.][a-zA-Z_.0-9]*", text):
        raise ValueError("a community's name has letters, digits, _ and ., and begins with no digit.")
    return text


def dns_servers(values: list[str]) -> list[str]:
    """Up to 5 addresses, none twice."""
    if len(values) > 5:
        raise ValueError("at most 5 name servers.")
    normal = [ip_address(v) for v in values]
    if len(set(normal)) < len(normal):
        raise ValueError("a name server is given twice.")
    return normal


def service_types(values: list[str]) -> list[str]:
    """Up to 30 device owners, none twice."""
    if len(values) > 30:
        raise ValueError("at most 30 service types.")
    if len(set(values)) < len(values):
        raise ValueError("a service type is given twice.")
    return [no_control(value, "a service type") for value in values]


def no_control(value: str, what: str) -> str:
    """Text that a line of configuration can hold."""
    if _CONTROL.search(value):
        raise ValueError(f"{what} contains a control character. Remove it.")
    return value


def protocol(value: str) -> str:
    """A protocol's name in lower case, or its number.

    Names that mean the same are kept apart, as the API shows what was given.
    """
    name = value.lower()
    if name in PROTOCOLS:
        return name
    if name.isascii() and name.isdigit() and len(name) <= 3 and int(name) <= 255:
        return str(int(name))
    known = ", ".join(PROTOCOLS)
    raise ValueError(f"'{value[:40]}' is not a protocol. Use a number from 0 to 255, or one of: {known}.")


def protocol_number(value: str | None) -> int | None:
    """The number of a protocol that `protocol` accepted, None for every protocol."""
    if value is None:
        return None
    return PROTOCOLS[value] if value in PROTOCOLS else int(value)


def port_number(value: int) -> int:
    """A port of a transport protocol, or a type or code of ICMP."""
    if not 0 <= value <= 65535:
        raise ValueError(f"Invalid value for port {value}. Use a number from 0 to 65535.")
    return value


def port_range(value: str) -> str:
    """The first and the last port of a transport protocol, as 8000:8099; one port stands for itself alone."""
    first, colon, last = value.partition(":")
    last = last if colon else first
    if not all(part.isascii() and part.isdigit() and len(part) <= 5 for part in (first, last)):
        raise ValueError(f"'{value[:40]}' is not a range of ports. Write it as 8000:8099.")
    if not 1 <= int(first) <= int(last) <= 65535:
        raise ValueError(f"the range {value} is not valid: ports are 1 to 65535, the first one first.")
    return f"{int(first)}:{int(last)}"


def ethertype(value: str) -> str:
    """IPv4 or IPv6, whatever the case."""
    for known in ("IPv4", "IPv6"):
        if value.lower() == known.lower():
            return known
    raise ValueError(f"'{value[:40]}' is not an ethertype. Use IPv4 or IPv6.")


Uuid = Annotated[str, Meta(max_length=40), Check(clean_uuid)]
MacOrNew = Annotated[str, Meta(max_length=32), Check(mac_or_new)]
Prefix = Annotated[str, Meta(max_length=64), Check(prefix)]
