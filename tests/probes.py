"""Places that test packets come from and go to.

A *probe* is a port made through the API, with the device owner ``trunkline:probe`` and a host: the agent
of that host attaches it as a network namespace with the port as its eth0, and nothing configures it. A
test does that, by hand or with the clients that any machine has (DHCP, the kernel's SLAAC).
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from trunkline.devices import namespace

T = TypeVar("T")
OWNER = "trunkline:probe"

#: linux/if_packet.h.
_SOL_PACKET, _PACKET_AUXDATA = 263, 8

#: Called by busybox's udhcpc and by dhclient: writes what it was told, and changes nothing.
_TELL = """#!/bin/sh
PATH=/usr/bin:/bin
case "$1$reason" in
bound|renew|BOUND6|RENEW6|REBIND6) env >$TOLD.new && mv $TOLD.new $TOLD ;;
esac
"""
_UDHCPC_OPTIONS = (
    *("staticroutes", "mtu", "dns", "domain", "hostname", "search", "lease", "tftp", "bootfile", "ntpsrv"),
    # Of no name in busybox: the addresses of TFTP servers (RFC 5859).
    "150",
)


def wait_for(
    what: Callable[[], T | None], seconds: float, complaint: str, instead: Callable[[], str] = str
) -> T:
    """The first value that is not None and not False.

    Args:
        instead: tells what there is instead, where there is none in that time.

    Raises:
        AssertionError: `complaint`, and that; there was none in that time.
    """
    deadline = time.monotonic() + seconds
    while (found := what()) is None or found is False:
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {complaint}; {instead()}".rstrip("; ")
        time.sleep(0.03)
    return found


class Space:
    """A network namespace with an interface."""

    def __init__(self, netns: str, device: str = "eth0", name: str = "") -> None:
        self.netns = netns
        self.device = device
        self.name = name or netns

    def __repr__(self) -> str:
        return self.name

    def ip(self, *lines: str) -> None:
        """Runs lines of iproute2 inside; `namespace.CommandFailed` where one is refused."""
        namespace.ip(self.netns, *lines)

    def run(self, *command: str, timeout: float = 20.0, **more: Any) -> subprocess.CompletedProcess[str]:
        """Runs a command inside; what it ends with is for the caller to judge."""
        inside = (*self.enter, *command)
        return subprocess.run(inside, capture_output=True, text=True, timeout=timeout, check=False, **more)

    @property
    def enter(self) -> tuple[str, ...]:
        """What a command line begins with that runs inside."""
        return ("nsenter", f"--net={namespace.path(self.netns)}", "--")

    def open(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that belongs to the namespace."""
        return namespace.inside(self.netns, lambda: socket.socket(family, kind, protocol))

    def frames(self) -> socket.socket:
        """A raw socket on the interface: all frames out and in (packet(7)), tags beside them."""

        def make() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            # The tags of frames, which the kernel takes out of them, come beside them.
            made.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            made.bind((self.device, 0))
            return made

        return namespace.inside(self.netns, make)

    def interface(self) -> dict[str, Any]:
        """The interface, as ``ip -j address`` shows it."""
        shown = subprocess.run(
            ["ip", "-n", self.netns, "-j", "address", "show", "dev", self.device],
            capture_output=True,
            timeout=10,
            check=True,
        )
        found: dict[str, Any] = json.loads(shown.stdout)[0]
        return found

    def setting(self, name: str) -> str:
        """A value below /proc/sys/net, as the namespace sees it."""
        return namespace.inside(self.netns, lambda: (Path("/proc/sys/net") / name).read_text().strip())

    def set(self, name: str, value: str | int) -> None:
        """Writes one."""
        namespace.sysctl(self.netns, ((name, value),))

    @property
    def mac(self) -> str:
        """The interface's own address."""
        return str(self.interface()["address"])

    @property
    def link_local(self) -> str:
        """The interface's IPv6 link-local address, when it can be used (RFC 4862)."""

        def ready() -> str | None:
            for address in self.interface()["addr_info"]:
                if address["scope"] == "link" and not address.get("tentative"):
                    return str(address["local"])
            return None

        return wait_for(ready, 20, f"{self} has a link-local address")

    @contextlib.contextmanager
    def address(self, address: str) -> Iterator[str]:
        """The interface also has this address (with prefix length) in the block, however it came by it."""
        extra = " nodad" if ":" in address else ""
        self.ip(f"address add {address} dev {self.device}{extra}")
        try:
            yield address.partition("/")[0]
        finally:
            self.ip(f"address delete {address} dev {self.device}")

    def must_be_told_mtu(self, mtu: int, address: str, size: int) -> None:
        """Who sends `size` bytes is told, soon, that there is room for `mtu`.

        Raises:
            AssertionError: nobody says so.
        """
        told = f"{self} is told {mtu} on the way to {address}"
        wait_for(lambda: self.told_mtu(address, size) == mtu, 20, told)

    def told_mtu(self, address: str, size: int) -> int:
        """The largest packet that a router on the way has room for, as it tells who sends `size` bytes.

        0 where nobody says so (RFC 1191, RFC 8201).
        """
        self.forget_neighbours()
        header = 40 if ":" in address else 20
        options = ("-n", "-M", "do", "-c", "5", "-i", "0.2", "-W", "1", "-s", str(size - header - 8))
        shown = self.run("ping", *options, address)
        self.forget_neighbours()
        found = re.search(r"mtu ?= ?(\d+)", shown.stdout + shown.stderr)
        return int(found[1]) if found else 0

    def forget_neighbours(self) -> None:
        """Empties the neighbour and path MTU caches."""
        self.ip(f"neigh flush dev {self.device}", "route flush cache")
        self.set("ipv6/route/flush", 1)


