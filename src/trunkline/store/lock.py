"""One process at a time: a lock file beside the store."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from trunkline.store.sqlite import CannotOpen


class Lock:
    """An exclusive lock on a file that also says who holds it. The kernel frees it when its holder dies."""

    def __init__(self, path: Path) -> None:
        """Takes the lock of the store at `path`.

        Raises:
            CannotOpen: another process holds it, who is named; or it cannot be made.
        """
        name = path.with_name(f"{path.name}.lock")
        try:
            self._file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotOpen(
                f"The lock {name} cannot be opened: {error.strerror}. Check its owner and mode."
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise CannotOpen(
                f"The store {path} is in use by process {holder or 'unknown'}. Stop that one first "
                "(`trunkline down`), or choose another state folder."
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Gives it back. The file stays: who removed it could remove another's lock."""
        os.close(self._file)
