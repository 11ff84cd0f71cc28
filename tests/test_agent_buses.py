"""Buses of appliances: networks of units on several hosts, which nobody else is on.

| claim | and in reverse |
| --- | --- |
| units reach each other on both buses, on one host and across two | another appliance's are not reached |
| who moves to another host is found there | |
| the in-band bus floods nothing and learns nothing; the way between units of one host is past it | |
| what an agent that died had not ended is made anew | what it had ended is not touched |
| the host has no interface and no address on them, and does not answer there | |
| what is not wanted any more is gone | what is not ours stays |
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import hooks
import msgspec
import pytest
from probes import Space, wait_for

from trunkline.agent import across
from trunkline.agent.buses import Buses
from trunkline.agent.config import AgentConfig, Underlay
from trunkline.compiler.slices import HostSlice
from trunkline.compiler.unit_slices import BusMember, BusSlice
from trunkline.devices import links, namespace

pytestmark = pytest.mark.machine
TAG = f"ab{os.getpid()}-"
EDGE, OTHER = "3f2a9c1e-0000-4000-8000-000000000001", "77777777-0000-4000-8000-000000000002"
KIND = b"\x88\xb5"


class Lab:
    """Two hosts with an underlay between them. Each unit is a process that sleeps in a namespace."""

    def __init__(self, folder: Path) -> None:
        self.hosts = {name: Space(f"{TAG}{name}") for name in ("h1", "h2")}
        namespace.create(*(host.netns for host in self.hosts.values()))
        h1, h2 = self.hosts.values()
        h1.ip(f"link add eth0 mtu 1600 type veth peer name eth0 netns {h2.netns}")
        self.buses: dict[str, Buses] = {}
        self.units: dict[tuple[str, int], Unit] = {}
        for n, (name, host) in enumerate(self.hosts.items(), 1):
            host.ip(f"address add 10.99.0.{n}/24 dev eth0", "link set dev eth0 mtu 1600 up")
            (folder / name).mkdir()
            config = AgentConfig(
                host=name,
                control="https://10.99.0.10:8443",
                directory=str(folder / name),
                underlay=Underlay(address=f"10.99.0.{n}/24"),
                ovn_remote="ssl:10.99.0.10:6642",
                namespace_prefix=f"{TAG}{name}-",
            )
            self.buses[name] = Buses(config)

    def want(self, *buses: BusSlice) -> None:
        """Every host has these buses."""
        for name, manager in self.buses.items():
            manager.want(HostSlice(host=name, revision=1, buses=buses))
            namespace.inside(self.hosts[name].netns, partial(asyncio.run, manager.apply()))

    def unit(self, appliance: str, member: BusMember) -> Unit:
        made = Unit(appliance, member)
        self.units[appliance, member.number] = made
        self.buses[member.host].plug(appliance, member, made.process.pid, made.bus, made.control)
        made.ip(f"address add {member.control_address}/64 dev {made.control} nodad")
        return made

    def close(self) -> None:
        for unit in self.units.values():
            unit.end()
        namespace.delete(*namespace.names(TAG))


class Unit:
    """A process with a namespace that has no name."""

    def __init__(self, appliance: str, member: BusMember) -> None:
        self.bus, self.control = f"b{appliance[:4]}{member.number}", f"c{appliance[:4]}{member.number}"
        self.member = member
        self.process = subprocess.Popen(["unshare", "--net", "sleep", "600"])
        own = os.readlink("/proc/self/ns/net")
        wait_for(lambda: os.readlink(f"/proc/{self.process.pid}/ns/net") != own, 10, "a namespace")
        self.netns = namespace.of_process(self.process.pid)

    def ip(self, *lines: str) -> None:
        namespace.ip(self.netns, *lines)

    def pings(self, other: Unit) -> bool:
        """Whether the other answers on the out-of-band bus."""
        return self.run("ping", "-6", "-c", "1", "-W", "1", other.member.control_address) == 0

    def run(self, *command: str) -> int:
        """The exit status of a command inside."""
        done = namespace.inside(
            self.netns, lambda: subprocess.run(command, capture_output=True, check=False, timeout=20)
        )
        return done.returncode

    def ear(self) -> socket.socket:
        """Hears and sends frames of a kind on the in-band bus."""

        def make() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
            made.bind((self.bus, 0x88B5))
            made.settimeout(0.05)
            return made

        return namespace.inside(self.netns, make)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def member(number: int, host: str) -> BusMember:
    return BusMember(
        number=number,
        kind="data-plane",
        host=host,
        underlay=f"10.99.0.{host[1:]}",
        bus_mac=f"02:0b:00:00:00:{number:02x}",
        control_mac=f"02:0c:00:00:00:{number:02x}",
        control_address=f"fd00:74:6c::{number:x}",
    )


def bus(appliance: str, vni: int, *members: BusMember) -> BusSlice:
    return BusSlice(appliance=appliance, bus_vni=vni, control_vni=vni + 1, mtu=1500, members=members)


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def heard(ear: socket.socket, mark: bytes) -> bool:
    try:
        while mark not in ear.recv(2000):
            pass
    except TimeoutError:
        return False
    return True


def must_reach(sender: Unit, to: Unit, *others: Unit) -> None:
    """A frame on the in-band bus comes to one, and to none of the others; its sender's address is a label."""
    mark = os.urandom(8)
    with sender.ear() as own, to.ear() as ear:
        ears = [other.ear() for other in others]
        frame = mac(to.member.bus_mac) + b"\x02\x05" + os.urandom(4) + KIND + mark + bytes(40)

        def comes() -> bool:
            own.send(frame)
            return heard(ear, mark)

        wait_for(comes, 10, f"{to.member.number} hears {sender.member.number}")
        assert not any(heard(each, mark) for each in ears)
        for each in ears:
            each.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_units_reach_each_other_and_nobody_else(lab: Lab) -> None:
    here, beside, there = member(1, "h1"), member(2, "h1"), member(3, "h2")
    stranger = member(3, "h2")
    lab.want(bus(EDGE, 70, here, beside, there), bus(OTHER, 72, stranger))
    one, two, three = (lab.unit(EDGE, each) for each in (here, beside, there))
    other = lab.unit(OTHER, stranger)
    for sender, to, third in ((one, two, three), (one, three, two), (three, one, two)):
        must_reach(sender, to, third, other)
        wait_for(partial(sender.pings, to), 10, "the out-of-band bus")
    # To everybody, and to an address that nobody has: nobody.
    mark = os.urandom(8)
    with one.ear() as own, two.ear() as second, three.ear() as third_ear:
        for to in (b"\xff" * 6, b"\x33\x33\x00\x00\x00\x01", b"\x02\x0b\x00\x00\x00\x63"):
            own.send(to + b"\x02\x05" + os.urandom(4) + KIND + mark + bytes(40))
        assert not heard(second, mark)
        assert not heard(third_ear, mark)
    # The other appliance's unit has the same addresses, and is asked nothing.
    three.end()
    # Its namespace answers until the kernel comes to it.
    lab.buses["h2"].unplug(EDGE, 3)
    assert not one.pings(three)


