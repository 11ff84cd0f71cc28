"""One host for tests of the agent: a namespace with Open vSwitch of its own, a fake control plane, no OVN."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from fake_control import FakeControl

from trunkline.agent import unit_files
from trunkline.compiler.slices import Guard, HostSlice, ImageSlice, PortSlice, ServerSlice
from trunkline.devices import namespace, process
from trunkline.devices.units import takes_connections
from trunkline.resources.reports import HostReport, ServerReport

T = TypeVar("T")
#: What a guest of `guest_image` writes on its console.
GREETING = "guest is up"


def wait(what: Callable[[], T], timeout: float = 30.0) -> T:
    """The first value of `what` that is true; an exception of it counts as false, but for the last."""
    deadline = time.monotonic() + timeout
    while True:
        late = time.monotonic() > deadline
        try:
            if found := what():
                return found
        except (AssertionError, OSError, LookupError, subprocess.CalledProcessError):
            if late:
                raise
        assert not late, f"not within {timeout} s"
        time.sleep(0.02)


def guest_image(kind: Literal["polite", "deaf", "brief", "slow"]) -> bytes:
    """A disk that boots in half a second: it greets on the serial port and idles.

    A polite guest powers off when the power button is pressed, a slow one too, but for a second or two it
    does not listen; a brief one powers off at once, a deaf one never. The registers are those that SeaBIOS
    sets up on the machine type "pc" (ACPI 6.4, 4.8.3; PM1a at 0x600).
    """
    code = bytearray(b"\x31\xc0\x8e\xd8\xfb")  # xor ax,ax; mov ds,ax; sti
    code += b"\xbe\x00\x7d"  # mov si,0x7d00
    code += b"\xac\x84\xc0\x74\x06\xba\xf8\x03\xee\xeb\xf5"  # lodsb; test al,al; jz +6; out 0x3f8,al; loop
    if kind == "slow":
        for _ in range(2):  # Until the clock's second is another one.
            code += b"\xb0\x00\xe6\x70\xe4\x71\x88\xc3"  # mov al,0; out 0x70,al; in al,0x71; mov bl,al
            code += b"\xb0\x00\xe6\x70\xe4\x71\x38\xd8\x74\xf6"  # ...; cmp al,bl; je again
    if kind in ("polite", "slow"):
        code += b"\xba\x02\x06\xb8\x00\x01\xef"  # PM1_EN = PWRBTN_EN
        code += b"\xba\x00\x06\xed\xf6\xc4\x01\x75\x03\xf4\xeb\xf4"  # until PM1_STS has PWRBTN_STS: hlt
    if kind != "deaf":
        code += b"\xba\x04\x06\xb8\x00\x20\xef"  # PM1_CNT = SLP_EN, to S5
    code += b"\xf4\xeb\xfd"  # hlt; again
    sector = bytes(code).ljust(0x100, b"\x00") + (GREETING + "\r\n").encode() + b"\x00"
    return (sector.ljust(510, b"\x00") + b"\x55\xaa").ljust(1 << 20, b"\x00")


def identity(number: int, kind: int = 0) -> str:
    """A UUID of a test's own."""
    return f"{number:04x}{kind:04x}-0000-4000-8000-{number:012x}"


