"""What programs log in with: application credentials, and the requests that these are good for."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from trunkline.api.engine import Call
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.api.identity.behaviours import new_id
from trunkline.api.identity.collection import Parts, body_of, linked, listed
from trunkline.api.identity.delegation import OfUser, RoleRef, role_ids, schema_with_roles
from trunkline.api.identity.roles import closure, implications
from trunkline.errors import BadField, Conflict, Forbidden, NotFound
from trunkline.resources.identity import AccessRule, ApplicationCredential, Role
from trunkline.resources.schema import convert, spec_of
from trunkline.store import Reader, table_of

_RULES = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("id", "service", "method", "path")},
    },
}


class _Rule(msgspec.Struct, forbid_unknown_fields=True):
    """An access rule in a request: a new one, or the id of one that is there."""

    id: str | None = None
    service: str | None = None
    method: str | None = None
    path: str | None = None


class _More(msgspec.Struct):
    """What a request for an application credential has beside the fields of the class."""

    roles: list[RoleRef] | None = None
    access_rules: list[_Rule] | None = None
    project_id: str | None = None


def application_credentials(parts: Parts) -> list[Endpoint]:
    """The endpoints."""
    own = _ApplicationCredentials(parts)
    rules = _AccessRules(parts)
    app, rule = "/v3/users/{user_id}/application_credentials", "/v3/users/{user_id}/access_rules"
    kind = "application_credential"
    return [
        Endpoint(
            "POST",
            app,
            own.create,
            summary="Create an application credential",
            kind=kind,
            request=schema_with_roles(kind, access_rules=_RULES, project_id={"type": "string"}),
            success=201,
        ),
        Endpoint(
            "GET", app, own.index, summary="List application credentials", kind=kind, parameters=["name"]
        ),
        Endpoint("GET", f"{app}/{{id}}", own.show, summary="Show an application credential", kind=kind),
        Endpoint(
            "DELETE",
            f"{app}/{{id}}",
            own.delete,
            summary="Delete an application credential",
            kind=kind,
            success=204,
        ),
        Endpoint("GET", rule, rules.index, summary="List access rules", kind="access_rule"),
        Endpoint("GET", f"{rule}/{{id}}", rules.show, summary="Show an access rule", kind="access_rule"),
        Endpoint(
            "DELETE",
            f"{rule}/{{id}}",
            rules.delete,
            summary="Delete an access rule",
            kind="access_rule",
            success=204,
        ),
    ]


class _ApplicationCredentials(OfUser):
    async def create(self, request: Request) -> Reply:
        body = await body_of(request, "application_credential")
        self.refuse_delegated(request, unrestricted=True)
        known = set(_More.__struct_fields__)
        more: _More = convert(
            {k: v for k, v in body.items() if k in known}, _More, what="application_credential"
        )
        spec = spec_of(ApplicationCredential)
        values = spec.parse_create({k: v for k, v in body.items() if k not in known})
        secret = values.get("secret") or secrets.token_urlsafe(64)
        values["secret"] = await self.parts.passwords.hash(secret)
        grant = self.parts.sessions.grant(request.context.token)

        def run(call: Call) -> dict[str, Any]:
            user_id = self.user(call.tx, request, "create_application_credential")
            if not grant.token.project_id:
                raise BadField(
                    "project_id", "an application credential is for a project. Use a token for one."
                )
            if more.project_id not in (None, grant.token.project_id):
                raise BadField("project_id", "it must be the project of the token.")
            held = [role.id for role in grant.roles]
            wanted = held if not more.roles else role_ids(call.tx, more.roles)
            if not closure(wanted, implications(call.tx)) <= set(held):
                raise BadField("roles", "you do not have all of these roles in the project.")
            if call.tx.find(ApplicationCredential, user_id=user_id, name=values["name"]):
                raise Conflict(f"You have an application credential '{values['name']}' already.")
            obj = ApplicationCredential(
                id=new_id(),
                user_id=user_id,
                project_id=grant.token.project_id,
                role_ids=wanted,
                access_rule_ids=_rules(call, user_id, more.access_rules),
                **{**values, "expires_at": _bare(values.get("expires_at"))},
            )
            call.tx.insert(obj)
            return {**self._render(call.tx, request, obj), "secret": secret}

        return Reply({"application_credential": await self.engine.write(request.context, run)}, 201)

    async def index(self, request: Request) -> Reply:
        def run(reader: Reader) -> list[Any]:
            user_id = self.user(reader, request, "list_application_credentials")
            query = self.engine.query(ApplicationCredential, request.query, unknown="ignore")
            table = table_of(ApplicationCredential)
            return [
                self._render(reader, request, obj)
                for obj in reader.select(ApplicationCredential, table.c.user_id == user_id, *query.where)
            ]

        return Reply(listed(request, "application_credentials", await self.engine.read(run)))

    async def show(self, request: Request) -> Reply:
        def run(reader: Reader) -> dict[str, Any]:
            obj = self.own(reader, ApplicationCredential, request, "get_application_credential")
            return self._render(reader, request, obj)

        return Reply({"application_credential": await self.engine.read(run)})

    async def delete(self, request: Request) -> Reply:
        self.refuse_delegated(request, unrestricted=True)
        await self.engine.write(
            request.context,
            lambda call: call.drop(
                self.own(call.tx, ApplicationCredential, request, "delete_application_credential")
            ),
        )
        return Reply(status=204)

    def _render(self, reader: Reader, request: Request, obj: ApplicationCredential) -> dict[str, Any]:
        item = self.engine.render(reader, request.context, [obj])[0]
        roles = reader.select(Role, table_of(Role).c.id.in_(obj.role_ids))
        item["roles"] = [{"id": role.id, "name": role.name, "domain_id": role.domain_id} for role in roles]
        if obj.access_rule_ids is not None:
            rules = [rule for id in obj.access_rule_ids if (rule := reader.get(AccessRule, id))]
            item["access_rules"] = [_rule_body(rule) for rule in rules]
        return linked(request, f"/users/{obj.user_id}/application_credentials", item)


def _bare(time: str | None) -> str | None:
    """Keystone writes this one time without its zone."""
    return time.removesuffix("Z") if time else None


def _rules(call: Call, user_id: str, given: list[_Rule] | None) -> list[str] | None:
    """The ids of the access rules, those made that are not there yet."""
    if given is None:
        return None
    ids = []
    for one in given:
        if one.id is not None:
            known = call.tx.get(AccessRule, one.id)
            if known is None or known.user_id != user_id:
                raise NotFound(f"Could not find access rule: {one.id[:255]}.")
            ids.append(known.id)
            continue
        body = {k: v for k, v in msgspec.structs.asdict(one).items() if v is not None}
        values = spec_of(AccessRule).parse_create(body)
        same = call.tx.find(AccessRule, user_id=user_id, **values)
        rule = same[0] if same else AccessRule(id=new_id(), user_id=user_id, **values)
        if not same:
            call.tx.insert(rule)
        ids.append(rule.id)
    return ids


def _rule_body(rule: AccessRule) -> dict[str, Any]:
    return {"id": rule.id, "service": rule.service, "method": rule.method, "path": rule.path}


class _AccessRules(OfUser):
    async def index(self, request: Request) -> Reply:
        def run(reader: Reader) -> list[Any]:
            user_id = self.user(reader, request, "list_access_rules")
            query = self.engine.query(AccessRule, request.query, unknown="ignore")
            rules = reader.select(AccessRule, table_of(AccessRule).c.user_id == user_id, *query.where)
            return [linked(request, f"/users/{user_id}/access_rules", _rule_body(rule)) for rule in rules]

        return Reply(listed(request, "access_rules", await self.engine.read(run)))

    async def show(self, request: Request) -> Reply:
        rule = await self.engine.read(lambda reader: self.own(reader, AccessRule, request, "get_access_rule"))
        path = f"/users/{rule.user_id}/access_rules"
        return Reply({"access_rule": linked(request, path, _rule_body(rule))})

    async def delete(self, request: Request) -> Reply:
        self.refuse_delegated(request)

        def run(call: Call) -> None:
            rule = self.own(call.tx, AccessRule, request, "delete_access_rule")
            for credential in call.tx.find(ApplicationCredential, user_id=rule.user_id):
                if rule.id in (credential.access_rule_ids or ()):
                    raise Forbidden(
                        f"Access rule {rule.id} is used by application credential {credential.id}. "
                        "Delete that first."
                    )
            call.drop(rule)

        await self.engine.write(request.context, run)
        return Reply(status=204)
