"""Suspending a server: its memory goes to a file, its QEMU ends; and it goes on from there.

    save   stand still ──▶ NAME.memory-part ──▶ on the disk, and renamed: NAME.memory ──▶ QEMU ends
    load   a QEMU with the same devices at the same places waits ──▶ reads it ──▶ the file goes
                                                                        ──▶ and only then the guest runs

A file that is there under its name is whole, and the guest has not run since: its disks are as it left them.
So whoever dies, and wherever, nothing is loaded that the disks have left behind. QEMU opens no files for
this, but is handed them. Source: QEMU, qapi/migration.json, docs/devel/migration.rst (of the URI ``fd:``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from trunkline.agent import migration, qemu
from trunkline.agent.guest import Guest, tail
from trunkline.agent.hosting import Host, NotYet, Reached, Stuck
from trunkline.agent.qemu import Memory
from trunkline.compiler.slices import PortSlice, ServerSlice
from trunkline.devices import disks, files
from trunkline.devices.qmp import CommandRefused, Monitor
from trunkline.errors import Unavailable

#: What is left free on the file system.
_MARGIN = 256 << 20
#: How often it is looked how far it is, seconds.
_LOOK = 0.1
#: How long QEMU may be silent while it reads.
_LONG = 60.0
#: How often it is tried to load a memory.
_TRIES = 3
_NAME = "memory"
_REMEDY = "Reboot it (hard): it boots from its disk, as after a loss of power."


class Suspension:
    """Owns the memory file of one server. `refused` is why one that is to be suspended goes on, else ""."""

    def __init__(self, own: qemu.Files, reached: Reached, host: Host, guest: Guest) -> None:
        self._files = own
        self._reached = reached
        self._host = host
        self._guest = guest
        self._begun = False
        self.refused = ""

    @property
    def memory(self) -> Memory | None:
        """What it goes on with; None where there is nothing that it could."""
        return self._reached.memory if self._files.memory.exists() else None

    async def save(self, server: ServerSlice, ports: Sequence[PortSlice]) -> float | None:
        """Goes one step further towards it; returns when to look again, None where it is, or is refused.

        Raises:
            Stuck: neither the guest nor its memory is there.
        """
        guest = self._guest
        if guest.process is None:
            if self.memory is None:
                raise Stuck("it ended before its memory was kept", _REMEDY)
            return None
        assert guest.monitor is not None
        if self.refused:
            if guest.run_state == "paused":
                await guest.monitor.execute("cont")
            return None
        try:
            return await self._step(guest.monitor, server, ports)
        except (CommandRefused, OSError) as error:
            return await self._refuse(guest.monitor, str(error))

    async def keep(self) -> bool:
        """QEMU is done, if this was why it stands still: gives the file its name, where it is whole.

        Returns: whether it was.
        """
        monitor = self._guest.monitor
        if self._reached.memory is None or monitor is None:
            return False
        # A guest that stood still is left like this by a failure, too.
        if await migration.outcome(monitor) != "completed":
            await self._refuse(monitor, await _why(monitor))
            return True
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(files.finish, self._part, self._files.memory)
        await self._guest.kill()
        return True

    @property
    def _part(self) -> Path:
        return self._files.memory.with_suffix(".memory-part")

    async def _step(self, monitor: Monitor, server: ServerSlice, ports: Sequence[PortSlice]) -> float | None:
        status = await migration.outcome(monitor)
        if status in ("setup", "active", "device", "completing", "cancelling"):
            return _LOOK
        state = (await monitor.execute("query-status"))["status"]
        if state == "postmigrate":
            return 0.0
        if state == "finish-migrate":
            # QEMU calls it completed a moment before it has ended.
            return _LOOK
        if self._begun and status in ("failed", "cancelled"):
            return await self._refuse(monitor, await _why(monitor))
        free, needed = disks.free_bytes(self._files.folder), (server.memory_mib << 20) + _MARGIN
        if free < needed:
            cause = f"{free >> 20} MiB are free for its memory, {needed >> 20} are needed. Free some"
            return await self._refuse(monitor, cause)
        await monitor.execute("stop")
        await self._begin(monitor, ports)
        self._begun = True
        return _LOOK

    async def _begin(self, monitor: Monitor, ports: Sequence[PortSlice]) -> None:
        there = tuple(port for port in ports if qemu.device(port.id) in self._guest.devices)
        self._reached.memory = Memory(
            machine=await _machine(monitor),
            slots=await migration.slots(monitor),
            ports=there,
            accelerated=self._reached.accelerated,
        )
        await self._reached.save(self._files.state)
        await _unadorned(monitor)
        descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            await monitor.lend(_NAME, descriptor)
        finally:
            os.close(descriptor)
        await monitor.execute("migrate", {"uri": f"fd:{_NAME}"})

    async def _refuse(self, monitor: Monitor, cause: str) -> float:
        """The guest goes on as if nothing had been asked."""
        self.refused = cause[:500]
        self._begun = False
        with contextlib.suppress(CommandRefused):
            await monitor.execute("cont")
        self._host.changed()
        return 0.0

    async def load(self, server: ServerSlice, ports: Sequence[PortSlice], memory: Memory) -> None:
        """Starts its QEMU from its memory; the guest stands still, and is as it was.

        Raises:
            NotYet: it cannot be had now; ask again.
            Stuck: it cannot be had, and was tried often enough.
        """
        guest = self._guest
        if memory.failures >= _TRIES:
            raise Stuck(f"its memory cannot be loaded: {tail(self._files.errors, 300)}", _REMEDY)
        known = {port.id: port for port in ports}
        try:
            if memory.accelerated != self._host.accelerated:
                raise Unavailable("it is of a processor that this host does not have any more")
            await guest.start(server, [known.get(p.id, p) for p in memory.ports], memory)
            assert guest.monitor is not None
            with self._files.memory.open("rb") as stream:
                await guest.monitor.lend(_NAME, stream.fileno())
            await guest.monitor.execute("migrate-incoming", {"uri": f"fd:{_NAME}"})
            while (await guest.monitor.execute("query-status", timeout=_LONG))["status"] != "paused":
                await asyncio.sleep(_LOOK)
        except (Unavailable, CommandRefused, OSError) as error:
            await guest.kill()
            memory.failures += 1
            await self._reached.save(self._files.state)
            cause = tail(self._files.errors, 300) or str(error)
            raise NotYet(f"its memory cannot be loaded: {cause}") from None
        await self.drop()

    async def drop(self) -> None:
        """There is nothing to go on with from now on; may be repeated."""
        self._begun, self.refused = False, ""
        if self._reached.memory is not None:
            await asyncio.to_thread(self.remove)
            self._reached.memory = None
            await self._reached.save(self._files.state)

    def remove(self) -> None:
        """The files go, and stay gone whatever happens next."""
        for file in (self._part, self._files.memory):
            file.unlink(missing_ok=True)
        files.sync_names(self._files.folder)


async def _why(monitor: Monitor) -> str:
    return str((await monitor.execute("query-migrate")).get("error-desc") or "QEMU does not say why")


async def _machine(monitor: Monitor) -> str:
    """The type of a machine, with the version that its devices are of."""
    named = await monitor.execute("qom-get", {"path": "/machine", "property": "type"})
    return str(named).removesuffix("-machine")


async def _unadorned(monitor: Monitor) -> None:
    """What a departure that failed may have left is not for a file: its pause, its credentials."""
    wanted = {"pause-before-switchover": False, "events": True}
    capabilities = [{"capability": name, "state": state} for name, state in wanted.items()]
    await monitor.execute("migrate-set-capabilities", {"capabilities": capabilities})
    plain = {"max-bandwidth": 1 << 40, "tls-creds": "", "tls-hostname": ""}
    await monitor.execute("migrate-set-parameters", plain)
