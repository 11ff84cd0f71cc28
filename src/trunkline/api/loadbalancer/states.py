"""How a load balancer is, what it counted, and having its units replaced."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from trunkline.api.appliance import Figures
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Reply, Request
from trunkline.api.loadbalancer import beneath, making, told
from trunkline.api.loadbalancer.tree import Tree, load
from trunkline.resources.loadbalancer import Listener, LoadBalancer, Part, Pool
from trunkline.store import Reader


class States:
    """The handlers."""

    def __init__(self, engine: Engine, figures: Figures) -> None:
        self.engine = engine
        self.figures = figures

    async def tree(self, request: Request) -> Reply:
        """Show how a load balancer is, and all that it is made of"""

        def run(reader: Reader) -> dict[str, Any]:
            tree = load(reader, self._balancer(reader, request, "get_status").id)
            assert tree is not None, "it was there in the same snapshot"
            return _statuses(tree)

        return Reply({"statuses": {"loadbalancer": await self.engine.read(run)}})

    async def stats(self, request: Request) -> Reply:
        """Show what a load balancer counted"""

        def run(reader: Reader) -> dict[str, Any]:
            balancer = self._balancer(reader, request, "get_stats")
            return _sum(told.stats(reader, self.figures, balancer).values())

        return Reply({"stats": await self.engine.read(run)})

    async def listener_stats(self, request: Request) -> Reply:
        """Show what a listener counted"""

        def run(reader: Reader) -> dict[str, Any]:
            listener = self.engine.get(reader, request.context, Listener, request.path["id"])
            self._require(reader, request, listener, "os_load-balancer_api:listener:get_stats")
            balancer = reader.get(LoadBalancer, listener.loadbalancer_id)
            assert balancer is not None, "it goes with its listeners"
            found = told.stats(reader, self.figures, balancer).get(listener.id)
            return _sum([found] if found is not None else [])

        return Reply({"stats": await self.engine.read(run)})

    async def failover(self, request: Request) -> Reply:
        """Have all units of a load balancer replaced, while it works"""

        def run(call: Call) -> None:
            balancer = self._balancer(call.tx, request, "put_failover")
            beneath.failover(call, balancer)
            making.pending(call, balancer)
            told.settle(call, balancer.id)

        await self.engine.write(request.context, run)
        return Reply(status=202)

    def _balancer(self, reader: Reader, request: Request, verb: str) -> LoadBalancer:
        found = self.engine.get(reader, request.context, LoadBalancer, request.path["id"])
        self._require(reader, request, found, f"os_load-balancer_api:loadbalancer:{verb}")
        return found

    def _require(self, reader: Reader, request: Request, part: Part, rule: str) -> None:
        self.engine.require(rule, request.context, self.engine.target(reader, part))


def _sum(counted: Iterable[told.Stats]) -> dict[str, Any]:
    return asdict(told.total(counted))


def _status(part: Part, *more: str) -> dict[str, Any]:
    names = ("id", "name", "provisioning_status", "operating_status", *more)
    return {name: getattr(part, name) for name in names}


def _statuses(tree: Tree) -> dict[str, Any]:
    listeners = [
        {
            **_status(listener),
            "pools": [_pool(tree, pool) for pool in tree.pools if listener in tree.listeners_of(pool.id)],
        }
        for listener in tree.listeners
    ]
    return {**_status(tree.loadbalancer), "listeners": listeners}


def _pool(tree: Tree, pool: Pool) -> dict[str, Any]:
    shown = _status(pool)
    shown["members"] = [_status(member, "address", "protocol_port") for member in tree.members(pool.id)]
    if (monitor := tree.monitor(pool.id)) is not None:
        shown["healthmonitor"] = _status(monitor, "type")
    return shown
