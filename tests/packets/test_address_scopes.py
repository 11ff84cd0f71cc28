"""Address scopes: where addresses are unique they are routed as they are, and nowhere else.

| claim | and in reverse |
| --- | --- |
| a router joins the networks of one scope | its other networks are apart |
| within the scope, inside and outside reach each other untranslated | outside of it: translated, or not |
| without translation, what is of another scope does not come out | ... but by its floating IP, both ways |
| the same of IPv6, which is never translated | |
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from flows import Ping, Udp, must_pass, must_stop
from probes import wait_for
from tenants import Net, Tenant

pytestmark = pytest.mark.machine


class Scene:
    """a (h1) and b (h2) on networks of a scope, c (h1) on one of none, a router between them.

    The router's gateway is on an external network of the scope, with o (h3).
    """

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        scope = tenant.api.create_address_scope(name="scope", ip_version=4)
        tenant.undo(tenant.api.delete_address_scope, scope)
        self.pool = tenant.api.create_subnet_pool(
            name="pool", prefixes=["172.30.0.0/16"], default_prefix_length=24, address_scope_id=scope.id
        )
        tenant.undo(tenant.api.delete_subnet_pool, self.pool)
        self.scope_id = scope.id
        scope6 = tenant.api.create_address_scope(name="scope6", ip_version=6)
        tenant.undo(tenant.api.delete_address_scope, scope6)
        self.pool6 = tenant.api.create_subnet_pool(
            name="pool6", prefixes=["2001:db8:e::/48"], default_prefix_length=64, address_scope_id=scope6.id
        )
        tenant.undo(tenant.api.delete_subnet_pool, self.pool6)
        left, right = self.network(), self.network()
        vlan = {"provider_network_type": "vlan", "provider_physical_network": "physnet1"}
        outer = self.network(admin=True, is_router_external=True, **vlan)
        other = tenant.network("10.9.0.0/24", "2001:db8:9::/64")
        self.router = tenant.router(left, right, other)
        tenant.api.update_router(self.router.id, external_gateway_info={"network_id": outer.id})
        self.outer = outer
        self.a, self.b = tenant.probe(left, "h1"), tenant.probe(right, "h2")
        self.c, self.o = tenant.probe(other, "h1"), tenant.probe(outer, "h3")
        tenant.ready(self.a, self.b, self.c, self.o)
        for prefix in ("172.30.0.0/16", "10.9.0.0/24", "2001:db8:e::/48", "2001:db8:9::/64"):
            self.o.ip(f"route add {prefix} via {self.gateway_of(6 if ':' in prefix else 4)}")

    def network(self, **fields: Any) -> Net:
        """A network with a subnet of each pool."""
        net = self.tenant.network(**fields)
        for pool in (self.pool, self.pool6):
            fields = {"ip_version": pool.ip_version, "subnet_pool_id": pool.id}
            net.subnets.append(self.tenant.api.create_subnet(network_id=net.id, **fields))
        return net

    @property
    def gateway(self) -> str:
        """The router's IPv4 address on the external network."""
        return self.gateway_of(4)

    def gateway_of(self, version: int) -> str:
        """The router's address of that family there."""
        info: Any = self.tenant.api.get_router(self.router).external_gateway_info
        own = [str(fixed["ip_address"]) for fixed in info["external_fixed_ips"]]
        return next(address for address in own if (":" in address) == (version == 6))

    @contextlib.contextmanager
    def without_translation(self) -> Iterator[None]:
        """The router translates no source in the block."""
        gateway = {"network_id": self.outer.id}
        self.tenant.admin.update_router(
            self.router.id, external_gateway_info=gateway | {"enable_snat": False}
        )
        try:
            yield
        finally:
            self.tenant.api.update_router(self.router.id, external_gateway_info=gateway)


@pytest.fixture(scope="module")
def scene(tenant: Tenant) -> Scene:
    """For all cases here; each leaves it as it was."""
    return Scene(tenant)


def test_a_router_keeps_scopes_apart(scene: Scene) -> None:
    a, b, c = scene.a, scene.b, scene.c
    must_pass(Ping(a, b.v4), Ping(b, a.v4))
    must_stop(Ping(a, c.v4), Ping(c, b.v4), control=Ping(a, b.v4))
    scene.tenant.api.update_subnet_pool(scene.pool.id, address_scope_id=None)
    try:
        must_pass(Ping(a, c.v4), Ping(c, b.v4))
    finally:
        scene.tenant.api.update_subnet_pool(scene.pool.id, address_scope_id=scene.scope_id)


def test_within_a_scope_nothing_is_translated(scene: Scene) -> None:
    inner, foreign = Udp(scene.a, scene.o, scene.o.v4, 7), Udp(scene.c, scene.o, scene.o.v4, 7)
    for datagram, source in ((inner, scene.a.v4), (foreign, scene.gateway)):
        wait_for(
            lambda flow=datagram, source=source: flow.once() and flow.seen_from == source,
            10,
            f"{datagram} is seen from {source}",
        )


def test_from_outside_only_the_scope_is_reached_as_it_is(scene: Scene) -> None:
    must_stop(Ping(scene.o, scene.c.v4), control=Ping(scene.o, scene.a.v4))
    api = scene.tenant.api
    floating = api.create_ip(floating_network_id=scene.outer.id, port_id=scene.c.port.id)
    scene.tenant.undo(api.delete_ip, floating)
    must_pass(Ping(scene.o, floating.floating_ip_address))


def test_without_translation_only_floating_ips_leave_their_scope(scene: Scene) -> None:
    inner, foreign = Udp(scene.a, scene.o, scene.o.v4, 7), Udp(scene.c, scene.o, scene.o.v4, 7)
    api = scene.tenant.api
    with scene.without_translation():
        must_stop(foreign, Ping(scene.o, scene.c.v4), control=inner)
        assert inner.seen_from == scene.a.v4
        floating = api.create_ip(floating_network_id=scene.outer.id, port_id=scene.c.port.id)
        scene.tenant.undo(api.delete_ip, floating)
        must_pass(foreign, Ping(scene.o, floating.floating_ip_address))
        assert foreign.seen_from == floating.floating_ip_address
        must_stop(Ping(scene.o, scene.c.v4), control=foreign)
        api.delete_ip(floating)
        must_stop(foreign, Ping(scene.o, floating.floating_ip_address), control=inner)
    must_pass(foreign)


def test_ipv6_scopes_are_kept_apart_inside_and_outside(scene: Scene) -> None:
    a, b, c, o = scene.a, scene.b, scene.c, scene.o
    out = Udp(a, o, o.v6, 7)
    must_pass(Ping(a, b.v6), Ping(o, a.v6), out)
    assert out.seen_from == a.v6
    apart = [Ping(a, c.v6), Ping(c, b.v6), Ping(c, o.v6), Ping(o, c.v6)]
    must_stop(*apart, control=out)
    api = scene.tenant.api
    scope = scene.pool6.address_scope_id
    api.update_subnet_pool(scene.pool6.id, address_scope_id=None)
    try:
        must_pass(*apart)
    finally:
        api.update_subnet_pool(scene.pool6.id, address_scope_id=scope)
