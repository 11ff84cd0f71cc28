"""Programs and libraries without what debuggers alone read (elf(5)): segments name what is loaded."""

from __future__ import annotations

import struct

_MAGIC = b"\x7fELF\x02\x01"
#: In the header: where the segments' table is, where the sections' table is, and how many entries they have.
_SEGMENTS, _SECTIONS, _COUNT, _SECTION_WORDS = 32, 40, 56, 58
_ENTRY = 56


def loaded(content: bytes) -> bytes:
    """A 64-bit program or library with all that a loader reads, and no table of sections.

    Anything else is as it was.
    """
    if not content.startswith(_MAGIC):
        return content
    (table,) = struct.unpack_from("<Q", content, _SEGMENTS)
    (count,) = struct.unpack_from("<H", content, _COUNT)
    end = table + count * _ENTRY
    for at in range(table, end, _ENTRY):
        offset, _, _, size = struct.unpack_from("<QQQQ", content, at + 8)
        end = max(end, offset + size)
    kept = bytearray(content[:end])
    kept[_SECTIONS : _SECTIONS + 8] = bytes(8)
    kept[_SECTION_WORDS : _SECTION_WORDS + 6] = bytes(6)
    return bytes(kept)
