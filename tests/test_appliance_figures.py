"""What units counted, while they and their programs come and go.

| claim | and in reverse |
| --- | --- |
| a program that is started again takes nothing from what was counted | nor is it counted twice |
| nor does a unit that goes | of listeners that are gone, nothing is kept |
"""

from __future__ import annotations

from typing import Any

from appliance_lab import BASE, Lab, lab

from trunkline.api.appliance.figures import Figures
from trunkline.api.loadbalancer import told
from trunkline.resources.appliance import Appliance, Unit
from trunkline.resources.reports import ListenerCount, UnitReport, UnitStatus

__all__ = ["lab"]

UNIT = Unit(id="u", host="h")


def report(start: str, **counts: int) -> UnitReport:
    status = UnitStatus(incarnation=start, listeners={"web": ListenerCount(**counts)})
    return UnitReport(id="u", appliance="a", state="running", status=status)


def test_what_ended_is_told_once() -> None:
    figures = Figures()
    assert figures.take("h", [report("one", total=7, connections=2)]) == {}
    assert figures.take("h", [report("one", total=9, connections=3)]) == {}
    # It is started again, and says nothing yet.
    assert figures.take("h", [UnitReport(id="u", appliance="a", state="starting")]) == {}
    assert figures.counts_of(UNIT) == {"web": ListenerCount(total=9, connections=3)}
    # Its connections are not there any more.
    assert figures.take("h", [report("two", total=1)]) == {"a": {"web": ListenerCount(total=9)}}
    assert figures.counts_of(UNIT) == {"web": ListenerCount(total=1)}
    # It goes.
    assert figures.take("h", []) == {"a": {"web": ListenerCount(total=1)}}
    assert figures.take("h", []) == {}
    assert (figures.counts_of(UNIT), figures.of(UNIT)) == ({}, None)


def test_totals_do_not_fall(lab: Lab) -> None:
    id = lab.make(services=["firewall", "balancer"])["id"]
    own = next(a for a in lab.show(id)["outside_addresses"] if ":" not in a)

    def listen(*names: str) -> None:
        listeners = [
            {"name": n, "address": own, "port": 80 + i, "masquerade": []} for i, n in enumerate(names)
        ]
        policy: dict[str, Any] = {"firewall": {"default": "drop"}, "balancer": {"listeners": listeners}}
        lab.api.ok("PUT", f"{BASE}/{id}/policy", {"policy": policy}, by="demo")

    def count(start: str, *totals: int) -> dict[str, int]:
        planes = [unit for unit in lab.stored(id) if unit.kind == "data-plane"]
        said = {
            f"u{unit.number}": {"incarnation": start, "listeners": {"web": ListenerCount(total=total)}}
            for unit, total in zip(planes, totals, strict=True)
        }
        lab.report(id, **said)
        with lab.api.store.read() as reader:
            appliance = reader.get(Appliance, id)
            assert appliance is not None
            found = told.counted(appliance, lab.stored(id), lab.figures)
        return {name: each.total_connections for name, each in found.items()}

    listen("web")
    assert count("one", 10, 20) == {"web": 30}
    assert count("two", 1, 2) == {"web": 33}
    assert count("two", 2, 2) == {"web": 34}
    listen("other")
    assert count("three", 0, 0) == {"web": 0}, "what nobody listens to any more is not kept"
