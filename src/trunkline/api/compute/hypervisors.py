"""Hypervisors: the hosts, with what they have and what is taken of it, as the Compute API names them."""

from __future__ import annotations

import time
from typing import Any

from trunkline.api.compute import inventory
from trunkline.api.compute.flavors import next_link
from trunkline.api.compute.inventory import host_number, host_uuid
from trunkline.api.compute.wire import at, boolean, page_limit, single
from trunkline.api.engine import Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import BadField, BadRequest, NotFound
from trunkline.resources.compute import Server
from trunkline.resources.region import Host
from trunkline.store import Reader

#: QEMU's version as hypervisors report it, major * 1,000,000 + minor * 1,000.
_QEMU = 7_002_000


class HypervisorApi:
    """The handlers of /v2.1/os-hypervisors."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

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


def instance_name(server: Server) -> str:
    """The name of a server on its host."""
    return f"instance-{server.id[:8]}"


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
    """The paths of hypervisors."""
    api = HypervisorApi(engine)
    many = "/v2.1/os-hypervisors"
    return [
        at("GET", many, api.list, kind="host"),
        at("GET", f"{many}/detail", api.detail, kind="host"),
        at("GET", f"{many}/statistics", api.statistics, until=87, kind="host"),
        at("GET", f"{many}/{{id}}", api.show, kind="host"),
        at("GET", f"{many}/{{id}}/uptime", api.uptime, until=87, kind="host"),
        at("GET", f"{many}/{{id}}/search", api.search, until=52, kind="host"),
        at("GET", f"{many}/{{id}}/servers", api.servers, until=52, kind="host"),
    ]
