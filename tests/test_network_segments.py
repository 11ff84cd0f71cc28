"""Segments of networks over the API: what a network is made of, and which addresses ports have where."""

from __future__ import annotations

from typing import Any

import pytest
from network_lab import ROOT, Cloud, addresses, cloud

__all__ = ["cloud"]

VLANS = {"rack1": 100, "rack2": 200}


def wire(name: str, number: int | None = None) -> dict[str, Any]:
    """A segment, as a request for a network says it."""
    found = {"provider:network_type": "vlan", "provider:physical_network": name}
    return {**found, "provider:segmentation_id": number or VLANS[name]}


def spread(cloud: Cloud, **fields: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """A network with a segment on each rack, of which h1 and h2 have one each."""
    cloud.hosts("h1", physical="rack1")
    cloud.hosts("h2", physical="rack2")
    made = cloud.make("network", by=ROOT, segments=[wire(name) for name in VLANS], **fields)
    return made, segments(cloud, made)


def segments(cloud: Cloud, network: dict[str, Any]) -> dict[str, str]:
    """The ids of a network's segments, by physical network."""
    found = cloud.all("segment", f"?network_id={network['id']}&sort_key=physical_network", by=ROOT)
    return {one["physical_network"]: one["id"] for one in found}


def routed(cloud: Cloud) -> tuple[dict[str, Any], dict[str, str]]:
    """The same, with a subnet on each segment: 10.1.0.0/24 and 10.2.0.0/24."""
    network, ids = spread(cloud)
    for number, id in enumerate(ids.values(), 1):
        cloud.sub(network, f"10.{number}.0.0/24", by=ROOT, segment_id=id)
    return network, ids


def test_a_network_is_made_of_its_segments(cloud: Cloud) -> None:
    network, ids = spread(cloud)
    shown = cloud.show("network", network["id"], by=ROOT)
    assert shown["segments"] == [wire("rack1"), wire("rack2")]
    assert {shown[f"provider:{name}"] for name in ("network_type", "physical_network")} == {None}
    assert shown["l2_adjacency"] is True
    assert list(ids) == ["rack1", "rack2"]
    one = cloud.show("segment", ids["rack2"], by=ROOT)
    assert (one["network_type"], one["segmentation_id"], one["name"]) == ("vlan", 200, None)


def test_every_network_has_its_segment_which_operators_alone_see(cloud: Cloud) -> None:
    network = cloud.make("network")
    (one,) = cloud.all("segment", f"?network_id={network['id']}", by=ROOT)
    assert (one["network_type"], one["physical_network"]) == ("geneve", None)
    assert cloud.all("segment") == []
    assert cloud.refused("GET", f"/segments/{one['id']}")[0] == 404
    assert cloud.refused("DELETE", f"/segments/{one['id']}", by=ROOT) == (409, "SegmentInUse")
    cloud.remove("network", network["id"])
    assert cloud.refused("GET", f"/segments/{one['id']}", by=ROOT)[0] == 404


def test_what_a_network_cannot_be_made_of_is_refused(cloud: Cloud) -> None:
    cloud.hosts("h1", physical="rack1")
    cloud.hosts("h2", physical="rack2")
    rack1 = wire("rack1")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"segments": []}, "HTTPBadRequest"),
        ({"segments": [rack1, wire("rack1", 101)]}, "InvalidInput"),
        ({"segments": [rack1, wire("rack9", 7)]}, "InvalidInput"),
        ({"segments": [rack1, {"provider:network_type": "geneve"}]}, "InvalidInput"),
        ({"segments": [rack1], "provider__network_type": "vlan"}, "SegmentsSetInConjunctionWithProviders"),
        ({"segments": [rack1, wire("rack2")], "router__external": True}, "InvalidInput"),
    ]
    for fields, kind in cases:
        assert cloud.refuses("network", by=ROOT, **fields) == (400, kind), fields
    assert cloud.refuses("network", segments=[rack1]) == (403, "PolicyNotAuthorized")
    assert len(cloud.all("network", by=ROOT)) == 0
    cloud.make("network", by=ROOT, segments=[rack1])  # Nothing of what was refused was kept.


def test_a_segment_is_added_renamed_and_deleted(cloud: Cloud) -> None:
    cloud.hosts("h1", physical="rack1")
    cloud.hosts("h2", physical="rack2")
    network = cloud.make("network", by=ROOT, **wire("rack1"))
    fields = {"network_id": network["id"], "network_type": "vlan", "physical_network": "rack2"}
    made = cloud.make("segment", by=ROOT, **fields)
    assert made["segmentation_id"] is not None
    assert cloud.change("segment", made["id"], by=ROOT, name="second")["revision_number"] == 1
    assert len(cloud.show("network", network["id"], by=ROOT)["segments"]) == 2
    assert cloud.refuses("segment", by=ROOT, **fields) == (400, "InvalidInput")
    cloud.remove("segment", made["id"], by=ROOT)
    shown = cloud.show("network", network["id"], by=ROOT)
    assert (shown["segments"], shown["provider:segmentation_id"]) == ([], 100)
    again = cloud.make("segment", by=ROOT, **fields, segmentation_id=made["segmentation_id"])
    (rack1,) = (s for s in cloud.all("segment", by=ROOT) if s["physical_network"] == "rack1")
    cloud.remove("segment", rack1["id"], by=ROOT)
    assert cloud.refused("DELETE", f"/segments/{again['id']}", by=ROOT) == (409, "SegmentInUse")


