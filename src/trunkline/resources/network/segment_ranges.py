"""Ranges of the numbers that networks get: VLAN ids, and those of overlay networks."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from trunkline.resources.schema import computed, fixed, resource, settable
from trunkline.resources.standard import Standard
from trunkline.resources.types import Name

Number = Annotated[int, Meta(ge=1, le=2**24 - 1)]


@resource(kind="network_segment_range", plural="network_segment_ranges", service="network")
class NetworkSegmentRange(Standard, kw_only=True):
    """Numbers that networks of a type get where nobody chooses: those of one project, or of all others."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: Always false: the region's own numbers are no range of this kind.
    default: Annotated[bool, computed(filter=False)] = False
    #: Whether it is for every project that has no range of its own. Otherwise it is for its project alone.
    shared: Annotated[bool, fixed()] = True
    #: vlan, or the overlay of the region.
    network_type: Annotated[Literal["vlan", "geneve", "vxlan"], fixed(required=True)] = "vlan"
    #: Of VLANs: the physical network.
    physical_network: Annotated[Annotated[str, Meta(min_length=1, max_length=64)] | None, fixed()] = None
    #: The first number. No two ranges of a type on a physical network overlap.
    minimum: Annotated[Number, settable(required=True)] = 1
    #: The last number. A range has 65536 numbers at most.
    maximum: Annotated[Number, settable(required=True)] = 1
