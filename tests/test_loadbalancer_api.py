"""The Load Balancer API on a real store: what may be ordered, by whom, and what is said of what may not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_lab import ApiLab

from trunkline.api.loadbalancer import offered
from trunkline.api.loadbalancer.tree import load
from trunkline.resources.appliance import Unit
from trunkline.resources.region import Host

BASE = "/load-balancer/v2/lbaas"
NOBODY = "11111111-1111-4111-8111-111111111111"


class Lab:
    """A network to balance on, and short ways to ask."""

    def __init__(self, folder: Path) -> None:
        self.api = ApiLab(folder)
        for project in ("demo", "admin"):
            limits = dict.fromkeys(("loadbalancer", "listener", "pool", "member", "l7policy"), -1)
            self.api.ok("PUT", f"{BASE}/quotas/{self.api.projects[project]}", {"quota": limits})
            units = {"quota": {"appliances": -1, "units": -1}}
            self.api.ok("PUT", f"/appliance/v1/quotas/{self.api.projects[project]}", units)
        self.network = self._network()
        self.subnet = self._subnet("10.7.0.0/24")

    def _network(self) -> str:
        return str(self.api.ok("POST", "/network/v2.0/networks", {"network": {}}, by="demo")["network"]["id"])

    def _subnet(self, cidr: str) -> str:
        fields = {"network_id": self.network, "cidr": cidr, "ip_version": 6 if ":" in cidr else 4}
        made = self.api.ok("POST", "/network/v2.0/subnets", {"subnet": fields}, by="demo")
        return str(made["subnet"]["id"])

    def make(self, path: str, by: str = "demo", **fields: Any) -> dict[str, Any]:
        """One more of a kind."""
        reply = self.api.ok("POST", f"{BASE}/{path}", {_one(path): fields}, by=by)
        return dict(reply[_one(path)])

    def refused(self, path: str, status: int, method: str = "POST", by: str = "demo", **fields: Any) -> str:
        """Asks for what is refused, with nothing done; why."""
        with self.api.unchanged():
            reply = self.api.ask(method, f"{BASE}/{path}", {_one(path): fields}, by=by)
        return why(reply, status)

    def show(self, path: str, by: str = "demo") -> dict[str, Any]:
        """One that is there."""
        return dict(self.api.ok("GET", f"{BASE}/{path}", by=by)[_one(path)])

    def change(self, path: str, **fields: Any) -> dict[str, Any]:
        """Changes one."""
        return dict(self.api.ok("PUT", f"{BASE}/{path}", {_one(path): fields}, by="demo")[_one(path)])

    def delete(self, path: str, by: str = "demo") -> httpx.Response:
        """Deletes one, or tries to."""
        return self.api.ask("DELETE", f"{BASE}/{path}", by=by)

    def balancer(self, **fields: Any) -> dict[str, Any]:
        """One more load balancer."""
        return self.make("loadbalancers", **{"vip_subnet_id": self.subnet, **fields})


def _one(path: str) -> str:
    """What stands around one of a path's kind."""
    parts = path.partition("?")[0].split("/")
    names = {
        "l7policies": "l7policy",
        "rules": "rule",
        "availabilityzones": "availability_zone",
        "availabilityzoneprofiles": "availability_zone_profile",
    }
    kinds = [p for p in parts if p in names or (p.endswith("s") and not p[0].isdigit())]
    return names.get(kinds[-1], kinds[-1].removesuffix("s"))


def why(reply: httpx.Response, status: int) -> str:
    """The message of an error, in Octavia's form."""
    assert reply.status_code == status, reply.text
    body = reply.json()
    assert set(body) == {"faultcode", "faultstring", "debuginfo"}
    return str(body["faultstring"])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("balancers"))
    yield lab
    lab.api.close()


@pytest.fixture(scope="module")
def balancer(lab: Lab) -> str:
    return str(lab.balancer(name="shared")["id"])


# Versions, and where things are.


def test_versions_lead_to_the_paths_and_the_newest_is_current(lab: Lab) -> None:
    versions = lab.api.ok("GET", "/load-balancer/", by=None)["versions"]
    assert [v["id"] for v in versions if v["status"] == "CURRENT"] == [versions[-1]["id"]]
    assert versions[0]["id"] == "v2.0"


def test_the_older_path_is_the_same(lab: Lab, balancer: str) -> None:
    older = lab.api.ok("GET", f"/load-balancer/v2.0/lbaas/loadbalancers/{balancer}", by="demo")
    assert older["loadbalancer"] == lab.show(f"loadbalancers/{balancer}")


