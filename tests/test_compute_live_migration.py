"""Live migration: what both hosts say decides where a server is, and a failure leaves it where it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compute_lab import ROOT, Lab, seen, status
from msgspec.structs import replace

from trunkline.resources.compute import LiveMove, Server
from trunkline.resources.network import Port
from trunkline.resources.reports import Arriving, Leaving

AUTO = {"host": None, "block_migration": "auto"}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path).with_hosts("h1", "h2", underlay_address="10.99.0.9")
    yield made
    made.close()


class Moving:
    """A server with a port that was told to move, and the words of its two hosts."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.id = lab.booted(networks=[{"uuid": lab.network()}])
        self.source = self.row.host
        self.dest = "h2" if self.source == "h1" else "h1"
        lab.act(self.id, {"os-migrateLive": AUTO}, by=ROOT, version="2.68")
        assert self.row.live is not None
        self.move = self.row.live.id

    @property
    def row(self) -> Server:
        found = self.lab.row(self.id)
        assert found is not None
        return found

    @property
    def live(self) -> LiveMove:
        assert self.row.live is not None
        return self.row.live

    @property
    def port(self) -> Port:
        with self.lab.store.read() as reader:
            (found,) = reader.find(Port, device_id=self.id)
        return found

    def leaving(self, state: str, cause: str = "", power: str = "running") -> None:
        told = Leaving(
            state=state, move=self.move, disks=(("root", 1 << 30),), slots=(("root", 3),), cause=cause
        )
        self.lab.report(self.source, replace(seen(self.row, power), leaving=told))

    def arriving(self, state: str, cause: str = "") -> None:
        told = Arriving(state=state, memory_port=7001, disk_port=7002, cause=cause)
        self.lab.report(
            self.dest, replace(seen(self.row, "running" if state == "here" else "starting"), arriving=told)
        )

    def record(self) -> tuple[str, str, str]:
        (found, *_) = self.lab.ask("GET", "/os-migrations", by=ROOT, version="2.23")["migrations"]
        return found["migration_type"], found["status"], found["dest_compute"]

    def failure(self) -> str:
        actions = self.lab.ask("GET", f"/servers/{self.id}/os-instance-actions")["instanceActions"]
        return next(str(a["message"]) for a in actions if a["action"] == "live-migration")

    def stays(self) -> None:
        assert status(self.lab, self.id) == ("ACTIVE", None)
        assert (self.row.host, self.row.arriving_on, self.row.live) == (self.source, "", None)
        assert (self.port.host_id, self.port.bindings) == (self.source, [])


def test_a_server_and_its_ports_are_where_the_guest_runs(lab: Lab) -> None:
    moving = Moving(lab)
    assert status(lab, moving.id) == ("MIGRATING", "migrating")
    assert moving.record() == ("live-migration", "preparing", moving.dest)
    assert [each.host for each in moving.port.bindings] == [moving.dest]
    moving.leaving("waiting")
    assert (moving.live.disks, moving.live.slots) == ([("root", 1 << 30)], [("root", 3)])
    moving.arriving("ready")
    assert (moving.live.address, moving.live.memory_port, moving.live.disk_port) == ("10.99.0.9", 7001, 7002)
    moving.leaving("disk")
    moving.leaving("memory")
    assert moving.record()[1] == "running"
    for action in ("pause", "os-stop", "shelve", {"createImage": {"name": "i"}}):
        lab.act(moving.id, action, status=409)
    moving.leaving("gone")
    assert (moving.row.host, moving.port.host_id) == (moving.source, moving.source)
    moving.arriving("here")
    assert status(lab, moving.id) == ("ACTIVE", None)
    assert (moving.row.host, moving.port.host_id) == (moving.dest, moving.dest)
    assert (moving.port.bindings, moving.failure()) == ([], "None")
    assert moving.record()[1] == "completed"


@pytest.mark.parametrize("who", ["leaving", "arriving"])
def test_a_server_stays_when_either_host_fails(lab: Lab, who: str) -> None:
    moving = Moving(lab)
    moving.leaving("waiting")
    moving.arriving("ready")
    moving.leaving("memory")
    getattr(moving, who)("failed", "the wire broke")
    moving.stays()
    assert moving.record()[1] == "failed"
    assert "the wire broke" in moving.failure()


def test_a_server_stays_when_its_destination_dies(lab: Lab) -> None:
    moving = Moving(lab)
    moving.leaving("waiting")
    lab.alive(moving.dest, False)
    moving.leaving("waiting")
    moving.stays()


def test_a_server_that_powers_itself_off_on_the_way_stays(lab: Lab) -> None:
    moving = Moving(lab)
    lab.report(moving.source, seen(moving.row, "stopped"))
    assert (moving.row.host, moving.row.live) == (moving.source, None)


def test_what_was_handed_over_and_lost_starts_again_from_its_disk(lab: Lab) -> None:
    moving = Moving(lab)
    moving.leaving("waiting")
    moving.arriving("ready")
    moving.leaving("gone")
    before = moving.row.hard_reboot_serial
    moving.arriving("failed", "its QEMU ended")
    assert (moving.row.host, moving.row.hard_reboot_serial) == (moving.source, before + 1)
    lab.running(moving.id)
    moving.stays()


