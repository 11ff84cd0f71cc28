"""The Network API v2.0 on the wire: envelopes, the older names of fields, links of pages, errors.

Source: OpenStack's Network API v2.0 reference.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from trunkline.api.http import Request
from trunkline.api.query import Page, Query
from trunkline.errors import BadField, BadRequest, NotFound, Refusal, Unauthenticated

#: Class names that stand for no error of the API: what is shown instead.
_TYPES = {
    "BadField": "HTTPBadRequest",
    "NotFound": "HTTPNotFound",
    "Conflict": "HTTPConflict",
    "Forbidden": "HTTPForbidden",
    "TooLarge": "HTTPRequestEntityTooLarge",
    "OtherMediaType": "HTTPUnsupportedMediaType",
    "_NoMethod": "HTTPMethodNotAllowed",
    "Unavailable": "HTTPServiceUnavailable",
    "TooMany": "HTTPTooManyRequests",
}
#: Older names of fields.
ALIASES = {"tenant_id": "project_id"}
#: Fields for which null stands for empty, by kind. For a MAC address, empty asks for a new one.
_EMPTY: Mapping[str, Mapping[str, Any]] = defaultdict(
    dict,
    {
        "subnet": {"dns_nameservers": [], "host_routes": []},
        "port": {
            "mac_address": "",
            "allowed_address_pairs": [],
            "extra_dhcp_opts": [],
            "security_groups": [],
            "binding:host_id": "",
            "binding:profile": {},
        },
        "router": {"routes": []},
        "trunk": {"sub_ports": []},
        "firewall_group": {"ports": []},
        "firewall_policy": {"firewall_rules": []},
    },
)
_REVISION = re.compile(r'\s*"?revision_number=(-?\d{1,18})"?\s*')


def error(refusal: Refusal, status: int, request_id: str) -> dict[str, Any]:
    """An error's body."""
    if isinstance(refusal, Unauthenticated):
        return {"error": {"code": status, "title": HTTPStatus(status).phrase, "message": refusal.message}}
    kind = _TYPES.get(refusal.type, refusal.type)
    return {"NeutronError": {"type": kind, "message": refusal.message, "detail": ""}}


def given(body: Any, kind: str) -> Any:
    """The fields of a request, under their present names."""
    if not isinstance(body, dict):
        raise BadRequest(f"The body of {kind} must be a JSON object.")
    fields = dict(body)
    for old, new in ALIASES.items():
        if old in fields:
            value = fields.pop(old)
            if fields.setdefault(new, value) != value:
                raise BadField(old, f"it contradicts {new}. Give one of them.")
    for name, empty in _EMPTY[kind].items():
        if name in fields and fields[name] is None:
            fields[name] = empty
    if kind in ("security_group_rule", "default_security_group_rule"):
        protocol = fields.get("protocol")
        if isinstance(protocol, int) and not isinstance(protocol, bool):
            fields["protocol"] = str(protocol)
        elif protocol in ("any", ""):
            fields["protocol"] = None
        for name in ("remote_ip_prefix", "remote_group_id", "remote_address_group_id"):
            if fields.get(name) == "":
                fields[name] = None
    return fields


def several(bodies: Any, kind: str, plural: str, most: int) -> list[Any]:
    """The bodies of a request for several, each bare or under the name of its kind."""
    if not isinstance(bodies, list) or not bodies:
        raise BadField(plural, "it must be a list of one or more.")
    if len(bodies) > most:
        raise BadField(plural, f"at most {most} in one request.")
    fields = [body[kind] if isinstance(body, dict) and set(body) == {kind} else body for body in bodies]
    for index, each in enumerate(fields):
        if not isinstance(each, dict):
            raise BadField(f"{plural}[{index}]", "it must be a JSON object.")
    return [given(each, kind) for each in fields]


def expected_revision(headers: Mapping[str, str]) -> int | None:
    """The revision that an ``If-Match`` header demands.

    Raises:
        BadRequest: the header is there, and is of another form.
    """
    text = headers.get("if-match")
    if text is None:
        return None
    match = _REVISION.fullmatch(text)
    if match is None:
        raise BadField("If-Match", "write it as revision_number=12.")
    return int(match[1])


def shown_fields(pairs: Sequence[tuple[str, str]]) -> frozenset[str]:
    """The fields that a request to show one object names."""
    for name, _ in pairs:
        if name != "fields":
            raise BadField(name[:80], "one object takes no filter. Remove it.")
    return frozenset(value for _, value in pairs if value)


def listing(request: Request, plural: str, query: Query, page: Page) -> dict[str, Any]:
    """The body of a list, with links to the pages beside it."""
    body: dict[str, Any] = {plural: page.items}
    if query.limit is None:
        return body
    short = len(page.items) < query.limit
    links = []
    if not (short and not query.reverse):
        links.append({"rel": "next", "href": _link(request, page.last, reverse=False)})
    if not (short and query.reverse):
        links.append({"rel": "previous", "href": _link(request, page.first, reverse=True)})
    if links:
        body[f"{plural}_links"] = links
    return body


def _link(request: Request, marker: str | None, *, reverse: bool) -> str:
    pairs = [(name, value) for name, value in request.query if name not in ("marker", "page_reverse")]
    if marker is not None:
        pairs.append(("marker", marker))
    if reverse:
        pairs.append(("page_reverse", "True"))
    return f"{request.base_url}{request.url_path}?{urlencode(pairs)}"


def no_such(what: str) -> NotFound:
    """The error for a path that names nothing."""
    return NotFound(f"{what} could not be found.", type="HTTPNotFound")
