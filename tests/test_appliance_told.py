"""What is told of appliances: counters, packets that rules logged, metrics, a picture, and the manual."""

from __future__ import annotations

import io
import json
import textwrap
from pathlib import Path
from typing import Any

import yaml
from appliance_lab import BASE, Lab, lab
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from trunkline.api import appliance as api
from trunkline.cli.appliance_picture import Picture
from trunkline.control import appliance_metrics
from trunkline.plan.units import Held, Room, Wish, fullest, place
from trunkline.resources.appliance import Appliance
from trunkline.resources.reports import (
    ListenerCount,
    LoggedPacket,
)

__all__ = ["lab"]


def test_counters_are_shown_and_not_stored(lab: Lab) -> None:
    id = lab.make()["id"]
    lab.report(id)
    revision = lab.api.store.revision
    lab.report(id, u3={"packets": 99, "load": 0.9, "flows": 7})
    assert lab.api.store.revision == revision
    unit = next(u for u in lab.stored(id) if u.number == 3)
    assert api.shown(unit, lab.figures, True)["observed"]["packets"] == 99
    assert api.shown(unit, lab.figures, False)["state"] == "silent"


def test_what_rules_log_is_told_and_how_much_more_there_was(lab: Lab) -> None:
    id = lab.make()["id"]

    def packets(*serials: int, at: float = 1.7e9) -> dict[str, Any]:
        fields = {"rule": "web", "action": "accept", "protocol": 6, "source": "10.5.0.7", "target": "fd00::1"}
        return {"logged": tuple(LoggedPacket(serial=n, at=at + n, target_port=n, **fields) for n in serials)}

    def told(by: str = "demo") -> tuple[list[tuple[int, int]], int]:
        said = lab.api.ok("GET", f"{BASE}/{id}/log", by=by)
        return [(packet["unit"], packet["target_port"]) for packet in said["log"]], said["more"]

    lab.report(id, u3=packets(1, 3), u4=packets(2))
    revision = lab.api.store.revision
    assert told() == ([(3, 1), (4, 2), (3, 3)], 1)
    (first, *_) = lab.api.ok("GET", f"{BASE}/{id}/log", by="demo")["log"]
    assert first == {
        "at": "2023-11-14T22:13:21.000Z",
        "unit": 3,
        "rule": "web",
        "action": "accept",
        "protocol": 6,
        "source": "10.5.0.7",
        "source_port": 0,
        "target": "fd00::1",
        "target_port": 1,
    }
    lab.report(id, u3={**packets(3, 4), "unlogged": 7}, u4=packets(2))
    assert told() == ([(3, 1), (4, 2), (3, 3), (3, 4)], 8)
    # Its program began anew, and counts anew.
    lab.report(id, u3={**packets(9, at=1.8e9), "incarnation": "two", "unlogged": 2})
    assert told() == ([(3, 1), (4, 2), (3, 3), (3, 4), (3, 9)], 10)
    lab.report(id, u3={**packets(*range(10, 1000)), "incarnation": "two"})
    assert len(told()[0]) == 300
    assert lab.api.store.revision - revision <= 2, "the events of starts alone are stored"
    assert lab.api.ask("GET", f"{BASE}/{id}/log", by="otto").status_code == 404
    assert "logged" not in lab.units(id, "data-plane")[0]["observed"]


def test_prometheus_is_told_what_units_do_and_nothing_of_those_that_are_silent(lab: Lab) -> None:
    id = lab.make(name='a "quoted" \\ name')["id"]
    count = ListenerCount(connections=3, total=9, bytes_in=100, bytes_out=2000, errors=1)
    lab.report(id, u3={"drops": {"spoofed": 4}, "flows": 12, "load": 0.25, "listeners": {"web": count}})

    def told() -> dict[tuple[str, str], tuple[float, dict[str, str]]]:
        with lab.api.store.read() as reader:
            text = appliance_metrics.exposition(reader, lab.figures).decode()
        samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
        found = {
            (each.name, each.labels.get("unit", each.labels.get("host", ""))): (each.value, dict(each.labels))
            for each in samples
        }
        assert len(found) == len(samples)
        return found

    first = told()
    (plane,) = (unit for unit in lab.units(id) if unit["number"] == 3)
    value, labels = first["trunkline_unit_packets_total", "3"]
    assert value == 77
    assert labels == {
        "appliance": id,
        "name": 'a "quoted" \\ name',
        "project": lab.api.projects["demo"],
        "unit": "3",
        "kind": "data-plane",
        "host": plane["host"],
    }
    for name, wanted in (
        ("unit_drops_total", 4.0),
        ("unit_load", 0.25),
        ("unit_flows", 12.0),
        ("unit_shards", 128.0),
        ("unit_up", 1.0),
        ("unit_restarts_total", 0.0),
        ("listener_bytes_out_total", 2000.0),
        ("listener_connections", 3.0),
    ):
        assert first[f"trunkline_{name}", "3"][0] == wanted, name
    assert first["trunkline_unit_drops_total", "3"][1]["reason"] == "spoofed"
    assert first["trunkline_appliance_status", ""][1]["status"] == "ACTIVE"
    lab.silence(plane["host"], id)
    later = told()
    assert later["trunkline_host_up", plane["host"]][0] == 0
    assert later["trunkline_unit_up", "3"][0] == 0
    assert ("trunkline_unit_load", "3") not in later


