"""Starts units in order, watches them, starts the dead again, and tells how it stands.

    waiting ──▶ starting ──▶ running ──▶ backing-off ──▶ starting ...      one task a unit
       ▲ until what it comes after is ready        ▲ 0.1 s, doubled to 5 s while it keeps dying young

Units are not hurt by the keeper's death: the next one finds them by their pid files and goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from trunkline.devices import files, process
from trunkline.devices.process import Command, MissingProgram, Process
from trunkline.devices.state import StateFolder
from trunkline.devices.units import KeeperState, Unit, UnitState, load_keeper, load_units, takes_connections
from trunkline.errors import Unavailable

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
#: Seconds after which a unit that ran is taken for healthy, so that its next death is a first one.
_HEALTHY = 10.0
#: Seconds that a unit has for its socket to answer; those that come after it are started then anyway,
#: and fail with a cause of their own.
_READY = 15.0
#: Logs longer than this are cut: the old one is kept beside the new.
_LOG_BYTES = 32 * 1024 * 1024
_LOG_CHECK = 60.0
_TROUBLE = ("|EMER|", "|ERR|", "ERROR", "CRITICAL", "Error", "Exception", "not found", "fatal", "denied")


class Supervisor:
    """Keeps the units of one state folder. Owns the pid files, logs and keeper.json in it."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state
        self._units: dict[str, Unit] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # How often each died is remembered over the keeper's own death, and that as well.
        before = load_keeper(state)
        self._seen: dict[str, UnitState] = before.units if before is not None else {}
        self._restarts, self._lost_at = (before.restarts, before.lost_at) if before is not None else (0, 0.0)
        if before is not None and not before.stopped:
            self._restarts, self._lost_at = self._restarts + 1, time.time()
        self._ready: dict[str, asyncio.Event] = {}
        self._processes: dict[str, Process] = {}
        self._stopping = asyncio.Event()
        self._reload = asyncio.Event()

    def stop(self) -> None:
        """Ends all units, in reverse order, and `run`."""
        self._stopping.set()
        self._reload.set()

    def reload(self) -> None:
        """Reads the list again: new units are started, others stopped, changed ones started anew."""
        self._reload.set()

    async def run(self) -> None:
        """Keeps the units running until `stop`."""
        logs = asyncio.create_task(self._cut_logs())
        while not self._stopping.is_set():
            self._reload.clear()
            await self._take(load_units(self._state))
            await self._reload.wait()
        logs.cancel()
        await self._stop_all()

    async def _take(self, units: list[Unit]) -> None:
        wanted = {unit.name: unit for unit in units}
        gone = [name for name, unit in self._units.items() if wanted.get(name) != unit]
        await asyncio.gather(*(self._drop(name) for name in gone))
        self._units = wanted
        self._seen = {name: seen for name, seen in self._seen.items() if name in wanted}
        for name in wanted:
            self._ready.setdefault(name, asyncio.Event())
            self._seen.setdefault(name, UnitState())
        for name, unit in wanted.items():
            if name not in self._tasks:
                self._tasks[name] = asyncio.create_task(self._keep(unit), name=name)
        self._tell()

    async def _drop(self, name: str) -> None:
        await self._cancel(name)
        await self._end(name)
        self._seen.pop(name, None)
        self._ready[name].clear()

    async def _cancel(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _end(self, name: str) -> None:
        unit = self._units[name]
        running = self._processes.pop(name, None) or process.find(self._state.pidfile(name))
        if running is not None:
            await running.stop(unit.grace)
        self._state.pidfile(name).unlink(missing_ok=True)
        seen = self._seen[name]
        seen.state, seen.pid = "stopped", 0

    async def _stop_all(self) -> None:
        for name in list(self._tasks):
            await self._cancel(name)
        left = dict(self._units)
        while left:
            # Whatever nothing else that is left comes after.
            needed = {other for unit in left.values() for other in unit.after}
            last = [name for name in left if name not in needed] or list(left)
            await asyncio.gather(*(self._end(name) for name in last))
            for name in last:
                del left[name]
        self._tell(stopped=True)

    async def _keep(self, unit: Unit) -> None:
        seen, ready = self._seen[unit.name], self._ready[unit.name]
        pidfile = self._state.pidfile(unit.name)
        for other in unit.after:
            if other in self._ready:
                await self._ready[other].wait()
        pause = _FIRST_PAUSE
        running = process.find(pidfile)
        if running is not None and not _runs(running, unit):
            await running.stop(unit.grace)
            running = None
        while True:
            log_start = files.size(self._log(unit))
            if running is None:
                seen.state = "starting"
                try:
                    running = process.spawn(self._command(unit), pidfile)
                except (MissingProgram, Unavailable, OSError) as problem:
                    seen.state, seen.cause, seen.ended_at = "missing", str(problem), time.time()
                    self._tell()
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
                    continue
            began = time.monotonic()
            self._processes[unit.name] = running
            seen.pid, seen.since = running.pid, time.time()
            if await _answers(unit, running):
                seen.state = "running"
            ready.set()
            self._tell()
            status = await running.wait()
            lasted = time.monotonic() - began
            running = None
            pause = _FIRST_PAUSE if lasted > _HEALTHY else pause
            seen.state, seen.pid, seen.restarts = "backing-off", 0, seen.restarts + 1
            seen.ended, seen.ended_at = _ending(status), time.time()
            seen.cause = _last_words(self._log(unit), log_start, killed=status == -signal.SIGKILL)
            print(f"{unit.name}: {seen.ended} after {lasted:.1f} s; again in {pause:.1f} s", file=sys.stderr)
            self._tell()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _log(self, unit: Unit) -> Path:
        return self._state.log_file(unit.name)

    def _command(self, unit: Unit) -> Command:

        def prefer(pid: int) -> None:
            os.setpriority(os.PRIO_PROCESS, pid, unit.nice)

        before = prefer if unit.nice else None
        return Command(unit.name, unit.argv, self._log(unit), unit.netns, unit.env, before=before)

    def _tell(self, *, stopped: bool = False) -> None:
        told = KeeperState(
            pid=os.getpid(),
            updated_at=time.time(),
            units=self._seen,
            restarts=self._restarts,
            lost_at=self._lost_at,
            stopped=stopped,
        )
        with contextlib.suppress(OSError):  # a full disk must not end what keeps daemons running
            files.replace(self._state.keeper_file, msgspec.json.encode(told), durable=False)

    async def _cut_logs(self) -> None:
        while True:
            await asyncio.sleep(_LOG_CHECK)
            for log in self._state.log.glob("*.log"):
                if files.size(log) > _LOG_BYTES:
                    await asyncio.to_thread(_cut, log)


def _cut(log: Path) -> None:
    # Copied and emptied rather than renamed: daemons have it open, and append.
    with log.open("r+b") as now, log.with_suffix(".log.1").open("wb") as before:
        while block := now.read(1 << 20):
            before.write(block)
        now.truncate(0)


def _runs(running: Process, unit: Unit) -> bool:
    """Whether the process is this unit as it is wanted now, and not by an older list."""
    try:
        seen = Path(f"/proc/{running.pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return False
    return seen[1:] == [os.fsencode(word) for word in unit.argv[1:]]


async def _answers(unit: Unit, running: Process) -> bool:
    """Whether the unit got ready; False when it ended, or was not in time."""
    pause, deadline = 0.002, time.monotonic() + _READY
    while unit.socket and not takes_connections(unit.socket):
        if not running.alive() or time.monotonic() > deadline:
            return False
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    return running.alive()


def _last_words(log: Path, since: int, *, killed: bool) -> str:
    """Why it ended, by its log: what sounds like trouble in the last lines, or just the last lines."""
    lines = files.last_lines(log, 30, since=since)
    trouble = [line for line in lines if any(word in line for word in _TROUBLE)]
    if killed:
        # It had no time to say why: that was somebody else's doing, or the kernel's for want of memory.
        return " / ".join(trouble[-1:])
    return " / ".join((trouble or lines)[-3:])


def _ending(status: int | None) -> str:
    if status is None:
        return "ended"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"
