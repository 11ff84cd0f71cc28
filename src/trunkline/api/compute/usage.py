"""What a project used in a span of time, counted over the servers that are there.

The rows of deleted servers are not kept, so their use is not in these sums.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from trunkline.api.compute.wire import at, boolean, single
from trunkline.api.engine import Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import BadField
from trunkline.resources.compute import FlavorFacts, Server
from trunkline.resources.region import Host
from trunkline.store import Reader

_RULE = "os_compute_api:os-simple-tenant-usage:"


class UsageApi:
    """The handlers of os-simple-tenant-usage and os-instance_usage_audit_log."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def list(self, request: Request, minor: int) -> Reply:
        """The use of every project."""
        self.engine.require(f"{_RULE}list", request.context, {})
        query = single(request.query)
        start, stop = _span(query)
        detailed = boolean("detailed", query.get("detailed", "0"))

        def run(reader: Reader) -> list[dict[str, Any]]:
            servers: dict[str, list[Server]] = {}
            for server in reader.select(Server):
                servers.setdefault(server.project_id, []).append(server)
            found = [_usage(project, servers[project], start, stop) for project in sorted(servers)]
            if not detailed:
                for usage in found:
                    del usage["server_usages"]
            return found

        return Reply({"tenant_usages": await self.engine.read(run)})

    async def show(self, request: Request, minor: int) -> Reply:
        """The use of one project."""
        project = request.path["project"]
        self.engine.require(f"{_RULE}show", request.context, {"project_id": project})
        start, stop = _span(single(request.query))

        def run(reader: Reader) -> dict[str, Any]:
            servers = reader.find(Server, project_id=project)
            return _usage(project, servers, start, stop) if servers else {}

        return Reply({"tenant_usage": await self.engine.read(run)})

    async def audit(self, request: Request, minor: int) -> Reply:
        """The periods of usage audits: none was ever run."""
        self.engine.require("os_compute_api:os-instance-usage-audit-log:list", request.context, {})
        return Reply({"instance_usage_audit_logs": self._audit(datetime.now(UTC))})

    async def audit_before(self, request: Request, minor: int) -> Reply:
        """The usage audits before a time."""
        self.engine.require("os_compute_api:os-instance-usage-audit-log:show", request.context, {})
        text = request.path["before"]
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            raise BadField("before", f"Invalid timestamp for date {text[:80]}") from None
        return Reply({"instance_usage_audit_log": self._audit(when)})

    def _audit(self, before: datetime) -> dict[str, Any]:
        with self.engine.store.read() as reader:
            hosts = [host.id for host in reader.select(Host)]
        begin = before.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return {
            "hosts_not_run": hosts,
            "log": {},
            "num_hosts": len(hosts),
            "num_hosts_done": 0,
            "num_hosts_not_run": len(hosts),
            "num_hosts_running": 0,
            "overall_status": f"0 of {len(hosts)} hosts done. 0 errors.",
            "period_beginning": (begin - timedelta(days=1)).replace(day=1).strftime("%Y-%m-%d %H:%M:%S"),
            "period_ending": begin.strftime("%Y-%m-%d %H:%M:%S"),
            "total_errors": 0,
            "total_instances": 0,
        }


def _time(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        if not re.match(r"\d{4}-\d\d-\d\d", text):
            raise ValueError
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise BadField(name, f"Datetime is in invalid format: '{text[:80]}'") from None


def _span(query: dict[str, str]) -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    stop = _time("end", query.get("end")) or now
    start = _time("start", query.get("start")) or stop - timedelta(weeks=4)
    if start >= stop:
        raise BadField("start", "Invalid start time. The start time cannot occur after the end time.")
    return start, stop


def _usage(project: str, servers: list[Server], start: datetime, stop: datetime) -> dict[str, Any]:
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    sums = dict.fromkeys(("hours", "local_gb", "memory_mb", "vcpus"), 0.0)
    for server in servers:
        flavor = server.flavor or FlavorFacts(name="", vcpus=0, ram=0)
        began = datetime.fromisoformat(server.launched_at or server.created_at)
        hours = max(0.0, (min(stop, now) - max(start, began)).total_seconds() / 3600)
        sums["hours"] += hours
        sums["local_gb"] += hours * (flavor.disk + flavor.ephemeral)
        sums["memory_mb"] += hours * flavor.ram
        sums["vcpus"] += hours * flavor.vcpus
        rows.append(
            {
                "instance_id": server.id,
                "name": server.name,
                "tenant_id": project,
                "flavor": flavor.name,
                "vcpus": flavor.vcpus,
                "memory_mb": flavor.ram,
                "local_gb": flavor.disk + flavor.ephemeral,
                "hours": hours,
                "started_at": began.strftime("%Y-%m-%dT%H:%M:%S.%f"),
                "ended_at": None,
                "state": server.vm_state,
                "uptime": int((now - began).total_seconds()),
            }
        )
    return {
        "tenant_id": project,
        "server_usages": rows,
        "start": start.strftime("%Y-%m-%dT%H:%M:%S.%f"),
        "stop": stop.strftime("%Y-%m-%dT%H:%M:%S.%f"),
        "total_hours": sums["hours"],
        "total_local_gb_usage": sums["local_gb"],
        "total_memory_mb_usage": sums["memory_mb"],
        "total_vcpus_usage": sums["vcpus"],
    }


def endpoints(engine: Engine) -> list[Endpoint]:
    """The paths of usage."""
    api = UsageApi(engine)
    return [
        at("GET", "/v2.1/os-simple-tenant-usage", api.list),
        at("GET", "/v2.1/os-simple-tenant-usage/{project}", api.show),
        at("GET", "/v2.1/os-instance_usage_audit_log", api.audit),
        at("GET", "/v2.1/os-instance_usage_audit_log/{before}", api.audit_before),
    ]
