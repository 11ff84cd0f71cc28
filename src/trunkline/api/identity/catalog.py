"""The catalog: which services there are, and where."""

from __future__ import annotations

import re
from typing import Any

from trunkline.resources.identity import Endpoint, Service
from trunkline.store import Reader

_PLACE = re.compile(r"[$%]\((\w+)\)s")


def catalog(reader: Reader, *, project_id: str, user_id: str) -> list[dict[str, Any]]:
    """The enabled services with their enabled endpoints, as the body of a token has them.

    An endpoint whose URL needs a project is left out where there is none.
    """
    by_service: dict[str, list[dict[str, Any]]] = {}
    for endpoint in reader.find(Endpoint, enabled=True):
        url = _filled(endpoint.url, {"project_id": project_id, "tenant_id": project_id, "user_id": user_id})
        if url is not None:
            by_service.setdefault(endpoint.service_id, []).append(
                {
                    "id": endpoint.id,
                    "interface": endpoint.interface,
                    "region": endpoint.region_id,
                    "region_id": endpoint.region_id,
                    "url": url,
                }
            )
    return [
        {"id": service.id, "type": service.type, "name": service.name or "", "endpoints": endpoints}
        for service in reader.find(Service, enabled=True)
        if (endpoints := by_service.get(service.id))
    ]


def _filled(url: str, values: dict[str, str]) -> str | None:
    names = _PLACE.findall(url)
    if not all(values.get(name) for name in names):
        return None
    return _PLACE.sub(lambda place: values[place[1]], url)
