"""How often a server's QEMU ended without being asked, and what is told of the last time."""

from __future__ import annotations

import time

from trunkline.resources.reports import Condition

#: The longest pause before anything is tried again, seconds.
LONGEST_PAUSE = 15.0
#: A crash that was healed is told for so long, and counts for so long.
_TOLD, _COUNTED = 60.0, 300.0


class Crashes:
    """The crashes of one server."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._last: tuple[float, Condition] | None = None

    def tell(self, condition: Condition) -> None:
        """It crashed now, for this cause."""
        self._last = time.monotonic(), condition

    @property
    def told(self) -> Condition | None:
        """The last crash, as long as it is news."""
        if self._last is None or time.monotonic() >= self._last[0] + _TOLD:
            return None
        return self._last[1]

    def count(self) -> float:
        """Counts one; returns how long to wait before the next start, longer from crash to crash."""
        now = time.monotonic()
        self._times = [t for t in self._times if t > now - _COUNTED] + [now]
        return min(2.0 ** (len(self._times) - 2), LONGEST_PAUSE) if len(self._times) > 1 else 0.0
