"""Networks: kinds, numbers, packet sizes; who sees them and who may change them."""

from __future__ import annotations

from network_lab import ANN, BOB, ROOT, Cloud, cloud

from trunkline.api.network import Settings
from trunkline.plan import numbers

__all__ = ["cloud"]

VLAN = {"provider:network_type": "vlan", "provider:physical_network": "physnet1"}
FLAT = {"provider:network_type": "flat", "provider:physical_network": "physnet1"}


def test_a_network_is_an_overlay_with_a_number_of_its_own(cloud: Cloud) -> None:
    one, two = (cloud.make("network", by=ROOT, name=n) for n in "ab")
    assert one["provider:network_type"] == "geneve"
    assert one["provider:segmentation_id"] != two["provider:segmentation_id"]
    assert (one["mtu"], one["status"], one["admin_state_up"], one["shared"]) == (1442, "ACTIVE", True, False)


def test_the_overlay_is_the_regions_choice(cloud: Cloud) -> None:
    assert cloud.make("network", by=ROOT, **{"provider:network_type": "geneve"})["mtu"] == 1442
    assert cloud.refuses("network", by=ROOT, **{"provider:network_type": "vxlan"}) == (400, "InvalidInput")
    assert Settings(overlay="vxlan").largest("vxlan") == 1450


def test_the_number_of_a_deleted_network_is_free_again(cloud: Cloud) -> None:
    first = cloud.make("network", by=ROOT)
    number = numbers.vni_text(first["provider:segmentation_id"])
    assert _overlay_numbers(cloud) == [number]
    cloud.remove("network", first["id"], by=ROOT)
    assert _overlay_numbers(cloud) == []


def _overlay_numbers(cloud: Cloud) -> list[str]:
    with cloud.store.read() as reader:
        return reader.claimed("vni")


def test_a_vlan_is_chosen_or_given_and_never_used_twice(cloud: Cloud) -> None:
    given = cloud.make("network", by=ROOT, **VLAN, **{"provider:segmentation_id": 1})
    assert (given["provider:segmentation_id"], given["mtu"]) == (1, 1500)
    assert cloud.make("network", by=ROOT, **VLAN)["provider:segmentation_id"] == 2
    twice = cloud.refuses("network", by=ROOT, **VLAN, **{"provider:segmentation_id": 1})
    assert twice == (409, "VlanIdInUse")
    for number in (0, 4095, -1):
        refused = cloud.refuses("network", by=ROOT, **VLAN, **{"provider:segmentation_id": number})
        assert refused[0] == 400


def test_a_physical_network_carries_one_flat_network(cloud: Cloud) -> None:
    cloud.make("network", by=ROOT, **FLAT)
    assert cloud.refuses("network", by=ROOT, **FLAT) == (409, "FlatNetworkInUse")
    assert cloud.refuses("network", by=ROOT, **{"provider:network_type": "flat"})[0] == 400


def test_a_physical_network_that_no_host_has_is_refused(cloud: Cloud) -> None:
    cloud.hosts("h1", physical="outside")
    assert cloud.refuses("network", by=ROOT, **FLAT)[0] == 400


def test_the_cloud_numbers_overlays_itself(cloud: Cloud) -> None:
    given = {"provider:network_type": "geneve", "provider:segmentation_id": 7}
    assert cloud.refuses("network", by=ROOT, **given)[0] == 400


def test_members_neither_set_nor_see_what_is_below_a_network(cloud: Cloud) -> None:
    made = cloud.make("network")
    assert not any(name.startswith("provider:") for name in made)
    for fields in (VLAN, {"shared": True}, {"router:external": True}):
        assert cloud.refuses("network", **fields) == (403, "PolicyNotAuthorized")


def test_a_network_is_its_projects_alone_until_it_is_shared(cloud: Cloud) -> None:
    made = cloud.make("network")
    assert cloud.all("network", by=BOB) == []
    assert cloud.refused("GET", f"/networks/{made['id']}", by=BOB) == (404, "NetworkNotFound")
    assert cloud.refused("DELETE", f"/networks/{made['id']}", by=BOB) == (404, "NetworkNotFound")
    cloud.change("network", made["id"], by=ROOT, shared=True)
    assert [n["id"] for n in cloud.all("network", by=BOB)] == [made["id"]]
    assert cloud.refused("DELETE", f"/networks/{made['id']}", by=BOB)[0] == 403


