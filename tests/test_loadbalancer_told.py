"""How a load balancer and its parts are, by what units report.

| claim | and in reverse |
| --- | --- |
| it is ACTIVE when all data planes have the newest policy | and not while one has another |
| a policy that the manager refuses is an ERROR | |
| a member without a monitor has none | one of weight 0 is draining, a disabled one is offline |
| a member is up if one data plane says so | down if none does, and offline while none knows |
| pools, listeners and balancer are as their members are | what is disabled, or leads nowhere, is offline |
| what data planes counted is added | |
"""

from __future__ import annotations

from typing import Any, Literal

import pytest
from balancers import listener, member, monitor, policy, pool, rule, tree

from trunkline.api.appliance import Figures
from trunkline.api.loadbalancer import told
from trunkline.resources.appliance import Appliance, Unit
from trunkline.resources.reports import ListenerCount, UnitReport, UnitStatus

WORKS = Appliance(id="a", was_active=True, status="ACTIVE", policy_revision=3)
LISTENER = listener(default_pool_id="p")


def unit(number: int, kind: Literal["data-plane", "manager"] = "data-plane", **status: Any) -> Unit:
    seen = UnitReport(
        id=f"u{number}", state="running", status=UnitStatus(incarnation="i", policy_revision=3, **status)
    )
    return Unit(id=f"u{number}", appliance_id="a", number=number, kind=kind, host="h", seen=seen)


def plane(number: int, revision: int = 3, **status: Any) -> Unit:
    made = unit(number)
    assert made.seen is not None
    told_ = UnitStatus(incarnation="i", policy_revision=revision, **status)
    made.seen = UnitReport(id=made.id, state="running", status=told_)
    return made


# Provisioning.


def test_it_is_active_when_all_have_the_newest_policy() -> None:
    assert told.provisioning(WORKS, [plane(1), plane(2)]) == "ACTIVE"
    assert told.provisioning(WORKS, [plane(1), plane(2, revision=2)]) == ""
    assert told.provisioning(WORKS, []) == ""
    assert told.provisioning(None, []) == ""


def test_it_is_not_active_before_its_appliance_was() -> None:
    new = Appliance(id="a", policy_revision=3)
    assert told.provisioning(new, [plane(1)]) == ""


def test_a_unit_that_leaves_is_not_waited_for() -> None:
    leaving = plane(2, revision=2)
    leaving.leaves = True
    assert told.provisioning(WORKS, [plane(1), leaving]) == "ACTIVE"


def test_what_is_refused_is_an_error() -> None:
    assert told.provisioning(WORKS, [plane(1), unit(9, "manager", leads=True, refused="no")]) == "ERROR"


def test_what_does_not_forward_is_an_error() -> None:
    broken = Appliance(id="a", was_active=True, status="ERROR", policy_revision=3)
    assert told.provisioning(broken, [plane(1)]) == "ERROR"


# Members.


def statuses(*parts: Any, says: dict[str, Any] | None = None, **balancer: Any) -> dict[str, str]:
    return told.operating_statuses(tree(*parts, **balancer), WORKS, [plane(1, members=says or {})])


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, "NO_MONITOR"),
        ({"weight": 0}, "DRAINING"),
        ({"admin_state_up": False}, "OFFLINE"),
        ({"admin_state_up": False, "weight": 0}, "OFFLINE"),
    ],
)
def test_a_member_that_nobody_asks(fields: dict[str, Any], status: str) -> None:
    assert statuses(LISTENER, pool(), member("m", **fields))["m"] == status


@pytest.mark.parametrize(
    ("says", "fields", "status"),
    [
        ({"l//10.1.0.11:8080": "up"}, {}, "ONLINE"),
        ({"l//10.1.0.11:8080": "down"}, {}, "ERROR"),
        ({"l//10.1.0.11:8080": "unknown"}, {}, "OFFLINE"),
        ({}, {}, "OFFLINE"),
        ({"l/p/10.1.0.11:8080": "down"}, {}, "ERROR"),
        ({"l//10.1.0.11:8080": "up"}, {"weight": 0}, "DRAINING"),
        ({"l//10.1.0.11:8080": "down"}, {"weight": 0}, "ERROR"),
        ({"other//10.1.0.11:8080": "down"}, {}, "OFFLINE"),
    ],
)
def test_a_member_that_is_asked(says: dict[str, str], fields: dict[str, Any], status: str) -> None:
    assert statuses(LISTENER, pool(), monitor(), member("m", **fields), says=says)["m"] == status


