"""What units' packets have of processors, with units as hosts run them.

| claim | and in reverse |
| --- | --- |
| a unit's packets have the part that its host says | and no more: what is above is dropped, and told |
| the part changes while it runs | |
| connections that do nothing stay for two hours, whatever the kernel saw of them | |
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from flows import Flood, Tcp, must_pass
from probes import wait_for
from unit_lab import RunningUnit, UnitLab, member

from trunkline.devices import namespace
from trunkline.devices.conntrack import Conntrack

pytestmark = pytest.mark.machine
OUT = {"name": "out", "from": "inside", "to": "outside", "action": "accept"}
NAT = {"source": [{"from": "inside", "to": "outside", "addresses": ["192.0.2.1"], "ports": "2048-18431"}]}
PLANE, DISPATCHER, MANAGER = 1, 200, 240


@pytest.fixture
def lab() -> Iterator[UnitLab]:
    made = UnitLab({"firewall": {"rules": [OUT]}, "nat": NAT})
    kinds = {PLANE: "data-plane", DISPATCHER: "dispatcher", MANAGER: "manager"}
    try:
        made.begin(*(member(n, kind) for n, kind in kinds.items()))
        must_pass(Tcp(made.client, made.server, "192.0.2.9", 80), within=20.0)
        yield made
    finally:
        made.close()


def part(unit: RunningUnit, seconds: float) -> float:
    """The part of a processor that a unit says its packets had, for so long at the least."""

    def said() -> tuple[float, float]:
        """When it said how it is, just now, and what they had until then."""
        before = len(unit.statuses)
        wait_for(lambda: len(unit.statuses) > before, 5, "it says how it is")
        return time.monotonic(), unit.statuses[-1].packets_seconds

    began, had = said()
    time.sleep(seconds)
    now, have = said()
    return (have - had) / (now - began)


@pytest.mark.parametrize("number", [PLANE, DISPATCHER])
def test_packets_have_the_part_that_the_host_says(lab: UnitLab, number: int) -> None:
    unit = lab.units[number]
    assert part(unit, 1.0) < 0.005
    with Flood(lab.client, "192.0.2.9"):
        for cores in (0.05, 0.02):
            unit.tell(cores=cores)
            # What it had ahead is gone then.
            time.sleep(0.5)
            assert cores * 0.8 < part(unit, 2.0) < cores * 1.2
        assert unit.statuses[-1].drops["over_quota"] > 0
    must_pass(Tcp(lab.client, lab.server, "192.0.2.9", 80))


def test_a_connection_that_does_nothing_is_not_forgotten(lab: UnitLab) -> None:
    """Though the kernel does not see what answers it: the server speaks first, and all else comes later."""
    kernel = Conntrack(namespace.of_process(lab.units[PLANE].process.pid))
    try:
        with Tcp(lab.client, lab.server, "192.0.2.9", 81).connected() as connection:
            for _ in range(10):
                assert connection.once()
                time.sleep(0.03)
            left = [entry.timeout for entry in kernel.entries(lambda _: True) if entry.timeout > 100]
        # RFC 5382, REQ-5.
        assert left
        assert min(left) > 2 * 3600
    finally:
        kernel.close()
