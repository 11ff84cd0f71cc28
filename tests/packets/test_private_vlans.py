"""Private VLANs: ports of one network that are kept apart (RFC 5517).

| claim | and in reverse |
| --- | --- |
| promiscuous ports reach all, and all reach them | isolated ports reach none but these |
| a community reaches itself | no other, and nothing that is isolated |
| ... on the overlay and on a VLAN, on one host and on two, ARP included | |
| security groups hold among those that reach each other | |
| the router and DHCP reach isolated ports | |
| a type that is changed holds at once | |
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from flows import Flow, Frame, Ping, Udp, must_pass, must_stop
from frames import ethernet
from probes import Probe
from tenants import Tenant

pytestmark = pytest.mark.machine

RANGES = ("10.0.0.0/24", "fd00:a::/64")
VLAN = {
    "admin": True,
    "provider_network_type": "vlan",
    "provider_physical_network": "physnet1",
    "provider_segmentation_id": 2110,
}
#: Each port: its host, and its community; "" for isolated, None for promiscuous.
PORTS = {
    "open": ("h1", None),
    "alone": ("h1", ""),
    "alone too": ("h2", ""),
    "one": ("h1", "one"),
    "one too": ("h2", "one"),
    "two": ("h1", "two"),
}


def private(community: str | None) -> dict[str, str | None]:
    """The fields of a port."""
    if community is None:
        return {"pvlan_type": "promiscuous", "pvlan_community": None}
    kind = "community" if community else "isolated"
    return {"pvlan_type": kind, "pvlan_community": community or None}


class Scene:
    """A network with the ports above, and a router on it."""

    def __init__(self, tenant: Tenant, **fields: object) -> None:
        self.tenant = tenant
        self.net = tenant.network(*RANGES, pvlan=True, **fields)
        self.router = tenant.router(self.net)
        self.ports = {
            name: tenant.probe(self.net, host, name=name, **private(community))
            for name, (host, community) in PORTS.items()
        }
        tenant.ready(*self.ports.values())

    def pairs(self) -> Iterator[tuple[Probe, Probe, bool]]:
        """All pairs, with whether the one reaches the other."""
        for one, (_, own) in PORTS.items():
            for other, (_, their) in PORTS.items():
                if one != other:
                    reached = own is None or their is None or (own == their and own != "")
                    yield self.ports[one], self.ports[other], reached

    @contextlib.contextmanager
    def now(self, port: str, community: str | None) -> Iterator[Probe]:
        """A port is of another type in the block."""
        self._set(port, community)
        try:
            yield self.ports[port]
        finally:
            self._set(port, PORTS[port][1])

    def _set(self, port: str, community: str | None) -> None:
        where = f"/ports/{self.ports[port].port.id}"
        reply = self.tenant.admin.put(where, json={"port": private(community)})
        assert reply.status_code == 200, reply.text


@pytest.fixture(scope="module")
def scene(tenant: Tenant) -> Scene:
    return Scene(tenant)


def both(one: Probe, other: Probe) -> list[Flow]:
    """Datagrams by both families, their answers not looked at."""
    return [Udp(one, other, to, 7, answered=False) for to in (other.v4, other.v6)]


def question(one: Probe, other: Probe) -> Frame:
    """A question by ARP to everybody, for an address that nobody has (RFC 826)."""

    def build(marker: bytes) -> bytes:
        mac = bytes.fromhex(one.mac.replace(":", ""))
        asked = (
            b"\0\1\x08\0\6\4\0\1"
            + mac
            + bytes(map(int, one.v4.split(".")))
            + bytes(6)
            + bytes([10, 0, 0, 250])
        )
        return ethernet("ff:ff:ff:ff:ff:ff", one.mac, 0x0806, asked + marker)

    return Frame(one, other, build, "an ARP question")


def compare(scene: Scene) -> None:
    pairs = list(scene.pairs())
    must_pass(*(flow for one, other, reached in pairs if reached for flow in both(one, other)))
    apart = [flow for one, other, reached in pairs if not reached for flow in both(one, other)]
    assert len(apart) == 2 * 18
    must_stop(*apart, control=Ping(scene.ports["alone"], scene.ports["open"].v4))


def test_all_pairs_on_the_overlay(scene: Scene) -> None:
    compare(scene)


def test_all_pairs_on_a_vlan(tenant: Tenant) -> None:
    compare(Scene(tenant, **VLAN))


def test_questions_to_everybody_reach_those_alone_that_may_be_reached(scene: Scene) -> None:
    pairs = list(scene.pairs())
    must_pass(*(question(one, other) for one, other, reached in pairs if reached))
    apart = [question(one, other) for one, other, reached in pairs if not reached]
    must_stop(*apart, control=question(scene.ports["alone"], scene.ports["open"]))


def test_router_and_dhcp_reach_an_isolated_port(scene: Scene) -> None:
    alone = scene.ports["alone"]
    must_pass(Ping(alone, "10.0.0.1"), Ping(alone, "fd00:a::1"))
    assert alone.dhcp()["ip"] == alone.v4


def test_a_type_that_is_changed_holds_at_once(scene: Scene) -> None:
    ports = scene.ports
    alone, too, one = ports["alone"], ports["alone too"], ports["one"]
    with scene.now("alone too", None):
        must_pass(*both(alone, too), *both(too, alone))
    must_stop(*both(alone, too), *both(too, alone), control=Ping(alone, ports["open"].v4))
    with scene.now("alone too", "one"):
        must_pass(*both(one, too), *both(too, one))
        must_stop(*both(alone, too), control=Ping(too, one.v4))
    must_stop(*both(one, too), control=Ping(one, ports["one too"].v4))


def test_security_groups_hold_among_those_that_reach_each_other(scene: Scene) -> None:
    one, too = scene.ports["one"], scene.ports["one too"]
    closed = scene.tenant.group()
    with scene.tenant.changed(too.port, security_group_ids=[closed.id]):
        must_stop(*both(one, too), control=Ping(one, scene.ports["open"].v4))
    must_pass(*both(one, too))
