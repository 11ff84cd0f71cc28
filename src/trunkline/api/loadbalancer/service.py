"""The Load Balancer API v2: its paths and what each does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from trunkline.api import openapi
from trunkline.api.appliance import Figures
from trunkline.api.engine import Engine
from trunkline.api.http import Endpoint, Reply, Request, Service
from trunkline.api.loadbalancer import dialect, operators, schemas
from trunkline.api.loadbalancer.collection import Collection
from trunkline.api.loadbalancer.states import States
from trunkline.resources.loadbalancer import (
    AvailabilityZone,
    AvailabilityZoneProfile,
    Flavor,
    FlavorProfile,
    HealthMonitor,
    L7Policy,
    L7Rule,
    Listener,
    LoadBalancer,
    Member,
    Pool,
)
from trunkline.resources.schema import Resource, spec_of

BASE = "/v2/lbaas"
#: Where each kind is, and whether it has a parent in its path.
_PLACES: Mapping[type[Resource], str] = {
    LoadBalancer: f"{BASE}/loadbalancers",
    Listener: f"{BASE}/listeners",
    Pool: f"{BASE}/pools",
    Member: f"{BASE}/pools/{{pool}}/members",
    HealthMonitor: f"{BASE}/healthmonitors",
    L7Policy: f"{BASE}/l7policies",
    L7Rule: f"{BASE}/l7policies/{{policy}}/rules",
    Flavor: f"{BASE}/flavors",
    FlavorProfile: f"{BASE}/flavorprofiles",
    AvailabilityZone: f"{BASE}/availabilityzones",
    AvailabilityZoneProfile: f"{BASE}/availabilityzoneprofiles",
}
#: The versions that clients may take this for: each says what came with it, and the newest has all.
_NEWEST = 14
_LISTED = ("limit", "marker", "page_reverse", "sort", "sort_key", "sort_dir", "fields")


async def versions(request: Request) -> Reply:
    """Say which versions are served."""
    link = {"rel": "self", "href": f"{request.base_url}/v2"}
    found = [
        {
            "id": f"v2.{minor}",
            "status": "CURRENT" if minor == _NEWEST else "SUPPORTED",
            "updated": "2019-09-11T00:00:00Z",
            "links": [link],
        }
        for minor in range(_NEWEST + 1)
    ]
    return Reply({"versions": found})


def at(
    method: str, path: str, handler: Callable[[Request], Awaitable[Reply]], success: int = 200, **more: Any
) -> Endpoint:
    """An endpoint whose summary is its handler's."""
    summary = (handler.__doc__ or "").strip().splitlines()[0]
    return Endpoint(method, path, handler, summary=summary, success=success, **more)


def _collection(engine: Engine, cls: type[Resource], path: str) -> list[Endpoint]:
    api, kind = Collection(engine, cls), spec_of(cls).kind
    one = f"{path}/{{id}}"
    more: dict[str, Any] = {"kind": kind, "envelope": dialect.envelope(cls)}
    return [
        at("GET", path, api.index, parameters=_LISTED, **more),
        at("POST", path, api.create, 201, request=schemas.create(cls), **more),
        at("GET", one, api.show, parameters=("fields",), **more),
        at(
            "PUT",
            one,
            api.update,
            request=openapi.input_schema(kind, "update", dialect.envelope(cls)),
            **more,
        ),
        at("DELETE", one, api.delete, 204, parameters=("cascade",) if cls is LoadBalancer else (), **more),
    ]


def service(engine: Engine, figures: Figures | None = None) -> Service:
    """The Load Balancer API."""
    endpoints = [at("GET", "/", versions, token=False)]
    for cls, path in _PLACES.items():
        endpoints += _collection(engine, cls, path)
    members = Collection(engine, Member)
    states, limits = States(engine, figures or Figures()), operators.Limits(engine)
    balancer, listener = (f"{_PLACES[cls]}/{{id}}" for cls in (LoadBalancer, Listener))
    quota, provider = f"{BASE}/quotas", f"{BASE}/providers"
    endpoints += [
        at(
            "PUT",
            _PLACES[Member],
            members.replace_all,
            202,
            request=schemas.MEMBERS,
            parameters=("additive_only",),
            kind="member",
        ),
        at("GET", f"{balancer}/status", states.tree, kind="loadbalancer"),
        at("GET", f"{balancer}/statuses", states.tree, kind="loadbalancer"),
        at("GET", f"{balancer}/stats", states.stats, kind="loadbalancer"),
        at("PUT", f"{balancer}/failover", states.failover, 202, kind="loadbalancer"),
        at("GET", f"{listener}/stats", states.listener_stats, kind="listener"),
        at("GET", quota, limits.index),
        at("GET", f"{quota}/defaults", limits.defaults),
        at("GET", f"{quota}/{{project}}", limits.show),
        at("GET", f"{quota}/{{project}}/default", limits.defaults),
        at("PUT", f"{quota}/{{project}}", limits.change, 202, request=schemas.QUOTA),
        at("DELETE", f"{quota}/{{project}}", limits.reset, 204),
        at("GET", provider, limits.providers),
        at("GET", f"{provider}/{{provider}}/flavor_capabilities", limits.capabilities),
        at("GET", f"{provider}/{{provider}}/availability_zone_capabilities", limits.zone_capabilities),
    ]
    return Service(
        name="load-balancer",
        prefix="/load-balancer",
        endpoints=endpoints,
        error=dialect.error,
        older={"/v2.0/": "/v2/"},
    )
