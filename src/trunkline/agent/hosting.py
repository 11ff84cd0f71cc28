"""What the servers of a host share, and what is remembered of each: the state file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from trunkline.agent.images import Images
from trunkline.agent.kept import Kept
from trunkline.agent.migration import Underlay
from trunkline.agent.qemu import Memory
from trunkline.agent.snapshots import Upload
from trunkline.compiler.slices import ServerSlice
from trunkline.devices import files
from trunkline.errors import Unavailable
from trunkline.resources.reports import Arriving


class NotYet(Unavailable):
    """Something that the server needs is not there yet; it is no fault of the server's."""


class Stuck(Unavailable):
    """Something that does not become well by itself; `remedy` says what to do."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.remedy = remedy


class Reached(msgspec.Struct, kw_only=True):
    """The state file: what was reached, and cannot be seen in QEMU."""

    id: str
    image: str = ""
    #: The image that the rescue disk builds on, "" where there is none.
    rescue: str = ""
    #: None until there is a disk.
    disk_serial: int | None = None
    hard_reboot_serial: int = 0
    soft_reboot_serial: int = 0
    #: The newest origin that its disk came from.
    moved: int = 0
    halted: bool = False
    accelerated: bool = False
    #: Of one that comes from another host while it runs: a QEMU was started for it, and listens.
    arriving: Arriving | None = None
    #: Of one that is being suspended, or is: what its memory needs.
    memory: Memory | None = None

    def rebooted(self, server: ServerSlice) -> None:
        """It is to boot, or runs, as of all reboots that are wanted."""
        self.hard_reboot_serial = server.hard_reboot_serial
        self.soft_reboot_serial = server.soft_reboot_serial
        self.halted = False

    async def save(self, file: Path) -> None:
        """Writes it, whole or not at all."""
        await asyncio.to_thread(files.replace, file, msgspec.json.encode(self))


@dataclass(frozen=True)
class Host:
    """What machines share."""

    images: Images
    kept: Kept
    accelerated: bool
    datapath: Literal["netdev", "system"]
    graceful_seconds: float
    #: Bounds how many are started at once.
    starting: asyncio.Semaphore
    #: Something that is reported has changed.
    changed: Callable[[], None]
    #: Returns when what is seen now has been reported, or after a moment.
    reported: Callable[[], Awaitable[None]]
    #: Gives the control plane the content of an image.
    upload: Upload
    #: Where servers come from other hosts.
    underlay: Underlay
