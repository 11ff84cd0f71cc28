"""Disks of servers: copy-on-write files over images, by qemu-img."""

from __future__ import annotations

import json
import os
import struct
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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


async def create_blank(file: Path, size: int, disk_format: Literal["qcow2", "raw"] = "qcow2") -> None:
    """A new file of `size` bytes that reads as zeros.

    Raises:
        trunkline.devices.tools.ToolFailed: it cannot be made.
    """
    await run(("qemu-img", "create", "-q", "-f", disk_format, str(file), str(size)))


async def copy(disk: Path, file: Path) -> None:
    """A new qcow2 file that holds all that a disk shows, and builds on no other file.

    Raises:
        trunkline.devices.tools.ToolFailed: the disk cannot be read, or the file not be written.
    """
    await run(
        ("qemu-img", "convert", "-q", "-f", "qcow2", "-O", "qcow2", str(disk), str(file)), timeout=_LONG
    )


async def adopt(file: Path, image: Path, image_format: str, size_gib: int) -> None:
    """Makes an overlay that came from elsewhere build on the image here, and grows it.

    Args:
        size_gib: what the guest sees from then on; 0 for what it is.
    Raises:
        trunkline.devices.tools.ToolFailed: it is larger than that, or is none.
    """
    await run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", image_format, "-b", str(image), str(file)])
    await grow(file, size_gib)


async def grow(file: Path, size_gib: int) -> None:
    """Makes a qcow2 file at least so large; 0 leaves it.

    Raises:
        trunkline.devices.tools.ToolFailed: it is larger.
    """
    has, wanted = (await info(file, "qcow2")).virtual_size, size_gib * GIB
    if wanted and has > wanted:
        raise ToolFailed(f"the disk has {-(-has // GIB)} GiB, the flavor {size_gib}: disks do not shrink")
    if has < wanted:
        await run(["qemu-img", "resize", "-q", "-f", "qcow2", str(file), f"{size_gib}G"])


async def create_ephemeral(file: Path, size_gib: int) -> None:
    """A new qcow2 file with an empty ext4 file system of the label ``ephemeral0``, as cloud-init finds it."""
    raw, new = file.with_suffix(".raw"), file.with_suffix(".new")
    try:
        with raw.open("wb") as stream:
            stream.truncate(size_gib * GIB)
        await run(["mkfs.ext4", "-q", "-F", "-L", "ephemeral0", str(raw)], timeout=120.0)
        await run(
            ["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", str(raw), str(new)], timeout=300.0
        )
        os.replace(new, file)
    finally:
        raw.unlink(missing_ok=True)
        new.unlink(missing_ok=True)


def create_swap(file: Path, size_mib: int) -> None:
    """A new raw file, sparse, that is swap space of version 1 with pages of 4096 bytes.

    Its layout is that of ``union swap_header`` in Linux's ``include/linux/swap.h``: 1024 bytes for boot
    loaders, the version, the last page, the number of bad pages, a UUID, a label; the magic ends the page.
    """
    page = bytearray(4096)
    struct.pack_into(
        "<III16s16s", page, 1024, 1, (size_mib << 20) // 4096 - 1, 0, uuid.uuid4().bytes, b"swap0"
    )
    page[-10:] = b"SWAPSPACE2"
    new = file.with_suffix(".new")
    with new.open("wb") as stream:
        stream.write(page)
        stream.truncate(size_mib << 20)
    os.replace(new, file)


def free_bytes(folder: Path) -> int:
    """What an unprivileged process could still write there."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def total_bytes(folder: Path) -> int:
    """The size of the file system."""
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize
