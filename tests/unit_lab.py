"""An appliance by hand: units that run as on a host, between a client inside and a server outside.

    client ── inside ──┐              ┌── outside ── server
    10.0.0.5           dispatchers                   192.0.2.9
                       data planes        on the buses, which are bridges of the lab
                       managers

The lab is every unit's agent: it makes their interfaces, tells them their slices, and hears their statuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from probes import Space, wait_for

from trunkline.agent import across
from trunkline.agent.unit import BEQUESTS
from trunkline.agent.unit_runtime import LINGER
from trunkline.compiler.unit_slices import BusMember, LegSlice, PolicySlice, UnitSlice
from trunkline.devices import links, namespace
from trunkline.resources.reports import UnitStatus
from trunkline.units.bequest import bequeath

TAG = f"ul{os.getpid()}"
#: How long a host that was cut off is left alone, seconds.
APART = 0.5
LEGS = (
    LegSlice(zone="inside", addresses=("10.0.0.1/24", "fd00:a::1/64"), mtu=1442),
    LegSlice(
        zone="outside",
        outside=True,
        addresses=("192.0.2.1/24", "fd00:b::1/64"),
        routes=(("0.0.0.0/0", "192.0.2.9"), ("::/0", "fd00:b::9")),
        mtu=1442,
    ),
)
#: Where the client sends what is for elsewhere.
GATEWAYS = ("10.0.0.1", "fd00:a::1")
CLIENT, SERVER = ("10.0.0.5/24", "fd00:a::5/64"), ("192.0.2.9/24", "fd00:b::9/64")


def member(number: int, kind: str, host: str = "h1", *, leaves: bool = False) -> BusMember:
    """A unit as the others know it."""
    return BusMember(
        number=number,
        kind=kind,  # type: ignore[arg-type]
        host=host,
        bus_mac=f"02:0b:00:00:00:{number:02x}",
        control_mac=f"02:0c:00:00:00:{number:02x}",
        control_address=f"fd00:74:6c::{number:x}",
        leaves=leaves,
    )


class RunningUnit:
    """A unit's process, and what its agent would know."""

    def __init__(self, lab: UnitLab, own: BusMember, folder: Path) -> None:
        self.own = own
        self.statuses: list[UnitStatus] = []
        self._lab = lab
        self._socket = folder / f"{own.number}.sock"
        self.log = folder / f"{own.number}.log"
        legs = [f"leg{n}" for n in range(len(LEGS))] if own.kind == "dispatcher" else []
        command = ["unshare", "--net", sys.executable, "-m", "trunkline.units", f"--socket={self._socket}"]
        command += [f"--{bus}={bus}" for bus in ("bus", "control")]
        command += [f"--leg={leg}" for leg in legs]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        # From then on it is a namespace of its own.
        wait_for(lambda: self._speaks(), 20, f"unit {own.number} listens: {self.log.read_text()[-2000:]}")
        pid = self.process.pid
        #: Of its network namespace, which would end with the process: -1 when it is let go of.
        self.namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        for bus, mac in (("bus", own.bus_mac), ("control", own.control_mac)):
            lab.plug(bus, own.number, pid, mac, bus)
        for name, leg in zip(legs, LEGS, strict=False):
            mac = f"02:0d:00:00:{int(name[-1]):02x}:{own.number:02x}"
            lab.plug(leg.zone, own.number, pid, mac, name)
        self.run("sh", "-c", "ip link set dev lo up")
        threading.Thread(target=self._hear, daemon=True).start()

    def _speaks(self) -> bool:
        try:
            self._agent = socket.socket(socket.AF_UNIX)
            self._agent.connect(str(self._socket))
            return True
        except OSError:
            return False

    def _hear(self) -> None:
        with self._agent.makefile("rb") as lines:
            try:
                for line in lines:
                    self.statuses.append(msgspec.json.decode(line, type=UnitStatus))
            except OSError:
                return

    def run(self, *command: str) -> str:
        """What a command says that runs in the unit's network namespace; its process may have ended."""
        inside = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self.namespace}", "--", *command]
        return subprocess.run(inside, capture_output=True, text=True, timeout=20, check=True).stdout

    def tell(self, **other: Any) -> None:
        """Its slice; `other` fields are as said."""
        slice_ = UnitSlice(
            **{
                "id": f"unit-{self.own.number}",
                "appliance": "appliance",
                "number": self.own.number,
                "kind": self.own.kind,
                "cores": self._lab.cores(self.own.kind),
                "memory_mib": 256,
                "legs": LEGS,
                "ports": ("port-in", "port-out") if self.own.kind == "dispatcher" else (),
                "members": tuple(self._lab.members.values()),
                "policy": self._lab.policy if self.own.kind == "manager" else None,
                **other,
            }
        )
        self._agent.sendall(msgspec.json.encode(slice_) + b"\n")

    def must_say(self, fits: Callable[[UnitStatus], bool], seconds: float = 10.0) -> UnitStatus:
        """The newest status, when it fits."""

        def newest() -> UnitStatus | None:
            return self.statuses[-1] if self.statuses and fits(self.statuses[-1]) else None

        try:
            return wait_for(newest, seconds, f"unit {self.own.number} is as it should be")
        except AssertionError as error:
            last = self.statuses[-1:]
            raise AssertionError(f"{error}; it is {last}\n{self.log.read_text()[-3000:]}") from None

    def close(self) -> None:
        """What is left when its process has ended."""
        with contextlib.suppress(OSError):
            self._agent.shutdown(socket.SHUT_RDWR)
        self._agent.close()
        self._let_go()

    def _let_go(self) -> None:
        held, self.namespace = self.namespace, -1
        if held >= 0:
            os.close(held)

    def end(self) -> None:
        """As ``kill -9``: its program ends, and its kernel forwards until `unplug`."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def unplug(self) -> None:
        """As its agent does when its process has ended: its interfaces go, and its namespace with them."""
        self._lab.unplug(self.own.number)
        self._let_go()

    def kill(self) -> None:
        """As ``kill -9``, with what its agent does then."""
        self.end()
        ended = time.monotonic()
        for part, patience in BEQUESTS:
            time.sleep(max(0.0, ended + part * LINGER - time.monotonic()))
            self.bequeath(patience)
        self.unplug()

    def bequeath(self, patience: float = 1.0) -> int:
        """What it had begun lately is the others', where it is a data plane."""
        if self.own.kind != "data-plane":
            return 0
        members = self._lab.members.values()
        heirs = [each for each in members if each.kind == self.own.kind and each.number != self.own.number]
        kernel, addresses = namespace.of_descriptor(self.namespace), [each.control_address for each in heirs]
        return asyncio.run(bequeath(kernel, self.own.number, addresses, patience))

    def cut(self) -> None:
        """As when its host is cut off, and does not come back: nobody hears that it ended."""
        self._lab.silence(self.own.number)
        # The kernel that ends its interfaces is that of the others, too, and has them wait meanwhile.
        time.sleep(APART)
        self._lab.unplug(self.own.number)
        self.end()
        self._let_go()


