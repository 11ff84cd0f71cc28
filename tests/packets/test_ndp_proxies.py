"""NDP proxies: machines on the external network reach an inner IPv6 address as if it were beside them.

A machine on the external network takes the inner range to be on its link. It asks who has an address, and
nobody but the router can answer.

| claim | and in reverse |
| --- | --- |
| with a proxy, the address is reached both ways, as it is | without one, and after: not; others: not |
| ... and not by the way of the router's own address either | the router is no proxy: everything is |
| a router that is no proxy any more answers for nothing | |
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cloud import Cloud
from flows import SOON, Ping, Tcp, must_pass, must_stop
from probes import Space, wait_for
from tenants import Net, Tenant
from test_physical_networks import machine

pytestmark = pytest.mark.machine

VLAN = 2400
RANGE = "2001:db8:f:{}::/64"
MACHINE = "2001:db8:f::9"


class Scene:
    """a (h1) and b (h2) behind a router, and a machine on the external network; all in one address scope."""

    def __init__(self, tenant: Tenant, outside: Space) -> None:
        self.tenant, self.outside = tenant, outside
        scope = tenant.api.create_address_scope(name="scope", ip_version=6)
        tenant.undo(tenant.api.delete_address_scope, scope)
        self.pool = tenant.api.create_subnet_pool(
            name="pool", prefixes=["2001:db8:f::/48"], default_prefix_length=64, address_scope_id=scope.id
        )
        tenant.undo(tenant.api.delete_subnet_pool, self.pool)
        wire = {
            "provider_network_type": "vlan",
            "provider_physical_network": "physnet1",
            "provider_segmentation_id": VLAN,
        }
        outer, inner = tenant.network(admin=True, is_router_external=True, **wire), tenant.network()
        self.subnet(outer, 0)
        self.cidr = self.subnet(inner, 1)
        self.router = tenant.router(inner)
        self.switch(True, external_gateway_info={"network_id": outer.id})
        self.a, self.b = tenant.probe(inner, "h1"), tenant.probe(inner, "h2")
        tenant.ready(self.a, self.b)
        outside.ip(f"route add {self.cidr} dev eth0")

    def subnet(self, net: Net, number: int) -> str:
        """A subnet of the pool."""
        return str(self.tenant.subnet(net, RANGE.format(number), subnetpool_id=self.pool.id).cidr)

    def switch(self, on: bool, **more: object) -> None:
        """Makes the router an NDP proxy, or not."""
        self.tenant.api.update_router(self.router.id, enable_ndp_proxy=on, **more)

    @property
    def gateway(self) -> str:
        """The router's own address outside."""
        info = self.tenant.api.get_router(self.router).external_gateway_info
        return str(info["external_fixed_ips"][0]["ip_address"])

    def near(self) -> None:
        """Has the machine take the inner range to be on its link, and forget who answered."""
        self.outside.ip(f"route replace {self.cidr} dev eth0", "neighbor flush dev eth0")

    def far(self) -> None:
        """Has the machine send to the inner range by the router."""
        self.outside.ip(f"route replace {self.cidr} via {self.gateway}")


@pytest.fixture(scope="module")
def scene(cloud: Cloud, tenant: Tenant) -> Iterator[Scene]:
    """For all cases here; each leaves it as it was."""
    with machine(cloud, "n", f"{MACHINE}/64", vlan=VLAN) as outside, tenant.scope():
        yield Scene(tenant, outside)


def test_what_has_a_proxy_is_reached_as_a_neighbour(scene: Scene) -> None:
    a, b, api = scene.a, scene.b, scene.tenant.api
    scene.near()
    own = Ping(scene.outside, scene.gateway)
    must_stop(Ping(scene.outside, a.v6), Ping(scene.outside, b.v6), control=own)
    proxy = api.create_ndp_proxy(router_id=scene.router.id, port_id=a.port.id)
    assert proxy.ip_address == a.v6
    out, way_in = Tcp(a, scene.outside, MACHINE, 80), Tcp(scene.outside, a, a.v6, 80)
    must_pass(Ping(scene.outside, a.v6), out, way_in)
    assert (out.seen_from, way_in.seen_from) == (a.v6, MACHINE)
    must_stop(Ping(scene.outside, b.v6), control=way_in)
    api.delete_ndp_proxy(proxy)
    must_stop(Ping(scene.outside, a.v6), way_in, control=own)
    scene.near()
    must_stop(Ping(scene.outside, a.v6), control=own)


def test_a_proxy_lets_in_nothing_else(scene: Scene) -> None:
    a, b, api = scene.a, scene.b, scene.tenant.api
    scene.far()
    ways = [Ping(scene.outside, probe.v6) for probe in (a, b)]
    must_stop(*ways, control=Ping(scene.outside, scene.gateway))
    proxy = api.create_ndp_proxy(router_id=scene.router.id, port_id=b.port.id)
    scene.tenant.undo(api.delete_ndp_proxy, proxy)
    must_pass(ways[1])
    must_stop(ways[0], control=ways[1])
    scene.switch(False)
    must_pass(*ways)
    scene.near()
    must_stop(*ways, control=Ping(scene.outside, scene.gateway))
    scene.switch(True)
    must_pass(ways[1])
    wait_for(lambda: not ways[0].once(), SOON, "what has no proxy is not reached")
