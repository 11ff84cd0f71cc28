"""Security groups; the default group that every project has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trunkline.api.context import Context
from trunkline.api.engine import Call
from trunkline.api.network import common, logs, security_rules
from trunkline.api.network.defaults import Default
from trunkline.errors import Conflict, InUse
from trunkline.resources.network import DefaultSecurityGroupRule, SecurityGroup, SecurityGroupRule
from trunkline.resources.network.security import DEFAULT
from trunkline.store import Reader, table_of


def users_scope(group_id: str) -> str:
    """The scope of the claims by which ports hold a group."""
    return f"security-group:{group_id}"


def in_use(reader: Reader, group_id: str) -> bool:
    """Whether a port has the group."""
    return bool(reader.claimed(users_scope(group_id), limit=1))


def _make_default(call: Call, project_id: str, id: str) -> None:
    """Its rules are those of the templates: of a new cloud, everything out, and in from the same group."""
    group = SecurityGroup(id=id, project_id=project_id, name=DEFAULT, description="Default security group")
    security_rules.fill(call, call.add(group), default=True)


_EVERY_PROJECTS = Default("default-security-group", _make_default)
default_of, ensure_default = _EVERY_PROJECTS.of, _EVERY_PROJECTS.ensure


def create(call: Call, group: SecurityGroup, given: frozenset[str]) -> SecurityGroup:
    """Refuses a second default group."""
    common.owned(group)
    if group.name == DEFAULT:
        default_of(call, group.project_id)
        raise Conflict(
            "Default security group already exists. Choose another name.",
            type="SecurityGroupDefaultAlreadyExists",
            field="name",
        )
    default_of(call, group.project_id)
    return group


def created(call: Call, group: SecurityGroup) -> None:
    """A new group has the rules of the templates; those of a new cloud let everything out, nothing in."""
    security_rules.fill(call, group, default=False)


def update(call: Call, old: SecurityGroup, new: SecurityGroup, given: frozenset[str]) -> SecurityGroup:
    """Refuses to rename the default group, or to change how a group in use looks at replies."""
    if new.name != old.name:
        if old.name == DEFAULT:
            raise Conflict(
                "Updating default security group not allowed.",
                type="SecurityGroupCannotUpdateDefault",
                field="name",
            )
        if new.name == DEFAULT:
            raise Conflict(
                "Default security group already exists. Choose another name.",
                type="SecurityGroupDefaultAlreadyExists",
                field="name",
            )
    if new.stateful != old.stateful and in_use(call.tx, old.id):
        raise InUse(f"Security Group {old.id} in use.", type="SecurityGroupInUse", field="stateful")
    return new


def delete(call: Call, group: SecurityGroup) -> None:
    """Takes the rules along, and those of other groups that refer to it."""
    if group.name == DEFAULT and not call.context.is_admin:
        raise Conflict(
            "Insufficient rights for removing default security group.",
            type="SecurityGroupCannotRemoveDefault",
        )
    if in_use(call.tx, group.id):
        raise InUse(f"Security Group {group.id} in use.", type="SecurityGroupInUse")
    logs.drop_of(call, group)
    for rule in call.tx.find(SecurityGroupRule, security_group_id=group.id):
        call.drop(rule)
    for rule in call.tx.find(SecurityGroupRule, remote_group_id=group.id):
        call.drop(rule)
        other = call.tx.get(SecurityGroup, rule.security_group_id)
        if other is not None:
            call.save(other)
    for template in call.tx.find(DefaultSecurityGroupRule, remote_group_id=group.id):
        call.drop(template)


def view(reader: Reader, context: Context, groups: Sequence[SecurityGroup]) -> list[Mapping[str, Any]]:
    """The rules of each group."""
    rules: dict[str, list[SecurityGroupRule]] = {group.id: [] for group in groups}
    table = table_of(SecurityGroupRule)
    ids = list(rules)
    for start in range(0, len(ids), 500):
        for rule in reader.select(
            SecurityGroupRule, table.c.security_group_id.in_(ids[start : start + 500]), order_by=[table.c.id]
        ):
            rules[rule.security_group_id].append(rule)
    return [
        {
            "tenant_id": group.project_id,
            "security_group_rules": [_shown(rule) for rule in rules[group.id]],
        }
        for group in groups
    ]


def _shown(rule: SecurityGroupRule) -> Mapping[str, Any]:
    names = (
        "id", "project_id", "security_group_id", "direction", "ethertype", "protocol", "port_range_min",
        "port_range_max", "remote_group_id", "remote_address_group_id", "remote_ip_prefix", "normalized_cidr",
        "description", "tags", "revision_number", "created_at", "updated_at",
    )  # fmt: skip
    shown = {name: getattr(rule, name) for name in names}
    shown["tenant_id"] = rule.project_id
    return shown
