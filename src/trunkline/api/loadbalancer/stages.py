"""The wiring page of the Load Balancer API: what each kind does beside the common stages.

LoadBalancer ── VIP                Pool ─────────── algorithm, persistence, listeners that may have it
Listener ────── port, pool         Member ───────── address
L7Policy ────── place, target      HealthMonitor ── what fits its type
L7Rule ──────── key                Flavor, AvailabilityZone, their profiles ── those in use stay

Whoever knows the id of something is told by the rules whether he may see it: 403, as Octavia has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, true

from trunkline.api.context import Context
from trunkline.api.engine import Stages
from trunkline.api.loadbalancer import flavors, l7, listeners, loadbalancers, members, pools, views, zones
from trunkline.api.loadbalancer.profiles import Profiles
from trunkline.api.network.filters import standard
from trunkline.api.query import Filter
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
from trunkline.store import table_of

_VERBS = {"create": "post", "get": "get_one", "update": "put", "delete": "delete"}


def rule_name(kind: str, verb: str) -> str:
    """The name of an access rule, as operators of Octavia know it."""
    return f"os_load-balancer_api:{kind}:{verb}"


def _rules(kind: str) -> Mapping[str, str]:
    return {verb: rule_name(kind, name) for verb, name in _VERBS.items()}


def _filters(cls: type[Part], *fields: str) -> Mapping[str, Filter]:
    """Tags, and what something is of, under the names that clients give it."""
    table = table_of(cls)

    def by(column: str) -> Filter:
        def clause(values: Any) -> ColumnElement[bool]:
            found: ColumnElement[bool] = table.c[column].in_(list(values))
            return found

        return clause

    found = {"loadbalancer_id": "loadbalancer_id", "load_balancer_id": "loadbalancer_id"} if fields else {}
    return {
        **standard(cls),
        **{name: by(column) for name, column in found.items()},
        **{f: by(f) for f in fields},
    }


def _everybodys(context: Context) -> list[ColumnElement[bool]]:
    return [true()]


def _stages(kind: str, cls: type[Part], *fields: str, **more: Any) -> Stages[Any]:
    return Stages(
        rules=_rules(kind),
        sees=lambda reader, context, obj: True,
        filters=_filters(cls, *fields),
        not_found="{Kind} {id} not found.",
        # Its clients send what was typed.
        lax=True,
        **more,
    )


def _of_operators(kind: str, name: str, **more: Any) -> Stages[Any]:
    """Of what operators say and no project owns: the rules alone tell who sees it."""
    return Stages(rules=_rules(kind), visible=_everybodys, not_found=f"{name} {{id}} not found.", **more)


def _profiles(kind: str, name: str, of: Profiles[Any]) -> Stages[Any]:
    return _of_operators(kind, name, create=of.create, update=of.update, delete=of.delete)


STAGES: Mapping[str, Stages[Any]] = {
    "loadbalancer": _stages(
        "loadbalancer",
        LoadBalancer,
        create=loadbalancers.create,
        view=views.loadbalancers,
    ),
    "listener": _stages(
        "listener",
        Listener,
        "loadbalancer_id",
        create=listeners.create,
        update=listeners.update,
        delete=listeners.delete,
        view=views.listeners,
    ),
    "pool": _stages(
        "pool",
        Pool,
        "loadbalancer_id",
        create=pools.create,
        update=pools.update,
        delete=pools.delete,
        view=views.pools,
    ),
    "member": _stages(
        "member", Member, "pool_id", create=members.create, update=members.update, view=views.members
    ),
    "healthmonitor": _stages(
        "healthmonitor",
        HealthMonitor,
        "pool_id",
        create=pools.create_monitor,
        update=pools.update_monitor,
        view=views.monitors,
    ),
    "l7policy": _stages(
        "l7policy",
        L7Policy,
        "listener_id",
        create=l7.create,
        update=l7.update,
        delete=l7.delete,
        view=views.policies,
    ),
    "l7rule": _stages("l7rule", L7Rule, "l7policy_id", create=l7.create_rule, update=l7.update_rule),
    "loadbalancer_availability_zone": _of_operators(
        "availability-zone", "Availability Zone", create=zones.create, delete=zones.delete
    ),
    "loadbalancer_availability_zone_profile": _profiles(
        "availability-zone-profile", "Availability Zone Profile", zones.PROFILES
    ),
    "loadbalancer_flavor": _of_operators(
        "flavor", "Flavor", create=flavors.create, update=flavors.update, delete=flavors.delete
    ),
    "loadbalancer_flavorprofile": _profiles("flavor-profile", "Flavor profile", flavors.PROFILES),
}
