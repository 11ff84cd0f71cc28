"""RBAC policies: one project's objects, shared with others; and what can be shared.

    object.shared            is kept equal to: there is a policy (access_as_shared, *) of it
    network.router:external  is kept equal to: there is any policy access_as_external of it

A policy that a project needs, because it uses the object, cannot be taken away.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace
from sqlalchemy import ColumnElement, select

from trunkline.api.context import Context
from trunkline.api.engine import Call, Stages
from trunkline.api.network import address_scopes, common, firewall_defaults, qos, security_groups, sharing
from trunkline.api.network.addressing import refuse_field
from trunkline.errors import Conflict, InUse
from trunkline.resources.appliance import Appliance
from trunkline.resources.network import (
    ACCESS_AS_EXTERNAL,
    ACCESS_AS_SHARED,
    ANYONE,
    FLOATING_IP,
    ROUTER_GATEWAY,
    AddressGroup,
    AddressScope,
    FirewallGroup,
    FirewallPolicy,
    FirewallRule,
    FloatingIP,
    Network,
    Port,
    QosPolicy,
    RbacPolicy,
    Router,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
    SubnetPool,
)
from trunkline.resources.schema import Resource, spec_of
from trunkline.store import Reader, table_of

#: Which projects are meant, as a clause over a column of their ids.
Projects = Callable[[ColumnElement[str]], ColumnElement[bool]]
#: (reader, id of the object, projects) -> whether one of the projects uses the object.
Used = Callable[[Reader, str, Projects], bool]

#: How many ids one statement names.
_AT_ONCE = 500


def by(*users: tuple[type[Resource], str]) -> Used:
    """An object is used by what holds its id: (class, attribute), of classes that projects own."""

    def used(reader: Reader, id: str, projects: Projects) -> bool:
        return any(_is_held(reader, cls, attribute, [id], projects) for cls, attribute in users)

    return used


def _is_held(
    reader: Reader, cls: type[Resource], attribute: str, values: Sequence[str], projects: Projects
) -> bool:
    columns = table_of(cls).c
    clauses = [columns[attribute].in_(values), columns.project_id != "", projects(columns.project_id)]
    if cls is Port:
        # Gateways and floating IPs are on a network because it is external, not because it is shared.
        clauses.append(columns.device_owner.not_in([ROUTER_GATEWAY, FLOATING_IP]))
    return bool(reader.select(cls, *clauses, limit=1))


def _by_ports_in_group(reader: Reader, id: str, projects: Projects) -> bool:
    if _is_held(reader, SecurityGroupRule, "remote_group_id", [id], projects):
        return True
    ports = reader.claimed(security_groups.users_scope(id))
    chunks = (ports[start : start + _AT_ONCE] for start in range(0, len(ports), _AT_ONCE))
    return any(_is_held(reader, Port, "id", chunk, projects) for chunk in chunks)


def _by_holders(reader: Reader, id: str, projects: Projects) -> bool:
    holders = reader.claimed(qos.users_scope(id))
    chunks = [holders[start : start + _AT_ONCE] for start in range(0, len(holders), _AT_ONCE)]
    users = (FloatingIP, Network, Port, Router)
    return any(_is_held(reader, cls, "id", chunk, projects) for chunk in chunks for cls in users)


def _by_policies(reader: Reader, id: str, projects: Projects) -> bool:
    return _is_held(reader, FirewallPolicy, "id", firewall_defaults.holders(reader, id), projects)


def _by_ways_out(reader: Reader, id: str, projects: Projects) -> bool:
    ports, routers = table_of(Port).c, table_of(Router).c
    gateways = select(ports.device_id).where(ports.network_id == id, ports.device_owner == ROUTER_GATEWAY)
    through = reader.select(Router, routers.id.in_(gateways), projects(routers.project_id), limit=1)
    others = ((FloatingIP, "floating_network_id"), (Appliance, "outside_network_id"))
    return bool(through) or any(_is_held(reader, cls, name, [id], projects) for cls, name in others)


@dataclass(frozen=True)
class Shareable:
    """A kind whose objects can be shared. Its class has a field `shared`."""

    cls: type[Any]
    #: By what a project uses an object that is shared with it.
    used: Used
    #: By what a project uses a network that is external to it.
    used_as_external: Used | None = None
    #: Refuses to share an object with a project.
    check: Callable[[Call, Any, str], None] | None = None

    def used_by(self, action: str) -> Used | None:
        """By what a project uses an object that it may use by an action; None for no such action."""
        return {ACCESS_AS_SHARED: self.used, ACCESS_AS_EXTERNAL: self.used_as_external}.get(action)


#: What can be shared, by kind: each a class with a field `shared`. The rest follows from the line here.
SHAREABLE: Mapping[str, Shareable] = {
    "address_scope": Shareable(AddressScope, by((SubnetPool, "address_scope_id"))),
    "address_group": Shareable(AddressGroup, by((SecurityGroupRule, "remote_address_group_id"))),
    "qos_policy": Shareable(QosPolicy, _by_holders),
    "firewall_group": Shareable(FirewallGroup, by()),
    "firewall_policy": Shareable(
        FirewallPolicy,
        by((FirewallGroup, "ingress_firewall_policy_id"), (FirewallGroup, "egress_firewall_policy_id")),
    ),
    "firewall_rule": Shareable(FirewallRule, _by_policies),
    "network": Shareable(Network, by((Port, "network_id")), _by_ways_out),
    "security_group": Shareable(SecurityGroup, _by_ports_in_group),
    "subnetpool": Shareable(SubnetPool, by((Subnet, "subnetpool_id")), check=address_scopes.check_target),
}


# The stages of policies.


def create(call: Call, policy: RbacPolicy, given: frozenset[str]) -> RbacPolicy:
    """Refuses what cannot be shared, and what is another's."""
    common.owned(policy)
    kind = SHAREABLE.get(policy.object_type)
    if kind is None:
        raise refuse_field("object_type", f"Use one of: {', '.join(SHAREABLE)}.")
    if kind.used_by(policy.action) is None:
        known = (a for a in (ACCESS_AS_SHARED, ACCESS_AS_EXTERNAL) if kind.used_by(a))
        raise refuse_field("action", f"Use one of: {', '.join(known)}.")
    obj = call.get(kind.cls, policy.object_id)
    if not call.context.is_admin and obj.project_id != call.context.project_id:
        raise refuse_field("object_id", "only its owner, or an administrator, shares it.")
    call.require("create_rbac_policy:target_tenant", call.engine.target(call.tx, policy))
    _refuse_twice(call, policy)
    if kind.check is not None:
        kind.check(call, obj, policy.target_tenant)
    return policy


