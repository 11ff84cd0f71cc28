"""An appliance whose units are guests: the same network functions, in kernels of their own.

| claim | and in reverse |
| --- | --- |
| what the policy lets begin passes through three guests | what it does not is dropped |
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
    edge = Edge(tenant, internet, runtime="server", data_planes=1, **sizes)
    try:
        edge.set_policy("tcp/8080")
        edge.settled(1, BOOT)
        web, other = (Tcp(edge.probe, internet, HOST, port) for port in (8080, 9090))
        must_pass(web)
        assert web.seen_from in edge.shown["outside_addresses"]
        must_stop(other, control=web)
        (plane,) = edge.units("data-plane")
        first = running(edge, plane)
        assert first is not None
        first.signal(signal.SIGKILL)
        wait_for(lambda: running(edge, plane) not in (None, first), BOOT, "another process")
        wait_for(web.once, BOOT, "packets pass through its successor")
    finally:
        edge.delete()
