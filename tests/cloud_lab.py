"""The command as a user types it, in state folders of the test's own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from trunkline.devices import namespace, process
from trunkline.devices.state import StateFolder
from trunkline.devices.units import takes_connections

T = TypeVar("T")
REPOSITORY = Path(__file__).resolve().parent.parent


def trunkline(
    state: Path, *arguments: str, env: dict[str, str] | None = None, timeout: float = 180.0, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Runs ``trunkline --state STATE ARGUMENTS``."""
    environment = {**os.environ, **(env or {})}
    environment.pop("TRUNKLINE_STATE", None)
    command = [sys.executable, "-m", "trunkline", "--state", str(state), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, env=environment, check=False, **more
    )


class LabCloud:
    """A cloud that a test started."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = StateFolder(root)

    def run(self, *arguments: str, status: int | None = 0, **more: Any) -> str:
        """What the command wrote on its standard output; its exit status must be that (None: any)."""
        done = trunkline(self.root, *arguments, **more)
        assert status in (None, done.returncode), (
            f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    def status(self) -> dict[str, Any]:
        """``trunkline status --json``."""
        seen: dict[str, Any] = json.loads(self.run("status", "--json", status=None))
        return seen

    def is_well(self, seconds: float = 60.0) -> None:
        """Returns when the status says that all is well."""
        wait_for(lambda: self.status()["well"], seconds, self.status)

    def daemon(self, name: str) -> dict[str, Any]:
        """A daemon's row of the status."""
        return next(row for row in self.status()["daemons"] if row["name"] == name)

    def pid(self, unit: str) -> int:
        """Of a daemon; 0 if it does not run."""
        found = process.find(self.state.pidfile(unit))
        return found.pid if found else 0

    def pids(self) -> dict[str, int]:
        """Of all that run, the keeper too."""
        found = {file.stem: process.find(file) for file in self.state.run.glob("*.pid")}
        return {name: running.pid for name, running in found.items() if running}

    def namespaces(self) -> list[str]:
        return namespace.names(self.state.load().prefix)


def wait_for(ask: Callable[[], T | None], seconds: float, what: Callable[[], object]) -> T:
    """What `ask` returns as soon as it is true; fails with `what` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def bare_machine(underlay: str, netns: str, address: str, folder: Path) -> Iterator[Path]:
    """A namespace with an address on a lab's underlay and an Open vSwitch of its own; yields its socket."""
    namespace.create(netns)
    namespace.ip(netns, f"link add name e0 mtu 1600 type veth peer name u-m mtu 1600 netns {underlay}")
    namespace.checksums_in_software(netns, "e0")
    namespace.ip(netns, "link set dev e0 up", f"address add {address} dev e0")
    namespace.ip(underlay, "link set dev u-m master under up")
    ovsdb, run = folder / "db.sock", {"OVS_RUNDIR": str(folder), "OVN_RUNDIR": str(folder)}
    schema = "/usr/share/openvswitch/vswitch.ovsschema"
    subprocess.run(["ovsdb-tool", "create", folder / "conf.db", schema], check=True)
    quiet = ("-vconsole:info", "-vsyslog:off", "-vfile:off")
    started = []

    def start(*argv: str) -> None:
        command = process.Command(argv[0], (*argv, *quiet), folder / f"{argv[0]}.log", netns, run)
        started.append(process.spawn(command, folder / f"{argv[0]}.pid"))

    try:
        start("ovsdb-server", str(folder / "conf.db"), f"--remote=punix:{ovsdb}")
        wait_for(lambda: takes_connections(ovsdb), 10, lambda: "no ovsdb-server")
        vsctl = ["ovs-vsctl", f"--db=unix:{ovsdb}", "--timeout=10", "--no-wait"]
        # What ovs-ctl does on a real machine.
        subprocess.run(
            [*vsctl, "init", "--", "set", "Open_vSwitch", ".", "external_ids:system-id=x"], check=True
        )
        start("ovs-vswitchd", f"unix:{ovsdb}")
        start("ovn-controller", f"unix:{ovsdb}")
        yield ovsdb
    finally:
        for running in reversed(started):
            running.terminate(5.0)
        namespace.delete(netns)


def interfaces() -> Sequence[str]:
    """Of the machine's own namespace."""
    return namespace.interfaces(None)
