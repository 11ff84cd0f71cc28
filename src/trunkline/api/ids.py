"""New ids: random UUIDs (RFC 9562, version 4).

The kernel is asked for the bits of many at once: whoever asks it lets another thread run meanwhile, and may
wait for its turn for longer than the rest of a request takes.
"""

from __future__ import annotations

import os
import uuid

_AT_ONCE = 256
#: 16 random bytes each, taken from the end.
_ready: list[bytes] = []


def new_id() -> str:
    """An id that nothing has."""
    try:
        bits = _ready.pop()
    except IndexError:
        fresh = os.urandom(16 * _AT_ONCE)
        bits, *more = (fresh[start : start + 16] for start in range(0, len(fresh), 16))
        _ready.extend(more)
    return str(uuid.UUID(bytes=bits, version=4))
