"""Resize and cold migration over the API, with hosts that are played: each step, undone, refused, cut off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compute_lab import ROOT, Lab, seen
from msgspec.structs import replace

from trunkline.api.compute import inventory
from trunkline.resources.compute import Server
from trunkline.resources.network import Port
from trunkline.resources.reports import Condition, ServerReport


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path).with_hosts("h1", "h2", memory_mib=8192)
    yield made
    made.close()


def row(lab: Lab, id: str) -> Server:
    found = lab.row(id)
    assert found is not None
    return found


def status(lab: Lab, id: str) -> tuple[str, str | None]:
    shown = lab.show(id, by=ROOT)
    return shown["status"], shown["OS-EXT-STS:task_state"]


def saw(lab: Lab, id: str, state: str = "running", **more: Any) -> ServerReport:
    """What a host says of a server that has come to it."""
    server = row(lab, id)
    return replace(seen(server, state), moved=server.move_serial, **more)


def parked(lab: Lab, id: str) -> None:
    """Its host has set its disk aside."""
    server = row(lab, id)
    lab.report(server.host, replace(seen(server, "stopped"), parked=server.move_serial))


def arrived(lab: Lab, id: str, state: str = "running") -> None:
    """Its host has it as it is wanted."""
    lab.report(row(lab, id).host, saw(lab, id, state))


def moved(lab: Lab, id: str, action: Any = "migrate", state: str = "running") -> None:
    """It moves, as far as VERIFY_RESIZE."""
    lab.act(id, action, by=ROOT)
    parked(lab, id)
    arrived(lab, id, state)
    assert status(lab, id) == ("VERIFY_RESIZE", None)


def moves(lab: Lab) -> list[tuple[str, str]]:
    found = lab.ask("GET", "/os-migrations", by=ROOT, version="2.59")["migrations"]
    return [(each["migration_type"], each["status"]) for each in found]


def bound(lab: Lab, id: str) -> set[str]:
    """The hosts that its ports are bound to."""
    with lab.store.read() as reader:
        return {port.host_id for port in reader.find(Port, device_id=id)}


def test_a_resize_goes_step_by_step_and_is_confirmed(lab: Lab) -> None:
    id = lab.booted(networks=[{"uuid": lab.network()}])
    origin = row(lab, id).host
    lab.act(id, {"resize": {"flavorRef": "2"}})
    assert (status(lab, id), bound(lab, id)) == (("RESIZE", "resize_migrating"), {origin})
    lab.running(id)
    assert status(lab, id) == ("RESIZE", "resize_migrating")
    parked(lab, id)
    dest = row(lab, id).host
    assert (status(lab, id), bound(lab, id)) == (("RESIZE", "resize_finish"), {dest})
    lab.report(dest, replace(saw(lab, id), moved=0))
    assert status(lab, id) == ("RESIZE", "resize_finish")
    arrived(lab, id)
    assert (status(lab, id), moves(lab)) == (("VERIFY_RESIZE", None), [("resize", "finished")])
    lab.act(id, "confirmResize", status=204)
    assert (status(lab, id), moves(lab)) == (("ACTIVE", None), [("resize", "confirmed")])
    assert (lab.show(id)["flavor"]["original_name"], row(lab, id).origin_host) == ("small", "")
    actions = lab.ask("GET", f"/servers/{id}/os-instance-actions", by=ROOT)["instanceActions"]
    assert [each["action"] for each in actions[:2]] == ["confirmResize", "resize"]


def test_a_move_is_reverted_on_the_old_host_as_the_old_flavor_that_is_gone(lab: Lab) -> None:
    body = {"flavor": {"name": "mine", "id": "mine", "vcpus": 1, "ram": 64, "disk": 1}}
    lab.ask("POST", "/flavors", body, by=ROOT)
    id = lab.booted(flavorRef="mine", networks=[{"uuid": lab.network()}])
    lab.ask("DELETE", "/flavors/mine", by=ROOT)
    origin = row(lab, id).host
    moved(lab, id, {"resize": {"flavorRef": "2"}})
    dest = row(lab, id).host
    lab.act(id, "revertResize")
    assert (status(lab, id), bound(lab, id)) == (("REVERT_RESIZE", "resize_reverting"), {dest})
    lab.running(id)
    assert row(lab, id).host == dest, "it is still there"
    lab.report(dest)
    assert (row(lab, id).host, bound(lab, id)) == (origin, {origin})
    assert status(lab, id) == ("REVERT_RESIZE", "resize_reverting")
    arrived(lab, id)
    assert (status(lab, id), moves(lab)) == (("ACTIVE", None), [("resize", "reverted")])
    assert (row(lab, id).flavor_id, lab.show(id)["flavor"]["original_name"]) == ("mine", "mine")


def test_a_stopped_server_moves_and_stays_stopped(lab: Lab) -> None:
    id = lab.booted()
    lab.act(id, "os-stop")
    lab.running(id, state="stopped")
    moved(lab, id, state="stopped")
    lab.act(id, "confirmResize", status=204)
    assert status(lab, id) == ("SHUTOFF", None)


def test_a_migration_goes_to_another_host_or_the_one_named(lab: Lab) -> None:
    lab.with_hosts("h3")
    id = lab.booted(host="h1", by=ROOT)
    for version in ("2.55", "2.56"):
        lab.act(
            id,
            {"migrate": {"host": "h3"}},
            by=ROOT,
            version=version,
            status=400 if version == "2.55" else 202,
        )
    parked(lab, id)
    assert row(lab, id).host == "h3"
    other = lab.booted(host="h1", by=ROOT)
    moved(lab, other)
    assert row(lab, other).host != "h1"


@pytest.mark.parametrize("host", ["nobody", "h1", "", 7])
def test_a_host_that_cannot_be_is_refused_by_name(lab: Lab, host: Any) -> None:
    id = lab.booted(host="h1", by=ROOT)
    refused = lab.act(id, {"migrate": {"host": host}}, by=ROOT, version="2.56", status=400)
    assert "migrate.host" in refused["badRequest"]["message"]
    assert status(lab, id) == ("ACTIVE", None)


def test_where_no_host_has_room_nothing_is_changed(lab: Lab) -> None:
    id = lab.booted(host="h1", by=ROOT)
    lab.alive("h2", False)
    refused = lab.act(id, "migrate", by=ROOT, status=400)["badRequest"]["message"]
    assert "No valid host was found. h2: its agent does not report." in refused
    assert (status(lab, id), moves(lab)) == (("ACTIVE", None), [])


@pytest.mark.parametrize(
    ("flavor", "said"),
    [
        ({"disk": 1}, "Unable to resize disk down"),
        ({"disk": 0}, "zero disk"),
        ({"disk": 5, "OS-FLV-EXT-DATA:ephemeral": 1}, "ephemeral disk"),
        (None, "must change flavor"),
    ],
)
def test_a_flavor_that_disks_do_not_fit_is_refused(
    lab: Lab, flavor: dict[str, Any] | None, said: str
) -> None:
    base = {"vcpus": 1, "ram": 64, "disk": 4, "OS-FLV-EXT-DATA:ephemeral": 2}
    for name, fields in (("old", {}), ("new", flavor or {})):
        lab.ask("POST", "/flavors", {"flavor": {"name": name, "id": name, **base, **fields}}, by=ROOT)
    id = lab.booted(flavorRef="old")
    asked = {"resize": {"flavorRef": "new" if flavor else "old"}}
    assert said in lab.act(id, asked, status=400)["badRequest"]["message"]


@pytest.mark.parametrize("limit", ["cores", "ram"])
def test_a_quota_bounds_resizes_both_ways(lab: Lab, limit: str) -> None:
    big = {"flavor": {"name": "big", "id": "big", "vcpus": 3, "ram": 3000, "disk": 1}}
    lab.ask("POST", "/flavors", big, by=ROOT)
    id = lab.booted(flavorRef="big")
    moved(lab, id, {"resize": {"flavorRef": "1"}})
    most = {"cores": 2, "ram": 200}[limit]
    lab.ask("PUT", "/os-quota-sets/p1", {"quota_set": {limit: most}}, by=ROOT)
    assert limit in lab.act(id, "revertResize", status=403)["forbidden"]["message"]
    lab.act(id, "confirmResize", status=204)
    assert limit in lab.act(id, {"resize": {"flavorRef": "big"}}, status=403)["forbidden"]["message"]
    assert status(lab, id) == ("ACTIVE", None)


def test_both_places_are_held_until_the_end(lab: Lab) -> None:
    id = lab.booted(host="h1", by=ROOT)

    def taken() -> dict[str, int]:
        with lab.store.read() as reader:
            return {load.host: load.memory_mib for load in inventory.loads(reader)}

    lab.act(id, {"resize": {"flavorRef": "2"}}, by=ROOT)
    assert taken() == {"h1": 128, "h2": 512}
    parked(lab, id)
    arrived(lab, id)
    assert taken() == {"h1": 128, "h2": 512}
    lab.act(id, "confirmResize", by=ROOT, status=204)
    assert taken() == {"h2": 512}


def test_both_places_hold_the_bandwidth_that_its_ports_are_promised(lab: Lab) -> None:
    wanted = [{"uuid": lab.promising(h1=600, h2=600)}]
    id = lab.booted(networks=wanted)
    moved(lab, id)
    assert lab.show(lab.boot(networks=wanted))["status"] == "ERROR"
    lab.act(id, "confirmResize", status=204)
    assert lab.show(lab.boot(networks=wanted))["status"] == "BUILD"


def test_while_it_moves_nothing_else_is_done_to_it(lab: Lab) -> None:
    id = lab.booted()
    for action in ("confirmResize", "revertResize"):
        lab.act(id, action, status=409)
    lab.act(id, "migrate", by=ROOT)
    others: list[Any] = [
        "os-stop",
        {"reboot": {"type": "HARD"}},
        {"resize": {"flavorRef": "2"}},
        "confirmResize",
    ]
    for action in others:
        lab.act(id, action, status=409)
    parked(lab, id)
    arrived(lab, id)
    for action in (*others[:3], "migrate"):
        lab.act(id, action, by=ROOT, status=409)
    lab.act(id, "confirmResize", status=204)
    lab.act(id, "pause")
    lab.running(id, state="paused")
    lab.act(id, "migrate", by=ROOT, status=409)


def test_a_host_that_cannot_have_it_leaves_it_in_error_and_it_is_reverted(lab: Lab) -> None:
    id = lab.booted(host="h1", by=ROOT)
    lab.act(id, "migrate", by=ROOT)
    parked(lab, id)
    full = Condition(what="server s", cause="a disk of 5 MiB does not fit")
    lab.report("h2", ServerReport(id=id, state="failed", problem=full))
    shown = lab.show(id, by=ROOT)
    assert (shown["status"], "does not fit" in shown["fault"]["message"]) == ("ERROR", True)
    lab.alive("h1", False)
    assert "does not report" in str(lab.act(id, "revertResize", by=ROOT, status=409))
    lab.alive("h1", True)
    lab.act(id, "revertResize", by=ROOT)
    lab.report("h2")
    arrived(lab, id)
    assert (status(lab, id), row(lab, id).host) == (("ACTIVE", None), "h1")


def test_a_host_that_comes_to_have_it_later_ends_the_error(lab: Lab) -> None:
    id = lab.booted(host="h1", by=ROOT)
    lab.act(id, "migrate", by=ROOT)
    parked(lab, id)
    lab.report("h2", ServerReport(id=id, state="failed"))
    assert status(lab, id)[0] == "ERROR"
    arrived(lab, id)
    assert status(lab, id) == ("VERIFY_RESIZE", None)


def test_what_moves_can_be_deleted(lab: Lab) -> None:
    id = lab.booted(networks=[{"uuid": lab.network()}])
    moved(lab, id)
    lab.ask("DELETE", f"/servers/{id}")
    lab.report("h1")
    lab.report("h2")
    assert (lab.row(id), bound(lab, id), moves(lab)) == (None, set(), [])


def test_a_project_moves_its_own_and_only_operators_choose_hosts(lab: Lab) -> None:
    id = lab.booted(host="h1", by=ROOT)
    for by, code in (("rob@p0:reader", 403), ("eve@p2", 404)):
        for action in ({"resize": {"flavorRef": "2"}}, "confirmResize", "revertResize", "migrate"):
            lab.act(id, action, by=by, status=code)
    lab.act(id, "migrate", by="ann@p0", status=403)
    lab.act(id, {"resize": {"flavorRef": "2"}}, by="ann@p0")


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"flavorRef": None},
        {"flavorRef": "77"},
        {"flavorRef": True},
        {"flavorRef": "2", "x": 1},
        {"flavorRef": "2", "OS-DCF:diskConfig": "x"},
    ],
)
def test_a_bad_resize_is_refused(lab: Lab, body: Any) -> None:
    id = lab.booted()
    lab.act(id, {"resize": body}, status=400)
    assert status(lab, id) == ("ACTIVE", None)


def test_a_group_that_is_kept_apart_stays_apart(lab: Lab) -> None:
    group = {"server_group": {"name": "g", "policy": "anti-affinity"}}
    made = lab.ask("POST", "/os-server-groups", group, version="2.90")["server_group"]["id"]
    one = lab.booted(hints={"group": made})
    lab.booted(hints={"group": made})
    lab.act(one, "migrate", by=ROOT, status=400)
    lab.act(one, {"resize": {"flavorRef": "2"}})
    parked(lab, one)
    assert row(lab, one).host == row(lab, one).origin_host, "there is no other"
