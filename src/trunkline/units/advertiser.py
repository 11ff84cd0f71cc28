"""When hosts on a leg are told that it leads elsewhere: now and then, and when one asks (RFC 4861, 6.2)."""

from __future__ import annotations

import contextlib
import random
import socket
import struct

#: Seconds between two advertisements that nobody asked for (MinRtrAdvInterval, MaxRtrAdvInterval), and the
#: least between any two (MIN_DELAY_BETWEEN_RAS).
EVERY, LEAST = (20.0, 30.0), 3.0
_FILTER, _SOLICITATION = 1, 133
#: How many questions are read at once: one answer is for all of them.
_MOST = 64


class Advertiser:
    """Of one leg. Owns a socket for what hosts there ask; says when to tell them, and sends nothing."""

    def __init__(self, device: str) -> None:
        """Raises OSError: the device is not there, or the right is missing."""
        self._asks = socket.socket(
            socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMPV6
        )
        passes = [0xFFFFFFFF] * 8
        passes[_SOLICITATION // 32] &= ~(1 << _SOLICITATION % 32)
        self._asks.setsockopt(socket.IPPROTO_ICMPV6, _FILTER, struct.pack("=8I", *passes))
        self._asks.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        self._next, self._last = 0.0, -LEAST

    def due(self, now: float) -> bool:
        """Whether they are to be told now. It counts as done."""
        if self._asked():
            self.soon()
        if now < self._next:
            return False
        self._last, self._next = now, now + random.uniform(*EVERY)
        return True

    def soon(self) -> None:
        """They are to be told as soon as that is allowed."""
        self._next = min(self._next, self._last + LEAST)

    def _asked(self) -> bool:
        asked = False
        with contextlib.suppress(BlockingIOError):
            for _ in range(_MOST):
                self._asks.recv(8)
                asked = True
        return asked
