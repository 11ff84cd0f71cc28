"""The translation of a logical network into rows of OVN, without any OVN."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ovn_networks import by_key, everything, port, rule, small_networks

from trunkline.backends.ovn import names, unsupported_dhcp_options, unsupported_rule
from trunkline.backends.ovn.names import OWNED, Ref
from trunkline.backends.ovn.rows import Translation, desired
from trunkline.backends.ovn.switching import port_security
from trunkline.compiler.logical import AddressGroup, Barrier, Dhcp, LogicalNetwork, Nat, RuleSet

NETWORK = everything()
ROWS = desired(NETWORK)


def row(table: str, key: str) -> dict[str, Any]:
    return {column: value for column, value in ROWS[table][key].items() if column != "external_ids"}


def matches(group: str) -> set[tuple[str, int, str, str]]:
    return {
        (acl["direction"], acl["priority"], acl["action"], acl["match"])
        for acl in ROWS["ACL"].values()
        if f"@{group} " in acl["match"]
    }


@given(small_networks())
def test_rows_have_exactly_the_columns_that_are_watched_and_refer_to_each_other(
    network: LogicalNetwork,
) -> None:
    tables = desired(network)
    assert tables.keys() == OWNED.keys()
    for table, rows in tables.items():
        for key, row in rows.items():
            assert row.keys() == set(OWNED[table])
            assert row["external_ids"][names.MARK] == key
            for value in row.values():
                for ref in value if isinstance(value, frozenset) else [value]:
                    assert not isinstance(ref, Ref) or ref.key in tables[ref.table]


def test_equal_networks_give_equal_rows() -> None:
    assert desired(everything()) == ROWS


@given(st.lists(small_networks(), min_size=1, max_size=4), st.lists(st.booleans(), min_size=4, max_size=4))
def test_what_was_translated_before_makes_no_difference(
    networks: list[LogicalNetwork], ports_alone: list[bool]
) -> None:
    translation, before = Translation(), LogicalNetwork()
    for network, alone in zip(networks, ports_alone, strict=False):
        before = replace(before, ports=network.ports) if alone else network
        assert translation.update(before).tables() == desired(before)


def test_rows_that_come_out_equal_stay_the_same() -> None:
    translation = Translation()
    first = translation.update(NETWORK)
    second = translation.update(replace(NETWORK, ports={**NETWORK.ports, "p9": port("p9", 19)}))
    assert second.row(Ref("Logical_Switch_Port", "p1")) is first.row(Ref("Logical_Switch_Port", "p1"))
    assert second.outputs["ACL"] is first.outputs["ACL"]
    third = translation.update(everything_and_p9())
    assert all(rows is third.outputs[kind] for kind, rows in second.outputs.items())


def everything_and_p9() -> LogicalNetwork:
    """Equal to what was translated, of other objects."""
    network = everything()
    return replace(network, ports={**network.ports, "p9": port("p9", 19)})


def test_a_workload_is_named_as_its_host_knows_it() -> None:
    assert row("Logical_Switch_Port", "p1") == {
        "name": "p1",
        "type": "",
        "addresses": {"fa:16:3e:00:00:0b 10.0.0.11 fd00:a::b"},
        "port_security": {"fa:16:3e:00:00:0b 10.0.0.11 fd00:a::b fe80::f816:3eff:fe00:b"},
        "enabled": None,
        "parent_name": None,
        "tag": None,
        "options": {"requested-chassis": "h1"},
        "dhcpv4_options": Ref("DHCP_Options", "web4"),
        "dhcpv6_options": Ref("DHCP_Options", "web6"),
    }


def test_a_port_can_be_switched_off_unfiltered_or_local_to_each_host() -> None:
    assert row("Logical_Switch_Port", "p2")["enabled"] is False
    free = row("Logical_Switch_Port", "p3")
    assert (free["port_security"], free["addresses"], free["options"]) == (
        frozenset(),
        {"fa:16:3e:00:00:0d 10.0.0.13 fd00:a::d", "unknown"},
        {},
    )
    assert row("Logical_Switch_Port", "md")["type"] == "localport"


def test_a_sub_port_is_a_child_of_its_parents_with_the_tag() -> None:
    sub = msgspec.structs.replace(NETWORK.ports["p1"], parent="p2", vlan=30)
    child = desired(replace(NETWORK, ports={**NETWORK.ports, "p1": sub}))["Logical_Switch_Port"]["p1"]
    assert (child["parent_name"], child["tag"], child["type"]) == ("p2", 30, "")


def test_an_uplink_is_a_localnet_port_with_the_vlan() -> None:
    uplink = row("Logical_Switch_Port", "ln-outer-physnet1")
    assert (uplink["type"], uplink["tag"], uplink["options"]) == (
        "localnet",
        100,
        {"network_name": "physnet1"},
    )
    assert row("Logical_Switch", "ls-web")["other_config"] == {"vlan-passthru": "true"}


def test_port_security_lists_the_pairs_of_each_mac() -> None:
    assert port_security(NETWORK.ports["p5"]) == {
        "fa:16:3e:00:00:0f 10.0.0.15 10.9.0.0/16",
        "00:00:5e:00:01:01 10.0.0.99",
    }


def test_a_filtered_port_without_addresses_may_not_use_any() -> None:
    assert port_security(NETWORK.ports["p4"]) == {"fa:16:3e:00:00:0e 0.0.0.0 ::"}


def test_a_gateway_is_on_the_first_host_that_lives() -> None:
    leg = row("Logical_Router_Port", "lrp-outer-leg")
    chassis = [ROWS["Gateway_Chassis"][ref.key] for ref in leg["gateway_chassis"]]
    assert [c["chassis_name"] for c in sorted(chassis, key=lambda c: -c["priority"])] == ["h2", "h1", "h3"]
    assert row("Logical_Switch_Port", "lsp-lrp-outer-leg")["options"] == {
        "router-port": "lrp-outer-leg",
        "nat-addresses": "router",
    }


def test_what_does_not_fit_the_smallest_side_of_a_router_is_answered() -> None:
    assert row("Logical_Router_Port", "lrp-web-leg")["options"] == {"gateway_mtu": "1442"}
    assert row("Logical_Router_Port", "lrp-outer-leg")["options"] == {"gateway_mtu": "1442"}
    equal = {key: msgspec.structs.replace(leg, mtu=1442) for key, leg in NETWORK.router_ports.items()}
    legs = desired(replace(NETWORK, router_ports=equal))["Logical_Router_Port"]
    assert [leg["options"] for leg in legs.values()] == [{}, {}]


def test_router_advertisements_tell_mode_mtu_and_one_server() -> None:
    config = row("Logical_Router_Port", "lrp-web-leg")["ipv6_ra_configs"]
    assert (
        config.items()
        >= {
            "address_mode": "dhcpv6_stateful",
            "send_periodic": "true",
            "mtu": "1442",
            "rdnss": "fd00:a::53",
        }.items()
    )


def test_translations_and_routes_hang_on_their_router() -> None:
    router = row("Logical_Router", "lr-r")
    assert router["nat"] == {Ref("NAT", key) for key in ("out", "fip", "fip2")}
    assert router["static_routes"] == {Ref("Logical_Router_Static_Route", key) for key in ("default", "more")}
    assert row("Logical_Router_Static_Route", "default") == {
        "ip_prefix": "0.0.0.0/0",
        "nexthop": "203.0.113.1",
        "output_port": "lrp-outer-leg",
        "bfd": None,
    }
    assert row("NAT", "fip") == {
        "type": "dnat_and_snat",
        "external_ip": "203.0.113.50",
        "logical_ip": "10.0.0.11",
        "logical_port": "p1",
        "external_mac": "fa:16:3e:02:00:01",
        "gateway_port": Ref("Logical_Router_Port", "lrp-outer-leg"),
        "options": {},
    }
    central = row("NAT", "fip2")
    assert (central["logical_port"], central["external_mac"], central["gateway_port"]) == (None, None, None)


def test_an_address_that_a_gateway_answers_for_is_translated_to_itself_without_tracking() -> None:
    address = "2001:db8::5"
    proxy = Nat(key="n", router="r", type="proxy", external=address, internal=address)
    found = desired(replace(NETWORK, nats={"n": proxy}))["NAT"]["n"]
    assert (found["type"], found["external_ip"], found["logical_ip"]) == ("dnat_and_snat", address, address)
    assert found["options"] == {"stateless": "true"}


def test_exceptions_of_a_barrier_go_before_it() -> None:
    around = ("10.0.0.5", "10.0.0.6")
    fields = {"router": "r", "family": 4, "leaving": "outer-leg", "entered": ("web-leg",)}
    barrier = Barrier(key="b", except_from=around, except_to=("10.0.0.7",), **fields)
    found = desired(replace(NETWORK, barriers={"b": barrier}))["Logical_Router_Policy"]
    way = 'inport == {"lrp-web-leg"} && outport == "lrp-outer-leg" && ip4'
    assert {(row["priority"], row["match"], row["action"]) for row in found.values()} == {
        (30000, way, "drop"),
        (30001, f"{way} && ip4.src == {{10.0.0.5, 10.0.0.6}}", "allow"),
        (30001, f"{way} && ip4.dst == {{10.0.0.7}}", "allow"),
    }


def test_every_filtered_port_drops_what_no_rule_allows() -> None:
    group = row("Port_Group", names.FILTERED)
    assert group["ports"] == {Ref("Logical_Switch_Port", key) for key in ("p1", "p2", "p4", "p5")}
    at = f"port == @{names.FILTERED} && "
    assert matches(names.FILTERED) == {
        ("to-lport", 1001, "drop", f"out{at}ip"),
        ("from-lport", 1001, "drop", f"in{at}ip"),
        ("from-lport", 2000, "drop", f"in{at}ip4 && udp.src == 67 && udp.dst == 68"),
        ("from-lport", 2000, "drop", f"in{at}ip6 && udp.src == 547 && udp.dst == 546"),
        (
            "from-lport",
            1008,
            "allow",
            f"in{at}ip4.dst == {{255.255.255.255, $trunkline_dhcp4}} && udp.src == 68 && udp.dst == 67",
        ),
        ("from-lport", 1008, "allow", f"in{at}ip6.dst == ff02::1:2 && udp.src == 546 && udp.dst == 547"),
    }


def test_rules_become_matches() -> None:
    def stated(text: str) -> tuple[str, int, str, str]:
        side, way = (
            ("in", "from-lport") if ".dst == $" in text or text in ("ip4", "ip6") else ("out", "to-lport")
        )
        return way, 1004, "allow-related", f"{side}port == @rs_sg_1 && {text}"

    assert matches("rs_sg_1") == {
        stated("ip4"),
        stated("ip6"),
        stated("ip4 && tcp.dst == 22"),
        stated("ip4 && ip4.src == 192.0.2.0/24 && udp.dst >= 1000 && udp.dst <= 2000"),
        stated("ip4 && icmp4 && icmp4.type == 8 && icmp4.code == 0"),
        stated("ip6 && icmp6 && icmp6.type == 128"),
        stated("ip4 && ip4.src == $rs_sg_1_ip4"),
        stated("ip6 && ip6.src == $rs_sg_1_ip6"),
        stated("ip4 && sctp.dst >= 5000 && sctp.dst <= 5001"),
        stated("ip4 && ip.proto == 47"),
        # Fragments after the first have no ports and no types.
        stated("ip4 && ip.proto == 6 && ip.later_frag"),
        stated("ip4 && ip4.src == 192.0.2.0/24 && ip.proto == 17 && ip.later_frag"),
        stated("ip4 && ip.proto == 1 && ip.later_frag"),
        stated("ip6 && ip.later_frag"),
        stated("ip4 && ip.proto == 132 && ip.later_frag"),
    }
    assert matches("rs_stateless") == {
        ("to-lport", 1006, "allow-stateless", f"outport == @rs_stateless && ip4 && {text}")
        for text in ("udp.dst == 53", "ip.proto == 17 && ip.later_frag")
    }


def test_the_prefixes_of_a_group_are_a_set_of_each_family() -> None:
    sets = desired(
        LogicalNetwork(
            address_groups=by_key(
                AddressGroup(key="a-1", name="n", prefixes=("10.0.0.0/8", "192.0.2.1/32", "fd00::/8"))
            )
        )
    )["Address_Set"]
    assert sets["ag_a_1_ip4"]["addresses"] == {"10.0.0.0/8", "192.0.2.1/32"}
    assert sets["ag_a_1_ip6"]["addresses"] == {"fd00::/8"}


def test_a_rule_that_ovn_cannot_match_lets_nothing_pass_and_is_named() -> None:
    assert "DCCP" in unsupported_rule(rule("x", protocol=33, ports=(1, 2)))
    assert not unsupported_rule(rule("x", protocol=33))
    assert not any("ip.proto == 33" in acl["match"] for acl in ROWS["ACL"].values())


@given(st.sets(st.text(min_size=1, max_size=4), min_size=2, max_size=5))
def test_different_rule_sets_have_different_groups_with_legal_names(keys: set[str]) -> None:
    made = {names.port_group(key) for key in keys}
    assert len(made) == len(keys)
    assert all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") for name in made
    )


def test_dhcp_strings_are_quoted_for_ovn() -> None:
    assert row("DHCP_Options", "web4") == {
        "cidr": "10.0.0.0/24",
        "options": {
            "server_id": "10.0.0.1",
            "server_mac": "fa:16:3e:01:00:01",
            "lease_time": "43200",
            "router": "10.0.0.1",
            "mtu": "1442",
            "dns_server": "{10.0.0.1, 10.0.0.2}",
            "domain_name": r'"odd\"name\\.example"',
            "classless_static_route": "{169.254.169.254/32,10.0.0.2, 0.0.0.0/0,10.0.0.1}",
            "bootfile_name": '"pxelinux.0"',
            "tftp_server": '"boot.example"',
            "ntp_server": "{10.0.0.3, 10.0.0.4}",
            "wpad": '"http://w/"',
            "domain_search_list": '"a.example,b.example"',
        },
    }
    assert row("DHCP_Options", "less6")["options"] == {
        "server_id": "fa:16:3e:01:00:09",
        "dhcpv6_stateless": "true",
        "domain_search": '"c.example"',
    }


def test_a_subnet_without_a_gateway_offers_none() -> None:
    lone = Dhcp(
        key="d", family=4, prefix="10.0.0.0/24", server_address="10.0.0.2", server_mac="fa:16:3e:00:00:01"
    )
    options = desired(replace(NETWORK, dhcps=by_key(lone)))["DHCP_Options"]["d"]["options"]
    assert options.keys() == {"server_id", "server_mac", "lease_time"}


@pytest.mark.parametrize(
    ("name", "value", "family"),
    [
        ("time-travel", "1", 4),
        ("bootfile-name", "x", 6),
        ("mtu", "big", 4),
        ("mtu", "70000", 4),
        ("ntp-server", "ntp.example", 4),
        ("ntp-server", "fd00::1", 4),
        ("domain-name", "a\nb", 4),
        ("classless-static-route", "10.0.0.0/8", 4),
        ("ip-forward-enable", "maybe", 4),
        ("dns-server", "10.0.0.1", 6),
    ],
)
def test_options_that_ovn_cannot_send_are_named(name: str, value: str, family: Any) -> None:
    assert name in unsupported_dhcp_options(
        [("router" if family == 4 else "24", "10.0.0.1"), (name, value)], family
    )


@pytest.mark.parametrize(
    ("name", "value", "family"),
    [
        ("tftp-server", "192.0.2.1", 4),
        ("66", "boot.example", 4),
        ("Bootfile-Name", 'say "x"', 4),
        ("classless-static-route", "10.0.0.0/8,10.1.1.1,0.0.0.0/0,10.1.1.2", 4),
        ("ip-forward-enable", "true", 4),
        ("dns-server", "fd00::1,fd00::2", 6),
    ],
)
def test_options_that_ovn_can_send_are_not(name: str, value: str, family: Any) -> None:
    assert unsupported_dhcp_options([(name, value)], family) == {}


def test_a_rule_set_is_applied_to_the_filtered_ports_that_name_it() -> None:
    network = LogicalNetwork(
        switches=NETWORK.switches,
        ports=by_key(
            port("a", 1, rule_sets=("g",)), port("b", 2, rule_sets=("g",), allowed=None), port("c", 3)
        ),
        rule_sets=by_key(RuleSet(key="g", name="g")),
    )
    assert desired(network)["Port_Group"]["rs_g"]["ports"] == {Ref("Logical_Switch_Port", "a")}


def test_limits_and_marks_hold_at_their_port() -> None:
    assert row("QoS", "p1/egress") == {
        "direction": "from-lport",
        "priority": 100,
        "match": 'inport == "p1"',
        "bandwidth": {"rate": 5000},
        "action": {"dscp": 46},
    }
    inward = row("QoS", "p1/ingress")
    assert (inward["direction"], inward["match"]) == ("to-lport", 'outport == "p1"')
    assert (inward["bandwidth"], inward["action"]) == ({"rate": 9, "burst": 12}, {})
    assert {"p1/egress", "p1/ingress"} == {ref.key for ref in row("Logical_Switch", "ls-web")["qos_rules"]}


def test_an_addresss_own_limit_goes_before_that_of_its_gateway() -> None:
    gateway, floating = row("QoS", "r/egress"), row("QoS", "fip/ingress")
    assert gateway["match"] == 'inport == "lsp-lrp-outer-leg"'
    assert floating["match"] == 'outport == "lsp-lrp-outer-leg" && ip4.dst == 203.0.113.50'
    assert floating["priority"] > gateway["priority"]
