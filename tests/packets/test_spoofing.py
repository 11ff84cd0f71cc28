"""What a port may claim to be: forged frames stay where they are made.

Every forged frame is looked for on a port of the same host and on one of another host, neither of which
filters anything; a frame that is as it should be arrives there all the time.

| claim | and in reverse |
| --- | --- |
| forged MAC, IPv4, IPv6 and link-local sources are dropped | without port security; allowed address pairs |
| ARP that claims another address or MAC is dropped | the same |
| neighbour solicitations and advertisements that do are dropped | the same |
| router advertisements, redirects, DHCP and DHCPv6 servers are dropped | without port security |
| frames with one or two VLAN tags are dropped | on a VLAN transparent network |
| with port security back, all of it is dropped again | |
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import frames as f
import pytest
from agent_lab import checksum
from flows import Frame, Ping, must_pass, must_stop
from probes import Probe, link_local
from tenants import Tenant

pytestmark = pytest.mark.machine

EVERYONE, ALL_NODES = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"
ALL = "ff02::1"
OTHER = "fa:16:3e:66:66:66"
OTHER4, OTHER6, GATEWAY4, NOBODY4 = "10.0.0.66", "fd00:a::66", "10.0.0.1", "10.0.0.99"
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
UDP, ICMPV6 = 17, 58

#: What makes a frame from a (MAC, IPv4 and IPv6 address) to a port: given both, and a marker.
Build = Callable[[Probe, Probe, bytes], bytes]


def datagram4(a: Probe, to: Probe, marker: bytes, *, mac: str = "", source: str = "") -> bytes:
    """A UDP datagram of IPv4, a's own unless said otherwise."""
    source = source or a.v4
    body = f.udp((4000, 9), marker, source, to.v4)
    return f.ethernet(to.mac, mac or a.mac, IPV4, f.ipv4(source, to.v4, UDP, body))


def datagram6(a: Probe, to: Probe, marker: bytes, *, mac: str = "", source: str = "") -> bytes:
    """... of IPv6."""
    source = source or a.v6
    body = f.udp((4000, 9), marker, source, to.v6)
    return f.ethernet(to.mac, mac or a.mac, IPV6, f.ipv6(source, to.v6, UDP, body, hops=64))


def arp(operation: int, a: Probe, to: str, sender: tuple[str, str], target: tuple[str, str]) -> bytes:
    """ARP (RFC 826) from a's MAC address; sender and target are pairs of MAC and IPv4 address."""
    pairs = b"".join(f.mac(mac) + f.address(address) for mac, address in (sender, target))
    return f.ethernet(to, a.mac, ARP, struct.pack("!HHBBH", 1, IPV4, 6, 4, operation) + pairs)


def to_all(a: Probe, source: str, body: bytes, *, protocol: int = ICMPV6, mac: str = "") -> bytes:
    """An IPv6 packet to all nodes of the link."""
    return f.ethernet(ALL_NODES, mac or a.mac, IPV6, f.ipv6(source, ALL, protocol, body))


def dhcp_server(a: Probe, marker: bytes) -> bytes:
    """The datagram of an offer (RFC 2131), in IPv4 without its header."""
    offer = b"\x02\x01\x06\x00" + bytes(232) + b"\x63\x82\x53\x63" + marker
    return f.udp((67, 68), offer, a.v4, "255.255.255.255")


def fragmented_offer(a: Probe, to: Probe, marker: bytes) -> bytes:
    """The first fragment of an offer."""
    head = f.ipv4(a.v4, "255.255.255.255", UDP, dhcp_server(a, marker))
    flagged = head[:6] + struct.pack("!H", 0x2000) + head[8:10] + b"\0\0" + head[12:20]
    whole = flagged[:10] + struct.pack("!H", checksum(flagged)) + flagged[12:] + head[20:]
    return f.ethernet(EVERYONE, a.mac, IPV4, whole)


