"""A data plane: a plain router with rules, and the connections of the shards that it has, here and elsewhere.

router      its kernel, a device for each leg
fabric      programs that bring packets from the bus to the legs, and back
ruleset     what a policy is in nftables
proxy       what a policy is in HAProxy
replicas    copies of its connections, at other data planes
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from trunkline.compiler.unit_slices import BusMember, LegSlice, UnitSlice
from trunkline.devices.conntrack import Conntrack, Entry, timeouts
from trunkline.errors import Refusal
from trunkline.plan.shards import SHARDS
from trunkline.resources.reports import Condition, ListenerCount, UnitStatus
from trunkline.units.balancing import Seen, able
from trunkline.units.chronicle import Chronicle
from trunkline.units.connections import SHARD, Connections
from trunkline.units.counting import Counted, count
from trunkline.units.enforcer import Enforcer
from trunkline.units.fabric import UNITS, Fabric, Leg
from trunkline.units.health import Checks
from trunkline.units.local import LocalShards
from trunkline.units.peers import Peers
from trunkline.units.proxy import Proxy
from trunkline.units.replicas import Copied, Replicas
from trunkline.units.router import DROPPED, Router
from trunkline.units.router import counters as count_rules
from trunkline.units.rule_log import RuleLog
from trunkline.units.sockets import Sockets
from trunkline.units.unit import Place, packets_cores
from trunkline.units.words import (
    NOBODY,
    Bequest,
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
#: How often connections of listeners are counted, seconds; where members are chosen by that.
_COUNT, _COUNT_SOON = 3.0, 1.0
#: Counting takes its time where there are many: at most one part in so many of all time.
_COUNT_PART = 10
#: How long shards that have a new owner wait for others, seconds: all connections here are read for them.
_CROWD = 1.0
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
        #: Who had a shard before the one that has it.
        self._owner_before: dict[int, int] = {}
        #: Shards that have a new owner: how long their connections are kept here is to be another time.
        self._fresh: set[int] = set()
        self._settle = asyncio.Event()
        self._proxy = Proxy(place.folder, changed)
        self._sockets = Sockets(self._owns, self._begins_in, lambda: self._proxy.used, self._sockets_changed)
        self._chronicle = Chronicle(changed)
        #: What was counted last, and the time before.
        self._counted = self._before = Counted({}, {})
        self._rule_log = RuleLog()
        self._checks = Checks(self._members_changed, self._chronicle.tell)
        self._began = False

    async def want(self, slice_: UnitSlice) -> None:
        own = next(member for member in slice_.members if member.number == slice_.number)
        if not self._began:
            self._began = True
            self._number = slice_.number
            self._enforcer = Enforcer(self._proxy, slice_.memory_mib)
            self._router = Router(self._place.bus, own.bus_mac, self._place.control, own.control_address)
            self._local = LocalShards(self._place.control)
            self._connections = Connections()
            self._replicas = Replicas(self._peers, self._connections)
            self._router.want(slice_.legs)
            dispatcher = next((m.bus_mac for m in slice_.members if m.kind == "dispatcher"), _NO_MAC)
            legs = [Leg(leg.zone, leg.outside, dispatcher) for leg in slice_.legs]
            self._fabric = Fabric(
                None,
                self._place.bus,
                self._place.control,
                slice_.number,
                legs,
                spreads=False,
                paired=slice_.runtime == "namespace",
            )
        elif [(leg.zone, leg.outside) for leg in slice_.legs] != [(g.zone, g.outside) for g in self._legs]:
            raise Refusal("The zones of a data plane stay as they are: it is to be replaced.")
        else:
            self._router.want(slice_.legs)
        self._fabric.limit(packets_cores(slice_))
        self._legs = slice_.legs
        self._enforcer.fit(self._legs, self._share())
        self._know(slice_.members)

    async def told(self, word: Word) -> None:
        match word:
            case Members():
                self._know(word.members)
            case Shards():
                self._have(word.shards)
            case Prepare():
                await self._enforcer.prepare(word.revision, word.document, word.tables)
            case Commit():
                await self._enforcer.commit(word.revision)
                self._checks.want(self._enforcer.policy)
                self._changed()
            case Hand():
                await self._replicas.hand(word.shards, word.to)
                self._sockets.gave(word.shards)
            case Forget():
                await self._forget(word.shards)
            case Entries():
                await self._take(word)
            case Bequest():
                self._inherit(word)
            case _:
                raise Refusal(f"A data plane does not know what {type(word).__name__} is.")

    def suspect(self, unit: int) -> None:
        """As `unit.Role`: whoever gives it flows stops."""
        self._peers.leave(unit)

    def table(self) -> tuple[ShardWord, ...]:
        return tuple(self._table.values())

    def status(self) -> UnitStatus:
        counters = self._fabric.counters()
        drops = {name.removeprefix(DROPPED): n for name, n in counters.items() if name.startswith(DROPPED)}
        return UnitStatus(
            incarnation="",
            policy_revision=self._enforcer.revision,
            packets=counters["received"] + counters["sent"],
            bytes=counters["received_bytes"] + counters["sent_bytes"],
            packets_seconds=counters["processor_time"] / 1e9,
            drops={name: n for name, n in {**drops, **self._enforcer.dropped}.items() if n},
            shards=sum(word.owner == self._number for word in self._table.values()),
            copies=sum(word.second == self._number for word in self._table.values()),
            flows=int(_CONNECTIONS.read_text()),
            listeners=self._listeners(),
            ends=self._sockets.shards,
            members={**self._checks.states(), **self._proxy.states()},
            events=self._chronicle.events(),
            logged=self._rule_log.newest(),
            unlogged=self._rule_log.more,
            problems=(*self._uncopied(), *self._unanswered(), *self._unlogged()),
        )

    def _listeners(self) -> dict[str, ListenerCount]:
        proxied = self._proxy.counts()
        return {**self._counted.listeners, **proxied}

    def _uncopied(self) -> Iterator[Condition]:
        for number, trouble in self._replicas.troubles():
            yield Condition(what=f"Unit {number} has no copies.", cause=trouble)

    def _unlogged(self) -> Iterator[Condition]:
        firewall = self._enforcer.policy.firewall if self._enforcer.policy is not None else None
        if self._rule_log.problem and firewall is not None and any(rule.log for rule in firewall.rules):
            yield self._rule_log.problem

    def _unanswered(self) -> Iterator[Condition]:
        policy, down = self._enforcer.policy, self._checks.down()
        for listener in policy.balancer.listeners if policy is not None and policy.balancer else ():
            if (
                not listener.through_proxy
                and any(member.weight for member in listener.members)
                and not able(listener, down)
            ):
                yield Condition(
                    what=f"Listener '{listener.name}' leads nowhere.",
                    cause=f"All of its members are down: {len(listener.members)}.",
                    remedy="See why in the events; who comes is led to them again when they answer.",
                )

    def _members_changed(self) -> None:
        coming = {name: each.total for name, each in self._counted.listeners.items()}
        for name in coming:
            before = self._before.listeners.get(name)
            coming[name] -= before.total if before else 0
        self._enforcer.see(Seen(down=self._checks.down(), busy=self._counted.busy, coming=coming))
        self._changed()

    async def _counts(self) -> None:
        """Counts again and again, where there is something to count."""
        conntrack, loop, took = Conntrack(None), asyncio.get_running_loop(), 0.0
        while True:
            policy = self._enforcer.policy
            balancer = policy.balancer if policy is not None else None
            by_load = balancer is not None and any(
                listener.algorithm == "least_connections" for listener in balancer.listeners
            )
            await asyncio.sleep(max(_COUNT_SOON if by_load else _COUNT, took * _COUNT_PART))
            if policy is None or balancer is None:
                continue
            began = loop.time()
            try:
                counters = await asyncio.to_thread(count_rules)
                owned = frozenset(shard for shard in self._table if self._owns(shard))
                here = owned.__contains__
                counted = await asyncio.to_thread(count, policy, conntrack, counters, here)
            except (Refusal, OSError) as error:
                log.warning("what listeners do is not counted: %s", error)
                continue
            took = loop.time() - began
            self._before, self._counted = self._counted, counted
            if by_load:
                self._members_changed()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._replicas.run(), name="replicas")
            tasks.create_task(self._settles(), name="settle")
            tasks.create_task(self._enforcer.run(), name="rules")
            tasks.create_task(self._proxy.run(), name="proxy")
            tasks.create_task(self._counts(), name="counts")
            tasks.create_task(self._rule_log.run(), name="logged packets")
            tasks.create_task(self._sockets.run(), name="sockets")
            tasks.create_task(self._local.run(), name="own connections")

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
        given = [word.shard for word in words if self._owns(word.shard) and word.owner != self._number]
        for word in words:
            before = self._table.get(word.shard)
            self._table[word.shard] = word
            if before is not None and before.owner != word.owner:
                self._owner_before[word.shard] = before.owner
            owner = None if word.owner == NOBODY else word.owner
            former = None if word.former in (NOBODY, self._number) else word.former
            self._fabric.tell_shard(word.shard, owner, former, begins=word.begins)
            copied[word.shard] = None
            if word.owner == self._number or word.former != self._number:
                self._replicas.keep((word.shard,))
            comes = word.owner == self._number and word.former not in (NOBODY, self._number)
            self._connections.comes(word.shard, comes=comes)
            if word.owner == self._number:
                complete = word.former == NOBODY
                if word.second not in (NOBODY, self._number):
                    copied[word.shard] = Copied(word.second, complete)
            if before is None or (before.owner, before.former) != (word.owner, word.former):
                self._fresh.add(word.shard)
                self._settle.set()
        self._replicas.copy(copied)
        self._sockets.gave(given)
        self._enforcer.fit(self._legs, self._share())
        self._begin_in_own()
        self._changed()

    def _begin_in_own(self) -> None:
        """What begins here is of shards that have no connections elsewhere, as far as there are such."""
        own = {shard for shard in self._table if self._owns(shard)}
        self._checks.disturbed()
        alone = {shard for shard in own if self._table[shard].former == NOBODY}
        # Who is about to leave serves those that it has still, and asks members for them.
        self._local.have(alone or own or {*self._sockets.there})

    def _begins_in(self, shard: int) -> bool:
        return self._local.begins_in(shard)

    def _sockets_changed(self) -> None:
        if not any(map(self._owns, self._table)):
            self._begin_in_own()
        self._changed()

    def _share(self) -> float:
        """How much of what the appliance forwards begins here: also for who has it next, for a while."""
        begin = (self._number in (word.owner, word.former) for word in self._table.values())
        return (sum(begin) or SHARDS) / SHARDS

    async def _settles(self) -> None:
        """What was a copy is kept as long as is usual, if no packet has seen to that; what is one, longer."""
        usual = timeouts()

        def lasts(entry: Entry) -> Entry | None:
            word = self._table.get(entry.mark & SHARD)
            if word is None or word.former != NOBODY:
                return None
            if word.owner == self._number and entry.timeout > _COPY_AT_LEAST:
                return entry.timeout_alone(usual(entry))
            if word.second == self._number and entry.timeout < _COPY_AT_LEAST:
                return entry.timeout_alone(_COPY)
            return None

        while True:
            await self._settle.wait()
            await asyncio.sleep(_CROWD)
            self._settle.clear()
            fresh, self._fresh = self._fresh, set()
            for some in self._connections.read(fresh):
                self._connections.change(entry for entry in map(lasts, some) if entry is not None)
                await asyncio.sleep(0)

    def _owns(self, mark: int) -> bool:
        word = self._table.get(mark & SHARD)
        return word is not None and word.owner == self._number

    # Connections that move.

    async def _forget(self, shards: tuple[int, ...]) -> None:
        for shard in shards:
            if self._owns(shard):
                del self._table[shard]
                self._fabric.tell_shard(shard, None)
        self._replicas.copy(dict.fromkeys(shards))
        self._replicas.keep(shards)
        self._replicas.gather()
        for _ in self._connections.forget(shards):
            await asyncio.sleep(0)
        self._begin_in_own()
        self._changed()

    async def _take(self, word: Entries) -> None:
        """Connections of shards that are its own, or those of which it has copies."""
        entries = [Entry(mark, told) for mark, told in word.there]
        # What goes where it was before goes on here, perhaps: it ends by its own time.
        self._connections.drop(Entry(mark, name) for mark, name in word.gone if not self._owns(mark))
        copies = {shard for shard in word.all_of if not self._owns(shard)}
        # Whoever tells all of a shard has all of it, and needs to be given nothing any more.
        self._replicas.keep(copies)
        if copies:
            await self._drop_stale(copies, {entry.name: entry.translations for entry in entries})
        # What has happened here until now is newer than what is told of it.
        self._replicas.gather()
        refused = self._connections.put(
            entry if self._owns(entry.mark) else entry.lasting(_COPY)
            for entry in entries
            if not self._connections.is_newer(entry)
        )
        # One that was further here is newer, or, of copies, another one that had the name before.
        older = [entry for entry, error in refused if error == errno.EBUSY and not self._owns(entry.mark)]
        self._connections.drop(older)
        refused = [pair for pair in refused if pair[1] != errno.EBUSY] + self._connections.put(older)
        if refused:
            problem = f"{len(refused)} of {len(entries)}, {os.strerror(refused[0][1])}"
            log.warning("connections are not taken: %s", problem)

    def _inherit(self, word: Bequest) -> None:
        """Of what a dead one had begun: what is missing here, where it is or may get to be this one's."""

        def ours(mark: int) -> bool:
            has = self._table.get(mark & SHARD)
            if has is None:
                return False
            came = has.owner == self._number and self._owner_before.get(has.shard) == word.unit
            return came or (has.owner == word.unit and has.second == self._number)

        self._replicas.gather()
        # As what is copied: the dead one's kernel may bring it further.
        left = [Entry(mark, told).opened for mark, told in word.there if ours(mark)]
        known = {entry.name: entry for entry in self._connections.find([entry.name for entry in left])}
        # Of what is known it may be news that it went both ways: it is kept for longer.
        missing = [
            entry
            for entry in left
            if entry.name not in known or (entry.assured and not known[entry.name].assured)
        ]
        refused = self._connections.put(
            entry if self._owns(entry.mark) else entry.lasting(_COPY) for entry in missing
        )
        self._replicas.again({entry.mark & SHARD for entry in missing if self._owns(entry.mark)})
        log.info("of %d connections that were left, %d are taken", len(left), len(missing) - len(refused))

    async def _drop_stale(self, shards: Iterable[int], there: Mapping[bytes, bytes]) -> None:
        """Of copies of these shards, leaves those that are there, by name, with their translations."""
        for some in self._connections.read(shards):
            stale = (entry for entry in some if there.get(entry.name) != entry.translations)
            self._connections.drop(entry for entry in stale if not self._owns(entry.mark))
            await asyncio.sleep(0)


_NO_MAC = "00:00:00:00:00:00"
