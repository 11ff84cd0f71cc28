"""Who has which ports of carrier-grade translation: the policy tells, so that nothing has to be logged.

Each subscriber has a block of ports of one address, one after the other, for as long as the policy stands
(deterministic NAT, RFC 7422). They are numbered in the order of the policy, and fill one address after the
other: who is added behind all others moves nobody.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from trunkline.errors import BadField
from trunkline.resources.appliance_policy import words
from trunkline.resources.appliance_policy.document import NatCarrier, Policy
from trunkline.resources.appliance_policy.words import Ports

#: Subscribers of one part of a policy. Each takes every data plane an element of a map.
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


def check_carrier(path: str, carrier: NatCarrier) -> None:
    """Raises BadField: there is not a block for everybody, or what is said is none of it."""
    networks: list[words.Network] = []
    for number, text in enumerate(carrier.subscribers):
        where = f"{path}.subscribers[{number}]"
        network = _network(where, text)
        for other in networks:
            if network.overlaps(other):
                raise BadField(where, f"{text} has addresses of {other} too. Leave one of them out.")
        networks.append(network)
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
        _network(f"{path}.untranslated[{number}]", text)
    wanted = sum(network.num_addresses for network in networks)
    if not wanted:
        raise BadField(f"{path}.subscribers", "it is empty. Give prefixes, as 100.64.0.0/26.")
    if wanted > MOST:
        raise BadField(f"{path}.subscribers", f"they are {wanted}; {MOST} are the most. Give fewer.")
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
