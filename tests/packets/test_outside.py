"""Between the cloud and the outside: gateways, address translation, floating IPs.

The outside is a router on the external network and a host behind it; both know nothing of the cloud's
inner addresses.

| claim | and in reverse |
| --- | --- |
| inside reaches outside, seen as the router's address | `enable_snat` false; gateway removed; router down |
| outside does not reach inside by the router's address | ... as it does by a floating IP |
| a floating IP leads in and, as source, out | disassociated: neither; deleted: neither |
| a floating IP leads to the port that it is moved to | ... and no longer to the one before |
| floating IPs reach each other, and work from inside their own network | disassociated |
| IPv6 is routed without translation, when the outside knows the way | gateway removed |
| what is too large for the overlay is answered with its mtu | what fits passes |
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flows import SOON, Ping, Tcp, Udp, must_pass, must_stop
from probes import Probe, Space, wait_for
from tenants import Tenant

pytestmark = pytest.mark.machine

HOST4, HOST6 = "198.51.100.10", "2001:db8:198::10"
#: Of documentation (RFC 3849), as all addresses here: the outside could route it.
RANGE6 = "2001:db8:a::/64"


class Scene:
    """a (h1) and b (h2) on a network, c (h3) on another one, a router with a gateway."""

    def __init__(self, tenant: Tenant, internet: Space) -> None:
        self.tenant, self.internet = tenant, internet
        self.net = tenant.network("10.0.0.0/24", RANGE6)
        self.other = tenant.network("10.0.1.0/24")
        self.router = tenant.router(self.net, self.other, outside=True)
        self.a, self.b = (tenant.probe(self.net, host) for host in ("h1", "h2"))
        self.c = tenant.probe(self.other, "h3")
        tenant.ready(self.a, self.b, self.c)

    @property
    def gateway(self) -> dict[str, str]:
        """The router's own addresses outside, by family: "4" and "6"."""
        fixed = self.tenant.api.get_router(self.router).external_gateway_info["external_fixed_ips"]
        return {"6" if ":" in f["ip_address"] else "4": f["ip_address"] for f in fixed}

    def out(self, probe: Probe) -> Udp:
        """A datagram to the host outside."""
        return Udp(probe, self.internet, HOST4, 5353)

    def seen_outside(self, probe: Probe) -> str:
        """The address that the host outside sees it come from."""
        datagram = self.out(probe)
        must_pass(datagram)
        return datagram.seen_from

    def must_be_seen_as(self, probe: Probe, address: str) -> None:
        """... soon."""
        wait_for(lambda: self.seen_outside(probe) == address, SOON, f"{probe} is seen as {address}")

    def connects(self, address: str, probe: Probe) -> Tcp:
        """A connection from outside to an address, which this probe accepts."""
        return Tcp(self.internet, probe, address, 8080)


@pytest.fixture(scope="module")
def scene(tenant: Tenant, internet: Space) -> Scene:
    """For all cases here; each leaves it as it was."""
    return Scene(tenant, internet)


def test_inside_is_seen_outside_as_its_router(scene: Scene) -> None:
    must_pass(Ping(scene.a, HOST4), Ping(scene.b, HOST4), Tcp(scene.c, scene.internet, HOST4, 80))
    assert {scene.seen_outside(probe) for probe in (scene.a, scene.b, scene.c)} == {scene.gateway["4"]}


def test_the_routers_address_leads_nowhere_inside(scene: Scene) -> None:
    own = scene.gateway["4"]
    must_stop(
        *(scene.connects(own, p) for p in (scene.a, scene.b, scene.c)), control=Ping(scene.internet, own)
    )


def test_without_translation_no_answer_comes(scene: Scene) -> None:
    scene.tenant.set_gateway(scene.router, enable_snat=False)
    try:
        must_stop(scene.out(scene.a), Ping(scene.b, HOST4), control=Ping(scene.a, scene.b.v4))
    finally:
        scene.tenant.set_gateway(scene.router, enable_snat=True)
    must_pass(scene.out(scene.a), Ping(scene.b, HOST4))


def test_without_a_gateway_nothing_comes_out(scene: Scene) -> None:
    with scene.tenant.without_gateway(scene.router):
        must_stop(Ping(scene.a, HOST4), Ping(scene.c, HOST4), control=Ping(scene.a, scene.c.v4))
    must_pass(Ping(scene.a, HOST4), Ping(scene.c, HOST4))


def test_a_router_that_is_down_leads_nowhere(scene: Scene) -> None:
    floating = scene.tenant.floating(scene.b).floating_ip_address
    must_pass(Ping(scene.internet, floating))
    with scene.tenant.changed(scene.router, is_admin_state_up=False):
        must_stop(Ping(scene.a, HOST4), Ping(scene.internet, floating), control=Ping(scene.a, scene.b.v4))
    must_pass(Ping(scene.a, HOST4), Ping(scene.internet, floating))


