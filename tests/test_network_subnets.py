"""Subnets: ranges, pools, gateways, IPv6 modes, and the metadata port that follows them."""

from __future__ import annotations

from typing import Any

import pytest
from network_lab import ANN, BOB, ROOT, Cloud, addresses, cloud

__all__ = ["cloud"]


def metadata(cloud: Cloud, network: dict[str, Any]) -> list[dict[str, Any]]:
    return cloud.all("port", f"?network_id={network['id']}&device_owner=network:distributed")


def test_gateway_and_pools_are_filled_in(cloud: Cloud) -> None:
    _, (subnet,) = cloud.net("10.0.0.0/24")
    assert subnet["gateway_ip"] == "10.0.0.1"
    assert subnet["allocation_pools"] == [{"start": "10.0.0.2", "end": "10.0.0.254"}]
    assert (subnet["enable_dhcp"], subnet["dns_nameservers"], subnet["host_routes"]) == (True, [], [])


def test_a_subnet_may_have_no_gateway(cloud: Cloud) -> None:
    network = cloud.make("network")
    subnet = cloud.sub(network, "10.0.0.0/24", gateway_ip=None)
    assert subnet["gateway_ip"] is None
    assert subnet["allocation_pools"] == [{"start": "10.0.0.1", "end": "10.0.0.254"}]


def test_ranges_of_one_network_are_disjoint_and_those_of_two_need_not_be(cloud: Cloud) -> None:
    network, _ = cloud.net("10.0.0.0/24")
    overlap = {"network_id": network["id"], "ip_version": 4, "cidr": "10.0.0.128/25"}
    assert cloud.refuses("subnet", **overlap) == (400, "InvalidInput")
    cloud.net("10.0.0.0/24")
    cloud.net("10.0.0.0/24", by=BOB)


@pytest.mark.parametrize(
    "fields",
    [
        {"cidr": "10.0.0.1/24"},
        {"cidr": "10.0.0.0"},
        {"cidr": "0.0.0.0/0"},
        {"cidr": "224.0.0.0/24"},
        {"cidr": "127.0.0.0/24"},
        {"cidr": "nonsense"},
        {"cidr": "fd00::/64"},
        {"cidr": "10.0.0.0/31"},
        {"ip_version": 5},
        {"gateway_ip": "10.0.1.1"},
        {"gateway_ip": "10.0.0.255"},
        {"gateway_ip": "10.0.0.0"},
        {"gateway_ip": "fd00::1"},
        {"dns_nameservers": ["10.0.0.999"]},
        {"dns_nameservers": ["fd00::1"]},
        {"dns_nameservers": [f"10.9.9.{n}" for n in range(6)]},
        {"host_routes": [{"destination": "10.1.0.0/16"}]},
        {"host_routes": [{"destination": "10.1.0.0/16", "nexthop": "fd00::1"}]},
        {"allocation_pools": [{"start": "10.0.0.9", "end": "10.0.0.8"}]},
        {"allocation_pools": [{"start": "10.0.0.9", "end": "10.0.1.8"}]},
        {"ipv6_ra_mode": "slaac"},
        {"service_types": [""]},
        {"service_types": ["compute:a", "compute:a"]},
        {"network_id": "not-a-uuid"},
    ],
)
def test_a_subnet_that_cannot_be_is_refused(cloud: Cloud, fields: dict[str, Any]) -> None:
    network = cloud.make("network")
    body = {"network_id": network["id"], "ip_version": 4, "cidr": "10.0.0.0/24", **fields}
    reply = cloud.ask("POST", "/subnets", {"subnet": body})
    assert reply.status_code == 400
    named = "cidr" if "cidr" in fields else next(iter(fields))
    assert named in reply.json()["NeutronError"]["message"] or "allocation" in reply.text
    assert cloud.show("network", network["id"])["subnets"] == []


def test_pools_neither_overlap_nor_hold_the_gateway(cloud: Cloud) -> None:
    network = cloud.make("network")
    base = {"network_id": network["id"], "ip_version": 4, "cidr": "10.0.0.0/24"}
    pools = [{"start": "10.0.0.1", "end": "10.0.0.9"}]
    refused = cloud.refuses("subnet", **base, allocation_pools=pools)
    assert refused == (409, "GatewayConflictWithAllocationPools")
    pools = [{"start": "10.0.0.5", "end": "10.0.0.9"}, {"start": "10.0.0.9", "end": "10.0.0.12"}]
    assert cloud.refuses("subnet", **base, allocation_pools=pools) == (409, "OverlappingAllocationPools")
    pools = [{"start": "10.0.0.5", "end": "10.0.0.8"}, {"start": "10.0.0.9", "end": "10.0.0.12"}]
    assert cloud.sub(network, "10.0.0.0/24", allocation_pools=pools)["allocation_pools"] == pools


@pytest.mark.parametrize("mode", ["slaac", "dhcpv6-stateless", "dhcpv6-stateful"])
def test_ipv6_modes(cloud: Cloud, mode: str) -> None:
    network = cloud.make("network")
    modes = {"ipv6_ra_mode": mode, "ipv6_address_mode": mode}
    assert cloud.sub(network, "fd00::/64", **modes)["ipv6_address_mode"] == mode


