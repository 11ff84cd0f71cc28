"""Host aggregates: hosts that have something in common, and availability zones made of them."""

from __future__ import annotations

import re
import uuid
from typing import Any

from msgspec.structs import replace

from trunkline.api.compute.wire import Body, at, labels, printable_name, unwrap
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.api.network import reschedule
from trunkline.errors import BadField, Conflict, NotFound
from trunkline.resources.compute import Aggregate, Server
from trunkline.resources.region import Host
from trunkline.store import Reader

_RULE = "os_compute_api:os-aggregates:"


class Create(Body):
    """The body of a create request."""

    name: Any
    availability_zone: str | None = None


class Update(Body):
    """The body of an update request."""

    name: Any = None
    availability_zone: str | None = None


class HostOf(Body):
    """A host to add or to remove."""

    host: Any


class SetMetadata(Body):
    """Metadata to set; null removes a key."""

    metadata: dict[str, Any]


class AggregateApi:
    """The handlers of /v2.1/os-aggregates."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def list(self, request: Request, minor: int) -> Reply:
        """The aggregates."""
        self.engine.require(f"{_RULE}index", request.context, {})

        def run(reader: Reader) -> list[dict[str, Any]]:
            found = sorted(reader.select(Aggregate), key=lambda a: a.number)
            return [_render(a, minor) for a in found]

        return Reply({"aggregates": await self.engine.read(run)})

    async def show(self, request: Request, minor: int) -> Reply:
        """One aggregate."""
        self.engine.require(f"{_RULE}show", request.context, {})
        found = await self.engine.read(lambda reader: _find(reader, request.path["id"]))
        return Reply({"aggregate": _render(found, minor)})

    async def create(self, request: Request, minor: int) -> Reply:
        """Creates an aggregate."""
        given = unwrap(await request.json(), "aggregate", Create)
        name = printable_name("name", given.name)
        zone = _zone(given.availability_zone)

        def run(call: Call) -> dict[str, Any]:
            call.require(f"{_RULE}create", {})
            _free(call, name)
            number = max((a.number for a in call.tx.select(Aggregate)), default=0) + 1
            made = Aggregate(
                id=str(uuid.uuid4()),
                number=number,
                name=name,
                zone=zone,
                metadata={"availability_zone": zone} if zone else {},
            )
            shown = _render(call.add(made), minor)
            shown["updated_at"] = None
            return {n: v for n, v in shown.items() if n not in ("hosts", "metadata")}

        return Reply({"aggregate": await self.engine.write(request.context, run)})

    async def update(self, request: Request, minor: int) -> Reply:
        """Changes the name or the zone of an aggregate."""
        body = await request.json()
        given = unwrap(body, "aggregate", Update)
        if not body["aggregate"]:
            raise BadField("aggregate", "give a name or an availability_zone.")
        changes: dict[str, Any] = {}
        if "name" in body["aggregate"]:
            changes["name"] = printable_name("name", given.name)
        if "availability_zone" in body["aggregate"]:
            changes["zone"] = _zone(given.availability_zone)

        def run(call: Call) -> dict[str, Any]:
            call.require(f"{_RULE}update", {})
            old = _find(call.tx, request.path["id"])
            if changes.get("name", old.name) != old.name:
                _free(call, changes["name"])
            new = replace(old, **changes)
            return self._save(call, old, new, minor)

        return Reply({"aggregate": await self.engine.write(request.context, run)})

    async def delete(self, request: Request, minor: int) -> Reply:
        """Deletes an aggregate without hosts."""

        def run(call: Call) -> None:
            call.require(f"{_RULE}delete", {})
            found = _find(call.tx, request.path["id"])
            if found.hosts:
                raise BadField("aggregate", f"aggregate {found.number} has hosts. Remove them first.")
            call.drop(found)

        await self.engine.write(request.context, run)
        return Reply(None, 200)

    async def action(self, request: Request, minor: int) -> Reply:
        """Adds or removes a host, or sets metadata."""
        body = await request.json()
        name = next(iter(body)) if isinstance(body, dict) and len(body) == 1 else ""
        if name in ("add_host", "remove_host"):
            host = printable_name("host", unwrap(body, name, HostOf).host)
            return await self._rehost(request, minor, name, host)
        if name != "set_metadata":
            raise BadField("action", "it must be one of add_host, remove_host, set_metadata.")
        given = unwrap(body, name, SetMetadata).metadata
        labels("metadata", {key: value for key, value in given.items() if value is not None})

        def run(call: Call) -> dict[str, Any]:
            call.require(f"{_RULE}set_metadata", {})
            old = _find(call.tx, request.path["id"])
            metadata = {k: v for k, v in {**old.metadata, **given}.items() if v is not None}
            new = replace(old, metadata=metadata, zone=_zone(metadata.get("availability_zone")))
            return self._save(call, old, new, minor)

        return Reply({"aggregate": await self.engine.write(request.context, run)})

    async def _rehost(self, request: Request, minor: int, verb: str, host: str) -> Reply:
        def run(call: Call) -> dict[str, Any]:
            call.require(f"{_RULE}{verb}", {})
            old = _find(call.tx, request.path["id"])
            if verb == "remove_host":
                if host not in old.hosts:
                    raise NotFound(f"Aggregate {old.number} has no host {host}.")
                hosts = [h for h in old.hosts if h != host]
            else:
                if call.tx.get(Host, host) is None:
                    raise NotFound(f"Compute host {host} could not be found.")
                if host in old.hosts:
                    raise Conflict(f"Aggregate {old.number} already has host {host}.")
                hosts = [*old.hosts, host]
            return self._save(call, old, replace(old, hosts=hosts), minor)

        return Reply({"aggregate": await self.engine.write(request.context, run)})

    def _save(self, call: Call, old: Aggregate, new: Aggregate, minor: int) -> dict[str, Any]:
        if new.zone != old.zone:
            metadata = {k: v for k, v in new.metadata.items() if k != "availability_zone"}
            new = replace(new, metadata={**metadata, "availability_zone": new.zone} if new.zone else metadata)
        self._one_zone(call, old, new)
        saved = call.save(new)
        if new.zone != old.zone or (new.zone and new.hosts != old.hosts):
            reschedule(call)  # Routers' gateways are on hosts of zones too.
        return _render(saved, minor)

    def _one_zone(self, call: Call, old: Aggregate, new: Aggregate) -> None:
        """A host is in one zone at most, and a zone does not change under running servers."""
        if new.zone:
            for other in call.tx.select(Aggregate):
                shared = set(other.hosts) & set(new.hosts)
                if other.id != new.id and other.zone not in (None, new.zone) and shared:
                    raise Conflict(
                        f"Host {min(shared)} is in availability zone {other.zone} "
                        f"by aggregate {other.number}."
                    )
        moved = set(old.hosts) ^ set(new.hosts) if new.zone == old.zone else set(old.hosts) | set(new.hosts)
        if new.zone or old.zone:
            busy = [host for host in moved if call.tx.count(Server, host=host)]
            if busy:
                raise Conflict(f"Host {min(busy)} has servers: its availability zone cannot change now.")


def _free(call: Call, name: str) -> None:
    if call.tx.find(Aggregate, name=name):
        raise Conflict(f"Aggregate {name} already exists.")


def _find(reader: Reader, id: str) -> Aggregate:
    if re.fullmatch(r"[0-9]{1,18}", id):
        for found in reader.find(Aggregate, number=int(id)):
            return found
    raise NotFound(f"Aggregate {id[:80]} could not be found.")


def _zone(value: str | None) -> str | None:
    if value is None:
        return None
    if ":" in value or not value:
        raise BadField("availability_zone", "its name has 1 to 255 characters, and no colon.")
    return printable_name("availability_zone", value)


def _time(text: str) -> str:
    return text.removesuffix("Z") + ".000000"


def _render(found: Aggregate, minor: int) -> dict[str, Any]:
    shown = {
        "id": found.number,
        "name": found.name,
        "availability_zone": found.zone,
        "hosts": found.hosts,
        "metadata": found.metadata,
        "created_at": _time(found.created_at),
        "updated_at": _time(found.updated_at),
        "deleted": False,
        "deleted_at": None,
    }
    if minor >= 41:
        shown["uuid"] = found.id
    return shown


def endpoints(engine: Engine) -> list[Endpoint]:
    """The paths of aggregates."""
    api = AggregateApi(engine)
    one = "/v2.1/os-aggregates/{id}"
    return [
        at("GET", "/v2.1/os-aggregates", api.list, kind="aggregate"),
        at("POST", "/v2.1/os-aggregates", api.create, kind="aggregate"),
        at("GET", one, api.show, kind="aggregate"),
        at("PUT", one, api.update, kind="aggregate"),
        at("DELETE", one, api.delete, kind="aggregate"),
        at("POST", f"{one}/action", api.action, kind="aggregate"),
    ]
