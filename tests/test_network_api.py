"""What all kinds of the Network API have in common: lists, tags, revisions, quotas, discovery, errors."""

from __future__ import annotations

from typing import Any

import pytest
from network_lab import BOB, ROOT, Cloud, cloud, path

from trunkline.api.network import Settings
from trunkline.api.network.kinds import NESTED
from trunkline.api.network.stages import stages
from trunkline.api.policy import Rules
from trunkline.resources.schema import specs
from trunkline.resources.standard import Standard

__all__ = ["cloud"]

EVERY = [spec for spec in specs().values() if spec.service == "network"]
#: Those whose collections are inside of no other kind; what has paths of its own form has tests of its own.
KINDS = [
    spec
    for spec in EVERY
    if spec.cls not in {child for child, *_ in NESTED} and not spec.kind.startswith(("qos_", "tap_", "ndp_"))
]
#: Those with description, tags and revision.
STANDARD = [spec.kind for spec in KINDS if issubclass(spec.cls, Standard)]

#: What operators alone make.
BY_OPERATOR = {
    "default_security_group_rule",
    "log",
    "metering_label",
    "metering_label_rule",
    "network_segment_range",
}


def example(cloud: Cloud, kind: str) -> dict[str, Any]:
    """One of each kind."""
    if kind in ("network", "router", "security_group", "address_group") or kind.startswith("firewall_"):
        return cloud.make(kind, name="x")
    if kind == "security_group_rule":
        group = cloud.make("security_group", name="x")
        return cloud.make(kind, security_group_id=group["id"], direction="ingress")
    if kind == "address_scope":
        return cloud.make(kind, ip_version=4)
    if kind == "subnetpool":
        return cloud.make(kind, name="x", prefixes=["10.0.0.0/16"])
    if kind == "floatingip":
        return cloud.make(kind, floating_network_id=cloud.public()[0]["id"])
    network = cloud.make("network", name="x")
    if kind == "subnet":
        return cloud.sub(network, "10.0.0.0/24")
    if kind == "local_ip":
        cloud.sub(network, "10.0.0.0/24")
    if kind == "trunk":
        return cloud.make(kind, port_id=cloud.make("port", network_id=network["id"])["id"])
    return cloud.make(kind, network_id=network["id"])


@pytest.mark.parametrize("kind", [kind for kind in STANDARD if kind not in BY_OPERATOR])
def test_every_kind_is_made_shown_listed_described_tagged_and_deleted(cloud: Cloud, kind: str) -> None:
    made = example(cloud, kind)
    where = f"{path(kind)}/{made['id']}"
    assert cloud.show(kind, made["id"]) == made
    assert made in cloud.all(kind)
    assert made["project_id"] == made["tenant_id"] == "p1"
    changed = cloud.change(kind, made["id"], description="Grüße")
    assert (changed["description"], changed["revision_number"]) == ("Grüße", made["revision_number"] + 1)
    assert cloud.ask("PUT", f"{where}/tags/red").status_code == 201
    assert cloud.show(kind, made["id"])["tags"] == ["red"]
    assert cloud.refused("GET", where, by=BOB)[0] == 404
    assert made["id"] not in {item["id"] for item in cloud.all(kind, by=BOB)}
    assert cloud.refused("PUT", where, {kind: {"description": "mine"}}, by=BOB)[0] == 404
    assert cloud.refused("DELETE", where, by=BOB)[0] == 404
    assert cloud.refused("PUT", where, {kind: {"description": "x"}}, by="ray@p1:reader")[0] == 403
    cloud.remove(kind, made["id"])
    assert cloud.refused("GET", where)[0] == 404


@pytest.mark.parametrize("kind", STANDARD)
@pytest.mark.parametrize("value", [17, [], {}, "a\x00b", "x" * 300, None])
def test_a_wrong_value_is_refused_by_the_name_of_its_field(cloud: Cloud, kind: str, value: Any) -> None:
    reply = cloud.ask("POST", path(kind), {kind: {"description": value}})
    assert reply.status_code == 400
    assert "description" in reply.json()["NeutronError"]["message"]


