"""The Appliance API v1: its paths and what each does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from trunkline.api import openapi
from trunkline.api.appliance import appliances, policies, quotas, renewal, rule_log, units
from trunkline.api.appliance.figures import Figures
from trunkline.api.appliance.observation import shown
from trunkline.api.engine import Call, Engine, Stages
from trunkline.api.http import Endpoint, Reply, Request, Service
from trunkline.api.network import dialect
from trunkline.errors import BadField, Refusal
from trunkline.resources.appliance import Appliance, ApplianceEvent, Unit
from trunkline.resources.appliance_policy.certificates import redacted
from trunkline.resources.region import Host
from trunkline.store import Reader

STAGES: Mapping[str, Stages[Any]] = {
    "appliance": Stages(
        create=appliances.create,
        created=appliances.created,
        update=appliances.update,
        delete=appliances.delete,
    ),
    "appliance_unit": Stages(not_found="The appliance has no unit {id}."),
}
_POLICY = {
    "type": "object",
    "properties": {"policy": {"type": "object"}},
    "required": ["policy"],
    "additionalProperties": False,
}


def error(refusal: Refusal, status: int, request_id: str) -> dict[str, Any]:
    """An error's body."""
    return {
        "error": {
            "code": status,
            "title": HTTPStatus(status).phrase,
            "message": refusal.message,
            "type": refusal.type,
            "field": refusal.field,
        }
    }


class ApplianceApi:
    """The handlers."""

    def __init__(self, engine: Engine, figures: Figures) -> None:
        self.engine = engine
        self.figures = figures

    async def version(self, request: Request) -> Reply:
        """Say which version is served."""
        link = {"rel": "self", "href": f"{request.base_url}/v1/"}
        return Reply({"versions": [{"id": "v1.0", "status": "CURRENT", "links": [link]}]})

    async def index(self, request: Request) -> Reply:
        """List appliances"""
        self._may_read(request)
        query = self.engine.query(Appliance, request.query, context=request.context, aliases=dialect.ALIASES)
        page = await self.engine.page(request.context, Appliance, query)
        return Reply(dialect.listing(request, "appliances", query, page))

    async def create(self, request: Request) -> Reply:
        """Create an appliance"""
        body = await request.envelope("appliance")
        return Reply({"appliance": await self.engine.create(request.context, Appliance, body)}, 201)

    async def show(self, request: Request) -> Reply:
        """Show an appliance"""
        self._may_read(request)
        fields = dialect.shown_fields(request.query)
        item = await self.engine.show(request.context, Appliance, request.path["id"], fields=fields)
        return Reply({"appliance": item})

    async def update(self, request: Request) -> Reply:
        """Change an appliance, or how many units it has"""
        body = await request.envelope("appliance")
        item = await self.engine.update(request.context, Appliance, request.path["id"], body)
        return Reply({"appliance": item})

    async def delete(self, request: Request) -> Reply:
        """Delete an appliance"""
        await self.engine.delete(request.context, Appliance, request.path["id"])
        return Reply(status=204)

    async def show_policy(self, request: Request) -> Reply:
        """Show the policy of an appliance"""
        self._may_read(request)

        def run(reader: Reader) -> dict[str, Any]:
            appliance = self.engine.get(reader, request.context, Appliance, request.path["id"])
            policy = policies.of(reader, appliance)
            return {"policy": redacted(policy.document), "revision": policy.revision}

        return Reply(await self.engine.read(run))

    async def set_policy(self, request: Request) -> Reply:
        """Set the policy of an appliance; with dry_run, only say what that would change"""
        dry = _dry_run(request)
        document = await request.envelope("policy")

        def run(call: Call) -> dict[str, Any]:
            appliance = call.get(Appliance, request.path["id"])
            call.require("set_appliance_policy", self.engine.target(call.tx, appliance))
            appliances.refuse_owned(appliance)
            if dry:
                old = policies.of(call.tx, appliance)
                new = policies.checked(call.tx, appliance, document, old.document)
                found = policies.differences(old.document, new)
                revision = old.revision + bool(found)
            else:
                policy, found = policies.change(call, appliance, document)
                revision = policy.revision
            return {"dry_run": dry, "revision": revision, "changes": found[: policies.MOST]}

        return Reply(await self.engine.write(request.context, run))

    async def units(self, request: Request) -> Reply:
        """List the units of an appliance, and what is seen of them"""
        self._may_read(request)

        def run(reader: Reader) -> list[dict[str, Any]]:
            appliance = self.engine.get(reader, request.context, Appliance, request.path["id"])
            return self._rendered(reader, request, units.of(reader, appliance.id))

        return Reply({"units": await self.engine.read(run)})

    async def drain(self, request: Request) -> Reply:
        """Have a unit replaced on another host, and then leave"""
        text = request.path["number"]
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else -1

        def run(call: Call) -> dict[str, Any]:
            appliance = call.get(Appliance, request.path["id"])
            call.require("drain_appliance_unit", self.engine.target(call.tx, appliance))
            if not call.context.is_admin:
                appliances.refuse_owned(appliance)
            if number < 0:
                raise self.engine.missing(Unit, text)
            return self._rendered(call.tx, request, [appliances.drain(call, appliance, number)])[0]

        return Reply({"unit": await self.engine.write(request.context, run)})

    async def log(self, request: Request) -> Reply:
        """List the newest packets that rules of an appliance's firewall logged, the newest last"""
        self._may_read(request)

        def run(reader: Reader) -> dict[str, Any]:
            appliance = self.engine.get(reader, request.context, Appliance, request.path["id"])
            there = units.of(reader, appliance.id)
            return rule_log.shown([(unit, self.figures.log_of(unit)) for unit in there])

        return Reply(await self.engine.read(run))

    async def renew(self, request: Request) -> Reply:
        """Have all units replaced by new ones, one after the other: a new version rolls through"""
        return await self._change(request, "renew_appliance", renewal.begin)

    async def abort_renewal(self, request: Request) -> Reply:
        """Have no further unit replaced by a new one"""
        return await self._change(request, "renew_appliance", renewal.abort)

    async def _change(
        self, request: Request, rule: str, change: Callable[[Call, Appliance], Appliance]
    ) -> Reply:
        def run(call: Call) -> dict[str, Any]:
            appliance = call.get(Appliance, request.path["id"])
            call.require(rule, self.engine.target(call.tx, appliance))
            if not call.context.is_admin:
                appliances.refuse_owned(appliance)
            return self.engine.render(call.tx, request.context, [change(call, appliance)])[0]

        return Reply({"appliance": await self.engine.write(request.context, run)})

    async def events(self, request: Request) -> Reply:
        """List what happened in an appliance, the newest last"""
        self._may_read(request)

        def run(reader: Reader) -> list[dict[str, Any]]:
            appliance = self.engine.get(reader, request.context, Appliance, request.path["id"])
            found = reader.find(ApplianceEvent, appliance_id=appliance.id)
            found.sort(key=lambda event: event.serial)
            return self.engine.render(reader, request.context, found)

        return Reply({"events": await self.engine.read(run)})

    async def show_quota(self, request: Request) -> Reply:
        """Show how many appliances and units a project may have, and has"""
        project = request.path["project"]
        self.engine.require("get_appliance_quota", request.context, {"project_id": project})
        return Reply({"quota": await self.engine.read(lambda reader: quotas.shown(reader, project))})

    async def change_quota(self, request: Request) -> Reply:
        """Set how many appliances and units a project may have"""
        project = request.path["project"]
        self.engine.require("update_appliance_quota", request.context, {"project_id": project})
        body = await request.envelope("quota")
        changed = await self.engine.write(request.context, lambda call: quotas.change(call.tx, project, body))
        return Reply({"quota": changed})

    async def reset_quota(self, request: Request) -> Reply:
        """Set a project's limits to the defaults again"""
        project = request.path["project"]
        self.engine.require("delete_appliance_quota", request.context, {"project_id": project})
        await self.engine.write(request.context, lambda call: quotas.reset(call.tx, project))
        return Reply(status=204)

    def _rendered(self, reader: Reader, request: Request, found: Sequence[Unit]) -> list[dict[str, Any]]:
        """Units, each with what is seen of it."""
        alive = {name for name in {u.host for u in found} if (h := reader.get(Host, name)) and h.alive}
        items = self.engine.render(reader, request.context, found)
        for item, unit in zip(items, found, strict=True):
            item.update(shown(unit, self.figures, unit.host in alive))
        return items

    def _may_read(self, request: Request) -> None:
        self.engine.require("get_appliance", request.context, {"project_id": request.context.project_id})