@pytest.mark.parametrize("end", ["fd00::11:8080", "[fd00::11]:8080"])
def test_a_member_of_ipv6_is_known_however_it_is_written(end: str) -> None:
    six = member("m", address="fd00::11")
    assert statuses(LISTENER, pool(), monitor(), six, says={f"l//{end}": "up"})["m"] == "ONLINE"


def test_one_data_plane_that_reaches_a_member_is_believed() -> None:
    key = "l//10.1.0.11:8080"
    seen = told.members_seen([plane(1, members={key: "down"}), plane(2, members={key: "up"})])
    assert seen == {key: "up"}


# What stands above them.


@pytest.mark.parametrize(
    ("one", "other", "status"),
    [
        ("up", "up", "ONLINE"),
        ("up", "down", "DEGRADED"),
        ("down", "down", "ERROR"),
        ("up", "unknown", "ONLINE"),
    ],
)
def test_all_above_are_as_the_members_are(one: str, other: str, status: str) -> None:
    says = {"l//10.1.0.11:8080": one, "l//10.1.0.12:8080": other}
    found = statuses(LISTENER, pool(), monitor(), member("m"), member("n", last=12), says=says)
    assert (found["p"], found["l"], found["lb"]) == (status, status, status)


def test_one_listener_that_fails_does_not_fail_the_balancer() -> None:
    found = statuses(
        LISTENER,
        listener("k", port=81),
        pool(),
        monitor(),
        member("m"),
        says={"l//10.1.0.11:8080": "down"},
    )
    assert (found["l"], found["k"], found["lb"]) == ("ERROR", "ONLINE", "DEGRADED")


def test_an_empty_balancer_is_online() -> None:
    assert statuses()["lb"] == "ONLINE"


def test_what_leads_nowhere_or_is_disabled_is_offline() -> None:
    off = {"admin_state_up": False}
    found = statuses(
        listener(default_pool_id="p", **off),
        listener("k", port=81, default_pool_id="q"),
        pool(),
        pool("q", **off),
        pool("r"),
        monitor("r"),
        policy("x", "REJECT", "k", **off),
        rule("y", "x"),
        rule("z", "x", **off),
    )
    offline = {id for id, status in found.items() if status == "OFFLINE"}
    assert offline == {"l", "p", "q", "r", "x", "z"}


def test_a_disabled_balancer_is_offline_with_all_of_it() -> None:
    found = statuses(LISTENER, pool(), admin_state_up=False)
    assert set(found.values()) == {"OFFLINE"}


def test_an_appliance_that_is_not_well_shows() -> None:
    for status, shown in (("DEGRADED", "DEGRADED"), ("ERROR", "ERROR"), ("UPDATING", "ONLINE")):
        appliance = Appliance(id="a", was_active=True, status=status)
        assert told.operating_statuses(tree(), appliance, [])["lb"] == shown


# Statistics.


def test_what_data_planes_counted_is_added() -> None:
    one = ListenerCount(connections=1, total=10, bytes_in=100, bytes_out=1000, errors=2)
    other = ListenerCount(connections=2, total=20, bytes_in=200, bytes_out=2000, errors=3)
    units = [plane(1, listeners={"l": one}), plane(2, listeners={"l": other})]
    figures = Figures()
    figures.take("h", [unit.seen for unit in units if unit.seen is not None])
    gone = Appliance(id="a", counted={"l": ListenerCount(total=5, errors=1)})
    found = told.counted(gone, units, figures)
    both = told.Stats(
        active_connections=3, bytes_in=300, bytes_out=3000, request_errors=6, total_connections=35
    )
    assert found == {"l": both}
    assert told.total([*found.values(), told.Stats(total_connections=1)]).total_connections == 36
