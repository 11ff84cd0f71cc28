"""Addresses, numbers and gateway hosts are chosen as promised, from a few claims."""

from __future__ import annotations

import bisect
import ipaddress
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.plan import gateways, ipam, numbers
from trunkline.resources.network import AllocationPool


class Claims:
    """What is taken, in order; counts what was read of it."""

    def __init__(self, addresses: Sequence[str] = ()) -> None:
        self.values = sorted(ipam.claim(a) for a in addresses)
        self.read = 0

    def __call__(self, at_least: str, limit: int) -> Sequence[str]:
        begin = bisect.bisect_left(self.values, at_least)
        found = self.values[begin : begin + limit]
        self.read += len(found)
        return found

    def add(self, address: str) -> None:
        bisect.insort(self.values, ipam.claim(address))


def pool(start: str, end: str) -> AllocationPool:
    return AllocationPool(start=start, end=end)


def test_pools_leave_out_network_broadcast_and_gateway() -> None:
    assert ipam.default_pools("10.0.0.0/24", "10.0.0.1") == [pool("10.0.0.2", "10.0.0.254")]
    assert ipam.default_pools("10.0.0.0/24", "10.0.0.9") == [
        pool("10.0.0.1", "10.0.0.8"),
        pool("10.0.0.10", "10.0.0.254"),
    ]
    assert ipam.default_pools("10.0.0.0/24", None) == [pool("10.0.0.1", "10.0.0.254")]
    assert ipam.default_pools("10.0.0.0/24", "10.9.9.9") == [pool("10.0.0.1", "10.0.0.254")]


def test_pools_of_an_ipv6_subnet_leave_out_the_anycast_address() -> None:
    assert ipam.default_pools("2001:db8::/64", "2001:db8::1") == [
        pool("2001:db8::2", "2001:db8::ffff:ffff:ffff:ffff")
    ]


def test_all_addresses_of_point_to_point_subnets_are_used() -> None:
    assert ipam.default_pools("10.0.0.0/31", None) == [pool("10.0.0.0", "10.0.0.1")]
    assert ipam.default_pools("10.0.0.7/32", None) == [pool("10.0.0.7", "10.0.0.7")]
    assert ipam.default_pools("10.0.0.7/32", "10.0.0.7") == []


def test_addresses_come_in_order_and_one_given_back_is_not_given_out_at_once() -> None:
    claims, pools = Claims(), [pool("10.0.0.2", "10.0.0.5")]
    cursor = None
    given_out = []
    for _ in range(3):
        cursor = ipam.choose(pools, claims, cursor)
        assert cursor is not None
        claims.add(cursor)
        given_out.append(cursor)
    assert given_out == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
    claims.values.remove(ipam.claim("10.0.0.4"))
    assert ipam.choose(pools, claims, cursor) == "10.0.0.5"
    claims.add("10.0.0.5")
    assert ipam.choose(pools, claims, "10.0.0.5") == "10.0.0.4"


def test_a_full_pool_gives_nothing() -> None:
    claims = Claims(["10.0.0.2", "10.0.0.3"])
    assert ipam.choose([pool("10.0.0.2", "10.0.0.3")], claims) is None
    assert ipam.choose([pool("10.0.0.2", "10.0.0.3")], claims, "10.0.0.3") is None
    assert ipam.choose([], claims) is None


def test_a_large_subnet_is_not_read_to_choose_an_address() -> None:
    network = ipaddress.ip_network("10.0.0.0/16")
    claims = Claims([str(network[n]) for n in range(2, 40_000)])
    found = ipam.choose(ipam.default_pools(str(network), "10.0.0.1"), claims)
    assert found is not None
    assert ipam.claim(found) not in claims.values
    assert claims.read < 600


@given(
    taken=st.sets(st.integers(0, 63)),
    ranges=st.sampled_from([[(0, 63)], [(2, 9), (20, 61)], [(5, 5)], [(60, 63), (0, 3)]]),
    start=st.none() | st.integers(0, 70),
)
def test_whatever_is_free_is_found(taken: set[int], ranges: list[tuple[int, int]], start: int | None) -> None:
    values = sorted(numbers.text(n, 4) for n in taken)

    def read(at_least: str, limit: int) -> list[str]:
        begin = bisect.bisect_left(values, at_least)
        return values[begin : begin + limit]

    found = numbers.free(ranges, read, 4, start)
    candidates = {n for first, last in ranges for n in range(first, last + 1)} - taken
    assert (found in candidates) if candidates else found is None


@pytest.mark.parametrize("seed", range(8))
def test_a_scattered_free_number_is_found_in_a_large_range(seed: int) -> None:
    picks = random.Random(seed)
    taken = set(range(5001)) - set(picks.sample(range(5001), k=seed))
    values = sorted(numbers.text(n, 4) for n in taken)

    def read(at_least: str, limit: int) -> list[str]:
        begin = bisect.bisect_left(values, at_least)
        return values[begin : begin + limit]

    found = numbers.free([(0, 5000)], read, 4, picks.randrange(5001))
    assert (found is not None and found not in taken) if seed else found is None


def test_the_last_free_address_of_a_large_subnet_is_found() -> None:
    network = ipaddress.ip_network("10.0.0.0/20")
    claims = Claims([str(network[n]) for n in range(2, 4095) if n != 3333])
    assert ipam.choose(ipam.default_pools(str(network), "10.0.0.1"), claims) == "10.0.13.5"


def test_claims_order_as_addresses_do_and_come_back() -> None:
    addresses = ["9.255.255.255", "10.0.0.1", "10.0.0.10", "192.168.0.1"]
    assert sorted(addresses, key=ipam.claim) == addresses
    assert [ipam.unclaim(ipam.claim(a)) for a in [*addresses, "2001:db8::7"]] == [*addresses, "2001:db8::7"]


def test_the_address_a_host_forms_by_itself() -> None:
    # The example of RFC 2464, section 4.
    assert ipam.eui64("fe80::/64", "34:56:78:9a:bc:de") == "fe80::3656:78ff:fe9a:bcde"


def test_mac_addresses_are_ours_and_differ_by_attempt() -> None:
    first, second = numbers.mac_address("port"), numbers.mac_address("port", 1)
    assert first.startswith("fa:16:3e:")
    assert first != second
    assert first == numbers.mac_address("port")


def test_a_host_that_goes_moves_only_the_routers_that_it_carried() -> None:
    hosts = [f"h{n}" for n in range(6)]
    routers = [f"router-{n}" for n in range(300)]
    before = {r: gateways.order(r, hosts)[0] for r in routers}
    after = {r: gateways.order(r, hosts[1:])[0] for r in routers}
    assert all(after[r] == before[r] for r in routers if before[r] != "h0")
    counts = [list(before.values()).count(h) for h in hosts]
    assert min(counts) > 20, counts


def test_a_gateway_has_up_to_five_hosts() -> None:
    assert len(gateways.order("r", [f"h{n}" for n in range(9)])) == 5
    assert sorted(gateways.order("r", ["a", "b", "c"])) == ["a", "b", "c"]
