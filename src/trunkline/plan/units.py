"""Where compute units of appliances go. Pure: it is given all that it decides by.

    hosts --filters--> those that may --weigh--> fewest units of the kind, then most processors free
             |
             `--> for each that may not, every reason

Unlike virtual processors of servers, those of units are promised: nobody else gets them, and no host promises
all of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trunkline.plan.placement import NoHost

#: What a host promises of its processors to units, at the most.
SHARE = 0.8


@dataclass(frozen=True, kw_only=True)
class Room:
    """A host, and what there is for units."""

    name: str
    vcpus: int
    #: MiB that no server has.
    memory_mib: int
    physical_networks: frozenset[str] = frozenset()
    #: The availability zone that it is in.
    zone: str = "nova"
    #: Why nothing new is placed on it; "" where it may be.
    closed: str = ""

    @property
    def cores(self) -> float:
        """What it may promise in all."""
        return self.vcpus * SHARE


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a unit has of its host."""

    host: str
    cores: float
    memory_mib: int
    #: Units of one group are kept apart as far as there are hosts: those of a kind in an appliance.
    group: str


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a new unit asks for."""

    cores: float
    memory_mib: int
    group: str
    physical_networks: frozenset[str] = frozenset()
    #: The availability zone of its host, "" for any.
    zone: str = ""
    #: Hosts that it must not be on.
    without: frozenset[str] = frozenset()


def place(rooms: Iterable[Room], held: Sequence[Held], wish: Wish) -> str | NoHost:
    """The host for a unit."""
    cores, memory, group = _used(held, wish.group)
    reasons: dict[str, list[str]] = {}
    fitting = []
    for room in rooms:
        why = [room.closed] if room.closed else []
        if room.name in wish.without:
            why.append("it is to be on another host")
        if wish.zone and room.zone != wish.zone:
            why.append(f"in availability zone {room.zone}, not {wish.zone}")
        if missing := sorted(wish.physical_networks - room.physical_networks):
            why.append(f"not connected to physical network {', '.join(missing)}")
        free = room.cores - cores[room.name]
        if wish.cores > free + 1e-9:
            why.append(f"not enough processors ({wish.cores:g} wanted, {max(free, 0):g} left to promise)")
        left = room.memory_mib - memory[room.name]
        if wish.memory_mib > left:
            why.append(f"not enough memory ({wish.memory_mib} MiB wanted, {max(left, 0)} MiB free)")
        if why:
            reasons[room.name] = why
        else:
            fitting.append((group[room.name], -round(free, 9), room.name))
    return min(fitting)[-1] if fitting else NoHost(reasons)


def largest(rooms: Iterable[Room]) -> float:
    """The most processors that one unit can have on any host, were it empty."""
    return max((room.cores for room in rooms), default=0.0)


def fullest(rooms: Iterable[Room], held: Sequence[Held], group: str, hosts: Iterable[str]) -> str:
    """Of some hosts, the one that a unit of the group is best taken from: where most of these are."""
    free = {room.name: room.cores for room in rooms}
    cores, _, there = _used(held, group)
    return min(hosts, key=lambda host: (-there[host], free.get(host, 0.0) - cores[host], host))


def _used(held: Sequence[Held], group: str) -> tuple[dict[str, float], dict[str, int], dict[str, int]]:
    """By host: processors and memory that are promised, and how many units of the group it has."""
    cores: defaultdict[str, float] = defaultdict(float)
    memory: defaultdict[str, int] = defaultdict(int)
    there: defaultdict[str, int] = defaultdict(int)
    for each in held:
        cores[each.host] += each.cores
        memory[each.host] += each.memory_mib
        there[each.host] += each.group == group
    return cores, memory, there
