"""Tap mirrors: copies of what a port sends or gets, sent to somebody who looks."""

from __future__ import annotations

from typing import Annotated, Literal

from trunkline.resources.network.checks import Uuid
from trunkline.resources.schema import Check, fixed, resource, settable
from trunkline.resources.standard import Standard
from trunkline.resources.types import IpAddress, Name

#: As the port sees it: IN is what comes to it, OUT what it sends.
DIRECTIONS = ("IN", "OUT")


def directions(value: dict[str, int]) -> dict[str, int]:
    """IN, OUT or both, each with the number that tells its copies apart from others."""
    if not value:
        raise ValueError("name a direction: IN, OUT or both.")
    for name, number in value.items():
        if name not in DIRECTIONS:
            raise ValueError(f"'{name[:32]}' is no direction. Use IN and OUT.")
        if not 0 <= number < 2**32:
            raise ValueError(f"the number of {name} is from 0 to 4294967295.")
    if len(set(value.values())) < len(value):
        raise ValueError("IN and OUT need different numbers.")
    return value


@resource(kind="tap_mirror", plural="tap_mirrors", service="network")
class TapMirror(Standard, kw_only=True):
    """Copies of the frames of a port, sent in GRE or ERSPAN by the host that the port is on."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: The port.
    port_id: Annotated[Uuid, fixed(required=True, index=True)] = ""
    #: IN (what comes to the port), OUT (what it sends) or both, each with the number that its copies carry.
    directions: Annotated[dict[str, int], fixed(required=True, filter=False), Check(directions)] = {}
    #: Where the copies are sent: an address that the hosts reach.
    remote_ip: Annotated[IpAddress, fixed(required=True)] = ""
    #: gre (RFC 2890), or the first version of ERSPAN, whose numbers are below 1024.
    mirror_type: Annotated[Literal["gre", "erspanv1"], fixed(required=True)] = "gre"
