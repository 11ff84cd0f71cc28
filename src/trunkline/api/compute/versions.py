"""The version documents of the Compute API."""

from __future__ import annotations

from typing import Any

from trunkline.api.compute.wire import MAX, MIN
from trunkline.api.http import Endpoint, Reply, Request

_MEDIA = "application/vnd.openstack.compute+json;version=2.1"


def _version(request: Request, id: str) -> dict[str, Any]:
    if id == "v2.0":
        # Clients expect it first in the list; its minimum and maximum are empty: it has no microversions.
        status, version, minimum, updated = "SUPPORTED", "", "", "2011-01-21T11:33:21Z"
        path = "v2/"
    else:
        status, version, minimum, updated = "CURRENT", f"2.{MAX}", f"2.{MIN}", "2013-07-23T11:33:21Z"
        path = "v2.1/"
    return {
        "id": id,
        "status": status,
        "version": version,
        "min_version": minimum,
        "updated": updated,
        "links": [{"rel": "self", "href": f"{request.base_url}/{path}"}],
    }


async def choices(request: Request) -> Reply:
    """The versions that are served."""
    return Reply({"versions": [_version(request, "v2.0"), _version(request, "v2.1")]})


async def details(request: Request) -> Reply:
    """One version."""
    id = "v2.1" if request.url_path.startswith("/v2.1") else "v2.0"
    found = _version(request, id)
    found["media-types"] = [{"base": "application/json", "type": _MEDIA}]
    found["links"].append(
        {
            "rel": "describedby",
            "type": "text/html",
            "href": "https://docs.openstack.org/api-ref/compute/",
        }
    )
    return Reply({"version": found})


def endpoints() -> list[Endpoint]:
    """The paths of version documents; none needs a token."""
    return [
        Endpoint("GET", "/", choices, token=False, summary="The versions that are served."),
        *(
            Endpoint("GET", path, details, token=False, summary="One version.")
            for path in ("/v2.1", "/v2.1/", "/v2", "/v2/")
        ),
    ]
