"""Which segment of a network a host is on, and so which addresses ports have there.

A host that carries ports of a network of several segments reaches exactly one of them: OVN would join two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from trunkline.api.engine import Call
from trunkline.errors import BadField, Conflict, Exhausted
from trunkline.plan import ipam
from trunkline.plan.placement import Spread
from trunkline.resources.network import Network, Port, Segment, Subnet, physical_networks, reached
from trunkline.resources.region import Host
from trunkline.store import Reader

Allocation = Literal["immediate", "deferred", "none"]


def place(reader: Reader, network: Network, host_id: str) -> str:
    """The physical network by which a host reaches a network that is made of segments.

    Raises:
        Conflict: HostNotConnectedToAnySegment, HostConnectedToMultipleSegments.
    """
    host = reader.get(Host, host_id)
    found = reached(network, host.physical_networks if host is not None else ())
    if not found:
        raise Conflict(
            f"Host {host_id[:80]} is not connected to any segments on network '{network.id}'. It has to have "
            f"physical network {' or '.join(physical_networks(network))}.",
            type="HostNotConnectedToAnySegment",
        )
    if len(found) > 1:
        raise joined(host_id, network)
    return found[0]


def joined(host: str, network: Network) -> Conflict:
    return Conflict(
        f"Host {host} is connected to multiple segments on network '{network.id}'. It should be connected to "
        "one of them alone, since it would join them.",
        type="HostConnectedToMultipleSegments",
    )


def segmented(network: Network) -> bool:
    """Whether it matters on which host a port of a network is."""
    return bool(network.segments) or not network.l2_adjacency


def usable(call: Call, network: Network, subnets: Sequence[Subnet], host_id: str) -> list[Subnet]:
    """Those of a network's subnets that ports on a host have addresses of."""
    if network.l2_adjacency:
        return list(subnets)
    wire = place(call.tx, network, host_id)
    own = {s.id for s in call.tx.find(Segment, network_id=network.id) if s.physical_network == wire}
    return [subnet for subnet in subnets if subnet.segment_id is None or subnet.segment_id in own]


def beside(subnets: Sequence[Subnet], chosen: Sequence[Subnet]) -> list[Subnet]:
    """Those subnets that hosts of the same segment have as those chosen, of which all are of one.

    Raises:
        BadField: they are of several.
    """
    segments = {subnet.segment_id for subnet in chosen if subnet.segment_id is not None}
    if len(segments) > 1:
        raise BadField(
            "fixed_ips", "the addresses are of several segments, and no host is on two.", type="InvalidInput"
        )
    return [s for s in subnets if s.segment_id is None or not segments or s.segment_id in segments]


def check_host(call: Call, network: Network, port: Port, host_id: str) -> None:
    """That a port can be on a host: with its addresses.

    Raises:
        Conflict: HostNotCompatibleWithFixedIps, and those of `place`.
    """
    if not host_id or not segmented(network):
        return
    place(call.tx, network, host_id)
    if network.l2_adjacency:
        return
    subnets = call.tx.find(Subnet, network_id=network.id)
    fitting = {subnet.id for subnet in usable(call, network, subnets, host_id)}
    if any(fixed.subnet_id not in fitting for fixed in port.fixed_ips):
        raise not_compatible(host_id, port.id)


def not_compatible(host_id: str, port_id: str) -> Conflict:
    """The error for addresses of another segment than the host's."""
    return Conflict(
        f"Host {host_id} is not connected to a segment where the existing fixed_ips on port {port_id} will "
        "function given the routed network topology.",
        type="HostNotCompatibleWithFixedIps",
    )


def no_subnet(network: Network, host_id: str) -> Exhausted:
    """The error for a host on whose segment there is no subnet."""
    return Exhausted(
        f"No more IP addresses available on network {network.id}: there is no subnet of the segment of host "
        f"{host_id}.",
        type="IpAddressGenerationFailure",
    )


def spread(reader: Reader, network: Network, port: Port | None, address: str = "") -> Spread | None:
    """What a port, or a new one with this address, asks of its host; None where the network is one piece."""
    if not segmented(network):
        return None
    wires = frozenset(physical_networks(network))
    if network.l2_adjacency:
        return Spread(network=network.id, physical_networks=wires, fitting=wires)
    subnets = reader.find(Subnet, network_id=network.id)
    if port is not None and port.fixed_ips:
        own = {fixed.subnet_id for fixed in port.fixed_ips}
        subnets = [subnet for subnet in subnets if subnet.id in own]
    elif address:
        subnets = [subnet for subnet in subnets if ipam.contains(subnet.cidr, address)]
    wanted = {subnet.segment_id for subnet in subnets}
    fitting = {
        segment.physical_network
        for segment in reader.find(Segment, network_id=network.id)
        if segment.id in wanted or None in wanted
    }
    return Spread(network=network.id, physical_networks=wires, fitting=frozenset(filter(None, fitting)))


def spread_of(reader: Reader, ports: Sequence[Port]) -> list[Spread]:
    """What ports that are there ask of their host, those of them whose networks are made of segments."""
    found = []
    for port in ports:
        network = reader.get(Network, port.network_id)
        each = None if network is None else spread(reader, network, port)
        if each is not None:
            found.append(each)
    return found


def forms(call: Call, network: Network, subnet: Subnet, port: Port) -> bool:
    """Whether a port's host forms an address on a subnet that is new on its network."""
    if network.l2_adjacency:
        return True
    return bool(port.host_id) and bool(usable(call, network, [subnet], port.host_id))


def allocation(network: Network, port: Port, *, asked: bool) -> Allocation:
    """When a port gets its addresses.

    Args:
        asked: whether a request said which.
    """
    if asked and not port.fixed_ips:
        return "none"
    waits = not network.l2_adjacency and not port.fixed_ips and not port.host_id
    return "deferred" if waits else "immediate"
