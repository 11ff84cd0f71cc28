"""What is derived from a resource's class: its inputs, its refusals, its documents."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from trunkline.errors import BadField, BadRequest
from trunkline.resources.schema import Resource, computed, convert, fixed, resource, settable, spec_of
from trunkline.resources.types import Cidr, IpAddress, MacAddress


class Address(msgspec.Struct, forbid_unknown_fields=True):
    subnet_id: str | None = None
    ip_address: str | None = None


@resource(kind="toy_schema", plural="toy_schemas", service="toy")
class Toy(Resource, kw_only=True):
    """A resource with a field of every sort."""

    #: A short name.
    name: Annotated[str, Meta(max_length=5), settable()] = ""
    #: A prefix, in its normal form.
    prefix: Annotated[Cidr, fixed(required=True)]
    mac: Annotated[MacAddress | None, settable()] = None
    gateway: Annotated[IpAddress | None, settable()] = None
    size: Annotated[int, settable()] = 0
    outside: Annotated[bool, settable()] = msgspec.field(default=False, name="router:external")
    addresses: Annotated[list[Address], settable()] = []
    seen: Annotated[str, computed()] = "never"


SPEC = spec_of("toy_schema")


def test_what_is_given_is_what_comes_back_in_normal_form() -> None:
    given = SPEC.parse_create(
        {"prefix": "10.0.0.7/24", "mac": "FA-16-3E-00-00-01", "gateway": "2001:DB8::0:1"}
    )
    assert given == {"prefix": "10.0.0.0/24", "mac": "fa:16:3e:00:00:01", "gateway": "2001:db8::1"}


def test_lax_input_takes_text_for_booleans_and_numbers() -> None:
    assert SPEC.parse_update({"router:external": "true", "size": "12"}, lax=True) == {
        "outside": True,
        "size": 12,
    }


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prefix"),
        ({"prefix": None}, "prefix"),
        ({"prefix": "10.0.0.0/33"}, "prefix"),
        ({"prefix": "10.0.0.0/24", "name": "longer"}, "name"),
        ({"prefix": "10.0.0.0/24", "name": "a\x00"}, "name"),
        ({"prefix": "10.0.0.0/24", "name": "\ud800"}, "name"),
        ({"prefix": "10.0.0.0/24", "size": 2**63}, "size"),
        ({"prefix": "10.0.0.0/24", "size": "12"}, "size"),
        ({"prefix": "10.0.0.0/24", "mac": "01:00:5e:00:00:01"}, "mac"),
        ({"prefix": "10.0.0.0/24", "gateway": "fe80::1%eth0"}, "gateway"),
        ({"prefix": "10.0.0.0/24", "router:external": 3}, "router:external"),
        ({"prefix": "10.0.0.0/24", "outside": True}, "outside"),
        ({"prefix": "10.0.0.0/24", "seen": "now"}, "seen"),
        ({"prefix": "10.0.0.0/24", "addresses": [{"subnet_id": 1}]}, "addresses[0].subnet_id"),
        ({"prefix": "10.0.0.0/24", "addresses": [{}, {"x": 1}]}, "addresses[1].x"),
        ({"prefix": "10.0.0.0/24", "addresses": [{"subnet_id": "\x00"}]}, "addresses[0].subnet_id"),
    ],
)
def test_a_wrong_field_is_named(body: object, field: str) -> None:
    with pytest.raises(BadField) as refused:
        SPEC.parse_create(body)
    assert refused.value.field == field
    assert field in refused.value.message


@pytest.mark.parametrize("body", [[], "text", None, 7])
def test_a_body_that_is_no_object_is_refused(body: object) -> None:
    with pytest.raises(BadRequest):
        SPEC.parse_create(body)


def test_a_field_that_cannot_be_changed_is_refused_on_update() -> None:
    with pytest.raises(BadField, match="cannot be set here"):
        SPEC.parse_update({"prefix": "10.0.0.0/24"})


def test_the_text_above_a_field_is_its_document() -> None:
    assert SPEC.field_docs["prefix"] == "A prefix, in its normal form."


def test_a_shape_that_is_no_resource_names_what_is_missing() -> None:
    class Wanted(msgspec.Struct):
        user: str

    with pytest.raises(BadField, match="user"):
        convert({}, Wanted, what="the request")