class UnitLab:
    """Owns namespaces, units and a folder; `close` ends all."""

    def __init__(self, policy: dict[str, Any]) -> None:
        self.members: dict[int, BusMember] = {}
        self.units: dict[int, RunningUnit] = {}
        self.policy = PolicySlice(revision=1, document=policy)
        self._folder = tempfile.TemporaryDirectory(prefix="tlu")
        self.client, self.server = Space(f"{TAG}-c"), Space(f"{TAG}-s")
        self.switch = Space(f"{TAG}-b")
        for space in (self.client, self.server, self.switch):
            namespace.create(space.netns)
            dad = [(f"ipv6/conf/{which}/accept_dad", 0) for which in ("all", "default")]
            namespace.sysctl(space.netns, dad)
        for bridge in ("bus", "control", "inside", "outside"):
            self.bridge(bridge)
        for end, switch, addresses, leg in (
            (self.client, "inside", CLIENT, LEGS[0]),
            (self.server, "outside", SERVER, LEGS[-1]),
        ):
            self.switch.ip(
                f"link add {switch}-e type veth peer name eth0 netns {end.netns}",
                f"link set dev {switch}-e master {switch} up",
            )
            end.ip(f"link set dev eth0 mtu {leg.mtu} up")
            end.ip(*(f"address add {a} dev eth0{' nodad' if ':' in a else ''}" for a in addresses))
        self.client.ip(*(f"route add default via {address}" for address in GATEWAYS))
        self.server.ip("route add 10.0.0.0/24 via 192.0.2.1", "route add fd00:a::/64 via fd00:b::1")

    def bridge(self, name: str) -> None:
        """One that keeps its own address when ports come and go: who has one there is to be found."""
        mac = f"02:0b:00:00:00:{ord(name[0]):02x}"
        self.switch.ip(f"link add {name} mtu 9000 address {mac} type bridge", f"link set dev {name} up")

    def cores(self, kind: str) -> float:
        """The part of processors that the packets of such a unit may have."""
        return float(os.cpu_count() or 1)

    def plug(self, switch: str, number: int, pid: int, mac: str, inner: str) -> None:
        """Gives a process an interface on one of the lab's bridges."""
        end = f"{switch}{number}"
        index = f"index {across.number(number)} " if switch == "bus" else ""
        self.switch.ip(
            f"link add {end} {index}mtu 1500 type veth peer name {inner} netns {pid} address {mac} mtu 1500",
            f"link set dev {end} master {switch} up",
        )
        if switch == "bus":
            # As on a host: nothing is learned, for senders' addresses are labels, and nothing flooded.
            self.switch.ip(f"link set dev {end} type bridge_slave learning off flood off")
            entry = ("fdb", "replace", mac, "dev", end, "master", "static")
            assert self.switch.run("bridge", *entry).returncode == 0
            across.lead(self.switch.netns, end)
        done = ["nsenter", f"--target={pid}", "--net", "--", "ip", "link", "set", "dev", inner, "up"]
        subprocess.run(done, check=True, timeout=10)

    def unplug(self, number: int) -> None:
        """Takes the interfaces of a unit from the lab's bridges, where they have not gone already."""
        # At once, for the dead may answer still.
        self.silence(number)
        for end in self._ends(number):
            self.switch.run("ip", "link", "delete", "dev", end)

    def silence(self, number: int) -> None:
        """Nothing comes from a unit's interfaces any more, or to them."""
        ends = self._ends(number)
        namespace.inside(self.switch.netns, lambda: links.down(*ends))

    @staticmethod
    def _ends(number: int) -> list[str]:
        # They go one after the other, some milliseconds each. Who was heard beside the bus when that had gone
        # would be waited for, though a host that is cut off falls silent on both at once.
        return [f"{switch}{number}" for switch in ("control", "bus", "inside", "outside")]

    def begin(self, *members: BusMember) -> None:
        """Starts units of these, side by side, and tells everybody who there is."""
        self.members |= {each.number: each for each in members}
        for each in members:
            self.units[each.number] = RunningUnit(self, each, Path(self._folder.name))
        self.tell_all()

    def tell_all(self) -> None:
        for unit in self.units.values():
            if unit.process.poll() is None:
                unit.tell()

    def leave(self, number: int) -> None:
        """A unit is to go."""
        self.members[number] = msgspec.structs.replace(self.members[number], leaves=True)
        self.tell_all()

    def kill(self, *numbers: int) -> None:
        for number in numbers:
            self.units[number].kill()

    def cut(self, *numbers: int) -> None:
        for number in numbers:
            self.units[number].cut()

    def of(self, kind: str) -> Iterable[RunningUnit]:
        return [unit for unit in self.units.values() if unit.own.kind == kind]

    def set_policy(self, document: dict[str, Any]) -> None:
        self.policy = PolicySlice(revision=self.policy.revision + 1, document=document)
        self.tell_all()

    def close(self) -> None:
        for unit in self.units.values():
            unit.process.terminate()
        deadline = time.monotonic() + 5
        for unit in self.units.values():
            try:
                unit.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                unit.kill()
            unit.close()
        namespace.delete(*namespace.names(f"{TAG}-"))
        self._folder.cleanup()
