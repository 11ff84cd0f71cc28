"""How long nothing came through, and how much was lost: echo requests, one every so many milliseconds."""

from __future__ import annotations

import contextlib
import secrets
import socket
import struct
import threading
import time
from itertools import pairwise
from types import TracebackType

from agent_lab import checksum
from probes import Space, wait_for

#: Between two requests that shall tell how long nothing came, seconds.
EVERY = 0.01
#: How long an answer may be on its way when no more is asked, on a machine that does a lot just then.
ON_ITS_WAY = 5.0


class Stream:
    """Asks an IPv4 address for an echo, again and again, for as long as the block."""

    def __init__(self, space: Space, address: str, every: float = EVERY) -> None:
        self._raw = space.open(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._raw.settimeout(0.1)
        self._address = address
        self._every = every
        self._identifier = secrets.randbits(16)
        self._silent, self._ended = threading.Event(), threading.Event()
        #: The numbers of what was asked, and of what was answered.
        self._asked: list[int] = []
        self._answered: set[int] = set()
        #: When answers came, monotonic seconds.
        self._answers: list[float] = []
        self._threads = [threading.Thread(target=work) for work in (self._ask, self._listen)]

    def __enter__(self) -> Stream:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._silent.set()
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._raw.close()

    def flows(self, since: float) -> bool:
        """Whether answers have come lately, all of them after `since`, without a gap."""
        now = time.monotonic()
        lately = [when for when in self._answers[-200:] if when > max(since, now - 0.5)]
        return now - since > 0.5 and len(lately) > 0.7 * 0.5 / self._every

    def outage(self, since: float) -> float:
        """The longest time without an answer that ended after `since`, seconds."""
        times = [when for when in self._answers if when >= since - 1.0]
        gaps = [(after - before, after) for before, after in pairwise(times)]
        return max(gap for gap, after in gaps if after >= since)

    def lost(self) -> int:
        """Asks no more: how many of the requests have no answer when those on their way have come.

        Raises:
            AssertionError: too few were answered to tell anything.
        """
        with contextlib.suppress(AssertionError):
            wait_for(lambda: len(self._answered) > 20, 2.0, "")
        self._silent.set()
        self._threads[0].join()
        with contextlib.suppress(AssertionError):
            wait_for(lambda: len(self._answered) == len(self._asked), ON_ITS_WAY, "")
        assert len(self._answered) > 5, f"{len(self._answered)} of {len(self._asked)} answered"
        return len(self._asked) - len(self._answered)

    def _ask(self) -> None:
        number, due = 0, time.monotonic()
        while not self._silent.is_set():
            number = (number + 1) & 0xFFFF
            tail = struct.pack("!HH", self._identifier, number) + bytes(16)
            head = struct.pack("!BBH", 8, 0, checksum(struct.pack("!BBH", 8, 0, 0) + tail))
            self._asked.append(number)
            with contextlib.suppress(OSError):
                self._raw.sendto(head + tail, (self._address, 0))
            due = max(due + self._every, time.monotonic() - self._every)
            time.sleep(max(0.0, due - time.monotonic()))

    def _listen(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                data = self._raw.recv(2000)[20:]
                identifier, number = struct.unpack_from("!HH", data, 4)
                if data[0] == 0 and identifier == self._identifier:
                    self._answered.add(number)
                    self._answers.append(time.monotonic())
