"""Security groups: the default one, what rules may say, and what keeps a group in place."""

from __future__ import annotations

from typing import Any

import pytest
from network_lab import BOB, ROOT, Cloud, cloud

__all__ = ["cloud"]


def rule(cloud: Cloud, group: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return cloud.make(
        "security_group_rule", security_group_id=group["id"], **{"direction": "ingress", **fields}
    )


def refuses(cloud: Cloud, group: dict[str, Any], **fields: Any) -> tuple[int, str]:
    body = {"direction": "ingress", **fields}
    return cloud.refuses("security_group_rule", security_group_id=group["id"], **body)


def test_every_project_has_a_default_group_from_the_first_look_on(cloud: Cloud) -> None:
    (default,) = cloud.all("security_group")
    assert default["name"] == "default"
    rules = default["security_group_rules"]
    meaning = {(r["direction"], r["ethertype"], r["remote_group_id"]) for r in rules}
    assert meaning == {
        ("egress", "IPv4", None),
        ("egress", "IPv6", None),
        ("ingress", "IPv4", default["id"]),
        ("ingress", "IPv6", default["id"]),
    }
    assert cloud.all("security_group") == [default]
    assert [g["name"] for g in cloud.all("security_group", by=BOB)] == ["default"]


def test_a_new_group_lets_everything_out_and_nothing_in(cloud: Cloud) -> None:
    group = cloud.make("security_group", name="web")
    assert {(r["direction"], r["ethertype"]) for r in group["security_group_rules"]} == {
        ("egress", "IPv4"),
        ("egress", "IPv6"),
    }
    assert group["stateful"] is True


def test_the_default_group_is_one_and_keeps_its_name(cloud: Cloud) -> None:
    (default,) = cloud.all("security_group")
    group = cloud.make("security_group", name="web")
    assert cloud.refuses("security_group", name="default") == (409, "SecurityGroupDefaultAlreadyExists")
    where = f"/security-groups/{default['id']}"
    renamed = cloud.refused("PUT", where, {"security_group": {"name": "x"}})
    assert renamed == (409, "SecurityGroupCannotUpdateDefault")
    assert cloud.refused("DELETE", where) == (409, "SecurityGroupCannotRemoveDefault")
    body = {"security_group": {"name": "default"}}
    assert cloud.refused("PUT", f"/security-groups/{group['id']}", body)[0] == 409


def test_a_rule_tells_whether_it_is_of_a_default_group(cloud: Cloud) -> None:
    (default,) = cloud.all("security_group")
    group = cloud.make("security_group", name="web")
    ssh = {"direction": "ingress", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22}
    for each in (default, group):
        made = cloud.make("security_group_rule", security_group_id=each["id"], **ssh)
        assert made["belongs_to_default_sg"] is (each is default)
    of_default = cloud.all("security_group_rule", "?belongs_to_default_sg=true")
    assert len(of_default) == 5
    assert {rule["security_group_id"] for rule in of_default} == {default["id"]}


def test_an_admin_removes_the_default_group_and_it_is_made_again(cloud: Cloud) -> None:
    (default,) = cloud.all("security_group")
    cloud.remove("security_group", default["id"], by=ROOT)
    (again,) = cloud.all("security_group")
    assert again["id"] != default["id"]


@pytest.mark.parametrize(
    "fields",
    [
        {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22},
        {"protocol": 6, "port_range_min": 22, "port_range_max": 23},
        {"protocol": "UDP", "port_range_min": 1, "port_range_max": 65535},
        {"protocol": "icmp", "port_range_min": 8},
        {"protocol": "icmp", "port_range_min": 8, "port_range_max": 0},
        {"protocol": "ipv6-icmp", "ethertype": "IPv6", "port_range_min": 128},
        {"protocol": "icmp", "ethertype": "ipv6"},
        {"protocol": "vrrp"},
        {"protocol": "255"},
        {"protocol": None, "remote_ip_prefix": "10.0.0.0/8"},
        {"remote_ip_prefix": "fd00::/8", "ethertype": "IPv6"},
    ],
)
def test_rules_that_mean_something(cloud: Cloud, fields: dict[str, Any]) -> None:
    group = cloud.make("security_group", name="web")
    made = rule(cloud, group, **fields)
    shown = cloud.show("security_group", group["id"])["security_group_rules"]
    assert made["id"] in {r["id"] for r in shown}
    assert refuses(cloud, group, **fields) == (409, "SecurityGroupRuleExists")
    cloud.remove("security_group_rule", made["id"])
    rule(cloud, group, **fields)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"protocol": "tcp", "port_range_min": 9, "port_range_max": 8}, "SecurityGroupInvalidPortRange"),
        ({"protocol": "tcp", "port_range_min": 9}, "SecurityGroupInvalidPortRange"),
        ({"protocol": "tcp", "port_range_min": 0, "port_range_max": 8}, "SecurityGroupInvalidPortValue"),
        ({"protocol": "tcp", "port_range_min": 1, "port_range_max": 65536}, "HTTPBadRequest"),
        ({"protocol": "tcp", "port_range_min": "x", "port_range_max": 65536}, "HTTPBadRequest"),
        ({"port_range_min": 9, "port_range_max": 9}, "SecurityGroupProtocolRequiredWithPorts"),
        ({"protocol": "vrrp", "port_range_min": 9}, "SecurityGroupInvalidProtocolForPort"),
        ({"protocol": "icmp", "port_range_max": 9}, "SecurityGroupMissingIcmpType"),
        ({"protocol": "icmp", "port_range_min": 256}, "SecurityGroupInvalidIcmpValue"),
        ({"protocol": "ipv6-icmp"}, "SecurityGroupEthertypeConflictWithProtocol"),
        ({"protocol": "nonsense"}, "HTTPBadRequest"),
        ({"protocol": "256"}, "HTTPBadRequest"),
        ({"protocol": True}, "HTTPBadRequest"),
        ({"direction": "sideways"}, "HTTPBadRequest"),
        ({"ethertype": "IPX"}, "HTTPBadRequest"),
        ({"remote_ip_prefix": "fd00::/8"}, "SecurityGroupRuleParameterConflict"),
        ({"remote_ip_prefix": "10.0.0.300"}, "HTTPBadRequest"),
    ],
)
def test_rules_that_mean_nothing_are_refused(cloud: Cloud, fields: dict[str, Any], error: str) -> None:
    group = cloud.make("security_group", name="web")
    assert refuses(cloud, group, **fields) == (400, error)


