"""Security groups to rule sets, and address groups."""

from __future__ import annotations

from collections import defaultdict

from trunkline.compiler import logical
from trunkline.compiler.logical import Family, Rule, RuleSet
from trunkline.compiler.snapshot import Snapshot
from trunkline.resources.network import AddressGroup, SecurityGroup, SecurityGroupRule
from trunkline.resources.network.checks import ICMP, ICMPV6, protocol_number

_ICMP = frozenset({ICMP, ICMPV6})


def rule_sets(snapshot: Snapshot) -> dict[str, RuleSet]:
    """One rule set for each security group, its rules in the order of their ids."""
    by_group: dict[str, list[Rule]] = defaultdict(list)
    for key, rule in sorted(snapshot.all(SecurityGroupRule).items()):
        by_group[rule.security_group_id].append(_rule(key, rule))
    return {
        key: RuleSet(key=key, name=group.name, stateful=group.stateful, rules=tuple(by_group[key]))
        for key, group in snapshot.all(SecurityGroup).items()
    }


def address_groups(snapshot: Snapshot) -> dict[str, logical.AddressGroup]:
    """One record for each address group."""
    return {key: address_group(key, group) for key, group in snapshot.all(AddressGroup).items()}


def address_group(key: str, group: AddressGroup) -> logical.AddressGroup:
    """The prefixes of a group, for whoever refers to it."""
    return logical.AddressGroup(key=key, name=group.name, prefixes=tuple(group.addresses))


def _rule(key: str, rule: SecurityGroupRule) -> Rule:
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
        key=key,
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
