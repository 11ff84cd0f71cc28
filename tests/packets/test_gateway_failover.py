"""A router's gateway moves to another host when its host dies; whoever talks through it hardly notices.

The host is frozen: its switch and its ovn-controller stand still, and its cables stay up, so that no
switch outside is told of it by a link that goes down.

| claim | and in reverse |
| --- | --- |
| the outage that is seen from outside is at most half a second (median) | gateways come back |
| the status tells which host carries a gateway | ... and then another one |
"""

from __future__ import annotations

import time
from functools import partial

import pytest
from cloud import Cloud
from fault_lab import are_watchful, frozen, is_well, soon
from flows import Ping, must_pass
from outage import Stream
from probes import Space
from tenants import Tenant

pytestmark = pytest.mark.machine

MOST = 0.5
#: Of so many outages.
ROUNDS = 5


def test_a_gateway_outlives_its_host(cloud: Cloud, tenant: Tenant, internet: Space) -> None:
    net = tenant.network("10.0.0.0/24")
    router = tenant.router(net, outside=True)
    first, second, *_, last = cloud.gateway(router)["hosts"]
    probe = tenant.probe(net, last)
    tenant.ready(probe)
    address = tenant.floating(probe).floating_ip_address
    must_pass(Ping(internet, address))
    short: list[float] = []
    long: list[float] = []
    with Stream(internet, address) as stream:
        # Until it is known of more than half of them, whatever the others would be.
        while max(len(short), len(long)) <= ROUNDS // 2:
            tenant.carried(router, first)
            is_well(cloud)
            are_watchful(cloud)
            began = time.monotonic()
            soon(partial(stream.flows, began), "answers come")
            died = time.monotonic()
            with frozen(cloud, first):
                soon(partial(stream.flows, died + 0.1), "answers come again")
                outage = stream.outage(died)
                tenant.carried(router, second)
            (short if outage <= MOST else long).append(outage)
    print("outages, seconds:", *(f"{outage:.2f}" for outage in sorted(short + long)))
    assert len(short) > ROUNDS // 2, sorted(short + long)
