"""What hosts are told of names: a network's own, what is published, and nobody else's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trunkline.compiler import names as names_module
from trunkline.compiler.derive import View
from trunkline.compiler.hosts import host_slices
from trunkline.compiler.incremental import Compiler
from trunkline.compiler.names import FEW, PARTS
from trunkline.compiler.network import logical_network
from trunkline.compiler.settings import Settings
from trunkline.compiler.slices import HostSlice, NamesSlice, ZoneSlice, changed_names, whole_names
from trunkline.compiler.snapshot import Snapshot
from trunkline.resources.network import (
    METADATA,
    ROUTER_INTERFACE,
    FixedIp,
    FloatingIP,
    Network,
    Port,
    Router,
    Subnet,
)
from trunkline.resources.region import Host
from trunkline.resources.schema import Resource

NET = Network(id="n1", project_id="own", mtu=1442, dns_domain="example.org.")
SUBNET = Subnet(id="s1", network_id="n1", project_id="own", cidr="10.0.0.0/24", gateway_ip="10.0.0.1")
SIX = Subnet(
    id="s6",
    network_id="n1",
    project_id="own",
    ip_version=6,
    cidr="fd00::/64",
    gateway_ip="fd00::1",
    ipv6_ra_mode="slaac",
    ipv6_address_mode="slaac",
)
SERVICE = Port(
    id="m1",
    network_id="n1",
    mac_address="fa:16:3e:00:00:99",
    device_owner=METADATA,
    fixed_ips=[
        FixedIp(subnet_id="s1", ip_address="10.0.0.2"),
        FixedIp(subnet_id="s6", ip_address="fd00::2"),
    ],
)
PROBE = Port(
    id="probe",
    network_id="n1",
    mac_address="fa:16:3e:00:00:01",
    device_owner="trunkline:probe",
    host_id="h1",
    fixed_ips=[FixedIp(subnet_id="s1", ip_address="10.0.0.9")],
)


def port(id: str, name: str, address: str, **fields: Any) -> Port:
    known = {"network_id": "n1", "project_id": "own", "mac_address": "fa:16:3e:00:00:02"}
    fixed = [FixedIp(subnet_id=fields.pop("subnet", "s1"), ip_address=address)]
    return Port(id=id, dns_name=name, fixed_ips=fixed, **{**known, **fields})


def snapshot(*objects: Resource) -> Snapshot:
    everything: dict[type[Resource], dict[str, Resource]] = {}
    for each in (Host(id="h1"), NET, SUBNET, SIX, SERVICE, PROBE, *objects):
        everything.setdefault(type(each), {})[each.id] = each
    return Snapshot(revision=7, intent=5, objects=everything)


def zone(*objects: Resource, **settings: Any) -> ZoneSlice:
    """What the network's service on the host is told."""
    (service,) = host_slices(snapshot(*objects), Settings(**settings))["h1"].metadata
    assert service.zone is not None
    return service.zone


def names(told: ZoneSlice) -> dict[str, tuple[str, ...]]:
    """All names of all parts, the own ones first."""
    parts = [part for part in told.names if part is not None]
    assert len(parts) == len(told.names)
    return {
        name: found for each in ("own", "beside") for p in parts for name, found in getattr(p, each).items()
    }


def test_named_ports_are_told_in_the_domain_of_port_network_or_region() -> None:
    told = zone(
        port("p1", "web", "10.0.0.5"),
        port("p2", "own", "10.0.0.6", dns_domain="own.test."),
        port("p3", "whole.cloud.internal.", "10.0.0.7"),
        port("p4", "", "10.0.0.8"),
        dns_forwarders=("192.0.2.53",),
    )
    assert names(told) == {
        "web.example.org": ("10.0.0.5",),
        "own.own.test": ("10.0.0.6",),
        "whole.cloud.internal": ("10.0.0.7",),
    }
    assert (told.domain, told.region_domain, told.forwarders) == (
        "example.org",
        "cloud.internal",
        ("192.0.2.53",),
    )


def test_ports_of_one_project_share_a_name() -> None:
    told = zone(port("p1", "web", "10.0.0.5"), port("p2", "web", "10.0.0.6"))
    assert names(told) == {"web.example.org": ("10.0.0.5", "10.0.0.6")}


def test_no_other_project_adds_to_a_name() -> None:
    own = port("p9", "web", "10.0.0.5", created_at="2026-11-21T09:00:00Z")
    early = port("p1", "web", "10.0.0.66", project_id="other", created_at="2026-11-21T01:00:00Z")
    assert names(zone(early, own)) == {"web.example.org": ("10.0.0.5",)}
    guests = [
        port("p2", "db", "10.0.0.7", project_id="first", created_at="2026-11-21T02:00:00Z"),
        port("p1", "db", "10.0.0.8", project_id="second", created_at="2026-11-21T03:00:00Z"),
    ]
    assert names(zone(*guests)) == {"db.example.org": ("10.0.0.7",)}


