"""Security groups and their rules; the default group that every project has."""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from trunkline.api.context import Context
from trunkline.api.engine import Call, Engine
from trunkline.api.network import common
from trunkline.errors import BadField, BadRequest, Conflict, InUse
from trunkline.resources.network import SecurityGroup, SecurityGroupRule
from trunkline.resources.network.checks import ICMP, ICMPV6, WITH_PORTS, normal_prefix, protocol_number
from trunkline.store import Reader, table_of

DEFAULT = "default"
_DEFAULTS = "default-security-group"
FAMILIES = ("IPv4", "IPv6")


def users_scope(group_id: str) -> str:
    """The scope of the claims by which ports hold a group."""
    return f"security-group:{group_id}"


def in_use(reader: Reader, group_id: str) -> bool:
    """Whether a port has the group."""
    return bool(reader.claimed(users_scope(group_id), limit=1))


def default_of(call: Call, project_id: str) -> str:
    """The id of a project's default group, which is made on first use.

    It lets everything out, and in what comes from ports of the same group.
    """
    found = call.tx.claim_owner(_DEFAULTS, project_id)
    if found is not None:
        return found
    id = str(uuid.uuid4())
    call.tx.claim(_DEFAULTS, project_id, id)
    call.add(SecurityGroup(id=id, project_id=project_id, name=DEFAULT, description="Default security group"))
    for family in FAMILIES:
        _add(call, SecurityGroupRule(security_group_id=id, direction="egress", ethertype=family), project_id)
        within = SecurityGroupRule(
            security_group_id=id, direction="ingress", ethertype=family, remote_group_id=id
        )
        _add(call, within, project_id)
    return id


async def ensure_default(engine: Engine, context: Context) -> None:
    """Makes the default group of the caller's project if there is none yet."""
    project = context.project_id
    if not project:
        return
    with engine.store.read() as reader:
        if reader.claim_owner(_DEFAULTS, project) is not None:
            return
    await engine.write(context, lambda call: default_of(call, project))


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
    """A new group lets everything out, and nothing in."""
    for family in FAMILIES:
        rule = SecurityGroupRule(security_group_id=group.id, direction="egress", ethertype=family)
        _add(call, rule, group.project_id)


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
    for rule in call.tx.find(SecurityGroupRule, security_group_id=group.id):
        call.drop(rule)
    for rule in call.tx.find(SecurityGroupRule, remote_group_id=group.id):
        call.drop(rule)
        other = call.tx.get(SecurityGroup, rule.security_group_id)
        if other is not None:
            call.save(other)


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


# Rules.


def create_rule(call: Call, rule: SecurityGroupRule, given: frozenset[str]) -> SecurityGroupRule:
    """Checks that a rule has a meaning, and that the group has none like it."""
    common.owned(rule)
    group = call.get(SecurityGroup, rule.security_group_id)
    call.require("create_security_group_rule:security_group_id", call.engine.target(call.tx, rule))
    if rule.remote_group_id is not None:
        call.get(SecurityGroup, rule.remote_group_id)
    _check_protocol(rule)
    rule = _with_remote(rule)
    _claim_rule(call, rule)
    call.save(group)
    return rule


def delete_rule(call: Call, rule: SecurityGroupRule) -> None:
    """The group changes with its rules."""
    group = call.tx.get(SecurityGroup, rule.security_group_id)
    if group is not None:
        call.save(group)


def _add(call: Call, rule: SecurityGroupRule, project_id: str) -> None:
    rule = replace(rule, id=str(uuid.uuid4()), project_id=project_id)
    _claim_rule(call, rule)
    call.add(rule)


def _claim_rule(call: Call, rule: SecurityGroupRule) -> None:
    number = protocol_number(rule.protocol)
    meaning = (
        rule.direction, rule.ethertype, number, rule.port_range_min, rule.port_range_max,
        rule.remote_group_id, rule.remote_address_group_id, rule.normalized_cidr,
    )  # fmt: skip
    scope = f"security-group-rules:{rule.security_group_id}"
    value = "/".join("" if part is None else str(part) for part in meaning)
    holder = call.tx.claim_owner(scope, value)
    if holder is not None:
        raise Conflict(
            f"Security group rule already exists. Rule id is {holder}.", type="SecurityGroupRuleExists"
        )
    call.tx.claim(scope, value, rule.id)


def _with_remote(rule: SecurityGroupRule) -> SecurityGroupRule:
    names = ("remote_ip_prefix", "remote_group_id", "remote_address_group_id")
    named = [name for name in names if getattr(rule, name) is not None]
    if len(named) > 1:
        raise BadRequest(
            "Only remote_ip_prefix or remote_group_id or remote_address_group_id may be provided.",
            type="SecurityGroupRemoteGroupAndRemoteIpPrefix",
            field=named[0],
        )
    if rule.remote_ip_prefix is None:
        return rule
    normal = normal_prefix(rule.remote_ip_prefix)
    if f"IPv{ipaddress.ip_network(normal).version}" != rule.ethertype:
        raise BadRequest(
            f"Conflicting value ethertype {rule.ethertype} for CIDR {rule.remote_ip_prefix}.",
            type="SecurityGroupRuleParameterConflict",
            field="remote_ip_prefix",
        )
    return replace(rule, normalized_cidr=normal)


def _check_protocol(rule: SecurityGroupRule) -> None:
    number = protocol_number(rule.protocol)
    low, high = rule.port_range_min, rule.port_range_max
    if number == ICMPV6 and rule.ethertype == "IPv4":
        raise BadRequest(
            f"Invalid ethertype IPv4 for protocol {rule.protocol}.",
            type="SecurityGroupEthertypeConflictWithProtocol",
            field="protocol",
        )
    if low is None and high is None:
        return
    if number is None:
        raise BadRequest(
            "Must also specify protocol if port range is given.",
            type="SecurityGroupProtocolRequiredWithPorts",
            field="protocol",
        )
    if number in (ICMP, ICMPV6):
        _check_icmp(low, high)
    elif number not in WITH_PORTS:
        raise BadRequest(
            f"Invalid protocol {rule.protocol} for port range, only supported for TCP, UDP, UDPLITE, "
            "SCTP and DCCP.",
            type="SecurityGroupInvalidProtocolForPort",
            field="port_range_min" if low is not None else "port_range_max",
        )
    elif low is None or high is None or low > high:
        raise BadRequest(
            "For TCP/UDP protocols, port_range_min must be <= port_range_max, and both be given.",
            type="SecurityGroupInvalidPortRange",
            field="port_range_min",
        )
    elif low == 0:
        raise BadField(
            "port_range_min",
            "Invalid value for port 0. Use a number from 1 to 65535.",
            type="SecurityGroupInvalidPortValue",
        )


def _check_icmp(icmp_type: int | None, icmp_code: int | None) -> None:
    if icmp_type is None:
        raise BadRequest(
            f"ICMP code (port-range-max) {icmp_code} is provided but ICMP type (port-range-min) is missing.",
            type="SecurityGroupMissingIcmpType",
            field="port_range_min",
        )
    for field, value in (("port_range_min", icmp_type), ("port_range_max", icmp_code)):
        if value is not None and value > 255:
            name = "type" if field == "port_range_min" else "code"
            raise BadRequest(
                f"Invalid value for ICMP {name} ({field}) {value}. It must be 0 to 255.",
                type="SecurityGroupInvalidIcmpValue",
                field=field,
            )
