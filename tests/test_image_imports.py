"""Imports: an image's content from a web server that is listed, or from another region; failures are told."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compute_lab import ROOT, Lab
from image_lab import ended, web_server
from msgspec.structs import replace

from trunkline.resources.identity import Endpoint, Service
from trunkline.resources.image import Image
from trunkline.store import Tx

V2 = "/image/v2/images"
CONTENT = bytes(range(256)) * 8000
OTHER = "5d2b6f3a-0f0b-4c3e-9a55-0123456789ab"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


async def make(lab: Lab, **fields: Any) -> str:
    body = {"name": "i", "disk_format": "raw", "container_format": "bare", **fields}
    return str((await lab.call("POST", V2, json=body)).json()["id"])


async def fetch(lab: Lab, id: str, uri: str, **more: Any) -> Any:
    method = {"name": "web-download", "uri": uri}
    return await lab.call("POST", f"{V2}/{id}/import", json={"method": method, **more})


async def show(lab: Lab, id: str) -> dict[str, Any]:
    return dict((await lab.call("GET", f"{V2}/{id}")).json())


def test_an_image_comes_from_a_listed_server(lab: Lab) -> None:
    async def run(port: int) -> None:
        lab.sources.write_text(f"- 127.0.0.1:{port}\n")
        id = await make(lab)
        uri = f"http://127.0.0.1:{port}/disk"
        assert (await fetch(lab, id, uri, stores=["local"], all_stores_must_succeed=True)).status_code == 202
        assert (await ended(lab, id))["status"] == "success"
        shown = await show(lab, id)
        assert (shown["status"], shown["size"], shown["stores"]) == ("active", len(CONTENT), "local")
        assert shown["os_hash_value"] == hashlib.sha512(CONTENT).hexdigest()
        assert (await fetch(lab, id, uri)).status_code == 409

    with web_server({"/disk": (302, {"Location": "/there"}, b""), "/there": (200, {}, CONTENT)}) as port:
        asyncio.run(run(port))


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/none", "404"),
        ("/away", "images are not fetched from 127.0.0.2:80"),
        ("/round", "redirections"),
        ("/short", "ended after"),
        ("/vmdk", "content of the file is vmdk"),
        ("/large", "larger than"),
    ],
)
def test_what_cannot_be_fetched_leaves_the_image_queued_and_says_why(lab: Lab, path: str, why: str) -> None:
    async def run(port: int) -> None:
        lab.sources.write_text(f"- 127.0.0.0/8:{port}\n")
        id = await make(lab)
        assert (await fetch(lab, id, f"http://127.0.0.1:{port}{path}")).status_code == 202
        task = await ended(lab, id)
        assert task["status"] == "failure"
        assert why in task["message"]
        shown = await show(lab, id)
        assert (shown["status"], shown["size"]) == ("queued", None)
        assert not list(lab.files.path(id).parent.iterdir())

    answers: dict[str, Any] = {
        "/away": (302, {"Location": "http://127.0.0.2/secret"}, b""),
        "/round": (302, {"Location": "/round"}, b""),
        "/short": (200, {"Content-Length": "99"}, b"only this"),
        "/vmdk": (200, {}, b"KDMV" + bytes(4096)),
        "/large": (200, {}, bytes(9 * 1024 * 1024)),
    }
    with web_server(answers) as port:
        asyncio.run(run(port))


@pytest.mark.parametrize(
    ("sources", "body", "named"),
    [
        (None, {"method": {"name": "web-download", "uri": "http://images.test/i"}}, "method.name"),
        ("- images.test", {"method": {"name": "web-download"}}, "method.uri"),
        ("- images.test", {"method": {"name": "web-download", "uri": "http://other.test/i"}}, "other.test"),
        ("- images.test", {"method": {"name": "web-download", "uri": "http://images.test/i"}, "x": 1}, "x"),
        (None, {"method": {"name": "glance-direct", "uri": "http://images.test/i"}}, "method.uri"),
        (None, {"method": {"name": "glance-direct"}, "stores": ["far"]}, "stores"),
        (None, {"method": {"name": "glance-direct"}, "all_stores": "yes"}, "all_stores"),
        (None, {"method": {"name": "glance-download", "glance_region": "r"}}, "method.glance_image_id"),
        (None, {"method": {"name": "copy-image"}}, "method.name"),
        (None, {"method": "glance-direct"}, "method.name"),
        (None, [], "method.name"),
    ],
)
def test_bad_imports_are_refused_by_name(lab: Lab, sources: str | None, body: Any, named: str) -> None:
    if sources is not None:
        lab.sources.write_text(sources)
    image = lab.ask("POST", V2, {"disk_format": "raw", "container_format": "bare"})["id"]
    reply = lab.ask("POST", f"{V2}/{image}/import", body, status=400)
    assert named in reply["error"]["message"]
    assert lab.ask("GET", f"{V2}/{image}/tasks")["tasks"] == []


def test_what_is_offered_is_told(lab: Lab) -> None:
    info = "/image/v2/info/import"
    assert lab.ask("GET", info)["import-methods"]["value"] == ["glance-direct", "glance-download"]
    lab.sources.write_text("- images.test")
    assert "web-download" in lab.ask("GET", info)["import-methods"]["value"]
    assert [store["id"] for store in lab.ask("GET", "/image/v2/info/stores")["stores"]] == ["local"]


def test_only_who_may_change_the_image_sees_its_imports(lab: Lab) -> None:
    body = {"disk_format": "raw", "container_format": "bare", "visibility": "public"}
    id = lab.ask("POST", V2, body, by=ROOT)["id"]
    lab.ask("GET", f"{V2}/{id}/tasks", by=ROOT, status=200)
    lab.ask("GET", f"{V2}/{id}/tasks", by="ann@p1", status=403)
    lab.ask("POST", f"{V2}/{id}/import", {"method": {"name": "glance-direct"}}, by="ann@p1", status=403)


def test_an_image_comes_from_another_region_with_the_callers_token(lab: Lab) -> None:
    description = {"disk_format": "raw", "container_format": "ovf", "hw_x": "1", "speed": "2", "os_type": "l"}
    asked: list[tuple[str, dict[str, str]]] = []

    async def run(port: int) -> None:
        def catalog(tx: Tx) -> None:
            tx.insert(Service(id="s", type="image"))
            url = f"http://127.0.0.1:{port}/image"
            tx.insert(Endpoint(id="e", service_id="s", interface="public", url=url, region_id="far"))

        await lab.store.write(catalog)
        id = await make(lab, disk_format="iso", os_type="w", hw_y="3")
        method = {"name": "glance-download", "glance_image_id": OTHER, "glance_region": "nowhere"}
        assert (await lab.call("POST", f"{V2}/{id}/import", json={"method": method})).status_code == 202
        failed = await ended(lab, id)
        assert (failed["status"], "nowhere" in failed["message"]) == ("failure", True)
        method["glance_region"] = "far"
        assert (await lab.call("POST", f"{V2}/{id}/import", json={"method": method})).status_code == 202
        assert (await ended(lab, id))["status"] == "success"
        shown = await show(lab, id)
        assert (shown["disk_format"], shown["container_format"], shown["status"]) == ("raw", "ovf", "active")
        assert (shown["hw_x"], shown["hw_y"], shown["os_type"]) == ("1", "3", "l")
        assert "speed" not in shown

    answers: dict[str, Any] = {
        f"/image/v2/images/{OTHER}": (200, {}, json.dumps(description).encode()),
        f"/image/v2/images/{OTHER}/file": (200, {}, CONTENT),
    }
    with web_server(answers, asked) as port:
        asyncio.run(run(port))
    assert [path.rpartition("/")[2] for path, _ in asked] == [OTHER, "file"]
    assert all("x-auth-token" in headers for _, headers in asked)


def test_an_import_that_a_killed_process_left_is_told_as_failed(lab: Lab) -> None:
    async def run() -> None:
        id = await make(lab)
        octets = {"content-type": "application/octet-stream"}
        await lab.call("PUT", f"{V2}/{id}/stage", content=b"x" * 600, headers=octets)
        await lab.call("POST", f"{V2}/{id}/import", json={"method": {"name": "glance-direct"}})
        await ended(lab, id)
        await lab.store.write(lambda tx: tx.replace(replace(tx.get(Image, id), status="importing")))
        await lab.imports.recover()
        assert (await show(lab, id))["status"] == "queued"
        assert not list(lab.files.path(id).parent.iterdir())

    asyncio.run(run())


def test_a_deleted_image_ends_its_import(lab: Lab) -> None:
    async def run(port: int) -> None:
        lab.sources.write_text(f"- 127.0.0.1:{port}\n")
        id = await make(lab)
        assert (await fetch(lab, id, f"http://127.0.0.1:{port}/disk")).status_code == 202
        assert (await lab.call("DELETE", f"{V2}/{id}")).status_code == 204
        async with asyncio.timeout(30):
            while lab.imports.running or list(lab.files.path(id).parent.iterdir()):
                await asyncio.sleep(0.02)
        assert (await lab.call("GET", f"{V2}/{id}/tasks")).status_code == 404

    with web_server({"/disk": (200, {}, CONTENT)}) as port:
        asyncio.run(run(port))