# The VIP.


def test_a_balancer_gets_an_address_of_the_subnet_on_a_port_of_its_own(lab: Lab) -> None:
    made = lab.balancer(name="vip", description="d", tags=["a"])
    port = lab.api.ok("GET", f"/network/v2.0/ports/{made['vip_port_id']}")["port"]
    assert made["vip_network_id"] == lab.network
    assert made["vip_subnet_id"] == lab.subnet
    assert [fixed["ip_address"] for fixed in port["fixed_ips"]] == [made["vip_address"]]
    assert lab.delete(f"loadbalancers/{made['id']}").status_code == 204
    assert lab.api.ask("GET", f"/network/v2.0/ports/{made['vip_port_id']}").status_code == 404


def test_a_wished_address_is_the_vip(lab: Lab) -> None:
    made = lab.balancer(vip_address="10.7.0.77")
    assert made["vip_address"] == "10.7.0.77"
    assert "10.7.0.77" in lab.refused("loadbalancers", 409, vip_subnet_id=lab.subnet, vip_address="10.7.0.77")
    lab.delete(f"loadbalancers/{made['id']}")


def test_a_network_alone_has_the_cloud_choose_its_subnet(lab: Lab) -> None:
    made = lab.make("loadbalancers", vip_network_id=lab.network)
    assert made["vip_subnet_id"] == lab.subnet
    lab.delete(f"loadbalancers/{made['id']}")


def test_a_given_port_is_the_vip_and_outlives_the_balancer(lab: Lab) -> None:
    fields = {"network_id": lab.network}
    port = lab.api.ok("POST", "/network/v2.0/ports", {"port": fields}, by="demo")["port"]
    made = lab.make("loadbalancers", vip_port_id=port["id"])
    assert made["vip_address"] == port["fixed_ips"][0]["ip_address"]
    assert "in use" in lab.refused("loadbalancers", 409, vip_port_id=port["id"])
    lab.delete(f"loadbalancers/{made['id']}")
    left = lab.api.ok("GET", f"/network/v2.0/ports/{port['id']}")["port"]
    assert (left["fixed_ips"], left["device_owner"]) == (port["fixed_ips"], "")


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({}, 400, "vip_port_id, vip_network_id, vip_subnet_id"),
        ({"vip_subnet_id": NOBODY}, 404, NOBODY),
        ({"vip_subnet_id": "x"}, 400, "vip_subnet_id"),
        ({"vip_address": "10.9.9.9", "vip_network_id": "NET"}, 400, "vip_address"),
        ({"vip_address": "10.9.9.9", "vip_subnet_id": "SUB"}, 400, "vip_address"),
        ({"vip_network_id": NOBODY, "vip_subnet_id": "SUB"}, 400, "vip_subnet_id"),
        ({"vip_subnet_id": "SUB", "provider": "ovn"}, 400, "provider"),
        ({"vip_subnet_id": "SUB", "flavor_id": NOBODY}, 400, "flavor_id"),
        ({"vip_subnet_id": "SUB", "vip_qos_policy_id": NOBODY}, 400, "vip_qos_policy_id"),
        ({"vip_subnet_id": "SUB", "availability_zone": "az1"}, 400, "availability_zone"),
        ({"vip_subnet_id": "SUB", "additional_vips": [{"subnet_id": NOBODY}]}, 400, "additional_vips"),
        ({"vip_subnet_id": "SUB", "nothing": 1}, 400, "nothing"),
    ],
)
def test_an_impossible_vip_is_refused_with_its_field(
    lab: Lab, fields: dict[str, Any], status: int, said: str
) -> None:
    real = {"NET": lab.network, "SUB": lab.subnet}
    assert said in lab.refused(
        "loadbalancers", status, **{k: real.get(v, v) if isinstance(v, str) else v for k, v in fields.items()}
    )


# Parts.


