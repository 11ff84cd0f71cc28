"""Server groups: servers that belong on one host, or on different ones."""

from __future__ import annotations

from typing import Any

from trunkline.api.compute.quotas import limit_of, spent
from trunkline.api.compute.wire import Body, at, body_of, boolean, page_limit, printable_name, single, whole
from trunkline.api.engine import Call, Engine, Stages
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import BadField
from trunkline.resources.compute import MAX_INT, Server, ServerGroup
from trunkline.store import Reader, table_of

POLICIES = ("affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity")

STAGES: dict[str, Stages[Any]] = {
    "server_group": Stages[ServerGroup](not_found="Instance group {id} could not be found.")
}


class Create(Body):
    """The body of a create request; `policies` before 2.64, `policy` and `rules` from then on."""

    name: Any
    policies: list[str] | None = None
    policy: str | None = None
    rules: dict[str, Any] | None = None


class GroupApi:
    """The handlers of /v2.1/os-server-groups."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def list(self, request: Request, minor: int) -> Reply:
        """The server groups of the caller's project, or of all projects."""
        query = single(request.query)
        where = []
        own = {"project_id": request.context.project_id}
        self.engine.require("os_compute_api:os-server-groups:index", request.context, own)
        every = boolean("all_projects", query["all_projects"] or "true") if "all_projects" in query else False
        if every:
            self.engine.require("os_compute_api:os-server-groups:index:all_projects", request.context, {})
        else:
            where.append(table_of(ServerGroup).c.project_id == request.context.project_id)
        limit = page_limit(query)
        offset = whole("offset", query.get("offset", "0"), 0, MAX_INT)

        def run(reader: Reader) -> list[dict[str, Any]]:
            groups = reader.select(
                ServerGroup, *where, order_by=[table_of(ServerGroup).c.created_at], limit=limit, offset=offset
            )
            return [_render(reader, group, minor) for group in groups]

        return Reply({"server_groups": await self.engine.read(run)})

    async def show(self, request: Request, minor: int) -> Reply:
        """One server group."""

        def run(reader: Reader) -> dict[str, Any]:
            group = self.engine.get(reader, request.context, ServerGroup, request.path["id"])
            target = {"project_id": group.project_id}
            self.engine.require("os_compute_api:os-server-groups:show", request.context, target)
            return _render(reader, group, minor)

        return Reply({"server_group": await self.engine.read(run)})

    async def create(self, request: Request, minor: int) -> Reply:
        """Creates a server group."""
        given = await body_of(request, "server_group", Create)
        name = printable_name("name", given.name)
        policy, most = _policy(given, minor)

        def run(call: Call) -> dict[str, Any]:
            project = call.context.project_id
            call.require("os_compute_api:os-server-groups:create", {"project_id": project})
            limit = limit_of(call.tx, project, "server_groups")
            if 0 <= limit <= call.tx.count(ServerGroup, project_id=project):
                raise spent("server_groups", "Quota exceeded, too many server groups.")
            group = ServerGroup(
                id=self.engine.stages_of(ServerGroup).new_id(),
                name=name,
                project_id=project,
                user_id=call.context.user_id,
                policy=policy,
                max_server_per_host=most,
            )
            return _render(call.tx, call.add(group), minor)

        return Reply({"server_group": await self.engine.write(request.context, run)})

    async def delete(self, request: Request, minor: int) -> Reply:
        """Deletes a server group. Its servers stay."""

        def run(call: Call) -> None:
            group = call.get(ServerGroup, request.path["id"])
            call.require("os_compute_api:os-server-groups:delete", {"project_id": group.project_id})
            call.drop(group)

        await self.engine.write(request.context, run)
        return Reply(status=204)


def _policy(given: Create, minor: int) -> tuple[str, int]:
    if minor >= 64:
        if given.policies is not None:
            raise BadField("policies", "from microversion 2.64 on it is policy, a text.")
        name, policy = "policy", given.policy
    else:
        if given.policy is not None or given.rules is not None:
            raise BadField("policy", "before microversion 2.64 it is policies, a list of one text.")
        if not given.policies or len(given.policies) != 1:
            raise BadField("policies", "give a list of exactly one policy.")
        name, policy = "policies", given.policies[0]
    known = POLICIES if minor >= 15 else POLICIES[:2]
    if policy is None or policy not in known:
        raise BadField(name, f"it must be one of {', '.join(known)}.")
    most = 1
    if given.rules:
        if set(given.rules) != {"max_server_per_host"}:
            raise BadField("rules", "the one rule there is, is max_server_per_host.")
        if policy != "anti-affinity":
            raise BadField("rules", "max_server_per_host goes with the policy anti-affinity alone.")
        most = whole("rules.max_server_per_host", given.rules["max_server_per_host"], 1, MAX_INT)
    return policy, most


def members_of(reader: Reader, group: str) -> list[Server]:
    """The servers of a group, without those that are being deleted."""
    return [server for server in reader.find(Server, group_id=group) if not server.deleting]


def _render(reader: Reader, group: ServerGroup, minor: int) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": group.id,
        "name": group.name,
        "members": [server.id for server in members_of(reader, group.id)],
    }
    if minor >= 13:
        shown |= {"project_id": group.project_id, "user_id": group.user_id}
    if minor >= 64:
        shown["policy"] = group.policy
        limited = group.policy == "anti-affinity" and group.max_server_per_host > 1
        shown["rules"] = {"max_server_per_host": group.max_server_per_host} if limited else {}
    else:
        shown |= {"policies": [group.policy], "metadata": {}}
    return shown


def endpoints(engine: Engine) -> list[Endpoint]:
    """The paths of server groups."""
    api = GroupApi(engine)
    return [
        at("GET", "/v2.1/os-server-groups", api.list, kind="server_group"),
        at("POST", "/v2.1/os-server-groups", api.create, kind="server_group"),
        at("GET", "/v2.1/os-server-groups/{id}", api.show, kind="server_group"),
        at("DELETE", "/v2.1/os-server-groups/{id}", api.delete, 204, kind="server_group"),
    ]
