"""The name service of a network on this host: UDP and TCP port 53 of the network's metadata port.

    guest -- integration bridge -- eth0 in the network's namespace, 10.0.0.2:53
                                      |
                                   Zone.answer ----> the answer
                                      | None
                                   the operator's name servers, asked from the host itself

Who asks is a guest and may be anybody's: an answer goes to addresses of the network's subnets alone, and is
hardly longer than its question. In a second so many questions are read of a network and so many answered of
an address; what is more stays in the socket, where the kernel drops it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from dns.message import Message
from dns.rcode import Rcode

from trunkline.agent import questions
from trunkline.agent.questions import LONGEST_DATAGRAM, LONGEST_QUESTION
from trunkline.agent.zone import Zone
from trunkline.devices import namespace

PORT = 53
#: In a second: questions that are read of a network, and that are answered of one address.
READ, ANSWERED = 2000, 200
#: Questions that others are being asked, of a network and of one address.
_ASKED, _ASKED_BY_ONE = 64, 16
_CONNECTIONS, _CONNECTIONS_OF_ONE = 64, 8
#: How long a connection may be silent, and a name server has for its answer, seconds.
_SILENT, _PATIENCE = 3.0, 2.0
#: Questions that are read before anything else has its turn.
_AT_ONCE = 32
_LENGTH = struct.Struct("!H")
#: An address of a socket: (address, port), and more in IPv6.
Source = tuple[Any, ...]


class Resolver:
    """Owns the sockets of one network on this host."""

    def __init__(self, zone: Zone) -> None:
        #: What is answered; replaced by whoever is told of something newer.
        self.zone = zone
        self._listening: dict[str, _Listening] = {}
        self._budget = _Budget()
        self._asked: Counter[str] = Counter()
        self._connected: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, netns: str, addresses: set[str]) -> None:
        """Listens on these addresses in a namespace, and on no others.

        Raises:
            OSError, Unavailable: see `namespace.open_socket_in`.
        """
        for gone in self._listening.keys() - addresses:
            self._listening.pop(gone).close()
        for address in sorted(addresses - self._listening.keys()):
            self._listening[address] = await self._open(netns, address)

    def close(self) -> None:
        """Answers nobody any more."""
        for listening in self._listening.values():
            listening.close()
        self._listening.clear()
        for task in self._tasks:
            task.cancel()

    async def _open(self, netns: str, address: str) -> _Listening:
        def sockets() -> tuple[socket.socket, socket.socket]:
            kinds = (socket.SOCK_DGRAM, socket.SOCK_STREAM)
            with contextlib.ExitStack() as stack:
                made = [
                    stack.enter_context(
                        namespace.open_socket_in(netns, address, PORT, kind=kind, free_bind=True)
                    )
                    for kind in kinds
                ]
                stack.pop_all()
            return made[0], made[1]

        datagrams, connections = await asyncio.to_thread(sockets)
        server = await asyncio.start_server(self._connection, sock=connections, limit=2 * LONGEST_QUESTION)
        return _Listening(datagrams, server, self._budget, self._datagram)

    # Datagrams.

    def _datagram(self, listening: _Listening, message: bytes, source: Source) -> None:
        if not self.zone.knows(source[0]) or (asked := questions.read(message)) is None:
            return
        answer = self.zone.answer(asked)
        if answer is not None:
            listening.send(questions.write(answer, questions.room(asked)), source)
        elif self._begins(source[0]):
            task = asyncio.create_task(self._forward_datagram(listening, asked, source))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward_datagram(self, listening: _Listening, asked: Message, source: Source) -> None:
        with self._asking(source[0]):
            said = await self._forwarded(asked, stream=False)
        listening.send(said, source)

    # Connections.

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = str(writer.get_extra_info("peername")[0])
        self._connected[source] += 1
        try:
            if self._connected[source] <= _CONNECTIONS_OF_ONE and self._connected.total() <= _CONNECTIONS:
                await self._converse(source, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            self._connected[source] -= 1
            if self._connected[source] <= 0:
                del self._connected[source]
            writer.close()

    async def _converse(
        self, source: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if not self.zone.knows(source):
            return
        while True:
            async with asyncio.timeout(_SILENT):
                (length,) = _LENGTH.unpack(await reader.readexactly(2))
                if length > LONGEST_QUESTION:
                    return
                asked = questions.read(await reader.readexactly(length))
            if asked is None or not self._budget.answers(source):
                return
            said = await self._said(asked, source)
            writer.write(_LENGTH.pack(len(said)) + said)
            async with asyncio.timeout(_SILENT):
                await writer.drain()

    async def _said(self, asked: Message, source: str) -> bytes:
        answer = self.zone.answer(asked)
        if answer is None and self._begins(source):
            with self._asking(source):
                return await self._forwarded(asked, stream=True)
        return questions.write(answer) if answer is not None else _failure(asked)

    # What others know.

    def _begins(self, source: str) -> bool:
        """Whether others may be asked one question more; then it is counted until `_asking` ends."""
        if self._asked.total() >= _ASKED or self._asked[source] >= _ASKED_BY_ONE:
            return False
        self._asked[source] += 1
        return True

    @contextlib.contextmanager
    def _asking(self, source: str) -> Iterator[None]:
        try:
            yield
        finally:
            self._asked[source] -= 1
            if self._asked[source] <= 0:
                del self._asked[source]

    async def _forwarded(self, asked: Message, *, stream: bool) -> bytes:
        """What the first of the operator's name servers says that says anything."""
        for server in self.zone.told.forwarders:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(_PATIENCE):
                    return await _ask(server, asked, stream=stream)
        return _failure(asked)


