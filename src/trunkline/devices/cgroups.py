"""Groups of processes that have so much processor time and memory, and no more (cgroups(7)).

Version 1 has a hierarchy for each kind of limit, version 2 one for all; a machine may have both, and then the
limits are where their controllers are (Linux, Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst). Groups
of version 1 are made below this process's own, so that what holds for it holds for them; those of version 2
below the root, for no group with processes may have any of these limits for groups below it.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from trunkline.errors import Unavailable

#: What all groups are in.
FOLDER = "trunkline"
#: Processor time is had within each of so many microseconds, unless that were less than the kernel grants at
#: the least (1,000 of it). Shorter ones keep a group from standing still for long.
_PERIOD, _LEAST = 20_000, 1_000
#: ... and what is scheduled before others, within each of so many.
_REALTIME_PERIOD = 100_000
#: How long a group whose processes have ended may be busy.
_EMPTY_SECONDS = 5.0


@dataclass(frozen=True)
class Places:
    """Where groups are made: the folders that hold `FOLDER`. With version 2 they are one."""

    version: int
    cpu: Path
    memory: Path


def places(mounts: str, own: str) -> Places:
    """Where this machine has both limits.

    Args:
        mounts: /proc/self/mountinfo (proc(5)).
        own: /proc/self/cgroup.

    Raises:
        Unavailable: it has not; the message says what is missing.
    """
    first: dict[str, Path] = {}
    second: Path | None = None
    groups = dict(line.split(":", 2)[1:] for line in own.splitlines())
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        _, _, _, root, point, *_ = before.split()
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2":
            second = Path(point)
        elif kind == "cgroup":
            for names, group in groups.items():
                for name in {"cpu", "memory"}.intersection(names.split(","), options.split(",")):
                    # The mount may show a part of the hierarchy, as in a container.
                    inner = os.path.relpath(group, root)
                    first[name] = Path(point) if inner.startswith("..") else Path(point) / inner
    if second is not None:
        with contextlib.suppress(OSError):
            if {"cpu", "memory"} <= set((second / "cgroup.controllers").read_text().split()):
                return Places(2, second, second)
    if missing := {"cpu", "memory"} - set(first):
        raise Unavailable(
            f"This machine has no control group for {' and '.join(sorted(missing))}: mount them (cgroups(7))."
        )
    return Places(1, first["cpu"], first["memory"])


def here() -> Places:
    """`places` of this machine, for this process."""
    return places(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())


class Group:
    """A group. Owns its folders."""

    def __init__(self, folders: tuple[str, ...]) -> None:
        """The group whose `folders` these were."""
        #: One with version 2; with version 1 that of processors, then that of memory.
        self.folders = folders
        self._version = 2 if len(folders) == 1 else 1
        self._cpu, self._memory = Path(folders[0]), Path(folders[-1])

    @classmethod
    def named(cls, where: Places, name: str) -> Group:
        """A group by its name, which is there or not."""
        folders = (where.cpu / FOLDER / name, where.memory / FOLDER / name)
        return cls(tuple(str(folder) for folder in folders[: 1 if where.version == 2 else 2]))

    def make(self) -> None:
        """Makes it, unless it is there.

        Raises:
            Unavailable: the kernel refuses.
        """
        try:
            for folder in self.folders:
                Path(folder).mkdir(parents=True, exist_ok=True)
            if self._version == 2:
                for above in (self._cpu.parent.parent, self._cpu.parent):
                    _write(above / "cgroup.subtree_control", "+cpu +memory")
            # All groups together would count as one process: what they are limited to, they are promised too.
            weight = ("cpu.weight", "10000") if self._version == 2 else ("cpu.shares", "262144")
            _write(self._cpu.parent / weight[0], weight[1])
        except OSError as error:
            raise Unavailable(f"The control group {self._cpu} cannot be made: {error}.") from None

    def join(self, pid: int) -> None:
        """A process is of it from now on, and all that it starts. Raises OSError."""
        for folder in self.folders:
            _write(Path(folder) / "cgroup.procs", str(pid))

    def limit_processors(self, cores: float | None) -> None:
        """So many processors, or any number. Raises OSError."""
        period = max(_PERIOD, round(_LEAST / cores)) if cores else _PERIOD
        quota = round(period * cores) if cores else None
        if self._version == 2:
            _write(self._cpu / "cpu.max", f"{'max' if quota is None else quota} {period}")
            return
        # Neither may contradict the other for a moment.
        _write(self._cpu / "cpu.cfs_quota_us", "-1")
        _write(self._cpu / "cpu.cfs_period_us", str(period))
        if quota is not None:
            _write(self._cpu / "cpu.cfs_quota_us", str(quota))

    def limit_memory(self, mib: int) -> None:
        """So much memory; who needs more is killed. Raises OSError."""
        limit = str(mib << 20)
        if self._version == 2:
            _write(self._memory / "memory.max", limit)
            # All or nobody: a unit without one of its processes is no unit.
            _write(self._memory / "memory.oom.group", "1")
        else:
            _write(self._memory / "memory.limit_in_bytes", limit)

    def allow_realtime(self, part: float) -> None:
        """Its processes may be scheduled before others (sched(7), SCHED_FIFO), for so much of each processor.

        Where the kernel does not limit that by groups, they may anyway. Raises OSError.
        """
        if self._version == 1 and (self._cpu / "cpu.rt_runtime_us").exists():
            # What all groups may have together: root has 95 hundredths, and others may want some.
            _write(self._cpu.parent / "cpu.rt_runtime_us", "600000")
            _write(self._cpu / "cpu.rt_period_us", str(_REALTIME_PERIOD))
            _write(self._cpu / "cpu.rt_runtime_us", str(round(_REALTIME_PERIOD * part)))

    def processes(self) -> list[int]:
        """The ids of its processes; none where it is gone."""
        try:
            return [int(line) for line in (self._cpu / "cgroup.procs").read_text().split()]
        except OSError:
            return []

    def killed(self) -> int:
        """How many of it were killed for want of memory."""
        name = "memory.events" if self._version == 2 else "memory.oom_control"
        return _number(self._memory / name, "oom_kill")

    def remove(self) -> None:
        """Removes it, as far as it is there; its processes have been told to end.

        Raises:
            Unavailable: it has processes still.
        """
        deadline = time.monotonic() + _EMPTY_SECONDS
        for folder in self.folders:
            while True:
                try:
                    os.rmdir(folder)
                except FileNotFoundError:
                    pass
                except OSError as error:
                    if time.monotonic() > deadline:
                        raise Unavailable(f"The control group {folder} stays: {error.strerror}.") from None
                    time.sleep(0.01)
                    continue
                break
            with contextlib.suppress(OSError):
                # The last one takes along what all are in.
                os.rmdir(os.path.dirname(folder))


def _write(file: Path, value: str) -> None:
    # Each write is a command: never to a file that is not there.
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def _number(file: Path, name: str) -> int:
    try:
        found = re.search(rf"^{name} (\d+)$", file.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
