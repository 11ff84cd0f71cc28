"""Pools and their health monitors: which algorithms, persistence and questions fit what members speak."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.api.loadbalancer import listeners, offered
from trunkline.errors import BadField, Conflict, InUse
from trunkline.resources.loadbalancer import HealthMonitor, L7Policy, Listener, Member, Pool

#: What a monitor of HTTP asks by default.
_HTTP: dict[str, Any] = {"http_method": "GET", "url_path": "/", "expected_codes": "200"}
_HTTP_ONLY = (*_HTTP, "http_version", "domain_name")
_HTTP_TYPES = frozenset({"HTTP", "HTTPS"})


def create(call: Call, pool: Pool, given: frozenset[str]) -> Pool:
    """Refuses what does not go together."""
    offered.refuse("protocol", pool.protocol, offered.POOL_PROTOCOLS)
    return _checked(pool)


def update(call: Call, old: Pool, new: Pool, given: frozenset[str]) -> Pool:
    """Looks at what a new one is looked at for."""
    return _checked(new)


def delete(call: Call, pool: Pool) -> None:
    """Members and monitor go with it; listeners have no default pool from then on.

    Raises:
        InUse: a policy sends requests to it.
    """
    policy = next(iter(call.tx.find(L7Policy, redirect_pool_id=pool.id)), None)
    if policy is not None:
        raise InUse(
            f"Pool {pool.id} is in use by L7 policy {policy.id}. Delete that first, or send it elsewhere.",
            type="PoolInUseByL7Policy",
        )
    for listener in call.tx.find(Listener, default_pool_id=pool.id):
        call.tx.replace(replace(listener, default_pool_id=None))
    for member in call.tx.find(Member, pool_id=pool.id):
        call.drop(member)
    for monitor in call.tx.find(HealthMonitor, pool_id=pool.id):
        call.drop(monitor)


def attach(call: Call, pool: Pool, listener: Listener) -> None:
    """Makes a new pool the default one of a listener.

    Raises:
        Conflict: it has one. BadField: the pool does not fit.
    """
    if listener.default_pool_id:
        raise Conflict(
            f"Listener {listener.id} already has a default pool: {listener.default_pool_id}. Name its load "
            "balancer instead, and choose by default_pool_id or by policies.",
            type="ListenerDefaultPool",
            field="listener_id",
        )
    listeners.check_fit(listener, pool, "protocol")
    call.update(listener, {"default_pool_id": pool.id})


def _checked(pool: Pool) -> Pool:
    offered.refuse("lb_algorithm", pool.lb_algorithm, offered.ALGORITHMS)
    if pool.tls_enabled:
        raise BadField("tls_enabled", "members are not asked by TLS. Leave it out.")
    kept = pool.session_persistence
    if kept is None:
        return pool
    offered.refuse("session_persistence.type", kept.type, offered.PERSISTENCE)
    if kept.type != "SOURCE_IP" and pool.protocol not in ("HTTP", "PROXY", "PROXYV2"):
        raise BadField("session_persistence.type", f"{pool.protocol} has no cookies. Use SOURCE_IP.")
    for name in ("persistence_timeout", "persistence_granularity"):
        if getattr(kept, name) is not None:
            raise BadField(
                f"session_persistence.{name}", "clients stay for as long as members do. Leave it out."
            )
    return pool


def create_monitor(call: Call, monitor: HealthMonitor, given: frozenset[str]) -> HealthMonitor:
    """Refuses a second one of a pool."""
    other = next(iter(call.tx.find(HealthMonitor, pool_id=monitor.pool_id)), None)
    if other is not None:
        raise Conflict(
            f"This pool already has a health monitor, {other.id}. Change that one, or delete it.",
            type="DuplicateHealthMonitor",
            field="pool_id",
        )
    offered.refuse("type", monitor.type, offered.MONITORS)
    pool = call.tx.get(Pool, monitor.pool_id)
    assert pool is not None, "its load balancer was found by it"
    if (monitor.type == "UDP-CONNECT") != (pool.protocol == "UDP"):
        fits = "UDP-CONNECT" if pool.protocol == "UDP" else "another one"
        raise BadField("type", f"{monitor.type} does not fit a pool of {pool.protocol}. Use {fits}.")
    if monitor.type in _HTTP_TYPES:
        unset = {name: value for name, value in _HTTP.items() if getattr(monitor, name) is None}
        monitor = replace(monitor, **unset)
    return _checked_monitor(monitor)


def update_monitor(
    call: Call, old: HealthMonitor, new: HealthMonitor, given: frozenset[str]
) -> HealthMonitor:
    """Looks at what a new one is looked at for; what is taken back is as by default."""
    if new.type in _HTTP_TYPES:
        new = replace(new, **{name: v for name, v in _HTTP.items() if getattr(new, name) is None})
    return _checked_monitor(new)


def _checked_monitor(monitor: HealthMonitor) -> HealthMonitor:
    if monitor.type not in _HTTP_TYPES:
        for name in _HTTP_ONLY:
            if getattr(monitor, name) is not None:
                raise BadField(name, f"monitors of {monitor.type} ask nothing of HTTP. Leave it out.")
    if monitor.http_version not in (None, 1.0, 1.1):
        raise BadField("http_version", "it is 1.0 or 1.1.")
    if monitor.domain_name is not None and monitor.http_version != 1.1:
        raise BadField("domain_name", "HTTP 1.0 has no host in a request. Set http_version to 1.1.")
    return monitor
