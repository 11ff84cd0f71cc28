"""Quality of service policies: who has one, who may use it, and what keeps it from going.

Whatever has a policy (a network, a port, a floating IP, a router by its gateway) claims it: so it is known
at once whether a policy is used, and by what.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from msgspec.structs import asdict
from sqlalchemy import ColumnElement, select

from trunkline.api.context import Context
from trunkline.api.engine import Call
from trunkline.api.network import common, promises, sharing
from trunkline.errors import Conflict, Forbidden, InUse, NotFound
from trunkline.resources.network import (
    QOS_RULES,
    FloatingIP,
    Network,
    Port,
    QosBandwidthLimitRule,
    QosLeastRule,
    QosMinimumBandwidthRule,
    QosMinimumPacketRateRule,
    QosPacketRateLimitRule,
    QosPolicy,
    QosPortRule,
    QosRule,
    Router,
)
from trunkline.store import Reader, table_of


class User(Protocol):
    """What can have a policy."""

    id: str


#: One's own policies, and those that are shared with one.
visible = sharing.visible(QosPolicy)


def rule_visible(cls: type[QosRule], context: Context) -> list[ColumnElement[bool]]:
    """The rules of the policies that one sees."""
    if context.is_admin:
        return []
    seen = select(table_of(QosPolicy).c.id).where(*visible(context))
    return [table_of(cls).c.qos_policy_id.in_(seen)]


# Policies.


def create(call: Call, policy: QosPolicy, given: frozenset[str]) -> QosPolicy:
    """A project has one default policy at most."""
    common.owned(policy)
    return _checked(call, policy)


def update(call: Call, old: QosPolicy, new: QosPolicy, given: frozenset[str]) -> QosPolicy:
    """... still."""
    return _checked(call, new)


def delete(call: Call, policy: QosPolicy) -> None:
    """Takes the rules along; refuses while anything has the policy."""
    users = _users(call.tx, policy.id)
    if users:
        raise InUse(
            f"QoS Policy {policy.id} is used by {users[0]}. Take it away there first.",
            type="QosPolicyInUse",
        )
    for cls in QOS_RULES.values():
        for rule in call.tx.find(cls, qos_policy_id=policy.id):
            call.drop(rule)


def view(reader: Reader, context: Context, objects: Sequence[QosPolicy]) -> list[Mapping[str, Any]]:
    """The rules of each."""
    rules: dict[str, list[dict[str, Any]]] = defaultdict(list)
    ids = [policy.id for policy in objects]
    for name, cls in QOS_RULES.items():
        column = table_of(cls).c.qos_policy_id
        for start in range(0, len(ids), 500):
            for rule in reader.select(cls, column.in_(ids[start : start + 500])):
                rules[rule.qos_policy_id].append({**asdict(rule), "type": name})
    return [{"tenant_id": policy.project_id, "rules": rules[policy.id]} for policy in objects]


def _checked(call: Call, policy: QosPolicy) -> QosPolicy:
    default = default_of(call, policy.project_id) if policy.is_default else None
    if default not in (None, policy.id):
        raise Conflict(
            f"A default QoS policy exists for project {policy.project_id}: {default}.",
            type="QoSPolicyDefaultAlreadyExists",
            field="is_default",
        )
    return policy


# Rules. The policy changes with its rules.


def create_rule(call: Call, rule: QosRule, given: frozenset[str]) -> QosRule:
    """Of a policy that the caller sees."""
    call.save(call.get(QosPolicy, rule.qos_policy_id))
    _check_beside(call, rule)
    if isinstance(rule, QosPortRule):
        for user in _users(call.tx, rule.qos_policy_id):
            _refuse_at(call.tx.get(FloatingIP, user) or call.tx.get(Router, user), rule)
    if isinstance(rule, QosLeastRule):
        _grant(call, rule, None, rule)
    return rule


def update_rule(call: Call, old: QosRule, new: QosRule, given: frozenset[str]) -> QosRule:
    """... as it does when one changes."""
    if new != old:
        _touch(call, new)
        _check_beside(call, new)
        if isinstance(new, QosLeastRule):
            _grant(call, new, old, new)
    return new


def delete_rule(call: Call, rule: QosRule) -> None:
    """... and when one goes."""
    _touch(call, rule)


def _check_beside(call: Call, rule: QosRule) -> None:
    """That a rule does not contradict another one of its policy.

    Raises:
        Conflict: QoSRuleParameterConflict.
    """
    if isinstance(rule, QosBandwidthLimitRule | QosMinimumBandwidthRule):
        policy, direction = rule.qos_policy_id, rule.direction
        most = call.tx.first(QosBandwidthLimitRule, qos_policy_id=policy, direction=direction)
        least = call.tx.first(QosMinimumBandwidthRule, qos_policy_id=policy, direction=direction)
        if isinstance(rule, QosBandwidthLimitRule):
            most = rule
        else:
            least = rule
        if most is not None and least is not None and least.min_kbps > most.max_kbps:
            raise Conflict(
                f"Policy {policy} would promise {least.min_kbps} kbit/s of {direction} bandwidth and let "
                f"{most.max_kbps} pass. Promise no more than its limit.",
                type="QoSRuleParameterConflict",
                field="min_kbps" if least is rule else "max_kbps",
            )
    elif isinstance(rule, QosPacketRateLimitRule):
        for other in call.tx.find(QosMinimumPacketRateRule, qos_policy_id=rule.qos_policy_id):
            _check_packets(other, rule, "max_kpps")
    elif isinstance(rule, QosMinimumPacketRateRule):
        for limit in call.tx.find(QosPacketRateLimitRule, qos_policy_id=rule.qos_policy_id):
            _check_packets(rule, limit, "min_kpps")
        others = call.tx.find(QosMinimumPacketRateRule, qos_policy_id=rule.qos_policy_id)
        there = sorted(other.direction for other in others if other.id != rule.id)
        if there and "any" in (rule.direction, *there):
            raise Conflict(
                f"Policy {rule.qos_policy_id} has a packet rate of direction {' and '.join(there)}: any goes "
                "with no other direction.",
                type="QoSRuleParameterConflict",
                field="direction",
            )


def _check_packets(least: QosMinimumPacketRateRule, most: QosPacketRateLimitRule, field: str) -> None:
    """That a policy does not promise more packets in a direction than it lets pass."""
    if least.direction == most.direction and least.min_kpps > most.max_kpps:
        raise Conflict(
            f"Policy {most.qos_policy_id} would promise {least.min_kpps} kpackets/s of {most.direction} "
            f"and let {most.max_kpps} pass. Promise no more than its limit.",
            type="QoSRuleParameterConflict",
            field=field,
        )


def _grant(call: Call, rule: QosLeastRule, old: QosRule | None, new: QosLeastRule) -> None:
    """That the hosts of the policy's ports can keep it with a rule that is new or another."""
    before = promises.rules_of(call.tx, rule.qos_policy_id)
    after = [*(each for each in before if old is None or each.id != old.id), new]
    promises.grant_rules(call, rule.qos_policy_id, before, after)


