"""From a snapshot to the logical network: what each resource becomes."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from trunkline.compiler.logical import Allowed, LogicalNetwork, Nat, Route, Rule, TrafficLog, Uplink
from trunkline.compiler.network import logical_network
from trunkline.compiler.settings import Settings
from trunkline.compiler.snapshot import Snapshot
from trunkline.resources.network import (
    FLOATING_IP,
    METADATA,
    ROUTER_GATEWAY,
    ROUTER_INTERFACE,
    AddressPair,
    ExtraDhcpOption,
    FixedIp,
    FloatingIP,
    Gateway,
    GatewayPort,
    HostRoute,
    Log,
    Network,
    Port,
    Router,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
    SubnetPool,
)
from trunkline.resources.region import Host
from trunkline.resources.schema import Resource

MAC = "fa:16:3e:00:00:0{}"


def compiled(*objects: Resource) -> LogicalNetwork:
    by_class: dict[type[Resource], dict[str, Resource]] = {}
    for obj in objects:
        by_class.setdefault(type(obj), {})[obj.id] = obj
    return logical_network(Snapshot(revision=7, intent=5, objects=by_class), Settings())


INNER = Network(id="n", name="web", mtu=1442, network_type="geneve", segmentation_id=7)
OUTER = Network(
    id="x", mtu=1500, external=True, network_type="vlan", physical_network="physnet1", segmentation_id=30
)
WEB4 = Subnet(
    id="s4",
    network_id="n",
    ip_version=4,
    cidr="10.0.0.0/24",
    gateway_ip="10.0.0.1",
    dns_nameservers=["9.9.9.9"],
    host_routes=[HostRoute(destination="10.9.0.0/16", nexthop="10.0.0.9")],
)
WEB6 = Subnet(
    id="s6",
    network_id="n",
    ip_version=6,
    cidr="fd00::/64",
    gateway_ip="fd00::1",
    ipv6_ra_mode="slaac",
    ipv6_address_mode="slaac",
)
PUBLIC = Subnet(
    id="p4", network_id="x", ip_version=4, cidr="203.0.113.0/24", gateway_ip="203.0.113.1", enable_dhcp=False
)
META = Port(
    id="m",
    network_id="n",
    device_owner=METADATA,
    mac_address=MAC.format(1),
    fixed_ips=[FixedIp(subnet_id="s4", ip_address="10.0.0.2")],
)
LEG = Port(
    id="leg",
    network_id="n",
    device_owner=ROUTER_INTERFACE,
    device_id="r",
    mac_address=MAC.format(2),
    fixed_ips=[
        FixedIp(subnet_id="s4", ip_address="10.0.0.1"),
        FixedIp(subnet_id="s6", ip_address="fd00::1"),
    ],
)
GATE = Port(
    id="gate",
    network_id="x",
    device_owner=ROUTER_GATEWAY,
    device_id="r",
    mac_address=MAC.format(3),
    fixed_ips=[FixedIp(subnet_id="p4", ip_address="203.0.113.7")],
)
EDGE = Router(
    id="r",
    external_gateway_info=Gateway(network_id="x", enable_snat=True),
    gateway_port_id="gate",
    gateway_hosts=["h2", "h1"],
    routes=[HostRoute(destination="10.8.0.0/16", nexthop="10.0.0.8")],
)
WORK = Port(
    id="w",
    network_id="n",
    mac_address=MAC.format(4),
    host_id="h1",
    device_owner="compute:nova",
    security_groups=["g"],
    fixed_ips=[
        FixedIp(subnet_id="s4", ip_address="10.0.0.5"),
        FixedIp(subnet_id="s6", ip_address="fd00::5"),
    ],
    allowed_address_pairs=[AddressPair(ip_address="10.7.0.0/16")],
)
GROUP = SecurityGroup(id="g", name="default")


def test_a_log_is_of_its_group_of_its_port_or_of_the_project() -> None:
    port = Port(
        id="p", network_id="n", project_id="own", mac_address=MAC.format(5), security_groups=["h", "g"]
    )
    others = [SecurityGroup(id=key, project_id="own") for key in "gh"]

    def logged(*more: Resource, **fields: Any) -> LogicalNetwork:
        log = Log(id="l", project_id="own", **fields)
        return compiled(INNER, *others, SecurityGroup(id="x", project_id="other"), *(more or [port]), log)

    for fields, groups in (
        ({}, ("g", "h")),
        ({"resource_id": "h"}, ("h",)),
        ({"target_id": "p"}, ("g", "h")),
        ({"target_id": "p", "resource_id": "g"}, ("g",)),
    ):
        (record,) = logged(event="DROP", **fields).logs.values()
        expected = TrafficLog(key="l", rule_sets=groups, port=fields.get("target_id"), dropped=True)
        assert record == expected
    (accepted,) = logged(event="ACCEPT").logs.values()
    assert (accepted.accepted, accepted.dropped) == (True, False)
    assert logged(enabled=False).logs == {}
    assert logged(replace(port, port_security_enabled=False), target_id="p").logs == {}


def test_an_overlay_network_becomes_a_switch_without_an_uplink() -> None:
    switch = compiled(INNER).switches["n"]
    assert (switch.encapsulation, switch.uplinks, switch.mtu) == ("geneve", (), 1442)


def test_a_vlan_network_meets_its_physical_network() -> None:
    switch = compiled(OUTER).switches["x"]
    assert (switch.encapsulation, switch.uplinks) == (None, (Uplink(physical_network="physnet1", vlan=30),))


def test_a_port_may_send_from_its_addresses_and_its_pairs() -> None:
    port = compiled(INNER, WEB4, WEB6, META, WORK, GROUP).ports["w"]
    assert port.allowed == tuple(
        Allowed(mac=MAC.format(4), prefix=p) for p in ("10.0.0.5", "fd00::5", "10.7.0.0/16")
    )
    assert (port.host, port.rule_sets, port.dhcp4, port.dhcp6) == ("h1", ("g",), "s4", None)


def test_without_port_security_nothing_is_filtered() -> None:
    open_port = Port(id="o", network_id="n", port_security_enabled=False, security_groups=[])
    port = compiled(INNER, open_port).ports["o"]
    assert (port.allowed, port.rule_sets, port.unknown) == (None, (), True)


def test_a_network_that_is_down_takes_its_ports_down() -> None:
    down = Network(id="n", admin_state_up=False)
    assert not compiled(down, WORK, META, GROUP).ports["w"].enabled


def test_dhcp_tells_the_way_to_the_metadata_service_and_out() -> None:
    dhcp = compiled(INNER, WEB4, META).dhcps["s4"]
    assert dhcp.routes == (
        ("169.254.169.254/32", "10.0.0.2"),
        ("10.9.0.0/16", "10.0.0.9"),
        ("0.0.0.0/0", "10.0.0.1"),
    )
    assert (dhcp.router, dhcp.mtu, dhcp.dns_servers) == ("10.0.0.1", 1442, ("9.9.9.9",))


def test_a_subnet_with_slaac_alone_has_no_dhcp() -> None:
    assert compiled(INNER, WEB6).dhcps == {}


def test_options_of_a_port_are_told_to_it_alone() -> None:
    booting = Port(
        id="b",
        network_id="n",
        fixed_ips=[FixedIp(subnet_id="s4", ip_address="10.0.0.6")],
        extra_dhcp_opts=[ExtraDhcpOption(opt_name="bootfile-name", opt_value="x.0")],
    )
    network = compiled(INNER, WEB4, booting, WORK, GROUP)
    assert network.dhcps[network.ports["b"].dhcp4 or ""].options == (("bootfile-name", "x.0"),)
    assert network.dhcps[network.ports["w"].dhcp4 or ""].options == ()


def test_a_router_has_legs_routes_and_translations() -> None:
    floating = FloatingIP(
        id="f",
        floating_network_id="x",
        floating_ip_address="203.0.113.9",
        router_id="r",
        port_id="w",
        fixed_ip_address="10.0.0.5",
    )
    network = compiled(INNER, OUTER, WEB4, WEB6, PUBLIC, META, LEG, GATE, EDGE, WORK, GROUP, floating)
    assert network.router_ports["leg"].networks == ("10.0.0.1/24", "fd00::1/64")
    advertisement = network.router_ports["leg"].advertisement
    assert advertisement is not None
    assert advertisement.mode == "slaac"
    assert network.router_ports["gate"].gateway_hosts == ("h2", "h1")
    assert set(network.routes.values()) == {
        Route(key="gate.p4", router="r", prefix="0.0.0.0/0", next_hop="203.0.113.1", port="gate"),
        Route(key="r.10.8.0.0/16.10.0.0.8", router="r", prefix="10.8.0.0/16", next_hop="10.0.0.8"),
    }
    assert set(network.nats.values()) == {
        Nat(
            key="gate.s4",
            router="r",
            type="snat",
            external="203.0.113.7",
            internal="10.0.0.0/24",
            gateway_port="gate",
        ),
        Nat(
            key="f",
            router="r",
            type="floating",
            external="203.0.113.9",
            internal="10.0.0.5",
            gateway_port="gate",
        ),
    }


def test_a_floating_ip_of_a_distributed_router_is_at_the_host_of_its_port_if_that_is_connected() -> None:
    floating = FloatingIP(
        id="f", floating_network_id="x", floating_ip_address="203.0.113.9", router_id="r", port_id="w",
        fixed_ip_address="10.0.0.5", floating_port_id="held",
    )  # fmt: skip
    held = Port(id="held", network_id="x", mac_address=MAC.format(9), device_owner=FLOATING_IP)
    world = (INNER, OUTER, WEB4, WEB6, PUBLIC, META, LEG, GATE, WORK, GROUP, floating, held)

    def place(host: Host, *, distributed: bool = True) -> tuple[str | None, str | None]:
        found = compiled(*world, host, replace(EDGE, distributed=distributed)).nats["f"]
        return found.port, found.external_mac

    connected = Host(id=WORK.host_id, wired=["physnet1"])
    assert place(connected) == ("w", MAC.format(9))
    assert place(connected, distributed=False) == (None, None)
    assert place(Host(id=WORK.host_id, wired=["physnet2"])) == (None, None)
    assert place(replace(connected, id="elsewhere")) == (None, None)


def test_without_snat_only_floating_addresses_are_translated() -> None:
    plain = Router(
        id="r", external_gateway_info=Gateway(network_id="x", enable_snat=False), gateway_port_id="gate"
    )
    assert compiled(INNER, OUTER, WEB4, PUBLIC, LEG, GATE, plain, WEB6).nats == {}


def test_only_where_a_gateway_does_not_translate_other_scopes_are_kept_in() -> None:
    second = Gateway(network_id="y", enable_snat=False)
    edge = replace(EDGE, more_gateways=[GatewayPort(port_id="gate2", info=second)])
    gate2 = replace(GATE, id="gate2", fixed_ips=[FixedIp(subnet_id="p5", ip_address="198.51.100.7")])
    floating = [
        FloatingIP(
            id=network, floating_network_id=network, floating_ip_address=address, router_id="r",
            fixed_ip_address=inner,
        )
        for network, address, inner in (("x", "203.0.113.9", "10.0.0.5"), ("y", "198.51.100.9", "10.0.0.6"))
    ]  # fmt: skip
    network = compiled(
        INNER, OUTER, WEB6, PUBLIC, GATE, gate2, edge, *floating,
        Network(id="y", external=True), Subnet(id="p5", network_id="y", ip_version=4, cidr="198.51.100.0/24"),
        replace(WEB4, subnetpool_id="pool"), SubnetPool(id="pool", address_scope_id="scope"),
        replace(LEG, fixed_ips=LEG.fixed_ips[:1]),
    )  # fmt: skip
    out = {b.leaving: (b.entered, b.except_from) for b in network.barriers.values() if b.leaving != "leg"}
    assert out == {"gate2": (("leg",), ("10.0.0.6",))}


def test_rules_keep_what_they_say() -> None:
    def rule(key: str, **fields: object) -> SecurityGroupRule:
        return SecurityGroupRule(id=key, security_group_id="g", direction="ingress", **fields)

    rules = (
        compiled(
            GROUP,
            rule("1", protocol="tcp", port_range_min=22, port_range_max=23, remote_ip_prefix="10.0.0.0/8"),
            rule("2", protocol="icmp", ethertype="IPv6", port_range_min=128),
            rule("3", remote_group_id="g"),
            rule("4", remote_address_group_id="ag"),
        )
        .rule_sets["g"]
        .rules
    )
    assert rules == (
        Rule(key="1", direction="ingress", family=4, protocol=6, ports=(22, 23), remote_prefix="10.0.0.0/8"),
        Rule(key="2", direction="ingress", family=6, protocol=58, icmp_type=128),
        Rule(key="3", direction="ingress", family=4, remote_set="g"),
        Rule(key="4", direction="ingress", family=4, remote_addresses="ag"),
    )
