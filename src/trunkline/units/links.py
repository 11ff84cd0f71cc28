"""A leader's connection to a unit: made again whenever it ends, and never in a hurry."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

from trunkline.compiler.unit_slices import BusMember
from trunkline.errors import Refusal, Unavailable
from trunkline.plan.sides import View
from trunkline.resources.reports import UnitStatus
from trunkline.units.wire import Wire
from trunkline.units.words import PORT, Has, Lead, Members, Recited, Said

#: How long to wait before the next try, seconds: so much longer each time. A unit that begins is there after
#: half a second or two, and is not to wait for this as long again.
_SOON, _LATER, _LONGER = 0.05, 1.0, 1.2
#: How long one try may take, in pauses: what was sent to one who was not there yet would be sent again after
#: a second.
_TRY = 4
#: How long a unit may take to answer that it follows, and to say anything at all.
_PATIENCE, _SILENCE = 3.0, 10.0


class Leader(Protocol):
    """Who a unit's connection is for. All are called from the event loop."""

    def members(self) -> tuple[BusMember, ...]:
        """Who there is."""

    def up(self, link: Link) -> None:
        """The unit follows: `has` and `wire` are set."""

    def down(self, link: Link) -> None:
        """The connection ended."""

    def has(self, link: Link) -> None:
        """The unit has switched shards by itself."""

    def said(self, link: Link) -> None:
        """The unit says how it is."""

    def recited(self, word: Recited) -> None:
        """The unit says which policy it has."""

    def refused(self, epoch: int, manager: int) -> None:
        """The unit follows another manager."""


class Link:
    """One unit. `run` ends when it is cancelled."""

    def __init__(self, member: BusMember, lead: tuple[int, int], leader: Leader) -> None:
        """`lead`: epoch and number of the manager."""
        self.member = member
        self.wire: Wire | None = None
        self.known: Has | None = None
        self.status: UnitStatus | None = None
        self._lead, self._leader = lead, leader
        self._heard = asyncio.get_running_loop().time()
        #: The connection on which an answer did not come.
        self._stuck: Wire | None = None

    def quiet(self) -> float:
        """For how long nothing was heard of the unit, or since this began, seconds."""
        return asyncio.get_running_loop().time() - self._heard

    async def run(self) -> None:
        pause = _SOON
        while True:
            try:
                patience = min(_TRY * pause, _PATIENCE)
                wire = await Wire.connect(self.member.control_address, PORT, patience)
                if await self._follow(wire):
                    pause = _SOON
            except Unavailable:
                pass
            await asyncio.sleep(pause)
            pause = min(_LONGER * pause, _LATER)

    async def ask(self, word: Any, *values: Any, patience: float = 10.0) -> None:
        """As `Wire.ask`; raises Unavailable too where there is no connection.

        A unit does what it is told in its order: what takes too long is not to keep the rest from it.
        """
        wire = self.wire
        if wire is None:
            raise Unavailable(f"Unit {self.member.number} is not connected.")
        try:
            await wire.ask(word, *values, patience=patience)
        except Unavailable:
            self._stuck = wire
            raise

    async def _follow(self, wire: Wire) -> bool:
        """Leads the unit until the connection ends; returns whether it followed."""
        loop = asyncio.get_running_loop()
        self._begin()
        hearing = asyncio.create_task(self._hear(wire), name=f"unit {self.member.number}")
        try:
            try:
                await wire.ask(Lead, *self._lead, patience=_PATIENCE)
                await wire.ask(Members, self._leader.members(), patience=_SILENCE)
            except Refusal:
                if self.known is not None:
                    self._leader.refused(self.known.epoch, self.known.manager)
                return False
            if self.known is None:
                return False
            self.wire, self._heard = wire, loop.time()
            self._leader.up(self)
            while not hearing.done() and loop.time() - self._heard < _SILENCE and self._stuck is not wire:
                await asyncio.wait([hearing], timeout=_SILENCE / 4)
            return True
        finally:
            if self.wire is not None:
                self.wire = None
                self._leader.down(self)
            hearing.cancel()
            await asyncio.wait([hearing])

    def _begin(self) -> None:
        self.known = self.status = None

    async def _hear(self, wire: Wire) -> None:
        async for word in wire.heard():
            self._heard = asyncio.get_running_loop().time()
            if isinstance(word, Has):
                self.known = word
                if self.wire is not None:
                    self._leader.has(self)
            elif isinstance(word, Recited):
                self._leader.recited(word)
            elif isinstance(word, Said):
                self.status = word.status
                if self.wire is not None:
                    self._leader.said(self)


def views(links: Iterable[Link], patience: float) -> dict[int, View]:
    """What dispatchers say that are connected; of one not heard for `patience` seconds it is not fresh."""
    return {
        link.member.number: View(frozenset(said.silent), len(said.serves), link.quiet() < patience)
        for link in links
        if link.wire is not None and (said := link.status) is not None
    }
