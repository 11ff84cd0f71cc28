"""A guest that powers itself off: what is wanted follows, and never on a stale word of its host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from compute_lab import Lab, seen
from msgspec.structs import replace

from trunkline.resources.reports import ServerReport


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    found = Lab(tmp_path).with_hosts("h1")
    yield found
    found.close()


def halted(lab: Lab, id: str) -> ServerReport:
    """What the host says of a guest that powered itself off, as of what is wanted now."""
    row = lab.row(id)
    assert row is not None
    return replace(seen(row, "stopped"), halted=True)


def actions(lab: Lab, id: str) -> list[str]:
    """What happened to a server, the newest first."""
    return [a["action"] for a in lab.ask("GET", f"/servers/{id}/os-instance-actions")["instanceActions"]]


def test_its_server_is_wanted_stopped_from_then_on(lab: Lab) -> None:
    id = lab.booted()
    lab.report("h1", halted(lab, id))
    row = lab.row(id)
    assert row is not None
    assert (row.power, row.status, row.task_state) == ("stopped", "SHUTOFF", None)
    assert actions(lab, id) == ["stop", "create"]


def test_it_can_be_started_again(lab: Lab) -> None:
    id = lab.booted()
    lab.report("h1", halted(lab, id))
    lab.act(id, "os-start")
    assert lab.show(id)["OS-EXT-STS:task_state"] == "powering-on"
    lab.running(id)
    assert lab.show(id)["status"] == "ACTIVE"


@pytest.mark.parametrize("action", ["os-start", {"reboot": {"type": "HARD"}}])
def test_what_its_host_says_of_the_time_before_a_start_does_not_undo_it(lab: Lab, action: object) -> None:
    id = lab.booted()
    stale = halted(lab, id)
    lab.report("h1", stale)
    lab.act(id, action)
    lab.report("h1", stale)
    row = lab.row(id)
    assert row is not None
    assert row.power == "running"


def test_a_rebuild_is_not_undone_either(lab: Lab) -> None:
    id = lab.booted()
    stale = halted(lab, id)
    image = lab.show(id)["image"]["id"]
    lab.act(id, {"rebuild": {"imageRef": image}})
    lab.report("h1", stale)
    row = lab.row(id)
    assert row is not None
    assert (row.power, row.status) == ("running", "REBUILD")


def test_a_guest_that_its_host_stopped_is_not_taken_for_one_that_did_so_itself(lab: Lab) -> None:
    id = lab.booted()
    lab.running(id, state="stopped")
    row = lab.row(id)
    assert row is not None
    assert (row.power, row.status, row.task_state) == ("running", "SHUTOFF", "powering-on")


def test_one_that_powers_itself_off_before_it_was_seen_running_is_built(lab: Lab) -> None:
    id = lab.boot()
    lab.report("h1", halted(lab, id))
    assert lab.show(id)["status"] == "SHUTOFF"
    assert lab.show(id)["OS-SRV-USG:launched_at"] is not None


def test_an_agent_that_has_not_looked_yet_changes_nothing(lab: Lab) -> None:
    id = lab.booted()
    before = lab.row(id)
    lab.report("h1", ServerReport(id=id, state="unknown"))
    assert lab.row(id) == before


def test_a_server_is_rebooting_until_it_runs_again(lab: Lab) -> None:
    id = lab.booted()
    lab.act(id, {"reboot": {"type": "HARD"}})
    assert lab.show(id)["status"] == "HARD_REBOOT"
    lab.running(id, state="starting")
    assert lab.show(id)["status"] == "HARD_REBOOT"
    lab.running(id)
    assert lab.show(id)["status"] == "ACTIVE"
