"""Namespaces without a name, which end with who is in them (namespaces(7)).

Only the thread that calls moves, and whoever it starts: these are for threads that end soon.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from trunkline.errors import Unavailable

T = TypeVar("T")

# linux/sched.h, linux/mount.h.
_NEWNS, _NEWPID, _NEWNET = 0x00020000, 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class View:
    """What of the machine's files is not seen by who is apart: folders that are empty but for one below."""

    hidden: tuple[Path, ...] = ()
    shown: Path | None = None


def apart(start: Callable[[], T], view: View = View()) -> T:
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
            for folder in view.hidden:
                _hide(folder, view.shown)
            results.append(start())
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run, name="apart")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _hide(folder: Path, shown: Path | None) -> None:
    kept = -1
    if shown is not None and shown.is_relative_to(folder):
        kept = os.open(shown, os.O_PATH | os.O_CLOEXEC)
    try:
        _mount(b"tmpfs", folder, b"tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=0755,size=8m")
        if kept >= 0 and shown is not None:
            shown.mkdir(parents=True)
            _mount(f"/proc/self/fd/{kept}".encode(), shown, None, _MS_BIND)
    finally:
        if kept >= 0:
            os.close(kept)


def see_own_interfaces() -> None:
    """The calling thread has mounts of its own from now on, and its /sys is that of its network namespace.

    Raises:
        Unavailable: this process may not do so.
    """
    _check(_libc.unshare(_NEWNS))
    # Or the machine would get the mount, too.
    _mount(None, Path("/"), None, _MS_REC | _MS_PRIVATE)
    _mount(b"sysfs", Path("/sys"), b"sysfs", 0)


def _mount(
    source: bytes | None, place: Path, kind: bytes | None, flags: int, data: bytes | None = None
) -> None:
    _check(_libc.mount(source, os.fsencode(place), kind, ctypes.c_ulong(flags), data))


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        remedy = " This needs root." if number == errno.EPERM else ""
        raise Unavailable(f"Namespaces cannot be made: {os.strerror(number)}.{remedy}")
