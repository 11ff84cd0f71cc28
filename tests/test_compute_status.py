"""What a server is, from what is wanted and what is seen: every case in one table."""

from __future__ import annotations

from typing import Any

import pytest

from trunkline.api.compute.status import derive, fault_of, settle
from trunkline.resources.compute import Fault, Server

SINCE = "2026-11-21T04:00:00Z"


def server(**fields: Any) -> Server:
    known = {"host": "h1", "launched_at": SINCE, "observed_state": "running", "observed_disk_serial": 0}
    return Server(**{**known, **fields})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        # A new server.
        ({"launched_at": None, "observed_state": ""}, ("building", "spawning", 0, "BUILD")),
        ({"launched_at": None, "observed_state": "fetching"}, ("building", "spawning", 0, "BUILD")),
        ({"launched_at": None, "observed_state": "starting"}, ("building", "spawning", 0, "BUILD")),
        ({"launched_at": None, "ports": ["p"]}, ("building", "networking", 1, "BUILD")),
        ({"launched_at": None, "observed_state": "failed"}, ("error", None, 0, "ERROR")),
        ({"launched_at": None, "host": ""}, ("error", None, 1, "ERROR")),
        # At rest.
        ({}, ("active", None, 1, "ACTIVE")),
        ({"power": "stopped", "observed_state": "stopped"}, ("stopped", None, 4, "SHUTOFF")),
        ({"power": "stopped", "observed_state": "absent"}, ("stopped", None, 0, "SHUTOFF")),
        ({"power": "paused", "observed_state": "paused"}, ("paused", None, 3, "PAUSED")),
        ({"power": "suspended", "observed_state": "suspended"}, ("suspended", None, 4, "SUSPENDED")),
        # Under way.
        ({"power": "stopped"}, ("active", "powering-off", 1, "ACTIVE")),
        ({"observed_state": "stopped"}, ("stopped", "powering-on", 4, "SHUTOFF")),
        ({"observed_state": "starting"}, ("stopped", "powering-on", 0, "SHUTOFF")),
        ({"power": "paused"}, ("active", "pausing", 1, "ACTIVE")),
        ({"observed_state": "paused"}, ("paused", "unpausing", 3, "PAUSED")),
        ({"power": "suspended"}, ("active", "suspending", 1, "ACTIVE")),
        ({"power": "suspended", "observed_state": "paused"}, ("active", "suspending", 3, "ACTIVE")),
        ({"observed_state": "suspended"}, ("suspended", "resuming", 4, "SUSPENDED")),
        ({"power": "paused", "observed_state": "starting"}, ("stopped", "powering-on", 0, "SHUTOFF")),
        ({"soft_reboot_serial": 1}, ("active", "rebooting", 1, "REBOOT")),
        ({"hard_reboot_serial": 1}, ("active", "rebooting_hard", 1, "HARD_REBOOT")),
        (
            {"hard_reboot_serial": 1, "observed_hard_reboot_serial": 1},
            ("active", None, 1, "ACTIVE"),
        ),
        ({"disk_serial": 1}, ("active", "rebuild_spawning", 1, "REBUILD")),
        (
            {"disk_serial": 1, "power": "stopped", "observed_state": "stopped"},
            ("stopped", "rebuild_spawning", 4, "REBUILD"),
        ),
        ({"deleting": True}, ("active", "deleting", 1, "ACTIVE")),
        # Not well.
        ({"observed_state": "crashed"}, ("error", None, 6, "ERROR")),
        ({"observed_state": "failed"}, ("error", None, 0, "ERROR")),
        ({"forced_error": True}, ("error", None, 1, "ERROR")),
    ],
)
def test_state(fields: dict[str, Any], expected: tuple[Any, ...]) -> None:
    assert tuple(derive(server(**fields))) == expected


def test_a_server_has_launched_when_it_runs_with_all_its_ports() -> None:
    new = server(launched_at=None, ports=["a", "b"], plugged=["a"])
    assert settle(new, SINCE).launched_at is None
    plugged = settle(server(launched_at=None, ports=["a", "b"], plugged=["b", "a"]), SINCE)
    assert (plugged.launched_at, plugged.status) == (SINCE, "ACTIVE")


def test_a_fault_is_told_while_there_is_an_error() -> None:
    why = Fault(code=500, message="no disk", created=SINCE)
    broken = settle(server(observed_state="failed", problem=why), SINCE)
    assert fault_of(broken) == why
    assert fault_of(settle(server(problem=why), SINCE)) is None