def test_what_was_not_ended_is_made_anew(lab: Lab) -> None:
    first, second = member(1, "h1"), member(2, "h1")
    lab.want(bus(EDGE, 70, first, second))
    one, two = (lab.unit(EDGE, each) for each in (first, second))
    netns = lab.buses["h1"].netns(EDGE)

    def ends() -> dict[str, int]:
        found = namespace.inside(netns, socket.if_nameindex)
        return {name: number for number, name in found if name[1:].isdigit()}

    before = ends()
    for number in (1, 2):
        assert before[f"b{number}"] == across.number(number)
        assert hooks.programs(netns, f"b{number}") == ["across"]
    # Of the one unit an agent did not come to the end of the first, of the other not to the second.
    one.ip(f"link delete dev {one.control}", f"link set dev {one.bus} down")
    hooks.take_off(netns, "b1")
    assert not hooks.programs(netns, "b1")
    two.ip(f"link set dev {two.control} down")
    for unit in (one, two):
        lab.buses["h1"].plug(EDGE, unit.member, unit.process.pid, unit.bus, unit.control)
        unit.ip(f"address replace {unit.member.control_address}/64 dev {unit.control} nodad")
    must_reach(one, two)
    must_reach(two, one)
    wait_for(partial(one.pings, two), 10, "the out-of-band bus")
    assert hooks.programs(netns, "b1") == ["across"]
    after = ends()
    assert {name for name in before if before[name] == after[name]} == {"b1", "b2"}
    assert len(namespace.inside(two.netns, lambda: links.up(two.bus, two.control))) == 2


