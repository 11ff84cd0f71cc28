"""Address scopes, service types of subnets, availability of addresses, and networks by asking."""

from __future__ import annotations

from typing import Any

import pytest
from network_lab import BOB, ROOT, Cloud, addresses, cloud

__all__ = ["cloud"]


def pool(cloud: Cloud, *prefixes: str, **fields: Any) -> dict[str, Any]:
    length = 64 if ":" in prefixes[0] else 24
    return cloud.make("subnetpool", prefixes=list(prefixes), default_prefixlen=length, **fields)


# Address scopes.


def test_a_network_is_of_the_scopes_of_its_subnets(cloud: Cloud) -> None:
    scopes = {version: cloud.make("address_scope", ip_version=version)["id"] for version in (4, 6)}
    network = cloud.make("network")
    for version, prefix in ((4, "10.0.0.0/8"), (6, "fd00::/48")):
        made = pool(cloud, prefix, address_scope_id=scopes[version])
        cloud.make("subnet", network_id=network["id"], ip_version=version, subnetpool_id=made["id"])
    for shown in (cloud.show("network", network["id"]), *cloud.all("network")):
        assert (shown["ipv4_address_scope"], shown["ipv6_address_scope"]) == (scopes[4], scopes[6])


def test_addresses_are_unique_in_a_scope(cloud: Cloud) -> None:
    scope = cloud.make("address_scope", ip_version=4)["id"]
    first = pool(cloud, "10.0.0.0/16", address_scope_id=scope)
    again = {"prefixes": ["10.0.128.0/17"], "address_scope_id": scope}
    assert cloud.refuses("subnetpool", **again) == (409, "AddressScopePrefixConflict")
    second = pool(cloud, "10.1.0.0/16", address_scope_id=scope)
    wider = {"subnetpool": {"prefixes": ["10.0.0.0/15"]}}
    where = f"/subnetpools/{second['id']}"
    assert cloud.refused("PUT", where, wider) == (409, "AddressScopePrefixConflict")
    more = {"prefixes": ["10.0.7.0/24"]}
    assert cloud.refused("PUT", f"{where}/add_prefixes", more) == (409, "AddressScopePrefixConflict")
    assert cloud.refused("DELETE", f"/address-scopes/{scope}") == (409, "AddressScopeInUse")
    for made in (first, second):
        assert cloud.change("subnetpool", made["id"], address_scope_id=None)["address_scope_id"] is None
    cloud.remove("address_scope", scope)


def test_a_pool_is_of_a_scope_that_its_project_and_users_may_use(cloud: Cloud) -> None:
    body = {"prefixes": ["10.0.0.0/16"]}
    other = cloud.make("address_scope", by=BOB, ip_version=4)["id"]
    assert cloud.refuses("subnetpool", **body, address_scope_id=other) == (404, "AddressScopeNotFound")
    six = cloud.make("address_scope", ip_version=6)["id"]
    wrong = cloud.refuses("subnetpool", **body, address_scope_id=six)
    assert wrong == (400, "IllegalSubnetPoolIpVersionAssociation")
    own = cloud.make("address_scope", by=ROOT, ip_version=4)["id"]
    refused = cloud.refuses("subnetpool", by=ROOT, **body, address_scope_id=own, shared=True)
    assert refused == (400, "IllegalSubnetPoolAssociationToAddressScope")
    made = pool(cloud, "10.0.0.0/16", by=ROOT, address_scope_id=own)
    policy = {"object_type": "subnetpool", "object_id": made["id"], "action": "access_as_shared"}
    assert cloud.refuses("rbac_policy", by=ROOT, **policy, target_tenant="p2")[0] == 400


def test_a_shared_scope_stays_shared(cloud: Cloud) -> None:
    assert cloud.refuses("address_scope", ip_version=4, shared=True)[0] == 403
    scope = cloud.make("address_scope", by=ROOT, ip_version=4, shared=True)["id"]
    where, body = f"/address-scopes/{scope}", {"address_scope": {"shared": False}}
    assert cloud.refused("PUT", where, body, by=ROOT) == (400, "AddressScopeUpdateError")


def test_the_subnets_of_one_family_on_a_network_are_of_one_pool_or_scope(cloud: Cloud) -> None:
    scope = cloud.make("address_scope", ip_version=4)["id"]
    one, two = (pool(cloud, prefix, address_scope_id=scope) for prefix in ("10.0.0.0/16", "10.1.0.0/16"))
    three = pool(cloud, "10.2.0.0/16")
    network = cloud.make("network")["id"]
    for made in (one, two):
        cloud.make("subnet", network_id=network, ip_version=4, subnetpool_id=made["id"])
    body = {"network_id": network, "ip_version": 4}
    for wrong in ({"subnetpool_id": three["id"]}, {"cidr": "10.9.0.0/24"}):
        assert cloud.refuses("subnet", **body, **wrong) == (400, "NetworkSubnetPoolAffinityError")
    leaving = {"subnetpool": {"address_scope_id": None}}
    refused = cloud.refused("PUT", f"/subnetpools/{one['id']}", leaving)
    assert refused == (400, "NetworkAddressScopeAffinityError")


# Service types.


def test_addresses_are_of_the_subnets_of_a_ports_owner(cloud: Cloud) -> None:
    network = cloud.make("network")
    cloud.sub(network, "10.1.0.0/24", service_types=["test:one"])
    cloud.sub(network, "10.2.0.0/24", service_types=["test:two", "test:three"])
    refused = cloud.refuses("port", network_id=network["id"])
    assert refused == (409, "IpAddressGenerationFailureNoMatchingSubnet")
    plain = cloud.sub(network, "10.3.0.0/24")

    def first(owner: str) -> str:
        made = cloud.make("port", network_id=network["id"], device_owner=owner)
        return addresses(made)[0].rpartition(".")[0]

    owners = ("test:one", "test:two", "test:three", "test:four", "")
    assert [first(owner) for owner in owners] == ["10.1.0", "10.2.0", "10.2.0", "10.3.0", "10.3.0"]
    cloud.change("subnet", plain["id"], service_types=["test:four"])
    assert cloud.refuses("port", network_id=network["id"])[0] == 409


