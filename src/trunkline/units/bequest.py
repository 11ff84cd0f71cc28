"""What a data plane had begun lately when its process was killed, told to the others by who sees it dead.

    killed ── its kernel forwards until it is passed by, and begins connections that nobody knows ──▶ cut
                   `── agent: enters its network namespace, reads them ── Bequest ──▶ other data planes

Copies are a moment behind their connections, and a process that has ended copies nothing. Its kernel knows
all of them for as long as somebody holds its namespace, which is still on the out-of-band bus.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence

from trunkline.devices.conntrack import Conntrack, Entry
from trunkline.errors import Refusal
from trunkline.plan.shards import SHARDS
from trunkline.units.connections import THROUGH
from trunkline.units.wire import Wire
from trunkline.units.words import PORT, Bequest

log = logging.getLogger(__name__)
#: What began longer ago than this has copies, seconds.
_LATELY = 2.0
#: How many connections one message tells of.
_SOME = 512


async def bequeath(netns: str, unit: int, heirs: Iterable[str], patience: float) -> int:
    """Tells others what a data plane began lately; returns how many connections that are.

    Args:
        netns: the network namespace that it had.
        unit: its number.
        heirs: the other data planes' addresses on the out-of-band bus.
        patience: who does not answer for so long is passed over, seconds.

    Raises:
        Unavailable, OSError: the namespace cannot be entered, or read.
    """
    left = await asyncio.to_thread(_begun, netns)
    if left:
        told = await asyncio.gather(
            *(_tell(netns, unit, heir, left, patience) for heir in heirs), return_exceptions=True
        )
        for problem in told:
            if isinstance(problem, BaseException):
                log.info("what a data plane left is not told to all: %s", problem)
    return len(left)


def _begun(netns: str) -> list[Entry]:
    kernel = Conntrack(netns)
    try:
        return kernel.begun(time.time() - _LATELY, lambda mark: mark & THROUGH < SHARDS)
    finally:
        kernel.close()


async def _tell(netns: str, unit: int, address: str, left: Sequence[Entry], patience: float) -> None:
    wire = await Wire.connect(address, PORT, patience, netns)
    hears = asyncio.create_task(_hear(wire))
    try:
        for start in range(0, len(left), _SOME):
            await wire.ask(Bequest, unit, tuple(left[start : start + _SOME]), patience=patience)
    except Refusal as error:
        raise type(error)(f"[{address}]: {error.message}") from None
    finally:
        hears.cancel()
        # What is not read holds the namespace.
        wire.abort()
        await asyncio.gather(hears, return_exceptions=True)


async def _hear(wire: Wire) -> None:
    async for _ in wire.heard():
        pass
