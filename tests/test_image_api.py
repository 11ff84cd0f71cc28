"""The Image API: what is uploaded comes back, what is refused leaves nothing, who sees what."""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from compute_lab import Lab
from image_lab import ended
from msgspec.structs import replace

from trunkline.api.image.behaviour import referenced
from trunkline.devices.image_files import ImageFiles
from trunkline.errors import Unavailable
from trunkline.resources.compute import Server
from trunkline.resources.image import Image

BYTES = {"content-type": "application/octet-stream"}
PATCH = {"content-type": "application/openstack-images-v2.1-json-patch"}
V2 = "/image/v2/images"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


def qcow2(*, version: int = 3, backing: int = 0, features: int = 0, extension: bytes = b"") -> bytes:
    """A qcow2 header (docs/interop/qcow2.txt) of a disk of 1 MiB."""
    head = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", version, backing, 8 if backing else 0, 16, 2**20,
                       0, 1, 0, 0, 0, 0, 0)  # fmt: skip
    if version == 3:
        head += struct.pack(">QQQII", features, 0, 0, 4, 104)
    return (head + extension + struct.pack(">II", 0, 0)).ljust(65536, b"\0")


async def make(lab: Lab, caller: str = "ann@p1", **fields: Any) -> dict[str, Any]:
    body = {"name": "i", "disk_format": "raw", "container_format": "bare", **fields}
    reply = await lab.call("POST", V2, caller, json=body)
    assert reply.status_code == 201, reply.text
    return dict(reply.json())


async def put(lab: Lab, id: str, content: bytes | AsyncIterator[bytes], caller: str = "ann@p1") -> Any:
    return await lab.call("PUT", f"{V2}/{id}/file", caller, content=content, headers=BYTES)


def test_what_is_uploaded_is_downloaded_with_its_digests(lab: Lab) -> None:
    content = os.urandom(3_000_000)

    async def run() -> None:
        image = await make(lab)
        assert image["status"] == "queued"
        assert (await lab.call("GET", f"{V2}/{image['id']}/file")).status_code == 204
        assert (await put(lab, image["id"], content)).status_code == 204
        shown = (await lab.call("GET", f"{V2}/{image['id']}")).json()
        assert shown["status"] == "active"
        assert shown["size"] == shown["virtual_size"] == len(content)
        assert shown["checksum"] == hashlib.md5(content).hexdigest()
        assert (shown["os_hash_algo"], shown["os_hash_value"]) == (
            "sha512",
            hashlib.sha512(content).hexdigest(),
        )
        got = await lab.call("GET", f"{V2}/{image['id']}/file")
        assert got.content == content
        assert got.headers["content-md5"] == shown["checksum"]
        part = await lab.call("GET", f"{V2}/{image['id']}/file", headers={"range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, content[10:20])
        assert part.headers["content-range"] == f"bytes 10-19/{len(content)}"
        beyond = await lab.call("GET", f"{V2}/{image['id']}/file", headers={"range": "bytes=9000000-"})
        assert beyond.status_code == 416
        assert (await put(lab, image["id"], b"again")).status_code == 409

    asyncio.run(run())


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (qcow2(backing=4096), "backing file"),
        (qcow2(features=4), "external data file"),
        (qcow2(extension=struct.pack(">II", 0x44415441, 8) + b"/etc/pwd"), "external data file"),
        (qcow2(version=2, backing=4096), "backing file"),
        (qcow2()[:60], "cut short"),
        (os.urandom(4096), "content of the file is raw"),
        (b"KDMV" + bytes(4096), "content of the file is vmdk"),
    ],
)
def test_a_qcow2_that_is_none_or_names_other_files_is_refused_and_leaves_nothing(
    lab: Lab, content: bytes, why: str
) -> None:
    async def run() -> None:
        image = await make(lab, disk_format="qcow2")
        reply = await put(lab, image["id"], content)
        assert reply.status_code == 400
        assert why in reply.json()["error"]["message"]
        assert (await lab.call("GET", f"{V2}/{image['id']}")).json()["status"] == "queued"

    asyncio.run(run())
    assert list((lab.folder / "images").iterdir()) == []


def test_a_qcow2_image_has_the_size_of_its_disk_and_is_no_raw_image(lab: Lab) -> None:
    async def run() -> None:
        image = await make(lab, disk_format="qcow2")
        assert (await put(lab, image["id"], qcow2())).status_code == 204
        assert (await lab.call("GET", f"{V2}/{image['id']}")).json()["virtual_size"] == 2**20
        raw = await make(lab)
        assert (await put(lab, raw["id"], qcow2())).status_code == 400

    asyncio.run(run())


