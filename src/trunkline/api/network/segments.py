"""Segments: what a network is made of, and on which of them a host is.

    Network ─┬─ Segment (rack1, VLAN 100) ─── Subnet ┐
             └─ Segment (rack2, VLAN 200) ─── Subnet ┴─ a port has addresses of its host's segment

Each segment of a network is on a physical network of its own, and a host that carries ports of the network
reaches one of them: OVN would join two that meet at a host.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace
from sqlalchemy import ColumnElement, false

from trunkline.api.context import Context
from trunkline.api.engine import Call
from trunkline.api.ids import new_id
from trunkline.api.network import reach, wires
from trunkline.errors import BadField, BadRequest, InUse
from trunkline.resources.network import (
    ROUTER_GATEWAY,
    ROUTER_INTERFACE,
    Network,
    Port,
    Segment,
    Subnet,
    Wire,
    physical_networks,
    reached,
    wires_of,
)
from trunkline.resources.region import Host


def visible(context: Context) -> list[ColumnElement[bool]]:
    """Operators see all of them, others none."""
    return [] if context.is_admin else [false()]


# Networks.


def all_of(call: Call, network: Network) -> Network:
    """A new network with what carries each of its segments claimed.

    Raises:
        BadRequest: SegmentsSetInConjunctionWithProviders, or a segment is malformed. Conflict: one is in use.
    """
    if (network.network_type, network.physical_network, network.segmentation_id) != (None, None, None):
        raise BadRequest(
            "Segments and provider values cannot both be set. Give the segments alone.",
            type="SegmentsSetInConjunctionWithProviders",
            field="segments",
        )
    for index, wire in enumerate(network.segments):
        where = f"segments[{index}]."
        _check_type(wire, f"{where}provider:network_type")
        before = network.segments[:index]
        _check_apart(wire, before, f"{where}provider:physical_network")
    found = [wires.claim(call, network, wire, "segments.provider:") for wire in network.segments]
    return with_wires(network, found)


def with_wires(network: Network, found: Sequence[Wire]) -> Network:
    """A network that is carried by these: by one as its own fields say, by several as its segments."""
    only = found[0] if len(found) == 1 else None
    return replace(
        network,
        network_type=only.network_type if only else None,
        physical_network=only.physical_network if only else None,
        segmentation_id=only.segmentation_id if only else None,
        segments=[] if only else list(found),
    )


def created(call: Call, network: Network) -> None:
    """A new network has its segments."""
    for wire in wires_of(network):
        call.add(_segment(network, wire))


def adopt(call: Call) -> None:
    """Gives networks segments that were made when there were none."""
    for network in call.tx.select(Network):
        if call.tx.count(Segment, network_id=network.id) == 0:
            created(call, network)


def leave(call: Call, network: Network) -> None:
    """Drops the segments of a network that goes; what they claimed is the network's."""
    for segment in call.tx.find(Segment, network_id=network.id):
        call.drop(segment)


def refuse_outside(network: Network) -> None:
    """Refuses an external network of several segments: a router's gateway would be on one of them alone."""
    if network.external and (network.segments or not network.l2_adjacency):
        raise BadField(
            "router:external",
            "routers have no gateway on a network with several segments, or with subnets of one. Use another "
            "network.",
            type="InvalidInput",
        )


def refuse_leg(network: Network) -> None:
    """Refuses a router's interface on several segments, of which every host would carry another."""
    if network.segments:
        raise BadRequest(
            f"Bad router request: network {network.id} has several segments. They are joined by routers on "
            "their physical networks: route there.",
            type="BadRequest",
        )


def _segment(network: Network, wire: Wire) -> Segment:
    return Segment(
        id=new_id(),
        network_id=network.id,
        network_type=wire.network_type,
        physical_network=wire.physical_network,
        segmentation_id=wire.segmentation_id,
    )


# Segments.


def create(call: Call, segment: Segment, given: frozenset[str]) -> Segment:
    """A further segment of a network on physical networks.

    Raises:
        BadField, NotFound; Conflict: VlanIdInUse, FlatNetworkInUse, HostConnectedToMultipleSegments.
    """
    network = call.get(Network, segment.network_id)
    there = wires_of(network)
    if not physical_networks(network):
        raise BadField(
            "network_id",
            f"network {network.id} is on the overlay, which reaches all hosts. It has one segment.",
            type="InvalidInput",
        )
    wire = Wire(
        network_type=segment.network_type,
        physical_network=segment.physical_network,
        segmentation_id=segment.segmentation_id,
    )
    _check_type(wire, "network_type")
    _check_apart(wire, there, "physical_network")
    if network.qinq and wire.network_type != "vlan":
        raise BadField("network_type", "the network is QinQ. Use vlan.", type="InvalidInput")
    wire = wires.claim(call, network, wire, "")
    network = with_wires(network, [*there, wire])
    refuse_outside(network)
    _refuse_joined(call, network)
    call.save(network)
    return replace(segment, segmentation_id=wire.segmentation_id)


