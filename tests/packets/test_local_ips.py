"""Local IPs: one address, behind which every host has a port of its own.

| claim | and in reverse |
| --- | --- |
| it leads to the port of the asker's own host, in both families | to none of another host |
| on a host without one it leads to the port whose address it is | |
| the port is reached by its own address as before | |
| passthrough: packets come with the address that was asked for | translated, without |
| association deleted: it leads to the port whose address it is | |
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from flows import Ping, Tcp, Udp, must_pass, must_stop
from probes import Probe
from tenants import Tenant

pytestmark = pytest.mark.machine

PATH = "/local_ips"


class Scene:
    """A network: askers a (h1), b (h2), c (h3); one of many on h1 and h2; and, on h3, who has the address."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        net = tenant.network("10.0.0.0/24", "fd00:a::/64")
        hosts = ("h1", "h2", "h3", "h1", "h2", "h3")
        self.a, self.b, self.c, self.one, self.two, self.own = tenant.probes(net, *hosts)

    @contextlib.contextmanager
    def local(self, address: str, *ports: Probe, **fields: str) -> Iterator[str]:
        """A local IP of an address of the port `own` in the block; gives its path."""
        api = self.tenant.api
        wanted = {"local_port_id": self.own.port.id, "local_ip_address": address, **fields}
        made = _ok(api.post(PATH, json={"local_ip": wanted}))["local_ip"]
        where = f"{PATH}/{made['id']}"
        led = f"{where}/port_associations"
        try:
            for probe in ports:
                mine = next(ip for ip in probe.addresses if (":" in ip) == (":" in address))
                body = {"fixed_port_id": probe.port.id, "fixed_ip": mine}
                _ok(api.post(led, json={"port_association": body}))
            yield led
        finally:
            for each in _ok(api.get(led))["port_associations"]:
                api.delete(f"{led}/{each['fixed_port_id']}")
            assert api.delete(where).status_code == 204


def _ok(reply: Any) -> Any:
    assert reply.status_code < 300, reply.text
    return reply.json()


@pytest.fixture(scope="module")
def scene(tenant: Tenant) -> Scene:
    """For all cases here; each leaves it as it was."""
    return Scene(tenant)


@pytest.mark.parametrize("family", [4, 6])
def test_it_leads_to_the_port_of_the_same_host(scene: Scene, family: int) -> None:
    a, b, c, one, two, own = scene.a, scene.b, scene.c, scene.one, scene.two, scene.own
    address, direct = (own.v4, one.v4) if family == 4 else (own.v6, one.v6)
    with scene.local(address, one, two) as led:
        for asker, answers in ((a, one), (b, two), (c, own)):
            must_pass(Udp(asker, answers, address, 7), Tcp(asker, answers, address, 80))
            must_pass(Ping(asker, address))
        must_stop(Udp(a, two, address, 7), Udp(a, own, address, 7), control=Udp(a, one, address, 7))
        must_pass(Udp(a, one, direct, 7), Udp(b, one, direct, 7))
        assert scene.tenant.api.delete(f"{led}/{one.port.id}").status_code == 204
        must_pass(Udp(a, own, address, 7), Tcp(a, own, address, 80))
        must_stop(Udp(a, one, address, 7), control=Udp(b, two, address, 7))


def test_passed_through_packets_have_the_address_that_was_asked_for(scene: Scene) -> None:
    a, one, address = scene.a, scene.one, scene.own.v4
    with scene.tenant.changed(one.port, allowed_address_pairs=[{"ip_address": address}]):
        with scene.local(address, one, ip_mode="passthrough"):
            must_stop(Udp(a, one, address, 7), control=Ping(a, one.v4))
            with one.address(f"{address}/32"):
                must_pass(Udp(a, one, address, 7), Tcp(a, one, address, 80))
        with scene.local(address, one), one.address(f"{address}/32"):
            must_pass(Udp(a, one, address, 7))
