"""Flows of datagrams, many a second each, for gaps: the near end's part of them."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import time
from array import array
from collections.abc import Callable

from trunkline.traffic import plans, promptness, streams
from trunkline.traffic.plans import NearPlan
from trunkline.traffic.streams import Streams
from trunkline.traffic.tally import Histogram, Periods, Turns
from trunkline.traffic.words import Altered, Delays, Gap, Word

#: Of how many datagrams of a flow it is known when they were sent; a power of two.
_REMEMBERED = 4096
#: Of datagrams, how many are taken at once from one flow.
_AT_ONCE = 64


class _Flow:
    __slots__ = ("last", "late", "number", "sent", "socket", "told", "when")

    def __init__(self, number: int, made: socket.socket) -> None:
        self.number, self.socket = number, made
        self.sent = 0
        #: When the last answer came, or would have come had the far end not had it for a while (before the
        #: first: when the first was asked); the latest that a datagram was sent since then, compared with
        #: when it was due; until when gaps were told in `lately`.
        self.last, self.late, self.told = math.nan, 0.0, math.nan
        #: When each was sent; negative where its answer has come.
        self.when = array("d", bytes(8 * _REMEMBERED))


class Flows:
    """All flows of a plan. The caller polls, and calls."""

    def __init__(
        self,
        plan: NearPlan,
        known: Streams,
        periods: Periods,
        poll: select.epoll,
        say: Callable[[Word], None],
    ) -> None:
        """Raises: ValueError where the plan's addresses are none, or its datagrams too short; OSError where a
        socket is not to be had.
        """
        if plan.flow_size < streams.SHORTEST:
            raise ValueError(f"flow_size: a datagram has {streams.SHORTEST} bytes at least")
        self._plan, self._streams, self._periods, self._say = plan, known, periods, say
        self.sent = self.answered = 0
        self._lately, self._own, self._gap = Histogram(), Histogram(), 0.0
        self._buffer = memoryview(bytearray(streams.LONGEST))
        targets = plans.addresses(plan.flow_targets or plan.targets)
        self._flows = []
        for number in range(plan.flows):
            target = targets[number % len(targets)]
            made = plans.bound(socket.SOCK_DGRAM, target, plan.sources, number // len(targets))
            made.connect(target)
            promptness.stamped(made)
            poll.register(made, select.EPOLLIN)
            self._flows.append(_Flow(number, made))
        self._of = {flow.socket.fileno(): flow for flow in self._flows}
        self._interval = 1 / plan.flow_rate
        self._turns = Turns(plan.flows, self._interval, time.monotonic())

    def next(self) -> float:
        """When one is to be sent."""
        return self._turns.next()

    def send(self, now: float) -> None:
        """All that are due."""
        for number, late in self._turns.due(now):
            flow = self._flows[number]
            if math.isnan(flow.last):
                flow.last = flow.told = now
            flow.late = max(flow.late, late)
            self._periods.now.own.add(max(late, 0.0))
            self._own.add(max(late, 0.0))
            data = streams.datagram(self._streams, number, flow.sent, self._plan.flow_size)
            # What is refused or does not fit is lost, as others are.
            with contextlib.suppress(OSError):
                flow.when[flow.sent % _REMEMBERED] = time.monotonic()
                flow.socket.send(data)
            flow.sent += 1
            self.sent += 1

    def ready(self, descriptor: int) -> None:
        """Answers have come."""
        flow = self._of[descriptor]
        # The kernel's clock is set now and then, ours is not.
        ahead = promptness.day() - time.monotonic_ns()
        for _ in range(_AT_ONCE):
            try:
                size, beside, _, _ = flow.socket.recvmsg_into((self._buffer,), promptness.BESIDE)
            except BlockingIOError:
                return
            except OSError:
                # An ICMP error: somebody refuses; the answer is missing, that is all.
                continue
            self._answer(flow, self._buffer[:size], (promptness.came(beside) - ahead) / 1e9)

    def _answer(self, flow: _Flow, data: memoryview, now: float) -> None:
        named = streams.opened(data)
        if named is None or named[0] != flow.number or not flow.sent - _REMEMBERED <= named[1] < flow.sent:
            self._say(Altered(at=now, side="near", flow=flow.number))
            return
        sequence = named[1]
        now -= streams.release(data) / 1e9
        if data != streams.datagram(self._streams, flow.number, sequence, self._plan.flow_size):
            self._say(Altered(at=now, side="near", flow=flow.number))
            return
        sent = flow.when[sequence % _REMEMBERED]
        if sent < 0:
            return
        flow.when[sequence % _REMEMBERED] = -1.0
        self.answered += 1
        self._periods.now.flows.add(now - sent)
        self._lately.add(now - sent)
        self._note(flow, now)
        flow.last, flow.late, flow.told = max(flow.last, now), 0.0, now

    def _note(self, flow: _Flow, now: float) -> None:
        """A time without an answer has ended. It is of the period in which the next answer was to come."""
        seconds = now - flow.last
        self._gap = max(self._gap, seconds)
        period = self._periods.at(flow.last + 1.5 * self._interval)
        period.gap(flow.number, seconds)
        if seconds > self._plan.gap:
            self._say(
                Gap(flow=flow.number, began=flow.last, seconds=seconds, mark=period.name, own=flow.late)
            )

    def lately(self, now: float) -> tuple[int, int, float, int, Delays, Delays]:
        """Sent, answered; the longest gap; how many flows have one longer than `gap` now; delays of answers,
        and of this program in sending. Gaps and delays are those since this was asked last.
        """
        waits = [now - flow.last for flow in self._flows if not math.isnan(flow.last)]
        gap, self._gap = max([self._gap, *waits]), 0.0
        delays, own = self._lately.delays(), self._own.delays()
        self._lately, self._own = Histogram(), Histogram()
        silent = sum(1 for seconds in waits if seconds > self._plan.gap)
        return self.sent, self.answered, gap, silent, delays, own

    def end(self, now: float) -> None:
        """No more is sent; times without an answer that go on are noted."""
        for flow in self._flows:
            if not math.isnan(flow.last):
                self._note(flow, now)
                # Answers to come end no gap.
                flow.last = math.inf

    def waits(self) -> bool:
        """Whether answers of the last second are missing."""
        since = time.monotonic() - 1.0
        return any(flow.sent and flow.when[(flow.sent - 1) % _REMEMBERED] > since for flow in self._flows)
