"""The near end: makes the connections, sends on all of them in turn, and compares what comes back."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Callable

import msgspec

from trunkline.traffic import plans, streams
from trunkline.traffic.flows import Flows
from trunkline.traffic.plans import NearPlan
from trunkline.traffic.streams import HEAD, Streams
from trunkline.traffic.tally import Histogram, Periods, Turns
from trunkline.traffic.words import (
    Broken,
    Command,
    End,
    Live,
    Mark,
    Marked,
    NearTotal,
    Refused,
    Returned,
    SetUp,
    Why,
    Word,
)

_clock = time.monotonic
#: Connections that are being made, at most.
_AT_ONCE = 500
#: Sockets that are looked at in one go, at most.
_READY = 512
_OPENING, _GREETING, _UP, _SILENT, _GONE = range(5)


class _Connection:
    """One of them: `sent` and `received` are positions in its stream."""

    __slots__ = ("began", "good", "number", "pending", "received", "sent", "socket", "state")

    def __init__(self, number: int, made: socket.socket, now: float) -> None:
        self.number, self.socket = number, made
        self.state = _OPENING
        self.sent = self.received = 0
        #: Ends of what was sent and has not come back, and when it was sent.
        self.pending: list[tuple[int, float]] = []
        self.began = self.good = now


class Near:
    """Runs a plan. Commands come as lines from `commands`; words go to `say`."""

    def __init__(
        self, plan: NearPlan, commands: int, say: Callable[[Word], None], unscheduled: str = ""
    ) -> None:
        """Args:
            unscheduled: why this process does not go before others, as `promptness.go_first` says.

        Raises: ValueError where the plan cannot be; OSError where not so many may be open.
        """
        self._unscheduled = unscheduled
        plans.open_files(plan.connections + plan.flows)
        self._plan, self._say, self._commands = plan, say, commands
        self._targets = plans.addresses(plan.targets)
        self._streams = Streams(plan.seed)
        self._poll = select.epoll()
        self._buffer = memoryview(bytearray(streams.LONGEST))
        self._connections: dict[int, _Connection] = {}
        self._ours: list[_Connection | None] = [None] * plan.connections
        now = _clock()
        self._began, self._made = now, 0
        self._periods = Periods(now)
        self._flows = Flows(plan, self._streams, self._periods, self._poll, say)
        self._turns = Turns(plan.connections, plan.every, now)
        #: Connections that are to be up, or to have answered, in the order of the time until when.
        self._opening: deque[tuple[float, _Connection]] = deque()
        self._waiting: deque[tuple[float, _Connection, int]] = deque()
        self._broken: Counter[str] = Counter()
        self._making = self._established = self._refused = self._ended = self._bytes = 0
        self._lately = Histogram()
        self._next_live = now + 1.0
        self._set_up = False
        self._ends: float | None = None
        self._line = b""

    def run(self) -> None:
        """Until it is told to end, and what is on its way has come."""
        os.set_blocking(self._commands, False)
        self._poll.register(self._commands, select.EPOLLIN)
        while not self._over(_clock()):
            now = _clock()
            if self._ends is None:
                self._make(now)
                self._send(now)
                self._flows.send(now)
            if now >= self._next_live:
                self._live(now)
            asked = _clock()
            ready = self._poll.poll(max(0.0, self._next() - asked), _READY)
            for descriptor, _ in ready:
                if (connection := self._connections.get(descriptor)) is not None:
                    self._ready(connection)
                elif descriptor == self._commands:
                    self._hear()
                else:
                    self._flows.ready(descriptor)
            if len(ready) < _READY:
                # All that had come by then is known, however long this program itself had no processor.
                self._expire(asked)
        self._total()

    def _next(self) -> float:
        """When there is something to do again."""
        if self._ends is not None:
            return _clock() + 0.05
        making = self._made < self._plan.connections and self._making < _AT_ONCE
        connection = self._began + self._made / self._plan.setup_rate if making else self._next_live
        return min(connection, self._turns.next(), self._flows.next(), self._next_live)

    # Making connections.

    def _make(self, now: float) -> None:
        due = int((now - self._began) * self._plan.setup_rate) + 1
        due = min(due, self._plan.connections, self._made + 100)
        while self._made < due and self._making < _AT_ONCE:
            self._open(self._plan.first + self._made, now)
            self._made += 1
        if not self._set_up and self._made == self._plan.connections and not self._making:
            self._set_up = True
            self._say(SetUp(at=now, established=self._established, refused=self._refused))

    def _open(self, number: int, now: float) -> None:
        target = self._targets[number % len(self._targets)]
        turn = number // len(self._targets)
        self._making += 1
        try:
            made = plans.bound(socket.SOCK_STREAM, target, self._plan.sources, turn)
        except OSError as error:
            self._refuse(number, error.strerror or "")
            return
        connection = self._ours[number - self._plan.first] = _Connection(number, made, now)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        refused = made.connect_ex(target)
        if refused not in (0, errno.EINPROGRESS):
            self._refuse(number, os.strerror(refused))
            return
        self._connections[made.fileno()] = connection
        self._opening.append((now + self._plan.silent, connection))
        self._poll.register(made, select.EPOLLIN | select.EPOLLOUT)

    def _refuse(self, number: int, why: str) -> None:
        self._making -= 1
        self._refused += 1
        self._say(Refused(at=_clock(), connection=number, why=why))
        if (connection := self._ours[number - self._plan.first]) is not None:
            self._close(connection)

    def _greet(self, connection: _Connection) -> None:
        """It is made: whether the far end is there, only an answer tells."""
        error = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._refuse(connection.number, os.strerror(error))
            return
        connection.state = _GREETING
        self._poll.modify(connection.socket, select.EPOLLIN)
        self._send_piece(connection, HEAD.size, _clock())

    # Sending.

    def _send(self, now: float) -> None:
        for index, late in self._turns.due(now):
            connection = self._ours[index]
            if connection is None or connection.state != _UP:
                continue
            self._periods.now.own.add(max(late, 0.0))
            if 0 < self._plan.lasts <= now - connection.began and not connection.pending:
                self._renew(connection, now)
            else:
                self._send_piece(connection, self._plan.size, now)

    def _renew(self, connection: _Connection, now: float) -> None:
        self._established -= 1
        self._ended += 1
        self._close(connection)
        self._open(connection.number, now)

    def _send_piece(self, connection: _Connection, size: int, now: float) -> None:
        try:
            sent = connection.socket.send(self._streams.piece(connection.number, connection.sent, size))
        except BlockingIOError:
            # So much is on its way that no more fits: that it does not come back is noticed elsewhere.
            return
        except OSError as error:
            self._break(connection, "reset", error.strerror or "")
            return
        connection.sent += sent
        connection.pending.append((connection.sent, now))
        if connection.state == _UP:
            self._waiting.append((now + self._plan.silent, connection, connection.sent))

    # Receiving.

    def _ready(self, connection: _Connection) -> None:
        if connection.state == _OPENING:
            self._greet(connection)
            return
        try:
            size = connection.socket.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(connection, "reset", error.strerror or "")
            return
        if not size:
            self._break(connection, "closed")
            return
        start, found = connection.received, self._buffer[:size]
        expected = self._streams.piece(connection.number, start, size)
        if found != expected:
            position = start + streams.first_difference(found, expected)
            self._break(connection, "wrong byte", position=position)
        elif start + size > connection.sent:
            self._break(connection, "wrong byte", "more came back than was sent", connection.sent)
        else:
            self._answered(connection, size, _clock())

    def _answered(self, connection: _Connection, size: int, now: float) -> None:
        connection.received += size
        self._bytes += size
        before, connection.good = connection.good, now
        pending = connection.pending
        while pending and pending[0][0] <= connection.received:
            delay = now - pending.pop(0)[1]
            if connection.state == _UP:
                self._periods.now.connections.add(delay)
                self._lately.add(delay)
        if connection.state == _GREETING and connection.received == HEAD.size:
            connection.state = _UP
            self._making -= 1
            self._established += 1
        elif connection.state == _SILENT and not pending:
            self._say(Returned(at=now, connection=connection.number, silent=now - before))
            self._close(connection)

    def _break(self, connection: _Connection, why: Why, detail: str = "", position: int = -1) -> None:
        if connection.state in (_OPENING, _GREETING):
            self._refuse(connection.number, f"{why} {detail}".strip())
            return
        if connection.state == _UP:
            self._broken[why] += 1
            self._established -= 1
            self._say(
                Broken(
                    at=_clock(),
                    side="near",
                    connection=connection.number,
                    why=why,
                    position=connection.received if position < 0 else position,
                    good=connection.good,
                    made=connection.began,
                    marks=self._periods.since(connection.good),
                    detail=detail,
                )
            )
        if why == "silent":
            connection.state = _SILENT
        else:
            self._close(connection)

    def _close(self, connection: _Connection) -> None:
        connection.state = _GONE
        self._connections.pop(connection.socket.fileno(), None)
        connection.socket.close()

    # Time.

    def _expire(self, now: float) -> None:
        """Whoever is silent for too long."""
        opening, waiting = self._opening, self._waiting
        while opening and (opening[0][0] <= now or opening[0][1].state > _GREETING):
            _, connection = opening.popleft()
            if connection.state <= _GREETING:
                self._refuse(connection.number, "no answer")
        while waiting and waiting[0][0] <= now:
            _, connection, until = waiting.popleft()
            if connection.state == _UP and connection.received < until:
                self._break(connection, "silent", f"for {self._plan.silent:g} s")

    def _live(self, now: float) -> None:
        self._next_live = now + 1.0
        sent, answered, gap, silent, delays, own = self._flows.lately(now)
        self._say(
            Live(
                at=now,
                opening=self._making,
                established=self._established,
                refused=self._refused,
                broken=dict(self._broken),
                sent=sent,
                answered=answered,
                longest_gap=gap,
                silent_flows=silent,
                connections=self._lately.delays(),
                flows=delays,
                own=own,
            )
        )
        self._lately = Histogram()

    # Commands.

    def _hear(self) -> None:
        try:
            found = os.read(self._commands, 65536)
        except BlockingIOError:
            return
        if not found:
            self._end()
            self._poll.unregister(self._commands)
            return
        *lines, self._line = (self._line + found).split(b"\n")
        for line in filter(None, lines):
            word = msgspec.json.decode(line, type=Command)
            now = _clock()
            if isinstance(word, Mark):
                self._periods.mark(word.name, now)
                self._say(Marked(at=now, name=word.name))
            elif isinstance(word, End):
                self._end()

    def _end(self) -> None:
        if self._ends is None:
            self._ends = _clock()
            self._flows.end(self._ends)

    def _over(self, now: float) -> bool:
        """It was told to end, and nothing more is to be waited for."""
        if self._ends is None:
            return False
        waits = self._flows.waits() and now < self._ends + 1.0
        return not waits and (now > self._ends + self._plan.silent or not self._unanswered())

    def _unanswered(self) -> int:
        return sum(1 for each in self._connections.values() if each.state == _UP and each.pending)

    def _total(self) -> None:
        whole = self._periods.total()
        self._say(
            NearTotal(
                at=_clock(),
                established=self._established,
                refused=self._refused,
                broken=dict(self._broken),
                ended=self._ended,
                unanswered=self._unanswered(),
                bytes=self._bytes,
                sent=self._flows.sent,
                answered=self._flows.answered,
                longest_gap=whole.longest_gap,
                connections=whole.connections.delays(),
                flows=whole.flows.delays(),
                own=whole.own.delays(),
                periods=tuple(each.period() for each in self._periods.all),
                unscheduled=self._unscheduled,
            )
        )
        for connection in list(self._connections.values()):
            with contextlib.suppress(OSError):
                connection.socket.close()
