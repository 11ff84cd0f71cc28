"""Hypervisors, services and availability zones: the hosts, as the Compute API names them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from trunkline.api.compute import inventory
from trunkline.api.compute.flavors import next_link
from trunkline.api.compute.inventory import host_number, host_uuid
from trunkline.api.compute.wire import Body, at, boolean, page_limit, shaped, single
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import BadField, BadRequest, NotFound
from trunkline.resources.compute import Server
from trunkline.resources.region import Host
from trunkline.store import Reader

BINARY = "nova-compute"
#: The services of the control plane, which are one process here.
_CONTROL = ("nova-scheduler", "nova-conductor")
#: QEMU's version as hypervisors report it, major * 1,000,000 + minor * 1,000.
_QEMU = 7_002_000


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


class HostsApi:
    """The handlers of hypervisors, services and zones."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    # Hypervisors.

    async def list(self, request: Request, minor: int) -> Reply:
        """The hypervisors, by name only."""
        return await self._list(request, minor, detail=False)

    async def detail(self, request: Request, minor: int) -> Reply:
        """The hypervisors, with what they have and what is taken of it."""
        return await self._list(request, minor, detail=True)

    async def _list(self, request: Request, minor: int, *, detail: bool) -> Reply:
        verb = "list-detail" if detail else "list"
        self.engine.require(f"os_compute_api:os-hypervisors:{verb}", request.context, {})
        query = single(request.query)
        wanted = query.get("hypervisor_hostname_pattern") if minor >= 53 else None
        with_servers = minor >= 53 and boolean("with_servers", query.get("with_servers", "false"))

        def run(reader: Reader) -> list[dict[str, Any]]:
            there = inventory.all_hosts(reader)
            if wanted is not None:
                there = [host for host in there if wanted in host.id]
                if not there:
                    raise NotFound(f"No hypervisor matching '{wanted[:80]}' could be found.")
            return [self._render(reader, host, minor, detail, with_servers) for host in there]

        items = await self.engine.read(run)
        body: dict[str, Any] = {"hypervisors": items}
        if minor >= 33:
            body["hypervisors"], more = _page(items, query)
            if more:
                rest = [(n, v) for n, v in request.query if n != "marker"]
                path = "os-hypervisors/detail" if detail else "os-hypervisors"
                marker = str(body["hypervisors"][-1]["id"])
                body["hypervisors_links"] = [next_link(request, path, rest, marker)]
        return Reply(body)

    def _render(
        self, reader: Reader, host: Host, minor: int, detail: bool, with_servers: bool
    ) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "id": host_uuid(host.id, "hypervisor") if minor >= 53 else host_number(host.id),
            "hypervisor_hostname": host.id,
            "state": "up" if host.alive else "down",
            "status": "enabled" if host.enabled else "disabled",
        }
        servers = reader.find(Server, host=host.id) if detail or with_servers else []
        if with_servers and (servers or minor >= 75):
            shown["servers"] = [{"uuid": s.id, "name": instance_name(s)} for s in servers]
        if not detail:
            return shown
        shown |= {
            "hypervisor_type": "QEMU",
            "hypervisor_version": _QEMU,
            "host_ip": host.underlay_address or "0.0.0.0",
            "service": {
                "id": host_uuid(host.id, "service") if minor >= 53 else host_number(host.id),
                "host": host.id,
                "disabled_reason": host.disabled_reason,
            },
        }
        if minor >= 88:
            shown["uptime"] = self._uptime(host)
        else:
            shown |= _resources(host, servers)
            shown["cpu_info"] = {} if minor >= 28 else ""
        return shown

    def _uptime(self, host: Host) -> str | None:
        """How long the host has been seen to be up, as `uptime` writes it; None where it is not."""
        if not host.alive:
            return None
        minutes = max(0, int(time.time() - host.seen_at)) // 60
        return f" up {minutes // 1440} days, {minutes // 60 % 24}:{minutes % 60:02}"

    async def show(self, request: Request, minor: int) -> Reply:
        """One hypervisor."""
        self.engine.require("os_compute_api:os-hypervisors:show", request.context, {})
        query = single(request.query)
        with_servers = minor >= 53 and boolean("with_servers", query.get("with_servers", "false"))

        def run(reader: Reader) -> dict[str, Any]:
            host = self._hypervisor(reader, request.path["id"], minor)
            return self._render(reader, host, minor, True, with_servers)

        return Reply({"hypervisor": await self.engine.read(run)})

    async def uptime(self, request: Request, minor: int) -> Reply:
        """How long a hypervisor has been up."""
        self.engine.require("os_compute_api:os-hypervisors:uptime", request.context, {})

        def run(reader: Reader) -> dict[str, Any]:
            host = self._hypervisor(reader, request.path["id"], minor)
            if not host.alive:
                raise BadRequest(f"Host {host.id} does not report, its uptime is not known.")
            return {**self._render(reader, host, minor, False, False), "uptime": self._uptime(host)}

        return Reply({"hypervisor": await self.engine.read(run)})

    async def search(self, request: Request, minor: int) -> Reply:
        """Hypervisors by a part of their name."""
        return await self._search(request, minor, with_servers=False)

    async def servers(self, request: Request, minor: int) -> Reply:
        """Hypervisors by a part of their name, with their servers."""
        return await self._search(request, minor, with_servers=True)

    async def _search(self, request: Request, minor: int, *, with_servers: bool) -> Reply:
        verb = "servers" if with_servers else "search"
        self.engine.require(f"os_compute_api:os-hypervisors:{verb}", request.context, {})
        wanted = request.path["id"]

        def run(reader: Reader) -> list[dict[str, Any]]:
            there = [host for host in inventory.all_hosts(reader) if wanted in host.id]
            if not there:
                raise NotFound(f"No hypervisor matching '{wanted[:80]}' could be found.")
            return [self._render(reader, host, minor, False, with_servers) for host in there]

        return Reply({"hypervisors": await self.engine.read(run)})

    async def statistics(self, request: Request, minor: int) -> Reply:
        """The sums over all hypervisors."""
        self.engine.require("os_compute_api:os-hypervisors:statistics", request.context, {})

        def run(reader: Reader) -> dict[str, Any]:
            sums: dict[str, Any] = dict.fromkeys(_resources(Host(), []), 0)
            there = [host for host in inventory.all_hosts(reader) if host.enabled]
            for host in there:
                for name, value in _resources(host, reader.find(Server, host=host.id)).items():
                    sums[name] += value
            return {"count": len(there), **sums}

        return Reply({"hypervisor_statistics": await self.engine.read(run)})

    def _hypervisor(self, reader: Reader, id: str, minor: int) -> Host:
        for host in reader.select(Host):
            if id == (host_uuid(host.id, "hypervisor") if minor >= 53 else str(host_number(host.id))):
                return host
        raise NotFound(f"Hypervisor with ID '{id[:80]}' could not be found.")

    # Services.

    async def services(self, request: Request, minor: int) -> Reply:
        """The services: one a host, and those of the control plane."""
        self.engine.require("os_compute_api:os-services:list", request.context, {})
        query = single(request.query)

        def run(reader: Reader) -> list[dict[str, Any]]:
            there = inventory.all_hosts(reader)
            zone_of = inventory.zones(reader, there)
            rows = [self._control(name, minor) for name in _CONTROL]
            rows += [self._service(host, zone_of[host.id], minor) for host in there]
            return [
                row for row in rows if all(query.get(n) in (None, "", row[n]) for n in ("host", "binary"))
            ]

        return Reply({"services": await self.engine.read(run)})

    def _service(self, host: Host, zone: str, minor: int) -> dict[str, Any]:
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

    def _control(self, name: str, minor: int) -> dict[str, Any]:
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
                    zone = inventory.zones(call.tx, [host])[host.id]
                    return self._service(host, zone, minor)
            raise NotFound(f"Service {request.path['id'][:80]} could not be found.")

        return Reply({"service": await self.engine.write(request.context, run)})

    # Zones.

    async def zone_list(self, request: Request, minor: int) -> Reply:
        """The availability zones."""
        self.engine.require("os_compute_api:os-availability-zone:list", request.context, {})
        return Reply({"availabilityZoneInfo": await self.engine.read(lambda r: self._zones(r, False))})

    async def zone_detail(self, request: Request, minor: int) -> Reply:
        """The availability zones, with their hosts."""
        self.engine.require("os_compute_api:os-availability-zone:detail", request.context, {})
        return Reply({"availabilityZoneInfo": await self.engine.read(lambda r: self._zones(r, True))})

    def _zones(self, reader: Reader, detail: bool) -> list[dict[str, Any]]:
        there = inventory.all_hosts(reader)
        zone_of = inventory.zones(reader, there)
        result: list[dict[str, Any]] = []
        if detail:
            services = {n: _state(self._control(n, 1)) for n in _CONTROL}
            result.append(
                {
                    "zoneName": "internal",
                    "zoneState": {"available": True},
                    "hosts": {"control": services},
                }
            )
        for zone in sorted(set(zone_of.values())):
            members = [host for host in there if zone_of[host.id] == zone]
            hosts = {host.id: {BINARY: _state(self._service(host, zone, 1))} for host in members}
            available = any(host.enabled and host.alive for host in members)
            result.append(
                {
                    "zoneName": zone,
                    "zoneState": {"available": available},
                    "hosts": hosts if detail else None,
                }
            )
        return result


