"""Trunks: a workload that reaches several networks by VLAN tags.

| claim | and in reverse |
| --- | --- |
| the parent untagged, and each sub-port by its tag, reach their own networks, on a host and across | |
| ... with the largest packet, the DHCP service and the metadata service of the sub-port's network | |
| networks with equal addresses stay apart behind two tags | |
| a sub-port that is added while the workload runs becomes ACTIVE and passes | removed: DOWN, none |
| no other tag passes, nor a tag inside a tag | with or without port security |
| what is forged behind a tag is dropped as anywhere | without port security it passes |
| a sub-port is filtered by its own groups | |
| with its parent a sub-port moves to another host | |
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flows import SOON, Frame, Ping, Tcp, must_pass, must_stop
from frames import ethernet, ipv4
from probes import Probe, wait_for
from tenants import Tenant
from test_metadata import Asks, introduce
from test_spoofing import FORGED, IPV4, datagram4
from vlans import VlanProbe, behind

pytestmark = pytest.mark.machine

RANGES = ("10.0.0.0/24", "fd00:a::/64")
RED, BLUE, LATE, OTHER = 30, 31, 32, 33
#: A protocol for experiments (RFC 3692).
EXPERIMENT = 253


class Scene:
    """A trunk on h1 with red and blue behind tags, on networks of equal ranges; a peer of each on h2."""

    def __init__(self, tenant: Tenant, folder: Path, stack: contextlib.ExitStack) -> None:
        self.tenant, self.folder = tenant, folder
        self.outer = tenant.network("10.1.0.0/24")
        self.nets = {vlan: tenant.network(*RANGES) for vlan in (RED, BLUE)}
        self.parent, self.beside = tenant.probe(self.outer, "h1"), tenant.probe(self.outer, "h2")
        self.ports = {vlan: tenant.port(net, owner="") for vlan, net in self.nets.items()}
        self.peers = {vlan: tenant.probe(net, "h2") for vlan, net in self.nets.items()}
        self.near = tenant.probe(self.nets[RED], "h1")
        self.trunk = tenant.trunk(self.parent.port, self.ports)
        tenant.ready(self.parent, self.beside, self.near, *self.peers.values())
        self.subs = {
            vlan: stack.enter_context(behind(tenant, self.parent, port, vlan, self.nets[vlan], folder))
            for vlan, port in self.ports.items()
        }
        for sub in self.subs.values():
            sub.configure()

    @property
    def red(self) -> VlanProbe:
        return self.subs[RED]

    def status(self) -> str:
        return str(self.tenant.api.get_trunk(self.trunk.id).status)

    def port_status(self, port: Any) -> str:
        return str(self.tenant.admin.get_port(port.id).status)


@pytest.fixture(scope="module")
def scene(tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """For all cases here; each leaves it as it was."""
    with contextlib.ExitStack() as stack:
        yield Scene(tenant, tmp_path_factory.mktemp("vlans"), stack)


def test_each_network_is_reached_by_its_tag(scene: Scene) -> None:
    red, peer = scene.red, scene.peers[RED]
    must_pass(
        Ping(scene.parent, scene.beside.v4),
        *(Ping(red, at) for at in (peer.v4, peer.v6, scene.near.v4)),
        *(Tcp(peer, red, at, 80) for at in (red.v4, red.v6)),
        Tcp(red, scene.near, scene.near.v6, 80),
    )
    wait_for(lambda: scene.status() == "ACTIVE", SOON, "the trunk is ACTIVE")
    for port in scene.ports.values():
        wait_for(lambda port=port: scene.port_status(port) == "ACTIVE", SOON, "each of its ports is ACTIVE")


def test_the_largest_packet_passes_behind_a_tag(scene: Scene) -> None:
    peer, mtu = scene.peers[RED], scene.nets[RED].mtu
    must_pass(Ping(scene.red, peer.v4, size=mtu), Ping(peer, scene.red.v6, size=mtu))


def test_networks_of_equal_addresses_are_apart(scene: Scene) -> None:
    red, blue = scene.peers[RED], scene.peers[BLUE]
    must_pass(Tcp(scene.subs[BLUE], blue, blue.v4, 80))
    # Both have their own at that address, or none: the other's is never heard.
    foreign = [Tcp(scene.subs[BLUE], red, red.v4, 81), Tcp(scene.red, blue, blue.v4, 81)]
    must_stop(*foreign, Tcp(scene.parent, red, red.v4, 81), control=Tcp(scene.red, red, red.v4, 82))


def test_a_host_behind_a_tag_is_told_by_its_own_network(scene: Scene) -> None:
    told = scene.red.dhcp()
    assert (told.get("ip"), told.get("mtu")) == (scene.red.v4, str(scene.nets[RED].mtu))
    introduce(scene.red)
    must_pass(Asks(scene.red))


def test_a_sub_port_comes_and_goes_while_the_workload_runs(scene: Scene, tenant: Tenant) -> None:
    net = tenant.network("10.2.0.0/24")
    peer, port = tenant.probe(net, "h2"), tenant.port(net, owner="")
    tenant.ready(peer)
    with behind(tenant, scene.parent, port, LATE, net, scene.folder) as late:
        late.configure()
        passing = [Ping(late, peer.v4), Ping(peer, late.v4)]
        must_stop(*passing, control=Ping(scene.red, scene.near.v4))
        tenant.add_subport(scene.trunk, port, LATE)
        must_pass(*passing)
        wait_for(
            lambda: (scene.port_status(port), scene.status()) == ("ACTIVE", "ACTIVE"), SOON, "it is ACTIVE"
        )
        tenant.remove_subport(scene.trunk, port)
        must_stop(*passing, control=Ping(scene.red, scene.near.v4))
        wait_for(lambda: scene.port_status(port) == "DOWN", SOON, "the port is DOWN")
    wait_for(lambda: scene.status() == "ACTIVE", SOON, "the trunk is ACTIVE without it")


OTHERS = {
    "another tag": ((0x8100, OTHER),),
    "a tag of priority alone": ((0x8100, 0),),
}
TWICE = {
    "a tag in a sub-port's": ((0x8100, RED), (0x8100, OTHER)),
    "a sub-port's tag in a sub-port's": ((0x8100, RED), (0x8100, BLUE)),
    "a service tag in a sub-port's": ((0x8100, RED), (0x88A8, OTHER)),
}


class Tagged(Frame):
    """A broadcast of the red sub-port from its parent's interface, heard where what is inside arrives."""

    def __init__(self, scene: Scene, at: Probe, name: str, tags: tuple[tuple[int, int], ...]) -> None:
        def build(marker: bytes) -> bytes:
            packet = ipv4(scene.red.v4, "255.255.255.255", EXPERIMENT, marker)
            return ethernet("ff:ff:ff:ff:ff:ff", scene.red.mac, IPV4, packet, *tags)

        super().__init__(scene.parent, at, build, name)

    def _hears(self, ear: socket.socket, sent: bytes) -> bool:
        seen, _, _, source = ear.recvmsg(65536, 256)
        return source[2] != socket.PACKET_OUTGOING and sent[-18:] in seen


