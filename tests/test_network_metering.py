"""Metering labels: what rules may say, whose they are, and what becomes of hosts' counts."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from network_lab import ANN, BOB, ROOT, Cloud, cloud

from trunkline.api.context import CLOUD
from trunkline.api.network import metering
from trunkline.resources.network import HostCount

__all__ = ["cloud"]

MANAGER = "max@p1:manager"
EGRESS = {"direction": "egress"}
NOTHING = HostCount(
    host="h1", since="a", ingress_packets=0, ingress_bytes=0, egress_packets=0, egress_bytes=0
)


@pytest.fixture
def label(cloud: Cloud) -> dict[str, Any]:
    return cloud.make("metering_label", by=MANAGER, name="all")


def rule(cloud: Cloud, label: dict[str, Any], *, by: str = MANAGER, **fields: Any) -> Any:
    """The answer of a request for a rule."""
    body = {"metering_label_id": label["id"], **EGRESS, **fields}
    return cloud.ask("POST", "/metering/metering-label-rules", {"metering_label_rule": body}, by=by)


def test_a_projects_manager_makes_labels_and_its_readers_see_them(
    cloud: Cloud, label: dict[str, Any]
) -> None:
    made = rule(cloud, label, remote_ip_prefix="10.0.0.7/24").json()["metering_label_rule"]
    assert (made["remote_ip_prefix"], made["source_ip_prefix"], made["excluded"]) == (
        "10.0.0.0/24",
        None,
        False,
    )
    assert cloud.show("metering_label", label["id"])["egress_packets"] == 0
    assert cloud.show("metering_label_rule", made["id"])["project_id"] == "p1"
    assert rule(cloud, label, by=ANN, source_ip_prefix="10.1.0.0/16").status_code == 403
    assert rule(cloud, label, by=BOB, source_ip_prefix="10.1.0.0/16").status_code in (403, 404)
    assert cloud.refused("GET", f"/metering/metering-labels/{label['id']}", by=BOB)[0] == 404
    cloud.remove("metering_label", label["id"], by=MANAGER)
    assert cloud.refused("GET", f"/metering/metering-label-rules/{made['id']}", by=ROOT)[0] == 404


def test_an_operators_rule_is_of_the_labels_project(cloud: Cloud, label: dict[str, Any]) -> None:
    made = rule(cloud, label, by=ROOT, source_ip_prefix="10.0.0.0/24").json()["metering_label_rule"]
    assert made["project_id"] == made["tenant_id"] == "p1"
    wrong = rule(cloud, label, by=ROOT, source_ip_prefix="10.1.0.0/24", project_id="p0")
    assert wrong.status_code == 400


def test_operators_alone_count_at_everybodys_routers(cloud: Cloud) -> None:
    body = {"metering_label": {"name": "x", "shared": True}}
    assert cloud.ask("POST", "/metering/metering-labels", body, by=MANAGER).status_code == 403
    assert cloud.ask("POST", "/metering/metering-labels", body, by=ROOT).status_code == 201


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"remote_ip_prefix": "10.0.0.0/24", "source_ip_prefix": "10.0.0.0/24"},
        {"source_ip_prefix": "10.0.0.0/24", "destination_ip_prefix": "2001:db8::/32"},
        {"remote_ip_prefix": "all"},
        {"direction": "both", "remote_ip_prefix": "10.0.0.0/24"},
        {"remote_ip_prefix": "10.0.0.0/24", "excluded": "perhaps"},
    ],
)
def test_a_rule_without_a_meaning_is_refused(
    cloud: Cloud, label: dict[str, Any], fields: dict[str, Any]
) -> None:
    assert rule(cloud, label, **fields).status_code == 400


def test_prefixes_of_one_kind_do_not_overlap(cloud: Cloud, label: dict[str, Any]) -> None:
    assert rule(cloud, label, remote_ip_prefix="10.0.0.0/16").status_code == 201
    again = rule(cloud, label, remote_ip_prefix="10.0.1.0/24")
    assert (again.status_code, again.json()["NeutronError"]["type"]) == (409, "MeteringLabelRuleOverlaps")
    assert rule(cloud, label, remote_ip_prefix="10.0.1.0/24", excluded=True).status_code == 201
    assert rule(cloud, label, remote_ip_prefix="10.0.1.0/24", direction="ingress").status_code == 201


def test_hosts_counts_are_added_and_never_go_back(cloud: Cloud, label: dict[str, Any]) -> None:
    def tell(**fields: Any) -> tuple[int, int]:
        count = replace(NOTHING, **fields)
        told = [(label["id"], count), ("of a label that went", count)]
        cloud.loop.run_until_complete(cloud.engine.write(CLOUD, lambda call: metering.observe(call, told)))
        shown = cloud.show("metering_label", label["id"])
        assert shown["revision_number"] == label["revision_number"]
        return shown["egress_packets"], shown["egress_bytes"]

    assert tell(egress_packets=5, egress_bytes=500) == (5, 500)
    assert tell(egress_packets=5, egress_bytes=500) == (5, 500)
    assert tell(egress_packets=7, egress_bytes=700) == (7, 700)
    assert tell(host="h2", egress_packets=3, egress_bytes=300) == (10, 1000)
    # A host that lost count begins anew: what it tells then is more, however much.
    assert tell(since="b", egress_packets=1, egress_bytes=100) == (11, 1100)
    assert tell(since="b", egress_packets=0, egress_bytes=0) == (11, 1100)
