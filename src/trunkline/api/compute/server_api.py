"""The handlers of servers: list, show, create, update, delete, and their addresses."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec.structs import replace

from trunkline.api import query as queries
from trunkline.api.compute import changes, server_filters, servers, views
from trunkline.api.compute.flavors import next_link
from trunkline.api.compute.requests import UpdateBody, understand_create, understand_update
from trunkline.api.compute.wire import at, body_of
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import NotFound
from trunkline.resources.compute import Server
from trunkline.resources.schema import spec_of
from trunkline.store import Reader

_RULE = "os_compute_api:servers:"
T = TypeVar("T")


class ServerApi:
    """The handlers of /v2.1/servers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def list(self, request: Request, minor: int) -> Reply:
        """A page of servers, their names only."""
        return await self._list(request, minor, detail=False)

    async def detail(self, request: Request, minor: int) -> Reply:
        """A page of servers."""
        return await self._list(request, minor, detail=True)

    async def _list(self, request: Request, minor: int, *, detail: bool) -> Reply:
        context = request.context
        target = {"project_id": context.project_id}
        self.engine.require(f"{_RULE}{'detail' if detail else 'index'}", context, target)
        rights = server_filters.Rights(
            filters=self.engine.rules.allows(f"{_RULE}allow_all_filters", context, target),
            projects=self.engine.rules.allows(
                f"{_RULE}{'detail' if detail else 'index'}:get_all_tenants", context, target
            ),
        )
        query = server_filters.parse(context, rights, request.query, minor)

        def run(reader: Reader) -> tuple[list[dict[str, Any]], str | None]:
            visible = self.engine.visible(context, Server)
            found, more = queries.fetch(reader, spec_of(Server), query, *visible)
            page = [server for server in found if isinstance(server, Server)]
            marker = page[-1].id if more and page else None
            if not detail:
                return [views.brief(request, server) for server in page], marker
            around = views.surroundings(self.engine, reader, context, page)
            return [views.full(request, s, around, minor, groups=False) for s in page], marker

        items, marker = await self.engine.read(run)
        body: dict[str, Any] = {"servers": items}
        if marker:
            rest = [(n, v) for n, v in request.query if n != "marker"]
            body["servers_links"] = [
                next_link(request, "servers/detail" if detail else "servers", rest, marker)
            ]
        return Reply(body)

    async def show(self, request: Request, minor: int) -> Reply:
        """One server."""

        def run(reader: Reader) -> dict[str, Any]:
            server = self.find(reader, request, f"{_RULE}show")
            return views.full(request, server, self._around(reader, request, server), minor)

        return Reply({"server": await self.engine.read(run)})

    async def create(self, request: Request, minor: int) -> Reply:
        """Creates one server or several."""
        wanted = understand_create(await request.json(), minor)
        if not wanted.password:
            wanted = dataclasses.replace(wanted, password=secrets.token_urlsafe(9))
        made = await self.engine.write(request.context, lambda call: servers.create(call, wanted))
        if wanted.reservation:
            return Reply({"reservation_id": made[0].reservation_id}, 202)
        body = views.created(request, made[0], wanted.groups or ("default",), wanted.password)
        return Reply({"server": body}, 202, {"location": body["links"][0]["href"]})

    async def update(self, request: Request, minor: int) -> Reply:
        """Changes what a server is called, and the like."""
        values = understand_update(await body_of(request, "server", UpdateBody), minor)

        def run(call: Call) -> dict[str, Any]:
            server = self.find(call.tx, request, f"{_RULE}update")
            changes.unlocked(call, server)
            if values and any(getattr(server, name) != value for name, value in values.items()):
                server = changes.save(call, replace(server, **values))
            return shown(call, request, server, minor)

        return Reply({"server": await self.engine.write(request.context, run)})

    async def delete(self, request: Request, minor: int) -> Reply:
        """Deletes a server."""
        await self.change(request, f"{_RULE}delete", changes.delete)
        return Reply(status=204)

    async def addresses(self, request: Request, minor: int) -> Reply:
        """The addresses of a server, by network."""
        return Reply({"addresses": await self.engine.read(lambda reader: self._addresses(reader, request))})

    async def addresses_on(self, request: Request, minor: int) -> Reply:
        """The addresses of a server on one network."""
        name = request.path["network"]
        found = await self.engine.read(lambda reader: self._addresses(reader, request))
        if name not in found:
            raise NotFound(f"Network {name[:80]} could not be found on the server.")
        return Reply({name: found[name]})

    def _addresses(self, reader: Reader, request: Request) -> dict[str, Any]:
        server = self.find(reader, request, "os_compute_api:ips:index")
        return views.plain_addresses(server, self._around(reader, request, server))

    async def security_groups(self, request: Request, minor: int) -> Reply:
        """The security groups of a server's ports."""

        def run(reader: Reader) -> list[dict[str, Any]]:
            server = self.find(reader, request, "os_compute_api:os-security-groups:list")
            around = self._around(reader, request, server)
            ids = {g for port in around.ports[server.id] for g in port.security_groups}
            return [
                {"id": id, "name": name, "description": "", "rules": [], "tenant_id": server.project_id}
                for id, name in around.groups.items()
                if id in ids
            ]

        return Reply({"security_groups": await self.engine.read(run)})

    def _around(self, reader: Reader, request: Request, server: Server) -> views.Surroundings:
        return views.surroundings(self.engine, reader, request.context, [server])

    # For all that is about one server.

    def find(self, reader: Reader, request: Request, rule: str) -> Server:
        """The server of the path, if the caller sees it and the rule holds.

        Raises:
            NotFound, Forbidden: otherwise.
        """
        server = self.engine.get(reader, request.context, Server, request.path["id"])
        self.engine.require(rule, request.context, target_of(server))
        return server

    async def change(self, request: Request, rule: str, run: Callable[[Call, Server], T]) -> T:
        """Does something to the server of the path, in one transaction."""
        return await self.engine.write(
            request.context, lambda call: run(call, self.find(call.tx, request, rule))
        )


def target_of(server: Server) -> dict[str, Any]:
    """What access rules see of a server."""
    return {"project_id": server.project_id, "user_id": server.user_id}


def shown(call: Call, request: Request, server: Server, minor: int) -> dict[str, Any]:
    """What update tells: the whole of the server from 2.75 on, less of it before."""
    around = views.surroundings(call.engine, call.tx, request.context, [server])
    if minor >= 75:
        return views.full(request, server, around, minor)
    body = views.basic(request, server, around, minor)
    if minor >= 71:
        body["server_groups"] = [server.group_id] if server.group_id else []
    return body


def endpoints(engine: Engine) -> list[Endpoint]:
    """The paths of servers."""
    api = ServerApi(engine)
    one = "/v2.1/servers/{id}"
    return [
        at("GET", "/v2.1/servers", api.list, kind="server"),
        at("POST", "/v2.1/servers", api.create, 202, kind="server"),
        at("GET", "/v2.1/servers/detail", api.detail, kind="server"),
        at("GET", one, api.show, kind="server"),
        at("PUT", one, api.update, kind="server"),
        at("DELETE", one, api.delete, 204, kind="server"),
        at("GET", f"{one}/ips", api.addresses, kind="server"),
        at("GET", f"{one}/ips/{{network}}", api.addresses_on, kind="server"),
        at("GET", f"{one}/os-security-groups", api.security_groups, kind="server"),
    ]