class AgentLab:
    """The host "h1". `close` leaves nothing of it."""

    def __init__(self, *, graceful_seconds: float = 5.0) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tlag"))
        tag = self.folder.name[4:].lower().replace("_", "x")
        self.prefix = f"tla{tag}-"
        self.netns = f"{self.prefix}h1"
        self.host = self.folder / "h1"
        self.host.mkdir()
        self.run = self.host
        namespace.create(self.netns)
        namespace.ip(
            self.netns,
            "link add name eth0 type veth peer name wire",
            "link set dev wire up",
            "link add name eth1 type veth peer name wire1",
        )
        self.processes: dict[str, process.Process] = {}
        self.control = FakeControl(
            self.folder, namespace.open_socket_in(self.netns, "127.0.0.1", 8443), long_poll=5.0
        )
        self.revision = 0
        self.config: dict[str, Any] = {
            "host": "h1",
            "control": self.control.url,
            "directory": str(self.host),
            "token": self.control.token(),
            "ovsdb": f"unix:{self.host}/db.sock",
            "ovs_run": str(self.run),
            "underlay": {
                "address": "10.99.0.101/24",
                "bridge": "br-phy",
                "interface": "eth0",
                "mtu": 1600,
                "hwaddr": "02:99:00:00:00:01",
            },
            "physical_networks": {"physnet1": {"bridge": "br-ex", "interface": "eth1"}},
            "ovn_remote": "ssl:10.99.0.10:6642",
            "namespace_prefix": self.prefix,
            "accelerator": "tcg",
            "graceful_seconds": graceful_seconds,
        }

    # Daemons.

    def start(self, name: str, *argv: str) -> process.Process:
        """Starts something in the host, with the folders of Open vSwitch set to the host's."""
        folders = {f"{a}_{b}DIR": str(self.run) for a in ("OVS", "OVN") for b in ("RUN", "DB", "LOG")}
        command = process.Command(name, argv, self.host / f"{name}.out", self.netns, folders, self.host)
        self.processes[name] = process.spawn(command, self.host / f"{name}.p")
        return self.processes[name]

    def start_ovsdb(self) -> None:
        if not (self.host / "conf.db").exists():
            schema = "/usr/share/openvswitch/vswitch.ovsschema"
            subprocess.run(["ovsdb-tool", "create", str(self.host / "conf.db"), schema], check=True)
        self.start(
            "ovsdb-server",
            *("ovsdb-server", "conf.db", "--remote=punix:db.sock", "--no-chdir", "-vconsole:off"),
            *(f"--pidfile={self.run}/ovsdb-server.pid", f"--unixctl={self.run}/ovsdb-server.ctl"),
        )
        wait(lambda: takes_connections(self.host / "db.sock"))
        self.vsctl("--no-wait", "init")

    def start_vswitchd(self) -> None:
        self.start(
            "ovs-vswitchd",
            *("ovs-vswitchd", f"unix:{self.host}/db.sock", "--no-chdir", "-vconsole:off"),
            *(f"--pidfile={self.run}/ovs-vswitchd.pid", f"--unixctl={self.run}/ovs-vswitchd.ctl"),
            f"--log-file={self.run}/ovs-vswitchd.log",
        )

    def start_agent(self) -> process.Process:
        (self.host / "agent.json").write_text(json.dumps(self.config))
        return self.start(
            "agent", sys.executable, "-m", "trunkline.agent", "--config", str(self.host / "agent.json")
        )

    def start_all(self) -> None:
        """Everything, and the agent has reported."""
        self.start_ovsdb()
        self.start_vswitchd()
        self.start_agent()
        self.report(lambda r: not [p for p in r.problems if "network" in p.what])

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Ends one of them, and waits until it has."""
        self.processes[name].signal(number)
        wait(lambda: not self.processes[name].alive())

    # Asking.

    def vsctl(self, *arguments: str) -> str:
        command = ["ovs-vsctl", "--timeout=10", f"--db=unix:{self.host}/db.sock", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def flows(self, bridge: str) -> str:
        command = ["ovs-ofctl", "--timeout=5", "--no-stats", "dump-flows", f"unix:{self.run}/{bridge}.mgmt"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def put(self, **content: Any) -> None:
        """Makes the slice of the host these servers, ports, images, metadata."""
        self.revision += 1
        self.control.put(HostSlice(host="h1", revision=self.revision, **content))

    def restart_control(self) -> None:
        """Another run of the control plane: what it had in memory is gone."""
        self.control.close()
        listening = namespace.open_socket_in(self.netns, *self.control.address)
        self.control = FakeControl(self.folder, listening, long_poll=5.0).after(self.control)

    def applied(self, timeout: float = 40.0) -> HostReport:
        """The first report that says the newest slice is fully applied."""
        wanted = self.revision
        return self.report(lambda r: r.applied_revision >= wanted, timeout)

    def report(self, fits: Callable[[HostReport], bool], timeout: float = 40.0) -> HostReport:
        """The first report that fits."""
        try:
            return self.control.wait_report(fits, timeout)
        except AssertionError as error:
            log = (self.host / "agent.out").read_text()[-3000:]
            raise AssertionError(f"{error}\nthe agent said: {log}") from None

    def server(self, id: str, fits: Callable[[ServerReport], bool], timeout: float = 40.0) -> ServerReport:
        """The first report about a server that fits."""
        found: list[ServerReport] = []

        def look(report: HostReport) -> bool:
            found[:] = [s for s in report.servers if s.id == id and fits(s)]
            return bool(found)

        self.report(look, timeout)
        return found[0]

    def qemu(self, id: str) -> process.Process | None:
        """The QEMU of a server."""
        return process.find(self.host / "s" / f"{id.replace('-', '')[:8]}.pid")

    def console(self, id: str) -> str:
        """What a guest wrote."""
        return (self.host / "s" / f"{id.replace('-', '')[:8]}.log").read_text(errors="replace")

    def image(
        self, kind: Literal["polite", "deaf", "brief", "slow"] = "polite", number: int = 1
    ) -> ImageSlice:
        """An image that the control plane serves."""
        data = guest_image(kind)
        id = identity(number, 3)
        file = self.folder / f"image{number}"
        file.write_bytes(data)
        self.control.images[id] = file
        return ImageSlice(id=id, disk_format="raw", size=len(data), sha512=hashlib.sha512(data).hexdigest())

    def close(self) -> None:
        for name in ("agent", "ovn-controller", "ovs-vswitchd", "ovsdb-server", *self.processes):
            if (running := self.processes.pop(name, None)) is not None:
                running.terminate(3.0)
        for file in self.host.glob("s/*.pid"):
            if (running := process.find(file)) is not None:
                running.terminate(3.0)
        for file in self.host.glob("u/*.run"):
            unit_files.end(file.with_suffix(".pid"))
        self.control.close()
        namespace.delete(*namespace.names(self.prefix))
        shutil.rmtree(self.folder)


def port(number: int, *, server: str = "", attach: Any = "tap", **more: Any) -> PortSlice:
    """Port `number` of network 1: 10.0.0.NUMBER, fd00::NUMBER."""
    mac = f"02:00:00:00:00:{number:02x}"
    addresses = (f"10.0.0.{number}", f"fd00::{number:x}")
    return PortSlice(
        id=identity(number, 1),
        network=more.pop("network", identity(1, 2)),
        mac=mac,
        mtu=more.pop("mtu", 1442),
        addresses=addresses,
        server=server,
        guard=more.pop("guard", Guard(macs=(mac,), prefixes=addresses)),
        attach=attach,
    )


def server(number: int, image: ImageSlice, *ports: PortSlice, **more: Any) -> ServerSlice:
    """Server `number`, of 64 MiB."""
    return ServerSlice(
        id=identity(number),
        name=f"s{number}",
        power=more.pop("power", "running"),
        vcpus=1,
        memory_mib=64,
        disk_gib=0,
        image=image.id,
        ports=tuple(p.id for p in ports),
        user_data=base64.b64encode(more.pop("user_data", b"")).decode(),
        **more,
    )


def changed(slice_: Any, **fields: Any) -> Any:
    """A slice with other fields."""
    return msgspec.structs.replace(slice_, **fields)


class Raw:
    """A raw socket on eth0 of a namespace: frames out and in (packet(7))."""

    def __init__(self, netns: str, device: str = "eth0") -> None:
        def make() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            made.bind((device, 0))
            return made

        self.socket = namespace.inside(netns, make)

    def send(self, frame: bytes) -> None:
        self.socket.send(frame.ljust(60, b"\x00"))

    def receives(self, marker: bytes, timeout: float = 1.0) -> bool:
        """Whether a frame with these bytes comes within the time."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                if marker in self.socket.recv(65536):
                    return True
            except TimeoutError:
                break
        return False

    def close(self) -> None:
        self.socket.close()


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\x00"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pids_of(netns: str) -> list[int]:
    """The processes in a namespace, but for this one."""
    return [pid for pid in namespace.processes(netns) if pid != os.getpid()]
