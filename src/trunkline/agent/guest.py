"""The QEMU of one server: found, started, asked, plugged, ended.

QEMU is no child of the agent's in any sense that matters: the agent can be killed at any line and finds
it again by its pid file, untouched.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trunkline.agent import qemu
from trunkline.agent.hosting import Host, NotYet
from trunkline.agent.ports import tap
from trunkline.compiler.slices import PortSlice, ServerSlice
from trunkline.devices import links, process
from trunkline.devices.qmp import CommandRefused, Monitor
from trunkline.errors import Unavailable

#: How much of the console is kept, and when it is cut.
_CONSOLE_KEPT, _CONSOLE_CUT = 256 * 1024, 1024 * 1024
#: The power button is pressed again after so many seconds: a guest that is booting does not hear it.
_PRESS_AGAIN = 2.0
#: A guest is asked again to let go of a device after so many seconds.
_UNPLUG_AGAIN = 3.0
_UNPLUG_TOLD = 20.0
#: The events after which it is looked again.
_TELLING = frozenset(
    {
        "BLOCK_JOB_READY", "DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR", "MIGRATION", "RESET", "RESUME",
        "SHUTDOWN", "STOP",
    }
)  # fmt: skip


class Guest:
    """A server's QEMU. Owns its process, the connection to it, and its pid file."""

    def __init__(self, own: qemu.Files, host: Host, wake: Callable[[], None]) -> None:
        """`wake` is called when it is worth looking again."""
        self._files = own
        self._host = host
        self._wake = wake
        self._waiter: asyncio.Task[None] | None = None
        self._unplugging: dict[str, tuple[float, float]] = {}
        self._released: set[str] = set()
        #: Until when a guest that was asked to power down may take.
        self._deadline: float | None = None
        self._pressed = 0.0
        #: None where it does not run.
        self.process: process.Process | None = None
        self.monitor: Monitor | None = None
        #: What it says of itself: running, paused, shutdown ...
        self.run_state = ""
        #: The ids of the network devices that it has.
        self.devices: frozenset[str] = frozenset()

    @property
    def clings(self) -> bool:
        """Whether the guest does not let go of a device that was taken from it."""
        now = time.monotonic()
        return any(now > first + _UNPLUG_TOLD for first, _ in self._unplugging.values())

    async def look(self, *, must_answer: bool) -> str | None:
        """Finds it, follows it, and asks how it is (if only to be ended, it need not answer).

        Returns: where it ended without being asked, its last words and the console's; else None.
        """
        ended = None
        if self.process is not None and not self.process.alive():
            ended = await self._last_words()
            await self._forget()
        if self.process is None:
            self.process = await asyncio.to_thread(process.find, self._files.pid)
        if self.process is None:
            return ended
        if self._waiter is None:
            self._waiter = asyncio.create_task(self._watch(self.process))
        if not must_answer:
            return ended
        if self.monitor is not None and self.monitor.lost.is_set():
            await self.hang_up()
        if self.monitor is None:
            self.monitor = await Monitor.connect(self._files.monitor, self._event)
        self.run_state = (await self.monitor.execute("query-status"))["status"]
        listed = await self.monitor.execute("qom-list", {"path": "/machine/peripheral"})
        self.devices = frozenset(
            i["name"] for i in listed if i["name"][:1] == "n" and i["type"].startswith("child<virtio-net")
        )
        await asyncio.to_thread(_cut, self._files.console)
        return ended

    async def _last_words(self) -> str:
        errors = await asyncio.to_thread(tail, self._files.errors, 300)
        console = await asyncio.to_thread(tail, self._files.console, 200)
        said = f"; it said: {errors}" if errors else ""
        return said + (f"; last on the console: {console}" if console else "")

    async def _watch(self, running: process.Process) -> None:
        await running.wait()
        self._wake()

    def _event(self, name: str, data: dict[str, Any]) -> None:
        if name == "DEVICE_DELETED" and "device" in data:
            self._released.add(data["device"])
        if name in _TELLING:
            self._wake()

    async def start(
        self, server: ServerSlice, ports: Sequence[PortSlice], memory: qemu.Memory | None = None
    ) -> None:
        """Starts it; its disks are there.

        Args:
            memory: what it is to go on with, which it then waits for.
        Raises:
            Unavailable: it does not start; its last words.
        """
        gone = [] if memory is None else _unplugged(ports)
        command = process.Command(
            name=f"server {self._files.name}",
            argv=qemu.arguments(
                server,
                ports,
                self._files,
                accelerated=self._host.accelerated,
                datapath=self._host.datapath,
                memory=memory,
                unplugged=gone,
            ),
            log=self._files.errors,
        )
        self._files.errors.unlink(missing_ok=True)
        self._files.monitor.unlink(missing_ok=True)
        started = await asyncio.to_thread(process.spawn, command, self._files.pid)
        await self._answers(started)
        self.process = started

    async def _answers(self, started: process.Process) -> None:
        """Returns when a QEMU just started answers; raises its last words if it ends instead."""
        connecting = asyncio.create_task(Monitor.connect(self._files.monitor, self._event, 30.0))
        ending = asyncio.create_task(started.wait())
        try:
            await asyncio.wait({connecting, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                words = await asyncio.to_thread(tail, self._files.errors, 500)
                raise Unavailable(f"QEMU does not start: {words or 'it ended without a word'}")
            self.monitor = await connecting
        except BaseException:
            started.signal(signal.SIGKILL)
            raise
        finally:
            for task in (connecting, ending):
                task.cancel()
            await asyncio.gather(connecting, ending, return_exceptions=True)

    # Power.

    async def powered_down(self) -> bool:
        """Asks the guest to power down; True when it did, or when its time is over."""
        assert self.monitor is not None
        now = time.monotonic()
        if self.run_state == "shutdown":
            return True
        if self._deadline is None:
            self._deadline, self._pressed = now + self._host.graceful_seconds, 0.0
        if now >= self._pressed + _PRESS_AGAIN:
            self._pressed = now
            await self.monitor.execute("system_powerdown")
        return now >= self._deadline

    def time_left(self) -> float:
        """Until the guest is to be asked again to power down, or its time is over."""
        until = min(self._deadline or 0.0, self._pressed + _PRESS_AGAIN)
        return max(0.05, until - time.monotonic())

    def goes_on(self) -> None:
        """It is not to power down any more."""
        self._deadline = None

    async def kill(self) -> None:
        """Ends it, if it runs, as pulling the plug does; writes of the guest that were synced are kept."""
        running, self.process = self.process, None
        if running is not None:
            if self._waiter is not None:
                self._waiter.cancel()
            await self.hang_up()
            # QEMU writes out its caches on SIGTERM, whatever the guest does.
            await running.stop(5.0)
        await self._forget()

    async def _forget(self) -> None:
        await self.hang_up()
        if self._waiter is not None:
            self._waiter.cancel()
        self.process, self._waiter, self.run_state = None, None, ""
        self.devices, self._unplugging, self._deadline = frozenset(), {}, None
        self._released.clear()
        self._files.pid.unlink(missing_ok=True)

    async def hang_up(self) -> None:
        """Ends the connection; QEMU goes on."""
        monitor, self.monitor = self.monitor, None
        if monitor is not None:
            await monitor.close()

    async def close(self) -> None:
        """Lets go of it; it goes on."""
        if self._waiter is not None:
            self._waiter.cancel()
            await asyncio.gather(self._waiter, return_exceptions=True)
        await self.hang_up()

    # Devices.

    async def plug(self, ports: Sequence[PortSlice]) -> float | None:
        """Makes its network devices those wanted while it runs; returns when to look again.

        Raises:
            NotYet: a port is not plugged in.
        """
        monitor = self.monitor
        if monitor is None:
            return 0.0
        for device in tuple(self._released):
            self._unplugging.pop(device, None)
            with contextlib.suppress(CommandRefused):
                await monitor.execute("netdev_del", {"id": device})
            self._released.discard(device)
        wanted = {qemu.device(port.id): port for port in ports}
        for device, port in wanted.items():
            if device not in self.devices:
                check_plugged([port])
                await self._attach(monitor, port)
        now = time.monotonic()
        leaving = self.devices - wanted.keys()
        for device in leaving:
            first, last = self._unplugging.get(device, (now, 0.0))
            if now >= last + _UNPLUG_AGAIN:
                self._unplugging[device] = (first, now)
                with contextlib.suppress(CommandRefused):
                    await monitor.execute("device_del", {"id": device})
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
        self.devices |= {qemu.device(port.id)}


def check_plugged(ports: Sequence[PortSlice]) -> None:
    """Refuses to go on before these ports have their interfaces.

    Raises:
        NotYet: one has none.
    """
    for id in _unplugged(ports):
        raise NotYet(f"port {id} is not plugged in")


def _unplugged(ports: Sequence[PortSlice]) -> list[str]:
    """The ids of those ports that have no interface."""
    present = links.names()
    return [port.id for port in ports if tap(port.id) not in present]


def tail(file: Path, most: int) -> str:
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
