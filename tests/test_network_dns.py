"""DNS names of ports, networks and floating IPs: their form, what follows from them, and who says them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compute_lab import Lab
from hypothesis import given
from hypothesis import strategies as st
from network_lab import BOB, ROOT, Cloud, cloud

from trunkline.names import generic_address, generic_name
from trunkline.resources.network import Port

__all__ = ["cloud"]

REGION = "cloud.internal."


def assigned(port: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(a["ip_address"], a["hostname"], a["fqdn"]) for a in port["dns_assignment"]]


def test_a_port_has_the_names_of_its_addresses(cloud: Cloud) -> None:
    network, _ = cloud.net("10.0.0.0/24", "fd00::/64")
    fixed = [{"ip_address": "10.0.0.5"}, {"ip_address": "fd00::5"}]
    port = cloud.make("port", network_id=network["id"], fixed_ips=fixed)
    assert (port["dns_name"], port["dns_domain"], network["dns_domain"]) == ("", "", "")
    assert assigned(port) == [
        ("10.0.0.5", "host-10-0-0-5", f"host-10-0-0-5.{REGION}"),
        ("fd00::5", "host-fd00--5", f"host-fd00--5.{REGION}"),
    ]
    named = cloud.change("port", port["id"], dns_name="Web-1")
    assert (named["dns_name"], named["revision_number"]) == ("web-1", port["revision_number"] + 1)
    whole = f"web-1.{REGION}"
    assert assigned(named) == [("10.0.0.5", "web-1", whole), ("fd00::5", "web-1", whole)]
    assert cloud.show("port", port["id"])["dns_assignment"] == named["dns_assignment"]
    assert cloud.all("port", "?dns_name=web-1&fields=dns_assignment") == [
        {"dns_assignment": named["dns_assignment"]}
    ]


def test_the_domain_is_the_ports_or_its_networks_or_the_regions(cloud: Cloud) -> None:
    network, _ = cloud.net("10.0.0.0/24", dns_domain="Example.ORG.")
    assert network["dns_domain"] == "example.org."
    port = cloud.make("port", network_id=network["id"], dns_name="web")
    own = cloud.make("port", network_id=network["id"], dns_name="web", dns_domain="own.test.")
    whole = cloud.make("port", network_id=network["id"], dns_name=f"web.{REGION}")
    assert [assigned(p)[0][2] for p in (port, own, whole)] == [
        "web.example.org.",
        "web.own.test.",
        f"web.{REGION}",
    ]
    cloud.change("network", network["id"], dns_domain="")
    assert assigned(cloud.show("port", port["id"]))[0][2] == f"web.{REGION}"


@pytest.mark.parametrize(
    "name",
    [
        *("-a", "a-", "a_b", "a..b", ".", "a b", "é", "a" * 64, "web.example.org.", "1.2", "a\x00"),
        *("host-10-0-0-9", "host-fd00--9"),
        17,
        None,
    ],
)
def test_what_is_no_name_is_refused(cloud: Cloud, name: Any) -> None:
    network, _ = cloud.net("10.0.0.0/24")
    reply = cloud.ask("POST", "/ports", {"port": {"network_id": network["id"], "dns_name": name}})
    assert reply.status_code == 400
    assert "dns_name" in reply.json()["NeutronError"]["message"]


@pytest.mark.parametrize("domain", ["example.org", "-a.org.", "a..", ".", f"{'a.' * 100}", 17, None])
def test_what_is_no_domain_is_refused(cloud: Cloud, domain: Any) -> None:
    network, _ = cloud.net("10.0.0.0/24")
    for kind, fields in (("network", {}), ("port", {"network_id": network["id"]})):
        reply = cloud.ask("POST", f"/{kind}s", {kind: {**fields, "dns_domain": domain}})
        assert reply.status_code == 400
        assert "dns_domain" in reply.json()["NeutronError"]["message"]


def test_a_guest_of_a_shared_network_chooses_no_domain(cloud: Cloud) -> None:
    network, _ = cloud.net("10.0.0.0/24", by=ROOT, shared=True)
    on = {"network_id": network["id"], "dns_name": "www"}
    assert cloud.refuses("port", by=BOB, **on, dns_domain="example.com.")[0] == 403
    port = cloud.make("port", by=BOB, **on)
    assert cloud.refused("PUT", f"/ports/{port['id']}", {"port": {"dns_domain": "a.test."}}, by=BOB)[0] == 403
    assert cloud.show("port", port["id"], by=BOB)["dns_domain"] == ""


def test_a_floating_ip_has_its_name_from_the_start(cloud: Cloud) -> None:
    network, _ = cloud.public()
    wanted = {"floating_network_id": network["id"], "dns_name": "WWW", "dns_domain": "example.org."}
    made = cloud.make("floatingip", **wanted)
    assert (made["dns_name"], made["dns_domain"]) == ("www", "example.org.")
    change = {"floatingip": {"dns_name": "other"}}
    assert cloud.refused("PUT", f"/floatingips/{made['id']}", change)[0] == 400
    assert cloud.refuses("floatingip", **{**wanted, "dns_name": f"www.{REGION}"})[0] == 400


@given(st.ip_addresses().map(str))
def test_the_name_of_an_address_is_of_no_other(address: str) -> None:
    assert generic_address(generic_name(address)) == address


# Servers.


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path).with_hosts("h1")
    yield made
    made.close()


def names(lab: Lab, server: str) -> list[str]:
    with lab.store.read() as reader:
        return sorted(port.dns_name for port in reader.find(Port, device_id=server))


def test_the_ports_of_a_server_have_its_name(lab: Lab) -> None:
    on = lab.network()
    body = {"port": {"network_id": on, "dns_name": "mine"}}
    given = [lab.ask("POST", "/network/v2.0/ports", body)["port"]["id"] for _ in range(1)]
    bare = lab.ask("POST", "/network/v2.0/ports", {"port": {"network_id": on}})["port"]["id"]
    networks = [{"uuid": on}, {"port": given[0]}, {"port": bare}]
    id = lab.booted(name="Web Server", networks=networks)
    assert names(lab, id) == ["mine", "web-server", "web-server"]
    lab.ask("PUT", f"/servers/{id}", {"server": {"hostname": "front"}}, version="2.90")
    assert names(lab, id) == ["front", "front", "mine"]
    lab.ask("DELETE", f"/servers/{id}/os-interface/{bare}")
    assert lab.ask("GET", f"/network/v2.0/ports/{bare}")["port"]["dns_name"] == ""
    lab.ask("DELETE", f"/servers/{id}/os-interface/{given[0]}")
    assert lab.ask("GET", f"/network/v2.0/ports/{given[0]}")["port"]["dns_name"] == "mine"


def test_a_server_whose_name_is_in_the_form_of_an_address_has_none_in_dns(lab: Lab) -> None:
    id = lab.booted(name="host-10-0-0-9", networks=[{"uuid": lab.network()}])
    assert names(lab, id) == [""]
