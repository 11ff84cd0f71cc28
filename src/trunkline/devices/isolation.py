"""Namespaces without a name, which end with who is in them (namespaces(7)).

Only the thread that calls moves, and whoever it starts: these are for threads that end soon.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from trunkline.errors import Unavailable

T = TypeVar("T")

# linux/sched.h, linux/mount.h.
_NEWNS, _NEWPID, _NEWNET = 0x00020000, 0x20000000, 0x40000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_libc = ctypes.CDLL(None, use_errno=True)


def apart(start: Callable[[], T]) -> T:
    """What `start` returns, which runs in new network and mount namespaces; a process that it starts is the
    first of a new PID namespace, with which all others there end.

    /sys is that network's there; /proc is for the process to mount, for it shows whose mounts it.

    Raises:
        Unavailable: this process may not do so.
        Exception: whatever `start` raises.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            _check(_libc.unshare(_NEWNET | _NEWPID))
            see_own_interfaces()
            results.append(start())
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run, name="apart")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def see_own_interfaces() -> None:
    """The calling thread has mounts of its own from now on, and its /sys is that of its network namespace.

    Raises:
        Unavailable: this process may not do so.
    """
    _check(_libc.unshare(_NEWNS))
    # Or the machine would get the mount, too.
    _check(_libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None))
    _check(_libc.mount(b"sysfs", b"/sys", b"sysfs", ctypes.c_ulong(0), None))


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        remedy = " This needs root." if number == errno.EPERM else ""
        raise Unavailable(f"Namespaces cannot be made: {os.strerror(number)}.{remedy}")
