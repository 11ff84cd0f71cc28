"""Imports: content that was staged, or that the cloud fetches itself, becomes an image's own.

    queued ──(stage)──▶ uploading ──(glance-direct)────┐
      │                                                ├──▶ importing ──▶ active
      └──(web-download, glance-download)───────────────┘        │
      ▲──────────────────────────── it failed ──────────────────┘

An import runs beside the request that asked for it; its `ImageTask` tells how it went. Imports that a
killed process left are told as failed by the next one, and their images are queued again.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from trunkline.api.context import CLOUD, Context
from trunkline.api.engine import Call, Engine
from trunkline.api.image.behaviour import STORE, Facts, Files, activate, give_up
from trunkline.errors import BadField, BadRequest, Conflict, NotFound, Refusal, Unavailable
from trunkline.resources.compute import Server
from trunkline.resources.identity import Endpoint, Service
from trunkline.resources.image import CONTAINER_FORMATS, DISK_FORMATS, Image, ImageTask
from trunkline.store import Reader

log = logging.getLogger(__name__)

#: Imports that run at a time; further ones wait.
_AT_ONCE = 4
#: The longest time that one takes, seconds.
_LONGEST = 6 * 3600
#: Tasks that are kept of an image.
_KEPT = 10
_DIRECT, _WEB, _OTHER = "glance-direct", "web-download", "glance-download"
#: What comes along from an image of another region: properties with these names, or that begin so.
_COPIED = ("hw_", "trait:", "os_distro", "os_secure_boot", "os_type")
_DESCRIPTION_LIMIT = 1024 * 1024
_KEYS = frozenset({"method", "stores", "all_stores", "all_stores_must_succeed"})
_METHOD_KEYS: Mapping[str, frozenset[str]] = {
    _DIRECT: frozenset({"name"}),
    _WEB: frozenset({"name", "uri"}),
    _OTHER: frozenset({"name", "glance_image_id", "glance_region", "glance_service_interface"}),
}


class Web(Protocol):
    """Where content is fetched from; `devices.web.Web` is one."""

    def offered(self) -> bool:
        """Whether anything may be fetched that a user names."""

    def check(self, url: str) -> None:
        """Raises BadField where a URL may not be fetched."""

    def get(
        self, url: str, headers: Mapping[str, str] | None = None, *, trusted: bool = False
    ) -> AsyncIterator[bytes]:
        """The content at a URL; `trusted` where it is the operator's own."""
        ...


