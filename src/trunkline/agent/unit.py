"""One compute unit of the host: its program is kept running, told its slice, and listened to.

    look: does its process run                        wanted, by the slice
        `------------------------ step ------------------------'
                                   |
         one of: stop, start, equip, connect, tell; or nothing

A program that ends is seen at once (pidfd), and started again, with growing pauses if it keeps ending. So is
one that is silent for long and does nothing at all: it is ended first. After the program's end its kernel
forwards for a moment still (`Runtime.linger`), until others have passed it by.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from trunkline.agent.crashes import LONGEST_PAUSE, Crashes
from trunkline.agent.hosting import NotYet, Stuck
from trunkline.agent.unit_runtime import Runtime
from trunkline.compiler.unit_slices import UnitSlice
from trunkline.devices import files, process
from trunkline.devices.process import Process
from trunkline.errors import Refusal
from trunkline.resources.reports import Condition, UnitReport, UnitStatus
from trunkline.units.bequest import bequeath

log = logging.getLogger(__name__)
#: What is not there yet is looked for this often; what is in order, this often. Seconds.
_SOON, _LATER = 0.1, 5.0
#: A program says something every second. One that does not for so long does not count as running, or, where
#: it uses no processor time either, is ended.
_SILENT, _DEAF = 5.0, 40.0
#: Counters alone are no news but this often.
_NEWS = 1.0
#: When others are told what a data plane that has ended had begun, in parts of the time that its kernel goes
#: on; and for how long each is waited for, seconds.
BEQUESTS = ((0.3, 0.08), (1.0, 0.5))
#: Bytes of a status, in a line.
_LONGEST = 16 << 20
State = Literal["starting", "running", "failed"]


class Started(msgspec.Struct, kw_only=True):
    """The state file: what cannot be seen in the process."""

    id: str
    runtime: Literal["namespace", "server"] = "namespace"
    #: The serial that it was started with, None before the first start.
    serial: int | None = None
    restarts: int = 0


class Unit:
    """One unit. Owns its state file, its program, and one task.

    `want` says what for; `want(None)` removes it for good, after which `gone` is set.
    """

    def __init__(
        self,
        started: Started,
        file: Path,
        runtime: Runtime,
        changed: Callable[[], None],
        processes_changed: Callable[[], None],
    ) -> None:
        self._started = started
        self._file = file
        self._runtime = runtime
        #: Processor time that its program had had, and when that was seen to be more than before.
        self._spent, self._stirred = -1.0, 0.0
        self._changed = changed
        self._processes_changed = processes_changed
        self._unit: UnitSlice | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._process: Process | None = None
        self._watcher: asyncio.Task[int | None] | None = None
        self._since, self._begun, self._ended = 0.0, 0.0, 0.0
        self._crashes = Crashes()
        self._not_before = 0.0
        self._failures = 0
        self._problem: Condition | None = None
        self._failed = False
        # The connection: who listens to it, and what was told by it.
        self._writer: asyncio.StreamWriter | None = None
        self._listener: asyncio.Task[None] | None = None
        self._told: UnitSlice | None = None
        self._limited: tuple[float, int] | None = None
        self._status: UnitStatus | None = None
        self._heard, self._news = 0.0, 0.0
        self._load = 0.0
        #: When its use of processors was last looked at, and what it was.
        self._used: tuple[float, float, float] | None = None
        self.gone = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Its process."""
        return self._process.pid if self._process is not None and self._process.alive() else None

    @property
    def lingers(self) -> bool:
        """Its process has ended, and its interfaces are still there."""
        return self._process is not None and not self._process.alive()

    def want(self, unit: UnitSlice | None) -> None:
        """What it should be from now on."""
        if unit != self._unit:
            if unit is not None and self._unit is not None and unit.serial != self._unit.serial:
                self._not_before = 0.0
            self._unit = unit
            self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"unit {self._started.id}")

    def report(self) -> UnitReport:
        """What is seen of it."""
        status = self._status
        return UnitReport(
            id=self._started.id,
            appliance=self._unit.appliance if self._unit is not None else "",
            serial=self._started.serial or 0,
            state=self._state(),
            since=self._since,
            restarts=self._started.restarts,
            problem=self._problem or self._crashes.told,
            status=status,
        )

    def _state(self) -> State:
        if self._process is None:
            return "failed" if self._failed else "starting"
        now = time.monotonic()
        if self._status is not None and now < self._heard + _SILENT:
            return "running"
        begun = self._begun + max(0.0, self._runtime.starting - _DEAF / 2)
        return "failed" if now > max(self._heard, begun) + _DEAF / 2 else "starting"

    def _condition(self, cause: str, remedy: str = "It is tried again by itself.") -> Condition:
        return Condition(what=f"unit {self._started.id}", cause=cause, remedy=remedy)

    async def close(self) -> None:
        """Lets go of it; its program goes on."""
        for task in (self._task, self._listener, self._watcher):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._disconnect()

    # The task.

    async def _run(self) -> None:
        while not self.gone.is_set():
            self._wake.clear()
            try:
                pause = await self._step()
                self._failures, self._problem = 0, None
            except NotYet as error:
                pause = _SOON
                if time.monotonic() > self._begun + _SILENT:
                    self._problem = self._condition(str(error))
            except Exception as error:
                if not isinstance(error, (Refusal, OSError)):
                    log.exception("unit %s", self._started.id)
                self._failures += 1
                pause = min(0.5 * 2 ** min(self._failures, 8), LONGEST_PAUSE)
                self._failed = True
                self._problem = self._condition(str(error))
                if isinstance(error, Stuck):
                    self._problem = self._condition(str(error), error.remedy)
            self._changed()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _step(self) -> float:
        """Does what is to be done next; returns when to look again."""
        unit, running = self._unit, await self._look()
        if unit is None:
            await self._stop()
            await asyncio.to_thread(self._runtime.forget)
            await asyncio.to_thread(self._file.unlink, missing_ok=True)
            self.gone.set()
            self._processes_changed()
            return 0.0
        if running is not None and unit.serial != self._started.serial:
            await self._stop()
            running = None
        if running is None:
            if (wait := self._not_before - time.monotonic()) > 0:
                return wait
            running = await self._start(unit)
        try:
            await asyncio.to_thread(self._runtime.equip, unit, running)
        except (Refusal, OSError):
            if not running.alive():
                # That is what is to be told.
                return _SOON
            raise
        now = time.monotonic()
        if self._heard or now > self._begun + self._runtime.starting:
            limits = (unit.cores, unit.memory_mib)
            if limits != self._limited:
                await asyncio.to_thread(self._runtime.limit, unit)
                self._limited = limits
        if now > max(self._heard, self._begun) + _DEAF and not self._stirs(running, now):
            log.warning("unit %s has been silent for %g s and does nothing: it is ended", unit.id, _DEAF)
            running.signal(signal.SIGKILL)
            return _SOON
        await self._tell(unit)
        return _LATER if self._heard else 1.0

    def _stirs(self, running: Process, now: float) -> bool:
        """Whether it has had processor time of late.

        A fraction of a processor may be slow to speak on a busy host, while its kernel forwards.
        """
        used = process.used(running.pid)
        if used != self._spent:
            self._spent, self._stirred = used, now
        return now <= self._stirred + _DEAF

    async def _look(self) -> Process | None:
        """Its process, if it runs. One that has ended is told."""
        if self._process is None:
            found = await asyncio.to_thread(self._runtime.find)
            if found is not None:
                self._watch(found)
        elif self._watcher is not None and self._watcher.done():
            status = self._watcher.result()
            for part, patience in BEQUESTS:
                await asyncio.sleep(max(0.0, self._ended + part * self._runtime.linger - time.monotonic()))
                await self._bequeath(patience)
            await asyncio.to_thread(self._runtime.cut)
            self._lose()
            words = await asyncio.to_thread(self._runtime.last_words, killed=status == -signal.SIGKILL)
            at = time.strftime("%H:%M:%S")
            cause = f"its program ended at {at} ({_ending(status)}){': ' if words else ''}{words}"
            log.warning("unit %s: %s", self._started.id, cause)
            remedy = "It is started again by itself; `trunkline logs` of its host's agent may say more."
            self._crashes.tell(self._condition(cause, remedy))
            self._not_before = time.monotonic() + self._crashes.count()
            self._failed, self._problem = True, None
            self._changed()
        return self._process

    async def _bequeath(self, patience: float) -> None:
        """What a data plane that has ended had begun lately is the others': once they have passed it by, and
        once before that, for those that cannot wait.
        """
        unit, kernel = self._unit, self._runtime.kernel()
        if unit is None or kernel is None or unit.kind != "data-plane":
            return
        others = (each for each in unit.members if each.kind == "data-plane" and each.number != unit.number)
        try:
            left = await bequeath(kernel, unit.number, [each.control_address for each in others], patience)
        except Exception as error:
            # Whatever it is, the unit is to be cut.
            if not isinstance(error, (Refusal, OSError)):
                log.exception("unit %s", unit.id)
            log.warning("unit %s: what it had begun is not known: %s", unit.id, error)
            return
        log.info("unit %s: the others are told of %d connections that it had begun", unit.id, left)

    def _watch(self, running: Process) -> None:
        self._process, self._since = running, process.since(running.pid)
        self._begun = time.monotonic()
        self._watcher = asyncio.create_task(self._wait(running), name=f"unit {self._started.id} ends")
        self._processes_changed()

    async def _wait(self, running: Process) -> int | None:
        try:
            return await running.wait()
        finally:
            self._ended = time.monotonic()
            self._wake.set()

    def _lose(self) -> None:
        """There is no process any more."""
        self._disconnect()
        self._process = self._watcher = self._status = self._limited = self._used = None
        self._heard, self._load = 0.0, 0.0
        self._processes_changed()

    async def _start(self, unit: UnitSlice) -> Process:
        fresh = unit.serial != self._started.serial
        self._started.restarts = 0 if fresh else self._started.restarts + 1
        self._started.serial = unit.serial
        data = msgspec.json.encode(self._started)
        await asyncio.to_thread(files.replace, self._file, data, durable=False)
        running = await asyncio.to_thread(self._runtime.start, unit)
        self._failed = False
        self._watch(running)
        return running

    async def _stop(self) -> None:
        if self._process is not None:
            if self._watcher is not None:
                self._watcher.cancel()
                await asyncio.gather(self._watcher, return_exceptions=True)
            await asyncio.to_thread(self._runtime.stop, self._process)
            self._lose()

    # The connection.

    async def _tell(self, unit: UnitSlice) -> None:
        """Connects, and says what is wanted where that is another than what was said.

        Raises:
            NotYet: nobody listens.
        """
        if self._writer is None:
            try:
                reader, self._writer = await asyncio.open_unix_connection(
                    str(self._runtime.socket), limit=_LONGEST
                )
            except OSError:
                raise NotYet("its program does not listen yet") from None
            self._listener = asyncio.create_task(self._listen(reader, self._writer))
            # What an agent before this one did not say to its end is over.
            self._writer.write(b"\n")
        if unit != self._told:
            self._writer.write(msgspec.json.encode(unit) + b"\n")
            # Whoever does not read is not waited for: it is ended when it is silent, too.
            self._told = unit

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self._hear(msgspec.json.decode(line, type=UnitStatus))
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            log.warning("unit %s is not understood: %s", self._started.id, error)
        finally:
            if self._writer is writer:
                self._disconnect()
                self._wake.set()

    def _hear(self, status: UnitStatus) -> None:
        now = time.monotonic()
        if not self._heard:
            self._wake.set()
        news = self._status is None or _without_counters(status) != _without_counters(self._status)
        self._look_at_load(now, status.packets_seconds)
        # What the program has started is not its own to see.
        self._status = msgspec.structs.replace(status, load=round(self._load, 3))
        self._heard = now
        if news or now > self._news + _NEWS:
            self._news = now
            self._changed()

    def _look_at_load(self, now: float, packets: float) -> None:
        if self._process is None or self._unit is None or (self._used and now < self._used[0] + 0.5):
            return
        own = self._runtime.used(self._process)
        if self._used is not None:
            at, own_before, packets_before = self._used
            most = max(own - own_before, packets - packets_before) / (now - at)
            self._load = min(1.0, max(0.0, most / self._unit.cores))
        self._used = now, own, packets

    def _disconnect(self) -> None:
        writer, self._writer, self._told = self._writer, None, None
        if writer is not None:
            writer.close()


def _without_counters(status: UnitStatus) -> UnitStatus:
    return msgspec.structs.replace(
        status, load=0.0, packets=0, bytes=0, packets_seconds=0.0, drops={}, flows=0, logged=(), unlogged=0
    )


def _ending(status: int | None) -> str:
    if status is None:
        return "ended"
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
