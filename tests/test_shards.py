"""Shards of an appliance's flows: even, apart, and moved no more than they must be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.plan.shards import SHARDS, Shard, assign, moves

calm = settings(deadline=None, max_examples=25)
NOTHING = (Shard(),) * SHARDS
units = st.dictionaries(
    st.integers(1, 40).map("dp{}".format), st.sampled_from(["h1", "h2", "h3", "h4"]), min_size=1, max_size=12
)


def spread(named: Sequence[str | None], hosts: Mapping[str, str]) -> int:
    """The most that one unit has, less the fewest that one has."""
    count = Counter(named)
    return max(count[unit] for unit in hosts) - min(count[unit] for unit in hosts)


def walked(states: Sequence[Mapping[str, str]]) -> tuple[Shard, ...]:
    shards = NOTHING
    for hosts in states:
        shards = assign(hosts, shards)
    return shards


@calm
@given(st.lists(units, min_size=1, max_size=6))
def test_every_shard_has_an_owner_and_they_have_as_many(states: list[dict[str, str]]) -> None:
    shards, hosts = walked(states), states[-1]
    assert all(shard.owner in hosts for shard in shards)
    assert spread([shard.owner for shard in shards], hosts) <= 1


@calm
@given(st.lists(units, min_size=1, max_size=6))
def test_a_copy_is_elsewhere(states: list[dict[str, str]]) -> None:
    hosts = states[-1]
    for shard in walked(states):
        assert shard.owner is not None
        if len(hosts) == 1:
            assert shard.second is None
        else:
            assert shard.second in hosts
            assert shard.second != shard.owner
        if len(set(hosts.values())) > 1:
            assert shard.second is not None
            assert hosts[shard.owner] != hosts[shard.second]


@calm
@given(st.lists(units, min_size=1, max_size=6))
def test_asked_again_nothing_moves(states: list[dict[str, str]]) -> None:
    shards = walked(states)
    assert assign(states[-1], shards) == shards


@calm
@given(st.lists(units, min_size=1, max_size=6), st.sampled_from(["h1", "h2"]))
def test_one_more_takes_its_share_and_nothing_else_moves(states: list[dict[str, str]], host: str) -> None:
    before = walked(states)
    after = assign({**states[-1], "new": host}, before)
    moved = moves(before, after)
    assert {to for _, to in moved.values()} == {"new"}
    assert len(moved) <= -(-SHARDS // (len(states[-1]) + 1))


def test_the_load_of_a_unit_that_dies_is_spread_over_the_others() -> None:
    hosts = {f"dp{n}": f"h{n % 3}" for n in range(6)}
    shards = walked([hosts])
    takers = Counter(shard.second for shard in shards if shard.owner == "dp0")
    assert set(takers) == {unit for unit, host in hosts.items() if host != hosts["dp0"]}
    assert max(takers.values()) - min(takers.values()) <= 2


def test_what_a_lost_unit_had_goes_to_those_with_the_copies() -> None:
    hosts = {f"dp{n}": f"h{n % 3}" for n in range(6)}
    before = walked([hosts])
    after = walked([hosts, {unit: host for unit, host in hosts.items() if unit != "dp0"}])
    taken = [old.second == new.owner for old, new in zip(before, after, strict=True) if old.owner == "dp0"]
    # The one on the same host had no copies, and gets a share all the same.
    assert sum(taken) >= len(taken) * 3 // 4
    moved = [n for n, (giver, _) in moves(before, after).items() if giver != "dp0"]
    assert len(moved) <= SHARDS // 30


def test_without_units_there_is_nobody() -> None:
    assert assign({}, walked([{"dp1": "h1"}])) == NOTHING