RA = b"\x40\x00\x07\x08" + bytes(8)
FORGED: dict[str, Build] = {
    "IPv4 from a forged MAC": lambda a, to, m: datagram4(a, to, m, mac=OTHER),
    "IPv6 from a forged MAC": lambda a, to, m: datagram6(a, to, m, mac=OTHER),
    "forged IPv4 source": lambda a, to, m: datagram4(a, to, m, source=OTHER4),
    "the gateway as IPv4 source": lambda a, to, m: datagram4(a, to, m, source=GATEWAY4),
    "forged IPv6 source": lambda a, to, m: datagram6(a, to, m, source=OTHER6),
    "forged link-local source": lambda a, to, m: datagram6(a, to, m, source=link_local(OTHER)),
    "ARP reply for the gateway": lambda a, to, m: arp(2, a, to.mac, (a.mac, GATEWAY4), (to.mac, to.v4)),
    "ARP reply for a stranger": lambda a, to, m: arp(2, a, to.mac, (a.mac, OTHER4), (to.mac, to.v4)),
    "ARP reply with a forged MAC": lambda a, to, m: arp(2, a, to.mac, (OTHER, a.v4), (to.mac, to.v4)),
    "gratuitous ARP for a stranger": lambda a, to, m: arp(
        1, a, EVERYONE, (a.mac, OTHER4), ("00:00:00:00:00:00", OTHER4)
    ),
    "ARP request of a stranger": lambda a, to, m: arp(
        1, a, EVERYONE, (a.mac, OTHER4), ("00:00:00:00:00:00", NOBODY4)
    ),
    "advertisement of a stranger's address": lambda a, to, m: to_all(
        a, a.v6, f.advertisement(OTHER6, a.v6, ALL, f.option(2, a.mac))
    ),
    "advertisement with a forged MAC": lambda a, to, m: to_all(
        a, a.v6, f.advertisement(a.v6, a.v6, ALL, f.option(2, OTHER))
    ),
    "solicitation with a forged MAC": lambda a, to, m: to_all(
        a, a.v6, f.solicitation("fd00:a::99", a.v6, ALL, f.option(1, OTHER))
    ),
    "solicitation of a stranger": lambda a, to, m: to_all(
        a, OTHER6, f.solicitation("fd00:a::99", OTHER6, ALL, f.option(1, a.mac))
    ),
    "router advertisement": lambda a, to, m: to_all(
        a, link_local(a.mac), f.icmp6(134, RA, link_local(a.mac), ALL)
    ),
    "redirect": lambda a, to, m: to_all(
        a, link_local(a.mac), f.icmp6(137, bytes(36), link_local(a.mac), ALL)
    ),
    "DHCP server": lambda a, to, m: f.ethernet(
        EVERYONE, a.mac, IPV4, f.ipv4(a.v4, "255.255.255.255", UDP, dhcp_server(a, m))
    ),
    "DHCP server in a fragment": fragmented_offer,
    "DHCPv6 server": lambda a, to, m: to_all(
        a,
        link_local(a.mac),
        f.udp((547, 546), b"\x02\0\0\x01" + m, link_local(a.mac), ALL),
        protocol=UDP,
    ),
}
TAGGED: dict[str, tuple[tuple[int, int], ...]] = {
    "a VLAN tag": ((0x8100, 7),),
    "a VLAN tag of priority alone": ((0x8100, 0),),
    "two VLAN tags": ((0x88A8, 7), (0x8100, 8)),
    "two VLAN tags of the old kind": ((0x8100, 7), (0x8100, 8)),
}


@dataclass
class Scene:
    """a sends; b on the same host and c on another one hear everything."""

    tenant: Tenant
    a: Probe
    b: Probe
    c: Probe

    def frames(self, name: str, build: Build) -> list[Frame]:
        """A frame to b and one to c."""
        return [Frame(self.a, to, partial(build, self.a, to), name) for to in (self.b, self.c)]

    @property
    def honest(self) -> Frame:
        return self.frames("honest datagram", datagram4)[1]


@pytest.fixture(scope="module")
def scene(tenant: Tenant) -> Scene:
    """For all cases here; each leaves it as it was."""
    net = tenant.network("10.0.0.0/24", "fd00:a::/64")
    a = tenant.probe(net, "h1")
    b, c = (tenant.probe(net, host, port_security_enabled=False) for host in ("h1", "h2"))
    tenant.ready(a, b, c)
    return Scene(tenant, a, b, c)


@pytest.mark.parametrize("what", FORGED)
def test_it_is_dropped(scene: Scene, what: str) -> None:
    must_stop(*scene.frames(what, FORGED[what]), control=scene.honest)


def test_without_port_security_all_of_it_passes_until_it_is_back(scene: Scene) -> None:
    everything = [frame for name, build in FORGED.items() for frame in scene.frames(name, build)]
    with scene.tenant.trusted(scene.a):
        must_pass(*everything)
    must_stop(*everything, control=scene.honest)


