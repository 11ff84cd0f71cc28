"""Routers inside the cloud.

| claim | and in reverse |
| --- | --- |
| a router joins networks, on one host and across hosts, in v4 and v6 | interface removed, or router down |
| an extra route leads to what is behind a port | route removed |
| routers in a row join networks that are not next to each other | a route between them removed |
| what is too large for the next network is answered with its mtu | what fits passes |
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from flows import Ping, Tcp, Udp, must_pass, must_stop
from probes import Probe
from tenants import Tenant

pytestmark = pytest.mark.machine


class Scene:
    """a (h1) and b (h2) on one network, c (h1) and d (h2) on another one, a router between them."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.left = tenant.network("10.1.0.0/24", "fd00:1::/64")
        self.right = tenant.network("10.2.0.0/24", "fd00:2::/64")
        self.router = tenant.router(self.left, self.right)
        self.a, self.b = (tenant.probe(self.left, host) for host in ("h1", "h2"))
        self.c, self.d = (tenant.probe(self.right, host) for host in ("h1", "h2"))
        tenant.ready(self.a, self.b, self.c, self.d)

    @contextlib.contextmanager
    def without(self, subnet: Any) -> Iterator[None]:
        """The router has no leg on the subnet in the block."""
        self.tenant.api.remove_interface_from_router(self.router, subnet_id=subnet.id)
        try:
            yield
        finally:
            self.tenant.api.add_interface_to_router(self.router, subnet_id=subnet.id)
            # The new leg has another MAC address; the hosts would notice by themselves, in half a minute.
            for probe in (self.a, self.b, self.c, self.d):
                probe.forget_neighbours()


@pytest.fixture(scope="module")
def scene(tenant: Tenant) -> Scene:
    """For all cases here; each leaves it as it was."""
    return Scene(tenant)


def pings(source: Probe, target: Probe) -> list[Ping]:
    """By both families."""
    return [Ping(source, target.v4), Ping(source, target.v6)]


def test_a_router_joins_networks(scene: Scene) -> None:
    a, c, d = scene.a, scene.c, scene.d
    must_pass(*pings(a, c), *pings(a, d), *pings(d, a))
    must_pass(Tcp(a, d, d.v4, 80), Tcp(a, d, d.v6, 80), Udp(d, a, a.v4, 53), Udp(c, a, a.v6, 53))


def test_a_router_answers_on_its_own_addresses(scene: Scene) -> None:
    must_pass(*(Ping(scene.a, address) for address in ("10.1.0.1", "10.2.0.1", "fd00:1::1", "fd00:2::1")))


def test_what_came_through_a_router_keeps_its_source(scene: Scene) -> None:
    datagram = Udp(scene.a, scene.d, scene.d.v4, 7)
    must_pass(datagram)
    assert datagram.seen_from == scene.a.v4


def test_without_its_interface_a_network_is_cut_off(scene: Scene) -> None:
    a, b, d = scene.a, scene.b, scene.d
    four, six = scene.right.subnets
    with scene.without(four):
        must_stop(Ping(a, d.v4), Ping(d, a.v4), control=Ping(a, d.v6))
        with scene.without(six):
            must_stop(*pings(a, d), control=Ping(a, b.v4))
    must_pass(*pings(a, d), *pings(d, a))


def test_a_router_that_is_down_forwards_nothing(scene: Scene) -> None:
    a, b, c, d = scene.a, scene.b, scene.c, scene.d
    must_pass(*pings(a, c), *pings(a, d))
    with scene.tenant.changed(scene.router, is_admin_state_up=False):
        must_stop(*pings(a, c), *pings(a, d), control=Ping(a, b.v4))
    must_pass(*pings(a, c), *pings(a, d))


def test_an_extra_route_leads_behind_a_port(scene: Scene) -> None:
    a, d = scene.a, scene.d
    behind = {"192.0.2.9/32": d.v4, "2001:db8:9::9/128": d.v6}
    pairs = [{"ip_address": prefix} for prefix in behind]
    routes = [{"destination": prefix, "nexthop": hop} for prefix, hop in behind.items()]
    with (
        scene.tenant.changed(d.port, allowed_address_pairs=pairs),
        d.address("192.0.2.9/32") as four,
        d.address("2001:db8:9::9/128") as six,
    ):
        with scene.tenant.changed(scene.router, routes=routes):
            must_pass(Ping(a, four), Ping(a, six))
        must_stop(Ping(a, four), Ping(a, six), control=Ping(a, d.v4))


def test_routers_in_a_row_join_their_networks(tenant: Tenant) -> None:
    nets = [tenant.network(f"10.{n}.0.0/24") for n in (11, 12, 13)]
    first, leg = tenant.router(nets[0], nets[1]), tenant.port(nets[1], owner="")
    second, hop = tenant.router(nets[2]), leg.fixed_ips[0]["ip_address"]
    tenant.api.add_interface_to_router(second, port_id=leg.id)
    a, c = tenant.probe(nets[0], "h1"), tenant.probe(nets[2], "h2")
    tenant.ready(a, c)
    tenant.api.update_router(first, routes=[{"destination": "10.13.0.0/24", "nexthop": hop}])
    with tenant.changed(second, routes=[{"destination": "10.11.0.0/24", "nexthop": "10.12.0.1"}]):
        must_pass(Ping(a, c.v4), Tcp(c, a, a.v4, 80))
    must_stop(Ping(a, c.v4), control=Ping(a, "10.12.0.1"))


@pytest.mark.parametrize(("family", "target"), [(4, "v4"), (6, "v6")])
def test_what_does_not_fit_the_next_network_is_answered(tenant: Tenant, family: int, target: str) -> None:
    wide = tenant.network("10.21.0.0/24", "fd00:21::/64")
    narrow = tenant.network("10.22.0.0/24", "fd00:22::/64", mtu=1300)
    tenant.router(wide, narrow)
    a, b = tenant.probe(wide, "h1"), tenant.probe(narrow, "h2")
    tenant.ready(a, b)
    address = str(getattr(b, target))
    must_pass(Ping(a, address, size=1300))
    a.must_be_told_mtu(1300, address, size=1400)
