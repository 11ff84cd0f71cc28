"""The Identity API over ASGI on a seeded store, and what tests of it say often."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from trunkline.api.app import application
from trunkline.api.engine import Engine
from trunkline.api.identity import STAGES, Cost, Identity, IdentityOptions, SeedOptions, seed
from trunkline.api.policy import DEFAULTS, Rules
from trunkline.store import Store

CHEAP = Cost(passes=1, kibibytes=64)
SECRET = "secret"


class IdentityLab:
    """One cloud's identity: users admin and demo with the password "secret"."""

    def __init__(self, folder: Path, options: IdentityOptions | None = None) -> None:
        self.now = float(int(time.time()))
        self.store = Store.open(folder / "db" / "store")
        rules = Rules.load([DEFAULTS / "base.yaml", DEFAULTS / "identity.yaml"])
        self.engine = Engine(self.store, rules, STAGES)
        options = options or IdentityOptions(cost=CHEAP)
        self.identity = Identity(self.engine, folder / "keys", options, clock=lambda: self.now)
        hashed = self.identity.passwords.hash_now(SECRET)
        self.options = SeedOptions(
            base_url="http://cloud", admin_password_hash=hashed, demo_password_hash=hashed
        )
        self.seeded = self.store.write_sync(lambda tx: seed(tx, self.options))
        self.app = application([self.identity.service], self.identity.authenticate)
        self._names = itertools.count(1)

    def close(self) -> None:
        self.identity.close()
        self.store.close()

    def run(self, claim: Callable[[Client], Any]) -> None:
        """Runs a test with a client, in an event loop."""

        async def inside() -> None:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://cloud") as http:
                await claim(Client(self, http))

        asyncio.run(inside())


class Client:
    """Requests, as somebody."""

    def __init__(self, lab: IdentityLab, http: httpx.AsyncClient, token: str = "") -> None:
        self.lab = lab
        self.http = http
        self.token = token

    def name(self, prefix: str) -> str:
        """A new name."""
        return f"{prefix}{next(self.lab._names)}"

    def using(self, token: str) -> Client:
        return Client(self.lab, self.http, token)

    async def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Any request below /v3."""
        sent = {"x-auth-token": self.token} if self.token else {}
        return await self.http.request(
            method, f"/identity/v3{path}", json=body, headers={**sent, **(headers or {})}
        )

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        """A request that succeeds; what stands in its envelope."""
        reply = await self.call(method, path, body)
        assert reply.status_code in (200, 201, 204), reply.text
        if reply.status_code == 204:
            return None
        return next(value for key, value in reply.json().items() if key != "links")

    async def status(self, method: str, path: str, body: Any = None) -> int:
        return (await self.call(method, path, body)).status_code

    async def make(self, kind: str, **fields: Any) -> Any:
        """Creates one of a kind."""
        fields.setdefault("name", self.name(kind))
        return await self.ok("POST", f"/{kind}s", {kind: fields})

    async def log_in(
        self,
        user: str | Mapping[str, Any] = "admin",
        scope: Any = None,
        *,
        password: str = SECRET,
    ) -> httpx.Response:
        """Logs in by password; a user's name is of the domain Default, a project's too."""
        who = {"name": user, "domain": {"id": "default"}} if isinstance(user, str) else dict(user)
        auth: dict[str, Any] = {
            "identity": {"methods": ["password"], "password": {"user": {**who, "password": password}}}
        }
        if scope is not None:
            auth["scope"] = scope
        return await self.call("POST", "/auth/tokens", {"auth": auth})

    async def as_user(self, user: str | Mapping[str, Any] = "admin", scope: Any = None) -> Client:
        """A client with a token of the user."""
        reply = await self.log_in(user, scope)
        assert reply.status_code == 201, reply.text
        return self.using(reply.headers["x-subject-token"])

    async def admin(self) -> Client:
        return await self.as_user("admin", project("admin"))

    async def valid(self) -> bool:
        """Whether the client's own token is good for anything."""
        reply = await self.call("GET", "/auth/tokens", headers={"x-subject-token": self.token})
        return reply.status_code == 200

    async def shown(self) -> Any:
        """What the client's own token says."""
        reply = await self.call("GET", "/auth/tokens", headers={"x-subject-token": self.token})
        assert reply.status_code == 200, reply.text
        return reply.json()["token"]


def project(name: str) -> dict[str, Any]:
    """The scope of a project of the domain Default."""
    return {"project": {"name": name, "domain": {"name": "Default"}}}


SYSTEM = {"system": {"all": True}}


def roles(token: Mapping[str, Any]) -> set[str]:
    return {role["name"] for role in token["roles"]}