def test_everything_refers_to_what_it_is_of(lab: Lab) -> None:
    lb = lab.balancer()["id"]
    pool = lab.make("pools", loadbalancer_id=lb, protocol="TCP", lb_algorithm="ROUND_ROBIN")
    member = lab.make(f"pools/{pool['id']}/members", address="10.7.0.20", protocol_port=80)
    listener = lab.make(
        "listeners", loadbalancer_id=lb, protocol="TCP", protocol_port=80, default_pool_id=pool["id"]
    )
    shown = lab.show(f"loadbalancers/{lb}")
    assert (shown["listeners"], shown["pools"]) == ([{"id": listener["id"]}], [{"id": pool["id"]}])
    shown = lab.show(f"pools/{pool['id']}")
    assert shown["listeners"] == [{"id": listener["id"]}]
    assert shown["members"] == [{"id": member["id"]}]
    assert shown["loadbalancers"] == lab.show(f"listeners/{listener['id']}")["loadbalancers"] == [{"id": lb}]
    status = lab.api.ok("GET", f"{BASE}/loadbalancers/{lb}/status", by="demo")["statuses"]["loadbalancer"]
    assert status["listeners"][0]["pools"][0]["members"][0]["id"] == member["id"]
    assert "has children" in why(lab.delete(f"loadbalancers/{lb}"), 400)
    assert lab.delete(f"loadbalancers/{lb}?cascade=true").status_code == 204
    assert lab.delete(f"pools/{pool['id']}").status_code == 404


def test_one_request_orders_all_of_it(lab: Lab) -> None:
    member = {"address": "10.7.0.30", "protocol_port": 80}
    pool = {"name": "web", "protocol": "TCP", "lb_algorithm": "SOURCE_IP", "members": [member]}
    other = {"protocol": "UDP", "lb_algorithm": "ROUND_ROBIN"}
    made = lab.balancer(
        pools=[pool],
        listeners=[
            {"name": "a", "protocol": "TCP", "protocol_port": 80, "default_pool": {"name": "web"}},
            {"name": "b", "protocol": "UDP", "protocol_port": 80, "default_pool": other},
        ],
    )
    with lab.api.store.read() as reader:
        tree = load(reader, made["id"])
    assert tree is not None
    listeners = {listener.name: listener for listener in tree.listeners}
    pools = {each.id: each for each in tree.pools}
    assert len(pools) == 2
    assert pools[listeners["a"].default_pool_id or ""].name == "web"
    assert [m.address for m in tree.members(listeners["a"].default_pool_id or "")] == ["10.7.0.30"]
    lab.delete(f"loadbalancers/{made['id']}?cascade=true")


def test_a_wrong_field_inside_is_named_by_its_place_and_nothing_is_made(lab: Lab) -> None:
    listeners = [{"protocol": "TCP", "protocol_port": 80}, {"protocol": "TCP", "protocol_port": 99999}]
    said = lab.refused("loadbalancers", 400, vip_subnet_id=lab.subnet, listeners=listeners)
    assert "listeners[1].protocol_port" in said


def test_a_pool_can_be_ordered_for_a_listener(lab: Lab, balancer: str) -> None:
    listener = lab.make("listeners", loadbalancer_id=balancer, protocol="TCP", protocol_port=1001)["id"]
    wanted = {"listener_id": listener, "protocol": "TCP", "lb_algorithm": "ROUND_ROBIN"}
    pool = lab.make("pools", **wanted)
    assert lab.show(f"listeners/{listener}")["default_pool_id"] == pool["id"]
    assert "already has a default pool" in lab.refused("pools", 409, **wanted)
    assert lab.delete(f"pools/{pool['id']}").status_code == 204
    assert lab.show(f"listeners/{listener}")["default_pool_id"] is None


