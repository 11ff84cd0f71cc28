"""Metadata and tags of servers."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from trunkline.api.compute import changes, servers
from trunkline.api.compute.requests import clean_tag, clean_tags
from trunkline.api.compute.server_api import ServerApi
from trunkline.api.compute.wire import at, labels, only
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import BadField, BadRequest, NotFound
from trunkline.resources.compute import Server

_META = "os_compute_api:server-metadata:"
_TAGS = "os_compute_api:os-server-tags:"
#: Tags that a server may have.
MOST_TAGS = 50


class LabelApi:
    """The handlers of /v2.1/servers/{id}/metadata and /tags."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.servers = ServerApi(engine)

    async def _find(self, request: Request, rule: str) -> Server:
        return await self.engine.read(lambda reader: self.servers.find(reader, request, rule))

    # Metadata.

    async def metadata(self, request: Request, minor: int) -> Reply:
        """The metadata of a server."""
        return Reply({"metadata": (await self._find(request, f"{_META}index")).metadata})

    async def replace_metadata(self, request: Request, minor: int) -> Reply:
        """Gives a server this metadata and no other."""
        given = await self._given(request)
        return await self._relabel(request, "update_all", lambda old: given)

    async def add_metadata(self, request: Request, minor: int) -> Reply:
        """Adds metadata to a server."""
        given = await self._given(request)
        return await self._relabel(request, "create", lambda old: {**old, **given})

    async def item(self, request: Request, minor: int) -> Reply:
        """One entry of the metadata."""
        found = (await self._find(request, f"{_META}show")).metadata
        key = request.path["key"]
        if key not in found:
            raise _no_item(key)
        return Reply({"meta": {key: found[key]}})

    async def set_item(self, request: Request, minor: int) -> Reply:
        """Sets one entry of the metadata."""
        body, key = await request.json(), request.path["key"]
        if not isinstance(body, dict) or "meta" not in body:
            raise BadField("meta", "it is required.")
        only(body, {"meta"})
        given = labels("meta", body["meta"])
        if list(given) != [key]:
            raise BadRequest("Request body and URI mismatch: the body must have the key of the path alone.")
        await self._relabel(request, "update", lambda old: {**old, **given})
        return Reply({"meta": given})

    async def delete_item(self, request: Request, minor: int) -> Reply:
        """Removes one entry of the metadata."""
        key = request.path["key"]

        def without(old: dict[str, str]) -> dict[str, str]:
            if key not in old:
                raise _no_item(key)
            return {k: v for k, v in old.items() if k != key}

        await self._relabel(request, "delete", without)
        return Reply(status=204)

    async def _given(self, request: Request) -> dict[str, str]:
        body = await request.json()
        if not isinstance(body, dict) or "metadata" not in body:
            raise BadField("metadata", "it is required.")
        only(body, {"metadata"})
        return labels("metadata", body["metadata"])

    async def _relabel(
        self, request: Request, verb: str, change: Callable[[dict[str, str]], dict[str, str]]
    ) -> Reply:
        def run(call: Call, server: Server) -> dict[str, str]:
            changes.unlocked(call, server)
            new = change(server.metadata)
            servers.check_labels(call, server.project_id, new)
            if new != server.metadata:
                server = changes.save(call, replace(server, metadata=new))
            return server.metadata

        return Reply({"metadata": await self.servers.change(request, f"{_META}{verb}", run)})

    # Tags.

    async def tags(self, request: Request, minor: int) -> Reply:
        """The tags of a server."""
        return Reply({"tags": (await self._find(request, f"{_TAGS}index")).tags})

    async def replace_tags(self, request: Request, minor: int) -> Reply:
        """Gives a server these tags and no others."""
        body = await request.json()
        if not isinstance(body, dict) or "tags" not in body:
            raise BadField("tags", "it is required.")
        only(body, {"tags"})
        tags = list(clean_tags("tags", body["tags"]))
        return Reply({"tags": await self._retag(request, "update_all", lambda old: tags)})

    async def delete_tags(self, request: Request, minor: int) -> Reply:
        """Removes all tags."""
        await self._retag(request, "delete_all", lambda old: [])
        return Reply(status=204)

    async def has_tag(self, request: Request, minor: int) -> Reply:
        """Whether a server has a tag."""
        server = await self._find(request, f"{_TAGS}show")
        if request.path["tag"] not in server.tags:
            raise _no_tag(request)
        return Reply(status=204)

    async def add_tag(self, request: Request, minor: int) -> Reply:
        """Adds a tag."""
        tag = clean_tag("tag", request.path["tag"])
        fresh: list[bool] = []

        def add(old: list[str]) -> list[str]:
            fresh.append(tag not in old)
            if tag not in old and len(old) >= MOST_TAGS:
                raise BadField("tag", f"a server has at most {MOST_TAGS} tags.")
            return old if tag in old else [*old, tag]

        await self._retag(request, "update", add)
        if not fresh[-1]:
            return Reply(status=204)
        url = f"{request.base_url}{request.url_path}"
        return Reply(None, 201, {"location": url})

    async def delete_tag(self, request: Request, minor: int) -> Reply:
        """Removes a tag."""
        tag = request.path["tag"]

        def without(old: list[str]) -> list[str]:
            if tag not in old:
                raise _no_tag(request)
            return [t for t in old if t != tag]

        await self._retag(request, "delete", without)
        return Reply(status=204)

    async def _retag(
        self, request: Request, verb: str, change: Callable[[list[str]], list[str]]
    ) -> list[str]:
        def run(call: Call, server: Server) -> list[str]:
            changes.unlocked(call, server)
            new = change(server.tags)
            if new != server.tags:
                server = changes.save(call, replace(server, tags=new))
            return server.tags

        return await self.servers.change(request, f"{_TAGS}{verb}", run)


def _no_item(key: str) -> NotFound:
    return NotFound(f"Metadata item {key[:80]} was not found.")


def _no_tag(request: Request) -> NotFound:
    return NotFound(f"Server {request.path['id'][:80]} has no tag '{request.path['tag'][:80]}'")


def endpoints(engine: Engine) -> list[Endpoint]:
    """The paths of metadata and tags."""
    api = LabelApi(engine)
    meta, tags = "/v2.1/servers/{id}/metadata", "/v2.1/servers/{id}/tags"
    return [
        at("GET", meta, api.metadata, kind="server"),
        at("PUT", meta, api.replace_metadata, kind="server"),
        at("POST", meta, api.add_metadata, kind="server"),
        at("GET", f"{meta}/{{key}}", api.item, kind="server"),
        at("PUT", f"{meta}/{{key}}", api.set_item, kind="server"),
        at("DELETE", f"{meta}/{{key}}", api.delete_item, 204, kind="server"),
        at("GET", tags, api.tags, since=26, kind="server"),
        at("PUT", tags, api.replace_tags, since=26, kind="server"),
        at("DELETE", tags, api.delete_tags, 204, since=26, kind="server"),
        at("GET", f"{tags}/{{tag}}", api.has_tag, 204, since=26, kind="server"),
        at("PUT", f"{tags}/{{tag}}", api.add_tag, 201, since=26, kind="server"),
        at("DELETE", f"{tags}/{{tag}}", api.delete_tag, 204, since=26, kind="server"),
    ]
