"""HAProxy in a data plane: what a policy wants of it is made ready, put in force, and kept running.

    Prepare ── haproxy -c ──▶ ready ── Commit: start ──▶ both listen ── rules switch ──▶ the old one ends

A new worker gets the listening sockets of the one before, so that nobody who comes meanwhile is refused: each
connection is wholly by one policy or the other. The old one goes on until its last connection has ended,
however long that takes. Each worker has a master of HAProxy's own (``-W``), which stays root and ends when
this process does, and the worker with it.

Reference: HAProxy 2.6, management guide (stopping and restarting, 4; statistics, 9.1).
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import grp
import logging
import os
import pwd
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from trunkline.errors import Refusal, Unavailable
from trunkline.resources.appliance_policy import Policy
from trunkline.resources.reports import ListenerCount
from trunkline.units.proxy_config import JAIL, Rendered, Settings, rendered

log = logging.getLogger(__name__)
#: How long one may take to listen, seconds, and to answer a question.
_START, _ANSWER = 20.0, 5.0
#: How long until one that ended by itself is started again, seconds; and how often statistics are read.
_PAUSE, _LOOK = 0.5, 1.0
#: Whom it becomes: the first that there is.
_USERS = ("haproxy", "nobody")
_CONFIG = "haproxy.cfg"

State = Literal["up", "down", "unknown"]
_STATES: dict[str, State] = {"UP": "up", "DOWN": "down"}
#: What a frontend has counted, and where its statistics say so.
_COLUMNS = {"connections": "scur", "total": "stot", "bytes_in": "bin", "bytes_out": "bout", "errors": "ereq"}


@dataclass
class Worker:
    """A process of HAProxy, and what it said last."""

    config: Rendered
    folder: Path
    process: Process
    counts: dict[str, ListenerCount] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)

    def alive(self) -> bool:
        return self.process.returncode is None

    def end_gently(self) -> None:
        """It takes no connection any more, and ends with its last one."""
        if self.alive():
            self.process.send_signal(signal.SIGUSR1)


class Proxy:
    """Owns the processes of HAProxy in this process's namespaces, and a folder. For one event loop."""

    def __init__(self, folder: Path, changed: Callable[[], None] = lambda: None) -> None:
        self._folder, self._changed = folder, changed
        self._numbers = 0
        self._ready: tuple[Rendered, Path] | None = None
        self._started: Worker | None = None
        self._force: Worker | None = None
        self._ending: list[Worker] = []
        #: There was a worker, ever.
        self.used = False
        #: Of workers that have ended.
        self._ended: dict[str, ListenerCount] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        #: Why it does not run; "" where it does, or is not to.
        self.trouble = ""

    @property
    def processes(self) -> int:
        """How many run, those that are to end among them."""
        return sum(worker.alive() for worker in (self._force, *self._ending) if worker is not None)

    # A policy comes.

    async def prepare(self, policy: Policy, memory_mib: int) -> None:
        """Makes ready what a policy wants; nothing changes yet.

        Raises:
            Refusal: HAProxy does not take it.
            Unavailable: there is no HAProxy.
        """
        self._drop_ready()
        # This process and what it holds come first.
        self._numbers += 1
        settings = Settings(f"s{self._numbers}", max(24, (memory_mib - 96) * 3 // 4), *_user())
        config = rendered(policy, settings)
        if config is None:
            return
        folder = self._write(config)
        try:
            await _check(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._ready = config, folder

    async def start(self) -> None:
        """Starts what was made ready, beside what is in force.

        Raises:
            Refusal: it does not run; what is in force goes on.
        """
        if self._ready is None:
            return
        (config, folder), self._ready = self._ready, None
        self._started = await self._run(config, folder, self._force)

    def switch(self) -> None:
        """What was started is in force, or nothing; the one before takes nothing any more."""
        old, self._force, self._started = self._force, self._started, None
        if old is not None:
            self._ending.append(old)
            old.end_gently()
        self.trouble = ""

    def give_up(self) -> None:
        """What was started is not to be in force."""
        if self._started is not None:
            self._ending.append(self._started)
            self._started.end_gently()
            self._started = None

    def _drop_ready(self) -> None:
        if self._ready is not None:
            shutil.rmtree(self._ready[1], ignore_errors=True)
            self._ready = None

    def _write(self, config: Rendered) -> Path:
        self._numbers += 1
        folder = self._folder / f"h{self._numbers}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        (folder / JAIL).mkdir()
        for name, text in {_CONFIG: config.text, **config.files}.items():
            with open(os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(text)
        return folder

    async def _run(self, config: Rendered, folder: Path, before: Worker | None) -> Worker:
        sockets = (
            ("-x", f"../{before.folder.name}/{before.config.socket}") if before and before.alive() else ()
        )
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "--"),
            *("haproxy", "-W", "-f", _CONFIG, *sockets),
            cwd=folder,
            stdin=DEVNULL,
        )
        worker = Worker(config, folder, process)
        self.used = True
        try:
            async with asyncio.timeout(_START):
                while not await _listens(worker):
                    if not worker.alive():
                        raise Refusal(f"HAProxy ended at once, with status {process.returncode}.")
                    await asyncio.sleep(0.02)
        except BaseException as error:
            if worker.alive():
                process.kill()
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, TimeoutError):
                raise Refusal(f"HAProxy does not answer within {_START:g} s.") from None
            raise
        watcher = asyncio.create_task(self._watch(worker), name=f"HAProxy {folder.name}")
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        return worker

    async def _watch(self, worker: Worker) -> None:
        """Waits until it ends, and starts another one where it was not to."""
        status = await worker.process.wait()
        for name, count in worker.counts.items():
            past = msgspec.structs.replace(count, connections=0)
            self._ended[name] = self._ended.get(name, ListenerCount()) + past
        worker.counts = {}
        if worker in self._ending:
            self._ending.remove(worker)
            shutil.rmtree(worker.folder, ignore_errors=True)
            self._changed()
        while worker is self._force:
            self.trouble = f"HAProxy ended with status {status}, and is started again."
            log.warning("%s", self.trouble)
            self._changed()
            await asyncio.sleep(_PAUSE)
            if worker is not self._force:
                return
            try:
                again = await self._run(worker.config, self._write(worker.config), None)
            except (Refusal, OSError) as error:
                self.trouble = str(error)
                continue
            if worker is self._force:
                self._force, self.trouble = again, ""
            else:
                self._ending.append(again)
                again.end_gently()
            self._changed()

    # What it says.

    def counts(self) -> dict[str, ListenerCount]:
        """By the names of listeners; as it was read last."""
        found = dict(self._ended)
        for worker in self._workers():
            for name, count in worker.counts.items():
                found[name] = found.get(name, ListenerCount()) + count
        return found

    def states(self) -> dict[str, State]:
        """How members are, by "listener/pool/address:port"; as it was read last."""
        return dict(self._force.states) if self._force is not None else {}

    def _workers(self) -> list[Worker]:
        return [worker for worker in (self._force, *self._ending) if worker is not None]

    async def run(self) -> None:
        """Reads statistics; ends when it is cancelled, and the processes with it."""
        try:
            while True:
                await asyncio.sleep(_LOOK)
                for worker in self._workers():
                    with contextlib.suppress(OSError, TimeoutError):
                        said = await _asked(worker, "show stat")
                        worker.counts, worker.states = read_statistics(said, worker.config)
        finally:
            for watcher in self._watchers:
                watcher.cancel()
            for worker in self._workers():
                if worker.alive():
                    worker.process.kill()
            self._drop_ready()
            shutil.rmtree(self._folder, ignore_errors=True)


def read_statistics(said: str, config: Rendered) -> tuple[dict[str, ListenerCount], dict[str, State]]:
    """Counts by listener, and states by member, from the answer to ``show stat``."""
    counts: dict[str, ListenerCount] = {}
    states: dict[str, State] = {}
    for row in csv.DictReader(said.removeprefix("# ").splitlines()):
        proxy, server = row["pxname"], row["svname"]
        if server == "FRONTEND" and proxy in config.listeners:
            told = {field: int(row[column] or 0) for field, column in _COLUMNS.items()}
            counts[config.listeners[proxy]] = ListenerCount(**told)
        elif (proxy, server) in config.members:
            states[config.members[proxy, server]] = _state(row["status"])
    return counts, states


def _state(status: str) -> State:
    # As "UP 1/3" while it changes.
    return _STATES.get(status.partition(" ")[0], "unknown")


async def _check(folder: Path) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            "haproxy", "-c", "-f", _CONFIG, cwd=folder, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
        )
    except FileNotFoundError:
        raise Unavailable("haproxy is missing: install the package haproxy.") from None
    _, said = await process.communicate()
    if process.returncode:
        alerts = _alerts(said.decode(errors="replace").splitlines())
        raise Refusal(f"HAProxy does not take it: {' '.join(alerts) or f'status {process.returncode}'}")


def _alerts(lines: Iterable[str]) -> list[str]:
    """What is wrong, without where it stands in a file that nobody sees."""
    return [line.partition(" : ")[2].strip() for line in lines if "[ALERT]" in line][:2]


async def _listens(worker: Worker) -> bool:
    try:
        return bool(await _asked(worker, "show info"))
    except (OSError, TimeoutError):
        return False


async def _asked(worker: Worker, question: str) -> str:
    """What a worker answers. Raises OSError, TimeoutError."""
    # A path below this process's own is short, as paths of sockets have to be (unix(7)).
    place = os.open(worker.folder, os.O_PATH | os.O_CLOEXEC)
    try:
        async with asyncio.timeout(_ANSWER):
            reader, writer = await asyncio.open_unix_connection(
                f"/proc/self/fd/{place}/{worker.config.socket}"
            )
            try:
                writer.write(f"{question}\n".encode())
                return (await reader.read(-1)).decode(errors="replace")
            finally:
                writer.close()
    finally:
        os.close(place)


def _user() -> tuple[str, str]:
    for name in _USERS:
        with contextlib.suppress(KeyError):
            return name, grp.getgrgid(pwd.getpwnam(name).pw_gid).gr_name
    return "", ""
