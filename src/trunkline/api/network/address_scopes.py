"""Address scopes: where addresses are unique, and so are routed without translation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select

from trunkline.api.context import Context
from trunkline.api.engine import Call
from trunkline.api.network import common, sharing
from trunkline.errors import BadRequest, Conflict, InUse
from trunkline.plan import prefixes
from trunkline.resources.network import ANYONE, AddressScope, Network, Subnet, SubnetPool
from trunkline.store import Reader, table_of

#: How many networks one statement names; for more, it names none.
_AT_ONCE = 500


def create(call: Call, scope: AddressScope, given: frozenset[str]) -> AddressScope:
    """Needs a project."""
    common.owned(scope)
    return scope


def update(call: Call, old: AddressScope, new: AddressScope, given: frozenset[str]) -> AddressScope:
    """Refuses to take back what others rely on."""
    if old.shared and not new.shared:
        raise BadRequest(
            f"Unable to update address scope {old.id}: Shared address scope can't be unshared.",
            type="AddressScopeUpdateError",
            field="shared",
        )
    return new


def delete(call: Call, scope: AddressScope) -> None:
    """Refuses while a subnet pool is in it."""
    if call.tx.first(SubnetPool, address_scope_id=scope.id) is not None:
        raise InUse(
            f"Unable to complete operation on address scope {scope.id}. There are one or more subnet pools "
            "in use on the address scope.",
            type="AddressScopeInUse",
        )


def check_pool(call: Call, pool: SubnetPool) -> None:
    """That a pool fits into its scope: of the same family, and without addresses of the scope's others.

    Raises:
        BadRequest: IllegalSubnetPoolIpVersionAssociation, IllegalSubnetPoolAssociationToAddressScope.
        Conflict: AddressScopePrefixConflict.
    """
    scope = call.tx.get(AddressScope, pool.address_scope_id) if pool.address_scope_id else None
    if scope is None:
        return
    if scope.ip_version != pool.ip_version:
        raise BadRequest(
            f"Illegal subnetpool association: subnetpool {pool.id} cannot associate with address scope "
            f"{scope.id} because subnetpool ip_version is not {scope.ip_version}.",
            type="IllegalSubnetPoolIpVersionAssociation",
            field="address_scope_id",
        )
    if not reaches(call.tx, scope, pool.project_id) or (pool.shared and not scope.shared):
        raise _not_for(pool, scope.id)
    for other in call.tx.find(SubnetPool, address_scope_id=scope.id):
        if other.id != pool.id and prefixes.overlapping(other.prefixes, pool.prefixes):
            raise Conflict(
                f"Failed to associate address scope: subnetpools within an address scope must have unique "
                f"prefixes, and subnetpool {other.id} has some of these.",
                type="AddressScopePrefixConflict",
                field="prefixes",
            )


def check_target(call: Call, pool: SubnetPool, target: str) -> None:
    """That a project with which a pool is to be shared may use the pool's scope too.

    Raises:
        BadRequest: IllegalSubnetPoolAssociationToAddressScope.
    """
    scope = call.tx.get(AddressScope, pool.address_scope_id) if pool.address_scope_id else None
    if scope is not None and not reaches(call.tx, scope, target):
        raise _not_for(pool, scope.id)


def reaches(reader: Reader, scope: AddressScope, project_id: str) -> bool:
    """Whether a project (or everyone) may use a scope."""
    if project_id == ANYONE:
        return scope.shared
    return scope.project_id == project_id or sharing.is_shared_with(reader, scope, project_id)


def _not_for(pool: SubnetPool, scope_id: str) -> BadRequest:
    return BadRequest(
        f"Illegal subnetpool association: subnetpool {pool.id} cannot be associated with address scope "
        f"{scope_id}, which is not for all the projects that the pool is for.",
        type="IllegalSubnetPoolAssociationToAddressScope",
        field="address_scope_id",
    )


def network_view(reader: Reader, context: Context, networks: Sequence[Network]) -> list[Mapping[str, Any]]:
    """The scopes of the subnets of each network, by family, beside what all kinds show."""
    scopes = _few_scopes if len(networks) <= sharing.FEW else _many_scopes
    found = scopes(reader, networks)
    return [
        {
            "tenant_id": network.project_id,
            "ipv4_address_scope": found.get((network.id, 4)),
            "ipv6_address_scope": found.get((network.id, 6)),
        }
        for network in networks
    ]


#: Network and family to the id of a scope.
_Scopes = Mapping[tuple[str, int], str]


def _few_scopes(reader: Reader, networks: Sequence[Network]) -> _Scopes:
    found: dict[tuple[str, int], str] = {}
    for network in networks:
        subnets = reader.find(Subnet, network_id=network.id) if network.subnets else []
        for id in dict.fromkeys(subnet.subnetpool_id for subnet in subnets if subnet.subnetpool_id):
            pool = reader.get(SubnetPool, id)
            if pool is not None and pool.address_scope_id is not None:
                found[network.id, pool.ip_version] = pool.address_scope_id
    return found


def _many_scopes(reader: Reader, networks: Sequence[Network]) -> _Scopes:
    subnets, pools = table_of(Subnet).c, table_of(SubnetPool).c
    statement = (
        select(subnets.network_id, pools.ip_version, pools.address_scope_id)
        .join_from(table_of(SubnetPool), table_of(Subnet), subnets.subnetpool_id == pools.id)
        .where(pools.address_scope_id.is_not(None))
        .distinct()
    )
    if len(networks) <= _AT_ONCE:
        statement = statement.where(subnets.network_id.in_([network.id for network in networks]))
    return {(row.network_id, row.ip_version): row.address_scope_id for row in reader.rows(statement)}