def test_a_prefix_is_shown_as_given_and_in_its_normal_form(cloud: Cloud) -> None:
    group = cloud.make("security_group", name="web")
    made = rule(cloud, group, remote_ip_prefix="10.1.2.3/8")
    assert (made["remote_ip_prefix"], made["normalized_cidr"]) == ("10.1.2.3/8", "10.0.0.0/8")
    assert refuses(cloud, group, remote_ip_prefix="10.0.0.0/8") == (409, "SecurityGroupRuleExists")


def test_the_other_side_is_a_group_or_a_prefix(cloud: Cloud) -> None:
    web, app = (cloud.make("security_group", name=n) for n in ("web", "app"))
    assert rule(cloud, app, remote_group_id=web["id"])["remote_group_id"] == web["id"]
    both = {"remote_group_id": web["id"], "remote_ip_prefix": "10.0.0.0/8"}
    assert refuses(cloud, app, **both) == (400, "SecurityGroupRemoteGroupAndRemoteIpPrefix")
    assert refuses(cloud, app, remote_group_id="nobody") == (404, "SecurityGroupNotFound")
    theirs = cloud.make("security_group", by=BOB, name="theirs")
    assert refuses(cloud, app, remote_group_id=theirs["id"]) == (404, "SecurityGroupNotFound")
    assert refuses(cloud, theirs) == (404, "SecurityGroupNotFound")


def test_rules_that_refer_to_a_group_go_with_it(cloud: Cloud) -> None:
    web, app = (cloud.make("security_group", name=n) for n in ("web", "app"))
    made = rule(cloud, app, remote_group_id=web["id"])
    cloud.remove("security_group", web["id"])
    assert cloud.refused("GET", f"/security-group-rules/{made['id']}")[0] == 404


def test_a_group_in_use_stays_as_it_is(cloud: Cloud) -> None:
    group = cloud.make("security_group", name="web")
    network = cloud.make("network")
    port = cloud.make("port", network_id=network["id"], security_groups=[group["id"]])
    where = f"/security-groups/{group['id']}"
    assert cloud.refused("DELETE", where) == (409, "SecurityGroupInUse")
    stateless = {"security_group": {"stateful": False}}
    assert cloud.refused("PUT", where, stateless) == (409, "SecurityGroupInUse")
    cloud.change("port", port["id"], security_groups=[])
    assert cloud.ask("PUT", where, stateless).json()["security_group"]["stateful"] is False
    cloud.remove("security_group", group["id"])


def test_a_port_has_stateful_or_stateless_groups(cloud: Cloud) -> None:
    (default,) = cloud.all("security_group")
    group = cloud.make("security_group", name="fast", stateful=False)
    network = cloud.make("network")
    both = [default["id"], group["id"]]
    refused = cloud.refuses("port", network_id=network["id"], security_groups=both)
    assert refused == (409, "SecurityGroupConflict")


def test_a_rules_change_is_its_groups_change(cloud: Cloud) -> None:
    group = cloud.make("security_group", name="web")
    made = rule(cloud, group)
    after = cloud.show("security_group", group["id"])["revision_number"]
    assert after > group["revision_number"]
    cloud.remove("security_group_rule", made["id"])
    assert cloud.show("security_group", group["id"])["revision_number"] > after


def test_rules_cannot_be_changed(cloud: Cloud) -> None:
    group = cloud.make("security_group", name="web")
    made = rule(cloud, group)
    where = f"/security-group-rules/{made['id']}"
    body = {"security_group_rule": {"direction": "egress"}}
    assert cloud.refused("PUT", where, body)[0] == 400
    body = {"security_group_rule": {"description": "for tests"}}
    assert cloud.ask("PUT", where, body).json()["security_group_rule"]["description"] == "for tests"
