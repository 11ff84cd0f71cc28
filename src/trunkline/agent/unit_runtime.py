"""How the program of a compute unit runs on a host: what any way of doing so has, and the first of them.

    start ──▶ process ──▶ equip (again and again, until all is there) ──▶ the agent speaks on `socket`
                 └──▶ ends by itself, or by `stop` ──▶ clear

A process group in namespaces: one process is the first of a PID namespace, so that with it all others end.
Its network namespace has no name; the agent keeps it, so that it forwards until it is cut, and then all its
interfaces go. It may outlive the agent; its pid file and a state file with its control group tell the next
one.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import trunkline
from trunkline.agent import ports, unit_files
from trunkline.agent.buses import Buses
from trunkline.agent.hosting import NotYet
from trunkline.agent.unit_files import GRACE, Leavings, Left
from trunkline.compiler.unit_slices import UnitSlice
from trunkline.devices import cgroups, files, links, namespace, process
from trunkline.devices.isolation import View
from trunkline.devices.process import Command, Process
from trunkline.devices.units import python_environment
from trunkline.errors import Unavailable

#: How long the kernel of a unit goes on when its process has ended, seconds: dispatchers hear of it and pass
#: it by, before its interfaces are taken away.
LINGER = 0.15
#: The part of each processor that a dispatcher's prober may have before all others.
_PROBES = 0.1
#: A log that is longer is begun anew when the program is started, bytes.
_LONGEST_LOG = 1 << 20


class Runtime(Protocol):
    """One unit's program. All but the properties may take a while: they are called in threads."""

    #: Where the program listens for its agent.
    socket: Path
    #: How long a start may take, seconds. A process may use more than its part of the processors for it.
    starting: float
    #: How long a process that ended by itself has ended before `cut`, seconds.
    linger: float

    def find(self) -> Process | None:
        """The process, if it runs: one that an agent before this one started, too."""

    def start(self, unit: UnitSlice) -> Process:
        """Starts it; it does not run, and nothing is left of the last one. Raises Refusal, OSError."""

    def equip(self, unit: UnitSlice, running: Process) -> None:
        """Gives it the interfaces that it does not have yet.

        Raises:
            NotYet: something is not there yet.
            Refusal, OSError: the kernel refuses.
        """

    def limit(self, unit: UnitSlice) -> None:
        """It has started: it has its part of the processors from now on, and no more. Raises OSError."""

    def used(self, running: Process) -> float:
        """Seconds of processor time that its processes had."""

    def kernel(self) -> str | None:
        """The network namespace of a program that has ended by itself, where it is there until `cut`."""

    def stop(self, running: Process) -> None:
        """Ends it, and all that it started, and cuts it."""

    def cut(self) -> None:
        """It has ended: nothing reaches its interfaces any more, whether they are there or not."""

    def clear(self) -> None:
        """It has ended: nothing of it stays on the host but its log. Raises Refusal, OSError."""

    def forget(self) -> None:
        """... and nothing at all."""

    def last_words(self, *, killed: bool) -> str:
        """Why it ended, as far as it or the kernel says. `killed`: by somebody, or by the kernel."""


