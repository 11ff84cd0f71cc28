"""Roles: themselves, what they imply, and who has them where."""

from __future__ import annotations

from typing import Any

from trunkline.api.context import Context
from trunkline.api.engine import Call
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.api.identity.behaviours import target_of
from trunkline.api.identity.collection import Collection, Parts, endpoints, found, linked, listed, render
from trunkline.api.identity.roles import (
    SYSTEM,
    Scope,
    assignment,
    closure,
    implications,
    relation_id,
)
from trunkline.errors import Forbidden, NotFound
from trunkline.resources.identity import (
    Domain,
    Group,
    Project,
    Role,
    RoleAssignment,
    RoleInference,
    User,
)
from trunkline.store import Reader, table_of

ACTORS: dict[str, type[Any]] = {"user": User, "group": Group}
SCOPES: dict[str, type[Any]] = {"project": Project, "domain": Domain}
#: What no role may imply.
PROHIBITED = frozenset({"admin"})


def _roles_of_domain(parts: Parts, context: Context, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Roles of no domain, unless one is asked for."""
    domain_id = dict(pairs).get("domain_id", "")
    if domain_id:
        parts.engine.require("identity:list_domain_roles", context, {"target.role.domain_id": domain_id})
        return pairs
    return [*pairs, ("domain_id", "")]


def _called(role: Role) -> str:
    return "domain_role" if role.domain_id else "role"


def assignments(parts: Parts) -> list[Endpoint]:
    """The endpoints of roles, inferences and grants."""
    made = endpoints(parts, Collection(kind=Role, path="/roles", narrow=_roles_of_domain, called=_called))
    inferences = _Inferences(parts)
    implied = "/v3/roles/{id}/implies/{implied_id}"
    made += [
        Endpoint("GET", "/v3/role_inferences", inferences.list_all, summary="List all role inferences"),
        Endpoint("GET", "/v3/roles/{id}/implies", inferences.index, summary="List what a role implies"),
        Endpoint("GET", implied, inferences.show, summary="Show a role inference"),
        Endpoint("HEAD", implied, inferences.check, summary="Check a role inference", success=204),
        Endpoint("PUT", implied, inferences.create, summary="Create a role inference", success=201),
        Endpoint("DELETE", implied, inferences.delete, summary="Delete a role inference", success=204),
    ]
    for actor in ACTORS:
        made += _grants(parts, actor, "system", False, f"/v3/system/{actor}s/{{actor_id}}/roles", "")
        for scope in SCOPES:
            path = f"/{scope}s/{{scope_id}}/{actor}s/{{actor_id}}/roles"
            made += _grants(parts, actor, scope, False, f"/v3{path}", "")
            made += _grants(parts, actor, scope, True, f"/v3/OS-INHERIT{path}", "/inherited_to_projects")
    return made


def _grants(parts: Parts, actor: str, scope: str, inherited: bool, path: str, suffix: str) -> list[Endpoint]:
    grants = _Grants(parts, actor, scope, inherited)
    what = f"of a {actor} on {'the system' if scope == 'system' else f'a {scope}'}"
    what += " inherited by projects" if inherited else ""
    one = f"{path}/{{role_id}}{suffix}"
    return [
        Endpoint("GET", f"{path}{suffix}", grants.index, summary=f"List roles {what}"),
        Endpoint("GET", one, grants.check, summary=f"Check a role {what}", success=204),
        Endpoint("PUT", one, grants.create, summary=f"Give a role {what}", success=204),
        Endpoint("DELETE", one, grants.revoke, summary=f"Take a role {what}", success=204),
    ]


class _Grants:
    """The grants of one kind of actor at one kind of scope."""

    def __init__(self, parts: Parts, actor: str, scope: str, inherited: bool) -> None:
        self.parts = parts
        self.engine = parts.engine
        self.actor = actor
        self.scope = scope
        self.inherited = inherited

    async def index(self, request: Request) -> Reply:
        def run(reader: Reader) -> list[Any]:
            actor_id, scope = self._named(reader, request, "list", None)
            table = table_of(Role)
            given = reader.find(
                RoleAssignment,
                actor=self.actor,
                actor_id=actor_id,
                scope=scope.kind,
                scope_id=scope.id,
                inherited=self.inherited,
            )
            ids = [one.role_id for one in given]
            roles = reader.select(Role, table.c.id.in_(ids), order_by=[table.c.name])
            return render(self.parts, reader, request, "/roles", roles)

        return Reply(listed(request, "roles", await self.engine.read(run)))

    async def check(self, request: Request) -> Reply:
        await self.engine.read(lambda reader: self._present(reader, request, "check"))
        return Reply(status=204)

    async def create(self, request: Request) -> Reply:
        def run(call: Call) -> None:
            one = self._one(call.tx, request, "create")
            if call.tx.get(RoleAssignment, one.id) is None:
                call.tx.insert(one)

        await self.engine.write(request.context, run)
        return Reply(status=204)

    async def revoke(self, request: Request) -> Reply:
        await self.engine.write(
            request.context, lambda call: call.drop(self._present(call.tx, request, "revoke"))
        )
        return Reply(status=204)

    def _present(self, reader: Reader, request: Request, verb: str) -> RoleAssignment:
        one = self._one(reader, request, verb)
        if reader.get(RoleAssignment, one.id) is None:
            raise NotFound(
                f"Could not find role assignment with role: {one.role_id}, {self.actor}: {one.actor_id}, "
                f"{self.scope}: {one.scope_id}."
            )
        return one

    def _one(self, reader: Reader, request: Request, verb: str) -> RoleAssignment:
        role = reader.get(Role, request.path["role_id"])
        actor_id, scope = self._named(reader, request, verb, role)
        role = found(reader, Role, request.path["role_id"])
        if verb == "create" and role.domain_id:
            place = reader.get(Project, scope.id) if scope.kind == "project" else None
            home = place.domain_id if place else scope.id
            if role.domain_id != home:
                raise Forbidden(f"Role {role.id} is of domain {role.domain_id}, and is given in it alone.")
        return assignment(role.id, self.actor, actor_id, scope, self.inherited)

    def _named(self, reader: Reader, request: Request, verb: str, role: Role | None) -> tuple[str, Scope]:
        """Who and where, once the rule allows it; whoever may not, learns nothing of what is there."""
        actor = reader.get(ACTORS[self.actor], request.path["actor_id"])
        target = target_of(actor) if actor else {}
        if role is not None:
            target.update(target_of(role))
        if self.scope == "system":
            plural = "system_grants" if verb == "list" else "system_grant"
            self.engine.require(f"identity:{verb}_{plural}_for_{self.actor}", request.context, target)
            return found(reader, ACTORS[self.actor], request.path["actor_id"]).id, SYSTEM
        place = reader.get(SCOPES[self.scope], request.path["scope_id"])
        target.update(target_of(place) if place else {})
        rule = "identity:list_grants" if verb == "list" else f"identity:{verb}_grant"
        self.engine.require(rule, request.context, target)
        place = found(reader, SCOPES[self.scope], request.path["scope_id"])
        return found(reader, ACTORS[self.actor], request.path["actor_id"]).id, Scope(self.scope, place.id)


class _Inferences:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.engine = parts.engine

    async def list_all(self, request: Request) -> Reply:
        def run(reader: Reader) -> list[Any]:
            self.engine.require("identity:list_role_inference_rules", request.context, {})
            roles = {role.id: role for role in reader.find(Role)}
            return [
                {
                    "prior_role": _short(request, roles[prior]),
                    "implies": [_short(request, roles[id]) for id in sorted(implied)],
                }
                for prior, implied in sorted(implications(reader).items())
            ]

        return Reply(listed(request, "role_inferences", await self.engine.read(run)))

    async def index(self, request: Request) -> Reply:
        def run(reader: Reader) -> dict[str, Any]:
            self.engine.require("identity:list_implied_roles", request.context, {})
            prior = found(reader, Role, request.path["id"])
            implied = implications(reader).get(prior.id, set())
            roles = reader.select(Role, table_of(Role).c.id.in_(implied))
            return {
                "prior_role": _short(request, prior),
                "implies": [_short(request, role) for role in roles],
            }

        return Reply(self._envelope(request, await self.engine.read(run)))

    async def show(self, request: Request) -> Reply:
        body = await self.engine.read(lambda reader: self._present(reader, request, "get_implied_role")[1])
        return Reply(self._envelope(request, body))

    async def check(self, request: Request) -> Reply:
        await self.engine.read(lambda reader: self._present(reader, request, "check_implied_role"))
        return Reply(status=204)

    async def create(self, request: Request) -> Reply:
        def run(call: Call) -> dict[str, Any]:
            one, body = self._one(call.tx, request, "create_implied_role")
            implied = found(call.tx, Role, one.implied_role_id)
            if implied.name in PROHIBITED:
                raise Forbidden(f"No role may imply the role '{implied.name}'.")
            if one.prior_role_id in closure([one.implied_role_id], implications(call.tx)):
                raise Forbidden("The role would imply itself. Break the circle first.")
            if call.tx.get(RoleInference, one.id) is None:
                call.tx.insert(one)
            return body

        body = await self.engine.write(request.context, run)
        return Reply(self._envelope(request, body), 201)

    async def delete(self, request: Request) -> Reply:
        await self.engine.write(
            request.context, lambda call: call.drop(self._present(call.tx, request, "delete_implied_role")[0])
        )
        return Reply(status=204)

    def _present(self, reader: Reader, request: Request, rule: str) -> tuple[RoleInference, dict[str, Any]]:
        one, body = self._one(reader, request, rule)
        if reader.get(RoleInference, one.id) is None:
            raise NotFound(f"Role {one.prior_role_id} does not imply role {one.implied_role_id}.")
        return one, body

    def _one(self, reader: Reader, request: Request, rule: str) -> tuple[RoleInference, dict[str, Any]]:
        self.engine.require(f"identity:{rule}", request.context, {})
        prior = found(reader, Role, request.path["id"])
        implied = found(reader, Role, request.path["implied_id"])
        one = RoleInference(
            id=relation_id(prior.id, implied.id), prior_role_id=prior.id, implied_role_id=implied.id
        )
        return one, {"prior_role": _short(request, prior), "implies": _short(request, implied)}

    def _envelope(self, request: Request, body: dict[str, Any]) -> dict[str, Any]:
        return {"role_inference": body, "links": {"self": f"{request.base_url}{request.url_path}"}}


def _short(request: Request, role: Role) -> dict[str, Any]:
    return linked(request, "/roles", {"id": role.id, "name": role.name})