def instance_name(server: Server) -> str:
    """The name of a server on its host."""
    return f"instance-{server.id[:8]}"


def _state(service: dict[str, Any]) -> dict[str, Any]:
    return {
        "available": service["state"] == "up",
        "active": service["status"] == "enabled",
        "updated_at": service["updated_at"],
    }


def _resources(host: Host, servers: list[Server]) -> dict[str, Any]:
    taken = [inventory.load_of(server) for server in servers]
    memory, disk = sum(t.memory_mib for t in taken), sum(t.disk_gib for t in taken)
    return {
        "vcpus": host.vcpus,
        "vcpus_used": sum(t.vcpus for t in taken),
        "memory_mb": host.memory_mib,
        "memory_mb_used": memory,
        "free_ram_mb": host.memory_mib - memory,
        "local_gb": host.disk_gib,
        "local_gb_used": disk,
        "free_disk_gb": host.disk_gib - disk,
        "disk_available_least": host.disk_gib - disk,
        "running_vms": sum(1 for s in servers if s.observed_state == "running"),
        "current_workload": sum(1 for s in servers if s.task_state),
    }


def _enabled(host: Host, enabled: bool, reason: str | None) -> Host:
    return replace(host, enabled=enabled, disabled_reason=None if enabled else reason)


def _reason(reason: str | None) -> None:
    if reason is None or not 1 <= len(reason.strip()) <= len(reason) <= 255:
        raise BadField("disabled_reason", "it is a text of 1 to 255 characters.")


