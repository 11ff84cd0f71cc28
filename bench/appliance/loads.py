"""The traffic of all services at once, under one set of marks; and flows by the plain router beside it."""

from __future__ import annotations

import contextlib
from types import TracebackType

from bench.appliance.appliance import WAYS, Appliance, Way
from trunkline.traffic.pair import Result, Traffic, together
from trunkline.traffic.plans import FarPlan, NearPlan
from trunkline.traffic.words import Broken, Live, SetUp

#: As results are called of connections that begin all the time, and where they go: one target, so that no two
#: of them may have the same port. So many are there at the most: of the ports, a third is taken then.
_BEGINNING, _TARGET, _MOST = "source translation, connections that begin meanwhile", "192.0.2.9:8002", 16_000
#: How long each of them lasts, seconds.
_LASTS = 60.0


class Loads:
    """Owns a `Traffic` for each of `WAYS`, and one by the plain router, for as long as the block; and one of
    connections that begin, from when the others are ready.
    """

    def __init__(
        self, appliance: Appliance, connections: int, flows: int, every: float, silent: float, begin: float
    ) -> None:
        """Args:
        flows: by each way that has any.
        begin: how many connections begin in each second.
        """
        self._parts = {
            way.name: _traffic(appliance, way, round(connections * way.part), flows, every, silent)
            for way in WAYS
        }
        self._beginning = _beginning(appliance, begin, every, silent) if begin else None
        self._plain = _beside(appliance, flows) if appliance.plain else None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Loads:
        try:
            for traffic in self._all():
                self._stack.enter_context(traffic)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _all(self) -> list[Traffic]:
        return [*([self._plain] if self._plain else []), *self._parts.values()]

    def ready(self, seconds: float) -> dict[str, SetUp]:
        """When all connections were made or refused, by way."""
        made = {name: traffic.ready(seconds) for name, traffic in self._parts.items()}
        if self._beginning is not None:
            self._stack.enter_context(self._beginning)
            self._parts[_BEGINNING] = self._beginning
        return made

    def mark(self, name: str) -> None:
        """Whatever happens from now on is counted for this."""
        for traffic in self._all():
            traffic.mark(name)

    def live(self) -> Live | None:
        """How it stands with all."""
        last = [said for traffic in self._parts.values() if (said := traffic.live()) is not None]
        return together(last) if last else None

    def broken(self) -> dict[str, list[Broken]]:
        """By way: what either end saw of connections that broke until now."""
        return {
            name: [each for said in traffic.broken().values() for each in said]
            for name, traffic in self._parts.items()
        }

    def end(self) -> dict[str, Result]:
        """By way; the first one has the flows."""
        return {name: traffic.end() for name, traffic in self._parts.items()}

    def end_plain(self) -> Result | None:
        """What became of the flows by the plain router."""
        return self._plain.end() if self._plain else None


def _traffic(
    appliance: Appliance, way: Way, connections: int, flows: int, every: float, silent: float
) -> Traffic:
    near, far = (appliance.inside, appliance.outside)[:: 1 if way.outward else -1]
    plan = NearPlan(
        targets=way.targets,
        flow_targets=way.flows,
        connections=connections,
        every=every,
        silent=silent,
        flows=flows if way.flows else 0,
        setup_rate=1000.0,
    )
    return Traffic(near=near, plan=plan, far={far: FarPlan(listen=way.listens)})


def _beginning(appliance: Appliance, rate: float, every: float, silent: float) -> Traffic:
    plan = NearPlan(
        targets=(_TARGET,),
        connections=min(_MOST, round(rate * _LASTS)),
        every=every,
        silent=silent,
        lasts=_LASTS,
        setup_rate=rate,
    )
    return Traffic(near=appliance.inside, plan=plan, far={appliance.outside: FarPlan(listen=plan.targets)})


def _beside(appliance: Appliance, flows: int) -> Traffic:
    """As many flows as go through the appliance, and at the same times."""
    plan = NearPlan(targets=(appliance.plain,), flows=flows)
    return Traffic(near=appliance.inside, plan=plan, far={appliance.outside: FarPlan(listen=plan.targets)})
