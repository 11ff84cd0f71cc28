"""Appliances that the cloud orders for what it offers by other APIs, as load balancers.

Such a one has an owner, with which it changes and goes: `/appliance` shows it, and refuses to change it. All
is done in the transaction of what it is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from trunkline.api.appliance import appliances, policies
from trunkline.api.engine import Call
from trunkline.api.ids import new_id
from trunkline.errors import NotFound
from trunkline.resources.appliance import Appliance
from trunkline.resources.network import FixedIp
from trunkline.store import Reader


def order(
    call: Call,
    appliance: Appliance,
    *,
    owner: str,
    addresses: Sequence[FixedIp] | None = None,
    port_id: str = "",
    policy: dict[str, Any] | None = None,
) -> Appliance:
    """Makes an appliance, with its units and its first policy.

    Args:
        appliance: project, name, services, networks, how many units of which size.
        owner: what it does the work of, as "loadbalancer:ID".
        addresses: those that it has outside, besides the port's, in this order: of each the subnet, and the
            address where it is to be a certain one. None: one of each family, where there is no port.
        port_id: a port outside that nothing is plugged into: its addresses are the appliance's first ones, as
            long as that is there (`lent`).
    Raises:
        BadField, Forbidden, Conflict, Exhausted, NotFound, OverQuota: as for a user's; the field is the
            appliance's, or port_id. How many appliances a project has is not limited here, units are.
    """
    appliance = replace(appliance, id=new_id(), owner=owner)
    appliance = call.add(appliances.begin(call, appliance, addresses, port_id))
    first = policies.first(appliance)
    if policy is not None:
        first = replace(first, document=policies.checked(call.tx, appliance, policy, {}).document)
    call.tx.insert(first)
    return appliance


def owned(reader: Reader, owner: str) -> Appliance | None:
    """The appliance that does somebody's work."""
    return next(iter(reader.find(Appliance, owner=owner)), None)


def change(call: Call, appliance_id: str, **fields: Any) -> Appliance:
    """Changes one: data_planes, dispatchers, managers, network_ids, admin_state_up, name ...

    Raises:
        NotFound, and as for a user's update.
    """
    old = _get(call, appliance_id)
    new = appliances.change(call, old, replace(old, **fields), frozenset(fields))
    return old if new == old else call.save(new)


def set_policy(call: Call, appliance_id: str, document: dict[str, Any]) -> list[str]:
    """Gives it another policy; returns what differs, a line for each thing.

    Raises:
        NotFound, BadField, BadRequest: what is wrong in it.
    """
    return policies.change(call, _get(call, appliance_id), document)[1]


def remove(call: Call, appliance_id: str) -> None:
    """Its units and addresses go with it; a port that it was lent is as it was. Raises NotFound."""
    appliance = _get(call, appliance_id)
    appliances.clear(call, appliance)
    call.drop(appliance)


def _get(call: Call, id: str) -> Appliance:
    found = call.tx.get(Appliance, id)
    if found is None:
        raise NotFound(f"Appliance {id} does not exist.")
    return found