def created(call: Call, policy: RbacPolicy) -> None:
    """The object says that it is shared."""
    _follow(call, policy)


def update(call: Call, old: RbacPolicy, new: RbacPolicy, given: frozenset[str]) -> RbacPolicy:
    """Names another project, unless the one before is in need of the policy."""
    call.require("update_rbac_policy:target_tenant", call.engine.target(call.tx, new))
    if new != old:
        _refuse_twice(call, new)
        kind = SHAREABLE[new.object_type]
        if kind.check is not None:
            kind.check(call, call.tx.get(kind.cls, new.object_id), new.target_tenant)
        _refuse_while_needed(call, old, new.target_tenant)
        call.tx.replace(new)  # What follows is told by what is stored.
        _follow(call, new)
    return new


def delete(call: Call, policy: RbacPolicy) -> None:
    """Refuses while a project is in need of it."""
    _refuse_while_needed(call, policy)
    _follow(call, policy, gone=policy.id)


def _refuse_twice(call: Call, policy: RbacPolicy) -> None:
    known = call.tx.first(
        RbacPolicy,
        target_tenant=policy.target_tenant,
        object_type=policy.object_type,
        action=policy.action,
        object_id=policy.object_id,
    )
    if known is not None:
        raise Conflict(
            f"An RBAC policy already exists with those values: {known.id}.", type="DuplicateRbacPolicy"
        )


def _refuse_while_needed(call: Call, policy: RbacPolicy, instead: str = "") -> None:
    """Raises InUse where a project loses its access to what it uses with the policy, or its target."""
    kind = SHAREABLE[policy.object_type]
    used, obj = kind.used_by(policy.action), call.tx.get(kind.cls, policy.object_id)
    if used is None or obj is None:
        return
    policies = table_of(RbacPolicy).c
    if policy.action == ACCESS_AS_EXTERNAL and policy.target_tenant == ANYONE and obj.is_default:
        raise Conflict(
            f"Network {obj.id} is the default external network, which is everyone's. Clear is_default first.",
            type="DefaultExternalNetworkExists",
        )
    left = (
        policies.object_id == policy.object_id,
        policies.action == policy.action,
        policies.id != policy.id,
    )
    if instead == ANYONE or call.tx.count(RbacPolicy, *left, target_tenant=ANYONE):
        return
    keep = [obj.project_id, instead]

    def losing(project: ColumnElement[str]) -> ColumnElement[bool]:
        clause = project.not_in(keep) & project.not_in(select(policies.target_tenant).where(*left))
        return clause if policy.target_tenant == ANYONE else clause & (project == policy.target_tenant)

    if used(call.tx, policy.object_id, losing):
        raise InUse(
            f"RBAC policy on object {policy.object_id} cannot be removed because other objects depend on it.",
            type="RbacPolicyInUse",
        )


