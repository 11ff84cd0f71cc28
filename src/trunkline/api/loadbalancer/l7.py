"""Policies of layer 7 and their rules: what becomes of which requests."""

from __future__ import annotations

import re
from typing import Any

from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.api.loadbalancer import listeners, offered
from trunkline.errors import BadField
from trunkline.resources.loadbalancer import L7Policy, L7Rule, Listener

#: Where requests go, by action: the field that says it.
TARGETS = {
    "REDIRECT_TO_POOL": "redirect_pool_id",
    "REDIRECT_TO_URL": "redirect_url",
    "REDIRECT_PREFIX": "redirect_prefix",
}
#: Actions whose answer sends the client elsewhere.
_ELSEWHERE = frozenset({"REDIRECT_TO_URL", "REDIRECT_PREFIX"})
_TYPES = ("COOKIE", "FILE_TYPE", "HEADER", "HOST_NAME", "PATH")
#: Types of rules that have a key.
_KEYED = frozenset({"COOKIE", "HEADER"})


def create(call: Call, policy: L7Policy, given: frozenset[str]) -> L7Policy:
    """Puts it at its place; those behind move on."""
    listener = call.tx.get(Listener, policy.listener_id)
    assert listener is not None, "its load balancer was found by it"
    if listener.protocol != "HTTP":
        raise BadField(
            "listener_id", f"a listener of {listener.protocol} has no policies. Only HTTP ones have."
        )
    policy = _checked(call, listener, policy, given)
    return replace(policy, position=_place(call, policy))


def update(call: Call, old: L7Policy, new: L7Policy, given: frozenset[str]) -> L7Policy:
    """Where another action is asked for, the target of the old one is gone."""
    listener = call.tx.get(Listener, new.listener_id)
    assert listener is not None, "policies go with their listeners"
    for field in TARGETS.values():
        if field in given and getattr(new, field) is not None and TARGETS.get(new.action) != field:
            if "action" in given:
                continue
            action = next(action for action, target in TARGETS.items() if target == field)
            new = replace(new, action=action)
    new = replace(new, **{f: None for a, f in TARGETS.items() if a != new.action and f not in given})
    if new.action not in _ELSEWHERE and "redirect_http_code" not in given:
        new = replace(new, redirect_http_code=None)
    new = _checked(call, listener, new, given)
    return replace(new, position=_place(call, new)) if new.position != old.position else new


def delete(call: Call, policy: L7Policy) -> None:
    """Its rules go with it; those behind move up."""
    for rule in call.tx.find(L7Rule, l7policy_id=policy.id):
        call.drop(rule)
    _number(call, _others(call, policy))


def create_rule(call: Call, rule: L7Rule, given: frozenset[str]) -> L7Rule:
    """Refuses what does not go together."""
    return _checked_rule(rule)


def update_rule(call: Call, old: L7Rule, new: L7Rule, given: frozenset[str]) -> L7Rule:
    """Looks at what a new one is looked at for."""
    return _checked_rule(new)


def _checked(call: Call, listener: Listener, policy: L7Policy, given: frozenset[str]) -> L7Policy:
    for action, field in TARGETS.items():
        value = getattr(policy, field)
        if action == policy.action and value is None:
            raise BadField(field, f"it is required with {action}.")
        if action != policy.action and value is not None:
            raise BadField(
                field, f"it is of {action}, and the action is {policy.action}. Remove one of them."
            )
    if policy.redirect_pool_id is not None:
        listeners.pool_for(call, listener, policy.redirect_pool_id, "redirect_pool_id")
    if policy.action in _ELSEWHERE:
        return replace(policy, redirect_http_code=policy.redirect_http_code or 302)
    if policy.redirect_http_code is not None:
        raise BadField("redirect_http_code", f"{policy.action} sends no client elsewhere. Remove it.")
    return policy


def _others(call: Call, policy: L7Policy) -> list[L7Policy]:
    """The listener's other policies, in their order."""
    found = [p for p in call.tx.find(L7Policy, listener_id=policy.listener_id) if p.id != policy.id]
    return sorted(found, key=lambda p: p.position)


def _place(call: Call, policy: L7Policy) -> int:
    """The place that a policy gets among the others, which make room."""
    others = _others(call, policy)
    place = min(policy.position, len(others) + 1)
    _number(call, others[: place - 1])
    _number(call, others[place - 1 :], place + 1)
    return place


def _number(call: Call, policies: list[L7Policy], first: int = 1) -> None:
    for position, policy in enumerate(policies, first):
        if policy.position != position:
            call.tx.replace(replace(policy, position=position))


def _checked_rule(rule: L7Rule) -> L7Rule:
    offered.refuse("type", rule.type, _TYPES)
    if rule.type in _KEYED and not rule.key:
        raise BadField("key", f"it is required with {rule.type}: the name of the {rule.type.lower()}.")
    if rule.type not in _KEYED and rule.key:
        raise BadField("type", f"{rule.type} has no key. Leave out the key, or ask for a HEADER or a COOKIE.")
    if rule.type == "FILE_TYPE" and rule.compare_type not in ("EQUAL_TO", "REGEX"):
        raise BadField("compare_type", "file types are compared by EQUAL_TO or REGEX.")
    if rule.compare_type == "REGEX":
        _check_regex(rule.value)
    return rule


def _check_regex(value: Any) -> None:
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        raise BadField("value", f"it is no regular expression: {error}.") from None
