"""What was asked of each server, and how it went: instance actions and their events."""

from __future__ import annotations

import uuid
from typing import Any

from msgspec.structs import replace

from trunkline.api.compute.flavors import next_link
from trunkline.api.compute.views import host_id
from trunkline.api.compute.wire import at, page_limit, single, when
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import BadField, NotFound
from trunkline.resources.compute import Server, ServerAction
from trunkline.store import Reader, Tx

#: The one event of each action, by the names that clients know.
_EVENTS = {
    "create": "compute__do_build_and_run_instance",
    "delete": "compute_terminate_instance",
    "rebuild": "compute_rebuild_instance",
    "attach_interface": "compute_attach_interface",
    "detach_interface": "compute_detach_interface",
}
#: The access rule of what is the operators' own in events.
_EVENTS_RULE = "os_compute_api:os-instance-actions:events"
#: How many actions of one server are kept.
KEPT = 200


def record(call: Call, server: Server, action: str, *, done: bool = False) -> None:
    """Notes that something was asked of a server.

    Args:
        done: it is finished with the request; otherwise it is when the server has no task left.
    """
    context = call.context
    entry = ServerAction(
        request_id=context.request_id,
        project_id=context.project_id,
        user_id=context.user_id,
        action=action,
        started_at=call.now,
    )
    if done:
        entry = replace(entry, finished_at=call.now, result="Success")
    _add(call.tx, server, entry)


def note(tx: Tx, server: Server, action: str, now: str) -> None:
    """Notes something that happened to a server, and that nobody asked for."""
    entry = ServerAction(project_id=server.project_id, action=action, started_at=now)
    _add(tx, server, replace(entry, finished_at=now, result="Success"))


def _add(tx: Tx, server: Server, entry: ServerAction) -> None:
    known = tx.find(ServerAction, server_id=server.id)
    number = max((a.number for a in known), default=0) + 1
    added = replace(
        entry,
        id=f"{server.id}/{number}",
        server_id=server.id,
        request_id=entry.request_id or f"req-{uuid.uuid4()}",
        number=number,
        host=server.host,
    )
    tx.insert(added)
    for old in sorted(known, key=lambda a: a.number)[: max(0, len(known) + 1 - KEPT)]:
        tx.delete(ServerAction, old.id)


def finish(tx: Tx, server: Server, now: str) -> None:
    """Ends the actions under way of a server that has no task left."""
    if server.task_state is not None:
        return
    failed = server.vm_state == "error"
    for entry in tx.find(ServerAction, server_id=server.id, finished_at=None):
        message = "Error" if failed else None
        tx.observe(replace(entry, finished_at=now, result="Error" if failed else "Success", message=message))


def fail(tx: Tx, server: Server, message: str, now: str) -> None:
    """Ends the actions under way of a server that cannot be done."""
    for entry in tx.find(ServerAction, server_id=server.id, finished_at=None):
        tx.observe(replace(entry, finished_at=now, result="Error", message=message[:255]))


def end(tx: Tx, server: Server, now: str) -> None:
    """Ends all actions under way of a server that is gone."""
    for entry in tx.find(ServerAction, server_id=server.id, finished_at=None):
        done = entry.action == "delete"
        tx.observe(replace(entry, finished_at=now, result="Success" if done else "Error"))


class HistoryApi:
    """The handlers of /v2.1/servers/{id}/os-instance-actions."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def _actions(self, reader: Reader, request: Request, verb: str) -> list[ServerAction]:
        """The actions of a server, the newest first; a deleted server's own are told to its project."""
        id = request.path["id"]
        found = reader.find(ServerAction, server_id=id)
        visible = [a for a in found if request.context.is_admin or a.project_id == request.context.project_id]
        if reader.get(Server, id) is not None or not visible:
            self.engine.get(reader, request.context, Server, id)
            visible = found
        self.engine.require(
            f"os_compute_api:os-instance-actions:{verb}",
            request.context,
            {"project_id": request.context.project_id},
        )
        return sorted(visible, key=lambda a: -a.number)

    async def list(self, request: Request, minor: int) -> Reply:
        """The actions of a server, the newest first."""
        query = single(request.query)
        for name in ("changes-since", "changes-before"):
            if name in query:
                when(name, query[name])
        entries = await self.engine.read(lambda reader: self._actions(reader, request, "list"))
        body: dict[str, Any] = {}
        if minor >= 58:
            if "changes-since" in query:
                since = when("changes-since", query["changes-since"])
                entries = [a for a in entries if (a.finished_at or a.started_at) >= since]
            if minor >= 66 and "changes-before" in query:
                before = when("changes-before", query["changes-before"])
                entries = [a for a in entries if (a.finished_at or a.started_at) <= before]
            marker = query.get("marker")
            if marker is not None:
                ids = [a.request_id for a in entries]
                if marker not in ids:
                    raise BadField("marker", f"no action with request id '{marker[:80]}' was found.")
                entries = entries[ids.index(marker) + 1 :]
            limit = page_limit(query)
            if len(entries) > limit:
                rest = [(n, v) for n, v in request.query if n != "marker"]
                path = f"servers/{request.path['id']}/os-instance-actions"
                body["links"] = [next_link(request, path, rest, entries[limit - 1].request_id)]
            entries = entries[:limit]
        body["instanceActions"] = [_brief(a, minor) for a in entries]
        return Reply(body)

    async def show(self, request: Request, minor: int) -> Reply:
        """One action, with its events."""

        def run(reader: Reader) -> ServerAction:
            for entry in self._actions(reader, request, "show"):
                if entry.request_id == request.path["request"]:
                    return entry
            raise NotFound(f"Action for request_id {request.path['request'][:80]} not found.")

        entry = await self.engine.read(run)
        shown = _brief(entry, minor)
        own = {"project_id": request.context.project_id}
        inner = self.engine.rules.allows(_EVENTS_RULE, request.context, own)
        if minor >= 51 or inner:
            event = _event(entry, minor, inner=inner)
            if minor >= 84 and self.engine.rules.allows(f"{_EVENTS_RULE}:details", request.context, own):
                event["details"] = None
            shown["events"] = [event]
        return Reply({"instanceAction": shown})


def _stamp(text: str) -> str:
    return text.removesuffix("Z") + ".000000"


def _brief(entry: ServerAction, minor: int) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "action": entry.action,
        "instance_uuid": entry.server_id,
        "request_id": entry.request_id,
        "user_id": entry.user_id,
        "project_id": entry.project_id,
        "start_time": _stamp(entry.started_at),
        "message": entry.message,
    }
    if minor >= 58:
        shown["updated_at"] = _stamp(entry.finished_at or entry.started_at)
    return shown


def _event(entry: ServerAction, minor: int, *, inner: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "event": _EVENTS.get(entry.action, f"compute_{entry.action}_instance"),
        "start_time": _stamp(entry.started_at),
        "finish_time": _stamp(entry.finished_at) if entry.finished_at else None,
        "result": entry.result,
    }
    if inner:
        shown["traceback"] = None
    if minor >= 62:
        shown["hostId"] = host_id(entry.project_id, entry.host)
        if inner:
            shown["host"] = entry.host or None
    return shown


def endpoints(engine: Engine) -> list[Endpoint]:
    """The paths of instance actions."""
    api = HistoryApi(engine)
    many = "/v2.1/servers/{id}/os-instance-actions"
    return [
        at("GET", many, api.list, kind="server_action"),
        at("GET", f"{many}/{{request}}", api.show, kind="server_action"),
    ]