class Imports:
    """Owns the imports under way."""

    def __init__(self, engine: Engine, files: Files, web: Web | None = None) -> None:
        self._engine = engine
        self._files = files
        self._web = web
        self._running: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    @property
    def running(self) -> int:
        """How many are under way."""
        return len(self._running)

    def methods(self) -> list[str]:
        """The ways to import that are offered."""
        if self._web is None:
            return [_DIRECT]
        return [_DIRECT, *([_WEB] if self._web.offered() else []), _OTHER]

    async def start(self, context: Context, id: str, body: Any) -> None:
        """Begins an import.

        Raises:
            BadField: the request is malformed, or asks for what is not offered.
            Conflict: the image is not in the state for it.
        """
        method = self._understand(body)

        def begin(call: Call) -> tuple[Image, ImageTask]:
            image = call.get(Image, id)
            call.require("upload_image", self._engine.target(call.tx, image))
            wanted = "uploading" if method["name"] == _DIRECT else "queued"
            if image.status != wanted:
                raise Conflict(
                    f"Image {id} is {image.status}: for an import by {method['name']} it must be {wanted}."
                )
            for name in ("disk_format", "container_format"):
                if getattr(image, name) is None:
                    raise BadField(name, "it must be set before the content is imported.")
            former = _of(call.tx, id)
            for old in former[: 1 - _KEPT]:
                call.drop(old)
            task = ImageTask(
                id=str(uuid.uuid4()),
                image_id=id,
                number=former[-1].number + 1 if former else 1,
                project_id=image.project_id,
                user_id=context.user_id,
                request_id=context.request_id,
                status="processing",
                input={"import_req": dict(body)},
                created_at=call.now,
                updated_at=call.now,
            )
            call.tx.insert(task)
            return call.save(replace(image, status="importing")), task

        image, task = await self._engine.write(context, begin)
        running = asyncio.create_task(self._run(context, image, task, method), name=f"import {id}")
        self._running[id] = running
        running.add_done_callback(lambda done: self._ended(id, done))

    def _ended(self, id: str, done: asyncio.Task[None]) -> None:
        if self._running.get(id) is done:
            del self._running[id]
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("the end of the import to image %s was not written", id, exc_info=error)

    def cancel(self, id: str) -> None:
        """Stops an import whose image is gone."""
        if id in self._running:
            self._running[id].cancel()

    def tasks(self, reader: Reader, image: Image) -> list[dict[str, Any]]:
        """The imports of an image, the oldest first, as the API shows them."""
        return [
            {
                "id": task.id,
                "type": "api_image_import",
                "image_id": task.image_id,
                "owner": task.project_id,
                "user_id": task.user_id,
                "request_id": task.request_id,
                "status": task.status,
                "message": task.message,
                "input": task.input,
                "result": {"image_id": image.id} if task.status == "success" else None,
                "created_at": task.created_at,
                "updated_at": task.updated_at,
                "expires_at": None,
            }
            for task in _of(reader, image.id)
        ]

    async def recover(self) -> None:
        """Tells of the imports that a former process did not bring to an end, and has images wait again whose
        upload it did not. Call it once, at the start, before there are requests.
        """

        def unfinished(reader: Reader) -> tuple[list[Image], set[str]]:
            # Hosts that make images of servers begin again by themselves.
            wanted = {s.snapshot.image_id for s in reader.select(Server) if s.snapshot is not None}
            uploads = {image.id for image in reader.find(Image, status="saving")} - wanted
            return reader.find(Image, status="importing"), uploads

        imports, uploads = await self._engine.read(unfinished)
        for image in imports:
            if image.id not in self._running:
                await self._fail(image.id, "The control process ended during the import. Import it again.")
        for id in uploads:
            await give_up(self._engine, self._files, id)

    def _understand(self, body: Any) -> Mapping[str, str]:
        method = body.get("method") if isinstance(body, dict) else None
        name = method.get("name") if isinstance(method, dict) else None
        if not isinstance(body, dict) or not isinstance(method, dict) or not isinstance(name, str):
            raise BadField("method.name", f"it is required. Use one of: {', '.join(self.methods())}.")
        for key in body.keys() - _KEYS:
            raise BadField(str(key), f"an import has no such field. Use: {', '.join(sorted(_KEYS))}.")
        if name not in self.methods():
            raise BadField(
                "method.name", f"'{name[:80]}' is not offered here. Use one of: {', '.join(self.methods())}."
            )
        known = _METHOD_KEYS[name]
        for key in method.keys() - known:
            raise BadField(f"method.{key}", f"{name} has no such field. Use: {', '.join(sorted(known))}.")
        for key, value in method.items():
            if not isinstance(value, str) or not 1 <= len(value) <= 2048:
                raise BadField(f"method.{key}", "it must be a text of 1 to 2048 characters.")
        for key in ("all_stores", "all_stores_must_succeed"):
            if not isinstance(body.get(key, False), bool):
                raise BadField(key, "it must be true or false.")
        check_stores(body.get("stores", [STORE]))
        if name == _WEB:
            if "uri" not in method:
                raise BadField("method.uri", "it is required.")
            assert self._web is not None
            self._web.check(method["uri"])
        if name == _OTHER:
            for key in ("glance_image_id", "glance_region"):
                if key not in method:
                    raise BadField(f"method.{key}", "it is required.")
            _image_id(method["glance_image_id"])
        return method

    async def _run(self, context: Context, image: Image, task: ImageTask, method: Mapping[str, str]) -> None:
        try:
            async with self._slots, asyncio.timeout(_LONGEST):
                facts, changes = await self._fetch(context, image, method)
            await self._finish(image.id, task, facts, changes)
        except asyncio.CancelledError:
            await self._files.remove(image.id)
            raise
        except Refusal as refusal:
            await self._fail(image.id, refusal.message)
        except TimeoutError:
            await self._fail(image.id, f"The content did not come within {_LONGEST} seconds.")
        except Exception:
            log.exception("the import to image %s failed", image.id)
            await self._fail(image.id, "The import failed for a reason that the operator's log tells.")

    async def _fetch(
        self, context: Context, image: Image, method: Mapping[str, str]
    ) -> tuple[Facts, dict[str, Any]]:
        disk_format = str(image.disk_format)
        if method["name"] == _DIRECT:
            return await self._files.import_staged(image.id, disk_format), {}
        assert self._web is not None
        if method["name"] == _WEB:
            content = self._web.get(method["uri"])
            return await self._files.receive(image.id, content, disk_format), {}
        base = await self._engine.read(lambda reader: _endpoint(reader, context, method))
        url = f"{base}/v2/images/{_image_id(method['glance_image_id'])}"
        headers = {"X-Auth-Token": context.token}
        changes = await self._described(url, headers)
        content = self._web.get(f"{url}/file", headers, trusted=True)
        return await self._files.receive(image.id, content, changes["disk_format"]), changes

    async def _described(self, url: str, headers: Mapping[str, str]) -> dict[str, Any]:
        """What comes along with the content of an image of another region."""
        assert self._web is not None
        text = b""
        async for piece in self._web.get(url, headers, trusted=True):
            text += piece
            if len(text) > _DESCRIPTION_LIMIT:
                raise Unavailable("The other region's description of the image is too long.")
        try:
            found = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.DecodeError:
            raise Unavailable("The other region's description of the image is not JSON.") from None
        if found.get("disk_format") not in DISK_FORMATS:
            raise BadRequest(f"Images with disk format {found.get('disk_format')} are not taken here.")
        if found.get("container_format") not in CONTAINER_FORMATS:
            raise BadRequest(
                f"Images with container format {found.get('container_format')} are not taken here."
            )
        copied = {k: v for k, v in found.items() if k.startswith(_COPIED) and isinstance(v, str)}
        return {
            "disk_format": found["disk_format"],
            "container_format": found["container_format"],
            "properties": copied,
        }

    async def _finish(self, id: str, task: ImageTask, facts: Facts, changes: dict[str, Any]) -> None:
        def end(call: Call) -> None:
            activate(call, id, facts)
            image = call.get(Image, id)
            if changes:
                properties = {**image.properties, **changes["properties"]}
                call.save(replace(image, **{**changes, "properties": properties}))
            call.tx.replace(replace(task, status="success", updated_at=call.now))

        try:
            await self._engine.write(CLOUD, end)
        except NotFound:
            await self._files.remove(id)

    async def _fail(self, id: str, message: str) -> None:
        """Puts an image back, and its task to failure; nothing stays of the content."""
        await self._files.remove(id)

        def end(call: Call) -> None:
            image = call.tx.get(Image, id)
            if image is not None and image.status == "importing":
                call.save(replace(image, status="queued"))
            for task in call.tx.find(ImageTask, image_id=id, status="processing"):
                call.tx.replace(replace(task, status="failure", message=message, updated_at=call.now))

        await self._engine.write(CLOUD, end)
        log.warning("the import to image %s failed: %s", id, message)


