"""Firewall groups, policies and rules: what they refer to, who may use them, and the default group.

What holds what is claimed, so that it is known at once: a policy claims its rules, a group its ports. What
changes is followed where groups stand (`firewall_sites`).
"""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from trunkline.api.context import Context
from trunkline.api.engine import Call, Engine
from trunkline.api.network import common, firewall_sites, routers
from trunkline.api.network.addressing import refuse_field
from trunkline.errors import BadField, BadRequest, Conflict, InUse
from trunkline.resources.identity import Project
from trunkline.resources.network import (
    ROUTER_INTERFACE,
    FirewallGroup,
    FirewallPolicy,
    FirewallRule,
    FirewallSite,
    Port,
    Router,
)
from trunkline.resources.network.checks import clean_uuid, protocol_number
from trunkline.resources.network.firewalls import MOST_RULES
from trunkline.resources.schema import convert
from trunkline.store import Reader

#: The names of what every project has.
DEFAULT, DEFAULT_INGRESS, DEFAULT_EGRESS = "default", "default ingress", "default egress"
_DEFAULTS, _PORTS = "default-firewall-group", "firewall-group-port"
_WITH_PORTS = {6, 17}


def holders_scope(rule_id: str) -> str:
    """The scope of the claims by which policies hold a rule."""
    return f"firewall-rule:{rule_id}"


def holders(reader: Reader, rule_id: str) -> list[str]:
    """The ids of the policies that a rule is in."""
    return list(reader.claimed(holders_scope(rule_id)))


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
    if holders(call.tx, rule.id):
        raise InUse(f"Firewall rule {rule.id} is being used.", type="FirewallRuleInUse")


