"""The stages of a request, the same for every resource.

    parse -> authorise -> validate -> [in the transaction: refer -> quota -> plan] -> commit -> render

What a kind does beside this stands in its `Stages`: plain functions, named in `api.wiring`. They run
inside the transaction that commits the resource, so what they read is what will be true, and
whatever they refuse leaves nothing behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec
from sqlalchemy import ColumnElement

from trunkline.api import query as queries
from trunkline.api.context import Context
from trunkline.api.ids import new_id
from trunkline.errors import BadField, Forbidden, NotFound, OverQuota, Stale
from trunkline.resources.schema import Resource, Spec, spec_of, specs
from trunkline.store import Reader, Store, Tx, table_of

R = TypeVar("R", bound=Resource)
T = TypeVar("T")

#: What the names of a service's access rules begin with.
RULE_PREFIX = {"identity": "identity:", "compute": "os_compute_api:"}


class Authority(Protocol):
    """Decides by the access rules; `api.policy.Rules` is one."""

    def allows(self, name: str, credentials: Context, target: Mapping[str, Any]) -> bool:
        """Whether the rule holds. A rule that does not exist does not."""
        ...


class Call:
    """One request inside its transaction: what a stage works with."""

    def __init__(self, engine: Engine, context: Context, tx: Tx) -> None:
        self.engine = engine
        self.context = context
        self.tx = tx
        #: What the caller was found to see.
        self._seen: set[tuple[type[Resource], str]] = set()

    @cached_property
    def now(self) -> str:
        """The time of the transaction, in UTC: 2026-11-21T04:00:00Z."""
        return self.tx.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def allowed(self, rule: str, target: Mapping[str, Any]) -> bool:
        """Whether the caller may, by the access rule."""
        return self.engine.rules.allows(rule, self.context, target)

    def require(self, rule: str, target: Mapping[str, Any]) -> None:
        """Raises Forbidden where the caller may not."""
        self.engine.require(rule, self.context, target)

    def get(self, cls: type[R], id: str) -> R:
        """The object that the caller sees under this id.

        Raises:
            NotFound: there is none, or it is not visible.
        """
        if (cls, id) in self._seen and (known := self.tx.get(cls, id)) is not None:
            return known
        found = self.engine.get(self.tx, self.context, cls, id)
        self._seen.add((cls, id))
        return found

    def create(self, cls: type[R], values: Mapping[str, Any]) -> R:
        """Creates in the same transaction: every stage runs, as if the caller had asked for it."""
        return self.engine.insert(self, cls, values)

    def add(self, obj: R) -> R:
        """Stores a resource that the cloud makes for itself: no rules, no quota, no stages."""
        obj = self.engine.stamped(self, obj)
        self.tx.insert(obj)
        return obj

    def update(self, obj: R, values: Mapping[str, Any]) -> R:
        """Updates in the same transaction: every stage runs."""
        return self.engine.modify(self, obj, values)

    def save(self, obj: R) -> R:
        """Stores a change that the cloud makes by itself; a revision of the object is spent."""
        obj = self.engine.touched(self, obj)
        self.tx.replace(obj)
        return obj

    def delete(self, obj: Resource) -> None:
        """Deletes in the same transaction: every stage runs."""
        self.engine.remove(self, obj)

    def drop(self, obj: Resource) -> None:
        """Removes what the cloud made for itself, with its claims: no rules, no stages."""
        self.tx.delete(type(obj), obj.id)
        self.tx.release(obj.id)


@dataclass(frozen=True, kw_only=True)
class Stages(Generic[R]):
    """What one kind does beside the common stages. Every function may refuse by raising a Refusal."""

    #: (call, new object, names given) -> the object to store. Fills in all that is allocated.
    create: Callable[[Call, R, frozenset[str]], R] | None = None
    #: After the object is stored: what else must come with it.
    created: Callable[[Call, R], None] | None = None
    #: (call, old, new, names given) -> the object to store.
    update: Callable[[Call, R, R, frozenset[str]], R] | None = None
    #: Before it is deleted: refuses while in use, removes what goes with it.
    delete: Callable[[Call, R], None] | None = None
    #: What of the kind a caller sees, as clauses that must all hold. What its project owns is always among
    #: it. None: that alone.
    visible: Callable[[Context], list[ColumnElement[bool]]] | None = None
    #: Whether a caller sees one object, where that is told faster than by the clauses.
    sees: Callable[[Reader, Context, R], bool] | None = None
    #: Shown fields that are no fields of the class, one mapping an object, for all at once.
    view: Callable[[Reader, Context, Sequence[R]], Sequence[Mapping[str, Any]]] | None = None
    #: Filters of its own, by parameter name.
    filters: Mapping[str, queries.Filter] = field(default_factory=dict)
    #: Filters whose meaning depends on who asks.
    callers_filters: Callable[[Context], Mapping[str, queries.Filter]] | None = None
    #: What the access rules see of it beside its fields.
    target: Callable[[Reader, R], Mapping[str, Any]] | None = None
    #: Names of the access rules by verb (create, update, delete, get), where they are not <verb>_<kind>.
    rules: Mapping[str, str] = field(default_factory=dict)
    #: Makes ids.
    new_id: Callable[[], str] = new_id
    #: Accept "true" for true and "12" for 12 in requests.
    lax: bool = False
    #: What NotFound says.
    not_found: str = "{Kind} {id} could not be found."


PLAIN: Stages[Any] = Stages()


class Engine:
    """Carries out requests on resources. One a control process; holds no state but its parts.

    Args:
        store: where everything is kept.
        rules: the access rules.
        stages: by kind; a kind that is not there has none beside the common ones.
        limit: (reader, project id, spec) -> the quota of a project for a kind, -1 for none.
    """

    def __init__(
        self,
        store: Store,
        rules: Authority,
        stages: Mapping[str, Stages[Any]],
        limit: Callable[[Reader, str, Spec], int] | None = None,
    ) -> None:
        self.store = store
        self.rules = rules
        self.stages = stages
        self.limit = limit or (lambda reader, project, spec: -1 if spec.quota is None else spec.quota)

    # Requests: each a transaction or a snapshot of its own.

    async def create(self, context: Context, cls: type[R], body: Any) -> dict[str, Any]:
        """Creates one resource from a request body, and renders it."""
        return (await self.create_many(context, cls, [body]))[0]

    async def create_many(
        self, context: Context, cls: type[R], bodies: Sequence[Any]
    ) -> list[dict[str, Any]]:
        """Creates several, all or none."""
        spec, stages = spec_of(cls), self.stages_of(cls)
        values = [spec.parse_create(body, lax=stages.lax) for body in bodies]

        def run(call: Call) -> list[dict[str, Any]]:
            objects = [call.create(cls, v) for v in values]
            return self.render(call.tx, context, [call.tx.get(cls, o.id) or o for o in objects])

        return await self.write(context, run)

    async def update(
        self, context: Context, cls: type[R], id: str, body: Any, *, if_revision: int | None = None
    ) -> dict[str, Any]:
        """Changes one resource by a request body, and renders it.

        Raises:
            Stale: `if_revision` is not its revision number.
        """
        values = spec_of(cls).parse_update(body, lax=self.stages_of(cls).lax)

        def run(call: Call) -> dict[str, Any]:
            obj = call.get(cls, id)
            self.check_revision(obj, if_revision)
            call.update(obj, values)
            return self.render(call.tx, context, [call.tx.get(cls, id) or obj])[0]

        return await self.write(context, run)

    async def delete(
        self, context: Context, cls: type[R], id: str, *, if_revision: int | None = None
    ) -> None:
        """Deletes one resource."""

        def run(call: Call) -> None:
            obj = call.get(cls, id)
            self.check_revision(obj, if_revision)
            call.delete(obj)

        await self.write(context, run)

    async def show(
        self, context: Context, cls: type[R], id: str, *, fields: frozenset[str] = frozenset()
    ) -> dict[str, Any]:
        """One resource, rendered."""
        with self.store.read() as reader:
            return self.render(reader, context, [self.get(reader, context, cls, id)], fields)[0]

    async def page(self, context: Context, cls: type[R], query: queries.Query) -> queries.Page:
        """One page of the resources that the caller sees, rendered."""
        return await asyncio.to_thread(self._page, context, cls, query)

    def _page(self, context: Context, cls: type[R], query: queries.Query) -> queries.Page:
        own = {"project_id": context.project_id, "tenant_id": context.project_id}
        for _, wire in _shown(spec_of(cls).kind)[1]:
            if wire in query.asked:  # What is not shown is not told by an order or a choice either.
                self.require(f"{self.rule(cls, 'get')}:{wire}", context, own)
        with self.store.read() as reader:
            objects, more = queries.fetch(reader, spec_of(cls), query, *self.visible(context, cls))
            items = self.render(reader, context, cast("list[R]", objects), query.fields)
        return queries.Page(
            items, more, objects[0].id if objects else None, objects[-1].id if objects else None
        )

    def query(
        self,
        cls: type[R],
        pairs: Iterable[tuple[str, str]],
        *,
        context: Context | None = None,
        **options: Any,
    ) -> queries.Query:
        """Understands a query string for the kind; see `queries.parse` for the options."""
        stages = self.stages_of(cls)
        filters = stages.filters
        if context is not None and stages.callers_filters is not None:
            filters = {**filters, **stages.callers_filters(context)}
        return queries.parse(spec_of(cls), pairs, filters=filters, **options)

    async def write(self, context: Context, run: Callable[[Call], T]) -> T:
        """Runs a function in one transaction: for the verbs that are not create, update and delete."""
        return await self.store.write(lambda tx: run(Call(self, context, tx)))

    async def read(self, run: Callable[[Reader], T]) -> T:
        """Runs a function on a snapshot, in a thread."""

        def inside() -> T:
            with self.store.read() as reader:
                return run(reader)

        return await asyncio.to_thread(inside)

    # Steps of a request.

    def stages_of(self, cls: type[R]) -> Stages[R]:
        """The stages of a kind."""
        return self.stages.get(spec_of(cls).kind, PLAIN)

    def rule(self, cls: type[Resource], verb: str) -> str:
        """The name of the access rule for a verb on a kind."""
        spec = spec_of(cls)
        named = self.stages_of(cls).rules.get(verb)
        return named or f"{RULE_PREFIX.get(spec.service, '')}{verb}_{spec.kind}"

    def require(self, rule: str, context: Context, target: Mapping[str, Any]) -> None:
        """Raises Forbidden where the access rules do not allow it."""
        if not self.rules.allows(rule, context, target):
            raise Forbidden(f"Policy doesn't allow {rule} to be performed.", type="PolicyNotAuthorized")

    def visible(self, context: Context, cls: type[R]) -> list[ColumnElement[bool]]:
        """The clauses of what a caller sees of a kind."""
        stages = self.stages_of(cls)
        if stages.visible is not None:
            return stages.visible(context)
        table = table_of(cls)
        if context.is_admin or "project_id" not in table.c:
            return []
        return [table.c.project_id == context.project_id]

    def get(self, reader: Reader, context: Context, cls: type[R], id: str) -> R:
        """The object of the id, if the caller sees it.

        Raises:
            NotFound: it is not there, or not visible.
        """
        found = reader.get(cls, id)
        if found is None or not self._sees(reader, context, found):
            raise self.missing(cls, id)
        return found

    def _sees(self, reader: Reader, context: Context, obj: Resource) -> bool:
        project = getattr(obj, "project_id", "")
        if project and project == context.project_id:
            return True
        cls = type(obj)
        sees = self.stages_of(cls).sees
        if sees is not None:
            return sees(reader, context, obj)
        clauses = self.visible(context, cls)
        return not clauses or reader.count(cls, table_of(cls).c.id == obj.id, *clauses) > 0

    def missing(self, cls: type[Resource], id: str) -> NotFound:
        """The error for an id that names nothing."""
        kind = camel(spec_of(cls).kind)
        text = self.stages_of(cls).not_found
        return NotFound(text.format(Kind=kind, id=id[:255]), type=f"{cls.__name__}NotFound")

    def target(self, reader: Reader, obj: Resource) -> dict[str, Any]:
        """What the access rules see of an object: its fields by wire name, and `project_id`."""
        spec = spec_of(type(obj))
        target = {wire: getattr(obj, name) for name, wire in spec.scalars}
        if "project_id" in target:
            target["tenant_id"] = target["project_id"]
        more = self.stages_of(type(obj)).target
        if more is not None:
            target.update(more(reader, obj))
        return target

    def insert(self, call: Call, cls: type[R], values: Mapping[str, Any]) -> R:
        """The stages of create. `values` are by attribute name, and validated."""
        spec, stages = spec_of(cls), self.stages_of(cls)
        given = frozenset(values)
        blank = dict(values)
        blank.setdefault("id", stages.new_id())
        if "project_id" in spec.fields and not blank.get("project_id"):
            blank["project_id"] = call.context.project_id
        obj = cls(**blank)
        target = self.target(call.tx, obj)
        call.require(self.rule(cls, "create"), target)
        self._guard(call, spec, "create", given, target)
        self._refer(call, spec, obj, given)
        self._quota(call, spec, obj)
        if stages.create is not None:
            obj = stages.create(call, obj, given)
        obj = self.stamped(call, obj)
        call.tx.insert(obj)
        if stages.created is not None:
            stages.created(call, obj)
        return obj

    def modify(self, call: Call, old: R, values: Mapping[str, Any]) -> R:
        """The stages of update. Nothing is stored, and no revision spent, where nothing changes."""
        cls = type(old)
        spec, stages = spec_of(cls), self.stages_of(cls)
        given = frozenset(values)
        target = self.target(call.tx, old)
        call.require(self.rule(cls, "update"), target)
        self._guard(call, spec, "update", given, target)
        new = msgspec.structs.replace(old, **values)
        self._refer(call, spec, new, given)
        if stages.update is not None:
            new = stages.update(call, old, new, given)
        if new == old:
            return old
        new = self.touched(call, new)
        call.tx.replace(new)
        return new

    def remove(self, call: Call, obj: Resource) -> None:
        """The stages of delete."""
        cls = type(obj)
        call.require(self.rule(cls, "delete"), self.target(call.tx, obj))
        stages = self.stages_of(cls)
        if stages.delete is not None:
            stages.delete(call, obj)
        call.drop(obj)

    def check_revision(self, obj: Resource, expected: int | None) -> None:
        """Raises Stale where a revision is expected that the object does not have."""
        if expected is not None and getattr(obj, "revision_number", None) != expected:
            raise Stale(
                f"The revision number is {getattr(obj, 'revision_number', None)}, not {expected}. "
                "Read it again, and repeat the change.",
                type="RevisionNumberConstraintFailed",
            )

    def stamped(self, call: Call, obj: R) -> R:
        """The object with its times of creation and change."""
        fields = spec_of(type(obj)).fields
        stamps = {name: call.now for name in ("created_at", "updated_at") if name in fields}
        return msgspec.structs.replace(obj, **stamps) if stamps else obj

    def touched(self, call: Call, obj: R) -> R:
        """The object with its next revision number and the time of its change."""
        fields = spec_of(type(obj)).fields
        stamps: dict[str, Any] = {}
        if "updated_at" in fields:
            stamps["updated_at"] = call.now
        if "revision_number" in fields:
            stamps["revision_number"] = getattr(obj, "revision_number") + 1  # noqa: B009
        return msgspec.structs.replace(obj, **stamps) if stamps else obj

    def render(
        self, reader: Reader, context: Context, objects: Sequence[R], only: frozenset[str] = frozenset()
    ) -> list[dict[str, Any]]:
        """Objects as wire name to value; fields that the caller may not see are left out."""
        if not objects:
            return []
        cls = type(objects[0])
        spec, stages = spec_of(cls), self.stages_of(cls)
        shown, guarded = _shown(spec.kind)
        if only:
            shown = tuple((a, w) for a, w in shown if w in only)
            guarded = tuple((a, w) for a, w in guarded if w in only)
        columns: dict[str, tuple[tuple[str, str], ...]] = {}
        items = []
        for obj in objects:
            project = getattr(obj, "project_id", "")
            pairs = columns.get(project)
            if pairs is None:
                pairs = columns[project] = shown + self._unguarded(context, spec, guarded, project)
            items.append({wire: getattr(obj, name) for name, wire in pairs})
        if stages.view is not None:
            for item, extra in zip(items, stages.view(reader, context, objects), strict=True):
                item.update({k: v for k, v in extra.items() if k in only} if only else extra)
        return items

    def _unguarded(
        self, context: Context, spec: Spec, guarded: tuple[tuple[str, str], ...], project: str
    ) -> tuple[tuple[str, str], ...]:
        target = {"project_id": project, "tenant_id": project}
        return tuple(
            (name, wire)
            for name, wire in guarded
            if self.rules.allows(f"{self.rule(spec.cls, 'get')}:{wire}", context, target)
        )

    def _guard(
        self, call: Call, spec: Spec, verb: str, given: frozenset[str], target: Mapping[str, Any]
    ) -> None:
        for name in given:
            found = spec.fields[name]
            if found.flags.guarded_write:
                call.require(f"{self.rule(spec.cls, verb)}:{found.wire}", target)

    def _refer(self, call: Call, spec: Spec, obj: Resource, given: frozenset[str]) -> None:
        for name in given:
            refers = spec.fields[name].flags.refers
            value = getattr(obj, name)
            if not refers or not value:
                continue
            for id in value if isinstance(value, list | tuple) else (value,):
                call.get(spec_of(refers).cls, id)

    def _quota(self, call: Call, spec: Spec, obj: Resource) -> None:
        if spec.quota is None:
            return
        project = getattr(obj, "project_id", "")
        limit = self.limit(call.tx, project, spec)
        if limit < 0:
            return
        if call.tx.count(spec.cls, project_id=project) >= limit:
            raise OverQuota(f"Quota exceeded for resources: ['{spec.kind}'].", field=spec.kind)


@cache
def camel(kind: str) -> str:
    """security_group -> SecurityGroup."""
    return "".join(part.capitalize() for part in kind.split("_"))


@cache
def _shown(kind: str) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    fields = [f for f in specs()[kind].fields.values() if f.flags.shown]
    return (
        tuple((f.name, f.wire) for f in fields if not f.flags.guarded_read),
        tuple((f.name, f.wire) for f in fields if f.flags.guarded_read),
    )


def required(field: str) -> BadField:
    """The error for a field that is missing."""
    return BadField(field, "it is required.")
