"""The guest's root file system as an archive that the kernel unpacks into memory.

Format: "newc" cpio (Linux, Documentation/driver-api/early-userspace/buffer-format.rst): a header of 13
hexadecimal fields, the name, the content, both padded to 4 bytes; ended by TRAILER!!!. It is written here
because a device node in it needs no root this way, and equal inputs give equal bytes.
"""

from __future__ import annotations

import gzip
import re
import stat
from collections.abc import Iterable
from pathlib import Path


class Archive:
    """Entries of an archive by path, without the leading slash; parents are made as needed."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[int, bytes, tuple[int, int]]] = {}

    def folder(self, path: str, mode: int = 0o755) -> None:
        if path not in self._entries:
            self._add(path, stat.S_IFDIR | mode, b"")

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        self._add(path, stat.S_IFREG | mode, content)

    def link(self, path: str, target: str) -> None:
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        self._add(path, stat.S_IFCHR | mode, b"", (major, minor))

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def pack(self, *, compressed: bool = True) -> bytes:
        """The archive; compressed by gzip: under emulation as fast to unpack as anything newer."""
        out = bytearray()
        for number, (path, (mode, content, device)) in enumerate(sorted(self._entries.items()), start=1):
            out += _member(path, number, mode, content, device)
        out += _member("TRAILER!!!", 0, 0, b"", (0, 0))
        return gzip.compress(bytes(out), compresslevel=9, mtime=0) if compressed else bytes(out)

    def _add(self, path: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> None:
        parent = path.rpartition("/")[0]
        if parent:
            self.folder(parent)
        self._entries[path] = (mode, content, device)


def module_order(tree: Path, names: Iterable[str]) -> list[Path]:
    """The files of kernel modules and of all that they need, each after what it needs.

    `tree` is /lib/modules/VERSION. Names that the kernel has built in, or does not have, are left out.
    """
    files = {file.stem.replace("-", "_"): file for file in sorted(tree.rglob("*.ko"))}
    order: dict[Path, None] = {}

    def place(name: str) -> None:
        file = files.get(name.replace("-", "_"))
        if file is None or file in order:
            return
        found = re.search(rb"(?<![a-z])depends=([\w,-]*)\0", file.read_bytes())
        for needed in found[1].decode().split(",") if found and found[1] else ():
            place(needed)
        order[file] = None

    for name in names:
        place(name)
    return list(order)


def _member(path: str, number: int, mode: int, content: bytes, device: tuple[int, int]) -> bytes:
    name = path.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return _padded(header) + _padded(content)


def _padded(part: bytes) -> bytes:
    return part + b"\0" * (-len(part) % 4)
