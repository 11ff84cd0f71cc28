"""How much a project may have."""

from __future__ import annotations

from typing import Annotated

from trunkline.resources.schema import Resource, computed, resource


@resource(kind="network_quota", plural="network_quotas", service="")
class NetworkQuota(Resource, kw_only=True):
    """The limits that were set for a project; its id is the project's."""

    #: Kind to limit, -1 for none.
    limits: Annotated[dict[str, int], computed(filter=False)] = {}