def _no_force() -> BadField:
    return BadField("forced_down", "a host's state is observed here and cannot be forced. Disable it.")


def _page(items: list[dict[str, Any]], query: dict[str, str]) -> tuple[list[dict[str, Any]], bool]:
    marker = query.get("marker")
    if marker is not None:
        ids = [str(item["id"]) for item in items]
        if marker not in ids:
            raise BadField("marker", f"no hypervisor with id '{marker[:80]}' was found.")
        items = items[ids.index(marker) + 1 :]
    limit = page_limit(query)
    return items[:limit], len(items) > limit


def endpoints(engine: Engine) -> list[Endpoint]:
    """The paths of hypervisors, services and zones."""
    api = HostsApi(engine)
    many = "/v2.1/os-hypervisors"
    return [
        at("GET", many, api.list, kind="host"),
        at("GET", f"{many}/detail", api.detail, kind="host"),
        at("GET", f"{many}/statistics", api.statistics, until=87, kind="host"),
        at("GET", f"{many}/{{id}}", api.show, kind="host"),
        at("GET", f"{many}/{{id}}/uptime", api.uptime, until=87, kind="host"),
        at("GET", f"{many}/{{id}}/search", api.search, until=52, kind="host"),
        at("GET", f"{many}/{{id}}/servers", api.servers, until=52, kind="host"),
        at("GET", "/v2.1/os-services", api.services, kind="host"),
        at("PUT", "/v2.1/os-services/{id}", _by_version(api), kind="host"),
        at("GET", "/v2.1/os-availability-zone", api.zone_list, kind="host"),
        at("GET", "/v2.1/os-availability-zone/detail", api.zone_detail, kind="host"),
    ]


def _by_version(api: HostsApi) -> Any:
    async def put(request: Request, minor: int) -> Reply:
        """Enables or disables a host."""
        return await (api.patch_service if minor >= 53 else api.set_service)(request, minor)

    return put
