"""The Appliance API on a real store: what comes with an appliance, and what follows from hosts' reports."""

from __future__ import annotations

import msgspec
from appliance_lab import BASE, HOSTS, Lab, lab

from trunkline.compiler.network import logical_network
from trunkline.compiler.rule_tables import rule_tables
from trunkline.compiler.settings import Settings
from trunkline.compiler.unit_slices import PolicySlice
from trunkline.control.replica import Replica
from trunkline.resources.appliance_policy import parse
from trunkline.resources.reports import (
    Condition,
    UnitEvent,
)
from trunkline.units import documents
from trunkline.units.ruleset import ruleset

__all__ = ["lab"]


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
    subnets = lab.api.ok("GET", f"{network}/subnets?network_id={lab.inside}")["subnets"]
    for subnet in subnets:
        path = f"{network}/subnets/{subnet['id']}"
        assert lab.api.ask("PUT", path, {"subnet": {"gateway_ip": None}}).status_code == 409
        # The last one stays.
        left = lab.api.ask("DELETE", path).status_code
        assert left == (409 if subnet == subnets[-1] else 204)
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
        (
            "inside_network_id",
            {"services": ["firewall", "balancer"], "inside_network_id": None},
            400,
            "two networks",
        ),
        ("data_planes", {"data_planes": 0}, 400, ">= 1"),
        ("dispatchers", {"dispatchers": 0}, 400, ">= 1"),
        ("managers", {"managers": 3}, 400, "<= 2"),
        ("data_planes", {"data_planes": 254}, 400, "256 units"),
        ("cu_size", {"cu_size": 4.0}, 400, "3.2 in all"),
        ("cu_memory", {"cu_memory": 4097}, 400, "the largest host has 4096"),
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


def test_a_change_that_cannot_be_is_refused_by_the_name_of_the_field(lab: Lab) -> None:
    other = lab.network("10.12.0.0/24")
    lab.api.ok("PUT", f"/appliance/v1/quotas/{lab.api.projects['demo']}", {"quota": {"units": 100}})
    router = lab.make()["id"]
    balancer = lab.make(services=["balancer"], inside_network_id=None, outside_network_id=other)["id"]
    for id, field, fields, status, words in (
        (router, "data_planes", {"data_planes": 0}, 400, ">= 1"),
        (router, "data_planes", {"data_planes": 98}, 409, "Quota exceeded"),
        (router, "data_planes", {"data_planes": 60}, 409, "no host has room for one more data-plane"),
        (router, "services", {"services": []}, 400, "one service"),
        (balancer, "inside_network_id", {"services": ["balancer", "nat"]}, 400, "two networks"),
    ):
        with lab.api.unchanged():
            reply = lab.api.ask("PUT", f"{BASE}/{id}", {"appliance": fields}, by="demo")
        error = reply.json()["error"]
        found = reply.status_code, error["field"], words in error["message"]
        assert found == (status, field, True), error


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


def test_managers_are_told_the_rules_tables_as_units_would_make_them(lab: Lab) -> None:
    id = lab.make(network_ids=[lab.network("10.7.0.0/24")])["id"]
    rules = [
        {"name": "one", "from": "inside", "source": "10.5.0.0/28", "service": "tcp/80", "action": "accept"},
        {"name": "two", "to": "net1", "destination": ["10.7.0.9", "fd00:7::9"], "action": "reject"},
        {"name": "all", "source": "10.5.0.0/24", "action": "drop"},
    ]
    policy = {"firewall": {"default": "drop", "rules": rules}}
    lab.api.ok("PUT", f"{BASE}/{id}/policy", {"policy": policy}, by="demo")
    units = [unit for slice_ in lab.slices().values() for unit in slice_.units]
    (told,) = (unit.policy for unit in units if unit.policy is not None)
    # By the channel, the agent and its file.
    told = msgspec.json.decode(msgspec.json.encode(told), type=PolicySlice)
    policy_, tables = documents.read(documents.said(told.document), told.tables)
    assert tables is not None
    legs = next(unit.legs for unit in units if unit.kind == "data-plane")
    assert len(legs) == 3
    assert policy_ == parse(policy)
    assert policy_.firewall is not None
    assert tables == rule_tables(policy_.firewall, [leg.zone for leg in legs])
    assert {decides for _, _, decides in tables.pairs} == {0, 1, 2, 3}
    assert ruleset(policy_, legs, tables=tables) == ruleset(policy_, legs)


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
