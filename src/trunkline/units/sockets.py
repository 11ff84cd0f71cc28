"""Connections that end in this data plane's sockets, of shards that are others' by now.

They cannot be moved: whoever has the shard hands over what it does not know, until all of them have ended. So
it is looked which shards there are such of. One that was given away counts as such until then, and so does
one of which another may have begun while it was looked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from trunkline.devices.conntrack import Conntrack
from trunkline.units.local import LOCAL

#: How often it is looked, seconds; and how long after a shard was given away, for what the other unit handed
#: over before may be on its way still.
_LOOK, _ON_ITS_WAY = 1.0, 0.1
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
        self,
        is_own: Callable[[int], bool],
        begins_in: Callable[[int], bool],
        used: Callable[[], bool],
        changed: Callable[[], None],
    ) -> None:
        """`is_own`: whether a shard is this one's. `begins_in`: whether what this one begins itself may be of
        a shard. `used`: whether connections ever were taken here.

        `changed` is called when `shards` or `there` are others.
        """
        self._is_own, self._begins_in, self._used, self._changed = is_own, begins_in, used, changed
        #: Of which there were some, and of which there may be some, when it was looked.
        self._found: set[int] = set()
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
        """Those of which connections may end here."""
        return self._of_others(self._seen | self._given)

    @property
    def there(self) -> tuple[int, ...]:
        """Of these, those of which some do, as far as it was looked."""
        return self._of_others(self._found | self._given)

    def _of_others(self, shards: set[int]) -> tuple[int, ...]:
        return tuple(sorted(shard for shard in shards if not self._is_own(shard)))

    async def run(self) -> None:
        """Ends when it is cancelled."""
        while True:
            if not (self._seen or self._given):
                await self._look.wait()
            self._look.clear()
            await asyncio.sleep(_ON_ITS_WAY)
            before, given = (self.shards, self.there), set(self._given)
            # Of these one may have begun when it was looked already.
            begun = set(filter(self._begins_in, self.shards))
            self._found = await asyncio.to_thread(shards_of_sockets)
            # What was given while it was looked is looked at once more.
            self._given = self._given - given if not self._look.is_set() else self._given
            self._seen = {*self._of_others(self._found | begun)}
            if (self.shards, self.there) != before:
                self._changed()
            if not self._look.is_set():
                await asyncio.sleep(_LOOK)
