"""The policy's translations, in the words of nftables, and what dispatchers have to know of them.

Sources are translated to ports of the flow's shard, which its mark says (docs/designs/0003): so whoever has
the shard has the ports, and the way back is a division. An echo's identifier is a port in this. Of a
subscriber all flows are of one shard, and all of its ports are that shard's.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Mapping, Sequence

from trunkline.compiler.unit_slices import LegSlice
from trunkline.plan.shards import SHARDS
from trunkline.resources.appliance_policy import NatSource, Policy, words
from trunkline.resources.appliance_policy.carrier import blocks_of
from trunkline.resources.appliance_policy.document import MASQUERADE_PORTS
from trunkline.resources.appliance_policy.words import Address
from trunkline.units.balancing import NOTHING, NUMBERED, Seen, balance, protocol
from trunkline.units.carrier import carry
from trunkline.units.fabric import Blocks, Subscribers
from trunkline.units.local import LOCAL
from trunkline.units.tables import Table

_SPAN = words.ports(MASQUERADE_PORTS)
#: The ports that members see connections come from.
_MASQUERADE = Blocks(_SPAN.first, (_SPAN.last - _SPAN.first + 1) // SHARDS)
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
#: An end of flows: address, port, number of the protocol; the last two are 0 where all of them are meant.
Endpoint = tuple[str, int, int]


def translated(policy: Policy, legs: Sequence[LegSlice] = ()) -> dict[str, Blocks]:
    """The addresses that sources are translated to, and which of their ports are whose.

    With `legs`: those too that data planes begin connections from themselves.
    """
    found = _shared(policy)
    own = own_sources(policy, legs)
    return {str(address): blocks for address, blocks in own.values()} | found


def sources(policy: Policy, legs: Sequence[LegSlice]) -> dict[str, Blocks | Subscribers]:
    """As `translated`, with `legs`; and the prefixes of those subscribers who have blocks."""
    found: dict[str, Blocks | Subscribers] = {**translated(policy, legs)}
    for carrier in policy.nat.carrier_grade if policy.nat else ():
        number = 0
        for network in map(words.network, carrier.subscribers):
            found[str(network)] = Subscribers(number)
            number += network.num_addresses
    return found


def _shared(policy: Policy) -> dict[str, Blocks]:
    found = {}
    for source in policy.nat.source if policy.nat else ():
        span = words.ports(source.ports)
        for text in source.addresses:
            found[str(words.address(text))] = Blocks(span.first, (span.last - span.first + 1) // SHARDS)
    for carrier in policy.nat.carrier_grade if policy.nat else ():
        first, blocks = words.ports(carrier.ports).first, blocks_of(carrier)
        for place, text in enumerate(carrier.addresses):
            found[str(words.address(text))] = Blocks(first, carrier.block, blocks, place * blocks)
    for listener in policy.balancer.listeners if policy.balancer else ():
        found |= {str(words.address(text)): _MASQUERADE for text in listener.masquerade}
    return found


def own_sources(policy: Policy, legs: Sequence[LegSlice]) -> dict[tuple[str, Subnet], tuple[Address, Blocks]]:
    """By zone and subnet: where that comes from which data planes begin themselves, and the ports of shards.

    That is an address there that sources are translated to anyway; else the first one, with the longest run
    of ports that nothing is published at. Subscribers' ports are nobody else's, so where a leg has no
    other address there is none; nor is there one without a listener that asks its members how they are, or
    has a proxy, for nothing else begins anything here.
    """
    listeners = policy.balancer.listeners if policy.balancer is not None else ()
    if not any(listener.health or listener.through_proxy for listener in listeners):
        return {}
    shared, ends = _shared(policy), published(policy)
    subscribers = {
        str(words.address(text))
        for carrier in (policy.nat.carrier_grade if policy.nat else ())
        for text in carrier.addresses
    }
    found: dict[tuple[str, Subnet], tuple[Address, Blocks]] = {}
    for leg in legs:
        interfaces = [ipaddress.ip_interface(text) for text in leg.addresses]
        # Those that are shared come first; of others, the order is the leg's.
        for interface in sorted(interfaces, key=lambda interface: str(interface.ip) not in shared):
            text = str(interface.ip)
            if (leg.zone, interface.network) in found or text in subscribers or (text, 0, 0) in ends:
                continue
            blocks = shared.get(text) or _free({port for where, port, _ in ends if where == text})
            if blocks.size:
                found[leg.zone, interface.network] = interface.ip, blocks
    return found


def _free(taken: set[int]) -> Blocks:
    """The longest run of ports that are not taken, and not those of services (RFC 6335, section 6)."""
    edges = [1023, *sorted(port for port in taken if port > 1023), 65536]
    first, last = max(itertools.pairwise(edges), key=lambda pair: pair[1] - pair[0])
    return Blocks(first + 1, (last - first - 1) // SHARDS)


def published(policy: Policy) -> set[Endpoint]:
    """Ends of flows that are translated by the policy: what is published, and who answers behind it.

    Who takes the appliance for its client is none: what it answers comes to a block of ports.
    """
    found: set[Endpoint] = set()
    for target in policy.nat.destination if policy.nat else ():
        (service,) = words.services(target.service)
        found.add((str(words.address(target.address)), service.ports.first, service.first))
        found.add((str(words.address(target.to)), target.port or service.ports.first, service.first))
    for pair in policy.nat.static if policy.nat else ():
        found |= {(str(words.address(text)), 0, 0) for text in (pair.inside, pair.outside)}
    for listener in policy.balancer.listeners if policy.balancer else ():
        number = protocol(listener)
        found.add((str(words.address(listener.address)), listener.port, number))
        if not (listener.masquerade or listener.through_proxy):
            found |= {
                (str(words.address(member.address)), member.port, number) for member in listener.members
            }
    return found


def translate(
    table: Table, policy: Policy, legs: Sequence[LegSlice], seen: Seen = NOTHING, share: float = 1.0
) -> None:
    """Adds the chains for it. They see the first packet of a connection; the kernel does the others alike."""
    targets = table.base("targets", "nat hook prerouting priority dstnat")
    sources = table.base("sources", "nat hook postrouting priority srcnat")
    _own(table, sources, policy, legs)
    outside = names(leg.zone for leg in legs if leg.outside)
    if not outside:
        return
    _destinations(table, targets, policy)
    balance(table, targets, policy, outside, seen, share)
    _masquerade(table, sources, policy, legs)
    _static(table, targets, sources, policy, outside)
    for number, carrier in enumerate(policy.nat.carrier_grade if policy.nat else ()):
        carry(table, sources, number, carrier, PORTED[4])
    for number, source in enumerate(policy.nat.source if policy.nat else ()):
        _source(table, sources, number, source)


def names(zones: Iterable[str]) -> str:
    """A set of interfaces; "" for none."""
    quoted = ", ".join(f'"{zone}"' for zone in zones)
    return f"{{ {quoted} }}" if quoted else ""


def _destinations(table: Table, targets: list[str], policy: Policy) -> None:
    wanted: dict[tuple[str, int], list[str]] = {}
    for target in policy.nat.destination if policy.nat else ():
        (service,) = words.services(target.service)
        address = words.address(target.address)
        key = f"{address} . {service.first} . {service.ports.first}"
        wanted.setdefault((target.zone, address.version), []).append(
            f"{key} : {words.address(target.to)} . {target.port or service.ports.first}"
        )
    for number, ((zone, version), elements) in enumerate(wanted.items()):
        of = f"type {_KEY[version]} : ipv{version}_addr . inet_service"
        map_ = table.map(f"target_{number}", of, elements)
        ip = family(version)
        targets.append(f'iifname "{zone}" dnat {ip} to {ip} daddr . meta l4proto . th dport map {map_}')


_KEY = {version: f"ipv{version}_addr . inet_proto . inet_service" for version in (4, 6)}


def _static(table: Table, targets: list[str], sources: list[str], policy: Policy, outside: str) -> None:
    pairs = [
        (words.address(p.inside), words.address(p.outside)) for p in (policy.nat.static if policy.nat else ())
    ]
    for version in (4, 6):
        ip = family(version)
        ours = [(i, o) for i, o in pairs if i.version == version]
        if ours:
            of = f"type ipv{version}_addr : ipv{version}_addr"
            there = table.map(f"static_in_{version}", of, [f"{o} : {i}" for i, o in ours])
            back = table.map(f"static_out_{version}", of, [f"{i} : {o}" for i, o in ours])
            targets.append(f"iifname {outside} dnat {ip} to {ip} daddr map {there}")
            sources.append(f"oifname {outside} snat {ip} to {ip} saddr map {back}")


def family(version: int) -> str:
    return "ip" if version == 4 else "ip6"


def _masquerade(table: Table, sources: list[str], policy: Policy, legs: Sequence[LegSlice]) -> None:
    """Members see connections come from the addresses that the appliance has where they are."""
    chains: dict[tuple[int, tuple[str, ...]], str] = {}
    elements: dict[tuple[int, str], list[str]] = {}
    for listener in policy.balancer.listeners if policy.balancer else ():
        address = words.address(listener.address)
        key = (address.version, listener.masquerade)
        if listener.through_proxy:
            continue
        if listener.masquerade and key not in chains:
            chains[key] = f"masquerade_{len(chains)}"
            _by_zone(table, chains[key], [a for a in map(words.address, key[1]) if a.version == key[0]], legs)
        if listener.masquerade:
            found = elements.setdefault((address.version, listener.protocol), [])
            found.append(f"{address} . {listener.port} : goto {table.named(chains[key])}")
    for (version, carried), found in elements.items():
        of = f"type ipv{version}_addr . inet_service : verdict"
        map_ = table.map(f"masquerade_{version}_{carried}", of, found)
        sources.append(
            f"meta nfproto ipv{version} meta l4proto {carried} ct status dnat "
            f"ct original {family(version)} daddr . ct original proto-dst vmap {map_}"
        )


def _by_zone(table: Table, name: str, addresses: Sequence[Address], legs: Sequence[LegSlice]) -> None:
    rules = table.chain(name)
    for number, leg in enumerate(legs):
        subnets = {each.ip: each.network for each in map(ipaddress.ip_interface, leg.addresses)}
        ours = [address for address in addresses if address in subnets]
        if ours:
            out = f'oifname "{leg.zone}"'
            for place, (to, there) in enumerate(_beside(ours, subnets)):
                rules.append(f"{out} {to} goto {table.named(f'{name}_{number}_{place}')}")
                _to_blocks(table, f"{name}_{number}_{place}", there, _MASQUERADE)
            rules.append(f"{out} goto {table.named(f'{name}_{number}')}")
            _to_blocks(table, f"{name}_{number}", ours, _MASQUERADE)
    # Whoever would see the client here would answer it by another way.
    rules.append(f"{table.counter('dropped_unmasqueraded')} drop")


def _beside(
    addresses: Sequence[Address], subnets: Mapping[Address, Subnet]
) -> list[tuple[str, list[Address]]]:
    """Of addresses in several subnets: what is sent to each of these, and those there, so that answers come
    by no router.
    """
    found: dict[Subnet, list[Address]] = {}
    for address in addresses:
        found.setdefault(subnets[address], []).append(address)
    if len(found) < 2:
        return []
    return [(f"{family(net.version)} daddr {net}", there) for net, there in found.items()]


# Sources.

#: What has ports, or an identifier that is as good as one.
PORTED = {4: "{ tcp, udp, icmp }", 6: "{ tcp, udp, ipv6-icmp }"}


def _source(table: Table, sources: list[str], number: int, source: NatSource) -> None:
    addresses = [words.address(text) for text in source.addresses]
    span = words.ports(source.ports)
    blocks = Blocks(span.first, (span.last - span.first + 1) // SHARDS)
    for version in (4, 6):
        ours = [address for address in addresses if address.version == version]
        if not ours:
            continue
        name = f"source_{number}_{version}"
        between = f'iifname "{source.from_}" oifname "{source.to}" meta nfproto ipv{version}'
        sources.append(f"{between} meta l4proto {PORTED[version]} goto {table.named(name)}")
        _to_blocks(table, name, ours, blocks)


def _to_blocks(table: Table, name: str, addresses: Sequence[Address], blocks: Blocks) -> None:
    """A chain that translates sources to these, of one family, and to ports of the flow's shard."""
    first, ip = table.chain(name), family(addresses[0].version)
    if len(addresses) > 1:
        # The same one for all flows of a source (RFC 4787, 4.1).
        choice = f"jhash {ip} saddr mod {len(addresses)} seed 0x1"
        led = [f"{place} : goto {table.named(f'{name}_{place}')}" for place in range(len(addresses))]
        first.append(f"{choice} vmap {table.map(name, f'{NUMBERED} verdict', led)}")
    else:
        first.append(f"goto {table.named(f'{name}_0')}")
    for place, address in enumerate(addresses):
        table.chain(f"{name}_{place}").append(f"goto {to_ports(table, address, blocks)}")


