"""The collections of the Load Balancer API: list, show, create, change and delete, for every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

from trunkline.api.context import Context
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Reply, Request
from trunkline.api.loadbalancer import dialect, loadbalancers, making, members, zones
from trunkline.api.network.dialect import shown_fields
from trunkline.api.network.filters import boolean
from trunkline.errors import BadField, BadRequest, Forbidden, OverQuota
from trunkline.resources.loadbalancer import (
    AvailabilityZone,
    HealthMonitor,
    L7Policy,
    L7Rule,
    Listener,
    LoadBalancer,
    Member,
    Part,
    Pool,
)
from trunkline.resources.schema import Resource, spec_of
from trunkline.store import Reader

T = TypeVar("T")
#: A kind below another one in its path: the path's parameter, the class, the field with its id.
_PARENTS: dict[type[Resource], tuple[str, type[Part], str]] = {
    Member: ("pool", Pool, "pool_id"),
    L7Rule: ("policy", L7Policy, "l7policy_id"),
}


async def write(engine: Engine, context: Context, run: Callable[[Call], T]) -> T:
    """Runs a function in one transaction; a quota that is spent is forbidden, as Octavia has it."""
    try:
        return await engine.write(context, run)
    except OverQuota as spent:
        kind = spent.field or "appliances"
        problem = f"Quota has been met for resources: {kind}. Delete some, or have the limit raised."
        raise Forbidden(problem, type="QuotaException", field=spent.field) from None


class Collection:
    """The handlers of one kind."""

    def __init__(self, engine: Engine, cls: type[Resource]) -> None:
        self.engine = engine
        self.cls = cls
        self.spec = spec_of(cls)
        self.one = dialect.envelope(cls)
        self.get_all = engine.rule(cls, "get").removesuffix("get_one") + "get_all"

    async def index(self, request: Request) -> Reply:
        """List what the caller sees"""
        own = {"project_id": request.context.project_id}
        self.engine.require(self.get_all, request.context, own)
        pairs = request.query
        if self.cls in _PARENTS:
            parameter, _, field = _PARENTS[self.cls]
            with self.engine.store.read() as reader:
                self._require_parent(reader, request)
            pairs = [*pairs, (field, request.path[parameter])]
        query = self.engine.query(self.cls, pairs, context=request.context, aliases=dialect.ALIASES)
        if not query.sort and "created_at" in self.spec.fields:
            query = replace(query, sort=(("created_at", True),))
        elif not query.sort and self.cls is AvailabilityZone:
            query = replace(query, sort=(("name", True),))
        page = await self.engine.page(request.context, self.cls, query)
        return Reply(dialect.listing(request, self.spec.plural, query, page))

    async def show(self, request: Request) -> Reply:
        """Show one"""
        fields = shown_fields(request.query)

        def run(reader: Reader) -> dict[str, Any]:
            found = self._found(reader, request)
            rule = self.engine.rule(self.cls, "get")
            own = {"project_id": request.context.project_id}  # Of what is nobody's: the caller's roles.
            target = self.engine.target(reader, found)
            self.engine.require(rule, request.context, target if "project_id" in target else own)
            return self.engine.render(reader, request.context, [found], fields)[0]

        return Reply({self.one: await self.engine.read(run)})

    async def create(self, request: Request) -> Reply:
        """Create one"""
        body = await request.envelope(self.one)
        if not isinstance(body, dict):
            raise BadRequest(f"The body of {self.one} must be a JSON object.")

        def run(call: Call) -> dict[str, Any]:
            if issubclass(self.cls, Part):
                made: Resource = self._make(call, request, body)
                making.follow(call, making.balancer_of(call, cast("Part", made)))
            else:
                made = call.create(
                    self.cls, self.spec.parse_create(dialect.given(body, self.cls, creates=True), lax=True)
                )
            return self._rendered(call, made)

        return Reply({self.one: await write(self.engine, request.context, run)}, 201)

    async def update(self, request: Request) -> Reply:
        """Change one"""
        body = await request.envelope(self.one)

        def run(call: Call) -> dict[str, Any]:
            found = self._found(call.tx, request)
            if isinstance(found, Part):
                making.change(call, found, body)
                making.follow(call, making.balancer_of(call, found))
            else:
                call.update(
                    found, self.spec.parse_update(dialect.given(body, self.cls, creates=False), lax=True)
                )
            return self._rendered(call, found)

        return Reply({self.one: await write(self.engine, request.context, run)})

    async def delete(self, request: Request) -> Reply:
        """Delete one"""
        cascade = _flag(request, "cascade") if self.cls is LoadBalancer else False

        def run(call: Call) -> None:
            found = self._found(call.tx, request)
            if isinstance(found, LoadBalancer):
                loadbalancers.remove(call, found, cascade=cascade)
                return
            call.delete(found)
            if isinstance(found, Part):
                making.follow(call, making.balancer_of(call, found))

        await write(self.engine, request.context, run)
        return Reply(status=204)

    async def replace_all(self, request: Request) -> Reply:
        """Give a pool these members, and no others"""
        additive = _flag(request, "additive_only")
        body = await request.envelope("members")

        def run(call: Call) -> None:
            pool = making.find(call, Pool, request.path["pool"], "pool_id")
            members.replace_all(call, pool, body, additive=additive)
            making.follow(call, making.balancer_of(call, pool))

        await write(self.engine, request.context, run)
        return Reply(status=202)

    def _make(self, call: Call, request: Request, body: Any) -> Part:
        if self.cls is LoadBalancer:
            return making.loadbalancer(call, body)
        if self.cls is Member:
            return making.member(call, making.find(call, Pool, request.path["pool"], "pool_id"), body)
        if self.cls is L7Rule:
            policy = making.find(call, L7Policy, request.path["policy"], "l7policy_id")
            return making.rule(call, policy, body)
        balancer = making.loadbalancer_named(call, body, cast("type[Part]", self.cls))
        makes: dict[type[Resource], Callable[[Call, LoadBalancer, Any], Part]] = {
            Listener: making.listener,
            Pool: making.pool,
            HealthMonitor: making.monitor,
            L7Policy: making.policy,
        }
        return makes[self.cls](call, balancer, body)

    def _found(self, reader: Reader, request: Request) -> Resource:
        """What the path names."""
        id = request.path["id"]
        if self.cls is AvailabilityZone:
            # It is called by its name.
            zone = zones.named(reader, id)
            if zone is None:
                raise self.engine.missing(self.cls, id)
            return zone
        found = self.engine.get(reader, request.context, self.cls, id)
        if self.cls in _PARENTS:
            parameter, _, field = _PARENTS[self.cls]
            if getattr(found, field) != request.path[parameter]:
                raise self.engine.missing(self.cls, id)
        return found

    def _require_parent(self, reader: Reader, request: Request) -> None:
        """Whoever may list what is below something may see that."""
        parameter, parent, _ = _PARENTS[self.cls]
        found = self.engine.get(reader, request.context, parent, request.path[parameter])
        self.engine.require(self.get_all, request.context, self.engine.target(reader, found))

    def _rendered(self, call: Call, obj: Resource) -> dict[str, Any]:
        found = call.tx.get(type(obj), obj.id) or obj
        return self.engine.render(call.tx, call.context, [found])[0]


def _flag(request: Request, name: str) -> bool:
    """The one parameter that a request has, if any: true or false."""
    asked = False
    for given, value in request.query:
        if given != name:
            raise BadField(given[:80], f"there is no such parameter. There is: {name}.")
        asked = boolean(name, value)
    return asked
