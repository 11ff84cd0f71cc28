"""Passwords and log-in limits: nothing learnt from time, guessing costs, good log-ins do not."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Iterator

import pytest

from trunkline.api.identity.limits import LoginLimits, Rate
from trunkline.api.identity.passwords import Cost, Passwords
from trunkline.errors import TooMany

CHEAP = Cost(passes=1, kibibytes=64)


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords(CHEAP)
    yield made
    made.close()


def test_a_password_is_known_again_and_another_is_not(passwords: Passwords) -> None:
    async def run() -> tuple[bool, bool, bool]:
        hashed = await passwords.hash("sécret")
        return (
            await passwords.verify(hashed, "sécret"),
            await passwords.verify(hashed, "secret"),
            await passwords.verify("no hash", "secret"),
        )

    assert asyncio.run(run()) == (True, False, False)


def test_the_default_cost_is_19_mib_twice() -> None:
    made = Passwords()
    try:
        assert made.hash_now("x").startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    finally:
        made.close()


def test_an_unknown_user_takes_as_long_as_a_wrong_password() -> None:
    made = Passwords(Cost(passes=2, kibibytes=4096), threads=1)

    async def run() -> tuple[float, float]:
        hashed = await made.hash("right")
        known, unknown = [], []
        for _ in range(40):
            for times, stored in ((known, hashed), (unknown, "")):
                started = time.perf_counter()
                assert not await made.verify(stored, "wrong")
                times.append(time.perf_counter() - started)
        return statistics.median(known), statistics.median(unknown)

    try:
        known, unknown = asyncio.run(run())
    finally:
        made.close()
    assert 0.7 < known / unknown < 1.4


def test_no_password_matches_a_user_without_one(passwords: Passwords) -> None:
    assert not asyncio.run(passwords.verify("", ""))


def test_the_queue_is_bounded() -> None:
    made = Passwords(CHEAP, threads=1, waiting=1)
    gate = threading.Event()
    made._pool.submit(gate.wait, 10)

    async def run() -> int:
        waiting = [asyncio.create_task(made.hash("x")) for _ in range(2)]
        await asyncio.sleep(0)
        try:
            with pytest.raises(TooMany):
                await made.hash("x")
        finally:
            gate.set()
        return len(await asyncio.gather(*waiting))

    try:
        assert asyncio.run(run()) == 2
    finally:
        made.close()


# Limits.


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def limits(clock: Clock, *, remember: int = 100) -> LoginLimits:
    return LoginLimits(user=Rate(3, 0.5), source=Rate(5, 1), clock=clock, remember=remember)


def test_failures_are_limited_by_user_and_come_back_with_time() -> None:
    clock = Clock()
    made = limits(clock)
    for _ in range(3):
        made.take("default/eve", "10.0.0.1")
    with pytest.raises(TooMany) as caught:
        made.take("default/eve", "10.0.0.2")
    assert caught.value.retry_after == pytest.approx(2.0)
    clock.now = 2.0
    made.take("default/eve", "10.0.0.1")


def test_failures_are_limited_by_source_over_many_users() -> None:
    made = limits(Clock())
    for n in range(5):
        made.take(f"default/u{n}", "10.0.0.1")
    with pytest.raises(TooMany, match="source"):
        made.take("default/u9", "10.0.0.1")
    made.take("default/u9", "10.0.0.2")


def test_a_refused_attempt_takes_nothing() -> None:
    made = limits(Clock())
    for n in range(5):
        made.take(f"default/u{n}", "10.0.0.1")
    for _ in range(4):
        with pytest.raises(TooMany, match="source"):
            made.take("default/ann", "10.0.0.1")
    for _ in range(3):
        made.take("default/ann", "10.0.0.2")


def test_good_log_ins_are_not_limited() -> None:
    made = limits(Clock())
    for _ in range(100):
        made.take("default/ann", "10.0.0.1")
        made.give_back("default/ann", "10.0.0.1")


def test_no_limit_is_no_limit() -> None:
    made = LoginLimits(user=None, source=None)
    for _ in range(1000):
        made.take("default/ann", "10.0.0.1")


def test_names_made_up_cost_no_memory() -> None:
    made = limits(Clock(), remember=10)
    for n in range(1000):
        made.take(f"default/u{n}", f"10.0.{n >> 8}.{n & 255}")
    assert len(made._buckets) == 10
