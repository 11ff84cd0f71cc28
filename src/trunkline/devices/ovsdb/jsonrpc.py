"""JSON-RPC 1.0 between equals over a stream, as OVSDB speaks it (RFC 7047, section 4)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import ssl
from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec

from trunkline.errors import Unavailable

#: A whole string, or a brace; a lone quote is a string whose end has not come yet.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}"]', re.DOTALL)
#: No message of a sane server is longer, in bytes.
_LONGEST = 1 << 30
#: What is not longer is tried as a whole, in bytes.
_SMALL = 1 << 16

Notified = Callable[[str, list[Any]], None]


class ProtocolError(Exception):
    """The other side sent what it must not send."""


class RemoteError(Exception):
    """The other side answered a call with an error: text, or an <error> of RFC 7047."""

    def __init__(self, error: Any) -> None:
        super().__init__(msgspec.json.encode(error).decode() if not isinstance(error, str) else error)
        self.error = error


class Framer:
    """Cuts a stream into its JSON objects: nothing but their braces says where one ends."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._depth = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Takes what came, and yields each object that is now whole.

        Raises:
            ProtocolError: it is no sequence of JSON objects.
        """
        if not self._buffer and (whole := _objects(data)):
            # Small messages come as they were sent, nearly always: nothing has to be looked for.
            yield from whole
            return
        self._buffer += data
        ends = []
        for token in _TOKEN.finditer(self._buffer, self._scanned):
            text = token.group()
            if text == b'"':
                self._scanned = token.start()
                break
            self._scanned = token.end()
            if text == b"{":
                self._depth += 1
            elif text == b"}":
                self._depth -= 1
                if self._depth < 0:
                    raise ProtocolError("a closing brace too many")
                if self._depth == 0:
                    ends.append(token.end())
        else:
            self._scanned = len(self._buffer)
        if len(self._buffer) > _LONGEST:
            raise ProtocolError(f"a message longer than {_LONGEST} bytes")
        start = 0
        for end in ends:
            yield bytes(self._buffer[start:end])
            start = end
        del self._buffer[:start]
        self._scanned -= start
        if bytes(self._buffer[:1]) not in (b"{", b" ", b"\n", b""):
            raise ProtocolError("not a JSON object")


def _objects(data: bytes) -> list[bytes]:
    """The JSON objects that this is, where it is small and they are whole; else nothing."""
    if len(data) > _SMALL or not (data.startswith(b"{") and data.endswith(b"}")):
        return []
    # It may be in a string that these two are side by side: then what is cut is no JSON.
    found = [b"{%b}" % inner for inner in data[1:-1].split(b"}{")]
    try:
        for one in found:
            msgspec.json.decode(one, type=msgspec.Raw)
    except msgspec.DecodeError:
        return []
    return found


class Session(asyncio.Protocol):
    """One connection. Answers the echo requests of the other side, and sends its own when it is silent.

    `notified` is called for each notification, in the order of arrival; so is the `on_result` of a call,
    which therefore sees its answer before any later notification. What they raise ends the connection.
    """

    def __init__(self, notified: Notified, probe: float) -> None:
        self._notified = notified
        self._probe = probe
        self._framer = Framer()
        self._ids = itertools.count(1)
        self._calls: dict[int, tuple[asyncio.Future[Any], Callable[[Any], None] | None]] = {}
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        #: When something came last, and whether an answer is awaited since.
        self._heard = self._loop.time()
        self._probing = False
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False
        #: Why it ended; set once.
        self._cause: Exception | None = None
        self._ended = asyncio.Event()
        self._gone = asyncio.Event()

    @classmethod
    async def open(cls, remote: str, tls: ssl.SSLContext | None, notified: Notified, probe: float) -> Session:
        """Connects to ``unix:PATH``, ``tcp:HOST:PORT`` or ``ssl:HOST:PORT``.

        Raises:
            OSError: nobody answers there.
            ValueError: it is no such remote, or `tls` is missing.
        """

        def made() -> Session:
            return cls(notified, probe)

        loop = asyncio.get_running_loop()
        method, _, place = remote.partition(":")
        if method == "unix":
            return (await loop.create_unix_connection(made, place))[1]
        host, _, port = place.rpartition(":")
        if method not in ("tcp", "ssl") or not host or not port.isdigit():
            raise ValueError(
                f"'{remote}' is no OVSDB remote: write unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT"
            )
        host = host.removeprefix("[").removesuffix("]")
        if method == "ssl":
            if tls is None:
                raise ValueError(f"'{remote}' needs a TLS context")
            return (await loop.create_connection(made, host, int(port), ssl=tls, server_hostname=host))[1]
        return (await loop.create_connection(made, host, int(port)))[1]

    async def run(self) -> None:
        """Returns never: waits until the connection ends; every call that waits then fails.

        Raises:
            OSError: the connection broke, or the other side fell silent.
            ProtocolError: the other side sent nonsense.
        """
        try:
            await self._ended.wait()
        finally:
            self.close()
        assert self._cause is not None
        raise self._cause

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins (`asyncio.Protocol`)."""
        # Not all event loops derive theirs from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        """Takes what came (`asyncio.Protocol`)."""
        self._heard, self._probing = self._loop.time(), False
        try:
            for message in self._framer.feed(data):
                self._received(message)
        except Exception as error:
            self._end(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends (`asyncio.Protocol`)."""
        self._end(exc or ConnectionError("closed by the other side"))
        self._gone.set()

    def _end(self, cause: Exception) -> None:
        if not self._ended.is_set():
            self._cause = cause
            self._ended.set()
            self.close()

    def _look(self) -> None:
        """Asks the other side whether it lives, where it has been silent for too long."""
        silent = self._loop.time() - self._heard
        if silent >= self._probe and self._probing:
            self._end(ConnectionError(f"silent for {2 * self._probe:g} s"))
            return
        if silent >= self._probe:
            self._probing, silent = True, 0.0
            self._send({"method": "echo", "params": [], "id": "echo"})
        self._watch = self._loop.call_later(self._probe - silent, self._look)

    def _received(self, data: bytes) -> None:
        try:
            message = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProtocolError(f"not JSON: {error}") from None
        method, id = message.get("method"), message.get("id")
        if method is None:
            self._answered(id, message.get("result"), message.get("error"))
            return
        params = message.get("params")
        if not isinstance(method, str) or not isinstance(params, list):
            raise ProtocolError("a request without method and params")
        if id is None:
            self._notified(method, params)
        elif method == "echo":
            self._send({"result": params, "error": None, "id": id})
        else:
            self._send({"result": None, "error": "unknown method", "id": id})

    def _answered(self, id: Any, result: Any, error: Any) -> None:
        future, on_result = self._calls.pop(id, (None, None)) if isinstance(id, int) else (None, None)
        if future is None or future.done():
            if error is None and on_result is not None:
                on_result(result)
            return
        if error is not None:
            future.set_exception(RemoteError(error))
            return
        if on_result is not None:
            on_result(result)
        future.set_result(result)

    async def call(
        self,
        method: str,
        params: list[Any],
        *,
        timeout: float,
        on_result: Callable[[Any], None] | None = None,
    ) -> Any:
        """Calls a method of the other side and returns its result. Needs `run` to run meanwhile.

        Raises:
            Unavailable: the connection ended, or `timeout` (seconds) passed; the call may have been done.
            RemoteError: the other side answered with an error.
        """
        if self._closed:
            raise Unavailable("the database is not connected")
        id = next(self._ids)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._calls[id] = (future, on_result)
        self._send({"method": method, "params": params, "id": id})
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise Unavailable(f"the database did not answer within {timeout:g} s") from None

    def _send(self, message: dict[str, Any]) -> None:
        assert self._transport is not None
        self._transport.write(msgspec.json.encode(message))

    def close(self) -> None:
        """Ends the connection; calls that wait fail."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            self._transport.close()
        calls, self._calls = self._calls, {}
        for future, _ in calls.values():
            if not future.done():
                future.set_exception(Unavailable("the connection to the database was lost"))

    async def closed(self) -> None:
        """Returns when the connection is gone, or after a second."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._gone.wait()
