"""A small HTTP/1.1 server for the metadata service: GET only, everything bounded.

httptools (node's parser, which uvicorn stands on too) parses; a framework would triple the memory and
the start of an agent for one method and no bodies. Guests are not trusted: a connection has few seconds
for a request and for taking the answer, a request few bytes, and a guest few connections.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

import httptools

#: Given the source address and the path: the body, or None for "not found".
Answer = Callable[[str, str], bytes | None]

_SECONDS = 5.0
_LONGEST_REQUEST = 16 * 1024
_CONNECTIONS = 32
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


async def serve(listening: socket.socket, answer: Answer) -> asyncio.Server:
    """Serves a listening socket until the server is closed."""
    open_by_source: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: _Connection(answer, open_by_source), sock=listening)


class _Connection(asyncio.Protocol):
    """One connection: requests after one another, each with its own time and size."""

    def __init__(self, answer: Answer, open_by_source: Counter[str]) -> None:
        self._answer = answer
        self._open = open_by_source
        self._source = ""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._new_request()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # A link-local address comes with its zone.
        self._source = str(transport.get_extra_info("peername")[0]).partition("%")[0]
        self._open[self._source] += 1
        self._restart_timer()
        if self._open[self._source] > _CONNECTIONS:
            self._refuse(503)

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        if self._timer is not None:
            self._timer.cancel()
        self._open[self._source] -= 1
        if self._open[self._source] <= 0:
            del self._open[self._source]

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        if self._transport is None or self._transport.is_closing():
            return
        self._received += len(data)
        if self._received > _LONGEST_REQUEST:
            self._refuse(431)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400)
        except httptools.HttpParserError:
            self._refuse(400)

    # Called by the parser.

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_message_complete(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        method = self._parser.get_method()
        keep = self._parser.should_keep_alive()
        if method not in (b"GET", b"HEAD"):
            self._send(405, b"Only GET is served here.", keep, head=False)
        else:
            path = unquote_to_bytes(self._url.partition(b"?")[0]).decode(errors="replace")
            body = self._answer(self._source, path)
            status = 404 if body is None else 200
            self._send(status, b"Not found." if body is None else body, keep, head=method == b"HEAD")
        self._new_request()
        self._restart_timer()

    def _new_request(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._received = 0

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        assert self._transport is not None
        self._timer = asyncio.get_running_loop().call_later(_SECONDS, self._transport.abort)

    def _refuse(self, status: int) -> None:
        self._send(status, _REASONS[status].encode(), keep=False, head=False)

    def _send(self, status: int, body: bytes, keep: bool, *, head: bool) -> None:
        assert self._transport is not None
        kind = "application/json" if body[:1] in (b"{", b"[") else "text/plain; charset=utf-8"
        lines = (
            f"HTTP/1.1 {status} {_REASONS[status]}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            f"Connection: {'keep-alive' if keep else 'close'}",
        )
        self._transport.write("\r\n".join((*lines, "", "")).encode() + (b"" if head else body))
        if not keep:
            self._transport.close()