class InNamespaces:
    """A process group in namespaces. Owns FOLDER/NAME, NAME.{pid,log,run}, what `Leavings` tells, and a
    descriptor of its network namespace, which is there until `cut` therefore."""

    starting = 10.0
    linger = LINGER
    #: What is left of root's capabilities (capabilities(7)): networks, BPF, probes in time, and the users
    #: that balancers become.
    capabilities: tuple[str, ...] = (
        *("net_admin", "net_raw", "net_bind_service", "bpf", "perfmon", "sys_nice"),
        *("setuid", "setgid", "kill", "chown", "dac_override", "fowner", "sys_chroot"),
    )

    def __init__(self, folder: Path, name: str, group: str, buses: Buses, hidden: Sequence[Path]) -> None:
        """Args:
        group: what its control group is called, which no other of the machine is.
        hidden: folders that the program does not see, unless it is in them itself.
        """
        self.socket = unit_files.socket_of(folder / f"{name}.pid")
        own = [Path(place).resolve() for place in (sys.prefix, sys.base_prefix, trunkline.__file__)]
        self._hidden = tuple(
            place for place in hidden if not any(path.is_relative_to(place.resolve()) for path in own)
        )
        self._pidfile, self._log = folder / f"{name}.pid", folder / f"{name}.log"
        self._left = Left(self._pidfile)
        self._name = name
        self._group_name = group
        self._buses = buses
        self._log_start = 0
        #: Of the network namespace.
        self._held: int | None = None

    def find(self) -> Process | None:
        found = process.find(self._pidfile)
        if found is not None:
            self._hold(found)
        return found

    def start(self, unit: UnitSlice) -> Process:
        self.clear()
        program = self._program(unit)
        self.socket.parent.mkdir(mode=0o700, exist_ok=True)
        if files.size(self._log) > _LONGEST_LOG:
            self._log.unlink()
        self._log_start = files.size(self._log)
        group = cgroups.Group.named(cgroups.here(), self._group_name)
        self._left.write(
            Leavings(unit.appliance, unit.number, group.folders, tuple(map(ports.outer, unit.ports)))
        )

        def before(pid: int) -> None:
            group.make()
            group.limit_memory(unit.memory_mib)
            if unit.runtime == "server":
                # Guests that boot would take all that there is: hosts would fall silent.
                group.limit_processors(unit.cores)
            elif unit.kind == "dispatcher":
                # Who cannot have it says so itself.
                with contextlib.suppress(OSError):
                    group.allow_realtime(min(_PROBES, unit.cores))
            group.join(pid)

        bus, control, legs = _names(unit)
        devices = (f"--bus={bus}", f"--control={control}", *(f"--leg={name}" for name in legs))
        bounded = ",".join(["-all", *(f"+{name}" for name in self.capabilities)])
        python = (sys.executable, "-P", "-m", *program, f"--socket={self.socket}", *devices)
        command = Command(
            name=f"unit-{self._name}",
            argv=("setpriv", f"--bounding-set={bounded}", "--", *python),
            log=self._log,
            env=python_environment(),
            apart=View(self._hidden, self.socket.parent),
            before=before,
        )
        started = process.spawn(command, self._pidfile)
        self._hold(started)
        return started

    def _hold(self, running: Process) -> None:
        """Its network namespace does not end with it, but when it is let go of."""
        self._let_go()
        with contextlib.suppress(OSError):
            self._held = os.open(namespace.of_process(running.pid), os.O_RDONLY | os.O_CLOEXEC)
        if not running.alive():
            # It may be somebody else's.
            self._let_go()

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            os.close(held)

    def _program(self, unit: UnitSlice) -> tuple[str, ...]:
        """The module of Python that it is, with options of its own. Raises Unavailable."""
        return ("trunkline.units",)

    def equip(self, unit: UnitSlice, running: Process) -> None:
        bus, control, legs = _names(unit)
        member = next((each for each in unit.members if each.number == unit.number), None)
        if member is None:
            raise NotYet("it is not among the members of its appliance")
        netns = namespace.of_process(running.pid)
        before = set(namespace.interfaces(netns))
        if len(namespace.inside(netns, lambda: links.up(bus, control))) < 2:
            namespace.ip(netns, "link set dev lo up")
            try:
                self._buses.plug(unit.appliance, member, running.pid, bus, control)
            except Unavailable as error:
                raise NotYet(str(error)) from None
        for name in legs:
            if name not in before:
                raise NotYet(f"its port {name} is not there yet")

    def limit(self, unit: UnitSlice) -> None:
        group = self._group()
        if group is not None:
            group.limit_processors(unit.cores)
            group.limit_memory(unit.memory_mib)

    def used(self, running: Process) -> float:
        group = self._group()
        return sum(process.used(pid) for pid in group.processes()) if group else process.used(running.pid)

    def kernel(self) -> str | None:
        return None if self._held is None else namespace.of_descriptor(self._held)

    def stop(self, running: Process) -> None:
        running.terminate(GRACE)
        self.cut()

    def cut(self) -> None:
        if (left := self._left.read()) is not None:
            links.down(*left.legs)
            self._buses.unplug(left.appliance, left.number)
        self._let_go()

    def clear(self) -> None:
        self.cut()
        self._left.clear()

    def forget(self) -> None:
        self.clear()
        self._log.unlink(missing_ok=True)

    def last_words(self, *, killed: bool) -> str:
        group = self._group()
        if group is not None and group.killed():
            return "it needed more memory than it may have"
        # Who is killed has no time to say why.
        lines = [] if killed else files.last_lines(self._log, 30, since=self._log_start)
        trouble = [line.strip(" |+") for line in lines if "Error" in line or "ERROR" in line]
        return " / ".join(trouble[-2:] or lines[-3:])

    def _group(self) -> cgroups.Group | None:
        left = self._left.read()
        return None if left is None else cgroups.Group(left.folders)


def _names(unit: UnitSlice) -> tuple[str, str, tuple[str, ...]]:
    """What its interfaces are called: names that no other interface of the machine has."""
    digits = unit.id.replace("-", "")[:11]
    return f"tlb{digits}", f"tlc{digits}", tuple(ports.leg(port) for port in unit.ports)
