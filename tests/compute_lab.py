"""A control plane without hosts, for tests of the Compute and Image APIs: callers by a header, over ASGI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from starlette.requests import Request

from trunkline.api import image
from trunkline.api.app import application
from trunkline.api.context import Context
from trunkline.api.engine import Engine, Stages
from trunkline.api.policy import Rules
from trunkline.devices.image_files import ImageFiles
from trunkline.store import Store

ROLES = {
    "admin": frozenset({"admin", "manager", "member", "reader"}),
    "member": frozenset({"member", "reader"}),
    "reader": frozenset({"reader"}),
}


async def authenticate(request: Request) -> Context:
    """Takes `X-Caller: USER@PROJECT:ROLE` for a token."""
    caller = request.headers.get("x-caller")
    if caller is None:
        return Context()
    user, _, rest = caller.partition("@")
    project, _, role = rest.partition(":")
    return Context(
        user_id=user,
        user_name=user,
        project_id=project,
        roles=ROLES[role or "member"],
        is_admin=role == "admin",
    )


@dataclass
class Lab:
    """A store, the APIs on it, and a client."""

    folder: Path
    store: Store = field(init=False)
    engine: Engine = field(init=False)
    files: ImageFiles = field(init=False)

    def __post_init__(self) -> None:
        self.files = ImageFiles(self.folder / "images", max_bytes=8 * 1024 * 1024)
        self.store = Store.open(self.folder / "db" / "store")
        stages: dict[str, Stages[Any]] = {**image.STAGES}
        self.engine = Engine(self.store, Rules.load(), stages)
        self.app = application([image.service(self.engine, self.files)], authenticate)

    def client(self, caller: str = "ann@p1") -> httpx.AsyncClient:
        """An HTTP client of one caller."""
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url="http://cloud",
            headers={"x-caller": caller},
        )

    async def call(
        self, method: str, path: str, caller: str = "ann@p1", *, json: Any = None, **more: Any
    ) -> httpx.Response:
        """One request."""
        async with self.client(caller) as client:
            return await client.request(method, path, json=json, **more)

    def close(self) -> None:
        """Closes the store."""
        self.store.close()


def headers(**given: str) -> Mapping[str, str]:
    """Header names with hyphens."""
    return {name.replace("_", "-"): value for name, value in given.items()}
