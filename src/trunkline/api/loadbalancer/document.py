"""A load balancer of the Octavia API, as the policy of the appliance that does its work.

    Listener ── default pool ──▶ the listener of the policy, its pool inline
       └── L7 policies ── rules ──▶ routes, and the pools that they lead to, by name

Names in the policy are ids, so that what units report is told of the right object. What the kernel's own
translation does, it does; HAProxy has the rest. What is left at its default is left out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from typing import Any

from trunkline.api.loadbalancer.tree import Tree
from trunkline.errors import BadField
from trunkline.resources.loadbalancer import HealthMonitor, L7Policy, L7Rule, Listener, Member, Pool

#: What these are if nobody says otherwise, milliseconds (Octavia API, "Create Listener").
TIMEOUTS = {
    "timeout_client_data": 50_000,
    "timeout_member_connect": 5_000,
    "timeout_member_data": 50_000,
    "timeout_tcp_inspect": 0,
}
#: Where a redirecting L7 policy does not say with which code.
REDIRECT_CODE = 302
#: Octavia's words -> the policy's.
ALGORITHMS = {
    "ROUND_ROBIN": "round_robin",
    "LEAST_CONNECTIONS": "least_connections",
    "SOURCE_IP": "source",
    "SOURCE_IP_PORT": "source_port",
}
CHECKS = {
    "PING": "ping",
    "TCP": "tcp",
    "TLS-HELLO": "tls",
    "HTTP": "http",
    "HTTPS": "https",
    "UDP-CONNECT": "udp",
}
KINDS = {
    "HOST_NAME": "host",
    "PATH": "path",
    "FILE_TYPE": "file_type",
    "HEADER": "header",
    "COOKIE": "cookie",
}
COMPARISONS = {
    "EQUAL_TO": "equal",
    "STARTS_WITH": "starts",
    "ENDS_WITH": "ends",
    "CONTAINS": "contains",
    "REGEX": "regex",
}
#: The order in which L7 policies are asked: Octavia's HAProxy has it so, and positions order those of a rank.
_RANKS = {"REJECT": 0, "REDIRECT_TO_URL": 1, "REDIRECT_PREFIX": 1, "REDIRECT_TO_POOL": 2}
#: Versions of the PROXY protocol that members are greeted with, by the protocol of the pool.
_GREETINGS = {"PROXY": 1, "PROXYV2": 2}


def document(tree: Tree, own: Sequence[str], unreached: Collection[str] = ()) -> dict[str, Any]:
    """The policy.

    Args:
        own: addresses of the appliance that members see connections come from, one of each of its networks
            that members are on; the VIP is not among them.
        unreached: ids of members that the appliance does not reach yet: they are left out.

    Raises:
        BadField: something of it cannot be done.
    """
    if not tree.loadbalancer.admin_state_up:
        return {"balancer": {"listeners": []}}
    reached = tree.only(lambda member: member.id not in unreached)
    enabled = [listener for listener in tree.listeners if listener.admin_state_up]
    return {"balancer": {"listeners": [_listener(reached, listener, own) for listener in enabled]}}


def pools_of(tree: Tree, listener: Listener) -> list[Pool]:
    """The pools that a listener leads to, the default one first."""
    by_id = {pool.id: pool for pool in tree.pools}
    ids = [listener.default_pool_id, *(policy.redirect_pool_id for policy in active(tree, listener))]
    return [by_id[id] for id in dict.fromkeys(ids) if id is not None and id in by_id]


def active(tree: Tree, listener: Listener) -> list[L7Policy]:
    """The L7 policies of a listener that may fit a request, in the order in which they are asked."""
    able = [policy for policy in tree.policies(listener.id) if policy.admin_state_up and _rules(tree, policy)]
    return sorted(able, key=lambda policy: (_RANKS[policy.action], policy.position))


def proxied(tree: Tree, listener: Listener) -> bool:
    """Whether a listener of TCP or HTTPS needs HAProxy: the kernel's translation alone does not do it."""
    if listener.protocol not in ("TCP", "HTTPS"):
        return False
    if any(getattr(listener, name) != default for name, default in TIMEOUTS.items()):
        return True
    for pool in pools_of(tree, listener):
        members = tree.members(pool.id)
        if pool.protocol in _GREETINGS or pool.tls_enabled:
            return True
        if any(_version(each.address) != _version(tree.loadbalancer.vip_address) for each in members):
            return True
    return False


def _refuse_impossible(tree: Tree, listener: Listener) -> None:
    """Of datagrams nobody knows whether a member is slow, and they stay with the kernel."""
    if listener.protocol != "UDP":
        return
    for name, default in TIMEOUTS.items():
        if getattr(listener, name) != default:
            raise BadField(name, f"a listener of UDP has no such timeout. Leave it at {default}.")
    version = _version(tree.loadbalancer.vip_address)
    for pool in pools_of(tree, listener):
        for member in tree.members(pool.id):
            if _version(member.address) != version:
                raise BadField(
                    "address",
                    f"{member.address} is not of the family of the VIP, as members for UDP have to be. "
                    f"Use one of IPv{version}.",
                )


