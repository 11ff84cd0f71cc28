"""The ASGI application: every service under its prefix of one port."""

from __future__ import annotations

import itertools
import logging
import string
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from urllib.parse import quote

import msgspec
from prometheus_client import Counter, Histogram
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from trunkline.api.context import Context
from trunkline.api.http import Endpoint, OtherMediaType, Reply, Request, Service, TooLarge
from trunkline.api.ids import new_id
from trunkline.api.paths import Paths
from trunkline.api.statuses import status_of
from trunkline.errors import BadRequest, NotFound, Refusal, TooMany, Unauthenticated

log = logging.getLogger(__name__)

#: Finds out who asks, by the headers; raises Unauthenticated where a token is given and not valid.
Authenticate = Callable[[StarletteRequest], Awaitable[Context]]

REQUESTS = Counter("trunkline_api_requests", "Requests answered", ["service", "method", "status"])
SECONDS = Histogram("trunkline_api_seconds", "Time to answer, seconds", ["service", "method"])

_PRINTABLE = string.digits + string.ascii_letters + string.punctuation + " "
#: Of a resource in a path, characters; no resource has a longer one.
_LONGEST_NAME = 1000

# Children are kept: to look one up by its labels costs more than to count.
_answered = lru_cache(4096)(REQUESTS.labels)
_seconds = lru_cache(1024)(SECONDS.labels)

_encode = msgspec.json.Encoder(order=None).encode


def application(
    services: Sequence[Service], authenticate: Authenticate, extra: Iterable[BaseRoute] = ()
) -> ASGIApp:
    """Builds the application.

    Args:
        services: the APIs.
        authenticate: token to context.
        extra: routes outside any service.
    """
    others = Starlette(routes=list(extra))
    by_prefix = {service.prefix: _ServiceApp(service, authenticate) for service in services}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        prefix, _, _ = scope.get("path", "").removeprefix("/").partition("/")
        await by_prefix.get(f"/{prefix}", others)(scope, receive, send)

    return app


class _ServiceApp:
    """One service: finds the endpoint by path, then by method."""

    def __init__(self, service: Service, authenticate: Authenticate) -> None:
        assert service.prefix.startswith("/"), service.prefix
        assert service.prefix.count("/") == 1, service.prefix
        self._service = service
        self._authenticate = authenticate
        self._paths = Paths(service.endpoints)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        request_id = f"req-{new_id()}"
        scope["root_path"] = self._service.prefix
        raw = StarletteRequest(scope, receive)
        request: Request | None = None
        try:
            endpoint, scope["path_params"] = self._match(scope["method"], scope["path"])
            context = replace(await self._authenticate(raw), request_id=request_id)
            request = Request(raw, context, self._service.prefix)
            if endpoint.token and not context.authenticated:
                raise Unauthenticated("The request you have made requires authentication.")
            response = self._response(await endpoint.handler(request), request, request_id)
        except Refusal as refusal:
            response = self._refused(refusal, request, request_id)
        except ClientDisconnect:
            return
        except Exception:
            log.exception("%s: %s %s failed", request_id, scope["method"], scope["path"])
            response = self._failed(request, request_id)
        method, name = scope["method"], self._service.name
        _answered(name, method, response.status_code).inc()
        _seconds(name, method).observe(time.perf_counter() - started)
        await response(scope, receive, send)

    def _match(self, method: str, path: str) -> tuple[Endpoint, dict[str, str]]:
        """The endpoint, and the values of the parameters in the path."""
        allowed: set[str] = set()
        inner = path.removeprefix(self._service.prefix)
        for older, newer in self._service.older.items():
            if inner.startswith(older):
                inner = newer + inner.removeprefix(older)
        # A slash at the end means nothing: some clients have one before their query.
        for methods, values in itertools.chain(self._paths.find(inner), self._paths.find(inner.rstrip("/"))):
            if any("\x00" in value or len(value) > _LONGEST_NAME for value in values.values()):
                raise _nowhere()
            endpoint = methods.get(method) or (methods.get("GET") if method == "HEAD" else None)
            if endpoint is not None:
                return endpoint, values
            allowed.update(methods)
        if allowed:
            raise _NoMethod(method, sorted(allowed))
        raise _nowhere()

    def _response(self, reply: Reply, request: Request | None, request_id: str) -> Response:
        headers = {"x-openstack-request-id": request_id}
        headers.update(self._service.headers(request, request_id))
        # What a client named stands in some, as Location: it is written as URLs are (RFC 3986, 2.1).
        headers.update({name: quote(value, safe=_PRINTABLE) for name, value in reply.headers.items()})
        if reply.stream is not None:
            return StreamingResponse(
                reply.stream, status_code=reply.status, headers=headers, media_type=reply.content_type
            )
        if reply.status in (204, 205, 304):
            return Response(status_code=reply.status, headers=headers)
        body = reply.body
        content = body if isinstance(body, bytes) else b"" if body is None else _encode(body)
        if body is None:
            return Response(status_code=reply.status, headers=headers)
        return Response(content, reply.status, headers, media_type=reply.content_type)

    def _refused(self, refusal: Refusal, request: Request | None, request_id: str) -> Response:
        status = _STATUS.get(type(refusal)) or status_of(refusal)
        headers = {}
        if isinstance(refusal, TooMany):
            headers["retry-after"] = str(max(1, round(refusal.retry_after)))
        if isinstance(refusal, Unauthenticated):
            headers["www-authenticate"] = "Keystone"
        if isinstance(refusal, _NoMethod):
            headers["allow"] = refusal.allowed
        body = self._service.error(refusal, status, request_id)
        return self._response(Reply(body, status, headers), request, request_id)

    def _failed(self, request: Request | None, request_id: str) -> Response:
        refusal = Refusal(
            "The request failed inside the cloud. "
            f"Its operator finds the cause in the log under {request_id}.",
            type="HTTPInternalServerError",
        )
        return self._response(Reply(self._service.error(refusal, 500, request_id), 500), request, request_id)


class _NoMethod(BadRequest):
    """The path is there, the method is not."""

    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        self.allowed = ", ".join(allowed)
        super().__init__(f"{method[:40]} is not allowed here. Allowed: {self.allowed}.")


#: Of the errors that are about HTTP alone (RFC 9110, 15.5).
_STATUS: dict[type[Refusal], int] = {_NoMethod: 405, TooLarge: 413, OtherMediaType: 415}


def _nowhere() -> NotFound:
    return NotFound("The resource could not be found.", type="HTTPNotFound")
