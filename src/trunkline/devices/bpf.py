"""BPF programs: loaded by libbpf from objects that lie beside their sources, and put on interfaces.

An object's programs and maps are there for as long as the process holds them or an interface has them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from enum import IntEnum
from pathlib import Path

from trunkline.devices import namespace
from trunkline.errors import Unavailable

_PRESENT = -errno.EEXIST
#: How many programs an interface has on a side, at the most (BPF_MPROG_MAX).
_MOST = 64


class Side(IntEnum):
    """Which packets of an interface a program sees (enum bpf_attach_type: tcx)."""

    ARRIVING = 46
    LEAVING = 47


#: The same sides of clsact (enum bpf_tc_attach_point).
_CLSACT = {Side.ARRIVING: 1, Side.LEAVING: 2}


class _Hook(ctypes.Structure):
    """struct bpf_tc_hook."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("ifindex", ctypes.c_int),
        ("side", ctypes.c_int),
        ("parent", ctypes.c_uint32),
    )


class _Options(ctypes.Structure):
    """struct bpf_tc_opts."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("program", ctypes.c_int),
        ("flags", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("handle", ctypes.c_uint32),
        ("priority", ctypes.c_uint32),
    )


def library() -> ctypes.CDLL:
    """libbpf. Raises Unavailable where there is none."""
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError:
        raise Unavailable("libbpf is missing: install the package libbpf1.") from None
    for name in ("open_file", "find_program_by_name", "find_map_by_name"):
        getattr(library, f"bpf_object__{name}").restype = ctypes.c_void_p
    return library


def tcx(index: int, side: Side) -> tuple[int, ...] | None:
    """The programs that an interface of this namespace has on a side, by their numbers; None: kernels before
    Linux 6.6 have no tcx.
    """
    numbers = (ctypes.c_uint32 * _MOST)()
    count = ctypes.c_uint32(_MOST)
    error = library().bpf_prog_query(index, side, 0, None, numbers, ctypes.byref(count))
    if error in (-errno.EINVAL, -errno.ENOENT):
        return None if error == -errno.EINVAL else ()
    _checked(f"programs of interface {index}", error)
    return tuple(numbers[: count.value])


class Object:
    """The programs and maps of one object file, in the kernel."""

    def __init__(self, file: Path) -> None:
        """Raises Unavailable: no libbpf, no right, or a kernel that refuses the programs."""
        self._library = library()
        opened = self._library.bpf_object__open_file(os.fsencode(file), None)
        if not opened:
            raise Unavailable(f"{file} is no BPF object.")
        self._object = ctypes.c_void_p(opened)
        self._maps: dict[str, Map] = {}
        if error := self._library.bpf_object__load(self._object):
            self.close()
            raise Unavailable(f"The kernel does not take {file.name}: {os.strerror(-error)}.")

    def close(self) -> None:
        """Lets go of it; what interfaces have of it stays there."""
        self._library.bpf_object__close(self._object)

    def put(self, name: str, key: bytes, value: bytes) -> None:
        """Writes an entry of a map; key and value as the program has them in memory."""
        self._map(name).put(key, value)

    def drop(self, name: str, key: bytes) -> None:
        """Removes an entry of a map; one that is not there is no error."""
        self._map(name).drop(key)

    def get(self, name: str, key: bytes, size: int) -> bytes | None:
        """An entry of a map, `size` bytes; None where there is none."""
        return self._map(name).get(key, size)

    def descriptor(self, name: str) -> int:
        """Of a map, for a `Map` of another process; it is closed with the object."""
        return self._map(name).descriptor

    def total(self, name: str, key: bytes) -> int:
        """An entry of a map that has a 64-bit number for each CPU: the sum of them."""
        count = self._library.libbpf_num_possible_cpus()
        return sum(struct.unpack(f"={count}Q", self.get(name, key, 8 * count) or bytes(8 * count)))

    def attach(self, netns: str | None, device: str, program: str, side: Side) -> None:
        """Puts a program on an interface that has no other on this side, for as long as that is there.

        Raises:
            Unavailable: there is no such interface, or something else stands there.
        """
        descriptor = self._program(program)

        def attach() -> int:
            index = socket.if_nametoindex(device)
            found = tcx(index, side)
            if found is None:
                return self._attach_clsact(index, descriptor, side)
            return _PRESENT if found else int(self._library.bpf_prog_attach(descriptor, index, side, 0))

        try:
            _checked(f"{program} on {device}", namespace.inside(netns, attach))
        except OSError:
            raise Unavailable(f"There is no interface {device}.") from None

    def _attach_clsact(self, index: int, program: int, side: Side) -> int:
        """As tcx, for kernels that have none, by a filter of tc(8); each packet takes a little longer."""
        hook = _Hook(ctypes.sizeof(_Hook), index, sum(_CLSACT.values()), 0)
        error = int(self._library.bpf_tc_hook_create(ctypes.byref(hook)))
        if error not in (0, _PRESENT):
            return error
        hook.side = _CLSACT[side]
        options = _Options(size=ctypes.sizeof(_Options), program=program, handle=1, priority=1)
        return int(self._library.bpf_tc_attach(ctypes.byref(hook), ctypes.byref(options)))

    def lead(self, name: str, key: bytes, program: str) -> None:
        """Has an entry of a map of programs lead to one, until this process ends or closes the object.

        The kernel empties such a map when its last descriptor is closed (kernel/bpf/arraymap.c,
        prog_array_map_clear).
        """
        self._map(name).put(key, struct.pack("=I", self._program(program)))

    def _program(self, name: str) -> int:
        """The descriptor of a program."""
        found = self._library.bpf_object__find_program_by_name(self._object, name.encode())
        if not found:
            raise LookupError(name)
        return int(self._library.bpf_program__fd(ctypes.c_void_p(found)))

    def _map(self, name: str) -> Map:
        if name not in self._maps:
            found = self._library.bpf_object__find_map_by_name(self._object, name.encode())
            if not found:
                raise LookupError(name)
            descriptor = self._library.bpf_map__fd(ctypes.c_void_p(found))
            self._maps[name] = Map(descriptor, name)
        return self._maps[name]


class Map:
    """A map of programs that are in the kernel, by a descriptor that somebody else owns."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._library = library()
        self._name = name
        self.descriptor = descriptor

    def put(self, key: bytes, value: bytes) -> None:
        """Writes an entry; key and value as the programs have them in memory."""
        _checked(
            self._name,
            self._library.bpf_map_update_elem(self.descriptor, key, value, ctypes.c_uint64(0)),
        )

    def drop(self, key: bytes) -> None:
        """Removes an entry; one that is not there is no error."""
        error = self._library.bpf_map_delete_elem(self.descriptor, key)
        _checked(self._name, 0 if error == -errno.ENOENT else error)

    def get(self, key: bytes, size: int) -> bytes | None:
        """An entry, `size` bytes; None where there is none."""
        value = ctypes.create_string_buffer(size)
        error = self._library.bpf_map_lookup_elem(self.descriptor, key, value)
        if error == -errno.ENOENT:
            return None
        _checked(self._name, error)
        return value.raw


def _checked(what: str, error: int) -> None:
    if error:
        raise Unavailable(f"BPF, {what}: {os.strerror(-error)}.")
