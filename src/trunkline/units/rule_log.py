"""What rules of the firewall log: the first packets of connections, as many as somebody can read.

nftables ── group ──▶ PacketLog ──▶ RuleLog: the newest few, and how many more there were ──▶ UnitStatus
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable

from trunkline.devices.packet_log import Logged, PacketLog
from trunkline.resources.reports import Condition, LoggedPacket
from trunkline.units.filtering import LOG_GROUP

#: So many at once, and so many a second, are told; of others it is told how many there were.
BURST, RATE = 50, 25
#: Each is told for so many seconds, and so many at once.
_TOLD, _MOST = 30.0, 100


class RuleLog:
    """Hears the group of this process's kernel, for one event loop."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        # A program that began anew counts on above all that it said before.
        self._serials = itertools.count(int(clock() * 1000))
        #: How many may be told now: a bucket that fills with `RATE`.
        self._room, self._filled = float(BURST), clock()
        self._newest: deque[LoggedPacket] = deque(maxlen=_MOST)
        #: How many were not told.
        self.more = 0
        self.problem: Condition | None = None

    async def run(self) -> None:
        """Listens until it is cancelled."""
        try:
            log = PacketLog(None, LOG_GROUP)
        except OSError as error:
            remedy = "It forwards all the same. Has the host's kernel nfnetlink_log?"
            self.problem = Condition(what="Rules do not log.", cause=str(error), remedy=remedy)
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(log.fileno(), lambda: self.take(log.read()))
        try:
            await asyncio.Event().wait()
        finally:
            loop.remove_reader(log.fileno())
            log.close()

    def take(self, packets: Iterable[Logged]) -> None:
        """Keeps those that there is room for."""
        now = self._clock()
        self._room = min(float(BURST), self._room + max(0.0, now - self._filled) * RATE)
        self._filled = now
        for packet in packets:
            if self._room < 1:
                self.more += 1
                continue
            self._room -= 1
            action, _, rule = packet.prefix.partition(" ")
            self._newest.append(
                LoggedPacket(
                    serial=next(self._serials),
                    at=now,
                    rule=rule,
                    action=action,
                    protocol=packet.protocol,
                    source=packet.source,
                    target=packet.target,
                    source_port=packet.source_port,
                    target_port=packet.target_port,
                )
            )

    def newest(self) -> tuple[LoggedPacket, ...]:
        """Those of late."""
        now = self._clock()
        while self._newest and self._newest[0].at < now - _TOLD:
            self._newest.popleft()
        return tuple(self._newest)
