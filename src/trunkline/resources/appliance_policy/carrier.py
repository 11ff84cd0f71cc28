"""Who has which ports of carrier-grade translation: the policy tells, so that nothing has to be logged.

Each subscriber has a block of ports of one address, for as long as the policy stands (deterministic NAT,
RFC 7422). Of every shard's ports of the address the block has the same part, for a subscriber's connections
are of many shards; so the ports of a block are not one after the other:

    shard         0                        1
    ports    first ...                first + size ...
             [block 0][block 1] ...   [block 0][block 1] ...      each so many ports as a block has in a shard
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from trunkline.errors import BadField
from trunkline.resources.appliance_policy import words
from trunkline.resources.appliance_policy.document import NatCarrier, Policy
from trunkline.resources.appliance_policy.words import Ports

#: As many as `plan.shards` makes.
SHARDS = 256
#: Subscribers of one policy. Each takes the data planes as many elements of a map as there are shards.
MOST = 256


@dataclass(frozen=True)
class Allocation:
    """What a subscriber has."""

    subscriber: str
    address: str
    #: Which of the address's blocks.
    block: int
    #: Of each shard's ports, as `first` and `size` say them: so many, from this one on.
    offset: int
    count: int
    first: int
    size: int

    def ports(self, shard: int) -> Ports:
        start = self.first + shard * self.size + self.offset
        return Ports(start, start + self.count - 1)

    def has(self, port: int) -> bool:
        place, of_shard = divmod(port - self.first, self.size)
        return 0 <= place < SHARDS and self.offset <= of_shard < self.offset + self.count


def allocations(carrier: NatCarrier) -> Iterator[Allocation]:
    """What each subscriber has, in their order."""
    span = words.ports(carrier.ports)
    size, count = (span.last - span.first + 1) // SHARDS, carrier.block // SHARDS
    blocks = size // count
    subscribers = (each for text in carrier.subscribers for each in ipaddress.ip_network(text))
    for number, subscriber in enumerate(subscribers):
        place, block = divmod(number, blocks)
        address = str(words.address(carrier.addresses[place]))
        yield Allocation(str(subscriber), address, block, block * count, count, span.first, size)


def subscriber(policy: Policy, address: str, port: int) -> str | None:
    """Who has a port of an address of carrier-grade translation; None where nobody does."""
    for carrier in policy.nat.carrier_grade if policy.nat else ():
        for allocation in allocations(carrier):
            if allocation.address == address and allocation.has(port):
                return allocation.subscriber
    return None


def check_carrier(path: str, carrier: NatCarrier) -> None:
    """Raises BadField: there is not a block for everybody, or what is said is none of it."""
    networks: list[words.Network] = []
    for number, text in enumerate(carrier.subscribers):
        where = f"{path}.subscribers[{number}]"
        try:
            network = words.network(text)
        except ValueError as error:
            raise BadField(where, str(error)) from None
        if network.version != 4:
            raise BadField(where, f"{text} is of IPv6, which needs no such translation. Leave it out.")
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
        span = words.ports(carrier.ports)
    except ValueError as error:
        raise BadField(f"{path}.ports", str(error)) from None
    if carrier.block % SHARDS:
        raise BadField(f"{path}.block", f"{carrier.block} is no multiple of {SHARDS}. Give one, as 1024.")
    wanted = sum(network.num_addresses for network in networks)
    if not wanted:
        raise BadField(f"{path}.subscribers", "it is empty. Give prefixes, as 100.64.0.0/26.")
    if wanted > MOST:
        raise BadField(f"{path}.subscribers", f"they are {wanted}; {MOST} are the most. Give fewer.")
    blocks = (span.last - span.first + 1) // SHARDS // (carrier.block // SHARDS)
    if blocks * len(carrier.addresses) < wanted:
        raise BadField(
            f"{path}.addresses",
            f"they have {blocks * len(carrier.addresses)} blocks of {carrier.block} ports, and there are "
            f"{wanted} subscribers. Give more addresses, or smaller blocks.",
        )
