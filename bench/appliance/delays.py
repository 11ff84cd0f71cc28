"""What delay an appliance adds: of flows through it, beside flows by the plain router at the same time."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from bench.figures import Figure
from trunkline.traffic.pair import Result
from trunkline.traffic.tally import Histogram
from trunkline.traffic.words import Delays, Period

_BOUND = 1.0


def added(
    through: Result, plain: Result | None, quiet: Collection[str], scaling: Collection[str]
) -> list[Figure]:
    """Rows of the table. `quiet` and `scaling`: marks.

    What the machine itself adds meets both ways in the same seconds, and is in neither's difference.
    """
    found = []
    values: dict[str, float] = {}
    for name, marks in (("quiet", quiet), ("while scaling", scaling)):
        here = pooled(through.near.periods, marks)
        if not here.count:
            continue
        found.append(_row(f"{name}: delay of flows, 99.9%", here))
        beside = pooled(plain.near.periods, marks) if plain else Delays()
        values[name] = here.p999 - beside.p999
        if beside.count:
            found.append(_row(f"{name}: delay by the plain router, 99.9%", beside))
    if "while scaling" in values:
        to, less = ("the plain router's", 0.0) if plain else ("quiet", values.get("quiet", 0.0))
        value = (values["while scaling"] - less) * 1e3
        found.append(Figure("delay added while scaling, 99.9%", [value], "ms", _BOUND, note=f"to {to}"))
    return found


def _row(what: str, delays: Delays) -> Figure:
    note = f"median {delays.median * 1e3:.3g}, 99% {delays.p99 * 1e3:.3g}, of {delays.count:,} datagrams"
    return Figure(what, [delays.p999 * 1e3], "ms", note=note)


def pooled(periods: Iterable[Period], marks: Collection[str]) -> Delays:
    """Of all flows' datagrams of the periods that are called so."""
    parts = (Histogram(p.flow_buckets, p.flows.longest) for p in periods if p.name in marks)
    return Histogram().join(parts).delays()


def measured_by(results: Iterable[Result | None]) -> str:
    """How flows' times were taken."""
    ends = [end for result in results if result for end in (result.near, result.far) if end]
    why = sorted({end.unscheduled for end in ends if end.unscheduled})
    if not why:
        return "by processes of their own, in real time, and the kernel's clock"
    return f"by processes of their own and the kernel's clock, but {'; '.join(why)}"
