"""Appliances whose units come, go and are replaced: by command, by load, and where hosts fall silent."""

from __future__ import annotations

from typing import Any

from appliance_lab import BASE, Lab, lab
from msgspec.structs import replace

from trunkline.api import appliance as api
from trunkline.api.context import CLOUD
from trunkline.api.engine import Call
from trunkline.resources.appliance import Appliance, Unit

__all__ = ["lab"]


def test_units_come_and_those_that_go_leave_first(lab: Lab) -> None:
    id = lab.make(data_planes=1)["id"]
    lab.report(id)
    assert lab.scale(id, data_planes=4)["data_planes"] == 4
    assert len(lab.units(id, "data-plane")) == 4
    lab.report(id)
    assert lab.show(id)["status"] == "ACTIVE"
    lab.scale(id, data_planes=1)
    planes = lab.units(id, "data-plane")
    assert [unit["leaves"] for unit in planes].count(True) == 3
    told = {m.number: m.leaves for s in lab.slices().values() for bus in s.buses for m in bus.members}
    assert sum(told.values()) == 3
    # Of the host with two, one goes first: two that are left would be on two hosts.
    lab.report(id)
    assert len(lab.units(id, "data-plane")) == 4, "they have only just been told to leave"
    lab.settle_later(id)
    (left,) = lab.units(id, "data-plane")
    assert not left["leaves"]
    assert lab.show(id)["status"] == "ACTIVE"
    lab.scale(id, data_planes=2)
    numbers = [unit["number"] for unit in lab.units(id, "data-plane")]
    assert max(numbers) == 7, "the number of one that is gone is not given to the next one"


def test_a_unit_that_still_has_flows_stays_and_so_does_one_that_is_wanted_after_all(lab: Lab) -> None:
    id = lab.make(data_planes=2)["id"]
    lab.report(id)
    lab.scale(id, data_planes=1)
    (leaving,) = (unit for unit in lab.units(id) if unit["leaves"])
    number = leaving["number"]
    lab.settle_later(id)
    assert number not in [unit["number"] for unit in lab.units(id)]
    lab.scale(id, data_planes=2)
    lab.report(id)
    lab.scale(id, data_planes=1)
    (leaving,) = (unit for unit in lab.units(id) if unit["leaves"])
    lab.report(id, **{f"u{leaving['number']}": {"shards": 5}})
    lab.scale(id, data_planes=2)
    there = lab.units(id, "data-plane")
    assert (len(there), any(unit["leaves"] for unit in there)) == (2, False)
    assert "The data-plane stays after all" in lab.events(id)


AUTO = {"target_load": 0.5, "least": 1, "most": 4, "cool_down": 10.0}


class Days:
    """The appliance's life by its load: hosts report, and control looks, second by second."""

    def __init__(self, lab: Lab, id: str) -> None:
        self.lab, self.id = lab, id
        self.growth = api.Growth(lab.figures)
        self.now = 0

    def live(self, load: float, seconds: int, growth: api.Growth | None = None) -> int:
        """Each data plane with shares has this load; how many there are in the end."""
        engine, store = self.lab.api.api.engine, self.lab.api.store
        for _ in range(seconds):
            self.now += 1
            numbers = [unit.number for unit in self.lab.stored(self.id)]
            self.lab.report(self.id, **{f"u{number}": {"load": load} for number in numbers})
            with store.read() as reader:
                there = api.watched(reader)
                clock = max((w.appliance.scaled_at for w in there), default=0.0)
            # What was changed last was changed when this began, or later.
            for step in (growth or self.growth).look(there, float(self.now), clock + 3600.0):
                for _ in range(2):
                    store.write_sync(lambda tx, s=step: api.take(Call(engine, CLOUD, tx), s))
        return int(self.lab.show(self.id)["data_planes"])


def test_data_planes_come_and_go_by_their_load(lab: Lab) -> None:
    id = lab.make(scaling={**AUTO, "most": 1})["id"]
    shown = lab.show(id)
    assert (shown["data_planes"], shown["scaling"]) == (1, {**AUTO, "most": 1})
    assert lab.scale(id, scaling={**AUTO, "least": 2})["data_planes"] == 2
    days = Days(lab, id)
    assert days.live(0.9, 4) == 4, "at once, and not twice though it was done twice"
    came = [event for event in lab.events(id) if "4 data planes instead of 2" in event]
    assert len(came) == 1
    told = lab.api.ok("GET", f"{BASE}/{id}/events", by="demo")["events"]
    assert "They use 0.90 of their processors, and are to use 0.5" in str(told)
    assert len(lab.units(id, "data-plane")) == 4
    assert days.live(0.1, 20) < 4
    # Who begins anew has seen nothing yet.
    had = lab.show(id)["data_planes"]
    assert days.live(0.1, 9, api.Growth(lab.figures)) == had
    lab.scale(id, scaling=None)
    assert days.live(0.9, 10) == had


