"""A load driver: so many clients, each sending its next request when the last is answered.

One process, asyncio, HTTP/1.1 with connections kept as long as the server keeps them; it parses no more of
an answer than it needs, to leave the processors to the server that it measures.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Result:
    """What one run measured."""

    seconds: float
    #: Seconds of each request.
    latencies: list[float] = field(default_factory=list)
    #: Requests that were not answered as wanted: (status, beginning of the body).
    failures: list[tuple[int, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, percent: float) -> float:
        """Seconds within which so many of 100 requests were answered."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]

    def row(self, name: str) -> str:
        """One line of a table."""
        median, worst = statistics.median(self.latencies), self.percentile(99)
        return (
            f"{name:42} {self.rate:9.1f}/s   p50 {median * 1e3:8.2f} ms   p99 {worst * 1e3:8.2f} ms"
            f"   max {max(self.latencies) * 1e3:8.2f} ms   failed {len(self.failures)}"
        )


class Connection:
    """One kept connection."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._headers = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        self._ended = False

    async def open(self) -> None:
        """Connects."""
        self._ended = False
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=1 << 26)

    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Sends one request; returns status and body."""
        if self._ended:
            self.close()
            await self.open()
        data = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n{self._headers}"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        self._writer.write(head.encode() + data)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(answer.split(" ", 2)[1])
        length = 0
        for line in answer.split("\r\n"):
            name, _, value = line.partition(":")
            if name.lower() == "content-length":
                length = int(value)
            elif name.lower() == "connection":
                self._ended = value.strip().lower() == "close"
        content = await self._reader.readexactly(length) if length and method != "HEAD" else b""
        return status, content

    def close(self) -> None:
        """Disconnects."""
        self._writer.close()


async def drive(
    url: str,
    headers: Mapping[str, str],
    clients: int,
    requests: Iterator[tuple[str, str, Any]],
    wanted: Callable[[int], bool] = lambda status: status < 300,
    keep: bool = False,
) -> Result:
    """Sends all requests by so many clients, and waits for every answer."""
    result = Result(0.0)

    async def client() -> None:
        connection = Connection(url, headers)
        await connection.open()
        for method, path, body in requests:
            started = time.perf_counter()
            status, content = await connection.request(method, path, body)
            result.latencies.append(time.perf_counter() - started)
            if not wanted(status):
                result.failures.append((status, content[:200].decode(errors="replace")))
            if keep:
                result.bodies.append(content)
        connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    result.seconds = time.perf_counter() - started
    return result
