"""Ports: addresses, MAC addresses, security, DHCP options, binding, and the cloud's own ports."""

from __future__ import annotations

from typing import Any

import pytest
from network_lab import ANN, BOB, ROOT, Cloud, addresses, cloud

__all__ = ["cloud"]

SLAAC = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
MANAGER = "meg@p1:manager"


def test_a_port_gets_an_address_of_each_family_and_a_mac_address(cloud: Cloud) -> None:
    network, _ = cloud.net("10.0.0.0/24", "10.0.1.0/24", "fd00::/64")
    port = cloud.make("port", network_id=network["id"])
    assert [a.rpartition(".")[0] or "fd00" for a in addresses(port)] == ["10.0.0", "fd00"]
    assert port["mac_address"].startswith("fa:16:3e:")
    assert (port["status"], port["binding:vnic_type"], port["device_id"]) == ("DOWN", "normal", "")


def test_addresses_are_wanted_by_subnet_by_address_or_both(cloud: Cloud) -> None:
    network, (one, two) = cloud.net("10.0.0.0/24", "10.0.1.0/24")
    wanted = [
        {"subnet_id": two["id"]},
        {"ip_address": "10.0.0.77"},
        {"subnet_id": one["id"], "ip_address": "10.0.0.78"},
        {"subnet_id": one["id"]},
    ]
    port = cloud.make("port", network_id=network["id"], fixed_ips=wanted)
    assert [f["subnet_id"] for f in port["fixed_ips"]] == [two["id"], one["id"], one["id"], one["id"]]
    assert addresses(port)[1:3] == ["10.0.0.77", "10.0.0.78"]
    assert len(set(addresses(port))) == 4


def test_a_port_may_have_no_address(cloud: Cloud) -> None:
    network, _ = cloud.net("10.0.0.0/24")
    assert cloud.make("port", network_id=network["id"], fixed_ips=[])["fixed_ips"] == []
    bare = cloud.make("network")
    assert cloud.make("port", network_id=bare["id"])["fixed_ips"] == []


@pytest.mark.parametrize(
    ("fixed", "error"),
    [
        ([{"ip_address": "10.0.9.9"}], (400, "InvalidIpForNetwork")),
        ([{"ip_address": "10.0.0.255"}], (400, "InvalidIpForSubnet")),
        ([{"ip_address": "10.0.0.0"}], (400, "InvalidIpForSubnet")),
        ([{"subnet_id": "0b7b1d0e-8a3c-4d5b-9f58-1c7b0b6f1f6e"}], (400, "InvalidInput")),
        ([{"ip_address": "10.0.0.7"}, {"ip_address": "10.0.0.7"}], (400, "HTTPBadRequest")),
        ([{}], (400, "HTTPBadRequest")),
        ([{"ip_address": "10.0.0.3"}], (409, "IpAddressInUse")),
    ],
)
def test_addresses_that_cannot_be_had_are_refused(cloud: Cloud, fixed: Any, error: tuple[int, str]) -> None:
    network, _ = cloud.net("10.0.0.0/24")
    assert addresses(cloud.make("port", network_id=network["id"])) == ["10.0.0.3"]
    assert cloud.refuses("port", network_id=network["id"], fixed_ips=fixed) == error


def test_a_full_subnet_says_so_and_an_address_given_back_is_had_again(cloud: Cloud) -> None:
    network, _ = cloud.net("10.0.0.0/29")
    ports = [cloud.make("port", network_id=network["id"]) for _ in range(4)]
    assert cloud.refuses("port", network_id=network["id"]) == (409, "IpAddressGenerationFailure")
    cloud.remove("port", ports[2]["id"])
    assert addresses(cloud.make("port", network_id=network["id"])) == addresses(ports[2])


def test_the_next_subnet_is_used_where_the_first_is_full(cloud: Cloud) -> None:
    network, _ = cloud.net("10.0.0.0/30", "10.0.1.0/24")
    assert addresses(cloud.make("port", network_id=network["id"])) == ["10.0.1.3"]


def test_equal_addresses_on_networks_of_two_projects(cloud: Cloud) -> None:
    for who in (ANN, BOB):
        network, _ = cloud.net("10.0.0.0/24", by=who)
        fixed = [{"ip_address": "10.0.0.50"}]
        assert addresses(cloud.make("port", by=who, network_id=network["id"], fixed_ips=fixed)) == [
            "10.0.0.50"
        ]


