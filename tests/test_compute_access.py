"""Who may do what in the Compute API: operators, members, readers, strangers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compute_lab import IMAGE, ROOT, Lab

MEMBER, READER, STRANGER = "ann@p1", "rob@p1:reader", "eve@p2"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4XNvzdbNHAJ5ZTwmQP2BAA7xP6kL6W2o9h3WZ1dT1q ann"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    found = Lab(tmp_path).with_hosts("h1")
    yield found
    found.close()


def server(name: str = "s", **fields: Any) -> dict[str, Any]:
    return {"server": {"name": name, "imageRef": IMAGE, "flavorRef": "1", "networks": "none", **fields}}


OPERATORS_ONLY: list[tuple[str, str, Any]] = [
    ("POST", "/flavors", {"flavor": {"name": "f", "vcpus": 1, "ram": 64, "disk": 1}}),
    ("PUT", "/flavors/1", {"flavor": {"description": "x"}}),
    ("DELETE", "/flavors/1", None),
    ("POST", "/flavors/1/action", {"addTenantAccess": {"tenant": "p2"}}),
    ("POST", "/flavors/1/os-extra_specs", {"extra_specs": {"a": "b"}}),
    ("GET", "/flavors/1/os-flavor-access", None),
    ("GET", "/os-hypervisors", None),
    ("GET", "/os-hypervisors/detail", None),
    ("GET", "/os-services", None),
    ("PUT", "/os-services/x", {"status": "disabled"}),
    ("GET", "/os-aggregates", None),
    ("POST", "/os-aggregates", {"aggregate": {"name": "a"}}),
    ("GET", "/os-availability-zone/detail", None),
    ("PUT", "/os-quota-sets/p1", {"quota_set": {"cores": 1}}),
    ("DELETE", "/os-quota-sets/p1", None),
    ("PUT", "/os-quota-class-sets/default", {"quota_class_set": {"cores": 1}}),
    ("GET", "/os-quota-sets/p2", None),
    ("GET", "/limits?tenant_id=p2", None),
    ("GET", "/os-simple-tenant-usage", None),
    ("GET", "/os-simple-tenant-usage/p2", None),
    ("GET", "/os-instance_usage_audit_log", None),
    ("GET", "/os-migrations", None),
    ("POST", "/os-server-external-events", {"events": [{"name": "network-changed", "server_uuid": IMAGE}]}),
    ("GET", "/servers?all_tenants=1", None),
    ("GET", "/servers/detail?all_tenants=1", None),
    ("GET", "/os-server-groups?all_projects=1", None),
    ("GET", "/os-keypairs?user_id=bob", None),
    ("POST", "/os-keypairs", {"keypair": {"name": "k", "public_key": KEY, "user_id": "bob"}}),
    ("POST", "/servers", server(availability_zone="nova:h1")),
    ("POST", "/servers", server(host="h1")),
]


@pytest.mark.parametrize(("method", "path", "body"), OPERATORS_ONLY)
def test_what_is_the_operators_is_no_members(lab: Lab, method: str, path: str, body: Any) -> None:
    lab.ask(method, path, body, by=MEMBER, version="2.90", status=403)


def test_operators_place_servers_where_they_like(lab: Lab) -> None:
    made = lab.ask("POST", "/servers", server(host="h1"), by=ROOT, version="2.90")["server"]["id"]
    assert lab.show(made, by=ROOT)["OS-EXT-SRV-ATTR:host"] == "h1"
    found = lab.ask("GET", "/servers?all_tenants=1", by=ROOT)["servers"]
    assert [each["id"] for each in found] == [made]


def test_a_reader_sees_what_the_project_has_and_changes_nothing(lab: Lab) -> None:
    made = lab.booted()
    group = {"server_group": {"name": "g", "policy": "affinity"}}
    lab.ask("POST", "/os-server-groups", group, version="2.90")
    for path in (
        f"/servers/{made}",
        f"/servers/{made}/ips",
        f"/servers/{made}/metadata",
        f"/servers/{made}/os-interface",
        f"/servers/{made}/os-instance-actions",
        "/servers/detail",
        "/os-server-groups",
        "/os-quota-sets/p1",
        "/limits",
    ):
        lab.ask("GET", path, by=READER, status=200)
    for method, path, body in (
        ("POST", "/servers", server()),
        ("PUT", f"/servers/{made}", {"server": {"name": "mine"}}),
        ("DELETE", f"/servers/{made}", None),
        ("POST", f"/servers/{made}/action", {"os-stop": None}),
        ("POST", f"/servers/{made}/action", {"os-getConsoleOutput": {}}),
        ("PUT", f"/servers/{made}/metadata", {"metadata": {}}),
        ("PUT", f"/servers/{made}/tags/x", None),
        ("POST", f"/servers/{made}/os-interface", {"interfaceAttachment": {}}),
        ("POST", "/os-server-groups", group),
    ):
        lab.ask(method, path, body, by=READER, version="2.90", status=403)


def test_key_pairs_are_their_users_own(lab: Lab) -> None:
    lab.ask("POST", "/os-keypairs", {"keypair": {"name": "k", "public_key": KEY}}, by=MEMBER)
    colleague = "bob@p1"
    assert lab.ask("GET", "/os-keypairs", by=colleague)["keypairs"] == []
    lab.ask("GET", "/os-keypairs/k", by=colleague, status=404)
    lab.ask("DELETE", "/os-keypairs/k", by=colleague, status=404)
    lab.ask("GET", "/os-keypairs/k?user_id=ann", by=colleague, version="2.10", status=403)
    lab.ask("POST", "/servers", server(key_name="k"), by=colleague, status=400)
    seen = lab.ask("GET", "/os-keypairs?user_id=ann", by=ROOT, version="2.10")["keypairs"]
    assert [each["keypair"]["name"] for each in seen] == ["k"]


def test_a_stranger_finds_nothing(lab: Lab) -> None:
    made = lab.booted()
    group = {"server_group": {"name": "g", "policy": "affinity"}}
    its = lab.ask("POST", "/os-server-groups", group, version="2.90")["server_group"]["id"]
    assert lab.ask("GET", "/servers", by=STRANGER)["servers"] == []
    assert lab.ask("GET", "/os-server-groups", by=STRANGER)["server_groups"] == []
    lab.ask("GET", f"/os-server-groups/{its}", by=STRANGER, status=404)
    for method, path, body in (
        ("GET", f"/servers/{made}", None),
        ("DELETE", f"/servers/{made}", None),
        ("POST", f"/servers/{made}/action", {"os-stop": None}),
        ("GET", f"/servers/{made}/os-instance-actions", None),
        ("DELETE", f"/os-server-groups/{its}", None),
    ):
        lab.ask(method, path, body, by=STRANGER, status=404)
    hint = {**server(), "os:scheduler_hints": {"group": its}}
    lab.ask("POST", "/servers", hint, by=STRANGER, version="2.90", status=400)


def test_how_hosts_are_is_told_to_operators_alone(lab: Lab) -> None:
    made = lab.booted()
    assert lab.show(made, by=ROOT)["host_status"] == "UP"
    assert "host_status" not in lab.show(made)
    inner = [name for name in lab.show(made) if name.startswith("OS-EXT-SRV-ATTR:")]
    assert inner == ["OS-EXT-SRV-ATTR:hostname"]
