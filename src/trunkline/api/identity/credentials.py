"""What programs log in with: application credentials, their access rules, EC2 keys, stored secrets."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace
from typing import Any

import msgspec

from trunkline.api.engine import Call
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.api.identity.behaviours import new_id, target_of
from trunkline.api.identity.collection import (
    Collection,
    Parts,
    body_of,
    endpoints,
    found,
    linked,
    listed,
    root,
)
from trunkline.api.identity.roles import closure, implications
from trunkline.api.openapi import input_schema
from trunkline.errors import BadField, Conflict, Forbidden, NotFound
from trunkline.resources.identity import (
    AccessRule,
    ApplicationCredential,
    Credential,
    Project,
    Role,
    User,
)
from trunkline.resources.schema import convert, spec_of
from trunkline.store import Reader, table_of

EC2 = "ec2"


class RoleRef(msgspec.Struct):
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
            role = next(iter(reader.find(Role, name=ref.name, domain_id=None)), None)
        else:
            raise BadField("roles", "give each role's id or name.")
        if role is None:
            raise BadField("roles", f"there is no role '{ref.id or ref.name}'.")
        ids.append(role.id)
    return list(dict.fromkeys(ids))


class _Rule(msgspec.Struct):
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


async def _own_credential(parts: Parts, request: Request, body: dict[str, Any]) -> None:
    if not body.get("user_id"):
        body["user_id"] = request.context.user_id


def credentials(parts: Parts) -> list[Endpoint]:
    """The endpoints."""
    own = _ApplicationCredentials(parts)
    rules = _AccessRules(parts)
    ec2 = _Ec2(parts)
    app = "/v3/users/{user_id}/application_credentials"
    rule = "/v3/users/{user_id}/access_rules"
    key = "/v3/users/{user_id}/credentials/OS-EC2"
    stored = endpoints(parts, Collection(kind=Credential, path="/credentials", prepare=_own_credential))
    lists = _Credentials(parts)
    return [
        *(lists.guarded(e) for e in stored if (e.method, e.path) != ("GET", "/v3/credentials")),
        Endpoint("GET", "/v3/credentials", lists.index, summary="List credentials", kind="credential"),
        Endpoint(
            "POST",
            app,
            own.create,
            summary="Create an application credential",
            kind="application_credential",
            request=input_schema("application_credential", "create", "application_credential"),
            success=201,
        ),
        Endpoint(
            "GET", app, own.index, summary="List application credentials", kind="application_credential"
        ),
        Endpoint(
            "GET",
            app + "/{id}",
            own.show,
            summary="Show an application credential",
            kind="application_credential",
        ),
        Endpoint(
            "DELETE",
            app + "/{id}",
            own.delete,
            summary="Delete an application credential",
            kind="application_credential",
            success=204,
        ),
        Endpoint("GET", rule, rules.index, summary="List access rules", kind="access_rule"),
        Endpoint("GET", rule + "/{id}", rules.show, summary="Show an access rule", kind="access_rule"),
        Endpoint(
            "DELETE",
            rule + "/{id}",
            rules.delete,
            summary="Delete an access rule",
            kind="access_rule",
            success=204,
        ),
        Endpoint("POST", key, ec2.create, summary="Create an EC2 key", kind="credential", success=201),
        Endpoint("GET", key, ec2.index, summary="List EC2 keys", kind="credential"),
        Endpoint("GET", key + "/{id}", ec2.show, summary="Show an EC2 key", kind="credential"),
        Endpoint(
            "DELETE", key + "/{id}", ec2.delete, summary="Delete an EC2 key", kind="credential", success=204
        ),
    ]


class _OfUser:
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


class _ApplicationCredentials(_OfUser):
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


class _AccessRules(_OfUser):
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


class _Credentials(_OfUser):
    def guarded(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint, for users themselves: whoever acts for one does not get at what it has stored."""

        async def handler(request: Request) -> Reply:
            self.refuse_delegated(request)
            return await endpoint.handler(request)

        return replace(endpoint, handler=handler)

    async def index(self, request: Request) -> Reply:
        """All of them, for those who may; to others, their own."""
        self.refuse_delegated(request)

        def run(reader: Reader) -> list[Any]:
            query = self.engine.query(Credential, request.query, unknown="ignore")
            items = []
            for obj in reader.select(Credential, *query.where):
                if self.engine.rules.allows("identity:list_credentials", request.context, target_of(obj)):
                    items += self.engine.render(reader, request.context, [obj])
            return [linked(request, "/credentials", item) for item in items]

        return Reply(listed(request, "credentials", await self.engine.read(run)))


