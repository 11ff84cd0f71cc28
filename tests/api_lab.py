"""All four APIs as the control process joins them, on a seeded store: over ASGI, or behind a socket."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from trunkline.api import wiring
from trunkline.api.app import application
from trunkline.api.appliance import Figures
from trunkline.api.http import Service
from trunkline.api.identity import Cost, IdentityOptions
from trunkline.api.image import register_image
from trunkline.control import seed
from trunkline.devices.image_files import ImageFiles
from trunkline.devices.state import Cloud, StateFolder
from trunkline.resources.region import Host
from trunkline.store import Store

BASE = "http://127.0.0.1:9696"
#: Whose requests are made: user -> (project, role).
CALLERS = {
    "demo": ("demo", "member"),
    "admin": ("admin", "admin"),
    "rita": ("demo", "reader"),
    "otto": ("other", "member"),
}


class ApiLab:
    """One cloud's control plane, without daemons."""

    def __init__(self, folder: Path) -> None:
        self.folder = StateFolder(folder)
        self.folder.make_folders()
        self.database = folder / "db" / "trunkline.sqlite"
        self.store = Store.open(self.database)
        self.files = ImageFiles(folder / "images", max_bytes=4 * 1024 * 1024)
        options = IdentityOptions(cost=Cost(passes=1, kibibytes=64), user_rate=None, source_rate=None)
        #: What hosts tell of units of appliances all the time.
        self.figures = Figures()
        keys = folder / "keys" / "tokens"
        self.api = wiring.build(self.store, self.files, keys=keys, options=options, figures=self.figures)
        self.app = application(self.api.services, self.api.identity.authenticate)
        self.loop = asyncio.new_event_loop()
        transport = httpx.ASGITransport(self.app)
        self.client = httpx.AsyncClient(transport=transport, base_url=BASE, timeout=30)
        self.run(seed.run(self.store, self.api, self.folder, Cloud(tag="0000", api_port=9696)))
        self.projects: dict[str, str] = {}
        self.users: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self._people()
        self._host_and_image()

    def _people(self) -> None:
        passwords = json.loads((self.folder.root / "keys" / "passwords.json").read_text())
        self.tokens["admin"] = self._log_in("admin", passwords["admin"], "admin")
        self.tokens["demo"] = self._log_in("demo", passwords["demo"], "demo")
        self.projects["other"] = self.ok("POST", "/identity/v3/projects", {"project": {"name": "other"}})[
            "project"
        ]["id"]
        for project in self.ok("GET", "/identity/v3/projects")["projects"]:
            self.projects[project["name"]] = project["id"]
        roles = {role["name"]: role["id"] for role in self.ok("GET", "/identity/v3/roles")["roles"]}
        for name, (project_name, role) in CALLERS.items():
            if name not in self.tokens:
                body = {"user": {"name": name, "password": "secret"}}
                user = self.ok("POST", "/identity/v3/users", body)["user"]["id"]
                grant = (
                    f"/identity/v3/projects/{self.projects[project_name]}/users/{user}/roles/{roles[role]}"
                )
                self.ok("PUT", grant)
                self.tokens[name] = self._log_in(name, "secret", project_name)
        for user in self.ok("GET", "/identity/v3/users")["users"]:
            self.users[user["name"]] = user["id"]

    def _log_in(self, user: str, password: str, project: str) -> str:
        domain = {"id": "default"}
        auth = {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"name": user, "domain": domain, "password": password}},
            },
            "scope": {"project": {"name": project, "domain": domain}},
        }
        reply = self.ask("POST", "/identity/v3/auth/tokens", {"auth": auth}, by=None)
        assert reply.status_code == 201, reply.text
        return reply.headers["x-subject-token"]

    def _host_and_image(self) -> None:
        """A host that servers can be placed on, and an image that they can be made from."""
        host = Host(
            id="h1", alive=True, vcpus=64, memory_mib=65536, disk_gib=1000, physical_networks=["physnet1"]
        )
        #: One that was seen once, with another physical network.
        dead = Host(id="h0", physical_networks=["physnet2"])
        self.store.write_sync(lambda tx: [tx.insert(each) for each in (host, dead)])
        self.image = "6e1b6f3a-0f0b-4c3e-9a55-0123456789ab"
        file = self.files.path(self.image)
        file.write_bytes(b"\0" * 1024)
        facts = self.files.describe(file, "raw")
        self.store.write_sync(
            lambda tx: register_image(
                tx, self.image, "tiny", facts, disk_format="raw", project_id=self.projects["admin"]
            )
        )

    def run(self, what: Any) -> Any:
        """Runs a coroutine."""
        return self.loop.run_until_complete(what)

    def headers(self, by: str | None) -> dict[str, str]:
        """What says who asks."""
        return {} if by is None else {"x-auth-token": self.tokens[by]}

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        by: str | None = "admin",
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        params: Sequence[tuple[str, str]] | None = None,
    ) -> httpx.Response:
        """One request."""
        given = {**self.headers(by), **(headers or {})}
        kind: dict[str, Any] = {"json": body} if content is None else {"content": content}
        if params is not None:
            kind["params"] = list(params)
        return self.run(self.client.request(method, path, headers=given, **kind))

    def ok(self, method: str, path: str, body: Any = None, *, by: str | None = "admin", **more: Any) -> Any:
        """One request that succeeds; its body."""
        reply = self.ask(method, path, body, by=by, **more)
        assert reply.status_code < 300, f"{method} {path} {body}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    @property
    def services(self) -> Mapping[str, Service]:
        """By name."""
        return {service.name: service for service in self.api.services}

    def contents(self) -> Mapping[str, str]:
        """A digest of every table, claims included: equal where nothing at all was changed."""
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True) as connection:
            connection.execute("BEGIN")
            names = [
                row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            ]
            return {
                name: hashlib.sha256(
                    repr(sorted(map(repr, connection.execute(f'SELECT * FROM "{name}"')))).encode()
                ).hexdigest()
                for name in names
            }

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Fails where the store's contents are not the same afterwards."""
        before = self.contents()
        yield
        after = self.contents()
        assert after == before, [name for name in after if after[name] != before.get(name)]

    @contextmanager
    def served(self) -> Iterator[tuple[str, int]]:
        """The application behind a socket, as the control process serves it."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            config = uvicorn.Config(
                self.app, lifespan="off", ws="none", log_config=None, access_log=False, server_header=False
            )
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()
            until = time.monotonic() + 10
            while not server.started:
                assert time.monotonic() < until, "uvicorn did not start"
                time.sleep(0.01)
            yield listener.getsockname()
            server.should_exit = True
            thread.join(10)

    def close(self) -> None:
        """Lets go of everything."""
        self.run(self.client.aclose())
        self.loop.close()
        self.api.identity.close()
        self.store.close()


def message_of(service: str, reply: httpx.Response) -> str:
    """The message of an error, which must have the form of its service."""
    if reply.status_code < 400:
        return ""
    body = reply.json()
    if service == "network":
        if reply.status_code == 401:
            return str(body["error"]["message"])
        assert set(body) == {"NeutronError"}, body
        assert set(body["NeutronError"]) == {"type", "message", "detail"}
        return str(body["NeutronError"]["message"])
    if service == "load-balancer":
        assert set(body) == {"faultcode", "faultstring", "debuginfo"}, body
        return str(body["faultstring"])
    if service == "compute":
        (fault,) = body.values()
        assert fault["code"] == reply.status_code, body
        return str(fault["message"])
    assert set(body) == {"error"}, body
    assert body["error"]["code"] == reply.status_code
    return str(body["error"]["message"])