@pytest.mark.parametrize(
    "fields",
    [
        {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "dhcpv6-stateful"},
        {"ipv6_ra_mode": "slaac", "enable_dhcp": False},
        {"ipv6_address_mode": "slaac", "cidr": "fd00::/80"},
        {"ipv6_ra_mode": "other"},
    ],
)
def test_ipv6_modes_that_do_not_fit_are_refused(cloud: Cloud, fields: dict[str, Any]) -> None:
    network = cloud.make("network")
    body = {"network_id": network["id"], "ip_version": 6, "cidr": "fd00::/64", **fields}
    assert cloud.refuses("subnet", **body)[0] == 400


def test_a_link_local_gateway_is_good_in_ipv6(cloud: Cloud) -> None:
    assert cloud.sub(cloud.make("network"), "fd00::/64", gateway_ip="fe80::1")["gateway_ip"] == "fe80::1"


def test_the_metadata_port_follows_dhcp(cloud: Cloud) -> None:
    network = cloud.make("network")
    assert metadata(cloud, network) == []
    one = cloud.sub(network, "10.0.0.0/24")
    two = cloud.sub(network, "10.0.1.0/24")
    (port,) = metadata(cloud, network)
    assert addresses(port) == ["10.0.0.2", "10.0.1.2"]
    cloud.change("subnet", one["id"], enable_dhcp=False)
    assert addresses(metadata(cloud, network)[0]) == ["10.0.1.2"]
    cloud.change("subnet", one["id"], enable_dhcp=True)
    assert len(addresses(metadata(cloud, network)[0])) == 2
    cloud.remove("subnet", one["id"])
    assert addresses(metadata(cloud, network)[0]) == ["10.0.1.2"]
    cloud.remove("subnet", two["id"])
    assert metadata(cloud, network) == []


def test_an_address_in_use_keeps_its_subnet(cloud: Cloud) -> None:
    network, (subnet,) = cloud.net("10.0.0.0/24")
    port = cloud.make("port", network_id=network["id"])
    assert cloud.refused("DELETE", f"/subnets/{subnet['id']}") == (409, "SubnetInUse")
    cloud.remove("port", port["id"])
    cloud.remove("subnet", subnet["id"])
    assert cloud.show("network", network["id"])["subnets"] == []


def test_ports_form_addresses_on_a_new_slaac_subnet_and_lose_them_with_it(cloud: Cloud) -> None:
    network, _ = cloud.net("10.0.0.0/24")
    port = cloud.make("port", network_id=network["id"], mac_address="fa:16:3e:00:00:01")
    modes = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    subnet = cloud.sub(network, "fd00::/64", **modes)
    assert addresses(cloud.show("port", port["id"])) == ["10.0.0.3", "fd00::f816:3eff:fe00:1"]
    cloud.remove("subnet", subnet["id"])
    assert addresses(cloud.show("port", port["id"])) == ["10.0.0.3"]


def test_the_gateway_stays_while_a_router_has_it(cloud: Cloud) -> None:
    _, (subnet,) = cloud.net("10.0.0.0/24")
    assert cloud.change("subnet", subnet["id"], gateway_ip="10.0.0.9")["allocation_pools"] == [
        {"start": "10.0.0.1", "end": "10.0.0.8"},
        {"start": "10.0.0.10", "end": "10.0.0.254"},
    ]
    cloud.attach(cloud.make("router"), subnet)
    body = {"subnet": {"gateway_ip": "10.0.0.10"}}
    assert cloud.refused("PUT", f"/subnets/{subnet['id']}", body) == (409, "GatewayIpInUse")


def test_a_subnets_change_is_its_networks_change(cloud: Cloud) -> None:
    network, (subnet,) = cloud.net("10.0.0.0/24")
    before = cloud.show("network", network["id"])["revision_number"]
    cloud.change("subnet", subnet["id"], name="other")
    assert cloud.show("network", network["id"])["revision_number"] == before + 1
    cloud.change("subnet", subnet["id"], name="other")
    assert cloud.show("network", network["id"])["revision_number"] == before + 1


def test_only_the_networks_owner_adds_subnets(cloud: Cloud) -> None:
    network = cloud.make("network", by=ROOT, shared=True, project_id="p1")
    body = {"network_id": network["id"], "ip_version": 4, "cidr": "10.0.0.0/24"}
    assert cloud.refuses("subnet", by=BOB, **body)[0] == 403
    hidden = cloud.make("network", by=ANN)
    refused = cloud.refuses("subnet", by=BOB, **{**body, "network_id": hidden["id"]})
    assert refused == (404, "NetworkNotFound")


def test_lists_tell_subnets_of_shared_networks_apart(cloud: Cloud) -> None:
    private, (own,) = cloud.net("10.0.0.0/24")
    shared = cloud.make("network", by=ROOT, shared=True)
    common = cloud.sub(shared, "10.0.0.0/24", by=ROOT)
    assert [s["id"] for s in cloud.all("subnet", "?shared=true")] == [common["id"]]
    assert [s["id"] for s in cloud.all("subnet", "?shared=False")] == [own["id"]]
    assert len(cloud.all("subnet")) == 2
    assert private["id"] != shared["id"]