def test_a_port_has_one_listener_of_each_kind_of_transport(lab: Lab, balancer: str) -> None:
    wanted = {"loadbalancer_id": balancer, "protocol": "TCP", "protocol_port": 1002}
    lab.make("listeners", **wanted)
    lab.make("listeners", **{**wanted, "protocol": "UDP"})
    assert "protocol_port" in lab.refused("listeners", 409, **{**wanted, "protocol": "HTTPS"})


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"protocol": "SCTP"}, 400, "SCTP"),
        ({"protocol": "TERMINATED_HTTPS"}, 400, "key manager"),
        ({"protocol": "TELNET"}, 400, "protocol"),
        ({"protocol_port": 0}, 400, "protocol_port"),
        ({"protocol_port": "eighty"}, 400, "protocol_port"),
        ({"connection_limit": -2}, 400, "connection_limit"),
        ({"default_pool_id": NOBODY}, 404, NOBODY),
        ({"allowed_cidrs": ["10.0.0.0/40"]}, 400, "allowed_cidrs"),
        ({"allowed_cidrs": ["fd00::/64"]}, 400, "allowed_cidrs"),
        ({"insert_headers": {"X-Forwarded-For": "true"}}, 400, "insert_headers"),
        ({"timeout_client_data": -1}, 400, "timeout_client_data"),
        ({"insert_headers": {"X-Else": "true"}}, 400, "X-Else"),
        ({"default_tls_container_ref": "http://x"}, 400, "default_tls_container_ref"),
        ({"tls_versions": ["TLSv1.3"]}, 400, "tls_versions"),
        ({"loadbalancer_id": NOBODY}, 404, NOBODY),
        ({"loadbalancer_id": None}, 400, "loadbalancer_id"),
        ({"project_id": "somebody"}, 400, "project_id"),
    ],
)
def test_an_impossible_listener_is_refused_with_its_field(
    lab: Lab, balancer: str, fields: dict[str, Any], status: int, said: str
) -> None:
    wanted = {"loadbalancer_id": balancer, "protocol": "TCP", "protocol_port": 1003, **fields}
    assert said in lab.refused("listeners", status, **wanted)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"protocol": "SCTP"}, "SCTP"),
        ({"lb_algorithm": "RANDOM"}, "lb_algorithm"),
        ({"lb_algorithm": None}, "lb_algorithm"),
        ({"session_persistence": {"type": "APP_COOKIE", "cookie_name": "a"}}, "session_persistence"),
        ({"session_persistence": {"type": "SOURCE_IP", "cookie_name": "a"}}, "cookie_name"),
        ({"session_persistence": {"type": "SOURCE_IP", "persistence_timeout": 3}}, "persistence_timeout"),
        ({"tls_enabled": True}, "tls_enabled"),
        ({"ca_tls_container_ref": "http://x"}, "ca_tls_container_ref"),
    ],
)
def test_an_impossible_pool_is_refused_with_its_field(
    lab: Lab, balancer: str, fields: dict[str, Any], said: str
) -> None:
    wanted = {"loadbalancer_id": balancer, "protocol": "TCP", "lb_algorithm": "ROUND_ROBIN", **fields}
    assert said in lab.refused("pools", 400, **wanted)


def test_a_pool_must_fit_its_listener_and_be_of_the_same_balancer(lab: Lab, balancer: str) -> None:
    udp = lab.make("pools", loadbalancer_id=balancer, protocol="UDP", lb_algorithm="ROUND_ROBIN")["id"]
    wanted = {"loadbalancer_id": balancer, "protocol": "TCP", "protocol_port": 1004}
    assert "UDP does not fit" in lab.refused("listeners", 400, **wanted, default_pool_id=udp)
    other = lab.balancer()["id"]
    foreign = lab.make("pools", loadbalancer_id=other, protocol="TCP", lb_algorithm="ROUND_ROBIN")["id"]
    assert foreign in lab.refused("listeners", 404, **wanted, default_pool_id=foreign)
    lab.delete(f"loadbalancers/{other}?cascade=true")


# Members.


@pytest.fixture(scope="module")
def pool(lab: Lab, balancer: str) -> str:
    made = lab.make("pools", loadbalancer_id=balancer, protocol="TCP", lb_algorithm="ROUND_ROBIN")
    return str(made["id"])


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"address": "127.0.0.1"}, 400, "address"),
        ({"address": "web"}, 400, "address"),
        ({"weight": 257}, 400, "weight"),
        ({"protocol_port": None}, 400, "protocol_port"),
        ({"subnet_id": NOBODY}, 404, NOBODY),
        ({"monitor_port": 0}, 400, "monitor_port"),
    ],
)
def test_an_impossible_member_is_refused_with_its_field(
    lab: Lab, pool: str, fields: dict[str, Any], status: int, said: str
) -> None:
    wanted = {"address": "10.7.0.40", "protocol_port": 80, **fields}
    assert said in lab.refused(f"pools/{pool}/members", status, **wanted)


def test_an_address_and_port_are_one_member(lab: Lab, pool: str) -> None:
    wanted = {"address": "10.7.0.41", "protocol_port": 80}
    lab.make(f"pools/{pool}/members", **wanted)
    assert "10.7.0.41" in lab.refused(f"pools/{pool}/members", 409, **wanted)


def test_a_member_on_a_subnet_that_came_later_is_asked_from_there(lab: Lab) -> None:
    balancer = lab.balancer(name="later")["id"]
    pool = lab.make("pools", loadbalancer_id=balancer, protocol="TCP", lb_algorithm="ROUND_ROBIN")["id"]
    subnet = lab._subnet("10.77.0.0/24")

    def own() -> list[str]:
        found = lab.api.ok("GET", "/appliance/v1/appliances?name=later", by="demo")["appliances"]
        return [a for a in found[0]["outside_addresses"] if a.startswith("10.77.0.")]

    assert own() == []
    lab.make(f"pools/{pool}/members", address="10.77.0.41", protocol_port=80, subnet_id=subnet)
    assert len(own()) == 1
    lab.make(f"pools/{pool}/members", address="10.77.0.42", protocol_port=80, subnet_id=subnet)
    assert len(own()) == 1
    path = f"/network/v2.0/subnets/{subnet}"
    assert lab.api.ask("DELETE", path, by="demo").status_code == 409
    lab.delete(f"loadbalancers/{balancer}?cascade=true")
    lab.api.ok("DELETE", path, by="demo")


