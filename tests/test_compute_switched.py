"""Servers are switched: power, reboots, rescue, rebuilds, locks; and their interfaces come and go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from compute_lab import IMAGE, ROOT, Lab, ports_of, seen, status
from msgspec.structs import replace

from trunkline.resources.reports import Condition


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path).with_hosts("h1", "h2")
    yield made
    made.close()


# Switched.


def test_power_follows_what_is_wanted_as_soon_as_it_is_seen(lab: Lab) -> None:
    id = lab.booted()
    for action, before, state, after in (
        ("os-stop", ("ACTIVE", "powering-off"), "stopped", ("SHUTOFF", None)),
        ("os-start", ("SHUTOFF", "powering-on"), "running", ("ACTIVE", None)),
        ("pause", ("ACTIVE", "pausing"), "paused", ("PAUSED", None)),
        ("unpause", ("PAUSED", "unpausing"), "running", ("ACTIVE", None)),
        ("suspend", ("ACTIVE", "suspending"), "suspended", ("SUSPENDED", None)),
        ("resume", ("SUSPENDED", "resuming"), "running", ("ACTIVE", None)),
    ):
        lab.act(id, action)
        assert status(lab, id) == before
        lab.running(id, state=state)
        assert status(lab, id) == after


def test_an_action_that_the_state_does_not_allow_is_a_conflict(lab: Lab) -> None:
    id = lab.boot()
    for action in ("os-stop", "pause", "os-start", "unpause"):
        refused = lab.act(id, action, status=409)["conflictingRequest"]["message"]
        assert "while it is in vm_state building" in refused
    lab.running(id)
    lab.act(id, "os-stop")
    assert "task_state powering-off" in str(lab.act(id, "pause", status=409))


def test_of_a_suspended_server_only_what_needs_no_guest_is_allowed(lab: Lab) -> None:
    id = lab.booted()
    lab.act(id, "suspend")
    lab.running(id, state="suspended")
    for action in (
        "suspend", "pause", "unpause", "os-start", "os-stop", "rescue", {"reboot": {"type": "SOFT"}},
        {"rebuild": {"imageRef": IMAGE}}, {"resize": {"flavorRef": "2"}},
    ):  # fmt: skip
        refused = lab.act(id, action, status=409)["conflictingRequest"]["message"]
        assert "while it is in vm_state suspended" in refused
    assert lab.show(id)["OS-EXT-STS:power_state"] == 4
    lab.act(id, {"reboot": {"type": "HARD"}})
    assert status(lab, id) == ("HARD_REBOOT", "rebooting_hard")
    lab.running(id)
    assert status(lab, id) == ("ACTIVE", None)


def test_a_server_that_cannot_be_suspended_goes_on_and_its_action_tells_why(lab: Lab) -> None:
    id = lab.booted()
    lab.act(id, "suspend")
    row = lab.row(id)
    assert row is not None
    lab.report(row.host, replace(seen(row, "running"), unsuspended="3 MiB are free"))
    assert status(lab, id) == ("ACTIVE", None)
    (told, *_) = lab.ask("GET", f"/servers/{id}/os-instance-actions")["instanceActions"]
    assert (told["action"], told["message"]) == ("suspend", "The server goes on running: 3 MiB are free")


def test_a_suspended_server_that_cannot_go_on_is_in_error_until_it_is_rebooted(lab: Lab) -> None:
    id = lab.booted()
    lab.act(id, "suspend")
    lab.running(id, state="suspended")
    lab.act(id, "resume")
    why = Condition(what="server s", cause="its memory cannot be loaded", remedy="Reboot it")
    lab.running(id, state="failed", problem=why)
    assert lab.show(id)["fault"]["message"] == "server s: its memory cannot be loaded"
    assert status(lab, id) == ("ERROR", None)
    lab.act(id, "resume", status=409)
    lab.act(id, {"reboot": {"type": "HARD"}})
    lab.running(id)
    assert status(lab, id) == ("ACTIVE", None)


@pytest.mark.parametrize(("kind", "name"), [("SOFT", "REBOOT"), ("HARD", "HARD_REBOOT")])
def test_a_reboot_is_done_when_its_serial_is_reached(lab: Lab, kind: str, name: str) -> None:
    id = lab.booted()
    old = lab.row(id)
    lab.act(id, {"reboot": {"type": kind}})
    assert old is not None
    lab.report(old.host, seen(old, "running"))
    assert lab.show(id)["status"] == name
    lab.running(id)
    assert lab.show(id)["status"] == "ACTIVE"
    lab.act(id, {"reboot": {"type": "WARM"}}, status=400)


def test_a_rescued_server_runs_from_another_disk_until_it_is_unrescued(lab: Lab) -> None:
    id = lab.booted()
    assert lab.act(id, {"rescue": {"adminPass": "secret"}}, status=200) == {"adminPass": "secret"}
    assert status(lab, id) == ("ACTIVE", "rescuing")
    lab.running(id)
    assert status(lab, id) == ("RESCUE", None)
    row = lab.row(id)
    assert row is not None
    assert (row.rescue_image_id, row.disk_serial) == (IMAGE, 0)
    for action in (
        {"reboot": {"type": "HARD"}},
        {"rebuild": {"imageRef": IMAGE}},
        "os-stop",
        "pause",
        "rescue",
    ):
        lab.act(id, action, status=409)
    lab.act(id, "unrescue")
    assert status(lab, id) == ("RESCUE", "unrescuing")
    lab.running(id)
    assert status(lab, id) == ("ACTIVE", None)
    lab.act(id, "unrescue", status=409)
    lab.act(id, "os-stop")
    lab.running(id, state="stopped")
    lab.act(id, "rescue", status=200)
    lab.running(id)
    assert status(lab, id) == ("RESCUE", None)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"adminPass": 1}, "rescue.adminPass"),
        ({"rescue_image_ref": ""}, "rescue.rescue_image_ref"),
        ({"rescue_image_ref": "x"}, "requested image"),
        ({"bogus": 1}, "bogus"),
        ([], "rescue"),
    ],
)
def test_a_bad_rescue_is_refused_by_name(lab: Lab, body: object, named: str) -> None:
    id = lab.booted()
    assert named in lab.act(id, {"rescue": body}, status=400)["badRequest"]["message"]
    assert status(lab, id) == ("ACTIVE", None)


def test_a_rebuild_asks_for_a_fresh_disk(lab: Lab) -> None:
    id = lab.booted(networks=[{"uuid": lab.network()}])
    ports = [port.id for port in ports_of(lab, id)]
    body = {"rebuild": {"imageRef": IMAGE, "name": "again", "metadata": {"a": "b"}, "adminPass": "secret"}}
    told = lab.act(id, body, version="2.57")["server"]
    assert (told["status"], told["name"], told["metadata"]) == ("REBUILD", "again", {"a": "b"})
    assert told["adminPass"] == "secret"
    row = lab.row(id)
    assert row is not None
    assert (row.disk_serial, row.admin_password) == (1, "secret")
    lab.running(id)
    assert lab.show(id)["status"] == "ACTIVE"
    assert [port.id for port in ports_of(lab, id)] == ports


def test_an_operator_sets_a_server_to_error_and_back(lab: Lab) -> None:
    id = lab.booted()
    lab.act(id, {"os-resetState": {"state": "error"}}, status=403)
    lab.act(id, {"os-resetState": {"state": "error"}}, by=ROOT)
    assert lab.show(id)["status"] == "ERROR"
    lab.act(id, {"os-resetState": {"state": "active"}}, by=ROOT)
    assert lab.show(id)["status"] == "ACTIVE"
    lab.act(id, {"os-resetState": {"state": "tired"}}, by=ROOT, status=400)


def test_a_locked_server_is_left_alone(lab: Lab) -> None:
    id = lab.booted()
    lab.act(id, {"lock": {"locked_reason": "mine"}}, version="2.73")
    shown = lab.show(id)
    assert (shown["locked"], shown["locked_reason"]) == (True, "mine")
    lab.act(id, "os-stop", status=409)
    lab.ask("DELETE", f"/servers/{id}", status=409)
    lab.act(id, "unlock")
    lab.act(id, "lock", by=ROOT)
    lab.act(id, "unlock", status=403)
    lab.act(id, "os-stop", by=ROOT)


@pytest.mark.parametrize("action", ["changePassword", "evacuate"])
def test_what_is_not_offered_is_said_clearly(lab: Lab, action: str) -> None:
    id = lab.booted()
    refused = lab.act(id, {action: {}}, status=400)["badRequest"]["message"]
    assert refused.startswith(f"This cloud does not offer {action}.")
    lab.ask("POST", "/servers/nobody/action", {action: {}}, status=404)
    assert "no such action" in str(lab.act(id, {"dance": {}}, status=400))


def test_a_console_is_read_from_the_servers_host(lab: Lab) -> None:
    id = lab.boot()
    lab.act(id, {"os-getConsoleOutput": {}}, status=409)
    lab.running(id)
    row = lab.row(id)
    assert row is not None
    assert lab.act(id, {"os-getConsoleOutput": {"length": 5}}, status=200) == {"output": f"{row.host} 5"}
    assert lab.act(id, {"os-getConsoleOutput": {}}, status=200) == {"output": f"{row.host} None"}
    lab.act(id, {"os-getConsoleOutput": {"length": "x"}}, status=400)


# Interfaces.


def test_an_interface_is_attached_and_detached_while_the_server_runs(lab: Lab) -> None:
    id = lab.booted()
    net = lab.network()
    given = lab.ask("POST", "/network/v2.0/ports", {"port": {"network_id": net}})["port"]["id"]
    path = f"/servers/{id}/os-interface"
    made = lab.ask("POST", path, {"interfaceAttachment": {"net_id": net, "tag": "t"}}, version="2.70")
    own = made["interfaceAttachment"]["port_id"]
    assert made["interfaceAttachment"]["tag"] == "t"
    lab.ask("POST", path, {"interfaceAttachment": {"port_id": given}})
    listed = lab.ask("GET", path)["interfaceAttachments"]
    assert [each["port_id"] for each in listed] == [own, given]
    row = lab.row(id)
    assert row is not None
    assert {port.host_id for port in ports_of(lab, id)} == {row.host}
    assert lab.show(id)["status"] == "ACTIVE"
    for port in (own, given):
        lab.ask("DELETE", f"{path}/{port}", status=202)
    assert lab.ask("GET", path)["interfaceAttachments"] == []
    lab.ask("GET", f"/network/v2.0/ports/{own}", status=404)
    left = lab.ask("GET", f"/network/v2.0/ports/{given}")["port"]
    assert (left["device_id"], left["device_owner"]) == ("", "")
    lab.ask("DELETE", f"{path}/{own}", status=404)


def test_a_security_group_is_put_on_a_server_and_taken_off(lab: Lab) -> None:
    id = lab.booted(networks=[{"uuid": lab.network()}])
    lab.ask("POST", "/network/v2.0/security-groups", {"security_group": {"name": "web"}})
    lab.act(id, {"addSecurityGroup": {"name": "web"}})
    assert {g["name"] for g in lab.show(id)["security_groups"]} == {"default", "web"}
    lab.act(id, {"removeSecurityGroup": {"name": "web"}})
    assert [g["name"] for g in lab.show(id)["security_groups"]] == ["default"]
    lab.act(id, {"removeSecurityGroup": {"name": "web"}}, status=404)
    lab.act(id, {"addSecurityGroup": {"name": "nobody"}}, status=404)
