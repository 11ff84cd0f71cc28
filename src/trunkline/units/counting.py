"""What the kernel has counted of listeners: by rules what begins and the bytes, by its table what is there.

That a connection began is counted where it did, its packets where they pass, and itself where its shard is:
so what data planes count adds up.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trunkline.devices.conntrack import Conntrack
from trunkline.devices.ctnetlink import Ends
from trunkline.resources.appliance_policy import Policy, words
from trunkline.resources.reports import ListenerCount
from trunkline.units.balancing import End, counter, kernels, protocol


@dataclass(frozen=True)
class Counted:
    """Of listeners by name; and connections by member."""

    listeners: Mapping[str, ListenerCount]
    busy: Mapping[End, int]


def count(
    policy: Policy, conntrack: Conntrack, counters: Mapping[str, tuple[int, int]], here: Callable[[int], bool]
) -> Counted:
    """What there is by now. It takes some milliseconds for each thousand connections.

    Args:
        counters: of nftables, packets and bytes by name.
        here: whether the shard of a mark is this data plane's.
    """
    wanted = {
        (words.address(listener.address).packed, listener.port, protocol(listener)): listener
        for _, listener in kernels(policy)
    }
    if not wanted:
        return Counted({}, {})
    busy: Counter[End] = Counter()
    for ends, times in conntrack.tally(lambda ends: ends if _place(ends) in wanted else None, here).items():
        listener = wanted[_place(ends)]
        busy[listener.name, str(ipaddress.ip_address(ends.answers)), ends.answers_port] += times
    found = {}
    for listener in wanted.values():
        began, missed, lost, inward, outward = (
            counters.get(counter(kind, listener.name), (0, 0))
            for kind in ("began", "missed", "lost", "in", "out")
        )
        found[listener.name] = ListenerCount(
            connections=sum(n for (name, _, _), n in busy.items() if name == listener.name),
            total=began[0] - missed[0],
            bytes_in=inward[1],
            bytes_out=outward[1],
            errors=lost[0] + missed[0],
        )
    return Counted(found, busy)


def _place(ends: Ends) -> tuple[bytes, int, int]:
    return ends.target, ends.port, ends.protocol
