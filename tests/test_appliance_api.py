"""The Appliance API on a real store: what comes with an appliance, and what follows from hosts' reports."""

from __future__ import annotations

import io
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_lab import ApiLab
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from trunkline.api import appliance as api
from trunkline.api.context import CLOUD
from trunkline.api.engine import Call
from trunkline.cli.appliance_picture import Picture
from trunkline.compiler.hosts import host_slices
from trunkline.compiler.network import logical_network
from trunkline.compiler.settings import Settings
from trunkline.compiler.slices import HostSlice
from trunkline.control import appliance_metrics
from trunkline.control.replica import Replica
from trunkline.plan.units import Held, Room, Wish, fullest, place
from trunkline.resources.appliance import Appliance, Unit
from trunkline.resources.region import Host
from trunkline.resources.reports import (
    Condition,
    ListenerCount,
    LoggedPacket,
    UnitEvent,
    UnitReport,
    UnitStatus,
)

BASE = "/appliance/v1/appliances"
HOSTS = ("a1", "a2", "a3")


class Lab:
    """A region of three hosts that the tests speak for, with a network inside; and short ways to ask."""

    def __init__(self, folder: Path) -> None:
        self.api = ApiLab(folder)
        self.figures = self.api.figures

        def hosts(tx: Any) -> None:
            tx.delete(Host, "h1")
            for number, name in enumerate(HOSTS):
                tx.insert(
                    Host(
                        id=name,
                        alive=True,
                        vcpus=4,
                        memory_mib=4096,
                        physical_networks=["physnet1"],
                        bus_address=f"10.99.0.{number + 1}",
                    )
                )

        self.api.store.write_sync(hosts)
        self.inside = self.network("10.5.0.0/24", "fd00:5::/64")
        (public,) = self.api.ok("GET", "/network/v2.0/networks?name=public")["networks"]
        self.public: str = public["id"]

    def network(self, *cidrs: str, by: str = "demo", **fields: Any) -> str:
        base = "/network/v2.0"
        made = str(self.api.ok("POST", f"{base}/networks", {"network": fields}, by=by)["network"]["id"])
        for cidr in cidrs:
            version = 6 if ":" in cidr else 4
            subnet = {"network_id": made, "ip_version": version, "cidr": cidr}
            self.api.ok("POST", f"{base}/subnets", {"subnet": subnet}, by=by)
        return made

    def body(self, **fields: Any) -> dict[str, Any]:
        least = {
            "services": ["firewall", "nat"],
            "inside_network_id": self.inside,
            "outside_network_id": self.public,
        }
        return {"appliance": {**least, **fields}}

    def make(self, **fields: Any) -> dict[str, Any]:
        return dict(self.api.ok("POST", BASE, self.body(**fields), by="demo")["appliance"])

    def refused(self, by: str = "demo", **fields: Any) -> tuple[int, str, str]:
        """Status, field and message of a create that is refused; nothing is left of it."""
        with self.api.unchanged():
            reply = self.api.ask("POST", BASE, self.body(**fields), by=by)
        assert reply.status_code >= 400, reply.text
        error = reply.json()["error"]
        return reply.status_code, error["field"], error["message"]

    def show(self, id: str) -> dict[str, Any]:
        return dict(self.api.ok("GET", f"{BASE}/{id}", by="demo")["appliance"])

    def scale(self, id: str, **fields: Any) -> dict[str, Any]:
        return dict(self.api.ok("PUT", f"{BASE}/{id}", {"appliance": fields}, by="demo")["appliance"])

    def units(self, id: str, kind: str = "", by: str = "admin") -> list[dict[str, Any]]:
        found = self.api.ok("GET", f"{BASE}/{id}/units", by=by)["units"]
        return [unit for unit in found if kind in ("", unit["kind"])]

    def events(self, id: str) -> list[str]:
        return [event["what"] for event in self.api.ok("GET", f"{BASE}/{id}/events", by="demo")["events"]]

    def stored(self, id: str) -> list[Unit]:
        with self.api.store.read() as reader:
            return sorted(reader.find(Unit, appliance_id=id), key=lambda unit: unit.number)

    def slices(self) -> dict[str, HostSlice]:
        return host_slices(Replica(self.api.store).refresh(), Settings())

    def report(
        self, id: str, *, without: tuple[int, ...] = (), hosts: tuple[str, ...] = HOSTS, **other: Any
    ) -> None:
        """Every host reports its units as well: planes share the shards, the first dispatcher serves.

        Args:
            without: numbers of units that are not reported.
            hosts: those that report.
            other: fields of the status of units, by ``u`` and their number.
        """
        there = [u for u in self.stored(id) if u.number not in without]
        staying = [u for u in there if not u.leaves and u.host in hosts]
        planes = [u for u in staying if u.kind == "data-plane"]
        spread = {u.number: 256 // len(planes) for u in planes}
        spread[planes[0].number] += 256 % len(planes)
        first = {
            kind: next((u for u in staying if u.kind == kind), None) for kind in ("dispatcher", "manager")
        }
        revision = self.show(id)["policy_revision"]
        by_host: dict[str, list[UnitReport]] = {}
        for unit in there:
            leads = unit == first["manager"]
            status = UnitStatus(
                incarnation="one",
                policy_revision=revision,
                shards=spread.get(unit.number, 0),
                serves=("inside", "outside") if unit == first["dispatcher"] else (),
                leads=leads,
                empty=tuple(u.number for u in there if u.leaves) if leads else (),
                load=0.5,
                packets=77,
            )
            status = replace(status, **other.get(f"u{unit.number}", {}))
            seen = UnitReport(id=unit.id, state="running", status=status)
            by_host.setdefault(unit.host, []).append(seen)
        engine = self.api.api.engine
        for host in hosts:
            reports = by_host.get(host, [])
            self.figures.take(host, reports)
            self.api.store.write_sync(
                lambda tx, h=host, r=reports: api.observe(Call(engine, CLOUD, tx), h, r)
            )

    def silence(self, host: str, id: str, alive: bool = False) -> None:
        """A host is not heard of any more; it is looked at what follows."""
        engine = self.api.api.engine

        def write(tx: Any) -> None:
            tx.observe(replace(tx.get(Host, host), alive=alive))
            api.settle(Call(engine, CLOUD, tx), id)

        self.api.store.write_sync(write)

    def age(self, id: str) -> None:
        """As if its units had come long ago."""

        def write(tx: Any) -> None:
            for unit in tx.find(Unit, appliance_id=id):
                tx.replace(replace(unit, since=1.0))

        self.api.store.write_sync(write)

    def settle_later(self, id: str) -> None:
        """As if what leaves had been told to long ago."""

        def write(tx: Any) -> None:
            for unit in tx.find(Unit, appliance_id=id):
                if unit.leaves:
                    tx.replace(replace(unit, left_at=1.0))

        self.api.store.write_sync(write)
        self.report(id)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.api.close()


# What comes with one.


def test_an_appliance_comes_with_addresses_buses_and_units_on_different_hosts(lab: Lab) -> None:
    made = lab.make(name="edge", data_planes=3, managers=2)
    assert made["services"] == ["firewall", "nat"]
    assert made["inside_addresses"] == ["10.5.0.1", "fd00:5::1"]
    assert [address.split(".")[0] for address in made["outside_addresses"]] == ["203", "2001:db8:113::2"]
    units = lab.units(made["id"])
    assert [unit["number"] for unit in units] == [1, 2, 3, 4, 5, 6]
    assert {unit["host"] for unit in lab.units(made["id"], "data-plane")} == set(HOSTS)
    assert len({unit["host"] for unit in lab.units(made["id"], "manager")}) == 2
    assert "host" not in lab.units(made["id"], by="demo")[0]


def test_hosts_are_told_of_their_units_and_all_of_the_buses(lab: Lab) -> None:
    id = lab.make(data_planes=3)["id"]
    slices = lab.slices()
    told = {unit.number: unit for host in HOSTS for unit in slices[host].units}
    assert sorted(told) == [1, 2, 3, 4, 5]
    (dispatcher,) = (unit for unit in told.values() if unit.kind == "dispatcher")
    inside, outside = dispatcher.legs
    assert inside.addresses == ("10.5.0.1/24", "fd00:5::1/64")
    assert (inside.routes, inside.outside, outside.outside) == ((), False, True)
    assert outside.routes == (("0.0.0.0/0", "203.0.113.1"), ("::/0", "2001:db8:113::1"))
    host = next(u.host for u in lab.stored(id) if u.kind == "dispatcher")
    ports = {port.id: port for port in slices[host].ports}
    assert [(ports[p].attach, ports[p].server, ports[p].guard) for p in dispatcher.ports] == [
        ("unit", dispatcher.id, None),
        ("unit", dispatcher.id, None),
    ]
    policies = {unit.kind: unit.policy is not None for unit in told.values()}
    assert policies == {"manager": True, "dispatcher": False, "data-plane": False}
    buses = [slices[name].buses for name in HOSTS]
    assert buses[0] == buses[1] == buses[2]
    (bus,) = buses[0]
    assert bus.bus_vni != bus.control_vni
    assert {member.underlay for member in bus.members} == {"10.99.0.1", "10.99.0.2", "10.99.0.3"}
    assert len({m.bus_mac for m in bus.members} | {m.control_mac for m in bus.members}) == 10


def test_the_addresses_are_no_port_of_the_backend_and_the_dispatchers_are(lab: Lab) -> None:
    id = lab.make()["id"]
    ports = logical_network(Replica(lab.api.store).refresh(), Settings()).ports
    (dispatcher,) = (unit for unit in lab.stored(id) if unit.kind == "dispatcher")
    workloads = {key: port for key, port in ports.items() if port.role == "workload"}
    assert set(workloads) == set(dispatcher.ports)
    assert all(port.unknown and not port.addresses and port.enabled for port in workloads.values())
    assert {port.host for port in workloads.values()} == {dispatcher.host}
    lab.scale(id, admin_state_up=False)
    ports = logical_network(Replica(lab.api.store).refresh(), Settings()).ports
    assert not any(ports[key].enabled for key in dispatcher.ports)
    assert "It is not to forward" in lab.events(id)


def test_delete_leaves_nothing(lab: Lab) -> None:
    before = lab.api.contents()
    id = lab.make(data_planes=3)["id"]
    lab.api.ok("PUT", f"{BASE}/{id}/policy", {"policy": {"firewall": {"default": "drop"}}}, by="demo")
    lab.report(id)
    lab.api.ok("DELETE", f"{BASE}/{id}", by="demo")
    after = lab.api.contents()
    # The change log tells that it was there.
    assert {name for name in after if after[name] != before[name]} <= {"store_change", "store_meta"}


def test_the_networks_and_ports_of_an_appliance_stay(lab: Lab) -> None:
    id, network = lab.make()["id"], "/network/v2.0"
    ports = lab.api.ok("GET", f"{network}/ports?network_id={lab.inside}")["ports"]
    own = [port for port in ports if port["device_owner"].startswith("network:appliance")]
    assert {port["device_owner"] for port in own} == {"network:appliance", "network:appliance_dispatcher"}
    assert {port["device_id"] for port in own if port["device_owner"] == "network:appliance"} == {id}
    for port in own:
        path = f"{network}/ports/{port['id']}"
        for method, body in (
            ("DELETE", None),
            ("PUT", {"port": {"device_owner": ""}}),
            ("PUT", {"port": {"fixed_ips": []}}),
        ):
            reply = lab.api.ask(method, path, body, by="admin")
            assert (reply.status_code, port["device_owner"] in reply.text) == (409, True), reply.text
    assert lab.api.ask("DELETE", f"{network}/networks/{lab.inside}").status_code == 409
    for subnet in lab.api.ok("GET", f"{network}/subnets?network_id={lab.inside}")["subnets"]:
        path = f"{network}/subnets/{subnet['id']}"
        assert lab.api.ask("DELETE", path).status_code == 409
        assert lab.api.ask("PUT", path, {"subnet": {"gateway_ip": None}}).status_code == 409
    with lab.api.unchanged():
        made_up = {"port": {"network_id": lab.inside, "device_owner": "network:appliance_dispatcher"}}
        assert lab.api.ask("POST", f"{network}/ports", made_up).status_code == 400


# What is refused.


def test_what_cannot_be_is_refused_by_the_name_of_the_field(lab: Lab) -> None:
    empty, no_gateway, taken = lab.network(), lab.network(), lab.network("10.6.0.0/24")
    subnet = {"network_id": no_gateway, "ip_version": 4, "cidr": "10.7.0.0/24", "gateway_ip": None}
    lab.api.ok("POST", "/network/v2.0/subnets", {"subnet": subnet}, by="demo")
    (held,) = lab.api.ok("GET", f"/network/v2.0/subnets?network_id={taken}")["subnets"]
    router = lab.api.ok("POST", "/network/v2.0/routers", {"router": {}}, by="demo")["router"]["id"]
    leg = f"/network/v2.0/routers/{router}/add_router_interface"
    lab.api.ok("PUT", leg, {"subnet_id": held["id"]}, by="demo")
    alike = lab.network("10.5.0.0/25")
    for field, fields, status, words in (
        ("services", {"services": []}, 400, "one service"),
        ("services", {"services": ["nat", "nat"]}, 400, "twice"),
        ("data_planes", {"data_planes": 0}, 400, ">= 1"),
        ("dispatchers", {"dispatchers": 0}, 400, ">= 1"),
        ("managers", {"managers": 3}, 400, "<= 2"),
        ("data_planes", {"data_planes": 254}, 400, "256 units"),
        ("cu_size", {"cu_size": 4.0}, 400, "3.2 in all"),
        ("cu_memory", {"runtime": "server", "cu_memory": 256}, 400, "384 MiB at least"),
        ("availability_zone", {"availability_zone": "moon"}, 400, "There are: nova"),
        ("data_planes", {"data_planes": 40}, 409, "not enough processors"),
        ("inside_network_id", {"inside_network_id": empty}, 400, "no subnet"),
        ("inside_network_id", {"inside_network_id": no_gateway}, 400, "no gateway"),
        ("inside_network_id", {"inside_network_id": taken}, 409, "router_interface"),
        ("outside_network_id", {"outside_network_id": empty}, 400, "no subnet"),
        ("outside_network_id", {"outside_network_id": lab.inside}, 400, "inside too"),
        ("outside_network_id", {"outside_network_id": alike}, 400, "overlaps"),
    ):
        found = lab.refused(**fields)
        assert (found[0], found[1], words in found[2], field in found[2]) == (status, field, True, True), (
            found
        )


def test_a_network_that_one_may_not_attach_to_is_refused(lab: Lab) -> None:
    theirs = lab.network("10.8.0.0/24", by="admin", shared=True)
    assert lab.refused(inside_network_id=theirs)[:2] == (403, "inside_network_id")
    assert lab.refused(inside_network_id=lab.public)[:2] == (403, "inside_network_id")
    hidden = lab.network("10.9.0.0/24", by="otto")
    for field in ("inside_network_id", "outside_network_id"):
        assert lab.refused(**{field: hidden})[0] == 404


def test_a_quota_of_units_and_of_appliances_is_kept(lab: Lab) -> None:
    quota = f"/appliance/v1/quotas/{lab.api.projects['demo']}"
    lab.api.ok("PUT", quota, {"quota": {"units": 5}})
    assert lab.refused(data_planes=4)[:2] == (409, "data_planes")
    id = lab.make(data_planes=3)["id"]
    with lab.api.unchanged():
        reply = lab.api.ask("PUT", f"{BASE}/{id}", {"appliance": {"dispatchers": 2}}, by="demo")
    assert (reply.status_code, reply.json()["error"]["field"]) == (409, "dispatchers")
    shown = lab.api.ok("GET", quota, by="demo")["quota"]
    assert shown == {"appliances": {"limit": 10, "used": 1}, "units": {"limit": 5, "used": 5}}
    lab.api.ok("PUT", quota, {"quota": {"appliances": 1, "units": -1}})
    lab.inside = lab.network("10.11.0.0/24")
    assert lab.refused()[:2] == (409, "appliance")
    lab.api.ok("DELETE", quota)
    assert lab.make()["status"] == "BUILD"


# What follows from what is seen.


def test_it_is_active_when_all_of_it_was_seen_and_not_before(lab: Lab) -> None:
    made = lab.make()
    id = made["id"]
    assert (made["status"], made["conditions"]) == ("BUILD", [])
    lab.report(id, without=(3,))
    shown = lab.show(id)
    assert shown["status"] == "BUILD"
    assert any("unit 3" in each["what"] for each in shown["conditions"])
    for reason, other in (
        ("inside", {"u1": {"serves": ("outside",)}}),
        ("revision", {"u3": {"policy_revision": 0}}),
        ("shards", {"u3": {"shards": 0}}),
        ("no manager", {"u2": {"leads": False}}),
    ):
        lab.report(id, **other)
        shown = lab.show(id)
        told = str(shown["conditions"])
        assert (shown["status"] != "ACTIVE", reason in told) == (True, True), (reason, shown)
    lab.report(id)
    assert (lab.show(id)["status"], lab.show(id)["conditions"]) == ("ACTIVE", [])
    assert lab.events(id)[-1].endswith("and is ACTIVE")


def test_what_is_not_well_is_told_with_its_cause(lab: Lab) -> None:
    id = lab.make()["id"]
    lab.report(id)
    problem = Condition(what="the kernel refuses", cause="no BPF", remedy="Build it with BPF.")
    lab.report(id, u3={"problems": (problem,)})
    (told,) = lab.show(id)["conditions"]
    assert told == {
        "what": "unit 3 (data-plane): the kernel refuses",
        "cause": "no BPF",
        "remedy": problem.remedy,
    }
    assert lab.show(id)["status"] == "ACTIVE", "it does what it is for all the same"
    lab.report(id, u2={"leads": False})
    assert lab.show(id)["status"] == "DEGRADED"
    lab.report(id, u1={"serves": ()})
    assert lab.show(id)["status"] == "ERROR"
    lab.report(id)
    assert lab.show(id)["status"] == "ACTIVE"


def test_who_is_cut_off_from_whom_is_told(lab: Lab) -> None:
    """Dispatchers 1 and 2, managers 3 and 4, data planes 5 to 7."""
    id = lab.make(dispatchers=2, managers=2, data_planes=3)["id"]
    lab.report(id)
    lab.age(id)
    for said, word, what, cause in (
        # In band: a data plane that has no shards any more, a dispatcher, the only one that serves.
        ({"u1": {"silent": (7,)}, "u7": {"shards": 0}}, "DEGRADED", "unit 7 (data-plane) does not", "unit 1"),
        ({"u2": {"silent": (1, 5, 6, 7)}}, "DEGRADED", "unit 2 (dispatcher) is cut off", "nobody answers"),
        ({"u1": {"silent": (2, 5, 6, 7)}}, "ERROR", "unit 1 (dispatcher) is cut off", "nobody answers"),
        # Out of band; of two managers that lead, the one that reaches nobody is not the one to ask.
        ({"u3": {"silent": (5, 6)}}, "DEGRADED", "does not reach unit 5, 6", "out-of-band bus"),
        ({"u4": {"leads": True, "silent": (1, 2, 5, 6, 7), "epoch": 9}}, "ACTIVE", "", ""),
    ):
        shards = {"u5": {"shards": 86 + 85}} if "u7" in said else {}
        lab.report(id, **said, **shards)
        shown = lab.show(id)
        told = [c for c in shown["conditions"] if what in c["what"] and cause in c["cause"]]
        assert (shown["status"], bool(told)) == (word, bool(what)), shown
        assert not any("divided anew" in c["what"] for c in shown["conditions"]), shown
    lab.report(id)
    assert (lab.show(id)["status"], lab.show(id)["conditions"]) == ("ACTIVE", [])


def test_a_policy_that_is_refused_is_told_and_the_old_one_stays(lab: Lab) -> None:
    id = lab.make()["id"]
    lab.report(id)
    policy = {"firewall": {"default": "drop", "rules": [{"name": "a", "action": "accept"}]}}
    set_ = lab.api.ok("PUT", f"{BASE}/{id}/policy", {"policy": policy}, by="demo")
    assert (set_["revision"], set_["changes"]) == (
        2,
        ["firewall: rule 1 'a' is added: name a action accept."],
    )
    assert lab.api.ok("GET", f"{BASE}/{id}/policy", by="demo") == {"policy": policy, "revision": 2}
    lab.report(id, u2={"refused": "unit 3: line 7: no such set"}, u3={"policy_revision": 1})
    (told,) = lab.show(id)["conditions"]
    assert ("revision 2 is refused" in told["what"], told["cause"]) == (True, "unit 3: line 7: no such set")
    managers = [u for s in lab.slices().values() for u in s.units if u.kind == "manager"]
    assert [(u.policy and u.policy.revision) for u in managers] == [2]


def test_a_dry_run_says_what_would_change_and_changes_nothing(lab: Lab) -> None:
    id = lab.make()["id"]
    path = f"{BASE}/{id}/policy"
    rules = [{"name": name, "action": "drop"} for name in ("a", "b")]
    lab.api.ok("PUT", path, {"policy": {"firewall": {"default": "drop", "rules": rules}}}, by="demo")
    accept = [{"name": name, "action": "accept"} for name in ("c", "a")]
    new = {"firewall": {"rules": accept}, "nat": {}}
    with lab.api.unchanged():
        told = lab.api.ok("PUT", f"{path}?dry_run=true", {"policy": new}, by="demo")
    assert told == {
        "dry_run": True,
        "revision": 3,
        "changes": [
            "nat: it is added.",
            "firewall: rule 2 'b' is removed: name b action drop.",
            "firewall: rule 1 'c' is added: name c action accept.",
            "firewall: rule 2 'a' is changed: action was drop, is accept.",
        ],
    }
    with lab.api.unchanged():
        source = {"from": "inside", "to": "outside", "addresses": ["203.0.113.77"]}
        for field, sections in (
            ("balancer", {"firewall": {}, "balancer": {}}),
            ("firewall", {"nat": {}}),
            ("firewall.rules[0].action", {"firewall": {"rules": [{"name": "a"}]}}),
            ("nat.source[0].addresses[0]", {"firewall": {}, "nat": {"source": [source]}}),
        ):
            reply = lab.api.ask("PUT", path, {"policy": sections}, by="demo")
            assert (reply.status_code, reply.json()["error"]["field"]) == (400, field), reply.text
        services = {"appliance": {"services": ["nat"]}}
        reply = lab.api.ask("PUT", f"{BASE}/{id}", services, by="demo")
        assert (reply.status_code, reply.json()["error"]["field"]) == (400, "services")


def test_events_of_units_are_stored_once_and_the_oldest_go(lab: Lab) -> None:
    id = lab.make()["id"]
    events = tuple(UnitEvent(serial=n, at=1700000000.5 + n, what=f"event {n}", cause="why") for n in (1, 2))
    for _ in range(3):
        lab.report(id, u3={"events": events})
    assert [what for what in lab.events(id) if what.startswith("event")] == ["event 1", "event 2"]
    told = lab.api.ok("GET", f"{BASE}/{id}/events", by="demo")["events"]
    (first,) = (event for event in told if event["what"] == "event 1")
    assert (first["unit"], first["at"], first["cause"]) == (3, "2023-11-14T22:13:21.500Z", "why")
    many = tuple(UnitEvent(serial=n, at=1.0, what=f"event {n}") for n in range(3, 300))
    lab.report(id, u3={"events": many})
    kept = lab.events(id)
    assert sum(what.startswith("event") for what in kept) == 120
    assert "A manager comes" in kept, "what units tell does not push out what the cloud did"


# Elastic.


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
