"""The Identity API, version 3: its endpoints, its discovery, its form of errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from trunkline.api.engine import Call
from trunkline.api.http import Endpoint, Reply, Request, Service, only
from trunkline.api.identity.application_credentials import application_credentials
from trunkline.api.identity.assignment_list import Listing
from trunkline.api.identity.assignments import assignments
from trunkline.api.identity.auth import auth
from trunkline.api.identity.collection import Collection, Parts, endpoints, found, listed, render
from trunkline.api.identity.credentials import credentials
from trunkline.api.identity.people import people
from trunkline.api.identity.trusts import trusts
from trunkline.api.openapi import input_schema
from trunkline.errors import BadField, BadRequest, Refusal
from trunkline.resources import identity as kinds
from trunkline.store import Reader, table_of

#: The newest minor version of v3 whose requests are understood.
VERSION = "v3.14"
UPDATED = "2020-04-07T00:00:00Z"
_MEDIA_TYPE = "application/vnd.openstack.identity-v3+json"


def service(parts: Parts, prefix: str = "/identity") -> Service:
    """The service, for `api.app`."""
    return Service(
        name="identity",
        prefix=prefix,
        endpoints=[
            *_discovery(),
            *auth(parts),
            *people(parts),
            *assignments(parts),
            *Listing(parts).endpoints(),
            *application_credentials(parts),
            *credentials(parts),
            *trusts(parts),
            *_places(parts),
        ],
        error=_error,
        headers=lambda request, request_id: {"vary": "X-Auth-Token"},
    )


def _error(refusal: Refusal, status: int, request_id: str) -> dict[str, Any]:
    return {"error": {"code": status, "title": HTTPStatus(status).phrase, "message": refusal.message}}


# Discovery.


def _discovery() -> list[Endpoint]:
    return [
        Endpoint("GET", "/", _versions, token=False, summary="List versions", success=300),
        Endpoint("GET", "/v3", _version, token=False, summary="Show version 3"),
        Endpoint("GET", "/v3/extensions", _extensions, token=False, summary="List extensions"),
    ]


def _v3(request: Request) -> dict[str, Any]:
    return {
        "id": VERSION,
        "status": "stable",
        "updated": UPDATED,
        "links": [{"rel": "self", "href": f"{request.base_url}/v3/"}],
        "media-types": [{"base": "application/json", "type": _MEDIA_TYPE}],
    }


async def _versions(request: Request) -> Reply:
    return Reply({"versions": {"values": [_v3(request)]}}, 300, {"location": f"{request.base_url}/v3/"})


async def _version(request: Request) -> Reply:
    return Reply({"version": _v3(request)})


async def _extensions(request: Request) -> Reply:
    names = ("OS-EC2", "OS-EP-FILTER", "OS-INHERIT", "OS-TRUST")
    items = [{"alias": name, "name": f"{name} API", "description": "", "links": []} for name in names]
    return Reply(listed(request, "extensions", items))


# Regions, services, endpoints.


async def _region_of_endpoint(parts: Parts, request: Request, body: dict[str, Any]) -> None:
    """The older name of `region_id` makes the region where there is none."""
    region = body.pop("region", None)
    if region is None or "region_id" in body:
        return
    if not isinstance(region, str):
        raise BadField("region", "it must be text.")
    body["region_id"] = region

    def run(call: Call) -> None:
        if call.tx.get(kinds.Region, region) is None:
            call.create(kinds.Region, {"id": region})

    await parts.engine.write(request.context, run)


def _places(parts: Parts) -> list[Endpoint]:
    groups = "/OS-EP-FILTER/endpoint_groups"
    made = [
        *endpoints(parts, Collection(kind=kinds.Region, path="/regions")),
        *endpoints(parts, Collection(kind=kinds.Service, path="/services")),
        *endpoints(parts, Collection(kind=kinds.Endpoint, path="/endpoints", prepare=_region_of_endpoint)),
        *endpoints(parts, Collection(kind=kinds.EndpointGroup, path=groups)),
    ]
    return [
        *made,
        Endpoint(
            "PUT",
            "/v3/regions/{id}",
            _region_by_id(parts),
            summary="Create a region by its id",
            kind="region",
            request=input_schema("region", "create", "region"),
            success=201,
        ),
        Endpoint(
            "GET",
            f"/v3{groups}/{{id}}/endpoints",
            _endpoints_of_group(parts),
            summary="List the endpoints that a group picks",
        ),
    ]


def _region_by_id(parts: Parts) -> Callable[[Request], Awaitable[Reply]]:
    async def handler(request: Request) -> Reply:
        envelope = await request.json()
        body = envelope.get("region", {}) if isinstance(envelope, dict) else None
        if not isinstance(body, dict):
            raise BadRequest("The body must be a JSON object with the key 'region', which is an object too.")
        only(envelope, "region")
        if body.get("id", request.path["id"]) != request.path["id"]:
            raise BadField("region.id", "it must be the id in the path.")
        item = await parts.engine.create(request.context, kinds.Region, {**body, "id": request.path["id"]})
        item["links"] = {"self": f"{request.base_url}{request.url_path}"}
        return Reply({"region": item}, 201)

    return handler


def _endpoints_of_group(parts: Parts) -> Callable[[Request], Awaitable[Reply]]:
    async def handler(request: Request) -> Reply:
        def run(reader: Reader) -> list[Any]:
            rule = "identity:list_endpoints_associated_with_endpoint_group"
            parts.engine.require(rule, request.context, {})
            group: kinds.EndpointGroup = found(reader, kinds.EndpointGroup, request.path["id"])
            table = table_of(kinds.Endpoint)
            clauses = [table.c[name] == value for name, value in group.filters.items()]
            return render(parts, reader, request, "/endpoints", reader.select(kinds.Endpoint, *clauses))

        return Reply(listed(request, "endpoints", await parts.engine.read(run)))

    return handler
