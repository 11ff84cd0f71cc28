"""The connections of shards in this kernel, read no oftener than they have to be.

To find those of one shard, the kernel goes through its whole table: with 262,144 buckets that takes 13 ms of
a processor even where the table is empty. So note is taken of which shards have none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Set
from pathlib import Path

from trunkline.devices.conntrack import Conntrack, Entry
from trunkline.plan.shards import SHARDS
from trunkline.units.local import LOCAL

#: The bits of a mark that are the shard; with the one more they are the shard where a connection goes
#: through, and nobody's where it ends in a socket here.
SHARD = 0xFFFF
THROUGH = SHARD | LOCAL
#: Looking at a connection here takes as long as the kernel's going past so many of its buckets.
_LOOK = 160
_KERNEL = Path("/proc/sys/net/netfilter")


class Connections:
    """Those that go through; what ends in a socket here is not among them. For one event loop."""

    def __init__(self) -> None:
        """What was there before this process is known."""
        self._buckets = _number("buckets")
        #: Shards that may have some.
        self._there = set(range(SHARDS))
        self._there = {entry.mark & SHARD for some in self.read(self._there) for entry in some}

    def came(self, shards: Iterable[int]) -> None:
        """There are some of these, or may be."""
        self._there.update(shards)

    def read(self, shards: Iterable[int]) -> Iterator[list[Entry]]:
        """Those of these shards, some at a time, so that other work is done between them."""
        return self._read(self._there.intersection(shards))

    def forget(self, shards: Iterable[int]) -> Iterator[list[Entry]]:
        """As `read`; the caller takes them away, so that there are none but those that come from now on."""
        wanted = self._there.intersection(shards)
        self._there -= wanted
        return self._read(wanted)

    def _read(self, wanted: Set[int]) -> Iterator[list[Entry]]:
        if not wanted:
            return
        with contextlib.closing(Conntrack(None)) as conntrack:
            if len(wanted) * self._buckets > _LOOK * _number("count"):
                yield from conntrack.dump(lambda mark: mark & THROUGH in wanted)
            else:
                for shard in wanted:
                    yield conntrack.marked(shard, THROUGH)


def _number(of: str) -> int:
    return int((_KERNEL / f"nf_conntrack_{of}").read_text())