def test_sharing_ends_only_when_nobody_else_is_on_the_network(cloud: Cloud) -> None:
    made, _ = cloud.net("10.0.0.0/24")
    cloud.change("network", made["id"], by=ROOT, shared=True)
    port = cloud.make("port", by=BOB, network_id=made["id"])
    unshare = {"network": {"shared": False}}
    refused = cloud.refused("PUT", f"/networks/{made['id']}", unshare, by=ROOT)
    assert refused == (409, "InvalidSharedSetting")
    cloud.remove("port", port["id"], by=BOB)
    assert not cloud.change("network", made["id"], by=ROOT, shared=False)["shared"]


def test_readers_read_and_change_nothing(cloud: Cloud) -> None:
    made = cloud.make("network")
    assert cloud.show("network", made["id"], by="ray@p1:reader")["id"] == made["id"]
    assert cloud.refuses("network", by="ray@p1:reader")[0] == 403
    assert (
        cloud.refused("PUT", f"/networks/{made['id']}", {"network": {"name": "x"}}, by="ray@p1:reader")[0]
        == 403
    )


def test_a_packet_larger_than_the_underlay_carries_is_refused(cloud: Cloud) -> None:
    assert cloud.refuses("network", mtu=1443) == (400, "InvalidInput")
    made = cloud.make("network", mtu=1280)
    cloud.sub(made, "fd00::/64")
    too_small = {"network": {"mtu": 1279}}
    assert cloud.refused("PUT", f"/networks/{made['id']}", too_small) == (409, "NetworkMTUSubnetConflict")
    assert cloud.change("network", made["id"], mtu=0)["mtu"] == 1442


def test_a_network_takes_its_subnets_along_but_no_ports(cloud: Cloud) -> None:
    made, (subnet,) = cloud.net("10.0.0.0/24")
    assert cloud.show("network", made["id"])["subnets"] == [subnet["id"]]
    port = cloud.make("port", network_id=made["id"])
    assert cloud.refused("DELETE", f"/networks/{made['id']}") == (409, "NetworkInUse")
    cloud.remove("port", port["id"])
    cloud.remove("network", made["id"])
    assert cloud.all("subnet") == cloud.all("port") == []


def test_an_external_network_stays_so_while_routers_use_it(cloud: Cloud) -> None:
    public, _ = cloud.public()
    router = cloud.make("router", external_gateway_info={"network_id": public["id"]})
    body = {"network": {"router:external": False}}
    assert cloud.refused("PUT", f"/networks/{public['id']}", body, by=ROOT) == (409, "ExternalNetworkInUse")
    cloud.remove("router", router["id"])
    assert cloud.ask("PUT", f"/networks/{public['id']}", body, by=ROOT).status_code == 200


def test_several_networks_are_made_at_once_or_none(cloud: Cloud) -> None:
    reply = cloud.ask("POST", "/networks", {"networks": [{"name": "a"}, {"name": "b"}]})
    assert reply.status_code == 201
    assert [n["name"] for n in reply.json()["networks"]] == ["a", "b"]
    assert cloud.refused("POST", "/networks", {"networks": [{"name": "c"}, {"mtu": 9000}]})[0] == 400
    assert len(cloud.all("network")) == 2


def test_an_admin_makes_networks_for_others(cloud: Cloud) -> None:
    made = cloud.make("network", by=ROOT, tenant_id="p1")
    assert (made["project_id"], made["tenant_id"]) == ("p1", "p1")
    assert cloud.show("network", made["id"], by=ANN)["id"] == made["id"]
    assert cloud.refuses("network", by=ANN, project_id="p2")[0] == 403


def test_a_services_tag_is_on_a_vlan_and_has_guests_tags_inside(cloud: Cloud) -> None:
    cloud.hosts("h1")
    vlan = {"provider:network_type": "vlan", "provider:physical_network": "physnet1"}
    made = cloud.make("network", by=ROOT, qinq=True, **vlan)
    assert cloud.show("network", made["id"], by=ROOT)["qinq"] is True
    assert cloud.make("network")["qinq"] is None
    assert cloud.refuses("network", qinq=True) == (400, "InvalidInput")
    assert cloud.refuses("network", by=ROOT, qinq=True, vlan_transparent=True, **vlan) == (
        400,
        "InvalidInput",
    )