def test_a_batch_changes_makes_and_deletes_by_address_and_port(lab: Lab, balancer: str) -> None:
    pool = lab.make("pools", loadbalancer_id=balancer, protocol="TCP", lb_algorithm="ROUND_ROBIN")["id"]
    path = f"{BASE}/pools/{pool}/members"
    first = lab.make(f"pools/{pool}/members", address="10.7.0.50", protocol_port=80, weight=7)
    lab.make(f"pools/{pool}/members", address="10.7.0.51", protocol_port=80)
    wanted = [
        {"address": "10.7.0.50", "protocol_port": 80, "name": "kept"},
        {"address": "10.7.0.52", "protocol_port": 80},
    ]
    reply = lab.api.ask("PUT", path, {"members": wanted}, by="demo")
    assert (reply.status_code, reply.content) == (202, b"")
    found = {m["address"]: m for m in lab.api.ok("GET", path, by="demo")["members"]}
    assert set(found) == {"10.7.0.50", "10.7.0.52"}
    assert found["10.7.0.50"]["id"] == first["id"]
    assert (found["10.7.0.50"]["name"], found["10.7.0.50"]["weight"]) == ("kept", 7)
    more = [{"address": "10.7.0.53", "protocol_port": 80}]
    assert lab.api.ask("PUT", f"{path}?additive_only=true", {"members": more}, by="demo").status_code == 202
    assert len(lab.api.ok("GET", path, by="demo")["members"]) == 3
    with lab.api.unchanged():
        reply = lab.api.ask("PUT", path, {"members": [*wanted, wanted[0]]}, by="demo")
        assert "members[2]" in why(reply, 400)
        reply = lab.api.ask("PUT", path, {"members": [{"address": "10.7.0.54"}]}, by="demo")
        assert "members[0].protocol_port" in why(reply, 400)


# Changes.


def test_null_brings_back_the_default(lab: Lab, balancer: str) -> None:
    listener = lab.make(
        "listeners",
        loadbalancer_id=balancer,
        protocol="TCP",
        protocol_port=1005,
        connection_limit=9,
        name="n",
    )["id"]
    changed = lab.change(f"listeners/{listener}", connection_limit=None, name=None)
    assert (changed["connection_limit"], changed["name"]) == (-1, "")


@pytest.mark.parametrize("fields", [{"protocol": "UDP"}, {"protocol_port": 9}, {"loadbalancer_id": NOBODY}])
def test_what_stays_cannot_be_changed(lab: Lab, balancer: str, fields: dict[str, Any]) -> None:
    listeners = lab.api.ok("GET", f"{BASE}/listeners?loadbalancer_id={balancer}", by="demo")["listeners"]
    said = lab.refused(f"listeners/{listeners[0]['id']}", 400, "PUT", **fields)
    assert next(iter(fields)) in said


# Who may.


def test_what_is_anothers_is_forbidden_and_not_listed(lab: Lab, balancer: str) -> None:
    one = f"{BASE}/loadbalancers/{balancer}"
    for method, body in (("GET", None), ("PUT", {"loadbalancer": {"name": "x"}}), ("DELETE", None)):
        why(lab.api.ask(method, one, body, by="otto"), 403)
    listener = {"loadbalancer_id": balancer, "protocol": "TCP", "protocol_port": 1006}
    why(lab.api.ask("POST", f"{BASE}/listeners", {"listener": listener}, by="otto"), 403)
    assert lab.api.ok("GET", f"{BASE}/loadbalancers", by="otto")["loadbalancers"] == []


def test_a_reader_sees_and_changes_nothing(lab: Lab, balancer: str) -> None:
    assert lab.show(f"loadbalancers/{balancer}", by="rita")["name"] == "shared"
    why(
        lab.api.ask("PUT", f"{BASE}/loadbalancers/{balancer}", {"loadbalancer": {"name": "x"}}, by="rita"),
        403,
    )


def test_failover_is_the_operators(lab: Lab, balancer: str) -> None:
    why(lab.api.ask("PUT", f"{BASE}/loadbalancers/{balancer}/failover", by="demo"), 403)


