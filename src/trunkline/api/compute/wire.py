"""What all of the Compute API's handlers share: microversions, errors, links, values as clients write them.

A handler takes a request and the minor number of the microversion that was negotiated: 37 for 2.37.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import BadField, BadRequest, Forbidden, NotFound, OverQuota, Refusal
from trunkline.resources.schema import convert

#: The microversions that are implemented, all of them: 2.1 to 2.100.
MIN, MAX = 1, 100

T = TypeVar("T")
#: (request, minor) -> reply.
VersionedHandler = Callable[[Request, int], Awaitable[Reply]]

_VERSION = re.compile(r"([1-9][0-9]*)\.(0|[1-9][0-9]*)")
_NEW, _OLD = "openstack-api-version", "x-openstack-nova-api-version"

#: The key of an error's body by its status.
_FAULTS = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    429: "overLimit",
    501: "notImplemented",
    503: "serviceUnavailable",
}


class Unsupported(BadRequest):
    """The microversion asked for is not implemented."""


def error(refusal: Refusal, status: int, request_id: str) -> dict[str, Any]:
    """An error's body."""
    return {_FAULTS.get(status, "computeFault"): {"code": status, "message": refusal.message}}


def negotiate(headers: Mapping[str, str]) -> int:
    """The minor number of the microversion that a request asks for.

    Raises:
        BadRequest: the header is malformed.
        Unsupported: it asks for one that is not implemented.
    """
    asked = ""
    for part in headers.get(_NEW, "").split(","):
        service, _, version = part.strip().partition(" ")
        if service.lower() == "compute":
            asked = version.strip()
    asked = asked or headers.get(_OLD, "").strip()
    if not asked:
        return MIN
    if asked.lower() == "latest":
        return MAX
    match = _VERSION.fullmatch(asked)
    if match is None or len(asked) > 20:
        raise BadRequest(
            f"API Version String '{asked[:40]}' is of invalid format. Must be of format MajorNum.MinorNum."
        )
    if match[1] != "2" or not MIN <= int(match[2]) <= MAX:
        raise Unsupported(
            f"Version {asked} is not supported by the API. Minimum is 2.{MIN} and maximum is 2.{MAX}."
        )
    return int(match[2])


def headers(request: Request | None, request_id: str) -> dict[str, str]:
    """The headers of every reply."""
    try:
        minor = negotiate(request.headers) if request is not None else MIN
    except Refusal:
        minor = MIN
    return {
        "x-compute-request-id": request_id,
        "OpenStack-API-Version": f"compute 2.{minor}",
        "X-OpenStack-Nova-API-Version": f"2.{minor}",
        "Vary": "OpenStack-API-Version, X-OpenStack-Nova-API-Version",
    }


def at(
    method: str,
    path: str,
    handler: VersionedHandler,
    success: int = 200,
    *,
    since: int = MIN,
    until: int = MAX,
    **more: Any,
) -> Endpoint:
    """An endpoint that is there from one microversion to another."""

    async def handle(request: Request) -> Reply:
        if any("\x00" in value for value in request.path.values()):
            raise NotFound("The resource could not be found.")
        try:
            minor = negotiate(request.headers)
        except Unsupported as refusal:
            return Reply(error(refusal, 406, ""), 406)
        if not since <= minor <= until:
            raise NotFound("The resource could not be found.", type="HTTPNotFound")
        try:
            return await handler(request, minor)
        except OverQuota as refusal:
            # A spent quota is 403 in this API, not 409.
            raise Forbidden(refusal.message, type=refusal.type, field=refusal.field) from None

    summary = (handler.__doc__ or "").strip().splitlines()
    return Endpoint(method, path, handle, success=success, summary=summary[0] if summary else "", **more)


async def body_of(request: Request, key: str, shape: type[T], *, lax: bool = False) -> T:
    """The object under the one key of a request's body, as a typed struct.

    Raises:
        BadRequest, BadField: it is malformed.
    """
    return unwrap(await request.json(), key, shape, lax=lax)


def unwrap(body: Any, key: str, shape: type[T], *, lax: bool = False) -> T:
    """The object under the one key of a decoded body, as a typed struct.

    Raises:
        BadRequest, BadField: it is malformed.
    """
    if not isinstance(body, dict) or key not in body:
        raise BadRequest(f"The body must be a JSON object with the key '{key}'.")
    only(body, {key})
    return shaped(body[key], shape, key, lax=lax)


