"""The copies that a data plane has elsewhere: the second of a shard knows its connections as they change.

    kernel ── events ──▶ Replicas ── by shard ──▶ Receiver ── Entries, a batch at a time ──▶ the other unit

What happened to a connection within a few milliseconds is told once, as it is in the end. Only shards that
one owns are told of, and what this process itself put into the kernel is nobody's news.

Who is to own a shard next is told of it in the same way, from the moment that it is handed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from trunkline.devices.conntrack import Entry, Event, Lost, Watch
from trunkline.errors import Refusal, Unavailable
from trunkline.units.connections import SHARD, THROUGH, Connections
from trunkline.units.peers import PATIENCE, Peers
from trunkline.units.words import Entries

log = logging.getLogger(__name__)
#: How long news are gathered, seconds, where there are many: a burst costs one message. Where there were few,
#: they are told at once, for what is not copied ends with this unit.
_GATHER, _AT_ONCE, _MANY = 0.012, 0.0, 4
#: How many connections one message tells of, more or less: who is told is not to be busy with it for long,
#: for what it does not know yet ends with this unit.
_SOME = 512
#: How often some thousand events are read before others have their turn.
_ROUNDS = 16
#: How long to wait before one that did not answer is tried again, and one is asked that had no news.
_AGAIN, _QUIET = 0.3, 1.0
#: How often a second is told everything anew, seconds, so that its copies do not run out.
_REFRESH = 6 * 3600.0


@dataclass(frozen=True)
class Copied:
    """A shard that is copied: to whom, and whether what is here is all of it."""

    second: int
    complete: bool


class Replicas:
    """Keeps others informed of what becomes of the connections of shards. For one event loop."""

    def __init__(self, peers: Peers, connections: Connections) -> None:
        self.peers, self.connections = peers, connections
        self._watch = Watch(None, but=connections.port)
        self._copied: dict[int, Copied] = {}
        #: Shards that are handed over: to whom.
        self._handed: dict[int, int] = {}
        self._receivers: dict[int, _Receiver] = {}

    def copy(self, shards: Mapping[int, Copied | None]) -> None:
        """From now on these are copied so, or not at all; others stay as they are.

        What a second does not have of before, it has by `hand`.
        """
        for shard, copied in shards.items():
            self._copied.pop(shard, None)
            if copied is not None:
                self._copied[shard] = copied
                self._receiver(copied.second)

    def again(self, shards: Iterable[int]) -> None:
        """Who has copies of these is told all of them: of some of it there was no news."""
        for shard in shards:
            if (copied := self._copied.get(shard)) is not None:
                self._receiver(copied.second).anew((shard,))

    async def hand(self, shards: Iterable[int], to: int) -> None:
        """Another one knows the connections of these as they are now, and is told of them until `keep`.

        Raises:
            Unavailable, Refusal: it does not know them.
        """
        receiver = self._receiver(to)
        # Who is to be a second may have forgotten what it was told before.
        new = {shard for shard in shards if self._handed.get(shard) != to or self.complete(to, shard)}
        self._handed |= dict.fromkeys(shards, to)
        if new:
            receiver.anew(new)
        self.gather()
        await receiver.told()

    def keep(self, shards: Iterable[int]) -> None:
        """These are not handed over any more."""
        for shard in shards:
            self._handed.pop(shard, None)

    def tells(self, number: int, shard: int) -> bool:
        """Whether that unit is told of a shard."""
        copied = self._copied.get(shard)
        return (copied is not None and copied.second == number) or self._handed.get(shard) == number

    def complete(self, number: int, shard: int) -> bool:
        """Whether it is a copy of all that there is of the shard."""
        return self._copied.get(shard) == Copied(number, True)

    def shards_of(self, number: int) -> set[int]:
        copied = {shard for shard, copied in self._copied.items() if copied.second == number}
        return copied | {shard for shard, to in self._handed.items() if to == number}

    def troubles(self) -> list[tuple[int, str]]:
        """Units that have no copies though they should, and why."""
        return [
            (number, receiver.trouble) for number, receiver in self._receivers.items() if receiver.trouble
        ]

    def gather(self) -> int:
        """Takes note of all that happened up to now: it is of those who have the shards now.

        Returns: how much that was.
        """
        happened = 0
        try:
            for _ in range(_ROUNDS):
                events = self._watch.events()
                if not events:
                    self.connections.heard_all()
                    break
                happened += len(events)
                ended, last = set[bytes](), dict[bytes, Event]()
                for event in events:
                    name = event.name
                    last[name] = event
                    self.connections.heard(name, event.mark, gone=event.gone)
                    if event.gone:
                        ended.add(name)
                for name, event in last.items():
                    shard = event.mark & THROUGH
                    copied, to = self._copied.get(shard), self._handed.get(shard)
                    if copied is not None:
                        self._receivers[copied.second].note(name, event, name in ended)
                    if to is not None:
                        self._receivers[to].note(name, event, name in ended)
        except Lost:
            log.warning("more happened to connections than could be read: all are copied anew")
            self.connections.lost()
            for number, receiver in self._receivers.items():
                receiver.anew(self.shards_of(number))
        return happened

    async def run(self) -> None:
        """Ends when it is cancelled."""
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        pause = _AT_ONCE
        try:
            while True:
                readable.clear()
                loop.add_reader(self._watch.fileno(), readable.set)
                await readable.wait()
                loop.remove_reader(self._watch.fileno())
                await asyncio.sleep(pause)
                # What took long to be read was much, too.
                pause = _GATHER if self.gather() > _MANY else _AT_ONCE
        finally:
            loop.remove_reader(self._watch.fileno())
            for receiver in self._receivers.values():
                receiver.close()
            self._watch.close()

    def _receiver(self, number: int) -> _Receiver:
        if number not in self._receivers:
            self._receivers[number] = _Receiver(self, number)
        return self._receivers[number]


class _Receiver:
    """Another unit, and what it is to be told."""

    def __init__(self, replicas: Replicas, number: int) -> None:
        self._replicas, self._number = replicas, number
        #: Why it is not told; "" where it is.
        self.trouble = ""
        #: By name: connections that changed since it was told.
        self._changed: dict[bytes, Event] = {}
        self._ended: set[bytes] = set()
        #: Shards of which it is to be told all.
        self._anew: set[int] = set()
        self._news = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._wire: object = None
        self._task = asyncio.create_task(self._run(), name=f"what unit {number} is told")

    def note(self, name: bytes, event: Event, ended: bool) -> None:
        """`ended`: one of that name did, though there may be another one since."""
        self._changed[name] = event
        if ended:
            self._ended.add(name)
        self._news.set()

    def anew(self, shards: Iterable[int]) -> None:
        """It is to be told all of these shards."""
        self._anew.update(shards)
        self._news.set()

    async def told(self) -> None:
        """Returns when it knows all that was noted up to now.

        Raises:
            Unavailable, Refusal: it does not.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._news.set()
        await done

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
            problem: Refusal | None = None
            # Who waits from now on waits for what is noted from now on: of that there may be no end.
            waiting, self._waiting = self._waiting, []
            try:
                await self._tell()
            except Refusal as error:
                problem = error
            except OSError as error:
                problem = Unavailable(f"Connections cannot be read: {error}.")
            if problem is not None and problem.message != self.trouble:
                log.warning("unit %d is not told of connections: %s", self._number, problem.message)
            self.trouble = problem.message if problem else ""
            for each in waiting:
                if each.done():
                    continue
                if problem is None:
                    each.set_result(None)
                else:
                    each.set_exception(problem)
            if problem is not None:
                self._replicas.peers.leave(self._number)
                await asyncio.sleep(_AGAIN)

    async def _tell(self) -> None:
        """All that there is to tell now. Nothing is told to one who has no part in any shard."""
        self._news.clear()
        shards = self._replicas.shards_of(self._number)
        if not shards:
            self._changed, self._ended, self._anew = {}, set(), set()
            return
        wire = await self._replicas.peers.to(self._number)
        if wire is not self._wire:
            # It may be another one than it was, without anything.
            self._anew |= shards
        self._wire = wire
        if not (self._anew or self._changed):
            # Whether it is there still is seen only when it is told something.
            await wire.ask(Entries, patience=PATIENCE)
        if self._anew:
            await self._tell_all(self._anew & self._replicas.shards_of(self._number))
        if self._changed:
            await self._tell_changes()

    async def _tell_all(self, shards: set[int]) -> None:
        self._anew = set()
        complete = {shard for shard in shards if self._replicas.complete(self._number, shard)}
        left = sorted(shards)
        try:
            while left:
                there: list[Entry] = []
                told: set[int] = set()
                while left and len(there) < _SOME:
                    told.add(left[-1])
                    for some in self._replicas.connections.read((left.pop(),)):
                        there += some
                        await asyncio.sleep(0)
                await self._say(there, [], complete & told)
                # What happens in other shards is not to wait for all of these.
                await self._tell_changes({*left})
        except BaseException:
            self._anew |= shards
            raise

    async def _tell_changes(self, but: Set[int] = frozenset()) -> None:
        """`but`: shards of which it is yet to be told all, and changes after that."""
        changed, self._changed = self._changed, {}
        ended, self._ended = self._ended, set()
        if but:
            self._changed = {name: event for name, event in changed.items() if event.mark & SHARD in but}
            self._ended = ended & self._changed.keys()
        try:
            names = [name for name in changed if name not in self._changed]
            for start in range(0, len(names), _SOME):
                there, gone, asked = [], [], []
                for name in names[start : start + _SOME]:
                    event = changed[name]
                    if name in ended:
                        gone.append(Entry(event.mark, name))
                    if event.gone:
                        continue
                    if event.whole:
                        # Before this is told the connection may be further, and then nobody there.
                        there.append(event.entry.opened)
                    else:
                        asked.append(name)
                await self._say(there + self._replicas.connections.find(asked), gone, set())
        except BaseException:
            self._anew |= self._replicas.shards_of(self._number)
            raise

    async def _say(self, there: list[Entry], gone: list[Entry], all_of: set[int]) -> None:
        """What it has no part in any more is left out."""

        def told(entries: list[Entry]) -> tuple[tuple[int, bytes], ...]:
            return tuple(e for e in entries if self._replicas.tells(self._number, e.mark & SHARD))

        wire = await self._replicas.peers.to(self._number)
        if wire is not self._wire:
            raise Unavailable("It is another connection now.")
        complete = tuple(shard for shard in all_of if self._replicas.complete(self._number, shard))
        await wire.ask(Entries, told(there), told(gone), complete, patience=PATIENCE)
