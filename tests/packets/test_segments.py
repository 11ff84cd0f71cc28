"""Networks of several segments, each on a physical network that some hosts have.

    h1 ─┐                                   ┌─ h2
        ├ p-rack1, VLAN 2310 ── router ── p-rack2, VLAN 2320
    h3 ─┘

| claim | and in reverse |
| --- | --- |
| ports of one segment reach each other across hosts, with the whole frame size | ports of another not |
| each is on the VLAN of its host's segment, and the machines there are its neighbours | those of the other |
| a router on the physical networks joins the segments | taken away |
| a port gets its address with its host, of its host's segment | a port of the other host: of the other |
| DHCP and the metadata service answer on each segment | |
| a segment that is added is there, and gone when it is deleted | |
| a port with an address of a segment is on no host of another one | |
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from cloud import Cloud
from flows import Flow, Ping, Tcp, must_pass, must_stop
from openstack.exceptions import ConflictException
from tenants import Tenant
from test_metadata import Asks, introduce
from test_physical_networks import cable, machine

from trunkline.devices import namespace

pytestmark = pytest.mark.machine

VLANS = {"rack1": 2310, "rack2": 2320}
RANGES = {"rack1": ("10.1.0.0/24", "fd00:1::/64"), "rack2": ("10.2.0.0/24", "fd00:2::/64")}


def segment(name: str) -> dict[str, Any]:
    """What a network says of one of its segments."""
    return {
        "provider:network_type": "vlan",
        "provider:physical_network": name,
        "provider:segmentation_id": VLANS[name],
    }


class Scene:
    """a (h1) and c (h3) on one segment of a network, b (h2) on the other."""

    def __init__(self, tenant: Tenant) -> None:
        self.net = tenant.network(admin=True, segments=[segment(name) for name in VLANS])
        #: By physical network.
        self.segments = {s.physical_network: s for s in tenant.admin.segments(network_id=self.net.id)}
        for name, ranges in RANGES.items():
            for cidr in ranges:
                self.subnet(tenant, cidr, segment_id=self.segments[name].id)
        self.a, self.b, self.c = tenant.probes(self.net, "h1", "h2", "h3")

    def subnet(self, tenant: Tenant, cidr: str, **fields: Any) -> Any:
        """One more subnet, made by the operator."""
        made = tenant.admin.create_subnet(
            network_id=self.net.id,
            project_id=tenant.project_id,
            ip_version=6 if ":" in cidr else 4,
            cidr=cidr,
            **fields,
        )
        self.net.subnets.append(made)
        return made


@pytest.fixture(scope="module")
def scene(tenant: Tenant) -> Scene:
    """For all cases here; each leaves it as it was."""
    return Scene(tenant)


@contextlib.contextmanager
def router(cloud: Cloud) -> Iterator[None]:
    """A router on the physical networks, at the gateways of both segments."""
    netns = cloud.namespace("pr")
    namespace.create(netns)
    namespace.sysctl(netns, (("ipv4/ip_forward", 1), ("ipv6/conf/all/forwarding", 1)))
    try:
        with contextlib.ExitStack() as stack:
            for number, (name, vlan) in enumerate(VLANS.items(), 1):
                own = (f"10.{number}.0.1/24", f"fd00:{number}::1/64")
                leg = cable(cloud, netns, f"eth{number}", f"pr{number}", *own, vlan=vlan, switch=f"p-{name}")
                stack.enter_context(leg)
            yield
    finally:
        namespace.delete(netns)


def test_a_segment_reaches_across_its_hosts_and_no_others(scene: Scene) -> None:
    a, b, c = scene.a, scene.b, scene.c
    must_pass(Ping(a, c.v4, size=1500), Ping(c, a.v6, size=1500), Tcp(a, c, c.v4, 80))
    foreign: list[Flow] = [Ping(a, b.v4), Ping(b, a.v6), Ping(c, b.v4), Tcp(b, c, c.v4, 80)]
    must_stop(*foreign, control=Ping(a, c.v4))


def test_each_port_is_on_the_wire_of_its_hosts_segment(scene: Scene, cloud: Cloud) -> None:
    rack1, rack2 = {"vlan": 2310, "switch": "p-rack1"}, {"vlan": 2320, "switch": "p-rack2"}
    with (
        machine(cloud, "s1", "10.1.0.201/24", "10.2.0.202/24", **rack1) as first,
        machine(cloud, "s2", "10.2.0.201/24", "10.1.0.202/24", **rack2) as second,
        machine(cloud, "s3", "10.1.0.203/24", vlan=2320, switch="p-rack1") as other,
    ):
        must_pass(Ping(first, scene.a.v4, size=1500), Ping(second, scene.b.v4, size=1500))
        must_pass(Ping(scene.c, "10.1.0.201"), Tcp(scene.b, second, "10.2.0.201", 80))
        foreign: list[Flow] = [Ping(scene.a, "10.1.0.202"), Ping(second, scene.a.v4), Ping(first, scene.b.v4)]
        must_stop(*foreign, Ping(other, scene.a.v4), control=Ping(first, scene.c.v4))


def test_a_router_outside_joins_the_segments(scene: Scene, cloud: Cloud) -> None:
    a, b, c = scene.a, scene.b, scene.c
    across: list[Flow] = [Ping(a, b.v4, size=1500), Ping(b, c.v6), Tcp(c, b, b.v4, 80), Tcp(b, a, a.v4, 80)]
    with router(cloud):
        must_pass(*across)
    must_stop(*across, control=Ping(a, c.v4))


def test_a_port_gets_its_address_with_its_host(scene: Scene, tenant: Tenant) -> None:
    ports = [tenant.port(scene.net) for _ in range(2)]
    assert [(port.ip_allocation, port.fixed_ips) for port in ports] == [("deferred", [])] * 2
    for port, host, prefix in zip(ports, ("h3", "h2"), ("10.1.0.", "10.2.0."), strict=True):
        probe = tenant.adopt(scene.net, port, host)
        assert probe.v4.startswith(prefix)
        assert probe.port.ip_allocation == "immediate"
        tenant.ready(probe)
        assert probe.dhcp()["ip"] == probe.v4
        introduce(probe)
        must_pass(Asks(probe), Ping(probe, (scene.a if host == "h3" else scene.b).v4))


def test_a_port_with_addresses_of_a_segment_is_on_its_hosts_alone(scene: Scene, tenant: Tenant) -> None:
    port = tenant.port(scene.net, fixed_ips=[{"subnet_id": scene.net.subnets[2].id}])
    with pytest.raises(ConflictException, match="will function"):
        tenant.adopt(scene.net, port, "h1")
    probe = tenant.adopt(scene.net, port, "h2")
    tenant.ready(probe)
    must_pass(Ping(probe, scene.b.v4))


def test_a_segment_is_added_and_deleted(tenant: Tenant, cloud: Cloud) -> None:
    first = {"network_type": "vlan", "physical_network": "rack1", "segmentation_id": 2330}
    net = tenant.network("10.3.0.0/24", admin=True, **{f"provider_{name}": v for name, v in first.items()})
    a, b, c = tenant.probes(net, "h1", "h2", "h3")
    with machine(cloud, "s4", "10.3.0.201/24", vlan=2331, switch="p-rack2") as outside:
        must_stop(Ping(outside, b.v4), control=Ping(a, c.v4))
        second = {"network_type": "vlan", "physical_network": "rack2", "segmentation_id": 2331}
        added = tenant.admin.create_segment(network_id=net.id, **second)
        must_pass(Ping(outside, b.v4), Ping(a, c.v4))
        with pytest.raises(ConflictException, match="plugged in"):
            tenant.admin.delete_segment(added, ignore_missing=False)
        tenant.change(b, binding_host_id="")
        tenant.admin.delete_segment(added, ignore_missing=False)
    assert tenant.admin.get_network(net.id).provider_segmentation_id == 2330
    must_pass(Ping(c, a.v4))
