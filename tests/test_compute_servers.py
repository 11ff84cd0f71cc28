"""Servers: made, placed, switched, seen and removed, over the API and with hosts that are played."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compute_lab import IMAGE, ROOT, Lab, seen

from trunkline.api.compute.sightings import ServerObservation, Trouble
from trunkline.resources.compute import Server
from trunkline.resources.network import Port


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path).with_hosts("h1", "h2")
    yield made
    made.close()


def ports_of(lab: Lab, id: str) -> list[Port]:
    with lab.store.read() as reader:
        return reader.find(Port, device_id=id)


def status(lab: Lab, id: str) -> tuple[str, str | None]:
    shown = lab.show(id)
    return shown["status"], shown["OS-EXT-STS:task_state"]


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


# Placed.


def test_without_a_fitting_host_the_server_is_in_error_and_says_why(lab: Lab) -> None:
    net = lab.network()
    id = lab.boot(flavorRef="5", networks=[{"uuid": net}])
    shown = lab.show(id)
    assert shown["status"] == "ERROR"
    assert "No valid host was found" in shown["fault"]["message"]
    assert "details" not in shown["fault"]
    assert "h1: not enough vCPUs (8 wanted, 4 there)." in lab.show(id, by=ROOT)["fault"]["details"]
    assert ports_of(lab, id) == []
    lab.ask("DELETE", f"/servers/{id}")
    lab.ask("GET", f"/servers/{id}", status=404)


def test_servers_fill_the_bandwidth_of_hosts_and_free_it(lab: Lab) -> None:
    wanted = [{"uuid": lab.promising(h1=1000, h2=600)}]
    first, second = (lab.boot(networks=wanted) for _ in range(2))
    assert {row.host for id in (first, second) if (row := lab.row(id)) is not None} == {"h1", "h2"}
    third = lab.boot(networks=wanted)
    assert lab.show(third)["status"] == "ERROR"
    told = lab.show(third, by=ROOT)["fault"]["details"]
    assert "h1: not enough egress bandwidth of the tunnels (600 kbit/s wanted, 400 free)." in told
    assert "h2: not enough egress bandwidth of the tunnels (600 kbit/s wanted, 0 free)." in told
    lab.ask("DELETE", f"/servers/{first}")
    assert lab.show(lab.boot(networks=wanted))["status"] == "BUILD"


def test_several_servers_at_once_are_promised_no_more_than_there_is(lab: Lab) -> None:
    fields = {"min_count": 3, "max_count": 3}
    lab.boot(networks=[{"uuid": lab.promising(h1=1200, h2=0)}], **fields)
    with lab.store.read() as reader:
        assert sorted(server.host for server in reader.find(Server)) == ["", "h1", "h1"]


def test_an_interface_that_a_host_cannot_promise_is_not_attached(lab: Lab) -> None:
    net = lab.promising(h1=0, h2=0)
    id = lab.booted()
    told = lab.ask(
        "POST", f"/servers/{id}/os-interface", {"interfaceAttachment": {"net_id": net}}, status=409
    )
    assert "cannot promise" in told["conflictingRequest"]["message"]
    assert ports_of(lab, id) == []


def test_a_group_keeps_its_servers_apart_or_together(lab: Lab) -> None:
    def group(policy: str) -> str:
        body = {"server_group": {"name": policy, "policy": policy}}
        return str(lab.ask("POST", "/os-server-groups", body, version="2.64")["server_group"]["id"])

    def hosts(group: str, count: int) -> list[str]:
        rows = [lab.row(lab.boot(hints={"group": group})) for _ in range(count)]
        return [row.host for row in rows if row is not None]

    apart = group("anti-affinity")
    assert sorted(hosts(apart, 3)) == ["", "h1", "h2"]
    assert len(set(hosts(group("affinity"), 3))) == 1
    shown = lab.ask("GET", f"/os-server-groups/{apart}", version="2.64")["server_group"]
    assert len(shown["members"]) == 3


def test_only_operators_choose_a_host(lab: Lab) -> None:
    body = {"name": "s", "imageRef": IMAGE, "flavorRef": "1", "networks": "none"}
    forced = {"server": {**body, "availability_zone": "nova:h2"}}
    lab.ask("POST", "/servers", forced, version="2.37", status=403)
    id = lab.ask("POST", "/servers", forced, by=ROOT, version="2.37")["server"]["id"]
    row = lab.row(id)
    assert row is not None
    assert row.host == "h2"
    named = lab.row(lab.boot(by=ROOT, host="h1"))
    assert named is not None
    assert named.host == "h1"


def test_a_disabled_or_silent_host_gets_no_servers(lab: Lab) -> None:
    lab.ask("PUT", "/os-services/disable", {"host": "h1", "binary": "nova-compute"}, by=ROOT)
    lab.alive("h2", False)
    assert lab.show(lab.boot())["status"] == "ERROR"
    lab.ask("PUT", "/os-services/enable", {"host": "h1", "binary": "nova-compute"}, by=ROOT)
    assert lab.show(lab.boot())["status"] == "BUILD"


def test_quotas_end_at_their_limits(lab: Lab) -> None:
    lab.ask("PUT", "/os-quota-sets/p1", {"quota_set": {"instances": 2, "ram": 300}}, by=ROOT)
    lab.boot()
    body = {"server": {"name": "s", "imageRef": IMAGE, "flavorRef": "1", "networks": "none", "min_count": 2}}
    refused = lab.ask("POST", "/servers", body, version="2.37", status=403)["forbidden"]["message"]
    assert "Quota exceeded for instances, ram: Requested 2, 256, but already used 1, 128 of 2, 300" in refused
    more = {**body["server"], "min_count": 1, "max_count": 5}
    lab.ask("POST", "/servers", {"server": more}, version="2.37")
    assert len(lab.ask("GET", "/servers")["servers"]) == 2
    lab.boot(by="bob@p2")


# Switched.


def test_power_follows_what_is_wanted_as_soon_as_it_is_seen(lab: Lab) -> None:
    id = lab.booted()
    for action, before, state, after in (
        ("os-stop", ("ACTIVE", "powering-off"), "stopped", ("SHUTOFF", None)),
        ("os-start", ("SHUTOFF", "powering-on"), "running", ("ACTIVE", None)),
        ("pause", ("ACTIVE", "pausing"), "paused", ("PAUSED", None)),
        ("unpause", ("PAUSED", "unpausing"), "running", ("ACTIVE", None)),
    ):
        lab.act(id, action)
        assert status(lab, id) == before
        lab.running(id, state=state)
        assert status(lab, id) == after


def test_an_action_that_the_state_does_not_allow_is_a_conflict(lab: Lab) -> None:
    id = lab.boot()
    for action in ("os-stop", "pause", "os-start", "unpause"):
        refused = lab.act(id, action, status=409)["conflictingRequest"]["message"]
        assert "while it is in vm_state building" in refused
    lab.running(id)
    lab.act(id, "os-stop")
    assert "task_state powering-off" in str(lab.act(id, "pause", status=409))


@pytest.mark.parametrize(("kind", "name"), [("SOFT", "REBOOT"), ("HARD", "HARD_REBOOT")])
def test_a_reboot_is_done_when_its_serial_is_reached(lab: Lab, kind: str, name: str) -> None:
    id = lab.booted()
    old = lab.row(id)
    lab.act(id, {"reboot": {"type": kind}})
    assert old is not None
    lab.report(old.host, seen(old, "running"))
    assert lab.show(id)["status"] == name
    lab.running(id)
    assert lab.show(id)["status"] == "ACTIVE"
    lab.act(id, {"reboot": {"type": "WARM"}}, status=400)


def test_a_rescued_server_runs_from_another_disk_until_it_is_unrescued(lab: Lab) -> None:
    id = lab.booted()
    assert lab.act(id, {"rescue": {"adminPass": "secret"}}, status=200) == {"adminPass": "secret"}
    assert status(lab, id) == ("ACTIVE", "rescuing")
    lab.running(id)
    assert status(lab, id) == ("RESCUE", None)
    row = lab.row(id)
    assert row is not None
    assert (row.rescue_image_id, row.disk_serial) == (IMAGE, 0)
    for action in (
        {"reboot": {"type": "HARD"}},
        {"rebuild": {"imageRef": IMAGE}},
        "os-stop",
        "pause",
        "rescue",
    ):
        lab.act(id, action, status=409)
    lab.act(id, "unrescue")
    assert status(lab, id) == ("RESCUE", "unrescuing")
    lab.running(id)
    assert status(lab, id) == ("ACTIVE", None)
    lab.act(id, "unrescue", status=409)
    lab.act(id, "os-stop")
    lab.running(id, state="stopped")
    lab.act(id, "rescue", status=200)
    lab.running(id)
    assert status(lab, id) == ("RESCUE", None)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"adminPass": 1}, "rescue.adminPass"),
        ({"rescue_image_ref": ""}, "rescue.rescue_image_ref"),
        ({"rescue_image_ref": "x"}, "requested image"),
        ({"bogus": 1}, "bogus"),
        ([], "rescue"),
    ],
)
def test_a_bad_rescue_is_refused_by_name(lab: Lab, body: object, named: str) -> None:
    id = lab.booted()
    assert named in lab.act(id, {"rescue": body}, status=400)["badRequest"]["message"]
    assert status(lab, id) == ("ACTIVE", None)


def test_a_rebuild_asks_for_a_fresh_disk(lab: Lab) -> None:
    id = lab.booted(networks=[{"uuid": lab.network()}])
    ports = [port.id for port in ports_of(lab, id)]
    body = {"rebuild": {"imageRef": IMAGE, "name": "again", "metadata": {"a": "b"}, "adminPass": "secret"}}
    told = lab.act(id, body, version="2.57")["server"]
    assert (told["status"], told["name"], told["metadata"]) == ("REBUILD", "again", {"a": "b"})
    assert told["adminPass"] == "secret"
    row = lab.row(id)
    assert row is not None
    assert (row.disk_serial, row.admin_password) == (1, "secret")
    lab.running(id)
    assert lab.show(id)["status"] == "ACTIVE"
    assert [port.id for port in ports_of(lab, id)] == ports


def test_an_operator_sets_a_server_to_error_and_back(lab: Lab) -> None:
    id = lab.booted()
    lab.act(id, {"os-resetState": {"state": "error"}}, status=403)
    lab.act(id, {"os-resetState": {"state": "error"}}, by=ROOT)
    assert lab.show(id)["status"] == "ERROR"
    lab.act(id, {"os-resetState": {"state": "active"}}, by=ROOT)
    assert lab.show(id)["status"] == "ACTIVE"
    lab.act(id, {"os-resetState": {"state": "tired"}}, by=ROOT, status=400)


def test_a_locked_server_is_left_alone(lab: Lab) -> None:
    id = lab.booted()
    lab.act(id, {"lock": {"locked_reason": "mine"}}, version="2.73")
    shown = lab.show(id)
    assert (shown["locked"], shown["locked_reason"]) == (True, "mine")
    lab.act(id, "os-stop", status=409)
    lab.ask("DELETE", f"/servers/{id}", status=409)
    lab.act(id, "unlock")
    lab.act(id, "lock", by=ROOT)
    lab.act(id, "unlock", status=403)
    lab.act(id, "os-stop", by=ROOT)


@pytest.mark.parametrize("action", ["changePassword", "evacuate", "suspend"])
def test_what_is_not_offered_is_said_clearly(lab: Lab, action: str) -> None:
    id = lab.booted()
    refused = lab.act(id, {action: {}}, status=400)["badRequest"]["message"]
    assert refused.startswith(f"This cloud does not offer {action}.")
    lab.ask("POST", "/servers/nobody/action", {action: {}}, status=404)
    assert "no such action" in str(lab.act(id, {"dance": {}}, status=400))


def test_a_console_is_read_from_the_servers_host(lab: Lab) -> None:
    id = lab.boot()
    lab.act(id, {"os-getConsoleOutput": {}}, status=409)
    lab.running(id)
    row = lab.row(id)
    assert row is not None
    assert lab.act(id, {"os-getConsoleOutput": {"length": 5}}, status=200) == {"output": f"{row.host} 5"}
    assert lab.act(id, {"os-getConsoleOutput": {}}, status=200) == {"output": f"{row.host} None"}
    lab.act(id, {"os-getConsoleOutput": {"length": "x"}}, status=400)


# Interfaces.


def test_an_interface_is_attached_and_detached_while_the_server_runs(lab: Lab) -> None:
    id = lab.booted()
    net = lab.network()
    given = lab.ask("POST", "/network/v2.0/ports", {"port": {"network_id": net}})["port"]["id"]
    path = f"/servers/{id}/os-interface"
    made = lab.ask("POST", path, {"interfaceAttachment": {"net_id": net, "tag": "t"}}, version="2.70")
    own = made["interfaceAttachment"]["port_id"]
    assert made["interfaceAttachment"]["tag"] == "t"
    lab.ask("POST", path, {"interfaceAttachment": {"port_id": given}})
    listed = lab.ask("GET", path)["interfaceAttachments"]
    assert [each["port_id"] for each in listed] == [own, given]
    row = lab.row(id)
    assert row is not None
    assert {port.host_id for port in ports_of(lab, id)} == {row.host}
    assert lab.show(id)["status"] == "ACTIVE"
    for port in (own, given):
        lab.ask("DELETE", f"{path}/{port}", status=202)
    assert lab.ask("GET", path)["interfaceAttachments"] == []
    lab.ask("GET", f"/network/v2.0/ports/{own}", status=404)
    left = lab.ask("GET", f"/network/v2.0/ports/{given}")["port"]
    assert (left["device_id"], left["device_owner"]) == ("", "")
    lab.ask("DELETE", f"{path}/{own}", status=404)


def test_a_security_group_is_put_on_a_server_and_taken_off(lab: Lab) -> None:
    id = lab.booted(networks=[{"uuid": lab.network()}])
    lab.ask("POST", "/network/v2.0/security-groups", {"security_group": {"name": "web"}})
    lab.act(id, {"addSecurityGroup": {"name": "web"}})
    assert {g["name"] for g in lab.show(id)["security_groups"]} == {"default", "web"}
    lab.act(id, {"removeSecurityGroup": {"name": "web"}})
    assert [g["name"] for g in lab.show(id)["security_groups"]] == ["default"]
    lab.act(id, {"removeSecurityGroup": {"name": "web"}}, status=404)
    lab.act(id, {"addSecurityGroup": {"name": "nobody"}}, status=404)


# Seen.


def test_what_is_not_well_is_told_with_its_cause_and_heals(lab: Lab) -> None:
    id = lab.booted()
    why = Trouble(what="QEMU ended", cause="signal 9", remedy="it is started again")
    lab.running(id, state="crashed", problem=why)
    shown = lab.show(id)
    assert (shown["status"], shown["OS-EXT-STS:power_state"]) == ("ERROR", 6)
    assert shown["fault"]["message"] == "QEMU ended: signal 9"
    lab.running(id)
    assert lab.show(id)["status"] == "ACTIVE"
    assert "fault" not in lab.show(id)


def test_equal_reports_write_nothing(lab: Lab) -> None:
    id = lab.booted()
    before = lab.store.revision
    lab.running(id)
    assert lab.store.revision == before


def test_a_host_cannot_speak_for_another(lab: Lab) -> None:
    id = lab.boot()
    row = lab.row(id)
    assert row is not None
    other = {"h1": "h2", "h2": "h1"}[row.host]
    lab.report(other, seen(row, "running"))
    assert lab.show(id)["status"] == "BUILD"


def test_a_server_that_its_host_lost_is_not_told_to_run(lab: Lab) -> None:
    id = lab.booted()
    row = lab.row(id)
    assert row is not None
    lab.report(row.host)
    assert lab.show(id)["OS-EXT-STS:power_state"] == 0
    assert lab.show(id)["status"] != "ACTIVE"


def test_a_port_that_is_gone_is_not_waited_for(lab: Lab) -> None:
    id = lab.boot(networks=[{"uuid": lab.network()}])
    (port,) = ports_of(lab, id)
    lab.ask("DELETE", f"/network/v2.0/ports/{port.id}")
    row = lab.row(id)
    assert row is not None
    lab.report(row.host, seen(row, "running", ports=()))
    assert lab.show(id)["status"] == "ACTIVE"


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
    lab.report(row.host, ServerObservation(id=id, state="running"))
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


# Shown.


def test_others_see_and_change_nothing(lab: Lab) -> None:
    id = lab.booted()
    for method, path in (
        ("GET", f"/servers/{id}"),
        ("PUT", f"/servers/{id}"),
        ("DELETE", f"/servers/{id}"),
        ("GET", f"/servers/{id}/os-interface"),
        ("GET", f"/servers/{id}/os-instance-actions"),
        ("GET", f"/servers/{id}/metadata"),
    ):
        lab.ask(method, path, {"server": {"name": "x"}} if method == "PUT" else None, by="bob@p2", status=404)
    lab.act(id, "os-stop", by="bob@p2", status=404)
    lab.act(id, "os-stop", by="eve@p1:reader", status=403)
    assert lab.ask("GET", "/servers", by="bob@p2")["servers"] == []
    lab.ask("GET", "/servers?all_tenants=1", status=403)
    assert len(lab.ask("GET", "/servers?all_tenants=1", by=ROOT)["servers"]) == 1


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "abc"),
        ("name=b", "b"),
        ("name=^b$", "b"),
        ("name=%5Ex", ""),
        ("status=active", "a"),
        ("status=build", "bc"),
        ("status=suspended", ""),
        ("flavor=2", "c"),
        ("flavor=9", ""),
        (f"image={IMAGE}", "abc"),
        ("tags=red", "ab"),
        ("tags=red,big", "b"),
        ("tags-any=big,small", "bc"),
        ("not-tags=red", "c"),
        ("ip=10.0.0.9", "a"),
        ("ip=10.0.0.", "a"),
        ("ip=10.9", ""),
        ("changes-since=2020-01-01T00:00:00Z", "abc"),
        ("changes-since=2050-01-01T00:00:00Z", ""),
        ("deleted=true", ""),
        ("sort_key=display_name&sort_dir=desc&limit=2", "cb"),
    ],
)
def test_lists_are_filtered(lab: Lab, query: str, found: str) -> None:
    net = lab.network()
    lab.booted(name="a", tags=["red"], networks=[{"uuid": net, "fixed_ip": "10.0.0.9"}])
    lab.boot(name="b", tags=["red", "big"])
    lab.boot(name="c", tags=["small"], flavorRef="2")
    servers = lab.ask("GET", f"/servers?{query}", version="2.26")["servers"]
    names = [server["name"] for server in servers]
    assert names == list(found) if "sort_key" in query else sorted(names) == list(found)


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=x",
        "marker=nobody",
        "changes-since=soon",
        "sort_key=zz",
        "name=[a",
        "ip=%27%20OR",
        "tags=a/b",
    ],
)
def test_bad_filters_are_refused(lab: Lab, query: str) -> None:
    lab.ask("GET", f"/servers?{query}", version="2.26", status=400)


def test_pages_follow_each_other(lab: Lab) -> None:
    for number in range(5):
        lab.boot(name=f"s{number}")
    seen_names: list[str] = []
    path = "/servers?limit=2&sort_key=display_name&sort_dir=asc"
    while path:
        page = lab.ask("GET", path)
        seen_names += [server["name"] for server in page["servers"]]
        links = page.get("servers_links", [])
        path = links[0]["href"].partition("/v2.1")[2] if links else ""
    assert seen_names == [f"s{number}" for number in range(5)]


def test_actions_tell_who_asked_what_and_how_it_went(lab: Lab) -> None:
    id = lab.boot()
    path = f"/servers/{id}/os-instance-actions"
    (create,) = lab.ask("GET", path)["instanceActions"]
    request = create["request_id"]
    event = lab.ask("GET", f"{path}/{request}", version="2.51")["instanceAction"]["events"][0]
    assert (event["result"], event["finish_time"]) == (None, None)
    lab.running(id)
    event = lab.ask("GET", f"{path}/{request}", version="2.51")["instanceAction"]["events"][0]
    assert event["result"] == "Success"
    lab.act(id, "os-stop")
    assert [each["action"] for each in lab.ask("GET", path)["instanceActions"]] == ["stop", "create"]
    assert create["user_id"] == "ann"
    lab.ask("GET", f"{path}/req-nobody", status=404)


def test_metadata_and_tags_are_changed(lab: Lab) -> None:
    id = lab.boot(metadata={"a": "1"})
    meta, tags = f"/servers/{id}/metadata", f"/servers/{id}/tags"
    assert lab.ask("POST", meta, {"metadata": {"b": "2"}}) == {"metadata": {"a": "1", "b": "2"}}
    assert lab.ask("PUT", f"{meta}/a", {"meta": {"a": "3"}}) == {"meta": {"a": "3"}}
    lab.ask("PUT", f"{meta}/a", {"meta": {"b": "3"}}, status=400)
    lab.ask("DELETE", f"{meta}/b", status=204)
    lab.ask("GET", f"{meta}/b", status=404)
    assert lab.ask("PUT", meta, {"metadata": {"z": "9"}}) == {"metadata": {"z": "9"}}
    many = {f"k{number}": "v" for number in range(129)}
    assert "exceeds 128" in str(lab.ask("PUT", meta, {"metadata": many}, status=403))
    lab.ask("PUT", f"{tags}/x", version="2.26", status=201)
    lab.ask("PUT", f"{tags}/x", version="2.26", status=204)
    assert lab.ask("GET", tags, version="2.26") == {"tags": ["x"]}
    lab.ask("GET", f"{tags}/y", version="2.26", status=404)
    lab.ask("DELETE", tags, version="2.26", status=204)
    lab.ask("GET", tags, version="2.25", status=404)


def test_a_server_is_renamed(lab: Lab) -> None:
    id = lab.boot()
    told = lab.ask("PUT", f"/servers/{id}", {"server": {"name": "new", "description": None}}, version="2.19")
    assert (told["server"]["name"], told["server"]["description"]) == ("new", None)
    lab.ask("PUT", f"/servers/{id}", {"server": {"status": "ACTIVE"}}, status=400)
    lab.ask("PUT", f"/servers/{id}", {"server": {"name": " x"}}, status=400)
