"""Private VLANs: which ports may be of which type, who says so, and what the switch of a network changes."""

from __future__ import annotations

from typing import Any

import pytest
from network_lab import ANN, BOB, ROOT, Cloud, cloud

__all__ = ["cloud"]

ISOLATED = {"pvlan_type": "isolated"}
COMMUNITY = {"pvlan_type": "community", "pvlan_community": "one"}
BAD = (400, "InvalidInput")


def types(port: dict[str, Any]) -> tuple[str | None, str | None]:
    return port["pvlan_type"], port["pvlan_community"]


def test_a_port_leaves_its_community_with_its_type(cloud: Cloud) -> None:
    network = cloud.make("network", pvlan=True)
    port = cloud.make("port", network_id=network["id"], **COMMUNITY)
    assert types(cloud.change("port", port["id"], pvlan_community="two")) == ("community", "two")
    assert types(cloud.change("port", port["id"], **ISOLATED)) == ("isolated", None)
    assert types(cloud.change("port", port["id"], pvlan_type=None)) == ("promiscuous", None)
    assert [p["id"] for p in cloud.all("port", "?pvlan_type=promiscuous")] == [port["id"]]


@pytest.mark.parametrize(
    "fields",
    [
        {"pvlan_type": "community"},
        {"pvlan_community": "one"},
        {**ISOLATED, "pvlan_community": "one"},
        {"pvlan_type": "community", "pvlan_community": "a b"},
        {"pvlan_type": "community", "pvlan_community": "1"},
        {"pvlan_type": "community", "pvlan_community": "one\n"},
        {"pvlan_type": "community", "pvlan_community": "x" * 233},
    ],
)
def test_types_that_mean_nothing_are_refused(cloud: Cloud, fields: dict[str, str]) -> None:
    network = cloud.make("network", pvlan=True)
    port = cloud.make("port", network_id=network["id"])
    assert cloud.refuses("port", network_id=network["id"], **fields)[0] == 400
    assert cloud.refused("PUT", f"/ports/{port['id']}", {"port": fields})[0] == 400
    assert types(cloud.show("port", port["id"])) == ("promiscuous", None)


def test_only_ports_of_a_network_with_private_vlans_have_a_type(cloud: Cloud) -> None:
    network = cloud.make("network")
    assert network["pvlan"] is False
    port = cloud.make("port", network_id=network["id"])
    assert types(port) == (None, None)
    assert cloud.refuses("port", network_id=network["id"], **ISOLATED) == BAD
    assert cloud.refused("PUT", f"/ports/{port['id']}", {"port": COMMUNITY}) == BAD


def test_the_switch_of_a_network_makes_its_ports_promiscuous(cloud: Cloud) -> None:
    network, _ = cloud.net("10.0.0.0/24")
    port = cloud.make("port", network_id=network["id"])
    assert cloud.change("network", network["id"], pvlan=True)["pvlan"] is True
    assert types(cloud.show("port", port["id"])) == ("promiscuous", None)
    cloud.change("network", network["id"], pvlan=False)
    assert types(cloud.show("port", port["id"])) == (None, None)


def test_what_is_kept_apart_is_not_joined_by_the_switch_of_the_network(cloud: Cloud) -> None:
    network = cloud.make("network", pvlan=True)
    port = cloud.make("port", network_id=network["id"], **COMMUNITY)
    where = f"/networks/{network['id']}"
    assert cloud.refused("PUT", where, {"network": {"pvlan": False}}) == (409, "PvlanInUse")
    assert types(cloud.show("port", port["id"])) == ("community", "one")


def test_guests_of_a_shared_network_are_isolated_and_choose_nothing(cloud: Cloud) -> None:
    network = cloud.make("network", by=ROOT, shared=True, pvlan=True)
    assert types(cloud.make("port", by=ROOT, network_id=network["id"]))[0] == "promiscuous"
    port = cloud.make("port", by=BOB, network_id=network["id"])
    assert types(port) == ("isolated", None)
    for fields in (ISOLATED, COMMUNITY, {"pvlan_type": "promiscuous"}, {"pvlan_type": None}):
        assert cloud.refuses("port", by=ANN, network_id=network["id"], **fields)[0] == 403
        assert cloud.refused("PUT", f"/ports/{port['id']}", {"port": fields}, by=BOB)[0] == 403
    assert types(cloud.change("port", port["id"], by=ROOT, **COMMUNITY)) == ("community", "one")


def test_a_guest_goes_round_its_isolation_by_no_router(cloud: Cloud) -> None:
    network = cloud.make("network", by=ROOT, pvlan=True)
    subnet = cloud.sub(network, "10.0.0.0/24", by=ROOT)
    policy = {"object_type": "network", "object_id": network["id"], "action": "access_as_shared"}
    cloud.make("rbac_policy", by=ROOT, target_tenant="p1", **policy)
    port = cloud.make("port", network_id=network["id"])
    where = f"/routers/{cloud.make('router')['id']}/add_router_interface"
    for leg in ({"port_id": port["id"]}, {"subnet_id": subnet["id"]}):
        assert cloud.refused("PUT", where, leg) == (400, "BadRequest")
    own = cloud.make("port", by=ROOT, network_id=network["id"])
    where = f"/routers/{cloud.make('router', by=ROOT)['id']}/add_router_interface"
    assert cloud.ask("PUT", where, {"port_id": own["id"]}, by=ROOT).status_code == 200
    assert types(cloud.show("port", own["id"], by=ROOT)) == (None, None)
