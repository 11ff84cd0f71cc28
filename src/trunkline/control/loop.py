"""The loop that drives the world towards the newest revision.

    store --changed--> refresh --> compile --> backend.prepare, apply   (the logical network)
                                         \\--> directory.publish   (each host's slice)
    backend --changed--> observe --> store (what was seen)
    backend --settled--> a rest --> the next round

Level-triggered: it compares what should be with what is, and may be killed anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from trunkline.backends.contract import Applied, Backend, Observation
from trunkline.compiler.incremental import Compiler
from trunkline.compiler.logical import LogicalNetwork
from trunkline.compiler.settings import Settings
from trunkline.compiler.slices import HostSlice
from trunkline.compiler.snapshot import Snapshot
from trunkline.control.replica import Replica
from trunkline.errors import Refusal
from trunkline.store import Store

log = logging.getLogger(__name__)

#: Without any sign of a change, everything is compared again after this many seconds.
SWEEP = 5.0
#: After an application that changed something, the loop waits until the backend could begin with another,
#: at most so many seconds: what is written meanwhile is applied together, with no loss of time.
SETTLING = 2.0
#: Then it rests for as long as all of that took, within these bounds, in seconds: the other half of the time
#: is for requests. The first change after a rest is applied at once.
SHORTEST_REST, LONGEST_REST = 0.03, 1.0
#: Compiling much, the thread that does it lets requests be answered for so long now and then, seconds.
BREATH = 0.001
#: After a failure the next try waits this long, seconds, doubled each time up to the limit.
RETRY, RETRY_LIMIT = 0.2, 5.0


@dataclass
class LoopState:
    """What `status` tells of the loop."""

    revision: int = 0
    applied: Applied = field(default_factory=lambda: Applied(0))
    #: Why the newest revision is not applied, or "".
    trouble: str = ""
    healed: int = 0
    rounds: int = 0
    #: Seconds that the last compilation and the last application took.
    compile_seconds: float = 0.0
    apply_seconds: float = 0.0
    last_round: float = 0.0


class Loop:
    """Owns the path from the store to the backend and the hosts' slices.

    Args:
        publish: called with all slices after each compilation.
        observed: awaited with the backend's observation when it may have changed.
    """

    def __init__(
        self,
        store: Store,
        backend: Backend,
        settings: Settings,
        publish: Callable[[Mapping[str, HostSlice]], None],
        observed: Callable[[Observation, Snapshot], Awaitable[None]],
    ) -> None:
        self.state = LoopState()
        self._store = store
        self._backend = backend
        self._compiler = Compiler(settings, partial(time.sleep, BREATH))
        self._publish = publish
        self._observed = observed
        self._replica = Replica(store)
        #: One of its own: of several that wait, two wake up for each thing to do.
        self._thread = ThreadPoolExecutor(1, "loop")
        #: The newest snapshot, and what was compiled from it.
        self._newest: tuple[Snapshot, LogicalNetwork] | None = None

    async def run(self) -> None:
        """Runs until it is cancelled."""
        await self._backend.start()
        wait = RETRY
        while True:
            started = time.perf_counter()
            try:
                changed = await self._round()
                self.state.trouble = ""
                wait = RETRY
            except Refusal as trouble:
                self.state.trouble = trouble.message
                log.warning("not applied: %s", trouble.message)
            except Exception as error:
                self.state.trouble = f"{type(error).__name__}: {error}"
                log.exception("a round of the loop failed")
                self._replica.forget()
                self._newest = None
            if self.state.trouble:
                await asyncio.sleep(wait)
                wait = min(wait * 2, RETRY_LIMIT)
            else:
                if changed:
                    await self._settle()
                    busy = time.perf_counter() - started
                    await asyncio.sleep(min(max(busy, SHORTEST_REST), LONGEST_REST))
                await self._sign_of_change()

    async def _round(self) -> bool:
        """Brings everything to the newest revision. Returns whether the backend had something to do."""
        self.state.rounds += 1
        started = time.perf_counter()
        if self._newest is None or self._newest[0].revision != self._store.revision:
            running = asyncio.get_running_loop()
            snapshot, network, slices = await running.run_in_executor(self._thread, self._compiled)
            self._newest = snapshot, network
            self._publish(slices)
        snapshot, network = self._newest
        compiled = time.perf_counter()
        applied = await self._backend.apply(network)
        await self._observed(self._backend.observe(), snapshot)
        done = time.perf_counter()
        state = self.state
        state.compile_seconds, state.apply_seconds = compiled - started, done - compiled
        state.revision, state.applied, state.last_round = snapshot.revision, applied, time.time()
        if applied.healed:
            state.healed += applied.healed
            log.warning("healed %d rows that somebody else had changed", applied.healed)
        return bool(applied.inserted or applied.changed or applied.removed)

    def _compiled(self) -> tuple[Snapshot, LogicalNetwork, Mapping[str, HostSlice]]:
        """The newest snapshot, and what follows from it. May take long: in a thread."""
        snapshot = self._replica.refresh()
        network, slices = self._compiler.compile(snapshot)
        self._backend.prepare(network)
        return snapshot, network, slices

    async def _settle(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLING):
                await self._backend.settled()

    async def _sign_of_change(self) -> None:
        revision = self._newest[0].revision if self._newest else 0
        waits = [
            asyncio.create_task(self._store.changed(revision)),
            asyncio.create_task(self._backend.changed()),
        ]
        try:
            await asyncio.wait(waits, timeout=SWEEP, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
