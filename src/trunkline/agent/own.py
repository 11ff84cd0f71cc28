"""The network namespaces that this agent has made: remembered in files, so that it removes no others."""

from __future__ import annotations

from pathlib import Path

from trunkline.devices import namespace


class OwnNamespaces:
    """Namespaces of one kind. Several agents of a lab share the machine's list of them.

    Owns FOLDER, with one empty file a namespace, which is there before the namespace is and goes after it.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        """Those whose names begin with `prefix`, remembered in `folder`."""
        self._folder = folder
        self._prefix = prefix

    def name(self, id: str) -> str:
        """The name of the namespace for a resource: the prefix and 8 hexadecimal digits of its id."""
        return self._prefix + id.replace("-", "")[:8]

    def all(self) -> set[str]:
        """The names of all that this agent made and has not removed."""
        try:
            return {file.name for file in self._folder.iterdir() if file.name.startswith(self._prefix)}
        except FileNotFoundError:
            return set()

    def make(self, name: str) -> None:
        """Makes it, unless it is there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / name).touch()
        namespace.create(name)

    def remove(self, name: str) -> None:
        """Removes it, unless it is gone."""
        namespace.delete(name)
        (self._folder / name).unlink(missing_ok=True)
