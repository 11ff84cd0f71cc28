"""The key repository of Fernet tokens: a folder of numbered files, as Keystone keeps it.

    0        staged: the next primary. It decrypts already, so that processes may rotate one by one.
    highest  primary: encrypts and decrypts.
    others   secondary: primaries of the past, which decrypt until they are pruned.

Source: Keystone's administrator guide, "Fernet - Frequently Asked Questions". A token outlives
`max_active - 2` rotations, so let rotations be at least the life of a token apart.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from cryptography.fernet import Fernet, MultiFernet

from trunkline.errors import Unavailable

#: Primary, staged, and one secondary.
MAX_ACTIVE = 3


class KeyRepository:
    """The keys in a folder. Owns the files with numbers for names in it, and no others.

    Any number of processes may read one folder; one alone rotates. Thread-safe.

    Args:
        path: the folder; made at need, readable by its owner alone.
        max_active: how many keys are kept, 3 or more.
    """

    def __init__(self, path: Path, max_active: int = MAX_ACTIVE) -> None:
        assert max_active >= 3, "a token must survive a rotation"
        self._path = path
        self._max_active = max_active
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] = ()
        self._crypt: MultiFernet | None = None

    def numbers(self) -> list[int]:
        """The numbers of the keys there are, ascending."""
        if not self._path.is_dir():
            return []
        return sorted(int(name) for name in os.listdir(self._path) if name.isascii() and name.isdigit())

    def setup(self) -> None:
        """Makes what is missing: the folder, a staged key and a primary. Harmless when all is there."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock:
            numbers = self.numbers()
            if 0 not in numbers:
                self._write(0)
            if not any(numbers):
                self._write(1)

    def rotate(self) -> int:
        """The staged key becomes primary, a new one is staged, the oldest secondaries go.

        Returns: the number of the new primary.
        """
        self.setup()
        with self._lock:
            primary = max(self.numbers()) + 1
            os.replace(self._path / "0", self._path / str(primary))
            self._write(0)
            for number in self.numbers()[1 : 1 - self._max_active]:
                (self._path / str(number)).unlink()
            self._sync()
        return primary

    def rotated_at(self) -> float:
        """When keys were last rotated (or first made): when the staged one was. Seconds since the epoch."""
        return (self._path / "0").stat().st_mtime

    def crypt(self) -> MultiFernet:
        """What encrypts with the primary and decrypts with all, read again after a rotation.

        Raises:
            Unavailable: there is no key, or one that cannot be read.
        """
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino)
            if self._crypt is None or seen != self._seen:
                with self._lock:
                    self._crypt, self._seen = self._load(), seen
            return self._crypt
        except (OSError, ValueError) as error:
            raise Unavailable(f"The token keys in {self._path} cannot be read: {error}.") from None

    def _load(self) -> MultiFernet:
        numbers = sorted(self.numbers(), reverse=True)
        if not numbers:
            raise ValueError("there is none")
        return MultiFernet([Fernet((self._path / str(number)).read_bytes()) for number in numbers])

    def _write(self, number: int) -> None:
        """A key appears whole or not at all."""
        part = self._path / f".{number}.part"
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key())
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self._path / str(number))
        self._sync()

    def _sync(self) -> None:
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
