"""Connections are found by their shards, whoever made them, without going through the kernel's table.

| claim | and in reverse |
| --- | --- |
| what was there before, what the kernel tells of, and what was put is read | none of another shard |
| what ended in a socket here is not read | |
| what is forgotten is not in the kernel any more | others are |
| what ended is not read, whether that was told or not | |
| what was put stays known though the end of an earlier one of its name is heard | once all was heard, not |
| where the kernel could not tell all, all is read anew | |
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from entries import datagrams

from trunkline.devices import namespace
from trunkline.devices.conntrack import Conntrack
from trunkline.units.connections import Connections
from trunkline.units.local import LOCAL

pytestmark = pytest.mark.machine
NETNS = f"cn{os.getpid()}"


@pytest.fixture
def kernel() -> Iterator[Conntrack]:
    """As somebody else changes it."""
    namespace.create(NETNS)
    conntrack = Conntrack(NETNS)
    yield conntrack
    conntrack.close()
    namespace.delete(NETNS)


def names(connections: Connections, *shards: int) -> set[bytes]:
    return {entry.name for some in connections.read(shards) for entry in some}


def there(kernel: Conntrack) -> set[bytes]:
    return {entry.name for entry in kernel.entries()}


def test_what_is_there_is_read_by_its_shard(kernel: Conntrack) -> None:
    before = [datagrams(1000 + n, n % 4) for n in range(600)]
    kernel.put([*before, datagrams(9, 2 | LOCAL)])
    connections = Connections(NETNS)
    put = [datagrams(3000 + n, n % 4) for n in range(600)]
    assert connections.put(put) == []
    assert len(names(connections, 0)) == 300
    came = datagrams(5000, 1)
    kernel.put([came])
    assert came.name not in names(connections, 1)
    connections.heard(came.name, came.mark, gone=False)
    for shard in range(4):
        wanted = {entry.name for entry in (*before, *put, came) if entry.mark == shard}
        assert names(connections, shard) == wanted
    assert names(connections, 1, 3) == names(connections, 1) | names(connections, 3)
    assert names(connections, 4) == set()


def test_what_is_forgotten_is_gone_and_nothing_else(kernel: Conntrack) -> None:
    connections = Connections(NETNS)
    entries = [datagrams(1000 + n, n % 3) for n in range(900)]
    connections.put(entries)
    pieces = sum(1 for _ in connections.forget((0, 1)))
    left = {entry.name for entry in entries if entry.mark == 2}
    assert there(kernel) == left
    assert names(connections, 0, 1, 2) == left
    assert pieces > 2, "others have no turn"


def test_what_ended_is_not_read(kernel: Conntrack) -> None:
    connections = Connections(NETNS)
    told, untold, stays, dropped = (datagrams(1000 + n, 7) for n in range(4))
    connections.put([told, untold, stays, dropped])
    connections.heard_all()
    kernel.drop([told, untold])
    connections.heard(told.name, told.mark, gone=True)
    connections.drop([dropped])
    assert names(connections, 7) == {stays.name}
    assert there(kernel) == {stays.name}


def test_the_end_of_an_earlier_one_says_nothing_of_what_was_put_since(kernel: Conntrack) -> None:
    connections = Connections(NETNS)
    assert names(connections, 7, 8) == set()
    entry = datagrams(1000, 7)
    connections.put([entry])
    # Of the one before, of another shard and of this one: it was on its way when this one was put.
    connections.heard(entry.name, 8, gone=True)
    connections.heard(entry.name, 7, gone=True)
    assert names(connections, 7) == {entry.name}
    connections.heard_all()
    connections.heard(entry.name, 7, gone=True)
    assert names(connections, 7) == set()


def test_where_the_kernel_could_not_tell_all_it_is_read_anew(kernel: Conntrack) -> None:
    connections = Connections(NETNS)
    ended, stays, came = (datagrams(1000 + n, 7) for n in range(3))
    connections.put([ended, stays])
    kernel.drop([ended])
    kernel.put([came])
    connections.lost()
    assert names(connections, 7) == {stays.name, came.name}
    for _ in connections.forget((7,)):
        pass
    assert there(kernel) == set()
