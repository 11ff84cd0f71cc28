"""All compute units of the host: a `Unit` for each, kept or made or removed as the slice says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from trunkline.agent.buses import Buses
from trunkline.agent.config import AgentConfig
from trunkline.agent.unit import Started, Unit
from trunkline.agent.unit_runtime import InNamespaces, Runtime
from trunkline.agent.unit_server import AsServer
from trunkline.compiler.slices import HostSlice
from trunkline.compiler.unit_slices import UnitSlice
from trunkline.resources.reports import UnitReport


class Units:
    """Manager of the units. Owns the folder ``u`` of the agent's, and the processes of its pid files."""

    def __init__(
        self,
        config: AgentConfig,
        buses: Buses,
        changed: Callable[[], None],
        processes_changed: Callable[[], None],
        *,
        accelerated: bool,
    ) -> None:
        """Args:
        changed: something that is reported.
        processes_changed: something that ports depend on.
        accelerated: guests run under KVM.
        """
        self._accelerated = accelerated
        self._folder = config.folder / "u"
        self._prefix = f"{config.namespace_prefix}u-"
        self._buses = buses
        self._callbacks = changed, processes_changed
        self._units: dict[str, Unit] = {}
        #: What their files are called, by their ids.
        self._names: dict[str, str] = {}
        self._wanted: dict[str, UnitSlice] | None = None

    def open(self) -> None:
        """Finds what an agent before this one left."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for file in self._folder.glob("*.json"):
            try:
                self._add(msgspec.json.decode(file.read_bytes(), type=Started), file.stem)
            except msgspec.MsgspecError:
                # Written whole or not at all; this is none of ours, or the disk is damaged.
                continue

    def want(self, slice_: HostSlice) -> None:
        """The units of this slice, and no others."""
        self._wanted = {unit.id: unit for unit in slice_.units}

    async def apply(self) -> None:
        """Tells every unit; each goes its own way from there."""
        if self._wanted is None:
            return
        for id, unit in list(self._units.items()):
            if id not in self._wanted:
                unit.want(None)
            if unit.gone.is_set():
                await unit.close()
                del self._units[id], self._names[id]
        for id, wanted in self._wanted.items():
            if id not in self._units:
                self._add(Started(id=id, runtime=wanted.runtime), self._free_name(id))
            self._units[id].want(wanted)

    def reports(self) -> tuple[UnitReport, ...]:
        """What is seen of each."""
        return tuple(unit.report() for unit in self._units.values())

    def processes(self) -> dict[str, int]:
        """The ids of the processes that units are now, by the units' ids."""
        return {id: pid for id, unit in self._units.items() if (pid := unit.pid) is not None}

    def lingering(self) -> frozenset[str]:
        """The ids of units whose processes have ended, and whose interfaces are not to go yet."""
        return frozenset(id for id, unit in self._units.items() if unit.lingers)

    async def close(self) -> None:
        """Lets go of all; their programs go on."""
        await asyncio.gather(*(unit.close() for unit in self._units.values()))

    def _free_name(self, id: str) -> str:
        digits, taken = id.replace("-", ""), set(self._names.values())
        return next((digits[:n] for n in (8, 12) if digits[:n] not in taken), digits)

    def _add(self, started: Started, name: str) -> None:
        # What is the host's is nobody's business there: its keys, its slice, the sockets of its daemons.
        hidden = (self._folder.parent, Path("/run"))
        group = self._prefix + name
        runtime: Runtime
        if started.runtime == "server":
            runtime = AsServer(self._folder, name, group, self._buses, hidden, accelerated=self._accelerated)
        else:
            runtime = InNamespaces(self._folder, name, group, self._buses, hidden)
        self._names[started.id] = name
        self._units[started.id] = Unit(started, self._folder / f"{name}.json", runtime, *self._callbacks)
