"""How operators read of moves of servers, and end live ones (Compute API, "Servers migrations").

`GET /os-migrations` has all of them, `GET /servers/{id}/migrations` the live ones under way.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, or_

from trunkline.api.compute import changes, history, live
from trunkline.api.compute.flavors import next_link
from trunkline.api.compute.migrations import LIVE, ORDER, UNDER_WAY
from trunkline.api.compute.server_api import ServerApi
from trunkline.api.compute.wire import at, boolean, links, page_limit, single, when
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import BadField, BadRequest, NotFound
from trunkline.resources.compute import Migration, Server
from trunkline.store import Reader, table_of

_FILTERS = {
    "instance_uuid": "server_id", "source_compute": "source_host", "status": "status",
    "migration_type": "type",
}  # fmt: skip
#: Parameter -> the microversion that it came with; from 2.59 on no others are taken.
_PARAMETERS = {
    "hidden": 1, "host": 1, **dict.fromkeys(_FILTERS, 1),
    "limit": 59, "marker": 59, "changes-since": 59, "changes-before": 66, "user_id": 80, "project_id": 80,
}  # fmt: skip


class MigrationApi:
    """The handlers of moves."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.servers = ServerApi(engine)

    async def list(self, request: Request, minor: int) -> Reply:
        """The moves of servers, the newest first."""
        self.engine.require("os_compute_api:os-migrations:index", request.context, {})
        query = single(request.query)
        if minor >= 59:
            for name in query:
                if _PARAMETERS.get(name, 1000) > minor:
                    raise BadField(name[:80], "it is no parameter of this list.")
        where = _where(query, minor)
        limit = page_limit(query) if minor >= 59 else None
        marker = query.get("marker") if minor >= 59 else None

        def run(reader: Reader) -> list[Migration]:
            if marker is not None:
                last = reader.get(Migration, marker)
                if last is None:
                    raise BadField("marker", f"no migration '{marker[:80]}' was found.")
                where.append(table_of(Migration).c.number < last.number)
            more = None if limit is None else limit + 1
            return reader.select(Migration, *where, order_by=ORDER, limit=more)

        found = await self.engine.read(run)
        page = found if limit is None else found[:limit]
        body: dict[str, Any] = {"migrations": [_shown(request, each, minor) for each in page]}
        if len(found) > len(page):
            rest = [(n, v) for n, v in request.query if n != "marker"]
            body["migrations_links"] = [next_link(request, "os-migrations", rest, page[-1].id)]
        return Reply(body)

    async def under_way(self, request: Request, minor: int) -> Reply:
        """The live moves of a server that are under way."""
        rule = "os_compute_api:servers:migrations:index"

        def run(reader: Reader) -> list[Migration]:
            return _live(reader, self.servers.find(reader, request, rule))

        found = await self.engine.read(run)
        return Reply({"migrations": [_progress(each, minor) for each in found]})

    async def show(self, request: Request, minor: int) -> Reply:
        """One live move of a server that is under way."""
        rule = "os_compute_api:servers:migrations:show"

        def run(reader: Reader) -> Migration:
            return _one(reader, self.servers.find(reader, request, rule), request)

        return Reply({"migration": _progress(await self.engine.read(run), minor)})

    async def abort(self, request: Request, minor: int) -> Reply:
        """Has a server that is on its way stay where it is."""
        allowed = ("running", "preparing", "queued") if minor >= 65 else ("running",)

        def run(call: Call, server: Server) -> None:
            move = _one(call.tx, server, request)
            changes.unlocked(call, server)
            history.record(call, server, "live_migration_abort", done=True)
            changes.save(call, live.abort(call, server, move, allowed))

        await self.servers.change(request, "os_compute_api:servers:migrations:delete", run)
        return Reply(status=202)

    async def act(self, request: Request, minor: int) -> Reply:
        """Has a guest that is on its way stand still until it is there."""
        body = await request.json()
        if not isinstance(body, dict) or set(body) != {"force_complete"}:
            raise BadRequest("The body must be a JSON object with one key: force_complete.")
        if body["force_complete"] is not None:
            raise BadField("force_complete", "it takes no arguments. Give null.")

        def run(call: Call, server: Server) -> None:
            move = _one(call.tx, server, request)
            changes.unlocked(call, server)
            history.record(call, server, "live_migration_force_complete", done=True)
            changes.save(call, live.force(call, server, move))

        await self.servers.change(request, "os_compute_api:servers:migrations:force_complete", run)
        return Reply(status=202)


