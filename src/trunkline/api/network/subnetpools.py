"""Subnet pools: what they may hold, and the ranges that subnets are cut from them."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from trunkline.api.context import Context
from trunkline.api.engine import Call
from trunkline.api.network import address_scopes, common
from trunkline.api.network.addressing import refuse_field
from trunkline.errors import BadField, BadRequest, Conflict, InUse, NotFound
from trunkline.plan import prefixes
from trunkline.resources.network import Network, Subnet, SubnetPool
from trunkline.resources.network.pools import pool_prefixes
from trunkline.resources.schema import convert
from trunkline.store import Reader

_SHORTEST = {4: 8, 6: 64}
_LONGEST = {4: 32, 6: 128}


class Prefixes(msgspec.Struct, forbid_unknown_fields=True):
    """The body of the verbs that add and remove prefixes."""

    prefixes: list[str]


class Onboarding(msgspec.Struct, forbid_unknown_fields=True):
    """The body of the verb that takes the subnets of a network into a pool."""

    network_id: str


def view(reader: Reader, context: Context, pools: Sequence[SubnetPool]) -> list[Mapping[str, Any]]:
    """Lengths are text in this API."""
    return [
        {
            "tenant_id": pool.project_id,
            "min_prefixlen": str(pool.min_prefixlen),
            "max_prefixlen": str(pool.max_prefixlen),
            "default_prefixlen": str(pool.default_prefixlen),
        }
        for pool in pools
    ]


def create(call: Call, pool: SubnetPool, given: frozenset[str]) -> SubnetPool:
    """Fills in the lengths."""
    common.owned(pool)
    pool = _checked(call, _filled(pool))
    address_scopes.check_pool(call, pool)
    return pool


def update(call: Call, old: SubnetPool, new: SubnetPool, given: frozenset[str]) -> SubnetPool:
    """Refuses to take prefixes away."""
    new = _filled(new)
    if new.ip_version != old.ip_version:
        raise refuse_field("prefixes", f"the pool is of IPv{old.ip_version}.")
    for prefix in old.prefixes:
        if not prefixes.within(new.prefixes, prefix):
            raise BadRequest(
                f"Illegal update to prefixes: {prefix} of the pool is not among them.",
                type="IllegalSubnetPoolPrefixUpdate",
                field="prefixes",
            )
    new = _checked(call, new)
    if new.prefixes != old.prefixes or new.address_scope_id != old.address_scope_id:
        address_scopes.check_pool(call, new)
    if new.address_scope_id != old.address_scope_id:
        _check_neighbours(call, new)
    return new


def _check_neighbours(call: Call, pool: SubnetPool) -> None:
    """That no network has subnets of one family in two scopes, now that a pool is in another."""
    for network_id in {subnet.network_id for subnet in call.tx.find(Subnet, subnetpool_id=pool.id)}:
        for other in call.tx.find(Subnet, network_id=network_id, ip_version=pool.ip_version):
            if other.subnetpool_id != pool.id:
                raise BadRequest(
                    f"Subnetpool {pool.id} cannot be associated with address scope {pool.address_scope_id} "
                    f"because subnet {other.id}, on a network of the pool's, is not of it.",
                    type="NetworkAddressScopeAffinityError",
                    field="address_scope_id",
                )


def delete(call: Call, pool: SubnetPool) -> None:
    """Refuses while a subnet is of the pool."""
    if call.tx.find(Subnet, subnetpool_id=pool.id):
        raise InUse(
            f"Unable to delete subnet pool {pool.id}: Subnet pool is in use.", type="SubnetPoolDeleteError"
        )


def add_prefixes(call: Call, id: str, body: Any) -> list[str]:
    """Adds prefixes; returns those that the pool has then."""
    pool, wanted = _change(call, id, body)
    more = pool_prefixes([*pool.prefixes, *wanted])
    address_scopes.check_pool(call, replace(pool, prefixes=more))
    return _store(call, pool, more)


def remove_prefixes(call: Call, id: str, body: Any) -> list[str]:
    """Removes prefixes that no subnet is of; returns those that the pool has then.

    Raises:
        Conflict: a subnet is of one of them.
    """
    pool, unwanted = _change(call, id, body)
    left = [ipaddress.ip_network(p) for p in pool.prefixes]
    for gone in map(ipaddress.ip_network, unwanted):
        left = [rest for prefix in left for rest in _without(prefix, gone)]
    texts = [str(prefix) for prefix in left]
    if not texts:
        raise refuse_field("prefixes", "a pool keeps at least one prefix.")
    for subnet in call.tx.find(Subnet, subnetpool_id=pool.id):
        if not prefixes.within(texts, subnet.cidr):
            raise Conflict(
                f"Subnet {subnet.id} with {subnet.cidr} is of the prefixes to be removed.",
                type="IllegalSubnetPoolPrefixUpdate",
                field="prefixes",
            )
    return _store(call, pool, pool_prefixes(texts))


def onboard(call: Call, id: str, body: Any) -> list[dict[str, str]]:
    """Takes the subnets of a network that are of the pool's family into the pool, and their ranges.

    Those that are in it already stay. Returns the id and the cidr of each that came (Network API, "Onboard
    Network Subnets into a Subnet Pool").

    Raises:
        Conflict: the pool has given a part of such a range to somebody else.
    """
    given: Onboarding = convert(body, Onboarding, what="subnetpool")
    pool = call.get(SubnetPool, id)
    call.require("update_subnetpool", call.engine.target(call.tx, pool))
    network = call.get(Network, given.network_id)
    subnets = call.tx.find(Subnet, network_id=network.id, ip_version=pool.ip_version)
    coming = [subnet for subnet in subnets if subnet.subnetpool_id != pool.id]
    taken = [subnet.cidr for subnet in call.tx.find(Subnet, subnetpool_id=pool.id)]
    for subnet in coming:
        call.require("update_subnet", call.engine.target(call.tx, subnet))
        if prefixes.overlapping(taken, [subnet.cidr]):
            raise Conflict(
                f"Illegal subnetpool update: the pool has given addresses of {subnet.cidr}, the range of "
                f"subnet {subnet.id}, to another subnet.",
                type="IllegalSubnetPoolUpdate",
                field="network_id",
            )
    if coming:
        wider = replace(pool, prefixes=pool_prefixes([*pool.prefixes, *(subnet.cidr for subnet in coming)]))
        address_scopes.check_pool(call, wider)
        _store(call, pool, wider.prefixes)
    for subnet in coming:
        call.save(replace(subnet, subnetpool_id=pool.id))
    return [{"id": subnet.id, "cidr": subnet.cidr} for subnet in coming]


def cut(call: Call, subnet: Subnet, given: frozenset[str]) -> Subnet:
    """The subnet with its range, cut from a pool if it names one.

    Raises:
        BadRequest, NotFound, Conflict.
    """
    pool = _pool_for(call, subnet)
    _check_affinity(call, subnet, pool)
    if pool is None:
        if "cidr" not in given:
            raise refuse_field("cidr", "it is required without a subnet pool.")
        if subnet.prefixlen is not None:
            raise refuse_field("prefixlen", "it is for subnets of a pool. Give a cidr, or a subnetpool_id.")
        return replace(subnet, use_default_subnetpool=False)
    if pool.ip_version != subnet.ip_version:
        raise refuse_field("ip_version", f"the subnet pool is of IPv{pool.ip_version}.")
    if "cidr" not in given and given & {"gateway_ip", "allocation_pools"}:
        raise refuse_field("cidr", "it is required with gateway_ip or allocation_pools.")
    if "cidr" in given and subnet.prefixlen is not None:
        raise refuse_field("prefixlen", "it does not go with cidr. Give one of them.")
    taken = [other.cidr for other in call.tx.find(Subnet, subnetpool_id=pool.id)]
    cidr = subnet.cidr if "cidr" in given else _choose(pool, subnet, taken)
    _check_cut(call, pool, cidr, taken, subnet.project_id)
    return replace(subnet, cidr=cidr, subnetpool_id=pool.id, prefixlen=None, use_default_subnetpool=False)


def _pool_for(call: Call, subnet: Subnet) -> SubnetPool | None:
    if subnet.subnetpool_id:
        return call.get(SubnetPool, subnet.subnetpool_id)
    if not subnet.use_default_subnetpool:
        return None
    found = call.tx.first(SubnetPool, is_default=True, ip_version=subnet.ip_version)
    if found is None:
        raise NotFound(
            f"No default subnet pool for IPv{subnet.ip_version} was found.", type="SubnetPoolNotFound"
        )
    return found


def _check_affinity(call: Call, subnet: Subnet, pool: SubnetPool | None) -> None:
    """That all subnets of one family on a network are of one pool, of one address scope, or of none."""
    place = None if pool is None else pool.address_scope_id or pool.id
    on_network = call.tx.find(Subnet, network_id=subnet.network_id)
    for other in (each for each in on_network if each.ip_version == subnet.ip_version):
        theirs = call.tx.get(SubnetPool, other.subnetpool_id) if other.subnetpool_id else None
        if place != (None if theirs is None else theirs.address_scope_id or theirs.id):
            raise BadRequest(
                "Subnets hosted on the same network must be allocated from the same subnet pool, or from "
                f"pools of one address scope, and subnet {other.id} is not.",
                type="NetworkSubnetPoolAffinityError",
                field="subnetpool_id",
            )


def _choose(pool: SubnetPool, subnet: Subnet, taken: Sequence[str]) -> str:
    length = subnet.prefixlen if subnet.prefixlen is not None else pool.default_prefixlen
    assert length is not None
    _check_length(pool, length)
    cidr = prefixes.choose(pool.prefixes, taken, length)
    if cidr is None:
        raise Conflict(
            f"Failed to allocate subnet: Insufficient prefix space to allocate subnet size /{length}.",
            type="SubnetAllocationError",
        )
    return cidr


def _check_cut(call: Call, pool: SubnetPool, cidr: str, taken: Sequence[str], project_id: str) -> None:
    _check_length(pool, ipaddress.ip_network(cidr).prefixlen)
    free = prefixes.within(pool.prefixes, cidr) and not any(
        prefixes.within([cidr], other) or prefixes.within([other], cidr) for other in taken
    )
    if not free:
        raise Conflict(
            "Failed to allocate subnet: Cannot allocate requested subnet from the available set of prefixes.",
            type="SubnetAllocationError",
            field="cidr",
        )
    if pool.default_quota is not None:
        own = call.tx.find(Subnet, subnetpool_id=pool.id, project_id=project_id)
        if sum(prefixes.amount(s.cidr) for s in own) + prefixes.amount(cidr) > pool.default_quota:
            raise Conflict("Per-project subnet pool prefix quota exceeded.", type="SubnetPoolQuotaExceeded")


def _check_length(pool: SubnetPool, length: int) -> None:
    shortest, longest = pool.min_prefixlen or 0, pool.max_prefixlen or 0
    if length < shortest:
        raise BadRequest(
            f"Unable to allocate subnet with prefix length {length}, minimum allowed prefix is {shortest}.",
            type="MinPrefixSubnetAllocationError",
            field="prefixlen",
        )
    if length > longest:
        raise BadRequest(
            f"Unable to allocate subnet with prefix length {length}, maximum allowed prefix is {longest}.",
            type="MaxPrefixSubnetAllocationError",
            field="prefixlen",
        )


def _filled(pool: SubnetPool) -> SubnetPool:
    version = ipaddress.ip_network(pool.prefixes[0]).version
    shortest = _SHORTEST[version] if pool.min_prefixlen is None else pool.min_prefixlen
    return replace(
        pool,
        ip_version=version,
        min_prefixlen=shortest,
        max_prefixlen=_LONGEST[version] if pool.max_prefixlen is None else pool.max_prefixlen,
        default_prefixlen=shortest if pool.default_prefixlen is None else pool.default_prefixlen,
    )


def _checked(call: Call, pool: SubnetPool) -> SubnetPool:
    shortest, default, longest = pool.min_prefixlen or 0, pool.default_prefixlen or 0, pool.max_prefixlen or 0
    if longest > _LONGEST[pool.ip_version]:
        raise refuse_field("max_prefixlen", f"at most {_LONGEST[pool.ip_version]} in IPv{pool.ip_version}.")
    if shortest > longest:
        raise refuse_field("min_prefixlen", f"it is greater than max_prefixlen, {longest}.")
    if not shortest <= default <= longest:
        raise refuse_field("default_prefixlen", f"it is not between {shortest} and {longest}.")
    if pool.is_default:
        for other in call.tx.find(SubnetPool, is_default=True, ip_version=pool.ip_version):
            if other.id != pool.id:
                raise Conflict(
                    f"The default subnet pool of IPv{pool.ip_version} is {other.id} already.",
                    type="DefaultSubnetPoolExists",
                    field="is_default",
                )
    return pool


def _change(call: Call, id: str, body: Any) -> tuple[SubnetPool, list[str]]:
    given: Prefixes = convert(body, Prefixes, what="subnetpool")
    pool = call.get(SubnetPool, id)
    call.require("update_subnetpool", call.engine.target(call.tx, pool))
    try:
        wanted = pool_prefixes(given.prefixes)
    except ValueError as error:
        raise BadField("prefixes", str(error), type="InvalidInput") from None
    if ipaddress.ip_network(wanted[0]).version != pool.ip_version:
        raise refuse_field("prefixes", f"the pool is of IPv{pool.ip_version}.")
    return pool, wanted


def _store(call: Call, pool: SubnetPool, found: list[str]) -> list[str]:
    if found != pool.prefixes:
        call.save(replace(pool, prefixes=found))
    return found


def _without(prefix: Any, gone: Any) -> list[Any]:
    if not prefix.overlaps(gone):
        return [prefix]
    return list(prefix.address_exclude(gone)) if gone.subnet_of(prefix) and gone != prefix else []
