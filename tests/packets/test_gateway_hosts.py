"""Which hosts carry a router's gateway is an operator's to say, and packets take the way of another one.

| claim | and in reverse |
| --- | --- |
| a gateway leaves a host whose gateway agent is set down | it comes back when that is set up |
| a gateway is on a host of the zones that its router asks for | it follows the zone to another host |
| a router that is not highly available stands when its host does | it moves once it is |
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from cloud import Cloud
from fault_lab import frozen, is_well
from flows import Ping, must_pass, must_stop
from probes import Space
from tenants import Tenant

pytestmark = pytest.mark.machine

OUTSIDE = "198.51.100.10"


def test_a_gateway_leaves_a_host_whose_agent_is_set_down(
    cloud: Cloud, tenant: Tenant, internet: Space
) -> None:
    net = tenant.network("10.0.0.0/24")
    router = tenant.router(net, outside=True)
    (probe,) = tenant.probes(net, "h1")
    address = tenant.floating(probe).floating_ip_address
    must_pass(Ping(internet, address))
    first, *others = cloud.gateway(router)["hosts"]
    (agent,) = tenant.admin.agents(host=first, agent_type="OVN Controller Gateway agent")
    tenant.admin.update_agent(agent, admin_state_up=False)
    try:
        tenant.carried(router, *others)
        must_pass(Ping(internet, address), Ping(probe, OUTSIDE))
    finally:
        tenant.admin.update_agent(agent, admin_state_up=True)
    tenant.carried(router, first)
    must_pass(Ping(internet, address))


@contextlib.contextmanager
def aggregate(cloud: Cloud, zone: str) -> Iterator[Any]:
    """An aggregate without hosts, which makes a zone."""
    compute: Any = cloud.admin.compute
    made = compute.create_aggregate(name=zone, availability_zone=zone)
    try:
        yield made
    finally:
        for host in compute.get_aggregate(made).hosts:
            compute.remove_host_from_aggregate(made, host)
        compute.delete_aggregate(made)


def test_a_gateway_is_in_the_zone_that_its_router_asks_for(
    cloud: Cloud, tenant: Tenant, internet: Space
) -> None:
    compute: Any = cloud.admin.compute
    with aggregate(cloud, "edge") as edge, tenant.scope():
        compute.add_host_to_aggregate(edge, "h2")
        net = tenant.network("10.0.0.0/24")
        router = tenant.router(net, outside=True, availability_zone_hints=["edge"])
        assert tenant.api.get_router(router).availability_zones == ["edge"]
        (probe,) = tenant.probes(net, "h1")
        address = tenant.floating(probe).floating_ip_address
        must_pass(Ping(internet, address), Ping(probe, OUTSIDE))
        assert tenant.carried(router) == "h2"
        compute.add_host_to_aggregate(edge, "h3")
        compute.remove_host_from_aggregate(edge, "h2")
        tenant.carried(router, "h3")
        must_pass(Ping(internet, address), Ping(probe, OUTSIDE))


def test_a_router_that_is_not_highly_available_stands_with_its_host(
    cloud: Cloud, tenant: Tenant, internet: Space
) -> None:
    net = tenant.network("10.0.0.0/24")
    router = tenant.router(net, outside=True)
    tenant.admin.update_router(router, ha=False)
    (first,) = cloud.gateway(router)["hosts"]
    (probe,) = tenant.probes(net, "h1" if first != "h1" else "h2")
    address = tenant.floating(probe).floating_ip_address
    must_pass(Ping(internet, address))
    is_well(cloud)
    with frozen(cloud, first):
        must_stop(Ping(internet, address), control=Ping(internet, "203.0.113.1"))
        assert cloud.gateway(router)["host"] == first
        tenant.admin.update_router(router, ha=True)
        must_pass(Ping(internet, address))
        tenant.carried(router, *(host for host in cloud.hosts if host != first))
    is_well(cloud)