def _follow(call: Call, policy: RbacPolicy, gone: str = "") -> None:
    """What the object says of itself follows its policies, that of the id `gone` left out."""
    obj = call.tx.get(SHAREABLE[policy.object_type].cls, policy.object_id)
    if obj is None:
        return
    policies = table_of(RbacPolicy).c
    left = (policies.object_id == policy.object_id, policies.id != gone)

    def any_of(action: str, *clauses: ColumnElement[bool]) -> bool:
        return bool(call.tx.select(RbacPolicy, *left, policies.action == action, *clauses, limit=1))

    changes = {"shared": any_of(ACCESS_AS_SHARED, policies.target_tenant == ANYONE)}
    if isinstance(obj, Network):
        changes["external"] = any_of(ACCESS_AS_EXTERNAL)
    call.save(replace(obj, **changes))


# The stages of what can be shared: around those of the kind.


def with_sharing(stages: Mapping[str, Stages[Any]]) -> Mapping[str, Stages[Any]]:
    """The stages, with what sharing means for the kinds that can be shared."""
    shared = {kind: _around(stages[kind], what) for kind, what in SHAREABLE.items()}
    return {**stages, **shared}


def _around(stages: Stages[Any], what: Shareable) -> Stages[Any]:
    def created(call: Call, obj: Any) -> None:
        if stages.created is not None:
            stages.created(call, obj)
        for action, flag in _flags(obj).items():
            if flag:
                _share(call, obj, action)

    def update(call: Call, old: Any, new: Any, given: frozenset[str]) -> Any:
        if stages.update is not None:
            new = stages.update(call, old, new, given)
        before, after = _flags(old), _flags(new)
        for action in before:
            if after[action] and not before[action]:
                _share(call, new, action)
            elif before[action] and not after[action]:
                _unshare(call, new, action)
        return new

    def delete(call: Call, obj: Any) -> None:
        if stages.delete is not None:
            stages.delete(call, obj)
        for policy in call.tx.find(RbacPolicy, object_id=obj.id):
            call.drop(policy)

    def view(reader: Reader, context: Context, objects: Sequence[Any]) -> list[Mapping[str, Any]]:
        more = sharing.shown(reader, context, objects)
        if stages.view is None:
            return more
        own = stages.view(reader, context, objects)
        return [{**one, **other} for one, other in zip(own, more, strict=True)]

    def callers_filters(context: Context) -> Mapping[str, Any]:
        own = stages.callers_filters(context) if stages.callers_filters is not None else {}
        return {"shared": sharing.filter_of(what.cls, context, table_of(what.cls).c.id), **own}

    return dataclasses.replace(
        stages,
        created=created,
        update=update,
        delete=delete,
        visible=stages.visible or sharing.visible(what.cls),
        sees=sharing.sees if stages.visible is None else stages.sees,
        view=view,
        callers_filters=callers_filters,
    )


def restore(call: Call) -> None:
    """Gives each object that says it is shared, or external, the policy that says so for everyone.

    Stores from before there were policies have such objects. Policies and what objects say agree ever since,
    so it changes nothing in any other store.
    """
    for what in SHAREABLE.values():
        for obj in call.tx.select(what.cls):
            held = {policy.action for policy in call.tx.find(RbacPolicy, object_id=obj.id)}
            for action, flag in _flags(obj).items():
                if flag and action not in held:
                    _share(call, obj, action)


def _flags(obj: Any) -> Mapping[str, bool]:
    flags = {ACCESS_AS_SHARED: bool(obj.shared)}
    return {**flags, ACCESS_AS_EXTERNAL: obj.external} if isinstance(obj, Network) else flags


def _share(call: Call, obj: Any, action: str) -> None:
    policy = RbacPolicy(
        id=str(uuid.uuid4()),
        project_id=obj.project_id,
        object_type=spec_of(type(obj)).kind,
        object_id=obj.id,
        action=action,
        target_tenant=ANYONE,
    )
    call.add(policy)


def _unshare(call: Call, obj: Any, action: str) -> None:
    """Takes the policy for everyone away; of a network that is to be internal, every one."""
    held = call.tx.find(RbacPolicy, object_id=obj.id, action=action)
    gone = [policy for policy in held if policy.target_tenant == ANYONE or action == ACCESS_AS_EXTERNAL]
    used = SHAREABLE[spec_of(type(obj)).kind].used_by(action)
    keep = [obj.project_id, *(policy.target_tenant for policy in held if policy not in gone)]
    if action == ACCESS_AS_EXTERNAL:
        if used is not None and used(call.tx, obj.id, lambda project: project != ""):
            raise InUse(
                f"External network {obj.id} cannot be updated to be made non-external, since it has existing "
                "gateway ports.",
                type="ExternalNetworkInUse",
                field="router:external",
            )
    elif used is not None and used(call.tx, obj.id, lambda project: project.not_in(keep)):
        words = spec_of(type(obj)).kind.replace("_", " ")
        raise Conflict(
            f"Unable to reconfigure sharing settings for {words} {obj.id}. Multiple projects are using it.",
            type="InvalidSharedSetting",
            field="shared",
        )
    for policy in gone:
        call.drop(policy)
