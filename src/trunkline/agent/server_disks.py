"""The disks of one server: made from images, set aside for a move, brought from where they were set aside.

    make      root disk over its image          park    its disks go to `kept`, by name alone
    rescue    a disk to boot from for now       bring   ... and come from there, here or on another host
    others    a second one, one to swap to      take    ... and back, where the move is undone

Each file has its name only when it is whole. What was reached is written before a file builds on an image,
which must not be removed from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

from trunkline.agent import qemu
from trunkline.agent.hosting import Host, Reached
from trunkline.compiler.slices import ImageSlice, Origin, ServerSlice
from trunkline.devices import disks
from trunkline.errors import Unavailable

T = TypeVar("T")


class UnlessDropped(Protocol):
    """Waits for what may take long; gives None where the server is not wanted any more."""

    async def __call__(self, coming: Coroutine[Any, Any, T]) -> T | None:
        """What comes."""


class ServerDisks:
    """Owns the disk files of one server."""

    def __init__(
        self,
        own: qemu.Files,
        reached: Reached,
        host: Host,
        unless_dropped: UnlessDropped,
        making: Callable[[], None],
    ) -> None:
        """`making` is called when a disk is made, after whatever had to be fetched."""
        self._files = own
        self._reached = reached
        self._host = host
        self._unless_dropped = unless_dropped
        self._making = making

    @property
    def _carried(self) -> dict[str, Path]:
        """The files that move with it, by the names that they are set aside under."""
        return {"ephemeral": self._files.ephemeral, "root": self._files.disk}

    # From images.

    async def make(self, server: ServerSlice) -> bool:
        """A fresh root disk; False where it is not wanted any more."""
        if (got := await self._fetched(server.image)) is None:
            return False
        file, image = got
        self._making()
        self._reached.image, self._reached.disk_serial = server.image, None
        await self._reached.save(self._files.state)
        async with self._host.starting:
            await disks.create_overlay(self._files.disk, file, image.disk_format, server.disk_gib)
        self._drop_others()
        self._reached.disk_serial = server.disk_serial
        return True

    async def make_rescue(self, server: ServerSlice) -> bool:
        """The disk that a rescued server boots from, if it is to; False where it is not wanted any more."""
        made = server.rescue == self._reached.rescue and self._files.rescue.exists()
        if not server.rescue or made:
            return True
        if (got := await self._fetched(server.rescue)) is None:
            return False
        file, image = got
        self._reached.rescue = server.rescue
        await self._reached.save(self._files.state)
        # Under its own name only when it is whole: then it is what says that there is one.
        fresh = self._files.rescue.with_suffix(".fresh")
        async with self._host.starting:
            await disks.create_overlay(fresh, file, image.disk_format, 0)
            fresh.replace(self._files.rescue)
        return True

    async def make_others(self, server: ServerSlice) -> None:
        """The second disk and the one to swap to, where they are not there."""
        if server.ephemeral_gib and not self._files.ephemeral.exists():
            await disks.create_ephemeral(self._files.ephemeral, server.ephemeral_gib)
        if server.swap_mib and not self._files.swap.exists():
            await asyncio.to_thread(disks.create_swap, self._files.swap, server.swap_mib)

    async def _fetched(self, id: str) -> tuple[Path, ImageSlice] | None:
        """The file of an image; None where the server is not wanted any more."""
        return await self._unless_dropped(self._host.images.get(id))

    # Of moves.

    def comes_from(self, server: ServerSlice) -> Origin | None:
        """Where its disk is to come from, until it has."""
        origin = server.origin
        return origin if origin is not None and origin.serial > self._reached.moved else None

    async def park(self, server: ServerSlice) -> None:
        """Sets its disks aside; it is stopped."""
        await asyncio.to_thread(self._host.kept.put, server.id, server.park, self._carried)

    async def arrive(self, server: ServerSlice, origin: Origin) -> bool:
        """Gets its disks from where they were set aside; False where it is not wanted any more.

        Raises:
            Unavailable: they are not there, or not to be had now.
        """
        kept = self._host.kept
        self._reached.image, self._reached.disk_serial = server.image, None
        await self._reached.save(self._files.state)
        if origin.back:
            await asyncio.to_thread(kept.take, server.id, origin.kept, self._carried)
            if not self._files.disk.exists():
                raise Unavailable("its disk is not where it was set aside")
        elif not await self._bring(server, origin):
            return False
        self._drop_swap()
        self._reached.disk_serial, self._reached.moved = server.disk_serial, origin.serial
        self.drop_rescue()
        return True

    async def _bring(self, server: ServerSlice, origin: Origin) -> bool:
        """Copies its disks from where they were set aside; False where it is not wanted any more."""
        if (got := await self._fetched(server.image)) is None:
            return False
        file, image = got
        for name, own in self._carried.items():
            # What came of another move's disk is no beginning of this one.
            part = own.with_suffix(f".{name}-{origin.kept}-part")
            self._drop_parts(own, name, other_than=part)
            found = await self._unless_dropped(self._host.kept.fetch(server.id, origin, name, part))
            if found is None:
                return False
            async with self._host.starting:
                if name == "root":
                    if not found:
                        raise Unavailable(f"host {origin.host} has not set its disk aside")
                    await disks.adopt(part, file, image.disk_format, server.disk_gib)
                elif not found or not server.ephemeral_gib:
                    part.unlink(missing_ok=True)
                    continue
                else:
                    await disks.grow(part, server.ephemeral_gib)
            part.replace(own)
        return True

    # Dropped.

    def drop_rescue(self) -> None:
        """The disk that it was rescued from goes."""
        self._reached.rescue = ""
        for file in (self._files.rescue, self._files.rescue.with_suffix(".fresh")):
            file.unlink(missing_ok=True)

    def _drop_others(self) -> None:
        self._files.ephemeral.unlink(missing_ok=True)
        self._drop_swap()

    def _drop_swap(self) -> None:
        self._files.swap.unlink(missing_ok=True)

    @staticmethod
    def _drop_parts(file: Path, name: str, other_than: Path | None = None) -> None:
        for part in file.parent.glob(f"{file.stem}.{name}-*part"):
            if part != other_than:
                part.unlink(missing_ok=True)

    def remove(self) -> None:
        """All of them go."""
        self.drop_rescue()
        self._drop_others()
        for name, file in self._carried.items():
            self._drop_parts(file, name)
        self._files.disk.unlink(missing_ok=True)
