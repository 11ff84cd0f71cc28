"""Logs: what a security group lets pass and what it drops is written, as the operator reads it.

| claim | and in reverse |
| --- | --- |
| a packet that a rule lets in, one that none does, each gives a line: port, group, rule, addresses | |
| ACCEPT tells of no dropped packet, DROP of no accepted one | |
| a log of one port tells nothing of the group's others | |
| a flood is told of in a few lines | |
| nothing is written once the log is disabled or deleted | |
"""

from __future__ import annotations

import itertools
import json
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from flows import Udp, comes_through, must_pass
from probes import Probe, wait_for
from tenants import Tenant

pytestmark = pytest.mark.machine

#: How long lines may take, seconds: each look at them is a command, and several are taken.
SOON = 60.0
#: Let in, and not.
OPEN, SHUT = 7, 8
#: Elsewhere in each run: in a cloud that is used again there are lines of the one before.
_sources = itertools.count(20000 + secrets.randbelow(30000))


@dataclass
class Scene:
    """c is in a group that lets one port in; d is in the same."""

    tenant: Tenant
    group: Any
    a: Probe
    c: Probe
    d: Probe

    def log(self, **fields: Any) -> dict[str, Any]:
        """Asks for a log."""
        body = {"log": {"resource_type": "security_group", "project_id": self.tenant.project_id, **fields}}
        made: dict[str, Any] = self._ask("post", "", json=body)["log"]
        return made

    def change(self, log: dict[str, Any], **fields: Any) -> None:
        self._ask("put", f"/{log['id']}", json={"log": fields})

    def delete(self, log: dict[str, Any]) -> None:
        self.tenant.admin.delete(f"/log/logs/{log['id']}")

    def _ask(self, method: str, at: str, **more: Any) -> Any:
        reply = getattr(self.tenant.admin, method)(f"/log/logs{at}", **more)
        assert reply.status_code < 300, reply.text
        return reply.json()

    def send(self, target: Probe, port: int) -> int:
        """One datagram; its source port, which no other has."""
        source = next(_sources)
        comes_through(Udp(self.a, target, target.v4, port, source_port=source, answered=False))
        return source

    def written(self) -> list[dict[str, Any]]:
        """What the operator reads."""
        done = self.tenant.cloud.trunkline("logs", "--network", "--json", "-n", "100000")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def of(self, *sources: int) -> list[dict[str, Any]]:
        """What is written of the datagrams from these source ports to c or d."""
        return [e for e in self.written() if e["source_port"] in sources and e["direction"] == "ingress"]

    def is_told(self, target: Probe, port: int) -> dict[str, Any]:
        """Sends until one of them is written; the entry."""
        sent: set[int] = set()

        def told() -> dict[str, Any] | None:
            sent.add(self.send(target, port))
            return next(iter(self.of(*sent)), None)

        return wait_for(told, SOON, f"a line of a datagram to {target} port {port}")

    def is_not_told(self, target: Probe, port: int, *, until: Callable[[], object]) -> None:
        """Sends; nothing is written of it by the time that something else is told of."""
        assert self.lines(target, port, until) == []

    def falls_silent(self, target: Probe, port: int, *, until: Callable[[], object]) -> None:
        """... soon."""
        silent = f"no line of datagrams to {target} port {port}"
        wait_for(lambda: self.lines(target, port, until) == [], SOON, silent)

    def lines(self, target: Probe, port: int, until: Callable[[], object]) -> list[dict[str, Any]]:
        """What is written of some datagrams by the time that something else is told of."""
        sources = [self.send(target, port) for _ in range(3)]
        until()
        return self.of(*sources)


@pytest.fixture(scope="module")
def module_scene(tenant: Tenant) -> Scene:
    net = tenant.network("10.0.0.0/24")
    group = tenant.group({"protocol": "udp", "port_range_min": OPEN, "port_range_max": OPEN})
    a = tenant.probe(net, "h1")
    c, d = (tenant.probe(net, host, security_groups=[group.id]) for host in ("h2", "h3"))
    tenant.ready(a, c, d)
    must_pass(*(Udp(a, each, each.v4, OPEN) for each in (c, d)))
    return Scene(tenant, group, a, c, d)


@pytest.fixture
def scene(module_scene: Scene) -> Any:
    """Without logs at the end of a case."""
    yield module_scene
    for log in module_scene.tenant.admin.get("/log/logs").json()["logs"]:
        module_scene.delete(log)


def test_accepted_and_dropped_packets_are_told_of_until_the_log_is_gone(scene: Scene) -> None:
    log = scene.log(resource_id=scene.group.id)
    accepted, dropped = scene.is_told(scene.c, OPEN), scene.is_told(scene.c, SHUT)
    (rule,) = scene.tenant.api.security_group_rules(security_group_id=scene.group.id, protocol="udp")
    common = {"host": "h2", "port_id": scene.c.port.id, "group_id": scene.group.id, "group": "group"}
    packet = {"protocol": "udp", "source": scene.a.v4, "destination": scene.c.v4}
    for entry, verdict, port, rule_id in (
        (accepted, "accepted", OPEN, rule.id),
        (dropped, "dropped", SHUT, None),
    ):
        wanted = {**common, **packet, "verdict": verdict, "destination_port": port, "rule_id": rule_id}
        assert {name: entry[name] for name in wanted} == wanted
    # The other log tells when what was changed has reached the hosts.
    other = scene.log(target_id=scene.d.port.id)
    scene.change(log, enabled=False)
    scene.falls_silent(scene.c, SHUT, until=lambda: scene.is_told(scene.d, SHUT))
    scene.falls_silent(scene.c, OPEN, until=lambda: scene.is_told(scene.d, OPEN))
    scene.change(log, enabled=True)
    scene.is_told(scene.c, SHUT)
    scene.delete(log)
    scene.falls_silent(scene.c, SHUT, until=lambda: scene.is_told(scene.d, SHUT))
    scene.falls_silent(scene.c, OPEN, until=lambda: scene.is_told(scene.d, OPEN))
    assert other["enabled"]


def test_a_log_tells_of_its_events_and_its_port_alone(scene: Scene) -> None:
    drops = scene.log(target_id=scene.c.port.id, resource_id=scene.group.id, event="DROP")
    told = scene.is_told(scene.c, SHUT)
    assert (told["verdict"], told["port_id"]) == ("dropped", scene.c.port.id)
    scene.is_not_told(scene.c, OPEN, until=lambda: scene.is_told(scene.c, SHUT))
    scene.is_not_told(scene.d, SHUT, until=lambda: scene.is_told(scene.c, SHUT))
    scene.delete(drops)
    scene.log(event="ACCEPT")  # of every group of the project
    assert scene.is_told(scene.d, OPEN)["verdict"] == "accepted"
    scene.falls_silent(scene.c, SHUT, until=lambda: scene.is_told(scene.c, OPEN))


def test_a_flood_is_told_of_in_a_few_lines(scene: Scene) -> None:
    scene.log(resource_id=scene.group.id, event="DROP")
    scene.is_told(scene.c, SHUT)
    before = len(scene.written())
    with scene.a.open(socket.AF_INET, socket.SOCK_DGRAM) as flood:
        for _ in range(3000):
            flood.sendto(b"flood", (scene.c.v4, SHUT))
    wait_for(lambda: len(scene.written()) > before, SOON, "lines of the flood")
    assert len(scene.written()) - before < 300
