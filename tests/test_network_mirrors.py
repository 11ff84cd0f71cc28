"""Tap mirrors: whose ports, which numbers, what goes with a port."""

from __future__ import annotations

from typing import Any

import pytest
from network_lab import ANN, BOB, ROOT, Cloud, cloud

__all__ = ["cloud"]

PATH = "/taas/tap_mirrors"


def mirror(cloud: Cloud, port: dict[str, Any], *, by: str = ANN, **fields: Any) -> Any:
    """The answer of a request for a mirror."""
    given = {"directions": {"IN": 101}, "remote_ip": "192.0.2.9", "mirror_type": "gre", **fields}
    return cloud.ask("POST", PATH, {"tap_mirror": {"port_id": port["id"], **given}}, by=by)


@pytest.fixture
def port(cloud: Cloud) -> dict[str, Any]:
    network, _ = cloud.net("10.0.0.0/24")
    return cloud.make("port", network_id=network["id"])


def test_a_mirror_is_shown_renamed_and_goes_with_its_port(cloud: Cloud, port: dict[str, Any]) -> None:
    made = mirror(cloud, port, directions={"IN": 101, "OUT": 102}).json()["tap_mirror"]
    assert made["directions"] == {"IN": 101, "OUT": 102}
    where = f"{PATH}/{made['id']}"
    assert cloud.ask("GET", where).json()["tap_mirror"] == made
    assert cloud.ask("PUT", where, {"tap_mirror": {"name": "new"}}).json()["tap_mirror"]["name"] == "new"
    assert cloud.refused("GET", where, by=BOB)[0] == 404
    cloud.remove("port", port["id"])
    assert cloud.refused("GET", where)[0] == 404


def test_numbers_are_not_used_twice(cloud: Cloud, port: dict[str, Any]) -> None:
    made = mirror(cloud, port).json()["tap_mirror"]
    other = cloud.make("port", by=BOB, network_id=cloud.net("10.1.0.0/24", by=BOB)[0]["id"])
    assert mirror(cloud, port, remote_ip="192.0.2.10").status_code == 409
    assert mirror(cloud, other, by=BOB).status_code == 409
    assert mirror(cloud, other, by=BOB, remote_ip="192.0.2.10").status_code == 201
    assert cloud.ask("DELETE", f"{PATH}/{made['id']}").status_code == 204
    assert mirror(cloud, port).status_code == 201


def test_only_a_ports_owner_sees_what_it_sends(cloud: Cloud, port: dict[str, Any]) -> None:
    shared = cloud.make("network", by=ROOT, shared=True)
    theirs = cloud.make("port", by=BOB, network_id=shared["id"])
    assert mirror(cloud, theirs).status_code == 404
    network = cloud.make("network")
    cloud.make(
        "rbac_policy",
        object_type="network",
        object_id=network["id"],
        action="access_as_shared",
        target_tenant="p2",
    )
    guest = cloud.make("port", by=BOB, network_id=network["id"])
    assert mirror(cloud, guest).status_code == 403
    assert mirror(cloud, guest, by=BOB).status_code == 201


@pytest.mark.parametrize(
    "fields",
    [
        {"directions": {}},
        {"directions": {"UP": 1}},
        {"directions": {"IN": 1, "OUT": 1}},
        {"directions": {"IN": -1}},
        {"directions": {"IN": 2**32}},
        {"directions": {"IN": 1024}, "mirror_type": "erspanv1"},
        {"mirror_type": "erspanv2"},
        {"directions": {"BOTH": 1, "IN": 1}},
        {"remote_ip": "192.0.2.300"},
        {"remote_ip": "0.0.0.0"},
        {"remote_ip": "127.0.0.1"},
        {"remote_ip": "224.0.0.5"},
        {"remote_ip": "255.255.255.255"},
        {"remote_ip": "::1"},
        {"remote_ip": "fe80::1"},
        {"remote_ip": "::ffff:192.0.2.9"},
        {"port_id": "x"},
    ],
)
def test_what_cannot_be_sent_is_refused(cloud: Cloud, port: dict[str, Any], fields: dict[str, Any]) -> None:
    reply = mirror(cloud, port, **fields)
    assert reply.status_code == 400
    assert next(iter(fields)) in reply.json()["NeutronError"]["message"]


def test_both_directions_come_in_one_stream_or_beside_others(cloud: Cloud, port: dict[str, Any]) -> None:
    made = mirror(cloud, port, directions={"BOTH": 101}).json()["tap_mirror"]
    assert made["directions"] == {"BOTH": 101}
    assert mirror(cloud, port, directions={"IN": 1, "OUT": 2, "BOTH": 3}).status_code == 201
    assert mirror(cloud, port, directions={"BOTH": 101}).status_code == 409


def test_a_project_has_so_many_as_the_operator_says(cloud: Cloud, port: dict[str, Any]) -> None:
    """A host has room for 32 streams of all its ports: no project takes them all."""
    replies = [mirror(cloud, port, directions={"IN": number}) for number in range(11)]
    assert [reply.status_code for reply in replies] == [201] * 10 + [409]
    assert cloud.ask("PUT", "/quotas/p1", {"quota": {"tap_mirror": 11}}, by=ROOT).status_code == 200
    assert mirror(cloud, port, directions={"IN": 11}).status_code == 201
