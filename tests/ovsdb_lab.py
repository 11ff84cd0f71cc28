"""Real ovsdb-server processes in a folder of the test's own."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trunkline.devices.units import takes_connections

OVN_NB = "/usr/share/ovn/ovn-nb.ovsschema"
OVN_SB = "/usr/share/ovn/ovn-sb.ovsschema"
VSWITCH = "/usr/share/openvswitch/vswitch.ovsschema"


def asynchronous(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test that is a coroutine in a loop of its own."""

    @functools.wraps(test)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return wrapper


def wait_until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Returns when `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for the 107 bytes of a socket's name."""
    folder = Path(tempfile.mkdtemp(prefix="tlo"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(*command: str, timeout: float = 30.0) -> str:
    """Runs a command and returns what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


class Daemon:
    """A process of the test, in the foreground, its output in a log."""

    def __init__(
        self, name: str, command: list[str], folder: Path, env: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = command
        self._env = dict(os.environ) | (env or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            if self.alive():
                self.send(number)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
            self._process = None

    def kill(self) -> None:
        self.stop(signal.SIGKILL)


class OvsdbServer(Daemon):
    """One database behind a Unix socket; `options` go to ovsdb-server as they are."""

    def __init__(
        self,
        folder: Path,
        name: str,
        schema: str,
        options: tuple[str, ...] = (),
    ) -> None:
        self.file = folder / f"{name}.db"
        self.socket = folder / f"{name}.sock"
        self.control = folder / f"{name}.ctl"
        self.schema = schema
        command = ["ovsdb-server", f"--remote=punix:{self.socket}", f"--unixctl={self.control}"]
        super().__init__(name, [*command, "--no-chdir", *options, str(self.file)], folder)

    @property
    def remote(self) -> str:
        return f"unix:{self.socket}"

    def create(self) -> None:
        """Makes an empty database, in the place of one that is there."""
        self.file.unlink(missing_ok=True)
        run("ovsdb-tool", "create", str(self.file), self.schema)

    def start(self) -> None:
        if not self.file.exists():
            self.create()
        self.socket.unlink(missing_ok=True)
        super().start()
        wait_until(lambda: takes_connections(self.socket), f"{self.name} listens")


class Cluster:
    """A RAFT cluster of one database, on Unix sockets."""

    def __init__(self, folder: Path, schema: str, size: int) -> None:
        self.database = "OVN_Southbound" if "ovn-sb" in schema else "OVN_Northbound"
        self.servers = [OvsdbServer(folder, f"m{n}", schema) for n in range(size)]
        self._peers = [f"unix:{folder}/r{n}" for n in range(size)]

    @property
    def remotes(self) -> list[str]:
        return [server.remote for server in self.servers]

    def start(self) -> None:
        first, *others = self.servers
        run("ovsdb-tool", "create-cluster", str(first.file), first.schema, self._peers[0])
        first.start()
        for server, peer in zip(others, self._peers[1:], strict=True):
            run("ovsdb-tool", "join-cluster", str(server.file), self.database, peer, self._peers[0])
            server.start()
        wait_until(lambda: all("cluster member" in self.status(s) for s in self.servers), "the cluster forms")

    def status(self, server: OvsdbServer) -> str:
        command = ("ovs-appctl", "--timeout=10", "-t", str(server.control), "cluster/status", self.database)
        return run(*command)

    def leader(self) -> OvsdbServer:
        return next(s for s in self.servers if s.alive() and "\nRole: leader" in self.status(s))

    def stop(self) -> None:
        for server in self.servers:
            server.stop()
