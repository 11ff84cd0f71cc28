"""How often log-ins may fail: a token bucket for each user name, and one for each source.

A log-in takes a token from both before its password is looked at, and a good one puts them back, so
that only guessing spends them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from trunkline.errors import TooMany


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` at once, and then `per_second`."""

    burst: float
    per_second: float


#: Failed log-ins of one user: ten at once, then one in five seconds.
USER_RATE = Rate(10, 0.2)
#: Failed log-ins from one source, whoever they were for.
SOURCE_RATE = Rate(100, 5)


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class LoginLimits:
    """The buckets. Those not used for longest are forgotten, so that names made up cost no memory.

    Args:
        user, source: the rates; None for no limit.
        remember: how many buckets are kept.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        user: Rate | None = USER_RATE,
        source: Rate | None = SOURCE_RATE,
        remember: int = 20_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rates = {"user": user, "source": source}
        self._remember = remember
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()

    def take(self, user: str, source: str) -> None:
        """Takes a token for a user's name (with its domain) and one for where it comes from.

        Raises:
            TooMany: one of them has none left; nothing is taken then.
        """
        taken: list[_Bucket] = []
        for kind, key in (("user", user), ("source", source)):
            rate = self._rates[kind]
            if rate is None:
                continue
            bucket = self._bucket(kind, key, rate)
            if bucket.tokens < 1:
                for other in taken:
                    other.tokens += 1
                raise TooMany(
                    f"Too many failed log-ins for this {kind}. Wait, and try again.",
                    retry_after=(1 - bucket.tokens) / rate.per_second,
                )
            bucket.tokens -= 1
            taken.append(bucket)

    def give_back(self, user: str, source: str) -> None:
        """Puts back what `take` took: the log-in was good."""
        for kind, key in (("user", user), ("source", source)):
            rate = self._rates[kind]
            if rate is not None:
                bucket = self._bucket(kind, key, rate)
                bucket.tokens = min(rate.burst, bucket.tokens + 1)

    def _bucket(self, kind: str, key: str, rate: Rate) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get((kind, key))
        if bucket is None:
            bucket = self._buckets[kind, key] = _Bucket(rate.burst, now)
            if len(self._buckets) > self._remember:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end((kind, key))
            bucket.tokens = min(rate.burst, bucket.tokens + (now - bucket.at) * rate.per_second)
            bucket.at = now
        return bucket
