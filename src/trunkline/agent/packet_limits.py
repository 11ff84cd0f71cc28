"""Limits of packets: meters of the guard bridge, which a workload's frames pass before anything else.

A meter belongs to a bridge: those of the guard bridge are the agent's alone, while on the integration bridge
ovn-controller removes what is not its own. A flow goes with its meter, so whoever removes one cuts its
port off, until both are put back.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import NamedTuple

from trunkline.compiler.slices import PacketLimit
from trunkline.devices import meters
from trunkline.devices.meters import Meter


class Key(NamedTuple):
    """What a meter is for: what a port sends ("egress"), or gets ("ingress")."""

    port: str
    direction: str


class PacketLimits:
    """Owns all meters of one bridge. Each keeps its number for as long as it is wanted."""

    def __init__(self, management: Path) -> None:
        """`management`: the bridge's socket."""
        self._management = management
        #: By number, from 1 up.
        self.wanted: dict[int, Meter] = {}
        self._numbers: dict[Key, int] = {}
        #: Whether there may be any on the bridge.
        self._used = True

    def want(self, limits: Mapping[Key, PacketLimit]) -> Mapping[Key, int]:
        """Meters for these, and no others; returns their numbers."""
        kept = {key: number for key, number in self._numbers.items() if key in limits}
        taken = set(kept.values())
        free = (number for number in count(1) if number not in taken)
        self._numbers = kept | {key: next(free) for key in sorted(limits) if key not in kept}
        self.wanted = {self._numbers[key]: Meter.of(each.rate, each.burst) for key, each in limits.items()}
        return self._numbers

    async def put(self) -> None:
        """Makes those that are wanted what they should be: before flows use them.

        Raises:
            ToolFailed: the switch does not answer, or has no such meters.
        """
        there = await self._there()
        for number, meter in self.wanted.items():
            if there.get(number) != meter:
                await meters.put(self._management, number, meter, new=number not in there)

    async def clear(self) -> None:
        """Removes the others, when no flow uses them any more. Raises as `put`."""
        for number in (await self._there()).keys() - self.wanted.keys():
            await meters.delete(self._management, number)
        self._used = bool(self.wanted)

    async def _there(self) -> Mapping[int, Meter | None]:
        if not (self._used or self.wanted):
            return {}
        self._used = True
        return await meters.shown(self._management)
