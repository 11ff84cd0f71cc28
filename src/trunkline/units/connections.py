"""The connections that go through this kernel, found by their shards.

To find those of one shard, the kernel would go through its whole table: with 262,144 buckets that takes 13 ms
of a processor even where the table is empty, and each connection in it is told. So their names are kept here
by shard, from what the kernel tells of them as they come and go (`heard`) and from what this process does
itself, which the kernel does not tell. A name may be kept for a moment longer than its connection: whoever
reads finds out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from trunkline.devices.conntrack import Conntrack, Entry
from trunkline.plan.shards import SHARDS
from trunkline.units.local import LOCAL

#: The bits of a mark that are the shard; with the one more they are the shard where a connection goes
#: through, and nobody's where it ends in a socket here.
SHARD = 0xFFFF
THROUGH = SHARD | LOCAL
#: How many are read, or taken away, before others have their turn.
_SOME = 256


class Connections:
    """Those that go through; what ends in a socket here is not among them. For one event loop.

    Owns a socket to the kernel. By nothing else does this process change the kernel's connections.
    """

    def __init__(self, netns: str | None = None) -> None:
        """What was there before is known, too."""
        self._netns, self._kernel = netns, Conntrack(netns)
        self._names: defaultdict[int, set[bytes]] = defaultdict(set)
        #: Whether the names are all that there are, and how often that was not so any more.
        self._whole, self._losses = False, 0
        #: What was put since all was heard that had happened: the end of one of that name may be an earlier
        #: one's.
        self._put: dict[bytes, int] = {}
        #: By shards that come here: what has changed here since, and is there.
        self._changed: dict[int, set[bytes]] = {}

    @property
    def port(self) -> int:
        """By which the kernel knows what this process does."""
        return self._kernel.port

    # What happens.

    def heard(self, name: bytes, mark: int, *, gone: bool) -> None:
        """The kernel says of one that it came, changed or went."""
        shard = mark & THROUGH
        if shard >= SHARDS:
            return
        if not gone:
            self._names[shard].add(name)
        elif self._put.get(name) != shard:
            self._names[shard].discard(name)
        if (changed := self._changed.get(shard)) is not None:
            (changed.discard if gone else changed.add)(name)

    def heard_all(self) -> None:
        """Nothing that happened until now is unheard."""
        self._put.clear()

    def lost(self) -> None:
        """The kernel could not tell all: what there is will be read anew.

        Until then, what is known stays: who reads finds out what has ended.
        """
        self._whole = False
        self._losses += 1
        for changed in self._changed.values():
            changed.clear()

    def comes(self, shard: int, *, comes: bool) -> None:
        """Whether a shard is on its way here: its packets come here, and another unit tells what it had."""
        if comes:
            self._changed.setdefault(shard, set())
        else:
            self._changed.pop(shard, None)

    def is_newer(self, entry: Entry) -> bool:
        """Whether this one has changed here since its shard is on its way, so that others know less of it.

        That is to be asked when all is heard that has happened. Its client may have begun it anew with the
        port that it had before: then another unit tells what is left of the former one.
        """
        return entry.name in self._changed.get(entry.mark & THROUGH, ())

    # What is done.

    def put(self, entries: Iterable[Entry]) -> list[tuple[Entry, int]]:
        """As `Conntrack.put`."""
        entries = list(entries)
        for entry in entries:
            if (shard := entry.mark & THROUGH) < SHARDS:
                name = entry.name
                self._names[shard].add(name)
                self._put[name] = shard
        return self._kernel.put(entries)

    def change(self, entries: Iterable[Entry]) -> None:
        """As `Conntrack.change`."""
        self._kernel.change(entries)

    def drop(self, entries: Iterable[Entry]) -> None:
        """As `Conntrack.drop`."""
        entries = list(entries)
        self._kernel.drop(entries)
        for entry in entries:
            name, shard = entry.name, entry.mark & THROUGH
            self._names[shard].discard(name)
            self._put.pop(name, None)

    # What there is.

    def find(self, names: Sequence[bytes]) -> list[Entry]:
        """As `Conntrack.find`."""
        return self._kernel.find(names)

    def read(self, shards: Iterable[int]) -> Iterator[list[Entry]]:
        """Those of these shards, some at a time, so that other work is done between them."""
        yield from self._learn()
        for shard in shards:
            for names in self._some(shard):
                found = self.find(names)
                if len(found) < len(names):
                    self._names[shard].difference_update({*names} - {entry.name for entry in found})
                yield [entry for entry in found if entry.mark & THROUGH == shard]

    def forget(self, shards: Iterable[int]) -> Iterator[None]:
        """Takes those of these shards away, some at a time."""
        for _ in self._learn():
            yield
        for shard in shards:
            for names in self._some(shard):
                self.drop(Entry(shard, name) for name in names)
                yield

    def _some(self, shard: int) -> Iterator[list[bytes]]:
        names = list(self._names[shard])
        for start in range(0, len(names), _SOME):
            yield names[start : start + _SOME]

    def _learn(self) -> Iterator[list[Entry]]:
        """Goes through the kernel's table, where that has to be; all that it has is known then."""
        if not self._whole:
            losses, kernel = self._losses, Conntrack(self._netns)
            try:
                for some in kernel.dump(lambda mark: mark & THROUGH < SHARDS):
                    for entry in some:
                        self._names[entry.mark & THROUGH].add(entry.name)
                    yield []
            finally:
                kernel.close()
            self._whole = losses == self._losses
