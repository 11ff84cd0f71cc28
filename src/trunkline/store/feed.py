"""The newest revisions: waiting for the next one, in any event loop, and what the last ones changed."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable

from trunkline.errors import Unavailable
from trunkline.store.reader import Written

#: So many changes are kept, for those who follow close behind; the others read them.
RECENT = 256


class Feed:
    """The newest revision, and whoever waits for a newer one. Any thread may call its methods."""

    def __init__(self, revision: int) -> None:
        self._revision = revision
        self._opened = revision
        self._by_kind: dict[str, int] = {}
        self._recent: deque[Written] = deque()
        #: All that was changed after this revision is among the recent.
        self._forgotten = revision
        self._closed = False
        self._lock = threading.Lock()
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    @property
    def revision(self) -> int:
        """The newest revision."""
        return self._revision

    def newest(self, kinds: Iterable[str]) -> int:
        """The newest revision that changed a resource of these kinds, or the one before all known here."""
        return max((self._by_kind.get(kind, self._opened) for kind in kinds), default=self._opened)

    def recent(self, after: int) -> tuple[int, list[Written]] | None:
        """The newest revision, and what was changed after a revision; None where that is not kept."""
        with self._lock:
            if after < self._forgotten:
                return None
            found: list[Written] = []
            for one in reversed(self._recent):
                if one.change.revision <= after:
                    break
                found.append(one)
            return self._revision, found[::-1]

    def publish(self, revision: int, written: Iterable[Written]) -> None:
        """Makes it the newest one, up to which this was changed, and wakes everyone."""
        with self._lock:
            for one in written:
                self._by_kind[one.change.kind] = revision
                self._recent.append(one)
            while len(self._recent) > RECENT:
                self._forgotten = self._recent.popleft().change.revision
            self._revision = revision
            self._wake()

    def close(self) -> None:
        """Ends every wait."""
        with self._lock:
            self._closed = True
            self._wake()

    async def changed(self, after: int) -> int:
        """Waits for a revision newer than `after`, and returns the newest.

        Raises:
            Unavailable: the store was closed.
        """
        loop = asyncio.get_running_loop()
        while True:
            event = asyncio.Event()
            with self._lock:
                if self._revision > after:
                    return self._revision
                if self._closed:
                    raise Unavailable("The store is closed.")
                self._waiting[event] = loop
            try:
                await event.wait()
            finally:
                with self._lock:
                    self._waiting.pop(event, None)

    def _wake(self) -> None:
        for event, loop in self._waiting.items():
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:
                pass  # The loop is closed: nobody waits there any more.
        self._waiting.clear()
