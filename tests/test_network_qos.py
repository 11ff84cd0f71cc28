"""QoS policies: who has them, who gives them to what, and what may be in them."""

from __future__ import annotations

from typing import Any

import pytest
from network_lab import ANN, BOB, ROOT, Cloud, cloud

__all__ = ["cloud"]

POLICIES = "/qos/policies"


def policy(cloud: Cloud, **fields: Any) -> dict[str, Any]:
    reply = cloud.ask("POST", POLICIES, {"policy": {"name": "gold", **fields}}, by=ROOT)
    assert reply.status_code == 201, reply.text
    return dict(reply.json()["policy"])


def shown(cloud: Cloud, made: dict[str, Any], *, by: str = ROOT) -> dict[str, Any]:
    reply = cloud.ask("GET", f"{POLICIES}/{made['id']}", by=by)
    assert reply.status_code == 200, reply.text
    return dict(reply.json()["policy"])


def change(cloud: Cloud, made: dict[str, Any], **fields: Any) -> int:
    return cloud.ask("PUT", f"{POLICIES}/{made['id']}", {"policy": fields}, by=ROOT).status_code


def rule(cloud: Cloud, made: dict[str, Any], kind: str = "bandwidth_limit", **fields: Any) -> dict[str, Any]:
    where = f"{POLICIES}/{made['id']}/{kind}_rules"
    reply = cloud.ask("POST", where, {f"{kind}_rule": fields}, by=ROOT)
    assert reply.status_code == 201, reply.text
    return dict(reply.json()[f"{kind}_rule"])


def test_a_policy_shows_its_rules_and_changes_with_them(cloud: Cloud) -> None:
    made = policy(cloud)
    assert made["rules"] == []
    limit = rule(cloud, made, max_kbps=2000)
    mark = rule(cloud, made, "dscp_marking", dscp_mark=46)
    now = shown(cloud, made)
    assert {**limit, "type": "bandwidth_limit"} in now["rules"]
    assert {**mark, "type": "dscp_marking"} in now["rules"]
    assert now["revision_number"] == made["revision_number"] + 2
    assert (limit["direction"], limit["max_burst_kbps"]) == ("egress", 0)


def test_a_rule_is_found_below_its_policy_and_by_its_own_id(cloud: Cloud) -> None:
    made, other = policy(cloud), policy(cloud)
    limit = rule(cloud, made, max_kbps=2000)
    below = f"bandwidth_limit_rules/{limit['id']}"
    first, second = f"{POLICIES}/{made['id']}/{below}", f"/qos/alias-{below.replace('_', '-', 2)}"
    assert cloud.ask("GET", first, by=ROOT).json() == {"bandwidth_limit_rule": limit}
    assert cloud.ask("GET", second, by=ROOT).json() == {"alias_bandwidth_limit_rule": limit}
    assert cloud.refused("GET", f"{POLICIES}/{other['id']}/{below}", by=ROOT)[0] == 404
    body = {"alias_bandwidth_limit_rule": {"max_kbps": 3000, "direction": "ingress"}}
    changed = cloud.ask("PUT", second, body, by=ROOT).json()["alias_bandwidth_limit_rule"]
    assert changed == {**limit, "max_kbps": 3000, "direction": "ingress"}
    assert cloud.ask("DELETE", first, by=ROOT).status_code == 204
    assert shown(cloud, made)["rules"] == []


def test_lists_hold_the_rules_of_their_policy(cloud: Cloud) -> None:
    made, other = policy(cloud), policy(cloud)
    limit, _ = rule(cloud, made, max_kbps=2000), rule(cloud, other, max_kbps=2000)
    where = f"{POLICIES}/{made['id']}/bandwidth_limit_rules"
    assert cloud.ask("GET", where, by=ROOT).json() == {"bandwidth_limit_rules": [limit]}
    assert cloud.ask("GET", f"{where}?max_kbps=1", by=ROOT).json() == {"bandwidth_limit_rules": []}


