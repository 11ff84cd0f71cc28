"""A snapshot: all resources at one revision, as the compiler sees them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

from trunkline.resources.schema import Resource

R = TypeVar("R", bound=Resource)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Resources by class and id. Nobody changes one."""

    revision: int = 0
    #: The newest revision that changed what is wanted, not only what was seen.
    intent: int = 0
    objects: Mapping[type[Resource], Mapping[str, Resource]] = field(default_factory=dict)
    #: The ids of what changed since the snapshot of this revision, by class: everything, and what is not only
    #: seen. None: not known.
    since: int = 0
    touched: Mapping[type[Resource], Collection[str]] | None = None
    changed: Mapping[type[Resource], Collection[str]] | None = None

    def all(self, cls: type[R]) -> Mapping[str, R]:
        """Every resource of a class, by id."""
        return cast("Mapping[str, R]", self.objects.get(cls, {}))

    def get(self, cls: type[R], id: str | None) -> R | None:
        """The resource of an id, or None."""
        return None if not id else self.all(cls).get(id)
