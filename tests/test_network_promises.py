"""Least rates: what ports ask for, what hosts can promise, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from network_lab import ANN, ROOT, Cloud, cloud

from trunkline.resources.region import Host
from trunkline.resources.reports import HostLink

__all__ = ["cloud"]

POLICIES = "/qos/policies"
BANDWIDTH, PACKETS = "minimum_bandwidth", "minimum_packet_rate"
REFUSED = (409, "QosPlacementAllocationConflict")


def policy(cloud: Cloud, **least: int) -> dict[str, Any]:
    """A policy of everybody's, with least bandwidths by direction."""
    made = cloud.ask("POST", POLICIES, {"policy": {"name": "sure", "shared": True}}, by=ROOT).json()["policy"]
    for direction, kbps in least.items():
        rule(cloud, made, BANDWIDTH, direction=direction, min_kbps=kbps)
    return dict(made)


def rule(cloud: Cloud, made: dict[str, Any], kind: str, **fields: Any) -> dict[str, Any]:
    where = f"{POLICIES}/{made['id']}/{kind}_rules"
    reply = cloud.ask("POST", where, {f"{kind}_rule": fields}, by=ROOT)
    assert reply.status_code == 201, reply.text
    return dict(reply.json()[f"{kind}_rule"])


def refused_rule(cloud: Cloud, made: dict[str, Any], kind: str, **fields: Any) -> tuple[int, str]:
    where = f"{POLICIES}/{made['id']}/{kind}_rules"
    return cloud.refused("POST", where, {f"{kind}_rule": fields}, by=ROOT)


def hosts(cloud: Cloud, *names: str, tunnels: int = 1000, physnet1: int = 0, kpps: int = 0) -> None:
    """Hosts that promise as much both ways."""
    cloud.hosts(*names)
    links = [HostLink(egress_kbps=tunnels, ingress_kbps=tunnels)]
    if physnet1:
        links.append(HostLink(physical_network="physnet1", egress_kbps=physnet1, ingress_kbps=physnet1))

    async def write() -> None:
        def all_of_them(tx: Any) -> None:
            for name in names:
                tx.observe(replace(tx.get(Host, name), links=links, packet_rate_kpps=kpps))

        await cloud.store.write(all_of_them)

    cloud.loop.run_until_complete(write())


def port(cloud: Cloud, network: dict[str, Any], host: str = "h1", **fields: Any) -> dict[str, Any]:
    return cloud.make("port", by=ROOT, network_id=network["id"], binding__host_id=host, **fields)


def test_a_port_shows_the_operator_what_it_asks_a_host_for(cloud: Cloud) -> None:
    hosts(cloud, "h1")
    made, net = policy(cloud, egress=300, ingress=200), cloud.make("network")
    rule(cloud, made, PACKETS, direction="any", min_kpps=5)
    plain = cloud.make("port", network_id=net["id"])
    mine = cloud.make("port", network_id=net["id"], qos_policy_id=made["id"])
    assert "resource_request" not in mine
    assert cloud.show("port", plain["id"], by=ROOT)["resource_request"] is None
    asked = cloud.show("port", mine["id"], by=ROOT)["resource_request"]
    bandwidth, packets = asked["request_groups"]
    assert bandwidth["required"] == ["CUSTOM_NETWORK_TUNNEL_PROVIDER", "CUSTOM_VNIC_TYPE_NORMAL"]
    assert bandwidth["resources"] == {"NET_BW_EGR_KILOBIT_PER_SEC": 300, "NET_BW_IGR_KILOBIT_PER_SEC": 200}
    assert packets["required"] == ["CUSTOM_VNIC_TYPE_NORMAL"]
    assert packets["resources"] == {"NET_PACKET_RATE_KILOPACKET_PER_SEC": 5}
    assert asked["same_subtree"] == [bandwidth["id"], packets["id"]]


def test_a_port_asks_for_what_the_policy_of_its_network_promises(cloud: Cloud) -> None:
    made, (public, _) = policy(cloud, egress=300), cloud_with_public(cloud)
    cloud.change("network", public["id"], by=ROOT, qos_policy_id=made["id"])
    on = cloud.make("port", by=ROOT, network_id=public["id"])
    (group,) = on["resource_request"]["request_groups"]
    assert group["required"][0] == "CUSTOM_PHYSNET_PHYSNET1"
    listed = cloud.all("port", by=ROOT)
    assert [p["resource_request"] for p in listed if p["id"] == on["id"]] == [on["resource_request"]]


