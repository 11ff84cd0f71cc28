"""A backend that moves no packet: it keeps what it is given, and shows what it is told to.

For tests of whatever stands above a backend: script what is observed, and let it fail.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping

from trunkline.backends.contract import Applied, Observation, Problem
from trunkline.compiler.logical import LogicalNetwork, Record
from trunkline.errors import Unavailable


class RecordingBackend:
    """Keeps every network applied. Fulfils the contract (`backends.contract.Backend`)."""

    def __init__(self) -> None:
        #: What was applied, oldest first.
        self.applied: list[LogicalNetwork] = []
        #: What `observe` shows; change it with `show`.
        self.observation = Observation()
        #: Whether every workload port that has a host comes up there as soon as it is applied.
        self.plug = False
        #: Faults: each is raised by one application, the first first.
        self.faults: list[Exception] = []
        #: Counted as healed by the next application.
        self.drift = 0
        self.started = False
        self._reachable = asyncio.Event()
        self._reachable.set()
        self._news = asyncio.Event()

    @property
    def network(self) -> LogicalNetwork:
        """The newest network applied; an empty one before the first."""
        return self.applied[-1] if self.applied else LogicalNetwork()

    def show(self, observation: Observation) -> None:
        """Changes what is observed, and tells so."""
        self.observation = observation
        self._news.set()

    def disturb(self, rows: int = 1) -> None:
        """Plays somebody else who changes rows: the next application heals them."""
        self.drift += rows
        self._news.set()

    def disconnect(self) -> None:
        """From now on nothing can be applied."""
        self._reachable.clear()
        self._news.set()

    def reconnect(self) -> None:
        """Ends `disconnect`."""
        self._reachable.set()
        self._news.set()

    async def start(self) -> None:
        await self._reachable.wait()
        self.started = True

    def prepare(self, network: LogicalNetwork) -> None:
        return

    async def apply(self, network: LogicalNetwork) -> Applied:
        if not self._reachable.is_set():
            raise Unavailable("the recording backend is disconnected")
        if self.faults:
            raise self.faults.pop(0)
        healed, self.drift = self.drift, 0
        before = _records(self.network)
        after = _records(network)
        self.applied.append(network)
        if self.plug:
            up = {key: p.host for key, p in network.ports.items() if p.host and p.role == "workload"}
            if up != self.observation.ports_up:
                self.show(dataclasses.replace(self.observation, ports_up=up))
        return Applied(
            revision=network.revision,
            inserted=len(after.keys() - before.keys()),
            changed=sum(before[key] != after[key] for key in before.keys() & after.keys()) + healed,
            removed=len(before.keys() - after.keys()),
            healed=healed,
        )

    async def settled(self) -> None:
        return

    def observe(self) -> Observation:
        if self._reachable.is_set():
            return self.observation
        away = Problem(
            "the recording backend is disconnected", "`disconnect` was called", "Call `reconnect`."
        )
        return dataclasses.replace(self.observation, problems=[*self.observation.problems, away])

    def daemons(self) -> Mapping[str, bool]:
        return {}

    async def changed(self) -> None:
        await self._news.wait()
        self._news.clear()

    async def close(self) -> None:
        self.started = False


def _records(network: LogicalNetwork) -> dict[tuple[type[Record], str], Record]:
    kinds = network.records().items()
    return {(cls, key): record for cls, records in kinds for key, record in records.items()}
