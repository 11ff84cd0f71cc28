"""Inside a network, and between networks.

| claim | and in reverse |
| --- | --- |
| ports of one network reach each other, on one host and on two | port or network down, port deleted: none |
| broadcast and multicast frames reach every port of their network | ... and none of another one |
| networks are apart, even with equal addresses, and so are those of two projects | each reaches its own |
| the largest packet that the network's mtu allows crosses hosts whole | one byte more does not |
| a port moves at once to a host that it was prepared on | ... where nothing of it passed before |
| a MAC and an address that move to another host are found there | ... and no longer where they were |
"""

from __future__ import annotations

import pytest
from flows import SOON, Frame, Ping, Tcp, Udp, must_pass, must_stop
from frames import ethernet
from probes import Probe, wait_for
from tenants import Tenant

pytestmark = pytest.mark.machine

EVERYONE, GROUP = "ff:ff:ff:ff:ff:ff", "33:33:00:00:12:34"
#: An Ethernet type for experiments (IEEE Std 802), which no filter of IP knows.
EXPERIMENT = 0x88B5
RANGES = ("10.0.0.0/24", "fd00:a::/64")


class Scene:
    """A network with a and b on host h1 and c on h2; another one of the same ranges with d on h1."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.net, self.other = tenant.network(*RANGES), tenant.network(*RANGES)
        self.a, self.b, self.c = (tenant.probe(self.net, host) for host in ("h1", "h1", "h2"))
        self.d = tenant.probe(self.other, "h1")
        tenant.ready(self.a, self.b, self.c, self.d)


@pytest.fixture(scope="module")
def scene(tenant: Tenant) -> Scene:
    """For all cases here; each leaves it as it was."""
    return Scene(tenant)


def pings(source: Probe, target: Probe) -> list[Ping]:
    """By both families."""
    return [Ping(source, target.v4), Ping(source, target.v6)]


def test_ports_reach_each_other_on_a_host(scene: Scene) -> None:
    a, b = scene.a, scene.b
    must_pass(
        *pings(a, b), Tcp(a, b, b.v4, 80), Tcp(a, b, b.v6, 80), Udp(a, b, b.v4, 53), Udp(a, b, b.v6, 53)
    )


def test_ports_reach_each_other_across_hosts(scene: Scene) -> None:
    a, c = scene.a, scene.c
    must_pass(
        *pings(a, c), Tcp(a, c, c.v4, 80), Tcp(c, a, a.v6, 80), Udp(a, c, c.v4, 53), Udp(c, a, a.v6, 53)
    )


def test_link_local_addresses_reach_each_other(scene: Scene) -> None:
    a, b, c = scene.a, scene.b, scene.c
    for probe in (a, b, c):
        probe.forget_neighbours()
    must_pass(*(Ping(one, other.link_local) for one, other in ((a, b), (a, c), (c, b))))


@pytest.mark.parametrize("destination", [EVERYONE, GROUP])
def test_frames_to_many_stay_in_their_network(scene: Scene, destination: str) -> None:
    def frame(at: Probe) -> Frame:
        return Frame(
            scene.a, at, lambda marker: ethernet(destination, scene.a.mac, EXPERIMENT, marker), "frame"
        )

    with scene.tenant.trusted(scene.a, scene.b, scene.c, scene.d):
        must_pass(frame(scene.b), frame(scene.c))
        must_stop(frame(scene.d), control=frame(scene.c))


def test_networks_with_equal_addresses_are_apart(scene: Scene) -> None:
    # What has the address 10.0.0.x is the port of one's own network, where there is one.
    a, c, d = scene.a, scene.c, scene.d
    must_stop(Udp(a, d, d.v4, 7), Udp(a, d, d.v6, 7), control=Udp(a, c, c.v4, 7))


def test_projects_with_equal_addresses_are_apart(tenant: Tenant, stranger: Tenant) -> None:
    places = [("h1", "10.0.0.11", "fa:16:3e:00:00:11"), ("h2", "10.0.0.12", "fa:16:3e:00:00:12")]
    pairs = []
    for owner in (tenant, stranger):
        net = owner.network("10.0.0.0/24")
        pair = [
            owner.probe(net, host, mac_address=mac, fixed_ips=[{"ip_address": address}])
            for host, address, mac in places
        ]
        owner.ready(*pair)
        pairs.append(pair)
    (a, b), (other_a, other_b) = pairs
    must_pass(Udp(a, b, b.v4, 7), Udp(other_a, other_b, b.v4, 7))
    must_stop(Udp(a, other_b, b.v4, 7), control=Udp(a, b, b.v4, 7))
    must_stop(Udp(other_a, b, b.v4, 7), control=Udp(other_a, other_b, b.v4, 7))
    # And what the one takes away, the other keeps.
    tenant.remove(b)
    must_stop(Ping(a, b.v4), control=Ping(other_a, b.v4))


def test_a_port_that_is_down_forwards_nothing(scene: Scene) -> None:
    a, b, c = scene.a, scene.b, scene.c
    with scene.tenant.changed(c.port, is_admin_state_up=False):
        must_stop(*pings(a, c), *pings(c, a), control=Ping(a, b.v4))
    must_pass(*pings(a, c), *pings(c, a))


def test_a_network_that_is_down_forwards_nothing(scene: Scene, tenant: Tenant) -> None:
    other = tenant.probes(scene.other, "h2")[0]
    must_pass(*pings(scene.d, other))
    with tenant.changed(scene.other.network, is_admin_state_up=False):
        must_stop(*pings(scene.d, other), control=Ping(scene.a, scene.c.v4))
    must_pass(*pings(scene.d, other))


@pytest.mark.parametrize("asked", [0, 1300])
def test_the_largest_packet_crosses_hosts(tenant: Tenant, asked: int) -> None:
    net = tenant.network(*RANGES, mtu=asked)
    mtu = asked or net.mtu
    a, b = tenant.probes(net, "h1", "h2")
    assert (net.mtu, a.interface()["mtu"]) == (mtu, mtu)
    must_pass(Ping(a, b.v4, size=mtu), Ping(a, b.v6, size=mtu))
    too_large = (Ping(a, b.v4, size=mtu + 1), Ping(a, b.v6, size=mtu + 1))
    must_stop(*too_large, control=Ping(a, b.v4, size=mtu))


def test_a_mac_and_its_address_are_found_where_they_move(scene: Scene) -> None:
    tenant, a = scene.tenant, scene.a
    same = {"mac_address": "fa:16:3e:00:00:77", "fixed_ips": [{"ip_address": "10.0.0.77"}]}
    before = tenant.probes(scene.net, "h1", **same)[0]
    must_pass(Ping(a, before.v4), Ping(scene.c, before.v4))
    tenant.remove(before)
    must_stop(Ping(a, before.v4), control=Ping(a, scene.b.v4))
    after = tenant.probes(scene.net, "h2", **same)[0]
    must_pass(Ping(a, after.v4), Ping(scene.c, after.v4))
    tenant.remove(after)
    must_stop(Ping(scene.c, after.v4), control=Ping(scene.c, scene.b.v4))


def test_a_port_is_found_where_its_binding_moves(scene: Scene) -> None:
    tenant, a = scene.tenant, scene.a
    moved = tenant.probes(scene.net, "h1")[0]
    must_pass(*pings(a, moved))
    tenant.move(moved, "h3")
    tenant.ready(moved)
    must_pass(*pings(a, moved), *pings(scene.c, moved))


def test_a_port_moves_to_the_host_that_it_was_prepared_on(scene: Scene) -> None:
    tenant, a = scene.tenant, scene.a
    moved = tenant.probes(scene.net, "h1")[0]
    must_pass(*pings(a, moved))
    where = f"/ports/{moved.port.id}/bindings"
    assert tenant.admin.post(where, json={"binding": {"host": "h3"}}).status_code == 201
    there = tenant.prepared(moved, "h3")
    wait_for(there.attached, SOON, "it is plugged in on h3 too")
    there.configure()
    # The network behind knows one place of it: the other one neither takes its packets nor sends any.
    must_stop(Ping(there, a.v4), control=Ping(moved, a.v4))
    assert tenant.admin.put(f"{where}/h3/activate").status_code == 200
    must_pass(*pings(a, there), *pings(scene.c, there))
    must_stop(Ping(moved, a.v4), control=Ping(there, a.v4))
    assert tenant.admin.delete(f"{where}/h1").status_code == 204
    wait_for(lambda: not moved.attached(), SOON, "it is plugged in on h3 alone")