def test_every_guarded_field_and_verb_has_a_rule() -> None:
    rules = Rules.load()
    wanted, named = [], stages(Settings())
    for spec in EVERY:
        own = named[spec.kind].rules if spec.kind in named else {}
        wanted += [own.get(verb, f"{verb}_{spec.kind}") for verb in ("create", "update", "delete", "get")]
        for field in spec.fields.values():
            flags = field.flags
            wanted += [f"create_{spec.kind}:{field.wire}"] * (flags.create and flags.guarded_write)
            wanted += [f"update_{spec.kind}:{field.wire}"] * (flags.update and flags.guarded_write)
            wanted += [f"get_{spec.kind}:{field.wire}"] * flags.guarded_read
    assert [name for name in wanted if name not in rules] == []


def test_unknown_fields_and_filters_are_named(cloud: Cloud) -> None:
    body = cloud.ask("POST", "/networks", {"network": {"nmae": "x"}}).json()["NeutronError"]
    assert "nmae" in body["message"]
    assert set(body) == {"type", "message", "detail"}
    reply = cloud.ask("GET", "/networks?nmae=x")
    assert reply.status_code == 400
    assert "nmae" in reply.json()["NeutronError"]["message"]


@pytest.mark.parametrize("body", [None, [], {}, {"network": []}, {"network": None}, {"networks": []}, "x"])
def test_a_body_of_another_form_is_refused(cloud: Cloud, body: Any) -> None:
    assert cloud.refused("POST", "/networks", body)[0] == 400


def test_who_is_nobody_is_told_so(cloud: Cloud) -> None:
    reply = cloud.loop.run_until_complete(cloud.client.get("/networks"))
    assert reply.status_code == 401
    assert reply.json()["error"]["code"] == 401


def test_values_of_one_filter_are_alternatives_and_filters_add_up(cloud: Cloud) -> None:
    for name, up in (("a", True), ("b", False), ("c", True)):
        cloud.make("network", name=name, admin_state_up=up)

    def names(query: str) -> set[str]:
        return {n["name"] for n in cloud.all("network", query)}

    assert names("?name=a&name=b") == {"a", "b"}
    assert names("?name=a&name=b&admin_state_up=true") == {"a"}
    assert names("?admin_state_up=False") == {"b"}
    assert names("?tenant_id=p1") == {"a", "b", "c"}
    assert names("?project_id=p2") == set()
    assert cloud.ask("GET", "/networks?admin_state_up=perhaps").status_code == 400


def test_fields_are_chosen(cloud: Cloud) -> None:
    made = cloud.make("network", name="a")
    assert cloud.all("network", "?fields=id&fields=name") == [{"id": made["id"], "name": "a"}]
    assert cloud.all("network", "?fields=tenant_id") == [{"tenant_id": "p1"}]
    shown = cloud.ask("GET", f"/networks/{made['id']}?fields=name").json()["network"]
    assert shown == {"name": "a"}


def test_lists_come_in_order_and_in_pages_both_ways(cloud: Cloud) -> None:
    for name in "cabed":
        cloud.make("network", name=name)

    def walk(url: str, rel: str) -> list[list[str]]:
        pages: list[list[str]] = []
        while len(pages) < 9:
            body = cloud.ask("GET", url).json()
            if not body["networks"]:
                break
            pages.append([n["name"] for n in body["networks"]])
            links = {link["rel"]: link["href"] for link in body.get("networks_links", [])}
            if rel not in links:
                break
            url = links[rel]
        return pages

    assert [n["name"] for n in cloud.all("network", "?sort_key=name&sort_dir=desc")] == list("edcba")
    by_name = "/networks?sort_key=name&sort_dir=asc&limit=2"
    assert walk(by_name, "next") == [["a", "b"], ["c", "d"], ["e"]]
    assert walk(f"{by_name}&page_reverse=True", "previous") == [["d", "e"], ["b", "c"], ["a"]]
    assert "networks_links" not in cloud.ask("GET", "/networks").json()
    for bad in ("sort_key=nmae", "sort_key=name&sort_dir=up", "limit=-1", "limit=x", "marker=x&limit=1"):
        assert cloud.ask("GET", f"/networks?{bad}").status_code == 400, bad


