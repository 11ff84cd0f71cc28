"""What ports are promised of the link to a physical network.

| claim | and in reverse |
| --- | --- |
| a port sends as much as it is promised while another one floods the link | the other one is promised it |
| where no port is promised anything, nobody is held back, and the link is as it was | |
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from cloud import Cloud
from probes import wait_for
from rates import flooded, must_be_free, must_be_limited
from tenants import Tenant

pytestmark = pytest.mark.machine

#: What the operator says that the link carries, and what a port is promised of it: kbit/s.
LINK, LEAST = 12_000, 9_000


@pytest.fixture
def narrow(cloud: Cloud) -> Iterator[None]:
    """h1 promises no more than `LINK` to physnet1."""

    def promise(rates: str) -> None:
        done = cloud.trunkline("host", "promise", "h1", "--bandwidth", f"physnet1={rates}")
        assert done.returncode == 0, done.stderr

    promise(f"{LINK}:{LINK}")
    yield
    promise("auto")


@pytest.fixture
def least(tenant: Tenant) -> Iterator[Any]:
    """A policy that promises `LEAST`."""
    policy = tenant.admin.create_qos_policy(name="sure", shared=True)
    tenant.admin.create_qos_minimum_bandwidth_rule(policy, min_kbps=LEAST, direction="egress")
    yield policy
    tenant.admin.delete_qos_policy(policy)


def test_a_port_sends_what_it_is_promised_while_another_floods(
    tenant: Tenant, cloud: Cloud, narrow: None, least: Any
) -> None:
    net = tenant.network(
        "10.0.0.0/24",
        admin=True,
        provider_network_type="vlan",
        provider_physical_network="physnet1",
        provider_segmentation_id=2110,
    )
    a, b, c = tenant.probes(net, "h1", "h1", "h2")

    def divided() -> bool:
        shown = ("ip", "netns", "exec", cloud.namespace("h1"), "tc", "qdisc", "show", "dev", "eth1")
        said = subprocess.run(shown, capture_output=True, text=True, timeout=10, check=True)
        return " 746c: " in said.stdout

    tenant.change(a, qos_policy_id=least.id)
    try:
        with flooded(b, c, c.v4):
            must_be_limited(a, c, c.v4, LEAST, least=0.85)
            tenant.change(a, qos_policy_id=None)
            tenant.change(b, qos_policy_id=least.id)
            must_be_limited(a, c, c.v4, LINK - LEAST)
            tenant.change(b, qos_policy_id=None)
            must_be_free(a, c, c.v4)
        wait_for(lambda: not divided(), 12, "the link has no discipline of ours")
    finally:
        for probe in (a, b):
            tenant.change(probe, qos_policy_id=None)
