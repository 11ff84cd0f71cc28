"""What the behaviours of all network resources share: who sees what, what rules see, small helpers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, or_, select

from trunkline.api.context import Context
from trunkline.api.network import sharing
from trunkline.api.query import Filter
from trunkline.errors import BadField
from trunkline.resources.network import (
    MeteringLabelRule,
    Network,
    Port,
    RbacPolicy,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)
from trunkline.resources.schema import Resource
from trunkline.resources.standard import Standard
from trunkline.store import Reader, table_of

#: What the access rules of a kind are named by.
VERBS = ("create", "get", "update", "delete")


def owned(obj: Standard | RbacPolicy) -> None:
    """Refuses a resource without a project.

    Raises:
        BadField: the token is of no project, and the request names none.
    """
    if not obj.project_id:
        raise BadField("project_id", "it is required with a token that is not of a project.")


def tenants(
    reader: Reader, context: Context, objects: Sequence[Standard | RbacPolicy | MeteringLabelRule]
) -> list[Mapping[str, Any]]:
    """The older name of the project's id, for every object."""
    return [{"tenant_id": obj.project_id} for obj in objects]


View = Callable[[Reader, Context, Sequence[Any]], Sequence[Mapping[str, Any]]]


def views(*several: View) -> View:
    """What each of several views shows, together."""

    def view(reader: Reader, context: Context, objects: Sequence[Any]) -> list[Mapping[str, Any]]:
        shown = [each(reader, context, objects) for each in several]
        return [{k: v for part in parts for k, v in part.items()} for parts in zip(*shown, strict=True)]

    return view


# Who sees what.

Clause = ColumnElement[bool]


def _mine(context: Context, cls: type[Resource]) -> ColumnElement[bool]:
    clause: ColumnElement[bool] = table_of(cls).c.project_id == context.project_id
    return clause


def _my_networks(context: Context) -> Select[Any]:
    networks = table_of(Network)
    return select(networks.c.id).where(networks.c.project_id == context.project_id)


#: One's own networks, and those that are shared with one or external.
network_visible = sharing.visible(Network)


def subnet_visible(context: Context) -> list[ColumnElement[bool]]:
    """One's own subnets, and those of all networks that one sees."""
    if context.is_admin:
        return []
    networks, subnets = table_of(Network), table_of(Subnet)
    seen = select(networks.c.id).where(*network_visible(context))
    return [or_(_mine(context, Subnet), subnets.c.network_id.in_(seen))]


def port_visible(context: Context) -> list[ColumnElement[bool]]:
    """One's own ports, and all on one's own networks."""
    if context.is_admin:
        return []
    return [or_(_mine(context, Port), table_of(Port).c.network_id.in_(_my_networks(context)))]


def rule_visible(context: Context) -> list[ColumnElement[bool]]:
    """One's own rules, and those of one's own security groups."""
    if context.is_admin:
        return []
    groups, rules = table_of(SecurityGroup), table_of(SecurityGroupRule)
    mine = select(groups.c.id).where(groups.c.project_id == context.project_id)
    return [or_(_mine(context, SecurityGroupRule), rules.c.security_group_id.in_(mine))]


def subnet_filters(context: Context) -> Mapping[str, Filter]:
    """The filter of subnets by whether their network is shared with the caller."""
    return {"shared": sharing.filter_of(Network, context, table_of(Subnet).c.network_id)}


# What the access rules see beside the fields.


def on_network(reader: Reader, obj: Subnet | Port) -> Mapping[str, Any]:
    """Of the network that a subnet or a port is on: its owner, and whether it is shared with theirs."""
    network = reader.get(Network, obj.network_id)
    if network is None:
        return {}
    own = network.project_id == obj.project_id
    return {
        "network:project_id": network.project_id,
        "network:tenant_id": network.project_id,
        "network:shared": network.shared
        or (not own and sharing.is_shared_with(reader, network, obj.project_id)),
    }


def in_group(reader: Reader, obj: SecurityGroupRule) -> Mapping[str, Any]:
    """Of the security group that a rule is of."""
    group = reader.get(SecurityGroup, obj.security_group_id)
    return {} if group is None else {"security_group:project_id": group.project_id}
