"""An interface whose packets are taken by a thread of its own, with a part of a processor and no more.

Packets that the kernel forwards are nobody's: softirqs run on the account of whoever was interrupted, and a
cgroup's quota does not hold kernel threads (Linux 6.18: they are never throttled). A veth can be polled by a
thread instead (threaded NAPI), and that thread scheduled by deadline (sched(7), SCHED_DEADLINE): so many
microseconds in each period, whatever else there is to do, and not one more.

The kernel promises 95 hundredths of all processors at the most (sched_rt_runtime_us) and refuses the rest.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from pathlib import Path

from trunkline.devices import isolation, namespace
from trunkline.errors import Conflict, Unavailable

#: A part of a processor is had within each of so many microseconds. Shorter ones keep packets from waiting.
PERIOD = 5_000
_DEADLINE = 6  # SCHED_DEADLINE
#: sched_setattr(2): glibc 2.36 has no name for it.
_CALLS = {"x86_64": 314, "aarch64": 274}


class _Attributes(ctypes.Structure):
    """struct sched_attr, its first version; times in nanoseconds."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def poll(netns: str, device: str, peer_netns: str | None, peer: str) -> int:
    """Has a thread take what arrives at a veth that is up; returns its id. It ends when that goes down.

    Args:
        device: of a name that no interface of another namespace has, for threads are named for interfaces.
        peer: the other end. Only what comes from one without segmentation offload is polled for, so it has
            none from now on.

    Raises:
        OSError, Unavailable: the interface cannot be polled by a thread.
    """
    namespace.segments_in_software(peer_netns, peer)
    namespace.joins_segments(netns, device)
    problem = namespace.inside(netns, lambda: _threaded(device))
    comms = Path("/proc").glob("[0-9]*/comm")
    threads = [int(comm.parent.name) for comm in comms if not problem and _is_of(comm, device)]
    if len(threads) != 1:
        raise Unavailable(f"{device} is not polled by one thread: {problem or len(threads)}.")
    return threads[0]


def _threaded(device: str) -> str:
    """Says so to the kernel, in a thread of that namespace; returns what is in the way."""
    isolation.see_own_interfaces()
    try:
        Path(f"/sys/class/net/{device}/threaded").write_text("1")
    except OSError as error:
        return str(error)
    return ""


def _is_of(comm: Path, device: str) -> bool:
    """Whether a thread is one that polls that interface."""
    try:
        return comm.read_text().startswith(f"napi/{device}-")
    except OSError:
        return False


def promise(thread: int, cores: float) -> None:
    """Gives a thread so much of a processor, above all that is scheduled otherwise, and no more.

    Raises:
        Conflict: more is promised than there is.
        Unavailable: this kernel has no such promise, or this process may not make it.
    """
    runtime, period = round(PERIOD * cores) * 1000, PERIOD * 1000
    wanted = _Attributes(ctypes.sizeof(_Attributes), _DEADLINE, 0, 0, 0, runtime, period, period)
    call = _CALLS.get(platform.machine())
    if call is None:
        raise Unavailable(f"Parts of processors are not promised on {platform.machine()}.")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(call, thread, ctypes.byref(wanted), 0):
        error = ctypes.get_errno()
        if error == errno.EBUSY:
            raise Conflict(f"There are not {cores:g} cores left to promise.")
        raise Unavailable(f"{cores:g} cores cannot be promised: {os.strerror(error)}.")


def used(thread: int) -> float:
    """Seconds of a processor that a thread has had."""
    return int(Path(f"/proc/{thread}/schedstat").read_text().split()[0]) / 1e9
