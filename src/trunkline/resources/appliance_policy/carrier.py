"""Who has which ports of carrier-grade translation: the policy tells, so that nothing has to be logged.

Each subscriber has a block of ports of one address, one after the other, for as long as the policy stands
(deterministic NAT, RFC 7422). They are numbered in the order of the policy, and fill one address after the
other: who is added behind all others moves nobody.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trunkline.errors import BadField
from trunkline.resources.appliance_policy import words
from trunkline.resources.appliance_policy.document import NatCarrier, Policy
from trunkline.resources.appliance_policy.words import Ports

#: Subscribers of one policy. Each takes every data plane an element of a map.
MOST = 16384


@dataclass(frozen=True)
class Allocation:
    """What a subscriber has."""

    subscriber: str
    address: str
    ports: Ports


def blocks_of(carrier: NatCarrier) -> int:
    """How many blocks each address has."""
    span = words.ports(carrier.ports)
    return (span.last - span.first + 1) // carrier.block


def allocations(carrier: NatCarrier) -> Iterator[Allocation]:
    """What each subscriber has, in their order."""
    first, blocks = words.ports(carrier.ports).first, blocks_of(carrier)
    subscribers = (each for text in carrier.subscribers for each in ipaddress.ip_network(text))
    for number, subscriber in enumerate(subscribers):
        place, block = divmod(number, blocks)
        start = first + block * carrier.block
        ports = Ports(start, start + carrier.block - 1)
        yield Allocation(str(subscriber), str(words.address(carrier.addresses[place])), ports)


def blocks(policy: Policy, address: str = "", port: int | None = None) -> Iterator[Allocation]:
    """Whose which ports are: all of them, or those of an address, or the one with a port of it."""
    for carrier in policy.nat.carrier_grade if policy.nat else ():
        for each in allocations(carrier):
            if address in ("", each.address) and (
                port is None or each.ports.first <= port <= each.ports.last
            ):
                yield each


def check_carriers(path: str, carriers: Sequence[NatCarrier]) -> None:
    """Raises BadField: there is not a block for everybody, or what is said is none of it."""
    count = 0
    for number, carrier in enumerate(carriers):
        where = f"{path}[{number}]"
        count += sum(
            _network(f"{where}.subscribers[{n}]", text).num_addresses
            for n, text in enumerate(carrier.subscribers)
        )
        if count > MOST:
            raise BadField(f"{where}.subscribers", f"with them there are {count}; {MOST} are the most.")
        _check(where, carrier)


def _check(path: str, carrier: NatCarrier) -> None:
    networks = [
        _network(f"{path}.subscribers[{number}]", text) for number, text in enumerate(carrier.subscribers)
    ]
    # One that has addresses of another one is behind it in this order.
    order = sorted(
        range(len(networks)), key=lambda n: (networks[n].network_address, networks[n].prefixlen, n)
    )
    for before, number in itertools.pairwise(order):
        if networks[number].overlaps(networks[before]):
            where = f"{path}.subscribers[{number}]"
            raise BadField(
                where, f"{networks[number]} has addresses of {networks[before]} too. Leave one out."
            )
    for number, text in enumerate(carrier.addresses):
        try:
            address = words.address(text)
        except ValueError as error:
            raise BadField(f"{path}.addresses[{number}]", str(error)) from None
        if address.version != 4:
            raise BadField(f"{path}.addresses[{number}]", f"{text} is of IPv6. Give one of IPv4.")
    try:
        words.ports(carrier.ports)
    except ValueError as error:
        raise BadField(f"{path}.ports", str(error)) from None
    for number, text in enumerate(carrier.untranslated):
        there = _network(f"{path}.untranslated[{number}]", text)
        for own in map(words.address, carrier.addresses):
            if own in there:
                raise BadField(
                    f"{path}.untranslated[{number}]",
                    f"{own}, of addresses, is there. Give what is elsewhere.",
                )
    wanted = sum(network.num_addresses for network in networks)
    if not wanted:
        raise BadField(f"{path}.subscribers", "it is empty. Give prefixes, as 100.64.0.0/26.")
    blocks = blocks_of(carrier)
    if blocks * len(carrier.addresses) < wanted:
        raise BadField(
            f"{path}.addresses",
            f"they have {blocks * len(carrier.addresses)} blocks of {carrier.block} ports, and there are "
            f"{wanted} subscribers. Give more addresses, or smaller blocks.",
        )


def _network(path: str, text: str) -> words.Network:
    try:
        network = words.network(text)
    except ValueError as error:
        raise BadField(path, str(error)) from None
    if network.version != 4:
        raise BadField(path, f"{text} is of IPv6, which needs no such translation. Leave it out.")
    return network
