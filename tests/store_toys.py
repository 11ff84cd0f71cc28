"""Kinds of resource for the tests of the store, and of no API."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from trunkline.resources import schema
from trunkline.resources.schema import Resource, Spec, computed, hidden, resource, settable

C = TypeVar("C", bound=type[Resource])


def toy(kind: str, **more: Any) -> Callable[[C], C]:
    """Declares a kind that is not among those of the cloud, so that no other test meets it."""

    def declare(cls: C) -> C:
        resource(kind=kind, plural=f"{kind}s", service="toy", **more)(cls)
        schema._SPECS.pop(kind)
        return cls

    return declare


def specs_of(*classes: type[Resource]) -> list[Spec]:
    return [schema.spec_of(cls) for cls in classes]


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Part(msgspec.Struct, frozen=True):
    name: str
    size: int = 0


@toy("toy_every", unique=(("project_id", "name"), ("number",)))
class Every(Resource):
    """A field of every sort."""

    name: Annotated[str, settable()] = ""
    project_id: Annotated[str, settable()] = ""
    text: Annotated[str | None, settable()] = None
    number: Annotated[int | None, settable()] = None
    ratio: Annotated[float, settable()] = 0.0
    flag: Annotated[bool, settable()] = False
    maybe: Annotated[bool | None, settable()] = None
    choice: Annotated[Literal["up", "down"], settable()] = "up"
    version: Annotated[Literal[4, 6], settable()] = 4
    either: Annotated[str | int | None, settable()] = None
    colour: Annotated[Colour, settable()] = Colour.RED
    tags: Annotated[list[str], settable()] = []
    pair: Annotated[tuple[int, str] | None, settable()] = None
    parts: Annotated[list[Part], settable()] = []
    options: Annotated[dict[str, Any], settable()] = {}
    counts: Annotated[dict[int, int], settable()] = {}
    anything: Annotated[Any, settable()] = None
    secret: Annotated[str, hidden()] = ""
    parent: Annotated[str | None, settable(refers="toy_every")] = None
    wired: Annotated[str, computed(index=True)] = msgspec.field(name="toy:wired", default="")


@toy("toy_order", unique=(("name",), ("token",)))
class Order(Resource):
    """A kind with few fields, one of them hidden and one with a name that SQL reserves."""

    name: Annotated[str | None, settable()] = None
    group: Annotated[str, settable()] = ""
    status: Annotated[str, computed()] = "DOWN"
    token: Annotated[str | None, hidden()] = None


TOYS = specs_of(Every, Order)