def test_hosts_form_their_address_from_the_mac_address_under_slaac(cloud: Cloud) -> None:
    network = cloud.make("network")
    subnet = cloud.sub(network, "fd00::/64", **SLAAC)
    port = cloud.make("port", network_id=network["id"], mac_address="fa:16:3e:00:00:01")
    assert addresses(port) == ["fd00::f816:3eff:fe00:1"]
    fixed = [{"subnet_id": subnet["id"], "ip_address": "fd00::5"}]
    refused = cloud.refuses("port", network_id=network["id"], fixed_ips=fixed)
    assert refused == (400, "AllocationOnAutoAddressSubnet")
    new = cloud.change("port", port["id"], by=MANAGER, mac_address="fa:16:3e:00:00:02")
    assert addresses(new) == ["fd00::f816:3eff:fe00:2"]


def test_hosts_form_an_address_under_slaac_whatever_else_they_have(cloud: Cloud) -> None:
    network, (four,) = cloud.net("10.0.0.0/24")
    cloud.sub(network, "fd00::/64", **SLAAC)
    formed = "fd00::f816:3eff:fe00:1"
    wanted = [{"ip_address": "10.0.0.50"}]
    port = cloud.make("port", network_id=network["id"], mac_address="fa:16:3e:00:00:01", fixed_ips=wanted)
    assert addresses(port) == ["10.0.0.50", formed]
    moved = cloud.change("port", port["id"], fixed_ips=[{"ip_address": "10.0.0.51"}])
    assert addresses(moved) == ["10.0.0.51", formed]
    more = [*moved["fixed_ips"], {"subnet_id": four["id"]}]
    assert addresses(cloud.change("port", port["id"], fixed_ips=more))[:2] == ["10.0.0.51", formed]
    assert cloud.change("port", port["id"], fixed_ips=[])["fixed_ips"] == []


def test_a_stateful_subnet_hands_out_addresses_of_its_pool(cloud: Cloud) -> None:
    network = cloud.make("network")
    cloud.sub(network, "fd00::/64", ipv6_ra_mode="dhcpv6-stateful", ipv6_address_mode="dhcpv6-stateful")
    assert addresses(cloud.make("port", network_id=network["id"])) == ["fd00::3"]