def test_names_of_other_networks_are_told_where_their_subnet_publishes_them() -> None:
    def told(publishes: bool, **fields: Any) -> dict[str, tuple[str, ...]]:
        network = Network(id="n2", project_id="own", mtu=1442)
        subnets = [
            Subnet(id="s2", network_id="n2", cidr="10.2.0.0/24", dns_publish_fixed_ip=publishes,
                   **{"project_id": "own", **fields}),
            Subnet(id="s3", network_id="n2", cidr="10.3.0.0/24", project_id="own"),
        ]  # fmt: skip
        ports = [
            port("p2", "db", "10.2.0.5", network_id="n2", subnet="s2"),
            port("p3", "db", "10.3.0.5", network_id="n2", subnet="s3"),
            port("p4", "guest", "10.2.0.6", network_id="n2", subnet="s2", project_id="other"),
        ]
        return names(zone(network, *subnets, *ports))

    assert told(False) == {}
    assert told(True) == {"db.cloud.internal": ("10.2.0.5",)}
    assert told(True, project_id="other") == {}


def test_floating_ips_of_the_project_are_told_and_hide_nothing() -> None:
    def floating(id: str, name: str, address: str, **fields: Any) -> FloatingIP:
        known = {"project_id": "own", "dns_domain": "example.org."}
        return FloatingIP(id=id, dns_name=name, floating_ip_address=address, **{**known, **fields})

    told = zone(
        port("p1", "web", "10.0.0.5"),
        floating("f1", "web", "203.0.113.1"),
        floating("f2", "www", "203.0.113.2"),
        floating("f3", "plain", "203.0.113.3", dns_domain=""),
        floating("f4", "others", "203.0.113.4", project_id="other"),
    )
    assert names(told) == {
        "web.example.org": ("10.0.0.5",),
        "www.example.org": ("203.0.113.2",),
        "plain.cloud.internal": ("203.0.113.3",),
    }


def crowd(number: int = 2 * FEW) -> list[Port]:
    return [port(f"p{n}", f"web{n}", f"10.0.1.{n % 250}") for n in range(number)]


def test_many_names_are_told_in_parts_and_resolved_as_few_are() -> None:
    def floating(number: int) -> FloatingIP:
        name = {"dns_name": f"web{number}", "dns_domain": "example.org."}
        return FloatingIP(id=f"f{number}", project_id="own", floating_ip_address="203.0.113.1", **name)

    hidden = port("late", "web7", "10.0.0.66", project_id="other", created_at="2026-11-21T09:00:00Z")
    told = zone(*crowd(), hidden, floating(7), floating(2 * FEW))
    assert (len(told.names), len(zone(*crowd(FEW)).names)) == (PARTS, 1)
    few = names(zone(crowd()[7], hidden, floating(7), floating(2 * FEW)))
    found = names(told)
    assert len(found) == 2 * FEW + 1
    assert {name: found[name] for name in few} == few


def test_a_host_is_told_the_parts_that_changed_and_makes_the_whole_of_them() -> None:
    def told(*ports: Port) -> HostSlice:
        return host_slices(snapshot(*ports), Settings())["h1"]

    before, after = told(*crowd()), told(*crowd(), port("new", "new", "10.0.0.5"))
    sent = changed_names(after, before)
    (service,) = sent.metadata
    assert service.zone is not None
    assert [part is not None for part in service.zone.names].count(True) == 1
    assert whole_names(sent, before) == after
    assert whole_names(after, None) == after
    few = told(port("p1", "web", "10.0.0.5"))
    assert (whole_names(sent, None), whole_names(sent, few)) == (None, None)
    for one, other in ((few, after), (after, few), (after, after)):
        assert whole_names(changed_names(one, other), other) == one


def test_one_name_among_many_has_one_part_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    part = names_module._part

    def counted(view: View, key: str) -> NamesSlice:
        made.append(key)
        return part(view, key)

    monkeypatch.setattr(names_module, "_part", counted)
    following = Compiler(Settings())
    ports = crowd()
    following.compile(snapshot(*ports))
    assert len(made) == PARTS
    made.clear()
    new = replace(snapshot(*ports, port("new", "new", "10.0.0.5")), revision=8, intent=8)
    _, slices = following.compile(new)
    assert len(made) == 1
    assert slices == host_slices(new, Settings())


def test_hosts_are_told_of_the_service_where_their_subnet_names_no_server() -> None:
    leg = Port(
        id="leg",
        network_id="n1",
        device_id="r1",
        device_owner=ROUTER_INTERFACE,
        mac_address="fa:16:3e:00:00:03",
        fixed_ips=[FixedIp(subnet_id="s6", ip_address="fd00::1")],
    )
    router = Router(id="r1")
    network = logical_network(snapshot(port("p1", "web", "10.0.0.5"), leg, router), Settings())
    assert (network.dhcps["s1"].dns_servers, network.dhcps["s1"].domain) == (("10.0.0.2",), "example.org")
    advertised = network.router_ports["leg"].advertisement
    assert advertised is not None
    assert (advertised.dns_servers, advertised.domain) == (("fd00::2",), "example.org")
    assert (network.ports["p1"].hostname, network.ports["probe"].hostname) == ("web", "")
