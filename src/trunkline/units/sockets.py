"""Connections that end in this data plane's sockets, of shards that are others' by now.

They cannot be moved: whoever has the shard hands over what it does not know, until all of them have ended. So
it is looked which shards there are such of. One that was given away counts as such until then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from trunkline.devices.conntrack import Conntrack
from trunkline.units.local import LOCAL

#: How often it is looked, seconds.
_LOOK = 1.0
_TCP = 6
#: enum tcp_conntrack from here on: TIME_WAIT, CLOSE. What is over is kept for a while, and nobody needs it.
_OVER = 7


def shards_of_sockets() -> set[int]:
    """The shards of TCP connections in this process's kernel that end in its sockets, and are not over."""
    conntrack = Conntrack(None)
    try:
        entries = conntrack.marked(LOCAL, LOCAL)
    finally:
        conntrack.close()
    return {
        entry.mark & ~LOCAL for entry in entries if entry.protocol == _TCP and 0 < entry.tcp_state < _OVER
    }


class Sockets:
    """Keeps count. For one event loop."""

    def __init__(
        self, is_own: Callable[[int], bool], used: Callable[[], bool], changed: Callable[[], None]
    ) -> None:
        """`is_own`: whether a shard is this one's. `used`: whether connections ever were taken here.

        `changed` is called when `shards` are others.
        """
        self._is_own, self._used, self._changed = is_own, used, changed
        self._seen: set[int] = set()
        #: Given away since it was looked.
        self._given: set[int] = set()
        self._look = asyncio.Event()

    def gave(self, shards: Iterable[int]) -> None:
        """These are another one's now, and nobody sends what begins of them here any more."""
        if self._used():
            self._given.update(shards)
            self._look.set()

    @property
    def shards(self) -> tuple[int, ...]:
        return tuple(sorted(shard for shard in self._seen | self._given if not self._is_own(shard)))

    async def run(self) -> None:
        """Ends when it is cancelled."""
        while True:
            if not (self._seen or self._given):
                await self._look.wait()
            self._look.clear()
            before = self.shards
            given = set(self._given)
            seen = await asyncio.to_thread(shards_of_sockets)
            # What was given while it was looked is looked at once more.
            self._given = self._given - given if not self._look.is_set() else self._given
            self._seen = {shard for shard in seen if not self._is_own(shard)}
            if self.shards != before:
                self._changed()
            if not self._look.is_set():
                await asyncio.sleep(_LOOK)
