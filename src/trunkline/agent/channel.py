"""The host's end of the host channel.

`http.client` of the standard library, in threads: two connections, one that waits for slices and one
for the rest, and one a download. It imports in 20 ms, and the agent is to start quickly.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from trunkline.compiler.slices import RUN_HEADER, HostSlice
from trunkline.errors import Refusal, Unavailable
from trunkline.resources.reports import HostReport

T = TypeVar("T")
#: Longer than the server holds a request for a slice.
_SLICE_TIMEOUT = 40.0
_TIMEOUT = 10.0
#: The control plane answers to a file when it has checked it and has it on disk.
_UPLOAD_TIMEOUT = 300.0
_PIECE = 256 * 1024


class Refused(Refusal):
    """The control plane answered with an error; `status` is its HTTP status."""

    def __init__(self, status: int, message: str, field: str = "") -> None:
        super().__init__(message, field=field)
        self.status = status


class Link:
    """One connection to the control plane, kept open; one request at a time; blocking."""

    def __init__(self, control: str, context: ssl.SSLContext, timeout: float = _TIMEOUT) -> None:
        parts = urlsplit(control)
        self._http = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=timeout, context=context, blocksize=_PIECE
        )
        self._closed = False

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """The answer, whose body must be read; tried again where a connection left open was closed.

        Raises:
            Unavailable: the control plane cannot be reached, or is not who it should be.
            Refused: it said no.
        """
        kept = self._http.sock is not None
        try:
            if self._closed:
                raise OSError("closed")
            self._http.request(method, path, body, headers or {})
            answer = self._http.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self._http.close()
            if kept and not self._closed and not isinstance(error, TimeoutError):
                return self.ask(method, path, body, headers)
            raise Unavailable(f"control plane at {self._http.host}:{self._http.port}: {error}") from None
        if answer.status < 400:
            return answer
        raise _refused(answer.status, _read(answer, 64 * 1024))

    def close(self) -> None:
        """Closes it; a request that another thread waits for ends."""
        self._closed = True
        if (sock := self._http.sock) is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def _read(answer: http.client.HTTPResponse, most: int | None = None) -> bytes:
    try:
        return answer.read(most) if most is not None else answer.read()
    except (OSError, http.client.HTTPException) as error:
        answer.close()
        raise Unavailable(f"the control plane's answer ended early: {error}") from None


def _refused(status: int, body: bytes) -> Refused:
    try:
        error = json.loads(body)["error"]
        return Refused(status, str(error["message"]), str(error.get("field", "")))
    except (ValueError, KeyError, TypeError):
        return Refused(status, f"The control plane answered with status {status}.")


class Channel:
    """The host's view of the control plane. Owns its threads and connections."""

    def __init__(self, control: str, context: ssl.SSLContext) -> None:
        self._control = control
        self._context = context
        self._slices = Link(control, context, _SLICE_TIMEOUT)
        self._rest = Link(control, context)
        self._transfers: set[Link] = set()
        self._slice_thread = ThreadPoolExecutor(1, "slice")
        self._rest_thread = ThreadPoolExecutor(1, "report")
        self._transfer_threads = ThreadPoolExecutor(2, "image")

    async def slice_after(self, revision: int) -> HostSlice | None:
        """The host's slice when it is newer than `revision`; None after some seconds.

        Raises:
            Unavailable, Refused: as `Link.ask`.
        """

        def ask() -> HostSlice | None:
            answer = self._slices.ask("GET", f"/v1/slice?after={revision}")
            body = _read(answer)
            if answer.status == 204:
                return None
            try:
                return msgspec.json.decode(body, type=HostSlice)
            except msgspec.MsgspecError as error:
                raise Unavailable(f"the control plane sent what is no slice: {error}") from None

        return await self._in(self._slice_thread, ask)

    async def report(self, report: HostReport) -> str:
        """Tells what is seen. Raises as `slice_after`.

        Returns: which run of the control plane heard it; another one knows nothing of consoles.
        """
        body = msgspec.json.encode(report)

        def ask() -> str:
            answer = self._rest.ask("POST", "/v1/report", body, {"Content-Type": "application/json"})
            _read(answer)
            return answer.headers.get(RUN_HEADER, "")

        return await self._in(self._rest_thread, ask)

    async def console(self, server: str, text: bytes) -> None:
        """Tells the end of what a server wrote on its console. Raises as `slice_after`."""

        def ask() -> None:
            headers = {"Content-Type": "application/octet-stream"}
            _read(self._rest.ask("POST", f"/v1/consoles/{server}", text, headers))

        await self._in(self._rest_thread, ask)

    async def download(self, image: str, file: Path, size: int) -> None:
        """Continues a file until it holds the image; what it holds already is kept.

        Raises:
            Unavailable, Refused: as `Link.ask`; the file keeps what came.
            OSError: the file cannot be written.
        """

        def ask() -> None:
            link = Link(self._control, self._context)
            self._transfers.add(link)
            try:
                with file.open("ab") as stream:
                    have = stream.tell()
                    if have >= size:
                        return
                    headers = {"Range": f"bytes={have}-"} if have else {}
                    answer = link.ask("GET", f"/v1/images/{image}", headers=headers)
                    if have and answer.status != 206:
                        stream.truncate(0)
                    while piece := _read(answer, _PIECE):
                        stream.write(piece)
                        if stream.tell() > size:
                            raise Unavailable(f"image {image} is larger than its {size} bytes")
            finally:
                self._transfers.discard(link)
                link.close()

        await self._in(self._transfer_threads, ask)

    async def upload(self, image: str, file: Path) -> None:
        """Gives the control plane the content of an image; it has it durably when this returns.

        Raises:
            Unavailable, Refused: as `Link.ask`.
        """
        link = Link(self._control, self._context, _UPLOAD_TIMEOUT)

        def ask() -> None:
            with file.open("rb") as stream:
                length = str(file.stat().st_size)
                headers = {"Content-Type": "application/octet-stream", "Content-Length": length}
                _read(link.ask("PUT", f"/v1/images/{image}", stream, headers))

        self._transfers.add(link)
        try:
            await self._in(self._transfer_threads, ask)
        finally:
            self._transfers.discard(link)
            link.close()

    async def close(self) -> None:
        """Ends every request and thread."""
        for link in (self._slices, self._rest, *self._transfers):
            link.close()
        for pool in (self._slice_thread, self._rest_thread, self._transfer_threads):
            pool.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    async def _in(pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, call)
