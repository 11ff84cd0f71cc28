"""Carrier-grade translation in the words of nftables: from subscribers to blocks, from shards to ports."""

from __future__ import annotations

from trunkline.plan.shards import SHARDS
from trunkline.resources.appliance_policy import NatCarrier
from trunkline.resources.appliance_policy.carrier import allocations
from trunkline.units.tables import Table


def carry(table: Table, sources: list[str], number: int, carrier: NatCarrier, ported: str) -> None:
    """Adds what becomes of subscribers' connections. `ported`: the protocols that have ports, as a set."""
    led = []
    for place, allocation in enumerate(allocations(carrier)):
        name = f"carrier_{number}_{place}"
        elements = [f"{shard} : {allocation.address} . {allocation.ports(shard)}" for shard in range(SHARDS)]
        map_ = table.map(name, "type mark : interval ipv4_addr . inet_service", elements, "flags interval")
        table.chain(name).append(f"meta l4proto {ported} snat ip to ct mark map {map_}")
        led.append(f"{allocation.subscriber} : goto {table.named(name)}")
    map_ = table.map(f"carrier_{number}", "type ipv4_addr : verdict", led)
    sources.append(f'iifname "{carrier.from_}" oifname "{carrier.to}" ip saddr vmap {map_}')
