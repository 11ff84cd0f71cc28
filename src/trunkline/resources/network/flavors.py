"""Flavors of routers: choices that an operator makes once, and that a router names."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from trunkline.resources.network import parts
from trunkline.resources.schema import Check, Resource, computed, fixed, resource, settable
from trunkline.resources.types import Description, Name


class RouterChoices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the `metainfo` of a profile says, as JSON: fields of routers that are made with it."""

    ha: bool | UnsetType = UNSET
    distributed: bool | UnsetType = UNSET
    availability_zone_hints: list[str] | UnsetType = UNSET


def choices(text: str) -> RouterChoices:
    """Reads the `metainfo` of a profile; "" chooses nothing.

    Raises:
        ValueError: it says what no router has.
    """
    try:
        found = msgspec.json.decode(text or "{}", type=RouterChoices)
    except msgspec.MsgspecError as error:
        raise ValueError(
            f"it is a JSON object of ha, distributed and availability_zone_hints: {error}."
        ) from None
    if found.availability_zone_hints is not UNSET:
        parts.zones(found.availability_zone_hints)
    return found


def metainfo(text: str) -> str:
    """The check of `metainfo`."""
    choices(text)
    return text


@resource(kind="service_profile", plural="service_profiles", service="network")
class ServiceProfile(Resource, kw_only=True):
    """Fields of routers, for flavors to name."""

    #: A text for people.
    description: Annotated[Description, settable()] = ""
    #: Who makes them true: there is one.
    driver: Annotated[Literal["", "ovn"], settable()] = ""
    #: The fields, as a JSON object: `ha`, `distributed`, `availability_zone_hints`.
    metainfo: Annotated[Annotated[str, Meta(max_length=4096)], settable(), Check(metainfo)] = ""
    #: Whether flavors use it.
    enabled: Annotated[bool, settable()] = True


@resource(kind="network_flavor", plural="flavors", service="network")
class Flavor(Resource, kw_only=True):
    """What routers are made like: as the first of its profiles says that is enabled."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: A text for people.
    description: Annotated[Description, settable()] = ""
    #: What it is for.
    service_type: Annotated[Literal["L3_ROUTER_NAT"], fixed(required=True)] = "L3_ROUTER_NAT"
    #: Whether new routers may name it.
    enabled: Annotated[bool, settable()] = True
    #: Its profiles, in order.
    service_profiles: Annotated[list[str], computed(filter=False, sort=False)] = []
