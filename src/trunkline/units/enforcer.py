"""The policy that a data plane's kernel goes by: made ready, put in force, and kept fitting.

    Prepare ── read, ruleset, nft: maps  ──▶ ready ── Commit: nft: rules ──▶ in force
               proxy: checked                         proxy: both listen, then the one before ends

What is in force depends on the legs, and, where a policy limits something, on how much of the appliance is
here: when these change, the same policy becomes other rules.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from trunkline.compiler.unit_slices import LegSlice, RuleTables
from trunkline.errors import Refusal
from trunkline.resources.appliance_policy import Policy
from trunkline.units.balancing import NOTHING, Seen, Slots, changes, slots_of
from trunkline.units.documents import read
from trunkline.units.proxy import Proxy
from trunkline.units.router import DROPPED, apply, counters
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
    #: Of the firewall's rules, where they came with the policy.
    tables: RuleTables | None
    #: What its maps of members hold.
    slots: Slots

    @property
    def limits(self) -> bool:
        """Whether a part of the appliance's limits is here."""
        firewall, balancer = self.policy.firewall, self.policy.balancer
        limited = balancer is not None and any(listener.connections for listener in balancer.listeners)
        return limited or (
            firewall is not None
            and bool(firewall.syn_protection or any(rule.rate for rule in firewall.rules))
        )


class Enforcer:
    """Owns the table of policies in this process's kernel. For one event loop; work is done in threads."""

    def __init__(self, proxy: Proxy, memory_mib: int = 256) -> None:
        """`proxy` does what the kernel does not; so much memory is for this process and that."""
        self._proxy, self._memory_mib = proxy, memory_mib
        self._legs: tuple[LegSlice, ...] = ()
        self._share = 1.0
        #: And what it was made to take the place of.
        self._ready: tuple[Rules, Rules | None] | None = None
        self._force: Rules | None = None
        #: Rules that are in the kernel, besides, and not in force.
        self._loaded = ""
        self._seen = NOTHING
        #: What the maps of members hold, and what was known when they came to.
        self._slots: Slots = {}
        self._slots_of: Seen | None = None
        self._lock = asyncio.Lock()
        self._look = asyncio.Event()
        #: What the rules counted, packets and bytes, as it was seen last.
        self.counters: dict[str, tuple[int, int]] = {}

    @property
    def revision(self) -> int:
        """Of the policy in force; 0 where there is none, and nothing is forwarded."""
        return self._force.revision if self._force else 0

    @property
    def dropped(self) -> dict[str, int]:
        """Packets that the rules dropped, by reason, as it was seen last."""
        return {
            name.removeprefix(DROPPED): packets
            for name, (packets, _) in self.counters.items()
            if name.startswith(DROPPED)
        }

    @property
    def policy(self) -> Policy | None:
        """The one in force."""
        return self._force.policy if self._force else None

    def see(self, seen: Seen) -> None:
        """This is known of members: new connections go where it says. No other rule changes."""
        self._seen = seen
        self._look.set()

    def fit(self, legs: Sequence[LegSlice], share: float) -> None:
        """These are the legs, and so much of the appliance is here: what is in force will be for these."""
        self._legs, self._share = tuple(legs), share
        if self._force is not None and not self._fits(self._force):
            self._look.set()

    async def prepare(self, revision: int, document: msgspec.Raw, tables: bytes = b"") -> None:
        """Makes a policy ready: its maps are in the kernel, and no packet comes to them.

        `document` and `tables`: as `words.Prepare`.

        Raises:
            Refusal: it is none, or does not fit the legs, or the kernel does not take it.
        """
        async with self._lock:
            self._ready = None
            policy, known = await asyncio.to_thread(read, document, tables)
            ready = await self._compiled(revision, policy, known)
            await self._proxy.prepare(policy, self._memory_mib)
            await self._load(ready)
            self._ready = ready, self._force

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
                await self._load(ready := await self._compiled(revision, ready.policy, ready.tables))
            # Whoever is let in by the new rules is listened to already, and by the old ones still.
            await self._proxy.start()
            try:
                await self._switch(ready)
            except BaseException:
                self._proxy.give_up()
                raise
            self._proxy.switch()

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
                        force = self._force
                        other = await self._compiled(force.revision, force.policy, force.tables)
                        await self._load(other)
                        await self._switch(other)
                    await self._lead()
                    if self._force is not None:
                        self.counters = await asyncio.to_thread(counters)
            except Refusal as error:
                log.warning("policy %d stays as it is: %s", self.revision, error.message)

    def _fits(self, rules: Rules) -> bool:
        return rules.legs == self._legs and (rules.share == self._share or not rules.limits)

    async def _load(self, rules: Rules) -> None:
        """All of these but what puts them in force, in place of what was loaded and is not in force."""
        if self._loaded:
            await asyncio.to_thread(apply, discarded(self._loaded))
            self._loaded = ""
        *first, last = steps(rules.text)
        if not first:
            await asyncio.to_thread(apply, last, "--check")
        for step in first:
            await asyncio.to_thread(apply, step)
            self._loaded = rules.text

    async def _switch(self, rules: Rules) -> None:
        """What was loaded is in force."""
        await asyncio.to_thread(apply, steps(rules.text)[-1])
        self._loaded, self._force = "", rules
        self._slots, self._slots_of = rules.slots, None
        self._look.set()

    async def _lead(self) -> None:
        """Connections are led to members by what is known of them."""
        force, seen = self._force, self._seen
        if force is None or self._slots_of is seen:
            return
        wanted = await asyncio.to_thread(slots_of, force.policy, seen)
        if lines := changes(force.text, self._slots, wanted):
            await asyncio.to_thread(apply, lines)
        self._slots, self._slots_of = wanted, seen

    async def _compiled(self, revision: int, policy: Policy, tables: RuleTables | None) -> Rules:
        legs, share, seen = self._legs, self._share, self._seen
        before = self._force.text if self._force else None

        def compiled() -> str:
            return ruleset(policy, legs, replaces=before, share=share, seen=seen, tables=tables)

        text = await asyncio.to_thread(compiled)
        return Rules(revision, policy, legs, share, text, tables, slots_of(policy, seen))
