"""Subnet pools: ranges are cut from prefixes, and none is cut twice."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from network_lab import BOB, ROOT, Cloud, cloud

from trunkline.plan import prefixes

__all__ = ["cloud"]


def cut(cloud: Cloud, pool: dict[str, Any], *, by: str = "ann@p1", **fields: Any) -> dict[str, Any]:
    network = cloud.make("network", by=by)
    body = {"network_id": network["id"], "ip_version": pool["ip_version"], "subnetpool_id": pool["id"]}
    return cloud.make("subnet", by=by, **{**body, **fields})


def refuses(cloud: Cloud, pool: dict[str, Any], **fields: Any) -> tuple[int, str]:
    network = cloud.make("network")
    body = {"network_id": network["id"], "ip_version": pool["ip_version"], "subnetpool_id": pool["id"]}
    return cloud.refuses("subnet", **{**body, **fields})


def test_ranges_are_cut_one_after_the_other(cloud: Cloud) -> None:
    pool = cloud.make("subnetpool", name="p", prefixes=["10.0.0.0/22"], default_prefixlen=24)
    first, second = cut(cloud, pool), cut(cloud, pool)
    assert (first["cidr"], second["cidr"]) == ("10.0.0.0/24", "10.0.1.0/24")
    assert (first["subnetpool_id"], first["gateway_ip"]) == (pool["id"], "10.0.0.1")
    assert cut(cloud, pool, prefixlen=28)["cidr"] == "10.0.2.0/28"
    assert cut(cloud, pool)["cidr"] == "10.0.3.0/24"
    assert refuses(cloud, pool) == (409, "SubnetAllocationError")
    cloud.remove("subnet", second["id"])
    assert cut(cloud, pool)["cidr"] == "10.0.1.0/24"


def test_a_range_can_be_named(cloud: Cloud) -> None:
    pool = cloud.make("subnetpool", prefixes=["10.0.0.0/16"])
    assert cut(cloud, pool, cidr="10.0.7.0/24")["cidr"] == "10.0.7.0/24"
    assert refuses(cloud, pool, cidr="10.0.7.128/25") == (409, "SubnetAllocationError")
    assert refuses(cloud, pool, cidr="10.0.0.0/20") == (409, "SubnetAllocationError")
    assert refuses(cloud, pool, cidr="10.1.0.0/24") == (409, "SubnetAllocationError")


def test_subnets_that_are_there_come_into_a_pool_with_their_ranges(cloud: Cloud) -> None:
    network, (four, more, six) = cloud.net("10.0.7.0/24", "10.0.8.0/24", "fd00::/64")
    pool = cloud.make("subnetpool", prefixes=["10.9.0.0/16"], default_prefixlen=24)
    where = f"/subnetpools/{pool['id']}/onboard_network_subnets"
    body = {"network_id": network["id"]}
    reply = cloud.ask("PUT", where, body)
    assert reply.status_code == 200
    came = [{"id": subnet["id"], "cidr": subnet["cidr"]} for subnet in (four, more)]
    assert sorted(reply.json(), key=str) == sorted(came, key=str)
    assert cloud.show("subnetpool", pool["id"])["prefixes"] == ["10.0.7.0/24", "10.0.8.0/24", "10.9.0.0/16"]
    pools = [cloud.show("subnet", subnet["id"])["subnetpool_id"] for subnet in (four, more, six)]
    assert pools == [pool["id"], pool["id"], None]
    # Who comes again comes to nothing new, and what the pool has given once is given to nobody else.
    assert cloud.ask("PUT", where, body).json() == []
    assert refuses(cloud, pool, cidr="10.0.7.0/24") == (409, "SubnetAllocationError")


def test_what_a_pool_has_given_to_others_does_not_come_into_it_again(cloud: Cloud) -> None:
    pool = cloud.make("subnetpool", prefixes=["10.0.0.0/16"])
    cut(cloud, pool, cidr="10.0.7.0/25")
    network, (_, free) = cloud.net("10.0.7.0/24", "10.0.8.0/24")
    where = f"/subnetpools/{pool['id']}/onboard_network_subnets"
    assert cloud.refused("PUT", where, {"network_id": network["id"]}) == (409, "IllegalSubnetPoolUpdate")
    assert cloud.show("subnet", free["id"])["subnetpool_id"] is None


def test_the_subnets_of_others_do_not_come_into_ones_pool(cloud: Cloud) -> None:
    network = cloud.make("network", by=ROOT, shared=True)
    cloud.make("subnet", by=ROOT, network_id=network["id"], ip_version=4, cidr="10.0.7.0/24")
    pool = cloud.make("subnetpool", prefixes=["10.0.0.0/16"])
    where = f"/subnetpools/{pool['id']}/onboard_network_subnets"
    assert cloud.refused("PUT", where, {"network_id": network["id"]})[0] in (403, 404)


def test_lengths_have_bounds(cloud: Cloud) -> None:
    pool = cloud.make("subnetpool", prefixes=["10.0.0.0/16"], min_prefixlen=24, max_prefixlen=28)
    assert (pool["min_prefixlen"], pool["default_prefixlen"], pool["max_prefixlen"]) == ("24", "24", "28")
    assert refuses(cloud, pool, prefixlen=23) == (400, "MinPrefixSubnetAllocationError")
    assert refuses(cloud, pool, prefixlen=29) == (400, "MaxPrefixSubnetAllocationError")
    assert refuses(cloud, pool, cidr="10.0.0.0/29") == (400, "MaxPrefixSubnetAllocationError")


def test_a_project_has_its_share(cloud: Cloud) -> None:
    pool = cloud.make("subnetpool", by=ROOT, prefixes=["10.0.0.0/16"], default_quota=256, shared=True)
    cut(cloud, pool, prefixlen=24)
    assert refuses(cloud, pool, prefixlen=28) == (409, "SubnetPoolQuotaExceeded")
    cut(cloud, pool, by=BOB, prefixlen=24)


def test_the_default_pool_is_found(cloud: Cloud) -> None:
    network = cloud.make("network")
    body = {"network_id": network["id"], "ip_version": 4, "use_default_subnetpool": True}
    assert cloud.refuses("subnet", **body) == (404, "SubnetPoolNotFound")
    cloud.make("subnetpool", by=ROOT, prefixes=["10.0.0.0/16"], is_default=True, default_prefixlen=26)
    twice = cloud.refuses("subnetpool", by=ROOT, prefixes=["10.1.0.0/16"], is_default=True)
    assert twice == (409, "DefaultSubnetPoolExists")
    assert cloud.make("subnet", **body)["cidr"] == "10.0.0.0/26"


@pytest.mark.parametrize(
    "fields",
    [
        {"prefixes": []},
        {"prefixes": ["10.0.0.0/16", "fd00::/48"]},
        {"prefixes": ["10.0.0.1/16"]},
        {"prefixes": ["10.0.0.0/16"], "min_prefixlen": 28, "max_prefixlen": 24},
        {"prefixes": ["10.0.0.0/16"], "max_prefixlen": 33},
        {"prefixes": ["10.0.0.0/16"], "default_prefixlen": 4},
        {},
    ],
)
def test_a_pool_that_cannot_be_is_refused(cloud: Cloud, fields: dict[str, Any]) -> None:
    assert cloud.refuses("subnetpool", **fields)[0] == 400


def test_without_a_pool_the_range_is_needed(cloud: Cloud) -> None:
    network = cloud.make("network")
    assert cloud.refuses("subnet", network_id=network["id"], ip_version=4) == (400, "InvalidInput")
    body = {"network_id": network["id"], "ip_version": 4, "cidr": "10.0.0.0/24", "prefixlen": 24}
    assert cloud.refuses("subnet", **body)[0] == 400


def test_prefixes_grow_and_shrink(cloud: Cloud) -> None:
    pool = cloud.make("subnetpool", prefixes=["10.0.0.0/24"], default_prefixlen=25)
    cut(cloud, pool)
    where = f"/subnetpools/{pool['id']}"
    fewer = {"subnetpool": {"prefixes": ["10.0.1.0/24"]}}
    assert cloud.refused("PUT", where, fewer) == (400, "IllegalSubnetPoolPrefixUpdate")
    grown = cloud.ask("PUT", f"{where}/add_prefixes", {"prefixes": ["10.0.1.0/24"]})
    assert grown.json() == {"prefixes": ["10.0.0.0/23"]}
    refused = cloud.refused("PUT", f"{where}/remove_prefixes", {"prefixes": ["10.0.0.0/24"]})
    assert refused == (409, "IllegalSubnetPoolPrefixUpdate")
    shrunk = cloud.ask("PUT", f"{where}/remove_prefixes", {"prefixes": ["10.0.1.0/24"]})
    assert shrunk.json() == {"prefixes": ["10.0.0.0/24"]}


def test_a_pool_in_use_stays(cloud: Cloud) -> None:
    pool = cloud.make("subnetpool", prefixes=["10.0.0.0/24"])
    subnet = cut(cloud, pool, prefixlen=26)
    assert cloud.refused("DELETE", f"/subnetpools/{pool['id']}") == (409, "SubnetPoolDeleteError")
    cloud.remove("subnet", subnet["id"])
    cloud.remove("subnetpool", pool["id"])


def test_others_pools_are_not_there_unless_shared(cloud: Cloud) -> None:
    pool = cloud.make("subnetpool", prefixes=["10.0.0.0/24"])
    assert cloud.refused("GET", f"/subnetpools/{pool['id']}", by=BOB) == (404, "SubnetPoolNotFound")
    assert cloud.refuses("subnetpool", prefixes=["10.0.0.0/24"], shared=True)[0] == 403


@given(
    taken=st.lists(st.tuples(st.integers(0, 255), st.integers(4, 8)), max_size=20), length=st.integers(24, 32)
)
def test_a_chosen_range_is_free_and_one_is_found_if_there_is_one(
    taken: list[tuple[int, int]], length: int
) -> None:
    used = [str(ipaddress.ip_network((0x0A000000 + at, 24 + bits), strict=False)) for at, bits in taken]
    found = prefixes.choose(["10.0.0.0/24"], used, length)
    blocks = [ipaddress.ip_network(u) for u in used]
    every = ipaddress.ip_network("10.0.0.0/24").subnets(new_prefix=length)
    free = [str(s) for s in every if not any(s.overlaps(b) for b in blocks)]
    assert found == (free[0] if free else None)
