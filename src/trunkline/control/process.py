"""The control process: everything above the hosts, joined.

    store ─▶ engine ─▶ APIs on loopback          (machine's own namespace)
      │
      ├────▶ loop ─▶ backend                     OVN's databases, by their unix sockets
      │        └───▶ directory ─▶ host channel   a socket in the namespace tlTAG-c
      ◀──────── observe ◀── backend, hosts

It can be killed at any instruction: what was acknowledged is in the store, all else is made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import secrets
import signal
import socket
import time
from functools import partial
from pathlib import Path

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.api import appliance, network, wiring
from trunkline.api.app import application
from trunkline.api.compute import snapshots
from trunkline.api.identity.keys import KeyRepository
from trunkline.api.image.behaviour import referenced
from trunkline.api.statuses import status_of
from trunkline.backends.contract import Backend, Observation
from trunkline.backends.ovn import OvnBackend
from trunkline.compiler.settings import Settings
from trunkline.compiler.snapshot import Snapshot
from trunkline.control import agents, appliance_metrics, channel, meters, observe, promises, seed, status
from trunkline.control.directory import RegionDirectory
from trunkline.control.loop import Loop
from trunkline.control.serving import serve
from trunkline.devices import files, namespace, process, units
from trunkline.devices.image_files import ImageFiles
from trunkline.devices.lab import topology
from trunkline.devices.pki import Authority
from trunkline.devices.state import Cloud, StateFolder
from trunkline.devices.web import Sources, Web
from trunkline.errors import Refusal
from trunkline.resources.region import JoinToken
from trunkline.resources.reports import HostReport
from trunkline.store import Store

log = logging.getLogger(__name__)

#: Token keys are rotated so often, seconds: much longer than a token lives, so that none ends early.
KEY_LIFE = 86400.0
#: How often it is looked whether the keeper is there, seconds.
WATCH_KEEPER = 3.0
#: How often it is looked for files of images that were deleted and that no server runs from, seconds.
IMAGE_SWEEP = 3600.0
#: How long a host has to join with a token that an operator asked for, seconds.
JOIN_TOKEN_LIFE = 3600.0


class ControlProcess:
    """Owns the parts of one region's control plane, from `run` until its end."""

    def __init__(self, folder: StateFolder, cloud: Cloud, api_socket: socket.socket) -> None:
        self._folder = folder
        self._cloud = cloud
        self._api_socket = api_socket
        self._steps = {"store": "waiting", "api": "waiting", "backend": "waiting", "image": "waiting"}
        self._observation = Observation()
        self._tasks: list[asyncio.Task[None]] = []
        self._directory: RegionDirectory | None = None
        self._heartbeats: dict[str, str] = {}

    async def run(self) -> None:
        """Runs until SIGTERM."""
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        store = Store.open(self._folder.root / "db" / "trunkline.sqlite")
        try:
            await self._start(store)
            ended = asyncio.create_task(stopping.wait())
            done, _ = await asyncio.wait([ended, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {ended}:
                task.result()
        finally:
            if self._directory is not None:
                self._directory.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            store.close()

    async def _start(self, store: Store) -> None:
        folder, cloud = self._folder, self._cloud
        authority = Authority.open(folder.pki)
        images = ImageFiles(folder.root / "images")
        rules = folder.root / "policy.yaml"
        figures = appliance.Figures()
        api = wiring.build(
            store,
            images,
            keys=folder.root / "keys" / "tokens",
            rules=rules if rules.exists() else None,
            console=self._read_console,
            settings=network.Settings(overlay=cloud.encapsulation, heartbeats=self._heartbeats),
            web=Web(Sources(folder.root / "image-sources.yaml")),
            figures=figures,
        )
        await seed.run(store, api, folder, cloud)
        await api.imports.recover()
        self._steps["store"] = "done"

        async def host_reported(name: str, report: HostReport) -> None:
            ended = figures.take(name, report.units)
            await observe.host_report(api.engine, name, report, ended)

        receive = partial(snapshots.receive, api.engine, images)
        directory = RegionDirectory(store, authority, folder.root / "images", host_reported, receive)
        self._directory = directory
        backend = OvnBackend(folder.remotes(cloud, "nb"), folder.remotes(cloud, "sb"))

        statuses = observe.Statuses(store)

        async def observed(observation: Observation, snapshot: Snapshot) -> None:
            self._observation = observation
            self._steps["backend"] = "done"
            await statuses.write(observation, snapshot)

        self._loop = Loop(
            store,
            backend,
            Settings(
                region=cloud.region,
                operator_keys=_operator_keys(folder),
                dns_forwarders=cloud.dns_forwarders,
                backend_remotes=topology.Topology(cloud).southbound_remotes,
            ),
            directory.publish,
            observed,
        )
        channel_socket = namespace.open_socket_in(
            f"{cloud.prefix}c", topology.CONTROL_ADDRESS, topology.CHANNEL_PORT, free_bind=True
        )
        issued = authority.issue("control", addresses=[topology.CONTROL_ADDRESS])
        app = application(api.services, api.identity.authenticate, self._routes(store, directory, figures))
        self._tasks = [
            asyncio.create_task(_serve(app, self._api_socket)),
            asyncio.create_task(self._loop.run()),
            asyncio.create_task(
                channel.serve(
                    channel.channel_app(directory),
                    channel_socket,
                    issued,
                    folder.pki / "ca.crt",
                )
            ),
            asyncio.create_task(observe.watch_hosts(store, directory)),
            asyncio.create_task(observe.watch_appliances(api.engine)),
            asyncio.create_task(observe.watch_loads(api.engine, figures)),
            asyncio.create_task(self._watch_agents(store, directory, backend)),
            asyncio.create_task(self._image(store, api, images)),
            asyncio.create_task(_rotate_keys(api.identity.keys)),
            asyncio.create_task(_watch_keeper(folder)),
        ]
        self._steps["api"] = "done"
        # What is there now stays: the collector need not look at it again, and it looks less often at what
        # comes and goes with requests; not so seldom that it has much to look at, for all wait for it.
        gc.freeze()
        gc.set_threshold(10_000, 10, 20)
        gc.enable()

    async def _watch_agents(self, store: Store, directory: RegionDirectory, backend: Backend) -> None:
        """Keeps the agents of the Network API as they are seen; runs until it is cancelled."""
        kept = agents.Agents(store, self._heartbeats)
        central = agents.CentralDaemons(self._folder, self._cloud)
        while True:
            await asyncio.sleep(agents.WATCH)
            sight = agents.Sight(
                now=time.time(),
                heard=directory.heard_at(),
                observation=self._observation,
                central=central.look(backend.daemons()),
            )
            await kept.look(sight)

    async def _read_console(self, host: str, server: str, lines: int | None) -> str:
        assert self._directory is not None
        return await self._directory.read_console(host, server, lines)

    async def _image(self, store: Store, api: wiring.Api, images: ImageFiles) -> None:
        """Sees to the image `tiny`, and from then on to the files of images that nothing needs any more."""
        self._steps["image"] = "running"
        try:
            await seed.tiny_image(store, api, images, self._folder, self._step("image"))
            self._steps["image"] = "done"
        except Exception as error:
            log.exception("the image tiny could not be made")
            self._steps["image"] = f"failed: {error}"
        while True:
            await asyncio.sleep(IMAGE_SWEEP)
            try:
                gone = await images.prune(await api.engine.read(referenced))
            except OSError:
                log.exception("the files of deleted images could not be removed")
                continue
            if gone:
                log.info("files of deleted images removed: %s", ", ".join(sorted(gone)))

    def _step(self, name: str) -> seed.Progress:
        def tell(text: str) -> None:
            self._steps[name] = text

        return tell

    def _routes(self, store: Store, directory: RegionDirectory, figures: appliance.Figures) -> list[Route]:
        key = _status_key(self._folder.run / "status.key")

        async def ready(request: Request) -> Response:
            done = all(step == "done" for step in self._steps.values())
            return JSONResponse({"ready": done, "steps": self._steps})

        async def metrics(request: Request) -> Response:
            return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

        def refusal(request: Request) -> Response | None:
            if secrets.compare_digest(request.headers.get("x-trunkline-key", "").encode(), key.encode()):
                return None
            return JSONResponse({"error": "X-Trunkline-Key is not the key in run/status.key."}, 403)

        async def metered(request: Request) -> Response:
            if (refused := refusal(request)) is not None:
                return refused
            with store.read() as reader:
                return Response(meters.exposition(reader), media_type=CONTENT_TYPE_LATEST)

        async def appliances(request: Request) -> Response:
            if (refused := refusal(request)) is not None:
                return refused
            with store.read() as reader:
                text = appliance_metrics.exposition(reader, figures)
            return Response(text, media_type=CONTENT_TYPE_LATEST)

        async def join_token(request: Request) -> Response:
            if (refused := refusal(request)) is not None:
                return refused
            token, digest = channel.new_token(directory.authority)
            now = time.time()
            made = JoinToken(id=digest, created_at=now, expires_at=now + JOIN_TOKEN_LIFE)
            await store.write(lambda tx: tx.insert(made))
            control = f"https://{topology.CONTROL_ADDRESS}:{topology.CHANNEL_PORT}"
            return JSONResponse({"token": token, "control": control, "expires_at": made.expires_at}, 201)

        async def show(request: Request) -> Response:
            if (refused := refusal(request)) is not None:
                return refused
            sources = status.Sources(
                cloud={"tag": self._cloud.tag, "region": self._cloud.region, "api": self._cloud.api_url},
                loop=self._loop.state,
                directory=directory,
                observation=self._observation,
                backend="ovn",
                steps=self._steps,
            )
            with store.read() as reader:
                return JSONResponse(status.document(reader, sources))

        async def promise(request: Request) -> Response:
            if (refused := refusal(request)) is not None:
                return refused
            name = request.path_params["name"]
            try:
                wanted = promises.parse(await request.body())
                await store.write(lambda tx: promises.change(tx, name, wanted))
            except Refusal as error:
                return JSONResponse({"error": error.message}, status_of(error))
            with store.read() as reader:
                return JSONResponse({"promises": promises.shown(reader)[name]})

        return [
            Route("/ready", ready),
            Route("/metrics", metrics),
            Route("/metrics/metering", metered),
            Route("/metrics/appliances", appliances),
            Route("/status", show),
            Route("/join-tokens", join_token, methods=["POST"]),
            Route("/hosts/{name}/promises", promise, methods=["PUT"]),
        ]


async def _rotate_keys(keys: KeyRepository) -> None:
    """Rotates the token keys when the newest is old; runs until it is cancelled."""
    while True:
        wait = keys.rotated_at() + KEY_LIFE - time.time()
        if wait <= 0:
            log.info("token keys rotated: the primary is now %d", await asyncio.to_thread(keys.rotate))
        await asyncio.sleep(min(max(wait, 1.0), 3600.0))


async def _watch_keeper(folder: StateFolder) -> None:
    """Starts another keeper where there is none any more; runs until it is cancelled.

    Not while a command changes the cloud: `up` starts the keeper by itself, `down` wants none.
    """
    while True:
        await asyncio.sleep(WATCH_KEEPER)
        if process.find(folder.pidfile("keeper")) is None and folder.units_file.exists():
            with contextlib.suppress(Refusal, OSError), folder.locked():
                keeper, started = units.ensure_keeper(folder)
                if started:
                    log.warning("the keeper was gone; another one runs as process %d", keeper.pid)


def _operator_keys(folder: StateFolder) -> tuple[str, ...]:
    """The public half of the operator's key, if there is one."""
    public = folder.operator_key.with_suffix(".pub")
    return (public.read_text().strip(),) if public.exists() else ()


def _status_key(file: Path) -> str:
    if not file.exists():
        files.replace(file, secrets.token_urlsafe(24).encode(), 0o600)
    return file.read_text().strip()


async def _serve(app: object, api_socket: socket.socket) -> None:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    await serve(config, api_socket)
