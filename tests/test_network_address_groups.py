"""Address groups: whole changes, and no deletion under a rule."""

from __future__ import annotations

from typing import Any

import pytest
from network_lab import BOB, Cloud, cloud

__all__ = ["cloud"]


def change(cloud: Cloud, group: dict[str, Any], verb: str, *addresses: str, by: str = "ann@p1") -> Any:
    reply = cloud.ask(
        "PUT", f"/address-groups/{group['id']}/{verb}_addresses", {"addresses": list(addresses)}, by=by
    )
    return (
        reply.json()["address_group"]["addresses"]
        if reply.status_code == 200
        else (reply.status_code, reply.json()["NeutronError"]["type"])
    )


def test_prefixes_are_shown_in_their_normal_form_each_once(cloud: Cloud) -> None:
    given = ["2001:DB8::f00/64", "192.168.0.10/24", "192.168.0.0/24", "10.10.10.3/32"]
    group = cloud.make("address_group", name="g", addresses=given)
    assert group["addresses"] == ["10.10.10.3/32", "192.168.0.0/24", "2001:db8::/64"]
    assert cloud.show("address_group", group["id"])["addresses"] == group["addresses"]


@pytest.mark.parametrize("address", ["10.20.30.40", "nobody", "10.0.0.0/33", "10.0.0.0/8\n", ""])
def test_what_is_no_prefix_is_refused(cloud: Cloud, address: str) -> None:
    assert cloud.refuses("address_group", addresses=["10.0.0.0/8", address])[0] == 400


def test_addresses_are_added_and_removed_all_or_none(cloud: Cloud) -> None:
    group = cloud.make("address_group", addresses=["10.0.0.0/8"])
    assert change(cloud, group, "add", "192.0.2.1", "2001:db8::1/128") == [
        "10.0.0.0/8",
        "192.0.2.1/32",
        "2001:db8::1/128",
    ]
    assert change(cloud, group, "add", "192.0.2.2/32", "192.0.2.1/32") == (400, "AddressesAlreadyExist")
    assert change(cloud, group, "remove", "10.0.0.0/8", "192.0.2.2/32") == (404, "AddressesNotFound")
    assert change(cloud, group, "add", "192.0.2.2/32", "nonsense")[0] == 400
    assert change(cloud, group, "add")[0] == 400
    assert len(cloud.show("address_group", group["id"])["addresses"]) == 3
    assert change(cloud, group, "remove", "10.0.0.0/8", "192.0.2.1/32") == ["2001:db8::1/128"]


def test_a_group_has_a_bound(cloud: Cloud) -> None:
    many = [f"10.0.{n // 256}.{n % 256}/32" for n in range(1000)]
    group = cloud.make("address_group", addresses=many)
    assert change(cloud, group, "add", "192.0.2.1/32")[0] == 400
    assert cloud.refuses("address_group", addresses=[*many, "192.0.2.1/32"])[0] == 400


def test_an_update_does_not_take_addresses(cloud: Cloud) -> None:
    group = cloud.make("address_group", name="g")
    where, body = f"/address-groups/{group['id']}", {"addresses": ["10.0.0.0/8"]}
    assert cloud.refused("PUT", where, {"address_group": body})[0] == 400
    assert cloud.change("address_group", group["id"], name="h")["name"] == "h"


def test_a_group_that_a_rule_refers_to_stays(cloud: Cloud) -> None:
    group, web = cloud.make("address_group"), cloud.make("security_group", name="web")
    rule = {"security_group_id": web["id"], "direction": "ingress", "remote_address_group_id": group["id"]}
    made = cloud.make("security_group_rule", **rule)
    assert made["remote_address_group_id"] == group["id"]
    shown = cloud.show("security_group", web["id"])["security_group_rules"]
    assert group["id"] in {each["remote_address_group_id"] for each in shown}
    assert cloud.refuses("security_group_rule", **rule) == (409, "SecurityGroupRuleExists")
    assert cloud.refused("DELETE", f"/address-groups/{group['id']}") == (409, "AddressGroupInUse")
    cloud.remove("security_group_rule", made["id"])
    cloud.remove("address_group", group["id"])


def test_a_rule_has_one_other_side(cloud: Cloud) -> None:
    group, web = cloud.make("address_group"), cloud.make("security_group", name="web")
    for more in ({"remote_group_id": web["id"]}, {"remote_ip_prefix": "10.0.0.0/8"}):
        fields = {"security_group_id": web["id"], "direction": "ingress", **more}
        error = cloud.refuses("security_group_rule", remote_address_group_id=group["id"], **fields)
        assert error == (400, "SecurityGroupRemoteGroupAndRemoteIpPrefix")


def test_another_projects_group_is_out_of_sight(cloud: Cloud) -> None:
    theirs, web = cloud.make("address_group", by=BOB), cloud.make("security_group", name="web")
    assert cloud.all("address_group") == []
    fields = {"security_group_id": web["id"], "direction": "ingress"}
    for id in (theirs["id"], "nobody"):
        refused = cloud.refuses("security_group_rule", remote_address_group_id=id, **fields)
        assert refused == (404, "AddressGroupNotFound")
    assert change(cloud, theirs, "add", "192.0.2.1/32") == (404, "AddressGroupNotFound")
    assert change(cloud, cloud.make("address_group"), "add", "192.0.2.1/32", by="rob@p1:reader")[0] == 403
