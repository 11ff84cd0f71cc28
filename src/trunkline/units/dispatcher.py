"""The dispatcher: spreads what comes by the legs over the data planes, and sends what they give back.

The fabric's programs do the work in the kernel. Here they are told what the manager and the agent say; what
cannot wait, as who is silent and who serves which leg, is the prober's, a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from trunkline.compiler.unit_slices import BusMember, LegSlice, UnitSlice
from trunkline.devices import namespace
from trunkline.errors import Conflict, Refusal
from trunkline.resources.appliance_policy import Zone, check
from trunkline.resources.reports import Condition, UnitEvent, UnitStatus
from trunkline.units.documents import read
from trunkline.units.ends import Ends
from trunkline.units.fabric import COUNTED, Fabric, Leg
from trunkline.units.prober import LEGS, ProbedMember, Seen, Told
from trunkline.units.unit import ASK_AGAIN, Place, packets_cores
from trunkline.units.words import (
    NOBODY,
    Aside,
    Commit,
    Members,
    Prepare,
    Retake,
    Shards,
    ShardWord,
    Word,
)

log = logging.getLogger(__name__)
_MAPS = ("here", "legs", "shards", "heard")
_EVENTS = 20
#: A prober that says nothing for so long is started anew, seconds, where it has said anything, for in a guest
#: that is emulated its start takes a while; and so is one that ended, a little later.
_PATIENCE, _START, _PAUSE = 5.0, 60.0, 0.2
#: An address that each leg has always, and that nobody uses (the dummy address of RFC 7600).
_STAYS = "192.0.0.8/32"


class Dispatcher:
    """A dispatcher's role."""

    def __init__(self, place: Place, changed: Callable[[], None]) -> None:
        self._place, self._changed = place, changed
        self._slice: UnitSlice | None = None
        self._fabric: Fabric | None = None
        self._members: dict[int, BusMember] = {}
        self._shards: dict[int, ShardWord] = {}
        self._seen = Seen((), ())
        self._events: deque[UnitEvent] = deque(maxlen=_EVENTS)
        self._event = 0
        self._prober: socket.socket | None = None
        self._revision = 0
        self._prepared = 0

    # What the agent wants.

    async def want(self, slice_: UnitSlice) -> None:
        """Raises Conflict: there are not as many interfaces as legs, or too many."""
        if len(slice_.legs) != len(self._place.legs) or len(slice_.legs) > LEGS:
            raise Conflict(f"There are {len(slice_.legs)} legs, and interfaces for {len(self._place.legs)}.")
        before, self._slice = self._slice, slice_
        if self._fabric is None:
            self._settings()
            legs = [Leg(name, leg.outside) for name, leg in zip(self._place.legs, slice_.legs, strict=True)]
            self._fabric = Fabric(
                None,
                self._place.bus,
                self._place.control,
                slice_.number,
                legs,
                spreads=True,
                paired=slice_.runtime == "namespace",
            )
            self._ends = Ends(self._fabric)
        self._fabric.limit(packets_cores(slice_))
        if before is None or before.legs != slice_.legs:
            self._routes()
            self._ends.fit(slice_.legs)
        self._are(slice_.members)

    def _settings(self) -> None:
        """The kernel's lookup of routes wants forwarding; it forwards nothing itself."""
        given: list[tuple[str, str | int]] = [("ipv4/ip_forward", 1), ("ipv6/conf/all/forwarding", 1)]
        given += [(f"ipv6/conf/{self._place.bus}/disable_ipv6", 1), ("ipv4/conf/all/rp_filter", 0)]
        for name in self._place.legs:
            # No other leg's address, nor one of the buses, is anybody's business there.
            given += [(f"ipv4/conf/{name}/arp_ignore", 1), (f"ipv4/conf/{name}/rp_filter", 0)]
            given += [(f"ipv6/conf/{name}/accept_dad", 0), (f"ipv6/conf/{name}/accept_ra", 0)]
            # Its link-local address came before that was said: it is made anew, to be used at once. While it
            # is looked whether somebody else has it (RFC 4862, 5.4: a second), no neighbour is asked for.
            given += [(f"ipv6/conf/{name}/disable_ipv6", off) for off in (1, 0)]
            # Nor is whoever waits for a neighbour to wait a second where a question was lost.
            given += [(f"{version}/neigh/{name}/retrans_time_ms", ASK_AGAIN) for version in ("ipv4", "ipv6")]
        namespace.sysctl(None, given)

    def _routes(self) -> None:
        """The legs' routes, whoever has the addresses: with the last one, those of IPv4 would end."""
        assert self._slice is not None
        lines = []
        for name, leg in zip(self._place.legs, self._slice.legs, strict=True):
            lines += [f"link set dev {name} mtu {leg.mtu}", f"address replace {_STAYS} dev {name} scope host"]
            for address in leg.addresses:
                lines.append(f"route replace {ipaddress.ip_interface(address).network} dev {name}")
            lines += [f"route replace {prefix} via {hop} dev {name} onlink" for prefix, hop in leg.routes]
        namespace.ip(None, *lines)

    def _are(self, members: Iterable[BusMember]) -> None:
        assert self._fabric is not None
        there = {member.number: member for member in members}
        for number in self._members.keys() - there.keys():
            self._fabric.tell_unit(number, None)
        for number, member in there.items():
            if member != self._members.get(number):
                self._fabric.tell_unit(number, member.bus_mac)
        self._members = there
        self._tell()

    # What a manager says.

    async def told(self, word: Word) -> None:
        """Raises Refusal: it is not for dispatchers, or comes in the wrong order."""
        fabric = self._fabric
        assert fabric is not None
        match word:
            case Members(members=members):
                self._are(members)
            case Shards(shards=shards):
                self._have(fabric, shards)
            case Aside(seconds=seconds):
                self._tell(aside=seconds)
            case Retake():
                self._tell(retake=True)
            case Prepare():
                self._prepare(word)
            case Commit(revision=revision):
                if revision != self._prepared:
                    raise Conflict(f"Revision {revision} was not prepared, but {self._prepared}.")
                self._ends.commit(time.monotonic())
                self._revision = revision
            case _:
                raise Refusal(f"{type(word).__name__} is nothing for a dispatcher.")
        self._changed()

    def suspect(self, unit: int) -> None:
        """As `unit.Role`: the prober looks at once."""
        self._tell(suspects=(unit,))

    def _have(self, fabric: Fabric, words: tuple[ShardWord, ...]) -> None:
        new = {word.shard: word for word in words}
        self._shards |= new
        moved = tuple(pair for pair in self._seen.moved if pair[0] not in new)
        self._seen = msgspec.structs.replace(self._seen, moved=moved)
        for word in words:
            # For one that is silent, the prober knows better.
            if word.owner not in self._seen.silent:
                fabric.tell_shard(word.shard, None if word.owner == NOBODY else word.owner)
        self._tell(words)

    def _prepare(self, word: Prepare) -> None:
        assert self._slice is not None
        self._prepared = 0
        policy, _ = read(word.document, word.tables)
        check(policy, [Zone(leg.zone, leg.outside, leg.addresses) for leg in self._slice.legs])
        self._ends.prepare(policy)
        self._prepared = word.revision

    # The prober.

    def _tell(
        self,
        shards: Iterable[ShardWord] = (),
        moved: tuple[tuple[int, int], ...] = (),
        suspects: tuple[int, ...] = (),
        aside: float = 0.0,
        retake: bool = False,
    ) -> None:
        """What is known, and these shards and units."""
        if self._prober is None or self._slice is None:
            return
        own = self._members.get(self._slice.number)
        members = tuple(
            ProbedMember(member.number, member.kind, member.bus_mac, member.control_mac)
            for member in self._members.values()
            if member.kind != "manager" and member.number != self._slice.number
        )
        told = Told(
            members,
            tuple(map(_addresses, self._slice.legs)),
            own is None or own.leaves,
            tuple(shards),
            moved,
            suspects,
            aside,
            retake,
            tuple(leg.advertised for leg in self._slice.legs),
        )
        try:
            self._prober.send(msgspec.msgpack.encode(told))
        except OSError:
            # It does not listen: the next one is told everything.
            with contextlib.suppress(OSError):
                self._prober.shutdown(socket.SHUT_RDWR)

    async def run(self) -> None:
        """Has a prober run, always."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._expire(), name="ends")
            tasks.create_task(self._keep(), name="prober")

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(10.0)
            self._ends.expire(time.monotonic())

    async def _keep(self) -> None:
        while True:
            try:
                cause = await self._probes()
            except OSError as error:
                cause = str(error)
            self._happened("The prober is started again.", cause)
            await asyncio.sleep(_PAUSE)

    async def _probes(self) -> str:
        """Runs one until it ends, or says nothing any more; returns why."""
        assert self._slice is not None
        assert self._fabric is not None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        maps = {name: self._fabric.descriptor(name) for name in _MAPS}
        command = [sys.executable, "-m", "trunkline.units.prober", f"--unit={self._slice.number}"]
        command += [f"--bus={self._place.bus}", f"--control={self._place.control}"]
        command += [f"--leg={name}" for name in self._place.legs]
        command += [f"--map={name}={number}" for name, number in maps.items()]
        command += [f"--socket={theirs.fileno()}", f"--parent={os.getpid()}"]
        with ours, theirs:
            ours.setblocking(False)
            process = await asyncio.create_subprocess_exec(
                *command,
                pass_fds=(theirs.fileno(), *maps.values()),
                stdin=asyncio.subprocess.DEVNULL,
            )
            theirs.close()
            try:
                self._prober = ours
                self._tell(self._shards.values(), self._seen.moved)
                patience = _START
                while data := await self._says(ours, patience):
                    self._sees(msgspec.msgpack.decode(data, type=Seen))
                    patience = _PATIENCE
                return f"It ended with status {await process.wait()}."
            except TimeoutError:
                return f"It said nothing for {patience:g} s."
            finally:
                self._prober = None
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    async def _says(self, ours: socket.socket, patience: float) -> bytes:
        async with asyncio.timeout(patience):
            return await asyncio.get_running_loop().sock_recv(ours, 1 << 20)

    def _sees(self, seen: Seen) -> None:
        before, self._seen = self._seen, seen
        for what, cause in seen.events:
            self._happened(what, cause)
        if before != seen:
            self._changed()

    def _happened(self, what: str, cause: str) -> None:
        self._event += 1
        self._events.append(UnitEvent(serial=self._event, at=time.time(), what=what, cause=cause))
        log.info("%s %s", what, cause)
        self._changed()

    # How it is.

    def table(self) -> tuple[ShardWord, ...]:
        """As `unit.Role`; of a shard that went to its second nobody else has a copy."""
        moved = {shard: unit for shard, unit in self._seen.moved if shard in self._shards}
        found = self._shards | {
            n: ShardWord(n, to, NOBODY, self._shards[n].former) for n, to in moved.items()
        }
        return tuple(found[n] for n in sorted(found))

    def status(self) -> UnitStatus:
        """As `unit.Role`."""
        counters = self._fabric.counters() if self._fabric is not None else dict.fromkeys(COUNTED, 0)
        zones = [leg.zone for leg in self._slice.legs] if self._slice is not None else []
        problems = []
        if self._seen.unscheduled:
            remedy = "Give the unit the capability CAP_SYS_NICE, and its cgroup realtime run time."
            problems.append(
                Condition(what="Probes may come late.", cause=self._seen.unscheduled, remedy=remedy)
            )
        begins = "dropped_"
        drops = {name.removeprefix(begins): n for name, n in counters.items() if name.startswith(begins)}
        return UnitStatus(
            incarnation="",
            policy_revision=self._revision,
            packets=counters["received"] + counters["sent"],
            bytes=counters["received_bytes"] + counters["sent_bytes"],
            packets_seconds=counters["processor_time"] / 1e9,
            drops={reason: n for reason, n in drops.items() if n},
            serves=tuple(zones[number] for number in self._seen.serves),
            silent=self._seen.silent,
            events=tuple(self._events),
            problems=tuple(problems),
        )


def _addresses(leg: LegSlice) -> tuple[str, ...]:
    """What who serves a leg has there: hosts know the router by an address of the link."""
    return (*leg.addresses, *([f"{leg.advertised.router}/64"] if leg.advertised is not None else []))
