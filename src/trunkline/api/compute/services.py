"""Services and availability zones: the hosts, as operators of the Compute API switch and group them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from trunkline.api.compute import inventory
from trunkline.api.compute.inventory import host_number, host_uuid
from trunkline.api.compute.wire import Body, at, boolean, shaped, single
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.api.zones import zones
from trunkline.errors import BadField, NotFound
from trunkline.resources.region import Host
from trunkline.store import Reader

BINARY = "nova-compute"
#: The services of the control plane, which are one process here.
_CONTROL = ("nova-scheduler", "nova-conductor")


class SetService(Body):
    """The body that changes a service before 2.53."""

    host: str
    binary: str
    disabled_reason: str | None = None
    forced_down: Any = None


class PatchService(Body):
    """The body that changes a service from 2.53 on."""

    status: str | None = None
    disabled_reason: str | None = None
    forced_down: Any = None


class ServiceApi:
    """The handlers of services and zones."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def services(self, request: Request, minor: int) -> Reply:
        """The services: one a host, and those of the control plane."""
        self.engine.require("os_compute_api:os-services:list", request.context, {})
        query = single(request.query)

        def run(reader: Reader) -> list[dict[str, Any]]:
            there = inventory.all_hosts(reader)
            zone_of = zones(reader, there)
            rows = [_control(name, minor) for name in _CONTROL]
            rows += [_service(host, zone_of[host.id], minor) for host in there]
            return [
                row for row in rows if all(query.get(n) in (None, "", row[n]) for n in ("host", "binary"))
            ]

        return Reply({"services": await self.engine.read(run)})

    async def set_service(self, request: Request, minor: int) -> Reply:
        """Enables or disables a host, by its name (before 2.53)."""
        action = request.path["id"]
        if action not in ("enable", "disable", "disable-log-reason", "force-down"):
            raise NotFound("Unknown action")
        given = shaped(await request.json(), SetService, "body")
        if action == "force-down":
            raise _no_force()
        if action == "disable-log-reason":
            _reason(given.disabled_reason)
        elif given.disabled_reason is not None:
            raise BadField("disabled_reason", "it goes with disable-log-reason alone.")
        shown = {"host": given.host, "binary": given.binary}

        def run(call: Call) -> None:
            call.require("os_compute_api:os-services:update", {})
            host = call.tx.get(Host, given.host) if given.binary == BINARY else None
            if host is None:
                raise NotFound(f"Could not find binary {given.binary[:80]} on host {given.host[:80]}.")
            call.save(_enabled(host, action == "enable", given.disabled_reason))

        await self.engine.write(request.context, run)
        shown["status"] = "enabled" if action == "enable" else "disabled"
        if given.disabled_reason is not None:
            shown["disabled_reason"] = given.disabled_reason
        return Reply({"service": shown})

    async def patch_service(self, request: Request, minor: int) -> Reply:
        """Enables or disables a host, by the id of its service (from 2.53 on)."""
        given = shaped(await request.json(), PatchService, "body")
        if given.forced_down is not None and boolean("forced_down", given.forced_down):
            raise _no_force()
        if given.status not in (None, "enabled", "disabled"):
            raise BadField("status", "it must be enabled or disabled.")
        if given.disabled_reason is not None:
            if given.status != "disabled":
                raise BadField("disabled_reason", "it goes with status disabled alone.")
            _reason(given.disabled_reason)
        if given.status is None and given.forced_down is None:
            raise BadField("status", "nothing to change is given.")

        def run(call: Call) -> dict[str, Any]:
            call.require("os_compute_api:os-services:update", {})
            for host in call.tx.select(Host):
                if host_uuid(host.id, "service") == request.path["id"]:
                    if given.status is not None:
                        changed = _enabled(host, given.status == "enabled", given.disabled_reason)
                        host = call.save(changed)
                    zone = zones(call.tx, [host])[host.id]
                    return _service(host, zone, minor)
            raise NotFound(f"Service {request.path['id'][:80]} could not be found.")

        return Reply({"service": await self.engine.write(request.context, run)})

    # Zones.

    async def zone_list(self, request: Request, minor: int) -> Reply:
        """The availability zones."""
        self.engine.require("os_compute_api:os-availability-zone:list", request.context, {})
        return Reply({"availabilityZoneInfo": await self.engine.read(lambda r: _zones(r, False))})

    async def zone_detail(self, request: Request, minor: int) -> Reply:
        """The availability zones, with their hosts."""
        self.engine.require("os_compute_api:os-availability-zone:detail", request.context, {})
        return Reply({"availabilityZoneInfo": await self.engine.read(lambda r: _zones(r, True))})


