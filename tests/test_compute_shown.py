"""Servers as they are shown: what their hosts see, lists, labels, the actions of before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from compute_lab import IMAGE, ROOT, Lab, ports_of, seen

from trunkline.resources.reports import Condition


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path).with_hosts("h1", "h2")
    yield made
    made.close()


# Seen.


def test_what_is_not_well_is_told_with_its_cause_and_heals(lab: Lab) -> None:
    id = lab.booted()
    why = Condition(what="QEMU ended", cause="signal 9", remedy="it is started again")
    lab.running(id, state="crashed", problem=why)
    shown = lab.show(id)
    assert (shown["status"], shown["OS-EXT-STS:power_state"]) == ("ERROR", 6)
    assert shown["fault"]["message"] == "QEMU ended: signal 9"
    lab.running(id)
    assert lab.show(id)["status"] == "ACTIVE"
    assert "fault" not in lab.show(id)


def test_equal_reports_write_nothing(lab: Lab) -> None:
    id = lab.booted()
    before = lab.store.revision
    lab.running(id)
    assert lab.store.revision == before


def test_a_host_cannot_speak_for_another(lab: Lab) -> None:
    id = lab.boot()
    row = lab.row(id)
    assert row is not None
    other = {"h1": "h2", "h2": "h1"}[row.host]
    lab.report(other, seen(row, "running"))
    assert lab.show(id)["status"] == "BUILD"


def test_a_server_that_its_host_lost_is_not_told_to_run(lab: Lab) -> None:
    id = lab.booted()
    row = lab.row(id)
    assert row is not None
    lab.report(row.host)
    assert lab.show(id)["OS-EXT-STS:power_state"] == 0
    assert lab.show(id)["status"] != "ACTIVE"


def test_a_port_that_is_gone_is_not_waited_for(lab: Lab) -> None:
    id = lab.boot(networks=[{"uuid": lab.network()}])
    (port,) = ports_of(lab, id)
    lab.ask("DELETE", f"/network/v2.0/ports/{port.id}")
    row = lab.row(id)
    assert row is not None
    lab.report(row.host, seen(row, "running", ports=()))
    assert lab.show(id)["status"] == "ACTIVE"


# Shown.


def test_others_see_and_change_nothing(lab: Lab) -> None:
    id = lab.booted()
    for method, path in (
        ("GET", f"/servers/{id}"),
        ("PUT", f"/servers/{id}"),
        ("DELETE", f"/servers/{id}"),
        ("GET", f"/servers/{id}/os-interface"),
        ("GET", f"/servers/{id}/os-instance-actions"),
        ("GET", f"/servers/{id}/metadata"),
    ):
        lab.ask(method, path, {"server": {"name": "x"}} if method == "PUT" else None, by="bob@p2", status=404)
    lab.act(id, "os-stop", by="bob@p2", status=404)
    lab.act(id, "os-stop", by="eve@p1:reader", status=403)
    assert lab.ask("GET", "/servers", by="bob@p2")["servers"] == []
    lab.ask("GET", "/servers?all_tenants=1", status=403)
    assert len(lab.ask("GET", "/servers?all_tenants=1", by=ROOT)["servers"]) == 1


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "abc"),
        ("name=b", "b"),
        ("name=^b$", "b"),
        ("name=%5Ex", ""),
        ("status=active", "a"),
        ("status=build", "bc"),
        ("status=suspended", ""),
        ("flavor=2", "c"),
        ("flavor=9", ""),
        (f"image={IMAGE}", "abc"),
        ("tags=red", "ab"),
        ("tags=red,big", "b"),
        ("tags-any=big,small", "bc"),
        ("not-tags=red", "c"),
        ("ip=10.0.0.9", "a"),
        ("ip=10.0.0.", "a"),
        ("ip=10.9", ""),
        ("changes-since=2020-01-01T00:00:00Z", "abc"),
        ("changes-since=2050-01-01T00:00:00Z", ""),
        ("deleted=true", ""),
        ("sort_key=display_name&sort_dir=desc&limit=2", "cb"),
    ],
)
def test_lists_are_filtered(lab: Lab, query: str, found: str) -> None:
    net = lab.network()
    lab.booted(name="a", tags=["red"], networks=[{"uuid": net, "fixed_ip": "10.0.0.9"}])
    lab.boot(name="b", tags=["red", "big"])
    lab.boot(name="c", tags=["small"], flavorRef="2")
    servers = lab.ask("GET", f"/servers?{query}", version="2.26")["servers"]
    names = [server["name"] for server in servers]
    assert names == list(found) if "sort_key" in query else sorted(names) == list(found)


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=x",
        "marker=nobody",
        "changes-since=soon",
        "sort_key=zz",
        "name=[a",
        "ip=%27%20OR",
        "tags=a/b",
    ],
)
def test_bad_filters_are_refused(lab: Lab, query: str) -> None:
    lab.ask("GET", f"/servers?{query}", version="2.26", status=400)


def test_pages_follow_each_other(lab: Lab) -> None:
    for number in range(5):
        lab.boot(name=f"s{number}")
    seen_names: list[str] = []
    path = "/servers?limit=2&sort_key=display_name&sort_dir=asc"
    while path:
        page = lab.ask("GET", path)
        seen_names += [server["name"] for server in page["servers"]]
        links = page.get("servers_links", [])
        path = links[0]["href"].partition("/v2.1")[2] if links else ""
    assert seen_names == [f"s{number}" for number in range(5)]


def test_actions_tell_who_asked_what_and_how_it_went(lab: Lab) -> None:
    id = lab.boot()
    path = f"/servers/{id}/os-instance-actions"
    (create,) = lab.ask("GET", path)["instanceActions"]
    request = create["request_id"]
    event = lab.ask("GET", f"{path}/{request}", version="2.51")["instanceAction"]["events"][0]
    assert (event["result"], event["finish_time"]) == (None, None)
    lab.running(id)
    event = lab.ask("GET", f"{path}/{request}", version="2.51")["instanceAction"]["events"][0]
    assert event["result"] == "Success"
    lab.act(id, "os-stop")
    assert [each["action"] for each in lab.ask("GET", path)["instanceActions"]] == ["stop", "create"]
    assert create["user_id"] == "ann"
    lab.ask("GET", f"{path}/req-nobody", status=404)


def test_metadata_and_tags_are_changed(lab: Lab) -> None:
    id = lab.boot(metadata={"a": "1"})
    meta, tags = f"/servers/{id}/metadata", f"/servers/{id}/tags"
    assert lab.ask("POST", meta, {"metadata": {"b": "2"}}) == {"metadata": {"a": "1", "b": "2"}}
    assert lab.ask("PUT", f"{meta}/a", {"meta": {"a": "3"}}) == {"meta": {"a": "3"}}
    lab.ask("PUT", f"{meta}/a", {"meta": {"b": "3"}}, status=400)
    lab.ask("DELETE", f"{meta}/b", status=204)
    lab.ask("GET", f"{meta}/b", status=404)
    assert lab.ask("PUT", meta, {"metadata": {"z": "9"}}) == {"metadata": {"z": "9"}}
    many = {f"k{number}": "v" for number in range(129)}
    assert "exceeds 128" in str(lab.ask("PUT", meta, {"metadata": many}, status=403))
    lab.ask("PUT", f"{tags}/x", version="2.26", status=201)
    lab.ask("PUT", f"{tags}/x", version="2.26", status=204)
    assert lab.ask("GET", tags, version="2.26") == {"tags": ["x"]}
    lab.ask("GET", f"{tags}/y", version="2.26", status=404)
    lab.ask("DELETE", tags, version="2.26", status=204)
    lab.ask("GET", tags, version="2.25", status=404)


def test_a_server_is_renamed(lab: Lab) -> None:
    id = lab.boot()
    told = lab.ask("PUT", f"/servers/{id}", {"server": {"name": "new", "description": None}}, version="2.19")
    assert (told["server"]["name"], told["server"]["description"]) == ("new", None)
    lab.ask("PUT", f"/servers/{id}", {"server": {"status": "ACTIVE"}}, status=400)
    lab.ask("PUT", f"/servers/{id}", {"server": {"name": " x"}}, status=400)
