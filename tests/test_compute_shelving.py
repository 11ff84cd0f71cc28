"""Shelving: the host is free when the image is durable, and the server comes back with its addresses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compute_lab import IMAGE, ROOT, Lab, status
from test_compute_snapshots import told, upload

from trunkline.resources.compute import Server
from trunkline.resources.network import Port


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path).with_hosts("h1", "h2")
    yield made
    made.close()


def row(lab: Lab, id: str) -> Server:
    found = lab.row(id)
    assert found is not None
    return found


def shelving(lab: Lab, id: str) -> str:
    """Asks for it; the id of the image."""
    lab.act(id, "shelve")
    wish = row(lab, id).snapshot
    assert wish is not None
    return wish.image_id


def shelved(lab: Lab, id: str) -> str:
    image, host = shelving(lab, id), row(lab, id).host
    upload(lab, image, host)
    lab.report(host)
    assert status(lab, id) == ("SHELVED_OFFLOADED", None)
    return image


def port_of(lab: Lab, id: str) -> Port:
    with lab.store.read() as reader:
        (found,) = reader.find(Port, device_id=id)
    return found


def test_a_host_keeps_the_disk_until_the_image_is_durable(lab: Lab) -> None:
    id = lab.booted()
    host = row(lab, id).host
    image = shelving(lab, id)
    assert status(lab, id) == ("ACTIVE", "shelving")
    lab.act(id, "unshelve", status=409)
    told(lab, id, image, "uploading", power="stopped")
    assert status(lab, id) == ("ACTIVE", "shelving_image_uploading")
    assert row(lab, id).host == host
    upload(lab, image, host)
    assert status(lab, id) == ("SHELVED", "shelving_offloading")
    assert row(lab, id).host == host
    lab.report(host)
    assert status(lab, id) == ("SHELVED_OFFLOADED", None)
    shown = lab.show(id, by=ROOT)
    assert (shown["OS-EXT-SRV-ATTR:host"], row(lab, id).host) == (None, "")
    assert lab.ask("GET", f"/image/v2/images/{image}")["name"] == "s-shelved"
    assert {i["action"] for i in lab.ask("GET", f"/servers/{id}/os-instance-actions")["instanceActions"]} == {
        "create",
        "shelve",
    }


def test_a_shelved_server_comes_back_elsewhere_with_its_port_and_its_disk(lab: Lab) -> None:
    id = lab.booted(networks=[{"uuid": lab.network()}])
    before, host = port_of(lab, id), row(lab, id).host
    image = shelved(lab, id)
    away = port_of(lab, id)
    assert (away.host_id, away.vif_type) == ("", "unbound")
    assert (away.mac_address, away.fixed_ips) == (before.mac_address, before.fixed_ips)
    other = "h2" if host == "h1" else "h1"
    lab.act(id, {"unshelve": {"host": other}}, by=ROOT, version="2.91")
    assert status(lab, id) == ("SHELVED_OFFLOADED", "spawning")
    assert row(lab, id).disk_image_id == image
    assert row(lab, id).image_id == IMAGE
    lab.running(id)
    assert status(lab, id) == ("ACTIVE", None)
    back = port_of(lab, id)
    assert back.host_id == other
    assert (back.mac_address, back.fixed_ips) == (before.mac_address, before.fixed_ips)
    lab.ask("GET", f"/image/v2/images/{image}", status=404)
    assert row(lab, id).disk_image_id == ""


def test_a_shelved_server_takes_nothing_of_its_host(lab: Lab) -> None:
    id = lab.booted(flavorRef="4")
    host = row(lab, id).host
    used = "/os-hypervisors/detail"

    def servers() -> int:
        found = lab.ask("GET", used, by=ROOT, version="2.53")["hypervisors"]
        return int(next(h["vcpus_used"] for h in found if h["hypervisor_hostname"] == host))

    assert servers() > 0
    shelved(lab, id)
    assert servers() == 0


@pytest.mark.parametrize("power", ["paused", "stopped", "suspended"])
def test_a_server_that_does_not_run_is_shelved_too_and_comes_back_running(lab: Lab, power: str) -> None:
    id = lab.booted()
    lab.act(id, {"paused": "pause", "stopped": "os-stop", "suspended": "suspend"}[power])
    lab.running(id, state=power)
    shelved(lab, id)
    lab.act(id, "unshelve")
    lab.running(id)
    assert status(lab, id) == ("ACTIVE", None)


def test_the_disk_stays_when_somebody_deletes_its_image(lab: Lab) -> None:
    id = lab.booted()
    image = shelved(lab, id)
    lab.ask("DELETE", f"/image/v2/images/{image}")
    assert lab.files.path(image).exists()
    lab.act(id, "unshelve")
    lab.running(id)
    assert status(lab, id) == ("ACTIVE", None)


def test_a_server_whose_image_fails_runs_on_its_host(lab: Lab) -> None:
    id = lab.booted()
    host = row(lab, id).host
    image = shelving(lab, id)
    told(lab, id, image, "failed", "no space", power="stopped")
    lab.running(id)
    assert status(lab, id) == ("ACTIVE", None)
    assert (row(lab, id).host, row(lab, id).power) == (host, "running")


def test_a_host_that_dies_when_the_image_is_durable_is_not_waited_for(lab: Lab) -> None:
    id = lab.booted()
    image, host = shelving(lab, id), row(lab, id).host
    upload(lab, image, host)
    lab.alive(host, False)
    lab.report("h1" if host == "h2" else "h2")
    assert status(lab, id) == ("SHELVED_OFFLOADED", None)
    lab.act(id, "unshelve")
    assert row(lab, id).host not in ("", host)


def test_an_operator_offloads_what_is_shelved(lab: Lab) -> None:
    id = lab.booted()
    lab.act(id, "shelveOffload", by=ROOT, status=409)
    image, host = shelving(lab, id), row(lab, id).host
    upload(lab, image, host)
    lab.act(id, "shelveOffload", status=403)
    lab.act(id, "shelveOffload", by=ROOT)
    lab.report(host)
    assert status(lab, id) == ("SHELVED_OFFLOADED", None)


def test_a_deleted_shelved_server_takes_its_image_along(lab: Lab) -> None:
    id = lab.booted(networks=[{"uuid": lab.network()}])
    image = shelved(lab, id)
    lab.ask("DELETE", f"/servers/{id}")
    lab.ask("GET", f"/servers/{id}", status=404)
    lab.ask("GET", f"/image/v2/images/{image}", status=404)


def test_a_shelved_server_only_comes_back_or_goes(lab: Lab) -> None:
    id = lab.booted()
    shelved(lab, id)
    for action in (
        "os-start",
        "os-stop",
        "pause",
        "shelve",
        "rescue",
        {"reboot": {"type": "HARD"}},
        {"rebuild": {"imageRef": IMAGE}},
        {"createImage": {"name": "i"}},
    ):
        lab.act(id, action, status=409)
    assert [s["id"] for s in lab.ask("GET", "/servers?status=SHELVED_OFFLOADED")["servers"]] == [id]


def test_there_is_no_room_for_it(lab: Lab) -> None:
    id = lab.booted()
    shelved(lab, id)
    for host in ("h1", "h2"):
        lab.alive(host, False)
    refused = lab.act(id, "unshelve", status=409)["conflictingRequest"]["message"]
    assert "its agent does not report" in refused
    assert status(lab, id) == ("SHELVED_OFFLOADED", None)


@pytest.mark.parametrize(
    ("body", "version", "by", "code"),
    [
        ({}, "2.77", ROOT, 400),
        ({"availability_zone": "nowhere"}, "2.77", ROOT, 400),
        ({"availability_zone": None}, "2.77", ROOT, 400),
        ({"availability_zone": "nova"}, "2.76", ROOT, 400),
        ({"host": "h1"}, "2.90", ROOT, 400),
        ({"host": "nowhere"}, "2.91", ROOT, 400),
        ({"host": "h1"}, "2.91", "ann@p1", 403),
        ({"availability_zone": None}, "2.91", "ann@p1", 202),
        ({"availability_zone": "nova"}, "2.77", "ann@p1", 202),
    ],
)
def test_where_it_comes_back_is_asked_for_by_who_may(
    lab: Lab, body: dict[str, Any], version: str, by: str, code: int
) -> None:
    id = lab.booted()
    shelved(lab, id)
    lab.act(id, {"unshelve": body}, by=by, version=version, status=code)
    assert status(lab, id)[0] == "SHELVED_OFFLOADED"
    assert bool(row(lab, id).host) == (code == 202)
