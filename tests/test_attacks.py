"""Attacks by who may use the APIs, each of which ends in a refusal that leaves nothing behind.

docs/attacks.md has the table of all of them, with those whose tests are elsewhere.
"""

from __future__ import annotations

import gc
import re
import secrets
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_lab import ApiLab
from network_lab import ANN, BOB, ROOT, Cloud, cloud

from trunkline.resources.compute import Server
from trunkline.resources.schema import specs

__all__ = ["cloud"]

ROOT_FOLDER = Path(__file__).resolve().parent.parent


def test_the_table_of_attacks_names_tests_that_are_there() -> None:
    table = (ROOT_FOLDER / "docs" / "attacks.md").read_text()
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", table)
    assert len(named) > 20
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not re.search(rf"^def {test}\(", (ROOT_FOLDER / file).read_text(), re.M)
    ]
    assert missing == []


# What is another's.


@pytest.mark.parametrize("shared", [True, False])
def test_tags_of_anothers_network_stay_as_they_are(cloud: Cloud, shared: bool) -> None:
    network = cloud.make("network", by=ROOT, shared=shared, tags=["own"])
    base = f"/networks/{network['id']}/tags"
    refusal = 403 if shared else 404
    for method, where, body in (
        ("PUT", base, {"tags": ["mine"]}),
        ("PUT", f"{base}/mine", None),
        ("DELETE", f"{base}/own", None),
        ("DELETE", base, None),
    ):
        assert cloud.refused(method, where, body)[0] == refusal, (method, where)
    assert cloud.show("network", network["id"], by=ROOT)["tags"] == ["own"]


def test_a_child_of_another_project_is_not_made_under_ones_own_parent(cloud: Cloud) -> None:
    network, (subnet,) = cloud.net("10.0.0.0/24")
    group = cloud.make("security_group", name="web")
    public, _ = cloud.public()
    for kind, fields in {
        "subnet": {"network_id": network["id"], "cidr": "10.1.0.0/24", "ip_version": 4},
        "port": {"network_id": network["id"]},
        "security_group_rule": {"security_group_id": group["id"], "direction": "ingress"},
        "floatingip": {"floating_network_id": public["id"]},
        "rbac_policy": {
            "object_type": "network",
            "object_id": network["id"],
            "action": "access_as_shared",
            "target_tenant": "p3",
        },
    }.items():
        assert cloud.refuses(kind, project_id="p2", **fields)[0] == 403, kind
    owned = (cloud.all(kind, "?project_id=p2", by=ROOT) for kind in ("subnet", "port", "floatingip"))
    assert [list(each) for each in owned] == [[], [], []]
    assert cloud.show("subnet", subnet["id"])


def test_ones_own_child_is_not_made_under_anothers_parent(cloud: Cloud) -> None:
    theirs, (subnet,) = cloud.net("10.0.0.0/24", by=BOB)
    group = cloud.make("security_group", by=BOB, name="theirs")
    router = cloud.make("router", by=BOB)
    port = cloud.make("port", by=BOB, network_id=theirs["id"])
    public, _ = cloud.public()
    for kind, fields in {
        "subnet": {"network_id": theirs["id"], "cidr": "10.1.0.0/24", "ip_version": 4},
        "port": {"network_id": theirs["id"]},
        "security_group_rule": {"security_group_id": group["id"], "direction": "ingress"},
        "floatingip": {"floating_network_id": public["id"], "port_id": port["id"]},
    }.items():
        assert cloud.refuses(kind, **fields)[0] == 404, kind
    where = f"/routers/{router['id']}/add_router_interface"
    assert cloud.refused("PUT", where, {"subnet_id": subnet["id"]})[0] == 404
    mine = cloud.make("router")
    where = f"/routers/{mine['id']}/add_router_interface"
    assert cloud.refused("PUT", where, {"subnet_id": subnet["id"]})[0] == 404
    assert cloud.refused("PUT", where, {"port_id": port["id"]})[0] == 404


