"""Port forwarding: what is allowed beside what, and what goes with what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_lab import ApiLab
from things import forwarder

BASE = "/network/v2.0"


class Scene:
    """A floating IP and a port that its ports can lead to, both of demo."""

    def __init__(self, lab: ApiLab) -> None:
        self.lab = lab
        self.floating, self.inner = forwarder(lab)
        self.path = f"{BASE}/floatingips/{self.floating}/port_forwardings"

    def ask(self, method: str, path: str, body: Any = None, by: str = "demo") -> tuple[int, Any]:
        reply = self.lab.ask(method, path, body, by=by)
        return reply.status_code, reply.json() if reply.content else None

    def forward(self, by: str = "demo", **fields: Any) -> tuple[int, Any]:
        least = {"internal_port_id": self.inner, "protocol": "tcp"}
        status, body = self.ask("POST", self.path, {"port_forwarding": {**least, **fields}}, by)
        return status, body["port_forwarding"] if status == 201 else body["NeutronError"]

    def show(self) -> Any:
        return self.lab.ok("GET", f"{BASE}/floatingips/{self.floating}", by="demo")["floatingip"]

    def make(self, path: str, kind: str, by: str = "demo", **fields: Any) -> Any:
        return self.lab.ok("POST", f"{BASE}/{path}", {kind: fields}, by=by)[kind]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    lab = ApiLab(tmp_path)
    yield Scene(lab)
    lab.close()


def test_a_single_port_is_a_range_of_one(scene: Scene) -> None:
    status, made = scene.forward(internal_port=80, external_port=8080)
    assert status == 201
    assert (made["internal_port_range"], made["external_port_range"]) == ("80:80", "8080:8080")
    changed = scene.lab.ok(
        "PUT", f"{scene.path}/{made['id']}", {"port_forwarding": {"external_port_range": "70:79"}}, by="demo"
    )["port_forwarding"]
    assert (changed["external_port"], changed["external_port_range"]) == (None, "70:79")
    assert changed["internal_port"] == 80


def test_the_floating_ip_shows_it_and_has_its_router(scene: Scene) -> None:
    assert scene.show()["router_id"] is None
    _, made = scene.forward(internal_port=80, external_port=8080)
    shown = scene.show()
    assert shown["router_id"] is not None
    assert shown["port_forwardings"] == [{name: made[name] for name in shown["port_forwardings"][0]}]
    assert scene.ask("DELETE", f"{scene.path}/{made['id']}")[0] == 204
    shown = scene.show()
    assert (shown["router_id"], shown["port_forwardings"]) == (None, [])


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"internal_port": 80}, "external_port"),
        ({"external_port": 80}, "internal_port"),
        ({"external_port": 0, "internal_port": 80}, "external_port"),
        ({"external_port": 81, "external_port_range": "80:80", "internal_port": 80}, "external_port_range"),
        ({"external_port_range": "80:90", "internal_port_range": "80:85"}, "internal_port_range"),
        ({"external_port": 80, "internal_port_range": "80:85"}, "internal_port_range"),
        ({"external_port_range": "90:80", "internal_port": 80}, "external_port_range"),
        ({"external_port_range": "1:999", "internal_port": 80}, "external_port_range"),
        ({"external_port": 80, "internal_port": 80, "protocol": "icmp"}, "protocol"),
        ({"external_port": 80, "internal_port": 80, "internal_ip_address": "10.9.9.9"}, "10.9.9.9"),
    ],
)
def test_what_has_no_meaning_is_refused(scene: Scene, fields: dict[str, Any], named: str) -> None:
    with scene.lab.unchanged():
        status, error = scene.forward(**fields)
        assert status == 400
        assert named in error["message"]


def test_one_port_leads_to_one_place(scene: Scene) -> None:
    assert scene.forward(internal_port=80, external_port_range="80:89")[0] == 201
    assert scene.forward(internal_port=81, external_port=89)[0] == 400
    assert scene.forward(internal_port=81, external_port=90)[0] == 201
    assert scene.forward(internal_port=81, external_port=89, protocol="udp")[0] == 201


def test_a_floating_ip_forwards_or_stands_for_a_port(scene: Scene) -> None:
    where = f"{BASE}/floatingips/{scene.floating}"
    _, made = scene.forward(internal_port=80, external_port=80)
    for method, body in (("PUT", {"floatingip": {"port_id": scene.inner}}), ("DELETE", None)):
        status, reply = scene.ask(method, where, body)
        assert (status, reply["NeutronError"]["type"]) == (409, "FipInUseByPortForwarding")
    public = scene.show()["floating_network_id"]
    other = {"floating_network_id": public, "port_id": scene.inner}
    status, reply = scene.ask("POST", f"{BASE}/floatingips", {"floatingip": other})
    assert (status, reply["NeutronError"]["type"]) == (409, "PortHasPortForwarding")
    assert scene.ask("DELETE", f"{scene.path}/{made['id']}")[0] == 204
    scene.lab.ok("PUT", where, {"floatingip": {"port_id": scene.inner}}, by="demo")
    assert scene.forward(internal_port=80, external_port=80)[0] == 409


def test_what_it_needs_stays(scene: Scene) -> None:
    scene.forward(internal_port=80, external_port=80)
    router = scene.show()["router_id"]
    port = scene.lab.ok("GET", f"{BASE}/ports/{scene.inner}", by="demo")["port"]
    leg = {"subnet_id": port["fixed_ips"][0]["subnet_id"]}
    for path, body in (
        (f"{BASE}/routers/{router}/remove_router_interface", leg),
        (f"{BASE}/routers/{router}", {"router": {"external_gateway_info": {}}}),
        (f"{BASE}/ports/{scene.inner}", {"port": {"fixed_ips": []}}),
    ):
        assert scene.ask("PUT", path, body)[0] == 409, path


def test_it_goes_with_the_port_that_it_leads_to(scene: Scene) -> None:
    scene.forward(internal_port=80, external_port=80)
    scene.forward(internal_port=81, external_port=81)
    assert scene.ask("DELETE", f"{BASE}/ports/{scene.inner}")[0] == 204
    shown = scene.show()
    assert (shown["port_forwardings"], shown["router_id"], shown["status"]) == ([], None, "DOWN")


def test_it_leads_by_one_router(scene: Scene) -> None:
    assert scene.forward(internal_port=80, external_port=80)[0] == 201
    _, elsewhere = forwarder(scene.lab)
    status, error = scene.forward(internal_port_id=elsewhere, internal_port=80, external_port=81)
    assert (status, error["type"]) == (409, "FipInUseByOtherRouter")


def test_a_port_that_no_router_leads_to_is_refused(scene: Scene) -> None:
    network = scene.make("networks", "network")["id"]
    scene.make("subnets", "subnet", network_id=network, ip_version=4, cidr="10.8.0.0/24")
    port = scene.make("ports", "port", network_id=network)["id"]
    assert scene.forward(internal_port_id=port, internal_port=80, external_port=80)[0] == 404


def test_others_neither_see_it_nor_lead_into_it(scene: Scene) -> None:
    _, made = scene.forward(internal_port=80, external_port=80)
    public = scene.show()["floating_network_id"]
    theirs = scene.make("floatingips", "floatingip", by="otto", floating_network_id=public)["id"]
    below = f"{BASE}/floatingips/{theirs}/port_forwardings"
    body = {"port_forwarding": {"internal_port": 8080}}
    with scene.lab.unchanged():
        assert scene.ask("GET", scene.path, by="otto")[0] == 404
        # Below one's own floating IP, too, there is no forwarding of another one's.
        for by in ("otto", "admin"):
            assert scene.ask("GET", f"{below}/{made['id']}", by=by)[0] == 404
            assert scene.ask("PUT", f"{below}/{made['id']}", body, by)[0] == 404
            assert scene.ask("DELETE", f"{below}/{made['id']}", by=by)[0] == 404
        into = {"internal_port_id": scene.inner, "protocol": "tcp", "internal_port": 1, "external_port": 1}
        assert scene.ask("POST", below, {"port_forwarding": into}, "otto")[0] == 404
