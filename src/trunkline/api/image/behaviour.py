"""What images do beside the common stages: who sees them, what their states allow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from msgspec.structs import replace
from sqlalchemy import ColumnElement, and_, or_, select

from trunkline.api.context import CLOUD, Context
from trunkline.api.engine import Call, Engine, Stages
from trunkline.errors import BadField, Conflict, Forbidden, NotFound
from trunkline.resources.compute import Server
from trunkline.resources.image import MEMBER_STATUSES, Image, ImageMember, ImageTask, MetadefNamespace
from trunkline.store import Reader, Tx, table_of

SCHEMA = "/v2/schemas/image"
#: The one place where files of images are kept.
STORE = "local"


class Facts(Protocol):
    """What is known of a complete file."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def virtual_size(self) -> int:
        """The size of the disk that a guest sees, bytes."""

    @property
    def md5(self) -> str:
        """Hexadecimal."""

    @property
    def sha512(self) -> str:
        """Hexadecimal."""


class Files(Protocol):
    """Where the content of images is kept; `devices.image_files.ImageFiles` is one."""

    async def receive(
        self, id: str, content: AsyncIterator[bytes], disk_format: str, *, staged: bool = False
    ) -> Facts:
        """Takes the content of an image: all of it, checked and durable, or nothing."""
        ...

    async def import_staged(self, id: str, disk_format: str) -> Facts:
        """Makes staged content the image's own."""
        ...

    def read(self, id: str, first: int, last: int) -> AsyncIterator[bytes]:
        """The bytes from `first` to `last`, the last one included."""
        ...

    async def remove(self, id: str) -> None:
        """Removes whatever there is of an image."""
        ...

    def path(self, id: str) -> Path:
        """Where the file of an image is."""
        ...


def _create(call: Call, image: Image, given: frozenset[str]) -> Image:
    if "id" in given and (call.tx.get(Image, image.id) is not None or _is_run_from(call, image.id)):
        raise Conflict(f"Image ID {image.id} already exists!")
    _require_visibility(call, image)
    return image


def _is_run_from(call: Call, id: str) -> bool:
    """Whether a server runs from an image of this id, which may be deleted: its file is still needed."""
    users = ("image_id", "rescue_image_id", "disk_image_id")
    return any(call.tx.first(Server, **{name: id}) is not None for name in users)


def _update(call: Call, old: Image, new: Image, given: frozenset[str]) -> Image:
    if new.visibility != old.visibility:
        _require_visibility(call, new)
    if new.project_id != old.project_id:
        call.require("modify_image:owner", call.engine.target(call.tx, new))
        if not new.project_id:
            raise BadField("owner", "it cannot be empty. Give the id of a project.")
    for name in ("disk_format", "container_format"):
        if getattr(new, name) != getattr(old, name) and old.status != "queued":
            raise Forbidden(f"Attribute {name} can be only replaced for a queued image.")
    return new


def _require_visibility(call: Call, image: Image) -> None:
    target = call.engine.target(call.tx, image)
    if image.visibility == "public":
        call.require("publicize_image", target)
    elif image.visibility == "community":
        call.require("communitize_image", target)


def _delete(call: Call, image: Image) -> None:
    if image.protected:
        raise Forbidden(f"Image {image.id} is protected and cannot be deleted. Unprotect it first.")
    for member in call.tx.find(ImageMember, image_id=image.id):
        call.drop(member)
    for task in call.tx.find(ImageTask, image_id=image.id):
        call.drop(task)


def _visible(context: Context) -> list[ColumnElement[bool]]:
    if context.is_admin:
        return []
    images = table_of(Image)
    return [
        or_(
            images.c.project_id == context.project_id,
            images.c.visibility.in_(("public", "community")),
            and_(images.c.visibility == "shared", images.c.id.in_(shared_with(context, MEMBER_STATUSES))),
        )
    ]


def _public_or_own(context: Context) -> list[ColumnElement[bool]]:
    if context.is_admin:
        return []
    table = table_of(MetadefNamespace)
    return [or_(table.c.visibility == "public", table.c.project_id == context.project_id)]


def shared_with(context: Context, statuses: Sequence[str]) -> Any:
    """The subquery of the ids of the images that the caller's project is a member of."""
    members = table_of(ImageMember)
    return select(members.c.image_id).where(
        members.c.member_id == context.project_id, members.c.status.in_(list(statuses))
    )


