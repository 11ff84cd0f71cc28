"""Flavors: sizes of servers, and who may use those that are not public."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace as with_fields
from typing import Any
from urllib.parse import urlencode

import msgspec
from msgspec.structs import replace
from sqlalchemy import ColumnElement, or_, select

from trunkline.api.compute.wire import (
    Body,
    at,
    body_of,
    boolean,
    links,
    page_limit,
    printable_name,
    single,
    unwrap,
    whole,
)
from trunkline.api.context import Context
from trunkline.api.engine import Call, Engine, Stages
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import BadField, Conflict, NotFound
from trunkline.resources.compute import MAX_INT, Flavor, FlavorAccess
from trunkline.store import Tx, table_of

_ID = re.compile(r"[A-Za-z0-9_.\- ]{1,255}")
_SORT = {
    "flavorid": "id", "name": "name", "memory_mb": "ram", "vcpus": "vcpus", "root_gb": "disk",
    "ephemeral_gb": "ephemeral", "swap": "swap", "is_public": "is_public", "disabled": "disabled",
    "created_at": "created_at", "updated_at": "updated_at", "id": "id", "rxtx_factor": "rxtx_factor",
}  # fmt: skip

#: The flavors that a new cloud has: name, vCPUs, memory MiB, root disk GiB.
SEED = (
    ("1", "tiny", 1, 128, 1),
    ("2", "small", 1, 512, 5),
    ("3", "medium", 2, 1024, 10),
    ("4", "large", 4, 2048, 20),
    ("5", "xlarge", 8, 4096, 40),
)


def seed(tx: Tx) -> None:
    """Adds the first flavors where the cloud has none. Idempotent: a flavor that was deleted stays so."""
    if tx.count(Flavor):
        return
    now = tx.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    for id, name, vcpus, ram, disk in SEED:
        tx.insert(Flavor(id=id, name=name, vcpus=vcpus, ram=ram, disk=disk, created_at=now, updated_at=now))


def visible(context: Context) -> list[ColumnElement[bool]]:
    """Flavors that the caller may use."""
    if context.is_admin:
        return []
    flavors, access = table_of(Flavor), table_of(FlavorAccess)
    mine = select(access.c.flavor_id).where(access.c.project_id == context.project_id)
    return [or_(flavors.c.is_public, flavors.c.id.in_(mine))]


STAGES: Mapping[str, Stages[Any]] = {
    "flavor": Stages[Flavor](visible=visible, not_found="Flavor {id} could not be found."),
}


class Create(Body):
    """The body of a create request."""

    name: Any
    vcpus: Any
    ram: Any
    disk: Any
    id: str | int | float | None = None
    description: str | None = None
    swap: Any = 0
    rxtx_factor: Any = 1.0
    ephemeral: Any = msgspec.field(default=0, name="OS-FLV-EXT-DATA:ephemeral")
    is_public: Any = msgspec.field(default=True, name="os-flavor-access:is_public")


class Update(Body):
    """The body of an update request."""

    description: str | None


class Access(Body):
    """Whom to give access, or to take it from."""

    tenant: str


class FlavorApi:
    """The handlers of /v2.1/flavors."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def list(self, request: Request, minor: int) -> Reply:
        """A page of flavors, their names only."""
        return await self._list(request, minor, detail=False)

    async def detail(self, request: Request, minor: int) -> Reply:
        """A page of flavors."""
        return await self._list(request, minor, detail=True)

    async def _list(self, request: Request, minor: int, *, detail: bool) -> Reply:
        query = single(request.query)
        flavors = table_of(Flavor)
        where: list[ColumnElement[bool]] = []
        if request.context.is_admin:
            public = _public(query.get("is_public"))
            if public is not None:
                where.append(flavors.c.is_public == public)
        for name, column in (("minRam", flavors.c.ram), ("minDisk", flavors.c.disk)):
            if name in query:
                where.append(column >= whole(name, query[name], 0, MAX_INT))
        key = query.get("sort_key", "flavorid")
        if key not in _SORT:
            raise BadField("sort_key", f"'{key[:80]}' is not an attribute of flavors to sort by.")
        parsed = self.engine.query(
            Flavor,
            [
                ("sort_key", _SORT[key]),
                ("sort_dir", query.get("sort_dir", "asc")),
                *([("marker", query["marker"])] if query.get("marker") else []),
            ],
        )
        limit = page_limit(query)
        parsed = with_fields(parsed, where=tuple(where), limit=limit)
        page = await self.engine.page(request.context, Flavor, parsed)
        shown = [self._shown(request, item, minor, detail=detail) for item in page.items]
        body: dict[str, Any] = {"flavors": shown}
        if page.more and page.last:
            suffix = "/detail" if detail else ""
            rest = [(n, v) for n, v in request.query if n != "marker"]
            body["flavors_links"] = [next_link(request, f"flavors{suffix}", rest, page.last)]
        return Reply(body)

    def _shown(
        self, request: Request, item: Mapping[str, Any], minor: int, *, detail: bool = True
    ) -> dict[str, Any]:
        shown = {
            "id": item["id"],
            "name": item["name"],
            "links": links(request, f"flavors/{item['id']}"),
        }
        if minor >= 55:
            shown["description"] = item["description"]
        if not detail:
            return shown
        shown.update(
            {
                "ram": item["ram"],
                "disk": item["disk"],
                "vcpus": item["vcpus"],
                # Before 2.75 no swap is an empty text.
                "swap": item["swap"] or (0 if minor >= 75 else ""),
                "rxtx_factor": item["rxtx_factor"],
                "OS-FLV-DISABLED:disabled": item["disabled"],
                "OS-FLV-EXT-DATA:ephemeral": item["ephemeral"],
                "os-flavor-access:is_public": item["is_public"],
            }
        )
        if minor >= 61:
            shown["extra_specs"] = item["extra_specs"]
        return shown

    async def show(self, request: Request, minor: int) -> Reply:
        """One flavor."""
        item = await self.engine.show(request.context, Flavor, request.path["id"])
        return Reply({"flavor": self._shown(request, item, minor)})

    async def create(self, request: Request, minor: int) -> Reply:
        """Creates a flavor."""
        body = await request.json()
        given = unwrap(body, "flavor", Create)
        if minor < 55 and "description" in body["flavor"]:
            raise BadField("description", "it is there from microversion 2.55 on.")
        name = printable_name("name", given.name)
        id = str(uuid.uuid4()) if given.id in (None, "auto") else str(given.id)
        if not _ID.fullmatch(id) or id != id.strip():
            raise BadField(
                "id", "it has 1 to 255 characters, of letters, digits, space and _.-, no space around it."
            )
        flavor = Flavor(
            id=id,
            name=name,
            description=_description(given.description),
            vcpus=whole("vcpus", given.vcpus, 1, MAX_INT),
            ram=whole("ram", given.ram, 1, MAX_INT),
            disk=whole("disk", given.disk, 0, MAX_INT),
            swap=whole("swap", given.swap, 0, MAX_INT),
            ephemeral=whole("OS-FLV-EXT-DATA:ephemeral", given.ephemeral, 0, MAX_INT),
            rxtx_factor=_factor(given.rxtx_factor),
            is_public=boolean("os-flavor-access:is_public", given.is_public),
        )

        def run(call: Call) -> dict[str, Any]:
            call.require("os_compute_api:os-flavor-manage:create", {})
            for clash in ({"id": id}, {"name": name}):
                if call.tx.find(Flavor, **clash):
                    field, value = next(iter(clash.items()))
                    raise Conflict(f"Flavor with {field} {value} already exists.", field=field)
            call.add(flavor)
            return self.engine.render(call.tx, call.context, [flavor])[0]

        item = await self.engine.write(request.context, run)
        return Reply({"flavor": self._shown(request, item, minor)})

    async def update(self, request: Request, minor: int) -> Reply:
        """Changes the description of a flavor."""
        given = await body_of(request, "flavor", Update)
        description = _description(given.description)

        def run(call: Call) -> dict[str, Any]:
            call.require("os_compute_api:os-flavor-manage:update", {})
            flavor = call.save(replace(call.get(Flavor, request.path["id"]), description=description))
            return self.engine.render(call.tx, call.context, [flavor])[0]

        item = await self.engine.write(request.context, run)
        return Reply({"flavor": self._shown(request, item, minor)})

    async def delete(self, request: Request, minor: int) -> Reply:
        """Deletes a flavor. Servers that were made from it keep their size."""

        def run(call: Call) -> None:
            call.require("os_compute_api:os-flavor-manage:delete", {})
            flavor = call.get(Flavor, request.path["id"])
            for access in call.tx.find(FlavorAccess, flavor_id=flavor.id):
                call.drop(access)
            call.drop(flavor)

        await self.engine.write(request.context, run)
        return Reply(status=202)

    async def action(self, request: Request, minor: int) -> Reply:
        """Gives a project access to a flavor, or takes it away."""
        body = await request.json()
        if not isinstance(body, dict) or len(body) != 1:
            raise BadField("body", "it must be a JSON object with one action.")
        name = next(iter(body))
        if name not in ("addTenantAccess", "removeTenantAccess"):
            raise BadField("action", f"there is no action '{str(name)[:80]}' of flavors.")
        tenant = unwrap(body, name, Access).tenant
        if not 1 <= len(tenant) <= 255:
            raise BadField("tenant", "give the id of a project.")

        def run(call: Call) -> list[dict[str, str]]:
            verb = "add" if name == "addTenantAccess" else "remove"
            call.require(f"os_compute_api:os-flavor-access:{verb}_tenant_access", {})
            flavor = call.get(Flavor, request.path["id"])
            found = call.tx.find(FlavorAccess, flavor_id=flavor.id, project_id=tenant)
            if verb == "remove":
                if not found:
                    raise NotFound(f"Flavor access not found for {flavor.id} / {tenant} combination.")
                call.drop(found[0])
            else:
                if minor >= 7 and flavor.is_public:
                    raise Conflict("Can not add access to a public flavor.")
                if found:
                    raise Conflict(
                        f"Flavor access already exists for flavor {flavor.id} "
                        f"and project {tenant} combination."
                    )
                self._grant(call, flavor.id, tenant)
            return _accesses(call.tx, flavor.id)

        return Reply({"flavor_access": await self.engine.write(request.context, run)})

    async def access(self, request: Request, minor: int) -> Reply:
        """The projects that have access to a flavor that is not public."""
        self.engine.require("os_compute_api:os-flavor-access", request.context, {})
        with self.engine.store.read() as reader:
            flavor = self.engine.get(reader, request.context, Flavor, request.path["id"])
            if flavor.is_public:
                raise NotFound("Access list not available for public flavors.")
            return Reply({"flavor_access": _accesses(reader, flavor.id)})

    def _grant(self, call: Call, flavor: str, project: str) -> None:
        call.add(FlavorAccess(id=str(uuid.uuid4()), flavor_id=flavor, project_id=project))


