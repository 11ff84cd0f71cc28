"""Quality of service: how much comes through, and how packets are marked.

| claim | and in reverse |
| --- | --- |
| a port sends, and gets, as much as its policy lets it | changed: as much as then; taken away: all |
| ... in each direction by itself, on one host and across hosts | the other direction is free |
| a port without a policy obeys that of its network | its own goes before it |
| a port sends, and gets, as many packets as its policy, or its network's, lets it | taken away: all |
| ... and as many at once as its burst | |
| what a port sends is marked, in IPv4 and IPv6 | rule deleted: not marked |
| a floating IP has limits of its own, both ways | taken away: those of the gateway |
| a gateway has limits, both ways | taken away: none |
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flows import must_pass
from probes import Space, wait_for
from rates import PACKETS, Marked, at_once, must_be_free, must_be_limited, must_be_paced
from tenants import Tenant

pytestmark = pytest.mark.machine

HOST = "198.51.100.10"


class Scene:
    """a (h1), b (h2) on a network behind a router, and the operator's policies, which go at the end."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.net = tenant.network("10.0.0.0/24", "fd00:a::/64")
        self.router = tenant.router(self.net, outside=True)
        self.a, self.b = tenant.probes(self.net, "h1", "h2")
        self.policies: list[Any] = []

    def policy(self, **limits: int) -> Any:
        """A policy that all may use, with a limit of kbit/s for each direction named."""
        made = self.tenant.admin.create_qos_policy(name="policy", shared=True)
        self.policies.append(made)
        for direction, kbps in limits.items():
            self.limit(made, direction, kbps)
        return made

    def limit(self, policy: Any, direction: str, kbps: int) -> Any:
        """A limit whose burst lasts a tenth of a second."""
        create = self.tenant.admin.create_qos_bandwidth_limit_rule
        return create(policy, direction=direction, max_kbps=kbps, max_burst_kbps=kbps // 10)


@pytest.fixture(scope="module")
def scene(tenant: Tenant) -> Scene:
    """For all cases here; each leaves it as it was."""
    return Scene(tenant)


@pytest.fixture(autouse=True)
def bare(scene: Scene) -> Iterator[None]:
    """Nothing has a policy when a case ends, and there is none."""
    yield
    for probe in (scene.a, scene.b):
        scene.tenant.change(probe, qos_policy_id=None)
    scene.tenant.api.update_network(scene.net.id, qos_policy_id=None)
    while scene.policies:
        scene.tenant.admin.delete_qos_policy(scene.policies.pop())


def test_a_port_sends_as_much_as_its_policy_lets_it(scene: Scene) -> None:
    a, b, admin = scene.a, scene.b, scene.tenant.admin
    policy = scene.policy()
    limit = scene.limit(policy, "egress", 2000)
    scene.tenant.change(a, qos_policy_id=policy.id)
    must_be_limited(a, b, b.v4, 2000)
    must_be_free(b, a, a.v4)
    admin.update_qos_bandwidth_limit_rule(limit, policy, max_kbps=5000, max_burst_kbps=500)
    must_be_limited(a, b, b.v6, 5000)
    scene.tenant.change(a, qos_policy_id=None)
    must_be_free(a, b, b.v4)


def test_a_port_gets_as_much_as_its_networks_policy_or_its_own_lets_it(scene: Scene) -> None:
    a, b = scene.a, scene.b
    scene.tenant.api.update_network(scene.net.id, qos_policy_id=scene.policy(ingress=3000).id)
    must_be_limited(a, b, b.v4, 3000)
    must_be_limited(b, a, a.v4, 3000)
    scene.tenant.change(b, qos_policy_id=scene.policy(ingress=6000).id)
    must_be_limited(a, b, b.v4, 6000)
    must_be_limited(b, a, a.v4, 3000)


def test_a_port_sends_and_gets_as_many_packets_as_its_policy_lets_it(scene: Scene) -> None:
    a, b, admin = scene.a, scene.b, scene.tenant.admin
    policy = scene.policy()
    limit = admin.create_qos_packet_rate_limit_rule(policy, max_kpps=1)
    scene.tenant.change(a, qos_policy_id=policy.id)
    must_be_paced(a, b, b.v4, 1000)
    must_be_paced(b, a, a.v6, PACKETS)
    # The rate alone would let through a third.
    full = int(0.3 * PACKETS * 0.8)
    wait_for(lambda: at_once(a, b, b.v4, 0.3) >= full or None, 12, f"{full} packets come at once")
    admin.update_qos_packet_rate_limit_rule(limit, policy, max_kpps=2, direction="ingress")
    must_be_paced(b, a, a.v4, 2000)
    scene.tenant.change(a, qos_policy_id=None)
    scene.tenant.api.update_network(scene.net.id, qos_policy_id=policy.id)
    must_be_paced(a, b, b.v6, 2000)
    scene.tenant.api.update_network(scene.net.id, qos_policy_id=None)
    must_be_paced(a, b, b.v4, PACKETS)


def test_what_a_port_sends_is_marked(scene: Scene) -> None:
    a, b, admin = scene.a, scene.b, scene.tenant.admin
    policy = scene.policy()
    rule = admin.create_qos_dscp_marking_rule(policy, dscp_mark=46)
    scene.tenant.change(a, qos_policy_id=policy.id)
    must_pass(Marked(a, b, b.v4, 46), Marked(a, b, b.v6, 46, port=5003))
    must_pass(Marked(b, a, a.v4, 0))
    admin.delete_qos_dscp_marking_rule(rule, policy)
    must_pass(Marked(a, b, b.v4, 0), Marked(a, b, b.v6, 0, port=5003))


def test_floating_ips_and_gateways_have_limits_of_their_own(scene: Scene, internet: Space) -> None:
    a, b, tenant = scene.a, scene.b, scene.tenant
    floating = tenant.floating(a)
    outside, own = scene.policy(egress=3000), scene.policy(egress=7000, ingress=5000)
    tenant.set_gateway(scene.router, qos_policy_id=outside.id)
    must_be_limited(b, internet, HOST, 3000)
    must_be_limited(a, internet, HOST, 3000)
    tenant.api.update_ip(floating, qos_policy_id=own.id)
    must_be_limited(a, internet, HOST, 7000)
    must_be_limited(internet, a, floating.floating_ip_address, 5000)
    must_be_limited(b, internet, HOST, 3000)
    tenant.api.update_ip(floating, qos_policy_id=None)
    tenant.set_gateway(scene.router)
    must_be_free(internet, a, floating.floating_ip_address)
    must_be_free(a, internet, HOST)
