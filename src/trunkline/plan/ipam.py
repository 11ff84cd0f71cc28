"""Choosing addresses in subnets.

Addresses are claimed per subnet, as hexadecimal text of fixed width (`claim`), so that a choice
reads a few claims around the place where it looks, however large the subnet is.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from trunkline.plan.numbers import Taken, free, text
from trunkline.resources.network import AllocationPool

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def claim(address: str) -> str:
    """An address as it is claimed: 8 hexadecimal digits for IPv4, 32 for IPv6."""
    parsed = ipaddress.ip_address(address)
    return text(int(parsed), _WIDTH[parsed.version])


def unclaim(value: str) -> str:
    """The address that a claim stands for."""
    if len(value) == _WIDTH[4]:
        return str(ipaddress.IPv4Address(int(value, 16)))
    return str(ipaddress.IPv6Address(int(value, 16)))


_WIDTH = {4: 8, 6: 32}


def hosts(network: IPNetwork) -> tuple[int, int]:
    """The first and the last address that a port can have.

    Not the network's own address and not the broadcast address (RFC 919); on IPv6 not the
    subnet-router anycast address (RFC 4291, 2.6.1). On /31 (RFC 3021), /127 (RFC 6164) and single
    addresses all can be used.
    """
    first, last = int(network.network_address), int(network.broadcast_address)
    if network.num_addresses <= 2:
        return first, last
    return first + 1, last - 1 if network.version == 4 else last


def default_gateway(cidr: str) -> str:
    """The gateway of a subnet for which none is given: its first address."""
    network = ipaddress.ip_network(cidr)
    return str(_address(network, hosts(network)[0]))


def default_pools(cidr: str, gateway: str | None) -> list[AllocationPool]:
    """All addresses that a port can have, but the gateway."""
    network = ipaddress.ip_network(cidr)
    first, last = hosts(network)
    parts = [(first, last)]
    if gateway is not None and ipaddress.ip_address(gateway) in network:
        cut = int(ipaddress.ip_address(gateway))
        parts = [(first, min(cut - 1, last)), (max(cut + 1, first), last)]
    return [
        AllocationPool(start=str(_address(network, a)), end=str(_address(network, b)))
        for a, b in parts
        if a <= b
    ]


def is_host(cidr: str, address: str) -> bool:
    """Whether a port on the subnet can have the address."""
    network, parsed = ipaddress.ip_network(cidr), ipaddress.ip_address(address)
    if parsed.version != network.version:
        return False
    first, last = hosts(network)
    return first <= int(parsed) <= last


def contains(cidr: str, address: str) -> bool:
    """Whether the address is in the range."""
    network, parsed = ipaddress.ip_network(cidr), ipaddress.ip_address(address)
    return parsed.version == network.version and parsed in network


def overlap(one: str, other: str) -> bool:
    """Whether two ranges have an address in common."""
    first, second = ipaddress.ip_network(one), ipaddress.ip_network(other)
    return first.version == second.version and first.overlaps(second)


def covers(pool: AllocationPool, address: str) -> bool:
    """Whether the pool holds the address."""
    parsed = ipaddress.ip_address(address)
    start = ipaddress.ip_address(pool.start)
    return start.version == parsed.version and int(start) <= int(parsed) <= int(
        ipaddress.ip_address(pool.end)
    )


def choose(pools: Sequence[AllocationPool], taken: Taken, after: str | None = None) -> str | None:
    """A free address of the pools, or None if all are taken.

    Args:
        taken: reads the claims of the subnet.
        after: begin behind this address, so that one just given back is not given out at once.
    """
    if not pools:
        return None
    version = ipaddress.ip_address(pools[0].start).version
    ranges = [(int(ipaddress.ip_address(p.start)), int(ipaddress.ip_address(p.end))) for p in pools]
    start = None if after is None else int(ipaddress.ip_address(after)) + 1
    found = free(ranges, taken, _WIDTH[version], start)
    if found is None:
        return None
    return str(ipaddress.IPv4Address(found) if version == 4 else ipaddress.IPv6Address(found))


def eui64(cidr: str, mac: str) -> str:
    """The address that a host with this MAC forms by itself in a /64 (RFC 4291, appendix A; RFC 4862)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    interface = bytes((octets[0] ^ 2, octets[1], octets[2], 0xFF, 0xFE, *octets[3:]))
    network = ipaddress.IPv6Network(cidr)
    return str(ipaddress.IPv6Address(int(network.network_address) | int.from_bytes(interface, "big")))


def _address(network: IPNetwork, number: int) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.IPv4Address(number) if network.version == 4 else ipaddress.IPv6Address(number)
