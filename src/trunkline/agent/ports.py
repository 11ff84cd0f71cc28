"""The ports of a host's workloads: their interfaces, plugged into Open vSwitch behind their guards.

    namespace workload, unit     server
    eth0, tll... = veth          virtio-net
       |                            |
    tlv3f2a9c1e-aa               tlt3f2a9c1e-aa         a device of the kernel, in the host's namespace
       `------------.  .------------'
                 guard bridge                           flows of `guards`
                    tlg3f2a9c1e-aa
                    |                                   patch
                    tli3f2a9c1e-aa                      iface-id = the port's id, seen by ovn-controller
                 integration bridge

A tap is persistent: it is there before its server starts, and outlives it. The pair of a unit's port ends
with the unit's namespace, which has the inner end: a moment after its process. The next process gets another
pair. Names end in the first 11 characters of the port's id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from trunkline.agent import guards
from trunkline.agent.config import AgentConfig
from trunkline.agent.own import OwnNamespaces
from trunkline.agent.packet_limits import Key, PacketLimits
from trunkline.compiler.slices import HostSlice, PacketLimit, PortSlice
from trunkline.devices import links, namespace, openvswitch
from trunkline.devices.meters import Meter
from trunkline.devices.openvswitch import OpenFlowProbe, WantedPort
from trunkline.devices.ovsdb import Database
from trunkline.devices.tools import ToolFailed
from trunkline.errors import Unavailable

log = logging.getLogger(__name__)
_OWNER = "workload"
_TAP, _VETH, _GUARD_END, _OWN_END, _LEG = "tlt", "tlv", "tlg", "tli", "tll"
#: How long ovs-vswitchd may take to give new ports their numbers before the loop goes on without.
_PLUG_SECONDS = 2.0
#: The guards are put right this often even where nothing is seen to have changed.
_REASSERT_SECONDS = 15.0
_SWEPT_AT_ONCE = 4


def tap(port: str) -> str:
    """The name of a port's tap device."""
    return _TAP + port[:11]


def device(port: PortSlice) -> str:
    """The name of the device by which a port is plugged in on the guard bridge."""
    return tap(port.id) if port.attach == "tap" else outer(port.id)


def outer(port: str) -> str:
    """The name of the other end of what a port is in a namespace or a unit."""
    return _VETH + port[:11]


def leg(port: str) -> str:
    """The name that a port's device has in its unit."""
    return _LEG + port[:11]


