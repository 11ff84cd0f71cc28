"""The far end: compares what comes, and sends it back as it came."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable

from trunkline.traffic import plans, promptness, streams
from trunkline.traffic.plans import Address, FarPlan
from trunkline.traffic.streams import HEAD, Streams
from trunkline.traffic.words import Altered, Broken, FarTotal, Listening, Moved, Why, Word

_clock = time.monotonic
#: Connections that wait to be taken; datagrams that wait to be read, bytes; taken at once.
_BACKLOG, _BUFFER, _AT_ONCE = 4096, 4 << 20, 64
#: asm-generic/socket.h: beyond what the system allows to all, which root may.
_SO_RCVBUFFORCE = 33


class _Connection:
    __slots__ = ("back", "good", "number", "received", "socket", "wrong")

    def __init__(self, made: socket.socket) -> None:
        self.socket = made
        self.number = -1
        self.received = 0
        #: What has not fitted on its way back yet.
        self.back = b""
        self.wrong = False
        self.good = _clock()


class Far:
    """Runs a plan until `commands` says anything, or ends; words go to `say`."""

    def __init__(
        self, plan: FarPlan, commands: int, say: Callable[[Word], None], unscheduled: str = ""
    ) -> None:
        """Args:
            unscheduled: why this process does not go before others, as `promptness.go_first` says.

        Raises: ValueError where the plan cannot be; OSError where an address is not to be had.
        """
        self._unscheduled = unscheduled
        plans.open_files(plan.connections)
        self._say, self._commands = say, commands
        self._streams = Streams(plan.seed)
        self._poll = select.epoll()
        self._buffer = memoryview(bytearray(streams.LONGEST))
        self._connections: dict[int, _Connection] = {}
        self._listeners: dict[int, socket.socket] = {}
        self._datagrams: dict[int, socket.socket] = {}
        #: Where flows come from.
        self._from: dict[int, Address] = {}
        self._accepted = self._strangers = self._bytes = self._counted = 0
        for address in plans.addresses(plan.listen):
            self._listen(plan, address)

    def _listen(self, plan: FarPlan, address: Address) -> None:
        for kind, held in ((socket.SOCK_STREAM, self._listeners), (socket.SOCK_DGRAM, self._datagrams)):
            if not (plan.flows if kind == socket.SOCK_DGRAM else plan.connections):
                continue
            made = socket.socket(plans.family(address[0]), kind | socket.SOCK_NONBLOCK)
            held[made.fileno()] = made
            if kind == socket.SOCK_STREAM:
                option = socket.SO_REUSEPORT if plan.shared else socket.SO_REUSEADDR
                made.setsockopt(socket.SOL_SOCKET, option, 1)
                made.bind(address)
                made.listen(_BACKLOG)
            else:
                made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
                promptness.stamped(made)
                made.bind(address)
            self._poll.register(made, select.EPOLLIN)

    def run(self) -> None:
        """Until it is told to end."""
        self._poll.register(self._commands, select.EPOLLIN)
        self._say(Listening(at=_clock()))
        while True:
            for descriptor, _ in self._poll.poll(-1, 512):
                if (connection := self._connections.get(descriptor)) is not None:
                    self._ready(connection)
                elif descriptor in self._datagrams:
                    self._answer(self._datagrams[descriptor])
                elif descriptor in self._listeners:
                    self._accept(self._listeners[descriptor])
                else:
                    os.read(self._commands, 65536)
                    self._total()
                    return

    def _total(self) -> None:
        self._say(
            FarTotal(
                at=_clock(),
                accepted=self._accepted,
                strangers=self._strangers,
                bytes=self._bytes,
                datagrams=self._counted,
                unscheduled=self._unscheduled,
            )
        )

    # Connections.

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                made, _ = listener.accept()
            except OSError:
                return
            made.setblocking(False)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Its head comes at once, even if in pieces.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, HEAD.size)
            self._connections[made.fileno()] = _Connection(made)
            self._poll.register(made, select.EPOLLIN)

    def _ready(self, connection: _Connection) -> None:
        if connection.back:
            self._send(connection)
            if not connection.back and connection.socket.fileno() >= 0:
                self._poll.modify(connection.socket, select.EPOLLIN)
            return
        try:
            size = connection.socket.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(connection, "reset", error.strerror or "")
            return
        if not size:
            # Whether that was to be, the near end knows.
            self._close(connection)
            return
        found = self._buffer[:size]
        if connection.number < 0 and not self._known(connection, found):
            self._strangers += 1
            self._close(connection)
            return
        self._compare(connection, found)
        connection.received += size
        connection.good = _clock()
        self._bytes += size
        # As it came, so that the near end sees what went wrong on the way here.
        connection.back = bytes(found)
        self._send(connection)
        if connection.back and connection.socket.fileno() >= 0:
            # No more is read before that has gone back.
            self._poll.modify(connection.socket, select.EPOLLOUT)

    def _known(self, connection: _Connection, found: memoryview) -> bool:
        number = streams.number(found) if len(found) >= HEAD.size else None
        if number is None:
            return False
        connection.number = number
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        self._accepted += 1
        return True

    def _compare(self, connection: _Connection, found: memoryview) -> None:
        expected = self._streams.piece(connection.number, connection.received, len(found))
        if found != expected and not connection.wrong:
            connection.wrong = True
            self._tell(
                connection, "wrong byte", connection.received + streams.first_difference(found, expected)
            )

    def _send(self, connection: _Connection) -> None:
        before = connection.back
        try:
            connection.back = before[connection.socket.send(before) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self._break(connection, "reset", error.strerror or "")

    def _break(self, connection: _Connection, why: Why, detail: str) -> None:
        if connection.number >= 0:
            self._tell(connection, why, connection.received, detail)
        self._close(connection)

    def _tell(self, connection: _Connection, why: Why, position: int, detail: str = "") -> None:
        self._say(
            Broken(
                at=_clock(),
                side="far",
                connection=connection.number,
                why=why,
                position=position,
                good=connection.good,
                detail=detail,
            )
        )

    def _close(self, connection: _Connection) -> None:
        del self._connections[connection.socket.fileno()]
        connection.socket.close()

    # Datagrams.

    def _answer(self, here: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                size, beside, _, where = here.recvmsg_into((self._buffer,), promptness.BESIDE)
            except BlockingIOError:
                return
            except OSError:
                # Somebody who was answered is there no more.
                continue
            found = self._buffer[:size]
            named = streams.opened(found)
            if named is None:
                continue
            self._counted += 1
            flow, sequence = named
            if found != streams.datagram(self._streams, flow, sequence, size):
                self._say(Altered(at=_clock(), side="far", flow=flow))
            before = self._from.setdefault(flow, where[:2])
            if before != where[:2]:
                self._from[flow] = where[:2]
                self._say(Moved(at=_clock(), flow=flow, before=_text(before), after=_text(where[:2])))
            streams.hold(found, max(0, promptness.day() - promptness.came(beside)))
            try:
                here.sendto(found, where)
            except OSError:
                continue


def _text(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