def _own(table: Table, sources: list[str], policy: Policy, legs: Sequence[LegSlice]) -> None:
    """What this data plane begins itself; where there is nothing that it may come from, it does not leave."""
    local = f"ct mark and {LOCAL} != 0"
    found = own_sources(policy, legs)
    for leg, version in itertools.product(legs, (4, 6)):
        ours = {
            address: (net, blocks)
            for (zone, net), (address, blocks) in found.items()
            if (zone, net.version) == (leg.zone, version)
        }
        between = f'oifname "{leg.zone}" meta nfproto ipv{version} meta l4proto {PORTED[version]}'
        led = _beside(list(ours), {address: net for address, (net, _) in ours.items()})
        for to, (address,) in [*led, *([("", list(ours)[:1])] if ours else [])]:
            sources.append(f"{local} {between} {to} goto {to_ports(table, address, ours[address][1])}")
    drop = f"{table.counter('dropped_own_source')} drop"
    sources.append(f"{local} oifname {names(leg.zone for leg in legs)} {drop}")


def to_ports(table: Table, address: Address, blocks: Blocks) -> str:
    """The chain, as rules name it, that translates sources to the ports of their shard at an address."""
    name = f"ports_{int(address):x}_{blocks.first}_{blocks.size}"
    if isinstance(address, ipaddress.IPv4Address):
        return _by_map(table, name, str(address), blocks)
    return _by_chains(table, name, str(address), blocks)