def rule_view(reader: Reader, context: Context, rules: Sequence[FirewallRule]) -> list[Mapping[str, Any]]:
    """The policies that each is in."""
    return [
        {"tenant_id": rule.project_id, "firewall_policy_id": holders(reader, rule.id) or None}
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
    _refuse_name(policy.name, (DEFAULT_INGRESS, DEFAULT_EGRESS), "firewall policy")
    _hold_rules(call, policy, [])
    return policy


def update_policy(
    call: Call, old: FirewallPolicy, new: FirewallPolicy, given: frozenset[str]
) -> FirewallPolicy:
    """The groups that have it follow."""
    if _is_default_policy(call, old):
        raise _restricted("firewall policy", old.id)
    if new.name != old.name:
        _refuse_name(new.name, (DEFAULT_INGRESS, DEFAULT_EGRESS), "firewall policy")
    if old.shared and not new.shared:
        others = [group.id for group in _groups(call, old.id) if group.project_id != old.project_id]
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
    if _groups(call, policy.id):
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
            call.tx.claim(holders_scope(id), policy.id, policy.id)
    for id in held:
        if id not in policy.firewall_rules:
            call.tx.release(policy.id, holders_scope(id), policy.id)


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
    found = (call.tx.get(FirewallPolicy, id) for id in holders(call.tx, rule_id))
    return [policy for policy in found if policy is not None]


def _groups(call: Call, policy_id: str) -> list[FirewallGroup]:
    found = call.tx.find(FirewallGroup, ingress_firewall_policy_id=policy_id)
    found += call.tx.find(FirewallGroup, egress_firewall_policy_id=policy_id)
    return list({group.id: group for group in found}.values())


def _follow(call: Call, policy_id: str) -> None:
    for group in _groups(call, policy_id):
        firewall_sites.follow(call, group)


# Groups.


def create_group(call: Call, group: FirewallGroup, given: frozenset[str]) -> FirewallGroup:
    """Takes ports that no other group has."""
    common.owned(group)
    default_of(call, group.project_id)
    _refuse_name(group.name, (DEFAULT,), "firewall group")
    _hold_ports(call, group, [])
    return group


def created_group(call: Call, group: FirewallGroup) -> None:
    """An appliance comes wherever it stands."""
    firewall_sites.follow(call, group)


def update_group(call: Call, old: FirewallGroup, new: FirewallGroup, given: frozenset[str]) -> FirewallGroup:
    """... and follows every change."""
    if old.name == DEFAULT:
        own = {
            "name",
            "description",
            "admin_state_up",
            "ingress_firewall_policy_id",
            "egress_firewall_policy_id",
        }
        if given & ({"name"} if call.context.is_admin else own):
            raise _restricted("firewall group", old.id)
    elif new.name != old.name:
        _refuse_name(new.name, (DEFAULT,), "firewall group")
    _hold_ports(call, new, old.ports)
    if new != old:
        call.tx.replace(new)
        firewall_sites.follow(call, new)
        stored = call.tx.get(FirewallGroup, new.id)
        assert stored is not None
        new = replace(new, status=stored.status)
    return new


def delete_group(call: Call, group: FirewallGroup) -> None:
    """Refuses while it holds; the default group takes its policies and rules along."""
    if group.name == DEFAULT and not call.context.is_admin:
        raise Conflict(
            "Deleting the default firewall group is not allowed.", type="FirewallGroupCannotRemoveDefault"
        )
    if group.status == "ACTIVE":
        raise InUse(
            f"Firewall group {group.id} is still active. Take its ports away first.",
            type="FirewallGroupInUse",
        )
    firewall_sites.leave(call, group)
    if group.name == DEFAULT:
        for id in (group.ingress_firewall_policy_id, group.egress_firewall_policy_id):
            _drop_default_policy(call, group, id)


def _drop_default_policy(call: Call, group: FirewallGroup, id: str | None) -> None:
    policy = call.tx.get(FirewallPolicy, id or "")
    if policy is None or [other for other in _groups(call, policy.id) if other.id != group.id]:
        return
    call.drop(policy)
    for rule_id in policy.firewall_rules:
        rule = call.tx.get(FirewallRule, rule_id)
        if rule is not None and not holders(call.tx, rule_id):
            call.drop(rule)


def _hold_ports(call: Call, group: FirewallGroup, held: Sequence[str]) -> None:
    for id in group.ports:
        if id in held:
            continue
        port = call.get(Port, id)
        if port.device_owner != ROUTER_INTERFACE:
            raise Conflict(
                f"Firewall group port {id} is invalid: it is no interface of a router. Name one of those.",
                type="FirewallGroupPortInvalid",
                field="ports",
            )
        if port.project_id != group.project_id:
            raise Conflict(
                f"Operation cannot be performed as port {id} is in an invalid project: the group's is "
                f"{group.project_id}.",
                type="FirewallGroupPortInvalidProject",
                field="ports",
            )
        if not call.tx.claim(_PORTS, id, group.id):
            raise InUse(
                f"Port(s) {id} provided already associated with other firewall group(s).",
                type="FirewallGroupPortInUse",
                field="ports",
            )
    for id in held:
        if id not in group.ports:
            call.tx.release(group.id, _PORTS, id)


def leg_changed(call: Call, port_id: str) -> None:
    """An interface of a router is gone, or has other subnets: its group follows."""
    group = call.tx.get(FirewallGroup, call.tx.claim_owner(_PORTS, port_id) or "")
    if group is None:
        return
    if call.tx.get(Port, port_id) is None:
        call.tx.release(group.id, _PORTS, port_id)
        group = call.save(replace(group, ports=[id for id in group.ports if id != port_id]))
    firewall_sites.follow(call, group)


def update_router(call: Call, old: Router, new: Router, given: frozenset[str]) -> Router:
    """As every router; the groups that stand there follow its routes."""
    new = routers.update(call, old, new, given)
    if new.routes != old.routes:
        call.tx.replace(new)
        routes_changed(call, new.id)
    return new


def routes_changed(call: Call, router_id: str) -> None:
    """Others are behind the interfaces of a router: the groups that stand there follow."""
    for site in call.tx.find(FirewallSite, router_id=router_id):
        group = call.tx.get(FirewallGroup, site.firewall_group_id)
        if group is not None:
            firewall_sites.follow(call, group)


# What every project has.


def default_of(call: Call, project_id: str) -> str:
    """The id of a project's default group, made at first use: nothing comes in, everything goes out."""
    found = call.tx.claim_owner(_DEFAULTS, project_id)
    if found is not None:
        return found
    group_id = str(uuid.uuid4())
    call.tx.claim(_DEFAULTS, project_id, group_id)
    policies = {}
    for name, verb in ((DEFAULT_INGRESS, "deny"), (DEFAULT_EGRESS, "allow")):
        way = name.removeprefix("default ")
        policy_id, rules = str(uuid.uuid4()), []
        for version in (4, 6):
            rule = FirewallRule(
                id=str(uuid.uuid4()),
                project_id=project_id,
                name=f"{name} ipv{version}",
                description=f"default {way} rule for IPv{version}",
                ip_version=4 if version == 4 else 6,
                action=verb,
            )
            rules.append(call.add(rule).id)
            call.tx.claim(holders_scope(rule.id), policy_id, policy_id)
        policy = FirewallPolicy(
            id=policy_id,
            project_id=project_id,
            name=name,
            description=f"{way.capitalize()} firewall policy",
            firewall_rules=rules,
        )
        policies[way] = call.add(policy).id
    group = FirewallGroup(
        id=group_id,
        project_id=project_id,
        name=DEFAULT,
        description="Default firewall group",
        ingress_firewall_policy_id=policies["ingress"],
        egress_firewall_policy_id=policies["egress"],
    )
    return call.add(group).id


async def ensure_default(engine: Engine, context: Context, asked: Iterable[str] = ()) -> None:
    """Makes the default group of the caller's project if there is none yet.

    Args:
        asked: the projects whose groups an administrator asks for.
    """
    with engine.store.read() as reader:
        wanted = {context.project_id} - {""}
        if context.is_admin:
            wanted |= {project for project in asked if reader.get(Project, project) is not None}
        missing = [each for each in sorted(wanted) if reader.claim_owner(_DEFAULTS, each) is None]
    if missing:
        await engine.write(context, lambda call: [default_of(call, project) for project in missing])


def _is_default_policy(call: Call, policy: FirewallPolicy) -> bool:
    group = call.tx.get(FirewallGroup, call.tx.claim_owner(_DEFAULTS, policy.project_id) or "")
    return group is not None and policy.name in (DEFAULT_INGRESS, DEFAULT_EGRESS)


def _refuse_name(name: str, reserved: Sequence[str], what: str) -> None:
    if name in reserved:
        raise Conflict(
            f"Operation cannot be performed since '{name}' is a reserved name for {what}. Choose another.",
            type="FirewallDefaultParameterExists",
            field="name",
        )


def _restricted(what: str, id: str) -> Conflict:
    return Conflict(
        f"Operation cannot be performed on default object '{id}' of type {what}.",
        type="FirewallDefaultObjectUpdateRestricted",
    )