def test_a_state_that_is_reset_ends_the_way_and_the_server_stays(lab: Lab) -> None:
    moving = Moving(lab)
    moving.leaving("waiting")
    lab.act(moving.id, {"os-resetState": {"state": "active"}}, by=ROOT)
    moving.stays()
    assert moving.record()[1] == "cancelled"


def test_a_server_stays_that_was_told_to_when_its_source_says_so(lab: Lab) -> None:
    moving = Moving(lab)
    path = f"/servers/{moving.id}/migrations/1"
    lab.ask("DELETE", path, by=ROOT, version="2.24", status=400)
    lab.ask("DELETE", path, version="2.65", status=403)
    lab.ask("DELETE", f"{path}7", by=ROOT, version="2.65", status=404)
    moving.leaving("waiting")
    moving.arriving("ready")
    moving.leaving("memory")
    lab.ask("DELETE", path, by=ROOT, version="2.24", status=202)
    assert moving.live.abort
    assert status(lab, moving.id) == ("MIGRATING", "migrating")
    moving.leaving("failed", "it was aborted")
    moving.stays()
    assert moving.record()[1] == "cancelled"
    lab.ask("DELETE", path, by=ROOT, version="2.65", status=404)


def test_a_server_that_was_handed_over_meanwhile_goes_though_it_was_told_to_stay(lab: Lab) -> None:
    moving = Moving(lab)
    path = f"/servers/{moving.id}/migrations/1"
    moving.leaving("waiting")
    moving.arriving("ready")
    moving.leaving("memory")
    lab.ask("DELETE", path, by=ROOT, version="2.65", status=202)
    moving.leaving("gone")
    refused = lab.ask("DELETE", path, by=ROOT, version="2.65", status=400)["badRequest"]["message"]
    assert "Cannot abort" in refused
    moving.arriving("here")
    assert (moving.row.host, moving.record()[1]) == (moving.dest, "completed")


def test_a_guest_stands_still_for_its_way_once_it_is_being_sent(lab: Lab) -> None:
    moving = Moving(lab)
    path = f"/servers/{moving.id}/migrations/1/action"
    body = {"force_complete": None}
    refused = lab.ask("POST", path, body, by=ROOT, version="2.22", status=400)["badRequest"]["message"]
    assert "state of instance" in refused
    moving.leaving("waiting")
    moving.arriving("ready")
    moving.leaving("disk")
    lab.ask("POST", path, body, version="2.22", status=403)
    for wrong in ({"force_complete": 1}, {"bogus": None}, {}, []):
        lab.ask("POST", path, wrong, by=ROOT, version="2.22", status=400)
    lab.ask("POST", path, body, by=ROOT, version="2.22", status=202)
    assert moving.live.force
    moving.leaving("gone")
    moving.arriving("here")
    assert status(lab, moving.id) == ("ACTIVE", None)


def test_words_of_an_earlier_attempt_do_not_count(lab: Lab) -> None:
    moving = Moving(lab)
    old = Leaving(state="failed", move="another", cause="old")
    lab.report(moving.source, replace(seen(moving.row, "running"), leaving=old))
    assert status(lab, moving.id) == ("MIGRATING", "migrating")


@pytest.mark.parametrize(
    ("fields", "version", "named"),
    [
        ({"host": "h9"}, "2.68", "os-migrateLive.host"),
        ({"host": ""}, "2.68", "os-migrateLive.host"),
        ({"block_migration": False}, "2.68", "hosts share no disks"),
        ({"block_migration": "perhaps"}, "2.68", "os-migrateLive.block_migration"),
        ({"block_migration": "auto"}, "2.24", "os-migrateLive"),
        ({"force": True}, "2.68", "force"),
        ({"force": True}, "2.30", "os-migrateLive.force"),
        ({"disk_over_commit": False}, "2.25", "disk_over_commit"),
        ({"bogus": 1}, "2.68", "bogus"),
    ],
)
def test_a_bad_live_migration_is_refused_by_name(
    lab: Lab, fields: dict[str, Any], version: str, named: str
) -> None:
    id = lab.booted()
    refused = lab.act(id, {"os-migrateLive": {**AUTO, **fields}}, by=ROOT, version=version, status=400)
    assert named in refused["badRequest"]["message"]
    assert status(lab, id) == ("ACTIVE", None)


def test_nobody_but_operators_moves_servers_and_only_those_that_run(lab: Lab) -> None:
    id = lab.booted()
    lab.act(id, {"os-migrateLive": AUTO}, version="2.68", status=403)
    own = lab.row(id)
    assert own is not None
    lab.act(id, {"os-migrateLive": {**AUTO, "host": own.host}}, by=ROOT, version="2.68", status=400)
    for host in {"h1", "h2"} - {own.host}:
        lab.alive(host, False)
    refused = lab.act(id, {"os-migrateLive": AUTO}, by=ROOT, version="2.68", status=400)
    assert "does not report" in refused["badRequest"]["message"]
    lab.act(id, "os-stop")
    lab.running(id, state="stopped")
    lab.act(id, {"os-migrateLive": AUTO}, by=ROOT, version="2.68", status=409)
