"""Servers: made and removed, over the API and with hosts that are played."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compute_lab import IMAGE, ROOT, Lab, ports_of, seen, status

from trunkline.resources.region import Host
from trunkline.resources.reports import ServerReport


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path).with_hosts("h1", "h2")
    yield made
    made.close()


# Made.


def test_a_server_is_active_when_its_host_sees_it_run_with_its_port(lab: Lab) -> None:
    id = lab.boot(networks=[{"uuid": lab.network()}])
    row = lab.row(id)
    assert row is not None
    (port,) = ports_of(lab, id)
    assert (port.host_id, port.device_owner, port.vif_type) == (row.host, "compute:nova", "ovs")
    assert status(lab, id) == ("BUILD", "spawning")
    lab.report(row.host, seen(row, "running", ports=()))
    assert status(lab, id) == ("BUILD", "networking")
    lab.report(row.host, seen(row, "running"))
    assert status(lab, id) == ("ACTIVE", None)
    shown = lab.show(id, by=ROOT)
    assert shown["OS-EXT-SRV-ATTR:host"] == row.host
    assert shown["addresses"]["net"][0]["OS-EXT-IPS-MAC:mac_addr"] == port.mac_address
    assert shown["OS-SRV-USG:launched_at"] is not None
    assert "OS-EXT-SRV-ATTR:host" not in lab.show(id)


def test_what_was_asked_is_kept(lab: Lab) -> None:
    key = lab.ask("POST", "/os-keypairs", {"keypair": {"name": "k"}}, version="2.2")["keypair"]
    data = base64.b64encode(b"#!/bin/sh").decode()
    id = lab.boot(
        name="Web Server_1",
        key_name="k",
        metadata={"role": "web"},
        tags=["a", "b"],
        description="mine",
        user_data=data,
        config_drive=True,
        accessIPv4="192.0.2.1",
    )
    shown, row = lab.show(id), lab.row(id)
    assert row is not None
    assert (shown["metadata"], shown["tags"], shown["description"]) == ({"role": "web"}, ["a", "b"], "mine")
    assert (shown["key_name"], shown["config_drive"], shown["accessIPv4"]) == ("k", "True", "192.0.2.1")
    assert shown["OS-EXT-SRV-ATTR:hostname"] == "web-server-1"
    assert (row.public_key, row.user_data) == (key["public_key"], data)
    assert row.admin_password


def test_without_networks_the_projects_only_one_is_meant(lab: Lab) -> None:
    body = {"server": {"name": "s", "imageRef": IMAGE, "flavorRef": "1"}}
    none = lab.ask("POST", "/servers", body)["server"]["id"]
    assert lab.show(none)["addresses"] == {}
    first = lab.network("first")
    lab.network("others", by="bob@p2")
    one = lab.ask("POST", "/servers", body)["server"]["id"]
    assert [port.network_id for port in ports_of(lab, one)] == [first]
    assert list(lab.show(lab.boot(networks="auto"))["addresses"]) == ["first"]
    lab.network("second", "10.1.0.0/24")
    refused = lab.ask("POST", "/servers", body, status=409)
    assert "Multiple possible networks" in refused["conflictingRequest"]["message"]
    assert lab.show(lab.boot(networks="none"))["addresses"] == {}


def test_auto_without_a_network_is_refused(lab: Lab) -> None:
    body = {"server": {"name": "s", "imageRef": IMAGE, "flavorRef": "1", "networks": "auto"}}
    lab.ask("POST", "/servers", body, version="2.37", status=400)


def test_auto_makes_a_network_where_the_cloud_has_defaults(lab: Lab) -> None:
    public = lab.network("public", "203.0.113.0/24", by=ROOT, **{"router:external": True, "is_default": True})
    pool = {"prefixes": ["10.64.0.0/10"], "default_prefixlen": 24, "is_default": True}
    lab.ask("POST", "/network/v2.0/subnetpools", {"subnetpool": pool}, by=ROOT)
    shown = lab.show(lab.boot(networks="auto"))
    assert list(shown["addresses"]) == ["auto_allocated_network"]
    (router,) = lab.ask("GET", "/network/v2.0/routers")["routers"]
    assert router["external_gateway_info"]["network_id"] == public
    assert list(lab.show(lab.boot(networks="auto"))["addresses"]) == ["auto_allocated_network"]


def test_addresses_ports_and_groups_are_as_asked(lab: Lab) -> None:
    net = lab.network()
    group = lab.ask("POST", "/network/v2.0/security-groups", {"security_group": {"name": "web"}})
    port = lab.ask("POST", "/network/v2.0/ports", {"port": {"network_id": net, "name": "given"}})["port"]
    id = lab.boot(
        networks=[{"uuid": net, "fixed_ip": "10.0.0.77"}, {"port": port["id"]}],
        security_groups=[{"name": "web"}],
    )
    addresses = [entry["addr"] for entry in lab.show(id)["addresses"]["net"]]
    assert addresses == ["10.0.0.77", port["fixed_ips"][0]["ip_address"]]
    own, given = (next(p for p in ports_of(lab, id) if (p.id == port["id"]) is g) for g in (False, True))
    assert own.security_groups == [group["security_group"]["id"]]
    assert given.security_groups == port["security_groups"]
    taken = {"server": {"name": "s", "imageRef": IMAGE, "flavorRef": "1", "networks": [{"port": port["id"]}]}}
    assert "still in use" in lab.ask("POST", "/servers", taken, status=409)["conflictingRequest"]["message"]


def test_a_physical_network_leads_to_the_hosts_that_have_it(lab: Lab) -> None:
    lab.with_hosts("h3", physical_networks=["dc"])
    provider = {"provider:network_type": "vlan", "provider:physical_network": "dc"}
    net = lab.network(by=ROOT, shared=True, **provider)
    row = lab.row(lab.boot(networks=[{"uuid": net}]))
    assert row is not None
    assert row.host == "h3"


def test_a_network_of_segments_leads_to_the_hosts_of_the_address(lab: Lab) -> None:
    room: dict[str, Any] = {"alive": True, "vcpus": 4, "memory_mib": 4096, "disk_gib": 100}
    racked = [Host(id=f"r{n}", physical_networks=[f"rack{n}"], **room) for n in (1, 2)]
    lab.store.write_sync(lambda tx: [tx.insert(host) for host in racked])

    def make(plural: str, by: str = ROOT, **fields: Any) -> Any:
        body = {plural[:-1]: fields}
        return lab.ask("POST", f"/network/v2.0/{plural}", body, by=by)[plural[:-1]]

    vlans = [{"provider:network_type": "vlan", "provider:physical_network": n} for n in ("rack1", "rack2")]
    net = make("networks", segments=vlans, project_id="p1")["id"]
    found = lab.ask("GET", "/network/v2.0/segments?sort_key=physical_network", by=ROOT)["segments"]
    subnets = [
        make("subnets", network_id=net, ip_version=4, cidr=f"10.{n}.0.0/24", segment_id=segment["id"])["id"]
        for n, segment in enumerate(found, 1)
    ]
    named = make("ports", network_id=net, fixed_ips=[{"subnet_id": subnets[1]}], by="ann@p1")["id"]
    waiting = make("ports", network_id=net, by="ann@p1")["id"]
    cases = [
        ({"port": named}, "r2"),
        ({"uuid": net, "fixed_ip": "10.1.0.77"}, "r1"),
        ({"uuid": net, "fixed_ip": "10.2.0.77"}, "r2"),
        ({"port": waiting}, ""),
        ({"uuid": net}, ""),
    ]
    for wanted, host in cases:
        server = lab.boot(networks=[wanted])
        row = lab.row(server)
        assert row is not None
        assert row.host == host or (not host and row.host in ("r1", "r2"))
        (port,) = lab.ask("GET", f"/network/v2.0/ports?device_id={row.id}", by=ROOT)["ports"]
        prefix = "10.1.0." if row.host == "r1" else "10.2.0."
        assert [fixed["ip_address"][:7] for fixed in port["fixed_ips"]] == [prefix]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"imageRef": "00000000-0000-0000-0000-000000000000"}, "imageRef"),
        ({"imageRef": "no-uuid"}, "imageRef"),
        ({"imageRef": ""}, "imageRef"),
        ({"flavorRef": "77"}, "flavorRef"),
        ({"name": ""}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"name": 5}, "name"),
        ({"networks": [{"uuid": "00000000-0000-0000-0000-000000000000"}]}, "networks[0].uuid"),
        ({"networks": [{"port": "zz"}]}, "networks[0].port"),
        ({"networks": [{}]}, "networks[0].uuid"),
        ({"networks": [{"bogus": 1}]}, "networks[0].bogus"),
        ({"networks": 7}, "networks"),
        ({"networks": None}, "networks"),
        ({"security_groups": [{"name": "nobody"}], "networks": "auto"}, "security_groups"),
        ({"security_groups": "web"}, "security_groups"),
        ({"key_name": "nobody"}, "key_name"),
        ({"user_data": "not base64!"}, "user_data"),
        ({"user_data": "A" * 70000}, "user_data"),
        ({"metadata": {"": "x"}}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"a": "x\x00"}}, "metadata.a"),
        ({"availability_zone": "mars"}, "availability_zone"),
        ({"min_count": 3, "max_count": 2}, "min_count"),
        ({"max_count": "many"}, "max_count"),
        ({"config_drive": "perhaps"}, "config_drive"),
        ({"accessIPv4": "::1"}, "accessIPv4"),
        ({"tags": ["a,b"]}, "tags"),
        ({"description": 1}, "description"),
        ({"personality": []}, "personality"),
        ({"block_device_mapping_v2": [{"source_type": "volume", "uuid": "x"}]}, "block_device_mapping_v2"),
        ({"trusted_image_certificates": ["x"]}, "trusted_image_certificates"),
        ({"hints": {"group": "00000000-0000-0000-0000-000000000000"}}, "os:scheduler_hints.group"),
        ({"hints": {"same_host": "zz"}}, "os:scheduler_hints.same_host"),
        ({"OS-DCF:diskConfig": "x"}, "OS-DCF:diskConfig"),
        ({"hostname": "a_b"}, "hostname"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_bad_input_is_refused_by_name_and_nothing_is_made(
    lab: Lab, fields: dict[str, Any], named: str
) -> None:
    lab.network()
    fields = dict(fields)
    hints = fields.pop("hints", {})
    body = {"name": "s", "imageRef": IMAGE, "flavorRef": "1", "networks": "none", **fields}
    refused = lab.ask(
        "POST", "/servers", {"server": body, "os:scheduler_hints": hints}, version="2.90", status=400
    )
    assert named in refused["badRequest"]["message"]
    assert lab.ask("GET", "/servers")["servers"] == []
    assert ports_of(lab, "") == [] or all(p.device_owner.startswith("network:") for p in ports_of(lab, ""))


def test_fields_come_with_their_microversions(lab: Lab) -> None:
    base = {"name": "s", "imageRef": IMAGE, "flavorRef": "1", "networks": "none"}
    for field, value, before in (
        ("description", "d", "2.18"),
        ("tags", ["t"], "2.51"),
        ("host", "h1", "2.73"),
        ("hostname", "n", "2.89"),
    ):
        body = {**base, field: value}
        if before == "2.18":
            del body["networks"]
        lab.ask("POST", "/servers", {"server": body}, by=ROOT, version=before, status=400)
    assert lab.ask("POST", "/servers", {"server": base}, version="2.36", status=400)


def test_an_image_that_does_not_fit_is_refused(lab: Lab) -> None:
    def patched(**changes: Any) -> None:
        ops = [{"op": "replace", "path": f"/{n}", "value": v} for n, v in changes.items()]
        kind = {"content-type": "application/openstack-images-v2.1-json-patch"}
        call = lab.call("PATCH", f"/image/v2/images/{IMAGE}", ROOT, json=ops, headers=kind)
        assert lab.loop.run_until_complete(call).status_code == 200

    body = {"server": {"name": "s", "imageRef": IMAGE, "flavorRef": "1", "networks": "none"}}
    patched(min_ram=4096)
    assert "memory is too small" in str(lab.ask("POST", "/servers", body, version="2.37", status=400))
    patched(min_ram=0, min_disk=50)
    assert "disk is too small" in str(lab.ask("POST", "/servers", body, version="2.37", status=400))
    patched(min_disk=0)
    lab.ask("POST", f"/image/v2/images/{IMAGE}/actions/deactivate", by=ROOT)
    assert "not active" in str(lab.ask("POST", "/servers", body, version="2.37", status=400))


def test_several_servers_share_a_reservation(lab: Lab) -> None:
    asked = {
        "name": "m",
        "imageRef": IMAGE,
        "flavorRef": "1",
        "networks": "none",
        "min_count": 3,
        "return_reservation_id": True,
    }
    reply = lab.ask("POST", "/servers", {"server": asked}, version="2.37")
    found = lab.ask("GET", f"/servers/detail?reservation_id={reply['reservation_id']}", version="2.37")
    assert sorted(server["name"] for server in found["servers"]) == ["m-1", "m-2", "m-3"]


# Removed.


def test_a_deleted_server_goes_when_its_host_has_nothing_of_it_left(lab: Lab) -> None:
    net = lab.network()
    given = lab.ask("POST", "/network/v2.0/ports", {"port": {"network_id": net}})["port"]["id"]
    id = lab.booted(networks=[{"uuid": net}, {"port": given}])
    row = lab.row(id)
    assert row is not None
    lab.ask("DELETE", f"/servers/{id}", status=204)
    assert status(lab, id) == ("ACTIVE", "deleting")
    assert ports_of(lab, id) == []
    assert lab.ask("GET", f"/network/v2.0/ports/{given}")["port"]["device_id"] == ""
    lab.ask("DELETE", f"/servers/{id}", status=204)
    lab.act(id, "os-stop", status=409)
    lab.report(row.host, ServerReport(id=id, state="running"))
    assert status(lab, id) == ("ACTIVE", "deleting")
    lab.report(row.host)
    lab.ask("GET", f"/servers/{id}", status=404)


def test_a_server_of_a_lost_host_goes_at_once(lab: Lab) -> None:
    for before in (True, False):
        id = lab.booted()
        row = lab.row(id)
        assert row is not None
        if before:
            lab.alive(row.host, False)
        lab.ask("DELETE", f"/servers/{id}")
        if not before:
            assert lab.row(id) is not None
            lab.alive(row.host, False)
            lab.report("h1" if row.host == "h2" else "h2")
        assert lab.row(id) is None
        lab.alive(row.host, True)


def test_a_server_that_no_host_has_seen_goes_at_once(lab: Lab) -> None:
    id = lab.boot()
    lab.ask("DELETE", f"/servers/{id}")
    lab.ask("GET", f"/servers/{id}", status=404)


def test_the_file_of_an_image_stays_while_servers_run_from_it(lab: Lab) -> None:
    id = lab.booted()
    file = lab.files.path(IMAGE)
    lab.ask("DELETE", f"/image/v2/images/{IMAGE}", by=ROOT)
    assert file.exists()
    assert lab.show(id)["status"] == "ACTIVE"