def test_no_segment_is_added_that_would_join_two_at_a_host(cloud: Cloud) -> None:
    cloud.hosts("h1", physical="rack1")
    cloud.hosts("h2", physical="rack2")
    cloud.hosts("both", physical=("rack1", "rack2"))
    network = cloud.make("network", by=ROOT, **wire("rack1"))
    port = cloud.make("port", by=ROOT, network_id=network["id"], binding__host_id="both")
    fields = {"network_id": network["id"], "network_type": "vlan", "physical_network": "rack2"}
    assert cloud.refuses("segment", by=ROOT, **fields) == (409, "HostConnectedToMultipleSegments")
    cloud.change("port", port["id"], by=ROOT, binding__host_id="h1")
    made = cloud.make("segment", by=ROOT, **fields)
    back = {"port": {"binding:host_id": "both"}}
    where = f"/ports/{port['id']}"
    assert cloud.refused("PUT", where, back, by=ROOT) == (409, "HostConnectedToMultipleSegments")
    cloud.change("port", port["id"], by=ROOT, binding__host_id="h2")
    assert cloud.refused("DELETE", f"/segments/{made['id']}", by=ROOT) == (409, "SegmentInUse")


def test_subnets_are_of_segments_all_or_none(cloud: Cloud) -> None:
    network, ids = routed(cloud)
    other = cloud.make("network", by=ROOT)
    fields: dict[str, Any] = {"network_id": network["id"], "ip_version": 4, "cidr": "10.9.0.0/24"}
    kind = "SubnetsNotAllAssociatedWithSegments"
    assert cloud.refuses("subnet", by=ROOT, **fields) == (400, kind)
    fields |= {"network_id": other["id"], "segment_id": ids["rack1"]}
    assert cloud.refuses("subnet", by=ROOT, **fields) == (400, "NetworkIdsDontMatch")
    fields["segment_id"] = segments(cloud, other).popitem()[1]
    assert cloud.refuses("subnet", by=ROOT, **fields) == (400, "InvalidInput")
    assert cloud.refused("DELETE", f"/segments/{ids['rack1']}", by=ROOT) == (409, "SegmentInUse")
    assert cloud.show("network", network["id"], by=ROOT)["l2_adjacency"] is False
    (subnet,) = cloud.all("subnet", f"?segment_id={ids['rack1']}", by=ROOT)
    assert subnet["cidr"] == "10.1.0.0/24"
    for one in cloud.all("subnet", by=ROOT):
        cloud.remove("subnet", one["id"], by=ROOT)
    assert cloud.show("network", network["id"], by=ROOT)["l2_adjacency"] is True


def test_a_subnet_becomes_one_of_the_only_segment_and_stays_it(cloud: Cloud) -> None:
    cloud.hosts("h1", physical="rack1")
    network = cloud.make("network", by=ROOT, **wire("rack1"))
    subnet, ids = cloud.sub(network, "10.1.0.0/24", by=ROOT), segments(cloud, network)
    assert (
        cloud.change("subnet", subnet["id"], by=ROOT, segment_id=ids["rack1"])["segment_id"] == ids["rack1"]
    )
    assert cloud.show("network", network["id"], by=ROOT)["l2_adjacency"] is False
    none = {"subnet": {"segment_id": None}}
    refused = cloud.refused("PUT", f"/subnets/{subnet['id']}", none, by=ROOT)
    assert refused == (400, "SubnetSegmentAssociationChangeNotAllowed")


def test_a_subnet_that_is_there_becomes_none_of_several_segments(cloud: Cloud) -> None:
    network, ids = spread(cloud)
    subnet = cloud.sub(network, "10.2.0.0/24", by=ROOT)
    into = {"subnet": {"segment_id": ids["rack2"]}}
    refused = cloud.refused("PUT", f"/subnets/{subnet['id']}", into, by=ROOT)
    assert refused == (400, "NoUpdateSubnetWhenMultipleSegmentsOnNetwork")


def test_a_port_has_addresses_of_its_hosts_segment(cloud: Cloud) -> None:
    network, _ = routed(cloud)
    for host, prefix in (("h1", "10.1.0."), ("h2", "10.2.0.")):
        port = cloud.make("port", by=ROOT, network_id=network["id"], binding__host_id=host)
        assert (port["ip_allocation"], len(port["fixed_ips"])) == ("immediate", 1)
        assert addresses(port)[0].startswith(prefix)
        waiting = cloud.make("port", by=ROOT, network_id=network["id"])
        assert (waiting["ip_allocation"], waiting["fixed_ips"]) == ("deferred", [])
        bound = cloud.change("port", waiting["id"], by=ROOT, binding__host_id=host)
        assert (bound["ip_allocation"], addresses(bound)[0][:7]) == ("immediate", prefix)
    empty = cloud.make("port", by=ROOT, network_id=network["id"], fixed_ips=[])
    assert empty["ip_allocation"] == "none"
    assert cloud.change("port", empty["id"], by=ROOT, binding__host_id="h1")["fixed_ips"] == []


