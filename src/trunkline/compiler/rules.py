"""Security groups to rule sets, and address groups."""

from __future__ import annotations

from collections.abc import Iterator

from trunkline.compiler import logical
from trunkline.compiler.derive import View
from trunkline.compiler.logical import Family, Rule, RuleSet
from trunkline.resources.network import AddressGroup, SecurityGroup, SecurityGroupRule
from trunkline.resources.network.checks import ICMP, ICMPV6, protocol_number

_ICMP = frozenset({ICMP, ICMPV6})


def rule_set(view: View, key: str) -> Iterator[RuleSet]:
    """The rule set of a security group, its rules in the order of their ids."""
    group = view.need(SecurityGroup, key)
    rules = view.where(SecurityGroupRule, "security_group_id", key)
    yield RuleSet(
        key=key, name=group.name, stateful=group.stateful, rules=tuple(_rule(rule) for rule in rules)
    )


def address_group(view: View, key: str) -> Iterator[logical.AddressGroup]:
    """The prefixes of a group, for whoever refers to it."""
    group = view.need(AddressGroup, key)
    yield logical.AddressGroup(key=key, name=group.name, prefixes=tuple(group.addresses))


def _rule(rule: SecurityGroupRule) -> Rule:
    family: Family = 6 if rule.ethertype == "IPv6" else 4
    number = protocol_number(rule.protocol)
    if family == 6 and number == ICMP:
        number = ICMPV6
    low, high = rule.port_range_min, rule.port_range_max
    ports = icmp_type = icmp_code = None
    if number in _ICMP:
        icmp_type, icmp_code = low, high
    elif low is not None and high is not None:
        ports = (low, high)
    return Rule(
        key=rule.id,
        direction=rule.direction,
        family=family,
        protocol=number,
        ports=ports,
        icmp_type=icmp_type,
        icmp_code=icmp_code,
        remote_prefix=rule.remote_ip_prefix,
        remote_set=rule.remote_group_id,
        remote_addresses=rule.remote_address_group_id,
    )