# Availability.


def test_availability_counts_what_can_be_handed_out_and_what_is_taken(cloud: Cloud) -> None:
    network, (four, six) = cloud.net("10.0.0.0/24", "fd00::/64", name="n")
    empty = cloud.make("network", by=BOB)
    for _ in range(3):
        cloud.make("port", network_id=network["id"])
    where = "/network-ip-availabilities"
    shown = cloud.ask("GET", f"{where}/{network['id']}", by=ROOT).json()["network_ip_availability"]
    listed = cloud.ask("GET", where, by=ROOT).json()["network_ip_availabilities"]
    assert shown in listed
    by_subnet = {each["subnet_id"]: each for each in shown["subnet_ip_availability"]}
    # The metadata port has an address of each.
    assert (by_subnet[four["id"]]["total_ips"], by_subnet[four["id"]]["used_ips"]) == (253, 4)
    assert (by_subnet[six["id"]]["total_ips"], by_subnet[six["id"]]["used_ips"]) == (2**64 - 2, 4)
    assert (shown["total_ips"], shown["used_ips"]) == (253 + 2**64 - 2, 8)
    (other,) = cloud.ask("GET", f"{where}?network_id={empty['id']}", by=ROOT).json()[
        "network_ip_availabilities"
    ]
    assert (other["total_ips"], other["used_ips"], other["project_id"]) == (0, 0, "p2")
    (only,) = cloud.ask("GET", f"{where}?network_name=n&ip_version=4", by=ROOT).json()[
        "network_ip_availabilities"
    ]
    assert (only["total_ips"], only["used_ips"]) == (253, 4)
    assert cloud.refused("GET", where)[0] == 403
    assert cloud.refused("GET", f"{where}/nothing", by=ROOT) == (404, "NetworkNotFound")
    assert cloud.refused("GET", f"{where}?color=red", by=ROOT)[0] == 400


# Networks by asking.

TOPOLOGY = "/auto-allocated-topology/null"


def prepared(cloud: Cloud) -> dict[str, Any]:
    public, _ = cloud.public()
    cloud.change("network", public["id"], by=ROOT, is_default=True)
    pool(cloud, "10.0.0.0/8", by=ROOT, is_default=True, shared=True)
    pool(cloud, "fd00::/48", by=ROOT, is_default=True, shared=True)
    return public


def test_a_project_gets_a_network_by_asking(cloud: Cloud) -> None:
    public = prepared(cloud)
    dry = cloud.ask("GET", f"{TOPOLOGY}?fields=dry-run").json()["auto_allocated_topology"]
    assert dry == {"id": "dry-run=pass", "project_id": "p1", "tenant_id": "p1"}
    assert cloud.all("router") == []
    found = cloud.ask("GET", TOPOLOGY).json()["auto_allocated_topology"]
    network = cloud.show("network", found["id"])
    assert network["name"] == "auto_allocated_network"
    assert {s["ip_version"] for s in cloud.all("subnet", f"?network_id={network['id']}")} == {4, 6}
    (router,) = cloud.all("router")
    assert router["external_gateway_info"]["network_id"] == public["id"]
    assert len(cloud.all("port", f"?device_id={router['id']}&network_id={network['id']}")) == 2
    assert cloud.ask("GET", TOPOLOGY).json()["auto_allocated_topology"] == found
    assert cloud.refused("GET", "/auto-allocated-topology/p2")[0] == 403
    assert cloud.ask("DELETE", TOPOLOGY).status_code == 204
    assert (cloud.all("router"), [n["id"] for n in cloud.all("network")]) == ([], [public["id"]])
    assert cloud.refused("DELETE", TOPOLOGY) == (404, "AutoAllocatedTopologyNotFound")
    assert cloud.ask("GET", TOPOLOGY).json()["auto_allocated_topology"]["id"] != found["id"]


@pytest.mark.parametrize("where", [TOPOLOGY, f"{TOPOLOGY}?fields=dry-run"])
def test_without_defaults_nothing_is_made(cloud: Cloud, where: str) -> None:
    assert cloud.refused("GET", where) == (400, "AutoAllocationFailure")
    public, _ = cloud.public()
    cloud.change("network", public["id"], by=ROOT, is_default=True)
    assert cloud.refused("GET", where) == (400, "AutoAllocationFailure")
    assert cloud.all("router") == []


def test_there_is_one_default_and_it_leads_outside(cloud: Cloud) -> None:
    public = prepared(cloud)
    inner = cloud.make("network", by=ROOT)
    where = f"/networks/{inner['id']}"
    body = {"network": {"is_default": True}}
    assert cloud.refused("PUT", where, body, by=ROOT)[0] == 400
    cloud.change("network", inner["id"], by=ROOT, router__external=True)
    assert cloud.refused("PUT", where, body, by=ROOT) == (409, "DefaultExternalNetworkExists")
    assert cloud.refuses("network", is_default=True)[0] == 403
    (policy,) = cloud.all("rbac_policy", f"?object_id={public['id']}", by=ROOT)
    refused = cloud.refused("DELETE", f"/rbac-policies/{policy['id']}", by=ROOT)
    assert refused == (409, "DefaultExternalNetworkExists")
