"""Two hosts of OVN in network namespaces, with an outside, to send real packets.

    tb<pid>-u   the underlay and the physical network, two bridges
    tb<pid>-h1  a host: its own Open vSwitch (user-space datapath) and ovn-controller
    tb<pid>-x   a machine on the physical network, 203.0.113.1
    tb<pid>-wK  a workload

OVN's central daemons stand in no namespace: hosts reach them by a Unix socket.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from ovn_central import Central
from ovsdb_lab import VSWITCH, Daemon, OvsdbServer, run, short_folder, wait_until

TAG = f"tb{os.getpid()}"
PHYSICAL = "physnet1"
OUTSIDE = "203.0.113.1"

_UDHCPC = """#!/bin/sh
[ "$1" = bound ] || exit 0
echo "ip=$ip/$mask router=$router mtu=$mtu dns=$dns domain=$domain routes=$staticroutes"
"""


class Space:
    """A network namespace."""

    def __init__(self, name: str) -> None:
        self.name = f"{TAG}-{name}"
        run("ip", "netns", "add", self.name)
        self.ip("link", "set", "dev", "lo", "up")

    def ip(self, *arguments: str) -> str:
        return run("ip", "-n", self.name, *arguments)

    def run(self, *command: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Runs a command inside; what it ends with is for the caller to judge."""
        inside = ("ip", "netns", "exec", self.name, *command)
        return subprocess.run(inside, capture_output=True, text=True, timeout=timeout, check=False)

    def link(self, name: str, other: Space, peer: str, *options: str) -> None:
        """A cable from `name` here to `peer` there, made where it belongs."""
        ends = ("type", "veth", "peer", "name", peer, "netns", other.name)
        run("ip", "-n", self.name, "link", "add", "dev", name, *options, *ends)
        self.ip("link", "set", "dev", name, "up")
        other.ip("link", "set", "dev", peer, "up")

    def delete(self) -> None:
        run("ip", "netns", "del", self.name)


class Host:
    """A chassis: everything of it is in its folder and its namespace."""

    def __init__(self, number: int, folder: Path, central: Central, space: Space, underlay: Space) -> None:
        self.name = f"h{number}"
        self.folder = folder / self.name
        self.folder.mkdir()
        self.space = space
        self.space.link("eth0", underlay, f"u{number}", "mtu", "1600")
        self.space.link("eth1", underlay, f"p{number}")
        for bridge in ("u", "p"):
            options = ("mtu", "1600") if bridge == "u" else ()
            underlay.ip("link", "set", "dev", f"{bridge}{number}", *options, "master", f"br{bridge}")
        prefix = ("ip", "netns", "exec", self.space.name)
        env = {"OVS_RUNDIR": str(self.folder), "OVN_RUNDIR": str(self.folder)}
        self.db = OvsdbServer(self.folder, "db", VSWITCH)
        switch = [*prefix, "ovs-vswitchd", self.db.remote, f"--unixctl={self.folder}/vs.ctl"]
        controller = [*prefix, "ovn-controller", self.db.remote]
        self.daemons = [
            self.db,
            Daemon("vswitchd", switch, self.folder, env),
            Daemon("controller", controller, self.folder, env),
        ]
        self._number, self._central = number, central

    def vsctl(self, *arguments: str) -> str:
        return run("ovs-vsctl", f"--db={self.db.remote}", "--timeout=20", *arguments)

    def start(self) -> None:
        number, address = self._number, f"10.99.0.{self._number}"
        database, switch, controller = self.daemons
        database.start()
        self.vsctl("--no-wait", "init")
        switch.start()
        ids = {
            "system-id": self.name,
            "hostname": self.name,
            "ovn-remote": self._central.sb.remote,
            "ovn-encap-type": "geneve",
            "ovn-encap-ip": address,
            "ovn-bridge-datapath-type": "netdev",
            "ovn-bridge-mappings": f"{PHYSICAL}:br-ex",
        }
        netdev = "datapath_type=netdev"
        bridges = f"add-br br-phy -- set bridge br-phy {netdev} other_config:hwaddr=02:99:00:00:00:0{number}"
        bridges += (
            f" -- add-port br-phy eth0 -- add-br br-ex -- set bridge br-ex {netdev} -- add-port br-ex eth1"
        )
        self.vsctl(*bridges.split())
        self.vsctl("set", "open", ".", *(f"external_ids:{key}={value}" for key, value in ids.items()))
        self.space.ip("link", "set", "dev", "br-phy", "mtu", "1600", "up")
        self.space.ip("addr", "add", f"{address}/24", "dev", "br-phy")
        controller.start()

    def plug(self, space: Space, port: str, mac: str, addresses: Iterable[str], gateway: str) -> None:
        """Makes `space` a workload with these addresses (with prefix length), plugged in as `port`."""
        # Addresses are those given: none of its own making, which nobody would let pass.
        space.run("sysctl", "-qw", "net.ipv6.conf.default.accept_ra=0")
        space.link("eth0", self.space, f"v{port}", "address", mac, "mtu", "1442")
        # A packet without its checksum would not survive the user-space datapath.
        space.run("ethtool", "-K", "eth0", "tx", "off")
        for address in addresses:
            space.ip("addr", "add", address, "dev", "eth0", *(("nodad",) if ":" in address else ()))
        if gateway:
            space.ip("route", "add", "default", "via", gateway)
        interface = f"v{port}"
        ids = f"external_ids:iface-id={port}"
        self.vsctl("add-port", "br-int", interface, "--", "set", "interface", interface, ids)

    def stop(self) -> None:
        for daemon in reversed(self.daemons):
            daemon.stop()