def _refuse_at(user: User | None, rule: QosRule) -> None:
    """A floating IP or a router has no device of its own on a host, and none that keeps a promise to it."""
    if isinstance(user, FloatingIP | Router):
        what = "floating IP" if isinstance(user, FloatingIP) else "router"
        raise Conflict(
            f"Least rates and limits of packets are not supported by {what} {user.id}: only ports have a "
            "host that keeps them. "
            f"Give it a policy without rule {rule.id}.",
            type="QosRuleNotSupported",
            field="qos_policy_id",
        )


def rule_target(reader: Reader, rule: QosRule) -> Mapping[str, Any]:
    """Of the policy that a rule is in: who owns it."""
    policy = reader.get(QosPolicy, rule.qos_policy_id)
    return {} if policy is None else {"project_id": policy.project_id, "tenant_id": policy.project_id}


def _touch(call: Call, rule: QosRule) -> None:
    policy = call.tx.get(QosPolicy, rule.qos_policy_id)
    if policy is not None:
        call.save(policy)


# Who has a policy.


def default_of(call: Call, project_id: str) -> str | None:
    """The id of a project's default policy."""
    found = call.tx.first(QosPolicy, project_id=project_id, is_default=True)
    return None if found is None else found.id


def hold(call: Call, user: User, old: str | None, new: str | None) -> None:
    """Gives `user` the policy `new`, which the caller was found to see, in place of `old`.

    Raises:
        Forbidden: the caller does not see `old`, so somebody else put it there.
    """
    if old == new:
        return
    if old is not None:
        try:
            call.get(QosPolicy, old)
        except NotFound:
            raise Forbidden(
                f"Unable to take QoS policy {old} from {user.id}: it was put there by an administrator.",
                type="PolicyRemoveAuthorizationError",
                field="qos_policy_id",
            ) from None
        call.tx.release(user.id, users_scope(old))
    if new is not None:
        of_ports = (cls for cls in QOS_RULES.values() if issubclass(cls, QosPortRule))
        for rule in (rule for cls in of_ports for rule in call.tx.find(cls, qos_policy_id=new)):
            _refuse_at(user, rule)
        call.tx.claim(users_scope(new), user.id, user.id)


def of_networks(reader: Reader, objects: Iterable[Port | FloatingIP]) -> list[str | None]:
    """For each port or floating IP, the policy of its network."""
    ids = [each.network_id if isinstance(each, Port) else each.floating_network_id for each in objects]
    if len(distinct := set(ids)) <= sharing.FEW:
        networks = [found for id in distinct if (found := reader.get(Network, id)) is not None]
    else:
        networks = reader.select(Network, table_of(Network).c.qos_policy_id.is_not(None))
    policies = {network.id: network.qos_policy_id for network in networks}
    return [policies.get(id) for id in ids]


def with_network_policy(reader: Reader, context: Context, objects: Sequence[Port]) -> list[Mapping[str, Any]]:
    """What is shown of ports beside their fields."""
    return [
        {**shown, "qos_network_policy_id": policy}
        for shown, policy in zip(
            common.tenants(reader, context, objects), of_networks(reader, objects), strict=True
        )
    ]


def users_scope(policy_id: str) -> str:
    """The scope of the claims by which a policy is held, each by the id of what has it."""
    return f"qos-policy:{policy_id}"


def _users(reader: Reader, policy_id: str) -> list[str]:
    """The ids of what has the policy."""
    return reader.claimed(users_scope(policy_id))