def _service(host: Host, zone: str, minor: int) -> dict[str, Any]:
    seen = datetime.fromtimestamp(host.seen_at, UTC) if host.seen_at else datetime.now(UTC)
    shown = {
        "id": host_uuid(host.id, "service") if minor >= 53 else host_number(host.id),
        "binary": BINARY,
        "host": host.id,
        "zone": zone,
        "status": "enabled" if host.enabled else "disabled",
        "state": "up" if host.alive else "down",
        "updated_at": seen.strftime("%Y-%m-%dT%H:%M:%S.%f"),
        "disabled_reason": host.disabled_reason,
    }
    if minor >= 11:
        shown["forced_down"] = False
    return shown


def _control(name: str, minor: int) -> dict[str, Any]:
    shown = {
        "id": host_uuid(name, "service") if minor >= 53 else host_number(name),
        "binary": name,
        "host": "control",
        "zone": "internal",
        "status": "enabled",
        "state": "up",
        "updated_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f"),
        "disabled_reason": None,
    }
    if minor >= 11:
        shown["forced_down"] = False
    return shown


def _zones(reader: Reader, detail: bool) -> list[dict[str, Any]]:
    there = inventory.all_hosts(reader)
    zone_of = zones(reader, there)
    result: list[dict[str, Any]] = []
    if detail:
        services = {n: _state(_control(n, 1)) for n in _CONTROL}
        result.append(
            {
                "zoneName": "internal",
                "zoneState": {"available": True},
                "hosts": {"control": services},
            }
        )
    for zone in sorted(set(zone_of.values())):
        members = [host for host in there if zone_of[host.id] == zone]
        hosts = {host.id: {BINARY: _state(_service(host, zone, 1))} for host in members}
        available = any(host.enabled and host.alive for host in members)
        result.append(
            {
                "zoneName": zone,
                "zoneState": {"available": available},
                "hosts": hosts if detail else None,
            }
        )
    return result


def _state(service: dict[str, Any]) -> dict[str, Any]:
    return {
        "available": service["state"] == "up",
        "active": service["status"] == "enabled",
        "updated_at": service["updated_at"],
    }


def _enabled(host: Host, enabled: bool, reason: str | None) -> Host:
    return replace(host, enabled=enabled, disabled_reason=None if enabled else reason)


def _reason(reason: str | None) -> None:
    if reason is None or not 1 <= len(reason.strip()) <= len(reason) <= 255:
        raise BadField("disabled_reason", "it is a text of 1 to 255 characters.")


def _no_force() -> BadField:
    return BadField("forced_down", "a host's state is observed here and cannot be forced. Disable it.")


def endpoints(engine: Engine) -> list[Endpoint]:
    """The paths of services and zones."""
    api = ServiceApi(engine)
    return [
        at("GET", "/v2.1/os-services", api.services, kind="host"),
        at("PUT", "/v2.1/os-services/{id}", _by_version(api), kind="host"),
        at("GET", "/v2.1/os-availability-zone", api.zone_list, kind="host"),
        at("GET", "/v2.1/os-availability-zone/detail", api.zone_detail, kind="host"),
    ]


def _by_version(api: ServiceApi) -> Any:
    async def put(request: Request, minor: int) -> Reply:
        """Enables or disables a host."""
        return await (api.patch_service if minor >= 53 else api.set_service)(request, minor)

    return put