def test_an_upload_that_breaks_off_leaves_the_image_queued_and_no_file(lab: Lab) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield bytes(2_000_000)
        raise ConnectionError("gone")

    async def run() -> None:
        image = await make(lab)
        with pytest.raises(ConnectionError):
            await lab.files.receive(image["id"], content(), "raw")
        assert list((lab.folder / "images").iterdir()) == []
        assert (await put(lab, image["id"], b"x" * 512)).status_code == 204

    asyncio.run(run())


def test_while_content_comes_nothing_else_becomes_of_the_image(lab: Lab) -> None:
    """Two uploads that overlap, and a format that changes meanwhile, end with one image that is whole."""

    async def run() -> None:
        id, url = (made := await make(lab))["id"], f"{V2}/{made['id']}"
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def content() -> AsyncIterator[bytes]:
            yield b"a" * 512
            begun.set()
            await go_on.wait()
            yield b"a" * 512

        upload = asyncio.create_task(put(lab, id, content()))
        await begun.wait()
        assert (await lab.call("GET", url)).json()["status"] == "saving"
        assert (await put(lab, id, b"b" * 512)).status_code == 409
        changed = [{"op": "replace", "path": "/disk_format", "value": "qcow2"}]
        assert (await lab.call("PATCH", url, json=changed, headers=PATCH)).status_code == 403
        go_on.set()
        assert (await upload).status_code == 204
        assert (await lab.call("GET", f"{url}/file")).content == b"a" * 1024

    asyncio.run(run())


def test_an_upload_that_a_killed_process_left_can_be_begun_again(lab: Lab) -> None:
    async def run() -> None:
        id = (await make(lab))["id"]
        await lab.store.write(lambda tx: tx.replace(replace(tx.get(Image, id), status="saving")))
        lab.files.path(id).write_bytes(b"not known to be whole")
        await lab.imports.recover()
        assert (await lab.call("GET", f"{V2}/{id}")).json()["status"] == "queued"
        assert list((lab.folder / "images").iterdir()) == []
        assert (await put(lab, id, b"x" * 512)).status_code == 204

    asyncio.run(run())


def test_an_id_that_servers_run_from_is_not_given_to_another_image(lab: Lab) -> None:
    """Its file stays when the image is deleted: what they are made anew from is not for others to choose."""
    image = "0b8e8f4e-6a2c-4d3a-9b1a-5f1d7c2e9a10"
    server = Server(id="4f0d4c7e-9c22-4f3c-8d2f-6d1a3a7c9b11", name="s", project_id="p1", image_id=image)

    async def run() -> None:
        await lab.store.write(lambda tx: tx.insert(server))
        body = {"id": image, "disk_format": "raw", "container_format": "bare"}
        assert (await lab.call("POST", V2, "bob@p2", json=body)).status_code == 409
        await lab.store.write(lambda tx: tx.delete(Server, server.id))
        assert (await lab.call("POST", V2, "bob@p2", json=body)).status_code == 201

    asyncio.run(run())


def test_images_leave_room_for_the_store(lab: Lab) -> None:
    files = ImageFiles(lab.folder / "images", spare=2**62)

    async def content() -> AsyncIterator[bytes]:
        yield bytes(512)

    with pytest.raises(Unavailable, match="no space left"):
        asyncio.run(files.receive("0b8e8f4e-6a2c-4d3a-9b1a-5f1d7c2e9a10", content(), "raw"))
    assert list((lab.folder / "images").iterdir()) == []


def test_an_image_larger_than_the_limit_is_refused(lab: Lab) -> None:
    async def run() -> None:
        image = await make(lab)
        reply = await put(lab, image["id"], bytes(9 * 1024 * 1024))
        assert reply.status_code == 400
        assert "larger than" in reply.json()["error"]["message"]

    asyncio.run(run())
    assert list((lab.folder / "images").iterdir()) == []


def test_staged_content_becomes_the_image_by_import(lab: Lab) -> None:
    async def run() -> None:
        image = await make(lab)
        url = f"{V2}/{image['id']}"
        assert (await lab.call("PUT", f"{url}/stage", content=b"a" * 600, headers=BYTES)).status_code == 204
        assert (await lab.call("GET", url)).json()["status"] == "uploading"
        wrong = await lab.call("POST", f"{url}/import", json={"method": {"name": "web-download"}})
        assert wrong.status_code == 400
        reply = await lab.call("POST", f"{url}/import", json={"method": {"name": "glance-direct"}})
        assert reply.status_code == 202
        task = await ended(lab, image["id"])
        assert (task["status"], task["type"]) == ("success", "api_image_import")
        assert task["request_id"] == reply.headers["x-openstack-request-id"]
        assert (await lab.call("GET", f"{url}/file")).content == b"a" * 600

    asyncio.run(run())


