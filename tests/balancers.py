"""Load balancers with what they are made of, as tests write them: no store, no API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from trunkline.api.loadbalancer.tree import Tree
from trunkline.resources.loadbalancer import (
    HealthMonitor,
    L7Policy,
    L7Rule,
    Listener,
    LoadBalancer,
    Member,
    Pool,
)

VIP = "10.1.0.5"
BALANCER = LoadBalancer(id="lb", project_id="p", vip_address=VIP)


def listener(id: str = "l", protocol: str = "TCP", port: int = 80, **more: Any) -> Listener:
    return Listener(id=id, loadbalancer_id="lb", protocol=protocol, protocol_port=port, **more)  # type: ignore[arg-type]


def pool(id: str = "p", protocol: str = "TCP", **more: Any) -> Pool:
    return Pool(id=id, loadbalancer_id="lb", protocol=protocol, **more)  # type: ignore[arg-type]


def member(id: str, pool_id: str = "p", last: int = 11, **more: Any) -> Member:
    fields = {"address": f"10.1.0.{last}", "protocol_port": 8080, **more}
    return Member(id=id, pool_id=pool_id, loadbalancer_id="lb", **fields)


def monitor(pool_id: str = "p", **more: Any) -> HealthMonitor:
    return HealthMonitor(id=f"hm-{pool_id}", pool_id=pool_id, loadbalancer_id="lb", **more)


def policy(id: str, action: str, listener_id: str = "l", **more: Any) -> L7Policy:
    return L7Policy(id=id, listener_id=listener_id, loadbalancer_id="lb", action=action, **more)  # type: ignore[arg-type]


def rule(id: str, policy_id: str, **more: Any) -> L7Rule:
    return L7Rule(id=id, l7policy_id=policy_id, loadbalancer_id="lb", **more)


def tree(*parts: Any, **balancer: Any) -> Tree:
    """The parts in any order; policies are asked by their positions."""

    def of(cls: type[Any]) -> list[Any]:
        return [part for part in parts if isinstance(part, cls)]

    def by(cls: type[Any], field: str) -> dict[str, Sequence[Any]]:
        found: dict[str, list[Any]] = {}
        for part in of(cls):
            found.setdefault(getattr(part, field), []).append(part)
        return {**found}

    policies = {
        id: sorted(some, key=lambda p: p.position) for id, some in by(L7Policy, "listener_id").items()
    }
    return Tree(
        loadbalancer=replace(BALANCER, **balancer),
        listeners=of(Listener),
        pools=of(Pool),
        _members=by(Member, "pool_id"),
        _monitors={each.pool_id: each for each in of(HealthMonitor)},
        _policies=policies,
        _rules=by(L7Rule, "l7policy_id"),
    )
