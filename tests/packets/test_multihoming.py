"""A router with gateways on two external networks.

The second one is a VLAN of the physical network, with a machine on it that is the next hop there and
claims to be the host outside, too.

| claim | and in reverse |
| --- | --- |
| each gateway leads to its network, where the router has its address | removed: not any more |
| the default route leads by the first gateway; when that goes, by the next one | |
| by all of them at once where ECMP is on | ... switched off |
| floating IPs and forwarded ports of both networks lead in | |
| with BFD, a default route is taken only while its next hop answers | ... switched off |
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from cloud import Cloud
from flows import Ping, Tcp, comes_through, must_pass, must_stop
from probes import Space, wait_for
from tenants import Tenant
from test_physical_networks import machine

pytestmark = pytest.mark.machine

VLAN = 2300
HOST, NEXT_HOP = "198.51.100.10", "192.0.2.1"


class Scene:
    """A probe on a network, behind a router with a gateway on `public` and one on a VLAN."""

    def __init__(self, tenant: Tenant, internet: Space, other: Space) -> None:
        self.tenant, self.internet, self.other = tenant, internet, other
        self.second = tenant.network(
            "192.0.2.0/24",
            admin=True,
            is_router_external=True,
            provider_network_type="vlan",
            provider_physical_network="physnet1",
            provider_segmentation_id=VLAN,
        )
        net = tenant.network("10.0.0.0/24")
        self.router = tenant.router(net, outside=True)
        self.change("add", {"network_id": self.second.id})
        self.probe = tenant.probe(net, "h1")
        tenant.ready(self.probe)

    def change(self, verb: str, *gateways: dict[str, Any]) -> None:
        """Adds or removes gateways."""
        act = getattr(self.tenant.api, f"{verb}_external_gateways")
        act(self.router, {"router": {"external_gateways": list(gateways)}})

    def address(self, network_id: str) -> str:
        """The router's own IPv4 address on an external network."""
        shown = self.tenant.api.get_router(self.router).external_gateways
        fixed = next(g for g in shown if g["network_id"] == network_id)["external_fixed_ips"]
        return str(next(f["ip_address"] for f in fixed if ":" not in f["ip_address"]))

    def out(self, at: Space, address: str = HOST) -> Tcp:
        """A connection to the host outside, which the one or the other is."""
        return Tcp(self.probe, at, address, 80)


@pytest.fixture(scope="module")
def scene(cloud: Cloud, tenant: Tenant, internet: Space) -> Iterator[Scene]:
    """For all cases here; each leaves it as it was."""
    with machine(cloud, "n", f"{NEXT_HOP}/24", f"{HOST}/32", vlan=VLAN) as other, tenant.scope():
        yield Scene(tenant, internet, other)


def test_each_gateway_leads_to_its_network(scene: Scene) -> None:
    first, second = scene.out(scene.internet), scene.out(scene.other, NEXT_HOP)
    must_pass(first, second)
    assert first.seen_from == scene.address(scene.tenant.public.id)
    assert second.seen_from == scene.address(scene.second.id)
    must_stop(scene.out(scene.other), control=first)


def test_the_next_gateway_leads_out_when_the_first_goes(scene: Scene) -> None:
    public = {"network_id": scene.tenant.public.id}
    second = {"network_id": scene.second.id}
    scene.change("remove", public)
    way = scene.out(scene.other)
    must_pass(way)
    assert way.seen_from == scene.address(scene.second.id)
    must_stop(scene.out(scene.internet), control=way)
    # The order is that in which they came.
    scene.change("add", public)
    scene.change("remove", second)
    must_pass(scene.out(scene.internet))
    must_stop(scene.out(scene.other, NEXT_HOP), control=scene.out(scene.internet))
    scene.change("add", second)
    must_pass(scene.out(scene.other, NEXT_HOP))


def test_default_routes_by_all_gateways(scene: Scene) -> None:
    with scene.tenant.changed(scene.router, enable_default_route_ecmp=True):
        for at in (scene.internet, scene.other):
            # Which way a connection takes is chosen by its ports.
            wait_for(partial(comes_through, scene.out(at)), 20, f"a connection leads to {at}")
    must_stop(scene.out(scene.other), control=scene.out(scene.internet))


def test_floating_ips_of_both_networks_lead_in(scene: Scene) -> None:
    api, probe = scene.tenant.api, scene.probe
    for source, network in ((scene.internet, scene.tenant.public.id), (scene.other, scene.second.id)):
        made = api.create_ip(floating_network_id=network)
        api.create_floating_ip_port_forwarding(
            made, internal_port_id=probe.port.id, protocol="tcp", internal_port=80, external_port=8080
        )
        must_pass(Tcp(source, probe, made.floating_ip_address, 8080, listening=80))
        (forwarding,) = api.floating_ip_port_forwardings(made)
        api.delete_floating_ip_port_forwarding(made, forwarding.id)
        api.update_ip(made, port_id=probe.port.id)
        must_pass(Tcp(source, probe, made.floating_ip_address, 80), Ping(source, made.floating_ip_address))
        api.delete_ip(made)


def test_a_next_hop_that_does_not_answer_is_not_taken(scene: Scene) -> None:
    must_pass(scene.out(scene.internet))
    with scene.tenant.changed(scene.router, enable_default_route_bfd=True):
        must_stop(scene.out(scene.internet), control=scene.out(scene.other, NEXT_HOP))
    must_pass(scene.out(scene.internet))