class Ports:
    """Manager of the workloads' ports. Owns the devices named above and the rows marked ``workload``."""

    def __init__(self, config: AgentConfig, db: Database, probe: OpenFlowProbe) -> None:
        """`probe` watches the guard bridge."""
        self._config = config
        self._db = db
        self._probe = probe
        self._namespaces = OwnNamespaces(config.folder / "n", f"{config.namespace_prefix}p-")
        self._wanted: dict[str, PortSlice] = {}
        #: By the port that is plugged in for them.
        self._sub_ports: dict[str, list[PortSlice]] = {}
        self._management = config.ovs_run_folder / f"{config.guard_bridge}.mgmt"
        self._limits = PacketLimits(self._management)
        self._flows: tuple[int, list[str], dict[int, Meter]] | None = None
        self._asserted = 0.0
        self._sweeper: asyncio.Task[None] | None = None
        #: Devices of units that do not run.
        self._absent: set[str] = set()
        #: Held while devices are made or removed.
        self._devices = asyncio.Lock()
        #: Ids of the ports that are plugged in, with their guards in place.
        self.plugged: frozenset[str] = frozenset()
        #: Says which ports running servers still hold: their taps must stay.
        self.held: Callable[[], Iterable[str]] = tuple
        #: Says which processes units are now, by their ids: they get the inner ends of their ports.
        self.units: Callable[[], Mapping[str, int]] = dict
        #: Says which units have theirs though their processes have ended, by their ids.
        self.lingering: Callable[[], Collection[str]] = tuple

    def want(self, slice_: HostSlice) -> None:
        """The ports of this slice, and no others."""
        self._wanted = {port.id: port for port in slice_.ports if not port.parent}
        self._sub_ports = {}
        for port in slice_.ports:
            if port.parent:
                self._sub_ports.setdefault(port.parent, []).append(port)

    async def apply(self) -> None:
        """Drives the host there.

        Raises:
            Unavailable, Conflict, TransactError, OSError: something is in the way; the rest was done.
        """
        await self._unplug_lost()
        async with self._devices:
            await asyncio.to_thread(self._make_devices)
            self._absent = await asyncio.to_thread(self._lost)
        operations = openvswitch.port_operations(self._db, self._ends(), _OWNER)
        if operations:
            await self._db.transact(operations)
            await self._numbered()
        await self._assert_guards()
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.create_task(self._sweep(), name="sweeping devices")

    async def close(self) -> None:
        """Stops what goes on beside; everything stays as it is."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)

    async def _unplug_lost(self) -> None:
        """Takes out what units that are gone had: ovs-vswitchd (3.1) never opens a new device of an old name,
        unless it has seen the port go (ovs-vswitchd.conf.db(5), next_cfg)."""
        db = self._db
        self._absent = await asyncio.to_thread(self._lost)
        if not self._absent.intersection(row["name"] for row in db.tables["Interface"].values()):
            return
        operations = openvswitch.port_operations(db, self._ends(), _OWNER)
        uuid, before = openvswitch.root(db)
        operations.append(db.ops.mutate("Open_vSwitch", uuid, [("next_cfg", "+=", 1)]))
        await db.transact(operations)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PLUG_SECONDS):
                while True:
                    serial = db.serial
                    if openvswitch.root(db)[1]["cur_cfg"] > before["next_cfg"]:
                        return
                    await db.changed(serial)

    def _lost(self) -> set[str]:
        """The outer ends whose units do not have the inner one."""
        units, present, found = self.units(), links.names(), set()
        for port in self._wanted.values():
            if port.attach == "unit" and not (device(port) in present and _has_leg(units, port)):
                found.add(device(port))
        # Asked after that, for a process may have ended meanwhile.
        lingering = self.lingering()
        return found - {device(port) for port in self._wanted.values() if port.server in lingering}

    def _ends(self) -> list[WantedPort]:
        config, wanted = self._config, []
        for port in self._wanted.values():
            name = port.id[:11]
            inner, front = _OWN_END + name, _GUARD_END + name
            ids = {"iface-id": port.id, "attached-mac": port.mac, "iface-status": "active"}
            if port.server and port.attach == "tap":
                ids["vm-id"] = port.server
            if device(port) not in self._absent:
                wanted.append(WantedPort(config.guard_bridge, device(port)))
            wanted += [
                WantedPort(config.guard_bridge, front, "patch", {"peer": inner}),
                WantedPort(config.integration_bridge, inner, "patch", {"peer": front}, ids),
            ]
        return wanted

    def _make_devices(self) -> None:
        present, units = links.names(), self.units()
        lines: list[str] = []
        for port in self._wanted.values():
            name = device(port)
            if port.attach == "unit":
                if port.server not in units:
                    continue
                if name not in present or not _has_leg(units, port):
                    self._make_leg(port, units[port.server], name in present)
                    continue
            elif port.attach == "namespace":
                if name not in present or not namespace.exists(self._namespaces.name(port.id)):
                    self._make_namespace(port, name, name in present)
                    continue
            elif name not in present:
                lines += [f"tuntap add dev {name} mode tap", f"link set dev {name} mtu {port.mtu} up"]
                continue
            now = links.link(name)
            if now is not None and (now.mtu != port.mtu or not now.up):
                lines.append(f"link set dev {name} mtu {port.mtu} up")
                if port.attach == "namespace":
                    namespace.ip(self._namespaces.name(port.id), f"link set dev eth0 mtu {port.mtu}")
                elif port.attach == "unit":
                    inside = namespace.of_process(units[port.server])
                    namespace.ip(inside, f"link set dev {leg(port.id)} mtu {port.mtu}")
        namespace.ip(None, *lines)

    def _make_leg(self, port: PortSlice, pid: int, stale: bool) -> None:
        name, inner, inside = device(port), leg(port.id), namespace.of_process(pid)
        if stale:
            namespace.ip(None, f"link delete dev {name}")
        namespace.ip(
            None,
            f"link add name {name} mtu {port.mtu} type veth "
            f"peer name {inner} netns {pid} address {port.mac} mtu {port.mtu}",
            f"link set dev {name} up",
        )
        namespace.ip(inside, f"link set dev {inner} up")
        namespace.checksums_in_software(inside, inner)

    def _make_namespace(self, port: PortSlice, name: str, stale: bool) -> None:
        inside = self._namespaces.name(port.id)
        if stale:
            namespace.ip(None, f"link delete dev {name}")
        self._namespaces.make(inside)
        namespace.ip(
            None,
            f"link add name {name} mtu {port.mtu} type veth "
            f"peer name eth0 netns {inside} address {port.mac} mtu {port.mtu}",
            f"link set dev {name} up",
        )
        namespace.ip(inside, "link set dev eth0 up")
        namespace.checksums_in_software(inside, "eth0")

    async def _numbered(self) -> None:
        """Returns when every port has its OpenFlow number, or after a while."""
        names = [end.name for end in self._ends()]
        try:
            async with asyncio.timeout(_PLUG_SECONDS):
                while True:
                    serial = self._db.serial
                    numbers = {row["name"]: row["ofport"] for row in self._db.tables["Interface"].values()}
                    if all(numbers.get(name) for name in names):
                        return
                    await self._db.changed(serial)
        except TimeoutError:
            pass

    async def _assert_guards(self) -> None:
        meters = self._limits.want(self._packet_limits())
        guarded = self._guarded(meters)
        there = frozenset(guarded).union(sub.id for id in guarded for sub in self._sub_ports.get(id, ()))
        flows = (self._probe.generation, guards.flows(list(guarded.values())), self._limits.wanted)
        now = time.monotonic()
        if flows != self._flows or now > self._asserted + _REASSERT_SECONDS:
            self._flows = None
            self.plugged &= there
            try:
                await self._limits.put()
            except ToolFailed as error:
                # What nobody may claim to be counts for more than how much they send.
                await openvswitch.replace_flows(self._management, guards.flows([*self._guarded({}).values()]))
                self.plugged = there
                raise Unavailable(f"packets are not limited: {error}") from None
            await openvswitch.replace_flows(self._management, flows[1])
            await self._limits.clear()
            self._flows, self._asserted = flows, now
        self.plugged = there

    def _guarded(self, meters: Mapping[Key, int]) -> dict[str, guards.GuardedPort]:
        """The ports that have their numbers, by id; a port that is not among `meters` has no limit."""
        numbers = {row["name"]: row["ofport"] or 0 for row in self._db.tables["Interface"].values()}
        found = {}
        for port in self._wanted.values():
            workload = numbers.get(device(port), 0)
            patch = numbers.get(_GUARD_END + port.id[:11], 0)
            if workload > 0 and patch > 0:
                found[port.id] = guards.GuardedPort(
                    workload,
                    patch,
                    port.guard,
                    port.vlan_transparent,
                    tuple(_tag(sub, meters) for sub in self._sub_ports.get(port.id, ())),
                    port.local_addresses,
                    sends=meters.get(Key(port.id, "egress"), 0),
                    gets=meters.get(Key(port.id, "ingress"), 0),
                )
        return found

    def _packet_limits(self) -> dict[Key, PacketLimit]:
        own = (*self._wanted.values(), *(sub for subs in self._sub_ports.values() for sub in subs))
        return {Key(port.id, each.direction): each for port in own for each in port.packet_limits}

    async def _sweep(self) -> None:
        """Removes devices that are not wanted, beside the loop: the kernel takes 30 ms for each."""
        try:
            more = True
            while more:
                async with self._devices:
                    more = await asyncio.to_thread(self._remove_devices)
        except (Unavailable, OSError) as error:
            log.warning("devices are left over: %s", error)

    def _remove_devices(self) -> bool:
        """Removes a few; says whether there may be more."""
        wanted = {device(port) for port in self._wanted.values()}
        held = {tap(port) for port in self.held()}
        unwanted = [n for n in links.names() if n.startswith((_TAP, _VETH)) and n not in wanted | held]
        namespace.ip(None, *(f"link delete dev {name}" for name in unwanted[:_SWEPT_AT_ONCE]))
        kept = {self._namespaces.name(p.id) for p in self._wanted.values() if p.attach == "namespace"}
        spaces = sorted(self._namespaces.all() - kept)
        for name in spaces[:_SWEPT_AT_ONCE]:
            self._namespaces.remove(name)
        return max(len(unwanted), len(spaces)) > _SWEPT_AT_ONCE


def _has_leg(units: Mapping[str, int], port: PortSlice) -> bool:
    """Whether the process that is now the port's unit has its inner end."""
    try:
        pid = units[port.server]
        return leg(port.id) in namespace.interfaces(namespace.of_process(pid))
    except (KeyError, Unavailable):
        return False


def _tag(sub: PortSlice, meters: Mapping[Key, int]) -> guards.GuardedTag:
    return guards.GuardedTag(
        sub.vlan,
        sub.guard,
        sub.vlan_transparent,
        sends=meters.get(Key(sub.id, "egress"), 0),
        gets=meters.get(Key(sub.id, "ingress"), 0),
    )