def _listener(tree: Tree, listener: Listener, own: Sequence[str]) -> dict[str, Any]:
    _refuse_impossible(tree, listener)
    pools = pools_of(tree, listener)
    versions = {_version(member.address) for pool in pools for member in tree.members(pool.id)}
    versions.add(_version(tree.loadbalancer.vip_address))
    through = proxied(tree, listener)
    found: dict[str, Any] = {
        "name": listener.id,
        "address": tree.loadbalancer.vip_address,
        "port": listener.protocol_port,
        "protocol": {"HTTP": "http", "UDP": "udp"}.get(listener.protocol, "tcp"),
    }
    if through:
        found["proxied"] = True
    if seen := [address for address in own if _version(address) in versions]:
        found["masquerade"] = seen
    if listener.connection_limit > 0:
        found["connections"] = listener.connection_limit
    if listener.allowed_cidrs:
        found["allowed"] = list(listener.allowed_cidrs)
    if through or listener.protocol == "HTTP":
        found["timeouts"] = {
            "client": listener.timeout_client_data / 1000,
            "member_connect": listener.timeout_member_connect / 1000,
            "member_data": listener.timeout_member_data / 1000,
            "inspect": listener.timeout_tcp_inspect / 1000,
        }
    if listener.protocol == "HTTP":
        wanted = [name for name, value in listener.insert_headers.items() if value == "true"]
        if wanted:
            found["insert_headers"] = dict.fromkeys(wanted, True)
    default = [pool for pool in pools if pool.id == listener.default_pool_id]
    for pool in default:
        found.update(_pool(tree, pool))
    routes = [_route(tree, policy) for policy in active(tree, listener)]
    if routes:
        named = {policy.redirect_pool_id for policy in active(tree, listener)}
        others = {pool.id: _pool(tree, pool) for pool in pools if pool.id in named}
        if others:
            found["pools"] = others
        found["routes"] = routes
    return found


def _pool(tree: Tree, pool: Pool) -> dict[str, Any]:
    """The keys of a pool, which are the same inline and by name."""
    persistence = pool.session_persistence
    kind = persistence.type if persistence else ""
    # By a hash of the address: every data plane finds the same member, and none has to remember it.
    algorithm = "source" if kind == "SOURCE_IP" else ALGORITHMS[pool.lb_algorithm]
    found: dict[str, Any] = {"algorithm": algorithm}
    able = [member for member in tree.members(pool.id) if member.admin_state_up and pool.admin_state_up]
    monitor = tree.monitor(pool.id)
    asked = monitor is not None and monitor.admin_state_up
    found["members"] = [_member(member, asked) for member in able]
    if monitor is not None and asked:
        found["health"] = _health(monitor)
    if kind == "HTTP_COOKIE":
        found["affinity"] = {"kind": "cookie"}
    elif persistence and kind == "APP_COOKIE":
        found["affinity"] = {"kind": "app_cookie", "cookie": persistence.cookie_name}
    if pool.protocol in _GREETINGS:
        found["send_proxy"] = _GREETINGS[pool.protocol]
    if pool.tls_enabled:
        found["tls_to_members"] = True
    return found


def _member(member: Member, asked: bool) -> dict[str, Any]:
    """Of one that nobody asks, it is no matter where he would be asked."""
    found: dict[str, Any] = {"address": member.address, "port": member.protocol_port}
    if member.weight != 1:
        found["weight"] = member.weight
    if member.backup:
        found["backup"] = True
    if asked and member.monitor_address:
        found["monitor_address"] = member.monitor_address
    if asked and member.monitor_port:
        found["monitor_port"] = member.monitor_port
    return found


def _health(monitor: HealthMonitor) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": CHECKS[monitor.type],
        "interval": monitor.delay,
        # The next question does not wait for the answer to this one.
        "timeout": min(monitor.timeout, monitor.delay),
        "rise": monitor.max_retries,
        "fall": monitor.max_retries_down,
    }
    if monitor.type in ("HTTP", "HTTPS"):
        found["method"] = monitor.http_method or "GET"
        found["path"] = monitor.url_path or "/"
        found["codes"] = monitor.expected_codes or "200"
        if monitor.http_version:
            found["version"] = f"{monitor.http_version:.1f}"
        if monitor.domain_name:
            found["host"] = monitor.domain_name
    return found


def _rules(tree: Tree, policy: L7Policy) -> list[L7Rule]:
    return [rule for rule in tree.rules(policy.id) if rule.admin_state_up]


def _route(tree: Tree, policy: L7Policy) -> dict[str, Any]:
    found: dict[str, Any] = {"name": policy.id, "when": [_condition(rule) for rule in _rules(tree, policy)]}
    if policy.action == "REJECT":
        found["reject"] = True
    elif policy.action == "REDIRECT_TO_POOL":
        found["to"] = policy.redirect_pool_id
    else:
        by_prefix = policy.action == "REDIRECT_PREFIX"
        found["prefix" if by_prefix else "redirect"] = (
            policy.redirect_prefix if by_prefix else policy.redirect_url
        )
        found["code"] = policy.redirect_http_code or REDIRECT_CODE
    return found


def _condition(rule: L7Rule) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": KINDS[rule.type],
        "compare": COMPARISONS[rule.compare_type],
        "value": rule.value,
    }
    if rule.key:
        found["key"] = rule.key
    if rule.invert:
        found["invert"] = True
    return found


def _version(address: str | None) -> int:
    return ipaddress.ip_address(address).version if address else 0
