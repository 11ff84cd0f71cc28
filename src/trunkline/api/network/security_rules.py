"""Rules of security groups, and their templates: what they may say, and that none says it twice."""

from __future__ import annotations

import ipaddress
import uuid

from msgspec.structs import replace

from trunkline.api.context import Context
from trunkline.api.engine import Call
from trunkline.api.network import common
from trunkline.errors import BadField, BadRequest, Conflict
from trunkline.resources.network import DefaultSecurityGroupRule, SecurityGroup, SecurityGroupRule
from trunkline.resources.network.checks import ICMP, ICMPV6, WITH_PORTS, normal_prefix, protocol_number
from trunkline.resources.network.security import DEFAULT, PARENT, Traffic
from trunkline.store import Tx

_TEMPLATES = "default-security-group-rules"


def create(call: Call, rule: SecurityGroupRule, given: frozenset[str]) -> SecurityGroupRule:
    """Checks that a rule has a meaning, and that the group has none like it."""
    common.owned(rule)
    group = call.get(SecurityGroup, rule.security_group_id)
    call.require("create_security_group_rule:security_group_id", call.engine.target(call.tx, rule))
    if rule.remote_group_id is not None:
        call.get(SecurityGroup, rule.remote_group_id)
    _check(rule)
    rule = replace(rule, normalized_cidr=_normal(rule), belongs_to_default_sg=group.name == DEFAULT)
    _claim(call, rule)
    call.save(group)
    return rule


def delete(call: Call, rule: SecurityGroupRule) -> None:
    """The group changes with its rules."""
    group = call.tx.get(SecurityGroup, rule.security_group_id)
    if group is not None:
        call.save(group)


def fill(call: Call, group: SecurityGroup, *, default: bool) -> None:
    """Gives a new group the rules that the templates say."""
    use = {"used_in_default_sg": True} if default else {"used_in_non_default_sg": True}
    for template in call.tx.find(DefaultSecurityGroupRule, **use):
        remote = group.id if template.remote_group_id == PARENT else template.remote_group_id
        rule = SecurityGroupRule(
            id=str(uuid.uuid4()),
            project_id=group.project_id,
            security_group_id=group.id,
            direction=template.direction,
            ethertype=template.ethertype,
            protocol=template.protocol,
            port_range_min=template.port_range_min,
            port_range_max=template.port_range_max,
            remote_group_id=remote,
            remote_address_group_id=template.remote_address_group_id,
            remote_ip_prefix=template.remote_ip_prefix,
            normalized_cidr=_normal(template),
            belongs_to_default_sg=default,
        )
        _claim(call, rule)
        call.add(rule)


# Templates.


def template_visible(context: Context) -> list[common.Clause]:
    """Everybody's: whoever makes a group gets them as its rules."""
    return []


def create_template(
    call: Call, rule: DefaultSecurityGroupRule, given: frozenset[str]
) -> DefaultSecurityGroupRule:
    """Checks as for a rule; one meaning stands once for default groups, and once for all others."""
    rule = replace(rule, project_id="")
    if rule.remote_group_id not in (None, PARENT):
        call.get(SecurityGroup, rule.remote_group_id or "")
    _check(rule)
    for scope in _scopes(rule):
        holder = call.tx.claim_owner(scope, _meaning(rule))
        if holder is not None:
            raise Conflict(
                f"Default security group rule already exists. Rule id is {holder}.",
                type="DefaultSecurityGroupRuleExists",
            )
        call.tx.claim(scope, _meaning(rule), rule.id)
    return rule


def seed(tx: Tx) -> None:
    """The templates that a cloud begins with: groups let everything out, default groups their own in.

    Every operator may change them: this is called once.
    """
    for family in ("IPv4", "IPv6"):
        out = DefaultSecurityGroupRule(
            direction="egress",
            ethertype=family,
            used_in_default_sg=True,
            used_in_non_default_sg=True,
            description="Legacy default SG rule for egress traffic",
        )
        within = DefaultSecurityGroupRule(
            direction="ingress",
            ethertype=family,
            remote_group_id=PARENT,
            used_in_default_sg=True,
            used_in_non_default_sg=False,
            description="Legacy default SG rule for ingress traffic",
        )
        for template in (out, within):
            now = tx.now.strftime("%Y-%m-%dT%H:%M:%SZ")
            made = replace(template, id=str(uuid.uuid4()), created_at=now, updated_at=now)
            tx.insert(made)
            for scope in _scopes(made):
                tx.claim(scope, _meaning(made), made.id)


def _scopes(rule: DefaultSecurityGroupRule) -> list[str]:
    used = {"default": rule.used_in_default_sg, "others": rule.used_in_non_default_sg}
    return [f"{_TEMPLATES}:{name}" for name, use in used.items() if use]


# What a rule says.


def _claim(call: Call, rule: SecurityGroupRule) -> None:
    scope = f"security-group-rules:{rule.security_group_id}"
    holder = call.tx.claim_owner(scope, _meaning(rule))
    if holder is not None:
        raise Conflict(
            f"Security group rule already exists. Rule id is {holder}.", type="SecurityGroupRuleExists"
        )
    call.tx.claim(scope, _meaning(rule), rule.id)


def _meaning(rule: Traffic) -> str:
    meaning = (
        rule.direction, rule.ethertype, protocol_number(rule.protocol), rule.port_range_min,
        rule.port_range_max, rule.remote_group_id, rule.remote_address_group_id, _normal(rule),
    )  # fmt: skip
    return "/".join("" if part is None else str(part) for part in meaning)


def _normal(rule: Traffic) -> str | None:
    return None if rule.remote_ip_prefix is None else normal_prefix(rule.remote_ip_prefix)


def _check(rule: Traffic) -> None:
    _check_protocol(rule)
    _check_remote(rule)


def _check_remote(rule: Traffic) -> None:
    names = ("remote_ip_prefix", "remote_group_id", "remote_address_group_id")
    named = [name for name in names if getattr(rule, name) is not None]
    if len(named) > 1:
        raise BadRequest(
            "Only remote_ip_prefix or remote_group_id or remote_address_group_id may be provided.",
            type="SecurityGroupRemoteGroupAndRemoteIpPrefix",
            field=named[0],
        )
    if rule.remote_ip_prefix is None:
        return
    normal = normal_prefix(rule.remote_ip_prefix)
    if f"IPv{ipaddress.ip_network(normal).version}" != rule.ethertype:
        raise BadRequest(
            f"Conflicting value ethertype {rule.ethertype} for CIDR {rule.remote_ip_prefix}.",
            type="SecurityGroupRuleParameterConflict",
            field="remote_ip_prefix",
        )


def _check_protocol(rule: Traffic) -> None:
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
