"""Quotas, providers, and what flavors and availability zones can say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trunkline.api.engine import Engine
from trunkline.api.http import Reply, Request
from trunkline.api.loadbalancer import flavors, quotas, zones
from trunkline.api.loadbalancer.offered import PROVIDERS
from trunkline.errors import BadField, NotFound

_QUOTA = "os_load-balancer_api:quota"


class Limits:
    """The handlers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def index(self, request: Request) -> Reply:
        """List the limits that were set"""
        own = request.context.project_id
        self.engine.require(f"{_QUOTA}:get_all", request.context, {"project_id": own})
        found = await self.engine.read(quotas.everything)
        seen = [each for each in found if request.context.is_admin or each["project_id"] == own]
        return Reply({"quotas": seen, "quotas_links": []})

    async def defaults(self, request: Request) -> Reply:
        """Show the limits of a project for which none were set"""
        own = {"project_id": request.context.project_id}
        self.engine.require(f"{_QUOTA}:get_defaults", request.context, own)
        return Reply({"quota": quotas.shown(quotas.defaults())})

    async def show(self, request: Request) -> Reply:
        """Show how many load balancers and parts of them a project may have"""
        project = request.path["project"]
        self.engine.require(f"{_QUOTA}:get_one", request.context, {"project_id": project})
        found = await self.engine.read(lambda reader: quotas.limits(reader, project))
        return Reply({"quota": quotas.shown(found)})

    async def change(self, request: Request) -> Reply:
        """Set how many a project may have"""
        project = request.path["project"]
        self.engine.require(f"{_QUOTA}:put", request.context, {"project_id": project})
        body = await request.envelope("quota")
        found = await self.engine.write(request.context, lambda call: quotas.change(call.tx, project, body))
        return Reply({"quota": quotas.shown(found)}, 202)

    async def reset(self, request: Request) -> Reply:
        """Give a project the default limits again"""
        project = request.path["project"]
        self.engine.require(f"{_QUOTA}:delete", request.context, {"project_id": project})
        await self.engine.write(request.context, lambda call: quotas.reset(call.tx, project))
        return Reply(status=204)

    async def providers(self, request: Request) -> Reply:
        """List who does the work"""
        own = {"project_id": request.context.project_id}
        self.engine.require("os_load-balancer_api:provider:get_all", request.context, own)
        found = [{"name": name, "description": text} for name, text in PROVIDERS.items()]
        return Reply({"providers": _asked(request, found)})

    async def capabilities(self, request: Request) -> Reply:
        """List what flavors of a provider can say"""
        return self._capabilities(request, "flavor", flavors.CAPABILITIES)

    async def zone_capabilities(self, request: Request) -> Reply:
        """List what availability zones of a provider can say"""
        return self._capabilities(request, "availability_zone", zones.CAPABILITIES)

    def _capabilities(self, request: Request, what: str, texts: Mapping[str, str]) -> Reply:
        rule = f"os_load-balancer_api:provider-{what.replace('_', '-')}:get_all"
        self.engine.require(rule, request.context, {})
        name = request.path["provider"]
        if name not in PROVIDERS:
            raise NotFound(f"Provider {name} not found.", type="ProviderNotFound")
        found = [{"name": name, "description": text} for name, text in texts.items()]
        return Reply({f"{what}_capabilities": _asked(request, found)})


def _asked(request: Request, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the items that the query asks for, and those of their fields."""
    fields: set[str] = set()
    for name, value in request.query:
        if name == "fields":
            fields.update(value.split(","))
        elif name in ("name", "description"):
            items = [item for item in items if item[name] == value]
        else:
            raise BadField(name[:80], "it is not a filter here. There are: name, description, fields.")
    return [{k: v for k, v in item.items() if not fields or k in fields} for item in items]
