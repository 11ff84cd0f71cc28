"""A policy comes into force at all units, or at none.

    newest ── Prepare to all ──▶ all are ready ── Commit to dispatchers ── Commit to data planes ──▶ in force
                             └─▶ one refuses, asked again too: nothing has changed anywhere

Dispatchers go first: they are to know what is published, and where sources are translated, before data planes
do it. A unit that does not answer is brought to the policy in force when it is there, before it gets a shard.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from trunkline.compiler.unit_slices import PolicySlice
from trunkline.errors import Refusal, Unavailable
from trunkline.units.documents import said
from trunkline.units.words import Commit, Prepare, Recite, Recited

#: How long a unit may take, seconds: ten thousand rules with a tenth of a core.
_PATIENCE = 60.0
#: When a unit that refused what is in force is asked again.
_AGAIN = 5.0
#: How long after one refused a policy all are asked again, seconds: what a host tells a unit of networks may
#: come later than a policy that speaks of it.
_PAUSES = (0.5, 1.5)
Ask = Callable[..., Awaitable[None]]
#: A document and its rules' tables.
Told = tuple[msgspec.Raw, bytes]


class PolicyRounds:
    """The policies of an appliance, as its leader has them. For one event loop."""

    def __init__(self, ask: Ask, tell: Callable[[str, str], None]) -> None:
        """`ask(unit, word, *values, patience)` as `Wire.ask`; `tell(what, cause)` of events."""
        self._ask, self._tell = ask, tell
        self._newest: PolicySlice | None = None
        #: By revision, as units are told it: made once for all of them.
        self._told: dict[int, Told] = {}
        #: The revision in force; 0 where there is none.
        self.revision = 0
        #: Why the newest is not in force; "" where it is, or is about to be.
        self.refused = ""
        self._refused_revision = 0
        #: By number: whether it is a dispatcher, and the revision that it has.
        self.units: dict[int, tuple[bool, int]] = {}
        #: Units that refused what is in force, and when they are asked again.
        self._later: dict[int, float] = {}

    def want(self, newest: PolicySlice | None) -> None:
        """What the agent says."""
        if newest is not None and (self._newest is None or newest.revision > self._newest.revision):
            self._newest = newest
            self._told[newest.revision] = said(newest.document), newest.tables
            self.refused = ""

    def recited(self, word: Recited) -> None:
        """A unit has this policy in force."""
        if word.revision >= self.revision:
            self._told.setdefault(word.revision, (word.document, word.tables))

    def joined(self, unit: int, *, spreads: bool, revision: int) -> None:
        """A unit is there and has this revision. The highest that any has is in force."""
        self.units[unit] = (spreads, revision)
        self._later.pop(unit, None)
        self._is_in_force(revision)

    def left(self, unit: int) -> None:
        self.units.pop(unit, None)

    def ready(self, unit: int) -> bool:
        """The unit does what is in force, and may have a part in it."""
        has = self.units.get(unit)
        return has is not None and has[1] == self.revision and (self.revision > 0 or not self._due())

    def _due(self) -> bool:
        newest = self._newest
        return newest is not None and newest.revision > max(self.revision, self._refused_revision)

    def _is_in_force(self, revision: int) -> None:
        if revision > self.revision:
            self.revision = revision
            for old in [old for old in self._told if old < revision]:
                del self._told[old]

    async def act(self) -> bool:
        """Does what is to be done next; returns whether there was anything."""
        if self._due() and self.units:
            assert self._newest is not None
            return await self._round(self._newest)
        now = asyncio.get_running_loop().time()
        behind = [unit for unit, (_, revision) in self.units.items() if revision != self.revision]
        behind = [unit for unit in behind if self._later.get(unit, 0.0) <= now]
        if behind and self.revision not in self._told:
            # It was in force before this manager led, and what the agent says is another one.
            await self._learn()
        if not behind or self.revision not in self._told:
            return False
        await asyncio.gather(*(self._bring(unit) for unit in behind))
        return True

    async def _learn(self) -> None:
        for unit, (_, revision) in list(self.units.items()):
            if revision == self.revision:
                with contextlib.suppress(Refusal):
                    await self._ask(unit, Recite, patience=_PATIENCE)
                    return

    async def _round(self, policy: PolicySlice) -> bool:
        """Returns whether it came to an end, one or the other."""
        units = dict(self.units)
        for pause in (*_PAUSES, None):
            answers = await self._all(units, Prepare, policy.revision, *self._told[policy.revision])
            if pause is None or not any(map(_refuses, answers.values())):
                break
            await asyncio.sleep(pause)
        refusals = {unit: error.message for unit, error in answers.items() if _refuses(error)}
        if refusals:
            unit, why = min(refusals.items())
            self._refused_revision = policy.revision
            # All of them say the same, as a rule.
            self.refused = why
            self._tell(f"Policy {policy.revision} is refused: nothing has changed.", f"Unit {unit}: {why}")
            return True
        ready = {unit: has for unit, has in units.items() if unit not in answers}
        if not ready:
            return False
        late: dict[int, Refusal] = {}
        for spreads in (True, False):
            late |= await self._all(
                {unit: has for unit, has in ready.items() if has[0] == spreads}, Commit, policy.revision
            )
        for unit, (spreads, _) in ready.items():
            if unit not in late and unit in self.units:
                self.units[unit] = (spreads, policy.revision)
        if len(late) == len(ready):
            return False
        self._is_in_force(policy.revision)
        which = sorted({*late, *answers})
        self._tell(
            f"Policy {policy.revision} is in force at {len(ready) - len(late)} units.",
            f"It is not yet at {', '.join(map(str, which))}." if which else "",
        )
        return True

    async def _bring(self, unit: int) -> None:
        revision = self.revision
        try:
            await self._ask(unit, Prepare, revision, *self._told[revision], patience=_PATIENCE)
            await self._ask(unit, Commit, revision, patience=_PATIENCE)
        except (Refusal, Unavailable) as error:
            self._later[unit] = asyncio.get_running_loop().time() + _AGAIN
            self._tell(f"Unit {unit} does not take policy {revision}.", error.message)
            return
        if unit in self.units:
            self.units[unit] = (self.units[unit][0], revision)

    async def _all(self, units: Mapping[int, object], word: Any, *values: Any) -> dict[int, Refusal]:
        """Asks all at once; returns those who did not do it, and why."""

        async def one(unit: int) -> Refusal | None:
            try:
                await self._ask(unit, word, *values, patience=_PATIENCE)
            except Refusal as error:
                return error
            return None

        answers = await asyncio.gather(*map(one, units))
        return {unit: error for unit, error in zip(units, answers, strict=True) if error is not None}


def _refuses(error: Refusal) -> bool:
    """It answered, and it was not that it is not there."""
    return not isinstance(error, Unavailable)
