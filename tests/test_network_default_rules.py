"""The templates of the rules that new security groups have."""

from __future__ import annotations

from typing import Any

from network_lab import ANN, BOB, ROOT, Cloud, cloud

__all__ = ["cloud"]

SSH = {"direction": "ingress", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22}
KIND = "default_security_group_rule"


def ports(group: dict[str, Any]) -> list[int | None]:
    return sorted({rule["port_range_min"] for rule in group["security_group_rules"]} - {None})


def test_a_new_cloud_lets_groups_out_and_default_groups_in_from_their_own(cloud: Cloud) -> None:
    templates = cloud.all(KIND, by=ANN)
    facts = {
        (t["direction"], t["ethertype"], t["remote_group_id"], t["used_in_non_default_sg"]) for t in templates
    }
    assert facts == {
        (direction, family, remote, everywhere)
        for family in ("IPv4", "IPv6")
        for direction, remote, everywhere in (("egress", None, True), ("ingress", "PARENT", False))
    }
    assert all(t["used_in_default_sg"] for t in templates)


def test_new_groups_have_the_rules_of_the_templates_and_older_ones_stay(cloud: Cloud) -> None:
    older = cloud.make("security_group", name="older")
    made = cloud.make(KIND, by=ROOT, **SSH)
    assert (made["used_in_default_sg"], made["used_in_non_default_sg"]) == (False, True)
    cloud.make(KIND, by=ROOT, **{**SSH, "port_range_min": 1}, used_in_default_sg=True)
    assert ports(cloud.make("security_group", name="web")) == [1, 22]
    assert ports(cloud.show("security_group", older["id"])) == []
    (theirs,) = cloud.all("security_group", by=BOB)
    assert ports(theirs) == [1]
    cloud.remove(KIND, made["id"], by=ROOT)
    assert ports(cloud.make("security_group", name="app")) == [1]


def test_without_templates_new_groups_are_empty(cloud: Cloud) -> None:
    for template in cloud.all(KIND, by=ROOT):
        cloud.remove(KIND, template["id"], by=ROOT)
    assert cloud.make("security_group", name="web")["security_group_rules"] == []


def test_the_new_group_itself_is_the_parent(cloud: Cloud) -> None:
    cloud.make(KIND, by=ROOT, **SSH, remote_group_id="PARENT")
    group = cloud.make("security_group", name="web")
    (within,) = [r for r in group["security_group_rules"] if r["port_range_min"]]
    assert within["remote_group_id"] == group["id"]


def test_one_meaning_stands_once_for_each_sort_of_group(cloud: Cloud) -> None:
    cloud.make(KIND, by=ROOT, **SSH, used_in_default_sg=True)
    for more in ({"used_in_default_sg": True, "used_in_non_default_sg": False}, {}):
        assert cloud.refuses(KIND, by=ROOT, **SSH, **more) == (409, "DefaultSecurityGroupRuleExists")
    both = {**SSH, "port_range_max": 23}
    cloud.make(KIND, by=ROOT, **both, used_in_default_sg=True, used_in_non_default_sg=False)
    cloud.make(KIND, by=ROOT, **both)


def test_a_template_is_checked_as_a_rule_is(cloud: Cloud) -> None:
    bad = {**SSH, "protocol": "vrrp"}
    assert cloud.refuses(KIND, by=ROOT, **bad) == (400, "SecurityGroupInvalidProtocolForPort")
    mixed = {"direction": "ingress", "remote_ip_prefix": "fd00::/8"}
    assert cloud.refuses(KIND, by=ROOT, **mixed) == (400, "SecurityGroupRuleParameterConflict")
    for name, error in (
        ("remote_group_id", "SecurityGroupNotFound"),
        ("remote_address_group_id", "AddressGroupNotFound"),
    ):
        assert cloud.refuses(KIND, by=ROOT, direction="ingress", **{name: "nobody"}) == (404, error)


def test_what_a_template_refers_to_stays_or_takes_it_along(cloud: Cloud) -> None:
    group, addresses = (cloud.make(k, by=ROOT, name="x") for k in ("security_group", "address_group"))
    by_group = cloud.make(KIND, by=ROOT, direction="ingress", remote_group_id=group["id"])
    cloud.make(KIND, by=ROOT, direction="ingress", remote_address_group_id=addresses["id"])
    where = f"/address-groups/{addresses['id']}"
    assert cloud.refused("DELETE", where, by=ROOT) == (409, "AddressGroupInUse")
    cloud.remove("security_group", group["id"], by=ROOT)
    assert by_group["id"] not in {t["id"] for t in cloud.all(KIND)}


def test_templates_are_the_operators(cloud: Cloud) -> None:
    template = cloud.all(KIND)[0]
    assert template["project_id"] == ""
    where = f"/default-security-group-rules/{template['id']}"
    for by in (ANN, "max@p1:manager"):
        assert cloud.refuses(KIND, by=by, **SSH)[0] == 403
        assert cloud.refused("DELETE", where, by=by)[0] == 403
        assert cloud.refused("PUT", where, {KIND: {"description": "mine"}}, by=by)[0] == 403
