"""What the backend sees is what ports and floating IPs are said to be."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from trunkline.backends.contract import Observation
from trunkline.compiler.snapshot import Snapshot
from trunkline.control.observe import Statuses, floating_changes, port_changes
from trunkline.resources.network import (
    FLOATING_IP,
    ROUTER_GATEWAY,
    ROUTER_INTERFACE,
    FloatingIP,
    Gateway,
    Network,
    Port,
    Router,
)
from trunkline.resources.region import Host
from trunkline.resources.schema import Resource
from trunkline.store import Store


def snapshot(*objects: Resource) -> Snapshot:
    by_class: dict[type[Resource], dict[str, Resource]] = {}
    for obj in objects:
        by_class.setdefault(type(obj), {})[obj.id] = obj
    return Snapshot(objects=by_class)


def test_a_port_is_active_where_it_is_seen_wired() -> None:
    world = snapshot(Port(id="a"), Port(id="b", status="ACTIVE"), Port(id="c", status="ACTIVE"))
    assert port_changes(Observation(ports_up={"a": "h1", "c": "h1"}), world) == {"a": "ACTIVE", "b": "DOWN"}


def test_a_port_is_not_active_where_its_binding_was_before() -> None:
    world = snapshot(Port(id="a", host_id="h2", status="ACTIVE"))
    assert port_changes(Observation(ports_up={"a": "h1"}), world) == {"a": "DOWN"}
    assert port_changes(Observation(ports_up={"a": "h2"}), world) == {}


def test_a_port_that_is_set_down_is_down() -> None:
    world = snapshot(Port(id="a", admin_state_up=False, status="ACTIVE"))
    assert port_changes(Observation(ports_up={"a": "h1"}), world) == {"a": "DOWN"}


def test_a_gateway_is_active_where_a_host_carries_it() -> None:
    world = snapshot(Port(id="g", device_owner=ROUTER_GATEWAY))
    assert port_changes(Observation(), world) == {}
    assert port_changes(Observation(gateways={"g": "h2"}), world) == {"g": "ACTIVE"}


def test_a_routers_interface_is_active_with_the_network() -> None:
    world = snapshot(Port(id="i", device_owner=ROUTER_INTERFACE))
    assert port_changes(Observation(), world) == {"i": "ACTIVE"}


def test_an_address_without_a_wire_has_no_status() -> None:
    world = snapshot(Port(id="f", device_owner=FLOATING_IP, status="N/A"))
    assert port_changes(Observation(ports_up={"f": "h1"}), world) == {}


def test_a_floating_ip_is_active_while_its_gateway_is_carried() -> None:
    router = Router(id="r", external_gateway_info=Gateway(network_id="x"), gateway_port_id="g")
    tied = FloatingIP(id="t", router_id="r", floating_network_id="x")
    free = FloatingIP(id="f", status="ACTIVE")
    world = snapshot(router, tied, free)
    assert floating_changes(Observation(gateways={"g": "h1"}), world) == {"t": "ACTIVE", "f": "DOWN"}
    assert floating_changes(Observation(), world) == {"f": "DOWN"}


def test_a_floating_ip_at_the_host_of_its_port_is_active_while_that_is_wired() -> None:
    gateway = Gateway(network_id="x")
    world = snapshot(
        Router(id="r", external_gateway_info=gateway, gateway_port_id="g", distributed=True),
        Network(id="x", physical_network="physnet1"),
        Host(id="h1", wired=["physnet1"]),
        Port(id="p", host_id="h1"),
        FloatingIP(id="t", router_id="r", floating_network_id="x", port_id="p"),
    )
    assert floating_changes(Observation(ports_up={"p": "h1"}), world) == {"t": "ACTIVE"}
    assert floating_changes(Observation(gateways={"g": "h1"}, ports_up={"p": "h2"}), world) == {}


@pytest.mark.parametrize("again", ["the port", "what is seen"])
def test_what_was_compared_is_compared_again_when_it_is_another(tmp_path: Path, again: str) -> None:
    store = Store.open(tmp_path / "store")
    up, down = Observation(ports_up={"a": "h1"}), Observation()

    def status(observation: Observation) -> str:
        with store.read() as reader:
            found = {port.id: port for port in reader.select(Port)}
        asyncio.run(statuses.write(observation, Snapshot(objects={Port: found})))
        with store.read() as reader:
            port = reader.get(Port, "a")
        assert port is not None
        return port.status

    store.write_sync(lambda tx: [tx.insert(Port(id="a")), tx.insert(Port(id="b"))])
    statuses = Statuses(store)
    assert [status(up), status(up)] == ["ACTIVE", "ACTIVE"]
    if again == "the port":
        store.write_sync(lambda tx: tx.replace(Port(id="a", status="DOWN")))
        assert status(up) == "ACTIVE"
    else:
        assert [status(down), status(up)] == ["DOWN", "ACTIVE"]
    store.close()
