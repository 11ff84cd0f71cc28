"""What processes of a data plane begin: their answers come back to them, whoever has the other shards.

| claim | and in reverse |
| --- | --- |
| TCP, UDP and echoes reach members inside and outside, of both families, while shards move | |
| their sources are ports of the shards that the data plane has | |
| nobody has a copy of them | what goes through is copied |
| a data plane that has no shards begins nothing | |
"""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import threading
from collections.abc import Iterator

import pytest
from flows import Flow, Ping, Tcp, Udp, comes_through, must_pass
from probes import Space, wait_for
from test_units_dataplane import Managed, managed, spread

from trunkline.plan.shards import SHARDS
from trunkline.units.local import LOCAL, changes, elements
from trunkline.units.words import NOBODY, ShardWord

PLANES = (1, 2, 3)
MEMBERS = [{"address": "10.0.0.5", "port": 80}, {"address": "10.0.0.6", "port": 80}]
#: Data planes begin something themselves where members are asked how they are; here, hardly ever.
LISTENER = {"name": "web", "address": "192.0.2.1", "port": 80, "members": MEMBERS}
ASKED = {"health": {"kind": "tcp", "interval": 60, "timeout": 5}}
POLICY = {
    "firewall": {"rules": [{"name": "all", "action": "accept"}]},
    "balancer": {"listeners": [LISTENER | ASKED]},
}


def test_each_of_the_own_shards_has_its_turn() -> None:
    assert elements(()) == {}
    found = elements({3, 7})
    assert set(found) == set(range(SHARDS))
    assert found[3] == 3
    assert min(list(found.values()).count(shard) for shard in (3, 7)) >= 127


def test_only_what_is_another_one_changes() -> None:
    assert changes({}, {}) == ""
    assert changes({0: 3}, {0: 3, 1: 4}) == f"add element inet local own_shards {{ 1 : {LOCAL | 4} }}\n"
    assert "delete element inet local own_shards { 0 }" in changes({0: 3}, {0: 4})


def begun_here(cloud: Managed, number: int) -> list[Flow]:
    """By the data plane of that number: to members inside and outside."""
    plane = Space(cloud.netns(number))
    ends = [(cloud.lab.client, address) for address in ("10.0.0.5", "fd00:a::5")]
    ends += [(cloud.lab.server, address) for address in ("192.0.2.9", "fd00:b::9")]
    made: list[Flow] = []
    for end, address in ends:
        made += [Tcp(plane, end, address, 80), Udp(plane, end, address, 80), Ping(plane, address)]
    return made


@pytest.fixture(scope="module")
def cloud() -> Iterator[Managed]:
    with managed(*PLANES) as made:
        made.apply(POLICY, 2)
        made.begin(spread(PLANES))
        yield made


@pytest.mark.machine
def test_what_data_planes_begin_comes_back_while_shards_move(cloud: Managed) -> None:
    flows = [flow for number in PLANES for flow in begun_here(cloud, number)]
    must_pass(*flows)
    over = threading.Event()

    def move() -> None:
        chance = random.Random(3)
        while not over.is_set():
            # Whoever has the most gives some: one without any could begin nothing.
            has = {n: [word.shard for word in cloud.table if word.owner == n] for n in PLANES}
            owner = max(PLANES, key=lambda number: len(has[number]))
            shards, (to, third) = has[owner], chance.sample([n for n in PLANES if n != owner], 2)
            cloud.move(chance.sample(shards, min(24, len(shards))), to, chance.choice((owner, third)))

    moving = threading.Thread(target=move)
    moving.start()
    try:
        for _ in range(6):
            must_pass(*flows)
    finally:
        over.set()
        moving.join()
    must_pass(*flows)


@pytest.mark.machine
def test_they_are_of_own_shards_and_nobody_has_a_copy(cloud: Managed) -> None:
    client, server = cloud.lab.client, cloud.lab.server
    plane, before = Space(cloud.netns(1)), cloud.known(1).keys()
    with contextlib.ExitStack() as stack:
        through = stack.enter_context(cloud.connected(Tcp(client, server, "192.0.2.9", 81)))
        own = [
            stack.enter_context(cloud.connected(Tcp(plane, end, address, 82 + n)))
            for n, (end, address) in enumerate(((client, "10.0.0.5"), (server, "192.0.2.9")))
        ]
        must_pass(through, *own)
        new = [entry.mark for name, entry in cloud.known(1).items() if name not in before]
        assert {cloud.table[mark - LOCAL].owner for mark in new if mark & LOCAL} == {1}

        def copied() -> bool:
            known = [entry for n in PLANES for entry in cloud.known(n).values() if not entry.mark & LOCAL]
            names = [entry.name for entry in known]
            return any(names.count(name) == 2 for name in names)

        wait_for(copied, 20, "what goes through is copied")
        for one, other in itertools.combinations(PLANES, 2):
            both = cloud.known(one).keys() & cloud.known(other).keys()
            assert not [name for name in both if cloud.known(one)[name].mark & LOCAL]


@pytest.mark.machine
def test_without_shards_nothing_begins(cloud: Managed) -> None:
    tcp = Tcp(Space(cloud.netns(3)), cloud.lab.client, "10.0.0.5", 80)
    must_pass(tcp)
    table = [ShardWord(shard, 1, 2) for shard in range(SHARDS)]
    cloud.begin(table)
    wait_for(lambda: not comes_through(tcp), 10, "it begins nothing")
    with (
        pytest.raises(OSError, match="not permitted"),
        contextlib.closing(Space(cloud.netns(3)).open(socket.AF_INET, socket.SOCK_DGRAM)) as wire,
    ):
        wire.sendto(b"?", ("10.0.0.5", 80))
    assert {word.former for word in table} == {NOBODY}
