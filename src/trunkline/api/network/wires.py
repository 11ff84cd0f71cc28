"""What carries a network: a number of the overlay, a physical network, a VLAN of one; each claimed by it.

The claims decide who has what: one network has a VLAN of a physical network, and one is on it untagged.
"""

from __future__ import annotations

from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.api.network import segment_ranges
from trunkline.errors import BadField, Conflict, Exhausted
from trunkline.plan import numbers
from trunkline.resources.network import Network, Wire
from trunkline.resources.region import Host

OVERLAYS = ("geneve", "vxlan")
_FLAT_SCOPE = "flat"


def claim(call: Call, network: Network, wire: Wire, prefix: str) -> Wire:
    """Claims a physical network for a network, whole or one VLAN of it: the one named, or a free one.

    Args:
        prefix: what is before the names of fields in the request.
    Raises:
        BadField: it is malformed, or no host has the physical network.
        Conflict: FlatNetworkInUse, VlanIdInUse. Exhausted: NoNetworkAvailable.
    """
    physical = wire.physical_network
    if physical is None:
        raise BadField(
            f"{prefix}physical_network",
            f"it is required for a network of type {wire.network_type}.",
            type="InvalidInput",
        )
    _check_known(call, physical, f"{prefix}physical_network")
    if wire.network_type == "vlan":
        return _vlan(call, network, wire, physical, f"{prefix}segmentation_id")
    if wire.segmentation_id is not None:
        raise BadField(f"{prefix}segmentation_id", "a flat network has none. Remove it.", type="InvalidInput")
    if not call.tx.claim(_FLAT_SCOPE, physical, network.id):
        raise Conflict(
            f"Unable to create the flat network. Physical network {physical} is in use.",
            type="FlatNetworkInUse",
        )
    return wire


def release(call: Call, network_id: str, wire: Wire) -> None:
    """Gives back what `claim` claimed."""
    physical = wire.physical_network or ""
    if wire.network_type == "flat":
        call.tx.release(network_id, _FLAT_SCOPE, physical)
    elif wire.segmentation_id is not None:
        scope = segment_ranges.vlan_scope(physical)
        call.tx.release(network_id, scope, numbers.vlan_text(wire.segmentation_id))


def _vlan(call: Call, network: Network, wire: Wire, physical: str, field: str) -> Wire:
    scope, number = segment_ranges.vlan_scope(physical), wire.segmentation_id
    if number is None:
        like = replace(network, network_type="vlan", physical_network=physical)
        number = numbers.free(
            segment_ranges.offered(call, like, numbers.VLAN),
            lambda at_least, limit: call.tx.claimed(scope, at_least=at_least, limit=limit),
            3,
        )
        if number is None:
            raise Exhausted(
                f"Unable to create the network. No VLAN is left on physical network {physical}.",
                type="NoNetworkAvailable",
            )
    first, last = numbers.VLAN
    if not first <= number <= last:
        raise BadField(field, f"a VLAN id is from {first} to {last}.", type="InvalidInput")
    if not call.tx.claim(scope, numbers.vlan_text(number), network.id):
        raise Conflict(
            f"Unable to create the network. The VLAN {number} on physical network {physical} is in use.",
            type="VlanIdInUse",
        )
    return replace(wire, segmentation_id=number)


def _check_known(call: Call, physical: str, field: str) -> None:
    """Refuses a physical network that no host has, as soon as any host has told what it has."""
    known = {name for host in call.tx.find(Host) for name in host.physical_networks}
    if known and physical not in known:
        raise BadField(
            field, f"no host has '{physical}'. There are: {', '.join(sorted(known))}.", type="InvalidInput"
        )
