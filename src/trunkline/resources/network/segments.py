"""Segments: the broadcast domains that networks are made of."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from msgspec import Meta

from trunkline.resources.network.checks import Uuid
from trunkline.resources.network.layer2 import Network
from trunkline.resources.network.parts import NetworkType, Wire
from trunkline.resources.schema import Resource, computed, fixed, resource, settable
from trunkline.resources.types import Description, Name


@resource(kind="segment", plural="segments", service="network")
class Segment(Resource, kw_only=True):
    """A broadcast domain of a network: the only one, or one of several on physical networks."""

    #: The network that it is of.
    network_id: Annotated[Uuid, fixed(required=True, index=True)] = ""
    #: A name for people.
    name: Annotated[Name | None, settable()] = None
    #: A text for people.
    description: Annotated[Description | None, settable(alias="standard-attr-segment")] = None
    #: geneve or vxlan on the overlay, flat or vlan on a physical network.
    network_type: Annotated[NetworkType, fixed(required=True)] = "vlan"
    #: The physical network, as hosts name it: another one for each segment of a network.
    physical_network: Annotated[
        Annotated[str, Meta(min_length=1, max_length=64)] | None, fixed(index=True)
    ] = None
    #: The VLAN id, or the number of the overlay network.
    segmentation_id: Annotated[int | None, fixed()] = None
    #: Counts its changes.
    revision_number: Annotated[int, computed(alias="standard-attr-segment")] = 0
    #: When it was created, UTC.
    created_at: Annotated[str, computed(alias="standard-attr-segment")] = ""
    #: When it was last changed, UTC.
    updated_at: Annotated[str, computed(alias="standard-attr-segment")] = ""


def wires_of(network: Network) -> list[Wire]:
    """What carries a network: one wire for each of its segments."""
    if network.segments or network.network_type is None:
        return network.segments
    number = network.segmentation_id
    return [
        Wire(
            network_type=network.network_type,
            physical_network=network.physical_network,
            segmentation_id=number,
        )
    ]


def physical_networks(network: Network) -> list[str]:
    """The physical networks that a network is on, in the order of its segments."""
    return [wire.physical_network for wire in wires_of(network) if wire.physical_network]


def reached(network: Network, there: Collection[str]) -> list[str]:
    """Those of a network's physical networks that a host has which has these."""
    return [name for name in physical_networks(network) if name in there]
