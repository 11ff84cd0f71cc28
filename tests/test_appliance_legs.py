"""Appliances on one network or several, and those that the cloud orders for something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from appliance_lab import BASE, HOSTS, Lab, lab
from msgspec.structs import replace

from trunkline.api.appliance import orders
from trunkline.api.context import CLOUD
from trunkline.api.engine import Call
from trunkline.compiler.network import logical_network
from trunkline.compiler.settings import Settings
from trunkline.compiler.unit_slices import UnitSlice
from trunkline.control.replica import Replica
from trunkline.errors import BadField, Conflict, NotFound
from trunkline.resources.appliance import Appliance
from trunkline.resources.network import FixedIp

__all__ = ["lab"]

T = TypeVar("T")
PORTS = "/network/v2.0/ports"
SUBNETS = "/network/v2.0/subnets"


def alone(lab: Lab, **fields: Any) -> dict[str, Any]:
    """An appliance with one leg."""
    body = {"services": ["balancer"], "outside_network_id": lab.inside, **fields}
    return dict(lab.api.ok("POST", BASE, {"appliance": body}, by="demo")["appliance"])


def told(lab: Lab) -> dict[int, UnitSlice]:
    slices = lab.slices()
    return {unit.number: unit for host in HOSTS for unit in slices[host].units}


def by_the_cloud(lab: Lab, run: Callable[[Call], T]) -> T:
    return lab.api.store.write_sync(lambda tx: run(Call(lab.api.api.engine, CLOUD, tx)))


def report(lab: Lab, id: str) -> None:
    """All units do their part, and the newest dispatcher serves what it knows of."""
    last = max(unit.number for unit in lab.stored(id) if unit.kind == "dispatcher" and not unit.leaves)
    legs = told(lab)[last].legs
    lab.report(id, **{f"u{last}": {"serves": tuple(leg.zone for leg in legs)}})


def listener(address: str, *masquerade: str) -> dict[str, Any]:
    found = {"name": "web", "address": address, "port": 80, "masquerade": list(masquerade)}
    return {"balancer": {"listeners": [found]}}


# One leg.


def test_a_balancer_needs_one_network(lab: Lab) -> None:
    made = alone(lab)
    assert (made["inside_network_id"], made["inside_addresses"]) == ("", [])
    own, own6 = made["outside_addresses"]
    units = told(lab)
    (leg,) = units[1].legs
    assert (leg.zone, leg.outside, leg.addresses) == ("outside", True, (f"{own}/24", f"{own6}/64"))
    assert leg.routes == (("0.0.0.0/0", "10.5.0.1"), ("::/0", "fd00:5::1"))
    assert [len(unit.ports) for unit in units.values() if unit.kind == "dispatcher"] == [1]
    lab.report(made["id"], u1={"serves": ()})
    assert [c["what"] for c in lab.show(made["id"])["conditions"]] == ["the leg outside is not served"]
    lab.report(made["id"], u1={"serves": ("outside",)})
    assert lab.show(made["id"])["status"] == "ACTIVE"
    policy = f"{BASE}/{made['id']}/policy"
    lab.api.ok("PUT", policy, {"policy": listener(own, own)}, by="demo")
    reply = lab.api.ask("PUT", policy, {"policy": listener(own)}, by="demo")
    assert (reply.status_code, reply.json()["error"]["field"]) == (400, "balancer.listeners[0].masquerade")


def test_what_is_between_two_networks_needs_two(lab: Lab) -> None:
    body = {"services": ["firewall", "balancer"], "outside_network_id": lab.inside}
    with lab.api.unchanged():
        reply = lab.api.ask("POST", BASE, {"appliance": body}, by="demo")
    assert (reply.status_code, reply.json()["error"]["field"]) == (400, "inside_network_id")
    id = alone(lab)["id"]
    reply = lab.api.ask("PUT", f"{BASE}/{id}", {"appliance": {"services": ["nat"]}}, by="demo")
    assert (reply.status_code, reply.json()["error"]["field"]) == (400, "inside_network_id")


# Ordered by the cloud.


def ordered(lab: Lab, port: str, **more: Any) -> Appliance:
    (subnet,) = lab.api.ok("GET", "/network/v2.0/subnets?cidr=10.5.0.0/24")["subnets"]
    wanted = Appliance(
        project_id=lab.api.ok("GET", f"{PORTS}/{port}")["port"]["project_id"],
        services=["balancer"],
        outside_network_id=lab.inside,
    )
    mine: dict[str, Any] = {"owner": "loadbalancer:7", "port_id": port, **more}
    another = [FixedIp(subnet_id=subnet["id"])]
    return by_the_cloud(lab, lambda call: orders.order(call, wanted, addresses=another, **mine))


def port_of(lab: Lab, address: str) -> str:
    port = {"network_id": lab.inside, "fixed_ips": [{"ip_address": address}], "device_owner": "Octavia"}
    return str(lab.api.ok("POST", PORTS, {"port": port}, by="demo")["port"]["id"])


def test_an_ordered_one_has_the_addresses_of_a_port_that_it_was_lent(lab: Lab) -> None:
    port = port_of(lab, "10.5.0.50")
    made = ordered(lab, port, policy=listener("10.5.0.50", "10.5.0.50"))
    first, second = made.outside_addresses
    assert (first, second != first) == ("10.5.0.50", True)
    assert told(lab)[1].legs[0].addresses == ("10.5.0.50/24", f"{second}/24")
    shown = lab.api.ok("GET", f"{PORTS}/{port}", by="demo")["port"]
    assert (shown["device_owner"], shown["device_id"]) == ("network:appliance", made.id)
    assert port not in logical_network(Replica(lab.api.store).refresh(), Settings()).ports
    assert lab.api.ask("DELETE", f"{PORTS}/{port}", by="demo").status_code == 409
    by_the_cloud(lab, lambda call: orders.remove(call, made.id))
    shown = lab.api.ok("GET", f"{PORTS}/{port}", by="demo")["port"]
    assert (shown["device_owner"], shown["device_id"], shown["status"]) == ("Octavia", "", "DOWN")
    left = lab.api.ok("GET", f"{PORTS}?network_id={lab.inside}")["ports"]
    assert not [each for each in left if "appliance" in each["device_owner"]]


def test_a_port_that_is_in_use_is_not_lent(lab: Lab) -> None:
    port = port_of(lab, "10.5.0.50")
    ordered(lab, port)
    for bad, error in ((port, Conflict), ("6c1b1e1a-7c7b-4d3f-9d0c-7d1f7d7d7d7d", NotFound)):
        with lab.api.unchanged(), pytest.raises(error):
            by_the_cloud(
                lab,
                lambda call, id=bad: orders.order(  # type: ignore[misc]
                    call,
                    Appliance(project_id="p", services=["balancer"], outside_network_id=lab.inside),
                    owner="loadbalancer:8",
                    port_id=id,
                ),
            )


def test_an_ordered_one_changes_with_its_owner_alone(lab: Lab) -> None:
    made = ordered(lab, port_of(lab, "10.5.0.50"))
    one = f"{BASE}/{made.id}"
    assert lab.api.ok("GET", one, by="demo")["appliance"]["owner"] == "loadbalancer:7"
    for method, path, body in (
        ("PUT", one, {"appliance": {"data_planes": 3}}),
        ("DELETE", one, None),
        ("PUT", f"{one}/policy", {"policy": {}}),
        ("POST", f"{one}/units/1/drain", None),
    ):
        with lab.api.unchanged():
            reply = lab.api.ask(method, path, body, by="demo")
        assert (reply.status_code, reply.json()["error"]["type"]) == (409, "ApplianceOwned"), path
        assert "loadbalancer:7" in reply.json()["error"]["message"]
    changed = by_the_cloud(lab, lambda call: orders.change(call, made.id, data_planes=3))
    assert (changed.data_planes, len(lab.units(made.id, "data-plane"))) == (3, 3)
    document = listener("10.5.0.50", made.outside_addresses[1])
    assert by_the_cloud(lab, lambda call: orders.set_policy(call, made.id, document))
    with pytest.raises(BadField):
        by_the_cloud(lab, lambda call: orders.set_policy(call, made.id, listener("10.5.0.51", "10.5.0.50")))
    with lab.api.store.read() as reader:
        found = orders.owned(reader, "loadbalancer:7")
        assert found is not None
        assert (found.id, found.policy_revision) == (made.id, 2)
        assert orders.owned(reader, "loadbalancer:8") is None


# Several.


def test_a_network_is_there_when_all_units_came_after_it(lab: Lab) -> None:
    made = alone(lab)
    id = made["id"]
    report(lab, id)
    lab.scale(id, network_ids=[lab.network("10.6.0.0/24")])
    ((further,),) = lab.show(id)["network_addresses"]
    assert further.startswith("10.6.0.")
    policy, document = f"{BASE}/{id}/policy", listener(made["outside_addresses"][0], further)
    assert {len(unit.legs) for number, unit in told(lab).items() if number <= 4} == {1}
    for _ in range(12):
        there = lab.stored(id)
        # One by one.
        assert len([unit for unit in there if unit.leaves or unit.replaced_by is not None]) <= 1
        if all(unit.legs == 2 or unit.kind == "manager" for unit in there):
            break
        reply = lab.api.ask("PUT", policy, {"policy": document}, by="demo")
        assert reply.json()["error"]["field"] == "balancer.listeners[0].masquerade[0]"
        report(lab, id)
        shown = lab.show(id)
        assert "the leg net1 is not there yet" in [c["what"] for c in shown["conditions"]]
        assert shown["status"] == "UPDATING"
        later(lab, id)
        report(lab, id)
    assert [unit.kind for unit in lab.stored(id)] == ["manager", "dispatcher", "data-plane", "data-plane"]
    dispatcher = next(unit for unit in told(lab).values() if unit.kind == "dispatcher")
    assert [leg.zone for leg in dispatcher.legs] == ["outside", "net1"]
    assert (len(dispatcher.ports), dispatcher.legs[1].outside, dispatcher.legs[1].routes) == (2, False, ())
    lab.api.ok("PUT", policy, {"policy": document}, by="demo")
    report(lab, id)
    assert lab.show(id)["status"] == "ACTIVE"


def later(lab: Lab, id: str) -> None:
    """As if what leaves had been told to long ago."""

    def write(tx: Any) -> None:
        for unit in tx.find(type(lab.stored(id)[0]), appliance_id=id):
            if unit.leaves:
                tx.replace(replace(unit, left_at=1.0))

    lab.api.store.write_sync(write)


# Subnets that come and go.


def subnet(lab: Lab, network: str, cidr: str, **fields: Any) -> str:
    body = {"network_id": network, "ip_version": 6 if ":" in cidr else 4, "cidr": cidr, **fields}
    return str(lab.api.ok("POST", SUBNETS, {"subnet": body}, by="demo")["subnet"]["id"])


def legs_of(lab: Lab) -> dict[str, tuple[str, ...]]:
    return {leg.zone: leg.addresses for leg in told(lab)[1].legs}


def test_a_subnet_that_comes_later_is_served(lab: Lab) -> None:
    far, net = lab.network("10.8.0.0/24"), lab.network("10.6.0.0/24")
    id = lab.make(outside_network_id=far, network_ids=[net])["id"]
    subnet(lab, lab.inside, "10.7.0.0/24", gateway_ip="10.7.0.77")
    assert lab.show(id)["inside_addresses"] == ["10.5.0.1", "fd00:5::1", "10.7.0.77"]
    assert legs_of(lab)["inside"] == ("10.5.0.1/24", "fd00:5::1/64", "10.7.0.77/24")
    subnet(lab, net, "fd00:6::/64")
    (own,) = [a for a in lab.show(id)["network_addresses"][0] if ":" in a]
    assert legs_of(lab)["net1"][1] == f"{own}/64" != "fd00:6::1/64"
    # Outside, of each family one.
    subnet(lab, far, "10.9.0.0/24")
    subnet(lab, far, "fd00:8::/64")
    assert [":" in address for address in lab.show(id)["outside_addresses"]] == [False, True]
    routes = next(leg.routes for leg in told(lab)[1].legs if leg.outside)
    assert routes == (("0.0.0.0/0", "10.8.0.1"), ("::/0", "fd00:8::1"))
    assert "Subnet fd00:8::/64 of outside is served" in lab.events(id)
    assert {unit.number for unit in lab.stored(id)} == {1, 2, 3, 4}, "none is replaced for it"


def test_hosts_inside_are_told_of_their_prefixes(lab: Lab) -> None:
    lab.make()
    assert told(lab)[1].legs[0].advertised is None, "nobody asked for it"
    slaac = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    subnet(lab, lab.inside, "fd00:7::/64", dns_nameservers=["fd00::53"], **slaac)
    stateful = {"ipv6_ra_mode": "dhcpv6-stateful", "ipv6_address_mode": "dhcpv6-stateful"}
    subnet(lab, lab.inside, "fd00:8::/64", **stateful)
    inside, outside = told(lab)[1].legs
    found = inside.advertised
    assert found is not None
    assert (found.prefixes, found.managed, found.other) == (
        (("fd00:7::/64", True), ("fd00:8::/64", False)),
        True,
        False,
    )
    assert found.name_servers[0] == "fd00::53"
    assert (found.mtu, found.router[:6]) == (inside.mtu, "fe80::")
    assert outside.advertised is None


@pytest.mark.parametrize(
    ("cidr", "fields", "cause"),
    [
        ("10.7.0.0/24", {"gateway_ip": None}, "has no gateway"),
        ("10.6.0.0/16", {}, "it overlaps with 10.6.0.0/24 of net1"),
    ],
)
def test_one_that_cannot_be_served_is_told_of(lab: Lab, cidr: str, fields: Any, cause: str) -> None:
    id = lab.make(network_ids=[lab.network("10.6.0.0/24")])["id"]
    before = lab.show(id)["inside_addresses"]
    new = subnet(lab, lab.inside, cidr, **fields)
    lab.report(id, u1={"serves": ("inside", "outside", "net1")})
    shown = lab.show(id)
    assert (shown["inside_addresses"], shown["status"]) == (before, "ACTIVE")
    (told_of,) = shown["conditions"]
    assert told_of["what"] == f"subnet {cidr} of inside is not served"
    assert cause in told_of["cause"]
    assert told_of["remedy"]
    if fields:
        lab.api.ok("PUT", f"{SUBNETS}/{new}", {"subnet": {"gateway_ip": "10.7.0.254"}}, by="demo")
        lab.report(id, u1={"serves": ("inside", "outside", "net1")})
        assert lab.show(id)["conditions"] == []
        assert lab.show(id)["inside_addresses"] == [*before, "10.7.0.254"]
    else:
        lab.api.ok("DELETE", f"{SUBNETS}/{new}", by="demo")
    lab.report(id, u1={"serves": ("inside", "outside", "net1")})
    assert lab.show(id)["conditions"] == []


def test_a_subnet_goes_with_the_address_there(lab: Lab) -> None:
    made = lab.make(services=["firewall", "balancer"])
    id, before = made["id"], made["inside_addresses"]
    new = subnet(lab, lab.inside, "10.7.0.0/24")
    own = next(a for a in made["outside_addresses"] if ":" not in a)
    document = {"firewall": {"default": "drop"}, **listener(own, "10.7.0.1")}
    policy = f"{BASE}/{id}/policy"
    lab.api.ok("PUT", policy, {"policy": document}, by="demo")
    with lab.api.unchanged():
        reply = lab.api.ask("DELETE", f"{SUBNETS}/{new}", by="demo")
    assert reply.status_code == 409
    assert "balancer.listeners[0].masquerade[0]" in reply.json()["NeutronError"]["message"]
    lab.api.ok("PUT", policy, {"policy": {"firewall": {"default": "drop"}}}, by="demo")
    lab.api.ok("DELETE", f"{SUBNETS}/{new}", by="demo")
    assert lab.show(id)["inside_addresses"] == before
    assert "10.7.0.1/24" not in legs_of(lab)["inside"]
    # The gateway's address is free for another one.
    assert subnet(lab, lab.network(), "10.7.0.0/24")
    assert subnet(lab, lab.inside, "10.7.0.0/24")
    assert lab.show(id)["inside_addresses"] == [*before, "10.7.0.1"]


def test_the_last_subnet_of_a_leg_stays(lab: Lab) -> None:
    net = lab.network("10.6.0.0/24")
    lab.make(network_ids=[net])
    (only,) = lab.api.ok("GET", f"{SUBNETS}?network_id={net}", by="demo")["subnets"]
    with lab.api.unchanged():
        reply = lab.api.ask("DELETE", f"{SUBNETS}/{only['id']}", by="demo")
    assert (reply.status_code, reply.json()["NeutronError"]["type"]) == (409, "SubnetInUse")


def test_networks_that_contradict_each_other_are_refused(lab: Lab) -> None:
    other, same = lab.network("10.6.0.0/24"), lab.network("10.5.0.0/16")
    for field, value in (
        ("network_ids", [lab.inside]),
        ("network_ids", [same]),
        ("network_ids", [other, other]),
        ("network_ids", [lab.network()]),
        ("network_ids", [lab.network(f"10.{n}.0.0/24") for n in range(10, 16)]),
    ):
        assert lab.refused(**{field: value})[:2] == (400, field)
    id = lab.make(network_ids=[other])["id"]
    assert [leg.zone for leg in told(lab)[1].legs] == ["inside", "outside", "net1"]
    for wrong in ([], [same], [same, other]):
        reply = lab.api.ask("PUT", f"{BASE}/{id}", {"appliance": {"network_ids": wrong}}, by="demo")
        assert (reply.status_code, reply.json()["error"]["field"]) == (400, "network_ids")
