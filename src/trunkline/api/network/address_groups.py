"""Address groups: what is in them changes whole or not at all, and who is referred to stays."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.api.network import common
from trunkline.errors import BadField, BadRequest, InUse, NotFound
from trunkline.resources.network import AddressGroup, DefaultSecurityGroupRule, SecurityGroupRule
from trunkline.resources.network.address_groups import group_prefixes
from trunkline.resources.schema import convert


class Addresses(msgspec.Struct, forbid_unknown_fields=True):
    """The body of the verbs that add and remove addresses."""

    addresses: list[Annotated[str, Meta(max_length=64)]]


def create(call: Call, group: AddressGroup, given: frozenset[str]) -> AddressGroup:
    """Needs a project."""
    common.owned(group)
    return group


def delete(call: Call, group: AddressGroup) -> None:
    """Refuses while a rule refers to the group."""
    for cls in (SecurityGroupRule, DefaultSecurityGroupRule):
        if call.tx.first(cls, remote_address_group_id=group.id) is None:
            continue
        raise InUse(
            f"Address group {group.id} is in use on one or more security group rules.",
            type="AddressGroupInUse",
        )


def add_addresses(call: Call, id: str, body: Any) -> AddressGroup:
    """Adds all addresses, or none.

    Raises:
        BadRequest: one is there already.
    """
    group, wanted = _change(call, id, body)
    there = [address for address in wanted if address in group.addresses]
    if there:
        raise BadRequest(
            f"Addresses {', '.join(there)} already exist in the address group {group.id}.",
            type="AddressesAlreadyExist",
            field="addresses",
        )
    return _store(call, group, [*group.addresses, *wanted])


def remove_addresses(call: Call, id: str, body: Any) -> AddressGroup:
    """Removes all addresses, or none.

    Raises:
        NotFound: one is not there.
    """
    group, unwanted = _change(call, id, body)
    missing = [address for address in unwanted if address not in group.addresses]
    if missing:
        raise NotFound(
            f"Addresses {', '.join(missing)} not found in the address group {group.id}.",
            type="AddressesNotFound",
            field="addresses",
        )
    return _store(call, group, [address for address in group.addresses if address not in unwanted])


def _change(call: Call, id: str, body: Any) -> tuple[AddressGroup, list[str]]:
    given: Addresses = convert(body, Addresses, what="address_group")
    group = call.get(AddressGroup, id)
    call.require("update_address_group", call.engine.target(call.tx, group))
    if not given.addresses:
        raise BadField("addresses", "it must be a list of one or more.")
    return group, _normal(given.addresses)


def _normal(addresses: list[str]) -> list[str]:
    try:
        return group_prefixes(addresses)
    except ValueError as error:
        raise BadField("addresses", str(error), type="InvalidInput") from None


def _store(call: Call, group: AddressGroup, addresses: list[str]) -> AddressGroup:
    return call.save(replace(group, addresses=_normal(addresses)))
