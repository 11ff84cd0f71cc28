"""What is for listeners that a proxy serves: let in to this kernel's own sockets, where the firewall lets it.

    input: own ──by address, port──▶ proxied_N ── mark LOCAL, limits, rules ──▶ the proxy's socket

The connection ends here: it is marked so (`local`), and no other data plane gets it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from trunkline.compiler.unit_slices import LegSlice
from trunkline.resources.appliance_policy import Listener, Policy, SynProtection, words
from trunkline.resources.appliance_policy.proxying import pools
from trunkline.units import filtering
from trunkline.units.local import LOCAL
from trunkline.units.tables import Table


def delivered(
    table: Table, policy: Policy, legs: Sequence[LegSlice], decided: Mapping[tuple[str, str], str]
) -> list[str]:
    """Adds chains for these listeners; returns what leads to them. `decided`: as `filtering.filter_` says.

    Rules are asked as if the connection went on to the zone of the listener's members, as it would if the
    kernel did the listener's work: so the same rules fit both.
    """
    elements: dict[int, list[str]] = {}
    for number, listener in enumerate(policy.balancer.listeners if policy.balancer else ()):
        if not listener.through_proxy:
            continue
        name, address = f"proxied_{number}", words.address(listener.address)
        rules = table.chain(name)
        # What is in the middle and not known here ended with the data plane that had it.
        rules.append(f"ct state invalid {table.counter('dropped_invalid')} drop")
        rules.append(f"ct mark set ct mark or {LOCAL}")
        firewall = policy.firewall
        if firewall is not None:
            rules += [protected(table, n, limits) for n, limits in enumerate(firewall.syn_protection)]
            far = zone_of(listener, legs)
            pairs = [
                f'"{near}" : jump {table.named(chain)}' for (near, to), chain in decided.items() if to == far
            ]
            if pairs:
                rules.append(f"iifname vmap {table.map(f'{name}_zones', 'type ifname : verdict', pairs)}")
            rules += filtering.default(table, firewall)
        rules.append("accept")
        key = f"{address} . {listener.port}"
        elements.setdefault(address.version, []).append(f"{key} : goto {table.named(name)}")
    found = []
    for version, those in elements.items():
        of = f"type ipv{version}_addr . inet_service : verdict"
        ip = "ip" if version == 4 else "ip6"
        found.append(f"{ip} daddr . tcp dport vmap {table.map(f'proxied_{version}', of, those)}")
    return found


def protected(table: Table, number: int, limits: SynProtection) -> str:
    """What has SYNs go through the chain of these limits."""
    syn = "tcp flags & (fin | syn | rst | ack) == syn"
    return f'iifname "{limits.zone}" {syn} jump {table.named(f"syn_{number}")}'


def zone_of(listener: Listener, legs: Sequence[LegSlice]) -> str:
    """The zone by which the first member is reached; the listener's own where there is none."""
    members = [member.address for _, pool in pools("", listener) for member in pool.members]
    address = words.address((*members, listener.address)[0])
    reached: list[tuple[int, str]] = []
    for leg in legs:
        prefixes: Iterable[str] = (*leg.addresses, *(prefix for prefix, _ in leg.routes))
        for prefix in prefixes:
            network = ipaddress.ip_interface(prefix).network
            if network.version == address.version and address in network:
                reached.append((network.prefixlen, leg.zone))
    return max(reached, default=(0, legs[0].zone))[1]
