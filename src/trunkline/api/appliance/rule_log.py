"""What rules of appliances logged: the newest few hundred packets of each unit, as its host reports them.

Nothing is stored: control that begins anew has those of the last seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from trunkline.api.appliance.events import text_of
from trunkline.resources.appliance import Unit
from trunkline.resources.reports import LoggedPacket, UnitStatus

#: How many are kept of a unit, and shown of an appliance.
MOST = 300


class RuleLog:
    """Of one unit."""

    def __init__(self) -> None:
        self._incarnation = ""
        self._last: int | None = None
        self._packets: deque[LoggedPacket] = deque(maxlen=MOST)
        #: How many were not heard of, besides those that the unit itself did not tell.
        self._missed = 0
        self._unlogged = 0

    def take(self, status: UnitStatus) -> None:
        """What the unit says now."""
        if status.incarnation != self._incarnation:
            self._incarnation, self._last = status.incarnation, None
            self._missed, self._unlogged = self._missed + self._unlogged, 0
        for packet in status.logged:
            if self._last is not None and packet.serial <= self._last:
                continue
            if self._last is not None:
                self._missed += packet.serial - self._last - 1
            self._last = packet.serial
            self._packets.append(packet)
        self._unlogged = status.unlogged

    @property
    def more(self) -> int:
        """How many there were that are not known."""
        return self._missed + self._unlogged

    def packets(self) -> Sequence[LoggedPacket]:
        """The newest, the oldest of them first."""
        return self._packets


def shown(logs: Sequence[tuple[Unit, RuleLog]]) -> dict[str, Any]:
    """The newest packets of all units of an appliance, the newest last; how many others there were."""
    packets = [(packet.at, unit.number, packet) for unit, log in logs for packet in log.packets()]
    packets.sort(key=lambda each: (each[0], each[1], each[2].serial))
    told = []
    for at, number, packet in packets[-MOST:]:
        fields = msgspec.structs.asdict(packet)
        del fields["serial"]
        told.append({**fields, "at": text_of(at), "unit": number})
    return {"log": told, "more": sum(log.more for _, log in logs)}