def check_stores(stores: Any) -> None:
    """Refuses stores that there are not.

    Raises:
        BadField: there are others than the one.
    """
    if not isinstance(stores, list) or not stores:
        raise BadField("stores", "it must be a list of stores. Leave it out for the default.")
    for store in stores:
        if store != STORE:
            raise BadField("stores", f"there is no store {str(store)[:80]}. Use {STORE}.")


def _of(reader: Reader, image_id: str) -> list[ImageTask]:
    """The imports of an image, the oldest first."""
    return sorted(reader.find(ImageTask, image_id=image_id), key=lambda task: task.number)


def _image_id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise BadField("method.glance_image_id", "the image id does not look like a UUID.") from None


def _endpoint(reader: Reader, context: Context, method: Mapping[str, str]) -> str:
    """The URL of the Image API of a region, from the catalog."""
    region, interface = method["glance_region"], method.get("glance_service_interface", "public")
    services = {each.id for each in reader.find(Service, type="image") if each.enabled}
    for endpoint in reader.select(Endpoint):
        if (
            endpoint.service_id in services
            and endpoint.enabled
            and (endpoint.region_id, endpoint.interface) == (region, interface)
        ):
            url = endpoint.url.replace("$(project_id)s", context.project_id)
            return url.replace("%(project_id)s", context.project_id).rstrip("/").removesuffix("/v2")
    raise Unavailable(
        f"The catalog has no {interface[:80]} endpoint of an Image API in region {region[:80]}."
    )
