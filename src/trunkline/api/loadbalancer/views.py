"""What is shown of a load balancer and of what it is made of, beside their fields: what refers to what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from trunkline.api.context import Context
from trunkline.api.loadbalancer.dialect import refused_outputs
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
from trunkline.store import Reader, table_of

P = TypeVar("P", bound=Part)
#: SQLite compares with so many values at once without much thought.
_AT_ONCE = 500

View = list[Mapping[str, Any]]


def _below(
    reader: Reader, cls: type[P], field: str, parts: Sequence[Part], key: Callable[[P], Any] | None = None
) -> Mapping[str, list[P]]:
    """The parts of a class, oldest first, by the id that a field of theirs holds."""
    found: dict[str, list[P]] = defaultdict(list)
    table = table_of(cls)
    ids = [part.id for part in parts]
    for start in range(0, len(ids), _AT_ONCE):
        some = table.c[field].in_(ids[start : start + _AT_ONCE])
        for each in reader.select(cls, some, order_by=[table.c.created_at, table.c.id]):
            found[getattr(each, field)].append(each)
    if key is not None:
        for several in found.values():
            several.sort(key=key)
    return found


def _ids(parts: Sequence[Part]) -> list[dict[str, str]]:
    return [{"id": part.id} for part in parts]


def loadbalancers(reader: Reader, context: Context, found: Sequence[LoadBalancer]) -> View:
    """Their listeners and pools."""
    listeners = _below(reader, Listener, "loadbalancer_id", found)
    pools = _below(reader, Pool, "loadbalancer_id", found)
    return [
        {
            **refused_outputs("loadbalancer"),
            "listeners": _ids(listeners.get(each.id, ())),
            "pools": _ids(pools.get(each.id, ())),
        }
        for each in found
    ]


def listeners(reader: Reader, context: Context, found: Sequence[Listener]) -> View:
    """Their load balancers and policies."""
    policies = _below(reader, L7Policy, "listener_id", found, lambda policy: policy.position)
    return [
        {
            **refused_outputs("listener"),
            "loadbalancers": [{"id": each.loadbalancer_id}],
            "l7policies": _ids(policies.get(each.id, ())),
        }
        for each in found
    ]


def pools(reader: Reader, context: Context, found: Sequence[Pool]) -> View:
    """Their load balancers, the listeners that use them, members and monitors."""
    members = _below(reader, Member, "pool_id", found)
    monitors = _below(reader, HealthMonitor, "pool_id", found)
    default = _below(reader, Listener, "default_pool_id", found)
    redirected = _below(reader, L7Policy, "redirect_pool_id", found)
    views: View = []
    for each in found:
        users = [listener.id for listener in default.get(each.id, ())]
        users += [policy.listener_id for policy in redirected.get(each.id, ())]
        monitor = monitors.get(each.id)
        views.append(
            {
                **refused_outputs("pool"),
                "loadbalancers": [{"id": each.loadbalancer_id}],
                "listeners": [{"id": id} for id in dict.fromkeys(users)],
                "members": _ids(members.get(each.id, ())),
                "healthmonitor_id": monitor[0].id if monitor else None,
            }
        )
    return views


def members(reader: Reader, context: Context, found: Sequence[Member]) -> View:
    """What a member has no say in."""
    return [refused_outputs("member") for _ in found]


def monitors(reader: Reader, context: Context, found: Sequence[HealthMonitor]) -> View:
    """Their pools."""
    return [{"pools": [{"id": each.pool_id}]} for each in found]


def policies(reader: Reader, context: Context, found: Sequence[L7Policy]) -> View:
    """Their rules."""
    rules = _below(reader, L7Rule, "l7policy_id", found)
    return [{"rules": _ids(rules.get(each.id, ()))} for each in found]
