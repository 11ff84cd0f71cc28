"""What requests about delegation share: naming roles, and keeping to what is the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from trunkline.api.http import Request
from trunkline.api.identity.collection import Parts, found
from trunkline.api.openapi import input_schema
from trunkline.errors import BadField, Forbidden, NotFound
from trunkline.resources.identity import Role, User
from trunkline.resources.schema import spec_of
from trunkline.store import Reader

_ROLES = {
    "type": "array",
    "items": {"type": "object", "properties": {"id": {"type": "string"}, "name": {"type": "string"}}},
}


def schema_with_roles(kind: str, **more: Any) -> Mapping[str, Any]:
    """The JSON schema of a create request that names roles beside the fields of the class."""
    inner = dict(input_schema(kind, "create"))
    inner["properties"] = {**inner["properties"], "roles": _ROLES, **more}
    return {"type": "object", "properties": {kind: inner}, "required": [kind]}


class RoleRef(msgspec.Struct, forbid_unknown_fields=True):
    """Names a role, by its id or its name."""

    id: str | None = None
    name: str | None = None


def role_ids(reader: Reader, refs: list[RoleRef]) -> list[str]:
    """The ids of roles that are named.

    Raises:
        BadField: one is not named, or is not there.
    """
    ids = []
    for ref in refs:
        if ref.id is not None:
            role = reader.get(Role, ref.id)
        elif ref.name is not None:
            role = reader.first(Role, name=ref.name, domain_id=None)
        else:
            raise BadField("roles", "give each role's id or name.")
        if role is None:
            raise BadField("roles", f"there is no role '{ref.id or ref.name}'.")
        ids.append(role.id)
    return list(dict.fromkeys(ids))


class OfUser:
    """What hangs below a user."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.engine = parts.engine

    def user(self, reader: Reader, request: Request, rule: str) -> str:
        """The id of the user in the path, once the rule allows it."""
        user_id = request.path["user_id"]
        self.engine.require(f"identity:{rule}", request.context, {"user_id": user_id})
        user: User = found(reader, User, user_id)
        return user.id

    def own(self, reader: Reader, kind: type[Any], request: Request, rule: str) -> Any:
        """The object of the path, if it is the user's."""
        user_id = self.user(reader, request, rule)
        obj = reader.get(kind, request.path["id"])
        if obj is None or obj.user_id != user_id:
            raise NotFound(f"Could not find {spec_of(kind).kind}: {request.path['id'][:255]}.")
        return obj

    def refuse_delegated(self, request: Request, *, unrestricted: bool = False) -> None:
        """Who acts for somebody cannot make itself more ways to; `unrestricted` credentials may."""
        grant = self.parts.sessions.grant(request.context.token)
        if grant.credential is not None and unrestricted and grant.credential.unrestricted:
            return
        if grant.delegated:
            raise Forbidden("A token of a trust or an application credential cannot manage credentials.")

    def within(self, request: Request, project_id: str | None) -> bool:
        """Whether the caller may deal with a key for a project: a delegated token only for its own."""
        grant = self.parts.sessions.grant(request.context.token)
        return not grant.delegated or project_id == grant.token.project_id
