"""Promises: how much bandwidth and how many packets hosts have, and ports are promised. Pure.

what a host has   by link and direction, kbit/s: its links' speed, or what the operator says instead
                  packets of both directions together, thousands a second: what the operator says
what is held      the sum over the ports that are bound to it
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from trunkline.resources.region import Host

#: In place of a physical network: the tunnels between hosts.
TUNNELS = ""


class Good(NamedTuple):
    """Something that a host has so much of: kbit/s of a link in a direction, or thousands of packets/s."""

    what: Literal["egress", "ingress", "packets"]
    #: The physical network of the link, or `TUNNELS`; TUNNELS too for packets.
    link: str = TUNNELS

    @property
    def unit(self) -> str:
        """What it is counted in."""
        return "kpackets/s" if self.what == "packets" else "kbit/s"

    def __str__(self) -> str:
        if self.what == "packets":
            return "packet rate"
        where = f"on physical network {self.link}" if self.link else "of the tunnels"
        return f"{self.what} bandwidth {where}"


Amounts = Mapping[Good, int]
PACKETS = Good("packets")


def offered(host: Host) -> dict[Good, int]:
    """What a host can promise."""
    links = {link.physical_network: link for link in (*host.links, *host.promised_links)}
    found = {PACKETS: host.packet_rate_kpps}
    for name, link in links.items():
        found[Good("egress", name)] = link.egress_kbps
        found[Good("ingress", name)] = link.ingress_kbps
    return found


def total(several: Iterable[Amounts]) -> dict[Good, int]:
    """The sum of amounts."""
    found: Counter[Good] = Counter()
    for each in several:
        found.update(each)
    return dict(found)


def without(held: Amounts, amounts: Amounts) -> dict[Good, int]:
    """Amounts less others."""
    return {good: amount - amounts.get(good, 0) for good, amount in held.items()}


def lacking(offers: Amounts, held: Amounts, wanted: Amounts) -> list[str]:
    """What of the amounts wanted is not left, each a reason with the figures."""
    why = []
    for good, amount in sorted(wanted.items()):
        free = max(0, offers.get(good, 0) - held.get(good, 0))
        if amount > free:
            why.append(f"not enough {good} ({amount} {good.unit} wanted, {free} free)")
    return why