def listed(context: Context, visibility: str | None, member_status: str) -> list[ColumnElement[bool]]:
    """What of the visible images belongs into a list, which shows less than may be read.

    Others' shared images come once they are accepted, community images when they are asked for.
    """
    images = table_of(Image)
    own = images.c.project_id == context.project_id
    statuses = MEMBER_STATUSES if member_status == "all" else (member_status,)
    shared = and_(images.c.visibility == "shared", images.c.id.in_(shared_with(context, statuses)))
    if visibility is None:
        clauses = [own, images.c.visibility == "public", shared]
        if context.is_admin:
            clauses.append(images.c.visibility.in_(("private", "shared")))
        return [or_(*clauses)]
    if visibility == "all":
        return [] if context.is_admin else [or_(own, images.c.visibility != "shared", shared)]
    clause = images.c.visibility == visibility
    if visibility == "shared" and not context.is_admin:
        return [clause, or_(own, shared)]
    return [clause]


def _view(reader: Reader, context: Context, images: Sequence[Image]) -> Sequence[Mapping[str, Any]]:
    return [
        {
            **image.properties,
            "self": f"/v2/images/{image.id}",
            "file": f"/v2/images/{image.id}/file",
            "schema": SCHEMA,
            **({"stores": STORE} if image.size is not None else {}),
        }
        for image in images
    ]


def activate(call: Call, id: str, facts: Facts) -> None:
    """Records that the content of an image is there.

    Raises:
        NotFound: the image was deleted meanwhile.
    """
    image = call.tx.get(Image, id)
    if image is None:
        raise NotFound(f"Image {id} was deleted while its content was uploaded.")
    if image.status not in ("queued", "saving", "uploading", "importing"):
        raise Conflict(f"Image {id} has content already.")
    call.save(with_facts(image, facts))


async def give_up(engine: Engine, files: Files, id: str) -> None:
    """Nothing stays of the content of an image that was on its way; it waits for another."""

    def requeue(call: Call) -> bool:
        image = call.tx.get(Image, id)
        if image is not None and image.status == "saving":
            call.save(replace(image, status="queued"))
            return True
        return image is None

    if await engine.write(CLOUD, requeue):
        await files.remove(id)


def with_facts(image: Image, facts: Facts) -> Image:
    """The image, active, with what is known of its file."""
    return replace(
        image,
        status="active",
        size=facts.size,
        virtual_size=facts.virtual_size,
        checksum=facts.md5,
        os_hash_algo="sha512",
        os_hash_value=facts.sha512,
    )


def register_image(
    tx: Tx,
    id: str,
    name: str,
    facts: Facts,
    *,
    disk_format: str,
    project_id: str,
    properties: Mapping[str, str] | None = None,
    min_ram: int = 0,
    min_disk: int = 0,
) -> Image:
    """Registers a public image whose file lies in the folder of images already. Idempotent.

    Args:
        facts: of the file, as `ImageFiles.describe` gives them.
        project_id: the owner.
    """
    old = tx.get(Image, id)
    now = tx.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    image = with_facts(
        Image(
            id=id,
            name=name,
            project_id=project_id,
            visibility="public",
            disk_format=disk_format,
            container_format="bare",
            properties=dict(properties or {}),
            min_ram=min_ram,
            min_disk=min_disk,
            created_at=old.created_at if old else now,
            updated_at=old.updated_at if old else now,
        ),
        facts,
    )
    if old is None:
        tx.insert(image)
    elif old != image:
        image = replace(image, updated_at=now)
        tx.replace(image)
    return image


def referenced(reader: Reader) -> set[str]:
    """The ids of the images whose files are needed: those there are, and those that servers run from."""
    return {image.id for image in reader.select(Image)} | {
        id
        for server in reader.select(Server)
        for id in (server.image_id, server.rescue_image_id, server.disk_image_id)
        if id
    }


STAGES: dict[str, Stages[Any]] = {
    "image": Stages[Image](
        create=_create,
        update=_update,
        delete=_delete,
        visible=_visible,
        view=_view,
        target=lambda reader, image: {"project_id": image.project_id},
        rules={"create": "add_image", "update": "modify_image"},
        not_found="No image found with ID {id}",
    ),
    "metadef_namespace": Stages[MetadefNamespace](
        visible=_public_or_own, not_found="Metadata definition namespace {id} could not be found."
    ),
    "image_task": Stages[ImageTask](),
    "image_member": Stages[ImageMember](rules={"create": "add_member", "update": "modify_member"}),
}
