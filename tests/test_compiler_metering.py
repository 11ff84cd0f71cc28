"""From metering labels to what routers count, and the hosts that are told."""

from __future__ import annotations

import itertools
import random
from ipaddress import ip_address, ip_network

from msgspec.structs import replace
from test_compiler import EDGE, GATE, INNER, LEG, OUTER, PUBLIC, WEB4, WEB6

from trunkline.backends.ovn.rows import desired
from trunkline.compiler.hosts import host_slices
from trunkline.compiler.logical import Meter
from trunkline.compiler.metering import Box, closed, common
from trunkline.compiler.network import logical_network
from trunkline.compiler.settings import Settings
from trunkline.compiler.slices import MeterSlice
from trunkline.compiler.snapshot import Snapshot
from trunkline.resources.network import (
    FloatingIP,
    Gateway,
    MeteringLabel,
    MeteringLabelRule,
    Port,
    SubnetPool,
)
from trunkline.resources.region import Host
from trunkline.resources.schema import Resource

ROUTER = replace(EDGE, project_id="p")
LABEL = MeteringLabel(id="l", project_id="p")
OUT = MeteringLabelRule(id="out", metering_label_id="l", direction="egress", remote_ip_prefix="10.0.0.0/24")
WORKLOAD = Port(id="w", network_id="n", device_owner="trunkline:probe", host_id="h1")


def snapshot(*more: Resource) -> Snapshot:
    by_class: dict[type[Resource], dict[str, Resource]] = {}
    for obj in (INNER, OUTER, WEB4, WEB6, PUBLIC, LEG, GATE, ROUTER, *more):
        by_class.setdefault(type(obj), {})[obj.id] = obj
    return Snapshot(revision=7, intent=5, objects=by_class)


def counted(*more: Resource) -> list[Meter]:
    return list(logical_network(snapshot(*more), Settings()).meters.values())


def test_a_label_without_rules_or_of_another_project_counts_nothing() -> None:
    assert counted(LABEL) == []
    assert counted(replace(LABEL, project_id="q"), OUT) == []
    assert counted(replace(LABEL, project_id="q", shared=True), OUT) != []


def test_the_remote_prefix_is_the_inner_side() -> None:
    come = replace(OUT, id="in", direction="ingress")
    found = {(m.direction, m.source, m.destination) for m in counted(LABEL, OUT, come)}
    assert found == {("egress", "", ""), ("egress", "10.0.0.0/24", ""), ("ingress", "", "10.0.0.0/24")}


def test_each_packet_is_in_one_box_within_all_others_that_it_is_in() -> None:
    chance = random.Random(1)
    prefixes = [
        ip_network(f"10.{n}.0.0/{length}", strict=False) for n in range(4) for length in (0, 8, 15, 16)
    ]
    boxes = [Box("egress", *chance.choices(prefixes, k=2)) for _ in range(12)]
    found = closed(boxes)
    assert closed(found) == found >= set(boxes)
    for source, destination in itertools.product([ip_address(f"10.{n}.0.1") for n in range(5)], repeat=2):
        around = [box for box in found if source in box.source and destination in box.destination]
        if around:
            narrow = max(around, key=lambda box: box.source.prefixlen + box.destination.prefixlen)
            given = [box for box in boxes if source in box.source and destination in box.destination]
            assert all(common(narrow, box) == narrow for box in given)


def test_what_passes_a_barrier_by_its_address_is_counted_before_it_does() -> None:
    plain = replace(
        ROUTER, external_gateway_info=Gateway(network_id="x", enable_snat=False), gateway_port_id="gate"
    )
    floating = FloatingIP(
        id="f", floating_network_id="x", floating_ip_address="203.0.113.9", router_id="r",
        fixed_ip_address="10.0.0.5",
    )  # fmt: skip
    scope = (replace(WEB4, subnetpool_id="pool"), SubnetPool(id="pool", address_scope_id="scope"))
    found = snapshot(plain, floating, *scope, LABEL, OUT)
    rows = desired(logical_network(found, Settings()))["Logical_Router_Policy"].values()
    by_action = {
        action: {row["priority"]: row["match"] for row in rows if row["action"] == action}
        for action in ("allow", "drop")
    }
    (drop,) = by_action["drop"]
    past = {priority: match for priority, match in by_action["allow"].items() if "inport" in match}
    # The pass itself, and before it what it lets through of each box.
    assert [priority > drop for priority in sorted(past)] == [True] * len(past)
    assert any("ip4.src == 10.0.0.5/32" in match and priority > drop + 1 for priority, match in past.items())


def test_hosts_are_told_that_have_ports_of_the_router_or_may_carry_its_gateway() -> None:
    hosts = [Host(id=f"h{n}", key="k", joined_at=0.0) for n in (1, 2, 3)]
    edge = replace(ROUTER, gateway_hosts=["h2"])
    slices = host_slices(snapshot(edge, LABEL, OUT, WORKLOAD, *hosts), Settings())
    told = {host: slice_.meters for host, slice_ in slices.items()}
    assert told["h3"] == ()
    assert told["h1"] == told["h2"]
    (meter,) = told["h1"]
    assert isinstance(meter, MeterSlice)
    assert (meter.label, meter.gateways) == ("l", (GATE.mac_address,))