def test_no_tag_passes_inside_a_tag(scene: Scene, tenant: Tenant) -> None:
    """Of headers that nobody sends behind one tag: see the design note on what Open vSwitch remembers."""
    heard = [*scene.peers.values(), scene.near]
    with tenant.trusted(*heard):
        frames = [Tagged(scene, at, name, tags) for at in heard for name, tags in TWICE.items()]
        must_stop(*frames, control=Ping(scene.red, scene.near.v4))


@pytest.mark.parametrize("security", [True, False])
def test_no_other_tag_passes(scene: Scene, tenant: Tenant, security: bool) -> None:
    heard = [scene.beside, *scene.peers.values(), scene.near]
    with contextlib.ExitStack() as stack:
        # Nothing filters what comes to those that listen.
        stack.enter_context(tenant.trusted(*heard))
        if not security:
            stack.enter_context(tenant.trusted(scene.parent, scene.red))
        frames = [Tagged(scene, at, name, tags) for at in heard for name, tags in OTHERS.items()]
        must_stop(*frames, control=Tagged(scene, scene.near, "the sub-port's tag", ((0x8100, RED),)))


def test_what_is_forged_behind_a_tag_is_dropped(scene: Scene, tenant: Tenant) -> None:
    honest = Frame(scene.red, scene.near, partial(datagram4, scene.red, scene.near), "honest datagram")
    with tenant.trusted(scene.near, scene.peers[RED]):
        forged = [
            Frame(scene.red, at, partial(build, scene.red, at), name)
            for name, build in FORGED.items()
            for at in (scene.near, scene.peers[RED])
        ]
        must_stop(*forged, control=honest)
        with tenant.trusted(scene.red):
            must_pass(*forged)
        must_stop(*forged, control=honest)
    for each in (scene.near, scene.peers[RED]):
        each.forget_neighbours()


def test_a_parent_without_port_security_frees_no_sub_port(scene: Scene, tenant: Tenant) -> None:
    honest = Frame(scene.red, scene.near, partial(datagram4, scene.red, scene.near), "honest datagram")
    with tenant.trusted(scene.near, scene.parent):
        forged = [
            Frame(scene.red, scene.near, partial(b, scene.red, scene.near), n) for n, b in FORGED.items()
        ]
        must_stop(*forged, control=honest)


def test_a_sub_port_is_filtered_by_its_own_groups(scene: Scene, tenant: Tenant) -> None:
    red, peer = scene.red, scene.peers[RED]
    ssh = tenant.group({"protocol": "tcp", "port_range_min": 22, "port_range_max": 22})
    with tenant.changed(scene.ports[RED], security_group_ids=[ssh.id]):
        must_stop(Tcp(peer, red, red.v4, 80), Ping(peer, red.v4), control=Tcp(peer, red, red.v4, 22))
    must_pass(Tcp(peer, red, red.v4, 80))


def test_a_sub_port_moves_with_its_parent(scene: Scene, tenant: Tenant) -> None:
    tenant.move(scene.parent, "h3")
    tenant.ready(scene.parent)
    scene.red.plug(scene.parent)
    must_pass(Ping(scene.parent, scene.beside.v4), Ping(scene.red, scene.peers[RED].v4))
    assert tenant.admin.get_port(scene.ports[RED].id).binding_host_id == "h3"
    tenant.move(scene.parent, "h1")
    tenant.ready(scene.parent)
    for sub in scene.subs.values():
        sub.plug(scene.parent)
    must_pass(*(Ping(scene.subs[vlan], peer.v4) for vlan, peer in scene.peers.items()))
