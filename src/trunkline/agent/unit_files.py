"""What the process of a compute unit leaves on its host, and how that goes when its agent is not there."""

from __future__ import annotations

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


class Left:
    """That file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> Leavings | None:
        """None where there is none: nothing is left."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Leavings)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def write(self, leavings: Leavings) -> None:
        """Before anything of it is made."""
        files.replace(self._file, msgspec.json.encode(leavings), durable=False)

    def clear(self, *others: Path) -> None:
        """Removes the group and the file, and others of the process, which has ended. Raises Unavailable."""
        if (left := self.read()) is not None:
            cgroups.Group(left.folders).remove()
        for file in (*others, self._file):
            file.unlink(missing_ok=True)


def end(pidfile: Path) -> None:
    """Ends a unit whose agent is gone, and removes what it leaves. Raises Unavailable."""
    if (running := process.find(pidfile)) is not None:
        running.terminate(GRACE)
    Left(pidfile.with_suffix(".run")).clear(pidfile, pidfile.with_suffix(".sock"))
