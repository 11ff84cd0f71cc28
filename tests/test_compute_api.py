"""The Compute API beside servers: versions, flavors, key pairs, quotas, groups, hosts, aggregates."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compute_lab import ROOT, Lab

from trunkline.api import compute

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMG2ml9T5bTD2GQ5bQSGLzDqH5C0Z0nC8GQUYlHhBMkv me@here"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


# Microversions.


def reply(lab: Lab, path: str, **headers: str) -> Any:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return lab.loop.run_until_complete(lab.call("GET", f"/compute{path}", headers=given))


def test_versions_are_told_without_a_token(lab: Lab) -> None:
    top = reply(lab, "/")
    assert [each["id"] for each in top.json()["versions"]] == ["v2.0", "v2.1"]
    one = reply(lab, "/v2.1/").json()["version"]
    assert (one["min_version"], one["version"]) == ("2.1", "2.100")


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, "2.1"),
        ({"openstack_api_version": "compute 2.37"}, "2.37"),
        ({"openstack_api_version": "volume 3.1, compute 2.12"}, "2.12"),
        ({"x_openstack_nova_api_version": "2.20"}, "2.20"),
        ({"openstack_api_version": "compute latest"}, "2.100"),
        ({"openstack_api_version": "identity 9.9"}, "2.1"),
    ],
)
def test_the_version_asked_for_is_used_and_told(lab: Lab, headers: dict[str, str], told: str) -> None:
    got = reply(lab, "/v2.1/flavors", **headers)
    assert got.status_code == 200
    assert got.headers["openstack-api-version"] == f"compute {told}"
    assert got.headers["x-openstack-nova-api-version"] == told
    assert "OpenStack-API-Version" in got.headers["vary"]
    assert got.headers["x-compute-request-id"] == got.headers["x-openstack-request-id"]


@pytest.mark.parametrize(("asked", "status"), [("2.101", 406), ("2.0", 406), ("3.1", 406), ("new", 400)])
def test_a_version_that_is_not_there_is_refused(lab: Lab, asked: str, status: int) -> None:
    got = reply(lab, "/v2.1/flavors", openstack_api_version=f"compute {asked}")
    assert got.status_code == status
    (fault,) = got.json().values()
    assert fault["code"] == status


def test_what_a_version_took_away_or_has_not_brought_is_not_found(lab: Lab) -> None:
    lab.with_hosts("h1")
    lab.ask("GET", "/os-hypervisors/statistics", by=ROOT, version="2.87")
    lab.ask("GET", "/os-hypervisors/statistics", by=ROOT, version="2.88", status=404)
    lab.ask("PUT", "/flavors/1", {"flavor": {"description": "x"}}, by=ROOT, version="2.54", status=404)


# Flavors.


def flavor(lab: Lab, *, status: int | None = None, by: str = ROOT, **fields: Any) -> Any:
    body = {"flavor": {"name": "f", "vcpus": 1, "ram": 64, "disk": 0, **fields}}
    return lab.ask("POST", "/flavors", body, by=by, version="2.61", status=status)


def test_the_first_flavors_are_there_once(lab: Lab) -> None:
    listed = lab.ask("GET", "/flavors/detail")["flavors"]
    tiny = next(each for each in listed if each["name"] == "tiny")
    assert (tiny["vcpus"], tiny["ram"], tiny["disk"], tiny["swap"]) == (1, 128, 1, "")
    lab.ask("DELETE", "/flavors/5", by=ROOT, status=202)
    lab.store.write_sync(compute.seed)
    assert len(lab.ask("GET", "/flavors")["flavors"]) == len(listed) - 1


def test_a_flavor_is_made_described_and_deleted_by_operators(lab: Lab) -> None:
    flavor(lab, by="ann@p1", status=403)
    made = flavor(lab, id="my-1", ram="512", description="d", swap=9)["flavor"]
    assert (made["id"], made["ram"], made["description"], made["swap"]) == ("my-1", 512, "d", 9)
    assert made["extra_specs"] == {}
    flavor(lab, id="my-1", name="g", status=409)
    flavor(lab, id="my-2", status=409)
    changed = lab.ask("PUT", "/flavors/my-1", {"flavor": {"description": None}}, by=ROOT, version="2.55")
    assert changed["flavor"]["description"] is None
    lab.ask("DELETE", "/flavors/my-1", by=ROOT, status=202)
    lab.ask("GET", "/flavors/my-1", status=404)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"ram": 0}, "ram"),
        ({"ram": "x"}, "ram"),
        ({"ram": True}, "ram"),
        ({"vcpus": -1}, "vcpus"),
        ({"disk": 2**40}, "disk"),
        ({"name": " "}, "name"),
        ({"id": "a/b"}, "id"),
        ({"rxtx_factor": 0}, "rxtx_factor"),
        ({"os-flavor-access:is_public": "maybe"}, "is_public"),
        ({"bogus": 1}, "bogus"),
    ],
)
def test_bad_flavors_are_refused_by_name(lab: Lab, fields: dict[str, Any], named: str) -> None:
    assert named in flavor(lab, status=400, **fields)["badRequest"]["message"]


def test_a_private_flavor_is_for_those_with_access(lab: Lab) -> None:
    id = flavor(lab, **{"os-flavor-access:is_public": False})["flavor"]["id"]
    lab.ask("GET", f"/flavors/{id}", status=404)
    body = {"addTenantAccess": {"tenant": "p1"}}
    assert lab.ask("POST", f"/flavors/{id}/action", body, by=ROOT)["flavor_access"] == [
        {"flavor_id": id, "tenant_id": "p1"}
    ]
    lab.ask("POST", f"/flavors/{id}/action", body, by=ROOT, status=409)
    lab.ask("GET", f"/flavors/{id}")
    lab.ask("GET", f"/flavors/{id}", by="bob@p2", status=404)
    lab.ask("POST", f"/flavors/{id}/action", {"removeTenantAccess": {"tenant": "p1"}}, by=ROOT)
    lab.ask("GET", f"/flavors/{id}", status=404)
    names = {each["name"] for each in lab.ask("GET", "/flavors?is_public=None", by=ROOT)["flavors"]}
    assert {"f", "tiny"} <= names
    assert [each["name"] for each in lab.ask("GET", "/flavors?is_public=False", by=ROOT)["flavors"]] == ["f"]


def test_extra_specs_are_set_and_read(lab: Lab) -> None:
    path = "/flavors/1/os-extra_specs"
    lab.ask("POST", path, {"extra_specs": {"hw:cpu_policy": "shared", "own:thing": 5}}, by=ROOT)
    assert lab.ask("GET", path)["extra_specs"] == {"hw:cpu_policy": "shared", "own:thing": "5"}
    assert lab.ask("PUT", f"{path}/own:thing", {"own:thing": "6"}, by=ROOT) == {"own:thing": "6"}
    lab.ask("PUT", f"{path}/own:thing", {"other": "6"}, by=ROOT, status=400)
    lab.ask("DELETE", f"{path}/own:thing", by=ROOT)
    lab.ask("GET", f"{path}/own:thing", status=404)
    lab.ask("POST", path, {"extra_specs": {"a": "b"}}, status=403)
    lab.ask("POST", path, {"extra_specs": {"hw:nonsense": "b"}}, by=ROOT, version="2.86", status=400)
    lab.ask("POST", path, {"extra_specs": {"own:new": "b"}}, by=ROOT, version="2.86")


def test_flavors_are_filtered_and_paged(lab: Lab) -> None:
    def names(query: str) -> list[str]:
        return [each["name"] for each in lab.ask("GET", f"/flavors?{query}")["flavors"]]

    assert names("minRam=1024") == ["medium", "large", "xlarge"]
    assert names("sort_key=memory_mb&sort_dir=desc&limit=2") == ["xlarge", "large"]
    assert names("limit=2&marker=2") == ["medium", "large"]
    for bad in ("minRam=x", "sort_key=zz", "marker=nobody", "limit=-1"):
        lab.ask("GET", f"/flavors?{bad}", status=400)


# Key pairs.


def keypair(
    lab: Lab, *, version: str = "2.2", status: int | None = None, by: str = "ann@p1", **more: Any
) -> Any:
    return lab.ask("POST", "/os-keypairs", {"keypair": more}, version=version, status=status, by=by)


def test_a_key_is_imported_with_its_fingerprint(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    public = file.with_suffix(".pub").read_text()
    made = keypair(lab, name="k", public_key=public)["keypair"]
    told = subprocess.run(
        ["ssh-keygen", "-l", "-E", "md5", "-f", str(file)], check=True, capture_output=True, text=True
    ).stdout
    assert f"MD5:{made['fingerprint']}" in told
    assert "private_key" not in made
    assert [each["keypair"]["name"] for each in lab.ask("GET", "/os-keypairs")["keypairs"]] == ["k"]
    lab.ask("GET", "/os-keypairs/k", by="bob@p1", status=404)
    keypair(lab, name="k", public_key=public, status=409)
    lab.ask("DELETE", "/os-keypairs/k", version="2.2", status=204)
    lab.ask("GET", "/os-keypairs/k", status=404)


def test_a_generated_key_works_and_is_told_once(lab: Lab, tmp_path: Path) -> None:
    made = keypair(lab, name="k")["keypair"]
    file = tmp_path / "key"
    file.write_text(made["private_key"])
    file.chmod(0o600)
    public = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(file)], check=True, capture_output=True, text=True
    ).stdout
    assert public.split()[:2] == made["public_key"].split()[:2]
    assert "private_key" not in lab.ask("GET", "/os-keypairs/k")["keypair"]
    keypair(lab, name="k2", version="2.92", status=400)


def test_a_certificate_is_a_key_pair_too(lab: Lab) -> None:
    made = keypair(lab, name="c", type="x509")["keypair"]
    assert made["public_key"].startswith("-----BEGIN CERTIFICATE-----")
    again = keypair(lab, name="d", type="x509", public_key=made["public_key"])["keypair"]
    assert again["fingerprint"] == made["fingerprint"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": ""}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": "k", "public_key": "ssh-rsa nonsense"}, "public_key"),
        ({"name": "k", "public_key": "ssh-ed25519 AAAA\nssh-ed25519 BBBB"}, "public_key"),
        ({"name": "k", "type": "pgp"}, "type"),
        ({"name": "k", "user_id": "bob"}, "user_id"),
        ({"name": "k", "bogus": 1}, "bogus"),
    ],
)
def test_bad_key_pairs_are_refused_by_name(lab: Lab, fields: dict[str, Any], named: str) -> None:
    assert named in keypair(lab, status=400, **fields)["badRequest"]["message"]


def test_operators_keep_others_keys(lab: Lab) -> None:
    body = {"name": "k", "public_key": ED25519, "user_id": "bob"}
    keypair(lab, version="2.10", status=403, **body)
    keypair(lab, version="2.10", by=ROOT, **body)
    lab.ask("GET", "/os-keypairs/k", by="bob@p1")
    lab.ask("GET", "/os-keypairs/k?user_id=bob", version="2.10", status=403)
    lab.ask("DELETE", "/os-keypairs/k?user_id=bob", by=ROOT, version="2.10")
    lab.ask("GET", "/os-keypairs/k", by="bob@p1", status=404)


# Quotas.


def test_quotas_are_set_used_and_reset(lab: Lab) -> None:
    assert lab.ask("GET", "/os-quota-sets/p1")["quota_set"]["instances"] == 10
    body = {"quota_set": {"instances": 3, "key_pairs": 1, "tenant_id": "p1"}}
    lab.ask("PUT", "/os-quota-sets/p1", body, status=403)
    assert lab.ask("PUT", "/os-quota-sets/p1", body, by=ROOT)["quota_set"]["instances"] == 3
    detail = lab.ask("GET", "/os-quota-sets/p1/detail")["quota_set"]["instances"]
    assert detail == {"limit": 3, "in_use": 0, "reserved": 0}
    assert lab.ask("GET", "/limits")["limits"]["absolute"]["maxTotalInstances"] == 3
    lab.ask("GET", "/os-quota-sets/p1", by="bob@p2", status=403)
    keypair(lab, name="one", public_key=ED25519)
    keypair(lab, name="two", public_key=ED25519, status=403)
    lab.ask("DELETE", "/os-quota-sets/p1", by=ROOT, status=202)
    assert lab.ask("GET", "/os-quota-sets/p1")["quota_set"]["instances"] == 10
    for bad in ({"instances": -2}, {"instances": "many"}, {"nonsense": 1}):
        lab.ask("PUT", "/os-quota-sets/p1", {"quota_set": bad}, by=ROOT, status=400)


def test_a_quota_is_not_set_below_what_is_used_but_by_force(lab: Lab) -> None:
    lab.with_hosts("h1")
    lab.boot()
    lab.ask("PUT", "/os-quota-sets/p1", {"quota_set": {"instances": 0}}, by=ROOT, status=400)
    lab.ask("PUT", "/os-quota-sets/p1", {"quota_set": {"instances": 0, "force": True}}, by=ROOT)


def test_the_default_of_all_projects_is_a_class(lab: Lab) -> None:
    lab.ask("PUT", "/os-quota-class-sets/default", {"quota_class_set": {"cores": 7}}, by=ROOT)
    assert lab.ask("GET", "/os-quota-sets/p9/defaults")["quota_set"]["cores"] == 7
    assert lab.ask("GET", "/os-quota-sets/p1")["quota_set"]["cores"] == 7


def test_older_names_leave_with_their_microversions(lab: Lab) -> None:
    first = lab.ask("GET", "/os-quota-sets/p1")["quota_set"]
    last = lab.ask("GET", "/os-quota-sets/p1", version="2.57")["quota_set"]
    assert {"floating_ips", "injected_files"} <= set(first)
    assert not {"floating_ips", "injected_files"} & set(last)
    lab.ask("PUT", "/os-quota-sets/p1", {"quota_set": {"fixed_ips": 1}}, by=ROOT, version="2.36", status=400)


# Server groups.


def test_groups_by_both_forms(lab: Lab) -> None:
    old = {"server_group": {"name": "g", "policies": ["affinity"]}}
    made = lab.ask("POST", "/os-server-groups", old)["server_group"]
    assert (made["policies"], made["members"], made["metadata"]) == (["affinity"], [], {})
    rules = {"name": "h", "policy": "anti-affinity", "rules": {"max_server_per_host": 2}}
    new = lab.ask("POST", "/os-server-groups", {"server_group": rules}, version="2.64")["server_group"]
    assert (new["policy"], new["rules"]) == ("anti-affinity", {"max_server_per_host": 2})
    assert len(lab.ask("GET", "/os-server-groups")["server_groups"]) == 2
    assert lab.ask("GET", "/os-server-groups", by="bob@p2")["server_groups"] == []
    lab.ask("GET", f"/os-server-groups/{made['id']}", by="bob@p2", status=404)
    lab.ask("DELETE", f"/os-server-groups/{made['id']}", status=204)
    for body in (
        {"name": "g", "policies": ["soft-affinity"]},
        {"name": "g", "policies": []},
        {"name": "", "policies": ["affinity"]},
        {"name": "g", "policy": "affinity"},
    ):
        lab.ask("POST", "/os-server-groups", {"server_group": body}, status=400)
    lab.ask(
        "POST",
        "/os-server-groups",
        {"server_group": {"name": "g", "policy": "x"}},
        version="2.64",
        status=400,
    )


# Hosts.


def test_hypervisors_tell_what_is_taken(lab: Lab) -> None:
    lab.with_hosts("h1")
    lab.booted()
    lab.ask("GET", "/os-hypervisors/detail", status=403)
    (old,) = lab.ask("GET", "/os-hypervisors/detail", by=ROOT)["hypervisors"]
    assert (old["memory_mb"], old["memory_mb_used"], old["vcpus_used"], old["running_vms"]) == (
        4096,
        128,
        1,
        1,
    )
    (new,) = lab.ask("GET", "/os-hypervisors/detail?with_servers=true", by=ROOT, version="2.88")[
        "hypervisors"
    ]
    assert "memory_mb" not in new
    assert (new["state"], new["status"], len(new["servers"])) == ("up", "enabled", 1)
    assert lab.ask("GET", f"/os-hypervisors/{new['id']}", by=ROOT, version="2.88")["hypervisor"]["uptime"]
    assert lab.ask("GET", f"/os-hypervisors/{old['id']}", by=ROOT)["hypervisor"]["id"] == old["id"]
    assert lab.ask("GET", "/os-hypervisors/statistics", by=ROOT)["hypervisor_statistics"]["count"] == 1
    lab.ask("GET", "/os-hypervisors/nobody", by=ROOT, status=404)
    lab.ask("GET", "/os-hypervisors/zz/servers", by=ROOT, status=404)


def test_a_host_is_disabled_by_its_service(lab: Lab) -> None:
    lab.with_hosts("h1", "h2")
    lab.ask("GET", "/os-services", status=403)
    rows = lab.ask("GET", "/os-services?binary=nova-compute", by=ROOT, version="2.53")["services"]
    assert [(row["host"], row["state"], row["status"]) for row in rows] == [
        ("h1", "up", "enabled"),
        ("h2", "up", "enabled"),
    ]
    body = {"status": "disabled", "disabled_reason": "fans"}
    told = lab.ask("PUT", f"/os-services/{rows[0]['id']}", body, by=ROOT, version="2.53")["service"]
    assert (told["status"], told["disabled_reason"]) == ("disabled", "fans")
    lab.ask(
        "PUT", f"/os-services/{rows[0]['id']}", {"forced_down": True}, by=ROOT, version="2.53", status=400
    )
    lab.ask("PUT", "/os-services/enable", {"host": "h1", "binary": "nova-compute"}, by=ROOT)
    lab.ask("PUT", "/os-services/enable", {"host": "h9", "binary": "nova-compute"}, by=ROOT, status=404)
    lab.alive("h2", False)
    states = {row["host"]: row["state"] for row in lab.ask("GET", "/os-services", by=ROOT)["services"]}
    assert (states["h1"], states["h2"]) == ("up", "down")


def test_an_aggregate_makes_an_availability_zone(lab: Lab) -> None:
    lab.with_hosts("h1", "h2")
    made = lab.ask(
        "POST", "/os-aggregates", {"aggregate": {"name": "a", "availability_zone": "az1"}}, by=ROOT
    )["aggregate"]
    path = f"/os-aggregates/{made['id']}/action"
    assert lab.ask("POST", path, {"add_host": {"host": "h2"}}, by=ROOT)["aggregate"]["hosts"] == ["h2"]
    lab.ask("POST", path, {"add_host": {"host": "h2"}}, by=ROOT, status=409)
    lab.ask("POST", path, {"add_host": {"host": "h9"}}, by=ROOT, status=404)
    zones = lab.ask("GET", "/os-availability-zone")["availabilityZoneInfo"]
    assert [(zone["zoneName"], zone["hosts"]) for zone in zones] == [("az1", None), ("nova", None)]
    row = lab.row(lab.boot(availability_zone="az1"))
    assert row is not None
    assert (row.host, row.zone) == ("h2", "az1")
    assert "has servers" in str(lab.ask("POST", path, {"remove_host": {"host": "h2"}}, by=ROOT, status=409))
    lab.ask("DELETE", f"/os-aggregates/{made['id']}", by=ROOT, status=400)
    lab.ask("GET", "/os-aggregates", status=403)
    lab.ask("GET", "/os-availability-zone/detail", status=403)


# The rest.


def test_usage_counts_servers_that_are_there(lab: Lab) -> None:
    lab.with_hosts("h1")
    lab.booted()
    usage = lab.ask("GET", "/os-simple-tenant-usage/p1")["tenant_usage"]
    assert [each["memory_mb"] for each in usage["server_usages"]] == [128]
    assert lab.ask("GET", "/os-simple-tenant-usage/p2", by="bob@p2")["tenant_usage"] == {}
    lab.ask("GET", "/os-simple-tenant-usage", status=403)
    lab.ask("GET", "/os-simple-tenant-usage/p1?start=never", status=400)


def test_an_error_has_the_services_form(lab: Lab) -> None:
    missing = lab.ask("GET", "/servers/nobody", status=404)
    assert missing == {"itemNotFound": {"code": 404, "message": "Instance nobody could not be found."}}
    assert "unauthorized" in lab.loop.run_until_complete(_anonymous(lab)).json()


async def _anonymous(lab: Lab) -> Any:
    return await lab.call("GET", "/compute/v2.1/servers", headers={"x-caller": "@:reader"})


def test_no_body_is_a_crash(lab: Lab) -> None:
    lab.with_hosts("h1")
    id = lab.boot()
    for path in (
        "/servers",
        f"/servers/{id}/action",
        "/flavors",
        "/os-keypairs",
        "/os-server-groups",
        "/os-aggregates",
    ):
        for body in ([], "text", 7, {}, {"server": []}, {"flavor": None}, {"keypair": 3}, {"rebuild": []}):
            reply = lab.loop.run_until_complete(lab.call("POST", f"/compute/v2.1{path}", ROOT, json=body))
            assert reply.status_code == 400, (path, body, reply.text)