def test_what_the_load_wants_and_cannot_have_is_told(lab: Lab) -> None:
    id = lab.make(data_planes=1, scaling=AUTO)["id"]
    quota = f"/appliance/v1/quotas/{lab.api.projects['demo']}"
    lab.api.ok("PUT", quota, {"quota": {"units": 4}})
    days = Days(lab, id)
    assert days.live(1.0, 12) == 2, "as many as there may be"
    (told,) = lab.show(id)["conditions"]
    assert (told["what"], "4 is the most" in told["cause"]) == (
        "its load wants more than 2 data planes",
        True,
    )
    lab.api.ok("DELETE", quota)
    days.live(1.0, 12)
    (told,) = lab.show(id)["conditions"]
    assert (lab.show(id)["data_planes"], "Raise most" in told["remedy"]) == (4, True)
    assert lab.show(id)["status"] == "ACTIVE"
    days.live(0.2, 6)
    assert lab.show(id)["conditions"] == []


def test_a_number_that_its_scaling_would_change_is_refused(lab: Lab) -> None:
    assert lab.refused(scaling={**AUTO, "least": 5})[:2] == (400, "scaling")
    assert lab.refused(scaling={"least": 5})[:2] == (400, "scaling.most")
    assert lab.refused(scaling=AUTO, data_planes=5)[:2] == (400, "data_planes")
    id = lab.make(scaling=AUTO)["id"]
    for fields in ({"data_planes": 5}, {"data_planes": 3, "scaling": {**AUTO, "most": 2}}):
        with lab.api.unchanged():
            reply = lab.api.ask("PUT", f"{BASE}/{id}", {"appliance": fields}, by="demo")
        assert (reply.status_code, reply.json()["error"]["field"]) == (400, "data_planes")
    assert lab.scale(id, scaling={**AUTO, "least": 3})["data_planes"] == 3
    assert lab.scale(id, data_planes=4)["data_planes"] == 4


def test_a_drained_unit_leaves_when_its_replacement_works(lab: Lab) -> None:
    id = lab.make(dispatchers=1)["id"]
    lab.report(id)
    (old,) = lab.units(id, "dispatcher")
    drain = f"{BASE}/{id}/units/{old['number']}/drain"
    told = lab.api.ok("POST", drain, by="demo")["unit"]
    assert (told["leaves"], told["replaced_by"]) == (False, 5)
    assert lab.api.ask("POST", drain, by="demo").status_code == 409
    assert lab.api.ask("POST", f"{BASE}/{id}/units/99/drain", by="demo").status_code == 404
    new = next(unit for unit in lab.units(id) if unit["number"] == 5)
    assert new["host"] != old["host"]
    lab.report(id, without=(5,))
    assert not any(unit["leaves"] for unit in lab.units(id))
    lab.report(id)
    assert [unit["number"] for unit in lab.units(id) if unit["leaves"]] == [old["number"]]
    lab.settle_later(id)
    assert [unit["number"] for unit in lab.units(id, "dispatcher")] == [5]
    ports = lab.api.ok("GET", f"/network/v2.0/ports?network_id={lab.inside}")["ports"]
    assert [p["device_owner"] for p in ports].count("network:appliance_dispatcher") == 1


def later(lab: Lab, id: str, seconds: float = 100.0) -> None:
    """As if all that happened to an appliance and its units had happened so much earlier."""

    def write(tx: Any) -> None:
        for unit in tx.find(Unit, appliance_id=id):
            tx.replace(replace(unit, since=unit.since - seconds, left_at=unit.left_at - seconds))
        appliance = tx.get(Appliance, id)
        tx.replace(replace(appliance, renewal_since=appliance.renewal_since - seconds))

    lab.api.store.write_sync(write)


def renewed(lab: Lab, id: str) -> Any:
    return lab.show(id)["renewal"]


def test_a_new_version_rolls_through_unit_by_unit(lab: Lab) -> None:
    id = lab.make()["id"]
    lab.report(id)
    before = {unit["number"]: unit["kind"] for unit in lab.units(id)}
    path = f"{BASE}/{id}/renew"
    assert lab.api.ask("DELETE", path, by="demo").status_code == 409
    assert renewed(lab, id) is None
    told = lab.api.ok("POST", path, by="demo")["appliance"]["renewal"]
    assert (told["state"], told["units"], [before[n] for n in told["left"]]) == (
        "running",
        4,
        ["data-plane", "data-plane", "dispatcher", "manager"],
    )
    assert lab.api.ask("POST", path, by="demo").status_code == 409
    most = 0
    for _ in range(20):
        lab.report(id)
        later(lab, id, 3.0)
        most = max(most, len(lab.units(id)))
        if renewed(lab, id)["state"] != "running":
            break
    assert (renewed(lab, id)["state"], renewed(lab, id)["left"]) == ("done", [])
    after = {unit["number"]: unit["kind"] for unit in lab.units(id)}
    assert (most, sorted(after.values())) == (5, sorted(before.values()))
    assert not before.keys() & after.keys()
    came = [what for what in lab.events(id) if what.endswith(" comes")]
    assert came[4:] == [f"A {kind} comes" for kind in ("data-plane", "data-plane", "dispatcher", "manager")]
    assert "The renewal is done" in lab.events(id)
    assert lab.show(id)["status"] == "ACTIVE"


