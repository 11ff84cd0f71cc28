"""Who of several answers: a row of slots, each with one of them. Pure.

A connection takes the slot that is its turn, or that a hash of where it comes from says. Who is out has no
slot; there are as many slots as before, so that what looks them up stays as it is.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import struct
from collections.abc import Sequence

#: How many slots there are for each, about; and in all.
_EACH, _MOST = 64, 4096


def size(count: int) -> int:
    """How many slots there are for so many who answer: a power of two."""
    return 1 if count <= 1 else min(_MOST, 1 << (_EACH * count - 1).bit_length())


def in_turn(weights: Sequence[float], slots: int) -> list[int]:
    """By weights, each as evenly among the others as can be; none where all weights are 0.

    Each has its slots at equal distances (stride scheduling, Waldspurger and Weihl 1995).
    """
    queue = [(0.5 / weight, number) for number, weight in enumerate(weights) if weight > 0]
    heapq.heapify(queue)
    found = []
    for _ in range(slots if queue else 0):
        at, number = queue[0]
        found.append(number)
        heapq.heapreplace(queue, (at + 1 / weights[number], number))
    return found


def by_hash(names: Sequence[str], weights: Sequence[float], slots: int) -> list[int]:
    """By weights and chance, always the same: who comes takes slots from all, who goes leaves his own alone.

    The highest of random numbers has the slot (rendezvous hashing, Thaler and Ravishankar 1998), weighted as
    by Schindelhauer and Schomaker (2005). None where all weights are 0.
    """
    best = [-math.inf] * slots
    found = [-1] * slots
    for number, (name, weight) in enumerate(zip(names, weights, strict=True)):
        if not weight > 0:
            continue
        drawn = struct.unpack(f"<{slots}I", hashlib.shake_128(name.encode()).digest(4 * slots))
        for slot, each in enumerate(drawn):
            score = math.log((each + 1) / 2**32 * (1 - 2**-33)) / weight
            if score > best[slot]:
                best[slot], found[slot] = score, number
    return found if -1 not in found else []


def by_load(weights: Sequence[float], busy: Sequence[int], coming: int) -> list[float]:
    """The parts of new connections that bring all as near to their share of connections as can be.

    Args:
        busy: how many each has.
        coming: how many come before it is asked again; at least one.
    """
    able = [number for number, weight in enumerate(weights) if weight > 0]
    parts = [0.0] * len(weights)
    coming, level = max(coming, 1), 0.0
    # As water that is poured in: from the lowest on, until all of it is there.
    order = sorted(able, key=lambda number: busy[number] / weights[number])
    weight, there = 0.0, 0
    for place, number in enumerate(order):
        weight, there = weight + weights[number], there + busy[number]
        level = (coming + there) / weight
        if place + 1 == len(order) or level <= busy[order[place + 1]] / weights[order[place + 1]]:
            break
    for number in able:
        parts[number] = max(0.0, weights[number] * level - busy[number]) / coming
    return parts
