"""What a request and a change cost is counted, not timed, and does not grow with the cloud."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from network_lab import ANN, ROOT, Cloud, cloud

from trunkline.backends.ovn.rows import Translation, Wanted
from trunkline.compiler.derive import Derivations, Node
from trunkline.compiler.incremental import Compiler
from trunkline.compiler.settings import Settings
from trunkline.control.replica import Replica

__all__ = ["cloud"]

#: Statements of the whole transaction in which one is created, its BEGIN and COMMIT among them.
MOST = {"network": 14, "subnet": 19, "port": 14, "security_group_rule": 13, "router": 8}
MANY = 400


@pytest.fixture
def statements(cloud: Cloud) -> list[str]:
    """What the writer's connection executes from now on."""
    cloud.make("network", by=ROOT)  # The writer connects when it is first asked.
    connection: Any = cloud.store._writer._connection
    told: list[str] = []
    connection.connection.driver_connection.set_trace_callback(told.append)
    return told


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each derivation runs."""
    counted: Counter[str] = Counter()
    run = Derivations._run

    def counting(self: Derivations[Any], derivation: tuple[Any, str]) -> Any:
        function = derivation[0].derive if isinstance(derivation[0], Node) else derivation[0]
        counted[function.__qualname__] += 1
        return run(self, derivation)

    monkeypatch.setattr(Derivations, "_run", counting)
    return counted


def test_a_create_executes_few_statements_however_much_is_there(cloud: Cloud, statements: list[str]) -> None:
    _lift_limits(cloud)
    network, _ = cloud.net("10.0.0.0/16")
    group = cloud.make("security_group", name="one")
    rule = {"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp"}
    bodies: dict[str, Any] = {
        "network": {},
        "subnet": {"network_id": cloud.make("network")["id"], "cidr": "10.9.0.0/24", "ip_version": 4},
        "port": {"network_id": network["id"]},
        "security_group_rule": {**rule, "port_range_min": 1, "port_range_max": 1},
        "router": {},
    }
    more = {**bodies, "subnet": {**bodies["subnet"], "network_id": cloud.make("network")["id"]}}
    more["security_group_rule"] = {**rule, "port_range_min": 2, "port_range_max": 2}
    cloud.make("port", network_id=network["id"])  # The first one makes the project's default group.
    few = _counted(cloud, statements, bodies)
    _fill(cloud, network["id"], MANY)
    many = _counted(cloud, statements, more)
    assert {kind: count for kind, count in many.items() if count > MOST[kind]} == {}
    assert many == few


def test_a_port_is_derived_alone_however_many_there_are(cloud: Cloud, ran: Counter[str]) -> None:
    _lift_limits(cloud)
    network, _ = cloud.net("10.0.0.0/16")
    steps = _Steps(cloud)
    cloud.make("port", network_id=network["id"])
    steps.follow()
    few = _run_for_a_port(cloud, steps, network["id"], ran)
    _fill(cloud, network["id"], MANY)
    steps.follow()
    many = _run_for_a_port(cloud, steps, network["id"], ran)
    assert many == few
    assert set(few.values()) == {1}


def test_what_was_just_written_is_not_read_again(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    network, _ = cloud.net("10.0.0.0/16")
    steps = _Steps(cloud)
    port = cloud.make("port", network_id=network["id"])
    with monkeypatch.context() as patch:
        patch.setattr(cloud.store, "read", None)
        assert port["id"] in steps.follow().tables()["Logical_Switch_Port"]


def _run_for_a_port(cloud: Cloud, steps: _Steps, network: str, ran: Counter[str]) -> dict[str, int]:
    cloud.make("port", network_id=network)
    ran.clear()
    steps.follow()
    return dict(ran)


class _Steps:
    """From the store to OVN's rows, step by step."""

    def __init__(self, cloud: Cloud) -> None:
        self._replica = Replica(cloud.store)
        self._compiler = Compiler(Settings())
        self._translation = Translation()
        self.follow()

    def follow(self) -> Wanted:
        return self._translation.update(self._compiler.compile(self._replica.refresh())[0])


def _counted(cloud: Cloud, statements: list[str], bodies: dict[str, Any]) -> dict[str, int]:
    counts = {}
    for kind, body in bodies.items():
        statements.clear()
        cloud.make(kind, **body)
        counts[kind] = len(statements)
        scans = [text for text in statements if re.search(r"IS NOT NULL|DISTINCT", text)]
        assert scans == [], "a request looks up what it needs by key"
    return counts


def _lift_limits(cloud: Cloud) -> None:
    # There are still limits, so that what is there is counted.
    reply = cloud.ask("PUT", "/quotas/p1", {"quota": dict.fromkeys(("port", "network"), 10_000)}, by=ROOT)
    assert reply.status_code == 200, reply.text


def _fill(cloud: Cloud, network: str, ports: int) -> None:
    for _ in range(ports // 100):
        reply = cloud.ask("POST", "/ports", {"ports": [{"network_id": network}] * 100}, by=ANN)
        assert reply.status_code == 201, reply.text
    reply = cloud.ask("POST", "/networks", {"networks": [{"name": "more"}] * 100}, by=ANN)
    assert reply.status_code == 201, reply.text
