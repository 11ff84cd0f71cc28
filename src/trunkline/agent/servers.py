"""All servers of the host: a `Machine` for each, kept or made or removed as the slice says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec

from trunkline.agent.hosting import Host, Reached
from trunkline.agent.machine import Machine
from trunkline.agent.qemu import Files
from trunkline.compiler.slices import HostSlice
from trunkline.resources.reports import ServerReport

#: How much of the end of a console is told, in bytes.
_CONSOLE_TOLD = 32 * 1024


class Servers:
    """Manager of the servers. Owns FOLDER and the QEMU processes of its pid files."""

    def __init__(self, folder: Path, host: Host) -> None:
        self._folder = folder
        self._host = host
        self._machines: dict[str, Machine] = {}
        self._names: dict[str, str] = {}
        self._wanted: HostSlice | None = None
        #: Server to the size and time of the console that was told.
        self._told: dict[str, tuple[int, int]] = {}

    def open(self) -> None:
        """Finds what an agent before this one left."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for file in self._folder.glob("*.json"):
            try:
                reached = msgspec.json.decode(file.read_bytes(), type=Reached)
            except msgspec.MsgspecError:
                # Written whole or not at all; this is none of ours, or the disk is damaged.
                continue
            self._names[reached.id] = file.stem
            self._machines[reached.id] = Machine(Files(self._folder, file.stem), reached, self._host)

    def want(self, slice_: HostSlice) -> None:
        """The servers of this slice, and no others."""
        self._wanted = slice_

    async def apply(self) -> None:
        """Tells every machine; each goes its own way from there."""
        if self._wanted is None:
            return
        ports = {port.id: port for port in self._wanted.ports}
        servers = {server.id: server for server in self._wanted.servers}
        for id, machine in list(self._machines.items()):
            if id not in servers:
                machine.want(None)
            if machine.gone.is_set():
                await machine.close()
                del self._machines[id]
                del self._names[id]
                self._told.pop(id, None)
        for id, server in servers.items():
            current = self._machines.get(id)
            if current is None:
                name = self._free_name(id)
                self._names[id] = name
                current = self._machines[id] = Machine(Files(self._folder, name), Reached(id=id), self._host)
            current.want(server, [ports[p] for p in server.ports if p in ports])

    @property
    def settled(self) -> bool:
        """Whether every server is as the slice wants it."""
        return all(machine.settled for machine in self._machines.values())

    def reports(self) -> tuple[ServerReport, ...]:
        """What is seen of each."""
        return tuple(machine.report() for machine in self._machines.values())

    def images(self) -> set[str]:
        """The images that disks build on."""
        return {image for machine in self._machines.values() for image in machine.images}

    def held_ports(self) -> Iterator[str]:
        """The first 11 characters of the ids of the ports that running QEMUs hold."""
        for machine in self._machines.values():
            for device in machine.devices:
                yield f"{device[1:9]}-{device[9:11]}"

    def new_consoles(self) -> dict[str, bytes]:
        """The end of every console that was written to since the last call, by server."""
        found = {}
        for id, name in self._names.items():
            file = Files(self._folder, name).console
            try:
                status = file.stat()
                mark = (status.st_size, status.st_mtime_ns)
                if self._told.get(id) != mark:
                    with file.open("rb") as stream:
                        stream.seek(max(0, status.st_size - _CONSOLE_TOLD))
                        found[id] = stream.read(_CONSOLE_TOLD)
                    self._told[id] = mark
            except OSError:
                continue
        return found

    def forget_console(self, id: str) -> None:
        """It could not be told: `new_consoles` gives it again."""
        self._told.pop(id, None)

    def forget_consoles(self) -> None:
        """Who was told knows no more: `new_consoles` gives all of them again."""
        self._told.clear()

    async def close(self) -> None:
        """Lets go of all; their QEMUs go on."""
        await asyncio.gather(*(machine.close() for machine in self._machines.values()))

    def _free_name(self, id: str) -> str:
        digits = id.replace("-", "")
        taken = set(self._names.values())
        return next((digits[:n] for n in (8, 12) if digits[:n] not in taken), digits)
