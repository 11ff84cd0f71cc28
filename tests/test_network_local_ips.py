"""Local IPs: whose address, which ports they lead to, and what goes with what."""

from __future__ import annotations

from typing import Any

import pytest
from network_lab import ANN, BOB, ROOT, Cloud, addresses, cloud

__all__ = ["cloud"]

PATH = "/local_ips"


@pytest.fixture
def network(cloud: Cloud) -> dict[str, Any]:
    return cloud.net("10.0.0.0/24", "fd00:a::/64")[0]


def port(cloud: Cloud, network: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return cloud.make("port", network_id=network["id"], **fields)


def associate(
    cloud: Cloud, local: dict[str, Any], port: dict[str, Any], *, by: str = ANN, **more: Any
) -> Any:
    body = {"port_association": {"fixed_port_id": port["id"], **more}}
    return cloud.ask("POST", f"{PATH}/{local['id']}/port_associations", body, by=by)


def test_it_is_an_address_of_a_port_or_of_one_made_for_it(cloud: Cloud, network: dict[str, Any]) -> None:
    own = port(cloud, network)
    named = cloud.make("local_ip", local_port_id=own["id"], name="n")
    assert (named["local_ip_address"], named["network_id"]) == (addresses(own)[0], network["id"])
    six = cloud.make("local_ip", local_port_id=own["id"], local_ip_address=addresses(own)[1])
    assert six["ip_mode"] == "translate"
    made = cloud.make("local_ip", network_id=network["id"], local_ip_address="10.0.0.77")
    its = cloud.show("port", made["local_port_id"])
    assert (addresses(its), its["device_owner"]) == (["10.0.0.77"], "network:local_ip")
    assert cloud.refused("DELETE", f"/ports/{its['id']}")[0] == 409
    cloud.remove("local_ip", made["id"])
    assert cloud.ask("GET", f"/ports/{its['id']}").status_code == 404
    cloud.remove("local_ip", named["id"])
    cloud.remove("local_ip", six["id"])
    cloud.remove("port", own["id"])


def test_a_port_that_was_made_for_it_stays_its_own_and_goes_with_it(
    cloud: Cloud, network: dict[str, Any]
) -> None:
    made = cloud.make("local_ip", network_id=network["id"])
    where = f"/ports/{made['local_port_id']}"
    for field in ({"device_owner": "compute:nova"}, {"device_id": "a-server"}):
        assert cloud.refused("PUT", where, {"port": field}) == (409, "PortInUse")
    assert cloud.change("port", made["local_port_id"], name="n")["name"] == "n"
    cloud.remove("local_ip", made["id"])
    assert cloud.refused("GET", where)[0] == 404


def test_what_it_cannot_be_is_refused(cloud: Cloud, network: dict[str, Any]) -> None:
    own, bare = port(cloud, network), cloud.make("network")
    theirs = cloud.make("port", by=BOB, network_id=cloud.make("network", by=BOB)["id"])
    cloud.make("local_ip", local_port_id=own["id"])
    assert cloud.refuses("local_ip")[0] == 400
    assert cloud.refuses("local_ip", network_id=bare["id"])[0] == 400
    assert cloud.refuses("local_ip", local_port_id=own["id"])[0] == 409
    assert cloud.refuses("local_ip", local_port_id=own["id"], local_ip_address="10.0.0.99")[0] == 400
    assert cloud.refuses("local_ip", local_port_id=own["id"], network_id=bare["id"])[0] == 400
    assert cloud.refuses("local_ip", local_port_id=theirs["id"])[0] == 404


def test_associations_are_made_shown_and_deleted_by_port(cloud: Cloud, network: dict[str, Any]) -> None:
    cloud.hosts("h1")
    local = cloud.make("local_ip", network_id=network["id"])
    led = port(cloud, network)
    cloud.change("port", led["id"], by=ROOT, binding__host_id="h1")
    made = associate(cloud, local, led).json()["port_association"]
    assert (made["fixed_ip"], made["host"]) == (addresses(led)[0], "h1")
    where = f"{PATH}/{local['id']}/port_associations"
    assert cloud.ask("GET", where).json() == {"port_associations": [made]}
    assert cloud.ask("GET", f"{where}/{led['id']}").json() == {"port_association": made}
    assert associate(cloud, local, led).status_code == 409
    assert cloud.refused("DELETE", f"{PATH}/{local['id']}")[0] == 409
    only = {"port": {"fixed_ips": [{"ip_address": addresses(led)[1]}]}}
    assert cloud.refused("PUT", f"/ports/{led['id']}", only)[0] == 409
    assert cloud.ask("DELETE", f"{where}/{led['id']}").status_code == 204
    assert cloud.ask("GET", f"{where}/{led['id']}").status_code == 404
    assert cloud.ask("DELETE", f"{where}/{led['id']}").status_code == 404


def test_an_association_goes_with_its_port(cloud: Cloud, network: dict[str, Any]) -> None:
    local, led = cloud.make("local_ip", network_id=network["id"]), port(cloud, network)
    assert associate(cloud, local, led).status_code == 201
    cloud.remove("port", led["id"])
    assert cloud.ask("GET", f"{PATH}/{local['id']}/port_associations").json() == {"port_associations": []}


def test_it_leads_to_ports_of_its_network_and_family_alone(cloud: Cloud, network: dict[str, Any]) -> None:
    local = cloud.make("local_ip", network_id=network["id"])
    own, led = cloud.show("port", local["local_port_id"]), port(cloud, network)
    assert associate(cloud, local, own).status_code == 400
    assert associate(cloud, local, port(cloud, cloud.net("10.0.0.0/24")[0])).status_code == 400
    assert associate(cloud, local, led, fixed_ip=addresses(led)[1]).status_code == 400
    assert associate(cloud, local, led, fixed_ip="10.0.0.99").status_code == 400
    assert associate(cloud, local, led, fixed_ip="x").status_code == 400


def test_a_guest_leads_nobody_astray(cloud: Cloud) -> None:
    network = cloud.make("network", by=ROOT, shared=True)
    cloud.sub(network, "10.0.0.0/24", by=ROOT)
    anns, bobs = (cloud.make("port", by=who, network_id=network["id"]) for who in (ANN, BOB))
    assert cloud.refuses("local_ip", by=BOB, local_port_id=anns["id"])[0] in (403, 404)
    local = cloud.make("local_ip", by=BOB, local_port_id=bobs["id"])
    assert associate(cloud, local, anns, by=BOB).status_code == 404
    assert associate(cloud, local, anns, by=ANN).status_code == 404
