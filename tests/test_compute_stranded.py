"""Servers on their way whose host falls silent: what is told, when, and what an operator's word does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from compute_lab import ROOT, Lab, seen
from msgspec.structs import replace
from test_compute_live_migration import Moving
from test_compute_moves import arrived, bound, moves, parked, row, saw, status

from trunkline.api.compute import stranded
from trunkline.resources.region import Host
from trunkline.store import Tx


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path).with_hosts("h1", "h2", memory_mib=8192, underlay_address="10.99.0.9")
    yield made
    made.close()


def silent(lab: Lab, host: str, seconds: float = stranded.PATIENCE) -> None:
    """A host was last heard so long ago; the other one goes on reporting what it sees."""

    def write(tx: Tx) -> None:
        found = tx.get(Host, host)
        assert found is not None
        tx.observe(replace(found, alive=False, seen_at=time.time() - seconds))

    lab.store.write_sync(write)
    lab.report({"h1": "h2", "h2": "h1"}[host])


def arriving(lab: Lab) -> tuple[str, str, str]:
    """A server that is on its way to another host; its id, the host that it left, the one it goes to."""
    id = lab.booted(networks=[{"uuid": lab.network()}])
    origin = row(lab, id).host
    lab.act(id, {"resize": {"flavorRef": "2", "OS-DCF:diskConfig": "AUTO"}}, by=ROOT)
    assert row(lab, id).dest_host != origin
    parked(lab, id)
    return id, origin, row(lab, id).host


def test_a_server_whose_new_host_is_silent_tells_so_after_a_while_and_goes_on_when_it_is_back(
    lab: Lab,
) -> None:
    id, origin, dest = arriving(lab)
    silent(lab, dest, stranded.PATIENCE - 5)
    assert status(lab, id) == ("RESIZE", "resize_finish")
    silent(lab, dest)
    assert status(lab, id) == ("ERROR", None)
    fault = lab.show(id, by=ROOT)["fault"]
    assert fault["message"].startswith(f"Host {dest} is silent since 20")
    assert f"starts on host {origin} from the disk that was left" in fault["details"]
    assert "details" not in lab.show(id)["fault"]
    lab.act(id, {"reboot": {"type": "HARD"}}, status=409)
    lab.alive(dest, True)
    arrived(lab, id)
    assert (status(lab, id), row(lab, id).host) == (("VERIFY_RESIZE", None), dest)


@pytest.mark.parametrize("reverted", [False, True])
def test_by_an_operators_word_it_runs_where_its_old_disk_is(lab: Lab, reverted: bool) -> None:
    id, origin, dest = arriving(lab)
    silent(lab, dest)
    if reverted:
        lab.act(id, "revertResize")
        assert status(lab, id) == ("ERROR", None)
    lab.act(id, {"os-resetState": {"state": "active"}}, status=403)
    lab.act(id, {"os-resetState": {"state": "active"}}, by=ROOT)
    assert status(lab, id) == ("REVERT_RESIZE", "resize_reverting")
    assert (row(lab, id).host, bound(lab, id), row(lab, id).flavor_id) == (origin, {origin}, "1")
    lab.report(origin, saw(lab, id))
    assert (status(lab, id), moves(lab)) == (("ACTIVE", None), [("resize", "reverted")])


def test_a_server_whose_only_disk_is_on_a_silent_host_waits_for_it(lab: Lab) -> None:
    id = lab.booted()
    origin = row(lab, id).host
    lab.act(id, "migrate", by=ROOT)
    silent(lab, origin)
    assert "has the server's only disk" in lab.show(id)["fault"]["message"]
    lab.act(id, {"os-resetState": {"state": "active"}}, by=ROOT)
    lab.alive(origin, True)
    parked(lab, id)
    assert status(lab, id) == ("RESIZE", "resize_finish")


def test_a_server_that_was_handed_over_to_a_host_that_is_silent_tells_so(lab: Lab) -> None:
    moving = Moving(lab)
    moving.leaving("waiting")
    moving.arriving("ready")
    moving.leaving("gone")
    silent(lab, moving.dest)
    moving.leaving("gone")
    assert status(lab, moving.id) == ("ERROR", None)
    assert f"Host {moving.dest} is silent since" in lab.show(moving.id)["fault"]["message"]
    lab.act(moving.id, {"os-resetState": {"state": "active"}}, by=ROOT)
    assert status(lab, moving.id) == ("HARD_REBOOT", "rebooting_hard")
    lab.report(moving.source, seen(moving.row, "running"))
    assert (status(lab, moving.id), moving.row.host) == (("ACTIVE", None), moving.source)
