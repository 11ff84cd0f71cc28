"""Carrier-grade translation in the words of nftables: from subscribers to their blocks of ports.

The kernel gives what comes from one port of a subscriber the port that it gave it before, whoever it speaks
to (endpoint-independent mapping, RFC 4787, 4.1), as long as it knows of any connection from there: those of
a subscriber are all at one data plane.
"""

from __future__ import annotations

import zlib

from trunkline.resources.appliance_policy import NatCarrier
from trunkline.resources.appliance_policy.carrier import allocations
from trunkline.units.tables import Table


def carry(table: Table, sources: list[str], number: int, carrier: NatCarrier, ported: str) -> None:
    """Adds what becomes of subscribers' connections. `ported`: the protocols that have ports, as a set."""
    sources.append(
        f'iifname "{carrier.from_}" oifname "{carrier.to}" jump {table.named(f"carrier_{number}")}'
    )
    rules = table.chain(f"carrier_{number}")
    if carrier.untranslated:
        rules.append(f"{of_subscribers(carrier)} {as_they_are(carrier)} accept")
    # As large as the policy, and the same in most of those that follow: it stays.
    elements = [f"{each.subscriber} : {each.address} . {each.ports}" for each in allocations(carrier)]
    name = f"carrier_{number}_{zlib.crc32(','.join(elements).encode()):08x}"
    of = "type ipv4_addr : interval ipv4_addr . inet_service"
    map_ = table.lasting_map(name, of, elements, "flags interval")
    rules.append(f"meta l4proto {ported} snat ip to ip saddr map {map_}")


def of_subscribers(carrier: NatCarrier) -> str:
    """What a rule asks for their packets."""
    return f"ip saddr {{ {', '.join(carrier.subscribers)} }}"


def as_they_are(carrier: NatCarrier) -> str:
    """What a rule asks for packets to where subscribers are seen by their own addresses."""
    return f"ip daddr {{ {', '.join(carrier.untranslated)} }}"