def test_a_mac_address_is_on_a_network_once(cloud: Cloud) -> None:
    network, other = cloud.make("network"), cloud.make("network")
    mac = "fa:16:3e:11:22:33"
    port = cloud.make("port", network_id=network["id"], mac_address=mac.upper())
    assert port["mac_address"] == mac
    assert cloud.refuses("port", network_id=network["id"], mac_address=mac) == (409, "MacAddressInUse")
    cloud.make("port", network_id=other["id"], mac_address=mac)
    for bad in ("ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "01:00:5e:00:00:01", "fa:16:3e:11:22", "x"):
        assert cloud.refuses("port", network_id=network["id"], mac_address=bad)[0] == 400


def test_a_new_mac_address_is_made_on_demand(cloud: Cloud) -> None:
    network = cloud.make("network")
    port = cloud.make("port", network_id=network["id"])
    new = cloud.change("port", port["id"], by=MANAGER, mac_address=None)["mac_address"]
    assert new != port["mac_address"]
    assert cloud.make("port", network_id=network["id"], mac_address=port["mac_address"])


def test_addresses_are_added_and_given_back(cloud: Cloud) -> None:
    network, (subnet,) = cloud.net("10.0.0.0/24")
    port = cloud.make("port", network_id=network["id"])
    more = [*port["fixed_ips"], {"subnet_id": subnet["id"]}]
    grown = cloud.change("port", port["id"], fixed_ips=more)
    assert addresses(grown) == ["10.0.0.3", "10.0.0.4"]
    cloud.change("port", port["id"], fixed_ips=[{"ip_address": "10.0.0.4"}])
    fixed = [{"ip_address": "10.0.0.3"}]
    assert addresses(cloud.make("port", network_id=network["id"], fixed_ips=fixed)) == ["10.0.0.3"]


def test_naming_the_subnet_alone_keeps_the_address(cloud: Cloud) -> None:
    network, (subnet,) = cloud.net("10.0.0.0/24")
    port = cloud.make("port", network_id=network["id"])
    same = cloud.change("port", port["id"], fixed_ips=[{"subnet_id": subnet["id"]}])
    assert addresses(same) == addresses(port)
    assert same["revision_number"] == port["revision_number"]


def test_ports_are_in_the_default_group_unless_told_otherwise(cloud: Cloud) -> None:
    network = cloud.make("network")
    (default,) = cloud.all("security_group")
    assert cloud.make("port", network_id=network["id"])["security_groups"] == [default["id"]]
    assert cloud.make("port", network_id=network["id"], security_groups=[])["security_groups"] == []
    off = cloud.make("port", network_id=network["id"], port_security_enabled=False)
    assert (off["security_groups"], off["port_security_enabled"]) == ([], False)


def test_a_networks_port_security_is_the_default_of_its_ports(cloud: Cloud) -> None:
    network = cloud.make("network", port_security_enabled=False)
    assert not cloud.make("port", network_id=network["id"])["port_security_enabled"]
    assert cloud.make("port", network_id=network["id"], port_security_enabled=True)["security_groups"]


def test_port_security_ends_only_without_groups_and_pairs(cloud: Cloud) -> None:
    network = cloud.make("network")
    port = cloud.make("port", network_id=network["id"], allowed_address_pairs=[{"ip_address": "10.9.0.0/16"}])
    where = f"/ports/{port['id']}"
    off: dict[str, Any] = {"port_security_enabled": False}
    assert cloud.refused("PUT", where, {"port": off}) == (409, "PortSecurityPortHasSecurityGroup")
    body: dict[str, Any] = {**off, "security_groups": []}
    assert cloud.refused("PUT", where, {"port": body}) == (409, "AddressPairAndPortSecurityRequired")
    assert cloud.change("port", port["id"], **body, allowed_address_pairs=[])["security_groups"] == []


def test_address_pairs_take_the_ports_mac_address_by_default(cloud: Cloud) -> None:
    network = cloud.make("network")
    pairs = [{"ip_address": "10.9.0.7/16"}, {"ip_address": "fd00::1", "mac_address": "FA:16:3E:00:00:09"}]
    port = cloud.make("port", network_id=network["id"], allowed_address_pairs=pairs)
    assert port["allowed_address_pairs"] == [
        {"ip_address": "10.9.0.0/16", "mac_address": port["mac_address"]},
        {"ip_address": "fd00::1", "mac_address": "fa:16:3e:00:00:09"},
    ]
    bad: Any
    for bad in ([{"ip_address": "x"}], [{}], [pairs[0], pairs[0]], [{"ip_address": "1.1.1.1", "x": 1}]):
        assert cloud.refuses("port", network_id=network["id"], allowed_address_pairs=bad)[0] == 400


def test_dhcp_options_are_merged_and_removed(cloud: Cloud) -> None:
    network = cloud.make("network")
    boot = {"opt_name": "bootfile-name", "opt_value": "pxelinux.0"}
    port = cloud.make("port", network_id=network["id"], extra_dhcp_opts=[boot])
    assert port["extra_dhcp_opts"] == [{**boot, "ip_version": 4}]
    mtu = {"opt_name": "26", "opt_value": "1400", "ip_version": "4"}
    changed = cloud.change("port", port["id"], extra_dhcp_opts=[mtu])["extra_dhcp_opts"]
    assert {o["opt_name"]: o["opt_value"] for o in changed} == {"bootfile-name": "pxelinux.0", "mtu": "1400"}
    gone = {"opt_name": "bootfile-name", "opt_value": None}
    assert len(cloud.change("port", port["id"], extra_dhcp_opts=[gone])["extra_dhcp_opts"]) == 1


@pytest.mark.parametrize(
    "option",
    [
        {"opt_name": "no-such-option", "opt_value": "x"},
        {"opt_name": "bootfile-name", "opt_value": "a\nb"},
        {"opt_name": "bootfile-name", "opt_value": "a\x00b"},
        {"opt_name": "bootfile-name", "opt_value": "x" * 256},
        {"opt_name": "bootfile-name", "opt_value": ""},
        {"opt_name": "bootfile-name", "opt_value": "x", "ip_version": 6},
        {"opt_name": "mtu", "opt_value": "1400", "ip_version": 5},
        {"opt_value": "1400"},
    ],
)
def test_dhcp_options_that_nobody_could_serve_are_refused(cloud: Cloud, option: Any) -> None:
    network = cloud.make("network")
    reply = cloud.ask("POST", "/ports", {"port": {"network_id": network["id"], "extra_dhcp_opts": [option]}})
    assert reply.status_code == 400
    assert "extra_dhcp_opts" in reply.json()["NeutronError"]["message"]


def test_only_the_cloud_binds_ports(cloud: Cloud) -> None:
    cloud.hosts("h1")
    network = cloud.make("network")
    assert cloud.refuses("port", network_id=network["id"], binding__host_id="h1")[0] == 403
    port = cloud.make("port", network_id=network["id"])
    assert "binding:host_id" not in port
    bound = cloud.change("port", port["id"], by=ROOT, binding__host_id="h1")
    assert (bound["binding:vif_type"], bound["binding:host_id"]) == ("ovs", "h1")
    assert (
        cloud.change("port", port["id"], by=ROOT, binding__host_id="?")["binding:vif_type"]
        == "binding_failed"
    )
    assert cloud.change("port", port["id"], by=ROOT, binding__host_id="")["binding:vif_type"] == "unbound"


def test_a_bound_port_keeps_its_mac_address(cloud: Cloud) -> None:
    cloud.hosts("h1")
    network = cloud.make("network")
    port = cloud.make("port", by=ROOT, network_id=network["id"], binding__host_id="h1")
    body = {"port": {"mac_address": "fa:16:3e:00:00:07"}}
    assert cloud.refused("PUT", f"/ports/{port['id']}", body, by=ROOT) == (409, "PortBound")


def test_guests_of_a_shared_network_choose_no_identity(cloud: Cloud) -> None:
    network = cloud.make("network", by=ROOT, shared=True)
    subnet = cloud.sub(network, "10.0.0.0/24", by=ROOT)
    for fields in (
        {"mac_address": "fa:16:3e:00:00:07"},
        {"fixed_ips": [{"ip_address": "10.0.0.7"}]},
        {"device_owner": "network:dhcp"},
        {"port_security_enabled": False},
        {"allowed_address_pairs": [{"ip_address": "10.0.0.9"}]},
    ):
        assert cloud.refuses("port", network_id=network["id"], **fields)[0] == 403, fields
    chosen = [{"subnet_id": subnet["id"]}]
    port = cloud.make("port", network_id=network["id"], fixed_ips=chosen, device_owner="compute:nova")
    for fields in (
        {"fixed_ips": [{"ip_address": "10.0.0.7"}]},
        {"device_owner": "network:dhcp"},
        {"port_security_enabled": False},
    ):
        assert cloud.refused("PUT", f"/ports/{port['id']}", {"port": fields})[0] == 403, fields


def test_the_owner_of_a_network_sees_and_removes_all_ports_on_it(cloud: Cloud) -> None:
    network = cloud.make("network", by=ROOT, shared=True, project_id="p1")
    port = cloud.make("port", by=BOB, network_id=network["id"])
    assert cloud.show("port", port["id"], by=ANN)["project_id"] == "p2"
    assert cloud.refused("PUT", f"/ports/{port['id']}", {"port": {"name": "mine"}}, by=ANN)[0] == 403
    cloud.remove("port", port["id"], by=ANN)


def test_others_networks_and_groups_are_not_there(cloud: Cloud) -> None:
    network = cloud.make("network")
    assert cloud.refuses("port", by=BOB, network_id=network["id"]) == (404, "NetworkNotFound")
    group = cloud.make("security_group", by=BOB, name="theirs")
    refused = cloud.refuses("port", network_id=network["id"], security_groups=[group["id"]])
    assert refused == (404, "SecurityGroupNotFound")


def test_an_external_network_is_not_for_tenants_ports(cloud: Cloud) -> None:
    public, _ = cloud.public()
    assert cloud.refuses("port", network_id=public["id"])[0] == 403


@pytest.mark.parametrize("owner", ["network:router_interface", "network:floatingip", "network:distributed"])
def test_nobody_makes_the_clouds_own_ports(cloud: Cloud, owner: str) -> None:
    network = cloud.make("network")
    assert cloud.refuses("port", by=ROOT, network_id=network["id"], device_owner=owner)[0] == 400
    port = cloud.make("port", network_id=network["id"])
    assert cloud.refused("PUT", f"/ports/{port['id']}", {"port": {"device_owner": owner}}, by=ROOT)[0] == 400


def test_nobody_takes_the_clouds_own_ports_away(cloud: Cloud) -> None:
    network, (subnet,) = cloud.net("10.0.0.0/24")
    cloud.attach(cloud.make("router"), subnet)
    for port in cloud.all("port", f"?network_id={network['id']}"):
        assert cloud.refused("DELETE", f"/ports/{port['id']}", by=ROOT) == (409, "ServicePortInUse")
        body: dict[str, Any] = {"port": {"fixed_ips": []}}
        assert cloud.refused("PUT", f"/ports/{port['id']}", body, by=ROOT)[0] == 409
        assert cloud.change("port", port["id"], name="renamed")["name"] == "renamed"


def test_many_ports_are_made_at_once_or_none(cloud: Cloud) -> None:
    network, _ = cloud.net("10.0.0.0/24")
    one = {"network_id": network["id"]}
    reply = cloud.ask("POST", "/ports", {"ports": [one] * 50})
    assert reply.status_code == 201
    assert len({addresses(p)[0] for p in reply.json()["ports"]}) == 50
    bad = [one, one, {**one, "fixed_ips": [{"ip_address": "10.0.0.3"}]}]
    assert cloud.refused("POST", "/ports", {"ports": bad}) == (409, "IpAddressInUse")
    assert len(cloud.all("port", "?device_owner=")) == 50


def test_lists_of_ports_are_filtered_by_address_and_group(cloud: Cloud) -> None:
    network, (one, two) = cloud.net("10.0.0.0/24", "10.0.1.0/24")
    a = cloud.make("port", network_id=network["id"], fixed_ips=[{"ip_address": "10.0.0.50"}])
    b = cloud.make("port", network_id=network["id"], fixed_ips=[{"ip_address": "10.0.1.50"}])
    group = cloud.make("security_group", name="g")
    c = cloud.make("port", network_id=network["id"], fixed_ips=[], security_groups=[group["id"]])

    def ids(query: str) -> set[str]:
        return {p["id"] for p in cloud.all("port", f"?device_owner=&{query}")}

    assert ids("fixed_ips=ip_address=10.0.0.50") == {a["id"]}
    assert ids("fixed_ips=ip_address=10.0.0.50&fixed_ips=ip_address=10.0.1.50") == {a["id"], b["id"]}
    assert ids(f"fixed_ips=ip_address=10.0.0.50&fixed_ips=subnet_id={two['id']}") == set()
    assert ids(f"fixed_ips=subnet_id={one['id']}") == {a["id"]}
    assert ids("fixed_ips=ip_address_substr=.1.5") == {b["id"]}
    assert ids(f"security_groups={group['id']}") == {c["id"]}
    assert ids(f"mac_address={a['mac_address']}&mac_address={c['mac_address']}") == {a["id"], c["id"]}
    assert cloud.ask("GET", "/ports?fixed_ips=10.0.0.50").status_code == 400


def test_a_port_is_prepared_on_a_further_host_and_moves_there(cloud: Cloud) -> None:
    cloud.hosts("h1", "h2")
    network, _ = cloud.net("10.0.0.0/24")
    port = cloud.make("port", by=ROOT, network_id=network["id"], project_id="p1", binding__host_id="h1")
    where = f"/ports/{port['id']}/bindings"

    def states() -> dict[str, str]:
        return {each["host"]: each["status"] for each in cloud.ask("GET", where, by=ROOT).json()["bindings"]}

    assert states() == {"h1": "ACTIVE"}
    made = cloud.ask("POST", where, {"binding": {"host": "h2", "profile": {"a": "b"}}}, by=ROOT)
    assert (made.status_code, made.json()["binding"]["vif_type"]) == (201, "ovs")
    assert states() == {"h1": "ACTIVE", "h2": "INACTIVE"}
    for host in ("h1", "h2"):
        again = cloud.refused("POST", where, {"binding": {"host": host}}, by=ROOT)
        assert again == (409, "PortBindingAlreadyExists")
    assert cloud.refused("PUT", f"{where}/h1/activate", by=ROOT) == (409, "PortBindingAlreadyActive")
    assert cloud.ask("PUT", f"{where}/h2/activate", by=ROOT).status_code == 200
    assert states() == {"h2": "ACTIVE", "h1": "INACTIVE"}
    moved = cloud.show("port", port["id"], by=ROOT)
    assert (moved["binding:host_id"], moved["binding:profile"]) == ("h2", {"a": "b"})
    assert cloud.refused("DELETE", f"{where}/h2", by=ROOT) == (404, "PortBindingNotFound")
    assert cloud.ask("DELETE", f"{where}/h1", by=ROOT).status_code == 204
    assert states() == {"h2": "ACTIVE"}


def test_bindings_are_the_cloud_operators_affair(cloud: Cloud) -> None:
    cloud.hosts("h1")
    network, _ = cloud.net("10.0.0.0/24")
    where = f"/ports/{cloud.make('port', network_id=network['id'])['id']}/bindings"
    body = {"binding": {"host": "h1"}}
    assert cloud.refused("GET", where) == (403, "PolicyNotAuthorized")
    assert cloud.refused("POST", where, body) == (403, "PolicyNotAuthorized")
    assert cloud.refused("PUT", f"{where}/h1/activate") == (403, "PolicyNotAuthorized")
    assert cloud.refused("DELETE", f"{where}/h1") == (403, "PolicyNotAuthorized")
    assert cloud.refused("POST", where, {"binding": {"host": "nowhere"}}, by=ROOT)[0] == 400
