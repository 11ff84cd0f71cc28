"""Files that are there as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace(file: Path, content: bytes, mode: int = 0o644, *, durable: bool = True) -> None:
    """Replaces a file as a whole; when `durable`, it is on the disk on return.

    Raises:
        OSError: as when the disk is full; what was there before is there still.
    """
    new = file.with_name(f".{file.name}.new")
    try:
        with os.fdopen(
            os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "wb"
        ) as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.replace(new, file)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    if durable:
        sync_names(file.parent)


def finish(part: Path, whole: Path) -> None:
    """Gives a file that was written in parts its name, once it is on the disk."""
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    part.replace(whole)
    sync_names(whole.parent)


def sync_names(folder: Path) -> None:
    """What was renamed or removed in a folder is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def last_lines(file: Path, count: int, *, since: int = 0, at_most: int = 16384) -> list[str]:
    """The last lines of a log that were written after byte `since`; none where there is no file."""
    try:
        with file.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            if since > end:  # it was cut since
                since = 0
            start = max(since, end - at_most)
            stream.seek(start)
            lines = stream.read(at_most).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    if start > since:
        lines = lines[1:]
    return [line for line in lines if line.strip()][-count:]


def size(file: Path) -> int:
    """Bytes; 0 where there is no file."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