def test_properties_and_fields_change_by_both_forms_of_patch(lab: Lab) -> None:
    async def run() -> None:
        image = await make(lab, hw_disk_bus="virtio")
        url = f"{V2}/{image['id']}"
        assert image["hw_disk_bus"] == "virtio"
        ops = [
            {"op": "replace", "path": "/name", "value": "new"},
            {"op": "add", "path": "/os_distro", "value": "debian"},
            {"op": "remove", "path": "/hw_disk_bus"},
            {"op": "add", "path": "/a~1b", "value": "slash"},
        ]
        changed = (await lab.call("PATCH", url, json=ops, headers=PATCH)).json()
        assert (changed["name"], changed["os_distro"], changed["a/b"]) == ("new", "debian", "slash")
        assert "hw_disk_bus" not in changed
        old = {"content-type": "application/openstack-images-v2.0-json-patch"}
        again = await lab.call("PATCH", url, json=[{"replace": "/name", "value": "older"}], headers=old)
        assert again.json()["name"] == "older"
        for op, status in (
            ({"op": "replace", "path": "/status", "value": "active"}, 403),
            ({"op": "remove", "path": "/name"}, 403),
            ({"op": "replace", "path": "/nothing", "value": "x"}, 409),
            ({"op": "replace", "path": "/min_ram", "value": -1}, 400),
            ({"op": "replace", "path": "/name"}, 400),
            ({"op": "jump", "path": "/name", "value": ""}, 400),
            ({"op": "add", "path": "/visibility", "value": "public"}, 403),
            ({"op": "add", "path": "/os_glance_x", "value": "y"}, 403),
            ({"op": "add", "path": "/p", "value": 1}, 400),
        ):
            assert (await lab.call("PATCH", url, json=[op], headers=PATCH)).status_code == status, op
        assert (await lab.call("PATCH", url, json=[])).status_code == 415

    asyncio.run(run())


def test_who_sees_an_image(lab: Lab) -> None:
    async def ids(caller: str, query: str = "") -> set[str]:
        reply = await lab.call("GET", f"{V2}{query}", caller)
        assert reply.status_code == 200, reply.text
        return {image["id"] for image in reply.json()["images"]}

    async def run() -> None:
        assert (await lab.call("POST", V2, json={"visibility": "public"})).status_code == 403
        public = (await make(lab, "root@p0:admin", visibility="public"))["id"]
        private = (await make(lab, visibility="private"))["id"]
        shared = (await make(lab, visibility="shared"))["id"]
        community = (await make(lab, visibility="community"))["id"]
        assert await ids("ann@p1") == {public, private, shared, community}
        assert await ids("bob@p2") == {public}
        assert await ids("bob@p2", "?visibility=community") == {community}
        assert (await lab.call("GET", f"{V2}/{private}", "bob@p2")).status_code == 404
        assert (await lab.call("GET", f"{V2}/{community}", "bob@p2")).status_code == 200
        assert (await lab.call("GET", f"{V2}/{shared}", "bob@p2")).status_code == 404
        assert (await lab.call("DELETE", f"{V2}/{public}", "bob@p2")).status_code == 403

        members = f"{V2}/{shared}/members"
        assert (await lab.call("POST", members, json={"member": "p2"})).json()["status"] == "pending"
        assert (await lab.call("POST", members, json={"member": "p2"})).status_code == 409
        assert (await lab.call("GET", f"{V2}/{shared}", "bob@p2")).status_code == 200
        assert await ids("bob@p2") == {public}
        assert await ids("bob@p2", "?visibility=shared&member_status=pending") == {shared}
        owner = await lab.call("PUT", f"{members}/p2", json={"status": "accepted"})
        assert owner.status_code == 403
        accepted = await lab.call("PUT", f"{members}/p2", "bob@p2", json={"status": "accepted"})
        assert accepted.json()["status"] == "accepted"
        assert await ids("bob@p2") == {public, shared}
        assert (await lab.call("GET", members, "eve@p3")).status_code == 404
        assert (await lab.call("DELETE", f"{members}/p2", "bob@p2")).status_code == 403
        assert (await lab.call("DELETE", f"{members}/p2")).status_code == 204
        assert (await lab.call("GET", f"{V2}/{shared}", "bob@p2")).status_code == 404

    asyncio.run(run())