def test_a_guest_does_not_take_the_gateways_address_of_anothers_network(cloud: Cloud) -> None:
    """Whoever has it is sent all that leaves the subnet: of a shared network, and of the outside itself."""
    _, outside = cloud.public()
    shared = cloud.make("network", by=ROOT, shared=True)
    subnet = cloud.sub(shared, "10.9.0.0/24", by=ROOT)
    router = cloud.make("router")
    where = f"/routers/{router['id']}/add_router_interface"
    for each in (outside, subnet):
        assert cloud.refused("PUT", where, {"subnet_id": each["id"]}) == (400, "BadRequest")
    held = cloud.all("port", f"?device_id={router['id']}", by=ROOT)
    assert held == []
    # Its owner may name a project that does, as of a network in common.
    policy = {"object_type": "network", "object_id": shared["id"], "action": "access_as_shared"}
    cloud.make("rbac_policy", by=ROOT, target_tenant="p1", **policy)
    assert cloud.attach(router, subnet)["subnet_id"] == subnet["id"]


def test_the_owner_of_a_network_makes_no_router_of_a_guests_port(cloud: Cloud) -> None:
    """Who sees it may delete it, and no more: it would be without security, and its guest rid of it."""
    network, _ = cloud.net("10.0.0.0/24")
    policy = {"object_type": "network", "object_id": network["id"], "action": "access_as_shared"}
    cloud.make("rbac_policy", target_tenant="p2", **policy)
    port = cloud.make("port", by=BOB, network_id=network["id"])
    where = f"/routers/{cloud.make('router')['id']}/add_router_interface"
    assert cloud.refused("PUT", where, {"port_id": port["id"]})[0] == 403
    assert cloud.show("port", port["id"], by=BOB) == port


def test_a_port_does_not_claim_anothers_router_or_server(cloud: Cloud) -> None:
    router = cloud.make("router", by=BOB)
    server = Server(id="4f0d4c7e-9c22-4f3c-8d2f-6d1a3a7c9b11", name="s", project_id="p2")
    cloud.store.write_sync(lambda tx: tx.insert(server))
    network = cloud.make("network")
    port = cloud.make("port", network_id=network["id"])
    for device in (router["id"], server.id):
        error = (409, "DeviceIDNotOwnedByTenant")
        assert cloud.refuses("port", network_id=network["id"], device_id=device) == error
        body = {"port": {"device_id": device, "device_owner": "compute:nova"}}
        assert cloud.refused("PUT", f"/ports/{port['id']}", body) == error
    for owner in ("network:router_interface", "network:router_gateway"):
        body = {"port": {"device_id": router["id"], "device_owner": owner}}
        assert cloud.refused("PUT", f"/ports/{port['id']}", body)[0] == 400
    own = cloud.make("router")["id"]
    assert cloud.change("port", port["id"], device_id=own)["device_id"] == own


# What is an administrator's.


def test_the_administrators_fields_are_not_reset_by_their_defaults(cloud: Cloud) -> None:
    network = cloud.make("network", by=ROOT, project_id="p1", shared=True, router__external=True)
    where = f"/networks/{network['id']}"
    for field in ("shared", "router:external"):
        for value in (False, None, "false", 0):
            assert cloud.refused("PUT", where, {"network": {field: value}})[0] in (400, 403), (field, value)
    for name, value in {"provider:network_type": None, "provider:segmentation_id": None}.items():
        assert cloud.refuses("network", **{name.replace(":", "__"): value})[0] in (400, 403), name
    after = cloud.show("network", network["id"], by=ROOT)
    assert after == network


@pytest.mark.parametrize("kind", ["network", "subnetpool", "router", "port"])
def test_what_is_guarded_is_refused_with_its_default_as_with_any_other_value(cloud: Cloud, kind: str) -> None:
    """Of each guarded field that a member may not set: saying its default is setting it."""
    spec = specs()[kind]
    network = cloud.make("network", by=ROOT, shared=True)
    needed: dict[str, Any] = {"prefixes": ["10.0.0.0/8"]} if kind == "subnetpool" else {}
    if kind == "port":
        needed = {"network_id": network["id"]}
    defaults = {
        f.wire: getattr(spec.cls(), f.name)
        for f in spec.fields.values()
        if f.flags.guarded_write and f.flags.create
    }
    assert all(cloud.engine.rules.rules.get(f"create_{kind}:{wire}") for wire in defaults)
    admins = [
        wire for wire in defaults if cloud.engine.rules.rules[f"create_{kind}:{wire}"].check == IS_ADMIN
    ]
    for wire in admins:
        body = {kind: {**needed, wire: defaults[wire]}}
        assert cloud.ask("POST", f"/{spec.plural}", body).status_code in (400, 403), wire


