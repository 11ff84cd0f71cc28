"""Types of fields that many resources share, with their checks and normal forms."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from trunkline.resources.schema import Check

#: A name for people; need not be unique.
Name = Annotated[str, Meta(max_length=255)]
Description = Annotated[str, Meta(max_length=255)]
#: The id of another resource.
Id = Annotated[str, Meta(max_length=255)]

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def mac_address(value: str) -> str:
    """Normal form of an Ethernet address that one device can have.

    Raises:
        ValueError: it is none, or is a group address or all zeros.
    """
    mac = value.lower().replace("-", ":")
    if not _MAC.fullmatch(mac):
        raise ValueError(f"'{value}' is not a valid MAC address. Write six pairs, as fa:16:3e:00:00:01.")
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise ValueError(f"'{value}' is a group or null MAC address, which no single port can have.")
    return mac


def ip_address(value: str) -> str:
    """Normal form of an IPv4 or IPv6 address (RFC 5952); no zone, no leading zeros.

    Raises:
        ValueError: it is none.
    """
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError(f"'{value}' is not a valid IP address.") from None
    if getattr(address, "scope_id", None):
        raise ValueError(f"'{value}' has a zone; leave it out.")
    return str(address)


def cidr(value: str) -> str:
    """Normal form of a prefix: host bits cleared, length written out.

    Raises:
        ValueError: it is none.
    """
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError(f"'{value}' is not a valid IP subnet. Write it as 10.0.0.0/24.") from None


def compact(most: int) -> Check:
    """A check that a free-form value has no more than so many bytes as JSON."""

    def check(value: Any) -> Any:
        size = len(msgspec.json.encode(value))
        if size > most:
            raise ValueError(f"it has {size} bytes as JSON, and may have {most}.")
        return value

    return Check(check)


MacAddress = Annotated[str, Meta(max_length=32), Check(mac_address)]
IpAddress = Annotated[str, Meta(max_length=64), Check(ip_address)]
Cidr = Annotated[str, Meta(max_length=64), Check(cidr)]
