"""A load balancer with everything that it is made of, as one snapshot has it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from trunkline.resources.loadbalancer import (
    HealthMonitor,
    L7Policy,
    L7Rule,
    Listener,
    LoadBalancer,
    Member,
    Part,
    Pool,
)
from trunkline.store import Reader


@dataclass(frozen=True, kw_only=True)
class Tree:
    """All of a load balancer. What is of one listener or pool is looked up by its id."""

    loadbalancer: LoadBalancer
    #: Oldest first.
    listeners: Sequence[Listener]
    pools: Sequence[Pool]
    _members: Mapping[str, Sequence[Member]]
    _monitors: Mapping[str, HealthMonitor]
    _policies: Mapping[str, Sequence[L7Policy]]
    _rules: Mapping[str, Sequence[L7Rule]]

    def members(self, pool_id: str) -> Sequence[Member]:
        """The members of a pool."""
        return self._members.get(pool_id, ())

    def monitor(self, pool_id: str) -> HealthMonitor | None:
        """The health monitor of a pool."""
        return self._monitors.get(pool_id)

    def policies(self, listener_id: str) -> Sequence[L7Policy]:
        """The policies of a listener, in the order in which they are asked."""
        return self._policies.get(listener_id, ())

    def rules(self, policy_id: str) -> Sequence[L7Rule]:
        """The rules of a policy, all of which must hold."""
        return self._rules.get(policy_id, ())

    def listeners_of(self, pool_id: str) -> Sequence[Listener]:
        """The listeners that a pool works for: as their default, or by one of their policies."""
        return [
            each
            for each in self.listeners
            if each.default_pool_id == pool_id
            or any(policy.redirect_pool_id == pool_id for policy in self.policies(each.id))
        ]

    def only(self, wanted: Callable[[Member], bool]) -> Tree:
        """The same with these members alone."""
        kept = {pool: [member for member in some if wanted(member)] for pool, some in self._members.items()}
        return replace(self, _members=kept)

    def parts(self) -> Iterator[Part]:
        """Everything but the load balancer."""
        for listener in self.listeners:
            yield listener
            for policy in self.policies(listener.id):
                yield policy
                yield from self.rules(policy.id)
        for pool in self.pools:
            yield pool
            yield from self.members(pool.id)
            if (monitor := self.monitor(pool.id)) is not None:
                yield monitor


def load(reader: Reader, loadbalancer_id: str) -> Tree | None:
    """The whole of a load balancer, None where there is none (any more)."""
    found = reader.get(LoadBalancer, loadbalancer_id)
    if found is None:
        return None
    members: dict[str, list[Member]] = defaultdict(list)
    for member in sorted(reader.find(Member, loadbalancer_id=loadbalancer_id), key=_age):
        members[member.pool_id].append(member)
    policies: dict[str, list[L7Policy]] = defaultdict(list)
    for policy in sorted(reader.find(L7Policy, loadbalancer_id=loadbalancer_id), key=lambda p: p.position):
        policies[policy.listener_id].append(policy)
    rules: dict[str, list[L7Rule]] = defaultdict(list)
    for rule in sorted(reader.find(L7Rule, loadbalancer_id=loadbalancer_id), key=_age):
        rules[rule.l7policy_id].append(rule)
    return Tree(
        loadbalancer=found,
        listeners=sorted(reader.find(Listener, loadbalancer_id=loadbalancer_id), key=_age),
        pools=sorted(reader.find(Pool, loadbalancer_id=loadbalancer_id), key=_age),
        _members=members,
        _monitors={m.pool_id: m for m in reader.find(HealthMonitor, loadbalancer_id=loadbalancer_id)},
        _policies=policies,
        _rules=rules,
    )


def _age(part: Part) -> tuple[str, str]:
    return part.created_at, part.id
