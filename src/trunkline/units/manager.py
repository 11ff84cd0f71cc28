"""A manager: one of a pair, or alone. The one that leads brings shards and policies to all other units.

    agent ── members, policy ──▶ manager ── Lead, Members, Shards, Prepare ... ──▶ units      (reign)
                                    │ ◀── Beat ──▶ the other manager                         (election)

It has no disk. What there is to know of an appliance's shards its units know; without any manager they go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from trunkline.compiler.unit_slices import UnitSlice
from trunkline.errors import Refusal
from trunkline.resources.reports import UnitStatus
from trunkline.units.chronicle import Chronicle
from trunkline.units.election import BEAT, Election
from trunkline.units.peers import Peers
from trunkline.units.reign import Reign
from trunkline.units.unit import Place
from trunkline.units.words import Beat, ShardWord, Word


class Manager:
    """A manager's role."""

    def __init__(self, place: Place, changed: Callable[[], None]) -> None:
        del place
        self._changed = changed
        self._peers = Peers()
        self._chronicle = Chronicle(changed)
        self._slice: UnitSlice | None = None
        self._election: Election | None = None
        self._reign: Reign | None = None
        self._tick = asyncio.Event()

    async def want(self, slice_: UnitSlice) -> None:
        self._slice = slice_
        if self._election is None:
            self._election = Election(slice_.number, _now())
        own = [member for member in slice_.members if member.number == slice_.number]
        self._election.willing = any(not member.leaves for member in own)
        self._peers.know({member.number: member.control_address for member in slice_.members})
        if self._reign is not None:
            self._reign.want(slice_)
        self._tick.set()

    async def told(self, word: Word) -> None:
        """Raises Refusal: it is not for managers."""
        if not isinstance(word, Beat) or self._election is None:
            raise Refusal(f"{type(word).__name__} is nothing for a manager.")
        self._election.heard(word, _now())
        self._tick.set()

    def table(self) -> tuple[ShardWord, ...]:
        return ()

    def suspect(self, unit: int) -> None:
        """As `unit.Role`: it sees by itself who is gone."""

    def status(self) -> UnitStatus:
        reign = self._reign
        return UnitStatus(
            incarnation="",
            epoch=self._election.beat().epoch if self._election is not None else 0,
            policy_revision=reign.policies.revision if reign is not None else 0,
            leads=reign is not None,
            silent=reign.away if reign is not None else (),
            empty=reign.empty if reign is not None else (),
            uncopied=reign.uncopied if reign is not None else 0,
            refused=reign.policies.refused if reign is not None else "",
            events=self._chronicle.events(),
        )

    async def run(self) -> None:
        beats: dict[int, asyncio.Task[None]] = {}
        reigning: asyncio.Task[None] | None = None
        lead = (0, 0)
        try:
            while True:
                self._tick.clear()
                election, slice_ = self._election, self._slice
                assert election is not None
                assert slice_ is not None
                others = {m.number for m in slice_.members if m.kind == "manager"} - {slice_.number}
                election.tick(_now(), others)
                wanted = (election.epoch, election.number) if election.leads else (0, 0)
                if wanted != lead:
                    await _ended(reigning)
                    lead, reigning = wanted, self._begin(election, wanted, slice_)
                    self._changed()
                elif reigning is not None and reigning.done():
                    # Only a mistake of the program ends it: that is not hidden.
                    reigning.result()
                for number in others:
                    if number not in beats or beats[number].done():
                        beats[number] = asyncio.create_task(self._say(number, election), name="beat")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BEAT):
                        await self._tick.wait()
        finally:
            await _ended(reigning)
            for task in beats.values():
                task.cancel()

    def _begin(
        self, election: Election, lead: tuple[int, int], slice_: UnitSlice
    ) -> asyncio.Task[None] | None:
        if lead == (0, 0):
            self._reign = None
            self._chronicle.tell(f"Manager {election.number} does not lead any more.")
            return None

        def refused(epoch: int, manager: int) -> None:
            election.refused(epoch, manager, _now())
            self._tick.set()

        tell, changed = self._chronicle.tell, self._changed
        tell(f"Manager {election.number} leads.", f"Epoch {lead[0]}.")
        self._reign = Reign(lead, slice_, tell, changed, election.followed, refused)
        return asyncio.create_task(self._reign.run(), name="reign")

    async def _say(self, number: int, election: Election) -> None:
        """Tells another manager how it is here; one that does not answer is tried again later."""
        beat = election.beat()
        try:
            wire = await self._peers.to(number)
            await wire.ask(Beat, beat.manager, beat.epoch, beat.leads, beat.willing, patience=1.0)
            await asyncio.sleep(BEAT)
        except Refusal:
            self._peers.leave(number)
            await asyncio.sleep(2 * BEAT)


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _ended(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