def test_a_policy_has_one_rule_of_a_kind_and_direction(cloud: Cloud) -> None:
    made = policy(cloud)
    rule(cloud, made, max_kbps=2000)
    inward = rule(cloud, made, max_kbps=2000, direction="ingress")
    where = f"{POLICIES}/{made['id']}/bandwidth_limit_rules"
    again = {"bandwidth_limit_rule": {"max_kbps": 1}}
    assert cloud.refused("POST", where, again, by=ROOT)[0] == 409
    turned = {"bandwidth_limit_rule": {"direction": "egress"}}
    assert cloud.refused("PUT", f"{where}/{inward['id']}", turned, by=ROOT)[0] == 409


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        ("bandwidth_limit", {}, "max_kbps"),
        ("bandwidth_limit", {"max_kbps": 0}, "max_kbps"),
        ("bandwidth_limit", {"max_kbps": 1, "max_burst_kbps": -1}, "max_burst_kbps"),
        ("bandwidth_limit", {"max_kbps": 1, "direction": "up"}, "direction"),
        ("bandwidth_limit", {"max_kbps": 1, "qos_policy_id": "x"}, "qos_policy_id"),
        ("dscp_marking", {"dscp_mark": 47}, "dscp_mark"),
        ("dscp_marking", {"dscp_mark": 64}, "dscp_mark"),
        ("packet_rate_limit", {}, "max_kpps"),
        ("packet_rate_limit", {"max_kpps": 0}, "max_kpps"),
        ("packet_rate_limit", {"max_kpps": 1, "direction": "any"}, "direction"),
        ("packet_rate_limit", {"max_kpps": 1, "max_burst_kpps": 2**31}, "max_burst_kpps"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(
    cloud: Cloud, kind: str, fields: dict[str, Any], named: str
) -> None:
    where = f"{POLICIES}/{policy(cloud)['id']}/{kind}_rules"
    reply = cloud.ask("POST", where, {f"{kind}_rule": fields}, by=ROOT)
    assert reply.status_code == 400
    assert named in reply.json()["NeutronError"]["message"]


def test_limits_of_packets_are_for_ports_alone(cloud: Cloud) -> None:
    cloud.hosts("h1")
    made, bare, (public, _) = policy(cloud, shared=True), policy(cloud, shared=True), cloud.public()
    rule(cloud, made, "packet_rate_limit", max_kpps=5)
    refused, fields = (409, "QosRuleNotSupported"), {"floating_network_id": public["id"]}
    assert cloud.refuses("floatingip", **fields, qos_policy_id=made["id"]) == refused
    cloud.make("floatingip", **fields, qos_policy_id=bare["id"])
    where, body = (
        f"{POLICIES}/{bare['id']}/packet_rate_limit_rules",
        {"packet_rate_limit_rule": {"max_kpps": 5}},
    )
    assert cloud.refused("POST", where, body, by=ROOT) == refused


def test_a_policy_lets_no_fewer_packets_pass_than_it_promises(cloud: Cloud) -> None:
    made, wrong = policy(cloud), (409, "QoSRuleParameterConflict")
    limit = rule(cloud, made, "packet_rate_limit", max_kpps=5)
    where = f"{POLICIES}/{made['id']}"
    least = {"minimum_packet_rate_rule": {"min_kpps": 6, "direction": "egress"}}
    assert cloud.refused("POST", f"{where}/minimum_packet_rate_rules", least, by=ROOT) == wrong
    rule(cloud, made, "minimum_packet_rate", min_kpps=5, direction="egress")
    body = {"packet_rate_limit_rule": {"max_kpps": 4}}
    assert cloud.refused("PUT", f"{where}/packet_rate_limit_rules/{limit['id']}", body, by=ROOT) == wrong


def test_policies_are_the_operators(cloud: Cloud) -> None:
    mine, hidden = policy(cloud, project_id="p1"), policy(cloud)
    below = f"{POLICIES}/{mine['id']}/bandwidth_limit_rules"
    assert cloud.refused("POST", POLICIES, {"policy": {"name": "x"}})[0] == 403
    assert cloud.refused("PUT", f"{POLICIES}/{mine['id']}", {"policy": {"name": "x"}})[0] == 403
    assert cloud.refused("POST", below, {"bandwidth_limit_rule": {"max_kbps": 1}})[0] == 403
    assert cloud.refused("DELETE", f"{POLICIES}/{mine['id']}")[0] == 403
    assert cloud.refused("GET", f"{POLICIES}/{hidden['id']}")[0] == 404
    limit = rule(cloud, hidden, max_kbps=1)
    assert cloud.refused("GET", f"/qos/alias_bandwidth_limit_rules/{limit['id']}")[0] == 404
    assert cloud.refused("GET", f"{POLICIES}/{hidden['id']}/bandwidth_limit_rules")[0] == 404


def test_only_who_sees_a_policy_gives_it_or_takes_it_away(cloud: Cloud) -> None:
    hidden, network = policy(cloud), cloud.make("network")
    where, take = f"/networks/{network['id']}", {"network": {"qos_policy_id": None}}
    assert cloud.refused("PUT", where, {"network": {"qos_policy_id": hidden["id"]}})[0] == 404
    cloud.change("network", network["id"], by=ROOT, qos_policy_id=hidden["id"])
    assert cloud.refused("PUT", where, take) == (403, "PolicyRemoveAuthorizationError")
    assert change(cloud, hidden, shared=True) == 200
    assert cloud.change("network", network["id"], qos_policy_id=None)["qos_policy_id"] is None


def test_a_policy_is_shared_with_single_projects(cloud: Cloud) -> None:
    made, network = policy(cloud), cloud.make("network")
    grant = cloud.make(
        "rbac_policy",
        by=ROOT,
        object_type="qos_policy",
        object_id=made["id"],
        action="access_as_shared",
        target_tenant="p1",
    )
    assert shown(cloud, made, by=ANN)["shared"] is True
    assert cloud.refused("GET", f"{POLICIES}/{made['id']}", by=BOB)[0] == 404
    cloud.change("network", network["id"], qos_policy_id=made["id"])
    gone = f"/rbac-policies/{grant['id']}"
    assert cloud.refused("DELETE", gone, by=ROOT) == (409, "RbacPolicyInUse")
    cloud.change("network", network["id"], qos_policy_id=None)
    cloud.remove("rbac_policy", grant["id"], by=ROOT)
    assert cloud.refused("GET", f"{POLICIES}/{made['id']}")[0] == 404


@pytest.mark.parametrize("kind", ["network", "port", "floatingip", "router"])
def test_a_policy_stays_while_something_has_it(cloud: Cloud, kind: str) -> None:
    cloud.hosts("h1")
    made, (public, _) = policy(cloud, shared=True), cloud.public()
    network, fields = cloud.net("10.0.0.0/24")[0], {"qos_policy_id": made["id"]}
    if kind == "port":
        fields["network_id"] = network["id"]
    elif kind == "floatingip":
        fields["floating_network_id"] = public["id"]
    elif kind == "router":
        fields = {"external_gateway_info": {"network_id": public["id"], **fields}}
    user = cloud.make(kind, **fields)
    gone = f"{POLICIES}/{made['id']}"
    assert cloud.refused("DELETE", gone, by=ROOT) == (409, "QosPolicyInUse")
    assert change(cloud, made, shared=False) == 409
    without: dict[str, Any] = {"qos_policy_id": None}
    if kind == "router":
        without = {"external_gateway_info": {"network_id": public["id"]}}
    cloud.change(kind, user["id"], **without)
    assert change(cloud, made, shared=False) == 200
    again = fields if kind == "router" else {"qos_policy_id": made["id"]}
    cloud.change(kind, user["id"], by=ROOT, **again)
    cloud.remove(kind, user["id"])
    assert cloud.ask("DELETE", gone, by=ROOT).status_code == 204


def test_a_projects_default_policy_is_that_of_its_new_networks(cloud: Cloud) -> None:
    made = policy(cloud, project_id="p1", is_default=True)
    other = policy(cloud, project_id="p1")
    assert cloud.make("network")["qos_policy_id"] == made["id"]
    assert cloud.make("network", qos_policy_id=other["id"])["qos_policy_id"] == other["id"]
    assert cloud.make("network", qos_policy_id=None)["qos_policy_id"] is None
    assert cloud.make("network", by=BOB)["qos_policy_id"] is None
    assert change(cloud, other, is_default=True) == 409
    again = {"policy": {"is_default": True, "project_id": "p1"}}
    assert cloud.refused("POST", POLICIES, again, by=ROOT) == (409, "QoSPolicyDefaultAlreadyExists")


def test_ports_and_floating_ips_show_the_policy_of_their_network(cloud: Cloud) -> None:
    made, (public, _) = policy(cloud, shared=True), cloud.public()
    network = cloud.make("network", qos_policy_id=made["id"])
    port = cloud.make("port", network_id=network["id"])
    assert (port["qos_policy_id"], port["qos_network_policy_id"]) == (None, made["id"])
    floating = cloud.make("floatingip", floating_network_id=public["id"])
    assert (floating["qos_policy_id"], floating["qos_network_policy_id"]) == (None, None)
    cloud.change("network", public["id"], by=ROOT, qos_policy_id=made["id"])
    assert cloud.show("floatingip", floating["id"])["qos_network_policy_id"] == made["id"]


def test_types_of_rules_are_told(cloud: Cloud) -> None:
    types = cloud.ask("GET", "/qos/rule-types?all_supported=True", by=ANN).json()["rule_types"]
    assert {"type": "bandwidth_limit"} in types
    assert cloud.refused("GET", "/qos/rule-types/bandwidth_limit", by=ANN)[0] == 403
    for each in types:
        told = cloud.ask("GET", f"/qos/rule-types/{each['type']}", by=ROOT).json()["rule_type"]
        assert told["drivers"][0]["supported_parameters"]
    assert cloud.refused("GET", "/qos/rule-types/any", by=ROOT)[0] == 404
