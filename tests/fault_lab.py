"""What tests of faults do to a cloud that runs, and how they see what became of it."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloud import Cloud
from probes import Space, wait_for

from trunkline.devices import process

#: A fault is to be seen in the status after so many seconds, and healed after so many.
SEEN, HEALED = 5.0, 15.0


def pid_of(cloud: Cloud, unit: str) -> int:
    """Of a daemon that runs, or 0."""
    found = process.find(cloud.state.pidfile(unit))
    return found.pid if found else 0


def kill(cloud: Cloud, unit: str) -> int:
    """Kills a daemon; its pid."""
    pid = pid_of(cloud, unit)
    assert pid, f"{unit} does not run"
    os.kill(pid, signal.SIGKILL)
    return pid


def is_well(cloud: Cloud, seconds: float = HEALED) -> None:
    """Returns when the status says that all is well.

    Raises:
        AssertionError: with the problems that it tells.
    """
    seen: dict[str, Any] = {}

    def well() -> bool:
        seen.update(cloud.status())
        return bool(seen["well"])

    try:
        wait_for(well, seconds, "")
    except AssertionError:
        raise AssertionError(f"not well after {seconds:g} s: {seen['problems']}\n{cloud.logs()}") from None


def ovn(cloud: Cloud, *arguments: str) -> str:
    """What ``ovn-nbctl`` says of the cloud's northbound database."""
    command = ["ovn-nbctl", "--timeout=10", f"--db=unix:{cloud.state.central / 'nb.sock'}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def vsctl(cloud: Cloud, host: str, *arguments: str) -> str:
    """What ``ovs-vsctl`` says on a host."""
    command = ["ovs-vsctl", "--timeout=10", f"--db=unix:{cloud.state.host(host) / 'db.sock'}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def claims(cloud: Cloud) -> set[tuple[str, str, str]]:
    """(scope, value, owner) of all that is claimed in the store."""
    with _database(cloud) as connection:
        return set(connection.execute("SELECT scope, value, owner FROM store_claim"))


def orphans(cloud: Cloud) -> list[tuple[str, str, str]]:
    """Claims whose owner is not there: nothing will ever release them."""
    with _database(cloud) as connection:
        tables = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            if not name.startswith("store_")
        ]
        there = {id for table in tables for (id,) in connection.execute(f'SELECT id FROM "{table}"')}
        found = connection.execute("SELECT scope, value, owner FROM store_claim").fetchall()
    return [claim for claim in found if claim[2] not in there and claim[0] != "seed"]


@contextmanager
def _database(cloud: Cloud) -> Iterator[sqlite3.Connection]:
    file = cloud.state.root / "db" / "trunkline.sqlite"
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        connection.execute("BEGIN")
        yield connection
    finally:
        connection.close()


@contextmanager
def frozen(cloud: Cloud, host: str) -> Iterator[None]:
    """A host forwards nothing, and its ovn-controller does nothing, in the block."""
    pids = [pid_of(cloud, f"{host}-{daemon}") for daemon in ("ovn-controller", "ovs-vswitchd")]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


class Pinging:
    """A ping that goes on for as long as the block, twenty times a second."""

    def __init__(self, space: Space, address: str) -> None:
        command = [*space.enter, "ping", "-n", "-i", "0.05", "-W", "1", address]
        self._ping = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def __enter__(self) -> Pinging:
        self._began = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        if self._ping.poll() is None:
            self._ping.kill()
            self._ping.communicate()

    def lost(self) -> int:
        """Ends it, after a second at the least: how many were sent and not answered."""
        time.sleep(max(0.0, self._began + 1.0 - time.monotonic()))
        self._ping.send_signal(signal.SIGINT)
        said, _ = self._ping.communicate(timeout=10)
        found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
        assert found, said
        assert int(found[2]) > 5, f"too few to tell anything: {said}"
        # The last one may be on its way when it is told to end.
        return max(0, int(found[1]) - int(found[2]) - 1)


def soon(what: Callable[[], Any], complaint: str, seconds: float = HEALED) -> Any:
    """As `wait_for`, of something that heals by itself."""
    return wait_for(what, seconds, complaint)


def log_of(cloud: Cloud, unit: str) -> Path:
    return cloud.state.log_file(unit)