def test_a_floating_ip_leads_in_and_out(scene: Scene) -> None:
    address = (made := scene.tenant.floating(scene.a)).floating_ip_address
    way_in = scene.connects(address, scene.a)
    must_pass(way_in, Ping(scene.internet, address))
    # The guest sees who really asks.
    assert way_in.seen_from == HOST4
    scene.must_be_seen_as(scene.a, address)
    assert scene.seen_outside(scene.b) == scene.gateway["4"]
    scene.tenant.api.update_ip(made, port_id=None)
    must_stop(way_in, Ping(scene.internet, address), control=Ping(scene.internet, scene.gateway["4"]))
    scene.must_be_seen_as(scene.a, scene.gateway["4"])
    scene.tenant.api.update_ip(made, port_id=scene.a.port.id)
    must_pass(way_in)
    scene.tenant.api.delete_ip(made)
    must_stop(way_in, Ping(scene.internet, address), control=Ping(scene.internet, scene.gateway["4"]))


def test_a_floating_ip_leads_where_it_moves(scene: Scene) -> None:
    address = (made := scene.tenant.floating(scene.a)).floating_ip_address
    must_pass(scene.connects(address, scene.a))
    for before, after in ((scene.a, scene.b), (scene.b, scene.c)):
        scene.tenant.api.update_ip(made, port_id=after.port.id)
        must_pass(scene.connects(address, after))
        must_stop(scene.connects(address, before), control=scene.connects(address, after))
        scene.must_be_seen_as(after, address)
        scene.must_be_seen_as(before, scene.gateway["4"])


def test_a_floating_ip_works_from_inside(scene: Scene) -> None:
    made = scene.tenant.floating(scene.b)
    flows = [Tcp(probe, scene.b, made.floating_ip_address, 8080) for probe in (scene.a, scene.c)]
    must_pass(*flows)
    scene.tenant.api.update_ip(made, port_id=None)
    must_stop(*flows, control=Tcp(scene.a, scene.b, scene.b.v4, 8080))


def test_floating_ips_join_projects_that_have_equal_addresses(scene: Scene, stranger: Tenant) -> None:
    net = stranger.network("10.0.0.0/24")
    stranger.router(net, outside=True)
    other = stranger.probe(net, "h1", fixed_ips=[{"ip_address": scene.a.v4}])
    stranger.ready(other)
    own, made = scene.tenant.floating(scene.a), stranger.floating(other)
    there = Tcp(scene.a, other, made.floating_ip_address, 80)
    back = Tcp(other, scene.a, own.floating_ip_address, 80)
    addresses = (own.floating_ip_address, made.floating_ip_address)

    def seen() -> bool:
        must_pass(there, back)
        return (there.seen_from, back.seen_from) == addresses

    wait_for(seen, SOON, "each is seen as its floating IP")
    stranger.api.update_ip(made, port_id=None)
    must_stop(there, control=Ping(scene.a, HOST4))


@pytest.fixture
def known_outside(scene: Scene, outside_router: Space) -> Iterator[None]:
    """The outside router knows the way to the inner IPv6 range."""
    route = f"{RANGE6} via {scene.gateway['6']}"
    outside_router.ip(f"route replace {route} dev eth0")
    yield
    outside_router.ip(f"route delete {RANGE6} dev eth0")


def test_ipv6_is_routed_as_it_is(scene: Scene, known_outside: None) -> None:
    out = Udp(scene.a, scene.internet, HOST6, 5353)
    must_pass(out, Ping(scene.internet, scene.b.v6), Tcp(scene.internet, scene.a, scene.a.v6, 80))
    assert out.seen_from == scene.a.v6
    with scene.tenant.without_gateway(scene.router):
        must_stop(out, Ping(scene.internet, scene.b.v6), control=Ping(scene.a, scene.b.v6))


def test_fragments_are_translated(scene: Scene) -> None:
    made = scene.tenant.floating(scene.b)
    out = Udp(scene.a, scene.internet, HOST4, 5353, size=4000)
    way_in = Udp(scene.internet, scene.b, made.floating_ip_address, 5060, size=4000)
    must_pass(out, way_in)
    assert (out.seen_from, way_in.seen_from) == (scene.gateway["4"], HOST4)


def test_what_is_too_large_for_the_overlay_is_answered(scene: Scene) -> None:
    address = scene.tenant.floating(scene.b).floating_ip_address
    must_pass(Ping(scene.internet, address, size=scene.net.mtu))
    scene.internet.must_be_told_mtu(scene.net.mtu, address, size=1500)
