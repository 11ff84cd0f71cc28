"""Compiles one snapshot after the other, and does again only what a change can have touched.

Equal to `logical_network` and `host_slices` for every snapshot, whatever came before: these remember
nothing, and the tests compare. That a record, or a slice, is the same object tells who translates it
further that there is nothing to do.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Mapping
from typing import cast

import msgspec

from trunkline.compiler import hosts, network
from trunkline.compiler.derive import Derivations, Outcome
from trunkline.compiler.logical import KINDS, Delta, LogicalNetwork, Record
from trunkline.compiler.settings import Settings
from trunkline.compiler.slices import HostSlice
from trunkline.compiler.snapshot import Snapshot


class Compiler:
    """Owns what follows from the last snapshot. Snapshots of one store, in any order.

    Args:
        breathe: as of `Derivations`.
    """

    def __init__(self, settings: Settings, breathe: Callable[[], object] = lambda: None) -> None:
        self._settings = settings
        self._derivations: Derivations[Record | HostSlice] = Derivations(
            (*network.NODES, *hosts.NODES), _place, breathe
        )
        #: The revisions of the last snapshot: its own, and that of what is wanted.
        self._revision = self._intent = -1
        self._network: LogicalNetwork | None = None
        self._slices: dict[str, HostSlice] = {}

    def compile(self, snapshot: Snapshot) -> tuple[LogicalNetwork, Mapping[str, HostSlice]]:
        """The logical network and every host's slice.

        A slice in which nothing is another than before keeps its revision: it is the same object.
        """
        known = self._network is not None and snapshot.since == self._revision
        changed = snapshot.changed if known else None
        if self._network is not None and snapshot.intent == self._intent:
            # What was seen since is nothing that is wanted.
            self._revision = snapshot.revision
            return self._network, self._slices
        try:
            outcome = self._derivations.update(network.sources(snapshot, self._settings), changed)
        except BaseException:
            self._network = None
            raise
        self._network = self._following(outcome, snapshot)
        self._slices = self._sliced(outcome, snapshot)
        self._revision, self._intent = snapshot.revision, snapshot.intent
        return self._network, self._slices

    def _following(self, outcome: Outcome[Record | HostSlice], snapshot: Snapshot) -> LogicalNetwork:
        old = self._network
        new = network.assembled(cast("Outcome[Record]", outcome), snapshot.intent)
        if old is not None:
            keys = {cls: outcome.changed.get(cls, ()) for cls in KINDS}
            new.delta = Delta(weakref.ref(old), {cls: found for cls, found in keys.items() if found})
        return new

    def _sliced(self, outcome: Outcome[Record | HostSlice], snapshot: Snapshot) -> dict[str, HostSlice]:
        derived = cast("Mapping[str, HostSlice]", outcome.outputs.get(HostSlice, {}))
        kept = {} if self._network is None else self._slices
        changed = outcome.changed.get(HostSlice, ())
        return {
            host: kept[host]
            if host in kept and host not in changed
            else msgspec.structs.replace(one, revision=snapshot.intent)
            for host, one in derived.items()
        }


def _place(output: Record | HostSlice) -> tuple[Hashable, str]:
    return type(output), output.key if isinstance(output, Record) else output.host
