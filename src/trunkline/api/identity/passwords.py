"""Passwords: Argon2id hashes, made in a few threads, and never telling whether a user exists.

RFC 9106; the cost (19 MiB, 2 passes, 1 lane) is OWASP's first choice for servers.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from trunkline.errors import TooMany

T = TypeVar("T")

#: As Keystone's `max_password_length`; longer ones are refused before anything is computed.
MAX_LENGTH = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one hash costs. Lower it for tests alone."""

    passes: int = 2
    kibibytes: int = 19 * 1024


class Passwords:
    """Makes and verifies hashes, away from the event loop.

    Args:
        cost: of new hashes. A hash carries its own, so that old ones stay good.
        threads: how many hashes are computed at once.
        waiting: how many more may wait; beyond that, requests are refused.
    """

    def __init__(self, cost: Cost | None = None, *, threads: int = 2, waiting: int = 64) -> None:
        cost = cost or Cost()
        self._hasher = PasswordHasher(time_cost=cost.passes, memory_cost=cost.kibibytes, parallelism=1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="password")
        self._room = threads + waiting
        self._dummy = _nobodys(cost)

    def hash_now(self, password: str) -> str:
        """The hash, computed in the caller's thread."""
        return self._hasher.hash(password)

    async def hash(self, password: str) -> str:
        """The hash of a password, as text with its parameters and salt.

        Raises:
            TooMany: too many are waiting.
        """
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, hashed: str, password: str) -> bool:
        """Whether the password is the one of the hash. With "" for a hash, no, after the same time.

        Raises:
            TooMany: too many are waiting.
        """
        matches = await self._run(lambda: self._matches(hashed or self._dummy, password))
        return matches and bool(hashed)

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _matches(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._room <= 0:
            raise TooMany("Too many log-ins are under way. Try again in a moment.")
        self._room -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._room += 1


def _nobodys(cost: Cost) -> str:
    """A hash that no password has, and that takes as long to verify as another: random bytes in its form."""
    salt, digest = (base64.b64encode(secrets.token_bytes(n)).decode().rstrip("=") for n in (16, 32))
    return f"$argon2id$v=19$m={cost.kibibytes},t={cost.passes},p=1${salt}${digest}"
