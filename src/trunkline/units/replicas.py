"""The copies that a data plane has elsewhere: the second of a shard knows its connections as they change.

    kernel ── events ──▶ Replicas ── by shard ──▶ Second ── Entries, a batch at a time ──▶ the other unit

What happened to a connection within a few milliseconds is told once, as it is in the end. Only shards that
one owns are told of: what others put into this kernel, as copies, is nobody else's news.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from trunkline.devices.conntrack import Conntrack, Entry, Event, Lost, Watch
from trunkline.errors import Refusal, Unavailable
from trunkline.units.peers import PATIENCE, Peers
from trunkline.units.words import Entries

log = logging.getLogger(__name__)
#: The bits of a mark that are the shard.
SHARD = 0xFFFF
#: How long news are gathered, seconds: a burst costs one message.
_GATHER = 0.012
#: How many connections one message tells of; of all that there are, and of those that changed.
_MANY, _SOME = 4096, 512
#: Up to how many shards the kernel looks for each: it goes through its whole table every time.
_FEW = 4
#: How often some thousand events are read before others have their turn.
_ROUNDS = 16
#: How long to wait before a second that did not answer is tried again, and one is asked that had no news.
_AGAIN, _QUIET = 0.3, 1.0
#: How often a second is told everything anew, seconds, so that its copies do not run out.
_REFRESH = 6 * 3600.0


@dataclass(frozen=True)
class Copied:
    """A shard that is copied: to whom, and whether what is here is all of it."""

    second: int
    complete: bool


def read(shards: Iterable[int]) -> Iterator[list[Entry]]:
    """The connections of shards in this kernel, some at a time, so that other work is done between them."""
    wanted = frozenset(shards)
    with contextlib.closing(Conntrack(None)) as conntrack:
        if len(wanted) > _FEW:
            yield from conntrack.dump(lambda mark: mark & SHARD in wanted)
        else:
            for shard in wanted:
                yield conntrack.marked(shard, SHARD)


class Replicas:
    """Keeps others informed of what becomes of the connections of shards. For one event loop."""

    def __init__(self, peers: Peers) -> None:
        self._watch = Watch(None)
        self._conntrack = Conntrack(None)
        self._peers = peers
        self._copied: dict[int, Copied] = {}
        self._seconds: dict[int, _Second] = {}
        #: How often events were lost.
        self.losses = 0

    def copy(self, shards: Mapping[int, Copied | None]) -> None:
        """From now on these are copied so, or not at all; others stay as they are."""
        for shard, copied in shards.items():
            before = self._copied.pop(shard, None)
            if copied is None:
                continue
            self._copied[shard] = copied
            second = self._seconds.get(copied.second)
            if second is None:
                second = self._seconds[copied.second] = _Second(
                    self, self._conntrack, self._peers, copied.second
                )
            if copied != before:
                second.anew({shard})

    def copied_to(self, mark: int) -> Copied | None:
        return self._copied.get(mark & SHARD)

    def shards_of(self, second: int) -> set[int]:
        return {shard for shard, copied in self._copied.items() if copied.second == second}

    def gather(self) -> None:
        """Takes note of all that happened up to now: it is of those who have the shards now."""
        try:
            for _ in range(_ROUNDS):
                events = self._watch.events()
                if not events:
                    break
                for name, event in {event.name: event for event in events}.items():
                    copied = self._copied.get(event.mark & SHARD)
                    if copied is not None:
                        self._seconds[copied.second].note(name, event)
        except Lost:
            self.losses += 1
            log.warning("more happened to connections than could be read: all are copied anew")
            for number, second in self._seconds.items():
                second.anew(self.shards_of(number))

    async def run(self) -> None:
        """Ends when it is cancelled."""
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        try:
            while True:
                readable.clear()
                loop.add_reader(self._watch.fileno(), readable.set)
                await readable.wait()
                loop.remove_reader(self._watch.fileno())
                await asyncio.sleep(_GATHER)
                self.gather()
        finally:
            loop.remove_reader(self._watch.fileno())
            for second in self._seconds.values():
                second.close()
            self._watch.close()
            self._conntrack.close()


class _Second:
    """Another unit with copies, and what it is to be told."""

    def __init__(self, replicas: Replicas, conntrack: Conntrack, peers: Peers, number: int) -> None:
        self._replicas, self._conntrack, self._peers, self._number = replicas, conntrack, peers, number
        #: By name: connections that changed since it was told.
        self._changed: dict[bytes, Event] = {}
        #: Shards of which it is to be told all.
        self._anew: set[int] = set()
        self._news = asyncio.Event()
        self._wire: object = None
        self._task = asyncio.create_task(self._run(), name=f"copies at {number}")

    def note(self, name: bytes, event: Event) -> None:
        self._changed[name] = event
        self._news.set()

    def anew(self, shards: Iterable[int]) -> None:
        """It is to be told all of these shards."""
        self._anew.update(shards)
        self._news.set()

    def close(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        refresh = loop.time() + _REFRESH
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_QUIET):
                    await self._news.wait()
            if loop.time() > refresh:
                self.anew(self._replicas.shards_of(self._number))
                refresh = loop.time() + _REFRESH
            try:
                await self._tell()
            except Unavailable as error:
                log.info("unit %d has no copies now: %s", self._number, error.message)
                self._peers.leave(self._number)
                await asyncio.sleep(_AGAIN)
            except (Refusal, OSError):
                log.exception("unit %d does not take copies", self._number)
                self.anew(self._replicas.shards_of(self._number))
                await asyncio.sleep(_AGAIN)

    async def _tell(self) -> None:
        """All that there is to tell. Nothing is told to one who has no shard to copy."""
        shards = self._replicas.shards_of(self._number)
        if not shards:
            self._changed, self._anew = {}, set()
            self._news.clear()
            return
        wire = await self._peers.to(self._number)
        if wire is not self._wire:
            # It may be another one than it was, without anything.
            self._anew |= shards
        self._wire = wire
        if not (self._anew or self._changed):
            # Whether it is there still is seen only when it is told something.
            await wire.ask(Entries, patience=PATIENCE)
        while self._anew or self._changed:
            if self._anew:
                await self._tell_all(self._anew & shards)
            else:
                await self._tell_changes()
            shards = self._replicas.shards_of(self._number)
        self._news.clear()

    async def _tell_all(self, shards: set[int]) -> None:
        self._anew = set()
        copied = {shard: self._replicas.copied_to(shard) for shard in shards}
        try:
            found: dict[int, list[Entry]] = {shard: [] for shard in shards}
            for some in read(shards):
                for entry in some:
                    found[entry.mark & SHARD].append(entry)
                await asyncio.sleep(0)
            while found:
                there: list[Entry] = []
                told: list[int] = []
                while found and (not told or len(there) + len(found[next(iter(found))]) <= _MANY):
                    shard = next(iter(found))
                    there += found.pop(shard)
                    told.append(shard)
                complete = [shard for shard in told if copied[shard] == Copied(self._number, True)]
                await self._say(there, [], complete)
        except BaseException:
            self._anew |= shards
            raise

    async def _tell_changes(self) -> None:
        changed, self._changed = self._changed, {}
        try:
            names = list(changed)
            for start in range(0, len(names), _SOME):
                there, gone = [], []
                for name in names[start : start + _SOME]:
                    event = changed[name]
                    if event.gone:
                        gone.append(Entry(event.mark, name))
                    elif event.whole:
                        there.append(event.entry)
                    elif (entry := self._conntrack.get(name)) is not None:
                        there.append(entry)
                await self._say(there, gone, [])
        except BaseException:
            self._anew |= self._replicas.shards_of(self._number)
            raise

    async def _say(self, there: list[Entry], gone: list[Entry], all_of: list[int]) -> None:
        """What it has no part in any more is left out."""

        copied_to = self._replicas.copied_to

        def told(entries: list[Entry]) -> tuple[tuple[int, bytes], ...]:
            mine = ((entry, copied_to(entry.mark)) for entry in entries)
            return tuple(entry for entry, copied in mine if copied and copied.second == self._number)

        wire = await self._peers.to(self._number)
        if wire is not self._wire:
            raise Unavailable("It is another connection now.")
        complete = tuple(shard for shard in all_of if copied_to(shard) == Copied(self._number, True))
        await wire.ask(Entries, told(there), told(gone), complete, patience=PATIENCE)
