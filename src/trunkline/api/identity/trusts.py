"""Trusts: a user lets another act with some of its roles in a project."""

from __future__ import annotations

from typing import Any

import msgspec

from trunkline.api.engine import Call
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.api.identity.behaviours import new_id, target_of
from trunkline.api.identity.collection import Parts, body_of, found, linked, listed, render, root
from trunkline.api.identity.delegation import RoleRef, role_ids, schema_with_roles
from trunkline.api.identity.grants import past
from trunkline.api.identity.roles import Scope, closure, effective, implications, named
from trunkline.errors import BadField, Forbidden, NotFound
from trunkline.resources.identity import Project, Role, Trust, User
from trunkline.resources.schema import convert, spec_of
from trunkline.store import Reader

_PATH = "/OS-TRUST/trusts"


class _Roles(msgspec.Struct):
    roles: list[RoleRef]


def trusts(parts: Parts) -> list[Endpoint]:
    """The endpoints."""
    own = _Trusts(parts)
    one = f"/v3{_PATH}/{{id}}"
    return [
        Endpoint(
            "POST",
            f"/v3{_PATH}",
            own.create,
            summary="Create a trust",
            kind="trust",
            request=schema_with_roles("trust"),
            success=201,
        ),
        Endpoint(
            "GET",
            f"/v3{_PATH}",
            own.index,
            summary="List trusts",
            kind="trust",
            parameters=["trustor_user_id", "trustee_user_id"],
        ),
        Endpoint("GET", one, own.show, summary="Show a trust", kind="trust"),
        Endpoint("DELETE", one, own.delete, summary="Delete a trust", kind="trust", success=204),
        Endpoint("GET", f"{one}/roles", own.roles, summary="List the roles of a trust", kind="trust"),
        Endpoint("GET", f"{one}/roles/{{role_id}}", own.role, summary="Show a role of a trust", kind="trust"),
    ]


class _Trusts:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.engine = parts.engine

    async def create(self, request: Request) -> Reply:
        body = await body_of(request, "trust")
        refs: _Roles = convert({"roles": body.pop("roles", None) or []}, _Roles, what="trust")
        values = spec_of(Trust).parse_create(body)
        if past(values.get("expires_at"), self.parts.sessions.now()):
            raise BadField("expires_at", "it is in the past.")
        if values.get("allow_redelegation"):
            raise BadField(
                "allow_redelegation", "trusts cannot be handed on here. Leave it out, or give false."
            )
        grant = self.parts.sessions.grant(request.context.token)
        if grant.delegated:
            raise Forbidden("A token of a trust or an application credential cannot make a trust.")

        def run(call: Call) -> dict[str, Any]:
            trust = Trust(id=new_id(), **{**values, "redelegation_count": 0})
            self.engine.require("identity:create_trust", request.context, target_of(trust))
            if request.context.user_id != trust.trustor_user_id:
                raise Forbidden("The authenticated user should match the trustor.")
            found(call.tx, User, trust.trustee_user_id)
            if trust.project_id:
                found(call.tx, Project, trust.project_id)
            wanted = role_ids(call.tx, refs.roles)
            if trust.project_id and not wanted:
                raise Forbidden("At least one role should be specified.")
            scope = Scope("project", trust.project_id or "")
            held = {role.id for role in effective(call.tx, trust.trustor_user_id, scope)}
            if not closure(wanted, implications(call.tx)) <= held:
                raise Forbidden("The trustor does not have all of these roles in the project.")
            trust = msgspec.structs.replace(trust, role_ids=wanted)
            call.tx.insert(trust)
            return self._render(call.tx, request, trust)

        return Reply({"trust": await self.engine.write(request.context, run)}, 201)

    async def index(self, request: Request) -> Reply:
        given = dict(request.query)

        def run(reader: Reader) -> list[Any]:
            wanted: dict[str, str] = {}
            for side in ("trustor", "trustee"):
                if given.get(f"{side}_user_id"):
                    wanted[f"{side}_user_id"] = given[f"{side}_user_id"]
            rule = "list_trusts"
            if wanted:
                rule = f"list_trusts_for_{next(iter(wanted)).removesuffix('_user_id')}"
            target = {f"target.trust.{name}": value for name, value in wanted.items()}
            self.engine.require(f"identity:{rule}", request.context, target)
            items = []
            for trust in self._alive(reader.find(Trust, **wanted)):
                item = self._render(reader, request, trust)
                item.pop("roles")
                items.append(item)
            return items

        return Reply(listed(request, "trusts", await self.engine.read(run)))

    async def show(self, request: Request) -> Reply:
        def run(reader: Reader) -> dict[str, Any]:
            return self._render(reader, request, self._one(reader, request, "get_trust"))

        return Reply({"trust": await self.engine.read(run)})

    async def delete(self, request: Request) -> Reply:
        await self.engine.write(
            request.context, lambda call: call.drop(self._one(call.tx, request, "delete_trust"))
        )
        return Reply(status=204)

    async def roles(self, request: Request) -> Reply:
        def run(reader: Reader) -> list[Any]:
            trust = self._one(reader, request, "list_roles_for_trust")
            return render(self.parts, reader, request, "/roles", named(reader, trust.role_ids))

        return Reply(listed(request, "roles", await self.engine.read(run)))

    async def role(self, request: Request) -> Reply:
        def run(reader: Reader) -> dict[str, Any]:
            trust = self._one(reader, request, "get_role_for_trust")
            role_id = request.path["role_id"]
            if role_id not in trust.role_ids:
                raise NotFound(f"Could not find role: {role_id[:255]}.")
            item: dict[str, Any] = render(
                self.parts, reader, request, "/roles", [found(reader, Role, role_id)]
            )[0]
            return item

        return Reply({"role": await self.engine.read(run)})

    def _alive(self, given: list[Trust]) -> list[Trust]:
        now = self.parts.sessions.now()
        return [trust for trust in given if not past(trust.expires_at, now)]

    def _one(self, reader: Reader, request: Request, rule: str) -> Trust:
        trust: Trust = found(reader, Trust, request.path["id"])
        if not self._alive([trust]):
            raise NotFound(f"Could not find trust: {trust.id}.")
        self.engine.require(f"identity:{rule}", request.context, target_of(trust))
        return trust

    def _render(self, reader: Reader, request: Request, trust: Trust) -> dict[str, Any]:
        item = self.engine.render(reader, request.context, [trust])[0]
        item.pop("allow_redelegation", None)
        item["deleted_at"] = None
        item["roles"] = render(self.parts, reader, request, "/roles", named(reader, trust.role_ids))
        here = f"{root(request)}{_PATH}/{trust.id}/roles"
        item["roles_links"] = {"self": here, "next": None, "previous": None}
        return linked(request, _PATH, item)