def test_a_renewal_stops_where_a_new_unit_does_not_get_to_work(lab: Lab) -> None:
    id = lab.make()["id"]
    lab.report(id)
    lab.api.ok("POST", f"{BASE}/{id}/renew", by="demo")
    lab.report(id)
    (old,) = (unit for unit in lab.units(id) if unit["replaced_by"])
    new = old["replaced_by"]
    lab.report(id, without=(new,))
    assert renewed(lab, id)["state"] == "running"
    later(lab, id)
    lab.report(id, without=(new,))
    told = renewed(lab, id)
    assert (told["state"], len(told["left"])) == ("stopped", 4)
    assert f"unit {new} (data-plane), which came instead of unit {old['number']}" in told["cause"]
    lab.settle_later(id)
    assert new not in [unit["number"] for unit in lab.units(id)]
    shown = lab.show(id)
    assert (shown["status"], "renewal is stopped" in shown["conditions"][0]["what"]) == ("ACTIVE", True)
    lab.api.ok("POST", f"{BASE}/{id}/renew", by="demo")
    lab.report(id)
    assert ("renewal" in str(lab.show(id)["conditions"]), renewed(lab, id)["state"]) == (False, "running")


def test_a_renewal_waits_until_all_is_well_and_may_be_aborted(lab: Lab) -> None:
    id = lab.make()["id"]
    lab.report(id)
    path = f"{BASE}/{id}/renew"
    lab.api.ok("POST", path, by="demo")
    lab.report(id, u1={"serves": ()})
    assert not any(unit["replaced_by"] for unit in lab.units(id)), "a leg is not served"
    later(lab, id)
    lab.report(id, u1={"serves": ()})
    assert (renewed(lab, id)["state"], "leg inside" in renewed(lab, id)["cause"]) == ("stopped", True)
    lab.report(id)
    lab.api.ok("POST", path, by="demo")
    lab.report(id)
    assert lab.api.ok("DELETE", path, by="demo")["appliance"]["renewal"]["state"] == "aborted"
    for _ in range(4):
        lab.report(id)
        later(lab, id, 3.0)
    assert (len(lab.units(id)), renewed(lab, id)["state"]) == (4, "aborted")
    assert len([what for what in lab.events(id) if what == "The data-plane is gone"]) == 1


def test_units_of_a_silent_host_come_anew_on_others(lab: Lab) -> None:
    id = lab.make(data_planes=3)["id"]
    lab.report(id)
    lost = {unit["number"] for unit in lab.units(id) if unit["host"] == "a2"}
    assert lost
    lab.silence("a2", id)
    there = {unit["number"]: unit for unit in lab.units(id)}
    assert lost < there.keys(), "who is not heard of may forward all the same"
    new = {there[number]["replaced_by"] for number in lost}
    assert {there[number]["host"] for number in new} <= {"a1", "a3"}
    assert lab.show(id)["status"] == "DEGRADED"
    lab.report(id, hosts=("a1", "a3"))
    lab.report(id, hosts=("a1", "a3"))
    units = lab.units(id)
    assert (len(units), {unit["host"] for unit in units}) == (5, {"a1", "a3"})
    assert lab.show(id)["status"] == "ACTIVE"
    told = lab.api.ok("GET", f"{BASE}/{id}/events", by="demo")["events"]
    assert any("its host is silent" in event["cause"] for event in told)


def test_a_host_that_is_back_in_time_hands_over_what_its_units_have(lab: Lab) -> None:
    id = lab.make(data_planes=3)["id"]
    lab.report(id)
    here = {unit["number"] for unit in lab.units(id) if unit["host"] == "a2"}
    lab.silence("a2", id)
    lab.silence("a2", id, alive=True)
    lab.report(id)
    leaving = {unit["number"] for unit in lab.units(id) if unit["leaves"]}
    assert leaving == here
    lab.settle_later(id)
    assert not here & {unit["number"] for unit in lab.units(id)}
    assert lab.show(id)["status"] == "ACTIVE"


def test_with_no_room_elsewhere_what_is_lost_is_told(lab: Lab) -> None:
    id = lab.make(data_planes=1, cu_size=3.0)["id"]
    lab.report(id)
    (plane,) = lab.units(id, "data-plane")
    lab.silence(plane["host"], id)
    assert plane["number"] in [unit["number"] for unit in lab.units(id)]
    shown = lab.show(id)
    assert (shown["status"], "its host is silent" in str(shown["conditions"])) == ("ERROR", True)
    lab.silence(plane["host"], id, alive=True)
    assert lab.show(id)["status"] == "ACTIVE"