class Lab:
    """Two hosts, the central daemons and the outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.central = Central(folder)
        self.spaces: list[Space] = []
        self.hosts: list[Host] = []

    def start(self, hosts: int = 2) -> None:
        self.central.start()
        underlay = self._space("u")
        for bridge in ("bru", "brp"):
            underlay.ip("link", "add", "dev", bridge, "type", "bridge")
            underlay.ip("link", "set", "dev", bridge, "up")
        self.outside = self._space("x")
        self.outside.link("eth0", underlay, "px")
        self.outside.run("ethtool", "-K", "eth0", "tx", "off")
        self.outside.ip("addr", "add", f"{OUTSIDE}/24", "dev", "eth0")
        underlay.ip("link", "set", "dev", "px", "master", "brp")
        for number in range(1, hosts + 1):
            host = Host(number, self.folder, self.central, self._space(f"h{number}"), underlay)
            self.hosts.append(host)
            host.start()
        chassis = ("--bare", "--columns=name", "list", "chassis")
        wait_until(lambda: len(self.central.sbctl(*chassis).split()) == hosts, "hosts register")

    def _space(self, name: str) -> Space:
        self.spaces.append(Space(name))
        return self.spaces[-1]

    def plug(self, host: int, port: str, mac: str, *addresses: str, gateway: str = "") -> Space:
        space = self._space(f"w{port}")
        self.hosts[host - 1].plug(space, port, mac, addresses, gateway)
        return space

    def dhcp(self, space: Space, seconds: int = 20) -> str:
        """What DHCP tells a client there: ``ip=... router=... mtu=...``, or nothing."""
        script = self.folder / "udhcpc.sh"
        script.write_text(_UDHCPC)
        script.chmod(0o755)
        tries = ("-t", str(seconds), "-T", "1", "-A", "1")
        client = ("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", *tries, "-s", str(script))
        wanted = (option for name in ("staticroutes", "mtu", "dns", "domain") for option in ("-O", name))
        return space.run(*client, *wanted).stdout

    def stop(self) -> None:
        for host in self.hosts:
            host.stop()
        self.central.stop()
        for space in self.spaces:
            space.delete()


def reaches(source: Space, target: str, *options: str) -> bool:
    """Whether `target` answers soon: returns with the first answer."""
    return source.run("ping", "-c", "1", "-w", "20", "-i", "0.2", *options, target).returncode == 0


def silent(source: Space, target: str, *options: str) -> bool:
    """Whether none of four pings in a second is answered."""
    asked = source.run("ping", "-c", "4", "-i", "0.2", "-W", "0.5", *options, target)
    return ", 0 received" in asked.stdout


@contextlib.contextmanager
def lab(hosts: int = 2) -> Iterator[Lab]:
    """A lab that lives as long as the block."""
    with short_folder() as folder:
        made = Lab(folder)
        try:
            made.start(hosts)
            yield made
        finally:
            made.stop()
