"""A unit's connections to other units of its kind. They stay open."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from trunkline.errors import Unavailable
from trunkline.units.wire import Wire
from trunkline.units.words import PORT

#: How long a unit may take to answer, seconds: a fraction of a core is slow under load. One that begins anew
#: is noticed sooner, for its kernel knows nothing of the connection.
PATIENCE = 15.0
_CONNECT = 5.0


class Peers:
    """Owns connections, one to a unit, that are made when something is to be said. For one event loop."""

    def __init__(self) -> None:
        self._addresses: dict[int, str] = {}
        self._wires: dict[int, tuple[Wire, asyncio.Task[None]]] = {}
        self._making: dict[int, asyncio.Lock] = {}
        #: Connections that are not there yet.
        self._coming: dict[int, asyncio.Task[Wire]] = {}

    def know(self, addresses: Mapping[int, str]) -> None:
        """Where the others are, by number; who is somewhere else now, or is not any more, is let go of."""
        known = self._wires.keys() | self._coming.keys()
        for unit in [unit for unit in known if addresses.get(unit) != self._addresses[unit]]:
            self.leave(unit)
        self._addresses = dict(addresses)

    async def to(self, unit: int) -> Wire:
        """The connection to a unit. Another one than before: that unit, or this connection, is a new one.

        Raises:
            Unavailable: it does not answer.
        """
        async with self._making.setdefault(unit, asyncio.Lock()):
            if unit not in self._wires:
                address = self._addresses.get(unit)
                if address is None:
                    raise Unavailable(f"There is no unit {unit}.")
                wire = await self._connected(unit, address)
                self._wires[unit] = wire, asyncio.create_task(self._hear(unit, wire), name=f"from {unit}")
            return self._wires[unit][0]

    async def _connected(self, unit: int, address: str) -> Wire:
        self._coming[unit] = coming = asyncio.create_task(Wire.connect(address, PORT, _CONNECT))
        try:
            await asyncio.wait([coming])
        finally:
            del self._coming[unit]
            coming.cancel()
        if coming.cancelled():
            raise Unavailable(f"Unit {unit} is let go of.")
        return coming.result()

    def leave(self, unit: int) -> None:
        """Closes the connection to a unit, where there is one, or is about to be."""
        if unit in self._wires:
            self._wires.pop(unit)[1].cancel()
        if unit in self._coming:
            self._coming[unit].cancel()

    async def _hear(self, unit: int, wire: Wire) -> None:
        async for _ in wire.heard():
            pass
        if unit in self._wires and self._wires[unit][0] is wire:
            del self._wires[unit]