def next_link(request: Request, path: str, pairs: Sequence[tuple[str, str]], marker: str) -> dict[str, str]:
    """The link to the next page."""
    query = urlencode([*pairs, ("marker", marker)])
    return {"rel": "next", "href": f"{request.base_url}/v2.1/{path}?{query}"}


def _accesses(reader: Any, flavor: str) -> list[dict[str, str]]:
    found: Sequence[FlavorAccess] = reader.find(FlavorAccess, flavor_id=flavor)
    return [{"flavor_id": a.flavor_id, "tenant_id": a.project_id} for a in found]


def _public(text: str | None) -> bool | None:
    if text is None:
        return True
    if text.lower() == "none":
        return None
    return boolean("is_public", text)


def _description(value: str | None) -> str | None:
    if value is not None and (len(value) > 65535 or not value.replace("\n", "").isprintable()):
        raise BadField("description", "it is a text of up to 65535 printable characters, or null.")
    return value


def _factor(value: Any) -> float:
    try:
        number = float(value) if not isinstance(value, bool) else -1.0
    except (TypeError, ValueError):
        number = -1.0
    if not 0 < number <= 3.40282e38:
        raise BadField("rxtx_factor", "it is a number greater than 0.")
    return number


def endpoints(engine: Engine) -> list[Endpoint]:
    """The paths of flavors."""
    api = FlavorApi(engine)
    one = "/v2.1/flavors/{id}"
    return [
        at("GET", "/v2.1/flavors", api.list, kind="flavor"),
        at("POST", "/v2.1/flavors", api.create, kind="flavor"),
        at("GET", "/v2.1/flavors/detail", api.detail, kind="flavor"),
        at("GET", one, api.show, kind="flavor"),
        at("PUT", one, api.update, since=55, kind="flavor"),
        at("DELETE", one, api.delete, 202, kind="flavor"),
        at("POST", f"{one}/action", api.action, kind="flavor"),
        at("GET", f"{one}/os-flavor-access", api.access, kind="flavor"),
    ]
