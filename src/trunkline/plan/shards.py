"""Which data plane of an appliance has which shard of its flows, and which one holds a copy of their state.

A change moves as little as it can: a unit that comes takes its share and nothing else moves; what a lost unit
had goes to those who hold the copies. The idea of a table with bounded change is Maglev's (Eisenbud et al.,
NSDI 2016, section 3.4); here shards are moved with their state, so the table may remember what it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

#: In how many parts the flows of an appliance are divided.
SHARDS = 256


@dataclass(frozen=True)
class Shard:
    """Who forwards a shard's flows, and who would next; None where there is nobody."""

    owner: str | None = None
    second: str | None = None


def assign(hosts: Mapping[str, str], before: Sequence[Shard]) -> tuple[Shard, ...]:
    """The shards for the units there are now, from those of before.

    `hosts` says of each unit which host it is on. Owners differ by one shard at the most. A copy is never
    with its owner, and on another host where there is one; as far as that allows, copies are spread evenly
    too. Where a shard's owner is gone, its second, if it is there, is the owner. Asked again, it changes
    nothing.
    """
    shards = [_survivors(hosts, shard) for shard in before]
    _own(hosts, shards)
    _copy(hosts, shards)
    return tuple(shards)


def moves(before: Sequence[Shard], after: Sequence[Shard]) -> dict[int, tuple[str, str]]:
    """The shards whose owner is another now: number -> (from, to)."""
    return {
        number: (old.owner, new.owner)
        for number, (old, new) in enumerate(zip(before, after, strict=True))
        if old.owner is not None and new.owner is not None and old.owner != new.owner
    }


def _survivors(hosts: Mapping[str, str], shard: Shard) -> Shard:
    """The shard with those of its units that are there; the second takes over."""
    owner, second = (unit if unit in hosts else None for unit in (shard.owner, shard.second))
    return Shard(owner, second) if owner is not None else Shard(second, None)


def _own(hosts: Mapping[str, str], shards: list[Shard]) -> None:
    """Every shard gets an owner, and all owners as many, give or take one."""
    load = Counter(dict.fromkeys(hosts, 0))
    load.update(shard.owner for shard in shards if shard.owner is not None)
    for number, shard in enumerate(shards):
        if shard.owner is None and hosts:
            to = min(load, key=lambda unit: (load[unit], unit))
            load[to] += 1
            shards[number] = Shard(to)

    def give(number: int, to: str) -> Shard:
        # The former owner has the state, so the copy is best where it is.
        return Shard(to, shards[number].owner)

    # Whoever has the copy needs nothing sent.
    _even(load, shards, lambda shard: shard.owner, lambda shard, to: (shard.second != to,), give)


def _copy(hosts: Mapping[str, str], shards: list[Shard]) -> None:
    """Every shard gets a second, away from its owner; the copies of one owner are spread evenly."""
    apart = len(set(hosts.values())) > 1

    def may(shard: Shard, unit: str) -> bool:
        owner = shard.owner
        return owner is not None and owner != unit and not (apart and hosts[owner] == hosts[unit])

    load = Counter(dict.fromkeys(hosts, 0))
    pairs: Counter[tuple[str | None, str | None]] = Counter()
    for number, shard in enumerate(shards):
        if shard.second is not None and may(shard, shard.second):
            load[shard.second] += 1
            pairs[shard.owner, shard.second] += 1
        else:
            shards[number] = Shard(shard.owner)
    for number, shard in enumerate(shards):
        able = [unit for unit in hosts if shard.second is None and may(shard, unit)]
        if able:
            to = min(able, key=lambda unit: (pairs[shard.owner, unit], load[unit], unit))
            load[to] += 1
            pairs[shard.owner, to] += 1
            shards[number] = Shard(shard.owner, to)

    def fit(shard: Shard, to: str) -> tuple[int, ...] | None:
        return (pairs[shard.owner, to] - pairs[shard.owner, shard.second],) if may(shard, to) else None

    def give(number: int, to: str) -> Shard:
        shard = shards[number]
        pairs[shard.owner, shard.second] -= 1
        pairs[shard.owner, to] += 1
        return replace(shard, second=to)

    _even(load, shards, lambda shard: shard.second, fit, give)


def _even(
    load: Counter[str],
    shards: list[Shard],
    holder: Callable[[Shard], str | None],
    fit: Callable[[Shard, str], tuple[int, ...] | None],
    give: Callable[[int, str], Shard],
) -> None:
    """Moves shards one by one from who has more to who has less, until no move makes it more even.

    `fit` tells how well a shard goes to a unit, the smaller the better, None where it may not.
    """
    while True:
        for few in sorted(load, key=lambda unit: (load[unit], unit)):
            able = [
                (-load[holds], *suits, number)
                for number, shard in enumerate(shards)
                if (holds := holder(shard)) is not None
                and load[holds] > load[few] + 1
                and (suits := fit(shard, few)) is not None
            ]
            if able:
                break
        else:
            return
        number = min(able)[-1]
        held = holder(shards[number])
        assert held is not None
        shards[number] = give(number, few)
        load[held] -= 1
        load[few] += 1