def _dry_run(request: Request) -> bool:
    asked = False
    for name, value in request.query:
        if name != "dry_run":
            raise BadField(name[:80], "there is no such parameter. There is: dry_run.")
        if value.lower() not in ("", "true", "false", "1", "0"):
            raise BadField("dry_run", f"'{value[:80]}' is neither true nor false.")
        asked = value.lower() in ("", "true", "1")
    return asked


def service(engine: Engine, figures: Figures | None = None) -> Service:
    """The Appliance API."""
    api = ApplianceApi(engine, figures or Figures())

    def at(method: str, path: str, handler: Any, success: int = 200, **more: Any) -> Endpoint:
        summary = (handler.__doc__ or "").strip().splitlines()[0]
        return Endpoint(method, path, handler, summary=summary, success=success, **more)

    many, one, quota = "/v1/appliances", "/v1/appliances/{id}", "/v1/quotas/{project}"
    create, update = (openapi.input_schema("appliance", verb, "appliance") for verb in ("create", "update"))
    listed = ("limit", "marker", "page_reverse", "sort_key", "sort_dir", "fields")
    return Service(
        name="appliance",
        prefix="/appliance",
        endpoints=[
            at("GET", "/", api.version, token=False),
            at("GET", many, api.index, parameters=listed, kind="appliance"),
            at("POST", many, api.create, 201, request=create, kind="appliance"),
            at("GET", one, api.show, parameters=("fields",), kind="appliance"),
            at("PUT", one, api.update, request=update, kind="appliance"),
            at("DELETE", one, api.delete, 204, kind="appliance"),
            at("GET", f"{one}/policy", api.show_policy, kind="appliance_policy"),
            at(
                "PUT",
                f"{one}/policy",
                api.set_policy,
                kind="appliance_policy",
                request=_POLICY,
                parameters=("dry_run",),
            ),
            at("GET", f"{one}/units", api.units, kind="appliance_unit"),
            at("POST", f"{one}/units/{{number}}/drain", api.drain, kind="appliance_unit"),
            at("POST", f"{one}/renew", api.renew, kind="appliance"),
            at("DELETE", f"{one}/renew", api.abort_renewal, kind="appliance"),
            at("GET", f"{one}/log", api.log),
            at("GET", f"{one}/events", api.events, kind="appliance_event"),
            at("GET", quota, api.show_quota),
            at("PUT", quota, api.change_quota, request=quotas.SCHEMA),
            at("DELETE", quota, api.reset_quota, 204),
        ],
        error=error,
    )