class _KeyBody(msgspec.Struct):
    """The body of a request for an EC2 key; it has no envelope."""

    tenant_id: str


class _Ec2(_OfUser):
    async def create(self, request: Request) -> Reply:
        given: _KeyBody = convert(await request.json(), _KeyBody, what="credential")
        grant = self.parts.sessions.grant(request.context.token)
        if not self.within(request, given.tenant_id):
            raise Forbidden("The project is not the one of the token.")

        def run(call: Call) -> dict[str, Any]:
            user_id = request.path["user_id"]
            target = {"user_id": user_id, "target.credential.user_id": user_id}
            self.engine.require("identity:ec2_create_credential", request.context, target)
            user = found(call.tx, User, user_id)
            project = found(call.tx, Project, given.tenant_id)
            blob = {
                "access": new_id(),
                "secret": new_id(),
                "trust_id": grant.trust.id if grant.trust else None,
            }
            obj = Credential(
                id=_hash(blob["access"] or ""),
                type=EC2,
                blob=msgspec.json.encode(blob).decode(),
                user_id=user.id,
                project_id=project.id,
            )
            call.tx.insert(obj)
            return _key(request, obj)

        return Reply({"credential": await self.engine.write(request.context, run)}, 201)

    async def index(self, request: Request) -> Reply:
        def run(reader: Reader) -> list[Any]:
            user_id = self.user(reader, request, "ec2_list_credentials")
            keys = reader.find(Credential, user_id=user_id, type=EC2)
            return [_key(request, obj) for obj in keys if self.within(request, obj.project_id)]

        return Reply(listed(request, "credentials", await self.engine.read(run)))

    async def show(self, request: Request) -> Reply:
        obj = await self.engine.read(lambda reader: self._one(reader, request, "ec2_get_credential"))
        return Reply({"credential": _key(request, obj)})

    async def delete(self, request: Request) -> Reply:
        await self.engine.write(
            request.context, lambda call: call.drop(self._one(call.tx, request, "ec2_delete_credential"))
        )
        return Reply(status=204)

    def _one(self, reader: Reader, request: Request, rule: str) -> Credential:
        user_id = request.path["user_id"]
        obj = reader.get(Credential, _hash(request.path["id"]))
        target = {"user_id": user_id, **(target_of(obj) if obj else {"target.credential.user_id": user_id})}
        self.engine.require(f"identity:{rule}", request.context, target)
        if obj is None or obj.type != EC2 or obj.user_id != user_id:
            raise NotFound("EC2 access key not found.")
        if not self.within(request, obj.project_id):
            raise Forbidden("The project of the key is not the one of the token.")
        return obj


def _hash(access: str) -> str:
    """The id of an EC2 credential: SHA-256 of its access key, as Keystone has it."""
    return hashlib.sha256(access.encode()).hexdigest()


def _key(request: Request, obj: Credential) -> dict[str, Any]:
    blob = msgspec.json.decode(obj.blob)
    return {
        "user_id": obj.user_id,
        "tenant_id": obj.project_id,
        "access": blob.get("access"),
        "secret": blob.get("secret"),
        "trust_id": blob.get("trust_id"),
        "links": {"self": f"{root(request)}/users/{obj.user_id}/credentials/OS-EC2/{blob.get('access')}"},
    }
