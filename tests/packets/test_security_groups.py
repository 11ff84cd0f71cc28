"""Security groups: what a port lets in and out.

Each rule is tried with packets that it lets pass and with their neighbours that it does not, and is then
taken away: what passed stops. A packet that another rule of the same port lets in passes all the time.

| claim | and in reverse |
| --- | --- |
| the default group: out everything, in from members alone, replies always | who is no member |
| no group, or a group without rules: neither in nor out | ... but DHCP (test_addressing) |
| TCP, UDP and SCTP ports, and ranges of them with their edges | neighbours; rule removed |
| ICMP types and codes, protocols by number, families | other ones; rule removed |
| remote prefixes, in and out | rule removed |
| remote groups: who joins gets through | who leaves does not |
| replies pass without a rule | ... not in a stateless group |
| rules overlap, or mean nothing: the others hold | one is removed |
| the groups of a port add up | one is taken from the port |
| a connection that a rule let in ends when the rule is removed | |
| what is too large for one packet passes in fragments | rule removed |
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flows import Flow, Packet, Ping, Tcp, Udp, icmp, must_pass, must_stop
from openstack.exceptions import BadRequestException
from probes import Probe
from tenants import Tenant

pytestmark = pytest.mark.machine

#: The port of a datagram that is always let in to `c`, so that a case can tell "filtered" from "dead".
ALWAYS = 9


class Scene:
    """a (h1) and b (h2) let everything pass, c (h2) has the groups that a case gives it."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.net = tenant.network("10.0.0.0/24", "fd00:a::/64")
        places = {"h1": ("10.0.0.10", "fd00:a::10"), "h2": ("10.0.0.200", "fd00:a::8000:0:0:2")}
        self.a, self.b = (
            tenant.probe(self.net, host, fixed_ips=[{"ip_address": one} for one in addresses])
            for host, addresses in places.items()
        )
        always = {"protocol": "udp", "port_range_min": ALWAYS, "port_range_max": ALWAYS}
        self.always = tenant.group(always)
        self.c = tenant.probe(self.net, "h2", security_groups=[self.always.id])
        tenant.ready(self.a, self.b, self.c)

    def give(self, probe: Probe, *groups: Any) -> None:
        """These groups are the probe's from now on."""
        self.tenant.change(probe, security_groups=[group.id for group in groups])

    @property
    def control(self) -> Flow:
        return Udp(self.a, self.c, self.c.v4, ALWAYS)


@pytest.fixture(scope="module")
def module_scene(tenant: Tenant) -> Scene:
    return Scene(tenant)


@pytest.fixture
def scene(module_scene: Scene) -> Iterator[Scene]:
    """For one case; its groups are the ports' no longer at its end."""
    yield module_scene
    module_scene.give(module_scene.c, module_scene.always)
    module_scene.give(module_scene.a, module_scene.tenant.anything)
    module_scene.give(module_scene.b, module_scene.tenant.anything)


def ports(protocol: str, first: int, last: int = 0, **more: Any) -> dict[str, Any]:
    """A rule for a range of ports."""
    return {"protocol": protocol, "port_range_min": first, "port_range_max": last or first, **more}


def icmp_rule(kind: int, code: int | None = None, *, version: int = 4) -> dict[str, Any]:
    """A rule for a type of message, and a code."""
    name, family = ("icmp", "IPv4") if version == 4 else ("ipv6-icmp", "IPv6")
    return {"protocol": name, "ethertype": family, "port_range_min": kind, "port_range_max": code}


def sctp(source: Probe, target: Probe, port: int) -> Packet:
    """The head of an SCTP packet (RFC 9260, section 3), with a marker for a chunk."""
    head = struct.pack("!HHII", 4000, port, 0, 0)
    return Packet(source, target, target.v4, 132, lambda marker: head + marker, f"SCTP port {port}")