#: Besides the shard, a mark says whether the connection ends here.
_SHARD = "ct mark and 0xffff"


def _span(blocks: Blocks, shard: int) -> str:
    own = blocks.of(shard)
    return f"{own[0]}-{own[-1]}" if len(own) > 1 else str(own[0])


def _by_map(table: Table, name: str, address: str, blocks: Blocks) -> str:
    elements = [f"{shard} : {address} . {_span(blocks, shard)}" for shard in range(SHARDS)]
    of = "type mark : interval ipv4_addr . inet_service"
    map_ = table.lasting_map(name, of, elements, "flags interval")
    return table.lasting(name, [f"meta l4proto {PORTED[4]} snat ip to {_SHARD} map {map_}"])


def _by_chains(table: Table, name: str, address: str, blocks: Blocks) -> str:
    """A chain for each shard: nftables 1.0.6 has no maps to IPv6 addresses and ranges of ports."""
    led = []
    for shard in range(SHARDS):
        to = f"meta l4proto {PORTED[6]} snat ip6 to [{address}]:{_span(blocks, shard)}"
        led.append(f"{shard} : goto {table.lasting(f'{name}_{shard}', [to])}")
    map_ = table.lasting_map(name, "type mark : verdict", led)
    return table.lasting(name, [f"{_SHARD} vmap {map_}"])
