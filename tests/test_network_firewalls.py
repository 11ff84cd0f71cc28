"""Firewall groups over the API, and what they say as policies of appliances.

| claim | and in reverse |
| --- | --- |
| a group stands at each router that it has interfaces of, by an appliance that is its own | |
| it goes with the group's ports, with the interface, with the group | |
| what changes below a group changes its appliances' policies | |
| rules have an order, in which others are put and taken out | |
| of the inner addresses, each direction meets its policy, and both where both ends are inside | |
| the router sends everything of both directions by the appliance, its own answers excepted | |
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_lab import ApiLab
from first_match import first_match

from trunkline.api.network.firewall_policy import document
from trunkline.backends.ovn.rows import desired
from trunkline.compiler.network import logical_network
from trunkline.compiler.settings import Settings
from trunkline.control.replica import Replica
from trunkline.resources.appliance import Appliance, AppliancePolicy
from trunkline.resources.appliance_policy import parse
from trunkline.resources.network import FirewallRule, FirewallSite

FWAAS = "/network/v2.0/fwaas/firewall_"


class World:
    """Two routers of the demo project with a network each, and a policy with two rules."""

    def __init__(self, lab: ApiLab) -> None:
        self.lab = lab
        self.routers, self.subnets, self.ports = [], [], []
        for number in (1, 2):
            net = self.make("/network/v2.0/networks", "network")
            fields = {"network_id": net, "ip_version": 4, "cidr": f"10.{number}.0.0/24"}
            self.subnets.append(self.make("/network/v2.0/subnets", "subnet", **fields))
            self.routers.append(self.make("/network/v2.0/routers", "router"))
            where = f"/network/v2.0/routers/{self.routers[-1]}/add_router_interface"
            self.ports.append(lab.ok("PUT", where, {"subnet_id": self.subnets[-1]}, by="demo")["port_id"])
        self.rules = [
            self.make(f"{FWAAS}rules", "firewall_rule", action="allow", protocol="tcp", destination_port=port)
            for port in ("80", "81", "82")
        ]
        self.policy = self.make(f"{FWAAS}policies", "firewall_policy", firewall_rules=self.rules[:2])

    def make(self, path: str, kind: str, **fields: Any) -> str:
        return str(self.lab.ok("POST", path, {kind: fields}, by="demo")[kind]["id"])

    def group(self, *ports: str, **fields: Any) -> str:
        fields = {"ports": list(ports), "ingress_firewall_policy_id": self.policy, **fields}
        return self.make(f"{FWAAS}groups", "firewall_group", **fields)

    def shown(self, group: str) -> dict[str, Any]:
        return dict(self.lab.ok("GET", f"{FWAAS}groups/{group}", by="demo")["firewall_group"])

    def change(self, group: str, **fields: Any) -> None:
        self.lab.ok("PUT", f"{FWAAS}groups/{group}", {"firewall_group": fields}, by="demo")

    def refused(self, method: str, path: str, body: Any = None, by: str = "demo") -> tuple[int, str]:
        reply = self.lab.ask(method, path, body, by=by)
        return reply.status_code, reply.json()["NeutronError"]["type"]

    def appliances(self) -> list[Appliance]:
        with self.lab.store.read() as reader:
            return reader.select(Appliance)

    def said(self) -> list[dict[str, Any]]:
        with self.lab.store.read() as reader:
            return [policy.document for policy in reader.select(AppliancePolicy)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    lab = ApiLab(tmp_path)
    yield World(lab)
    lab.close()


def test_a_group_stands_at_each_router_that_it_has_interfaces_of(world: World) -> None:
    group = world.group(*world.ports)
    assert world.shown(group)["status"] == "PENDING_CREATE"
    assert [a.owner for a in world.appliances()] == [f"firewall_group:{group}"] * 2
    with world.lab.store.read() as reader:
        sites = {site.router_id: site for site in reader.select(FirewallSite)}
    assert [sites[router].ports for router in world.routers] == [[port] for port in world.ports]
    assert not world.lab.ok("GET", "/network/v2.0/networks?name=firewall", by="demo")["networks"]


def test_it_goes_with_its_ports_and_with_the_interface(world: World) -> None:
    group = world.group(*world.ports)
    where = f"/network/v2.0/routers/{world.routers[0]}/remove_router_interface"
    world.lab.ok("PUT", where, {"subnet_id": world.subnets[0]}, by="demo")
    assert world.shown(group)["ports"] == world.ports[1:]
    assert len(world.appliances()) == 1
    world.change(group, ports=[])
    assert world.shown(group)["status"] == "INACTIVE"
    assert not world.appliances()
    owners = {port["device_owner"] for port in world.lab.ok("GET", "/network/v2.0/ports")["ports"]}
    assert not owners & {"network:router_firewall", "network:appliance", "network:appliance_dispatcher"}
    world.lab.ok("DELETE", f"{FWAAS}groups/{group}", by="demo")
    world.lab.ok("DELETE", f"/network/v2.0/routers/{world.routers[0]}", by="demo")


def test_what_changes_below_a_group_changes_what_its_appliance_does(world: World) -> None:
    world.group(world.ports[0])

    def served() -> list[str]:
        (found,) = world.said()
        return [rule["service"] for rule in found["firewall"]["rules"] if "service" in rule]

    assert served() == ["tcp/80", "tcp/81"]
    at = f"{FWAAS}policies/{world.policy}"
    after = {"firewall_rule_id": world.rules[2], "insert_after": world.rules[0]}
    assert world.lab.ok("PUT", f"{at}/insert_rule", after, by="demo")["firewall_rules"] == [
        world.rules[0],
        world.rules[2],
        world.rules[1],
    ]
    assert served() == ["tcp/80", "tcp/82", "tcp/81"]
    world.lab.ok("PUT", f"{at}/remove_rule", {"firewall_rule_id": world.rules[0]}, by="demo")
    change = {"firewall_rule": {"destination_port": "90:99"}}
    world.lab.ok("PUT", f"{FWAAS}rules/{world.rules[2]}", change, by="demo")
    assert served() == ["tcp/90-99", "tcp/81"]


def test_what_is_in_use_or_contradicts_is_refused(world: World) -> None:
    group = world.group(world.ports[0])
    policies, rules = f"{FWAAS}policies/{world.policy}", f"{FWAAS}rules/{world.rules[0]}"
    assert world.refused("DELETE", policies) == (409, "FirewallPolicyInUse")
    assert world.refused("DELETE", rules) == (409, "FirewallRuleInUse")
    again = {"firewall_group": {"ports": [world.ports[0]]}}
    assert world.refused("POST", f"{FWAAS}groups", again) == (409, "FirewallGroupPortInUse")
    named = {"firewall_group": {"name": "default"}}
    assert world.refused("POST", f"{FWAAS}groups", named) == (409, "FirewallDefaultParameterExists")
    net = world.make("/network/v2.0/networks", "network")
    other = {"firewall_group": {"ports": [world.make("/network/v2.0/ports", "port", network_id=net)]}}
    assert world.refused("PUT", f"{FWAAS}groups/{group}", other) == (409, "FirewallGroupPortInvalid")
    twice = {"firewall_rule_id": world.rules[0]}
    assert world.refused("PUT", f"{policies}/insert_rule", twice) == (409, "FirewallRuleAlreadyAssociated")
    missing = {"firewall_rule_id": world.rules[2]}
    assert world.refused("PUT", f"{policies}/remove_rule", missing) == (
        400,
        "FirewallRuleNotAssociatedWithPolicy",
    )
    for fields, error in (
        ({"destination_port": "80"}, "FirewallRuleWithPortWithoutProtocolInvalid"),
        ({"protocol": "icmp", "source_port": "80"}, "FirewallRuleInvalidICMPParameter"),
        ({"ip_version": 6, "source_ip_address": "10.0.0.1"}, "FirewallIpAddressConflict"),
    ):
        assert world.refused("POST", f"{FWAAS}rules", {"firewall_rule": fields}) == (400, error)
    owned = f"/appliance/v1/appliances/{world.appliances()[0].id}"
    assert world.lab.ask("DELETE", owned, by="demo").status_code == 409


def test_every_project_has_a_group_that_only_administrators_change(world: World) -> None:
    (default,) = world.lab.ok("GET", f"{FWAAS}groups", by="demo")["firewall_groups"]
    assert default["name"] == "default"
    at = f"{FWAAS}groups/{default['id']}"
    change = {"firewall_group": {"description": "mine"}}
    assert world.refused("PUT", at, change) == (409, "FirewallDefaultObjectUpdateRestricted")
    assert world.refused("DELETE", at) == (409, "FirewallGroupCannotRemoveDefault")
    world.lab.ok("PUT", at, {"firewall_group": {"ports": [world.ports[0]]}}, by="demo")
    assert len(world.appliances()) == 1
    world.lab.ok("PUT", at, {"firewall_group": {"ports": []}}, by="demo")
    world.lab.ok("DELETE", at)
    names = [rule["name"] for rule in world.lab.ok("GET", f"{FWAAS}rules")["firewall_rules"]]
    assert not [name for name in names if name.startswith("default")]


def test_the_router_sends_both_directions_by_the_appliance(world: World) -> None:
    world.group(world.ports[0])
    network = logical_network(Replica(world.lab.store).refresh(), Settings())
    (detour,) = network.detours.values()
    port, leg = (f'{{"lrp-{key}"}}' for key in (world.ports[0], detour.leg))
    rows = desired(network)["Logical_Router_Policy"].values()
    found = {row["match"]: (row["priority"], row["action"], set(row["nexthops"])) for row in rows}
    four = {match: said for match, said in found.items() if "ip4" in match}
    hop = {detour.next_hops[0]}
    assert [four[m][1:] for m in sorted(four, key=lambda m: -four[m][0])] == [
        ("allow", set()),
        ("drop", set()),
        ("reroute", hop),
        ("allow", set()),
        ("reroute", hop),
    ]
    assert four[f"inport == {port} && ip4"][1:] == ("reroute", hop)
    assert four[f"outport == {port} && ip4"][1:] == ("reroute", hop)
    assert four[f"inport == {leg} && outport == {port} && ip4"][1] == "allow"
    assert four[f"outport == {leg} && ip4"][1] == "drop"


def rule(name: str, action: str = "allow", **fields: Any) -> FirewallRule:
    return FirewallRule(id=name, action=action, **fields)


#: Two inner networks; what comes to them is for port 80, what leaves is not for port 25.
INNER = [ipaddress.ip_network("10.1.0.0/24"), ipaddress.ip_network("10.2.0.0/24")]
INGRESS = [rule("web", protocol="tcp", destination_port="80"), rule("echo", protocol="icmp")]
EGRESS = [rule("mail", "reject", protocol="tcp", destination_port="25"), rule("all")]


@pytest.mark.parametrize(
    ("source", "target", "protocol", "port", "action"),
    [
        ("192.0.2.1", "10.1.0.5", 6, 80, "accept"),
        ("192.0.2.1", "10.1.0.5", 6, 81, None),
        ("192.0.2.1", "10.2.0.5", 1, 0, "accept"),
        ("10.1.0.5", "192.0.2.1", 6, 81, "accept"),
        ("10.1.0.5", "192.0.2.1", 6, 25, "reject"),
        ("10.1.0.5", "10.2.0.5", 6, 80, "accept"),
        ("10.1.0.5", "10.2.0.5", 6, 81, "drop"),
        ("10.1.0.5", "10.2.0.5", 6, 25, "reject"),
        ("192.0.2.1", "192.0.2.2", 6, 80, None),
    ],
)
def test_each_direction_meets_its_policy_and_both_between_inner_ends(
    source: str, target: str, protocol: int, port: int, action: str | None
) -> None:
    policy = parse(document(INGRESS, EGRESS, INNER))
    assert policy.firewall is not None
    found = first_match(policy, ipaddress.ip_address(source), ipaddress.ip_address(target), protocol, port)
    assert (policy.firewall.rules[found].action if found >= 0 else None) == action


def test_only_rules_of_the_family_that_are_enabled_count() -> None:
    six = [ipaddress.ip_network("fd00::/64")]
    said = document([rule("four"), rule("off", ip_version=6, enabled=False)], [], six)
    assert [each["action"] for each in said["firewall"]["rules"]] == ["drop"]
    said = document([rule("echo", ip_version=6, protocol="icmp", source_ip_address="fd01::/16")], [], six)
    last = said["firewall"]["rules"][-1]
    assert (last["service"], last["source"], last["destination"]) == ("ip/58", ["fd01::/16"], ["fd00::/64"])
