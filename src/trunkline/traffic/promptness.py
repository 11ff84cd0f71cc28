"""What a program does that measures time: it goes before others, and knows when the kernel had a datagram.

Flows of datagrams have processes of their own for that (`pair.py`). Whatever such a process does late, it
does not take for a delay: when a datagram came, the kernel says (socket(7), SO_TIMESTAMPNS), and the far end
tells in its answer for how long it had it, from the kernel's time until it sent it back.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time
from collections.abc import Iterable

#: asm-generic/socket.h: the option, and what comes beside the datagram: a timespec of the clock of the day.
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
#: Of the buffer for what comes beside a datagram, bytes.
BESIDE = socket.CMSG_SPACE(_TIMESPEC.size)
#: sys/mman.h.
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_HIGHEST = -20

Beside = Iterable[tuple[int, int, bytes]]


def go_first() -> str:
    """Has this process scheduled before all others that have no such right, with all of its memory locked.

    Returns: what of that may not be, and what is done instead; "" where all is.
    """
    problems = []
    if ctypes.CDLL(None, use_errno=True).mlockall(_MCL_CURRENT | _MCL_FUTURE):
        problems.append(f"its memory is not locked ({os.strerror(ctypes.get_errno())})")
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError as error:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, _HIGHEST)
            instead = f"has nice {_HIGHEST}"
        except OSError:
            instead = "runs like everybody else"
        # Of control groups with version 1, all but the first have no time for it unless they are given some.
        problems.append(f"it may not be scheduled in real time ({error.strerror}) and {instead}")
    return "; ".join(problems)


def stamped(made: socket.socket) -> None:
    """Has the kernel tell when each datagram came. Raises OSError."""
    made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


def day() -> int:
    """Nanoseconds of the clock that the kernel tells the time by."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME)


def came(beside: Beside) -> int:
    """When the kernel had a datagram, as `day`; now, where it does not say."""
    for level, kind, data in beside:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, rest = _TIMESPEC.unpack(data)
            return int(seconds * 1_000_000_000 + rest)
    return day()