def test_tags_are_replaced_added_asked_for_and_removed(cloud: Cloud) -> None:
    where = f"/networks/{cloud.make('network')['id']}/tags"
    assert cloud.ask("PUT", where, {"tags": ["a", "b", "a"]}).json() == {"tags": ["a", "b"]}
    assert cloud.ask("GET", where).json() == {"tags": ["a", "b"]}
    assert cloud.ask("PUT", f"{where}/c%20d").status_code == 201
    assert cloud.ask("GET", f"{where}/c%20d").status_code == 204
    assert cloud.ask("PUT", f"{where}/%2541").status_code == 201
    assert cloud.ask("GET", where).json() == {"tags": ["a", "b", "c d", "%41"]}
    more = cloud.ask("POST", where, {"tags": ["e", "b"]})
    assert (more.status_code, more.json()) == (201, {"tags": ["a", "b", "c d", "%41", "e"]})
    assert cloud.ask("DELETE", f"{where}/a").status_code == 204
    assert cloud.refused("GET", f"{where}/a") == (404, "TagNotFound")
    assert cloud.refused("DELETE", f"{where}/a") == (404, "TagNotFound")
    assert cloud.ask("DELETE", where).status_code == 204
    assert cloud.ask("GET", where).json() == {"tags": []}
    for bad in ({"tags": [""]}, {"tags": ["x" * 256]}, {"tags": "a"}, {}, {"tags": [1]}):
        assert cloud.refused("PUT", where, bad)[0] == cloud.refused("POST", where, bad)[0] == 400


def test_lists_are_filtered_by_tags(cloud: Cloud) -> None:
    for tags in (["a"], ["a", "b"], ["b", "c"], []):
        cloud.make("network", name="".join(tags), tags=tags)

    def names(query: str) -> set[str]:
        return {n["name"] for n in cloud.all("network", query)}

    assert names("?tags=a") == {"a", "ab"}
    assert names("?tags=a,b") == {"ab"}
    assert names("?tags-any=a,c") == {"a", "ab", "bc"}
    assert names("?not-tags=a,b") == {"a", "bc", ""}
    assert names("?not-tags-any=a,b") == {""}
    assert names("?tags=b&not-tags=c") == {"ab"}


def test_a_change_can_be_bound_to_a_revision(cloud: Cloud) -> None:
    made = cloud.make("network")
    where, body = f"/networks/{made['id']}", {"network": {"name": "new"}}
    stale = f"revision_number={made['revision_number'] + 1}"
    reply = cloud.ask("PUT", where, body, if_match=stale)
    assert (reply.status_code, reply.json()["NeutronError"]["type"]) == (
        412,
        "RevisionNumberConstraintFailed",
    )
    assert cloud.ask("DELETE", where, if_match=stale).status_code == 412
    assert cloud.ask("PUT", where, body, if_match="W/x").status_code == 400
    now = f"revision_number={made['revision_number']}"
    assert cloud.ask("PUT", where, body, if_match=now).status_code == 200
    assert cloud.ask("PUT", where, body, if_match=now).status_code == 412


def test_a_quota_limits_what_a_project_has(cloud: Cloud) -> None:
    set_to = {"quota": {"network": "2", "force": False}}
    assert cloud.refused("PUT", "/quotas/p1", set_to)[0] == 403
    quota = cloud.ask("PUT", "/quotas/p1", set_to, by=ROOT).json()["quota"]
    assert (quota["network"], quota["port"]) == (2, 500)
    for _ in range(2):
        cloud.make("network")
    assert cloud.refuses("network") == (409, "OverQuota")
    cloud.make("network", by=BOB)
    below = {"quota": {"network": 1}}
    assert cloud.refused("PUT", "/quotas/p1", below, by=ROOT)[0] == 400
    assert (
        cloud.ask("PUT", "/quotas/p1", {"quota": {"network": 1, "force": True}}, by=ROOT).status_code == 200
    )
    details = cloud.ask("GET", "/quotas/p1/details").json()["quota"]
    assert details["network"] == {"limit": 1, "used": 2, "reserved": 0}
    (listed,) = cloud.ask("GET", "/quotas", by=ROOT).json()["quotas"]
    assert (listed["project_id"], listed["network"]) == ("p1", 1)
    assert cloud.ask("DELETE", "/quotas/p1", by=ROOT).status_code == 204
    assert cloud.ask("GET", "/quotas/p1").json() == cloud.ask("GET", "/quotas/p1/default").json()
    cloud.make("network")