def test_a_port_is_on_no_host_where_its_addresses_are_not(cloud: Cloud) -> None:
    network, _ = routed(cloud)
    cloud.hosts("h3", physical="elsewhere")
    first, second = (s["id"] for s in cloud.all("subnet", "?sort_key=cidr", by=ROOT))
    port = cloud.make("port", by=ROOT, network_id=network["id"], fixed_ips=[{"subnet_id": first}])
    assert port["ip_allocation"] == "immediate"
    where = f"/ports/{port['id']}"
    cases = {"h2": "HostNotCompatibleWithFixedIps", "h3": "HostNotConnectedToAnySegment"}
    for host, kind in cases.items():
        assert cloud.refused("PUT", where, {"port": {"binding:host_id": host}}, by=ROOT) == (409, kind)
        body = {"binding": {"host": host}}
        assert cloud.refused("POST", f"{where}/bindings", body, by=ROOT) == (409, kind)
    cloud.change("port", port["id"], by=ROOT, binding__host_id="h1")
    fields = {"network_id": network["id"], "fixed_ips": [{"subnet_id": first}, {"subnet_id": second}]}
    assert cloud.refuses("port", by=ROOT, **fields) == (400, "InvalidInput")
    fields = {"network_id": network["id"], "fixed_ips": [{"subnet_id": first}], "binding__host_id": "h2"}
    assert cloud.refuses("port", by=ROOT, **fields) == (409, "HostNotCompatibleWithFixedIps")


def test_a_sub_port_gets_its_address_with_its_parents_host(cloud: Cloud) -> None:
    network, _ = routed(cloud)
    outer = cloud.make("network", by=ROOT, **wire("rack2", 207))
    parent = cloud.make("port", by=ROOT, network_id=outer["id"])
    sub = cloud.make("port", by=ROOT, network_id=network["id"])
    cloud.make("trunk", by=ROOT, port_id=parent["id"], sub_ports=[sub_port(sub, 7)])
    assert cloud.show("port", sub["id"], by=ROOT)["ip_allocation"] == "deferred"
    cloud.change("port", parent["id"], by=ROOT, binding__host_id="h2")
    assert addresses(cloud.show("port", sub["id"], by=ROOT))[0].startswith("10.2.0.")
    where, elsewhere = f"/ports/{parent['id']}", {"port": {"binding:host_id": "h1"}}
    assert cloud.refused("PUT", where, elsewhere, by=ROOT) == (409, "HostNotCompatibleWithFixedIps")


def sub_port(port: dict[str, Any], vlan: int) -> dict[str, Any]:
    """A port as a trunk names it."""
    return {"port_id": port["id"], "segmentation_type": "vlan", "segmentation_id": vlan}


@pytest.mark.parametrize("v6", ["slaac", "dhcpv6-stateless"])
def test_a_subnet_of_slaac_is_for_the_hosts_of_its_segment(cloud: Cloud, v6: str) -> None:
    network, ids = routed(cloud)
    ports = {
        host: cloud.make("port", by=ROOT, network_id=network["id"], binding__host_id=host)
        for host in ("h1", "h2")
    }
    modes = {"ipv6_ra_mode": v6, "ipv6_address_mode": v6}
    cloud.sub(network, "fd00:2::/64", by=ROOT, segment_id=ids["rack2"], **modes)
    assert len(cloud.show("port", ports["h1"]["id"], by=ROOT)["fixed_ips"]) == 1
    assert len(cloud.show("port", ports["h2"]["id"], by=ROOT)["fixed_ips"]) == 2
    late = cloud.make("port", by=ROOT, network_id=network["id"], binding__host_id="h2")
    assert len(late["fixed_ips"]) == 2


def test_routers_have_no_legs_on_several_segments(cloud: Cloud) -> None:
    network, _ = routed(cloud)
    router = cloud.make("router", by=ROOT)
    where = f"/routers/{router['id']}/add_router_interface"
    subnet = cloud.all("subnet", by=ROOT)[0]
    assert cloud.refused("PUT", where, {"subnet_id": subnet["id"]}, by=ROOT) == (400, "BadRequest")
    outside = {"network": {"router:external": True}}
    assert cloud.refused("PUT", f"/networks/{network['id']}", outside, by=ROOT) == (400, "InvalidInput")
    joined, subnets = cloud.net("10.5.0.0/24", by=ROOT, **wire("rack1", 105))
    cloud.attach(router, subnets[0], by=ROOT)
    fields = {"network_id": joined["id"], "network_type": "vlan", "physical_network": "rack2"}
    assert cloud.refuses("segment", by=ROOT, **fields) == (409, "NetworkInUse")
