"""Which hosts carry a router's gateway is an operator's to say, and packets take the way of another one.

| claim | and in reverse |
| --- | --- |
| a gateway leaves a host whose gateway agent is set down | ... and comes back when that is set up |
"""

from __future__ import annotations

from typing import Any

import pytest
from cloud import Cloud
from fault_lab import soon
from flows import Ping, must_pass
from probes import Space
from tenants import Tenant

pytestmark = pytest.mark.machine


def carrier(cloud: Cloud, router: Any) -> str:
    """The host that is seen to carry a router's gateway."""
    found = next(g for g in cloud.status()["gateways"] if g["router"] == router.id)
    return str(found["host"])


def test_a_gateway_leaves_a_host_whose_agent_is_set_down(
    cloud: Cloud, tenant: Tenant, internet: Space
) -> None:
    net = tenant.network("10.0.0.0/24")
    router = tenant.router(net, outside=True)
    (probe,) = tenant.probes(net, "h1")
    address = tenant.floating(probe).floating_ip_address
    must_pass(Ping(internet, address))
    first = carrier(cloud, router)
    (agent,) = tenant.admin.agents(host=first, agent_type="OVN Controller Gateway agent")
    tenant.admin.update_agent(agent, admin_state_up=False)
    try:
        soon(lambda: carrier(cloud, router) not in (first, "None"), "another host carries the gateway")
        must_pass(Ping(internet, address), Ping(probe, "198.51.100.10"))
    finally:
        tenant.admin.update_agent(agent, admin_state_up=True)
    soon(lambda: carrier(cloud, router) == first, "it comes back")
    must_pass(Ping(internet, address))
