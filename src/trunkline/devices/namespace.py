"""Network namespaces, and what stands inside them: interfaces, addresses, routes, sockets.

Interfaces are made where they belong: none of them is ever in the machine's own namespace, not even
for an instant. iproute2 does it in batches (one process a namespace), because starting it takes a
hundredth of the time that a netlink library takes to be imported, and `up` and the agents are started
often.

What must be done from inside by this process (open a socket, write a sysctl, start a program) is done
in a thread of its own, for only that thread moves (setns(2)).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from trunkline.errors import Unavailable

T = TypeVar("T")

#: Where iproute2 binds named namespaces.
FOLDER = Path("/run/netns")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17


class CommandFailed(Unavailable):
    """iproute2 refused; the message has its words."""


def path(name: str) -> Path:
    return FOLDER / name


def exists(name: str) -> bool:
    return path(name).is_file()


def names(prefix: str) -> list[str]:
    """The named namespaces that start with `prefix`, sorted."""
    try:
        return sorted(name for name in os.listdir(FOLDER) if name.startswith(prefix))
    except FileNotFoundError:
        return []


def create(*wanted: str) -> list[str]:
    """Makes those that do not exist, with their loopback up; returns the ones it made."""
    made = [name for name in wanted if not exists(name)]
    for name in made:
        # A name whose namespace is gone (its mount was lost) blocks the making of a new one.
        path(name).unlink(missing_ok=True)
    ip(None, *(f"netns add {name}" for name in made))
    for name in made:
        ip(name, "link set dev lo up")
    return made


def delete(*unwanted: str) -> None:
    """Removes those that exist. Processes that still run inside keep theirs alive: end them first."""
    ip(None, *(f"netns delete {name}" for name in unwanted if path(name).exists()))


def of_process(pid: int) -> str:
    """The namespace of a process, which may have no name: taken for a name by all functions here but `create`
    and `delete`."""
    return f"/proc/{pid}/ns/net"


def of_descriptor(number: int) -> str:
    """As `of_process`, of a namespace that this process holds open."""
    return f"/proc/self/fd/{number}"


def ip(netns: str | None, *lines: str) -> None:
    """Runs lines of iproute2 ("link add ...", "address replace ...") as one batch inside `netns`.

    Stops at the first that fails.

    Raises:
        CommandFailed: with the line and the words of iproute2.
        Unavailable: see `inside`.
    """
    _batch("ip", netns, lines)


def bridge(netns: str | None, *lines: str) -> None:
    """As `ip`, for lines of bridge(8): "fdb replace ..."."""
    _batch("bridge", netns, lines)


def _batch(program: str, netns: str | None, lines: Sequence[str]) -> None:
    if not lines:
        return
    # What has no name is entered here: the program takes names alone.
    named = netns if netns and "/" not in netns else None
    command = [program, *(("-n", named) if named else ()), "-batch", "-"]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, input="\n".join(lines) + "\n", text=True, capture_output=True, timeout=30, check=False
        )

    done = inside(None if named else netns, run)
    if done.returncode:
        raise CommandFailed(_explain(program, netns, lines, done.stderr))


def _explain(program: str, netns: str | None, lines: Sequence[str], stderr: str) -> str:
    words = " ".join(stderr.split())
    line = ""
    _, mark, number = stderr.rpartition("Command failed -:")
    digits = number.strip()
    if mark and digits.isdigit() and 0 < int(digits) <= len(lines):
        line = lines[int(digits) - 1]
    return f"{program} {f'-n {netns} ' if netns else ''}{line}: {words or 'failed without a word'}"


def inside(netns: str | None, function: Callable[[], T]) -> T:
    """What `function` returns when it runs in that namespace, in a thread that ends with it.

    A process started there, a socket opened there belongs to the namespace for ever. None is the
    namespace of the caller: then no thread is needed.

    Raises:
        Unavailable: there is no such namespace, or this process may not enter it.
        Exception: whatever `function` raises.
    """
    if netns is None:
        return function()
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            _enter(netns)
            results.append(function())
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run, name=f"in {netns}")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _enter(netns: str) -> None:
    """Moves the calling thread, and no other, into the namespace."""
    try:
        descriptor = os.open(path(netns), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Unavailable(f"There is no network namespace {netns}.") from None
    try:
        if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            remedy = " This needs root." if number == errno.EPERM else ""
            raise Unavailable(f"Network namespace {netns}: {os.strerror(number)}.{remedy}")
    finally:
        os.close(descriptor)


def open_socket_in(
    netns: str | None,
    address: str = "",
    port: int = 0,
    *,
    kind: socket.SocketKind = socket.SOCK_STREAM,
    device: str = "",
    backlog: int = 128,
    free_bind: bool = False,
) -> socket.socket:
    """A socket that belongs to the namespace, bound to `address` and `port`; a stream socket listens.

    The family follows the address (IPv6 where it has a colon, and then for IPv6 alone). With
    `device` it hears that interface only, and a link-local address has its scope from it.
    `free_bind` binds an address that is not there yet. Not blocking, as event loops want it.

    Raises:
        OSError: the address is taken or not there.
        Unavailable: see `inside`.
    """

    def make() -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if device:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            if free_bind:
                made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                scope = socket.if_nametoindex(device) if device else 0
                made.bind((address, port, 0, scope))
            else:
                made.bind((address, port))
            if kind == socket.SOCK_STREAM:
                made.listen(backlog)
        except BaseException:
            made.close()
            raise
        return made

    return inside(netns, make)


_IP_FREEBIND = 15


def interfaces(netns: str | None) -> list[str]:
    """The names of the interfaces in the namespace."""
    return inside(netns, lambda: [name for _, name in socket.if_nameindex()])


def has(netns: str, device: str) -> bool:
    """Whether the interface is in the namespace, and that can be entered: a moment after it has its name."""
    try:
        return device in interfaces(netns)
    except Unavailable:
        return False


def checksums_in_software(netns: str | None, *devices: str) -> None:
    """Turns off transmit checksum offload (and with it segmentation offload), like `ethtool -K DEV tx off`.

    Needed on every interface whose peer is in a bridge of the user-space datapath: that bridge
    forwards a packet as it is, so the checksum that was left to "the hardware" is never filled in;
    pings pass and TCP does not.

    Raises:
        OSError: there is no such interface.
    """

    _offload(netns, devices, _ETHTOOL_STXCSUM, 0)


def _offload(netns: str | None, devices: Iterable[str], command: int, on: int) -> None:
    """One of the commands of linux/ethtool.h that set a feature."""

    def set_() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            for device in devices:
                value = ctypes.create_string_buffer(struct.pack("=II", command, on))
                request = struct.pack("16sP16x", device.encode(), ctypes.addressof(value))
                fcntl.ioctl(control, _SIOCETHTOOL, request)

    inside(netns, set_)


def sysctl(netns: str | None, settings: Iterable[tuple[str, str | int]]) -> None:
    """Writes below /proc/sys/net as the namespace sees it: ("ipv4/ip_forward", 1)."""

    def write() -> None:
        for name, value in settings:
            (Path("/proc/sys/net") / name).write_text(f"{value}\n")

    inside(netns, write)


def settings(netns: str | None, folder: str, pattern: str) -> list[str]:
    """The settings in a folder of /proc/sys/net whose names fit (glob(7)); none where there is no folder."""
    return inside(netns, lambda: sorted(p.name for p in (Path("/proc/sys/net") / folder).glob(pattern)))


def processes(netns: str) -> list[int]:
    """The ids of the processes in the namespace (by inode, like `ip netns pids`)."""
    try:
        wanted = os.stat(path(netns))
    except FileNotFoundError:
        return []
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                seen = os.stat(f"/proc/{entry}/ns/net")
            except OSError:
                continue
            if (seen.st_dev, seen.st_ino) == (wanted.st_dev, wanted.st_ino):
                found.append(int(entry))
    return sorted(found)
