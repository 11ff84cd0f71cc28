"""One server of the host: driven towards what is wanted, one step at a time, from what is found.

    look: is its QEMU alive, what does it say           wanted, by the slice
        `------------------------ step ------------------------'
                                   |
         one of: make the disk, start, ask to power down, kill, pause, go on, plug, unplug; or nothing

QEMU is no child of the agent's in any sense that matters: the agent can be killed at any line and finds
it again by its pid file, untouched. What cannot be seen in QEMU (which rebuild, which reboot was the last)
is in the state file, written before or after the deed so that repeating the deed is the worst outcome.

A guest that powered itself off stays off (``halted``) until its power is wanted "stopped", or a reboot or
rebuild is. A QEMU that ended otherwise is started again, with growing pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from trunkline.agent import documents, migration, qemu
from trunkline.agent.images import Images
from trunkline.agent.kept import Kept
from trunkline.agent.ports import tap
from trunkline.agent.snapshots import Snapshot, Upload
from trunkline.compiler.slices import (
    Arrival,
    Arriving,
    Condition,
    ImageSlice,
    Leaving,
    Origin,
    PortSlice,
    ServerReport,
    ServerSlice,
)
from trunkline.devices import configdrive, disks, files, links, process
from trunkline.devices.qmp import CommandRefused, Monitor
from trunkline.errors import Refusal, Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")
State = Literal[
    "unknown", "absent", "fetching", "starting", "running", "stopped", "paused", "crashed", "failed"
]
#: How much of the console is kept, and when it is cut.
_CONSOLE_KEPT, _CONSOLE_CUT = 256 * 1024, 1024 * 1024
#: A crash that was healed is told for so long.
_CRASH_TOLD = 60.0
_LONGEST_PAUSE = 15.0
#: The power button is pressed again after so many seconds: a guest that is booting does not hear it.
_PRESS_AGAIN = 2.0
#: A guest is asked again to let go of a device after so many seconds.
_UNPLUG_AGAIN = 3.0
_UNPLUG_TOLD = 20.0
#: How often it is looked how far a server is that comes or goes; events tell what matters.
_LOOK_AT_MIGRATION = 0.1


class NotYet(Unavailable):
    """Something that the server needs is not there yet; it is no fault of the server's."""


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
    underlay: migration.Underlay


