"""What every unit has: its place on the buses, its agent, its managers. What it does is its role's.

    agent ── UnitSlice ──▶ ┌──────┐ ◀── words ── managers
          ◀── UnitStatus ─ │ unit │ ── Said ──▶
                           └──────┘
                             role: data plane, dispatcher, manager

The agent speaks JSON, a line each way, on a unix socket that the unit listens at. One that comes back says it
all again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from trunkline.compiler.unit_slices import UnitSlice
from trunkline.devices import namespace
from trunkline.errors import Refusal, Unavailable
from trunkline.resources.reports import UnitStatus
from trunkline.units.version import version
from trunkline.units.wire import Wire
from trunkline.units.words import (
    PORT,
    Commit,
    Done,
    Has,
    Lead,
    Prepare,
    Recite,
    Recited,
    Said,
    Shards,
    ShardWord,
    Suspect,
    Word,
)

log = logging.getLogger(__name__)
#: How often a unit says how it is, seconds, besides when that changes; and how often that may be.
_SAY_SECONDS, _PAUSE = 1.0, 0.02
#: Between two questions for a neighbour, milliseconds.
ASK_AGAIN = 100


@dataclass(frozen=True)
class Place:
    """What the runtime made for the unit: interfaces that are up, with the MAC addresses of its slice."""

    bus: str
    control: str
    #: For files of the unit's own, which it makes; it goes with the unit.
    folder: Path
    #: Of a dispatcher: the inner ends of its ports, in the order of the legs.
    legs: tuple[str, ...] = ()


def packets_cores(unit: UnitSlice) -> float | None:
    """Of processors, for what the kernel does with a unit's packets; None: a guest is held to its part."""
    return unit.cores if unit.runtime == "namespace" else None


class Role(Protocol):
    """What a unit does. All is called from one event loop."""

    async def want(self, slice_: UnitSlice) -> None:
        """What the agent says, first and whenever it is another."""

    async def told(self, word: Word) -> None:
        """A manager that the unit follows, or another unit, says something; answers are the caller's to give.

        Raises:
            Refusal: it is not done; the message says why.
        """

    def suspect(self, unit: int) -> None:
        """That unit may have died just now: nothing is to wait for it."""

    def status(self) -> UnitStatus:
        """How it is now; `incarnation` is filled in by the caller, and `epoch` where it follows a manager."""

    def table(self) -> tuple[ShardWord, ...]:
        """The shards as it has them now, those that it knows: a manager that is new learns them from here."""

    async def run(self) -> None:
        """What goes on all the time; ends when it is cancelled."""


