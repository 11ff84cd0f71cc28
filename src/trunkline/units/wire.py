"""A connection between two units: words one way and the other, each with its length before it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from trunkline.devices import namespace
from trunkline.errors import Refusal, Unavailable
from trunkline.units.words import Done, Word

log = logging.getLogger(__name__)
_LENGTH = struct.Struct("!I")
#: The longest word, bytes: a policy of some ten thousand rules is a tenth of it.
_LONGEST = 64 << 20
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Word).decode


class Wire:
    """One end of a connection. What is asked is matched with its answer; everything else is `heard`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Done]] = {}

    @classmethod
    async def connect(cls, address: str, port: int, patience: float, netns: str | None = None) -> Wire:
        """From that network namespace; raises Unavailable where nobody answers within `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                if netns is None:
                    return cls(*await asyncio.open_connection(address, port))
                made = namespace.inside(netns, lambda: socket.socket(socket.AF_INET6))
                try:
                    made.setblocking(False)
                    await asyncio.get_running_loop().sock_connect(made, (address, port))
                    return cls(*await asyncio.open_connection(sock=made))
                except BaseException:
                    made.close()
                    raise
        except (OSError, TimeoutError) as error:
            raise Unavailable(f"[{address}]:{port} does not answer: {str(error) or 'no answer'}.") from None

    async def ask(self, word: Callable[..., Word], *values: Any, patience: float = 5.0) -> None:
        """Says `word(n, *values)`, and returns when it is done.

        Raises:
            Refusal: the other end did not do it, and says why.
            Unavailable: it does not answer, or not in time: whether it was done is not known.
        """
        n = next(self._numbers)
        answer = self._waiting[n] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(patience):
                await self.say(word(n, *values))
                done = await answer
        except TimeoutError:
            raise Unavailable(f"No answer within {patience:g} s.") from None
        finally:
            del self._waiting[n]
        if done.problem:
            raise Refusal(done.problem)

    async def say(self, word: Word) -> None:
        """Raises Unavailable when the other end is gone."""
        data = _encode(word)
        try:
            self._writer.write(_LENGTH.pack(len(data)) + data)
            await self._writer.drain()
        except OSError as error:
            raise Unavailable(f"The connection is lost: {error}.") from None

    async def heard(self) -> AsyncIterator[Word]:
        """What the other end says besides answers, until it is gone. To be read for answers to come."""
        try:
            while True:
                (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
                if length > _LONGEST:
                    return
                word = _decode(await self._reader.readexactly(length))
                if isinstance(word, Done):
                    waiting = self._waiting.get(word.n)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(word)
                else:
                    yield word
        except (OSError, EOFError, msgspec.MsgspecError):
            return
        finally:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(Unavailable("The connection is lost."))
            self._writer.close()

    def abort(self) -> None:
        """Ends it, whatever is still to be said."""
        self._writer.transport.abort()

    async def answer(self, n: int, work: Awaitable[object]) -> None:
        """Does what was asked, and says how it ended."""
        problem = ""
        try:
            await work
        except (Refusal, OSError) as error:
            problem = str(error) or repr(error)
        except Exception as error:
            # A mistake of ours: who asked is not to wait for what will never be, and is to see what it was.
            log.exception("what was asked cannot be done")
            problem = f"it failed: {error!r}"
        await self.say(Done(n, problem))
