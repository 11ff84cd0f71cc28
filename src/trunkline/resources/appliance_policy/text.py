"""A policy as people write it: YAML, of which JSON is a part. What is wrong is told with its line.

source = read(path.read_text(), path.name)
try:
    policy = parse(source.document)
except BadField as error:
    raise source.located(error) from None       # policy.yaml, line 12: firewall.rules[3].action: ...
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from trunkline.errors import BadField, BadRequest

#: Characters; 10,000 rules are two million.
_LONGEST = 16 << 20
_DEEPEST, _MOST = 20, 2_000_000
_LAST_STEP = re.compile(r"(\.[^.\[\]]+|\[\d+\])$")


class Misread(BadRequest):
    """A text that says no policy, or a wrong one: `line` (from 1) of `file` is where."""

    def __init__(self, file: str, line: int, field: str, problem: str) -> None:
        super().__init__(f"{file}, line {line}: {f'{field}: ' if field else ''}{problem}", field=field)
        self.file, self.line = file, line


@dataclass(frozen=True)
class Source:
    """A text, and where in it each part of its document stands."""

    document: dict[str, Any]
    file: str
    #: Lines, from 1, by path; the document's own is "".
    lines: dict[str, int]

    def located(self, error: BadField) -> Misread:
        """The error, with the line of its field, or of what should have it."""
        path = error.field
        while path not in self.lines and (step := _LAST_STEP.search(path)):
            path = path[: step.start()]
        problem = error.message.removeprefix(f"Invalid input for {error.field}: ")
        return Misread(self.file, self.lines.get(path, 1), error.field, problem)


def read(text: str, file: str) -> Source:
    """The document of a text.

    Raises:
        Misread: it is not YAML, or no mapping, or says something twice.
    """
    if len(text) > _LONGEST:
        raise Misread(file, 1, "", f"it has {len(text)} characters; {_LONGEST} are the most.")
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Misread(
            file, mark.line + 1 if mark else 1, "", f"it is not YAML: {error.problem or error.context}."
        ) from None
    except yaml.YAMLError as error:
        raise Misread(file, 1, "", f"it is not YAML: {' '.join(str(error).split())}.") from None
    lines: dict[str, int] = {}
    document = {} if node is None else _built(node, "", file, lines, 0)
    if not isinstance(document, dict):
        raise Misread(file, 1, "", "it is no mapping. Begin with firewall:, nat: or balancer:.")
    return Source(document, file, lines)


def _built(node: yaml.Node, path: str, file: str, lines: dict[str, int], depth: int) -> Any:
    """What a node says, in types of JSON."""
    if depth > _DEEPEST or len(lines) > _MOST:
        raise Misread(file, node.start_mark.line + 1, path, "it is too deep or too much, or part of itself.")
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = _scalar(key) if isinstance(key, yaml.ScalarNode) else None
            at = f"{path}.{name}" if path else str(name)
            if not isinstance(name, str):
                raise Misread(file, key.start_mark.line + 1, at, "a name has to be text. Write it in quotes.")
            if name in found:
                raise Misread(
                    file,
                    key.start_mark.line + 1,
                    at,
                    f"it is in line {lines[at]} too. Leave one of them out.",
                )
            found[name] = _built(value, at, file, lines, depth + 1)
            lines[at] = key.start_mark.line + 1
        return found
    if isinstance(node, yaml.SequenceNode):
        return [
            _built(each, f"{path}[{number}]", file, lines, depth + 1)
            for number, each in enumerate(node.value)
        ]
    assert isinstance(node, yaml.ScalarNode)
    return _scalar(node)


def _scalar(node: yaml.ScalarNode) -> Any:
    """The value of a scalar, by its tag; what JSON has no type for (dates) is the text that stands there."""
    kind = node.tag.rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool":
        return node.value.lower() in ("true", "yes", "on")
    try:
        if kind == "int":
            return int(node.value.replace("_", ""), 0)
        return float(node.value) if kind == "float" else node.value
    except ValueError:
        return node.value
