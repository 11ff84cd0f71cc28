"""The lab's namespaces and cables in the kernel. Every function can be repeated: it makes what is missing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from trunkline.devices import namespace
from trunkline.devices.lab import topology as t
from trunkline.devices.lab.topology import Topology
from trunkline.devices.process import MissingProgram
from trunkline.errors import Conflict, Unavailable


def wire(lab: Topology) -> None:
    """Makes namespaces, cables, addresses and routes; about 40 ms for three hosts.

    Raises:
        Unavailable: iproute2 refused, with its words; or this is not root.
    """
    namespace.create(*lab.namespaces)
    if t.UNDERLAY_BRIDGE not in namespace.interfaces(lab.underlay):
        # Snooping has nothing to save here, and would hold back multicast until queriers are known.
        namespace.ip(
            lab.underlay,
            f"link add name {t.UNDERLAY_BRIDGE} mtu {t.UNDERLAY_MTU} type bridge "
            "stp_state 0 mcast_snooping 0",
        )
    namespace.ip(lab.underlay, f"link set dev {t.UNDERLAY_BRIDGE} up")
    _wire_control(lab)
    for host in lab.cloud.hosts:
        _cable(lab.host(host), "eth0", lab.underlay, f"u-{host.name}", t.UNDERLAY_MTU)
        _cable(lab.host(host), "eth1", lab.underlay, f"p-{host.name}", t.UNDERLAY_MTU)
        for near, far in t.further_cables(host).values():
            _cable(lab.host(host), near, lab.underlay, far, t.UNDERLAY_MTU)
        _cable(lab.host(host), "busn", lab.underlay, f"b-{host.name}", t.UNDERLAY_MTU)
        namespace.ip(lab.host(host), f"address replace {t.bus_address(host)}/24 dev busn")
        cables = (f"u-{host.name}", f"b-{host.name}")
        namespace.ip(lab.underlay, *(f"link set dev {each} master {t.UNDERLAY_BRIDGE}" for each in cables))
    _wire_outside(lab)
    if lab.cloud.expose:
        _expose(lab)
    else:
        _unexpose(lab)


def _wire_control(lab: Topology) -> None:
    _cable(lab.control, "eth0", lab.underlay, "u-c", t.UNDERLAY_MTU)
    namespace.ip(lab.underlay, f"link set dev u-c master {t.UNDERLAY_BRIDGE}")
    namespace.ip(lab.control, f"address replace {t.CONTROL_ADDRESS}/24 dev eth0")


def _wire_outside(lab: Topology) -> None:
    _cable(lab.router, "eth0", lab.underlay, "p-x")
    _cable(lab.router, "eth1", lab.internet, "eth0")
    namespace.sysctl(lab.router, (("ipv4/ip_forward", 1), ("ipv6/conf/all/forwarding", 1)))
    namespace.ip(
        lab.router,
        f"address replace {t.EXTERNAL_V4} dev eth0",
        f"address replace {t.EXTERNAL_V6} dev eth0 nodad",
        f"address replace {t.INTERNET_ROUTER_V4} dev eth1",
        f"address replace {t.INTERNET_ROUTER_V6} dev eth1 nodad",
    )
    gateway_v4, gateway_v6 = (a.partition("/")[0] for a in (t.INTERNET_ROUTER_V4, t.INTERNET_ROUTER_V6))
    namespace.ip(
        lab.internet,
        f"address replace {t.INTERNET_V4} dev eth0",
        f"address replace {t.INTERNET_V6} dev eth0 nodad",
        f"route replace default via {gateway_v4}",
        f"route replace ::/0 via {gateway_v6}",
    )


def _cable(netns: str, device: str, far_netns: str, far_device: str, mtu: int = 1500) -> None:
    """A veth pair from one namespace to the other, both ends up, checksums in software."""
    near, far = namespace.interfaces(netns), namespace.interfaces(far_netns)
    if device not in near or far_device not in far:
        lines = [f"link delete dev {device}"] if device in near else []
        if far_device in far:
            namespace.ip(far_netns, f"link delete dev {far_device}")
        lines.append(
            f"link add name {device} mtu {mtu} type veth peer name {far_device} mtu {mtu} netns {far_netns}"
        )
        namespace.ip(netns, *lines)
        namespace.checksums_in_software(netns, device)
        namespace.checksums_in_software(far_netns, far_device)
    namespace.ip(netns, f"link set dev {device} up")
    namespace.ip(far_netns, f"link set dev {far_device} up")


def _expose(lab: Topology) -> None:
    """A leg of the machine itself on the external network: the one interface that is not in a namespace."""
    device = lab.exposed_device
    if device not in namespace.interfaces(None):
        shown = subprocess.run(
            ["ip", "-4", "route", "show", "root", "203.0.113.0/24"],
            capture_output=True,
            text=True,
            timeout=10,
        ).stdout.strip()
        if shown:
            raise Conflict(
                f"This machine has a route for the external network already ({shown}). Remove it, take down "
                "the other cloud that is exposed, or leave out --expose."
            )
        if "p-m" in namespace.interfaces(lab.underlay):
            namespace.ip(lab.underlay, "link delete dev p-m")
        namespace.ip(None, f"link add name {device} type veth peer name p-m netns {lab.underlay}")
        namespace.checksums_in_software(None, device)
    namespace.ip(
        None,
        f"address replace {t.EXPOSED_V4} dev {device}",
        f"address replace {t.EXPOSED_V6} dev {device} nodad",
        f"link set dev {device} up",
    )
    namespace.ip(lab.underlay, "link set dev p-m up")


def _unexpose(lab: Topology) -> None:
    if lab.exposed_device in namespace.interfaces(None):
        namespace.ip(None, f"link delete dev {lab.exposed_device}")


def connect_switch(lab: Topology, database: Path) -> None:
    """Plugs the cables into the physical switches; their Open_vSwitch database answers on that socket.

    Raises:
        Unavailable: Open vSwitch refused, with its words.
    """
    datapath = lab.cloud.datapath
    command = ["ovs-vsctl", f"--db=unix:{database}", "--timeout=10", "--no-wait"]
    for switch, ports in lab.switches.items():
        command += ["--", "--may-exist", "add-br", switch]
        command += ["--", "set", "Bridge", switch, f"datapath_type={datapath}"]
        for port in ports:
            command += ["--", "--may-exist", "add-port", switch, port]
    if not lab.cloud.expose:
        command += ["--", "--if-exists", "del-port", t.SWITCH, "p-m"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        raise MissingProgram(command[0]) from None
    if done.returncode:
        raise Unavailable(f"The physical switch of the lab: {' '.join(done.stderr.split())}")


def remove(prefix: str) -> list[str]:
    """Ends what still runs in the namespaces of this prefix ("tlTAG-") and removes them; tells which.

    Also removes the machine's own leg, if there is one.
    """
    found = namespace.names(prefix)
    _end_all(found)
    namespace.delete(*found)
    for device in namespace.interfaces(None):
        if device.startswith(prefix):
            with contextlib.suppress(namespace.CommandFailed):
                namespace.ip(None, f"link delete dev {device}")
    return found


def _end_all(netns: list[str]) -> None:
    """Whatever is in these namespaces is the lab's: ask it to end, then kill it."""
    deadline, asked = time.monotonic() + 3.0, False
    while left := {pid for name in netns for pid in namespace.processes(name)} - {os.getpid()}:
        late = time.monotonic() > deadline
        if late or not asked:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
            asked = True
        if time.monotonic() > deadline + 5.0:
            raise Unavailable(f"Processes {sorted(left)} of the lab cannot be ended; see `ps -fp PID`.")
        time.sleep(0.02)