def test_who_moves_is_found_where_it_is(lab: Lab) -> None:
    stays, goes = member(1, "h1"), member(2, "h1")
    lab.want(bus(EDGE, 70, stays, goes))
    one, two = lab.unit(EDGE, stays), lab.unit(EDGE, goes)
    must_reach(one, two)
    two.end()
    moved = msgspec.structs.replace(goes, host="h2", underlay="10.99.0.2")
    lab.want(bus(EDGE, 70, stays, moved))
    again = lab.unit(EDGE, moved)
    must_reach(one, again)
    wait_for(lambda: one.pings(again), 10, "the out-of-band bus")
    # A new one of the same number, at once after the old one died.
    again.end()
    must_reach(one, lab.unit(EDGE, moved))


def test_the_host_is_not_on_them(lab: Lab) -> None:
    lab.want(bus(EDGE, 70, member(1, "h1")))
    one = lab.unit(EDGE, member(1, "h1"))
    assert set(namespace.interfaces(lab.hosts["h1"].netns)) == {"lo", "eth0"}
    within = Space(lab.buses["h1"].netns(EDGE))
    addresses = within.run("ip", "-oneline", "address", "show").stdout.splitlines()
    assert {line.split()[1] for line in addresses} == {"lo"}
    # The host's own address, by the bridge's.
    for kind, device in (("bus", one.bus), ("control", one.control)):
        bridge = namespace.inside(within.netns, partial(links.link, kind))
        assert bridge is not None
        one.ip(
            f"address replace 10.99.0.77/24 dev {device}",
            f"neigh replace 10.99.0.1 lladdr {bridge.mac} dev {device}",
        )
        assert one.run("ping", "-c", "2", "-i", "0.2", "-W", "1", "10.99.0.1") == 1
        one.ip(f"address del 10.99.0.77/24 dev {device}")


def test_what_is_not_wanted_goes_and_the_rest_stays(lab: Lab) -> None:
    lab.hosts["h1"].ip("link add name tl-own type bridge")
    namespace.create(f"{TAG}h1-b-99999999")
    lab.want(bus(EDGE, 70, member(1, "h1"), member(2, "h2")), bus(OTHER, 72, member(1, "h1")))
    one = lab.unit(EDGE, member(1, "h1"))
    other = lab.buses["h1"].netns(OTHER)
    lab.want(bus(OTHER, 72, member(1, "h1")))
    assert namespace.names(f"{TAG}h1-b-") == sorted([other, f"{TAG}h1-b-99999999"])
    wait_for(lambda: namespace.interfaces(one.netns) == ["lo"], 10, "its interfaces are gone")
    # The number of a network changes; what was plugged in stays so.
    two = lab.unit(OTHER, member(1, "h1"))
    lab.want(bus(OTHER, 82, member(1, "h1"), member(2, "h2")))
    must_reach(two, lab.unit(OTHER, member(2, "h2")))
    lab.want()
    assert namespace.names(f"{TAG}h1-b-") == [f"{TAG}h1-b-99999999"]
    assert "tl-own" in namespace.interfaces(lab.hosts["h1"].netns)
    ports = lab.hosts["h1"].run("ss", "-Hulna").stdout
    wait_for(lambda: "4790" not in lab.hosts["h1"].run("ss", "-Hulna").stdout, 10, f"no socket: {ports}")
