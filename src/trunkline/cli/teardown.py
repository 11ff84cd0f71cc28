"""How a cloud is stopped, whatever of it is left: nothing of its tag stays, and nothing else is touched."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec

from trunkline.agent import unit_files
from trunkline.cli.progress import Step
from trunkline.devices import lab, namespace, process, units
from trunkline.devices.process import Process
from trunkline.devices.state import Cloud, StateFolder
from trunkline.errors import Refusal

#: Seconds that guests have to power down, all of them together.
_GUESTS = 8.0
_KEEPER = 40.0
#: What a cloud keeps in its state folder.
_OURS = (
    *("cloud.json", ".cloud.json.new", "clouds.yaml", "db", "keys", "pki", "images", "ssh", "run", "log"),
    *("c", "h", "cache", "policy.yaml"),
)


def is_running(state: StateFolder, cloud: Cloud) -> bool:
    """Whether anything of the cloud is there: a daemon or a namespace."""
    return bool(namespace.names(cloud.prefix)) or any(True for _ in _daemons(state))


def stop_everything(state: StateFolder, step: Step) -> None:
    """Stops servers (asked to power down first), daemons and their keeper; removes the namespaces.

    Works without the keeper, and without a cloud.json that can be read.
    """
    step.note("keeper and daemons")
    prefixes = _prefixes(state)
    state.units_file.unlink(missing_ok=True)  # Without a list, nobody starts another keeper.
    # The keeper first, or it would start again what is stopped; it stops its daemons by itself.
    keeper = process.find(state.pidfile("keeper"))
    if keeper is not None:
        keeper.terminate(_KEEPER)
    _all_at_once([partial(found.terminate, 5.0) for found in _daemons(state)])
    guests = list(_guests(state))
    if guests:
        step.note(f"{len(guests)} server{'s' if len(guests) > 1 else ''} power down")
        deadline = time.monotonic() + _GUESTS
        _all_at_once([partial(_end_guest, guest, pidfile, deadline) for guest, pidfile in guests])
    # With their namespaces all that they started ends, too.
    _all_at_once([partial(_end_unit, left.with_suffix(".pid")) for left in state.root.glob("h/*/u/*.run")])
    step.note("namespaces")
    for prefix in prefixes:
        lab.remove(prefix)
    _clear_run(state)
    step.note("")


def wipe(state: StateFolder) -> list[str]:
    """Forgets the cloud's data; returns the names in the folder that are not its own, and stay."""
    for name in _OURS:
        path = state.root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    left = sorted(os.listdir(state.root))
    if not left and not state.root.is_mount():  # A disk of its own is whoever mounted it to take away.
        state.root.rmdir()
    return left


def _prefixes(state: StateFolder) -> set[str]:
    """What the names of its namespaces begin with: by cloud.json, or by the list of its daemons."""
    with contextlib.suppress(Refusal):
        return {state.load().prefix}
    try:
        names = {unit.netns for unit in units.load_units(state) if unit.netns}
    except msgspec.MsgspecError:
        names = set()
    return {f"{name.partition('-')[0]}-" for name in names}


def _daemons(state: StateFolder) -> Iterable[Process]:
    for pidfile in sorted(state.run.glob("*.pid")):
        if (found := process.find(pidfile)) is not None:
            yield found


def _guests(state: StateFolder) -> Iterable[tuple[Process, Path]]:
    for pidfile in sorted(state.root.glob("h/*/s/*.pid")):
        if (found := process.find(pidfile)) is not None:
            yield found, pidfile


def _all_at_once(actions: Sequence[Callable[[], None]]) -> None:
    if actions:
        with ThreadPoolExecutor(min(len(actions), 32)) as pool:
            for done in [pool.submit(action) for action in actions]:
                done.result()


def _end_unit(pidfile: Path) -> None:
    with contextlib.suppress(Refusal):
        unit_files.end(pidfile)


def _end_guest(guest: Process, pidfile: Path, deadline: float) -> None:
    """Asks the guest to power down, ends its QEMU when it has or when its time is over."""
    with contextlib.suppress(OSError, ValueError):
        _power_down(pidfile.with_suffix(".qmp"), deadline)
    guest.terminate(3.0)
    pidfile.unlink(missing_ok=True)


def _power_down(monitor: Path, deadline: float) -> None:
    """By QMP (QEMU's docs/interop/qmp-spec); returns when the guest has, or at the deadline."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2.0)
        client.connect(str(monitor))
        for command in ("qmp_capabilities", "system_powerdown"):
            client.sendall(json.dumps({"execute": command}).encode() + b"\n")
        stream = client.makefile("rb")
        while (left := deadline - time.monotonic()) > 0:
            client.settimeout(left)
            line = stream.readline()
            if not line or json.loads(line).get("event") == "SHUTDOWN":
                return


def _clear_run(state: StateFolder) -> None:
    """Pid files and sockets of what is gone; what daemons keep for the next time stays."""
    for pattern in ("run/*.pid", "run/*.sock", "run/keeper.json", "run/units.json", "c/*.sock", "c/*.ctl"):
        for path in state.root.glob(pattern):
            path.unlink(missing_ok=True)
    for pattern in ("h/*/*.sock", "h/*/*.ctl", "h/*/*.pid", "h/*/*.mgmt", "h/*/*.snoop"):
        for path in state.root.glob(pattern):
            path.unlink(missing_ok=True)
