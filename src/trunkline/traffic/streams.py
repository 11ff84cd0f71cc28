"""The bytes that connections and flows carry: each its own, known at both ends by a number.

All are parts of one pseudo-random block, from places that are far from each other's, so that the bytes of one
connection are not those of another one, nor its own of a moment before.
"""

from __future__ import annotations

import hashlib
import struct

#: What a connection and a datagram begin with: a word, and the number.
HEAD = struct.Struct("!4sI")
WORD = b"tltr"
#: The longest piece that can be asked for, bytes.
LONGEST = 1 << 16
_LENGTH = 1 << 20
# Odd, so that all numbers below `_LENGTH` have different places; Knuth's, so that neighbours are far apart.
_APART = 2654435761


class Streams:
    """All streams of a run, which is named by a seed."""

    def __init__(self, seed: str) -> None:
        block = hashlib.shake_128(seed.encode()).digest(_LENGTH)
        self._block = block + block[:LONGEST]

    def piece(self, number: int, start: int, length: int) -> bytes:
        """So many bytes of a connection, `LONGEST` at the most, from a position counted from 0."""
        at = (number * _APART + start) % _LENGTH
        piece = self._block[at : at + length]
        if start >= HEAD.size:
            return piece
        head = HEAD.pack(WORD, number)[start : start + length]
        return head + piece[len(head) :]


def number(head: bytes | memoryview) -> int | None:
    """The number that a connection or a datagram begins with; None where it is none of ours."""
    word, found = HEAD.unpack_from(head)
    return int(found) if word == WORD else None


def first_difference(one: bytes | memoryview, other: bytes) -> int:
    """Where two pieces of equal length differ first."""
    return next(n for n, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)


#: The sequence number of a datagram, after its head; and then for how long the far end had it, nanoseconds:
#: 0 on the way there.
SEQUENCE, HELD = struct.Struct("!I"), struct.Struct("!Q")
_HELD_AT = HEAD.size + SEQUENCE.size
#: The shortest one, bytes.
SHORTEST = _HELD_AT + HELD.size
#: Flows have numbers above those of all connections.
_FLOWS_FROM = 1 << 19


def datagram(streams: Streams, flow: int, sequence: int, size: int) -> bytes:
    """The one of a flow with that sequence number, `size` bytes in all, `SHORTEST` at least."""
    head = HEAD.pack(WORD, flow) + SEQUENCE.pack(sequence) + HELD.pack(0)
    start = HEAD.size + sequence * size
    return head + streams.piece(_FLOWS_FROM + flow, start, size - len(head))


def opened(data: memoryview) -> tuple[int, int] | None:
    """Flow and sequence number that a datagram names; None where it is none of ours."""
    if len(data) < SHORTEST or (flow := number(data)) is None:
        return None
    return flow, SEQUENCE.unpack_from(data, HEAD.size)[0]


def hold(data: memoryview, nanoseconds: int) -> None:
    """Writes into a datagram for how long the far end had it."""
    HELD.pack_into(data, _HELD_AT, nanoseconds)


def release(data: memoryview) -> int:
    """Reads that, and makes the datagram what it was."""
    found = int(HELD.unpack_from(data, _HELD_AT)[0])
    HELD.pack_into(data, _HELD_AT, 0)
    return found
