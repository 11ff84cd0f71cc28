"""Ranges of numbers: which of them a network gets, and what stays while a network has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trunkline.api.context import Context
from trunkline.api.engine import Call
from trunkline.api.network import common
from trunkline.api.network.addressing import refuse_field
from trunkline.errors import Conflict, InUse
from trunkline.plan import numbers
from trunkline.resources.network import Network, NetworkSegmentRange
from trunkline.store import Reader

#: How many numbers a range may have: the API lists those that are free one by one.
_MOST = 65536
#: The scope of the claims on numbers of overlays.
OVERLAY_SCOPE = "vni"


def vlan_scope(physical_network: str) -> str:
    """The scope of the claims on VLANs of a physical network."""
    return f"vlan:{physical_network}"


def create(overlay: str, call: Call, new: NetworkSegmentRange, given: frozenset[str]) -> NetworkSegmentRange:
    """Checks a range against what its type has, and against the others.

    Args:
        overlay: the type of the region's overlay networks.
    """
    common.owned(new)
    if new.network_type not in ("vlan", overlay):
        raise refuse_field("network_type", f"the hosts of this region carry {overlay}. Use that, or vlan.")
    if new.network_type == "vlan" and new.physical_network is None:
        raise refuse_field("physical_network", "it is required for a range of VLANs.")
    if new.network_type != "vlan" and new.physical_network is not None:
        raise refuse_field("physical_network", f"networks of type {new.network_type} are on none. Remove it.")
    _check(call, new)
    return new


def update(
    call: Call, old: NetworkSegmentRange, new: NetworkSegmentRange, given: frozenset[str]
) -> NetworkSegmentRange:
    """The numbers that networks have of it stay in it."""
    _check(call, new)
    left = [number for number in used(call.tx, old) if not new.minimum <= number <= new.maximum]
    if left:
        raise _in_use(old, left)
    return new


def delete(call: Call, old: NetworkSegmentRange) -> None:
    """Stays while a network has a number of it."""
    if held := used(call.tx, old):
        raise _in_use(old, list(held))


def view(reader: Reader, context: Context, ranges: Sequence[NetworkSegmentRange]) -> list[Mapping[str, Any]]:
    """The numbers of each that networks have, with their projects, and those that are free."""
    shown: list[Mapping[str, Any]] = []
    for one in ranges:
        held = used(reader, one)
        free = [n for n in range(one.minimum, one.maximum + 1) if n not in held]
        projects = {str(number): project for number, project in held.items()}
        shown.append({"tenant_id": one.project_id, "used": projects, "available": free})
    return shown


def used(reader: Reader, one: NetworkSegmentRange) -> dict[int, str]:
    """The numbers of a range that are taken, each with the project of the network that has it."""
    scope, width = _scope(one)
    found: dict[int, str] = {}
    for value in reader.claimed(scope, at_least=numbers.text(one.minimum, width), limit=_MOST):
        number = int(value, 16)
        if number > one.maximum:
            break
        network = reader.get(Network, reader.claim_owner(scope, value) or "")
        found[number] = "" if network is None else network.project_id
    return found


def offered(call: Call, network: Network, everything: tuple[int, int]) -> list[tuple[int, int]]:
    """Where a network of a type may get its number from, in the order of numbers.

    A project that has ranges gets numbers of these alone; others get those of the shared ranges, or, where
    there are none, all that are in nobody's range.
    """
    ranges = sorted(_alike(call, network.network_type, network.physical_network), key=lambda r: r.minimum)
    own = [r for r in ranges if not r.shared and r.project_id == network.project_id]
    chosen = own or [r for r in ranges if r.shared]
    if chosen:
        return [(r.minimum, r.maximum) for r in chosen]
    left, first = [], everything[0]
    for each in ranges:
        if first < each.minimum:
            left.append((first, min(each.minimum - 1, everything[1])))
        first = max(first, each.maximum + 1)
    return [*left, (first, everything[1])] if first <= everything[1] else left


def _alike(call: Call, network_type: str | None, physical: str | None) -> list[NetworkSegmentRange]:
    """All ranges of a type on a physical network."""
    return call.tx.find(NetworkSegmentRange, network_type=network_type, physical_network=physical)


def _check(call: Call, new: NetworkSegmentRange) -> None:
    if new.minimum > new.maximum:
        raise refuse_field("minimum", f"it is above the maximum, {new.maximum}.")
    if new.network_type == "vlan" and new.maximum > numbers.VLAN[1]:
        raise refuse_field("maximum", f"a VLAN id is from {numbers.VLAN[0]} to {numbers.VLAN[1]}.")
    if new.maximum - new.minimum >= _MOST:
        raise refuse_field("maximum", f"a range has {_MOST} numbers at most. Make several.")
    for other in _alike(call, new.network_type, new.physical_network):
        if other.id != new.id and new.minimum <= other.maximum and other.minimum <= new.maximum:
            raise Conflict(
                f"The range {new.minimum}-{new.maximum} overlaps with range {other.id}, "
                f"{other.minimum}-{other.maximum}.",
                type="NetworkSegmentRangeOverlaps",
            )


def _scope(one: NetworkSegmentRange) -> tuple[str, int]:
    """The scope of the claims on its numbers, and their width."""
    return (OVERLAY_SCOPE, 6) if one.network_type != "vlan" else (vlan_scope(one.physical_network or ""), 3)


def _in_use(one: NetworkSegmentRange, held: Sequence[int]) -> InUse:
    return InUse(
        f"Network segment range {one.id} is in use: networks have its numbers "
        f"{', '.join(map(str, held[:10]))}.",
        type="NetworkSegmentRangeReferencedByProject",
    )