class _Budget:
    """How many questions of a network are read, and answered of one address, in the present second."""

    def __init__(self) -> None:
        self._ends = 0.0
        self._read = 0
        self._answered: Counter[str] = Counter()

    def wait(self) -> float:
        """How long nothing is to be read, seconds: 0 while there is something left of the present one."""
        now = time.monotonic()
        if now >= self._ends:
            self._ends, self._read = now + 1.0, 0
            self._answered.clear()
        return 0.0 if self._read < READ else self._ends - now

    def answers(self, source: str) -> bool:
        """Takes a question that was read; whether it is answered."""
        self.wait()
        self._read += 1
        self._answered[source] += 1
        return self._answered[source] <= ANSWERED


class _Listening:
    """The two sockets of one address. Owns both."""

    def __init__(
        self,
        datagrams: socket.socket,
        server: asyncio.Server,
        budget: _Budget,
        heard: Callable[[_Listening, bytes, Source], None],
    ) -> None:
        self._datagrams, self._server, self._budget, self._heard = datagrams, server, budget, heard
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._listen()

    def send(self, message: bytes, to: Source) -> None:
        """Sends a datagram; where there is no room for it, it is lost as any other one."""
        if self._datagrams.fileno() >= 0:
            with contextlib.suppress(OSError):
                self._datagrams.sendto(message, to)

    def close(self) -> None:
        """Listens no more."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._datagrams)
        self._datagrams.close()
        self._server.close()

    def _listen(self) -> None:
        self._pause = None
        self._loop.add_reader(self._datagrams, self._readable)

    def _readable(self) -> None:
        for _ in range(_AT_ONCE):
            if (wait := self._budget.wait()) > 0:
                self._loop.remove_reader(self._datagrams)
                self._pause = self._loop.call_later(wait, self._listen)
                return
            try:
                message, source = self._datagrams.recvfrom(LONGEST_QUESTION + 1)
            except OSError:
                return
            if self._budget.answers(source[0]):
                self._heard(self, message, source)


def _failure(asked: Message) -> bytes:
    """That others were to be asked, and did not answer."""
    return questions.write(questions.response(asked, Rcode.SERVFAIL, recursive=True))


async def _ask(server: str, asked: Message, *, stream: bool) -> bytes:
    """What a name server answers to a question, for the asker.

    Raises:
        OSError, IncompleteReadError: it is not there, or breaks off. Whoever calls does not wait for ever.
    """
    passed = questions.passed_on(asked, secrets.randbits(16))
    message = passed.to_wire()
    if stream:
        reader, writer = await asyncio.open_connection(server, PORT)
        try:
            writer.write(_LENGTH.pack(len(message)) + message)
            (length,) = _LENGTH.unpack(await reader.readexactly(2))
            said = questions.handed_back(asked, passed, await reader.readexactly(length))
        finally:
            writer.close()
        if said is None:
            raise ConnectionError(f"{server} answers something else")
        return said
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as own:
        # Each question has a port of its own, so that nobody else can guess where its answer is awaited
        # (RFC 5452).
        own.connect((server, PORT))
        await loop.sock_sendall(own, message)
        while True:
            said = questions.handed_back(asked, passed, await loop.sock_recv(own, LONGEST_DATAGRAM))
            if said is not None:
                return said
