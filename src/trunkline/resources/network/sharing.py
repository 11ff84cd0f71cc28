"""RBAC policies: what a project lets others see and use."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from trunkline.resources.network.checks import Uuid
from trunkline.resources.schema import Resource, fixed, resource, settable
from trunkline.resources.types import Id

#: The target that stands for every project.
ANYONE = "*"
#: Actions: to see and use it as one's own; to have routers' gateways and floating IPs on a network.
ACCESS_AS_SHARED = "access_as_shared"
ACCESS_AS_EXTERNAL = "access_as_external"


@resource(
    kind="rbac_policy",
    plural="rbac_policies",
    service="network",
    quota=10,
    # In this order, its index answers what a project sees of a kind.
    unique=(("target_tenant", "object_type", "action", "object_id"),),
)
class RbacPolicy(Resource, kw_only=True):
    """Lets a project, or every project, see and use one object of another's."""

    #: The project that shares.
    project_id: Annotated[Id, fixed(index=True)] = ""
    #: The kind of the object, as network or security_group.
    object_type: Annotated[Annotated[str, Meta(max_length=255)], fixed(required=True)] = ""
    #: The id of the object.
    object_id: Annotated[Uuid, fixed(required=True, index=True)] = ""
    #: What the project may: access_as_shared, or on a network access_as_external.
    action: Annotated[Annotated[str, Meta(max_length=255)], fixed(required=True)] = ""
    #: The project that may, or * for every project.
    target_tenant: Annotated[Annotated[str, Meta(min_length=1, max_length=255)], settable(required=True)] = ""
