"""Firewall groups: which interfaces of routers they have, and that they follow whatever changes there.

A group claims its ports. What changes is followed where it stands (`firewall_sites`).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.api.network import common, firewall_defaults, firewall_sites, routers
from trunkline.errors import Conflict, InUse
from trunkline.resources.network import (
    ROUTER_INTERFACE,
    FirewallGroup,
    FirewallPolicy,
    FirewallRule,
    FirewallSite,
    Port,
    Router,
)

_PORTS = "firewall-group-port"


def create_group(call: Call, group: FirewallGroup, given: frozenset[str]) -> FirewallGroup:
    """Takes ports that no other group has."""
    common.owned(group)
    firewall_defaults.default_of(call, group.project_id)
    firewall_defaults.refuse_name(group.name, (firewall_defaults.DEFAULT,), "firewall group")
    _hold_ports(call, group, [])
    return group


def created_group(call: Call, group: FirewallGroup) -> None:
    """An appliance comes wherever it stands."""
    firewall_sites.follow(call, group)


def update_group(call: Call, old: FirewallGroup, new: FirewallGroup, given: frozenset[str]) -> FirewallGroup:
    """... and follows every change."""
    if old.name == firewall_defaults.DEFAULT:
        own = {
            "name",
            "description",
            "admin_state_up",
            "ingress_firewall_policy_id",
            "egress_firewall_policy_id",
        }
        if given & ({"name"} if call.context.is_admin else own):
            raise firewall_defaults.restricted("firewall group", old.id)
    elif new.name != old.name:
        firewall_defaults.refuse_name(new.name, (firewall_defaults.DEFAULT,), "firewall group")
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
    if group.name == firewall_defaults.DEFAULT and not call.context.is_admin:
        raise Conflict(
            "Deleting the default firewall group is not allowed.", type="FirewallGroupCannotRemoveDefault"
        )
    if group.status == "ACTIVE":
        raise InUse(
            f"Firewall group {group.id} is still active. Take its ports away first.",
            type="FirewallGroupInUse",
        )
    firewall_sites.leave(call, group)
    if group.name == firewall_defaults.DEFAULT:
        for id in (group.ingress_firewall_policy_id, group.egress_firewall_policy_id):
            _drop_default_policy(call, group, id)


def _drop_default_policy(call: Call, group: FirewallGroup, id: str | None) -> None:
    policy = call.tx.get(FirewallPolicy, id or "")
    if policy is None or [other for other in of_policy(call, policy.id) if other.id != group.id]:
        return
    call.drop(policy)
    for rule_id in policy.firewall_rules:
        rule = call.tx.get(FirewallRule, rule_id)
        if rule is not None and not firewall_defaults.holders(call.tx, rule_id):
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


def of_policy(call: Call, policy_id: str) -> list[FirewallGroup]:
    """The groups that have a policy, one way or the other."""
    found = call.tx.find(FirewallGroup, ingress_firewall_policy_id=policy_id)
    found += call.tx.find(FirewallGroup, egress_firewall_policy_id=policy_id)
    return list({group.id: group for group in found}.values())
