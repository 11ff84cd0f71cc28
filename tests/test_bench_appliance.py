"""The tables of `bench.appliance`: what is added is the difference to the plain router in the same seconds,
and growth is compared with as many times one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trunkline.traffic.pair import Result
from trunkline.traffic.tally import Histogram
from trunkline.traffic.words import Delays, FarTotal, NearTotal, Period

sys.path.append(str(Path(__file__).resolve().parents[1]))
from bench.appliance import delays, growth
from bench.figures import Figure


def period(name: str, *seconds: float) -> Period:
    """One with flows of these delays."""
    histogram = Histogram()
    for each in seconds:
        histogram.add(each)
    return Period(name=name, began=0.0, flows=histogram.delays(), flow_buckets=histogram.buckets())


def result(*periods: Period, unscheduled: str = "") -> Result:
    near = NearTotal(
        at=0.0,
        established=0,
        refused=0,
        ended=0,
        broken={},
        unanswered=0,
        bytes=0,
        sent=0,
        answered=0,
        longest_gap=0.0,
        connections=Delays(),
        flows=Delays(),
        own=Delays(),
        periods=periods,
        unscheduled=unscheduled,
    )
    far = FarTotal(at=0.0, accepted=0, strangers=0, bytes=0, datagrams=0)
    return Result(near, far, {}, (), (), (), (), ())


def of(figures: list[Figure], what: str) -> Figure:
    return next(figure for figure in figures if figure.what == what)


QUIET = period("quiet", *[0.0002] * 2000)
#: One of a thousand waits; half of them in each period.
SCALING = [period(name, *[0.0002] * 998, 0.005, 0.005) for name in ("1 scale out", "2 scale in")]
MARKS = {"1 scale out", "2 scale in"}


def test_what_the_machine_adds_is_no_delay_of_the_appliance() -> None:
    through = result(QUIET, *SCALING, period("3 policy", *[1.0] * 999))
    plain = result(QUIET, *(period(each, *[0.0001] * 998, 0.0045, 0.0045) for each in sorted(MARKS)))
    found = delays.added(through, plain, {"quiet"}, MARKS)
    assert of(found, "while scaling: delay of flows, 99.9%").value == pytest.approx(5.0, rel=0.03)
    assert of(found, "while scaling: delay by the plain router, 99.9%").value == pytest.approx(4.5, rel=0.03)
    added = of(found, "delay added while scaling, 99.9%")
    assert (added.value, added.met) == (pytest.approx(0.5, abs=0.2), True)


def test_without_a_plain_router_it_is_what_scaling_adds_to_a_quiet_time() -> None:
    added = of(
        delays.added(result(QUIET, *SCALING), None, {"quiet"}, MARKS), "delay added while scaling, 99.9%"
    )
    assert (added.value, added.met) == (pytest.approx(4.8, rel=0.03), False)


def test_the_table_tells_when_flows_were_not_measured_in_real_time() -> None:
    assert "in real time" in delays.measured_by([result(), None])
    why = "it may not be scheduled in real time (Operation not permitted) and has nice -20"
    assert why in delays.measured_by([result(), result(unscheduled=why)])


def seen(size: int, arrived: float, alarms: int = 0) -> growth.Seen:
    rates = {"offered": 1e5, "arrived": arrived, "passed": arrived}
    return growth.Seen(**rates, alarms=alarms)


def test_growth_is_compared_with_as_many_times_one() -> None:
    turn = {1: seen(1, 1000.0), 2: seen(2, 1950.0), 4: seen(4, 4500.0, alarms=2), 8: seen(8, 8100.0)}
    found = growth.figures([turn], 0.05)
    met = {size: of(found, f"growth: {size} data planes, off {size} times one").met for size in (2, 4, 8)}
    assert met == {2: True, 4: False, 8: True}
    assert "taken for silent 2 times" in of(found, "growth: through 4 data planes of 0.05 core").note


def test_packets_of_interfaces_are_those_that_the_kernel_counted() -> None:
    head = (
        "Inter-|   Receive  |  Transmit\n face |bytes    packets errs drop fifo ... |bytes    packets ...\n"
    )
    rows = (
        "    lo:  5070   61  0 0 0 0 0 0  5070   62 0 0 0 0 0 0",
        "  eth0: 99  12345  0 0 0 0 0 0 88 54 0 0 0 0 0 0",
    )
    assert growth.packets(head + "\n".join(rows)) == {"lo": (61, 62), "eth0": (12345, 54)}
