"""The metadata service at 169.254.169.254 and fe80::a9fe:a9fe, as any host of a network reaches it.

Who asks is known by the network that the request came from, and by its source address; these cases ask
from ports that belong to no server, and nothing must be told to them. What servers are told is tested
with servers.

| claim | and in reverse |
| --- | --- |
| it answers on every host, in both families, by the service of the own network on the own host | |
| who is no server is told nothing, whatever the request says of its sender | |
| of two networks with equal addresses each has its own service, and reaches no other | |
| it is there where a subnet has DHCP | `enable_dhcp` false, or network without: nobody answers |
"""

from __future__ import annotations

import http.client
import socket

import pytest
from flows import PATIENCE, Ping, Udp, must_pass, must_stop
from probes import Probe, Space
from tenants import Net, Tenant

pytestmark = pytest.mark.machine

V4, V6 = "169.254.169.254", "fe80::a9fe:a9fe"
RANGES = ("10.0.0.0/24", "fd00:a::/64")
PATHS = ("/", "/openstack/latest/meta_data.json", "/latest/meta-data/instance-id", "/openstack")
FORGED = (
    {"X-Forwarded-For": "10.0.0.50"},
    {"X-Instance-ID": "11111111-1111-4111-8111-111111111111", "X-Tenant-ID": "x"},
    {"X-Real-IP": "10.0.0.50", "Forwarded": "for=10.0.0.50", "Host": "metadata"},
)


class Asks:
    """A request of a probe, and its answer."""

    def __init__(
        self, probe: Probe, address: str = V4, path: str = "/", headers: dict[str, str] | None = None
    ) -> None:
        self.probe, self.address, self.path, self.headers = probe, address, path, headers or {}
        #: The status and the body of the last answer.
        self.answer: tuple[int, bytes] = (0, b"")

    def __repr__(self) -> str:
        return f"request of {self.probe} to {self.address}{self.path}"

    def once(self) -> bool:
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        self.answer = (0, b"")
        with self.probe.open(family, socket.SOCK_STREAM) as client:
            client.settimeout(PATIENCE)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
            try:
                client.connect((self.address, 80))
                lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
                request = f"GET {self.path} HTTP/1.1\r\nConnection: close\r\n{lines}\r\n"
                client.sendall(request.encode())
                response = http.client.HTTPResponse(client)
                response.begin()
                self.answer = (response.status, response.read())
            except (OSError, http.client.HTTPException):
                return False
        return True


class Scene:
    """A network with a (h1) and b (h2), and one of another project with the same addresses, and c (h1)."""

    def __init__(self, tenant: Tenant, stranger: Tenant) -> None:
        self.tenant, self.stranger = tenant, stranger
        self.net, self.other = tenant.network(*RANGES), stranger.network(*RANGES)
        addresses = [{"ip_address": "10.0.0.50"}, {"ip_address": "fd00:a::50"}]
        self.a = tenant.probe(self.net, "h1", fixed_ips=addresses)
        self.b = tenant.probe(self.net, "h2")
        self.c = stranger.probe(self.other, "h1", fixed_ips=addresses)
        tenant.ready(self.a, self.b)
        stranger.ready(self.c)
        for probe in (self.a, self.b, self.c):
            introduce(probe)

    def service(self, net: Net, host: str) -> Space:
        """Where the service of a network is on a host."""
        return Space(self.tenant.cloud.namespace(f"{host}-m-{net.id[:8]}"))


def introduce(probe: Probe) -> None:
    """Gives a probe the way to the service that DHCP tells."""
    routes = probe.dhcp()["staticroutes"].split()
    hop = routes[routes.index(f"{V4}/32") + 1]
    probe.ip(f"route replace {V4}/32 via {hop} dev eth0")


@pytest.fixture(scope="module")
def scene(tenant: Tenant, stranger: Tenant) -> Scene:
    """For all cases here; each leaves it as it was."""
    return Scene(tenant, stranger)


@pytest.mark.parametrize("address", [V4, V6])
def test_it_answers_on_every_host(scene: Scene, address: str) -> None:
    must_pass(Asks(scene.a, address), Asks(scene.b, address), Asks(scene.c, address))


@pytest.mark.parametrize("headers", [{}, *FORGED])
def test_who_is_no_server_is_told_nothing(scene: Scene, headers: dict[str, str]) -> None:
    for address in (V4, V6):
        for path in PATHS:
            asked = Asks(scene.a, address, path, headers)
            must_pass(asked)
            assert asked.answer[0] == 404


def heard(probe: Probe, at: Space) -> Udp:
    """A datagram to the service's address: whether it comes to this place. It need not be answered."""
    return Udp(probe, at, V4, 9, answered=False)


def test_each_network_has_its_own_on_each_host(scene: Scene) -> None:
    places = {
        "own": scene.service(scene.net, "h1"),
        "on another host": scene.service(scene.net, "h2"),
        "of the other project": scene.service(scene.other, "h1"),
    }
    for probe, right in ((scene.a, "own"), (scene.b, "on another host"), (scene.c, "of the other project")):
        wrong = [heard(probe, place) for name, place in places.items() if name != right]
        must_stop(*wrong, control=heard(probe, places[right]))


def test_it_is_there_where_a_subnet_has_dhcp(tenant: Tenant) -> None:
    net, without = tenant.network("10.0.9.0/24"), tenant.network()
    tenant.subnet(without, "10.0.9.0/24", enable_dhcp=False)
    (a, b), c = (tenant.probe(net, host) for host in ("h1", "h2")), tenant.probe(without)
    tenant.ready(a, b, c)
    introduce(a)
    # What has no way that DHCP told looks for it on its own network.
    c.ip(f"route replace {V4}/32 dev eth0")
    must_stop(Asks(c), control=Asks(a))
    tenant.api.update_subnet(net.subnets[0], enable_dhcp=False)
    must_stop(Asks(a), control=Ping(a, b.v4))
