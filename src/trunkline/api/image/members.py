"""Members of an image: the projects that it is shared with."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import BadField, Conflict, Forbidden, NotFound
from trunkline.resources.image import MEMBER_STATUSES, Image, ImageMember
from trunkline.store import Reader

#: What clients send back as they were shown it.
_SHOWN = ("member", "member_id", "image_id", "created_at", "updated_at", "schema")
#: Members that an image may have.
LIMIT = 128


class MemberApi:
    """The handlers of /v2/images/{id}/members."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def list(self, request: Request) -> Reply:
        """The members of a shared image: all for its owner, itself for a member."""

        def run(reader: Reader) -> list[dict[str, Any]]:
            image = self._shared(reader, request)
            self.engine.require("get_members", request.context, self.engine.target(reader, image))
            members = reader.find(ImageMember, image_id=image.id)
            return [_render(m) for m in members if self._sees(request, image, m.member_id)]

        members = await self.engine.read(run)
        return Reply({"members": members, "schema": "/v2/schemas/members"})

    async def create(self, request: Request) -> Reply:
        """Shares an image with a project."""
        project = await request.envelope("member")
        if not isinstance(project, str) or not 1 <= len(project) <= 255 or "\x00" in project:
            raise BadField("member", "give the id of the project to share with.")

        def run(call: Call) -> dict[str, Any]:
            image = self._shared(call.tx, request)
            call.require("add_member", self.engine.target(call.tx, image))
            if image.visibility != "shared":
                raise Forbidden("Only shared images have members.")
            if call.tx.find(ImageMember, image_id=image.id, member_id=project):
                raise Conflict(f"Project {project} is a member of image {image.id} already.")
            if call.tx.count(ImageMember, image_id=image.id) >= LIMIT:
                raise Conflict(f"Image {image.id} has {LIMIT} members, the most that it may have.")
            id = self.engine.stages_of(ImageMember).new_id()
            return _render(call.add(ImageMember(id=id, image_id=image.id, member_id=project)))

        return Reply(await self.engine.write(request.context, run))

    async def show(self, request: Request) -> Reply:
        """One member."""

        def run(reader: Reader) -> dict[str, Any]:
            image, member = self._member(reader, request)
            self.engine.require("get_member", request.context, self.engine.target(reader, image))
            return _render(member)

        return Reply(await self.engine.read(run))

    async def update(self, request: Request) -> Reply:
        """Accepts or rejects a share: the member's own decision."""
        body = await request.json()
        status = body.get("status") if isinstance(body, dict) else None
        if status not in MEMBER_STATUSES:
            raise BadField("status", f"it must be one of {', '.join(MEMBER_STATUSES)}.")
        for name in body:
            if name not in ("status", *_SHOWN):
                raise BadField(name, "a member has no such attribute. Remove it, or check its spelling.")

        def run(call: Call) -> dict[str, Any]:
            image, member = self._member(call.tx, request)
            call.require("modify_member", self.engine.target(call.tx, image))
            if member.member_id != call.context.project_id and not call.context.is_admin:
                raise Forbidden("Only the member itself may accept or reject an image.")
            return _render(call.save(replace(member, status=status)))

        return Reply(await self.engine.write(request.context, run))

    async def delete(self, request: Request) -> Reply:
        """Shares an image with a project no more."""

        def run(call: Call) -> None:
            image, member = self._member(call.tx, request)
            call.require("delete_member", self.engine.target(call.tx, image))
            if image.project_id != call.context.project_id and not call.context.is_admin:
                raise Forbidden("Only the owner of an image may remove its members.")
            call.drop(member)

        await self.engine.write(request.context, run)
        return Reply(status=204)

    def _shared(self, reader: Reader, request: Request) -> Image:
        image = self.engine.get(reader, request.context, Image, request.path["id"])
        if image.visibility != "shared" and image.project_id != request.context.project_id:
            raise Forbidden("Only shared images have members.")
        return image

    def _sees(self, request: Request, image: Image, member: str) -> bool:
        context = request.context
        return context.is_admin or context.project_id in (image.project_id, member)

    def _member(self, reader: Reader, request: Request) -> tuple[Image, ImageMember]:
        image = self._shared(reader, request)
        project = request.path["member"]
        found = reader.find(ImageMember, image_id=image.id, member_id=project)
        for member in found:
            if self._sees(request, image, member.member_id):
                return image, member
        raise NotFound(f"{project[:255]} is not in the member list of image {image.id}.")


def _render(member: ImageMember) -> dict[str, Any]:
    return {
        "image_id": member.image_id,
        "member_id": member.member_id,
        "status": member.status,
        "created_at": member.created_at,
        "updated_at": member.updated_at,
        "schema": "/v2/schemas/member",
    }


def endpoints(engine: Engine) -> list[Endpoint]:
    """The paths of members."""
    api = MemberApi(engine)
    many, one = "/v2/images/{id}/members", "/v2/images/{id}/members/{member}"
    return [
        Endpoint("GET", many, api.list, summary="The members of an image.", kind="image_member"),
        Endpoint("POST", many, api.create, summary="Shares an image.", kind="image_member"),
        Endpoint("GET", one, api.show, summary="One member.", kind="image_member"),
        Endpoint("PUT", one, api.update, summary="Accepts or rejects a share.", kind="image_member"),
        Endpoint("DELETE", one, api.delete, summary="Ends a share.", kind="image_member", success=204),
    ]