def _one(reader: Reader, server: Server, request: Request) -> Migration:
    """The live move of a server that the path names.

    Raises:
        NotFound: there is none under way.
    """
    number = request.path["migration"]
    for found in _live(reader, server):
        if str(found.number) == number:
            return found
    raise NotFound(f"Migration {number[:40]} is not one that is under way for instance {server.id}.")


def _live(reader: Reader, server: Server) -> list[Migration]:
    found = reader.find(Migration, server_id=server.id, type=LIVE)
    return sorted((m for m in found if m.status in UNDER_WAY), key=lambda m: -m.number)


def _where(query: Mapping[str, str], minor: int) -> list[ColumnElement[bool]]:
    columns = table_of(Migration).c
    where = [columns[column] == query[name] for name, column in _FILTERS.items() if name in query]
    if "host" in query:
        where.append(or_(columns.source_host == query["host"], columns.dest_host == query["host"]))
    if "hidden" in query and boolean("hidden", query["hidden"]):
        # None is ever hidden.
        where.append(columns.number < 0)
    changed = columns.updated_at
    if minor >= 59 and "changes-since" in query:
        since = when("changes-since", query["changes-since"])
        where.append(or_(changed >= since, columns.created_at >= since))
    if minor >= 66 and "changes-before" in query:
        before = when("changes-before", query["changes-before"])
        where.append(or_(changed <= before, changed.is_(None) & (columns.created_at <= before)))
        if "changes-since" in query and when("changes-since", query["changes-since"]) > before:
            raise BadField("changes-since", "it must be earlier than or equal to changes-before.")
    if minor >= 80:
        where += [columns[name] == query[name] for name in ("user_id", "project_id") if name in query]
    return where


def flavor_number(flavor: str) -> int:
    """The number of a flavor, for an API that counted flavors: its id, where that is one."""
    return int(flavor) if flavor.isascii() and flavor.isdigit() else zlib.crc32(flavor.encode()) & 0x7FFFFFFF


def _stamp(text: str | None) -> str | None:
    return None if text is None else text.removesuffix("Z") + ".000000"


def _shown(request: Request, move: Migration, minor: int) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": move.number,
        "status": move.status,
        "instance_uuid": move.server_id,
        "source_node": move.source_host,
        "source_compute": move.source_host,
        "dest_node": move.dest_host,
        "dest_compute": move.dest_host,
        "dest_host": move.dest_address or None,
        "old_instance_type_id": flavor_number(move.old_flavor_id),
        "new_instance_type_id": flavor_number(move.new_flavor_id),
        "created_at": _stamp(move.created_at),
        "updated_at": _stamp(move.updated_at),
    }
    if minor >= 23:
        shown["migration_type"] = move.type
        if move.type == LIVE and move.status in UNDER_WAY:
            shown["links"] = links(request, f"servers/{move.server_id}/migrations/{move.number}")
    return shown | _who(move, minor)


def _who(move: Migration, minor: int) -> dict[str, Any]:
    shown = {"uuid": move.id} if minor >= 59 else {}
    return shown | ({"user_id": move.user_id, "project_id": move.project_id} if minor >= 80 else {})


def _progress(move: Migration, minor: int) -> dict[str, Any]:
    counts = [f"{what}_{part}_bytes" for what in ("memory", "disk") for part in _PARTS]
    shown: dict[str, Any] = {
        "id": move.number,
        "status": move.status,
        "server_uuid": move.server_id,
        "source_node": move.source_host,
        "source_compute": move.source_host,
        "dest_node": move.dest_host,
        "dest_compute": move.dest_host,
        "dest_host": move.dest_address or None,
        "created_at": _stamp(move.created_at),
        "updated_at": _stamp(move.updated_at),
        **dict.fromkeys(counts),
    }
    return shown | _who(move, minor)


_PARTS = ("total", "processed", "remaining")


def endpoints(engine: Engine) -> list[Endpoint]:
    """Their paths."""
    api = MigrationApi(engine)
    many = "/v2.1/servers/{id}/migrations"
    one = f"{many}/{{migration}}"
    return [
        at("GET", "/v2.1/os-migrations", api.list, kind="migration"),
        at("GET", many, api.under_way, since=23, kind="migration"),
        at("GET", one, api.show, since=23, kind="migration"),
        at("DELETE", one, api.abort, 202, since=24, kind="migration"),
        at("POST", f"{one}/action", api.act, 202, since=22, kind="migration"),
    ]
