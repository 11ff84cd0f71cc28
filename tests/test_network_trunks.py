"""Trunks: who may put which port in one, and what a port in one can no longer do."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from network_lab import ANN, BOB, ROOT, Cloud, cloud

from trunkline.api.network import trunks
from trunkline.resources.network import Port, Trunk

__all__ = ["cloud"]


def port(cloud: Cloud, *, by: str = ANN, **fields: Any) -> dict[str, Any]:
    """A port on a network of its own."""
    return cloud.make("port", by=by, **{"network_id": cloud.make("network", by=by)["id"], **fields})


def sub(port: dict[str, Any], vlan: int = 30) -> dict[str, Any]:
    return {"port_id": port["id"], "segmentation_type": "vlan", "segmentation_id": vlan}


def made(cloud: Cloud, *subs: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return cloud.make("trunk", port_id=port(cloud)["id"], sub_ports=list(subs), **fields)


def asked(
    cloud: Cloud, trunk: dict[str, Any], verb: str, *subs: dict[str, Any], by: str = ANN
) -> dict[str, Any]:
    reply = cloud.ask("PUT", f"/trunks/{trunk['id']}/{verb}_subports", {"sub_ports": list(subs)}, by=by)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def refused(
    cloud: Cloud, trunk: dict[str, Any], verb: str, *subs: dict[str, Any], by: str = ANN
) -> tuple[int, str]:
    where = f"/trunks/{trunk['id']}/{verb}_subports"
    return cloud.refused("PUT", where, {"sub_ports": list(subs)}, by=by)


def test_sub_ports_come_and_go(cloud: Cloud) -> None:
    first, second = sub(port(cloud), 30), sub(port(cloud), 31)
    trunk = made(cloud, first)
    assert asked(cloud, trunk, "add", second)["sub_ports"] == [first, second]
    assert cloud.ask("GET", f"/trunks/{trunk['id']}/get_subports").json() == {"sub_ports": [first, second]}
    assert asked(cloud, trunk, "remove", {"port_id": first["port_id"]})["sub_ports"] == [second]
    assert cloud.show("port", second["port_id"])["device_owner"] == "trunk:subport"
    assert cloud.show("port", first["port_id"])["device_owner"] == ""
    cloud.remove("trunk", trunk["id"])
    for each in (trunk["port_id"], first["port_id"], second["port_id"]):
        cloud.remove("port", each)


def test_a_parent_tells_of_its_trunk(cloud: Cloud) -> None:
    inner = port(cloud)
    trunk = made(cloud, sub(inner))
    details = {
        "trunk_id": trunk["id"],
        "sub_ports": [{**sub(inner), "mac_address": inner["mac_address"]}],
    }
    assert cloud.show("port", trunk["port_id"])["trunk_details"] == details
    assert "trunk_details" not in cloud.show("port", inner["id"])


def test_a_vlan_is_inherited_from_a_vlan_network_alone(cloud: Cloud) -> None:
    cloud.hosts("h1")
    provider = {"provider:network_type": "vlan", "provider:physical_network": "physnet1"}
    wire = cloud.make("network", by=ROOT, project_id="p1", **provider, provider__segmentation_id=2100)
    inherit = {"port_id": port(cloud, network_id=wire["id"])["id"], "segmentation_type": "inherit"}
    # A network on the wire has larger packets than one of the overlay.
    other = cloud.make("network", by=ROOT, project_id="p1", **provider)
    parent = port(cloud, network_id=other["id"])["id"]
    trunk = cloud.make("trunk", port_id=parent, sub_ports=[inherit])
    assert trunk["sub_ports"] == [{**inherit, "segmentation_type": "vlan", "segmentation_id": 2100}]
    plain = {"port_id": port(cloud)["id"], "segmentation_type": "inherit"}
    assert refused(cloud, trunk, "add", plain) == (400, "InvalidInput")


def test_a_sub_ports_packets_fit_into_its_parents(cloud: Cloud) -> None:
    small = cloud.make("network", mtu=1300)
    parent = port(cloud, network_id=small["id"])["id"]
    larger = sub(port(cloud))
    assert cloud.refuses("trunk", port_id=parent, sub_ports=[larger]) == (
        409,
        "SubPortMtuGreaterThanTrunkPortMtu",
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"segmentation_id": 0},
        {"segmentation_id": 4095},
        {"segmentation_id": None},
        {"segmentation_type": "qinq"},
        {"port_id": "x"},
        {"name": "x"},
    ],
)
def test_a_sub_port_that_cannot_be_is_refused(cloud: Cloud, wrong: dict[str, Any]) -> None:
    trunk = made(cloud)
    assert refused(cloud, trunk, "add", {**sub(port(cloud)), **wrong})[0] == 400
    assert cloud.show("trunk", trunk["id"]) == trunk


def test_no_port_and_no_vlan_is_taken_twice(cloud: Cloud) -> None:
    inner = port(cloud)
    trunk = made(cloud, sub(inner))
    assert refused(cloud, trunk, "add", sub(port(cloud))) == (409, "DuplicateSubPort")
    assert refused(cloud, trunk, "add", sub(inner, 31)) == (409, "TrunkPortInUse")
    twice = port(cloud)
    assert refused(cloud, trunk, "add", sub(twice, 31), sub(twice, 32))[0] == 400
    assert refused(cloud, trunk, "add", sub(port(cloud), 33), sub(port(cloud), 33))[0] == 400
    other = made(cloud)
    assert refused(cloud, other, "add", sub(inner, 31)) == (409, "TrunkPortInUse")
    assert cloud.refuses("trunk", port_id=trunk["port_id"]) == (409, "TrunkPortInUse")


def test_trunks_are_not_nested(cloud: Cloud) -> None:
    inner = port(cloud)
    trunk, other = made(cloud, sub(inner)), made(cloud)
    assert cloud.refuses("trunk", port_id=inner["id"]) == (409, "TrunkPortInUse")
    own = {"port_id": other["port_id"], "segmentation_type": "vlan", "segmentation_id": 7}
    assert refused(cloud, trunk, "add", own) == (409, "TrunkPortInUse")
    assert refused(cloud, other, "add", own) == (409, "ParentPortInUse")


def test_a_port_of_another_project_is_refused(cloud: Cloud) -> None:
    trunk = made(cloud)
    assert refused(cloud, trunk, "add", sub(port(cloud, by=BOB))) == (404, "PortNotFound")
    # Whoever owns a network sees the ports of others there; he may not take them.
    shared = cloud.make("network", by=ROOT, project_id="p1", shared=True)
    guest = port(cloud, by=BOB, network_id=shared["id"])
    assert cloud.show("port", guest["id"])["project_id"] == "p2"
    assert refused(cloud, trunk, "add", sub(guest)) == (403, "PolicyNotAuthorized")
    assert cloud.refuses("trunk", port_id=guest["id"]) == (403, "PolicyNotAuthorized")
    assert "trunk_details" not in cloud.show("port", guest["id"])
    assert refused(cloud, trunk, "add", by=BOB) == (404, "TrunkNotFound")
    assert refused(cloud, trunk, "add", by="ann@p1:reader") == (403, "PolicyNotAuthorized")


def test_a_port_that_is_plugged_in_is_no_sub_port(cloud: Cloud) -> None:
    cloud.hosts("h1")
    trunk = made(cloud)
    used = [port(cloud, device_id="server"), port(cloud, by=ROOT, project_id="p1", binding__host_id="h1")]
    assert [refused(cloud, trunk, "add", sub(each)) for each in used] == [(409, "PortInUse")] * 2
    network, (subnet,) = cloud.net("10.0.0.0/24")
    cloud.attach(cloud.make("router"), subnet)
    (leg,) = cloud.all("port", f"?network_id={network['id']}&device_owner=network:router_interface")
    assert refused(cloud, trunk, "add", sub(leg)) == (409, "ParentPortInUse")


def test_a_port_in_a_trunk_stays_and_is_plugged_in_nowhere_else(cloud: Cloud) -> None:
    cloud.hosts("h1")
    inner = port(cloud)
    trunk = made(cloud, sub(inner))
    assert cloud.refused("DELETE", f"/ports/{trunk['port_id']}") == (409, "PortInUseAsTrunkParent")
    assert cloud.refused("DELETE", f"/ports/{inner['id']}") == (409, "PortInUseAsSubPort")
    for change in ({"device_id": "server"}, {"device_owner": "compute:nova"}, {"binding:host_id": "h1"}):
        where = f"/ports/{inner['id']}"
        assert cloud.refused("PUT", where, {"port": change}, by=ROOT) == (409, "PortInUseAsSubPort")
    router = cloud.make("router")
    where = f"/routers/{router['id']}/add_router_interface"
    assert cloud.refused("PUT", where, {"port_id": trunk["port_id"]}) == (409, "PortInUse")
    assert cloud.refused("PUT", where, {"port_id": inner["id"]}) == (409, "PortInUse")


def test_sub_ports_are_bound_where_their_parent_is(cloud: Cloud) -> None:
    cloud.hosts("h1", "h2")
    inner, late = port(cloud), port(cloud)
    trunk = made(cloud, sub(inner))

    def hosts() -> list[tuple[str, str]]:
        shown = [cloud.show("port", each["id"], by=ROOT) for each in (inner, late)]
        return [(each["binding:host_id"], each["binding:vif_type"]) for each in shown]

    assert hosts() == [("", "unbound"), ("", "unbound")]
    cloud.change("port", trunk["port_id"], by=ROOT, binding__host_id="h1")
    asked(cloud, trunk, "add", sub(late, 31))
    assert hosts() == [("h1", "ovs"), ("h1", "ovs")]
    cloud.change("port", trunk["port_id"], by=ROOT, binding__host_id="h2")
    asked(cloud, trunk, "remove", {"port_id": inner["id"]})
    assert hosts() == [("", "unbound"), ("h2", "ovs")]


def test_a_trunk_that_is_set_down_is_locked(cloud: Cloud) -> None:
    inner = port(cloud)
    trunk = made(cloud, sub(inner), admin_state_up=False)
    assert refused(cloud, trunk, "add", sub(port(cloud), 31)) == (409, "TrunkDisabled")
    assert refused(cloud, trunk, "remove", {"port_id": inner["id"]}) == (409, "TrunkDisabled")
    assert cloud.refused("DELETE", f"/trunks/{trunk['id']}") == (409, "TrunkDisabled")
    cloud.change("trunk", trunk["id"], admin_state_up=True)
    cloud.remove("trunk", trunk["id"])


def test_what_is_not_there_cannot_be_removed(cloud: Cloud) -> None:
    trunk = made(cloud)
    assert refused(cloud, trunk, "remove", sub(port(cloud))) == (404, "SubPortNotFound")


def test_a_trunk_is_as_its_ports_were_seen(cloud: Cloud) -> None:
    inner, down = port(cloud), port(cloud, admin_state_up=False)
    trunk = made(cloud, sub(inner), sub(down, 31))

    def seen(**statuses: str) -> str:
        ids = {"parent": trunk["port_id"], "inner": inner["id"]}

        def write(tx: Any) -> None:
            for name, status in statuses.items():
                tx.observe(replace(tx.get(Port, ids[name]), status=status))
            trunks.observe(tx, [ids[name] for name in statuses])

        cloud.store.write_sync(write)
        return str(cloud.show("trunk", trunk["id"])["status"])

    assert trunk["status"] == "DOWN"
    assert seen(parent="ACTIVE") == "BUILD"
    assert seen(inner="ACTIVE") == "ACTIVE"
    assert asked(cloud, trunk, "add", sub(port(cloud), 32))["status"] == "BUILD"
    assert seen(parent="DOWN") == "DOWN"
    with cloud.store.read() as reader:
        stored = reader.get(Trunk, trunk["id"])
    assert stored is not None
    assert stored.revision_number == 1
