"""Secrets that the cloud keeps for users: what they store, and EC2 access keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from trunkline.api.engine import Call
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.api.identity.behaviours import EC2, ec2_id, new_id, target_of
from trunkline.api.identity.collection import Collection, Parts, endpoints, found, linked, listed, root
from trunkline.api.identity.delegation import OfUser
from trunkline.api.identity.roles import Scope, effective
from trunkline.errors import BadField, Forbidden, NotFound
from trunkline.resources.identity import Credential, Project, User
from trunkline.resources.schema import convert
from trunkline.store import Reader


def credentials(parts: Parts) -> list[Endpoint]:
    """The endpoints."""
    own, ec2 = _Credentials(parts), _Ec2(parts)
    stored = endpoints(parts, Collection(kind=Credential, path="/credentials", prepare=_own_credential))
    key = "/v3/users/{user_id}/credentials/OS-EC2"
    body = {"type": "object", "properties": {"tenant_id": {"type": "string"}}, "required": ["tenant_id"]}
    return [
        *(own.guarded(e) for e in stored if (e.method, e.path) != ("GET", "/v3/credentials")),
        Endpoint("GET", "/v3/credentials", own.index, summary="List credentials", kind="credential"),
        Endpoint(
            "POST", key, ec2.create, summary="Create an EC2 key", kind="credential", request=body, success=201
        ),
        Endpoint("GET", key, ec2.index, summary="List EC2 keys", kind="credential"),
        Endpoint("GET", f"{key}/{{id}}", ec2.show, summary="Show an EC2 key", kind="credential"),
        Endpoint(
            "DELETE", f"{key}/{{id}}", ec2.delete, summary="Delete an EC2 key", kind="credential", success=204
        ),
    ]


async def _own_credential(parts: Parts, request: Request, body: dict[str, Any]) -> None:
    if request.method != "POST":
        return
    if not body.get("user_id"):
        body["user_id"] = request.context.user_id
    if body.get("project_id", "") is None:
        del body["project_id"]


class _Credentials(OfUser):
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


class _KeyBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request for an EC2 key; it has no envelope."""

    tenant_id: str


class _Ec2(OfUser):
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
            if not effective(call.tx, user.id, Scope("project", project.id)):
                raise BadField(
                    "tenant_id", "the user has no role in this project, so a key is good for nothing."
                )
            blob = {
                "access": new_id(),
                "secret": new_id(),
                "trust_id": grant.trust.id if grant.trust else None,
            }
            obj = Credential(
                id=ec2_id(blob["access"] or ""),
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
        obj = reader.get(Credential, ec2_id(request.path["id"]))
        target = {"user_id": user_id, **(target_of(obj) if obj else {"target.credential.user_id": user_id})}
        self.engine.require(f"identity:{rule}", request.context, target)
        if obj is None or obj.type != EC2 or obj.user_id != user_id:
            raise NotFound("EC2 access key not found.")
        if not self.within(request, obj.project_id):
            raise Forbidden("The project of the key is not the one of the token.")
        return obj


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
