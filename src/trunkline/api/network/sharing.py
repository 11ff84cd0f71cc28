"""Who sees what of another's: the queries over RBAC policies.

An object of a kind that can be shared has a field `shared`, which is stored: whether every project may
use it. A caller is shown more: whether its own project may. Both are one look into an index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, not_, or_, select

from trunkline.api.context import Context
from trunkline.api.network.filters import boolean
from trunkline.api.query import Filter
from trunkline.resources.network import ACCESS_AS_EXTERNAL, ACCESS_AS_SHARED, ANYONE, RbacPolicy
from trunkline.resources.schema import Resource, spec_of
from trunkline.store import Reader, table_of

#: Of so many objects each is looked up by itself.
FEW = 8

Visible = Callable[[Context], list[ColumnElement[bool]]]


def granted(cls: type[Resource], project_id: str, *actions: str) -> Select[Any]:
    """The ids of what a project may use of a kind: by any of the actions, or by any at all."""
    policies = table_of(RbacPolicy).c
    targets = [ANYONE, project_id] if project_id else [ANYONE]
    ids = select(policies.object_id).where(
        policies.target_tenant.in_(targets), policies.object_type == spec_of(cls).kind
    )
    return ids.where(policies.action.in_(actions)) if actions else ids


def visible(cls: type[Resource]) -> Visible:
    """What a caller sees of a kind: what is its project's, and what is shared with it."""

    def clauses(context: Context) -> list[ColumnElement[bool]]:
        if context.is_admin:
            return []
        table = table_of(cls)
        shared = table.c.id.in_(granted(cls, context.project_id))
        return [or_(table.c.project_id == context.project_id, shared)]

    return clauses


def sees(reader: Reader, context: Context, obj: Any) -> bool:
    """As `visible`, of one object that is not the caller's own."""
    if context.is_admin:
        return True
    kind, targets = spec_of(type(obj)).kind, [ANYONE, context.project_id]
    return any(
        reader.first(RbacPolicy, target_tenant=target, object_type=kind, action=action, object_id=obj.id)
        for target in targets
        if target
        for action in (ACCESS_AS_SHARED, ACCESS_AS_EXTERNAL)
    )


def is_shared_with(reader: Reader, obj: Any, project_id: str) -> bool:
    """Whether a project that does not own an object may use it as its own."""
    return bool(obj.shared) or is_named(reader, obj, project_id)


def is_named(reader: Reader, obj: Any, project_id: str) -> bool:
    """Whether the owner of an object shares it with this very project, and not only with everybody."""
    if not project_id:
        return False
    held = reader.first(
        RbacPolicy,
        target_tenant=project_id,
        object_type=spec_of(type(obj)).kind,
        action=ACCESS_AS_SHARED,
        object_id=obj.id,
    )
    return held is not None


def shown(reader: Reader, context: Context, objects: Sequence[Any]) -> list[Mapping[str, Any]]:
    """The field `shared` of each object, as the caller's project has it."""
    if len(objects) <= FEW:
        return [{"shared": is_shared_with(reader, obj, context.project_id)} for obj in objects]
    with_caller = _shared_with_caller(reader, context, type(objects[0]))
    return [{"shared": obj.shared or obj.id in with_caller} for obj in objects]


def _shared_with_caller(reader: Reader, context: Context, cls: type[Resource]) -> set[str]:
    if not context.project_id:
        return set()
    kind = spec_of(cls).kind
    held = reader.find(
        RbacPolicy, target_tenant=context.project_id, object_type=kind, action=ACCESS_AS_SHARED
    )
    return {policy.object_id for policy in held}


def filter_of(cls: type[Resource], context: Context, column: ColumnElement[Any]) -> Filter:
    """The filter `shared`: by whether the object whose id is in a column is shared with the caller."""

    def clause(values: Sequence[str]) -> ColumnElement[bool]:
        wanted = {boolean("shared", value) for value in values}
        found = column.in_(granted(cls, context.project_id, ACCESS_AS_SHARED))
        return or_(*(found if each else not_(found) for each in wanted))

    return clause
