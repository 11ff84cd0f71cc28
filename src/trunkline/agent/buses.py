"""The buses of appliances: two networks for each appliance with a unit here, which nobody else is on.

                namespace PREFIXb-3f2a9c1e          one an appliance, with no address and no route
    unit 5 ────── b5 ┐
    unit 7 ────── b7 ┴ bus ─────── bus-x            VXLAN (RFC 7348) to the other hosts
    unit 5 ────── c5 ┐
    unit 7 ────── c7 ┴ control ─── control-x

All of it is in a namespace of its own, so that whatever a unit sends to the bridges reaches nothing of the
host. The tunnels' datagrams are the host's own: a VXLAN device has its socket where it was made.

Who is where is entered, not learned: on the bus the source address of a frame is a label. The bus floods
nothing; the other one floods multicast, for neighbour discovery, to the hosts of its members.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from trunkline.agent import across
from trunkline.agent.config import AgentConfig
from trunkline.agent.own import OwnNamespaces
from trunkline.compiler.slices import HostSlice
from trunkline.compiler.unit_slices import BusMember, BusSlice
from trunkline.devices import links, namespace
from trunkline.errors import Unavailable

log = logging.getLogger(__name__)
#: OVN's tunnels have 6081 and 4789.
_PORT = 4790
_EVERYBODY = "00:00:00:00:00:00"
#: What is put right even where nothing is seen to have changed, every so many seconds.
_REASSERT_SECONDS = 15.0


@dataclass(frozen=True)
class _Bus:
    bridge: str
    #: What the outer ends of units' interfaces begin with.
    letter: str
    #: Options of its ports (ip-link(8), bridge_slave).
    options: str
    floods: bool = False

    @property
    def tunnel(self) -> str:
        return f"{self.bridge}-x"

    def mac(self, member: BusMember) -> str:
        return (member.control_mac if self.floods else member.bus_mac).lower()


_BUS = _Bus("bus", "b", "learning off flood off mcast_flood off bcast_flood off")
_CONTROL = _Bus("control", "c", "learning off flood off mcast_flood on bcast_flood off", floods=True)


@dataclass(frozen=True)
class _Entry:
    """Where frames for an address go (bridge(8), fdb)."""

    device: str
    mac: str
    #: "master": a port of the bridge. "self": a tunnel, to the host `to`.
    table: str
    to: str = ""


class Buses:
    """Manager of the buses. Owns namespaces PREFIXb-8HEX, remembered in files, and all that is in them."""

    def __init__(self, config: AgentConfig) -> None:
        self._host = config.host
        self._underlay = config.bus_address or config.underlay.address.partition("/")[0]
        self._namespaces = OwnNamespaces(config.folder / "n", f"{config.namespace_prefix}b-")
        self._wanted: dict[str, BusSlice] = {}
        #: As they were last put right, and when.
        self._right: dict[str, tuple[BusSlice, float]] = {}
        #: Held while devices or entries are made or removed, in whichever thread.
        self._lock = threading.Lock()

    def want(self, slice_: HostSlice) -> None:
        """The buses of this slice, and no others."""
        self._wanted = {bus.appliance: bus for bus in slice_.buses}

    async def apply(self) -> None:
        """Drives the host there.

        Raises:
            Unavailable, OSError: something is in the way; the rest was done.
        """
        problem: Unavailable | None = None
        for bus in self._wanted.values():
            known, at = self._right.get(bus.appliance, (None, 0.0))
            late = time.monotonic() > at + _REASSERT_SECONDS
            if late or known != bus or not namespace.exists(self.netns(bus.appliance)):
                try:
                    await asyncio.to_thread(self._drive, bus)
                    self._right[bus.appliance] = bus, time.monotonic()
                except Unavailable as error:
                    problem = error
        self._right = {key: value for key, value in self._right.items() if key in self._wanted}
        for name in self._namespaces.all() - {self.netns(appliance) for appliance in self._wanted}:
            await asyncio.to_thread(self._namespaces.remove, name)
        if problem is not None:
            raise problem

    def netns(self, appliance: str) -> str:
        """The name of the namespace that an appliance's buses are in."""
        return self._namespaces.name(appliance)

    def plug(self, appliance: str, member: BusMember, pid: int, bus: str, control: str) -> None:
        """Gives a process the two interfaces of a unit, in its namespace, up; one that has them keeps them.

        Args:
            bus, control: what they are to be called there.

        Raises:
            Unavailable: there are no such buses yet, or the kernel refuses.
        """
        known, _ = self._right.get(appliance, (None, 0.0))
        if known is None:
            raise Unavailable("the buses of its appliance are not there yet")
        netns, inside = self.netns(appliance), namespace.of_process(pid)
        with self._lock:
            # Each is up when all is done: what an agent that died did not end is made anew.
            has = namespace.inside(inside, lambda: links.up(bus, control))
            for kind, inner in ((_BUS, bus), (_CONTROL, control)):
                outer = f"{kind.letter}{member.number}"
                if inner in has:
                    continue
                if outer in namespace.interfaces(netns):
                    # That, or of one that had the number before, and is on its way out.
                    _remove(netns, outer)
                index = "" if kind.floods else f"index {across.number(member.number)} "
                namespace.ip(
                    netns,
                    f"link add name {outer} {index}mtu {known.mtu} type veth "
                    f"peer name {inner} netns {pid} address {kind.mac(member)} mtu {known.mtu}",
                    f"link set dev {outer} master {kind.bridge} up",
                    f"link set dev {outer} type bridge_slave {kind.options}",
                )
                namespace.bridge(netns, f"fdb replace {kind.mac(member)} dev {outer} master static")
                if not kind.floods:
                    # Where it cannot be had, there is the bridge.
                    try:
                        across.lead(netns, outer)
                    except Unavailable as error:
                        log.warning("%s of %s: all goes by the bridge: %s", outer, netns, error)
                    # Frames there are no IP packets: nothing is to be said by itself.
                    namespace.sysctl(inside, [(f"ipv6/conf/{inner}/disable_ipv6", 1)])
                namespace.ip(inside, f"link set dev {inner} up")

    def unplug(self, appliance: str, number: int) -> None:
        """Takes a unit's interfaces away, as far as they are there: at once, for the dead may answer still.

        The kernel takes its time to end a namespace whose last process is gone.
        """
        netns = self.netns(appliance)
        with contextlib.suppress(Unavailable):
            namespace.inside(
                netns, lambda: links.down(*(f"{kind.letter}{number}" for kind in (_BUS, _CONTROL)))
            )
        with self._lock:
            if namespace.exists(netns):
                there = namespace.interfaces(netns)
                for kind in (_BUS, _CONTROL):
                    if (outer := f"{kind.letter}{number}") in there:
                        _remove(netns, outer)

    # What is there.

    def _drive(self, bus: BusSlice) -> None:
        netns = self.netns(bus.appliance)
        with self._lock:
            if not namespace.exists(netns):
                self._namespaces.make(netns)
                off = [(f"ipv6/conf/{which}/disable_ipv6", 1) for which in ("all", "default")]
                # Where the kernel shows bridged frames to firewalls, there is none here to see them.
                off += [
                    (f"bridge/{each}", 0) for each in namespace.settings(netns, "bridge", "bridge-nf-call-*")
                ]
                namespace.sysctl(netns, off)
            there = {link["ifname"]: link for link in _ask("ip", netns, "-details", "link", "show")}
            for kind, vni in ((_BUS, bus.bus_vni), (_CONTROL, bus.control_vni)):
                self._bridge(netns, kind, vni, bus.mtu, there)
            local = {member.number for member in bus.members if member.host == self._host}
            for name in there:
                if (found := re.fullmatch(r"[bc](\d+)", name)) and int(found[1]) not in local:
                    _remove(netns, name)
            self._enter(netns, set(self._entries(bus, set(namespace.interfaces(netns)))))

    def _bridge(self, netns: str, kind: _Bus, vni: int, mtu: int, there: dict[str, Any]) -> None:
        name, tunnel = kind.bridge, kind.tunnel
        if name not in there:
            namespace.ip(netns, f"link add name {name} mtu {mtu} type bridge mcast_snooping 0")
        elif there[name]["mtu"] != mtu:
            namespace.ip(netns, f"link set dev {name} mtu {mtu}")
        found = there.get(tunnel, {})
        data = found.get("linkinfo", {}).get("info_data", {})
        as_wanted = (data.get("id"), data.get("local") or data.get("local6")) == (vni, self._underlay)
        if found and not as_wanted:
            _remove(netns, tunnel)
        if not (found and as_wanted):
            # Made by the host, so that its datagrams are sent from there.
            namespace.ip(
                None,
                f"link add name {tunnel} mtu {mtu} netns {netns} "
                f"type vxlan id {vni} local {self._underlay} dstport {_PORT} nolearning",
            )
        namespace.ip(
            netns,
            f"link set dev {name} up",
            f"link set dev {tunnel} mtu {mtu} master {name} up",
            f"link set dev {tunnel} type bridge_slave {kind.options}",
        )

    def _entries(self, bus: BusSlice, there: set[str]) -> Iterator[_Entry]:
        for member in bus.members:
            for kind in (_BUS, _CONTROL):
                mac, outer = kind.mac(member), f"{kind.letter}{member.number}"
                if member.host == self._host:
                    if outer in there:
                        yield _Entry(outer, mac, "master")
                elif member.underlay:
                    yield _Entry(kind.tunnel, mac, "master")
                    yield _Entry(kind.tunnel, mac, "self", member.underlay)
                    if kind.floods:
                        yield _Entry(kind.tunnel, _EVERYBODY, "self", member.underlay)

    def _enter(self, netns: str, wanted: set[_Entry]) -> None:
        there = {
            _Entry(
                row["ifname"], row["mac"], "self" if "self" in row["flags"] else "master", row.get("dst", "")
            )
            for row in _ask("bridge", netns, "fdb", "show")
            if row.get("state") == "static"
        }
        lines = [f"fdb del {_words(entry)}" for entry in there - wanted]
        for entry in wanted - there:
            # One address stands for all other hosts: it has several entries.
            verb = "append" if entry.mac == _EVERYBODY else "replace"
            lines.append(f"fdb {verb} {_words(entry)} static")
        namespace.bridge(netns, *lines)


def _words(entry: _Entry) -> str:
    return f"{entry.mac} dev {entry.device}{f' dst {entry.to}' if entry.to else ''} {entry.table}"


def _remove(netns: str, device: str) -> None:
    try:
        namespace.ip(netns, f"link delete dev {device}")
    except namespace.CommandFailed:
        # The kernel was quicker: the other end's namespace is gone.
        if device in namespace.interfaces(netns):
            raise


def _ask(program: str, netns: str, *words: str) -> list[dict[str, Any]]:
    """What iproute2 says, as JSON."""
    command = [program, "-n", netns, "-json", *words]
    done = subprocess.run(command, text=True, capture_output=True, timeout=30, check=False)
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}: {' '.join(done.stderr.split())}")
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found
