"""How a resource is declared: one typed class, whose fields carry flags.

A resource is a `msgspec.Struct`. What a field is allowed to be stands in its annotation:

    @resource(kind="subnet", plural="subnets", service="network", quota=100)
    class Subnet(Standard, kw_only=True):
        #: The address range, in CIDR notation.
        cidr: Annotated[CIDR, fixed(required=True)]
        #: Whether addresses are handed out by DHCP.
        enable_dhcp: Annotated[bool, settable()] = True

Everything else is derived from the `Spec` of the class: request validation (here), tables
(`store.tables`), filters and sorting (`api.query`), access rules by field (`api.engine`), the
OpenAPI document and the reference.

A field has three names at most: the attribute (`external`), which is the column too; and the wire
name, given by ``msgspec.field(name="router:external")`` where it differs.
"""

from __future__ import annotations

import inspect
import linecache
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, Struct, UnsetType

from trunkline.errors import BadField, BadRequest

R = TypeVar("R", bound="Resource")


@dataclass(frozen=True, slots=True)
class Flags:
    """What may be done with a field over the API."""

    #: A client may give it when it creates the resource.
    create: bool = False
    #: A client may change it.
    update: bool = False
    #: A client must give it on create.
    required: bool = False
    #: It is shown. A hidden field is stored and never leaves.
    shown: bool = True
    #: It is written by observation (`Tx.observe`): no revision is spent on it.
    observed: bool = False
    #: It is shown to those alone whom the rule ``get_<kind>:<wire name>`` allows.
    guarded_read: bool = False
    #: It is set by those alone whom ``create_<kind>:<wire name>`` (or update_) allows.
    guarded_write: bool = False
    #: A list can be filtered by it.
    filter: bool = True
    #: A list can be sorted by it (never where it is stored as JSON).
    sort: bool = True
    #: An index is kept on its column.
    index: bool = False
    #: The kind of resource whose id it holds.
    refers: str = ""
    #: The alias in discovery that this field belongs to.
    alias: str = ""
    #: It is a number that the dialect shows as text, as its API has it.
    as_text: bool = False


def settable(**flags: Any) -> Flags:
    """A field that clients give and change."""
    return Flags(create=True, update=True, **flags)


def fixed(**flags: Any) -> Flags:
    """A field that clients give on create, and that then stays."""
    return Flags(create=True, **flags)


def changeable(**flags: Any) -> Flags:
    """A field that clients change, and cannot give on create."""
    return Flags(update=True, **flags)


def computed(**flags: Any) -> Flags:
    """A field that the cloud fills in."""
    return Flags(**flags)


def observed(**flags: Any) -> Flags:
    """A field that says what was seen in the world."""
    return Flags(observed=True, **flags)


def hidden(**flags: Any) -> Flags:
    """A field that is stored and never shown."""
    return Flags(shown=False, filter=False, sort=False, **flags)


@dataclass(frozen=True, slots=True)
class Check:
    """A check in a field's annotation: takes the value, returns its normal form, or raises ValueError.

    On an optional field it is not called with None; on a list it is called with the list.
    """

    function: Callable[[Any], Any]


class Resource(Struct, kw_only=True):
    """What every resource has: an id, by which it is referred to."""

    #: The id of the resource.
    id: Annotated[str, computed()] = ""


@dataclass(frozen=True)
class FieldSpec:
    """One field of a resource."""

    #: The attribute's name, and the column's.
    name: str
    #: The name in requests and responses.
    wire: str
    #: The annotation, with its constraints.
    annotation: Any
    flags: Flags
    checks: tuple[Check, ...]
    #: Whether None is a value of it.
    nullable: bool
    #: The type without None: str, int, bool, float, or anything else (stored as JSON).
    base: Any
    #: The values it may have, where they are few and named one by one.
    choices: tuple[Any, ...] = ()

    @property
    def scalar(self) -> bool:
        """Whether it is one value (and so a plain column), not a list or an object."""
        return self.base in (str, int, bool, float)

    def clean(self, value: Any) -> Any:
        """Applies the checks to a value of the right type.

        Raises:
            BadField: the value is refused.
        """
        if value is not None:
            for check in self.checks:
                try:
                    value = check.function(value)
                except ValueError as error:
                    raise BadField(self.wire, str(error)) from None
        return value


