"""What a workload may not claim never leaves its host, whatever the network behind lets pass.

Behind the guard stands a bridge that passes everything: what arrives, the guard let through.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
from agent_lab import AgentLab, Raw, changed, port, wait
from frames import (
    advertisement,
    ethernet,
    icmp6,
    ipv4,
    ipv6,
    option,
    solicitation,
    udp,
)

from trunkline.agent.guards import GuardedPort, GuardedTag, flows, link_local
from trunkline.compiler.slices import Guard, PacketLimit

SENDER, RECEIVER = port(1, attach="namespace"), port(2, attach="namespace")
MAC, OTHER = SENDER.mac, "02:00:00:00:00:99"
V4, V6 = "10.0.0.1", "fd00::1"
LL = link_local(MAC)
ALL = "ff02::1"
EVERYONE, GROUP = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"


def v6(source: str, body: bytes, *, mac: str = MAC, protocol: int = 58, hops: int = 255) -> bytes:
    return ethernet(GROUP, mac, 0x86DD, ipv6(source, ALL, protocol, body, hops=hops))


RA = icmp6(134, b"\x40\0\x07\x08" + bytes(8), LL, ALL)
ECHO = icmp6(128, b"\0\1\0\1hello", V6, ALL)
DHCP = udp((67, 68), b"\x02\x01\x06\x00" + bytes(240), V4, "255.255.255.255")

DROPPED = {
    "router advertisement": v6(LL, RA),
    "router advertisement behind a hop-by-hop header": v6(LL, b"\x3a\0\1\4\0\0\0\0" + RA, protocol=0),
    "router advertisement behind destination options": v6(LL, b"\x3a\0\1\4\0\0\0\0" + RA, protocol=60),
    "router advertisement in a first fragment": v6(LL, b"\x3a\0\0\1\0\0\0\7" + RA, protocol=44),
    "router advertisement in a later fragment": v6(LL, b"\x3a\0\0\x08\0\0\0\7" + RA, protocol=44),
    "router advertisement in a VLAN": ethernet(GROUP, MAC, 0x86DD, ipv6(LL, ALL, 58, RA), (0x8100, 7)),
    "router advertisement in two VLANs": ethernet(
        GROUP, MAC, 0x86DD, ipv6(LL, ALL, 58, RA), (0x88A8, 7), (0x8100, 8)
    ),
    "router advertisement in VLAN 0": ethernet(GROUP, MAC, 0x86DD, ipv6(LL, ALL, 58, RA), (0x8100, 0)),
    "redirect": v6(LL, icmp6(137, bytes(36), LL, ALL)),
    "DHCP server": ethernet(EVERYONE, MAC, 0x0800, ipv4(V4, "255.255.255.255", 17, DHCP)),
    "DHCP server from another port": ethernet(
        EVERYONE,
        MAC,
        0x0800,
        ipv4(V4, "255.255.255.255", 17, udp((6767, 68), b"x" * 240, V4, "255.255.255.255")),
    ),
    "DHCPv6 server": v6(LL, udp((547, 546), b"\2\0\0\1", LL, ALL), protocol=17),
    "solicitation with a forged source": v6(LL, solicitation("fd00::2", LL, ALL, option(1, OTHER))),
    "solicitation for a stranger's address being claimed": v6("::", solicitation("fd00::2", "::", ALL)),
    "advertisement of a stranger's address": v6(V6, advertisement("fd00::2", V6, ALL, option(2, MAC))),
    "advertisement of the router": v6(V6, advertisement("fe80::1", V6, ALL)),
    "advertisement with a forged target": v6(V6, advertisement(V6, V6, ALL, option(2, OTHER))),
    "advertisement behind destination options": v6(
        V6, b"\x3a\0\1\4\0\0\0\0" + advertisement("fd00::2", V6, ALL), protocol=60
    ),
    "forged MAC": v6(V6, ECHO, mac=OTHER),
}
PASSED = {
    "echo": v6(V6, ECHO),
    "large echo in fragments": v6(V6, b"\x3a\0\0\1\0\0\0\7" + ECHO, protocol=44, hops=64),
    "router solicitation": v6(LL, icmp6(133, bytes(4) + option(1, MAC), LL, ALL)),
    "solicitation": v6(LL, solicitation("fd00::2", LL, ALL, option(1, MAC))),
    "solicitation without an option": v6(V6, solicitation("fd00::2", V6, ALL)),
    "solicitation for the own address": v6("::", solicitation(V6, "::", ALL)),
    "solicitation for the own link-local address": v6("::", solicitation(LL, "::", ALL)),
    "advertisement of the own address": v6(V6, advertisement(V6, V6, ALL, option(2, MAC))),
    "advertisement of the own link-local address": v6(LL, advertisement(LL, LL, ALL)),
    "advertisement of an allowed prefix": v6(V6, advertisement("fd00:9::7", V6, ALL, option(2, MAC))),
    "DHCP client": ethernet(
        EVERYONE,
        MAC,
        0x0800,
        ipv4("0.0.0.0", "255.255.255.255", 17, udp((68, 67), b"x" * 240, "0.0.0.0", "255.255.255.255")),
    ),
    "DHCPv6 client": v6(LL, udp((546, 547), b"\1\0\0\1", LL, ALL), protocol=17),
}


class Wire:
    """The two ends of a host with nothing but guards between them."""

    def __init__(self, lab: AgentLab) -> None:
        self.lab = lab
        guard = Guard(macs=(MAC,), prefixes=(V4, V6, "fd00:9::/64"))
        self.guarded = changed(SENDER, guard=guard)
        lab.start_all()
        lab.put(ports=(self.guarded, RECEIVER))
        lab.applied()
        self.pass_everything()
        self.sender = Raw(f"{lab.prefix}p-{SENDER.id[:8]}")
        self.receiver = Raw(f"{lab.prefix}p-{RECEIVER.id[:8]}")

    def pass_everything(self) -> None:
        management = f"unix:{self.lab.run}/br-int.mgmt"
        subprocess.run(["ovs-ofctl", "--timeout=5", "add-flow", management, "actions=NORMAL"], check=True)

    def ofctl(self, command: str, *more: str) -> str:
        """Asks the guard bridge, or tampers with it."""
        management = f"unix:{self.lab.run}/br-g.mgmt"
        line = ["ovs-ofctl", "--timeout=5", "-OOpenFlow14", command, management, *more]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout

    def arrives(self, frame: bytes) -> bool:
        """Whether a frame gets through. One that does is sent behind it, so no time is waited in vain."""
        marker = b"this one passes "
        self.sender.send(frame)
        self.sender.send(ethernet(EVERYONE, MAC, 0x88B5, marker))
        seen = False
        # The kernel hands the outer tag of a frame beside it (PACKET_AUXDATA), not in it.
        forms = (frame, frame[:12] + frame[16:])
        while not (got := self.receiver.socket.recv(65536))[14:].startswith(marker):
            seen = seen or any(got[: len(form)] == form for form in forms)
        return seen


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    lab = AgentLab()
    try:
        wire = Wire(lab)
        wire.receiver.socket.settimeout(5)
        wait(lambda: wire.arrives(ethernet(EVERYONE, MAC, 0x88B5, b"anything")))
        yield wire
        wire.sender.close()
        wire.receiver.close()
    finally:
        lab.close()


@pytest.mark.machine
@pytest.mark.parametrize("what", DROPPED)
def test_it_is_dropped(wire: Wire, what: str) -> None:
    assert not wire.arrives(DROPPED[what])


@pytest.mark.machine
@pytest.mark.parametrize("what", PASSED)
def test_it_passes(wire: Wire, what: str) -> None:
    assert wire.arrives(PASSED[what])


@pytest.mark.machine
def test_without_port_security_everything_passes_until_it_is_back(wire: Wire) -> None:
    try:
        wire.lab.put(ports=(changed(SENDER, guard=None, vlan_transparent=True), RECEIVER))
        wire.lab.applied()
        # What was dropped a moment ago may be remembered for a moment more.
        wait(lambda: all(wire.arrives(frame) for frame in DROPPED.values()))
    finally:
        wire.lab.put(ports=(wire.guarded, RECEIVER))
        wire.lab.applied()
    # What passed a moment ago may be remembered for a moment more.
    wait(lambda: not wire.arrives(DROPPED["router advertisement"]))


@pytest.mark.machine
def test_on_a_transparent_network_tags_pass_but_not_forged_macs(wire: Wire) -> None:
    transparent = changed(wire.guarded, vlan_transparent=True)
    tagged = ethernet(GROUP, MAC, 0x86DD, ipv6(V6, ALL, 58, ECHO), (0x8100, 0))
    forged = ethernet(GROUP, OTHER, 0x86DD, ipv6(V6, ALL, 58, ECHO), (0x8100, 0))
    try:
        wire.lab.put(ports=(transparent, RECEIVER))
        wire.lab.applied()
        # What was dropped a moment ago may be remembered for a moment more.
        wait(lambda: wire.arrives(tagged))
        assert not wire.arrives(forged)
    finally:
        wire.lab.put(ports=(wire.guarded, RECEIVER))
        wire.lab.applied()


def in_vlan(frame: bytes, *vlans: int) -> bytes:
    """The frame behind tags."""
    return frame[:12] + b"".join(b"\x81\0" + vlan.to_bytes(2) for vlan in vlans) + frame[12:]


@pytest.mark.machine
def test_a_sub_port_is_guarded_as_itself_by_its_tag_alone(wire: Wire) -> None:
    mac, address = "02:00:00:00:00:77", "fd00::77"
    inner = changed(
        port(7, attach="namespace"),
        parent=SENDER.id,
        vlan=30,
        mac=mac,
        guard=Guard(macs=(mac,), prefixes=(address,)),
    )
    own = v6(address, advertisement(address, address, ALL, option(2, mac)), mac=mac)
    forged = {
        "the parent's": PASSED["advertisement of the own address"],
        "a stranger's": v6(address, advertisement("fd00::2", address, ALL), mac=mac),
        "a router's": v6(link_local(mac), icmp6(134, bytes(12), link_local(mac), ALL), mac=mac),
    }
    try:
        wire.lab.put(ports=(wire.guarded, inner, RECEIVER))
        wire.lab.applied()
        wait(lambda: wire.arrives(in_vlan(own, 30)))
        assert [what for what, frame in forged.items() if wire.arrives(in_vlan(frame, 30))] == []
        assert not any(wire.arrives(in_vlan(own, *vlans)) for vlans in ((31,), (0,), (30, 7), (7, 30)))
        # The parent's own frames are what they were, and it may not claim what is the sub-port's.
        assert wire.arrives(PASSED["advertisement of the own address"])
        assert not wire.arrives(own)
        wire.lab.put(ports=(changed(wire.guarded, vlan_transparent=True), inner, RECEIVER))
        wire.lab.applied()
        assert [what for what, frame in forged.items() if wire.arrives(in_vlan(frame, 30))] == []
        wait(lambda: wire.arrives(in_vlan(PASSED["echo"], 31)))
        wire.lab.put(ports=(changed(wire.guarded, guard=None), inner, RECEIVER))
        wire.lab.applied()
        assert [what for what, frame in forged.items() if wire.arrives(in_vlan(frame, 30))] == []
        wait(lambda: not wire.arrives(in_vlan(PASSED["echo"], 31)))
        wait(lambda: wire.arrives(DROPPED["router advertisement"]))
    finally:
        wire.lab.put(ports=(wire.guarded, RECEIVER))
        wire.lab.applied()
    wait(lambda: not wire.arrives(in_vlan(own, 30)))


@pytest.mark.machine
def test_with_the_switch_restarted_the_guard_is_back_before_anything_passes(wire: Wire) -> None:
    wire.lab.kill("ovs-vswitchd")
    wire.lab.start_vswitchd()
    wait(lambda: wire.lab.vsctl("get", "Bridge", "br-int", "_uuid") and (wire.pass_everything() or True))
    wire.receiver.socket.settimeout(0.2)
    wait(lambda: wire.arrives(PASSED["echo"]), 10)
    wire.receiver.socket.settimeout(5)
    assert not wire.arrives(DROPPED["router advertisement"])


@pytest.mark.machine
def test_limits_of_packets_are_put_back_when_somebody_takes_or_changes_them(wire: Wire) -> None:
    def put(ingress: int) -> set[str]:
        limits = [("egress", 5000), ("ingress", ingress)]
        both = tuple(PacketLimit(direction=d, rate=rate, burst=10) for d, rate in limits)
        wire.lab.put(ports=(changed(wire.guarded, packet_limits=both), RECEIVER))
        wire.lab.applied()
        return {f"rate={rate} burst_size=10" for _, rate in limits}

    def meters() -> set[str]:
        return set(re.findall(r"rate=.*", wire.ofctl("dump-meters")))

    try:
        assert put(7000) == meters()
        # The flows that use it go with it.
        wire.ofctl("del-meter", "meter=1")
        wire.ofctl("mod-meter", "meter=2,pktps,burst,band=type=drop,rate=1,burst_size=1")
        wire.ofctl("add-meter", "meter=9,kbps,band=type=drop,rate=1")
        assert put(8000) == meters()
        assert wire.ofctl("dump-flows").count("meter:") == 2
        wait(lambda: wire.arrives(PASSED["echo"]))
    finally:
        wire.lab.put(ports=(wire.guarded, RECEIVER))
        wire.lab.applied()
    assert meters() == set()
    wait(lambda: wire.arrives(PASSED["echo"]))


def test_sub_ports_have_meters_of_their_own() -> None:
    tags = (GuardedTag(30, None, sends=3, gets=4), GuardedTag(31, None))
    found = flows([GuardedPort(1, 2, None, tags=tags, sends=5, gets=6)])
    first = {line.partition(",actions=")[0]: line.partition(",actions=")[2] for line in found}
    assert first["table=0,priority=100,in_port=1"].startswith("meter:5,")
    assert first["table=0,priority=100,in_port=2"].startswith("meter:6,")
    assert first["table=0,priority=110,in_port=1,dl_vlan=30"].startswith("meter:3,")
    assert first["table=0,priority=110,in_port=2,dl_vlan=30"] == "meter:4,output:1"
    assert first["table=0,priority=110,in_port=2,dl_vlan=31"] == "output:1"
    assert "meter" not in first["table=0,priority=110,in_port=1,dl_vlan=31"]


def test_the_flows_of_a_port_grow_with_its_addresses_and_not_with_their_product() -> None:
    macs = tuple(f"02:00:00:00:01:{n:02x}" for n in range(10))
    prefixes = tuple(f"fd00::{n:x}" for n in range(10))
    one = len(flows([]))
    many = len(flows([GuardedPort(1, 2, Guard(macs=macs, prefixes=prefixes))]))
    assert many - one <= 5 * (len(macs) + len(prefixes)) + 20
