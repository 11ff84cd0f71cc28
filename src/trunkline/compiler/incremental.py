"""Compiles one snapshot after the other, and does again only what a change can have touched.

    nothing of a class changed     what was derived of it is kept, the very objects
    only plain ports changed       their records alone are made anew
    anything else                  everything is compiled; records that came out equal are kept

Equal to `logical_network` and `host_slices` for every snapshot, whatever came before: these are always
right, and the tests compare. That a record is the same object tells who translates it further that
there is nothing to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from trunkline.compiler.hosts import host_slices
from trunkline.compiler.logical import LogicalNetwork, Record
from trunkline.compiler.network import logical_network
from trunkline.compiler.settings import Settings
from trunkline.compiler.slices import HostSlice
from trunkline.compiler.snapshot import Snapshot
from trunkline.compiler.switching import networks_up, workload
from trunkline.resources.network import INTERNAL_OWNERS, Port, Subnet
from trunkline.resources.schema import spec_of

T = TypeVar("T", bound=Record)

#: What `logical_network` reads: a change of any other service's resources leaves the network as it is.
_READ = "network"


class Compiler:
    """Owns the last snapshot and what was compiled from it. Snapshots of one store, in any order."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._snapshot: Snapshot | None = None
        self._network: LogicalNetwork | None = None
        self._slices: Mapping[str, HostSlice] = {}

    def compile(self, snapshot: Snapshot) -> tuple[LogicalNetwork, Mapping[str, HostSlice]]:
        """The logical network and every host's slice."""
        old, network = self._snapshot, self._network
        if old is not None and network is not None and old.intent == snapshot.intent:
            return network, self._slices  # What was seen since is nothing that is wanted.
        changed = None if old is None else _plain_ports(old, snapshot)
        if old is None or network is None:
            network = logical_network(snapshot, self._settings)
        elif _same(old, snapshot, service=_READ):
            network = replace(network, revision=snapshot.intent)
        elif changed is None:
            network = _kept(network, logical_network(snapshot, self._settings))
        else:
            network = _with_ports(network, snapshot, changed)
        if old is None or changed is None or any(_on_host(old, snapshot, key) for key in changed):
            slices: Mapping[str, HostSlice] = host_slices(snapshot, self._settings)
        else:
            slices = {
                host: msgspec.structs.replace(one, revision=snapshot.intent)
                for host, one in self._slices.items()
            }
        self._snapshot, self._network, self._slices = snapshot, network, slices
        return network, slices


def _same(old: Snapshot, new: Snapshot, service: str) -> bool:
    """Whether no resource of a service changed. A replica keeps the dictionary of a class that did not."""
    return all(
        old.objects.get(cls) is new.objects.get(cls)
        for cls in old.objects.keys() | new.objects.keys()
        if spec_of(cls).service == service
    )


def _plain_ports(old: Snapshot, new: Snapshot) -> list[str] | None:
    """The ids of the ports that changed, where nothing else did, and nothing is derived of them but
    their own record; None otherwise."""
    classes = old.objects.keys() | new.objects.keys()
    if any(old.objects.get(cls) is not new.objects.get(cls) for cls in classes if cls is not Port):
        return None
    before, after = old.all(Port), new.all(Port)
    changed = [key for key, port in after.items() if before.get(key) is not port]
    changed += before.keys() - after.keys()
    plain = all(_is_plain(before.get(key)) and _is_plain(after.get(key)) for key in changed)
    return changed if plain else None


def _is_plain(port: Port | None) -> bool:
    return port is None or (port.device_owner not in INTERNAL_OWNERS and not port.extra_dhcp_opts)


def _on_host(old: Snapshot, new: Snapshot, key: str) -> bool:
    return any(port is not None and port.host_id for port in (old.get(Port, key), new.get(Port, key)))


def _with_ports(network: LogicalNetwork, snapshot: Snapshot, changed: list[str]) -> LogicalNetwork:
    ports, up, subnets = dict(network.ports), networks_up(snapshot), snapshot.all(Subnet)
    for key in changed:
        port = snapshot.get(Port, key)
        if port is None:
            ports.pop(key, None)
        elif ports.get(key) != (new := workload(key, port, up, subnets)):
            ports[key] = new
    return replace(network, ports=ports, revision=snapshot.intent)


def _kept(old: LogicalNetwork, new: LogicalNetwork) -> LogicalNetwork:
    """`new`, of the objects of `old` wherever they are equal."""
    kinds: dict[str, Any] = {
        name: _kept_records(getattr(old, name), records)
        for name, records in vars(new).items()
        if isinstance(records, dict)
    }
    return replace(new, **kinds)


def _kept_records(old: dict[str, T], new: dict[str, T]) -> dict[str, T]:
    kept = {key: known if (known := old.get(key)) == record else record for key, record in new.items()}
    same = len(kept) == len(old) and all(old.get(key) is record for key, record in kept.items())
    return old if same else kept
