"""A policy as words between units carry it: made once, passed on as it is, and read where it is done."""

from __future__ import annotations

from typing import Any

import msgspec

from trunkline.compiler.rule_tables import heard
from trunkline.compiler.unit_slices import RuleTables
from trunkline.resources.appliance_policy import Policy, parse


def said(document: dict[str, Any]) -> msgspec.Raw:
    """A document as words carry it."""
    return msgspec.Raw(msgspec.msgpack.encode(document))


def read(document: msgspec.Raw, tables: bytes) -> tuple[Policy, RuleTables | None]:
    """The policy that a word carries, and its rules' tables, where they came with it.

    They came from whoever checked the rules: that is not done again.

    Raises:
        BadField: as `appliance_policy.parse`.
    """
    found = heard(tables)
    return parse(msgspec.msgpack.decode(document), rules_checked=found is not None), found