def test_what_is_honest_passes(scene: Scene) -> None:
    honest: dict[str, Build] = {
        "IPv4": datagram4,
        "IPv6": datagram6,
        "link-local": lambda a, to, m: datagram6(a, to, m, source=link_local(a.mac)),
        "ARP reply": lambda a, to, m: arp(2, a, to.mac, (a.mac, a.v4), (to.mac, to.v4)),
        "advertisement": lambda a, to, m: to_all(
            a, a.v6, f.advertisement(a.v6, a.v6, ALL, f.option(2, a.mac))
        ),
        "advertisement of the link-local address": lambda a, to, m: to_all(
            a,
            link_local(a.mac),
            f.advertisement(link_local(a.mac), link_local(a.mac), ALL, f.option(2, a.mac)),
        ),
        "solicitation": lambda a, to, m: to_all(
            a, a.v6, f.solicitation("fd00:a::99", a.v6, ALL, f.option(1, a.mac))
        ),
    }
    must_pass(*(frame for name, build in honest.items() for frame in scene.frames(name, build)))


def test_allowed_pairs_pass_and_nothing_else(scene: Scene) -> None:
    allowed = (
        *("forged IPv4 source", "forged IPv6 source", "ARP reply for a stranger"),
        *("advertisement of a stranger's address", "gratuitous ARP for a stranger"),
        "IPv4 from a forged MAC",
    )
    pairs = [
        {"ip_address": OTHER4},
        {"ip_address": OTHER6},
        {"ip_address": "10.0.0.0/26", "mac_address": OTHER},
    ]
    passing = [frame for name in allowed for frame in scene.frames(name, FORGED[name])]
    rest = [
        frame
        for name in ("the gateway as IPv4 source", "forged link-local source", "IPv6 from a forged MAC")
        for frame in scene.frames(name, FORGED[name])
    ]
    with scene.tenant.changed(scene.a.port, allowed_address_pairs=pairs):
        must_pass(*passing)
        must_stop(*rest, control=scene.honest)
    must_stop(*passing, control=scene.honest)


def test_who_takes_an_address_is_not_heard(scene: Scene) -> None:
    with scene.a.address(f"{OTHER4}/24"), scene.a.address(f"{OTHER6}/64"):
        taken = [Ping(scene.a, scene.c.v4, source=OTHER4), Ping(scene.a, scene.c.v6, source=OTHER6)]
        must_stop(*taken, control=Ping(scene.a, scene.c.v4, source=scene.a.v4))
        pairs = [{"ip_address": OTHER4}, {"ip_address": OTHER6}]
        with scene.tenant.changed(scene.a.port, allowed_address_pairs=pairs):
            must_pass(*taken)


def tagged(tags: tuple[tuple[int, int], ...]) -> Build:
    """An honest datagram behind these tags."""

    def build(a: Probe, to: Probe, marker: bytes) -> bytes:
        plain = datagram4(a, to, marker)
        return f.ethernet(to.mac, a.mac, IPV4, plain[14:], *tags)

    return build


@pytest.mark.parametrize("tags", TAGGED)
def test_tags_are_dropped(scene: Scene, tags: str) -> None:
    must_stop(*scene.frames(tags, tagged(TAGGED[tags])), control=scene.honest)


def test_tags_are_dropped_without_port_security_too(scene: Scene) -> None:
    everything = [frame for name, tags in TAGGED.items() for frame in scene.frames(name, tagged(tags))]
    with scene.tenant.trusted(scene.a):
        must_pass(*scene.frames("forged", FORGED["forged IPv4 source"]))
        must_stop(*everything, control=scene.honest)


def test_on_a_transparent_network_tags_pass_but_not_forged_macs(tenant: Tenant) -> None:
    net = tenant.network("10.0.0.0/24", vlan_transparent=True)
    a, b = tenant.probe(net, "h1"), tenant.probe(net, "h2", port_security_enabled=False)
    tenant.ready(a, b)
    scene = Scene(tenant, a, b, b)
    must_pass(*(frame for name, tags in TAGGED.items() for frame in scene.frames(name, tagged(tags))))

    def forged(a: Probe, to: Probe, marker: bytes) -> bytes:
        return f.ethernet(to.mac, OTHER, IPV4, datagram4(a, to, marker)[14:], (0x8100, 7))

    must_stop(*scene.frames("forged MAC behind a tag", forged), control=scene.honest)
