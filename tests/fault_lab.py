"""What tests of faults do to a cloud that runs, and how they see what became of it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloud import Cloud
from outage import Stream
from probes import Space, wait_for

from trunkline.devices import process

#: What is promised: a fault is seen in the status after so many seconds, and healed after so many.
SEEN, HEALED = 10.0, 30.0


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


def are_watchful(cloud: Cloud) -> None:
    """Returns when every host hears every other one often enough to notice at once that it died.

    A BFD session that has just come up goes on with one packet a second until both ends agreed on more (RFC
    5880, 6.8.3), while the host already carries gateways: who dies then is missed after three seconds.

    Raises:
        AssertionError: they do not in 30 s.
    """
    wait_for(lambda: all(_hears_all(cloud, host) for host in cloud.hosts), HEALED, "BFD at full speed")


def _hears_all(cloud: Cloud, host: str) -> bool:
    control = str(cloud.state.host(host) / "ovs-vswitchd.ctl")
    command = ["ovs-appctl", "--timeout=10", "-t", control, "bfd/show"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    sessions = shown.split("---- ")[1:]
    signs = ("Local Session State: up", "RX Interval: Approx 100ms")
    quick = [one for one in sessions if all(sign in one for sign in signs)]
    return len(quick) == len(sessions) >= len(cloud.hosts) - 1


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


class Pinging(Stream):
    """Echo requests for as long as the block, twenty times a second."""

    def __init__(self, space: Space, address: str) -> None:
        super().__init__(space, address, every=0.05)


def soon(what: Callable[[], Any], complaint: str, seconds: float = HEALED) -> Any:
    """As `wait_for`, of something that heals by itself."""
    return wait_for(what, seconds, complaint)


def log_of(cloud: Cloud, unit: str) -> Path:
    return cloud.state.log_file(unit)
