"""The Image API v2: paths, flat bodies, errors.

Source: the OpenStack Image Service API v2 reference.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlencode

from msgspec.structs import replace

from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request, Service
from trunkline.api.image import filters, metadefs, patch, schemas
from trunkline.api.image.behaviour import STORE, Files, activate, give_up, referenced
from trunkline.api.image.imports import Imports
from trunkline.api.image.members import endpoints as member_endpoints
from trunkline.errors import BadField, BadRequest, Conflict, Forbidden, Refusal
from trunkline.resources.image import BOOTABLE, CONTAINER_FORMATS, DISK_FORMATS, Image
from trunkline.resources.schema import refuse_unstorable, spec_of

log = logging.getLogger(__name__)

#: The versions of the API that are served, the newest first.
VERSIONS = ("v2.9", "v2.7", "v2.6", "v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0")
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def error(refusal: Refusal, status: int, request_id: str) -> dict[str, Any]:
    """An error's body."""
    title = HTTPStatus(status).phrase
    return {"error": {"code": status, "title": title, "message": refusal.message}}


class ImageApi:
    """The handlers of the Image API."""

    def __init__(self, engine: Engine, files: Files, imports: Imports) -> None:
        self.engine = engine
        self.files = files
        self.imports = imports

    async def versions(self, request: Request) -> Reply:
        """What is served here."""
        choices = [
            {
                "id": version,
                "status": "CURRENT" if version == VERSIONS[0] else "SUPPORTED",
                "links": [{"rel": "self", "href": f"{request.base_url}/v2/"}],
            }
            for version in VERSIONS
        ]
        return Reply({"versions": choices}, 200 if request.url_path.startswith("/versions") else 300)

    async def create(self, request: Request) -> Reply:
        """Registers an image; its content comes by PUT to its file."""
        body = await request.json()
        if not isinstance(body, dict):
            raise BadRequest("The body of image must be a JSON object.")
        refuse_unstorable(body)
        spec = spec_of(Image)
        fields: dict[str, Any] = {}
        properties: dict[str, str] = {}
        for name, value in body.items():
            if name in spec.create_input.__struct_encode_fields__:
                fields[name] = value
            elif len(name) > 255:
                raise BadField(name[:80], "the name of a property has at most 255 characters.")
            else:
                patch.refuse_reserved(name)
                properties[name] = schemas.property_value(name, value)
        patch.limit_properties(properties)
        values = {**spec.parse_create(fields), "properties": properties}

        def run(call: Call) -> dict[str, Any]:
            return self.engine.render(call.tx, call.context, [call.create(Image, values)])[0]

        image = await self.engine.write(request.context, run)
        headers = {
            "location": f"{request.base_url}/v2/images/{image['id']}",
            "openstack-image-import-methods": ",".join(self.imports.methods()),
            "openstack-image-store-ids": STORE,
        }
        return Reply(image, 201, headers)

    async def list(self, request: Request) -> Reply:
        """A page of the images that the caller sees."""
        self.engine.require("get_images", request.context, {"project_id": request.context.project_id})
        page = await self.engine.page(
            request.context, Image, filters.parse(self.engine, request.context, request.query)
        )
        rest = [(name, value) for name, value in request.query if name != "marker"]
        body: dict[str, Any] = {
            "images": page.items,
            "first": _link("/v2/images", rest),
            "schema": "/v2/schemas/images",
        }
        if page.more and page.last:
            body["next"] = _link("/v2/images", [*rest, ("marker", page.last)])
        return Reply(body)

    async def show(self, request: Request) -> Reply:
        """One image."""
        self.engine.require("get_image", request.context, {"project_id": request.context.project_id})
        return Reply(await self.engine.show(request.context, Image, request.path["id"]))

    async def update(self, request: Request) -> Reply:
        """Changes an image by a JSON patch."""
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in (patch.V21, patch.V20):
            refusal = BadRequest(f"Content type '{media_type[:80]}' is not taken here. Use {patch.V21}.")
            headers = {"accept-patch": f"{patch.V21}, {patch.V20}"}
            return Reply(error(refusal, 415, ""), 415, headers)
        changes = patch.parse(await request.json(), media_type)

        def run(call: Call) -> dict[str, Any]:
            image = call.get(Image, request.path["id"])
            call.require("modify_image", self.engine.target(call.tx, image))
            image = call.update(image, patch.apply(image, changes))
            return self.engine.render(call.tx, call.context, [image])[0]

        return Reply(await self.engine.write(request.context, run))

    async def delete(self, request: Request) -> Reply:
        """Deletes an image. Its file stays for as long as servers run from it."""
        id = request.path["id"]
        await self.engine.delete(request.context, Image, id)
        self.imports.cancel(id)
        if id not in await self.engine.read(referenced):
            await self.files.remove(id)
        return Reply(status=204)

    async def upload(self, request: Request) -> Reply:
        """Takes the content of an image."""
        await self._receive(request, "upload_image", staged=False)
        return Reply(status=204)

    async def stage(self, request: Request) -> Reply:
        """Takes content aside, for a later import."""
        await self._receive(request, "upload_image", staged=True)
        return Reply(status=204)

    async def _receive(self, request: Request, rule: str, *, staged: bool) -> None:
        id = request.path["id"]
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/octet-stream":
            raise BadField("Content-Type", "the content of an image is sent as application/octet-stream.")

        def begin(call: Call) -> str:
            image = call.get(Image, id)
            call.require(rule, self.engine.target(call.tx, image))
            disk_format = self._ready(image)
            # From here on nobody else gives it content, and what is checked stays what it is said to be.
            call.save(_with_status(image, "saving"))
            return disk_format

        def end(call: Call) -> None:
            if staged:
                call.save(_with_status(call.get(Image, id), "uploading"))
            else:
                activate(call, id, facts)

        disk_format = await self.engine.write(request.context, begin)
        try:
            facts = await self.files.receive(id, request.raw.stream(), disk_format, staged=staged)
            await self.engine.write(request.context, end)
        except Exception:
            await give_up(self.engine, self.files, id)
            raise

    def _ready(self, image: Image) -> str:
        """The disk format of an image that content can be put into."""
        if image.status != "queued":
            raise Conflict(
                f"Image {image.id} is {image.status}: content can be uploaded to a queued image only."
            )
        for name in ("disk_format", "container_format"):
            if getattr(image, name) is None:
                raise BadField(name, "it must be set before the content is uploaded.")
        return str(image.disk_format)

    async def import_(self, request: Request) -> Reply:
        """Begins to make staged content, or content from elsewhere, an image's own."""
        await self.imports.start(request.context, request.path["id"], await request.json())
        return Reply(status=202)

    async def tasks(self, request: Request) -> Reply:
        """The imports of an image."""
        with self.engine.store.read() as reader:
            image = self.engine.get(reader, request.context, Image, request.path["id"])
            self.engine.require("upload_image", request.context, self.engine.target(reader, image))
            return Reply({"tasks": self.imports.tasks(reader, image)})

    async def download(self, request: Request) -> Reply:
        """The content of an image, or a range of it (RFC 9110, 14.2)."""
        with self.engine.store.read() as reader:
            image = self.engine.get(reader, request.context, Image, request.path["id"])
            target = self.engine.target(reader, image)
        if image.status == "deactivated" and not request.context.is_admin:
            raise Forbidden(f"Image {image.id} is deactivated: its content cannot be read.")
        self.engine.require("download_image", request.context, target)
        if image.status not in ("active", "deactivated") or not image.size:
            return Reply(status=204)
        first, last, status = 0, image.size - 1, 200
        asked = request.headers.get("range")
        if asked:
            found = _range(asked, image.size)
            if found is None:
                refusal = BadField("Range", f"'{asked[:80]}' lies outside the image's {image.size} bytes.")
                return Reply(error(refusal, 416, ""), 416, {"content-range": f"bytes */{image.size}"})
            first, last, status = *found, 206
        headers = {"content-length": str(last - first + 1), "accept-ranges": "bytes"}
        if status == 206:
            headers["content-range"] = f"bytes {first}-{last}/{image.size}"
        elif image.checksum:
            headers["content-md5"] = image.checksum
        if request.method == "HEAD":
            return Reply(None, status, headers)
        stream = self.files.read(image.id, first, last)
        return Reply(None, status, headers, "application/octet-stream", stream)

    async def deactivate(self, request: Request) -> Reply:
        """Stops downloads of an image, and servers from it."""
        return await self._switch(request, "deactivate", "deactivated", ("active", "deactivated"))

    async def reactivate(self, request: Request) -> Reply:
        """Undoes a deactivation."""
        return await self._switch(request, "reactivate", "active", ("active", "deactivated"))

    async def _switch(self, request: Request, rule: str, status: str, from_: tuple[str, ...]) -> Reply:
        def run(call: Call) -> None:
            image = call.get(Image, request.path["id"])
            call.require(rule, self.engine.target(call.tx, image))
            if image.status not in from_:
                raise Forbidden(f"Not allowed {rule} for image in status '{image.status}'.")
            if image.status != status:
                call.save(_with_status(image, status))

        await self.engine.write(request.context, run)
        return Reply(status=204)

    async def add_tag(self, request: Request) -> Reply:
        """Adds a tag."""
        tag = unquote(request.path["tag"])
        return await self._retag(request, lambda tags: tags if tag in tags else [*tags, tag])

    async def remove_tag(self, request: Request) -> Reply:
        """Removes a tag."""
        tag = unquote(request.path["tag"])
        return await self._retag(request, lambda tags: [t for t in tags if t != tag] if tag in tags else None)

    async def _retag(self, request: Request, change: Any) -> Reply:
        def run(call: Call) -> None:
            image = call.get(Image, request.path["id"])
            tags = change(image.tags)
            if tags is None:
                raise self.engine.missing(Image, f"{image.id} and the tag given")
            call.update(image, spec_of(Image).parse_update({"tags": tags}))

        await self.engine.write(request.context, run)
        return Reply(status=204)

    async def schema(self, request: Request) -> Reply:
        """The schema of an image, a member, or of a list of them."""
        name = request.path["name"]
        image, member = schemas.image_schema(), schemas.member_schema()
        documents: Mapping[str, Any] = {
            "image": image,
            "images": schemas.collection("images", image),
            "member": member,
            "members": schemas.collection("members", member),
        }
        if name not in documents:
            raise self.engine.missing(Image, f"schema {name}")
        return Reply(documents[name])

    async def info_import(self, request: Request) -> Reply:
        """The ways to import."""
        value = {
            "description": "Import methods available.",
            "type": "array",
            "value": self.imports.methods(),
        }
        return Reply({"import-methods": value})

    async def info_stores(self, request: Request) -> Reply:
        """The places where images are kept: the control plane's own folder."""
        return Reply(
            {"stores": [{"id": STORE, "description": "Files of the control plane", "default": "true"}]}
        )

    async def info_formats(self, request: Request) -> Reply:
        """The formats that images may be registered with."""
        return Reply(
            {
                "disk-formats": list(DISK_FORMATS),
                "container-formats": list(CONTAINER_FORMATS),
                "bootable": sorted(BOOTABLE),
            }
        )


