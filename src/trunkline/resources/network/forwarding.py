"""Port forwarding: single ports of a floating IP that lead to ports inside."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from trunkline.resources.network.checks import Uuid, port_range
from trunkline.resources.schema import Check, Resource, hidden, resource, settable
from trunkline.resources.types import Description, IpAddress

#: The alias of what has the ranges.
_RANGES = "floating-ip-port-forwarding-port-ranges"

_Port = Annotated[int, Meta(ge=1, le=65535)]
_Range = Annotated[str, Meta(max_length=11), Check(port_range)]


def transport(value: str) -> str:
    """A transport protocol whose ports can be forwarded."""
    name = value.lower()
    if name not in ("tcp", "udp"):
        raise ValueError(f"ports of '{value[:40]}' cannot be forwarded. Use tcp or udp.")
    return name


@resource(kind="port_forwarding", plural="port_forwardings", service="network", quota=200)
class PortForwarding(Resource, kw_only=True):
    """Ports of a floating IP that lead to ports of an address inside."""

    #: The floating IP's project.
    project_id: Annotated[str, hidden(index=True)] = ""
    #: The floating IP that it is of.
    floatingip_id: Annotated[str, hidden(index=True)] = ""
    #: The port that it leads to.
    internal_port_id: Annotated[Uuid, settable(required=True, index=True)] = ""
    #: Which of that port's IPv4 addresses; by default its only one.
    internal_ip_address: Annotated[IpAddress | None, settable()] = None
    #: tcp or udp.
    protocol: Annotated[Annotated[str, Meta(max_length=8), Check(transport)], settable(required=True)] = "tcp"
    #: The port outside, where it is one.
    external_port: Annotated[_Port | None, settable()] = None
    #: The port inside, where it is one.
    internal_port: Annotated[_Port | None, settable()] = None
    #: The ports outside, the first and the last.
    external_port_range: Annotated[_Range | None, settable(alias=_RANGES)] = None
    #: The ports inside, as many as outside, or one for all.
    internal_port_range: Annotated[_Range | None, settable(alias=_RANGES)] = None
    #: A text for people.
    description: Annotated[Description, settable(alias="floating-ip-port-forwarding-description")] = ""
