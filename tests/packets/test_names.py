"""The names of a network's hosts, as the hosts resolve them, and what DHCP tells of them.

| claim | and in reverse |
| --- | --- |
| names of the own network resolve on every host, both ways, by UDP and TCP, in both families | |
| a port that is renamed or deleted is not found by its old name | |
| names of another network are not told, nor names of the world | a subnet that publishes, a floating IP |
| who may not send to port 53 does not get to the service either | |
| what looks like an answer comes to nobody who lets nothing in | who lets it in |
| DHCP and router advertisements tell service, domain and name | the subnet has servers of its own |
| a flood leaves the service to others, and goes unanswered mostly | |
| who asks from elsewhere is not answered | |
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time

import dns.message
import dns.rcode
import dns.reversename
import pytest
from flows import PATIENCE, SOON, Udp, must_pass, must_stop
from probes import Probe, Space, wait_for
from tenants import Net, Tenant

from trunkline.agent.resolver import ANSWERED

pytestmark = pytest.mark.machine

RANGES = ("10.7.0.0/24", "fd00:7::/64")
DOMAIN = "lab.example."


class Asks:
    """A question of a probe to a name service, and its answer: contents of records, or a code."""

    def __init__(self, probe: Space, server: str, name: str, kind: str = "A", *, tcp: bool = False) -> None:
        self.probe, self.server, self.tcp = probe, server, tcp
        self.query = dns.message.make_query(name, kind)
        self.answer: set[str] | str = ""

    def __repr__(self) -> str:
        how = "TCP" if self.tcp else "UDP"
        return f"{self.probe} asks {self.server} by {how}: {self.query.question}, and was told {self.answer}"

    def once(self) -> bool:
        family = socket.AF_INET6 if ":" in self.server else socket.AF_INET
        kind = socket.SOCK_STREAM if self.tcp else socket.SOCK_DGRAM
        wire = self.query.to_wire()
        with self.probe.open(family, kind) as client:
            client.settimeout(PATIENCE)
            try:
                client.connect((self.server, 53))
                client.sendall(struct.pack("!H", len(wire)) + wire if self.tcp else wire)
                reply = dns.message.from_wire(self._read(client))
            except OSError:
                return False
        assert self.query.is_response(reply)
        found = {rdata.to_text() for rrset in reply.answer for rdata in rrset}
        self.answer = found or dns.rcode.to_text(reply.rcode())
        return True

    def _read(self, client: socket.socket) -> bytes:
        if not self.tcp:
            return client.recv(65535)
        with client.makefile("rb") as stream:
            (length,) = struct.unpack("!H", stream.read(2))
            return stream.read(length)


def told(probe: Probe, server: str, name: str, kind: str = "A", *, tcp: bool = False) -> set[str] | str:
    """What a question is answered with."""
    asked = Asks(probe, server, name, kind, tcp=tcp)
    must_pass(asked)
    return asked.answer


def turns(
    probe: Probe, server: str, name: str, expected: set[str] | str, kind: str = "A", *, tcp: bool = False
) -> None:
    """A name is soon answered so."""
    wait_for(lambda: told(probe, server, name, kind, tcp=tcp) == expected, SOON, f"{name} is {expected}")


def service(tenant: Tenant, net: Net) -> tuple[str, str]:
    """The addresses of a network's name service, IPv4 and IPv6."""
    (port,) = tenant.admin.ports(network_id=net.id, device_owner="network:distributed")
    addresses = sorted((f["ip_address"] for f in port.fixed_ips), key=lambda a: ":" in a)
    return addresses[0], addresses[-1]


class Scene:
    """A network with web (h1) and data (h2), and another one of the same project with other (h1)."""

    def __init__(self, tenant: Tenant) -> None:
        self.net = tenant.network(*RANGES, dns_domain=DOMAIN)
        self.far = tenant.network("10.8.0.0/24", dns_domain="far.example.")
        self.web = tenant.probe(self.net, "h1", dns_name="web")
        self.data = tenant.probe(self.net, "h2", dns_name="data")
        self.other = tenant.probe(self.far, "h1", dns_name="other")
        tenant.ready(self.web, self.data, self.other)
        self.v4, self.v6 = service(tenant, self.net)
        self.far4, _ = service(tenant, self.far)


