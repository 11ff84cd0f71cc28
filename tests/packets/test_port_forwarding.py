"""Port forwarding: ports of one floating IP that lead to ports inside.

| claim | and in reverse |
| --- | --- |
| a TCP and a UDP port of a floating IP lead in | its other ports lead nowhere; deleted: neither |
| they do from the networks inside too, from their own one and from others of the router | deleted |
| a range of ports leads to as many ports, or all of it to one | ... the ports beside it lead nowhere |
| it leads to the port that it is moved to | ... and no longer to the one before |
"""

from __future__ import annotations

from typing import Any

import pytest
from flows import Ping, Tcp, Udp, must_pass, must_stop
from probes import Probe, Space
from tenants import Tenant

pytestmark = pytest.mark.machine


class Scene:
    """a (h1) and b (h2) on a network, c (h3) on another one, a router with a gateway, a floating IP."""

    def __init__(self, tenant: Tenant, internet: Space) -> None:
        self.tenant, self.internet = tenant, internet
        net, other = tenant.network("10.0.0.0/24"), tenant.network("10.0.1.0/24")
        tenant.router(net, other, outside=True)
        self.a, self.b = (tenant.probe(net, host) for host in ("h1", "h2"))
        self.c = tenant.probe(other, "h3")
        tenant.ready(self.a, self.b, self.c)
        self.floating = tenant.floating()

    def tcp(self, source: Space, to: Probe, port: int, inside: int) -> Tcp:
        """A connection to a port of the floating IP, which another port of a probe must accept."""
        return Tcp(source, to, self.floating.floating_ip_address, port, listening=inside)

    def udp(self, source: Space, to: Probe, port: int, inside: int) -> Udp:
        """A datagram, likewise."""
        return Udp(source, to, self.floating.floating_ip_address, port, listening=inside)

    def forward(self, probe: Probe, protocol: str = "tcp", **ports: Any) -> Any:
        """Forwards ports of the floating IP to a probe."""
        return self.tenant.api.create_floating_ip_port_forwarding(
            self.floating, internal_port_id=probe.port.id, protocol=protocol, **ports
        )

    def change(self, forwarding: Any, **fields: Any) -> None:
        self.tenant.api.update_floating_ip_port_forwarding(self.floating, forwarding.id, **fields)

    def delete(self, *forwardings: Any) -> None:
        for one in forwardings:
            self.tenant.api.delete_floating_ip_port_forwarding(self.floating, one.id, ignore_missing=False)


@pytest.fixture(scope="module")
def scene(tenant: Tenant, internet: Space) -> Scene:
    """For all cases here; each leaves it as it was."""
    return Scene(tenant, internet)


def test_ports_of_a_floating_ip_lead_in(scene: Scene) -> None:
    web = scene.forward(scene.a, internal_port=80, external_port=8080)
    names = scene.forward(scene.b, "udp", internal_port=5300, external_port=53)
    tcp = scene.tcp(scene.internet, scene.a, 8080, 80)
    udp = scene.udp(scene.internet, scene.b, 53, 5300)
    must_pass(tcp, udp)
    # The guest sees who really asks.
    assert tcp.seen_from == udp.seen_from == "198.51.100.10"
    beside = scene.tcp(scene.internet, scene.a, 80, 80)
    must_stop(beside, scene.tcp(scene.internet, scene.b, 53, 53), control=tcp)
    scene.delete(names)
    must_stop(udp, control=tcp)
    scene.delete(web)
    must_stop(tcp, control=Ping(scene.a, "198.51.100.10"))


def test_they_do_from_inside_too(scene: Scene) -> None:
    web = scene.forward(scene.a, internal_port=80, external_port=8080)
    names = scene.forward(scene.a, "udp", internal_port=53, external_port=53)
    flows: list[Tcp | Udp] = [scene.tcp(source, scene.a, 8080, 80) for source in (scene.b, scene.c)]
    flows += [scene.udp(source, scene.a, 53, 53) for source in (scene.b, scene.c)]
    must_pass(*flows)
    scene.delete(web, names)
    must_stop(*flows, control=Tcp(scene.b, scene.a, scene.a.v4, 80))


def test_a_range_leads_to_as_many_or_to_one(scene: Scene) -> None:
    many = scene.forward(scene.a, internal_port_range="9000:9003", external_port_range="7000:7003")
    one = scene.forward(scene.b, "udp", internal_port=53, external_port_range="6000:6010")
    into = [scene.tcp(scene.internet, scene.a, 7000 + n, 9000 + n) for n in range(4)]
    must_pass(*into, *(scene.udp(scene.internet, scene.b, port, 53) for port in (6000, 6010)))
    beside = [scene.tcp(scene.internet, scene.a, *ports) for ports in ((7004, 9004), (7000, 9001))]
    must_stop(*beside, scene.udp(scene.internet, scene.b, 6011, 53), control=into[0])
    scene.delete(many, one)


def test_it_leads_where_it_is_moved(scene: Scene) -> None:
    made = scene.forward(scene.a, internal_port=80, external_port=8080)
    before = scene.tcp(scene.internet, scene.a, 8080, 80)
    must_pass(before)
    scene.change(made, internal_port_id=scene.c.port.id, internal_port=81, external_port=8081)
    after = scene.tcp(scene.internet, scene.c, 8081, 81)
    must_pass(after)
    must_stop(before, control=after)
    scene.delete(made)
