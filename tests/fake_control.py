"""A control plane of one page, for tests of the host channel's two ends: real TLS, slices put by hand."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from trunkline.compiler.slices import HostSlice
from trunkline.control.channel import channel_app, new_token, serve, token_matches
from trunkline.devices.pki import Authority
from trunkline.errors import Conflict, NotFound
from trunkline.resources.reports import HostReport


class FakeControl:
    """Serves the channel on a listening socket, from a thread of its own, until `close`."""

    def __init__(self, directory: Path, listening: socket.socket, *, long_poll: float = 20.0) -> None:
        self.authority = Authority.open(directory / "pki")
        self.address: tuple[str, int] = listening.getsockname()[:2]
        self.url = f"https://{self.address[0]}:{self.address[1]}"
        self.images: dict[str, Path] = {}
        self.reports: list[HostReport] = []
        self.consoles: dict[tuple[str, str], bytes] = {}
        self.removed: set[str] = set()
        #: Images that hosts may upload, and those that came.
        self.expected: set[str] = set()
        self.received: dict[str, bytes] = {}
        self._slices: dict[str, HostSlice] = {}
        self._hosts: dict[str, str] = {}
        self._digests: set[str] = set()
        self._used: set[tuple[str, str]] = set()
        self._news = asyncio.Event()
        self._heard = threading.Condition()
        self._files = self.authority.issue("control", [self.address[0]])
        self._app = channel_app(self, long_poll=long_poll)
        self._listening = listening
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._started.wait()

    def token(self) -> str:
        """A join token."""
        token, digest = new_token(self.authority)
        self._digests.add(digest)
        return token

    def put(self, slice_: HostSlice) -> None:
        """Makes this the newest slice of its host."""
        self._slices[slice_.host] = slice_
        self._loop.call_soon_threadsafe(self._news.set)

    def wait_report(self, fits: Callable[[HostReport], bool], timeout: float = 20.0) -> HostReport:
        """The first report from now on (or the newest before) that fits."""
        deadline = time.monotonic() + timeout
        with self._heard:
            seen = max(0, len(self.reports) - 1)
            while True:
                for report in self.reports[seen:]:
                    if fits(report):
                        return report
                seen = len(self.reports)
                left = deadline - time.monotonic()
                if left <= 0 or not self._heard.wait(left):
                    newest = self.reports[-1] if self.reports else None
                    raise AssertionError(f"no such report within {timeout} s; the newest: {newest}")

    def after(self, other: FakeControl) -> FakeControl:
        """Knows what another knew that a control plane keeps on disk: hosts, images, slices."""
        self._hosts, self.images, self._slices = other._hosts, other.images, other._slices
        return self

    def close(self) -> None:
        """Stops serving; may be called again."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(lambda: self._task and self._task.cancel())
        self._thread.join()

    def _run(self) -> None:
        async def main() -> None:
            self._task = asyncio.current_task()
            self._started.set()
            try:
                await serve(self._app, self._listening, self._files, self.authority.certificate_file)
            except asyncio.CancelledError:
                pass

        self._loop.run_until_complete(main())
        self._loop.close()

    # The directory of the channel.

    def check_token(self, secret: str) -> bool:
        return token_matches(secret, self._digests) is not None

    async def joined(self, host: str, secret: str, key: str) -> None:
        if host in self._hosts and self._hosts[host] != key and (host, secret) in self._used:
            raise Conflict(f"Host {host} has joined with this token already. Make a new token.")
        self._used.add((host, secret))
        self._hosts[host] = key

    def accepts(self, host: str, key: str) -> bool:
        return self._hosts.get(host) == key and host not in self.removed

    async def slice_after(self, host: str, revision: int, timeout: float) -> HostSlice | None:
        end = asyncio.get_running_loop().time() + timeout
        while True:
            newest = self._slices.get(host)
            if newest is not None and newest.revision > revision:
                return newest
            self._news.clear()
            try:
                async with asyncio.timeout_at(end):
                    await self._news.wait()
            except TimeoutError:
                return None

    async def report(self, host: str, report: HostReport) -> None:
        assert report.host == host
        with self._heard:
            self.reports.append(report)
            self._heard.notify_all()

    async def console(self, host: str, server: str, text: bytes) -> None:
        self.consoles[host, server] = text

    async def receive_image(self, host: str, id: str, content: AsyncIterator[bytes]) -> None:
        if id not in self.expected:
            raise NotFound(f"Nobody waits for image {id}.")
        self.received[id] = b"".join([piece async for piece in content])

    def image_path(self, id: str) -> Path | None:
        return self.images.get(id)
