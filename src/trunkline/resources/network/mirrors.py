"""Tap mirrors: copies of what a port sends or gets, sent to somebody who looks."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from msgspec import Meta

from trunkline.resources.network.checks import Uuid
from trunkline.resources.schema import Check, fixed, resource, settable
from trunkline.resources.standard import Standard
from trunkline.resources.types import Name, ip_address

#: As the port sees it: IN is what comes to it, OUT what it sends, BOTH the two in one stream.
DIRECTIONS = ("IN", "OUT", "BOTH")


def directions(value: dict[str, int]) -> dict[str, int]:
    """IN, OUT or BOTH, or several, each with the number that tells its copies apart from others."""
    if not value:
        raise ValueError("name a direction: IN, OUT or BOTH.")
    for name, number in value.items():
        if name not in DIRECTIONS:
            raise ValueError(f"'{name[:32]}' is no direction. Use IN, OUT and BOTH.")
        if not 0 <= number < 2**32:
            raise ValueError(f"the number of {name} is from 0 to 4294967295.")
    if len(set(value.values())) < len(value):
        raise ValueError("each direction needs a number of its own.")
    return value


def sink(value: str) -> str:
    """Normal form of an address that one machine can have, behind any number of hops."""
    text = ip_address(value)
    address = ipaddress.ip_address(text)
    if address.version == 6 and address.ipv4_mapped is not None:
        raise ValueError(f"'{text}' is an IPv4 address in IPv6. Write it as {address.ipv4_mapped}.")
    unfit = address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local
    if unfit or text == "255.255.255.255":
        raise ValueError(
            f"copies cannot be sent to '{text}'. Name the address of a machine that hosts reach."
        )
    return text


@resource(kind="tap_mirror", plural="tap_mirrors", service="network", quota=10)
class TapMirror(Standard, kw_only=True):
    """Copies of the frames of a port, sent in GRE or ERSPAN by the host that the port is on."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: The port.
    port_id: Annotated[Uuid, fixed(required=True, index=True)] = ""
    #: IN (what comes to the port), OUT (what it sends), BOTH (the two in one stream) or several of them, each
    #: with the number that its copies carry.
    directions: Annotated[dict[str, int], fixed(required=True, filter=False), Check(directions)] = {}
    #: Where the copies are sent: an address that the hosts reach.
    remote_ip: Annotated[str, Meta(max_length=64), Check(sink), fixed(required=True)] = ""
    #: gre (RFC 2890), or the first version of ERSPAN, whose numbers are below 1024.
    mirror_type: Annotated[Literal["gre", "erspanv1"], fixed(required=True)] = "gre"