class Probe(Space):
    """A port with a namespace behind it. `ready` and `configure` make it a host of its network."""

    def __init__(self, netns: str, port: Any, subnets: dict[str, Any], folder: Path) -> None:
        """`port` and `subnets` (by id) are resources of openstacksdk; `folder` is for its own files."""
        super().__init__(netns, name=port.name or f"probe {port.id[:8]}")
        self.port = port
        self.subnets = subnets
        self._folder = folder

    @property
    def mac(self) -> str:
        return str(self.port.mac_address)

    @property
    def v4(self) -> str:
        """Its first IPv4 address."""
        return next(a for a in self.addresses if ":" not in a)

    @property
    def v6(self) -> str:
        """Its first IPv6 address."""
        return next(a for a in self.addresses if ":" in a)

    @property
    def addresses(self) -> list[str]:
        """Those that the port was given, without prefix length."""
        return [fixed["ip_address"] for fixed in self.port.fixed_ips]

    def attached(self) -> bool:
        """Whether the agent has made the namespace, and its eth0 is up."""
        if not namespace.exists(self.netns) or "eth0" not in namespace.interfaces(self.netns):
            return False
        try:
            return "UP" in self.interface()["flags"]
        except subprocess.CalledProcessError:
            # It has just gone.
            return False

    def configure(self) -> None:
        """Gives eth0 the port's addresses, and the default routes of their subnets."""
        # What else the network tells is left aside: only these addresses and routes are there.
        self.set("ipv6/conf/eth0/accept_ra", 0)
        lines = []
        for fixed in self.port.fixed_ips:
            subnet = self.subnets[fixed["subnet_id"]]
            length = subnet.cidr.rpartition("/")[2]
            extra = " nodad" if subnet.ip_version == 6 else ""
            lines.append(f"address replace {fixed['ip_address']}/{length} dev eth0{extra}")
            if subnet.gateway_ip and subnet.gateway_ip != fixed["ip_address"]:
                anywhere = "::/0" if subnet.ip_version == 6 else "0.0.0.0/0"
                lines.append(f"route replace {anywhere} via {subnet.gateway_ip} dev eth0")
        self.ip(*lines)

    def dhcp(self, seconds: int = 20) -> dict[str, str]:
        """What a DHCP client is told: the environment of udhcpc's script (``ip``, ``mask``, ``lease`` ...).

        Empty where nobody answers in that time. Nothing is configured.
        """
        told = self._told()
        wanted = [word for name in _UDHCPC_OPTIONS for word in ("-O", name)]
        tries = ("-t", str(seconds), "-T", "1", "-A", "1")
        client = ("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", *tries, "-s", str(self._script()))
        self.run(*client, *wanted, timeout=seconds + 20.0, env={**os.environ, "TOLD": str(told)})
        return _environment(told)

    def renews(self, seconds: float = 20.0) -> bool:
        """Whether a DHCP client that has its address is given it again, when it asks the server alone."""
        told = self._told()
        client = ("busybox", "udhcpc", "-i", "eth0", "-n", "-f", "-s", str(self._script()))
        with subprocess.Popen(
            [*self.enter, *client],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TOLD": str(told)},
        ) as process:
            try:
                wait_for(told.exists, seconds, f"{self} gets an address")
                first = told.stat().st_ino
                process.send_signal(signal.SIGUSR1)
                with contextlib.suppress(AssertionError):
                    return wait_for(lambda: told.stat().st_ino != first, seconds, "")
                return False
            finally:
                process.kill()

    def dhcp6(self, seconds: float = 30.0, *, stateless: bool = False) -> dict[str, str]:
        """What a DHCPv6 client is told: the environment of dhclient's script (``new_ip6_address`` ...).

        Empty where nobody answers in that time. Nothing is configured.
        """
        assert self.link_local
        told, base = self._told(), str(self._folder / self.netns)
        files = ("-lf", f"{base}.lease", "-pf", f"{base}.pid", "-cf", "/dev/null")
        mode = ("-S",) if stateless else ()
        client = ("dhclient", "-6", *mode, "-1", "-d", *files, "-sf", str(self._script()))
        # The variables that it gives its script are those that -e names, and its own.
        with subprocess.Popen(
            [*self.enter, *client, "-e", f"TOLD={told}", "eth0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                with contextlib.suppress(AssertionError):
                    wait_for(lambda: told.exists() or process.poll() is not None, seconds, "")
            finally:
                process.kill()
        return _environment(told)

    def _told(self) -> Path:
        told = self._folder / f"{self.netns}.told"
        told.unlink(missing_ok=True)
        return told

    def _script(self) -> Path:
        script = self._folder / "tell"
        if not script.exists():
            script.write_text(_TELL)
            script.chmod(0o755)
        return script

    def autoconfigured(self, seconds: float = 30.0) -> str:
        """The address that the kernel forms from router advertisements, when it can be used (RFC 4862).

        The kernel asks for one when the interface comes up, and then ever more seldom (RFC 7559): where the
        network was not ready yet, it is not waited for but asked for again.

        Raises:
            AssertionError: there is none in that time.
        """

        def ready() -> str | None:
            for address in self.interface()["addr_info"]:
                # One that a DHCP client or a test adds is not "dynamic".
                usable = address["family"] == "inet6" and address["scope"] == "global"
                if usable and address.get("dynamic") and not address.get("tentative"):
                    return str(address["local"])
            return None

        def asked() -> str | None:
            if (formed := ready()) is not None:
                return formed
            # What answers goes to the kernel as well; the address is tentative for a second.
            if self.solicit():
                with contextlib.suppress(AssertionError):
                    return wait_for(ready, 3, "")
            return None

        return wait_for(asked, seconds, f"{self} forms an address of its own")

    def default_router6(self) -> str:
        """The interface of the IPv6 default route that came by a router advertisement, or ""."""
        shown = subprocess.run(
            ["ip", "-n", self.netns, "-6", "-j", "route", "show", "default", "proto", "ra"],
            capture_output=True,
            timeout=10,
            check=True,
        )
        return "".join(route["dev"] for route in json.loads(shown.stdout or b"[]"))

    def advertised(self) -> str:
        """What routers advertise, in words of rdisc6, as soon as one answers."""
        return wait_for(lambda: self.solicit() or None, 20, f"a router answers {self}")

    def solicit(self) -> str:
        """What the router advertisement says that answers a solicitation, in words of rdisc6; or ""."""
        assert self.link_local
        asked = self.run("rdisc6", "-1", "-r", "3", "-w", "500", "eth0")
        return asked.stdout if asked.returncode == 0 else ""


def _environment(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    lines = (line.partition("=") for line in file.read_text().splitlines())
    return {name: value for name, mark, value in lines if mark}


def link_local(mac: str) -> str:
    """The IPv6 link-local address that follows from a MAC address (RFC 4291, appendix A)."""
    parts = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([parts[0] ^ 2]) + parts[1:3] + b"\xff\xfe" + parts[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier))
