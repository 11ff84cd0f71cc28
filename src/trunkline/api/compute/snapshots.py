"""Images of servers: asked for, made by the server's host, received from it.

    createImage, createBackup          the host                            the control plane
    image queued, server.snapshot ──▶  copies the disk, uploads it  ──▶    image saving, then active;
                                       `-- it fails: told with its report  the server's task is over
                                           ──▶ the image goes

The wish stands in the server's row until the image is durable, so whoever dies in between, the host
does it again: nothing is lost but time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from msgspec.structs import replace

from trunkline.api.compute import history
from trunkline.api.compute.status import settle
from trunkline.api.context import CLOUD
from trunkline.api.engine import Call, Engine
from trunkline.api.image.behaviour import Files, activate, referenced
from trunkline.errors import Conflict, NotFound
from trunkline.resources.compute import ImageFacts, Server, Snapshot
from trunkline.resources.image import Image, ImageMember
from trunkline.store import Tx

#: The format in which hosts make images.
_FORMAT = "qcow2"
#: Properties of an image that are about its own making, and not passed on to images of its servers.
_NOT_PASSED_ON = frozenset(
    {"backup_type", "base_image_ref", "image_location", "image_state", "image_type", "instance_uuid",
     "owner_id", "user_id"}
)  # fmt: skip


def begin(call: Call, server: Server, name: str, labels: Mapping[str, str], wish: Snapshot) -> Server:
    """The server that is to be imaged, with an image that waits for its content.

    The caller has checked its state, and saves the server. The image is private to the caller's project.

    Args:
        labels: further properties of the image.
        wish: what for; its image is made here.
    Raises:
        trunkline.errors.Refusal: whatever the Image API says to such an image.
    """
    assert server.image is not None, "every server has an image"
    assert server.flavor is not None, "every server has a flavor"
    inherited = {k: v for k, v in server.image.properties.items() if k not in _NOT_PASSED_ON}
    own = {
        "image_type": "backup" if wish.kind == "backup" else "snapshot",
        "instance_uuid": server.id,
        "base_image_ref": server.image_id,
        "user_id": call.context.user_id,
        "owner_id": server.project_id,
        "image_location": "snapshot",
        "image_state": "available",
    }
    if wish.kind == "backup":
        own["backup_type"] = wish.backup_type
    image = call.create(
        Image,
        {
            "name": name,
            "visibility": "private",
            "disk_format": _FORMAT,
            "container_format": "bare",
            "min_disk": max(server.flavor.disk, server.image.min_disk),
            "min_ram": server.image.min_ram,
            "properties": {**inherited, **labels, **own},
        },
    )
    wish = replace(wish, image_id=image.id)
    return replace(server, snapshot=wish, observed_snapshot="")


async def receive(engine: Engine, files: Files, host: str, id: str, content: AsyncIterator[bytes]) -> None:
    """Takes the content of an image that a host was to make; when this returns, it is durable.

    Raises:
        NotFound: no server of the host is being made into that image.
        trunkline.errors.Refusal: the content is refused; nothing is kept of it.
    """

    def start(call: Call) -> None:
        server = _imaged(call.tx, host, id)
        image = call.tx.get(Image, id)
        if image is None or lost(call.tx, server):
            raise Conflict(f"Image {id} does not wait for content.")
        if image.status == "queued":
            call.save(replace(image, status="saving"))

    def end(call: Call) -> list[str]:
        server = _imaged(call.tx, host, id)
        activate(call, id, facts)
        done = replace(server, snapshot=None, observed_snapshot="")
        if server.shelved == "shelving":
            done = _shelved(done, call.get(Image, id))
        done = call.save(settle(done, call.now))
        history.finish(call.tx, done, call.now)
        return _rotate(call, server)

    await engine.write(CLOUD, start)
    facts = await files.receive(id, content, _FORMAT)
    try:
        gone = await engine.write(CLOUD, end)
    except (NotFound, Conflict):
        await files.remove(id)
        raise
    needed = await engine.read(referenced)
    for each in gone:
        if each not in needed:
            await files.remove(each)


def _imaged(tx: Tx, host: str, id: str) -> Server:
    """The server that an image is made of, on its host, while the image is still wanted."""
    for server in tx.find(Server, host=host):
        if server.snapshot is not None and server.snapshot.image_id == id and not server.deleting:
            return server
    raise NotFound(f"No server of host {host} is to be made into image {id[:80]}.")


def _shelved(server: Server, image: Image) -> Server:
    """A server that is being shelved, when its image is durable: its host need not keep it."""
    facts = ImageFacts(
        disk_format=str(image.disk_format),
        size=image.size or 0,
        sha512=image.os_hash_value or "",
        properties=dict(image.properties),
    )
    return replace(server, shelved="offloading", disk_image_id=image.id, disk_image=facts)


def _rotate(call: Call, server: Server) -> list[str]:
    """Deletes the oldest backups of a server above the number that is kept; their ids."""
    wish = server.snapshot
    if wish is None or wish.kind != "backup":
        return []
    newest = call.tx.get(Image, wish.image_id)
    if newest is None:
        return []
    # Anybody may write such properties: another project's images are none of its backups.
    own = {"image_type": "backup", "backup_type": wish.backup_type, "instance_uuid": server.id}
    made = [
        image
        for image in call.tx.find(Image, status="active", visibility="private", project_id=newest.project_id)
        if own.items() <= image.properties.items() and not image.protected
    ]
    made.sort(key=lambda image: (image.created_at, image.updated_at, image.id == wish.image_id))
    spare = made[: max(0, len(made) - wish.rotation)]
    for image in spare:
        drop(call.tx, image)
    return [image.id for image in spare]


def lost(tx: Tx, server: Server) -> bool:
    """Whether the image that a server is being made into was deleted, or got its content from elsewhere."""
    if server.snapshot is None:
        return False
    image = tx.get(Image, server.snapshot.image_id)
    return image is None or image.status not in ("queued", "saving")


def failed(tx: Tx, server: Server, cause: str, now: str) -> Server:
    """The server without its wish for an image, which its host could not make; the image goes."""
    server = abandon(tx, server)
    history.fail(tx, server, cause, now)
    return server


def abandon(tx: Tx, server: Server) -> Server:
    """The server without its wish for an image, if it has one; the image goes."""
    if server.snapshot is None:
        return server
    if not lost(tx, server) and (image := tx.get(Image, server.snapshot.image_id)) is not None:
        drop(tx, image)
    if server.snapshot.kind == "shelve":
        server = _as_before(server, server.snapshot.power)
    return replace(server, snapshot=None, observed_snapshot="")


def _as_before(server: Server, power: str) -> Server:
    """A server that was being shelved, as it was wanted before that."""
    if power == "suspended":
        # What it could have gone on with went when it was shelved.
        power = "running"
    if power != "stopped":
        server = replace(server, hard_reboot_serial=server.hard_reboot_serial + 1)
    return replace(server, shelved="", power=power)


def drop(tx: Tx, image: Image) -> None:
    """Removes an image's row; its file goes when nothing needs it any more."""
    for member in tx.find(ImageMember, image_id=image.id):
        tx.delete(ImageMember, member.id)
    tx.delete(Image, image.id)
    tx.release(image.id)
