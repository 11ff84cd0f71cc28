"""Logs of security groups: what they refer to, and that they are the operator's."""

from __future__ import annotations

from typing import Any

import pytest
from network_lab import ANN, ROOT, Cloud, cloud

from trunkline.cli.traffic import Entry, parse

__all__ = ["cloud"]


def make(cloud: Cloud, **fields: Any) -> dict[str, Any]:
    reply = cloud.ask("POST", "/log/logs", {"log": {"resource_type": "security_group", **fields}}, by=ROOT)
    assert reply.status_code == 201, reply.text
    made: dict[str, Any] = reply.json()["log"]
    return made


def refuses(cloud: Cloud, by: str = ROOT, **fields: Any) -> tuple[int, str]:
    body = {"log": {"resource_type": "security_group", **fields}}
    return cloud.refused("POST", "/log/logs", body, by=by)


def logs(cloud: Cloud) -> set[str]:
    return {log["id"] for log in cloud.ask("GET", "/log/logs", by=ROOT).json()["logs"]}


def test_a_log_is_made_changed_and_deleted(cloud: Cloud) -> None:
    made = make(cloud, name="n")
    assert (made["event"], made["enabled"], made["resource_id"], made["target_id"]) == (
        "ALL",
        True,
        None,
        None,
    )
    where = f"/log/logs/{made['id']}"
    changed = cloud.ask("PUT", where, {"log": {"enabled": False}}, by=ROOT).json()["log"]
    assert changed["enabled"] is False
    assert cloud.refused("PUT", where, {"log": {"event": "DROP"}}, by=ROOT)[0] == 400
    assert cloud.ask("DELETE", where, by=ROOT).status_code == 204
    assert logs(cloud) == set()


def test_security_groups_can_be_logged(cloud: Cloud) -> None:
    reply = cloud.ask("GET", "/log/loggable-resources", by=ROOT)
    assert reply.json() == {"loggable_resources": [{"type": "security_group"}]}


def test_what_a_log_names_is_there_and_belongs_together(cloud: Cloud) -> None:
    nobody = "6e1b6f3a-0f0b-4c3e-9a55-0123456789ab"
    assert refuses(cloud, resource_type="router")[0] == 400
    assert refuses(cloud, event="SOME")[0] == 400
    assert refuses(cloud, resource_id=nobody) == (404, "ResourceNotFound")
    assert refuses(cloud, target_id=nobody) == (404, "TargetResourceNotFound")
    group, net = cloud.make("security_group", name="web"), cloud.make("network")
    port = cloud.make("port", network_id=net["id"])
    other = refuses(cloud, resource_id=group["id"], target_id=port["id"])
    assert other == (409, "InvalidResourceConstraint")
    make(cloud, resource_id=port["security_groups"][0], target_id=port["id"])


def test_a_log_goes_with_what_it_is_of(cloud: Cloud) -> None:
    group, net = cloud.make("security_group", name="web"), cloud.make("network")
    port = cloud.make("port", network_id=net["id"])
    of_group, of_port = make(cloud, resource_id=group["id"]), make(cloud, target_id=port["id"])
    cloud.remove("security_group", group["id"])
    assert logs(cloud) == {of_port["id"]}
    cloud.remove("port", port["id"])
    assert logs(cloud) == set()
    assert cloud.refused("GET", f"/log/logs/{of_group['id']}", by=ROOT)[0] == 404


@pytest.mark.parametrize("by", [ANN, "max@p1:manager"])
def test_logs_are_the_operators(cloud: Cloud, by: str) -> None:
    made = make(cloud)
    where = f"/log/logs/{made['id']}"
    assert refuses(cloud, by=by)[0] == 403
    for method, at in (("GET", "/log/logs"), ("GET", where), ("GET", "/log/loggable-resources")):
        assert cloud.refused(method, at, by=by)[0] == 403
    assert cloud.refused("DELETE", where, by=by)[0] in (403, 404)
    assert logs(cloud) == {made["id"]}


LINE = (
    '2026-11-21T08:14:09.613Z|00012|acl_log(ovn_pinctrl0)|INFO|name="{name}", verdict={verdict}, '
    "severity=info, direction={way}-lport: {flow}"
)
FLOW4 = (
    "tcp,vlan_tci=0x0000,dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:00:00:02,nw_src=10.0.0.1,nw_dst=10.0.0.2,"
    "nw_tos=0,nw_ecn=0,nw_ttl=64,nw_frag=no,tp_src=4000,tp_dst=22,tcp_flags=syn"
)
FLOW6 = (
    "icmp6,vlan_tci=0x0000,dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:00:00:02,ipv6_src=fd00::1,"
    "ipv6_dst=fd00::2,ipv6_label=0x00000,nw_tos=0,nw_ecn=0,nw_ttl=64,nw_frag=no,icmp_type=128,icmp_code=0"
)


def test_lines_of_the_data_plane_are_understood() -> None:
    accepted = parse("h1", LINE.format(name="rule/r", verdict="allow", way="to", flow=FLOW4))
    assert accepted == Entry(
        time="2026-11-21T08:14:09.613Z",
        host="h1",
        verdict="accepted",
        direction="ingress",
        rule_id="r",
        protocol="tcp",
        source="10.0.0.1",
        destination="10.0.0.2",
        source_port=4000,
        destination_port=22,
        mac="fa:16:3e:00:00:02",
    )
    dropped = parse("h1", LINE.format(name="group/g", verdict="drop", way="from", flow=FLOW6))
    assert dropped is not None
    assert (dropped.verdict, dropped.group_id, dropped.direction) == ("dropped", "g", "egress")
    assert (dropped.source, dropped.destination) == ("fd00::1", "fd00::2")
    assert (dropped.mac, dropped.source_port) == ("fa:16:3e:00:00:01", None)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "2026-11-21T08:14:09.613Z|00012|binding|INFO|Claiming lport",
        LINE.format(name="somebody's", verdict="drop", way="to", flow=FLOW4),
        LINE.format(name="rule/r", verdict="drop", way="to", flow=FLOW4)[:80],
    ],
)
def test_other_lines_are_none(line: str) -> None:
    assert parse("h1", line) is None
