"""One server on its way between hosts while it runs: how far it is, whatever dies on the way.

`Coming` is the end that it comes to, `Going` the end that it leaves; what they say to QEMU is in
`migration`. What fails is told once, and is not tried again: the control plane decides.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from msgspec.structs import replace

from trunkline.agent import migration, qemu
from trunkline.agent.guest import Guest, tail
from trunkline.agent.hosting import Host, NotYet, Reached
from trunkline.compiler.slices import Arrival, ServerSlice
from trunkline.devices import disks
from trunkline.devices.qmp import CommandRefused, Monitor
from trunkline.errors import Unavailable
from trunkline.resources.reports import Arriving, Leaving

#: How often it is looked how far a server is that comes or goes; events tell what matters.
_LOOK = 0.1


class Coming:
    """The end that a server comes to."""

    def __init__(
        self,
        own: qemu.Files,
        reached: Reached,
        host: Host,
        guest: Guest,
        see: Callable[[Literal["absent", "starting", "running", "paused"]], None],
    ) -> None:
        """`see` is told what the server is seen as, before anything else is told of it."""
        self._files = own
        self._reached = reached
        self._host = host
        self._guest = guest
        self._see = see

    async def step(
        self, server: ServerSlice, arrival: Arrival, start: Callable[[ServerSlice], Awaitable[None]]
    ) -> float | None:
        """Goes one step further; returns when to look again.

        Args:
            start: starts its QEMU.
        Raises:
            NotYet: what it needs here is not there yet.
        """
        reached, guest = self._reached, self._guest
        if reached.arriving is not None and reached.arriving.state == "failed":
            return None
        if guest.process is None:
            return await self._prepare(server, arrival, start)
        if reached.arriving is None:
            await self._failed("the agent ended while it prepared for the server")
            return None
        if guest.run_state not in ("running", "paused"):
            self._see("starting")
            return _LOOK
        if guest.run_state == "paused" and server.power == "running" and guest.monitor is not None:
            # It stood still so that it could come.
            await guest.monitor.execute("cont")
            guest.run_state = "running"
        self._see("paused" if guest.run_state == "paused" else "running")
        if reached.arriving.state != "here":
            reached.disk_serial = server.disk_serial
            reached.rebooted(server)
            reached.arriving = Arriving(state="here")
            self._host.changed()
            await reached.save(self._files.state)
            if guest.monitor is not None:
                await migration.settle_in(guest.monitor)
        return None

    async def _prepare(
        self, server: ServerSlice, arrival: Arrival, start: Callable[[ServerSlice], Awaitable[None]]
    ) -> float | None:
        reached, guest = self._reached, self._guest
        if reached.arriving is not None:
            words = tail(self._files.errors, 300)
            await self._failed(f"its QEMU ended before the server was there: {words}")
            return None
        if not arrival.disks:
            return None
        self._see("starting")
        try:
            for name, size in arrival.disks:
                file, form = self._files.disks[name]
                await disks.create_blank(file, size, form)
            await start(server)
            assert guest.monitor is not None
            reached.arriving = await migration.listen(guest.monitor, self._host.underlay, arrival)
            await reached.save(self._files.state)
        except NotYet:
            raise
        except (Unavailable, CommandRefused, OSError) as error:
            await self._failed(str(error))
            return None
        return _LOOK

    async def _failed(self, cause: str) -> None:
        self._reached.arriving = Arriving(state="failed", cause=cause[:500])
        await self._reached.save(self._files.state)
        await self._guest.kill()
        self._see("absent")


class Going:
    """The end that a server leaves. `told` is how far it is; None where it stays."""

    def __init__(self, host: Host, guest: Guest) -> None:
        self._host = host
        self._guest = guest
        #: The attempt; "" for none, None before the first look.
        self._move: str | None = None
        self._begun = False
        self.told: Leaving | None = None

    async def step(self, server: ServerSlice) -> float | None:
        """Goes on with handing it over; returns when to look again."""
        departure, monitor = server.departure, self._guest.monitor
        if departure is None or monitor is None:
            if monitor is not None and self._move != "":
                await migration.stay(monitor)
                self._move, self.told = "", None
            return None
        if self._move != departure.move:
            sizes, slots = await migration.disk_sizes(monitor), await migration.slots(monitor)
            self.told = Leaving(state="waiting", move=departure.move, disks=sizes, slots=slots)
            self._move = departure.move
            self._begun = False
        assert self.told is not None
        if self.told.state in ("gone", "failed") or not (departure.address or departure.abort):
            return None
        try:
            if departure.abort:
                return await self._give_up(monitor)
            if self.holds(server) and self._guest.run_state == "running":
                await monitor.execute("stop")
            found = await migration.depart(monitor, self._host.underlay, departure, self._begun)
        except CommandRefused as error:
            found = Leaving(state="failed", cause=str(error)[:500])
        if found is None:
            return _LOOK
        self._begun = found.state == "memory"
        self.told = replace(self.told, state=found.state, cause=found.cause)
        if found.state == "failed":
            await migration.stay(monitor)
        self._host.changed()
        return 0.0

    async def _give_up(self, monitor: Monitor) -> float:
        stays = await migration.give_up(monitor)
        assert self.told is not None
        cause = "it was aborted" if stays else ""
        self.told = replace(self.told, state="failed" if stays else "gone", cause=cause)
        self._host.changed()
        return 0.0

    def holds(self, server: ServerSlice) -> bool:
        """Whether the guest is to stand still until it is there."""
        forced = server.departure is not None and server.departure.force
        return forced and self.told is not None and self.told.state in ("disk", "memory")
