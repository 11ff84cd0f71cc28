"""Cutting ranges out of prefixes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def within(prefixes: Iterable[str], cidr: str) -> bool:
    """Whether one of the prefixes holds all of the range."""
    wanted = _span(ipaddress.ip_network(cidr))
    return any(low <= wanted[0] and wanted[1] <= high for low, high in map(_span, _parsed(prefixes)))


def overlapping(some: Iterable[str], others: Iterable[str]) -> bool:
    """Whether two lists of prefixes have addresses in common."""
    spans = [_span(network) for network in _parsed(others)]
    return any(
        low <= last and first <= high for low, high in map(_span, _parsed(some)) for first, last in spans
    )


def choose(prefixes: Iterable[str], taken: Iterable[str], length: int) -> str | None:
    """The first free range of a length, or None if there is none.

    Args:
        prefixes: of one family, without overlap.
        taken: ranges that are in use.
        length: the prefix length wanted.
    """
    used = sorted(_span(network) for network in _parsed(taken))
    for prefix in sorted(_parsed(prefixes), key=lambda p: int(p.network_address)):
        if prefix.prefixlen > length:
            continue
        size = 1 << (prefix.max_prefixlen - length)
        first, last = _span(prefix)
        start = _first_gap(first, last, size, used)
        if start is not None:
            address = prefix.network_address + (start - first)
            return f"{address}/{length}"
    return None


def amount(cidr: str) -> int:
    """What a range counts for in a pool's quota: addresses, or in IPv6 ranges of length 64."""
    network = ipaddress.ip_network(cidr)
    return network.num_addresses if network.version == 4 else max(1, network.num_addresses >> 64)


def _first_gap(first: int, last: int, size: int, used: Sequence[tuple[int, int]]) -> int | None:
    start = first
    for low, high in used:
        if high < start:
            continue
        if low > start + size - 1:
            break
        # The next place that is aligned to the size: prefixes are.
        start = (high // size + 1) * size
    return start if start + size - 1 <= last else None


def _parsed(values: Iterable[str]) -> list[Network]:
    return [ipaddress.ip_network(value) for value in values]


def _span(network: Network) -> tuple[int, int]:
    return int(network.network_address), int(network.broadcast_address)
