"""``python -m trunkline.units.prober``: the part of a dispatcher that must not be late, a process by itself.

    dispatcher ── Told ──▶ prober ── PROBE ──▶ data planes, dispatchers
               ◀── Seen ──        ◀── ECHO ──  (from their kernels)
                             │
                             └──▶ the programs' maps: which unit a shard goes to; the legs' addresses

It probes all on the in-band bus, gives the shards of who is silent to their seconds, and takes legs and
yields them (`serving`). Who misses a probe is asked on the out-of-band bus, too: a kernel that is late with
what the one brings is not dead as long as it answers on the other. Where the program of a unit has ended, its
kernel answers just that, and forwards for a moment still: nobody waits for it to miss probes.

It is scheduled before everything else that is not promised a processor, so that no answer is missed because
nobody looked; where that is refused it says so and goes on. It ends with its dispatcher, whose kernel says so
then.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

from trunkline.compiler.unit_slices import AdvertisedSlice
from trunkline.devices.bpf import Map
from trunkline.errors import Unavailable
from trunkline.units.advertiser import Advertiser
from trunkline.units.leg import LegDevice
from trunkline.units.serving import Change, Heard, Serving
from trunkline.units.watch import INTERVAL, LAST, Owners, Watch
from trunkline.units.words import NOBODY, ShardWord

#: Of the fabric's frames (units/fabric.bpf.c): LEGS, `struct probe` with the header before it.
LEGS = 8
_FRAME = struct.Struct(f"!6sBBBBHH6sBBI{LEGS}III")
_LOCAL, _PROBE, _ECHO, _ETHERTYPE = 0x02, 5, 6, 0x88B5
_READY, _LEAVES, _GONE = 1, 2, 4
_NUMBER = struct.Struct("=I")
_LEG, _SELF, _SHARD = struct.Struct("=12sI"), struct.Struct("=8sBB2s"), struct.Struct("=HHH")
_NO_UNIT = 0xFFFF
#: Who wakes so much later than he wanted may be what is slow.
_LATE = 0.01
#: How often those who missed one are probed until they are silent, or not: who has a full queue loses most.
#: But no more of a processor is spent on that than this part: who goes before others is held to a tenth.
_SUSPECTED, _SPENT = 0.002, 0.06
#: An answer to what was asked so many rounds ago says nothing any more.
_OLD = 3
#: When a leg's neighbours are told, after it was taken, seconds.
_ANNOUNCE = (0.0, 0.05, 0.3, 1.0)
#: How long it is enough that another dispatcher hears a unit. It may be cut off from this one.
_HEARSAY = 1.0
_SAY = 1.0
_PDEATHSIG, _RESET_ON_FORK = 1, 0x40000000


class ProbedMember(msgspec.Struct, frozen=True, array_like=True):
    """A data plane or another dispatcher."""

    unit: int
    kind: Literal["data-plane", "dispatcher"]
    mac: str
    #: On the out-of-band bus; "" where it is not asked there.
    beside: str = ""


class Told(msgspec.Struct, frozen=True, array_like=True):
    """What the dispatcher says: all members, all addresses by leg, and the shards that are new."""

    members: tuple[ProbedMember, ...]
    addresses: tuple[tuple[str, ...], ...]
    leaves: bool
    shards: tuple[ShardWord, ...] = ()
    #: Of these, those that a prober before this one gave to other units than was told.
    moved: tuple[tuple[int, int], ...] = ()
    #: Who may have died just now.
    suspects: tuple[int, ...] = ()
    #: For so many seconds from now it is to serve nothing; 0: it stays as it is.
    aside: float = 0.0
    #: It is to take what it serves anew.
    retake: bool = False
    #: By leg, what hosts there are told.
    advertised: tuple[AdvertisedSlice | None, ...] = ()


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """What it says itself, when it changes and once a second: also that it runs."""

    serves: tuple[int, ...]
    silent: tuple[int, ...]
    #: What happened, and why.
    events: tuple[tuple[str, str], ...] = ()
    #: Shards that go to another unit than was told, and that unit.
    moved: tuple[tuple[int, int], ...] = ()
    #: Why it runs like everybody else, "" where it does not.
    unscheduled: str = ""


class _Echo(NamedTuple):
    """An answer: of what the kernel of a unit knows."""

    member: ProbedMember
    #: Of the probe.
    round: int
    flags: int
    beat: int
    takes: tuple[int, ...]
    #: Another unit, and how long ago it was heard there, microseconds.
    about: int
    age: int


@dataclass
class _Leg:
    device: LegDevice
    advertiser: Advertiser
    addresses: tuple[str, ...] = ()
    advertised: AdvertisedSlice | None = None
    #: When its neighbours are to be told next.
    announce: list[float] = field(default_factory=list)


class _Bus:
    """An interface for probes and their answers. Owns a socket."""

    def __init__(self, device: str) -> None:
        self.socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(_ETHERTYPE)
        )
        self.socket.bind((device, _ETHERTYPE))
        self.mac: bytes = self.socket.getsockname()[4]


class Prober:
    """Owns the legs' addresses; `run` ends when the dispatcher is gone."""

    def __init__(
        self, unit: int, bus: str, control: str, legs: Iterable[str], maps: dict[str, Map], parent: int
    ) -> None:
        self._unit = unit
        self._parent = socket.socket(fileno=parent)
        self._parent.setblocking(False)
        self._bus = _Bus(bus)
        self._beside = _Bus(control) if control else None
        self._maps = maps
        self._legs = [_Leg(LegDevice(name), Advertiser(name)) for name in legs]
        self._members: dict[int, ProbedMember] = {}
        #: Who was one.
        self._former: frozenset[int] = frozenset()
        self._watch, self._owners = Watch(), Owners()
        # A prober that is started again goes on with what the one before it served.
        self._serving = Serving(unit, [self._leg(number)[1] for number in range(len(self._legs))])
        self._leaves = self._begun = self._alone = False
        self._aside = 0.0
        self._round = self._beat = 0
        #: What the kernel last said of when it heard units, and when they were heard without hearsay.
        self._when: dict[int, bytes] = {}
        self._direct: dict[int, float] = {}
        #: When units were said to have died.
        self._suspected: dict[int, float] = {}
        self._events: list[tuple[str, str]] = []
        self._said: tuple[object, ...] = ()
        self._said_at = 0.0
        self.unscheduled = ""

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._parent, select.POLLIN)
        for each in filter(None, (self._bus, self._beside)):
            poll.register(each.socket, select.POLLIN)
        began = woke = time.monotonic()
        due, asked, pace = began, began, _SUSPECTED
        while True:
            pause = max(0.0, due - time.monotonic())
            poll.poll(1000 * (min(pause, pace) if self._watch.suspects else pause))
            if not self._hears_dispatcher():
                return
            self._hear()
            before, woke = woke, time.monotonic()
            if woke >= due:
                self._interval(woke, late=woke - due > _LATE)
                began, due = woke, max(due + INTERVAL, woke + INTERVAL / 2)
            elif (suspects := self._watch.suspects) and woke - asked >= pace:
                asked_long = [unit for unit in suspects if woke - max(began, self._said_dead(unit)) >= LAST]
                if asked_long and woke - before < pace + _LATE:
                    self._look(woke)
                    self._follow(woke, self._watch.last(asked_long), [])
                self._probe(suspects)
                self._ask_about(suspects)
                asked, pace = woke, max(_SUSPECTED, (time.monotonic() - woke) / _SPENT)

    # What is heard.

    def _hears_dispatcher(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            while data := self._parent.recv(1 << 20):
                self._told(msgspec.msgpack.decode(data, type=Told))
            return False
        return True

    def _told(self, told: Told) -> None:
        known, self._members = self._members, {member.unit: member for member in told.members}
        new = [unit for unit, member in self._members.items() if known.get(unit) != member]
        self._watch.members(self._members, new)
        self._leave(known.keys() - self._members.keys())
        self._leaves = told.leaves
        if told.aside:
            self._aside = time.monotonic() + told.aside
        self._use(self._owners.tell(told.shards, self._unused, dict(told.moved)))
        self._suspect(told.suspects)
        for leg, advertised in zip(self._legs, told.advertised, strict=False):
            if advertised != leg.advertised:
                leg.advertised = advertised
                leg.advertiser.soon()
        for number, (leg, addresses) in enumerate(zip(self._legs, told.addresses, strict=True)):
            before, leg.addresses = leg.addresses, addresses
            if self._serving.takes[number] and before != addresses:
                self._have(number, leg, [address for address in before if address not in addresses])
        if told.retake:
            now = time.monotonic()
            for change in self._serving.again():
                self._change(change, now)
            self._probe(self._members)

    def _suspect(self, units: Iterable[int]) -> None:
        """What these sent until now says nothing of them."""
        if units:
            self._hear()
            self._look(time.monotonic())
        for unit in units:
            self._suspected[unit] = time.monotonic()
            self._watch.suspect(unit)

    def _said_dead(self, unit: int) -> float:
        """When it was last said that the unit may have died."""
        return self._suspected.get(unit, 0.0)

    def _hear(self) -> None:
        now = time.monotonic()
        gone = []
        for bus in filter(None, (self._beside, self._bus)):
            for echo in self._echoes(bus):
                unit = echo.member.unit
                if echo.flags & _GONE:
                    gone += [unit] if self._watch.gone(unit, echo.round) else []
                elif bus is self._beside:
                    self._watch.heard_beside(unit, echo.round)
                else:
                    self._answered(echo, now)
        if gone:
            self._follow(now, gone, [])

    def _answered(self, echo: _Echo, now: float) -> None:
        """A unit answers on the in-band bus."""
        member, about = echo.member, echo.about
        self._watch.heard(member.unit, echo.round)
        self._direct[member.unit] = now
        lately = min(INTERVAL, now - self._said_dead(about))
        if echo.age < lately * 1e6 and now - self._direct.get(about, 0.0) < _HEARSAY:
            self._watch.heard(about)
        if member.kind == "data-plane":
            self._serving.noticed(echo.takes)
        else:
            ready, leaves = bool(echo.flags & _READY), bool(echo.flags & _LEAVES)
            self._serving.heard(member.unit, Heard(echo.takes, ready, leaves, echo.beat), now)

    def _echoes(self, bus: _Bus) -> Iterator[_Echo]:
        """The answers that have come."""
        with contextlib.suppress(BlockingIOError, OSError):
            while True:
                frame = bus.socket.recv(2000)
                if len(frame) < _FRAME.size:
                    continue
                to, _, kind, _, unit, _, _, _, flags, beat, round_, *rest = _FRAME.unpack_from(frame)
                member = self._members.get(unit)
                # What was on its way for long says nothing of now, nor what a prober before this one asked.
                lately = 0 <= self._round - round_ < _OLD
                if kind != _ECHO or to != bus.mac or member is None or not lately:
                    continue
                *takes, about, age = rest
                yield _Echo(member, round_, flags, beat, tuple(takes[: len(self._legs)]), about, age)

    # What follows.

    @property
    def _unused(self) -> frozenset[int]:
        """Who is sent nothing, where another one has what it has."""
        return self._watch.silent | self._former

    def _leave(self, units: Set[int]) -> None:
        """These are no members any more: nobody waits for their silence, nor for a manager."""
        self._former = (self._former | units) - self._members.keys()
        went = self._pass_by() if units else Counter()
        for unit in units & went.keys():
            self._events.append((f"Unit {unit} is no member; {_shards(went[unit])} to their seconds.", ""))

    def _pass_by(self) -> Counter[int]:
        """Sends past those that are unused; returns how many shards of each went to their seconds."""
        before = dict(self._owners.used)
        moved = self._owners.without(self._unused)
        self._use(moved)
        return Counter(before[shard] for shard in moved)

    def _interval(self, now: float, *, late: bool) -> None:
        self._look(now)
        self._follow(now, *self._watch.interval(late=late))
        self._announce(now)
        for leg, take in zip(self._legs, self._serving.takes, strict=True):
            if leg.advertised is not None and take and leg.advertiser.due(now):
                leg.device.advertise(leg.advertised)
        self._round += 1
        self._beat = (self._beat + 1) % 256
        flags = _READY * self._ready() | _LEAVES * self._leaves
        value = self._maps["here"].get(_NUMBER.pack(0), _SELF.size) or bytes(_SELF.size)
        first, _, _, rest = _SELF.unpack(value)
        self._maps["here"].put(_NUMBER.pack(0), _SELF.pack(first, flags, self._beat, rest))
        self._probe(self._members)
        self._say(now)

    def _look(self, now: float) -> None:
        """Who sends is there, though its answers may be lost among what it does not come to."""
        for unit in self._watch.unheard():
            when = self._maps["heard"].get(_NUMBER.pack(unit), 8) or b""
            if when != self._when.get(unit, when):
                self._watch.heard(unit)
                self._direct[unit] = now
            self._when[unit] = when

    def _follow(self, now: float, lost: list[int], back: list[int]) -> None:
        """What follows when these are silent, and those are not any more."""
        went = self._pass_by() if self._watch.silent else Counter[int]()
        for unit in lost:
            passed = 1000 * (now - self._direct.get(unit, now))
            why = "its program ended, as its kernel says"
            if not self._watch.is_gone(unit):
                missed = self._watch.misses(unit)
                why = f"{missed} probes were not answered: nothing came from it for {passed:.0f} ms"
            self._events.append((f"Unit {unit} is silent; {_shards(went[unit])} to their seconds.", why))
        self._events += [(f"Unit {unit} answers again.", "") for unit in back]
        self._begun = self._begun or self._watch.knows()
        if self._begun:
            self._serve(now)

    def _ready(self) -> bool:
        """Whether it can serve: it knows where to send what comes, and reaches somebody who takes it."""
        planes = [unit for unit, member in self._members.items() if member.kind == "data-plane"]
        alone = len(planes) == len(self._members)
        if time.monotonic() < self._aside:
            return False
        return len(self._owners) > 0 and (alone or any(self._watch.answers(unit) for unit in planes))

    def _serve(self, now: float) -> None:
        answering = [
            unit
            for unit, member in self._members.items()
            if member.kind == "dispatcher" and self._watch.answers(unit)
        ]
        others = any(member.kind == "dispatcher" for member in self._members.values())
        if now < self._aside:
            # A manager knows of others, whom this one does not hear.
            changes = self._serving.give_up("it is cut off from others who serve")
        elif others and len(self._watch.silent) == len(self._members) and any(self._serving.takes):
            # Nobody reaches this one. Another one serves now, and its addresses are not to be here too.
            changes = self._serving.give_up("nobody answers on the bus")
        else:
            gone = [unit for unit in self._members if self._watch.is_gone(unit)]
            changes = self._serving.decide(
                answering, now, ready=self._ready(), leaves=self._leaves, gone=gone
            )
        for change in changes:
            self._change(change, now)
        if any(change.take for change in changes):
            self._probe(self._members)
            self._announce(now)

    def _announce(self, now: float) -> None:
        """Tells the neighbours of legs that were taken, where that is due."""
        for leg in self._legs:
            if leg.announce and leg.announce[0] <= now:
                leg.announce.pop(0)
                leg.device.announce(leg.addresses)

    def _change(self, change: Change, now: float) -> None:
        leg = self._legs[change.leg]
        known, before = self._leg(change.leg)
        self._maps["legs"].put(_NUMBER.pack(change.leg), _LEG.pack(known, change.take))
        if change.take:
            # Who serves it still has to say so too: another one may have told the neighbours, and ended.
            leg.announce = [now + later for later in _ANNOUNCE]
        if change.take and not before:
            self._have(change.leg, leg, [])
            leg.advertiser.soon()
            self._events.append((f"Serves leg {change.leg} from now on.", change.cause))
        elif before and not change.take:
            leg.announce = []
            with contextlib.suppress(OSError):
                leg.device.remove(leg.addresses)
            self._events.append((f"Does not serve leg {change.leg} any more.", change.cause))

    def _have(self, number: int, leg: _Leg, gone: Iterable[str]) -> None:
        try:
            leg.device.remove(gone)
            leg.device.add(leg.addresses)
        except OSError as error:
            self._events.append((f"The addresses of leg {number} cannot be had.", str(error)))
        leg.announce = [0.0, *leg.announce]

    def _use(self, units: dict[int, int]) -> None:
        for shard, unit in units.items():
            value = _SHARD.pack(_NO_UNIT if unit == NOBODY else unit, _NO_UNIT, 0)
            self._maps["shards"].put(_NUMBER.pack(shard), value)

    def _leg(self, number: int) -> tuple[bytes, int]:
        """What the programs know of a leg, and the number with which it is served."""
        value = self._maps["legs"].get(_NUMBER.pack(number), _LEG.size) or bytes(_LEG.size)
        known, take = _LEG.unpack(value)
        return known, take

    def _ask_about(self, suspects: Iterable[int]) -> None:
        """Other dispatchers may hear what this one does not: what leaves comes to who serves the leg."""
        others = [unit for unit, member in self._members.items() if member.kind == "dispatcher"]
        for suspect in suspects:
            if self._members[suspect].kind != "data-plane":
                continue
            self._probe([unit for unit in others if unit != suspect and self._watch.answers(unit)], suspect)

    def _probe(self, units: Iterable[int], about: int = 0) -> None:
        takes = [*self._serving.takes, *([0] * LEGS)][:LEGS]
        for unit in units:
            member = self._members[unit]
            self._send(self._bus, member.mac, takes, about)
            if self._beside is not None and member.beside and self._watch.misses(unit) and not about:
                # Takes are for the in-band bus alone: they say where on it this one is.
                self._send(self._beside, member.beside, [0] * LEGS, 0)

    def _send(self, bus: _Bus, mac: str, takes: Iterable[int], about: int) -> None:
        head = (bytes.fromhex(mac.replace(":", "")), _LOCAL, _PROBE, 0, self._unit, 0, _ETHERTYPE)
        with contextlib.suppress(OSError):
            bus.socket.send(_FRAME.pack(*head, bus.mac, 0, 0, self._round, *takes, about, 0))

    def _say(self, now: float) -> None:
        serves = tuple(number for number, take in enumerate(self._serving.takes) if take)
        seen = (serves, tuple(sorted(self._watch.silent)), tuple(sorted(self._owners.moved.items())))
        if seen == self._said and not self._events and now < self._said_at + _SAY:
            return
        serves, silent, moved = seen
        message = Seen(serves, silent, tuple(self._events), moved, self.unscheduled)
        with contextlib.suppress(BlockingIOError):
            self._parent.send(msgspec.msgpack.encode(message))
            self._said, self._said_at = seen, now
            self._events.clear()


def _shards(count: int) -> str:
    return f"{count} shard{'' if count == 1 else 's'} went"


def _scheduled() -> str:
    """Goes before all that has no such right; why not, or ""."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | _RESET_ON_FORK, os.sched_param(1))
    except OSError as error:
        return f"It may not be scheduled first: {error.strerror}."
    return ""


def main() -> int:
    """Runs the prober; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="trunkline.units.prober", description="Probes an appliance's units."
    )
    parser.add_argument("--unit", type=int, required=True)
    parser.add_argument("--bus", required=True, help="the interface on the in-band bus")
    parser.add_argument("--control", default="", help="the interface on the out-of-band bus")
    parser.add_argument("--leg", action="append", default=[], help="the legs' interfaces, in their order")
    parser.add_argument("--map", action="append", default=[], help="NAME=DESCRIPTOR of one that is inherited")
    parser.add_argument("--socket", type=int, required=True, help="the descriptor of that to the dispatcher")
    parser.add_argument("--parent", type=int, required=True, help="whose end is its own")
    given = parser.parse_args()
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != given.parent:
        return 0
    maps = {name: Map(int(number), name) for name, _, number in (word.partition("=") for word in given.map)}
    prober = Prober(given.unit, given.bus, given.control, given.leg, maps, given.socket)
    prober.unscheduled = _scheduled()
    # Nothing here makes circles, and a collection takes longer than an answer.
    gc.disable()
    try:
        prober.run()
    except (OSError, Unavailable) as error:
        print(f"the prober ends: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
