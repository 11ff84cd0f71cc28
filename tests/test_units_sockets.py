"""Which shards of others have connections that end in this data plane's sockets.

| claim | and in reverse |
| --- | --- |
| a shard that was given away counts until it was looked, and then as long as there are some | |
| one of which another connection may begin counts still | until none can begin, and none is found |
| what is this one's own does not count | |
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from trunkline.units import sockets
from trunkline.units.sockets import Sockets


class Scene:
    """A data plane: which shards it has, what it begins in, and what its kernel has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.own, self.begins, self.kernel = {1}, set[int](), set[int]()
        self.said: list[tuple[int, ...]] = []
        #: What happens while it is looked.
        self.meanwhile: Callable[[], None] = lambda: None
        monkeypatch.setattr(sockets, "shards_of_sockets", self._look)
        monkeypatch.setattr(sockets, "_LOOK", 0.01)
        monkeypatch.setattr(sockets, "_ON_ITS_WAY", 0.01)

    def _look(self) -> set[int]:
        found = set(self.kernel)
        self.meanwhile()
        return found

    def play(self, what: Callable[[Sockets], Awaitable[None]]) -> None:
        async def run() -> None:
            made = Sockets(
                self.own.__contains__,
                self.begins.__contains__,
                lambda: True,
                lambda: self.said.append(made.shards),
            )
            task = asyncio.create_task(made.run())
            await what(made)
            task.cancel()

        asyncio.run(run())


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not what():
            await asyncio.sleep(0.005)


def test_what_was_given_away_counts_as_long_as_there_are_some(scene: Scene) -> None:
    scene.kernel = {1, 2}

    async def what(found: Sockets) -> None:
        found.gave((2, 3))
        assert found.shards == found.there == (2, 3)
        await until(lambda: found.shards == (2,))
        assert found.there == (2,)
        scene.kernel.clear()
        await until(lambda: found.shards == ())

    scene.play(what)
    assert scene.said == [(2,), ()]


def test_where_another_may_begin_it_counts_until_none_can(scene: Scene) -> None:
    scene.begins |= {2, 3}

    async def what(found: Sockets) -> None:
        found.gave((2, 3))
        await until(lambda: found.there == ())
        assert found.shards == (2, 3)
        # The kernel was told a moment too late.
        scene.kernel.add(3)
        scene.begins.clear()
        await until(lambda: found.there == (3,))
        assert found.shards == (3,)
        scene.kernel.clear()
        await until(lambda: found.shards == ())

    scene.play(what)


def test_what_ends_to_begin_while_it_is_looked_counts_once_more(scene: Scene) -> None:
    scene.begins |= {2}
    seen: list[tuple[int, ...]] = []

    async def what(found: Sockets) -> None:
        scene.meanwhile = scene.begins.clear
        found.gave((2,))
        await until(lambda: found.there == ())
        seen.append(found.shards)
        await until(lambda: found.shards == ())

    scene.play(what)
    assert seen == [(2,)]
