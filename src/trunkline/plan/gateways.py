"""Choosing the hosts that carry a router's gateway."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

#: A gateway needs three hosts that watch each other, or it does not move when one dies: a host that nobody
#: answers takes itself to be cut off. More than five only add watching.
FEWEST, MOST = 3, 5


def order(router: str, hosts: Iterable[str], most: int = MOST) -> list[str]:
    """The hosts for a router's gateway, the most wanted first.

    By rendezvous hashing (Thaler and Ravishankar, 1998): routers spread evenly over the hosts, and a
    host that comes or goes moves no router that it does not carry.

    Args:
        hosts: names of the hosts that have the physical network.
    """
    return sorted(set(hosts), key=lambda host: (_weight(router, host), host))[:most]


def _weight(router: str, host: str) -> bytes:
    return hashlib.blake2b(f"{router}/{host}".encode(), digest_size=8).digest()
