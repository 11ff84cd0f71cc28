"""Which endpoints a path means: a tree by the parts of paths.

    /v2.0/ports/{id}/tags      v2.0 ── ports ── {id} ── tags
    /v2.0/ports/{id}                              `──── the endpoints of one port

A part that is written out goes before a parameter; a parameter is a whole part, and never empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from trunkline.api.http import Endpoint

#: Endpoints by method.
Methods = Mapping[str, Endpoint]


class Paths:
    """Finds endpoints by path. Immutable."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._root = _Node()
        for endpoint in endpoints:
            node = self._root
            for part in endpoint.path.removeprefix("/").split("/"):
                children = node.parameters if part.startswith("{") else node.literals
                node = children.setdefault(part.strip("{}"), _Node())
            known = node.methods.setdefault(endpoint.method, endpoint)
            assert known is endpoint, f"{endpoint.method} {endpoint.path} is declared twice"

    def find(self, path: str) -> Iterator[tuple[Methods, dict[str, str]]]:
        """What a path can mean, the most exact first: endpoints, and the values of its parameters."""
        return self._root.find(path.removeprefix("/").split("/"), 0, {})


class _Node:
    __slots__ = ("literals", "methods", "parameters")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        #: By the name of the parameter.
        self.parameters: dict[str, _Node] = {}
        self.methods: dict[str, Endpoint] = {}

    def find(
        self, parts: list[str], at: int, values: dict[str, str]
    ) -> Iterator[tuple[Methods, dict[str, str]]]:
        if at == len(parts):
            if self.methods:
                yield self.methods, values
            return
        part = parts[at]
        if (child := self.literals.get(part)) is not None:
            yield from child.find(parts, at + 1, values)
        if part:
            for name, child in self.parameters.items():
                yield from child.find(parts, at + 1, {**values, name: part})
