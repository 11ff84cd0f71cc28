"""DNS names of ports, networks and floating IPs: their form, and what follows (RFC 1035, RFC 1123)."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

from trunkline.names import generic_address
from trunkline.resources.schema import Check

#: What names end with where neither a port nor its network has a domain. It is of the top-level domain that
#: is set aside for private use, so that no name below it is anybody else's.
REGION_DOMAIN = "cloud.internal."
#: Characters of a name and of a domain. Any name has room in any domain: together they have 253, and 255
#: octets on the wire (RFC 1035, section 2.3.4).
LONGEST_NAME, LONGEST_DOMAIN = 63, 189

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def dns_name(value: str) -> str:
    """A host's name in lower case: relative to its domain, or whole, with a dot at the end.

    A whole one is of the region's domain. Empty for none.
    """
    name = _labels(value)
    if name.endswith(".") and not name.endswith(f".{REGION_DOMAIN}"):
        raise ValueError(
            f"'{name}' is whole, and not in {REGION_DOMAIN} Leave its domain out, and give it as dns_domain."
        )
    if len(name.removesuffix(f".{REGION_DOMAIN}")) > LONGEST_NAME:
        raise ValueError(f"a name has up to {LONGEST_NAME} characters without its domain.")
    if generic_address(name.partition(".")[0]) is not None:
        raise ValueError(f"'{name}' is in the form of an address without a name. Choose another.")
    return name


def relative_name(value: str) -> str:
    """A host's name without its domain, in lower case. Empty for none."""
    if value.endswith("."):
        raise ValueError(f"'{value[:80]}' is whole. Leave its domain out, and give it as dns_domain.")
    return dns_name(value)


def dns_domain(value: str) -> str:
    """A whole domain, with a dot at the end, in lower case. Empty for none."""
    domain = _labels(value)
    if domain and not domain.endswith("."):
        raise ValueError(f"'{domain}' is not whole. Write it with a dot at the end: {domain}.")
    if len(domain) > LONGEST_DOMAIN + 1:
        raise ValueError(f"a domain has up to {LONGEST_DOMAIN} characters before its last dot.")
    return domain


def _labels(value: str) -> str:
    """A name whose labels are letters, digits and '-', in lower case."""
    name = value.lower()
    if not name:
        return name
    labels = name.removesuffix(".").split(".")
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise ValueError(
                f"'{label[:80]}' is no label of a name: 1 to 63 letters, digits and '-', which is at neither "
                "end."
            )
    if len(labels) > 1 and labels[-1].isdigit():
        raise ValueError(f"the top-level domain '{labels[-1]}' is a number.")
    return name


def fqdn(name: str, domain: str) -> str:
    """The whole name of a host, with a dot at the end."""
    return name if name.endswith(".") else f"{name}.{domain or REGION_DOMAIN}"


DnsName = Annotated[str, Meta(max_length=255), Check(dns_name)]
RelativeName = Annotated[str, Meta(max_length=255), Check(relative_name)]
DnsDomain = Annotated[str, Meta(max_length=255), Check(dns_domain)]
