"""What the process of a compute unit leaves on its host, and how that goes when its agent is not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from trunkline.devices import cgroups, files, process

#: It ends by itself within so many seconds, or is killed.
GRACE = 3.0


class Leavings(msgspec.Struct, frozen=True):
    """The state file of a running unit: what was made for its process, and does not end with it."""

    #: Where it is on the buses.
    appliance: str
    number: int
    #: Of its control group.
    folders: tuple[str, ...]
    #: The other ends of its legs, on the host.
    legs: tuple[str, ...] = ()


def socket_of(pidfile: Path) -> Path:
    """Where the program listens for its agent: in a folder of which it sees nothing but that."""
    return pidfile.with_suffix("") / "s"


class Left:
    """That file: NAME.run."""

    def __init__(self, pidfile: Path) -> None:
        """By the pid file, NAME.pid."""
        self._pidfile, self._file = pidfile, pidfile.with_suffix(".run")

    def read(self) -> Leavings | None:
        """None where there is none: nothing is left."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Leavings)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def write(self, leavings: Leavings) -> None:
        """Before anything of it is made."""
        files.replace(self._file, msgspec.json.encode(leavings), durable=False)

    def clear(self) -> None:
        """Removes the group, and the files of the process, which has ended. Raises Unavailable."""
        if (left := self.read()) is not None:
            cgroups.Group(left.folders).remove()
        socket = socket_of(self._pidfile)
        for file in (socket, self._pidfile, self._file):
            file.unlink(missing_ok=True)
        # With what the program kept there for itself.
        shutil.rmtree(socket.parent, ignore_errors=True)


def end(pidfile: Path) -> None:
    """Ends a unit whose agent is gone, and removes what it leaves. Raises Unavailable."""
    if (running := process.find(pidfile)) is not None:
        running.terminate(GRACE)
    Left(pidfile).clear()
