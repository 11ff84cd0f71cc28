"""The policy that a data plane's kernel goes by: made ready, put in force, and kept fitting.

    Prepare ── parse, ruleset, nft --check ──▶ ready ── Commit: nft ──▶ in force

What is in force depends on the legs, and, where a policy limits something, on how much of the appliance is
here: when these change, the same policy becomes other rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from trunkline.compiler.unit_slices import LegSlice
from trunkline.errors import Refusal
from trunkline.resources.appliance_policy import Policy, parse
from trunkline.units.router import apply, dropped
from trunkline.units.ruleset import discarded, ruleset, steps

log = logging.getLogger(__name__)
#: How often it is looked what the rules dropped, seconds.
_LOOK = 5.0


class Rules(msgspec.Struct, frozen=True):
    """A policy as rules for the kernel."""

    revision: int
    policy: Policy
    legs: tuple[LegSlice, ...]
    #: Of the appliance's limits.
    share: float
    text: str

    @property
    def limits(self) -> bool:
        """Whether a part of the appliance's limits is here."""
        firewall = self.policy.firewall
        return firewall is not None and bool(
            firewall.syn_protection or any(rule.rate for rule in firewall.rules)
        )


class Enforcer:
    """Owns the table of policies in this process's kernel. For one event loop; work is done in threads."""

    def __init__(self) -> None:
        self._legs: tuple[LegSlice, ...] = ()
        self._share = 1.0
        #: And what it was made to take the place of.
        self._ready: tuple[Rules, Rules | None] | None = None
        self._force: Rules | None = None
        self._lock = asyncio.Lock()
        self._look = asyncio.Event()
        #: Packets that the rules dropped, by reason, as it was seen last.
        self.dropped: dict[str, int] = {}

    @property
    def revision(self) -> int:
        """Of the policy in force; 0 where there is none, and nothing is forwarded."""
        return self._force.revision if self._force else 0

    def fit(self, legs: Sequence[LegSlice], share: float) -> None:
        """These are the legs, and so much of the appliance is here: what is in force will be for these."""
        self._legs, self._share = tuple(legs), share
        if self._force is not None and not self._fits(self._force):
            self._look.set()

    async def prepare(self, revision: int, document: dict[str, Any]) -> None:
        """Makes a policy ready; changes nothing.

        Raises:
            Refusal: it is none, or does not fit the legs, or the kernel does not take it.
        """
        self._ready = None
        policy = await asyncio.to_thread(parse, document)
        force = self._force
        ready = await self._compiled(revision, policy)
        await asyncio.to_thread(apply, ready.text, "--check")
        self._ready = ready, force

    async def commit(self, revision: int) -> None:
        """Puts in force what was made ready last.

        Raises:
            Refusal: that is not this revision, or the kernel does not take it; what was in force stays.
        """
        async with self._lock:
            if self._ready is None or self._ready[0].revision != revision:
                raise Refusal(f"Policy {revision} is not ready.")
            (ready, force), self._ready = self._ready, None
            if force is not self._force or not self._fits(ready):
                ready = await self._compiled(revision, ready.policy)
            await self._enforce(ready)

    async def run(self) -> None:
        """Keeps what is in force fitting; ends when it is cancelled."""
        while True:
            try:
                async with asyncio.timeout(_LOOK):
                    await self._look.wait()
                # Changes come in crowds.
                await asyncio.sleep(0.2)
            except TimeoutError:
                pass
            self._look.clear()
            try:
                async with self._lock:
                    if self._force is not None and not self._fits(self._force):
                        await self._enforce(await self._compiled(self.revision, self._force.policy))
                    if self._force is not None:
                        self.dropped = await asyncio.to_thread(dropped)
            except Refusal as error:
                log.warning("policy %d stays as it is: %s", self.revision, error.message)

    def _fits(self, rules: Rules) -> bool:
        return rules.legs == self._legs and (rules.share == self._share or not rules.limits)

    async def _enforce(self, rules: Rules) -> None:
        try:
            for step in steps(rules.text):
                await asyncio.to_thread(apply, step)
        except Refusal:
            with contextlib.suppress(Refusal):
                await asyncio.to_thread(apply, discarded(rules.text))
            raise
        self._force = rules

    async def _compiled(self, revision: int, policy: Policy) -> Rules:
        legs, share = self._legs, self._share
        before = self._force.text if self._force else None
        text = await asyncio.to_thread(ruleset, policy, legs, replaces=before, share=share)
        return Rules(revision, policy, legs, share, text)
