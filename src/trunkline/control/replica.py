"""Keeps a snapshot of the whole store up to date by its change feed."""

from __future__ import annotations

from collections.abc import Iterable

from trunkline.compiler.snapshot import Snapshot
from trunkline.persistent import changed_map
from trunkline.resources.schema import Resource, Spec, spec_of, specs
from trunkline.store import Reader, Store, Written

#: The services whose resources are compiled.
COMPILED = frozenset({"network", "compute", "image", "region", "appliance"})
#: Kinds of theirs that nothing follows from.
_ASIDE = frozenset({"appliance_event"})


class Replica:
    """Owns the newest snapshot. `refresh` takes what was changed since, or reads it, or everything.

    A snapshot that was handed out is never changed: the classes in which something has changed have other
    maps.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._snapshot: Snapshot | None = None

    def refresh(self) -> Snapshot:
        """The newest snapshot. May read the database: call it in a thread."""
        old = self._snapshot
        recent = None if old is None else self._store.recent(old.revision)
        if old is None or recent is None:
            with self._store.read() as reader:
                written = None if old is None else _read(reader, old.revision)
                if old is None or written is None:
                    self._snapshot = _whole(reader)
                else:
                    self._snapshot = _advanced(old, reader.revision, written)
        else:
            self._snapshot = _advanced(old, *recent)
        return self._snapshot

    def forget(self) -> None:
        """Makes the next refresh read everything."""
        self._snapshot = None


def _compiled() -> list[Spec]:
    return [spec for spec in specs().values() if _is_compiled(spec)]


def _is_compiled(spec: Spec) -> bool:
    return spec.service in COMPILED and spec.kind not in _ASIDE


def _whole(reader: Reader) -> Snapshot:
    objects = {spec.cls: {o.id: o for o in reader.select(spec.cls)} for spec in _compiled()}
    return Snapshot(revision=reader.revision, intent=reader.revision, objects=objects)


def _read(reader: Reader, after: int) -> list[Written] | None:
    """What was changed after a revision, as it is now; None where that cannot be told."""
    changes = reader.changes(after)
    if changes is None:
        return None
    ids: dict[type[Resource], set[str]] = {}
    for change in changes:
        ids.setdefault(spec_of(change.kind).cls, set()).add(change.id)
    now = {cls: {one.id: one for one in reader.get_all(cls, some)} for cls, some in ids.items()}
    return [Written(change, now[spec_of(change.kind).cls].get(change.id)) for change in changes]


def _advanced(old: Snapshot, revision: int, written: Iterable[Written]) -> Snapshot:
    if revision == old.revision:
        return old
    intent = old.intent
    touched: dict[type[Resource], dict[str, Resource | None]] = {}
    wanted: dict[type[Resource], set[str]] = {}
    for change, resource in written:
        spec = spec_of(change.kind)
        if _is_compiled(spec):
            touched.setdefault(spec.cls, {})[change.id] = resource
            if change.op != "observe":
                wanted.setdefault(spec.cls, set()).add(change.id)
                intent = max(intent, change.revision)
    objects = dict(old.objects)
    for cls, now in touched.items():
        come = {id: one for id, one in now.items() if one is not None}
        objects[cls] = changed_map(objects.get(cls, {}), come, now.keys() - come.keys())
    return Snapshot(
        revision=revision, intent=intent, objects=objects, since=old.revision, touched=touched, changed=wanted
    )
