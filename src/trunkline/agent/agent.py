"""The agent: one loop that drives the host to the newest slice, and says what it sees.

    slice of the control plane --.                    HostNetwork   bridges, tunnel end, ovn-controller
    slice of the last run -------+--> want() -------> Ports         taps, veths, guards
    database of Open vSwitch ----+--> apply(), -----> LinkShares    disciplines of interfaces
    ovs-vswitchd restarted ------+    in this order   Metadata      namespaces, sockets
    every two seconds -----------'                    Images        the cache
                                                      Servers       QEMU
                                                  Buses, Units  compute units of appliances

    slice, and BFD on the tunnels --> Announcer       whose gateways are here now
                                                         |
                                      HostReport <-------' on every change, and every two seconds
    twice a second -----------------> Megaflows     what Open vSwitch would forget
    every three seconds ------------> Metering      what flows of routers have counted

Nothing is an event: whatever woke the loop, every manager looks at what is there and puts right what is
not. A manager that fails leaves a condition in the report, and the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable

import msgspec

from trunkline.agent import capacity, join, uplinks
from trunkline.agent.announcer import Announcer
from trunkline.agent.buses import Buses
from trunkline.agent.channel import Channel, Refused
from trunkline.agent.config import AgentConfig, save
from trunkline.agent.daemons import Daemons
from trunkline.agent.host_network import HostNetwork
from trunkline.agent.hosting import Host
from trunkline.agent.images import Images
from trunkline.agent.kept import Kept
from trunkline.agent.link_shares import LinkShares
from trunkline.agent.megaflows import Megaflows
from trunkline.agent.metadata import Metadata
from trunkline.agent.metering import Metering
from trunkline.agent.migration import Underlay
from trunkline.agent.mirrors import Mirrors
from trunkline.agent.ports import Ports
from trunkline.agent.servers import Servers
from trunkline.agent.units import Units
from trunkline.compiler.slices import HostSlice, whole_names
from trunkline.devices import disks, files, pki, process
from trunkline.devices.openvswitch import TABLES, OpenFlowProbe
from trunkline.devices.ovsdb import Database, TransactError
from trunkline.errors import Refusal, Unavailable
from trunkline.resources.reports import Condition, HostReport

log = logging.getLogger(__name__)
_TICK = 2.0
#: ... while a daemon of the host is not well: its return is news.
_SHORT_TICK = 0.3
_LONGEST_PAUSE = 5.0


class Agent:
    """Everything of one host. `run` ends when it is cancelled; servers and ports stay as they are."""

    def __init__(self, config: AgentConfig, accelerated: Awaitable[bool]) -> None:
        """`accelerated`: whether guests run under KVM; finding out may take as long as joining."""
        self._config = config
        self._trial = accelerated
        self._accelerated = False
        self._wake = asyncio.Event()
        self._report_wake = asyncio.Event()
        self._reported = asyncio.Condition()
        self._slice: HostSlice | None = None
        self._applied = 0
        self._clean = 0
        self._problems: dict[str, Condition] = {}
        self._last: bytes = b""
        #: The run of the control plane that heard the last report.
        self._heard_by = ""
        self._since = process.since(os.getpid())

    async def run(self) -> None:
        """Joins the region if need be, then drives the host for ever."""
        config = self._config
        self._db = Database([config.ovsdb], "Open_vSwitch", tables=TABLES)
        self._db.start()
        self._network = HostNetwork(config, self._db)
        if not join.is_joined(config):
            try:
                await self._join()
            except asyncio.CancelledError:
                await self._db.close()
                raise
        await asyncio.to_thread(self._forget_token)
        self._accelerated = await self._trial
        context = pki.client_context(await asyncio.to_thread(config.authority.read_text), config.files)
        self._channel = Channel(config.control, context)
        self._probe = OpenFlowProbe(config.ovs_run_folder / f"{config.guard_bridge}.mgmt")
        integration = OpenFlowProbe(config.ovs_run_folder / f"{config.integration_bridge}.mgmt")
        self._daemons = Daemons(config, self._db)
        self._ports = Ports(config, self._db, self._probe)
        self._megaflows = Megaflows(config)
        self._mirrors = Mirrors(config, self._db, self._megaflows.doubt)
        self._link_shares = LinkShares(config, self._db)
        self._buses = Buses(config)
        self._metadata = Metadata(config, self._db)
        self._announcer = Announcer(config, self._db)
        self._metering = Metering(config, self._changed)
        self._images = Images(config.folder / "i", self._channel)
        self._kept = Kept(
            config.folder / "k",
            config.host,
            config.underlay.address.partition("/")[0],
            config.files,
            config.authority,
        )
        self._servers = Servers(
            config.folder / "s",
            Host(
                images=self._images,
                kept=self._kept,
                accelerated=self._accelerated,
                datapath=config.datapath,
                graceful_seconds=config.graceful_seconds,
                starting=asyncio.Semaphore(max(4, 2 * (os.cpu_count() or 1))),
                changed=self._changed,
                reported=self._told,
                upload=self._channel.upload,
                underlay=Underlay.of(config, config.underlay.address.partition("/")[0]),
            ),
        )
        self._units = Units(config, self._buses, self._changed, self._wake.set, accelerated=self._accelerated)
        self._ports.held, self._ports.units = self._servers.held_ports, self._units.processes
        self._ports.lingering = self._units.lingering
        self._images.in_use = self._servers.images
        self._servers.open()
        self._units.open()
        self._want(await asyncio.to_thread(self._remembered), certain=False)
        tasks = [
            asyncio.create_task(work(), name=name)
            for name, work in {
                "slices": self._follow_slices,
                "database": self._follow_database,
                "switch": self._follow_switch,
                "openflow": self._probe.run,
                "integration bridge": integration.run,
                "megaflows": self._megaflows.run,
                "metering": self._metering.run,
                "announcements": self._announcer.run,
                "reports": self._send_reports,
                "loop": self._loop,
            }.items()
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._servers.close()
            await self._units.close()
            self._kept.close()
            await self._ports.close()
            await self._metadata.close()
            await self._db.close()
            await self._channel.close()

    async def _join(self) -> None:
        """Gets the host its certificate, by an underlay that may be this host's own to set up first."""
        pause, told = 0.05, ""
        while True:
            await self._try("network", self._network.reach)
            try:
                return await join.join(self._config)
            except (Refusal, OSError) as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("cannot join the region: %s", told)
            await asyncio.sleep(pause)
            pause = min(1.2 * pause, 1.0)

    # What wakes the loop.

    async def _follow_slices(self) -> None:
        # Another run of the control plane, or another version, may tell more at the same revision.
        pause, sure = 0.1, False
        while True:
            after = self._slice.revision if self._slice is not None and sure else -1
            try:
                newest = await self._channel.slice_after(after)
                self._problems.pop("control", None)
                pause, sure = 0.1, sure or newest is not None
            except (Unavailable, Refused) as error:
                sure = False
                self._problem("control", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            if newest is not None and newest.host == self._config.host:
                newest = whole_names(newest, self._slice)
                if newest is None:
                    # It goes on from what this agent does not have: ask for everything.
                    sure = False
                    continue
                # Remembered first: what was done for it is not undone by an agent that begins anew.
                await self._remember(newest)
                self._want(newest)

    async def _follow_database(self) -> None:
        while True:
            await self._db.changed()
            self._wake.set()

    async def _follow_switch(self) -> None:
        while True:
            await self._probe.changed.wait()
            self._probe.changed.clear()
            self._wake.set()

    def _want(self, slice_: HostSlice | None, *, certain: bool = True) -> None:
        """`certain`: the control plane says so now."""
        if slice_ is None:
            return
        self._slice = slice_
        self._kept.want(slice_.kept, certain=certain)
        for manager in (
            self._network,
            self._ports,
            self._mirrors,
            self._link_shares,
            self._buses,
            self._metadata,
            self._images,
            self._servers,
            self._units,
            self._announcer,
            self._metering,
        ):
            manager.want(slice_)
        self._wake.set()

    async def _remember(self, slice_: HostSlice) -> None:
        """What cannot be written down is done all the same."""
        file = self._config.folder / "slice.json"
        try:
            await asyncio.to_thread(files.replace, file, msgspec.json.encode(slice_), 0o600)
            self._problems.pop("state folder", None)
        except OSError as error:
            self._problem("state folder", error)

    def _remembered(self) -> HostSlice | None:
        """The slice of the last run."""
        try:
            data = (self._config.folder / "slice.json").read_bytes()
            return msgspec.json.decode(data, type=HostSlice)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def _forget_token(self) -> None:
        """The host has joined: its token is of no use any more, and is not to lie about."""
        file = self._config.folder / "agent.json"
        if self._config.token and file.exists():
            save(msgspec.structs.replace(self._config, token=""), file)

    # The loop.

    async def _loop(self) -> None:
        while True:
            self._wake.clear()
            await self._apply()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._wake.wait()

    async def _apply(self) -> None:
        slice_ = self._slice
        well = await self._try("network", self._network.apply)
        if slice_ is not None:
            for name, apply in (
                ("ports", self._ports.apply),
                ("mirrors", self._mirrors.apply),
                ("shares of links", self._link_shares.apply),
                ("buses", self._buses.apply),
                ("metadata", self._metadata.apply),
                ("images", self._images.apply),
                ("disks set aside", self._kept.apply),
                ("servers", self._servers.apply),
                ("units", self._units.apply),
            ):
                well = await self._try(name, apply) and well
            if well:
                self._clean = slice_.revision
        self._changed()

    async def _try(self, name: str, apply: Callable[[], Awaitable[Refusal | None]]) -> bool:
        """Whether a manager is there. What it returns is told, and is no reason to try again."""
        try:
            told = await apply()
        except (Refusal, TransactError, OSError) as error:
            self._problem(name, error)
            return False
        except Exception as error:
            log.exception("manager %s", name)
            self._problem(name, error)
            return False
        if told is None:
            self._problems.pop(name, None)
        else:
            self._problem(name, told)
        return True

    def _problem(self, name: str, error: Exception) -> None:
        known = self._problems.get(name)
        found = Condition(
            what=f"{name} of host {self._config.host}",
            cause=str(error) or repr(error),
            remedy=_REMEDIES.get(name, "It is tried again every two seconds."),
        )
        if found != known:
            log.warning("%s: %s", found.what, found.cause)
            self._problems[name] = found
            self._changed()

    # The reports.

    def _changed(self) -> None:
        """What is reported may differ."""
        if self._clean and self._servers.settled:
            self._applied = self._clean
        self._report_wake.set()

    async def _told(self) -> None:
        """Returns when a report was sent after this call, or after a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0), self._reported:
                await self._reported.wait()

    async def _send_reports(self) -> None:
        asked = 0.0
        loop = asyncio.get_running_loop()
        while True:
            self._report_wake.clear()
            tick = self._tick()
            due = loop.time() >= asked + tick
            if due:
                asked = loop.time()
                await self._daemons.ask()
            report = self._report()
            data = msgspec.json.encode(report)
            if due or data != self._last:
                try:
                    heard_by = await self._channel.report(report)
                    self._last = data
                    if heard_by != self._heard_by:
                        self._servers.forget_consoles()
                        self._heard_by = heard_by
                    async with self._reported:
                        self._reported.notify_all()
                    if due:
                        await self._send_consoles()
                except (Unavailable, Refused) as error:
                    self._problem("control", error)
                    await asyncio.sleep(0.5)
            tick = self._tick()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(max(loop.time() + 0.01, asked + tick)):
                    await self._report_wake.wait()

    def _tick(self) -> float:
        return _TICK if all(daemon.well for daemon in self._daemons.seen) else _SHORT_TICK

    async def _send_consoles(self) -> None:
        consoles = await asyncio.to_thread(self._servers.new_consoles)
        for id, text in consoles.items():
            try:
                await self._channel.console(id, text)
            except Unavailable:
                self._servers.forget_console(id)
                raise
            except Refused as error:
                log.warning("console of %s: %s", id, error.message)

    def _report(self) -> HostReport:
        config = self._config
        return HostReport(
            host=config.host,
            address=config.underlay.address.partition("/")[0],
            bus_address=config.bus_address,
            applied_revision=self._applied,
            vcpus=capacity.processors(),
            memory_mib=capacity.memory_mib(),
            disk_gib=disks.total_bytes(config.folder) // disks.GIB,
            accelerator="kvm" if self._accelerated else "tcg",
            datapath=config.datapath,
            servers=self._servers.reports(),
            ports=tuple(sorted(self._ports.plugged)),
            daemons=self._daemons.seen,
            problems=tuple(self._problems.values()),
            physical_networks=tuple(sorted(config.physical_networks)),
            since=self._since,
            links=uplinks.speeds(config, self._db),
            meters=self._metering.reports,
            units=self._units.reports(),
        )


_REMEDIES = {
    "network": "Is Open vSwitch running? It is tried again every two seconds.",
    "shares of links": "Leave the interface without a discipline of your own, or keep the promises by it: "
    "placement keeps to them in any case. It is looked at again every two seconds.",
    "control": "The host goes on with what it knows, and tries again.",
    "state folder": "Make room on its disk: what the host is to do is done, and is not remembered.",
}
