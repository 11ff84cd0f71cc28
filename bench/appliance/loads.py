"""The traffic of all services at once, under one set of marks."""

from __future__ import annotations

import contextlib
from types import TracebackType

from bench.appliance.appliance import WAYS, Appliance, Way
from trunkline.traffic.pair import Result, Traffic, together
from trunkline.traffic.plans import FarPlan, NearPlan
from trunkline.traffic.words import Live, SetUp


class Loads:
    """Owns a `Traffic` for each of `WAYS`, for as long as the block."""

    def __init__(self, appliance: Appliance, connections: int, every: float, silent: float) -> None:
        self._parts = {
            way.name: _traffic(appliance, way, round(connections * way.part), every, silent) for way in WAYS
        }
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Loads:
        try:
            for traffic in self._parts.values():
                self._stack.enter_context(traffic)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def ready(self, seconds: float) -> dict[str, SetUp]:
        """When all connections were made or refused, by way."""
        return {name: traffic.ready(seconds) for name, traffic in self._parts.items()}

    def mark(self, name: str) -> None:
        """Whatever happens from now on is counted for this."""
        for traffic in self._parts.values():
            traffic.mark(name)

    def live(self) -> Live | None:
        """How it stands with all."""
        last = [said for traffic in self._parts.values() if (said := traffic.live()) is not None]
        return together(last) if last else None

    def end(self) -> dict[str, Result]:
        """By way; the first one has the flows."""
        return {name: traffic.end() for name, traffic in self._parts.items()}


def _traffic(appliance: Appliance, way: Way, connections: int, every: float, silent: float) -> Traffic:
    near, far = (appliance.inside, appliance.outside)[:: 1 if way.outward else -1]
    plan = NearPlan(
        targets=way.targets,
        flow_targets=way.flows,
        connections=connections,
        every=every,
        silent=silent,
        flows=32 if way.flows else 0,
        setup_rate=1000.0,
    )
    return Traffic(near=near, plan=plan, far={far: FarPlan(listen=way.listens)})
