"""Images of servers: what is asked for, what the host does about it, and what stays when it cannot."""

from __future__ import annotations

import struct
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from compute_lab import IMAGE, ROOT, Lab, seen, status
from msgspec.structs import replace

from trunkline.api.compute import snapshots
from trunkline.errors import Conflict, NotFound
from trunkline.resources.compute import Server
from trunkline.resources.image import Image
from trunkline.resources.reports import SnapshotReport
from trunkline.store import Tx

#: The header of an empty qcow2 file (QEMU, docs/interop/qcow2.txt), and a cluster.
DISK = struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 0, 0, 16, 1 << 20).ljust(100, b"\x00")
DISK += struct.pack(">I", 104) + bytes(1 << 16)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path).with_hosts("h1", "h2")
    yield made
    made.close()


def image_of(lab: Lab, id: str, action: str = "createImage", **more: Any) -> str:
    body = {action: {"name": "i", **more}}
    return str(lab.act(id, body, version="2.45")["image_id"])


def upload(lab: Lab, image: str, host: str = "h1", content: bytes = DISK) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield content

    lab.loop.run_until_complete(snapshots.receive(lab.engine, lab.files, host, image, pieces()))


def images(lab: Lab, **fields: str) -> list[dict[str, Any]]:
    query = "&".join(f"{k}={v}" for k, v in fields.items())
    return list(lab.ask("GET", f"/image/v2/images?sort=created_at:asc&{query}")["images"])


def told(lab: Lab, id: str, image: str, state: str, cause: str = "", power: str = "running") -> None:
    row = lab.row(id)
    assert isinstance(row, Server)
    told = SnapshotReport(image=image, state=state, cause=cause)
    lab.report(row.host, seen(row, power, snapshot=told))


def test_an_image_of_a_server_is_its_disk_with_where_it_comes_from(lab: Lab) -> None:
    id = lab.booted()
    host = lab.show(id, by=ROOT)["OS-EXT-SRV-ATTR:host"]
    image = image_of(lab, id, metadata={"purpose": "test"})
    assert status(lab, id) == ("ACTIVE", "image_snapshot")
    assert lab.ask("GET", f"/image/v2/images/{image}")["status"] == "queued"
    for action in ("os-stop", "pause", {"createImage": {"name": "j"}}):
        lab.act(id, action, status=409)
    told(lab, id, image, "uploading")
    assert status(lab, id) == ("ACTIVE", "image_uploading")
    upload(lab, image, host)
    assert status(lab, id) == ("ACTIVE", None)
    shown = lab.ask("GET", f"/image/v2/images/{image}")
    wanted = {
        "status": "active", "name": "i", "visibility": "private", "disk_format": "qcow2",
        "instance_uuid": id, "image_type": "snapshot", "base_image_ref": IMAGE, "purpose": "test",
        "size": len(DISK),
    }  # fmt: skip
    assert wanted.items() <= shown.items()
    action = lab.ask("GET", f"/servers/{id}/os-instance-actions")["instanceActions"][0]
    assert (action["action"], action["message"]) == ("createImage", None)
    assert lab.boot(imageRef=image)


def test_before_microversion_2_45_the_image_is_told_by_its_address(lab: Lab) -> None:
    id = lab.booted()
    for action in (
        {"createImage": {"name": "i"}},
        {"createBackup": {"name": "i", "backup_type": "daily", "rotation": 1}},
    ):
        path = f"/compute/v2.1/servers/{id}/action"
        reply = lab.loop.run_until_complete(lab.call("POST", path, json=action))
        assert (reply.status_code, reply.content) == (202, b"")
        image = reply.headers["location"].partition("/image/v2/images/")[2]
        upload(lab, image, lab.show(id, by=ROOT)["OS-EXT-SRV-ATTR:host"])


def test_backups_rotate_by_type_and_spare_what_is_protected(lab: Lab) -> None:
    id = lab.booted()
    host = lab.show(id, by=ROOT)["OS-EXT-SRV-ATTR:host"]

    def back_up(name: str, kind: str, rotation: int) -> str:
        body = {"createBackup": {"name": name, "backup_type": kind, "rotation": rotation}}
        image = str(lab.act(id, body, version="2.45")["image_id"])
        assert status(lab, id) == ("ACTIVE", "image_backup")
        upload(lab, image, host)
        return image

    first = back_up("a", "daily", 2)
    back_up("w", "weekly", 1)
    back_up("b", "daily", 2)
    back_up("c", "daily", 2)
    assert {i["name"] for i in images(lab, image_type="backup")} == {"b", "c", "w"}
    assert not lab.files.path(first).exists()
    back_up("d", "daily", 0)
    assert {i["name"] for i in images(lab, image_type="backup")} == {"w"}


