"""The resources of the Image API: images and who they are shared with."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Annotated, Any

from msgspec import Meta, field

from trunkline.resources.schema import Check, Resource, computed, fixed, hidden, resource, settable

#: Formats that an image may be registered with. Servers boot from `BOOTABLE` alone.
DISK_FORMATS = ("raw", "qcow2", "iso", "vmdk", "vhd", "vhdx", "vdi", "ploop", "ami", "ari", "aki")
CONTAINER_FORMATS = ("bare", "ovf", "ova", "ami", "ari", "aki", "docker", "compressed")
VISIBILITIES = ("public", "private", "shared", "community")
MEMBER_STATUSES = ("pending", "accepted", "rejected")
#: What the agents' QEMU is given.
BOOTABLE = frozenset({"raw", "qcow2"})
_INT32 = 2**31 - 1


def one_of(*values: str) -> Check:
    """A check that the text is one of a few."""

    def check(value: str) -> str:
        if value not in values:
            raise ValueError(f"'{value[:80]}' is not one of: {', '.join(values)}.")
        return value

    return Check(check)


def uuid_text(value: str) -> str:
    """Normal form of a UUID (RFC 4122).

    Raises:
        ValueError: it is none.
    """
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise ValueError(f"'{value[:80]}' is not a UUID.") from None


def _tags(value: list[str]) -> list[str]:
    if len(value) > 128:
        raise ValueError("an image has at most 128 tags.")
    return list(dict.fromkeys(value))


def _bounded(largest: int) -> Callable[[int], int]:
    def check(value: int) -> int:
        if not 0 <= value <= largest:
            raise ValueError(f"{value} is not between 0 and {largest}.")
        return value

    return check


Text = Annotated[str, Meta(max_length=255)]
Whole = Annotated[int, Check(_bounded(_INT32))]
DiskFormat = Annotated[str, one_of(*DISK_FORMATS)]
ContainerFormat = Annotated[str, one_of(*CONTAINER_FORMATS)]


@resource(kind="image", plural="images", service="image", quota=200)
class Image(Resource):
    """What a server's disk is made from. The file lies under its id; the row says what it must be."""

    #: The id; a client may choose a UUID that is free.
    id: Annotated[str, fixed(), Check(uuid_text)] = ""
    #: A name for people.
    name: Annotated[Text | None, settable()] = None
    #: The project that owns it.
    project_id: Annotated[Text, settable(index=True)] = field(default="", name="owner")
    #: queued, saving (content comes), uploading (staged), importing, active or deactivated.
    status: Annotated[str, computed()] = "queued"
    #: Who sees it: public, community, shared (with its members) or private.
    visibility: Annotated[str, settable(), one_of(*VISIBILITIES)] = "shared"
    #: It cannot be deleted.
    protected: Annotated[bool, settable()] = False
    #: It is left out of lists.
    os_hidden: Annotated[bool, settable()] = False
    #: The format of the file.
    disk_format: Annotated[DiskFormat | None, settable()] = None
    #: What is around the disk in the file.
    container_format: Annotated[ContainerFormat | None, settable()] = None
    #: The smallest disk that it runs on, GiB.
    min_disk: Annotated[Whole, settable()] = 0
    #: The least memory that it runs with, MiB.
    min_ram: Annotated[Whole, settable()] = 0
    #: Words to find it by.
    tags: Annotated[list[Text], settable(), Check(_tags)] = []
    #: The size of the file, bytes.
    size: Annotated[int | None, computed()] = None
    #: The size of the disk that a guest sees, bytes.
    virtual_size: Annotated[int | None, computed()] = None
    #: MD5 of the file, hexadecimal.
    checksum: Annotated[str | None, computed()] = None
    #: sha512.
    os_hash_algo: Annotated[str | None, computed()] = None
    #: The digest of the file by `os_hash_algo`, hexadecimal.
    os_hash_value: Annotated[str | None, computed()] = None
    #: When it was created.
    created_at: Annotated[str, computed()] = ""
    #: When it was last changed.
    updated_at: Annotated[str, computed()] = ""
    #: Properties that clients name as they like; shown beside the fields.
    properties: Annotated[dict[str, str], hidden()] = {}


@resource(kind="image_member", plural="image_members", service="image", unique=(("image_id", "member_id"),))
class ImageMember(Resource):
    """A project that a shared image is shared with."""

    #: The image.
    image_id: Annotated[str, computed(index=True)] = ""
    #: The project.
    member_id: Annotated[str, computed(index=True)] = ""
    #: Whether the project wants it in its lists: pending, accepted or rejected.
    status: Annotated[str, computed()] = "pending"
    #: When it was shared.
    created_at: Annotated[str, computed()] = ""
    #: When the project last made up its mind.
    updated_at: Annotated[str, computed()] = ""


@resource(kind="image_task", plural="image_tasks", service="image")
class ImageTask(Resource):
    """An import: who asked for it, and how it went."""

    #: The image that it fills.
    image_id: Annotated[str, computed(index=True)] = ""
    #: Which of the image's imports it is, from 1.
    number: Annotated[int, computed()] = 1
    #: The image's project.
    project_id: Annotated[str, computed(index=True)] = field(default="", name="owner")
    #: Who asked.
    user_id: Annotated[str, computed()] = ""
    #: The id of the request that asked.
    request_id: Annotated[str, computed()] = ""
    #: processing, success or failure.
    status: Annotated[str, computed()] = "processing"
    #: Why it failed.
    message: Annotated[str, computed()] = ""
    #: The request's body, as import_req.
    input: Annotated[dict[str, Any], computed()] = {}
    #: When it began.
    created_at: Annotated[str, computed()] = ""
    #: When it ended.
    updated_at: Annotated[str, computed()] = ""


@resource(kind="metadef_namespace", plural="metadef_namespaces", service="image", unique=(("namespace",),))
class MetadefNamespace(Resource):
    """Definitions of metadata: which properties and tags things may carry, for tools that show forms."""

    #: Its name, by which paths refer to it.
    namespace: Annotated[str, computed(index=True)] = ""
    #: A name for people.
    display_name: Annotated[str | None, computed()] = None
    #: A text for people.
    description: Annotated[str | None, computed()] = None
    #: Who sees it: public or private.
    visibility: Annotated[str, computed()] = "private"
    #: It cannot be deleted.
    protected: Annotated[bool, computed()] = False
    #: The project that owns it.
    project_id: Annotated[str, computed(index=True)] = field(default="", name="owner")
    #: When it was created.
    created_at: Annotated[str, computed()] = ""
    #: When it was last changed.
    updated_at: Annotated[str, computed()] = ""
    #: What it holds: collection (properties, objects, tags, resource_types) to name to definition.
    content: Annotated[dict[str, dict[str, dict[str, Any]]], hidden()] = {}
