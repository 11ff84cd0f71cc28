"""A cloud to measure: started by the command as a user starts it, in a state folder of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from bench.figures import Figure, Meter
from bench.load import Connection, Result, drive
from trunkline.devices import process
from trunkline.devices.state import StateFolder

T = TypeVar("T")


class Cloud:
    """One cloud that runs, as its administrator sees it.

    Args:
        state: its state folder.
        user: the name of an entry of clouds.yaml.
    """

    def __init__(self, state: StateFolder, user: str = "trunkline-admin") -> None:
        self.state = state
        self.facts = state.load()
        self.meter = Meter(state.root)
        auth = yaml.safe_load(state.clouds_yaml.read_text())["clouds"][user]["auth"]
        self.url = auth["auth_url"].removesuffix("/identity/v3")
        self.headers, self.project = _log_in(auth)

    @property
    def control(self) -> int:
        """The process id of the control process."""
        found = process.find(self.state.pidfile("control"))
        assert found is not None, "the control process does not run"
        return found.pid

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request, and its decoded answer.

        Raises:
            AssertionError: it was refused.
        """
        connection = Connection(self.url, self.headers)
        await connection.open()
        status, content = await connection.request(method, path, body)
        connection.close()
        assert status < 300, (method, path, status, content[:300])
        return json.loads(content) if content else None

    async def drive(
        self, clients: int, requests: Iterator[tuple[str, str, Any]], keep: bool = False
    ) -> Result:
        """Many requests by so many clients."""
        return await drive(self.url, self.headers, clients, requests, keep=keep)

    async def lift_limits(self) -> None:
        """Lets the administrator's project have as many ports as it likes."""
        await self.call("PUT", f"/network/v2.0/quotas/{self.project}", {"quota": {"port": -1}})

    async def network(self, name: str, cidr: str) -> str:
        """A network with a subnet; returns its id."""
        made = await self.call("POST", "/network/v2.0/networks", {"network": {"name": name}})
        id = str(made["network"]["id"])
        subnet = {"network_id": id, "ip_version": 4, "cidr": cidr}
        await self.call("POST", "/network/v2.0/subnets", {"subnet": subnet})
        return id


def _log_in(auth: dict[str, str]) -> tuple[dict[str, str], str]:
    """The headers of a user, and the id of its project."""
    domain = {"name": "Default"}
    user = {"name": auth["username"], "domain": domain, "password": auth["password"]}
    identity = {"methods": ["password"], "password": {"user": user}}
    scope = {"project": {"name": auth["project_name"], "domain": domain}}
    request = urllib.request.Request(
        f"{auth['auth_url']}/auth/tokens",
        json.dumps({"auth": {"identity": identity, "scope": scope}}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        headers = {"X-Auth-Token": str(reply.headers["X-Subject-Token"])}
        return headers, json.load(reply)["token"]["project"]["id"]


def trunkline(root: Path, *arguments: str) -> str:
    """Runs ``trunkline --state ROOT ARGUMENTS``; returns what it wrote.

    Raises:
        AssertionError: it failed; with what it said.
    """
    command = [sys.executable, "-m", "trunkline", "--state", str(root), *arguments]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def up(root: Path, *options: str) -> float:
    """Starts a cloud with three hosts, its servers without KVM. Returns how long the command took."""
    started = time.monotonic()
    trunkline(root, "up", "--hosts", "3", "--port", "0", "--accelerator", "tcg", *options)
    return time.monotonic() - started


@contextmanager
def new_folder() -> Iterator[Path]:
    """A state folder for a cloud; whatever runs in it at the end is taken away."""
    # Sockets below it have paths of 107 bytes at most.
    above = Path(tempfile.mkdtemp(prefix="tlb"))
    root = above / "s"
    try:
        yield root
    finally:
        try:
            if root.exists():
                trunkline(root, "down", "--wipe")
        finally:
            shutil.rmtree(above, ignore_errors=True)


@contextmanager
def running(state: Path | None = None, *options: str) -> Iterator[Cloud]:
    """A fresh cloud, started with these options; or the one of a state folder, which is left running."""
    if state is not None:
        yield Cloud(StateFolder(state.resolve()))
        return
    with new_folder() as root:
        up(root, *options)
        yield Cloud(StateFolder(root))


async def poll(what: Callable[[], Coroutine[Any, Any, T | None]], pause: float, seconds: float) -> T:
    """The first answer that is not None.

    Raises:
        AssertionError: there was none in that time.
    """
    deadline = time.monotonic() + seconds
    while (found := await what()) is None:
        assert time.monotonic() < deadline, f"nothing within {seconds:g} s"
        await asyncio.sleep(pause)
    return found


Part = Callable[[Cloud], Coroutine[Any, Any, Sequence[Figure]]]


def alone(part: Part) -> None:
    """The command of one part: prints its figures, of a fresh cloud or of the one named by --state."""
    import argparse

    from bench.figures import machine, table

    parser = argparse.ArgumentParser()
    parser.add_argument("--state", type=Path, help="measure the cloud of this state folder, which runs")
    arguments = parser.parse_args()
    assert os.geteuid() == 0, "clouds need root"
    print(machine(), flush=True)
    with running(arguments.state) as cloud, cloud.meter.measuring() as usage:
        figures = asyncio.run(part(cloud))
    print(table(figures))
    print(f"processors that others kept busy meanwhile: {usage.others:.1f}")