def cloud_with_public(cloud: Cloud) -> tuple[dict[str, Any], dict[str, Any]]:
    hosts(cloud, "h1", physnet1=1000)
    return cloud.public()


def test_a_host_promises_what_it_has_and_no_more(cloud: Cloud) -> None:
    hosts(cloud, "h1", "h2")
    made, net = policy(cloud, egress=600), cloud.make("network")
    fields = {"qos_policy_id": made["id"]}
    first = port(cloud, net, **fields)
    assert cloud.refuses("port", by=ROOT, network_id=net["id"], binding__host_id="h1", **fields) == REFUSED
    second = port(cloud, net, "h2", **fields)
    move = {"port": {"binding:host_id": "h1"}}
    assert cloud.refused("PUT", f"/ports/{second['id']}", move, by=ROOT) == REFUSED
    cloud.remove("port", first["id"])
    cloud.change("port", second["id"], by=ROOT, binding__host_id="h1")


def test_what_is_lacking_is_told_with_its_figures(cloud: Cloud) -> None:
    hosts(cloud, "h1", tunnels=500)
    made, net = policy(cloud, ingress=600), cloud.make("network")
    body = {"port": {"network_id": net["id"], "binding:host_id": "h1", "qos_policy_id": made["id"]}}
    told = cloud.ask("POST", "/ports", body, by=ROOT).json()["NeutronError"]["message"]
    assert "not enough ingress bandwidth of the tunnels (600 kbit/s wanted, 500 free)" in told


def test_each_link_and_direction_counts_by_itself(cloud: Cloud) -> None:
    (public, _), net = cloud_with_public(cloud), cloud.make("network")
    fields = {"qos_policy_id": policy(cloud, egress=1000)["id"]}
    port(cloud, net, **fields)
    port(cloud, public, **fields)
    port(cloud, net, qos_policy_id=policy(cloud, ingress=1000)["id"])
    assert cloud.refuses("port", by=ROOT, network_id=net["id"], binding__host_id="h1", **fields) == REFUSED


def test_packets_of_both_directions_count_together(cloud: Cloud) -> None:
    hosts(cloud, "h1", kpps=10)
    net, made = cloud.make("network"), policy(cloud)
    rule(cloud, made, PACKETS, direction="egress", min_kpps=4)
    rule(cloud, made, PACKETS, direction="ingress", min_kpps=3)
    port(cloud, net, qos_policy_id=made["id"])
    other = policy(cloud)
    rule(cloud, other, PACKETS, direction="any", min_kpps=4)
    body = {"network_id": net["id"], "binding__host_id": "h1", "qos_policy_id": other["id"]}
    assert cloud.refuses("port", by=ROOT, **body) == REFUSED


def test_a_bound_port_gets_no_policy_that_its_host_cannot_keep(cloud: Cloud) -> None:
    hosts(cloud, "h1")
    net, small, large = cloud.make("network"), policy(cloud, egress=400), policy(cloud, egress=700)
    one, other = (port(cloud, net, qos_policy_id=small["id"]) for _ in range(2))
    change = {"port": {"qos_policy_id": large["id"]}}
    assert cloud.refused("PUT", f"/ports/{one['id']}", change, by=ROOT) == REFUSED
    assert cloud.show("port", one["id"])["qos_policy_id"] == small["id"]
    cloud.change("port", other["id"], by=ROOT, qos_policy_id=None)
    cloud.change("port", one["id"], by=ROOT, qos_policy_id=large["id"])


def test_a_network_gets_no_policy_that_the_hosts_of_its_ports_cannot_keep(cloud: Cloud) -> None:
    hosts(cloud, "h1")
    net, made = cloud.make("network"), policy(cloud, egress=400)
    port(cloud, net), port(cloud, net), port(cloud, net, qos_policy_id=policy(cloud)["id"])
    cloud.change("network", net["id"], by=ROOT, qos_policy_id=made["id"])
    large = {"network": {"qos_policy_id": policy(cloud, egress=600)["id"]}}
    assert cloud.refused("PUT", f"/networks/{net['id']}", large, by=ROOT) == REFUSED


