"""Firewall rules and policies: what they refer to, and who may use them.

A policy claims its rules, so that it is known at once which it has. What changes is followed where groups
stand (`firewall_sites`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from trunkline.api.context import Context
from trunkline.api.engine import Call
from trunkline.api.network import common, firewall_defaults, firewall_groups, firewall_sites
from trunkline.api.network.addressing import refuse_field
from trunkline.api.network.firewall_defaults import DEFAULT_EGRESS, DEFAULT_INGRESS
from trunkline.errors import BadField, BadRequest, Conflict, InUse
from trunkline.resources.network import FirewallPolicy, FirewallRule
from trunkline.resources.network.checks import clean_uuid, protocol_number
from trunkline.resources.network.firewalls import MOST_RULES
from trunkline.resources.schema import convert
from trunkline.store import Reader

_WITH_PORTS = {6, 17}


# Rules.


def create_rule(call: Call, rule: FirewallRule, given: frozenset[str]) -> FirewallRule:
    """Checks what a rule says."""
    common.owned(rule)
    return _checked(rule)


def update_rule(call: Call, old: FirewallRule, new: FirewallRule, given: frozenset[str]) -> FirewallRule:
    """The policies that it is in follow."""
    new, policies = _checked(new), _policies(call, old.id)
    if old.shared and not new.shared:
        for policy in policies:
            if policy.project_id != new.project_id or policy.shared:
                raise InUse(
                    f"Firewall rule {old.id} is being used.", type="FirewallRuleInUse", field="shared"
                )
    if new != old:
        call.tx.replace(new)  # What follows is told by what is stored.
        for policy in policies:
            _changed(call, policy)
    return new


def delete_rule(call: Call, rule: FirewallRule) -> None:
    """Refuses while it is in a policy."""
    if firewall_defaults.holders(call.tx, rule.id):
        raise InUse(f"Firewall rule {rule.id} is being used.", type="FirewallRuleInUse")


def rule_view(reader: Reader, context: Context, rules: Sequence[FirewallRule]) -> list[Mapping[str, Any]]:
    """The policies that each is in."""
    return [
        {
            "tenant_id": rule.project_id,
            "firewall_policy_id": firewall_defaults.holders(reader, rule.id) or None,
        }
        for rule in rules
    ]


def _checked(rule: FirewallRule) -> FirewallRule:
    number = protocol_number(rule.protocol)
    for field in ("source_port", "destination_port"):
        if getattr(rule, field) is not None and number not in _WITH_PORTS:
            if number is None:
                raise BadRequest(
                    f"Invalid input for {field}: Source/destination port requires a protocol: tcp or udp.",
                    type="FirewallRuleWithPortWithoutProtocolInvalid",
                    field=field,
                )
            raise BadRequest(
                f"Invalid input for {field}: ports are not allowed when protocol is {rule.protocol}.",
                type="FirewallRuleInvalidICMPParameter",
                field=field,
            )
    for field in ("source_ip_address", "destination_ip_address"):
        text = getattr(rule, field)
        if text is not None and ipaddress.ip_network(text).version != rule.ip_version:
            raise BadRequest(
                f"Invalid input for {field}: {text} is not of IPv{rule.ip_version}, as ip_version says.",
                type="FirewallIpAddressConflict",
                field=field,
            )
    return rule


# Policies.


def create_policy(call: Call, policy: FirewallPolicy, given: frozenset[str]) -> FirewallPolicy:
    """Takes rules that the caller sees."""
    common.owned(policy)
    firewall_defaults.refuse_name(policy.name, (DEFAULT_INGRESS, DEFAULT_EGRESS), "firewall policy")
    _hold_rules(call, policy, [])
    return policy


def update_policy(
    call: Call, old: FirewallPolicy, new: FirewallPolicy, given: frozenset[str]
) -> FirewallPolicy:
    """The groups that have it follow."""
    if firewall_defaults.is_default_policy(call, old):
        raise firewall_defaults.restricted("firewall policy", old.id)
    if new.name != old.name:
        firewall_defaults.refuse_name(new.name, (DEFAULT_INGRESS, DEFAULT_EGRESS), "firewall policy")
    if old.shared and not new.shared:
        others = [
            group.id
            for group in firewall_groups.of_policy(call, old.id)
            if group.project_id != old.project_id
        ]
        if others:
            raise InUse(
                f"Firewall policy {old.id} is being used.", type="FirewallPolicyInUse", field="shared"
            )
    _hold_rules(call, new, old.firewall_rules)
    if "audited" not in given and (new.firewall_rules, new.shared) != (old.firewall_rules, old.shared):
        new = replace(new, audited=False)
    if new.firewall_rules != old.firewall_rules:
        call.tx.replace(new)
        _follow(call, new.id)
    return new


def delete_policy(call: Call, policy: FirewallPolicy) -> None:
    """Refuses while a group has it."""
    if firewall_groups.of_policy(call, policy.id):
        raise InUse(f"Firewall policy {policy.id} is being used.", type="FirewallPolicyInUse")


def _hold_rules(call: Call, policy: FirewallPolicy, held: Sequence[str]) -> None:
    for id in policy.firewall_rules:
        rule = call.get(FirewallRule, id)
        if policy.shared and not rule.shared:
            raise Conflict(
                f"Operation cannot be performed since firewall policy {policy.id} is shared but firewall "
                f"rule {id} is not shared. Share the rule first.",
                type="FirewallRuleSharingConflict",
                field="firewall_rules",
            )
        if id not in held:
            call.tx.claim(firewall_defaults.holders_scope(id), policy.id, policy.id)
    for id in held:
        if id not in policy.firewall_rules:
            call.tx.release(policy.id, firewall_defaults.holders_scope(id), policy.id)


class Inserted(msgspec.Struct, forbid_unknown_fields=True):
    """The body that puts a rule into a policy: before one, else after one, else first."""

    firewall_rule_id: str
    insert_before: str | None = None
    insert_after: str | None = None


class Removed(msgspec.Struct, forbid_unknown_fields=True):
    """The body that takes a rule out of a policy."""

    firewall_rule_id: str


def insert_rule(call: Call, id: str, body: Any) -> FirewallPolicy:
    """Puts a rule into a policy.

    Raises:
        Conflict: it is there already. BadRequest: the rule that is named for the place is not.
    """
    given: Inserted = convert(body, Inserted, what="firewall rule")
    policy = _own_policy(call, id, "insert_rule")
    rule = call.get(FirewallRule, _id("firewall_rule_id", given.firewall_rule_id))
    rules = list(policy.firewall_rules)
    if rule.id in rules:
        raise Conflict(
            f"Firewall rule {rule.id} is already associated with firewall policy {id}.",
            type="FirewallRuleAlreadyAssociated",
            field="firewall_rule_id",
        )
    if len(rules) >= MOST_RULES:
        raise refuse_field("firewall_rule_id", f"the policy has {MOST_RULES} rules, the most. Remove one.")
    place = 0
    if given.insert_before:
        place = _place(policy, "insert_before", given.insert_before)
    elif given.insert_after:
        place = _place(policy, "insert_after", given.insert_after) + 1
    rules.insert(place, rule.id)
    return call.update(policy, {"firewall_rules": rules})


def remove_rule(call: Call, id: str, body: Any) -> FirewallPolicy:
    """Takes a rule out of a policy.

    Raises:
        BadRequest: it is not in it.
    """
    given: Removed = convert(body, Removed, what="firewall rule")
    policy = _own_policy(call, id, "remove_rule")
    rules = list(policy.firewall_rules)
    del rules[_place(policy, "firewall_rule_id", given.firewall_rule_id)]
    return call.update(policy, {"firewall_rules": rules})


def _own_policy(call: Call, id: str, verb: str) -> FirewallPolicy:
    policy = call.get(FirewallPolicy, id)
    call.require(verb, call.engine.target(call.tx, policy))
    return policy


def _place(policy: FirewallPolicy, field: str, value: str) -> int:
    id = _id(field, value)
    if id not in policy.firewall_rules:
        raise BadRequest(
            f"Invalid input for {field}: firewall rule {id} is not associated with firewall policy "
            f"{policy.id}.",
            type="FirewallRuleNotAssociatedWithPolicy",
            field=field,
        )
    return policy.firewall_rules.index(id)


def _id(field: str, value: str) -> str:
    try:
        return clean_uuid(value)
    except ValueError as error:
        raise BadField(field, str(error), type="InvalidInput") from None


def _changed(call: Call, policy: FirewallPolicy) -> None:
    """A rule of a policy is another: nobody has looked at it so."""
    if policy.audited:
        call.save(replace(policy, audited=False))
    _follow(call, policy.id)


def _policies(call: Call, rule_id: str) -> list[FirewallPolicy]:
    found = (call.tx.get(FirewallPolicy, id) for id in firewall_defaults.holders(call.tx, rule_id))
    return [policy for policy in found if policy is not None]


def _follow(call: Call, policy_id: str) -> None:
    for group in firewall_groups.of_policy(call, policy_id):
        firewall_sites.follow(call, group)