IS_ADMIN = "rule:context_is_admin"


# What would fill something.


def test_a_flood_of_tags_is_refused(cloud: Cloud) -> None:
    names = [str(number) for number in range(129)]
    network = cloud.make("network", tags=names[:127])
    base = f"/networks/{network['id']}/tags"
    assert cloud.ask("PUT", f"{base}/127").status_code == 201
    for method, where, body in (
        ("PUT", f"{base}/128", None),
        ("POST", base, {"tags": names}),
        ("PUT", base, {"tags": names}),
    ):
        assert cloud.refused(method, where, body) == (400, "InvalidInput")
    assert cloud.refuses("network", tags=names)[0] == 400
    assert len(cloud.show("network", network["id"])["tags"]) == 128


def test_a_flood_of_address_pairs_is_refused(cloud: Cloud) -> None:
    network = cloud.make("network")
    port = cloud.make("port", network_id=network["id"])
    flood = [{"ip_address": f"10.{n // 256}.{n % 256}.1"} for n in range(2000)]
    where = f"/ports/{port['id']}"
    assert cloud.refuses("port", network_id=network["id"], allowed_address_pairs=flood)[0] == 400
    assert cloud.refused("PUT", where, {"port": {"allowed_address_pairs": flood}})[0] == 400
    assert cloud.show("port", port["id"])["allowed_address_pairs"] == []


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiLab]:
    made = ApiLab(tmp_path_factory.mktemp("attacks"))
    yield made
    made.close()


def test_unknown_paths_ids_queries_and_tokens_grow_no_memory(lab: ApiLab) -> None:
    def ask(times: int) -> None:
        for _ in range(times):
            word = secrets.token_hex(400)
            for service in ("network/v2.0", "identity/v3", "compute/v2.1", "image/v2"):
                assert lab.ask("GET", f"/{service}/{word}").status_code == 404
            assert lab.ask("GET", f"/network/v2.0/ports/{word}").status_code == 404
            assert lab.ask("GET", f"/network/v2.0/ports?name={word[:200]}").status_code == 200
            assert lab.ask("GET", f"/network/v2.0/ports?{word}=x").status_code == 400
            assert lab.ask("GET", "/network/v2.0/ports", headers={"x-auth-token": word}).status_code == 401

    ask(140)  # Caches of a bounded size fill up.
    tracemalloc.start()
    try:
        ask(140)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        ask(100)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    # One copy of each word alone would be 80,000 bytes.
    assert grown < 50_000, grown


# Rules that mean nothing, and others beside them.


def test_a_bad_rule_leaves_the_others_of_its_request_and_its_group_alone(cloud: Cloud) -> None:
    group = cloud.make("security_group", name="web")
    base = {"security_group_id": group["id"], "direction": "ingress"}
    bad: list[dict[str, Any]] = [
        {"remote_ip_prefix": "10.0.0.0/33"},
        {"remote_ip_prefix": "10.0.0.0/8 || 1"},
        {"protocol": "vrrp", "port_range_min": 1, "port_range_max": 2},
        {"protocol": "tcp", "port_range_min": 9, "port_range_max": 8},
    ]
    good = {**base, "protocol": "tcp", "port_range_min": 80, "port_range_max": 80}
    for fields in bad:
        body = {"security_group_rules": [good, {**base, **fields}]}
        assert cloud.refused("POST", "/security-group-rules", body, by=ANN)[0] == 400, fields
    assert len(cloud.show("security_group", group["id"])["security_group_rules"]) == 2
    for first, last in ((80, 90), (85, 95), (80, 95), (1, 65535)):
        rule = {**base, "protocol": "tcp", "port_range_min": first, "port_range_max": last}
        cloud.make("security_group_rule", **rule)
    assert len(cloud.show("security_group", group["id"])["security_group_rules"]) == 6
