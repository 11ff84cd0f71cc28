"""The daemons of a cloud as its keeper is told them, and how it stands with each."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Literal

import msgspec

import trunkline
from trunkline.devices import files, process
from trunkline.devices.process import Command, Process
from trunkline.devices.state import StateFolder

#: What glibc's malloc is told (mallopt(3)): blocks of 1 MiB and more, as each hash of a password needs one of
#: 19 MiB, are given back to the kernel when they are freed, and threads share two arenas. By default they
#: stay: 40 MB of control's memory.
_MEMORY = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 1024),
}


class Unit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A daemon that is to be kept running."""

    name: str
    argv: tuple[str, ...]
    netns: str | None = None
    env: dict[str, str] = {}
    #: Units that are ready before it is started (the first time: they may come and go later).
    after: tuple[str, ...] = ()
    #: A unix socket that takes connections once it is ready; "" where it is as soon as it runs.
    socket: str = ""
    #: How nice it is to other processes (nice(2)): below 0, it goes before them.
    nice: int = 0
    #: Seconds that it has to end by itself when it is asked to.
    grace: float = 5.0


class UnitState(msgspec.Struct, kw_only=True):
    """What the keeper sees of a unit."""

    state: Literal["waiting", "starting", "running", "backing-off", "stopped", "missing"] = "waiting"
    pid: int = 0
    #: Since when it runs, seconds since the epoch.
    since: float = 0.0
    #: How often it was started again.
    restarts: int = 0
    #: How it last ended ("exit status 1", "killed by SIGKILL", "ended"), when, and its last words.
    ended: str = ""
    ended_at: float = 0.0
    cause: str = ""


class KeeperState(msgspec.Struct, kw_only=True):
    """``STATE/run/keeper.json``, written at each change."""

    pid: int
    updated_at: float
    units: dict[str, UnitState]
    #: How often another keeper took over from one that was lost, and when that was last.
    restarts: int = 0
    lost_at: float = 0.0
    #: It was told to stop, and did: it is not lost.
    stopped: bool = False


def save_units(state: StateFolder, units: list[Unit]) -> bool:
    """Writes the list for the keeper; True if it is another than before."""
    content = msgspec.json.format(msgspec.json.encode(units), indent=1)
    try:
        if state.units_file.read_bytes() == content:
            return False
    except FileNotFoundError:
        pass
    files.replace(state.units_file, content)
    return True


def load_units(state: StateFolder) -> list[Unit]:
    """The keeper's list; empty where none was written."""
    try:
        return msgspec.json.decode(state.units_file.read_bytes(), type=list[Unit])
    except FileNotFoundError:
        return []


def load_keeper(state: StateFolder) -> KeeperState | None:
    """What the keeper last wrote; it may be dead since: compare with the pid files."""
    try:
        return msgspec.json.decode(state.keeper_file.read_bytes(), type=KeeperState)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def python_unit_argv(module: str, *arguments: str) -> tuple[str, ...]:
    """The command of one of our own daemons, by the interpreter that runs this."""
    return (sys.executable, "-P", "-m", module, *arguments)


def python_environment() -> dict[str, str]:
    """What our own daemons need to find this very package from any folder."""
    package = str(Path(trunkline.__file__).resolve().parent.parent)
    others = [
        p for p in os.environ.get("PYTHONPATH", "").split(":") if p and Path(p).resolve() != Path(package)
    ]
    return {
        "PYTHONPATH": ":".join([package, *(str(Path(p).resolve()) for p in others)]),
        "PYTHONUNBUFFERED": "1",
        **_MEMORY,
    }


def ensure_keeper(state: StateFolder) -> tuple[Process, bool]:
    """The cloud's keeper, started if it does not run; and whether it was started now.

    A new one takes over the daemons that it finds running.
    """
    pidfile = state.pidfile("keeper")
    found = process.find(pidfile)
    if found is not None:
        return found, False
    command = Command(
        name="keeper",
        argv=python_unit_argv("trunkline.keeper", "--state", str(state.root)),
        log=state.log_file("keeper"),
        env=python_environment(),
    )
    return process.spawn(command, pidfile), True


def takes_connections(path: str | Path) -> bool:
    """Whether somebody listens on that unix socket now: a file may be left of one that is dead."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True
