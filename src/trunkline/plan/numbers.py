"""Choosing numbers: VNIs, VLAN ids, MAC addresses; and the search for a free one that all share.

What is taken is known to the store as claims, values of a scope in order. Numbers are claimed as
hexadecimal text of fixed width, so that the order of texts is the order of numbers, and a search can
begin anywhere without reading what lies before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

#: (at least this value, at most so many) -> claimed values, in order.
Taken = Callable[[str, int], Sequence[str]]

#: How many claims one look reads.
_CHUNK = 32
_LARGE = 1024

#: Virtual network identifiers: 24 bits (RFC 7348, RFC 8926); the low ones are left to operators.
VNI = (4096, 2**24 - 1)
#: VLAN ids (IEEE 802.1Q).
VLAN = (1, 4094)
#: The first half of MAC addresses that the cloud makes.
OUI = "fa:16:3e"


def text(number: int, width: int) -> str:
    """A number as it is claimed: hexadecimal, `width` digits."""
    return format(number, f"0{width}x")


def vni_text(number: int) -> str:
    """A VNI as it is claimed."""
    return text(number, 6)


def vlan_text(number: int) -> str:
    """A VLAN id as it is claimed."""
    return text(number, 3)


def free(ranges: Iterable[tuple[int, int]], taken: Taken, width: int, start: int | None = None) -> int | None:
    """A free number of some ranges (first and last included), or None if all are taken.

    It is the first free one from `start` on, as far as that is cheap to find: behind a long row of
    taken numbers the search leaps ahead in growing steps, and reads everything only where that finds
    nothing.
    """
    segments = list(_from(ranges, start))
    for first, last in segments:
        found = _leap(first, last, taken, width)
        if found is not None:
            return found
    for first, last in segments:
        found = _scan(first, last, taken, width)
        if found is not None:
            return found
    return None


def _from(ranges: Iterable[tuple[int, int]], start: int | None) -> Iterable[tuple[int, int]]:
    """The ranges, turned so that `start` comes first and what is before it last."""
    before: list[tuple[int, int]] = []
    after: list[tuple[int, int]] = []
    for first, last in ranges:
        if start is None or start <= first:
            after.append((first, last))
        elif start > last:
            before.append((first, last))
        else:
            after.append((start, last))
            before.append((first, start - 1))
    return [*after, *before] if start is not None else after


def _gap(at: int, last: int, taken: Taken, width: int, chunk: int) -> tuple[int, bool]:
    """The first number from `at` on that this look does not see taken; whether it is free for sure."""
    values = taken(text(at, width), chunk)
    expected = at
    for value in values:
        if int(value, 16) != expected:
            return expected, expected <= last
        expected += 1
    return expected, len(values) < chunk and expected <= last


def _leap(first: int, last: int, taken: Taken, width: int) -> int | None:
    """Looks in steps that double, and halve again towards the end of the range."""
    at, step = first, _CHUNK
    while at <= last:
        number, is_free = _gap(at, last, taken, width, _CHUNK)
        if is_free:
            return number
        step = min(step, (last - number) // 2)
        if step < _CHUNK:
            return None
        at, step = number + step, step * 2
    return None


def _scan(first: int, last: int, taken: Taken, width: int) -> int | None:
    at = first
    while at <= last:
        number, is_free = _gap(at, last, taken, width, _LARGE)
        if is_free:
            return number
        if number == at:
            return None
        at = number
    return None


def mac_address(seed: str, attempt: int = 0) -> str:
    """A MAC address for what `seed` names; another one for each attempt."""
    tail = hashlib.blake2b(f"{seed}/{attempt}".encode(), digest_size=3).hexdigest()
    return f"{OUI}:{tail[:2]}:{tail[2:4]}:{tail[4:]}"