def shaped(value: Any, shape: type[T], what: str, *, lax: bool = False) -> T:
    """A typed struct from decoded JSON."""
    if not isinstance(value, dict):
        raise BadField(what, "it must be a JSON object.")
    try:
        result: T = convert(value, shape, what=what, lax=lax)
    except BadField as refusal:
        if "[" not in what or refusal.field.startswith(what):
            raise
        problem = refusal.message.partition(": ")[2]
        raise BadField(f"{what}.{refusal.field}", problem) from None
    return result


def only(body: Mapping[str, Any], known: set[str]) -> None:
    """Refuses other keys beside the known ones."""
    for key in body:
        if key not in known:
            raise BadField(str(key)[:80], "Additional properties are not allowed. Remove it.")


class Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Base of the shapes of request bodies."""


_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})


def boolean(field: str, value: Any) -> bool:
    """A boolean, as clients of this API write it.

    Raises:
        BadField: it is none.
    """
    if isinstance(value, bool):
        return value
    text = str(value).lower() if isinstance(value, str | int) else ""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise BadField(field, f"'{str(value)[:40]}' is not a boolean. Use true or false.")


def whole(field: str, value: Any, low: int, high: int) -> int:
    """A whole number in a range, given as a number or as text.

    Raises:
        BadField: it is none.
    """
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
        number = int(value)
    if number is None or not low <= number <= high:
        raise BadField(field, f"'{str(value)[:40]}' is not a whole number between {low} and {high}.")
    return number


def printable_name(field: str, value: Any, *, low: int = 1) -> str:
    """A name of at most 255 printable characters, without space around it.

    Raises:
        BadField: it is none.
    """
    if not isinstance(value, str) or not low <= len(value.strip()) <= len(value) <= 255:
        raise BadField(field, f"it must be a text of {low} to 255 characters, not only of space.")
    if value != value.strip():
        raise BadField(field, "it begins or ends with a space. Remove it.")
    if not value.isprintable():
        raise BadField(field, "it has characters that cannot be printed. Remove them.")
    return value


_KEY = re.compile(r"[a-zA-Z0-9\-_:. ]{1,255}")


def labels(field: str, value: Any) -> dict[str, str]:
    """Metadata: names of letters, digits and -_:. with texts of up to 255 characters.

    Raises:
        BadField: it is none.
    """
    if not isinstance(value, dict):
        raise BadField(field, "it must be a JSON object of texts.")
    for key, text in value.items():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise BadField(
                f"{field}.{str(key)[:80]}",
                "a key has 1 to 255 characters, of letters, digits, '-', '_', ':', '.' and space.",
            )
        if not isinstance(text, str) or len(text) > 255:
            raise BadField(f"{field}.{key}", "a value is a text of up to 255 characters.")
        if "\x00" in text:
            raise BadField(f"{field}.{key}", "it contains a NUL character. Remove it.")
    return value


def links(request: Request, path: str) -> list[dict[str, str]]:
    """The links of an object: its own, and one that outlives versions."""
    return [
        {"rel": "self", "href": f"{request.base_url}/v2.1/{path}"},
        {"rel": "bookmark", "href": f"{request.base_url}/{path}"},
    ]


def bookmark(request: Request, path: str) -> list[dict[str, str]]:
    """The link of an object that is referred to."""
    return [{"rel": "bookmark", "href": f"{request.base_url}/{path}"}]


def single(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """A query string as a dictionary; the last one of each name counts.

    Raises:
        BadField: a value has a NUL character.
    """
    for name, value in pairs:
        if "\x00" in value:
            raise BadField(name.replace("\x00", "")[:80], "it contains a NUL character. Remove it.")
    return dict(pairs)


def page_limit(query: Mapping[str, str], largest: int = 1000) -> int:
    """The number of items of a page.

    Raises:
        BadField: it is no number.
    """
    text = query.get("limit")
    if text is None:
        return largest
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise BadField("limit", f"'{text[:40]}' is not a number of items, 0 or more.")
    return min(int(text), largest) or largest


_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def when(name: str, text: str) -> str:
    """A time in a query, in the form that times are stored in: UTC, whole seconds.

    Raises:
        BadField: it is none.
    """
    try:
        if not _DATE.match(text):
            raise ValueError
        # A plus sign that was not encoded arrives as a space.
        found = datetime.fromisoformat(re.sub(r" (?=\d\d:?\d\d$)", "+", text))
        if found.tzinfo is not None:
            found = found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadField(name, f"'{text[:80]}' is not a time. Write it as 2026-11-21T04:00:00Z.") from None
    return found.strftime("%Y-%m-%dT%H:%M:%SZ")