def test_the_vips_network_must_be_ones_own(lab: Lab) -> None:
    lab.refused("loadbalancers", 404, by="otto", vip_network_id=lab.network)


# Lists.


def test_lists_are_filtered_sorted_and_cut(lab: Lab) -> None:
    ids = [lab.balancer(name=f"list-{n}", description=d, tags=[d])["id"] for n, d in enumerate("cab")]
    path = f"{BASE}/loadbalancers"
    found = lab.api.ok("GET", f"{path}?tags=a", by="demo")["loadbalancers"]
    assert [each["id"] for each in found] == [ids[1]]
    asked = f"{path}?sort=description:desc&fields=description&fields=listeners&tags-any=a,b,c"
    found = lab.api.ok("GET", asked, by="demo")["loadbalancers"]
    assert found == [{"description": d, "listeners": []} for d in "cba"]
    assert "nothing" in why(lab.api.ask("GET", f"{path}?nothing=1", by="demo"), 400)
    for id in ids:
        lab.delete(f"loadbalancers/{id}")


# Quotas, providers, flavors.


def test_a_spent_quota_is_forbidden(lab: Lab) -> None:
    project = lab.api.projects["other"]
    limits = lab.api.ok("PUT", f"{BASE}/quotas/{project}", {"quota": {"load_balancer": 0, "pool": 3}})
    assert (limits["quota"]["loadbalancer"], limits["quota"]["load_balancer"]) == (0, 0)
    network = lab.api.ok("POST", "/network/v2.0/networks", {"network": {}}, by="otto")["network"]["id"]
    said = lab.refused("loadbalancers", 403, by="otto", vip_network_id=network)
    assert "Quota" in said
    why(lab.api.ask("PUT", f"{BASE}/quotas/{project}", {"quota": {"pool": 9}}, by="otto"), 403)
    assert lab.api.ask("DELETE", f"{BASE}/quotas/{project}").status_code == 204
    defaults = lab.api.ok("GET", f"{BASE}/quotas/defaults", by="otto")["quota"]
    assert lab.api.ok("GET", f"{BASE}/quotas/{project}", by="otto")["quota"] == defaults


def test_providers_and_what_flavors_can_say(lab: Lab) -> None:
    found = lab.api.ok("GET", f"{BASE}/providers", by="demo")["providers"]
    assert {each["name"] for each in found} == set(offered.PROVIDERS)
    path = f"{BASE}/providers/trunkline/flavor_capabilities"
    one = lab.api.ok("GET", f"{path}?fields=name&name=data_planes")["flavor_capabilities"]
    assert one == [{"name": "data_planes"}]
    why(lab.api.ask("GET", path, by="demo"), 403)


def test_a_flavor_is_what_its_profile_says_and_stays_while_it_is_used(lab: Lab) -> None:
    data = json.dumps({"loadbalancer_topology": "SINGLE", "cu_memory": 128})
    fields = {"name": "p", "provider_name": "trunkline", "flavor_data": data}
    profile = lab.make("flavorprofiles", by="admin", **fields)["id"]
    flavor = lab.make("flavors", by="admin", name="small", flavor_profile_id=profile)["id"]
    assert lab.show(f"flavors/{flavor}")["enabled"] is True
    made = lab.balancer(flavor_id=flavor)
    assert made["flavor_id"] == flavor
    why(lab.delete(f"flavors/{flavor}", by="admin"), 409)
    why(lab.delete(f"flavorprofiles/{profile}", by="admin"), 409)
    lab.delete(f"loadbalancers/{made['id']}")
    lab.api.ok("PUT", f"{BASE}/flavors/{flavor}", {"flavor": {"enabled": False}})
    assert "disabled" in lab.refused("loadbalancers", 400, vip_subnet_id=lab.subnet, flavor_id=flavor)
    assert lab.delete(f"flavors/{flavor}", by="admin").status_code == 204
    assert lab.delete(f"flavorprofiles/{profile}", by="admin").status_code == 204


@pytest.mark.parametrize(
    "data",
    ["", "[]", '{"cores": 1}', '{"data_planes": 0}', '{"loadbalancer_topology": "RING"}', '{"cu_size": NaN}'],
)
def test_a_profile_of_nothing_that_can_be_is_refused(lab: Lab, data: str) -> None:
    fields = {"name": "p", "provider_name": "trunkline", "flavor_data": data}
    assert "flavor_data" in lab.refused("flavorprofiles", 400, by="admin", **fields)


def _zone_profile(lab: Lab, **data: Any) -> str:
    fields = {"name": "p", "provider_name": "trunkline", "availability_zone_data": json.dumps(data)}
    return str(lab.make("availabilityzoneprofiles", by="admin", **fields)["id"])


