"""How long nothing came through: echo requests from outside, one every 10 ms."""

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
from probes import Space

#: Between two requests, seconds.
EVERY = 0.01


class Stream:
    """Asks an IPv4 address for an echo, again and again, for as long as the block."""

    def __init__(self, space: Space, address: str) -> None:
        self._raw = space.open(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._raw.settimeout(0.1)
        self._address = address
        self._identifier = secrets.randbits(16)
        self._ended = threading.Event()
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
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._raw.close()

    def flows(self, since: float) -> bool:
        """Whether answers have come lately, all of them after `since`, without a gap."""
        now = time.monotonic()
        lately = [when for when in self._answers[-200:] if when > max(since, now - 0.5)]
        return now - since > 0.5 and len(lately) > 0.7 * 0.5 / EVERY

    def outage(self, since: float) -> float:
        """The longest time without an answer that ended after `since`, seconds."""
        times = [when for when in self._answers if when >= since - 1.0]
        gaps = [(after - before, after) for before, after in pairwise(times)]
        return max(gap for gap, after in gaps if after >= since)

    def _ask(self) -> None:
        number, due = 0, time.monotonic()
        while not self._ended.is_set():
            number = (number + 1) & 0xFFFF
            tail = struct.pack("!HH", self._identifier, number) + bytes(16)
            head = struct.pack("!BBH", 8, 0, checksum(struct.pack("!BBH", 8, 0, 0) + tail))
            with contextlib.suppress(OSError):
                self._raw.sendto(head + tail, (self._address, 0))
            due = max(due + EVERY, time.monotonic() - EVERY)
            time.sleep(max(0.0, due - time.monotonic()))

    def _listen(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                data = self._raw.recv(2000)[20:]
                if data[0] == 0 and struct.unpack_from("!H", data, 4)[0] == self._identifier:
                    self._answers.append(time.monotonic())
