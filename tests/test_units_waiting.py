"""Nobody waits for a unit that died: who gives it flows is told, whatever it does meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from trunkline.compiler.unit_slices import UnitSlice
from trunkline.errors import Unavailable
from trunkline.resources.reports import UnitStatus
from trunkline.units import peers
from trunkline.units.peers import Peers
from trunkline.units.unit import Place, Unit
from trunkline.units.wire import Wire
from trunkline.units.words import Forget, Lead, ShardWord, Suspect, Word


class Giving:
    """A role that is done with nothing before it is told that a unit may have died."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.done: list[Word] = []

    async def want(self, slice_: UnitSlice) -> None:
        """Nothing."""

    async def told(self, word: Word) -> None:
        await self.lost.wait()
        self.done.append(word)

    def suspect(self, unit: int) -> None:
        assert unit == 7
        self.lost.set()

    def status(self) -> UnitStatus:
        return UnitStatus(incarnation="")

    def table(self) -> tuple[ShardWord, ...]:
        return ()

    async def run(self) -> None:
        """Nothing goes on."""


async def _suspects(tmp_path: Path) -> list[int]:
    role = Giving()
    unit = Unit(tmp_path / "socket", Place("bus", "control", tmp_path), {})
    server = await asyncio.start_server(lambda r, w: unit.serve(role, r, w), "127.0.0.1", 0)
    async with server, asyncio.timeout(10):
        wire = Wire(*await asyncio.open_connection(*server.sockets[0].getsockname()[:2]))
        hearing = asyncio.create_task(_hear(wire))
        await wire.ask(Lead, 1, 230)
        order = [asyncio.create_task(wire.ask(Forget, (shard,))) for shard in (1, 2)]
        await asyncio.sleep(0)
        await wire.ask(Suspect, 7)
        await asyncio.gather(*order)
        hearing.cancel()
    return [shard for word in role.done if isinstance(word, Forget) for shard in word.shards]


async def _hear(wire: Wire) -> None:
    async for _ in wire.heard():
        pass


def test_a_unit_hears_who_died_while_it_does_something_and_does_the_rest_in_order(tmp_path: Path) -> None:
    assert asyncio.run(_suspects(tmp_path)) == [1, 2]


def test_a_connection_that_is_about_to_be_made_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(address: str, port: int, patience: float) -> Wire:
        await asyncio.sleep(3600)
        raise AssertionError

    async def give_up() -> None:
        known = Peers()
        known.know({7: "::1"})
        waiting = asyncio.create_task(known.to(7))
        await asyncio.sleep(0.01)
        known.leave(7)
        with pytest.raises(Unavailable, match="let go of"):
            await waiting
        again = asyncio.create_task(known.to(7))
        await asyncio.sleep(0.01)
        known.know({})
        with pytest.raises(Unavailable):
            await again

    monkeypatch.setattr(peers.Wire, "connect", never)

    async def soon() -> None:
        async with asyncio.timeout(10):
            await give_up()

    asyncio.run(soon())