def service(engine: Engine, files: Files, imports: Imports | None = None) -> Service:
    """The Image API."""
    api = ImageApi(engine, files, imports or Imports(engine, files))

    def at(method: str, path: str, handler: Any, success: int = 200, **more: Any) -> Endpoint:
        summary = (handler.__doc__ or "").strip().splitlines()[0]
        more.setdefault("kind", "image")
        return Endpoint(method, path, handler, summary=summary, success=success, **more)

    one = "/v2/images/{id}"
    return Service(
        name="image",
        prefix="/image",
        error=error,
        endpoints=[
            at("GET", "/", api.versions, 300, token=False),
            at("GET", "/versions", api.versions, token=False),
            at(
                "GET", "/v2/images", api.list, parameters=("limit", "marker", "sort", "name", "status", "tag")
            ),
            at("POST", "/v2/images", api.create, 201, request=schemas.image_schema()),
            at("GET", one, api.show),
            at("PATCH", one, api.update),
            at("DELETE", one, api.delete, 204),
            at("PUT", f"{one}/file", api.upload, 204),
            at("GET", f"{one}/file", api.download, also=(204,)),
            at("PUT", f"{one}/stage", api.stage, 204),
            at("POST", f"{one}/import", api.import_, 202),
            at("GET", f"{one}/tasks", api.tasks),
            at("POST", f"{one}/actions/deactivate", api.deactivate, 204),
            at("POST", f"{one}/actions/reactivate", api.reactivate, 204),
            at("PUT", f"{one}/tags/{{tag}}", api.add_tag, 204),
            at("DELETE", f"{one}/tags/{{tag}}", api.remove_tag, 204),
            *member_endpoints(engine),
            *metadefs.endpoints(engine),
            at("GET", "/v2/schemas/{name}", api.schema),
            at("GET", "/v2/info/import", api.info_import),
            at("GET", "/v2/info/stores", api.info_stores),
            at("GET", "/v2/info/formats", api.info_formats),
        ],
    )


def _with_status(image: Image, status: str) -> Image:
    return replace(image, status=status)


def _link(path: str, pairs: list[tuple[str, str]]) -> str:
    return f"{path}?{urlencode(pairs)}" if pairs else path


def _range(text: str, size: int) -> tuple[int, int] | None:
    """The first and last byte of a range, None where it cannot be satisfied."""
    match = _RANGE.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        return (size - length, size - 1) if length else None
    first = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    return (first, last) if first <= last else None
