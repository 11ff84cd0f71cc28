"""Several gateways of a router, as lists: added, changed, removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_lab import ApiLab

BASE = "/network/v2.0"


class Scene:
    """A router of demo without a gateway."""

    def __init__(self, lab: ApiLab) -> None:
        self.lab = lab
        (public,) = lab.ok("GET", f"{BASE}/networks?name=public")["networks"]
        self.public: str = public["id"]
        self.router: str = lab.ok("POST", f"{BASE}/routers", {"router": {}}, by="demo")["router"]["id"]

    def ask(self, verb: str, *gateways: dict[str, Any], by: str = "admin") -> tuple[int, Any]:
        path = f"{BASE}/routers/{self.router}/{verb}_external_gateways"
        reply = self.lab.ask("PUT", path, {"router": {"external_gateways": list(gateways)}}, by=by)
        body = reply.json()
        return reply.status_code, body.get("router", body.get("NeutronError"))

    def gateways(self) -> list[dict[str, Any]]:
        shown = self.lab.ok("GET", f"{BASE}/routers/{self.router}", by="demo")["router"]
        first = shown["external_gateways"][0] if shown["external_gateways"] else None
        assert shown["external_gateway_info"] == first
        return list(shown["external_gateways"])

    def add(self, count: int) -> list[dict[str, Any]]:
        """Adds so many gateways to the public network."""
        assert self.ask("add", *([{"network_id": self.public}] * count))[0] == 200
        return self.gateways()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    lab = ApiLab(tmp_path)
    yield Scene(lab)
    lab.close()


def test_the_first_is_the_one_that_older_clients_know(scene: Scene) -> None:
    one, two = scene.add(2)
    assert one["external_fixed_ips"] != two["external_fixed_ips"]
    body = {"router": {"external_gateway_info": {}}}
    scene.lab.ok("PUT", f"{BASE}/routers/{scene.router}", body, by="demo")
    assert scene.gateways() == [two]
    body = {"router": {"external_gateway_info": None}}
    scene.lab.ok("PUT", f"{BASE}/routers/{scene.router}", body, by="demo")
    assert scene.gateways() == []


def test_the_one_that_is_named_goes(scene: Scene) -> None:
    one, two, three = scene.add(3)
    assert scene.ask("remove", two, by="demo")[0] == 200
    assert scene.gateways() == [one, three]
    assert scene.ask("remove", {"network_id": scene.public})[0] == 200
    assert scene.gateways() == [three]


def test_one_that_is_not_there_is_refused(scene: Scene) -> None:
    one, two = scene.add(2)
    assert scene.ask("remove", two)[0] == 200
    with scene.lab.unchanged():
        for verb in ("remove", "update"):
            status, error = scene.ask(verb, *([two] if verb == "remove" else [one, one]))
            assert (status, "external_gateways" in error["message"]) == (400, True)


def test_a_change_is_of_the_one_that_has_the_address(scene: Scene) -> None:
    one, two = scene.add(2)
    assert scene.ask("update", {**two, "enable_snat": False})[0] == 200
    assert scene.gateways() == [one, {**two, "enable_snat": False}]


def test_one_that_has_no_such_address_gets_it(scene: Scene) -> None:
    one, two, three = scene.add(3)
    assert scene.ask("remove", three)[0] == 200
    assert scene.ask("update", one, three)[0] == 200
    assert scene.gateways() == [one, three]
    assert scene.ask("add", two)[0] == 200


def test_only_admins_choose_addresses_and_switch_translation(scene: Scene) -> None:
    with scene.lab.unchanged():
        for more in ({"enable_snat": False}, {"external_fixed_ips": [{"ip_address": "203.0.113.99"}]}):
            assert scene.ask("add", {"network_id": scene.public, **more}, by="demo")[0] == 403
        for name in ("enable_default_route_ecmp", "enable_default_route_bfd"):
            path, body = f"{BASE}/routers/{scene.router}", {"router": {name: True}}
            assert scene.lab.ask("PUT", path, body, by="demo").status_code == 403


def test_the_last_one_to_a_network_stays_for_its_floating_ips(scene: Scene) -> None:
    network = scene.lab.ok("POST", f"{BASE}/networks", {"network": {}}, by="demo")["network"]["id"]
    subnet = {"network_id": network, "ip_version": 4, "cidr": "10.5.0.0/24"}
    leg = scene.lab.ok("POST", f"{BASE}/subnets", {"subnet": subnet}, by="demo")["subnet"]["id"]
    where = f"{BASE}/routers/{scene.router}/add_router_interface"
    scene.lab.ok("PUT", where, {"subnet_id": leg}, by="demo")
    port = scene.lab.ok("POST", f"{BASE}/ports", {"port": {"network_id": network}}, by="demo")["port"]["id"]
    scene.add(2)
    floating = {"floating_network_id": scene.public, "port_id": port}
    scene.lab.ok("POST", f"{BASE}/floatingips", {"floatingip": floating}, by="demo")
    assert scene.ask("remove", {"network_id": scene.public})[0] == 200
    status, error = scene.ask("remove", {"network_id": scene.public})
    assert (status, error["type"]) == (409, "RouterExternalGatewayInUseByFloatingIp")


def test_a_router_with_several_is_deleted_whole(scene: Scene) -> None:
    scene.add(3)
    assert scene.lab.ask("DELETE", f"{BASE}/routers/{scene.router}", by="demo").status_code == 204
    held = scene.lab.ok("GET", f"{BASE}/ports?device_owner=network:router_gateway")["ports"]
    assert held == []


def test_a_router_has_not_too_many(scene: Scene) -> None:
    scene.add(8)
    with scene.lab.unchanged():
        assert scene.ask("add", {"network_id": scene.public})[0] == 400


def test_a_router_without_a_gateway_is_given_those_that_an_update_names(scene: Scene) -> None:
    status, router = scene.ask("update", {"network_id": scene.public}, {"network_id": scene.public})
    assert (status, router["external_gateways"]) == (200, scene.gateways())
    assert len(scene.gateways()) == 2
    path = f"{BASE}/routers/{scene.router}/remove_external_gateways"
    scene.lab.ok("PUT", path, {"router": {"external_gateways": {}}})
    assert len(scene.gateways()) == 2
