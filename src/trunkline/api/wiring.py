"""The wiring page: which services there are, and what each kind of resource does beside the common stages.

identity      ──┐
network       ──┤ STAGES, by kind ─▶ Engine ─▶ each service's endpoints ─▶ one ASGI application
compute       ──┤                      ▲
image         ──┤                      │
appliance     ──┤                      │
load-balancer ──┘               Rules (access), Sessions (who asks)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from trunkline import __version__
from trunkline.api import appliance, compute, identity, image, loadbalancer, network, openapi
from trunkline.api.compute.actions import Console
from trunkline.api.compute.dialect import no_console
from trunkline.api.engine import Engine, Stages
from trunkline.api.http import Endpoint, Reply, Request, Service
from trunkline.api.image.behaviour import Files
from trunkline.api.policy import Rules
from trunkline.resources.schema import Spec
from trunkline.store import Reader, Store

_LIMITS = {"appliance": appliance.quota_limit, "loadbalancer": loadbalancer.quota_limit}


def catalog() -> Mapping[str, str]:
    """Type of a service to its path, as the catalog has them."""
    return {**identity.SERVICES, "appliance": "/appliance/v1", "load-balancer": "/load-balancer"}


def limit(reader: Reader, project_id: str, spec: Spec) -> int:
    """The quota of a project for a kind, -1 for none."""
    found = _LIMITS.get(spec.service, network.quota_limit)
    return found(reader, project_id, spec)


def stages(settings: network.Settings) -> Mapping[str, Stages[Any]]:
    """By kind, what it does beside the common stages."""
    networks = network.stages(settings)
    return {
        **identity.STAGES,
        **networks,
        # Appliances have addresses on the subnets of their networks, whichever came first.
        "subnet": appliance.subnets_followed(networks["subnet"]),
        **compute.STAGES,
        **image.STAGES,
        **appliance.STAGES,
        **loadbalancer.STAGES,
    }


@dataclass(frozen=True)
class Api:
    """All of it, put together."""

    engine: Engine
    identity: identity.Identity
    services: Sequence[Service]
    imports: image.Imports


def build(
    store: Store,
    images: Files,
    *,
    keys: Path,
    rules: Path | None = None,
    options: identity.IdentityOptions | None = None,
    console: Console = no_console,
    settings: network.Settings | None = None,
    web: image.Web | None = None,
    figures: appliance.Figures | None = None,
) -> Api:
    """Puts the services together.

    Args:
        images: where image files are kept.
        keys: the folder of the token keys.
        rules: the operator's access rules, which go before the defaults.
        options: costs and limits of log-ins.
        console: reads the console of a server.
        settings: facts of the region's networks.
        web: fetches images from elsewhere; without it they can only be uploaded.
        figures: what hosts tell of units of appliances all the time.
    """
    engine = Engine(
        store,
        Rules.load(override=rules),
        stages(settings or network.Settings()),
        limit=limit,
    )
    who = identity.Identity(engine, keys, options)
    imports = image.Imports(engine, images, web)
    services = [
        who.service,
        network.service(engine),
        compute.service(engine, console),
        image.service(engine, images, imports),
        appliance.service(engine, figures),
        loadbalancer.service(engine, figures),
    ]
    return Api(engine, who, [with_document(s) for s in services], imports)


def with_document(service: Service) -> Service:
    """The service, with its OpenAPI document at ``/openapi.json``."""
    content = cache(partial(openapi.document, service, __version__))

    async def document(request: Request) -> Reply:
        return Reply(await asyncio.to_thread(content))

    endpoint = Endpoint("GET", "/openapi.json", document, token=False, summary="This document")
    return replace(service, endpoints=[*service.endpoints, endpoint])
