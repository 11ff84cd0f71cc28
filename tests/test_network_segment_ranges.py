"""Ranges of numbers: which of them networks get, and what stays while they have one."""

from __future__ import annotations

from typing import Any

import pytest
from network_lab import ANN, BOB, ROOT, Cloud, cloud

__all__ = ["cloud"]

KIND = "network_segment_range"
NUMBER = "provider:segmentation_id"
VLAN = {"provider:network_type": "vlan", "provider:physical_network": "physnet1"}
VLANS = {"network_type": "vlan", "physical_network": "physnet1"}


def numbered(cloud: Cloud, by: str = ANN) -> int:
    """The number of a new overlay network."""
    return int(cloud.show("network", cloud.make("network", by=by)["id"], by=ROOT)[NUMBER])


def vlan(cloud: Cloud, project: str) -> int:
    """The number of a new VLAN network of a project."""
    return int(cloud.make("network", by=ROOT, project_id=project, **VLAN)[NUMBER])


def own(cloud: Cloud, first: int, last: int, project: str = "", **fields: Any) -> dict[str, Any]:
    """A range, of one project or of all."""
    of = {"shared": False, "project_id": project} if project else {}
    return cloud.make(
        KIND, by=ROOT, **{"minimum": first, "maximum": last, "network_type": "geneve", **of, **fields}
    )


def test_networks_of_a_project_get_the_numbers_of_its_range_and_others_do_not(cloud: Cloud) -> None:
    own(cloud, 4096, 4098, "p1")
    assert [numbered(cloud) for _ in range(3)] == [4096, 4097, 4098]
    assert numbered(cloud, BOB) == 4099
    full = cloud.ask("POST", "/networks", {"network": {}})
    assert (full.status_code, full.json()["NeutronError"]["type"]) == (409, "NoNetworkAvailable")


def test_a_shared_range_is_for_all_that_have_none(cloud: Cloud) -> None:
    own(cloud, 70, 79)
    own(cloud, 50, 59, "p1")
    assert (numbered(cloud), numbered(cloud, BOB)) == (50, 70)


def test_vlans_are_of_the_ranges_of_their_physical_network(cloud: Cloud) -> None:
    own(cloud, 100, 101, "p1", **VLANS)
    own(cloud, 1, 2, "p2", **VLANS)
    own(cloud, 200, 201, **{**VLANS, "physical_network": "physnet2"})
    assert [vlan(cloud, project) for project in ("p1", "p1", "p2", "p3")] == [100, 101, 1, 3]
    given = cloud.make("network", by=ROOT, project_id="p3", **VLAN, **{NUMBER: 2})
    assert given[NUMBER] == 2, "an operator may choose any"


def test_it_tells_what_is_used_and_what_is_free(cloud: Cloud) -> None:
    made = own(cloud, 60, 63, "p1")
    network = cloud.make("network")
    shown = cloud.show(KIND, made["id"], by=ROOT)
    assert (shown["used"], shown["available"]) == ({"60": "p1"}, [61, 62, 63])
    assert cloud.refused("DELETE", f"/{KIND}s/{made['id']}", by=ROOT)[0] == 409
    assert cloud.refused("PUT", f"/{KIND}s/{made['id']}", {KIND: {"minimum": 61}}, by=ROOT)[0] == 409
    assert cloud.change(KIND, made["id"], by=ROOT, maximum=61)["available"] == [61]
    cloud.remove("network", network["id"])
    cloud.remove(KIND, made["id"], by=ROOT)
    assert numbered(cloud) >= 4096


@pytest.mark.parametrize(
    "fields",
    [
        {"minimum": 5, "maximum": 4},
        {"minimum": 0, "maximum": 4},
        {"minimum": 1, "maximum": 65537},
        {"minimum": 1, "maximum": 2**24},
        {"minimum": 1, "maximum": 9, "physical_network": "physnet1"},
        {"minimum": 1, "maximum": 9, "network_type": "vlan"},
        {"minimum": 1, "maximum": 4095, **VLANS},
        {"minimum": 1, "maximum": 9, "network_type": "vxlan"},
        {"minimum": 1, "maximum": 9, "network_type": "gre"},
    ],
)
def test_what_is_no_range_is_refused(cloud: Cloud, fields: dict[str, Any]) -> None:
    assert cloud.refuses(KIND, by=ROOT, **{"network_type": "geneve", **fields})[0] == 400


def test_ranges_do_not_overlap_and_are_the_operators(cloud: Cloud) -> None:
    made = own(cloud, 10, 19)
    fields = {"network_type": "geneve", "minimum": 19, "maximum": 20}
    assert cloud.refuses(KIND, by=ROOT, **fields) == (409, "NetworkSegmentRangeOverlaps")
    own(cloud, 10, 19, **VLANS)
    other = own(cloud, 30, 39)
    assert cloud.refused("PUT", f"/{KIND}s/{other['id']}", {KIND: {"minimum": 19}}, by=ROOT)[0] == 409
    assert cloud.refuses(KIND, **fields)[0] == 403
    assert cloud.ask("GET", f"/{KIND}s/{made['id']}").status_code in (403, 404)
