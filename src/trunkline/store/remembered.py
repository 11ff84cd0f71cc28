"""What was read, remembered for as long as it is so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from trunkline.resources.schema import Resource, spec_of
from trunkline.store.reader import Reader
from trunkline.store.store import Store

T = TypeVar("T")


class Remembered(Generic[T]):
    """What a function reads of some classes; read again only after a change of one of their resources.

    Args:
        read: may ask its reader for resources of these classes, and nothing else.
    """

    def __init__(self, store: Store, classes: Iterable[type[Resource]], read: Callable[[Reader], T]) -> None:
        self._store = store
        self._kinds = tuple(spec_of(cls).kind for cls in classes)
        self._read = read
        self._known: tuple[int, T] | None = None

    def get(self) -> T:
        """As of now: whatever was acknowledged before is in it. The same object while nothing has changed.

        Raises:
            Unavailable: as `Store.read`.
        """
        # What is read after this is as new as that, or newer.
        newest = self._store.newest(self._kinds)
        if self._known is None or self._known[0] != newest:
            with self._store.read() as reader:
                self._known = newest, self._read(reader)
        return self._known[1]
