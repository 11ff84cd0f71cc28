"""Quotas of networks: the endpoints."""

from __future__ import annotations

from typing import Any

from trunkline.api.engine import Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.api.network import quotas
from trunkline.api.network.collection import Handle


class Quotas:
    """The limits of projects, as clients ask for them and set them."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def all_quotas(self, request: Request) -> Reply:
        """List the limits that were set"""
        self.engine.require("get_quota", request.context, {})
        return Reply({"quotas": await self.engine.read(quotas.everything)})

    async def show_quota(self, request: Request) -> Reply:
        """Show the limits of a project"""
        project = request.path["project"]
        if project in ("tenant", "project"):
            return Reply({project: {f"{project}_id": request.context.project_id}})
        self._may_see(request, project)
        return Reply({"quota": await self.engine.read(lambda reader: quotas.of(reader, project))})

    async def default_quota(self, request: Request) -> Reply:
        """Show the limits of a project for which none were set"""
        self._may_see(request, request.path["project"])
        return Reply({"quota": quotas.defaults()})

    async def quota_details(self, request: Request) -> Reply:
        """Show limits and use of a project"""
        project = request.path["project"]
        self._may_see(request, project)
        return Reply({"quota": await self.engine.read(lambda reader: quotas.details(reader, project))})

    async def change_quota(self, request: Request) -> Reply:
        """Set limits of a project"""
        project = request.path["project"]
        body = await request.envelope("quota")
        self.engine.require("update_quota", request.context, {"project_id": project})
        changed = await self.engine.write(request.context, lambda call: quotas.change(call.tx, project, body))
        return Reply({"quota": changed})

    async def reset_quota(self, request: Request) -> Reply:
        """Give a project the default limits again"""
        project = request.path["project"]
        self.engine.require("delete_quota", request.context, {"project_id": project})
        await self.engine.write(request.context, lambda call: quotas.reset(call.tx, project))
        return Reply(status=204)

    def _may_see(self, request: Request, project: str) -> None:
        if project != request.context.project_id:
            self.engine.require("get_quota", request.context, {"project_id": project})

    def endpoints(self) -> list[Endpoint]:
        """All of them."""

        def at(method: str, path: str, handler: Handle, **more: Any) -> Endpoint:
            return Endpoint(method, path, handler, summary=(handler.__doc__ or "").strip(), **more)

        quota = "/v2.0/quotas/{project}"
        return [
            at("GET", "/v2.0/quotas", self.all_quotas),
            at("GET", quota, self.show_quota),
            at("PUT", quota, self.change_quota, request=quotas.SCHEMA),
            at("DELETE", quota, self.reset_quota, success=204),
            at("GET", f"{quota}/default", self.default_quota),
            at("GET", f"{quota}/details", self.quota_details),
        ]
