"""HTTP under every service: what a dialect sees of a request, and how its endpoints are declared.

A dialect is one module per service. It declares its `Endpoint`s as a table, turns requests into
calls of the engine and results into replies, and writes errors in its service's form. Nothing else
knows of HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request as StarletteRequest

from trunkline.api.context import Context
from trunkline.errors import BadField, BadRequest, Refusal
from trunkline.resources.schema import refuse_unstorable

#: The largest body of a JSON request, in bytes.
MAX_BODY = 16 * 1024 * 1024
#: The longest value in a query string, characters, and the most values: SQLite has patterns of up to
#: 50,000 bytes and expressions of up to 1,000 levels.
MAX_VALUE, MAX_VALUES = 8_000, 500


class TooLarge(BadRequest):
    """The body is larger than the service takes."""


class OtherMediaType(BadRequest):
    """The body is said to be something else than what the service takes."""


class Request:
    """One request, as a dialect's handler sees it."""

    def __init__(self, raw: StarletteRequest, context: Context, prefix: str) -> None:
        self.raw = raw
        self.context = context
        self._prefix = prefix

    @property
    def method(self) -> str:
        """GET, POST ..."""
        return self.raw.method

    @property
    def path(self) -> Mapping[str, str]:
        """The parameters of the path."""
        return self.raw.path_params

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by lower-case name."""
        return self.raw.headers

    @property
    def query(self) -> list[tuple[str, str]]:
        """The query string, decoded, in order. Names without a value have an empty one.

        Raises:
            BadField: a value is longer than any database compares with, or cannot be in one.
            BadRequest: there are more values than one question has.
        """
        text = self.raw.scope["query_string"].decode("latin-1")
        pairs = parse_qsl(text, keep_blank_values=True)
        for name, value in pairs:
            if "\x00" in name or "\x00" in value:
                raise BadField(name.replace("\x00", ""), "it contains a NUL character. Remove it.")
            if len(value) > MAX_VALUE:
                raise BadField(name, f"it has {len(value)} characters, and may have {MAX_VALUE}.")
        if sum(1 + value.count(",") for _, value in pairs) > MAX_VALUES:
            raise BadRequest(f"The query has more than {MAX_VALUES} values. Ask in several requests.")
        return pairs

    @property
    def base_url(self) -> str:
        """The URL of the service as the client reached it, without a slash at the end."""
        host = self.raw.headers.get("host", "127.0.0.1")
        return f"{self.raw.url.scheme}://{host}{self._prefix}"

    @property
    def url_path(self) -> str:
        """The path within the service, without its prefix."""
        return str(self.raw.scope["path"]).removeprefix(self._prefix)

    async def body(self, limit: int = MAX_BODY) -> bytes:
        """The whole body.

        Raises:
            TooLarge: it is longer than `limit` bytes.
        """
        parts: list[bytes] = []
        size = 0
        async for chunk in self.raw.stream():
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"The body is larger than {limit} bytes.")
            parts.append(chunk)
        return b"".join(parts)

    async def json(self) -> Any:
        """The body as decoded JSON, in which nothing is that no database holds.

        Raises:
            OtherMediaType: it is said to be something else.
            BadRequest: it is no JSON.
            BadField: it has text or a number that cannot be kept.
        """
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type and "json" not in media_type:
            raise OtherMediaType(
                f"Content-Type {media_type[:80]} is not taken here. Send JSON, as application/json."
            )
        body = await self.body()
        if not body:
            raise BadRequest("The request needs a JSON body.")
        try:
            decoded = msgspec.json.decode(body)
            refuse_unstorable(decoded)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRequest(f"The body is not valid JSON: {error}.") from None
        return decoded

    async def envelope(self, *names: str) -> Any:
        """What stands in the JSON body under the one key that is expected there.

        Raises:
            BadRequest: the body is no object with one of these keys.
            BadField: it has others beside.
        """
        body = await self.json()
        if isinstance(body, dict):
            for name in names:
                if name in body:
                    only(body, name)
                    return body[name]
        wanted = " or ".join(f"'{name}'" for name in names)
        raise BadRequest(f"The body must be a JSON object with the key {wanted}.")


def only(body: Mapping[str, Any], name: str) -> None:
    """Raises BadField where something stands beside the one key that a body has."""
    for other in body:
        if other != name:
            raise BadField(other, f"it stands beside '{name}', where nothing does. Remove it.")


@dataclass(frozen=True)
class Reply:
    """An answer: `body` is encoded as JSON, unless it is bytes or there is none."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    #: A body that is streamed instead: chunks of bytes.
    stream: Any = None


Handler = Callable[[Request], Awaitable[Reply]]


@dataclass(frozen=True)
class Endpoint:
    """One operation at one path."""

    method: str
    #: Relative to the service, with parameters: /v2.0/ports/{id}
    path: str
    handler: Handler
    #: Whether a valid token is needed.
    token: bool = True
    #: For the OpenAPI document: a line on what it does, and the shape of its body.
    summary: str = ""
    #: The kind it acts on, for tags in the document.
    kind: str = ""
    #: What stands around one of the kind in a body, where it is not the kind itself.
    envelope: str = ""
    #: JSON schema of the request body.
    request: Mapping[str, Any] | None = None
    #: The status of success, and others that it can have, without a body.
    success: int = 200
    also: Sequence[int] = ()
    #: Names of query parameters.
    parameters: Sequence[str] = ()


@dataclass(frozen=True)
class Service:
    """One API: a path prefix, its endpoints, its form of errors."""

    name: str
    #: "/network"
    prefix: str
    endpoints: Sequence[Endpoint]
    #: (error, status, request id) -> body of the reply.
    error: Callable[[Refusal, int, str], Any]
    #: Headers that every reply of the service has.
    headers: Callable[[Request | None, str], Mapping[str, str]] = lambda request, request_id: {}
    #: Beginnings of paths under which the same is found: /v2.0/ -> /v2/
    older: Mapping[str, str] = field(default_factory=dict)