def test_bulk_requests_are_counted(cloud: Cloud) -> None:
    cloud.ask("PUT", "/quotas/p1", {"quota": {"network": 3}}, by=ROOT)
    assert cloud.refused("POST", "/networks", {"networks": [{}] * 4}) == (409, "OverQuota")
    assert cloud.all("network") == []


@pytest.mark.parametrize("quota", [{"network": -2}, {"network": 2**31}, {"network": "x"}, {"nonsense": 1}])
def test_limits_that_are_none_are_refused(cloud: Cloud, quota: dict[str, Any]) -> None:
    assert cloud.refused("PUT", "/quotas/p1", {"quota": quota}, by=ROOT)[0] == 400


def test_quotas_of_others_are_not_shown(cloud: Cloud) -> None:
    assert cloud.refused("GET", "/quotas/p2")[0] == 403
    assert cloud.refused("GET", "/quotas")[0] == 403


def test_what_is_offered_is_listed(cloud: Cloud) -> None:
    listed = cloud.ask("GET", "/extensions").json()["extensions"]
    aliases = {e["alias"] for e in listed}
    used = {f.flags.alias for spec in EVERY for f in spec.fields.values() if f.flags.alias}
    assert used <= aliases
    for entry in listed:
        assert cloud.ask("GET", f"/extensions/{entry['alias']}").json()["extension"] == entry
    assert cloud.refused("GET", "/extensions/nothing")[0] == 404
    names = {r["name"] for r in cloud.ask("GET", "/").json()["resources"]}
    assert {spec.kind for spec in KINDS} <= names


def test_availability_zones_are_those_of_the_hosts(cloud: Cloud) -> None:
    assert cloud.ask("GET", "/availability_zones").json() == {"availability_zones": []}
    cloud.hosts("h1")
    zones = cloud.ask("GET", "/availability_zones").json()["availability_zones"]
    assert zones == [
        {"name": "nova", "resource": "network", "state": "available"},
        {"name": "nova", "resource": "router", "state": "available"},
    ]


def test_a_thousand_ports_are_made_and_listed(cloud: Cloud) -> None:
    cloud.ask("PUT", "/quotas/p1", {"quota": {"port": -1}}, by=ROOT)
    network, _ = cloud.net("10.0.0.0/16")
    for _ in range(4):
        reply = cloud.ask("POST", "/ports", {"ports": [{"network_id": network["id"]}] * 250})
        assert reply.status_code == 201
    ports = cloud.all("port", "?device_owner=")
    assert len({fixed["ip_address"] for port in ports for fixed in port["fixed_ips"]}) == 1000
    assert len({port["mac_address"] for port in ports}) == 1000


def test_lists_are_filtered_and_sorted_by_words_of_a_few(cloud: Cloud) -> None:
    network = cloud.make("network", by=ROOT, name="o")
    flat = {"provider:network_type": "flat", "provider:physical_network": "physnet1"}
    cloud.make("network", by=ROOT, name="x", **flat)
    four, six = cloud.sub(network, "10.0.0.0/24", by=ROOT), cloud.sub(network, "fd00::/64", by=ROOT)

    def ids(kind: str, query: str) -> list[str]:
        return [item["id"] for item in cloud.all(kind, query, by=ROOT)]

    assert ids("network", "?provider:network_type=geneve") == [network["id"]]
    assert ids("subnet", "?ip_version=6") == [six["id"]]
    assert ids("subnet", "?sort_key=ip_version&sort_dir=asc") == [four["id"], six["id"]]
    (default,) = cloud.all("security_group", "?project_id=p0", by=ROOT)
    rules = cloud.all("security_group_rule", f"?security_group_id={default['id']}&direction=ingress", by=ROOT)
    assert [r["direction"] for r in rules] == ["ingress", "ingress"]
