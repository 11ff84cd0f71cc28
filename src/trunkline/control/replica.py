"""Keeps a snapshot of the whole store up to date by its change feed."""

from __future__ import annotations

from trunkline.compiler.snapshot import Snapshot
from trunkline.persistent import changed_map
from trunkline.resources.schema import Resource, Spec, spec_of, specs
from trunkline.store import Reader, Store

#: The services whose resources are compiled.
COMPILED = frozenset({"network", "compute", "image", "region", "appliance"})


class Replica:
    """Owns the newest snapshot. `refresh` reads what has changed since, or everything.

    A snapshot that was handed out is never changed: the classes in which something has changed have other
    maps.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._snapshot: Snapshot | None = None

    def refresh(self) -> Snapshot:
        """The newest snapshot. Reads the database: call it in a thread."""
        with self._store.read() as reader:
            revision = reader.revision
            if self._snapshot is None:
                self._snapshot = _whole(reader, revision)
            elif revision > self._snapshot.revision:
                self._snapshot = _advanced(reader, self._snapshot, revision)
        return self._snapshot

    def forget(self) -> None:
        """Makes the next refresh read everything."""
        self._snapshot = None


def _compiled() -> list[Spec]:
    return [spec for spec in specs().values() if spec.service in COMPILED]


def _whole(reader: Reader, revision: int) -> Snapshot:
    objects = {spec.cls: {o.id: o for o in reader.select(spec.cls)} for spec in _compiled()}
    return Snapshot(revision=revision, intent=revision, objects=objects)


def _advanced(reader: Reader, old: Snapshot, revision: int) -> Snapshot:
    changes = reader.changes(old.revision)
    if changes is None:
        return _whole(reader, revision)
    intent = old.intent
    touched: dict[type[Resource], set[str]] = {}
    wanted: dict[type[Resource], set[str]] = {}
    for change in changes:
        spec = spec_of(change.kind)
        if spec.service in COMPILED:
            touched.setdefault(spec.cls, set()).add(change.id)
            if change.op != "observe":
                wanted.setdefault(spec.cls, set()).add(change.id)
                intent = max(intent, change.revision)
    objects = dict(old.objects)
    for cls, ids in touched.items():
        found = {obj.id: obj for obj in reader.get_all(cls, ids)}
        objects[cls] = changed_map(objects.get(cls, {}), found, ids - found.keys())
    return Snapshot(
        revision=revision, intent=intent, objects=objects, since=old.revision, touched=touched, changed=wanted
    )
