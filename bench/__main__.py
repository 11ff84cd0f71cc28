"""Starts a cloud of its own, measures it, and takes it away: ``make bench``.

Prints the machine and its load first: figures of a busy machine say less.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.api import measure

STARTS = 5
_UP = re.compile(r"API and hosts after ([\d.]+) s")


def trunkline(state: Path, *arguments: str) -> str:
    """Runs the command, and returns what it printed."""
    command = [sys.executable, "-m", "trunkline", "--state", str(state), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


def start(state: Path) -> float:
    """Seconds of a fresh start, by the command's own clock: the API answers, every host is in OVN."""
    found = _UP.search(trunkline(state, "up", "--port", "0", "--hosts", "3"))
    assert found is not None
    return float(found[1])


def resident(state: Path) -> float:
    """MB of memory of the control process."""
    pid = (state / "run" / "control.pid").read_text().split()[0]
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1000


def main() -> None:
    """The command; see the module."""
    print(f"{os.cpu_count()} processors, {platform.platform()}, Python {platform.python_version()}")
    print("load average before: {:.1f} {:.1f} {:.1f}".format(*os.getloadavg()))
    with tempfile.TemporaryDirectory(prefix="tlb") as folder:
        state = Path(folder) / "s"
        try:
            seconds = []
            for _ in range(STARTS):
                seconds.append(start(state))
                trunkline(state, "down", "--wipe")
            middle = statistics.median(seconds)
            print(
                f"up, fresh, median of {STARTS}: {middle:.1f} s (least {min(seconds)}, most {max(seconds)})"
            )
            start(state)
            print(f"control, resident, idle: {resident(state):.0f} MB")
            asyncio.run(measure(state, 500))
            print(f"control, resident, after it: {resident(state):.0f} MB")
        finally:
            trunkline(state, "down", "--wipe")


if __name__ == "__main__":
    main()
