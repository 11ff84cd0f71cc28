"""Processes that outlive who started them, found again by their pid files.

A pid file names a process by its number, the time the kernel started it at and the boot it lives in,
so that a number that the kernel has given to somebody else is never taken for ours. A process starts
running its program only after its pid file is there (it waits at a gate until then): whoever is killed
while starting a daemon leaves no daemon that nobody knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import select
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trunkline.devices import isolation, namespace
from trunkline.devices.isolation import View
from trunkline.errors import Refusal, Unavailable

# Waits for a line on its standard input (end of file: whoever started it is gone, so it gives up), then
# becomes the program. SIGHUP is ignored, as by nohup(1), unless the program has a use for it: one that is
# sent before the program listens to it must not end it. That it is ignored is told on descriptor 3, and until
# then nobody knows the process.
_GATE = 'trap "" HUP; echo >&3; exec 3>&-; read -r go && cd -- "$1" && shift && exec "$@" </dev/null'
# The first of a PID namespace becomes the program when /proc shows that namespace.
_APART = 'mount -t proc proc /proc && exec "$@"'


class MissingProgram(Unavailable):
    """A program that is to be started is not installed."""

    def __init__(self, program: str) -> None:
        super().__init__(f"The program {program} is not installed: `trunkline doctor` names its package.")
        self.program = program


@dataclass(frozen=True)
class Command:
    """A program to run detached."""

    name: str
    argv: tuple[str, ...]
    #: Standard output and standard error are appended to it.
    log: Path
    #: The network namespace to run in; None for the caller's.
    netns: str | None = None
    #: Added to the caller's environment.
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    #: It has network, mount and PID namespaces of its own, which end with it; `netns` is not looked at. As
    #: the first of its PID namespace it gets no signal that it has no handler for, but SIGKILL.
    apart: View | None = None
    #: Called with its number before the program starts; what it raises keeps the program from starting.
    before: Callable[[int], None] | None = None


@dataclass(frozen=True)
class Process:
    """A process, told apart from any other that had or will have its number."""

    pid: int
    #: Clock ticks from boot to its start (field 22 of /proc/PID/stat).
    started: int

    def alive(self) -> bool:
        """Whether it runs; one that has ended and was not yet waited for does not."""
        return _start_time(self.pid) == self.started

    def signal(self, number: int) -> bool:
        """Sends it a signal; False if it is gone."""
        descriptor = self._open()
        if descriptor is None:
            return False
        try:
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True

    async def wait(self) -> int | None:
        """Returns when it has ended: its exit status (minus the signal) if it was our child, else None."""
        descriptor = self._open()
        if descriptor is not None:
            loop = asyncio.get_running_loop()
            ended = asyncio.Event()
            loop.add_reader(descriptor, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
        return self._reap()

    async def stop(self, grace: float) -> None:
        """Asks it to end, and kills it after `grace` seconds; returns when it has ended."""
        if self.signal(signal.SIGTERM):
            try:
                await asyncio.wait_for(self.wait(), grace)
            except TimeoutError:
                self.signal(signal.SIGKILL)
        await self.wait()

    def terminate(self, grace: float) -> None:
        """`stop` for callers without an event loop."""
        descriptor = self._open()
        if descriptor is not None:
            try:
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGTERM)
                    if not poll.poll(grace * 1000):
                        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                        poll.poll()
            finally:
                os.close(descriptor)
        self._reap()

    def _open(self) -> int | None:
        """A descriptor of the process itself, or None if it is gone."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        # Looked at only now: the descriptor may be of a newer process with the same number.
        if not self.alive():
            os.close(descriptor)
            return None
        return descriptor

    def _reap(self) -> int | None:
        try:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return None
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def spawn(command: Command, pidfile: Path) -> Process:
    """Starts a program in a session of its own, with nothing of ours but the log; writes its pid file.

    It goes on when the caller ends. Takes about 3 ms.

    Raises:
        MissingProgram: the program is not installed.
        Unavailable: there is no such namespace, or no right to enter it, or to make any.
        OSError: the log or the pid file cannot be written.
        Refusal, OSError: what `before` raises.
    """
    environment = {**os.environ, **command.env}
    program = shutil.which(command.argv[0], path=environment.get("PATH"))
    if program is None:
        raise MissingProgram(command.argv[0])
    gate, opener = os.pipe()
    ready, teller = os.pipe()
    try:
        log = os.open(command.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            # The child is of the namespaces of the thread that makes it.
            arguments = [program, *command.argv[1:]]
            if command.apart:
                arguments = ["/bin/sh", "-c", _APART, command.name, *arguments]

            def start() -> int:
                return os.posix_spawn(
                    "/bin/sh",
                    ["sh", "-c", _GATE, command.name, str(command.cwd or "/"), *arguments],
                    environment,
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, gate, 0),
                        (os.POSIX_SPAWN_DUP2, log, 1),
                        (os.POSIX_SPAWN_DUP2, log, 2),
                        (os.POSIX_SPAWN_DUP2, teller, 3),
                    ],
                    setsid=True,
                    setsigmask=[],
                    setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM],
                )

            pid = (
                isolation.apart(start, command.apart)
                if command.apart
                else namespace.inside(command.netns, start)
            )
        finally:
            os.close(log)
            os.close(teller)
            teller = -1
        os.read(ready, 1)
        process = Process(pid, _start_time(pid) or 0)
        try:
            if command.before is not None:
                command.before(pid)
            _write(pidfile, process)
        except (OSError, Refusal):
            # The gate is closed below, unopened: nothing of it stays.
            os.close(opener)
            opener = -1
            os.waitpid(pid, 0)
            raise
        with contextlib.suppress(BrokenPipeError):
            os.write(opener, b"go\n")
        return process
    finally:
        for descriptor in (gate, opener, ready, teller):
            if descriptor >= 0:
                os.close(descriptor)


def find(pidfile: Path) -> Process | None:
    """The live process of a pid file; None if there is no file or it tells of one that is gone."""
    try:
        pid, started, boot = pidfile.read_text().split()
        process = Process(int(pid), int(started))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return process if boot == _boot() and process.alive() else None


def since(pid: int) -> float:
    """When a process started, seconds since the epoch; 0 if it is gone.

    Ask once a process: the clock may be set between two answers.
    """
    ticks = _start_time(pid)
    if ticks is None:
        return 0.0
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age


def used(pid: int) -> float:
    """Seconds of processor time that a process has had, with all its threads; 0 if it is gone."""
    stat = _stat(pid)
    return 0.0 if stat is None else (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def _write(pidfile: Path, process: Process) -> None:
    # Renamed into place but not synced to the disk: what it tells does not outlive the machine's run.
    draft = pidfile.with_name(f"{pidfile.name}.new")
    draft.write_text(f"{process.pid}\n{process.started}\n{_boot()}\n")
    draft.replace(pidfile)


def _start_time(pid: int) -> int | None:
    """When the kernel started it, in clock ticks since boot; None if it is gone or has ended."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in (b"Z", b"X") else int(fields[19])


def _stat(pid: int) -> list[bytes] | None:
    """What /proc/PID/stat has from field 3 on (proc(5)); None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in parentheses, may hold anything: fields are counted after the last one.
    return stat[stat.rindex(b")") + 2 :].split()


@functools.cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
