"""Compiling what changed gives what compiling everything gives, and leaves alone what did not change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from test_compiler import (
    EDGE,
    GATE,
    GROUP,
    INNER,
    LEG,
    META,
    OUTER,
    PUBLIC,
    WEB4,
    WEB6,
    WORK,
)

from trunkline.compiler.hosts import PROBE, host_slices
from trunkline.compiler.incremental import Compiler
from trunkline.compiler.network import logical_network
from trunkline.compiler.settings import Settings
from trunkline.compiler.snapshot import Snapshot
from trunkline.resources.compute import Server
from trunkline.resources.network import (
    ExtraDhcpOption,
    FixedIp,
    FloatingIP,
    QosBandwidthLimitRule,
    QosDscpMarkingRule,
    QosMinimumBandwidthRule,
    QosPacketRateLimitRule,
    QosPolicy,
    SecurityGroupRule,
)
from trunkline.resources.region import Host
from trunkline.resources.schema import Resource

SETTINGS = Settings()
#: What is always there: the others refer to it.
GROUND: tuple[Resource, ...] = (INNER, OUTER, WEB4, WEB6, PUBLIC, EDGE, GROUP, Host(id="h1"))
OPTION = ExtraDhcpOption(opt_name="domain-name", opt_value="own.example")
#: What comes and goes, each in the forms that it may have.
FORMS: tuple[tuple[Resource, ...], ...] = (
    (META,),
    (LEG, replace(LEG, fixed_ips=LEG.fixed_ips[:1])),
    (GATE,),
    (
        WORK,
        replace(WORK, host_id=""),
        replace(WORK, device_owner=PROBE),
        replace(WORK, name="new", admin_state_up=False),
        replace(WORK, extra_dhcp_opts=[OPTION]),
        replace(WORK, port_security_enabled=False, security_groups=[]),
    ),
    tuple(
        replace(WORK, id="w2", host_id=host, fixed_ips=[FixedIp(subnet_id="s4", ip_address=address)])
        for host in ("", "h1")
        for address in ("10.0.0.6", "10.0.0.7")
    ),
    (replace(INNER, admin_state_up=False), INNER),
    (replace(WEB4, enable_dhcp=False), WEB4),
    (Host(id="h2"), Host(id="h2", vcpus=2)),
    (Server(id="v", host="h1", ports=["w"], image_id="i"), Server(id="v", host="h2", ports=["w"])),
    (replace(INNER, qos_policy_id="q"), INNER),
    (replace(WORK, qos_policy_id="q"),),
    (QosPolicy(id="q"),),
    (
        QosBandwidthLimitRule(id="ql", qos_policy_id="q", max_kbps=1000),
        QosBandwidthLimitRule(id="ql", qos_policy_id="q", max_kbps=2000, direction="ingress"),
    ),
    (QosDscpMarkingRule(id="qm", qos_policy_id="q", dscp_mark=46),),
    (
        QosPacketRateLimitRule(id="qp", qos_policy_id="q", max_kpps=1),
        QosPacketRateLimitRule(id="qp", qos_policy_id="q", max_kpps=2, max_burst_kpps=1),
    ),
    (
        QosMinimumBandwidthRule(id="qb", qos_policy_id="q", min_kbps=1),
        QosMinimumBandwidthRule(id="qb", qos_policy_id="q", min_kbps=2, direction="ingress"),
    ),
    (replace(INNER, network_type="flat", physical_network="physnet1", qos_policy_id="q"), INNER),
    (SecurityGroupRule(id="rule", security_group_id="g", direction="egress", ethertype="IPv4"),),
    tuple(
        FloatingIP(
            id="f",
            router_id="r",
            floating_ip_address="203.0.113.9",
            fixed_ip_address="10.0.0.5",
            port_id=port,
            floating_network_id="x",
        )
        for port in ("w", "w2")
    ),
    (replace(EDGE, distributed=True), EDGE),
    (Host(id="h1", wired=["physnet1"]), Host(id="h1")),
)
Objects = Mapping[type[Resource], Mapping[str, Resource]]


def following(objects: Objects, obj: Resource, *, there: bool) -> Objects:
    """The next objects, as a replica makes them: the dictionaries of other classes stay the same."""
    kept = {id: one for id, one in objects.get(type(obj), {}).items() if id != obj.id}
    return {**objects, type(obj): kept | ({obj.id: obj} if there else {})}


def ground() -> Objects:
    objects: Objects = {}
    for obj in GROUND:
        objects = following(objects, obj, there=True)
    return objects


CHANGE = st.sampled_from(FORMS).flatmap(lambda forms: st.tuples(st.sampled_from(forms), st.booleans()))


@settings(deadline=None)
@given(st.lists(st.lists(CHANGE, min_size=1, max_size=3), max_size=8))
def test_whatever_came_before_the_result_is_that_of_compiling_everything(walk: list[Any]) -> None:
    compiler, objects = Compiler(SETTINGS), ground()
    for revision, changes in enumerate(walk):
        for obj, there in changes:
            # Networks and subnets stay: what is on them refers to them.
            objects = following(
                objects, obj, there=there or obj in GROUND or type(obj) in (type(INNER), type(WEB4))
            )
        snapshot = Snapshot(revision=revision, intent=revision, objects=objects)
        network, slices = compiler.compile(snapshot)
        assert network == logical_network(snapshot, SETTINGS)
        # A slice that says nothing new is that of an older revision.
        told = {host: replace(one, revision=revision) for host, one in slices.items()}
        assert told == host_slices(snapshot, SETTINGS)


def test_what_did_not_change_stays_the_same_object() -> None:
    compiler, objects = Compiler(SETTINGS), ground()
    for obj in (META, LEG, WORK):
        objects = following(objects, obj, there=True)
    first, slices = compiler.compile(Snapshot(revision=1, intent=1, objects=objects))
    objects = following(objects, replace(WORK, id="w2"), there=True)
    second, same = compiler.compile(Snapshot(revision=2, intent=2, objects=objects))
    assert second.ports["w"] is first.ports["w"]
    assert second.dhcps is first.dhcps
    assert same["h1"] is slices["h1"]
    objects = following(objects, replace(OUTER, name="other"), there=True)
    third, _ = compiler.compile(Snapshot(revision=3, intent=3, objects=objects))
    assert third.ports is second.ports
    assert third.switches["n"] is second.switches["n"]
    assert third.switches["x"] is not second.switches["x"]