def test_all_units_are_on_hosts_of_the_zone_and_it_stays_while_it_is_used(lab: Lab) -> None:
    far = Host(id="h2", alive=True, vcpus=64, memory_mib=65536)
    lab.api.store.write_sync(lambda tx: tx.insert(far))
    aggregates, group = "/compute/v2.1/os-aggregates", {"name": "far", "availability_zone": "far"}
    aggregate = f"{aggregates}/{lab.api.ok('POST', aggregates, {'aggregate': group})['aggregate']['id']}"
    lab.api.ok("POST", f"{aggregate}/action", {"add_host": {"host": far.id}})
    profile = _zone_profile(lab, compute_zone="far")
    lab.make("availabilityzones", by="admin", name="away", availability_zone_profile_id=profile)
    assert lab.show("availabilityzones/away")["enabled"] is True
    balancer = lab.balancer(availability_zone="away")
    assert balancer["availability_zone"] == "away"
    owned = f"/appliance/v1/appliances?owner=loadbalancer:{balancer['id']}"
    appliance = lab.api.ok("GET", owned)["appliances"][0]
    assert appliance["availability_zone"] == "far"
    with lab.api.store.read() as reader:
        assert {unit.host for unit in reader.find(Unit, appliance_id=appliance["id"])} == {far.id}
    why(lab.delete("availabilityzones/away", by="admin"), 409)
    why(lab.delete(f"availabilityzoneprofiles/{profile}", by="admin"), 409)
    lab.delete(f"loadbalancers/{balancer['id']}")
    lab.api.ok("PUT", f"{BASE}/availabilityzones/away", {"availability_zone": {"enabled": False}})
    assert "disabled" in lab.refused("loadbalancers", 400, vip_subnet_id=lab.subnet, availability_zone="away")
    assert lab.delete("availabilityzones/away", by="admin").status_code == 204
    why(lab.delete("availabilityzones/away", by="admin"), 404)
    assert lab.delete(f"availabilityzoneprofiles/{profile}", by="admin").status_code == 204
    lab.api.ok("POST", f"{aggregate}/action", {"remove_host": {"host": far.id}})
    lab.api.ok("DELETE", aggregate)
    lab.api.store.write_sync(lambda tx: tx.delete(Host, far.id))


def test_a_zone_says_which_networks_its_vips_may_be_on(lab: Lab) -> None:
    profile = _zone_profile(lab, valid_vip_networks=[])
    lab.make("availabilityzones", by="admin", name="none", availability_zone_profile_id=profile)
    told = lab.refused("loadbalancers", 400, vip_subnet_id=lab.subnet, availability_zone="none")
    assert "vip_network_id" in told
    profile = _zone_profile(lab, valid_vip_networks=[lab.network])
    lab.make("availabilityzones", by="admin", name="here", availability_zone_profile_id=profile)
    assert lab.balancer(availability_zone="here")["availability_zone"] == "here"
    again = {"name": "here", "availability_zone_profile_id": profile}
    assert "already" in lab.refused("availabilityzones", 409, by="admin", **again)


@pytest.mark.parametrize(
    "data", ["", "[]", '{"zone": "nova"}', '{"compute_zone": "moon"}', '{"valid_vip_networks": ["x"]}']
)
def test_a_zone_of_nothing_that_there_is_is_refused(lab: Lab, data: str) -> None:
    fields = {"name": "p", "provider_name": "trunkline", "availability_zone_data": data}
    told = lab.refused("availabilityzoneprofiles", 400, by="admin", **fields)
    assert "availability_zone_data" in told


# What HTTP has beside.


@pytest.fixture(scope="module")
def web(lab: Lab, balancer: str) -> str:
    made = lab.make("listeners", loadbalancer_id=balancer, protocol="HTTP", protocol_port=1080)
    return str(made["id"])


def test_policies_make_room_for_each_other_and_move_up(lab: Lab, web: str) -> None:
    ids = [lab.make("l7policies", listener_id=web, action="REJECT")["id"] for _ in range(2)]
    ids.insert(0, lab.make("l7policies", listener_id=web, action="REJECT", position=1)["id"])
    lab.change(f"l7policies/{ids[2]}", position=1)
    order = [ids[2], ids[0], ids[1]]
    assert lab.show(f"listeners/{web}")["l7policies"] == [{"id": id} for id in order]
    lab.delete(f"l7policies/{ids[2]}")
    assert [lab.show(f"l7policies/{id}")["position"] for id in order[1:]] == [1, 2]


