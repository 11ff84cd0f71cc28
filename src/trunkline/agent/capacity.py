"""How much a machine has."""

from __future__ import annotations

import os
from pathlib import Path


def processors() -> int:
    """How many this machine has."""
    return os.cpu_count() or 1


def memory_mib() -> int:
    """The memory of the machine (proc(5), MemTotal)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return 0