SIX: dict[str, Any] = {"ethertype": "IPv6"}
Flows = Callable[[Probe, Probe, Probe], list[Flow]]
#: Rules of c, and what they let a and b send to it, and what not.
CASES: dict[str, tuple[list[dict[str, Any]], Flows, Flows]] = {
    "one TCP port": (
        [ports("tcp", 80)],
        lambda a, b, c: [Tcp(a, c, c.v4, 80), Tcp(b, c, c.v4, 80)],
        lambda a, b, c: [Tcp(a, c, c.v4, 79), Tcp(a, c, c.v4, 81), Udp(a, c, c.v4, 80), Tcp(a, c, c.v6, 80)],
    ),
    "a range of TCP ports": (
        [ports("tcp", 8000, 8010)],
        lambda a, b, c: [Tcp(a, c, c.v4, port) for port in (8000, 8005, 8010)],
        lambda a, b, c: [Tcp(a, c, c.v4, port) for port in (7999, 8011)],
    ),
    "a range of UDP ports": (
        [ports("udp", 5000, 5002)],
        lambda a, b, c: [Udp(a, c, c.v4, port) for port in (5000, 5002)],
        lambda a, b, c: [Udp(a, c, c.v4, 4999), Udp(a, c, c.v4, 5003), Tcp(a, c, c.v4, 5000)],
    ),
    "TCP and UDP in IPv6": (
        [ports("tcp", 80, **SIX), ports("udp", 5000, 5002, **SIX)],
        lambda a, b, c: [Tcp(a, c, c.v6, 80), Udp(b, c, c.v6, 5000), Udp(a, c, c.v6, 5002)],
        lambda a, b, c: [Tcp(a, c, c.v4, 80), Udp(a, c, c.v4, 5000), Tcp(a, c, c.v6, 5000)],
    ),
    "all of TCP": (
        [{"protocol": "tcp"}],
        lambda a, b, c: [Tcp(a, c, c.v4, 1), Tcp(a, c, c.v4, 65535)],
        lambda a, b, c: [Udp(a, c, c.v4, 1), Ping(a, c.v4), Tcp(a, c, c.v6, 1)],
    ),
    "all of IPv4": (
        [{}],
        lambda a, b, c: [Tcp(a, c, c.v4, 80), Udp(a, c, c.v4, 53), Ping(b, c.v4), Packet(a, c, c.v4, 253)],
        lambda a, b, c: [Tcp(a, c, c.v6, 80), Ping(a, c.v6)],
    ),
    "all of IPv6": (
        [SIX],
        lambda a, b, c: [Tcp(a, c, c.v6, 80), Udp(a, c, c.v6, 53), Ping(b, c.v6), Packet(a, c, c.v6, 253)],
        lambda a, b, c: [Tcp(a, c, c.v4, 80), Ping(a, c.v4)],
    ),
    "SCTP ports": (
        [ports("sctp", 3868)],
        lambda a, b, c: [sctp(a, c, 3868)],
        lambda a, b, c: [sctp(a, c, 3869), Tcp(a, c, c.v4, 3868)],
    ),
    "protocols by number": (
        [{"protocol": "253"}, {"protocol": "50", **SIX}],
        lambda a, b, c: [Packet(a, c, c.v4, 253), Packet(a, c, c.v6, 50)],
        lambda a, b, c: [Packet(a, c, c.v4, 254), Packet(a, c, c.v6, 253), Packet(a, c, c.v4, 50)],
    ),
    "all of ICMP": (
        [{"protocol": "icmp"}],
        lambda a, b, c: [Ping(a, c.v4), icmp(a, c, c.v4, 13)],
        lambda a, b, c: [Ping(a, c.v6), Tcp(a, c, c.v4, 80)],
    ),
    "one type of ICMP": (
        [icmp_rule(8)],
        lambda a, b, c: [Ping(a, c.v4), Ping(b, c.v4)],
        lambda a, b, c: [icmp(a, c, c.v4, 13), Ping(a, c.v6)],
    ),
    "one type of ICMPv6": (
        [icmp_rule(128, version=6)],
        lambda a, b, c: [Ping(a, c.v6)],
        lambda a, b, c: [icmp(a, c, c.v6, 140), Ping(a, c.v4)],
    ),
    "a remote prefix": (
        [{"remote_ip_prefix": "10.0.0.0/25"}, {"remote_ip_prefix": "fd00:a::10/128", **SIX}],
        lambda a, b, c: [Ping(a, c.v4), Ping(a, c.v6), Tcp(a, c, c.v4, 80)],
        lambda a, b, c: [Ping(b, c.v4), Ping(b, c.v6), Tcp(b, c, c.v4, 80)],
    ),
    "a remote prefix and a port": (
        [ports("tcp", 80, remote_ip_prefix="10.0.0.10/32")],
        lambda a, b, c: [Tcp(a, c, c.v4, 80)],
        lambda a, b, c: [Tcp(b, c, c.v4, 80), Tcp(a, c, c.v4, 81)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_rule_lets_in_what_it_says(scene: Scene, case: str) -> None:
    rules, passing, stopped = CASES[case]
    a, b, c = scene.a, scene.b, scene.c
    group = scene.tenant.group(egress=False)
    scene.give(c, scene.always, group)
    made = [scene.tenant.rule(group, **rule) for rule in rules]
    must_pass(*passing(a, b, c))
    must_stop(*stopped(a, b, c), control=scene.control)
    for rule in made:
        scene.tenant.api.delete_security_group_rule(rule)
    must_stop(*passing(a, b, c), control=scene.control)


#: Of a stateless group. Messages that answer nothing are no part of any connection, so that a stateful one
#: takes them for invalid, whatever its rules.
CODES: dict[str, tuple[dict[str, Any], Flows, Flows]] = {
    "ICMP": (
        icmp_rule(3, 4),
        lambda a, b, c: [icmp(a, c, c.v4, 3, 4)],
        lambda a, b, c: [icmp(a, c, c.v4, 3, 3), icmp(a, c, c.v4, 11, 4)],
    ),
    "ICMPv6": (
        icmp_rule(1, 4, version=6),
        lambda a, b, c: [icmp(a, c, c.v6, 1, 4)],
        lambda a, b, c: [icmp(a, c, c.v6, 1, 3), icmp(a, c, c.v6, 3, 4)],
    ),
}


@pytest.mark.parametrize("family", CODES)
def test_a_rule_lets_in_the_codes_that_it_says(scene: Scene, family: str) -> None:
    rule, passing, stopped = CODES[family]
    a, b, c = scene.a, scene.b, scene.c
    stateless = scene.tenant.group(ports("udp", ALWAYS), rule, stateful=False)
    open_group = scene.tenant.group({}, SIX, stateful=False)
    scene.give(a, open_group)
    scene.give(c, stateless)
    must_pass(*passing(a, b, c))
    must_stop(*stopped(a, b, c), control=scene.control)


def test_members_of_the_default_group_reach_each_other_alone(scene: Scene) -> None:
    tenant = scene.tenant
    default = tenant.api.find_security_group("default", ignore_missing=False)
    one, two = tenant.probes(scene.net, "h1", "h2", security_groups=[default.id])
    a = scene.a
    must_pass(Ping(one, two.v4), Ping(one, two.v6), Tcp(two, one, one.v4, 80), Udp(one, two, two.v6, 53))
    # Out everything, and what answers.
    must_pass(Ping(one, a.v4), Ping(one, a.v6), Tcp(two, a, a.v4, 80), Udp(two, a, a.v6, 53))
    foreign: list[Flow] = [Ping(a, one.v4), Ping(a, two.v6), Tcp(a, two, two.v4, 80), Udp(a, one, one.v6, 53)]
    must_stop(*foreign, control=Ping(one, two.v4))


@pytest.mark.parametrize("groups", [0, 1])
def test_without_a_rule_nothing_passes(scene: Scene, groups: int) -> None:
    a, b, c = scene.a, scene.b, scene.c
    scene.give(c, *(scene.tenant.group(egress=False) for _ in range(groups)))
    ways_in: list[Flow] = [
        Ping(a, c.v4),
        Ping(a, c.v6),
        Tcp(a, c, c.v4, 80),
        Udp(a, c, c.v6, ALWAYS, answered=False),
    ]
    ways_out: list[Flow] = [
        Ping(c, a.v4),
        Ping(c, a.v6),
        Tcp(c, a, a.v4, 80),
        Udp(c, a, a.v6, 53, answered=False),
    ]
    must_stop(*ways_in, *ways_out, control=Ping(a, b.v4))
    scene.give(c, scene.tenant.anything)
    must_pass(Ping(a, c.v4), Ping(a, c.v6), Ping(c, a.v4), Ping(c, a.v6))


def test_a_rule_lets_out_what_it_says(scene: Scene) -> None:
    a, b, c = scene.a, scene.b, scene.c
    out: dict[str, Any] = {"direction": "egress", "remote_ip_prefix": "10.0.0.10/32"}
    group = scene.tenant.group(
        ports("udp", ALWAYS),
        ports("tcp", 443, **out),
        ports("udp", 53, 54, direction="egress", ethertype="IPv6"),
        egress=False,
    )
    scene.give(c, group)
    passing: list[Flow] = [Tcp(c, a, a.v4, 443), Udp(c, a, a.v6, 53), Udp(c, b, b.v6, 54)]
    must_pass(*passing)
    foreign: list[Flow] = [
        Tcp(c, b, b.v4, 443),
        Tcp(c, a, a.v4, 444),
        Tcp(c, a, a.v6, 443),
        Udp(c, a, a.v6, 55),
    ]
    must_stop(*foreign, Ping(c, a.v4), control=scene.control)
    for rule in scene.tenant.api.security_group_rules(security_group_id=group.id, direction="egress"):
        scene.tenant.api.delete_security_group_rule(rule)
    must_stop(*passing, control=scene.control)


def test_who_joins_a_remote_group_gets_through_and_who_leaves_does_not(scene: Scene) -> None:
    a, b, c, tenant = scene.a, scene.b, scene.c, scene.tenant
    members = tenant.group()
    from_members = [{"remote_group_id": members.id}, {"remote_group_id": members.id, **SIX}]
    group = tenant.group(*from_members, egress=False)
    scene.give(c, scene.always, group)

    def flows(source: Probe) -> list[Flow]:
        return [Ping(source, c.v4), Ping(source, c.v6), Tcp(source, c, c.v4, 80)]

    must_stop(*flows(a), *flows(b), control=scene.control)
    scene.give(b, tenant.anything, members)
    must_pass(*flows(b))
    must_stop(*flows(a), control=flows(b)[0])
    scene.give(a, tenant.anything, members)
    must_pass(*flows(a))
    scene.give(b, tenant.anything)
    must_stop(*flows(b), control=flows(a)[0])


def test_the_groups_of_a_port_add_up(scene: Scene) -> None:
    a, c = scene.a, scene.c
    web, names = scene.tenant.group(ports("tcp", 80)), scene.tenant.group(ports("tcp", 53))
    scene.give(c, scene.always, web, names)
    must_pass(Tcp(a, c, c.v4, 80), Tcp(a, c, c.v4, 53))
    scene.give(c, scene.always, names)
    must_stop(Tcp(a, c, c.v4, 80), control=Tcp(a, c, c.v4, 53))


def test_rules_that_overlap_or_mean_nothing_leave_later_ones_in_force(scene: Scene) -> None:
    a, b, c, tenant = scene.a, scene.b, scene.c, scene.tenant
    group = tenant.group(egress=False)
    scene.give(c, scene.always, group)
    # OVN has no ports of these: a rule for them lets nothing pass.
    tenant.rule(group, **ports("udplite", 80, 90))
    first = tenant.rule(group, **ports("tcp", 80, 90))
    tenant.rule(group, **ports("tcp", 85, 95))
    tenant.rule(group, **ports("udp", 5000, remote_ip_prefix="10.0.0.0/8"))
    wide = tenant.rule(group, **ports("udp", 5000, remote_ip_prefix="10.0.0.10/32"))
    with pytest.raises(BadRequestException):
        tenant.rule(group, **ports("tcp", 99, 98))
    tenant.rule(group, **ports("tcp", 443))
    must_pass(*(Tcp(a, c, c.v4, port) for port in (80, 87, 95, 443)), Udp(b, c, c.v4, 5000))
    must_stop(Tcp(a, c, c.v4, 79), Tcp(a, c, c.v4, 96), Udp(a, c, c.v4, 80), control=scene.control)
    tenant.api.delete_security_group_rule(first)
    tenant.api.delete_security_group_rule(wide)
    must_stop(Tcp(a, c, c.v4, 80), Tcp(a, c, c.v4, 84), control=scene.control)
    must_pass(*(Tcp(a, c, c.v4, port) for port in (85, 95, 443)), Udp(a, c, c.v4, 5000))


def test_replies_pass_without_a_rule_but_not_in_a_stateless_group(scene: Scene) -> None:
    a, c, tenant = scene.a, scene.c, scene.tenant
    asked, answered = Udp(a, c, c.v4, 7, answered=False), Udp(a, c, c.v4, 7)
    scene.give(c, tenant.group(ports("udp", 7), egress=False))
    must_pass(asked, answered)
    stateless = tenant.group(ports("udp", 7), stateful=False, egress=False)
    scene.give(c, stateless)
    must_stop(answered, control=asked)
    tenant.rule(stateless, direction="egress", protocol="udp")
    must_pass(answered)


def test_a_connection_ends_with_the_rule_that_let_it_in(scene: Scene) -> None:
    a, c, tenant = scene.a, scene.c, scene.tenant
    group = tenant.group(egress=False)
    rule = tenant.rule(group, **ports("tcp", 80))
    scene.give(c, scene.always, group)
    must_pass(Tcp(a, c, c.v4, 80))
    with Tcp(a, c, c.v4, 80).connected() as connection:
        must_pass(connection)
        # Other changes of the group leave it alone.
        tenant.rule(group, **ports("tcp", 81))
        must_pass(Tcp(a, c, c.v4, 81), connection)
        tenant.api.delete_security_group_rule(rule)
        must_stop(connection, control=scene.control)


def test_what_is_too_large_for_one_packet_passes_in_fragments(scene: Scene) -> None:
    a, c, tenant = scene.a, scene.c, scene.tenant
    group = tenant.group(egress=False)
    rules = [tenant.rule(group, **ports("udp", 7)), tenant.rule(group, **ports("udp", 7, **SIX))]
    scene.give(c, scene.always, group)
    large = [Udp(a, c, c.v4, 7, size=4000), Udp(a, c, c.v6, 7, size=4000)]
    must_pass(*large)
    for rule in rules:
        tenant.api.delete_security_group_rule(rule)
    must_stop(*large, control=scene.control)
