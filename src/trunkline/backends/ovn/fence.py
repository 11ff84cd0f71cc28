"""Keeps northd from carrying out a loss in the northbound database before the loss is made good.

northd writes to the southbound database only while it holds a lock there, which it asserts in each of its
transactions. Who sees rows of the northbound database disappear steals the lock (RFC 7047, section 4.1.8):
what northd has made of the loss is refused. When the rows are back, with the UUIDs that they had, the lock is
given back, and northd finds nothing to change: no host has seen anything.

It is a race, which may be lost where northd has little to do. Then hosts follow the loss and the return.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import time
from collections.abc import Sequence

log = logging.getLogger(__name__)
LOCK = "ovn_northd"
#: northd may go on at the latest after so many seconds, whatever has become of the loss; and then for so many
#: at least, whatever is lost again. (After ten, a server takes who has not said a word for dead.)
LONGEST, REST = 9.0, 20.0
#: Once all is back northd has to read it: so many seconds, and so many times what it took to write it.
_LEAST, _TIMES = 0.5, 3.0


class Fence:
    """Owns the lock while it is up. The servers give it back to northd when its connections end.

    Args:
        remotes: all members of the southbound database; those by unix sockets are reached.
    """

    def __init__(self, remotes: Sequence[str]) -> None:
        self._paths = [remote.removeprefix("unix:") for remote in remotes if remote.startswith("unix:")]
        self._held: list[socket.socket] = []
        self._raised = 0.0
        self._lowered = float("-inf")
        self._soon = False
        self._release: asyncio.TimerHandle | None = None

    @property
    def up(self) -> bool:
        """Whether northd is kept from writing."""
        return bool(self._held)

    def raise_(self) -> None:
        """Steals the lock, at once: what asks for it must not wait for anything."""
        now = time.monotonic()
        if self._held:
            # Another loss: it has to be made good as well.
            self._soon = False
            self._lower_after(LONGEST - (now - self._raised))
            return
        if now - self._lowered < REST:
            return
        steal = json.dumps({"method": "steal", "params": [LOCK], "id": 0}).encode()
        for path in self._paths:
            with contextlib.suppress(OSError):
                self._held.append(_told(path, steal))
        if self._held:
            self._raised, self._soon = now, False
            self._lower_after(LONGEST)

    def lower_soon(self, seconds: float) -> None:
        """All is back, which took so many seconds to write."""
        if self._held and not self._soon:
            self._soon = True
            left = LONGEST - (time.monotonic() - self._raised)
            self._lower_after(min(left, _LEAST + _TIMES * seconds))

    def lower(self) -> None:
        """Gives the lock back."""
        if self._release is not None:
            self._release.cancel()
            self._release = None
        if self._held:
            self._lowered = time.monotonic()
            held = self._lowered - self._raised
            log.warning("rows of ours were lost: northd was kept from following for %.1f s", held)
        for each in self._held:
            each.close()
        self._held = []

    def _lower_after(self, seconds: float) -> None:
        if self._release is not None:
            self._release.cancel()
        self._release = asyncio.get_running_loop().call_later(max(0.0, seconds), self.lower)


def _told(path: str, message: bytes) -> socket.socket:
    """A connection to a server that was told this."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.connect(path)
        made.send(message)
    except OSError:
        made.close()
        raise
    return made
