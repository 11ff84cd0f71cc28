"""How long it takes shards to move, told when all of them have."""

from __future__ import annotations

from collections.abc import Callable


class Progress:
    """Of those that are under way at a time."""

    def __init__(self) -> None:
        #: Since when shards are under way, when all were with their new owners, and how many they were.
        self._since, self._taken, self._moving = 0.0, 0.0, 0

    def look(self, now: float, moving: int, taken: Callable[[], bool]) -> str:
        """What is to be told now, "" for nothing.

        Args:
            moving: how many are under way. taken: whether all of them are with their new owners.
        """
        if moving and not self._moving:
            self._since, self._taken = now, 0.0
        self._moving = max(moving, self._moving) if moving else self._moving
        if self._moving and not self._taken and taken():
            self._taken = now
        if moving or not self._moving:
            return ""
        owners, flows = (1000 * (at - self._since) for at in (self._taken or now, now))
        count, self._moving = self._moving, 0
        return f"{count} shards have moved in {owners:.0f} ms, with all of their flows in {flows:.0f}."