def delete(call: Call, segment: Segment) -> None:
    """Refuses while a subnet is of it, while ports are plugged in on it, and where it is the last one."""
    reason = ""
    network = call.tx.get(Network, segment.network_id)
    assert network is not None, "a network is deleted with its segments"
    left = [wire for wire in wires_of(network) if wire.physical_network != segment.physical_network]
    if call.tx.count(Subnet, segment_id=segment.id):
        reason = "there are subnets of it"
    elif not left or not segment.physical_network:
        reason = "it is the only one of its network. Delete the network"
    elif any(segment.physical_network in host.physical_networks for host in _hosts_of_ports(call, network)):
        reason = "ports are plugged in on it"
    if reason:
        raise InUse(
            f"Segment '{segment.id}' cannot be deleted: {reason}.",
            type="SegmentInUse",
        )
    gone = next(wire for wire in wires_of(network) if wire.physical_network == segment.physical_network)
    wires.release(call, network.id, gone)
    call.save(with_wires(network, left))


def _check_type(wire: Wire, field: str) -> None:
    if wire.network_type in wires.OVERLAYS:
        raise BadField(
            field,
            "a network of several segments is on physical networks: each segment is flat or vlan.",
            type="InvalidInput",
        )


def _check_apart(wire: Wire, others: Sequence[Wire], field: str) -> None:
    if wire.physical_network in [other.physical_network for other in others]:
        raise BadField(
            field,
            f"the network has a segment on '{wire.physical_network}' already, and hosts that have it would "
            "be on both. Name another one.",
            type="InvalidInput",
        )


def _refuse_joined(call: Call, network: Network) -> None:
    """Refuses a further segment where hosts of ports would reach two, or where routers have legs."""
    for owner in (ROUTER_INTERFACE, ROUTER_GATEWAY):
        if call.tx.count(Port, network_id=network.id, device_owner=owner):
            raise InUse(
                f"Network {network.id} has ports of routers, which would be on one of its segments alone. "
                "Remove them first.",
                type="NetworkInUse",
            )
    for host in _hosts_of_ports(call, network):
        if len(reached(network, host.physical_networks)) > 1:
            raise reach.joined(host.id, network)


def _hosts_of_ports(call: Call, network: Network) -> list[Host]:
    """The hosts that ports of a network are plugged in on, or prepared on."""
    ports = call.tx.find(Port, network_id=network.id)
    names = {p.host_id for p in ports} | {b.host for p in ports for b in p.bindings}
    return [host for name in names if name and (host := call.tx.get(Host, name)) is not None]


# Subnets.


def check_subnet(call: Call, network: Network, subnet: Subnet, others: Sequence[Subnet]) -> None:
    """That a subnet's segment is the network's, and that of a network of several all subnets are of one.

    Raises:
        BadRequest: NetworkIdsDontMatch, SubnetsNotAllAssociatedWithSegments. BadField: it is of the overlay.
    """
    segment = call.tx.get(Segment, subnet.segment_id) if subnet.segment_id else None
    if segment is not None:
        if segment.network_id != network.id:
            raise BadRequest(
                f"The subnet's network id, '{network.id}', doesn't match the network_id of segment "
                f"'{segment.id}'.",
                type="NetworkIdsDontMatch",
                field="segment_id",
            )
        if not segment.physical_network:
            raise BadField(
                "segment_id", "a segment of the overlay reaches all hosts. Leave it out.", type="InvalidInput"
            )
        refuse_outside(replace(network, l2_adjacency=False))
    if any((other.segment_id is None) != (segment is None) for other in others):
        raise BadRequest(
            f"All of the subnets on network '{network.id}' must either all be associated with segments or "
            "all not associated with any segment.",
            type="SubnetsNotAllAssociatedWithSegments",
            field="segment_id",
        )


def check_move(call: Call, network: Network, old: Subnet, new: Subnet) -> None:
    """That a subnet may be said to be of a segment from now on: it was of none, and there is only one.

    Raises:
        BadRequest: SubnetSegmentAssociationChangeNotAllowed, NoUpdateSubnetWhenMultipleSegmentsOnNetwork.
    """
    if old.segment_id is not None:
        raise BadRequest(
            "A subnet that is already associated with a segment cannot have its segment association changed.",
            type="SubnetSegmentAssociationChangeNotAllowed",
            field="segment_id",
        )
    if network.segments:
        raise BadRequest(
            f"The network '{network.id}' has multiple segments, it is only possible to associate an existing "
            "subnet with a segment on networks with a single segment.",
            type="NoUpdateSubnetWhenMultipleSegmentsOnNetwork",
            field="segment_id",
        )
    check_subnet(call, network, new, ())


def adjacent(subnets: Sequence[Subnet]) -> bool:
    """Whether ports of a network with these subnets reach each other without a router."""
    return all(subnet.segment_id is None for subnet in subnets)
