"""What is in an image file: its format, the size of its disk, and what it points to outside itself.

Formats are told by their signatures. Of qcow2 the header is read as a whole, because a qcow2 file may
name other files (a backing file, an external data file) which QEMU would then open: such a file is a
way to read the host's own disk, and is refused.

Sources: QEMU, docs/interop/qcow2.txt, "Header" and "Header extensions"; the signatures of the other
formats from their specifications (ECMA-119 8.4 for ISO 9660; VHD 1.0, footer; MS-VHDX 2.2.1; VMDK 5.0;
LUKS1 on-disk format, 2.2).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from trunkline.errors import BadField

_QCOW2 = b"QFI\xfb"
#: Incompatible feature bits: external data file.
_EXTERNAL_DATA = 1 << 2
#: Header extension that names the external data file.
_DATA_FILE_NAME = 0x44415441
_HEAD = 64 * 1024 + 512

#: (offset, bytes, format): the signatures, besides qcow2's.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"QED\x00", "qed"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vhd"),
    (0x40, b"\x7f\x10\xda\xbe", "vdi"),
    (0, b"LUKS\xba\xbe", "luks"),
    (0, b"WithoutFreeSpace", "ploop"),
    (0, b"WithouFreSpacExt", "ploop"),
    (0x8001, b"CD001", "iso"),
)
#: Formats without a signature of their own: any content that is not of another format will do.
_BLANK = frozenset({"raw", "ami", "ari", "aki"})


@dataclass(frozen=True)
class Content:
    """What was found in a file."""

    #: raw where no signature is known.
    format: str
    #: The size of the disk that a guest sees, bytes.
    virtual_size: int


def inspect(path: Path) -> Content:
    """Reads what a file is.

    Raises:
        BadField: it is a qcow2 file that refers to another file, is encrypted, or is malformed.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD)
        file.seek(max(0, size - 512))
        tail = file.read(512)
    if head.startswith(_QCOW2):
        return Content("qcow2", _qcow2(head, size))
    for offset, signature, name in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return Content(name, size)
    if tail.startswith(b"conectix"):
        return Content("vhd", size)
    return Content("raw", size)


def check(path: Path, disk_format: str) -> Content:
    """Reads what a file is, and that it is what it is said to be.

    Raises:
        BadField: it is something else, or is refused by `inspect`.
    """
    content = inspect(path)
    fits = content.format == disk_format or (disk_format in _BLANK and content.format in ("raw", "iso"))
    if not fits:
        raise BadField(
            "disk_format",
            f"the image was declared as {disk_format}, and the content of the file is {content.format}. "
            f"Create the image with disk_format {content.format}, or convert the file.",
            type="ImageFormatMismatch",
        )
    return content


def _qcow2(head: bytes, size: int) -> int:
    """The size of the disk in a qcow2 file, from its first bytes."""
    if len(head) < 72:
        raise _bad("its header is cut short.")
    (version, backing_offset, backing_size, cluster_bits, virtual_size, crypt) = struct.unpack_from(
        ">IQIIQI", head, 4
    )
    if version not in (2, 3):
        raise _bad(f"version {version} of the format is not known. Convert it to version 3.")
    if backing_offset or backing_size:
        raise _bad(
            "it has a backing file, which an image may not have. Flatten it with 'qemu-img convert'.",
            type="ImageRefersOutside",
        )
    if crypt:
        raise _bad("it is encrypted, which is not supported. Convert it to a plain file.")
    if not 9 <= cluster_bits <= 21:
        raise _bad("its cluster size is out of range.")
    if virtual_size > 2**50:
        raise _bad("its disk is larger than 1 PiB.")
    header_length = 72
    if version == 3:
        if len(head) < 104:
            raise _bad("its header is cut short.")
        (features,) = struct.unpack_from(">Q", head, 72)
        (header_length,) = struct.unpack_from(">I", head, 100)
        if features & _EXTERNAL_DATA:
            raise _external()
        if features & ~0x1F:
            raise _bad("it has incompatible features that are not known.")
        if not 104 <= header_length <= 2**cluster_bits:
            raise _bad("the length of its header is out of range.")
    _refuse_external_data(head, header_length)
    return int(virtual_size)


def _refuse_external_data(head: bytes, at: int) -> None:
    while at + 8 <= len(head):
        kind, length = struct.unpack_from(">II", head, at)
        if kind == 0:
            return
        if kind == _DATA_FILE_NAME:
            raise _external()
        at += 8 + (length + 7) // 8 * 8
    # The extensions go on beyond what was read: nobody writes such headers but to hide something.
    raise _bad("its header extensions have no end.")


def _external() -> BadField:
    return _bad(
        "it has an external data file, which an image may not have. Convert it with 'qemu-img convert'.",
        type="ImageRefersOutside",
    )


def _bad(problem: str, *, type: str = "ImageMalformed") -> BadField:
    return BadField("file", f"the file is qcow2, and {problem}", type=type)
