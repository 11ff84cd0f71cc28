"""An appliance whose units are guests: the same network functions, in kernels of their own.

| claim | and in reverse |
| --- | --- |
| what the policy lets begin passes through three guests | what it does not is dropped |
| a listener of http in them leads requests to a member | |
| a guest that is killed is started again, and packets pass | its end is told |
"""

from __future__ import annotations

import signal
from typing import Any

import pytest
from flows import Tcp, must_pass, must_stop
from probes import Space, wait_for
from tenants import Tenant
from test_appliances import HOST, Edge
from web_members import member, once

from trunkline.devices import process
from trunkline.devices.process import Process

pytestmark = pytest.mark.machine

#: How long three guests may take to boot on a busy machine that emulates them.
BOOT = 150.0


def running(edge: Edge, unit: dict[str, Any]) -> Process | None:
    """The process of a unit, if it runs."""
    cloud = edge.tenant.cloud
    files = (cloud.state.host(host) / "u" / f"{unit['id'][:8]}.pid" for host in cloud.hosts)
    return next((there for file in files if (there := process.find(file)) is not None), None)


@pytest.mark.timeout(400)
def test_a_guest_that_is_killed_is_started_again(tenant: Tenant, internet: Space) -> None:
    sizes = {"cu_size": 0.4, "cu_memory": 384}
    services = ["firewall", "nat", "balancer"]
    edge = Edge(tenant, internet, runtime="server", data_planes=1, services=services, **sizes)
    try:
        edge.set_policy("tcp/8080")
        edge.settled(1, BOOT)
        web, other = (Tcp(edge.probe, internet, HOST, port) for port in (8080, 9090))
        must_pass(web)
        assert web.seen_from in edge.shown["outside_addresses"]
        must_stop(other, control=web)
        balances(edge, internet)
        (plane,) = edge.units("data-plane")
        first = running(edge, plane)
        assert first is not None
        first.signal(signal.SIGKILL)
        wait_for(lambda: running(edge, plane) not in (None, first), BOOT, "another process")
        wait_for(web.once, BOOT, "packets pass through its successor")
    finally:
        edge.delete()


def balances(edge: Edge, internet: Space) -> None:
    """A request from outside is answered by a web server behind the guests."""
    own = next(a for a in edge.shown["outside_addresses"] if ":" not in a)
    listener = {"name": "web", "address": own, "port": 8088, "protocol": "http"}
    members = [{"address": edge.probe.v4, "port": 8000}]
    rule = {"name": "in", "from": "outside", "to": "inside", "service": "tcp/8088", "action": "accept"}
    nat = {"from": "inside", "to": "outside", "addresses": [own], "ports": "20000-65535"}
    balancer = {"listeners": [{**listener, "members": members}]}
    edge.set_policy("tcp/8080", rules=[rule], nat={"source": [nat]}, balancer=balancer)
    with member(edge.probe, edge.probe.v4, 8000, "one"):
        answer = wait_for(lambda: once(internet, own, 8088, "/x"), BOOT, "a member answers", edge.life)
    assert (answer.status, answer.member) == (200, "one")
    edge.settled(1, BOOT)
