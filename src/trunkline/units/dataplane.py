"""A data plane: a plain router with rules, and the connections of the shards that it has, here and elsewhere.

router      its kernel, a device for each leg
fabric      programs that bring packets from the bus to the legs, and back
ruleset     what a policy is in nftables
replicas    copies of its connections, at other data planes
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from trunkline.compiler.unit_slices import BusMember, LegSlice, UnitSlice
from trunkline.devices.conntrack import Conntrack, Entry, timeouts
from trunkline.errors import Refusal, Unavailable
from trunkline.plan.shards import SHARDS
from trunkline.resources.reports import UnitStatus
from trunkline.units.enforcer import Enforcer
from trunkline.units.fabric import UNITS, Fabric, Leg
from trunkline.units.peers import Peers
from trunkline.units.replicas import SHARD, Copied, Replicas, read
from trunkline.units.router import DROPPED, Router
from trunkline.units.unit import Place
from trunkline.units.words import (
    NOBODY,
    Commit,
    Entries,
    Forget,
    Hand,
    Members,
    Prepare,
    Shards,
    ShardWord,
    Word,
)

log = logging.getLogger(__name__)
#: How long copies are kept, seconds: longer than any kernel keeps what it sees nothing of. The owner says
#: when they end, and tells everything anew more often than that.
_COPY = 10 * 24 * 3600
#: What is to be kept longer than this was a copy.
_COPY_AT_LEAST = 6 * 24 * 3600
#: How many connections are handed over in one message.
_HANDED = 1024
_CONNECTIONS = Path("/proc/sys/net/netfilter/nf_conntrack_count")


class DataPlane:
    """What a data plane does. Owns its kernel's legs, rules and connections, and the programs on its bus."""

    def __init__(self, place: Place, changed: Callable[[], None]) -> None:
        self._place = place
        self._changed = changed
        self._peers = Peers()
        self._legs: tuple[LegSlice, ...] = ()
        self._units: dict[int, str] = {}
        self._table: dict[int, ShardWord] = {}
        #: What units that connections were handed to know of them: by shard, to whom, and then by name.
        self._handed: dict[int, tuple[int, dict[bytes, bytes]]] = {}
        #: Shards that are new here, whose connections are kept longer than is usual.
        self._fresh: set[int] = set()
        self._settle = asyncio.Event()
        self._enforcer = Enforcer()
        self._began = False
        self._load = _Load()

    async def want(self, slice_: UnitSlice) -> None:
        own = next(member for member in slice_.members if member.number == slice_.number)
        if not self._began:
            self._began = True
            self._number = slice_.number
            self._router = Router(self._place.bus, own.bus_mac, self._place.control, own.control_address)
            self._conntrack = Conntrack(None)
            self._replicas = Replicas(self._peers)
            self._router.want(slice_.legs)
            dispatcher = next((m.bus_mac for m in slice_.members if m.kind == "dispatcher"), _NO_MAC)
            legs = [Leg(leg.zone, leg.outside, dispatcher) for leg in slice_.legs]
            self._fabric = Fabric(None, self._place.bus, slice_.number, legs, spreads=False)
        elif [(leg.zone, leg.outside) for leg in slice_.legs] != [(g.zone, g.outside) for g in self._legs]:
            raise Refusal("The zones of a data plane stay as they are: it is to be replaced.")
        else:
            self._router.want(slice_.legs)
        self._legs = slice_.legs
        self._enforcer.fit(self._legs, self._share())
        self._load.cores = slice_.cores
        self._know(slice_.members)

    async def told(self, word: Word) -> None:
        match word:
            case Members():
                self._know(word.members)
            case Shards():
                self._have(word.shards)
            case Prepare():
                await self._enforcer.prepare(word.revision, word.document)
            case Commit():
                await self._enforcer.commit(word.revision)
                self._changed()
            case Hand():
                await self._hand(frozenset(word.shards), word.to)
            case Forget():
                self._forget(word.shards)
            case Entries():
                await self._take(word)
            case _:
                raise Refusal(f"A data plane does not know what {type(word).__name__} is.")

    def table(self) -> tuple[ShardWord, ...]:
        return tuple(self._table.values())

    def status(self) -> UnitStatus:
        counters = self._fabric.counters()
        drops = {name.removeprefix(DROPPED): n for name, n in counters.items() if name.startswith(DROPPED)}
        return UnitStatus(
            incarnation="",
            policy_revision=self._enforcer.revision,
            load=self._load.now(),
            packets=counters["received"] + counters["sent"],
            bytes=counters["received_bytes"] + counters["sent_bytes"],
            drops={name: n for name, n in {**drops, **self._enforcer.dropped}.items() if n},
            shards=sum(word.owner == self._number for word in self._table.values()),
            copies=sum(word.second == self._number for word in self._table.values()),
            flows=int(_CONNECTIONS.read_text()),
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._replicas.run(), name="replicas")
            tasks.create_task(self._settles(), name="settle")
            tasks.create_task(self._enforcer.run(), name="rules")

    # Who there is, and who has what.

    def _know(self, members: Iterable[BusMember]) -> None:
        units = {member.number: member.bus_mac for member in members if member.number < UNITS}
        for number in self._units.keys() | units.keys():
            if self._units.get(number) != units.get(number):
                self._fabric.tell_unit(number, units.get(number))
        self._units = units
        self._peers.know({member.number: member.control_address for member in members})

    def _have(self, words: Iterable[ShardWord]) -> None:
        # What happened until now is told to those who had to know until now.
        self._replicas.gather()
        copied: dict[int, Copied | None] = {}
        for word in words:
            before = self._table.get(word.shard)
            self._table[word.shard] = word
            owner, former = (None if unit == NOBODY else unit for unit in (word.owner, word.former))
            self._fabric.tell_shard(word.shard, owner, former)
            copied[word.shard] = None
            if word.owner == self._number:
                self._handed.pop(word.shard, None)
                complete = word.former == NOBODY
                if word.second not in (NOBODY, self._number):
                    copied[word.shard] = Copied(word.second, complete)
                if complete and (before is None or (before.owner, before.former) != (word.owner, NOBODY)):
                    self._fresh.add(word.shard)
                    self._settle.set()
        self._replicas.copy(copied)
        self._enforcer.fit(self._legs, self._share())
        self._changed()

    def _share(self) -> float:
        """How much of what the appliance forwards begins here."""
        return (sum(map(self._owns, self._table)) or SHARDS) / SHARDS

    async def _settles(self) -> None:
        """Who was a copy is kept as long as is usual from now on, if no packet has seen to that."""
        usual = timeouts()
        while True:
            await self._settle.wait()
            self._settle.clear()
            fresh, self._fresh = self._fresh, set()
            for some in read(fresh):
                self._conntrack.change(
                    entry.timeout_alone(usual(entry))
                    for entry in some
                    if entry.timeout > _COPY_AT_LEAST and self._owns(entry.mark)
                )
                await asyncio.sleep(0)

    def _owns(self, mark: int) -> bool:
        word = self._table.get(mark & SHARD)
        return word is not None and word.owner == self._number

    # Connections that move.

    async def _hand(self, shards: frozenset[int], to: int) -> None:
        """Gives another one the connections of shards; when it was given them before, what changed since."""
        for shard in shards:
            if shard in self._handed and self._handed[shard][0] != to:
                del self._handed[shard]
        knows = {shard: self._handed.pop(shard, (to, {}))[1] for shard in shards}
        news = []
        for some in read(shards):
            for entry in some:
                name, known = entry.name, knows[entry.mark & SHARD]
                if known.get(name) != entry.lasting(0).told:
                    known[name] = entry.lasting(0).told
                    news.append(entry)
            await asyncio.sleep(0)
        try:
            wire = await self._peers.to(to)
            for start in range(0, len(news), _HANDED):
                await wire.ask(Entries, tuple(news[start : start + _HANDED]))
        except Unavailable:
            self._peers.leave(to)
            raise
        self._handed |= {shard: (to, known) for shard, known in knows.items()}

    def _forget(self, shards: Iterable[int]) -> None:
        for shard in shards:
            self._handed.pop(shard, None)
            if self._owns(shard):
                del self._table[shard]
                self._fabric.tell_shard(shard, None)
        self._replicas.copy(dict.fromkeys(shards))
        for shard in shards:
            self._conntrack.drop_marked(shard, SHARD)
        # That they went is nobody's news, whoever has these shards next.
        self._replicas.gather()
        self._changed()

    async def _take(self, word: Entries) -> None:
        """Connections of shards that are its own, or those of which it has copies."""
        entries = [Entry(mark, told) for mark, told in word.there]
        refused = self._conntrack.put(
            entry if self._owns(entry.mark) else entry.lasting(_COPY) for entry in entries
        )
        self._conntrack.drop(Entry(mark, name) for mark, name in word.gone)
        copies = {shard for shard in word.all_of if not self._owns(shard)}
        if copies:
            names = {entry.name for entry in entries}
            for some in read(copies):
                stale = [entry for entry in some if entry.name not in names]
                self._conntrack.drop(entry for entry in stale if not self._owns(entry.mark))
                await asyncio.sleep(0)
        if refused:
            log.warning(
                "%d of %d connections are not taken: errno %d", len(refused), len(entries), refused[0][1]
            )


_NO_MAC = "00:00:00:00:00:00"


class _Load:
    """How much of its processors this process uses; what its kernel forwards is on other accounts."""

    def __init__(self) -> None:
        self.cores = 1.0
        self._at, self._used, self._load = time.monotonic(), time.process_time(), 0.0

    def now(self) -> float:
        at, used = time.monotonic(), time.process_time()
        if at - self._at > 0.5:
            self._load = min(1.0, (used - self._used) / (at - self._at) / self.cores)
            self._at, self._used = at, used
        return round(self._load, 3)