def test_what_others_call_its_backups_crowds_none_out(lab: Lab) -> None:
    id = lab.booted()
    host = lab.show(id, by=ROOT)["OS-EXT-SRV-ATTR:host"]

    def back_up() -> str:
        body = {"createBackup": {"name": "b", "backup_type": "daily", "rotation": 1}}
        image = str(lab.act(id, body, version="2.45")["image_id"])
        upload(lab, image, host)
        return image

    first = back_up()

    def forge(tx: Tx) -> None:
        made = tx.get(Image, first)
        assert made is not None
        tx.insert(replace(made, id=str(uuid.uuid4()), project_id="p2", created_at="9"))

    lab.store.write_sync(forge)
    second = back_up()
    kept = [image["id"] for image in images(lab, image_type="backup")]
    assert second in kept
    assert first not in kept
    with lab.store.read() as reader:
        assert reader.count(Image, project_id="p2") == 1


def test_an_image_that_the_host_cannot_make_goes_and_the_server_stays(lab: Lab) -> None:
    id = lab.booted()
    image = image_of(lab, id)
    told(lab, id, image, "failed", "no space")
    assert status(lab, id) == ("ACTIVE", None)
    lab.ask("GET", f"/image/v2/images/{image}", status=404)
    action = lab.ask("GET", f"/servers/{id}/os-instance-actions")["instanceActions"][0]
    assert "no space" in action["message"]


def test_an_image_that_is_deleted_meanwhile_is_not_waited_for(lab: Lab) -> None:
    id = lab.booted()
    image = image_of(lab, id)
    lab.ask("DELETE", f"/image/v2/images/{image}")
    told(lab, id, image, "taking")
    assert status(lab, id) == ("ACTIVE", None)
    with pytest.raises(NotFound):
        upload(lab, image, lab.show(id, by=ROOT)["OS-EXT-SRV-ATTR:host"])
    assert not lab.files.path(image).exists()


def test_a_host_uploads_no_image_that_it_was_not_asked_for(lab: Lab) -> None:
    id = lab.booted()
    image = image_of(lab, id)
    own = lab.show(id, by=ROOT)["OS-EXT-SRV-ATTR:host"]
    other = "h2" if own == "h1" else "h1"
    for host, target in ((other, image), (own, IMAGE), (own, "../../etc/passwd")):
        with pytest.raises(NotFound):
            upload(lab, target, host)
    path, headers = f"/image/v2/images/{image}/file", {"content-type": "application/octet-stream"}
    lab.loop.run_until_complete(lab.call("PUT", path, headers=headers, content=DISK))
    with pytest.raises(Conflict):
        upload(lab, image, own)
    assert lab.files.path(image).read_bytes() == DISK


def test_a_server_that_is_deleted_takes_its_unfinished_image_along(lab: Lab) -> None:
    id = lab.booted()
    image = image_of(lab, id)
    lab.ask("DELETE", f"/servers/{id}")
    lab.ask("GET", f"/image/v2/images/{image}", status=404)


def test_a_state_that_is_reset_waits_for_no_image(lab: Lab) -> None:
    id = lab.booted()
    image_of(lab, id)
    lab.act(id, {"os-resetState": {"state": "active"}}, by=ROOT)
    assert status(lab, id) == ("ACTIVE", None)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"createImage": {}}, "createImage.name"),
        ({"createImage": {"name": ""}}, "createImage.name"),
        ({"createImage": {"name": "a", "metadata": []}}, "createImage.metadata"),
        ({"createImage": {"name": "a", "bogus": 1}}, "bogus"),
        ({"createImage": []}, "createImage"),
        ({"createBackup": {"name": "a", "backup_type": "daily"}}, "createBackup.rotation"),
        ({"createBackup": {"name": "a", "backup_type": "daily", "rotation": -1}}, "createBackup.rotation"),
        ({"createBackup": {"name": "a", "backup_type": 1, "rotation": 1}}, "createBackup.backup_type"),
    ],
)
def test_a_bad_request_for_an_image_is_refused_by_name(lab: Lab, body: Any, named: str) -> None:
    id = lab.booted()
    assert named in lab.act(id, body, status=400)["badRequest"]["message"]
    assert status(lab, id) == ("ACTIVE", None)
    assert [i["name"] for i in images(lab)] == ["tiny"]