def test_an_unchanged_appliance_is_read_back_whole(lab: Lab) -> None:
    id = lab.make(name="edge")["id"]
    with lab.api.store.read() as reader:
        stored = reader.get(Appliance, id)
    assert stored is not None
    assert stored.leg_ports
    listed = lab.api.ok("GET", f"{BASE}?name=edge&limit=1", by="demo")["appliances"]
    assert [each["id"] for each in listed] == [id]
    assert lab.api.ok("GET", BASE, by="otto")["appliances"] == []


def test_the_picture_of_one_has_its_units_its_troubles_and_its_events(lab: Lab) -> None:
    id = lab.make(name="edge")["id"]
    lab.report(id, u3={"policy_revision": 0})
    told = [{**unit, "observed": {"packets": 10, "bytes": 1000, "load": 0.5}} for unit in lab.units(id)]
    events = lab.api.ok("GET", f"{BASE}/{id}/events", by="demo")["events"]
    seen = {"appliance": lab.show(id), "units": told, "events": events}
    picture, drawn = Picture(), io.StringIO()
    picture.draw(seen)
    more = [{**unit, "observed": {"packets": 5010, "bytes": 2_000_000, "load": 1.0}} for unit in told]
    Console(file=drawn, width=150).print(picture.draw({**seen, "units": more}))
    text = drawn.getvalue()
    for word in (
        "edge",
        "BUILD",
        "10.5.0.1",
        "data-plane",
        "dispatcher",
        "100%",
        "is not in force everywhere",
    ):
        assert word in text, text
    rates = [line.split() for line in text.splitlines() if " dispatcher " in line and "running" in line]
    assert float(rates[0][4]) > 0, "packets a second, since the look before"


def test_the_policy_of_the_manual_is_one(lab: Lab) -> None:
    text = (Path(__file__).parent.parent / "docs" / "appliance.md").read_text()
    begin = text.index("    firewall:\n")
    document = yaml.safe_load(textwrap.dedent(text[begin : text.index("The zones are", begin)]))
    made = lab.make(services=["firewall", "nat", "balancer"])
    own = next(address for address in made["outside_addresses"] if ":" not in address)
    document = json.loads(json.dumps(document).replace("203.0.113.10", own))
    told = lab.api.ok("PUT", f"{BASE}/{made['id']}/policy", {"policy": document}, by="demo")
    assert told["revision"] == 2


# Placement, without anything else.


def test_units_of_a_kind_are_kept_apart_then_go_where_most_is_left() -> None:
    rooms = [Room(name=name, vcpus=2, memory_mib=4096) for name in ("a", "b")]
    wish = Wish(cores=0.5, memory_mib=256, group="x/data-plane")
    held = [Held(host="a", cores=0.5, memory_mib=256, group="x/data-plane")]
    assert place(rooms, held, wish) == "b"
    other = [*held, Held(host="b", cores=1.0, memory_mib=256, group="y/data-plane")]
    assert place(rooms, other, wish) == "b"
    assert place(rooms, other, Wish(cores=0.5, memory_mib=1, group="z")) == "a"
    afar = [*rooms, Room(name="c", vcpus=2, memory_mib=4096, zone="far")]
    assert place(afar, [], Wish(cores=0.5, memory_mib=1, group="z", zone="far")) == "c"
    # 0.8 of two processors is 1.6.
    full = [*other, Held(host="b", cores=0.5, memory_mib=1, group="y/manager")]
    assert place(rooms, full, wish) == "a"
    assert "not enough processors" in str(place(rooms, full, Wish(cores=1.2, memory_mib=1, group="z")))
    assert fullest(rooms, full, "y/data-plane", ["a", "b"]) == "b"