@dataclass(frozen=True)
class Spec:
    """All that is known of one kind of resource, derived from its class."""

    cls: type[Resource]
    #: The singular, in snake case: in access rules, in the envelope, and as the table's name.
    kind: str
    #: The plural: in paths and in the envelope of lists.
    plural: str
    #: identity, network, compute, image, appliance, or "" for what has no API of its own.
    service: str
    #: The default limit of a project, -1 for no limit, None where it is not counted.
    quota: int | None
    #: What must be unique together, by attribute names.
    unique: tuple[tuple[str, ...], ...]
    fields: Mapping[str, FieldSpec]
    doc: str = field(default="", compare=False)

    @cached_property
    def by_wire(self) -> Mapping[str, FieldSpec]:
        """The fields by their wire names."""
        return {f.wire: f for f in self.fields.values()}

    @cached_property
    def scalars(self) -> tuple[tuple[str, str], ...]:
        """Attribute and wire name of the fields that are one value."""
        return tuple((f.name, f.wire) for f in self.fields.values() if f.scalar)

    @cached_property
    def create_input(self) -> type[Struct]:
        """The body of a create request, a struct whose fields are all optional but typed."""
        return _input(self, "Create", [f for f in self.fields.values() if f.flags.create])

    @cached_property
    def update_input(self) -> type[Struct]:
        """The body of an update request."""
        return _input(self, "Update", [f for f in self.fields.values() if f.flags.update])

    @cached_property
    def field_docs(self) -> Mapping[str, str]:
        """Attribute name to the text of its ``#:`` lines."""
        docs: dict[str, str] = {}
        for cls in reversed(self.cls.__mro__):
            if isinstance(cls, type) and issubclass(cls, Resource):
                docs.update(_comments(cls))
        return docs

    def parse_create(self, body: Any, *, lax: bool = False) -> dict[str, Any]:
        """Validates the body of a create request.

        Args:
            body: the decoded JSON inside the envelope.
            lax: accept "true" for true and "12" for 12, as the network API does.
        Returns: attribute name to value, of what was given and no more.
        Raises:
            BadField, BadRequest: with the field named.
        """
        given = self._parse(self.create_input, body, lax)
        for f in self.fields.values():
            if f.flags.required and f.name not in given:
                raise BadField(f.wire, "it is required.")
        return given

    def parse_update(self, body: Any, *, lax: bool = False) -> dict[str, Any]:
        """Validates the body of an update request; as `parse_create`, with nothing required."""
        return self._parse(self.update_input, body, lax)

    def _parse(self, shape: type[Struct], body: Any, lax: bool) -> dict[str, Any]:
        given = convert(body, shape, what=self.kind, lax=lax, known=self.by_wire)
        values: dict[str, Any] = {}
        for name in shape.__struct_fields__:
            value = getattr(given, name)
            if value is not UNSET:
                values[name] = self.fields[name].clean(value)
        return values


_SPECS: dict[str, Spec] = {}
_BY_CLASS: dict[type, Spec] = {}


def resource(
    *,
    kind: str,
    plural: str,
    service: str,
    quota: int | None = None,
    unique: tuple[tuple[str, ...], ...] = (),
) -> Callable[[type[R]], type[R]]:
    """Registers a class as a kind of resource; see `Spec` for the arguments."""

    def register(cls: type[R]) -> type[R]:
        assert kind not in _SPECS, f"kind {kind} is declared twice"
        spec = Spec(
            cls=cls,
            kind=kind,
            plural=plural,
            service=service,
            quota=quota,
            unique=unique,
            fields=dict(_fields(cls)),
            doc=inspect.getdoc(cls) or "",
        )
        _SPECS[kind] = spec
        _BY_CLASS[cls] = spec
        return cls

    return register


def spec_of(what: str | type[Resource]) -> Spec:
    """The spec of a kind, or of a resource class."""
    return _SPECS[what] if isinstance(what, str) else _BY_CLASS[what]


def specs() -> Mapping[str, Spec]:
    """All kinds that are declared, by name, in the order of declaration."""
    return _SPECS


def convert(
    body: Any,
    shape: Any,
    *,
    what: str = "request",
    lax: bool = False,
    known: Mapping[str, FieldSpec] | None = None,
) -> Any:
    """Converts decoded JSON to a typed shape.

    Raises:
        BadField: names the field by its wire path.
        BadRequest: the body is no object at all.
    """
    if not isinstance(body, Mapping):
        raise BadRequest(f"The body of {what} must be a JSON object.")
    refuse_unstorable(body)
    try:
        return msgspec.convert(body, shape, strict=not lax)
    except msgspec.ValidationError as error:
        raise explain(error, what, known) from None


