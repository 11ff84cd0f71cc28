"""Distributed routers: a floating IP comes and leaves at the host of its port, not by the gateway.

| claim | and in reverse |
| --- | --- |
| what a port sends as its floating IP leaves at its own host | a router that is not distributed |
| ... and at the new host, when the port moves | |
| floating IPs work while no host carries the gateway | what has none does not come out |
| they reach each other, from inside too; what is too large is answered | |
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from functools import partial

import pytest
from cloud import Cloud
from fault_lab import frozen, is_well
from flows import SOON, Flow, Ping, Tcp, Udp, must_pass, must_stop
from probes import Probe, Space, wait_for
from tenants import Tenant

pytestmark = pytest.mark.machine

HOST = "198.51.100.10"


class Scene:
    """a and c on a host that is not the gateway's, b on the third one, behind a distributed router."""

    def __init__(self, cloud: Cloud, tenant: Tenant, internet: Space) -> None:
        self.cloud, self.tenant, self.internet = cloud, tenant, internet
        self.net = tenant.network("10.0.0.0/24")
        self.router = tenant.router(self.net, outside=True)
        tenant.admin.update_router(self.router.id, distributed=True)
        self.first, self.second, self.third = cloud.gateway(self.router)["hosts"]
        self.a, self.c = (tenant.probe(self.net, self.third) for _ in range(2))
        self.b = tenant.probe(self.net, self.second)
        tenant.ready(self.a, self.b, self.c)
        self.of_a, self.of_b = (str(tenant.floating(p).floating_ip_address) for p in (self.a, self.b))

    def leaves_at(self, flow: Flow, address: str) -> set[str]:
        """The hosts by whose cables IPv4 packets from an address leave, while something comes through."""
        with contextlib.ExitStack() as stack:
            ears = {
                host: stack.enter_context(Space(self.cloud.namespace(host), "eth1").frames())
                for host in self.cloud.hosts
            }
            must_pass(flow)
            return {host for host, ear in ears.items() if _left(ear, socket.inet_aton(address))}

    def out(self, probe: Probe) -> Udp:
        """A datagram to the host outside."""
        return Udp(probe, self.internet, HOST, 7)


def _left(ear: socket.socket, source: bytes) -> bool:
    """Whether an IPv4 packet of that source was sent."""
    ear.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            frame, about = ear.recvfrom(2000)
            if about[2] == socket.PACKET_OUTGOING and (frame[12:14], frame[26:30]) == (b"\x08\x00", source):
                return True
    return False


@pytest.fixture(scope="module")
def scene(cloud: Cloud, tenant: Tenant, internet: Space) -> Iterator[Scene]:
    """For all cases here; each leaves it as it was."""
    with tenant.scope():
        yield Scene(cloud, tenant, internet)


def test_a_floating_ip_leaves_at_the_host_of_its_port(scene: Scene) -> None:
    out, own = scene.out(scene.a), scene.of_a
    way_in = Tcp(scene.internet, scene.a, own, 80)
    must_pass(way_in)
    assert way_in.seen_from == HOST
    for flow in (out, way_in):
        wait_for(lambda flow=flow: scene.leaves_at(flow, own) == {scene.third}, SOON, f"{flow} leaves there")
    assert out.seen_from == own
    translated = scene.tenant.api.get_router(scene.router).external_gateway_info["external_fixed_ips"]
    address = next(f["ip_address"] for f in translated if ":" not in f["ip_address"])
    at = partial(scene.leaves_at, scene.out(scene.c), address)
    wait_for(lambda: at() == {scene.first}, SOON, "what has no floating IP leaves at the gateway")


def test_a_router_that_is_not_distributed_sends_by_its_gateway(scene: Scene) -> None:
    out = scene.out(scene.a)
    at = partial(scene.leaves_at, out, scene.of_a)
    with scene.tenant.changed(scene.router, is_distributed=False):
        wait_for(lambda: at() == {scene.first}, SOON, "it leaves at the gateway")
        must_pass(Ping(scene.internet, scene.of_a), Ping(scene.internet, scene.of_b))
    wait_for(lambda: at() == {scene.third}, SOON, "it leaves at the port's host again")


def test_a_floating_ip_leaves_where_its_port_moves(scene: Scene) -> None:
    tenant, (moved,) = scene.tenant, scene.tenant.probes(scene.net, scene.third)
    own = tenant.floating(moved).floating_ip_address
    must_pass(Ping(scene.internet, own))
    tenant.move(moved, scene.second)
    tenant.ready(moved)
    must_pass(Ping(scene.internet, own))
    at = partial(scene.leaves_at, scene.out(moved), own)
    wait_for(lambda: at() == {scene.second}, SOON, "it leaves at its new host")


def test_floating_ips_need_no_gateway(scene: Scene, cloud: Cloud) -> None:
    is_well(cloud)
    with frozen(cloud, scene.first), frozen(cloud, scene.second):
        must_stop(scene.out(scene.c), control=scene.out(scene.a))
        must_pass(Tcp(scene.internet, scene.a, scene.of_a, 80))
    must_pass(scene.out(scene.c), Ping(scene.internet, scene.of_b))
    is_well(cloud)


def test_floating_ips_reach_each_other_and_tell_what_is_too_large(scene: Scene) -> None:
    a, b, c = scene.a, scene.b, scene.c
    must_pass(Tcp(a, b, scene.of_b, 80), Tcp(b, a, scene.of_a, 80), Tcp(c, a, scene.of_a, 80))
    must_pass(Ping(a, scene.of_a), Ping(scene.internet, scene.of_a, size=scene.net.mtu))
    scene.internet.must_be_told_mtu(scene.net.mtu, scene.of_a, size=1500)
