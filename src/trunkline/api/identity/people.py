"""Domains, projects, users and groups: what they have beside create, list, show, change and delete."""

from __future__ import annotations

from typing import Any

import msgspec

from trunkline.api.context import Context
from trunkline.api.engine import Call
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.api.identity.behaviours import target_of
from trunkline.api.identity.collection import (
    Collection,
    Parts,
    body_of,
    endpoints,
    found,
    listed,
    render,
    root,
)
from trunkline.api.identity.grants import refused
from trunkline.api.identity.passwords import MAX_LENGTH
from trunkline.api.identity.roles import groups_of, relation_id
from trunkline.api.identity.token_body import reachable
from trunkline.api.openapi import shape_schema
from trunkline.errors import BadField, NotFound
from trunkline.resources.identity import Domain, Group, Membership, Project, User, tags
from trunkline.resources.schema import convert
from trunkline.store import Reader, table_of


async def _hash_password(parts: Parts, request: Request, body: dict[str, Any]) -> None:
    """What goes into the store is the hash."""
    password = body.get("password")
    if isinstance(password, str):
        if len(password) > MAX_LENGTH:
            raise BadField("password", f"it is longer than {MAX_LENGTH} characters.")
        body["password"] = await parts.passwords.hash(password)


def _own_domain(parts: Parts, context: Context, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """With a token for a domain, that domain is the list."""
    if context.domain_id and not context.is_admin:
        return [*pairs, ("id", context.domain_id)]
    return pairs


COLLECTIONS = (
    Collection(kind=Domain, path="/domains", narrow=_own_domain),
    Collection(kind=Project, path="/projects"),
    Collection(kind=User, path="/users", prepare=_hash_password),
    Collection(kind=Group, path="/groups"),
)


class _Passwords(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a change of password."""

    original_password: str
    password: str


_TAGS = {
    "type": "object",
    "properties": {"tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["tags"],
}


def people(parts: Parts) -> list[Endpoint]:
    """The endpoints."""
    own = _People(parts)
    made = [endpoint for collection in COLLECTIONS for endpoint in endpoints(parts, collection)]
    return [
        *made,
        Endpoint("GET", "/v3/users/{id}/groups", own.groups_of_user, summary="List the groups of a user"),
        Endpoint(
            "GET", "/v3/users/{id}/projects", own.projects_of_user, summary="List the projects of a user"
        ),
        Endpoint(
            "POST",
            "/v3/users/{id}/password",
            own.change_password,
            token=False,
            summary="Change one's own password",
            request=shape_schema(_Passwords, "user"),
            success=204,
        ),
        Endpoint("GET", "/v3/groups/{id}/users", own.users_of_group, summary="List the users of a group"),
        Endpoint(
            "PUT", "/v3/groups/{id}/users/{user_id}", own.add_member, summary="Add to a group", success=204
        ),
        Endpoint(
            "GET", "/v3/groups/{id}/users/{user_id}", own.check_member, summary="Check a member", success=204
        ),
        Endpoint(
            "DELETE",
            "/v3/groups/{id}/users/{user_id}",
            own.remove_member,
            summary="Remove from a group",
            success=204,
        ),
        Endpoint("GET", "/v3/projects/{id}/tags", own.list_tags, summary="List the tags of a project"),
        Endpoint(
            "PUT",
            "/v3/projects/{id}/tags",
            own.replace_tags,
            summary="Replace the tags of a project",
            request=_TAGS,
        ),
        Endpoint("DELETE", "/v3/projects/{id}/tags", own.clear_tags, summary="Remove all tags", success=204),
        Endpoint("GET", "/v3/projects/{id}/tags/{tag}", own.check_tag, summary="Check a tag", success=204),
        Endpoint("PUT", "/v3/projects/{id}/tags/{tag}", own.add_tag, summary="Add a tag", success=201),
        Endpoint(
            "DELETE", "/v3/projects/{id}/tags/{tag}", own.remove_tag, summary="Remove a tag", success=204
        ),
    ]


class _People:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.engine = parts.engine

    # Users.

    def _user(self, reader: Reader, request: Request, rule: str) -> User:
        user = reader.get(User, request.path["id"])
        target = {"user_id": request.path["id"], **(target_of(user) if user else {})}
        self.engine.require(f"identity:{rule}", request.context, target)
        return user or found(reader, User, request.path["id"])

    async def groups_of_user(self, request: Request) -> Reply:
        def run(reader: Reader) -> list[Any]:
            user = self._user(reader, request, "list_groups_for_user")
            table = table_of(Group)
            groups = reader.select(
                Group, table.c.id.in_(groups_of(reader, user.id)), *self._named(Group, request)
            )
            return render(self.parts, reader, request, "/groups", groups)

        return Reply(listed(request, "groups", await self.engine.read(run)))

    async def projects_of_user(self, request: Request) -> Reply:
        def run(reader: Reader) -> list[Any]:
            user = self._user(reader, request, "list_user_projects")
            projects, _, _ = reachable(reader, user.id)
            return render(self.parts, reader, request, "/projects", projects)

        return Reply(listed(request, "projects", await self.engine.read(run)))

    async def change_password(self, request: Request) -> Reply:
        """Who knows the old password may set a new one; no token is asked for."""
        given: _Passwords = convert(await body_of(request, "user"), _Passwords, what="user")
        for name in ("password", "original_password"):
            if len(getattr(given, name)) > MAX_LENGTH:
                raise BadField(name, f"it is longer than {MAX_LENGTH} characters.")
        id = request.path["id"]
        user = await self.engine.read(lambda reader: reader.get(User, id))
        await self.parts.logins.verify(
            user.id if user else id,
            request.context.remote,
            (user.password or "") if user else "",
            given.original_password,
        )
        if user is None or not user.enabled:
            raise refused()
        hashed = await self.parts.passwords.hash(given.password)

        def run(call: Call) -> None:
            now = call.tx.get(User, id)
            if now is None or now.password != user.password:
                raise refused()
            valid_from = float(int(call.tx.now.timestamp()) + 1)
            call.tx.replace(msgspec.structs.replace(now, password=hashed, tokens_from=valid_from))

        await self.engine.write(request.context, run)
        return Reply(status=204)

    # Groups.

    async def users_of_group(self, request: Request) -> Reply:
        def run(reader: Reader) -> list[Any]:
            group = reader.get(Group, request.path["id"])
            target = target_of(group) if group else {}
            self.engine.require("identity:list_users_in_group", request.context, target)
            group = found(reader, Group, request.path["id"])
            members = [m.user_id for m in reader.find(Membership, group_id=group.id)]
            users = reader.select(User, table_of(User).c.id.in_(members), *self._named(User, request))
            return render(self.parts, reader, request, "/users", users)

        return Reply(listed(request, "users", await self.engine.read(run)))

    def _named(self, kind: type[Any], request: Request) -> tuple[Any, ...]:
        """The clauses of a filter by name; with a token for a domain, others' people are left out."""
        pairs = [(name, value) for name, value in request.query if name.split("__")[0] == "name"]
        if request.context.domain_id and not request.context.is_admin:
            pairs.append(("domain_id", request.context.domain_id))
        return self.engine.query(kind, pairs, unknown="ignore").where

    def _pair(self, reader: Reader, request: Request, rule: str) -> Membership:
        group = reader.get(Group, request.path["id"])
        user = reader.get(User, request.path["user_id"])
        target = {**(target_of(group) if group else {}), **(target_of(user) if user else {})}
        self.engine.require(f"identity:{rule}", request.context, target)
        group = found(reader, Group, request.path["id"])
        user = found(reader, User, request.path["user_id"])
        return Membership(id=relation_id(user.id, group.id), user_id=user.id, group_id=group.id)

    async def add_member(self, request: Request) -> Reply:
        def run(call: Call) -> None:
            membership = self._pair(call.tx, request, "add_user_to_group")
            if call.tx.get(Membership, membership.id) is None:
                call.tx.insert(membership)

        await self.engine.write(request.context, run)
        return Reply(status=204)

    async def check_member(self, request: Request) -> Reply:
        await self.engine.read(lambda reader: self._member(reader, request, "check_user_in_group"))
        return Reply(status=204)

    async def remove_member(self, request: Request) -> Reply:
        await self.engine.write(
            request.context, lambda call: call.drop(self._member(call.tx, request, "remove_user_from_group"))
        )
        return Reply(status=204)

    def _member(self, reader: Reader, request: Request, rule: str) -> Membership:
        membership = self._pair(reader, request, rule)
        if reader.get(Membership, membership.id) is None:
            raise NotFound(f"User {membership.user_id} is not in group {membership.group_id}.")
        return membership

    # Tags of projects.

    def _project(self, reader: Reader, request: Request, rule: str) -> Project:
        project = reader.get(Project, request.path["id"])
        self.engine.require(f"identity:{rule}", request.context, target_of(project) if project else {})
        return project or found(reader, Project, request.path["id"])

    async def list_tags(self, request: Request) -> Reply:
        project = await self.engine.read(lambda reader: self._project(reader, request, "list_project_tags"))
        return Reply(_tags_body(request, project.tags))

    async def check_tag(self, request: Request) -> Reply:
        project = await self.engine.read(lambda reader: self._project(reader, request, "get_project_tag"))
        if request.path["tag"] not in project.tags:
            raise NotFound(f"Could not find project tag: {request.path['tag'][:255]}.")
        return Reply(status=204)

    async def replace_tags(self, request: Request) -> Reply:
        given = await request.envelope("tags")
        if not isinstance(given, list) or not all(isinstance(tag, str) for tag in given):
            raise BadField("tags", "it must be a list of text.")
        return Reply(
            _tags_body(request, await self._set_tags(request, "update_project_tags", lambda _: given))
        )

    async def clear_tags(self, request: Request) -> Reply:
        await self._set_tags(request, "delete_project_tags", lambda _: [])
        return Reply(status=204)

    async def add_tag(self, request: Request) -> Reply:
        tag = request.path["tag"]
        await self._set_tags(request, "create_project_tag", lambda old: [*old, tag])
        return Reply(status=201, headers={"location": f"{request.base_url}{request.url_path}"})

    async def remove_tag(self, request: Request) -> Reply:
        tag = request.path["tag"]

        def without(old: list[str]) -> list[str]:
            if tag not in old:
                raise NotFound(f"Could not find project tag: {tag[:255]}.")
            return [other for other in old if other != tag]

        await self._set_tags(request, "delete_project_tag", without)
        return Reply(status=204)

    async def _set_tags(self, request: Request, rule: str, change: Any) -> list[str]:
        def run(call: Call) -> list[str]:
            project = self._project(call.tx, request, rule)
            try:
                new = tags(change(project.tags))
            except ValueError as error:
                raise BadField("tags", str(error)) from None
            call.tx.replace(msgspec.structs.replace(project, tags=new))
            return new

        return await self.engine.write(request.context, run)


def _tags_body(request: Request, given: list[str]) -> dict[str, Any]:
    here = f"{root(request)}/projects/{request.path['id']}"
    return {"tags": given, "links": {"self": f"{here}/tags", "previous": None, "next": None}}