def test_another_action_forgets_where_the_old_one_led(lab: Lab, web: str) -> None:
    url = {"action": "REDIRECT_TO_URL", "redirect_url": "http://example.com/"}
    made = lab.make("l7policies", listener_id=web, **url)
    assert made["redirect_http_code"] == 302
    changed = lab.change(f"l7policies/{made['id']}", action="REJECT")
    assert (changed["redirect_url"], changed["redirect_http_code"]) == (None, None)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"action": "REDIRECT_TO_URL"}, "redirect_url"),
        ({"action": "REDIRECT_TO_POOL"}, "redirect_pool_id"),
        ({"action": "REJECT", "redirect_url": "http://x/"}, "redirect_url"),
        ({"action": "REDIRECT_TO_URL", "redirect_url": "ftp://x"}, "redirect_url"),
        ({"action": "REJECT", "redirect_http_code": 301}, "redirect_http_code"),
        ({"action": "REJECT", "position": 0}, "position"),
        (
            {"action": "REJECT", "rules": [{"type": "HEADER", "compare_type": "EQUAL_TO", "value": "a"}]},
            "key",
        ),
        ({"action": "REJECT", "rules": [{"type": "PATH", "compare_type": "REGEX", "value": "("}]}, "value"),
        (
            {"action": "REJECT", "rules": [{"type": "SSL_DN_FIELD", "compare_type": "REGEX", "value": "a"}]},
            "rules[0].type",
        ),
        (
            {"action": "REJECT", "rules": [{"type": "FILE_TYPE", "compare_type": "CONTAINS", "value": "a"}]},
            "compare_type",
        ),
    ],
)
def test_an_impossible_policy_is_refused_with_its_field(
    lab: Lab, web: str, fields: dict[str, Any], said: str
) -> None:
    assert said in lab.refused("l7policies", 400, listener_id=web, **fields)


def test_only_http_has_policies(lab: Lab, balancer: str) -> None:
    listener = lab.make("listeners", loadbalancer_id=balancer, protocol="TCP", protocol_port=1081)["id"]
    assert "listener_id" in lab.refused("l7policies", 400, listener_id=listener, action="REJECT")


def test_a_pool_that_policies_lead_to_stays(lab: Lab, balancer: str, web: str) -> None:
    pool = lab.make("pools", loadbalancer_id=balancer, protocol="HTTP", lb_algorithm="ROUND_ROBIN")["id"]
    lead = {"action": "REDIRECT_TO_POOL", "redirect_pool_id": pool}
    policy = lab.make("l7policies", listener_id=web, **lead)["id"]
    assert policy in why(lab.delete(f"pools/{pool}"), 409)
    assert lab.show(f"pools/{pool}")["listeners"] == [{"id": web}]


def test_a_pool_has_one_monitor_which_asks_what_http_asks(lab: Lab, balancer: str) -> None:
    pool = lab.make("pools", loadbalancer_id=balancer, protocol="HTTP", lb_algorithm="ROUND_ROBIN")["id"]
    times = {"pool_id": pool, "delay": 5, "timeout": 5, "max_retries": 3}
    made = lab.make("healthmonitors", type="HTTP", **times)
    assert (made["http_method"], made["url_path"], made["expected_codes"]) == ("GET", "/", "200")
    assert made["pools"] == [{"id": pool}]
    assert lab.show(f"pools/{pool}")["healthmonitor_id"] == made["id"]
    assert made["id"] in lab.refused("healthmonitors", 409, type="TCP", **times)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"type": "SCTP"}, "SCTP"),
        ({"type": "UDP-CONNECT"}, "UDP-CONNECT"),
        ({"delay": None}, "delay"),
        ({"delay": 0}, "delay"),
        ({"max_retries": 11}, "max_retries"),
        ({"type": "TCP", "url_path": "/"}, "url_path"),
        ({"url_path": "x"}, "url_path"),
        ({"expected_codes": "20"}, "expected_codes"),
        ({"expected_codes": "300-200"}, "expected_codes"),
        ({"http_version": 2}, "http_version"),
        ({"domain_name": "www.example.com"}, "domain_name"),
        ({"http_method": "BREW"}, "http_method"),
    ],
)
def test_an_impossible_monitor_is_refused_with_its_field(
    lab: Lab, pool: str, fields: dict[str, Any], said: str
) -> None:
    wanted = {"pool_id": pool, "type": "HTTP", "delay": 5, "timeout": 5, "max_retries": 3, **fields}
    assert said in lab.refused("healthmonitors", 400, **wanted)
