"""What the control plane knows to be well or not: one document, from what was observed.

GET /status    with the key of STATE/run/status.key in X-Trunkline-Key

{"well": bool, "cloud": {...}, "control": {...}, "backend": {...},
 "hosts": [...], "gateways": [...], "servers": [...], "appliances": [...],
 "problems": [{"what", "cause", "remedy"}, ...]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trunkline.backends.contract import Observation, Problem
from trunkline.control import promises
from trunkline.control.directory import RegionDirectory
from trunkline.control.loop import LoopState
from trunkline.plan import gateways
from trunkline.resources.appliance import Appliance, Unit
from trunkline.resources.compute import Server
from trunkline.resources.network import GatewayPort, Router, gateways_of
from trunkline.resources.region import Host
from trunkline.resources.reports import HostReport
from trunkline.store import Reader

#: A host that is this many seconds behind its slice is told of.
PATIENCE = 10.0


@dataclass
class Sources:
    """What a status document is made of."""

    cloud: Mapping[str, Any]
    loop: LoopState
    directory: RegionDirectory
    observation: Observation
    backend: str
    #: What is under way at the start: step to "waiting", "running", "done" or an error's text.
    steps: Mapping[str, str]


def document(reader: Reader, sources: Sources) -> dict[str, Any]:
    """The whole document."""
    promised = promises.shown(reader)
    hosts = [{**_host(h, sources), "promises": promised[h.id]} for h in reader.select(Host)]
    servers = [_server(s) for s in reader.select(Server)]
    problems: list[Problem] = list(sources.observation.problems)
    if sources.loop.trouble:
        problems.append(
            Problem(
                "The newest revision is not applied",
                sources.loop.trouble,
                "It is tried again by itself. If this stays: `trunkline logs control`.",
            )
        )
    for entry in hosts:
        problems += [
            Problem(f"{entry['name']}: {p['what']}", p["cause"], p["remedy"]) for p in entry["problems"]
        ]
        problems += [_overpromised(entry["name"], p) for p in entry["promises"] if p["held"] > p["offered"]]
    for entry in servers:
        if entry["problem"] is not None:
            p = entry["problem"]
            problems.append(
                Problem(f"server {entry['name']} ({entry['id']}): {p['what']}", p["cause"], p["remedy"])
            )
    appliances = [_appliance(reader, a) for a in reader.select(Appliance)]
    for entry in appliances:
        problems += [
            Problem(f"appliance {entry['name'] or entry['id']}: {c['what']}", c["cause"], c["remedy"])
            for c in entry["conditions"]
        ]
    loop = sources.loop
    return {
        "well": not problems,
        "cloud": dict(sources.cloud),
        "control": {
            "revision": reader.revision,
            "applied_revision": loop.applied.revision,
            "healed": loop.healed,
            "compile_seconds": round(loop.compile_seconds, 4),
            "apply_seconds": round(loop.apply_seconds, 4),
            "steps": dict(sources.steps),
        },
        "backend": {
            "name": sources.backend,
            "well": not sources.observation.problems and not loop.trouble,
            "hosts": sorted(sources.observation.hosts),
            "ports_up": len(sources.observation.ports_up),
            "gateways": dict(sources.observation.gateways),
        },
        "hosts": hosts,
        "gateways": [
            _gateway(router, gateway, sources)
            for router in reader.select(Router)
            for gateway in gateways_of(router)
        ],
        "servers": servers,
        "appliances": appliances,
        "problems": [asdict(p) for p in problems],
    }


def _gateway(router: Router, gateway: GatewayPort, sources: Sources) -> dict[str, Any]:
    few = len(gateway.hosts) < gateways.FEWEST
    return {
        "router": router.id,
        "name": router.name,
        "host": sources.observation.gateways.get(gateway.port_id),
        "hosts": list(gateway.hosts),
        "note": f"does not move when its host dies: that takes {gateways.FEWEST} hosts" if few else "",
    }


def _overpromised(host: str, promise: Mapping[str, Any]) -> Problem:
    what = " ".join(filter(None, (promise["what"], promise["link"])))
    return Problem(
        f"{host}: ports are promised more {what} than it has",
        f"they hold {promise['held']} {promise['unit']} of {promise['offered']}",
        f"Move servers to another host, or `trunkline host promise {host}`.",
    )


def _host(host: Host, sources: Sources) -> dict[str, Any]:
    directory = sources.directory
    report: HostReport | None = directory.reports.get(host.id)
    silent = directory.silent(host.id)
    problems: list[dict[str, str]] = []
    if silent:
        problems.append(
            {
                "what": "its agent is silent",
                "cause": "no report for some seconds: the agent does not run, or cannot reach control",
                "remedy": f"The keeper starts it again; if this stays: `trunkline logs {host.id}-agent`",
            }
        )
    if host.id not in sources.observation.hosts:
        problems.append(
            {
                "what": "the backend does not see it",
                "cause": "its ovn-controller is not registered as a chassis",
                "remedy": f"`trunkline logs {host.id}-ovn-controller`",
            }
        )
    if report is not None and not silent:
        problems += [{"what": p.what, "cause": p.cause, "remedy": p.remedy} for p in report.problems]
        problems += [
            {
                "what": f"{d.name} is not well",
                "cause": d.detail or "it does not run",
                "remedy": f"It is started again; if this stays: `trunkline logs {host.id}-{d.name}`",
            }
            for d in report.daemons
            if not d.well
        ]
    return {
        "name": host.id,
        "alive": not silent,
        "well": not problems,
        "enabled": host.enabled,
        "accelerator": host.accelerator,
        "datapath": host.datapath,
        "vcpus": host.vcpus,
        "memory_mib": host.memory_mib,
        "applied_revision": report.applied_revision if report else None,
        "published_revision": directory.published_revision(host.id),
        "daemons": []
        if report is None
        else [
            {"name": d.name, "alive": d.alive, "well": d.well, "detail": d.detail, "restarts": d.restarts}
            for d in report.daemons
        ],
        "problems": problems,
    }


def _appliance(reader: Reader, appliance: Appliance) -> dict[str, Any]:
    units = reader.find(Unit, appliance_id=appliance.id)
    troubled = appliance.status in ("DEGRADED", "ERROR")
    return {
        "id": appliance.id,
        "name": appliance.name,
        "project_id": appliance.project_id,
        "status": appliance.status,
        "units": len(units),
        "running": sum(u.seen is not None and u.seen.state == "running" for u in units),
        "hosts": sorted({unit.host for unit in units}),
        "conditions": [
            {"what": c.what, "cause": c.cause, "remedy": c.remedy} for c in appliance.conditions if troubled
        ],
    }


def _server(server: Server) -> dict[str, Any]:
    problem = None
    if server.problem is not None or server.fault is not None:
        fault = server.problem or server.fault
        assert fault is not None
        problem = {
            "what": f"is {server.status}",
            "cause": fault.message,
            "remedy": f"`openstack server show {server.id}`; "
            f"`openstack server reboot --hard {server.id}` starts it anew.",
        }
    return {
        "id": server.id,
        "name": server.name,
        "project_id": server.project_id,
        "host": server.host,
        "status": server.status,
        "observed": server.observed_state,
        "problem": problem,
    }
