"""The firewall group that every project has, with its policies and rules; and what policies hold.

Who asks for groups, or makes one, has it made: nothing comes in, everything goes out.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from trunkline.api.engine import Call
from trunkline.api.network.defaults import Default
from trunkline.errors import Conflict
from trunkline.resources.network import FirewallGroup, FirewallPolicy, FirewallRule
from trunkline.store import Reader

#: The names of what every project has.
DEFAULT, DEFAULT_INGRESS, DEFAULT_EGRESS = "default", "default ingress", "default egress"


def holders_scope(rule_id: str) -> str:
    """The scope of the claims by which policies hold a rule."""
    return f"firewall-rule:{rule_id}"


def holders(reader: Reader, rule_id: str) -> list[str]:
    """The ids of the policies that a rule is in."""
    return list(reader.claimed(holders_scope(rule_id)))


def _make_default(call: Call, project_id: str, id: str) -> None:
    """With it nothing comes in, and everything goes out."""
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
        id=id,
        project_id=project_id,
        name=DEFAULT,
        description="Default firewall group",
        ingress_firewall_policy_id=policies["ingress"],
        egress_firewall_policy_id=policies["egress"],
    )
    call.add(group)


_EVERY_PROJECTS = Default("default-firewall-group", _make_default)
default_of, ensure_default = _EVERY_PROJECTS.of, _EVERY_PROJECTS.ensure


def is_default_policy(call: Call, policy: FirewallPolicy) -> bool:
    """Whether it is one of the default group's."""
    group = call.tx.get(FirewallGroup, _EVERY_PROJECTS.there(call.tx, policy.project_id) or "")
    return group is not None and policy.name in (DEFAULT_INGRESS, DEFAULT_EGRESS)


def refuse_name(name: str, reserved: Sequence[str], what: str) -> None:
    """Raises Conflict: the name is one of those."""
    if name in reserved:
        raise Conflict(
            f"Operation cannot be performed since '{name}' is a reserved name for {what}. Choose another.",
            type="FirewallDefaultParameterExists",
            field="name",
        )


def restricted(what: str, id: str) -> Conflict:
    """For who would change what every project has."""
    return Conflict(
        f"Operation cannot be performed on default object '{id}' of type {what}.",
        type="FirewallDefaultObjectUpdateRestricted",
    )
