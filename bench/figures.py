"""What was measured, beside what is to be reached; and on what it was measured."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figure:
    """One line of the table: the median of some runs."""

    what: str
    values: Sequence[float]
    unit: str
    #: What is to be reached, None where nothing is promised.
    bound: float | None = None
    #: Whether the bound is a least, and not a most.
    least: bool = False
    note: str = ""

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the bound."""
        if self.bound is None:
            return None
        return self.value >= self.bound if self.least else self.value <= self.bound

    def row(self) -> list[str]:
        """Its cells."""
        bound = "" if self.bound is None else f"{'>=' if self.least else '<='} {self.bound:g} {self.unit}"
        spread = f"{min(self.values):.4g} .. {max(self.values):.4g}" if len(self.values) > 1 else ""
        runs = f"{len(self.values)}" if len(self.values) > 1 else ""
        verdict = {True: "yes", False: "NO", None: ""}[self.met]
        return [self.what, bound, f"{self.value:.4g} {self.unit}", spread, runs, verdict, self.note]


_HEAD = ["what", "to be reached", "median", "least .. most", "runs", "met", ""]


def table(figures: Sequence[Figure]) -> str:
    """All lines, in columns."""
    return columns(_HEAD, [figure.row() for figure in figures])


def columns(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Lines of cells below a head."""
    rows = [head, *cells]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def machine() -> str:
    """The machine, the versions of what is measured, and how busy it is now."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = int(next(line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")))
    tools = [_first_line(tool, "--version") for tool in ("ovs-vswitchd", "ovn-northd", "qemu-system-x86_64")]
    packages = ("sqlalchemy", "uvicorn", "uvloop", "msgspec")
    own = ", ".join(f"{name} {version(name)}" for name in packages)
    return "\n".join(
        [
            f"{cpu}, {os.cpu_count()} processors, {memory / 2**20:.0f} GiB, {platform.platform()}",
            f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {own}",
            *tools,
            f"load average at the start: {' '.join(f'{load:.2f}' for load in os.getloadavg())}",
        ]
    )


def _lines(file: str) -> list[str]:
    return Path(file).read_text().splitlines()


def _first_line(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return (done.stdout or done.stderr).splitlines()[0]


@dataclass
class Usage:
    """Who used the processors while something was measured, in seconds of processor time."""

    seconds: float = 0.0
    #: By whoever names the state folder in its command line, and by this process.
    own: float = 0.0
    everybody: float = 0.0

    @property
    def others(self) -> float:
        """Processors that were busy with something else, on average."""
        return max(self.everybody - self.own, 0.0) / self.seconds if self.seconds else 0.0


@dataclass
class Meter:
    """Measures `Usage` of a block of statements."""

    root: Path
    usage: Usage = field(default_factory=Usage)

    @contextmanager
    def measuring(self) -> Iterator[Usage]:
        """The block."""
        started, own, everybody = time.monotonic(), self._own(), _busy()
        yield self.usage
        self.usage.seconds += time.monotonic() - started
        self.usage.own += self._own() - own
        self.usage.everybody += _busy() - everybody

    def _own(self) -> float:
        used = sum(os.times()[:4])
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if str(self.root).encode() in (entry / "cmdline").read_bytes():
                        used += cpu_seconds(int(entry.name))
                except OSError:
                    continue
        return used


def cpu_seconds(pid: int) -> float:
    """The processor time of a process so far: of all its threads, in user and in kernel mode."""
    total = 0
    for task in (Path("/proc") / str(pid) / "task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def resident(pid: int) -> float:
    """The resident memory of a process, MB."""
    line = next(line for line in _lines(f"/proc/{pid}/status") if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def _busy() -> float:
    """Seconds of processor time that all of the machine has used."""
    user, nice, system, _, _, irq, softirq, *_ = (int(n) for n in _lines("/proc/stat")[0].split()[1:])
    return (user + nice + system + irq + softirq) / _TICKS
