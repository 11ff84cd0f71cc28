"""Disks of servers: copy-on-write files over images, by qemu-img."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from trunkline.devices.tools import ToolFailed, run

GIB = 1 << 30
#: The longest time that copying a disk takes, seconds.
_LONG = 6 * 3600.0


@dataclass(frozen=True)
class DiskInfo:
    """What a disk's file says of itself: format, the size that a guest sees in bytes, what it builds on."""

    format: str
    virtual_size: int
    backing: str | None


async def info(file: Path, disk_format: str) -> DiskInfo:
    """Reads a file as one of that format; never guesses, for a guest may write what it likes.

    Raises:
        trunkline.devices.tools.ToolFailed: it is none.
    """
    said = json.loads(
        await run(["qemu-img", "info", "--force-share", "--output=json", "-f", disk_format, str(file)])
    )
    return DiskInfo(str(said["format"]), int(said["virtual-size"]), said.get("full-backing-filename") or None)


async def create_overlay(file: Path, image: Path, image_format: str, size_gib: int) -> None:
    """A new qcow2 file whose content is the image's until it is written to.

    Args:
        image: an absolute path, for it is written into the file and must hold from any folder.
        size_gib: what the guest sees; 0 for the image's size.
    Raises:
        trunkline.devices.tools.ToolFailed: the image is larger than that, or cannot be read.
    """
    size: list[str] = []
    if size_gib:
        found = await info(image, image_format)
        if found.virtual_size > size_gib * GIB:
            raise ToolFailed(
                f"the image needs a disk of {-(-found.virtual_size // GIB)} GiB, the flavor has {size_gib}"
            )
        size = [f"{size_gib}G"]
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    await run(
        ("qemu-img", "create", "-q", "-f", "qcow2", "-F", image_format, "-b", str(image), str(new), *size)
    )
    os.replace(new, file)


async def create_blank(file: Path, size: int) -> None:
    """A new qcow2 file of `size` bytes that reads as zeros.

    Raises:
        trunkline.devices.tools.ToolFailed: it cannot be made.
    """
    await run(("qemu-img", "create", "-q", "-f", "qcow2", str(file), str(size)))


async def copy(disk: Path, file: Path) -> None:
    """A new qcow2 file that holds all that a disk shows, and builds on no other file.

    Raises:
        trunkline.devices.tools.ToolFailed: the disk cannot be read, or the file not be written.
    """
    await run(
        ("qemu-img", "convert", "-q", "-f", "qcow2", "-O", "qcow2", str(disk), str(file)), timeout=_LONG
    )


def free_bytes(folder: Path) -> int:
    """What an unprivileged process could still write there."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def total_bytes(folder: Path) -> int:
    """The size of the file system."""
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize
