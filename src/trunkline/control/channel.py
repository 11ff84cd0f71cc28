"""The control plane's end of the host channel: who a host is, and what it is told.

    a connection, TLS of the region's authority
      |-- without a certificate     GET /v1/authority, POST /v1/join; closed after a few seconds
      `-- with one                  GET /v1/slice, POST /v1/report, POST /v1/consoles/ID, GET and
      |                               PUT /v1/images/ID
                                      the host is the certificate's common name, never a name in a body,
                                      and the certificate's key is the one it joined with last

What hosts and tokens there are is the `Directory`'s to know; this module only speaks.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import re
import secrets
import socket as sockets
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from trunkline.api.statuses import status_of
from trunkline.compiler.slices import RUN_HEADER, HostSlice
from trunkline.control import serving
from trunkline.devices.pki import Authority, IssuedFiles, server_context
from trunkline.errors import (
    BadField,
    BadRequest,
    Forbidden,
    NotFound,
    Refusal,
    TooMany,
    Unauthenticated,
)
from trunkline.resources.reports import HostReport

#: How long a request for a slice is kept open where there is nothing newer, in seconds.
LONG_POLL = 20.0
#: How long a connection without a certificate may stay, in seconds.
ANONYMOUS = 15.0
_LARGEST_JOIN = 16 * 1024
_LARGEST_REPORT = 8 * 1024 * 1024
_LARGEST_CONSOLE = 64 * 1024
T = TypeVar("T")
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Directory(Protocol):
    """What the channel asks of the control plane. No method may trust more than it is given here."""

    @property
    def authority(self) -> Authority:
        """The region's authority."""

    def check_token(self, secret: str) -> bool:
        """Whether this is the secret of a join token that is valid now; see `token_matches`."""

    async def joined(self, host: str, secret: str, key: str) -> None:
        """Records that a host joined, durably, with the token of that secret.

        Args:
            key: SHA-256 of its public key (SubjectPublicKeyInfo, DER), hexadecimal. From now on
                `accepts` takes this key for the host, and no other.
        Raises:
            trunkline.errors.Conflict: the name is taken by a host with another key, and the token is
                not newer than when that one joined. The same key again is no conflict: its first answer
                may have been lost.
        """

    def accepts(self, host: str, key: str) -> bool:
        """Whether this is the key that the host joined with last, and the host was not removed."""

    async def slice_after(self, host: str, revision: int, timeout: float) -> HostSlice | None:
        """The host's slice as soon as there is one newer than `revision`; None after `timeout` seconds."""

    async def report(self, host: str, report: HostReport) -> None:
        """Takes what a host sees."""

    async def console(self, host: str, server: str, text: bytes) -> None:
        """Takes the end of what a server of the host wrote on its console."""

    def image_path(self, id: str) -> Path | None:
        """The file of an image; None where there is none."""

    async def receive_image(self, host: str, id: str, content: AsyncIterator[bytes]) -> None:
        """Takes the content of an image that the host was to make of a server's disk.

        Raises:
            trunkline.errors.Refusal: nothing is kept of it.
        """


def new_token(authority: Authority) -> tuple[str, str]:
    """A new join token, and the digest of its secret: the one to show once, the other to keep."""
    secret = secrets.token_urlsafe(24)
    return f"{secret}.{authority.fingerprint}", token_digest(secret)


def token_digest(secret: str) -> str:
    """What is kept of a token's secret. It is random and long, so a plain SHA-256 protects it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def token_matches(secret: str, digests: Iterable[str]) -> str | None:
    """The digest among these that is the secret's, in a time that does not tell which or whether."""
    given, found = token_digest(secret), None
    for digest in digests:
        if hmac.compare_digest(given, digest):
            found = digest
    return found


class FailureLimit:
    """Bounds how often tokens are guessed: by source, and by all sources together."""

    def __init__(self, by_source: int = 10, in_all: int = 100, window: float = 60.0) -> None:
        """So many failures in a window of so many seconds."""
        self._by_source = by_source
        self._in_all = in_all
        self._window = window
        self._failures: deque[tuple[float, str]] = deque()

    def check(self, source: str, now: float) -> None:
        """Call before looking at a token.

        Raises:
            TooMany: too many failed of late.
        """
        while self._failures and self._failures[0][0] <= now - self._window:
            self._failures.popleft()
        own = [when for when, who in self._failures if who == source]
        if len(own) >= self._by_source:
            wait = own[0] + self._window - now
        elif len(self._failures) >= self._in_all:
            wait = self._failures[0][0] + self._window - now
        else:
            return
        raise TooMany(
            f"Too many join tokens were refused. Try again in {wait:.0f} seconds.", retry_after=wait
        )

    def failed(self, source: str, now: float) -> None:
        """A token was refused."""
        self._failures.append((now, source))


def channel_app(directory: Directory, *, long_poll: float = LONG_POLL) -> Starlette:
    """The ASGI application of the channel; `serve` puts the peer's certificate into its scope."""
    limit = FailureLimit()
    # Hosts tell a control plane that was restarted what they told the one before.
    run = {RUN_HEADER: secrets.token_hex(8)}

    async def authority(request: Request) -> Response:
        return Response(directory.authority.certificate_pem, media_type="application/x-pem-file")

    async def join(request: Request) -> Response:
        source = request.client.host if request.client else ""
        limit.check(source, time.monotonic())
        asked = await _body(request, JoinRequest, _LARGEST_JOIN)
        secret = asked.token.partition(".")[0]
        if not directory.check_token(secret):
            limit.failed(source, time.monotonic())
            raise Unauthenticated("The join token is not valid. Make a new one on the control plane.")
        if not _HOST_NAME.fullmatch(asked.host):
            raise BadField("host", "a host's name is 1 to 63 of a-z, 0-9 and '-', with no '-' at either end.")
        certificate = directory.authority.sign(asked.csr, asked.host)
        await directory.joined(asked.host, secret, _identity(certificate)[1])
        answer = JoinAnswer(certificate=certificate, authority=directory.authority.certificate_pem)
        return _json(answer)

    async def slice_(request: Request) -> Response:
        host = _host(request, directory)
        after = request.query_params.get("after", "0")
        if not re.fullmatch(r"-?[0-9]{1,18}", after):
            raise BadField("after", "it must be the number of a revision.")
        asked = asyncio.ensure_future(directory.slice_after(host, int(after), long_poll))
        gone = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait({asked, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                return Response(status_code=204)
            newest = asked.result()
        finally:
            for task in (asked, gone):
                task.cancel()
        # Who was removed while it waited is not told any more.
        _host(request, directory)
        return Response(status_code=204) if newest is None else _json(newest)

    async def report(request: Request) -> Response:
        host = _host(request, directory)
        seen = await _body(request, HostReport, _LARGEST_REPORT)
        await directory.report(host, msgspec.structs.replace(seen, host=host))
        return Response(status_code=204, headers=run)

    async def console(request: Request) -> Response:
        host = _host(request, directory)
        text = await _bytes(request, _LARGEST_CONSOLE)
        await directory.console(host, request.path_params["server"], text)
        return Response(status_code=204)

    async def image(request: Request) -> Response:
        _host(request, directory)
        path = directory.image_path(request.path_params["id"])
        if path is None:
            raise NotFound(f"There is no image {request.path_params['id']}.")
        return FileResponse(path, media_type="application/octet-stream")

    async def receive_image(request: Request) -> Response:
        host = _host(request, directory)
        await directory.receive_image(host, request.path_params["id"], _stream(request))
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/v1/authority", authority, methods=["GET"]),
            Route("/v1/join", join, methods=["POST"]),
            Route("/v1/slice", slice_, methods=["GET"]),
            Route("/v1/report", report, methods=["POST"]),
            Route("/v1/consoles/{server}", console, methods=["POST"]),
            Route("/v1/images/{id}", image, methods=["GET"]),
            Route("/v1/images/{id}", receive_image, methods=["PUT"]),
        ],
        exception_handlers={Refusal: _refused},
    )


class JoinRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a host that wants to join sends: no certificate shows who it is yet."""

    token: str
    host: str
    csr: str


class JoinAnswer(msgspec.Struct, frozen=True):
    """What it gets: its own certificate and the authority's, both PEM."""

    certificate: str
    authority: str


async def serve(app: Starlette, socket: sockets.socket, files: IssuedFiles, authority: Path) -> None:
    """Serves the channel on a listening socket until it is cancelled.

    Args:
        files: the control plane's key and certificate.
        authority: the authority's certificate.
    """
    # Connections inherit it. asyncio sets it by itself only where the socket was made with its protocol
    # named; without it an answer waits 40 ms for the acknowledgement of its own head.
    socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
    config = uvicorn.Config(
        app,
        http=_WithPeer,
        ws="none",
        lifespan="off",
        ssl_keyfile=files.key,
        ssl_certfile=str(files.cert),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    config.load()
    config.ssl = server_context(files, authority, clients=ssl.CERT_OPTIONAL)
    await serving.serve(config, socket)


class _WithPeer(HttpToolsProtocol):
    """Puts the client's certificate (DER, or None) into the state of every request's scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        self.app_state = {**self.app_state, "peer": peer}
        self._deadline = None if peer else self.loop.call_later(ANONYMOUS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)


def _host(request: Request, directory: Directory) -> str:
    """The host that asks."""
    peer: bytes | None = request.scope.get("state", {}).get("peer")
    if peer is None:
        raise Unauthenticated("Show the certificate that the host got when it joined.")
    host, key = _identity(ssl.DER_cert_to_PEM_cert(peer))
    if not directory.accepts(host, key):
        raise Forbidden(
            f"Host {host} was removed from the region, or joined again with another key. "
            "Make a join token on the control plane, and join anew."
        )
    return host


@functools.lru_cache(maxsize=1024)
def _identity(certificate_pem: str) -> tuple[str, str]:
    """The common name of a certificate, and SHA-256 of its public key."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return str(names[0].value) if len(names) == 1 else "", hashlib.sha256(key).hexdigest()


async def _bytes(request: Request, largest: int) -> bytes:
    """The body of a request, never more than `largest` bytes of it."""
    body = bytearray()
    async for piece in _stream(request):
        body += piece
        if len(body) > largest:
            raise BadRequest(f"The body is larger than {largest} bytes.")
    return bytes(body)


async def _stream(request: Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.stream():
            yield piece
    except ClientDisconnect:
        raise BadRequest("The body ended early.") from None


async def _body(request: Request, shape: type[T], largest: int) -> T:
    """The decoded body of a request."""
    body = await _bytes(request, largest)
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid body: {error}") from None
    except msgspec.DecodeError:
        raise BadRequest("The body is no valid JSON.") from None


async def _gone(request: Request) -> None:
    """Returns when the client has closed its connection."""
    receive: Callable[[], Awaitable[Any]] = request.receive
    while (await receive())["type"] != "http.disconnect":
        pass


def _json(value: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    body = {"error": {"type": error.type, "message": error.message, "field": error.field}}
    headers = {"Retry-After": str(int(error.retry_after) + 1)} if isinstance(error, TooMany) else {}
    return Response(msgspec.json.encode(body), status_of(error), headers, media_type="application/json")