@pytest.fixture(scope="module")
def scene(tenant: Tenant) -> Scene:
    """For all cases here; each leaves it as it was."""
    return Scene(tenant)


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("family", [4, 6])
def test_names_of_the_own_network_resolve_on_every_host(scene: Scene, family: int, tcp: bool) -> None:
    server = scene.v4 if family == 4 else scene.v6
    for probe in (scene.web, scene.data):
        for name in ("web", f"web.{DOMAIN}", f"WEB.{DOMAIN}"):
            turns(probe, server, name, {scene.web.v4}, tcp=tcp)
        turns(probe, server, f"data.{DOMAIN}", {scene.data.v6}, "AAAA", tcp=tcp)
        for address in scene.data.addresses:
            pointer = dns.reversename.from_address(address).to_text()
            turns(probe, server, pointer, {f"data.{DOMAIN}"}, "PTR", tcp=tcp)


def test_what_the_api_assigns_is_what_resolves(tenant: Tenant, scene: Scene) -> None:
    unnamed = tenant.probe(scene.net)
    tenant.ready(unnamed)
    for probe in (scene.web, unnamed):
        for assigned in probe.port.dns_assignment:
            kind = "AAAA" if ":" in assigned["ip_address"] else "A"
            for name in (assigned["fqdn"], assigned["hostname"]):
                turns(scene.data, scene.v4, name, {assigned["ip_address"]}, kind)


def test_a_port_that_is_renamed_or_deleted_is_not_found_by_its_old_name(tenant: Tenant, scene: Scene) -> None:
    port = tenant.port(scene.net, dns_name="first")
    address = {port.fixed_ips[0]["ip_address"]}
    turns(scene.web, scene.v4, "first", address)
    tenant.admin.update_port(port, dns_name="second")
    turns(scene.web, scene.v4, "second", address)
    assert told(scene.web, scene.v4, "first") == "NXDOMAIN"
    tenant.admin.update_port(port, dns_domain="own.example.")
    turns(scene.web, scene.v4, "second.own.example.", address)
    assert told(scene.web, scene.v4, f"second.{DOMAIN}") == "NXDOMAIN"
    tenant.admin.delete_port(port)
    turns(scene.web, scene.v4, "second.own.example.", "REFUSED")


def test_a_network_that_gets_another_domain_has_its_names_there(tenant: Tenant, scene: Scene) -> None:
    with tenant.changed(scene.far.network, dns_domain="new.example."):
        turns(scene.other, scene.far4, "other.new.example.", {scene.other.v4})
        assert told(scene.other, scene.far4, "other.far.example.") == "REFUSED"


def test_neither_other_networks_nor_the_world_are_told_of(scene: Scene) -> None:
    for name in ("other", "other.cloud.internal"):
        assert told(scene.web, scene.v4, name) == "NXDOMAIN"
    pointer = dns.reversename.from_address(scene.other.v4).to_text()
    for name in ("other.far.example", "www.example.com", pointer):
        assert told(scene.web, scene.v4, name) == "REFUSED"


def test_a_subnet_publishes_and_a_floating_ip_has_a_name_on_all_networks(
    tenant: Tenant, scene: Scene
) -> None:
    named = tenant.floating(dns_name="www", dns_domain="world.example.")
    turns(scene.web, scene.v4, "www.world.example.", {named.floating_ip_address})
    subnet = scene.far.subnets[0]
    tenant.api.update_subnet(subnet, dns_publish_fixed_ip=True)
    turns(scene.web, scene.v4, "other.far.example.", {scene.other.v4})
    assert told(scene.other, scene.far4, f"web.{DOMAIN}") == "REFUSED"
    tenant.api.update_subnet(subnet, dns_publish_fixed_ip=False)
    turns(scene.web, scene.v4, "other.far.example.", "REFUSED")