_PATH = re.compile(r"^(?P<problem>.*?)(?: - at `(?P<path>.*)`)?$", re.S)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.S)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`", re.S)


def explain(
    error: msgspec.ValidationError, what: str, known: Mapping[str, FieldSpec] | None = None
) -> BadField:
    """Turns msgspec's message into one that names the field and the remedy."""
    match = _PATH.match(str(error))
    assert match is not None
    problem, path = match["problem"], (match["path"] or "$")
    name = path.removeprefix("$").lstrip(".") or what
    for pattern, verdict in ((_UNKNOWN, "unknown"), (_MISSING, "missing")):
        found = pattern.match(problem)
        if found is None:
            continue
        inner = found["name"]
        name = inner if name == what else f"{name}.{inner}"
        if verdict == "missing":
            return BadField(name, "it is required.")
        if known is not None and inner in known:
            return BadField(name, f"it cannot be set here. Remove it from the request for {what}.")
        return BadField(name, f"Unrecognized attribute of {what}. Remove it, or check its spelling.")
    choices = known[name].choices if known is not None and name in known else ()
    if choices and problem.startswith("Invalid enum value"):
        return BadField(name, f"{problem.replace('`', chr(39))}. Use one of: {', '.join(map(str, choices))}.")
    return BadField(name, problem.replace("`", "'") + ".")


#: Levels of objects and lists in a request: every reader of what is stored can follow so many.
_DEEPEST = 64


def refuse_unstorable(value: Any, path: str = "", depth: int = 0) -> None:
    """Refuses what cannot be kept: NUL in text, lone surrogates, integers over 64 bits, endless nesting."""
    if isinstance(value, str):
        if "\x00" in value:
            raise BadField(path or "body", "it contains a NUL character. Remove it.")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise BadField(path or "body", "it contains a lone surrogate. Send valid UTF-8.") from None
    elif isinstance(value, bool):
        pass
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise BadField(path or "body", "the number is out of range (64 bits).")
    elif isinstance(value, Mapping | list):
        if depth > _DEEPEST:
            raise BadField(path, f"it is nested more than {_DEEPEST} levels deep.")
        if isinstance(value, list):
            for index, inner in enumerate(value):
                if not _is_plain(inner):
                    refuse_unstorable(inner, f"{path}[{index}]", depth + 1)
        else:
            for key, inner in value.items():
                if not _is_plain(key):
                    refuse_unstorable(key, f"{path}.{key}" if path else "name of a field")
                if not _is_plain(inner):
                    refuse_unstorable(inner, f"{path}.{key}" if path else str(key), depth + 1)


def _is_plain(value: Any) -> bool:
    """It is text that can be kept, as most of what comes is, of which there may be a hundred thousand."""
    return value.__class__ is str and value.isascii() and "\x00" not in value


def _fields(cls: type[Resource]) -> Iterator[tuple[str, FieldSpec]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    for info in msgspec.structs.fields(cls):
        annotation = hints[info.name]
        metadata: tuple[Any, ...] = ()
        inner = annotation
        while get_origin(inner) is Annotated:
            metadata = (*get_args(inner)[1:], *metadata)
            inner = get_args(inner)[0]
        nullable = False
        if get_origin(inner) in (Union, types.UnionType):
            options = [a for a in get_args(inner) if a is not type(None)]
            nullable = len(options) < len(get_args(inner))
            if len(options) == 1:
                inner = options[0]
                while get_origin(inner) is Annotated:
                    metadata = (*get_args(inner)[1:], *metadata)
                    inner = get_args(inner)[0]
        choices: tuple[Any, ...] = ()
        if get_origin(inner) is Literal:
            choices = get_args(inner)
            inner = type(choices[0])
        flags = [m for m in metadata if isinstance(m, Flags)]
        assert flags, f"{cls.__name__}.{info.name} has no flags"
        yield (
            info.name,
            FieldSpec(
                name=info.name,
                wire=info.encode_name,
                annotation=annotation,
                flags=flags[-1],
                checks=tuple(m for m in metadata if isinstance(m, Check)),
                nullable=nullable,
                base=inner,
                choices=choices,
            ),
        )


def _input(spec: Spec, verb: str, chosen: list[FieldSpec]) -> type[Struct]:
    return msgspec.defstruct(
        f"{spec.cls.__name__}{verb}",
        [(f.name, f.annotation | UnsetType if f.annotation else Any, UNSET) for f in chosen],
        rename={f.name: f.wire for f in chosen if f.name != f.wire} or None,
        kw_only=True,
        forbid_unknown_fields=True,
        module=spec.cls.__module__,
    )


_FIELD_LINE = re.compile(r"^    (\w+):")


def _comments(cls: type) -> dict[str, str]:
    docs: dict[str, str] = {}
    pending: list[str] = []
    # The class statement is looked for as text: `inspect.getsource` would parse the whole file.
    lines = linecache.getlines(inspect.getsourcefile(cls) or "")
    beginning = re.compile(rf"class {cls.__name__}\b")
    first = next((number for number, line in enumerate(lines) if beginning.match(line)), len(lines))
    for line in lines[first + 1 :]:
        if not line[0].isspace() and line[0] != ")":
            break
        text = line.strip()
        if text.startswith("#:"):
            pending.append(text[2:].strip())
            continue
        match = _FIELD_LINE.match(line)
        if match and pending:
            docs[match[1]] = " ".join(pending)
        pending = []
    return docs
