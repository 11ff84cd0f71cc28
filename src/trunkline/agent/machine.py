"""One server of the host: driven towards what is wanted, one step at a time, from what is found.

    look: is its QEMU alive, what does it say           wanted, by the slice
        `------------------------ step ------------------------'
                                   |
         one of: make the disk, start, ask to power down, kill, pause, go on, plug, unplug; or nothing

    `guest` its QEMU; `server_disks` its disks, and moving them; `suspension` its memory, kept in a file;
    `live` moving it while it runs

What cannot be seen in QEMU (which rebuild, which reboot was the last) is in the state file, written before
or after the deed so that repeating the deed is the worst outcome.

A guest that powered itself off stays off (``halted``) until its power is wanted "stopped", or a reboot or
rebuild is. A QEMU that ended otherwise is started again, with growing pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from trunkline.agent import documents, qemu
from trunkline.agent.crashes import LONGEST_PAUSE, Crashes
from trunkline.agent.guest import Guest, check_plugged
from trunkline.agent.hosting import Host, NotYet, Reached, Stuck
from trunkline.agent.live import Coming, Going
from trunkline.agent.server_disks import ServerDisks
from trunkline.agent.snapshots import Snapshot
from trunkline.agent.suspension import Suspension
from trunkline.compiler.slices import PortSlice, ServerSlice
from trunkline.devices import configdrive
from trunkline.devices.qmp import CommandRefused
from trunkline.errors import Refusal
from trunkline.resources.reports import Condition, ServerReport, ServerState

log = logging.getLogger(__name__)
T = TypeVar("T")


class Machine:
    """One server. Owns its files, its QEMU, and one task.

    `want` says what for; `want(None)` removes it for good, after which `gone` is set.
    """

    def __init__(self, own: qemu.Files, reached: Reached, host: Host) -> None:
        self._files = own
        self._reached = reached
        self._host = host
        self._server: ServerSlice | None = None
        self._ports: tuple[PortSlice, ...] = ()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._guest = Guest(own, host, self._wake.set)
        self._disks = ServerDisks(own, reached, host, self._unless_dropped, lambda: self._see("starting"))
        self._coming = Coming(own, reached, host, self._guest, self._see)
        self._going = Going(host, self._guest)
        self._suspension = Suspension(own, reached, host, self._guest)
        self._snapshot = Snapshot(own, host.upload, self._wake.set)
        #: The number under which its disk was found set aside, as the slice wants it.
        self._parked = 0
        self._crashes = Crashes()
        self._failures = 0
        #: Of one that was found, nothing is said before it was looked at.
        self._state: ServerState = "absent" if reached.disk_serial is None else "unknown"
        self._problem: Condition | None = None
        self.settled = False
        self.gone = asyncio.Event()

    @property
    def images(self) -> tuple[str, ...]:
        """The images that its disks build on."""
        return self._reached.image, self._reached.rescue

    @property
    def devices(self) -> frozenset[str]:
        """The ids of the network devices that its QEMU has."""
        return self._guest.devices

    def want(self, server: ServerSlice | None, ports: Sequence[PortSlice] = ()) -> None:
        """What it should be from now on, with its ports in order."""
        if (server, tuple(ports)) != (self._server, self._ports):
            self._server, self._ports = server, tuple(ports)
            self._failures = 0
            self.settled = False
            self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"server {self._files.name}")

    def report(self) -> ServerReport:
        """What is seen of it."""
        reached, devices = self._reached, self._guest.devices
        return ServerReport(
            id=reached.id,
            state=self._state,
            halted=reached.halted and self._state == "stopped",
            disk_serial=reached.disk_serial or 0,
            hard_reboot_serial=reached.hard_reboot_serial,
            soft_reboot_serial=reached.soft_reboot_serial,
            parked=self._parked,
            moved=reached.moved,
            ports=tuple(p.id for p in self._ports if qemu.device(p.id) in devices),
            problem=self._trouble(),
            snapshot=self._snapshot.report,
            arriving=reached.arriving,
            leaving=self._going.told,
            accelerated=reached.accelerated,
            unsuspended=self._suspension.refused,
        )

    def _trouble(self) -> Condition | None:
        if self._problem is not None:
            return self._problem
        if self._guest.clings:
            return self._condition("the guest does not let go of a network interface that was detached")
        return self._crashes.told

    def _condition(
        self, cause: str, remedy: str = "It is tried again; `trunkline logs` has more."
    ) -> Condition:
        name = self._server.name if self._server else self._reached.id
        return Condition(what=f"server {name}", cause=cause, remedy=remedy)

    async def close(self) -> None:
        """Lets go of it; its QEMU goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._snapshot.stop()
        await self._guest.close()

    # The task.

    async def _run(self) -> None:
        while not self.gone.is_set():
            self._wake.clear()
            pause: float | None = None
            try:
                pause = await self._step()
                self._failures, self._problem = 0, None
                self.settled = pause is None
                if pause is None and self._server is not None:
                    pause = await self._snapshot.step(self._server.snapshot, self._guest.monitor)
                if pause is None and self._server is not None:
                    pause = await self._going.step(self._server)
            except Exception as error:
                if not isinstance(error, (Refusal, CommandRefused, OSError)):
                    log.exception("server %s", self._reached.id)
                self._failures += 1
                pause = min(0.5 * 2 ** min(self._failures, 8), LONGEST_PAUSE)
                self._problem = self._condition(str(error))
                if isinstance(error, Stuck):
                    self._problem = self._condition(str(error), error.remedy)
                lasting = not isinstance(error, NotYet)
                if lasting and self._guest.process is None and self._state != "fetching":
                    self._state = "failed"
            self._host.changed()
            await self._rest(5.0 if pause is None else pause)

    async def _rest(self, seconds: float) -> None:
        """Returns after so long, or when there is something to do."""
        # Not wait_for, which in Python 3.11 may lose a cancellation that comes with the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _step(self) -> float | None:
        """Does what is to be done next; returns when to look again, None for nothing to do."""
        server, guest = self._server, self._guest
        ended = await guest.look(must_answer=server is not None and not self._is_reset(server))
        if ended is not None:
            await self._crashed(ended)
        if server is None:
            await self._remove()
            return None
        if server.park:
            return await self._park(server)
        self._parked = 0
        if server.arrival is not None:
            return await self._coming.step(server, server.arrival, self._start)
        if self._reached.arriving is not None:
            self._reached.arriving = None
            await self._save()
        if guest.run_state == "postmigrate" and server.departure is None:
            if not await self._suspension.keep():
                # It was handed over to a host that lost it.
                await guest.kill()
                self._state = "crashed"
            return 0.0
        if (pause := await self._serials(server)) is not None:
            return pause
        if server.power == "stopped":
            return await self._stop()
        memory = self._suspension.memory
        if memory is not None and guest.process is not None:
            # It has not run since: it ends, or is begun anew.
            await guest.kill()
        if guest.process is None and self._reached.halted:
            self._state = "stopped"
            return None
        if server.power == "suspended" and guest.run_state != "shutdown":
            return await self._suspend(server)
        if guest.process is None:
            await (self._start(server) if memory is None else self._resume(server, memory))
            return 0.0
        if guest.run_state == "shutdown":
            # The guest powered itself off.
            self._reached.halted = True
            await self._save()
            await guest.kill()
            self._state = "stopped"
            return 0.0
        guest.goes_on()
        await self._suspension.drop()
        await self._keep_running(server)
        return await guest.plug(self._ports)

    def _is_reset(self, server: ServerSlice) -> bool:
        """Whether its QEMU is to be ended, however it is."""
        return server.arrival is None and (
            self._disks.comes_from(server) is not None
            or server.disk_serial != self._reached.disk_serial
            or server.hard_reboot_serial > self._reached.hard_reboot_serial
        )

    async def _crashed(self, words: str) -> None:
        """Its QEMU ended without us: tells, and lets the next step start it again."""
        self._state = "crashed"
        cause = f"its QEMU ended at {time.strftime('%H:%M:%S')} without being asked{words}"
        self._crashes.tell(self._condition(cause, "It is started again by itself."))
        self._host.changed()
        await self._host.reported()
        if pause := self._crashes.count():
            await self._rest(pause)

    # What is done.

    async def _serials(self, server: ServerSlice) -> float | None:
        """Rebuilds and reboots; returns when to look again, None where there was nothing to do."""
        reached, guest, own = self._reached, self._guest, self._disks
        if (origin := own.comes_from(server)) is not None:
            await guest.kill()
            if await own.arrive(server, origin):
                await self._rebooted(server)
            return 0.0
        if not self._files.disk.exists() and self._host.kept.has(server.id):
            # What is wanted is older than what was done: a fresh disk would hide the one set aside.
            raise NotYet("its disk is set aside; the control plane's word of where it goes is waited for")
        if reached.disk_serial != server.disk_serial or not self._files.disk.exists():
            await guest.kill()
            if await own.make(server):
                await self._rebooted(server)
            return 0.0
        if server.hard_reboot_serial > reached.hard_reboot_serial:
            await guest.kill()
            own.drop_rescue()
            await self._rebooted(server)
            return 0.0
        if server.soft_reboot_serial > reached.soft_reboot_serial:
            asked = guest.process is not None and guest.run_state != "paused"
            if asked and not await guest.powered_down():
                return guest.time_left()
            await guest.kill()
            await self._rebooted(server)
            return 0.0
        return None

    async def _park(self, server: ServerSlice) -> float | None:
        """Stops it, and sets its disks aside."""
        if not self._host.kept.has(server.id, server.park):
            if (pause := await self._stop()) is not None:
                return pause
            await self._disks.park(server)
        self._state = "stopped"
        self._parked = server.park
        return None

    def _see(self, state: ServerState) -> None:
        self._state = state

    async def _unless_dropped(self, coming: Coroutine[Any, Any, T]) -> T | None:
        """What comes; None where the server is not wanted any more."""
        self._state = "fetching"
        self._host.changed()
        getting = asyncio.create_task(coming)
        waking = asyncio.create_task(self._wake.wait())
        try:
            # Whoever is not wanted any more does not wait for its image.
            while self._server is not None and not getting.done():
                self._wake.clear()
                await asyncio.wait({getting, waking}, return_when=asyncio.FIRST_COMPLETED)
                if waking.done():
                    waking = asyncio.create_task(self._wake.wait())
            return getting.result() if getting.done() else None
        finally:
            getting.cancel()
            waking.cancel()

    async def _rebooted(self, server: ServerSlice) -> None:
        self._state = "starting"
        await self._suspension.drop()
        self._reached.rebooted(server)
        await self._save()

    async def _stop(self) -> float | None:
        guest = self._guest
        if guest.process is not None:
            if guest.run_state not in ("paused", "prelaunch") and not await guest.powered_down():
                return guest.time_left()
            await guest.kill()
        guest.goes_on()
        await self._suspension.drop()
        self._state = "stopped"
        if self._reached.halted:
            self._reached.halted = False
            await self._save()
        return None

    async def _start(self, server: ServerSlice) -> None:
        await self._snapshot.stop()
        if self._state != "crashed":
            self._state = "starting"
        if len(self._ports) < len(server.ports):
            raise NotYet("the control plane has not told about all of its ports")
        check_plugged(self._ports)
        if not await self._disks.make_rescue(server):
            return
        async with self._host.starting:
            await self._disks.make_others(server)
            if server.config_drive:
                await configdrive.write(self._files.drive, documents.drive(server, self._ports))
            await self._guest.start(server, self._ports)
        if self._reached.accelerated != self._host.accelerated:
            self._reached.accelerated = self._host.accelerated
            await self._save()

    async def _suspend(self, server: ServerSlice) -> float | None:
        """Its memory goes to a file; one that is refused this goes on."""
        pause = await self._suspension.save(server, self._ports)
        if self._suspension.refused:
            self._state = "running"
        else:
            self._state = "paused" if self._guest.process is not None else "suspended"
        return pause

    async def _resume(self, server: ServerSlice, memory: qemu.Memory) -> None:
        """It goes on from its memory; until then it is seen as it was."""
        self._state = "suspended"
        await self._snapshot.stop()
        check_plugged(self._ports)
        async with self._host.starting:
            await self._suspension.load(server, self._ports, memory)

    async def _keep_running(self, server: ServerSlice) -> None:
        guest = self._guest
        assert guest.monitor is not None
        if server.power == "paused":
            if guest.run_state == "running":
                await guest.monitor.execute("stop")
            self._state = "paused"
            return
        if self._going.holds(server):
            self._state = "running"
            return
        if guest.run_state in ("paused", "prelaunch", "io-error", "suspended"):
            await guest.monitor.execute("system_wakeup" if guest.run_state == "suspended" else "cont")
        elif guest.run_state in ("internal-error", "guest-panicked"):
            self._crashes.tell(self._condition(f"its guest is stuck ({guest.run_state})", ""))
            await guest.kill()
            self._state = "crashed"
            return
        self._state = "running"

    async def _remove(self) -> None:
        await self._guest.kill()
        await self._snapshot.stop()
        own = self._files
        self._disks.remove()
        self._suspension.remove()
        # The state file last: with it gone, nobody would know of the others.
        for file in (*own.snapshots, own.drive, own.console, own.errors, own.monitor, own.state):
            file.unlink(missing_ok=True)
        self._state = "absent"
        self.gone.set()

    async def _save(self) -> None:
        await self._reached.save(self._files.state)
