"""RBAC policies: what is shared with one project, with all; what they see, may use, and must not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from network_lab import ANN, BOB, ROOT, Cloud, cloud, path

from trunkline.api.network.rbac import SHAREABLE

__all__ = ["cloud"]

CLEO = "cleo@p3"


def share(
    cloud: Cloud, kind: str, id: str, target: str = "p2", *, by: str = ANN, action: str = "access_as_shared"
) -> dict[str, Any]:
    return cloud.make(
        "rbac_policy", by=by, object_type=kind, object_id=id, action=action, target_tenant=target
    )


def policies(cloud: Cloud, id: str) -> set[tuple[str, str]]:
    found = cloud.all("rbac_policy", f"?object_id={id}", by=ROOT)
    return {(p["action"], p["target_tenant"]) for p in found}


#: Makes an object of a kind that can be shared, as ann of p1.
MAKE: dict[str, Callable[[Cloud], dict[str, Any]]] = {
    "network": lambda c: c.net("10.0.0.0/24")[0],
    "security_group": lambda c: c.make("security_group", name="g"),
    "subnetpool": lambda c: c.make("subnetpool", name="p", prefixes=["10.0.0.0/8"], default_prefixlen=24),
    "address_scope": lambda c: c.make("address_scope", name="s", ip_version=4),
    "address_group": lambda c: c.make("address_group", name="a", addresses=["10.0.0.0/8"]),
    "firewall_rule": lambda c: c.make("firewall_rule", name="r"),
    "firewall_policy": lambda c: c.make("firewall_policy", name="p"),
}


def use(cloud: Cloud, kind: str, id: str, by: str) -> Any:
    """What a project does with what is shared with it: the answer of a request that needs it."""
    if kind == "network":
        return cloud.ask("POST", "/ports", {"port": {"network_id": id}}, by=by)
    if kind == "address_scope":
        pool = {"name": "own", "prefixes": ["10.0.0.0/8"], "address_scope_id": id}
        return cloud.ask("POST", "/subnetpools", {"subnetpool": pool}, by=by)
    if kind == "firewall_rule":
        policy = {"name": "own", "firewall_rules": [id]}
        return cloud.ask("POST", path("firewall_policy"), {"firewall_policy": policy}, by=by)
    if kind == "firewall_policy":
        return cloud.ask(
            "POST", path("firewall_group"), {"firewall_group": {"ingress_firewall_policy_id": id}}, by=by
        )
    own = cloud.make("network", by=by)
    if kind == "security_group":
        return cloud.ask(
            "POST", "/ports", {"port": {"network_id": own["id"], "security_groups": [id]}}, by=by
        )
    if kind == "address_group":
        group = cloud.make("security_group", by=by, name="own")["id"]
        rule = {"security_group_id": group, "direction": "ingress", "remote_address_group_id": id}
        return cloud.ask("POST", "/security-group-rules", {"security_group_rule": rule}, by=by)
    body = {"network_id": own["id"], "ip_version": 4, "subnetpool_id": id}
    return cloud.ask("POST", "/subnets", {"subnet": body}, by=by)


@pytest.fixture(params=sorted(MAKE))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_kind_that_can_be_shared_is_tested() -> None:
    # QoS policies, the operator's, are in test_network_qos; groups of firewalls are seen, and no more.
    assert {*MAKE, "qos_policy", "firewall_group"} == set(SHAREABLE)


def test_a_firewall_group_that_is_shared_is_seen(cloud: Cloud) -> None:
    made = cloud.make("firewall_group", name="g")
    where = f"{path('firewall_group')}/{made['id']}"
    assert cloud.refused("GET", where, by=BOB)[0] == 404
    share(cloud, "firewall_group", made["id"])
    assert cloud.show("firewall_group", made["id"], by=BOB)["shared"] is True
    assert cloud.refused("PUT", where, {"firewall_group": {"name": "mine"}}, by=BOB)[0] == 403
    assert cloud.refused("GET", where, by=CLEO)[0] == 404


def test_what_is_shared_with_a_project_is_its_alone_to_use(cloud: Cloud, kind: str) -> None:
    made = MAKE[kind](cloud)
    assert use(cloud, kind, made["id"], BOB).status_code == 404
    share(cloud, kind, made["id"])
    assert cloud.show(kind, made["id"], by=BOB)["shared"] is True
    assert cloud.show(kind, made["id"])["shared"] is False
    assert [i["id"] for i in cloud.all(kind, "?shared=true", by=BOB)] == [made["id"]]
    assert made["id"] not in {i["id"] for i in cloud.all(kind, "?shared=false", by=BOB)}
    assert use(cloud, kind, made["id"], BOB).status_code == 201
    assert use(cloud, kind, made["id"], CLEO).status_code == 404
    assert made["id"] not in {i["id"] for i in cloud.all(kind, by=CLEO)}


def test_what_is_shared_with_a_project_is_not_its_to_change(cloud: Cloud, kind: str) -> None:
    made = MAKE[kind](cloud)
    share(cloud, kind, made["id"])
    where = f"{path(kind)}/{made['id']}"
    assert cloud.refused("PUT", where, {kind: {"name": "mine"}}, by=BOB)[0] == 403
    assert cloud.refused("DELETE", where, by=BOB)[0] == 403
    body = {"object_type": kind, "object_id": made["id"], "action": "access_as_shared", "target_tenant": "p3"}
    assert cloud.refuses("rbac_policy", by=BOB, **body) == (400, "InvalidInput")
    if kind == "security_group":
        rule = {"security_group_id": made["id"], "direction": "ingress"}
        assert cloud.refuses("security_group_rule", by=BOB, **rule)[0] == 403


def test_a_policy_stays_while_its_project_uses_the_object(cloud: Cloud, kind: str) -> None:
    made = MAKE[kind](cloud)
    policy = share(cloud, kind, made["id"])
    ((name, user),) = use(cloud, kind, made["id"], BOB).json().items()
    where = f"/rbac-policies/{policy['id']}"
    assert cloud.refused("DELETE", where) == (409, "RbacPolicyInUse")
    moved = {"rbac_policy": {"target_tenant": "p3"}}
    assert cloud.refused("PUT", where, moved) == (409, "RbacPolicyInUse")
    everyone = share(cloud, kind, made["id"], "*", by=ROOT)
    cloud.change("rbac_policy", policy["id"], target_tenant="p3")
    assert cloud.refused("DELETE", f"/rbac-policies/{everyone['id']}", by=ROOT)[0] == 409
    cloud.remove(name, user["id"], by=BOB)
    cloud.remove("rbac_policy", everyone["id"], by=ROOT)
    cloud.remove("rbac_policy", policy["id"])
    assert cloud.refused("GET", f"{path(kind)}/{made['id']}", by=BOB)[0] == 404


def test_to_share_with_everyone_is_the_administrators(cloud: Cloud, kind: str) -> None:
    made = MAKE[kind](cloud)
    body = {"object_type": kind, "object_id": made["id"], "action": "access_as_shared", "target_tenant": "*"}
    assert cloud.refuses("rbac_policy", **body) == (403, "PolicyNotAuthorized")
    policy = share(cloud, kind, made["id"], "p3")
    where = f"/rbac-policies/{policy['id']}"
    assert cloud.refused("PUT", where, {"rbac_policy": {"target_tenant": "*"}})[0] == 403
    everyone = share(cloud, kind, made["id"], "*", by=ROOT)
    assert cloud.show(kind, made["id"])["shared"] is True
    assert use(cloud, kind, made["id"], BOB).status_code == 201
    assert cloud.refused("DELETE", f"/rbac-policies/{everyone['id']}", by=BOB)[0] == 404


def test_a_deleted_object_leaves_no_policies(cloud: Cloud, kind: str) -> None:
    made = MAKE[kind](cloud)
    share(cloud, kind, made["id"])
    cloud.remove(kind, made["id"])
    assert policies(cloud, made["id"]) == set()


def test_shared_and_external_are_policies_for_everyone(cloud: Cloud) -> None:
    made = cloud.make("network", by=ROOT, shared=True, router__external=True)
    both = {("access_as_shared", "*"), ("access_as_external", "*")}
    assert policies(cloud, made["id"]) == both
    for policy in cloud.all("rbac_policy", f"?object_id={made['id']}", by=ROOT):
        cloud.remove("rbac_policy", policy["id"], by=ROOT)
    shown = cloud.show("network", made["id"], by=ROOT)
    assert (shown["shared"], shown["router:external"]) == (False, False)
    assert shown["revision_number"] > made["revision_number"]
    cloud.change("network", made["id"], by=ROOT, shared=True, router__external=True)
    assert policies(cloud, made["id"]) == both
    cloud.change("network", made["id"], by=ROOT, shared=False, router__external=False)
    assert policies(cloud, made["id"]) == set()


def test_a_network_is_external_for_one_project(cloud: Cloud) -> None:
    made = cloud.make("network", by=ROOT)
    cloud.sub(made, "203.0.113.0/24", by=ROOT)
    policy = share(cloud, "network", made["id"], "p1", by=ROOT, action="access_as_external")
    assert cloud.show("network", made["id"])["router:external"] is True
    router = cloud.make("router", external_gateway_info={"network_id": made["id"]})
    cloud.make("floatingip", floating_network_id=made["id"])
    refused = cloud.refuses("router", by=BOB, external_gateway_info={"network_id": made["id"]})
    assert refused == (404, "NetworkNotFound")
    assert cloud.refuses("floatingip", by=BOB, floating_network_id=made["id"])[0] == 404
    assert cloud.refused("POST", "/ports", {"port": {"network_id": made["id"]}})[0] == 403
    where = f"/rbac-policies/{policy['id']}"
    assert cloud.refused("DELETE", where, by=ROOT) == (409, "RbacPolicyInUse")
    cloud.remove("router", router["id"])
    for floating in cloud.all("floatingip"):
        cloud.remove("floatingip", floating["id"])
    cloud.remove("rbac_policy", policy["id"], by=ROOT)
    assert cloud.show("network", made["id"], by=ROOT)["router:external"] is False


def test_the_owner_of_a_network_sees_and_removes_the_ports_of_others_on_it(cloud: Cloud) -> None:
    made, (subnet,) = cloud.net("10.0.0.0/24")
    share(cloud, "network", made["id"])
    port = cloud.make("port", by=BOB, network_id=made["id"])
    own = cloud.make("port", network_id=made["id"])
    assert [p["id"] for p in cloud.all("port", by=BOB)] == [port["id"]]
    assert {p["id"] for p in cloud.all("port")} >= {port["id"], own["id"]}
    assert cloud.show("subnet", subnet["id"], by=BOB)["id"] == subnet["id"]
    assert cloud.refused("DELETE", f"/ports/{own['id']}", by=BOB)[0] == 404
    cloud.remove("port", port["id"])


def test_on_a_shared_network_a_port_takes_no_place_of_choice(cloud: Cloud) -> None:
    made, _ = cloud.net("10.0.0.0/24")
    share(cloud, "network", made["id"])
    given: list[dict[str, Any]] = [
        {"fixed_ips": [{"ip_address": "10.0.0.1"}]},
        {"mac_address": "fa:16:3e:00:00:01"},
        {"allowed_address_pairs": [{"ip_address": "10.0.0.9"}]},
        {"port_security_enabled": False},
        {"device_owner": "network:dhcp"},
    ]
    for fields in given:
        assert cloud.refuses("port", by=BOB, network_id=made["id"], **fields)[0] == 403


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"object_type": "router"}, "object_type"),
        ({"action": "access_as_owner"}, "action"),
        ({"action": "access_as_external", "object_type": "security_group"}, "action"),
        ({"object_id": "x"}, "object_id"),
        ({"target_tenant": None}, "target_tenant"),
        ({"target_tenant": ""}, "target_tenant"),
        ({"target_tenant": "x" * 256}, "target_tenant"),
    ],
)
def test_a_wrong_policy_is_refused_by_the_name_of_its_field(
    cloud: Cloud, fields: dict[str, Any], named: str
) -> None:
    made = cloud.make("network")
    body = {"object_type": "network", "object_id": made["id"], "action": "access_as_shared"}
    reply = cloud.ask("POST", "/rbac-policies", {"rbac_policy": {**body, "target_tenant": "p2", **fields}})
    assert reply.status_code == 400
    assert named in reply.json()["NeutronError"]["message"]


def test_nothing_is_shared_twice_nor_what_is_not_seen(cloud: Cloud) -> None:
    made = cloud.make("network")
    share(cloud, "network", made["id"])
    body = {"object_type": "network", "object_id": made["id"], "action": "access_as_shared"}
    assert cloud.refuses("rbac_policy", **body, target_tenant="p2") == (409, "DuplicateRbacPolicy")
    assert cloud.refuses("rbac_policy", by=CLEO, **body, target_tenant="p3") == (404, "NetworkNotFound")


def test_policies_are_counted(cloud: Cloud) -> None:
    cloud.ask("PUT", "/quotas/p1", {"quota": {"rbac_policy": 1}}, by=ROOT)
    made = cloud.make("network")
    share(cloud, "network", made["id"])
    body = {"object_type": "network", "object_id": made["id"], "action": "access_as_shared"}
    assert cloud.refuses("rbac_policy", **body, target_tenant="p3") == (409, "OverQuota")
