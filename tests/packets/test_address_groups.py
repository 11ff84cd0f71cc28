"""Address groups: rules that refer to one follow what is in it, while packets flow.

| claim | and in reverse |
| --- | --- |
| what comes from a prefix of the group gets in, what goes to one gets out | before, and after it is removed |
| a prefix that lies in another one of the group still passes when the other is removed | the rest does not |
"""

from __future__ import annotations

from typing import Any

import pytest
from flows import Flow, Ping, Tcp, Udp, must_pass, must_stop
from tenants import Tenant

pytestmark = pytest.mark.machine

ALWAYS = 9
SIX: dict[str, Any] = {"ethertype": "IPv6"}


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_rules_follow_the_addresses_of_a_group(tenant: Tenant, direction: str) -> None:
    net = tenant.network("10.0.0.0/24", "fd00:a::/64")
    a, b = tenant.probes(net, "h1", "h2")
    members = tenant.api.create_address_group(name="members", addresses=[])
    tenant.undo(tenant.api.delete_address_group, members)
    always = {"protocol": "udp", "port_range_min": ALWAYS, "port_range_max": ALWAYS}
    of_members = {"direction": direction, "remote_address_group_id": members.id}
    group = tenant.group(always, of_members, {**of_members, **SIX}, egress=False)
    (c,) = tenant.probes(net, "h2", security_groups=[group.id])
    control = Udp(a, c, c.v4, ALWAYS)

    def flows(peer: Any, *versions: int) -> list[Flow]:
        found: list[Flow] = []
        for version in versions:
            source, target = (peer, c) if direction == "ingress" else (c, peer)
            address = target.v4 if version == 4 else target.v6
            found += [Ping(source, address), Tcp(source, target, address, 80)]
        return found

    def add(*addresses: str) -> None:
        tenant.api.add_addresses_to_address_group(members, list(addresses))

    def remove(*addresses: str) -> None:
        tenant.api.remove_addresses_from_address_group(members, list(addresses))

    must_stop(*flows(a, 4, 6), *flows(b, 4, 6), control=control)
    add(f"{a.v4}/32", f"{a.v6}/128")
    must_pass(*flows(a, 4, 6))
    must_stop(*flows(b, 4, 6), control=control)
    add("10.0.0.0/24")
    must_pass(*flows(a, 4, 6), *flows(b, 4))
    must_stop(*flows(b, 6), control=control)
    remove("10.0.0.0/24")
    must_stop(*flows(b, 4, 6), control=control)
    must_pass(*flows(a, 4, 6))
    remove(f"{a.v4}/32", f"{a.v6}/128")
    must_stop(*flows(a, 4, 6), control=control)