class Machine:
    """One server. Owns its files, its QEMU, and one task.

    `want` says what for; `want(None)` removes it for good, after which `gone` is set.
    """

    def __init__(self, files: qemu.Files, reached: Reached, host: Host) -> None:
        self._files = files
        self._reached = reached
        self._host = host
        self._server: ServerSlice | None = None
        self._ports: tuple[PortSlice, ...] = ()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._process: process.Process | None = None
        self._waiter: asyncio.Task[None] | None = None
        self._monitor: Monitor | None = None
        self._run_state = ""
        self._devices: frozenset[str] = frozenset()
        self._unplugging: dict[str, tuple[float, float]] = {}
        self._released: set[str] = set()
        #: Until when a guest that was asked to power down may take.
        self._deadline: float | None = None
        #: The number under which its disk was found set aside, as the slice wants it.
        self._parked = 0
        self._pressed = 0.0
        self._crashes: list[float] = []
        self._failures = 0
        self._crash: tuple[float, Condition] | None = None
        self._snapshot = Snapshot(files, host.upload, self._wake.set)
        #: How far it is on its way to another host; `_move` is the attempt, None before the first look.
        self._leaving: Leaving | None = None
        self._move: str | None = None
        self._begun = False
        #: Of one that was found, nothing is said before it was looked at.
        self._state: State = "absent" if reached.disk_serial is None else "unknown"
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
        return self._devices

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
        reached = self._reached
        problem = self._problem
        if problem is None and self._crash is not None and time.monotonic() < self._crash[0] + _CRASH_TOLD:
            problem = self._crash[1]
        return ServerReport(
            id=reached.id,
            state=self._state,
            halted=reached.halted and self._state == "stopped",
            disk_serial=reached.disk_serial or 0,
            hard_reboot_serial=reached.hard_reboot_serial,
            soft_reboot_serial=reached.soft_reboot_serial,
            parked=self._parked,
            moved=reached.moved,
            ports=tuple(p.id for p in self._ports if qemu.device(p.id) in self._devices),
            problem=problem,
            snapshot=self._snapshot.report,
            arriving=reached.arriving,
            leaving=self._leaving,
            accelerated=reached.accelerated,
        )

    async def close(self) -> None:
        """Lets go of it; its QEMU goes on."""
        for task in (self._task, self._waiter):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self._snapshot.stop()
        await self._hang_up()

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
                    pause = await self._snapshot.step(self._server.snapshot, self._monitor)
                if pause is None and self._server is not None:
                    pause = await self._depart(self._server)
            except Exception as error:
                if not isinstance(error, (Refusal, CommandRefused, OSError)):
                    log.exception("server %s", self._name)
                self._failures += 1
                pause = min(0.5 * 2 ** min(self._failures, 8), _LONGEST_PAUSE)
                self._fail(str(error), lasting=not isinstance(error, NotYet))
            self._host.changed()
            # Not wait_for, which in Python 3.11 may lose a cancellation that comes with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5.0 if pause is None else pause):
                    await self._wake.wait()

    def _fail(self, cause: str, *, lasting: bool = False) -> None:
        self._problem = Condition(
            what=f"server {self._name}", cause=cause, remedy="It is tried again; `trunkline logs` has more."
        )
        if lasting and self._process is None and self._state != "fetching":
            self._state = "failed"

    @property
    def _name(self) -> str:
        return self._server.name if self._server else self._reached.id

    async def _step(self) -> float | None:
        """Does what is to be done next; returns when to look again, None for nothing to do."""
        server = self._server
        await self._look(must_answer=server is not None and not self._is_reset(server))
        if server is None:
            await self._remove()
            return None
        if server.park:
            return await self._park(server)
        self._parked = 0
        if server.arrival is not None:
            return await self._come_live(server, server.arrival)
        if self._reached.arriving is not None:
            self._reached.arriving = None
            await self._save()
        if self._run_state == "postmigrate" and server.departure is None:
            # It was handed over to a host that lost it.
            await self._kill()
            self._state = "crashed"
            return 0.0
        if (pause := await self._serials(server)) is not None:
            return pause
        if server.power == "stopped":
            return await self._stop(server)
        if self._process is None:
            if self._reached.halted:
                self._state = "stopped"
                return None
            await self._start(server)
            return 0.0
        if self._run_state == "shutdown":
            # The guest powered itself off.
            self._reached.halted = True
            await self._save()
            await self._kill()
            self._state = "stopped"
            return 0.0
        self._deadline = None
        await self._keep_running(server)
        return await self._plug()

    def _is_reset(self, server: ServerSlice) -> bool:
        """Whether its QEMU is to be ended, however it is."""
        return server.arrival is None and (
            self._comes_from(server) is not None
            or server.disk_serial != self._reached.disk_serial
            or server.hard_reboot_serial > self._reached.hard_reboot_serial
        )

    async def _look(self, *, must_answer: bool) -> None:
        """Finds its QEMU, follows it, and asks how it is (if only to be ended, it need not answer)."""
        if self._process is not None and not self._process.alive():
            await self._ended()
        if self._process is None:
            self._process = await asyncio.to_thread(process.find, self._files.pid)
        if self._process is None:
            return
        if self._waiter is None:
            self._waiter = asyncio.create_task(self._watch(self._process))
        if not must_answer:
            return
        if self._monitor is not None and self._monitor.lost.is_set():
            await self._hang_up()
        if self._monitor is None:
            self._monitor = await Monitor.connect(self._files.monitor, self._event)
        self._run_state = (await self._monitor.execute("query-status"))["status"]
        listed = await self._monitor.execute("qom-list", {"path": "/machine/peripheral"})
        self._devices = frozenset(
            i["name"] for i in listed if i["name"][:1] == "n" and i["type"].startswith("child<virtio-net")
        )
        await asyncio.to_thread(_cut, self._files.console)

    async def _watch(self, running: process.Process) -> None:
        await running.wait()
        self._wake.set()

    def _event(self, name: str, data: dict[str, Any]) -> None:
        if name == "DEVICE_DELETED" and "device" in data:
            self._released.add(data["device"])
        if name in (
            "DEVICE_DELETED",
            "SHUTDOWN",
            "STOP",
            "RESUME",
            "RESET",
            "DEVICE_UNPLUG_GUEST_ERROR",
            "MIGRATION",
            "BLOCK_JOB_READY",
        ):
            self._wake.set()

    async def _ended(self) -> None:
        """Its QEMU ended without us: takes note, tells, and lets the next step start it again."""
        tail = await asyncio.to_thread(_tail, self._files.errors, 300)
        console = await asyncio.to_thread(_tail, self._files.console, 200)
        await self._forget()
        now = time.monotonic()
        self._crashes = [t for t in self._crashes if t > now - 300] + [now]
        self._state = "crashed"
        self._crash = (
            now,
            Condition(
                what=f"server {self._name}",
                cause=f"its QEMU ended at {time.strftime('%H:%M:%S')} without being asked"
                + (f"; it said: {tail}" if tail else "")
                + (f"; last on the console: {console}" if console else ""),
                remedy="It is started again by itself.",
            ),
        )
        self._host.changed()
        await self._host.reported()
        if len(self._crashes) > 1:
            pause = min(2.0 ** (len(self._crashes) - 2), _LONGEST_PAUSE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    # What is done.

    async def _serials(self, server: ServerSlice) -> float | None:
        """Rebuilds and reboots; returns when to look again, None where there was nothing to do."""
        reached = self._reached
        if (origin := self._comes_from(server)) is not None:
            await self._kill()
            await self._arrive(server, origin)
            return 0.0
        if not self._files.disk.exists() and self._host.kept.has(server.id):
            # What is wanted is older than what was done: a fresh disk would hide the one set aside.
            raise NotYet("its disk is set aside; the control plane's word of where it goes is waited for")
        if reached.disk_serial != server.disk_serial or not self._files.disk.exists():
            await self._kill()
            await self._make_disk(server)
            return 0.0
        if server.hard_reboot_serial > reached.hard_reboot_serial:
            await self._kill()
            self._drop_rescue_disk()
            reached.rescue = ""
            await self._rebooted(server)
            return 0.0
        if server.soft_reboot_serial > reached.soft_reboot_serial:
            if self._process is not None and self._run_state != "paused" and not await self._powered_down():
                return self._time_left()
            await self._kill()
            await self._rebooted(server)
            return 0.0
        return None

    async def _make_disk(self, server: ServerSlice) -> None:
        if (got := await self._fetched(server.image)) is None:
            return
        file, image = got
        self._state = "starting"
        # Written first: the image must not be removed once a disk builds on it.
        self._reached.image, self._reached.disk_serial = server.image, None
        await self._save()
        async with self._host.starting:
            await disks.create_overlay(self._files.disk, file, image.disk_format, server.disk_gib)
        self._drop_other_disks()
        self._reached.disk_serial = server.disk_serial
        await self._rebooted(server)

    async def _make_rescue_disk(self, server: ServerSlice) -> bool:
        """Makes the disk that a rescued server boots from; False where it is not wanted any more."""
        if (got := await self._fetched(server.rescue)) is None:
            return False
        file, image = got
        self._reached.rescue = server.rescue
        await self._save()
        # Under its own name only when it is whole: then it is what says that there is one.
        fresh = self._files.rescue.with_suffix(".fresh")
        async with self._host.starting:
            await disks.create_overlay(fresh, file, image.disk_format, 0)
            fresh.replace(self._files.rescue)
        return True

    def _comes_from(self, server: ServerSlice) -> Origin | None:
        """Where its disk is to come from, until it has."""
        origin = server.origin
        return origin if origin is not None and origin.serial > self._reached.moved else None

    @property
    def _carried(self) -> dict[str, Path]:
        """The files that move with it, by the names that they are set aside under."""
        return {"ephemeral": self._files.ephemeral, "root": self._files.disk}

    async def _park(self, server: ServerSlice) -> float | None:
        """Stops it, and sets its disks aside."""
        if not self._host.kept.has(server.id, server.park):
            if (pause := await self._stop(server)) is not None:
                return pause
            await asyncio.to_thread(self._host.kept.put, server.id, server.park, self._carried)
        self._state = "stopped"
        self._parked = server.park
        return None

    async def _arrive(self, server: ServerSlice, origin: Origin) -> None:
        """Gets its disks from where they were set aside."""
        kept = self._host.kept
        # Written first: the image must not be removed once a disk builds on it.
        self._reached.image, self._reached.disk_serial = server.image, None
        await self._save()
        if origin.back:
            await asyncio.to_thread(kept.take, server.id, origin.kept, self._carried)
            if not self._files.disk.exists():
                raise Unavailable("its disk is not where it was set aside")
        elif not await self._bring(server, origin):
            return
        self._drop_swap()
        self._reached.disk_serial, self._reached.moved = server.disk_serial, origin.serial
        self._drop_rescue_disk()
        self._reached.rescue = ""
        await self._rebooted(server)

    async def _bring(self, server: ServerSlice, origin: Origin) -> bool:
        """Copies its disks from where they were set aside; False where it is not wanted any more."""
        if (got := await self._fetched(server.image)) is None:
            return False
        file, image = got
        for name, own in self._carried.items():
            part = own.with_suffix(f".{name}-part")
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

    async def _fetched(self, id: str) -> tuple[Path, ImageSlice] | None:
        """The file of an image; None where the server is not wanted any more."""
        return await self._unless_dropped(self._host.images.get(id))

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
        self._reached.hard_reboot_serial = server.hard_reboot_serial
        self._reached.soft_reboot_serial = server.soft_reboot_serial
        self._reached.halted = False
        self._deadline = None
        await self._save()

    async def _powered_down(self) -> bool:
        """Asks the guest to power down; True when it did, or when its time is over."""
        assert self._monitor is not None
        now = time.monotonic()
        if self._run_state == "shutdown":
            return True
        if self._deadline is None:
            self._deadline, self._pressed = now + self._host.graceful_seconds, 0.0
        if now >= self._pressed + _PRESS_AGAIN:
            self._pressed = now
            await self._monitor.execute("system_powerdown")
        return now >= self._deadline

    def _time_left(self) -> float:
        """Until the guest is to be asked again, or its time is over."""
        until = min(self._deadline or 0.0, self._pressed + _PRESS_AGAIN)
        return max(0.05, until - time.monotonic())

    async def _stop(self, server: ServerSlice) -> float | None:
        if self._process is not None:
            if self._run_state not in ("paused", "prelaunch") and not await self._powered_down():
                return self._time_left()
            await self._kill()
        self._deadline = None
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
        present = links.names()
        for port in self._ports:
            if tap(port.id) not in present:
                raise NotYet(f"port {port.id} is not plugged in")
        made = server.rescue == self._reached.rescue and self._files.rescue.exists()
        if server.rescue and not made and not await self._make_rescue_disk(server):
            return
        async with self._host.starting:
            await self._make_other_disks(server)
            if server.config_drive:
                await configdrive.write(self._files.drive, documents.drive(server, self._ports))
            command = process.Command(
                name=f"server {self._files.name}",
                argv=qemu.arguments(
                    server,
                    self._ports,
                    self._files,
                    accelerated=self._host.accelerated,
                    datapath=self._host.datapath,
                ),
                log=self._files.errors,
            )
            self._files.errors.unlink(missing_ok=True)
            self._files.monitor.unlink(missing_ok=True)
            started = await asyncio.to_thread(process.spawn, command, self._files.pid)
            await self._answers(started)
        self._process = started
        if self._reached.accelerated != self._host.accelerated:
            self._reached.accelerated = self._host.accelerated
            await self._save()

    async def _make_other_disks(self, server: ServerSlice) -> None:
        """The second disk and the one to swap to, where they are not there."""
        if server.ephemeral_gib and not self._files.ephemeral.exists():
            await disks.create_ephemeral(self._files.ephemeral, server.ephemeral_gib)
        if server.swap_mib and not self._files.swap.exists():
            await asyncio.to_thread(disks.create_swap, self._files.swap, server.swap_mib)

    async def _answers(self, started: process.Process) -> None:
        """Returns when a QEMU just started answers; raises its last words if it ends instead."""
        connecting = asyncio.create_task(Monitor.connect(self._files.monitor, self._event, 30.0))
        ending = asyncio.create_task(started.wait())
        try:
            await asyncio.wait({connecting, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                words = await asyncio.to_thread(_tail, self._files.errors, 500)
                raise Unavailable(f"QEMU does not start: {words or 'it ended without a word'}")
            self._monitor = await connecting
        except BaseException:
            started.signal(signal.SIGKILL)
            raise
        finally:
            for task in (connecting, ending):
                task.cancel()
            await asyncio.gather(connecting, ending, return_exceptions=True)

    # To and from other hosts.

    async def _come_live(self, server: ServerSlice, arrival: Arrival) -> float | None:
        """Waits for the server to come here while it runs; what fails is told, and not tried again."""
        reached = self._reached
        if reached.arriving is not None and reached.arriving.state == "failed":
            return None
        if self._process is None:
            if reached.arriving is not None:
                tail = await asyncio.to_thread(_tail, self._files.errors, 300)
                await self._arrival_failed(f"its QEMU ended before the server was there: {tail}")
                return None
            if not arrival.disk_bytes:
                return None
            try:
                await disks.create_blank(self._files.disk, arrival.disk_bytes)
                await self._start(server)
                assert self._monitor is not None
                reached.arriving = await migration.listen(self._monitor, self._host.underlay, arrival)
                await self._save()
            except NotYet:
                raise
            except (Unavailable, CommandRefused, OSError) as error:
                await self._arrival_failed(str(error))
                return None
            return _LOOK_AT_MIGRATION
        if reached.arriving is None:
            await self._arrival_failed("the agent ended while it prepared for the server")
            return None
        if self._run_state not in ("running", "paused"):
            self._state = "starting"
            return _LOOK_AT_MIGRATION
        if reached.arriving.state != "here":
            reached.disk_serial = server.disk_serial
            await self._rebooted(server)
            self._state = "paused" if self._run_state == "paused" else "running"
            reached.arriving = Arriving(state="here")
            self._host.changed()
            await self._save()
            if self._monitor is not None:
                await migration.settle_in(self._monitor)
        self._state = "paused" if self._run_state == "paused" else "running"
        return None

    async def _arrival_failed(self, cause: str) -> None:
        self._reached.arriving = Arriving(state="failed", cause=cause[:500])
        await self._save()
        await self._kill()
        self._state = "absent"

    async def _depart(self, server: ServerSlice) -> float | None:
        """Goes on with handing it over to another host; returns when to look again."""
        departure, monitor = server.departure, self._monitor
        if departure is None or monitor is None:
            if monitor is not None and self._move != "":
                await migration.stay(monitor)
                self._move, self._leaving = "", None
            return None
        if self._move != departure.move:
            size, slots = await migration.facts(monitor)
            self._leaving = Leaving(state="waiting", move=departure.move, disk_bytes=size, slots=slots)
            self._move = departure.move
            self._begun = False
        assert self._leaving is not None
        if self._leaving.state in ("gone", "failed") or not departure.address:
            return None
        try:
            if departure.force and self._run_state == "running" and self._leaving.state == "memory":
                await monitor.execute("stop")
            found = await migration.depart(monitor, self._host.underlay, departure, self._begun)
        except CommandRefused as error:
            found = Leaving(state="failed", cause=str(error)[:500])
        if found is None:
            return _LOOK_AT_MIGRATION
        self._begun = found.state == "memory"
        self._leaving = msgspec.structs.replace(self._leaving, state=found.state, cause=found.cause)
        if found.state == "failed":
            await migration.stay(monitor)
        self._host.changed()
        return 0.0

    async def _keep_running(self, server: ServerSlice) -> None:
        assert self._monitor is not None
        if server.power == "paused":
            if self._run_state == "running":
                await self._monitor.execute("stop")
            self._state = "paused"
            return
        if self._run_state in ("paused", "prelaunch", "io-error", "suspended"):
            await self._monitor.execute("system_wakeup" if self._run_state == "suspended" else "cont")
        elif self._run_state in ("internal-error", "guest-panicked"):
            self._crash = (
                time.monotonic(),
                Condition(what=f"server {self._name}", cause=f"its guest is stuck ({self._run_state})"),
            )
            await self._kill()
            self._state = "crashed"
            return
        self._state = "running"

    async def _plug(self) -> float | None:
        """Makes the network devices of a running QEMU those wanted; returns when to look again."""
        monitor = self._monitor
        if monitor is None:
            return 0.0
        for device in tuple(self._released):
            self._unplugging.pop(device, None)
            with contextlib.suppress(CommandRefused):
                await monitor.execute("netdev_del", {"id": device})
            self._released.discard(device)
        wanted = {qemu.device(port.id): port for port in self._ports}
        for device, port in wanted.items():
            if device not in self._devices:
                if tap(port.id) not in links.names():
                    raise NotYet(f"port {port.id} is not plugged in")
                await self._attach(monitor, port)
        now = time.monotonic()
        leaving = self._devices - wanted.keys()
        for device in leaving:
            first, last = self._unplugging.get(device, (now, 0.0))
            if now >= last + _UNPLUG_AGAIN:
                self._unplugging[device] = (first, now)
                with contextlib.suppress(CommandRefused):
                    await monitor.execute("device_del", {"id": device})
            if now > first + _UNPLUG_TOLD:
                self._fail("the guest does not let go of a network interface that was detached")
        return _UNPLUG_AGAIN if leaving else None

    async def _attach(self, monitor: Monitor, port: PortSlice) -> None:
        backend = qemu.netdev(port, self._host.datapath)
        try:
            await monitor.execute("netdev_add", backend)
        except CommandRefused:
            # One of an earlier attachment may be left: of the same port, but its tap may be a new one.
            with contextlib.suppress(CommandRefused):
                await monitor.execute("netdev_del", {"id": backend["id"]})
            await monitor.execute("netdev_add", backend)
        await monitor.execute("device_add", qemu.frontend(port))
        self._devices |= {qemu.device(port.id)}

    async def _kill(self) -> None:
        """Ends its QEMU, if any, as pulling the plug does; writes of the guest that were synced are kept."""
        running, self._process = self._process, None
        if running is not None:
            if self._waiter is not None:
                self._waiter.cancel()
            await self._hang_up()
            # QEMU writes out its caches on SIGTERM, whatever the guest does.
            await running.stop(5.0)
        await self._forget()

    async def _forget(self) -> None:
        await self._hang_up()
        if self._waiter is not None:
            self._waiter.cancel()
        self._process, self._waiter, self._run_state = None, None, ""
        self._devices, self._unplugging, self._deadline = frozenset(), {}, None
        self._released.clear()
        self._files.pid.unlink(missing_ok=True)

    async def _hang_up(self) -> None:
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            await monitor.close()

    async def _remove(self) -> None:
        await self._kill()
        # The state file last: with it gone, nobody would know of the others.
        files = self._files
        self._drop_rescue_disk()
        self._drop_other_disks()
        for name, file in self._carried.items():
            file.with_suffix(f".{name}-part").unlink(missing_ok=True)
        await self._snapshot.stop()
        for file in (
            *files.snapshots,
            files.disk,
            files.drive,
            files.console,
            files.errors,
            files.monitor,
            files.state,
        ):
            file.unlink(missing_ok=True)
        self._state = "absent"
        self.gone.set()

    def _drop_other_disks(self) -> None:
        self._files.ephemeral.unlink(missing_ok=True)
        self._drop_swap()

    def _drop_swap(self) -> None:
        self._files.swap.unlink(missing_ok=True)

    def _drop_rescue_disk(self) -> None:
        for file in (self._files.rescue, self._files.rescue.with_suffix(".fresh")):
            file.unlink(missing_ok=True)

    async def _save(self) -> None:
        await asyncio.to_thread(files.replace, self._files.state, msgspec.json.encode(self._reached))


def _tail(file: Path, most: int) -> str:
    """The last characters of a text, in one line."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - most))
            return " ".join(stream.read().decode(errors="replace").split())
    except OSError:
        return ""


def _cut(console: Path) -> None:
    """Keeps the end of a console that has become too long. QEMU appends, so it goes on after the cut."""
    try:
        if console.stat().st_size <= _CONSOLE_CUT:
            return
        with console.open("r+b") as stream:
            stream.seek(-_CONSOLE_KEPT, 2)
            kept = stream.read()
            stream.truncate(0)
        with console.open("ab") as stream:
            stream.write(kept)
    except OSError:
        return