def test_lists_are_filtered_sorted_and_paged(lab: Lab) -> None:
    async def names(query: str) -> list[str]:
        reply = await lab.call("GET", f"{V2}?{query}")
        assert reply.status_code == 200, reply.text
        return [image["name"] for image in reply.json()["images"]]

    async def run() -> None:
        for name, size in (("a", 600), ("b", 900), ("c", 1200)):
            image = await make(lab, name=name, tags=[f"t{name}"], colour=name)
            await put(lab, image["id"], bytes(size))
        await make(lab, name="d", os_hidden=True, disk_format="qcow2")
        assert await names("sort=size:desc") == ["c", "b", "a"]
        assert await names("sort_key=name&sort_dir=asc") == ["a", "b", "c"]
        assert await names("size_min=700&size_max=1000") == ["b"]
        assert await names("tag=tb") == ["b"]
        assert await names("colour=c") == ["c"]
        assert await names("name=in:a,c&sort=name:asc") == ["a", "c"]
        assert await names("os_hidden=true") == ["d"]
        assert await names("created_at=gte:2020-01-01T00:00:00Z&sort=name:asc&disk_format=raw") == list("abc")
        assert await names("status=queued") == []
        seen: list[str] = []
        url = "/v2/images?limit=2&sort=name:asc"
        while url:
            page = (await lab.call("GET", f"/image{url}")).json()
            seen += [image["name"] for image in page["images"]]
            url = page.get("next", "")
        assert seen == ["a", "b", "c"]
        for bad in ("limit=-1", "sort=zz", "visibility=no", "size_min=x", "created_at=never", "marker=none"):
            assert (await lab.call("GET", f"{V2}?{bad}")).status_code == 400, bad

    asyncio.run(run())


def test_a_protected_image_stays_and_a_deactivated_one_is_not_read(lab: Lab) -> None:
    async def run() -> None:
        image = await make(lab, protected=True)
        url = f"{V2}/{image['id']}"
        await put(lab, image["id"], b"x" * 700)
        assert (await lab.call("DELETE", url)).status_code == 403
        assert (await lab.call("POST", f"{url}/actions/deactivate")).status_code == 204
        assert (await lab.call("GET", f"{url}/file")).status_code == 403
        assert (await lab.call("POST", f"{url}/actions/reactivate")).status_code == 204
        assert (await lab.call("GET", f"{url}/file")).status_code == 200
        ops = [{"op": "replace", "path": "/protected", "value": False}]
        assert (await lab.call("PATCH", url, json=ops, headers=PATCH)).status_code == 200
        assert (await lab.call("DELETE", url)).status_code == 204
        assert (await lab.call("GET", url)).status_code == 404

    asyncio.run(run())
    assert list((lab.folder / "images").iterdir()) == []


def test_tags_are_added_and_removed(lab: Lab) -> None:
    async def run() -> None:
        url = f"{V2}/{(await make(lab))['id']}"
        assert (await lab.call("PUT", f"{url}/tags/one")).status_code == 204
        assert (await lab.call("GET", url)).json()["tags"] == ["one"]
        assert (await lab.call("DELETE", f"{url}/tags/two")).status_code == 404
        assert (await lab.call("DELETE", f"{url}/tags/one")).status_code == 204
        assert (await lab.call("PUT", f"{url}/tags/{'x' * 300}")).status_code == 400

    asyncio.run(run())


@pytest.mark.parametrize(
    "body",
    [
        {"name": 1},
        {"name": "x" * 256},
        {"disk_format": "floppy"},
        {"min_ram": -1},
        {"min_ram": 2**40},
        {"protected": "yes"},
        {"tags": ["x" * 256]},
        {"tags": "t"},
        {"id": "../../etc/passwd"},
        {"prop": 1},
        {"prop": "a\x00b"},
        {"x" * 300: "v"},
        {"visibility": "everybody"},
        [],
        "text",
    ],
)
def test_bad_input_is_refused_by_name(lab: Lab, body: Any) -> None:
    async def run() -> None:
        reply = await lab.call("POST", V2, json=body)
        assert reply.status_code == 400
        if isinstance(body, dict):
            assert next(iter(body))[:80] in reply.json()["error"]["message"]

    asyncio.run(run())


def test_versions_and_schemas_are_served(lab: Lab) -> None:
    async def run() -> None:
        top = await lab.call("GET", "/image/")
        assert (top.status_code, top.json()["versions"][0]["status"]) == (300, "CURRENT")
        for name in ("image", "images", "member", "members"):
            assert (await lab.call("GET", f"/image/v2/schemas/{name}")).json()["name"] == name

    asyncio.run(run())


def test_files_that_no_image_and_no_server_needs_are_removed_when_they_are_old(lab: Lab) -> None:
    async def run() -> None:
        kept = (await make(lab))["id"]
        await put(lab, kept, b"x" * 512)
        stray = lab.files.path("00000000-0000-0000-0000-00000000abcd")
        stray.write_bytes(b"y")
        needed = await lab.engine.read(referenced)
        assert await lab.files.prune(needed) == set()
        assert await lab.files.prune(needed, older_than=-1.0) == {stray.name}
        assert lab.files.ids() == {kept}

    asyncio.run(run())
