"""What is seen of a cloud: by its keeper, by the pid files, and by control where it answers.

{"well": bool, "cloud": {...}, "daemons": [...], "control": {...} or null, "backend": ..., "hosts": [...],
 "gateways": [...], "servers": [...], "appliances": [...], "problems": [{"what", "cause", "remedy"}, ...]}
"""

from __future__ import annotations

import time
from typing import Any

from trunkline.cli.api import get_json
from trunkline.devices import files, machine, namespace, process, units
from trunkline.devices.lab import Topology
from trunkline.devices.state import Cloud, StateFolder
from trunkline.devices.units import Unit, UnitState

#: A daemon that died is told of for so many seconds, although it runs again.
_RECENT = 60.0
_LITTLE_DISK = 200 * 1024 * 1024


def observe(state: StateFolder) -> dict[str, Any]:
    """The whole document.

    Raises:
        NotFound, Conflict: there is no cloud, or it cannot be read.
    """
    cloud = state.load()
    problems: list[dict[str, str]] = []
    daemons = _daemons(state, problems)
    control = _ask_control(state, cloud, problems) if daemons else None
    if not daemons:
        problems.append(_problem("the cloud is down", "nothing of it runs", "`trunkline up`"))
    else:
        _namespaces(cloud, problems)
    if (free := machine.free_disk(state.root)) < _LITTLE_DISK:
        cause = f"{free // 2**20} MiB are free where {state.root} is"
        problems.append(_problem("the disk is nearly full", cause, "Make room; nothing is lost until then."))
    control = control or {}
    problems += control.get("problems", [])
    return {
        "well": not problems,
        "cloud": {"state": str(state.root), "tag": cloud.tag, "api": cloud.api_url, "region": cloud.region},
        "daemons": daemons,
        "control": control.get("control"),
        "backend": control.get("backend"),
        "hosts": control.get("hosts", []),
        "gateways": control.get("gateways", []),
        "servers": control.get("servers", []),
        "appliances": control.get("appliances", []),
        "problems": problems,
    }


def _problem(what: str, cause: str, remedy: str) -> dict[str, str]:
    return {"what": what, "cause": cause, "remedy": remedy}


def _daemons(state: StateFolder, problems: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Each daemon as its pid file and the keeper tell; none where the cloud is down."""
    listed = units.load_units(state)
    keeper = process.find(state.pidfile("keeper"))
    if not listed:
        return []
    told = units.load_keeper(state)
    rows = [_keeper_row(keeper, told)]
    if keeper is None:
        last = " / ".join(files.last_lines(state.log_file("keeper"), 2))
        cause = (
            f"it was killed, or ended{f': {last}' if last else ''}; daemons go on, but none is started again"
        )
        problems.append(_problem("the keeper does not run", cause, "`trunkline up` starts it"))
    for unit in listed:
        seen = (told.units.get(unit.name) if told else None) or UnitState()
        rows.append(_row(state, unit, seen, keeper is not None, problems))
    return rows


def _keeper_row(keeper: process.Process | None, told: units.KeeperState | None) -> dict[str, Any]:
    note = ""
    if told and told.lost_at and (ago := time.time() - told.lost_at) < _RECENT:
        note = f"{ago:.0f} s ago it took over from one that was killed, or ended"
    return {
        "name": "keeper",
        "state": "running" if keeper else "dead",
        "pid": keeper.pid if keeper else 0,
        "restarts": told.restarts if told else 0,
        "note": note,
    }


def _row(
    state: StateFolder, unit: Unit, seen: UnitState, kept: bool, problems: list[dict[str, str]]
) -> dict[str, Any]:
    running = process.find(state.pidfile(unit.name))
    observed: str = seen.state
    if running is None and observed in ("running", "starting"):
        observed = "dead"
    elif running is not None and not kept:
        observed = "running"
    cause = f"{seen.ended or 'it does not run'}{f': {seen.cause}' if seen.cause else ''}"
    if running is None:
        again = "the keeper starts it again by itself" if kept else "`trunkline up` starts it again"
        remedy = f"{again}; if this stays: `trunkline logs {unit.name}`"
        problems.append(_problem(f"{unit.name} does not run", cause, remedy))
    note = ""
    if seen.ended_at and (ago := time.time() - seen.ended_at) < _RECENT:
        note = f"{ago:.0f} s ago {cause}"
    return {
        "name": unit.name,
        "state": observed,
        "pid": running.pid if running else 0,
        "since": seen.since if running else 0.0,
        "restarts": seen.restarts,
        "ended": seen.ended,
        "ended_at": seen.ended_at,
        "note": note,
    }


def control_status(state: StateFolder, cloud: Cloud) -> dict[str, Any]:
    """What control itself observes: its document at /status.

    Raises:
        OSError: it does not answer, or not with that.
    """
    try:
        key = (state.run / "status.key").read_text().strip()
    except FileNotFoundError:
        key = ""
    answer = get_json(f"{cloud.api_url}/status", timeout=5.0, headers={"X-Trunkline-Key": key})
    if not isinstance(answer, dict) or "hosts" not in answer:
        raise OSError(f"it said {str(answer)[:200]}")
    return answer


def _ask_control(state: StateFolder, cloud: Cloud, problems: list[dict[str, str]]) -> dict[str, Any] | None:
    try:
        return control_status(state, cloud)
    except OSError as error:
        remedy = "wait a moment if it was just started; then `trunkline logs control`"
        problems.append(_problem("control does not answer", f"{cloud.api_url}/status: {error}", remedy))
        return None


def _namespaces(cloud: Cloud, problems: list[dict[str, str]]) -> None:
    missing = [name for name in Topology(cloud).namespaces if not namespace.exists(name)]
    if missing:
        cause = f"{', '.join(missing)} removed by somebody"
        problems.append(
            _problem("namespaces of the lab are missing", cause, "`trunkline down`, `trunkline up`")
        )