class Unit:
    """A unit's process. `run` ends when it is cancelled."""

    def __init__(
        self, socket: Path, place: Place, roles: dict[str, Callable[[Place, Callable[[], None]], Role]]
    ) -> None:
        """`roles`, by kind: how to make one, of the place and of what it calls when its status changes."""
        self._socket = socket
        self._place = place
        self._roles = roles
        self._role: Role | None = None
        self._incarnation = secrets.token_hex(8)
        #: The epoch and the number of the manager that it follows.
        self._follows = (0, 0)
        self._changed = asyncio.Event()
        self._slices: asyncio.Queue[UnitSlice] = asyncio.Queue()
        self._managers: set[Wire] = set()
        #: What managers know to be its table.
        self._table: tuple[ShardWord, ...] = ()
        #: The policy that was made ready last, and the one in force.
        self._prepared: Prepare | None = None
        self._policy: Prepare | None = None
        self._agents: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        """Serves its agent, then its managers too."""
        self._socket.unlink(missing_ok=True)
        agent = await asyncio.start_unix_server(self._agent, str(self._socket), limit=64 << 20)
        async with agent, asyncio.TaskGroup() as tasks:
            slice_ = await self._slices.get()
            role = self._role = self._roles[slice_.kind](self._place, self._changed.set)
            own = next(member for member in slice_.members if member.number == slice_.number)
            control = self._place.control
            # Who was asked for before it was there is asked for again soon (RFC 4861, 10: after a second).
            namespace.sysctl(None, [(f"ipv6/neigh/{control}/retrans_time_ms", ASK_AGAIN)])
            namespace.ip(None, f"address replace {own.control_address}/64 dev {control} nodad")
            await role.want(slice_)
            # Who hears how it is may speak to it at once.
            server = await asyncio.start_server(self._peer, own.control_address, PORT)
            tasks.create_task(role.run(), name="role")
            tasks.create_task(self._say(role), name="status")
            tasks.create_task(self._wants(role), name="slices")
            async with server:
                await server.serve_forever()

    async def _wants(self, role: Role) -> None:
        while True:
            slice_ = await self._slices.get()
            try:
                await role.want(slice_)
            except (Refusal, OSError):
                log.exception("what the agent wants cannot be had")
            self._changed.set()

    # The agent.

    async def _agent(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._agents.add(writer)
        self._changed.set()
        try:
            while line := await reader.readline():
                # Agents begin with an empty line, which ends what one before them did not say to its end.
                if line.strip():
                    self._hear(line)
        except (OSError, ValueError) as error:
            log.warning("the agent is not understood: %s", error)
        except asyncio.CancelledError:
            # The unit ends. Python 3.11 tells of servers' tasks that are cancelled as of mistakes.
            pass
        finally:
            self._agents.discard(writer)
            writer.close()

    def _hear(self, line: bytes) -> None:
        try:
            self._slices.put_nowait(msgspec.json.decode(line, type=UnitSlice))
        except msgspec.MsgspecError as error:
            log.warning("the agent is not understood: %s", error)

    # Managers, and other units.

    async def _peer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._role is not None
        # As in `_agent`.
        with contextlib.suppress(asyncio.CancelledError):
            await self.serve(self._role, reader, writer)

    async def serve(self, role: Role, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection, until it ends and all is done that was said on it."""
        wire = Wire(reader, writer)
        words: asyncio.Queue[Word | None] = asyncio.Queue()
        doing = asyncio.create_task(self._do(role, wire, words), name="what is said")
        try:
            async for word in wire.heard():
                if isinstance(word, Suspect):
                    # What is being done may wait for that unit.
                    role.suspect(word.unit)
                    await wire.say(Done(word.n))
                else:
                    words.put_nowait(word)
        except Unavailable:
            pass
        finally:
            words.put_nowait(None)
            try:
                await doing
            finally:
                self._managers.discard(wire)

    async def _do(self, role: Role, wire: Wire, words: asyncio.Queue[Word | None]) -> None:
        """What is said on a connection, in its order."""
        lead: tuple[int, int] | None = None
        with contextlib.suppress(Unavailable):
            while (word := await words.get()) is not None:
                if isinstance(word, Lead):
                    lead = (word.epoch, word.manager)
                    # Whom it followed until now.
                    has = self._has(role)
                    if lead >= self._follows:
                        self._follows = lead
                        self._managers.add(wire)
                        self._changed.set()
                    await wire.say(has)
                if isinstance(word, Said | Has | Done | Recited):
                    continue
                if lead is not None and lead < self._follows:
                    epoch, manager = self._follows
                    await wire.say(Done(word.n, f"Manager {manager} leads, in epoch {epoch}."))
                elif isinstance(word, Lead):
                    await wire.say(Done(word.n))
                elif isinstance(word, Recite):
                    if self._policy is not None:
                        await wire.say(
                            Recited(self._policy.revision, self._policy.document, self._policy.tables)
                        )
                    await wire.say(Done(word.n, "" if self._policy is not None else "It has no policy."))
                else:
                    await wire.answer(word.n, self._told(role, word))

    async def _told(self, role: Role, word: Word) -> None:
        """As the role does; what a manager that is new may ask for is kept."""
        await role.told(word)
        match word:
            case Shards():
                self._table = role.table()
            case Prepare():
                self._prepared = word
            case Commit() if self._prepared is not None and self._prepared.revision == word.revision:
                self._policy = self._prepared

    def _has(self, role: Role) -> Has:
        self._table = role.table()
        return Has(self._incarnation, *self._follows, self._table)

    async def _say(self, role: Role) -> None:
        while True:
            self._changed.clear()
            status = role.status()
            status = msgspec.structs.replace(
                status,
                incarnation=self._incarnation,
                version=version(),
                epoch=max(status.epoch, self._follows[0]),
            )
            words: list[Word] = [self._has(role)] if role.table() != self._table else []
            # Managers have no use for what rules logged.
            words.append(Said(msgspec.structs.replace(status, logged=(), unlogged=0)))
            line = msgspec.json.encode(status) + b"\n"
            for writer in list(self._agents):
                with contextlib.suppress(OSError):
                    writer.write(line)
            for wire in list(self._managers):
                with contextlib.suppress(Unavailable):
                    for word in words:
                        await wire.say(word)
            await asyncio.sleep(_PAUSE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SAY_SECONDS):
                    await self._changed.wait()
