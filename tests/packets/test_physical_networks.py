"""Networks that are on a physical network: flat, and VLANs of it.

Machines of the physical network are made for the cases: each a namespace with a cable into the lab's
physical switch, on a port of one VLAN, or on one that shows all tags.

| claim | and in reverse |
| --- | --- |
| ports of a VLAN network reach each other across hosts, with the whole frame size | |
| they reach machines of that VLAN, both ways | machines of another VLAN, and untagged, not |
| on the wire their frames have the network's tag | |
| ... or the tag of a service, where the network is QinQ, and guests' tags pass inside | an ordinary VLAN |
| a VLAN network is apart from another one, and filtered like any | the port's group lets them in |
| a router joins a VLAN network and one of the overlay | interface removed |
| a port of the flat external network is a machine beside the outside router | admin_state_up false |
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from cloud import Cloud
from flows import Flow, Frame, Ping, Tcp, must_pass, must_stop
from frames import ethernet, ipv4, udp
from probes import Space
from tenants import Net, Tenant

from trunkline.devices import namespace

pytestmark = pytest.mark.machine

VLAN, OTHER_VLAN, QINQ_VLAN = 2100, 2101, 2102
#: Types of tags: of a service, of a customer (IEEE Std 802.1Q, table 9-1).
SERVICE, CUSTOMER = 0x88A8, 0x8100


@contextlib.contextmanager
def machine(
    cloud: Cloud, name: str, *addresses: str, vlan: int | None = None, switch: str = "phys"
) -> Iterator[Space]:
    """A machine on a physical switch; without a VLAN its port shows the frames of all, with their tags."""
    netns = cloud.namespace(name)
    namespace.create(netns)
    try:
        with cable(cloud, netns, "eth0", name, *addresses, vlan=vlan, switch=switch):
            yield Space(netns, name=f"machine {name}")
    finally:
        namespace.delete(netns)


@contextlib.contextmanager
def cable(
    cloud: Cloud, netns: str, device: str, name: str, *addresses: str, vlan: int | None, switch: str
) -> Iterator[None]:
    """A cable from a machine to a physical switch."""
    underlay = cloud.namespace("u")
    command = ("ovs-vsctl", f"--db=unix:{cloud.state.host('u')}/db.sock", "--timeout=10")
    namespace.ip(netns, f"link add name {device} type veth peer name p-{name} netns {underlay}")
    namespace.checksums_in_software(netns, device)
    lines = (f"address add {a} dev {device} nodad" for a in addresses)
    namespace.ip(netns, f"link set dev {device} up", *lines)
    namespace.ip(underlay, f"link set dev p-{name} up")
    tag = (f"tag={vlan}",) if vlan else ()
    subprocess.run([*command, "add-port", switch, f"p-{name}", *tag], check=True, timeout=20)
    try:
        yield
    finally:
        subprocess.run([*command, "del-port", switch, f"p-{name}"], check=True, timeout=20)
        # Links of a namespace that is deleted go some time later: the next one may have the same name.
        namespace.ip(underlay, f"link del dev p-{name}")


def vlan_network(tenant: Tenant, vlan: int, *ranges: str, **more: Any) -> Net:
    """A network of that VLAN."""
    return tenant.network(
        *ranges,
        admin=True,
        provider_network_type="vlan",
        provider_physical_network="physnet1",
        provider_segmentation_id=vlan,
        **more,
    )


class Scene:
    """a (h1) and b (h2) on a VLAN network."""

    def __init__(self, tenant: Tenant) -> None:
        self.net = vlan_network(tenant, VLAN, "10.0.0.0/24", "fd00:a::/64")
        self.a, self.b = tenant.probes(self.net, "h1", "h2")


@pytest.fixture(scope="module")
def scene(tenant: Tenant) -> Scene:
    """For all cases here; each leaves it as it was."""
    return Scene(tenant)


def test_a_vlan_reaches_across_hosts_with_the_whole_frame_size(scene: Scene) -> None:
    a, b = scene.a, scene.b
    assert scene.net.mtu == 1500
    must_pass(Ping(a, b.v4, size=1500), Ping(a, b.v6, size=1500), Tcp(a, b, b.v4, 80), Tcp(b, a, a.v6, 80))


def test_a_vlan_reaches_its_machines_and_no_others(scene: Scene, cloud: Cloud) -> None:
    a, b = scene.a, scene.b
    own, others = ("10.0.0.201/24", "fd00:a::201/64"), ("10.0.0.202/24", "fd00:a::202/64")
    with (
        machine(cloud, "v1", *own, vlan=VLAN) as inside,
        machine(cloud, "v2", *others, vlan=OTHER_VLAN) as other,
        machine(cloud, "v3", "10.0.0.203/24") as untagged,
    ):
        must_pass(Ping(inside, a.v4, size=1500), Ping(inside, b.v6, size=1500), Tcp(inside, b, b.v4, 80))
        must_pass(Ping(b, "10.0.0.201"), Ping(a, "fd00:a::201"), Tcp(a, inside, "10.0.0.201", 80))
        foreign: list[Flow] = [Ping(other, a.v4), Ping(other, b.v6), Ping(untagged, a.v4)]
        foreign += [Ping(a, "10.0.0.202"), Ping(b, "fd00:a::202"), Ping(b, "10.0.0.203")]
        must_stop(*foreign, control=Ping(inside, a.v4))


def test_on_the_wire_frames_have_the_tag_of_their_network(scene: Scene, cloud: Cloud) -> None:
    with machine(cloud, "v4") as wire:

        def seen(vlan: int) -> Frame:
            def build(marker: bytes) -> bytes:
                everyone = "ff:ff:ff:ff:ff:ff"
                body = udp((4000, 9), marker, scene.a.v4, "10.0.0.255")
                return ethernet(everyone, scene.a.mac, 0x0800, ipv4(scene.a.v4, "10.0.0.255", 17, body))

            return Frame(scene.a, wire, build, f"frame in VLAN {vlan}", vlan=vlan)

        must_pass(seen(VLAN))
        must_stop(seen(OTHER_VLAN), seen(0), control=seen(VLAN))


def test_a_services_tag_has_guests_tags_inside(tenant: Tenant, cloud: Cloud) -> None:
    net = vlan_network(tenant, QINQ_VLAN, "10.0.0.0/24", qinq=True)
    a, b = tenant.probes(net, "h1", "h2")

    def sent(at: Space, name: str, *tags: tuple[int, int], vlan: int | None = None, kind: int = 0) -> Frame:
        def build(marker: bytes) -> bytes:
            body = udp((4000, 9), marker, a.v4, "10.0.0.255")
            packet = ipv4(a.v4, "10.0.0.255", 17, body)
            return ethernet("ff:ff:ff:ff:ff:ff", a.mac, 0x0800, packet, *tags)

        return Frame(a, at, build, name, vlan=vlan, kind=kind)

    inner = (CUSTOMER, 7)
    with machine(cloud, "v6") as wire, tenant.trusted(b):
        must_pass(
            Ping(a, b.v4, size=1500),
            sent(wire, "a frame in the service's VLAN", vlan=QINQ_VLAN, kind=SERVICE),
            sent(wire, "a tagged frame in the service's VLAN", inner, vlan=QINQ_VLAN, kind=SERVICE),
            sent(b, "a tagged frame", inner),
        )
        plain = sent(wire, "a frame in a customer's VLAN", vlan=QINQ_VLAN, kind=CUSTOMER)
        must_stop(plain, control=sent(wire, "in a service's", vlan=QINQ_VLAN, kind=SERVICE))


def test_vlans_are_apart(scene: Scene, tenant: Tenant) -> None:
    net = vlan_network(tenant, OTHER_VLAN, "10.0.0.0/24")
    c, d = tenant.probes(net, "h1", "h2")
    must_stop(Tcp(scene.a, d, d.v4, 80), Tcp(c, scene.b, scene.b.v4, 80), control=Tcp(c, d, d.v4, 80))


def test_a_vlan_is_filtered_like_any_network(scene: Scene, tenant: Tenant, cloud: Cloud) -> None:
    ssh = {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22}
    filtered = tenant.probes(scene.net, "h3", security_groups=[tenant.group(ssh).id])[0]
    with machine(cloud, "v5", "10.0.0.205/24", vlan=VLAN) as inside:
        web = Tcp(inside, filtered, filtered.v4, 80)
        must_pass(Tcp(inside, filtered, filtered.v4, 22))
        must_stop(web, Ping(inside, filtered.v4), control=Tcp(inside, filtered, filtered.v4, 22))
        tenant.change(filtered, security_groups=[tenant.anything.id])
        must_pass(web, Ping(inside, filtered.v4))


def test_a_router_joins_a_vlan_and_the_overlay(scene: Scene, tenant: Tenant) -> None:
    overlay = tenant.network("10.0.7.0/24")
    router = tenant.router(scene.net, overlay)
    probes = [tenant.probe(overlay, host) for host in ("h1", "h3")]
    tenant.ready(*probes)
    must_pass(*(Ping(inner, scene.b.v4) for inner in probes), *(Ping(scene.a, p.v4) for p in probes))
    tenant.api.remove_interface_from_router(router, subnet_id=scene.net.subnets[0].id)
    must_stop(*(Ping(inner, scene.b.v4) for inner in probes), control=Ping(scene.a, scene.b.v4))


def test_a_port_of_the_external_network_is_beside_the_router(
    tenant: Tenant, internet: Space, outside_router: Space
) -> None:
    subnets = [tenant.admin.get_subnet(id) for id in tenant.public.subnet_ids]
    public = Net(tenant.public, subnets)
    a, b = tenant.probes(public, "h1", "h2")
    must_pass(
        Ping(outside_router, a.v4), Ping(internet, b.v4), Ping(internet, a.v6), Ping(a, b.v4, size=1500)
    )
    must_pass(Ping(a, "198.51.100.10"), Tcp(internet, b, b.v6, 80))
    with tenant.changed(a.port, is_admin_state_up=False):
        must_stop(Ping(internet, a.v4), Ping(a, "198.51.100.10"), control=Ping(internet, b.v4))