def test_a_rule_does_not_grow_beyond_what_the_hosts_of_its_ports_have(cloud: Cloud) -> None:
    hosts(cloud, "h1")
    net, made = cloud.make("network", qos_policy_id=None), policy(cloud)
    cloud.change("network", net["id"], by=ROOT, qos_policy_id=made["id"])
    port(cloud, net), port(cloud, net)
    assert refused_rule(cloud, made, BANDWIDTH, min_kbps=600) == REFUSED
    least = rule(cloud, made, BANDWIDTH, min_kbps=400)
    where = f"{POLICIES}/{made['id']}/{BANDWIDTH}_rules/{least['id']}"
    assert cloud.refused("PUT", where, {f"{BANDWIDTH}_rule": {"min_kbps": 501}}, by=ROOT) == REFUSED
    assert cloud.ask("PUT", where, {f"{BANDWIDTH}_rule": {"min_kbps": 500}}, by=ROOT).status_code == 200
    assert cloud.ask("DELETE", where, by=ROOT).status_code == 204


def test_subports_hold_what_they_are_promised_with_their_parent(cloud: Cloud) -> None:
    hosts(cloud, "h1", "h2")
    net, fields = cloud.make("network"), {"qos_policy_id": policy(cloud, egress=600)["id"]}
    parent, sub = (cloud.make("port", by=ROOT, network_id=net["id"], **fields) for _ in range(2))
    subs = [{"port_id": sub["id"], "segmentation_type": "vlan", "segmentation_id": 5}]
    cloud.make("trunk", by=ROOT, port_id=parent["id"], sub_ports=subs)
    bind = {"port": {"binding:host_id": "h1"}}
    assert cloud.refused("PUT", f"/ports/{parent['id']}", bind, by=ROOT) == REFUSED


@pytest.mark.parametrize("kind", ["floatingip", "router"])
def test_what_has_no_host_of_its_own_is_promised_nothing(cloud: Cloud, kind: str) -> None:
    public, _ = cloud_with_public(cloud)
    least, bare = policy(cloud, egress=1), policy(cloud)

    def fields(of: dict[str, Any]) -> dict[str, Any]:
        if kind == "floatingip":
            return {"floating_network_id": public["id"], "qos_policy_id": of["id"]}
        return {"external_gateway_info": {"network_id": public["id"], "qos_policy_id": of["id"]}}

    assert cloud.refuses(kind, **fields(least)) == (409, "QosRuleNotSupported")
    cloud.make(kind, **fields(bare))
    assert refused_rule(cloud, bare, PACKETS, direction="any", min_kpps=1) == (409, "QosRuleNotSupported")


def test_rules_that_contradict_each_other_are_refused(cloud: Cloud) -> None:
    wrong = (409, "QoSRuleParameterConflict")
    made = policy(cloud, egress=500)
    assert refused_rule(cloud, made, "bandwidth_limit", max_kbps=499) == wrong
    rule(cloud, made, "bandwidth_limit", max_kbps=100, direction="ingress")
    assert refused_rule(cloud, made, BANDWIDTH, min_kbps=101, direction="ingress") == wrong
    rule(cloud, made, PACKETS, direction="egress", min_kpps=1)
    assert refused_rule(cloud, made, PACKETS, direction="any", min_kpps=1) == wrong
    assert refused_rule(cloud, made, PACKETS, direction="egress", min_kpps=2)[0] == 409


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        (BANDWIDTH, {}, "min_kbps"),
        (BANDWIDTH, {"min_kbps": 0}, "min_kbps"),
        (BANDWIDTH, {"min_kbps": 1, "direction": "any"}, "direction"),
        (PACKETS, {"min_kpps": 1}, "direction"),
        (PACKETS, {"direction": "any"}, "min_kpps"),
        (PACKETS, {"min_kpps": 2**31, "direction": "any"}, "min_kpps"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(
    cloud: Cloud, kind: str, fields: dict[str, Any], named: str
) -> None:
    where = f"{POLICIES}/{policy(cloud)['id']}/{kind}_rules"
    reply = cloud.ask("POST", where, {f"{kind}_rule": fields}, by=ROOT)
    assert (reply.status_code, named in reply.json()["NeutronError"]["message"]) == (400, True)


def test_rules_are_the_operators(cloud: Cloud) -> None:
    where = f"{POLICIES}/{policy(cloud)['id']}/{BANDWIDTH}_rules"
    assert cloud.refused("POST", where, {f"{BANDWIDTH}_rule": {"min_kbps": 1}}, by=ANN)[0] == 403