def test_who_may_not_send_to_the_port_asks_nobody(tenant: Tenant, scene: Scene) -> None:
    web_alone = tenant.group(egress=False)
    tenant.rule(web_alone, direction="egress", protocol="tcp", port_range_min=80, port_range_max=80)
    stopped = tenant.probe(scene.net, security_groups=[web_alone.id])
    tenant.ready(stopped)
    asked = [
        Asks(stopped, server, "web", tcp=tcp) for server in (scene.v4, scene.v6) for tcp in (False, True)
    ]
    # Nor another server: names are not answered on the way, as OVN would do it.
    asked.append(Asks(stopped, scene.data.v4, "web"))
    must_stop(*asked, control=Asks(scene.web, scene.v4, "web"))


def test_what_looks_like_an_answer_does_not_come_to_who_lets_nothing_in(tenant: Tenant, scene: Scene) -> None:
    closed, open_ = tenant.probe(scene.net, security_groups=[tenant.group().id]), tenant.probe(scene.net)
    tenant.ready(closed, open_)
    forged, passing = (
        Udp(scene.web, to, to.v4, 4000, source_port=53, answered=False) for to in (closed, open_)
    )
    must_stop(forged, control=passing)


def test_dhcp_tells_service_domain_and_name(tenant: Tenant, scene: Scene) -> None:
    assert (scene.web.dhcp()["dns"], scene.web.dhcp()["domain"]) == (scene.v4, DOMAIN.rstrip("."))
    assert scene.web.dhcp()["hostname"] == "web"
    tenant.admin.update_port(scene.web.port, dns_name="front-1")
    wait_for(lambda: scene.web.dhcp().get("hostname") == "front-1", SOON, "the new name is told")
    tenant.admin.update_port(scene.web.port, dns_name="web")
    subnet = scene.net.subnets[0]
    tenant.api.update_subnet(subnet, dns_nameservers=["192.0.2.53"])
    wait_for(lambda: scene.web.dhcp().get("dns") == "192.0.2.53", SOON, "the subnet's own server is told")
    tenant.api.update_subnet(subnet, dns_nameservers=[])


def test_router_advertisements_and_dhcpv6_tell_service_and_domain(tenant: Tenant) -> None:
    net = tenant.network("fd00:8::/64", ipv6="dhcpv6-stateful", dns_domain=DOMAIN)
    tenant.router(net)
    (probe,) = tenant.probes(net, "h1", dns_name="six")
    server, _ = service(tenant, net)
    said = probe.advertised()
    assert server in said
    assert DOMAIN.rstrip(".") in said
    assert probe.dhcp6()["new_dhcp6_name_servers"] == server
    turns(probe, server, "six", {probe.v6}, "AAAA")


def test_a_flood_goes_unanswered_and_leaves_the_service_to_others(scene: Scene) -> None:
    wire, sent, answers = dns.message.make_query("web", "A").to_wire(), 0, 0
    began = time.monotonic()
    with scene.web.open(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((scene.v4, 53))
        client.setblocking(False)
        while time.monotonic() < began + 1.5:
            with contextlib.suppress(BlockingIOError):
                for _ in range(20):
                    sent += client.send(wire) > 0
            with contextlib.suppress(BlockingIOError):
                while client.recv(512):
                    answers += 1
            time.sleep(0.002)
        took = time.monotonic() - began
        must_pass(Asks(scene.data, scene.v4, "web"))
    # In each second that it touches, so many.
    assert answers <= ANSWERED * (int(took) + 2) < sent
    must_pass(Asks(scene.web, scene.v4, "web"))


def test_who_asks_from_elsewhere_is_not_answered(tenant: Tenant, scene: Scene) -> None:
    with tenant.trusted(scene.web), scene.web.address("192.0.2.7/24"):
        scene.web.ip(f"route replace {scene.v4}/32 dev eth0 src 192.0.2.7")
        try:
            must_stop(Asks(scene.web, scene.v4, "web"), control=Asks(scene.data, scene.v4, "web"))
        finally:
            scene.web.ip(f"route delete {scene.v4}/32 dev eth0")
