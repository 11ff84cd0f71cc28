"""Records of moves: what operators read of them, at every microversion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compute_lab import ROOT, Lab

from trunkline.api.compute import migrations
from trunkline.api.context import Context
from trunkline.api.engine import Call
from trunkline.resources.compute import Migration, Server

OPERATOR = Context(user_id="root", project_id="p0", is_admin=True)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path).with_hosts("h1", "h2")
    yield made
    made.close()


def begun(lab: Lab, id: str, type: str = "migration", status: str = "migrating") -> Migration:
    def run(call: Call) -> Migration:
        server = call.tx.get(Server, id)
        assert server is not None
        return migrations.begin(call, server, type, status, "h2")

    return lab.loop.run_until_complete(lab.engine.write(OPERATOR, run))


def moves(lab: Lab, query: str = "", version: str = "2.80") -> list[dict[str, Any]]:
    found = lab.ask("GET", f"/os-migrations{query}", by=ROOT, version=version)
    return list(found["migrations"])


def test_a_move_is_shown_as_each_microversion_has_it(lab: Lab) -> None:
    id = lab.booted(host="h1", by=ROOT)
    made = begun(lab, id)
    (first,) = moves(lab, version="2.1")
    assert (first["id"], first["status"], first["instance_uuid"]) == (1, "migrating", id)
    assert (first["source_compute"], first["dest_compute"]) == ("h1", "h2")
    assert first["old_instance_type_id"] == first["new_instance_type_id"] == 1
    (at_23,) = moves(lab, version="2.23")
    assert at_23.keys() - first.keys() == {"migration_type"}
    (at_59,) = moves(lab, version="2.59")
    assert at_59["uuid"] == made.id
    (at_80,) = moves(lab)
    assert at_80.keys() - at_59.keys() == {"user_id", "project_id"}


def test_moves_are_found_by_what_they_are(lab: Lab) -> None:
    one, other = lab.booted(host="h1", by=ROOT), lab.booted(host="h1", by=ROOT)
    begun(lab, one)
    begun(lab, other, "resize", "finished")
    for query in (
        f"instance_uuid={one}",
        "status=migrating",
        "migration_type=migration",
        "host=h2&status=migrating",
        "changes-since=2020-01-01T00:00:00Z&status=migrating",
    ):
        assert [each["instance_uuid"] for each in moves(lab, f"?{query}")] == [one], query
    for query in (
        "hidden=true",
        "source_compute=h2",
        "user_id=nobody",
        "changes-before=2020-01-01T00:00:00Z",
    ):
        assert moves(lab, f"?{query}") == [], query


def test_moves_come_in_pages_the_newest_first(lab: Lab) -> None:
    id = lab.booted()
    made = [begun(lab, id).id for _ in range(3)]
    first = lab.ask("GET", "/os-migrations?limit=2", by=ROOT, version="2.59")
    assert [each["uuid"] for each in first["migrations"]] == made[:0:-1]
    assert f"marker={made[1]}" in first["migrations_links"][0]["href"]
    (last,) = moves(lab, f"?limit=2&marker={made[1]}")
    assert last["uuid"] == made[0]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("marker=nobody", "marker"),
        ("limit=x", "limit"),
        ("changes-since=x", "changes-since"),
        ("bogus=1", "bogus"),
        ("hidden=perhaps", "hidden"),
        ("changes-since=2026-01-02T00:00:00Z&changes-before=2026-01-01T00:00:00Z", "changes-since"),
    ],
)
def test_a_bad_query_is_refused_by_name(lab: Lab, query: str, named: str) -> None:
    refused = lab.ask("GET", f"/os-migrations?{query}", by=ROOT, version="2.80", status=400)
    assert named in refused["badRequest"]["message"]


def test_only_live_moves_under_way_are_a_servers_own(lab: Lab) -> None:
    id = lab.booted()
    begun(lab, id)
    live = begun(lab, id, "live-migration", "running")
    path = f"/servers/{id}/migrations"
    (shown,) = lab.ask("GET", path, by=ROOT, version="2.59")["migrations"]
    assert (shown["uuid"], shown["server_uuid"], shown["memory_total_bytes"]) == (live.id, id, None)
    one = lab.ask("GET", f"{path}/{live.number}", by=ROOT, version="2.59")["migration"]
    assert one == shown
    lab.ask("GET", f"{path}/1", by=ROOT, version="2.59", status=404)
    (listed,) = moves(lab, "?migration_type=live-migration")
    assert listed["links"][0]["href"].endswith(f"{path}/{live.number}")


def test_of_one_server_so_many_are_kept(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "KEPT", 2)
    id = lab.booted()
    made = [begun(lab, id).number for _ in range(4)]
    assert [each["id"] for each in moves(lab)] == made[:1:-1]
