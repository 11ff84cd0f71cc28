"""``GET /v3/role_assignments``: who has which role where, as given or as it comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement

from trunkline.api.http import Endpoint, Reply, Request
from trunkline.api.identity.collection import Parts, found, listed, root
from trunkline.api.identity.roles import Assigned, Scope, below, expanded, groups_of
from trunkline.errors import BadRequest
from trunkline.resources.identity import Domain, Group, Project, Role, RoleAssignment, User
from trunkline.store import Reader, table_of

_FALSE = frozenset({"0", "false", "False", "no"})
_INHERITED = "scope.OS-INHERIT:inherited_to"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the list is asked for."""

    role_id: str = ""
    user_id: str = ""
    group_id: str = ""
    project_id: str = ""
    domain_id: str = ""
    system: bool = False
    #: Of inherited ones alone, or of the others alone.
    inherited: bool | None = None
    effective: bool = False
    names: bool = False
    subtree: bool = False


def parse(pairs: Sequence[tuple[str, str]]) -> Wanted:
    """Understands the query string.

    Raises:
        BadRequest: it asks for two things that exclude each other.
    """
    given = dict(pairs)

    def flag(name: str) -> bool:
        return name in given and given[name] not in _FALSE

    wanted = Wanted(
        role_id=given.get("role.id", ""),
        user_id=given.get("user.id", ""),
        group_id=given.get("group.id", ""),
        project_id=given.get("scope.project.id", ""),
        domain_id=given.get("scope.domain.id", ""),
        system=bool(given.get("scope.system")),
        inherited=given[_INHERITED] == "projects" if _INHERITED in given else None,
        effective=flag("effective"),
        names=flag("include_names"),
        subtree=flag("include_subtree"),
    )
    if wanted.user_id and wanted.group_id:
        raise BadRequest("Specify a user or group, not both.")
    if bool(wanted.project_id) + bool(wanted.domain_id) + wanted.system > 1:
        raise BadRequest("Specify one of a project, a domain and the system.")
    if wanted.effective and wanted.group_id:
        raise BadRequest("Combining effective and group filter will always result in an empty list.")
    if wanted.effective and wanted.inherited and wanted.domain_id:
        raise BadRequest(
            "Combining effective, domain and inherited filters will always result in an empty list."
        )
    if wanted.subtree and not wanted.project_id:
        raise BadRequest("scope.project.id must be specified if include_subtree is also specified.")
    return wanted


def assigned(reader: Reader, wanted: Wanted) -> list[Assigned]:
    """The lines of the list."""
    table = table_of(RoleAssignment)
    clauses: list[ColumnElement[bool]] = []
    if wanted.user_id:
        actors = [wanted.user_id]
        if wanted.effective:
            actors += groups_of(reader, wanted.user_id)
        clauses.append(table.c.actor_id.in_(actors))
    if wanted.group_id:
        clauses.append(table.c.actor_id == wanted.group_id)
    if wanted.inherited is not None:
        clauses.append(table.c.inherited.is_(wanted.inherited))
    given = reader.select(RoleAssignment, *clauses, order_by=[table.c.id])
    if wanted.effective:
        lines = expanded(reader, given)
    else:
        lines = [
            Assigned(
                role_id=one.role_id,
                actor=one.actor,
                actor_id=one.actor_id,
                scope=Scope(one.scope, one.scope_id),
                source=one,
            )
            for one in given
        ]
    places = _places(reader, wanted)
    return [
        line
        for line in lines
        if (places is None or line.scope in places)
        and (not wanted.role_id or line.role_id == wanted.role_id)
        and (not wanted.user_id or (line.actor, line.actor_id) == ("user", wanted.user_id))
    ]


def _places(reader: Reader, wanted: Wanted) -> set[Scope] | None:
    if wanted.system:
        return {Scope("system", "all")}
    if wanted.domain_id:
        return {Scope("domain", wanted.domain_id)}
    if not wanted.project_id:
        return None
    more = below(reader, wanted.project_id) if wanted.subtree else []
    return {Scope("project", wanted.project_id), *(Scope("project", project.id) for project in more)}


class Listing:
    """The endpoint."""

    def __init__(self, parts: Parts) -> None:
        self.engine = parts.engine

    def endpoints(self) -> list[Endpoint]:
        """It, as a list of one."""
        return [
            Endpoint(
                "GET",
                "/v3/role_assignments",
                self.index,
                summary="List role assignments",
                parameters=[
                    "role.id",
                    "user.id",
                    "group.id",
                    "scope.project.id",
                    "scope.domain.id",
                    "scope.system",
                    _INHERITED,
                    "effective",
                    "include_names",
                    "include_subtree",
                ],
            )
        ]

    async def index(self, request: Request) -> Reply:
        wanted = parse(request.query)

        def run(reader: Reader) -> list[dict[str, Any]]:
            context = request.context
            target = {"target.domain_id": context.domain_id}
            if wanted.subtree:
                project = found(reader, Project, wanted.project_id)
                target = {"target.domain_id": project.domain_id}
                self.engine.require("identity:list_role_assignments_for_tree", context, target)
            else:
                self.engine.require("identity:list_role_assignments", context, target)
            lines = assigned(reader, wanted)
            if context.domain_id and not context.is_admin:
                mine = {p.id for p in reader.find(Project, domain_id=context.domain_id)} | {context.domain_id}
                lines = [line for line in lines if line.scope.id in mine]
            names = _Names(reader) if wanted.names else None
            return [_rendered(root(request), line, names) for line in lines]

        return Reply(listed(request, "role_assignments", await self.engine.read(run)))


class _Names:
    """The names of what assignments refer to, each looked up once."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[tuple[type[Any], str], dict[str, Any]] = {}

    def of(self, kind: type[Any], id: str) -> dict[str, Any]:
        """Name, and domain where the kind has one."""
        if (kind, id) not in self._known:
            obj = self._reader.get(kind, id)
            body: dict[str, Any] = {} if obj is None else {"name": obj.name}
            domain_id = getattr(obj, "domain_id", None)
            if domain_id:
                body["domain"] = {"id": domain_id, **self.of(Domain, domain_id)}
            self._known[kind, id] = body
        return self._known[kind, id]


_KINDS: dict[str, type[Any]] = {"user": User, "group": Group, "project": Project, "domain": Domain}


def _rendered(base: str, line: Assigned, names: _Names | None) -> dict[str, Any]:
    def short(kind: type[Any], id: str) -> dict[str, Any]:
        return {"id": id, **(names.of(kind, id) if names else {})}

    source = line.source
    if line.scope.kind == "system":
        scope: dict[str, Any] = {"system": {"all": True}}
        place = "/system"
    else:
        scope = {line.scope.kind: short(_KINDS[line.scope.kind], line.scope.id)}
        place = f"/{source.scope}s/{source.scope_id}"
    prefix, suffix = "", ""
    if line.inherited:
        scope["OS-INHERIT:inherited_to"] = "projects"
        prefix, suffix = "/OS-INHERIT", "/inherited_to_projects"
    assignment = f"{prefix}{place}/{source.actor}s/{source.actor_id}/roles/{source.role_id}{suffix}"
    links = {"assignment": f"{base}{assignment}"}
    if source.actor == "group" and line.actor == "user":
        links["membership"] = f"{base}/groups/{source.actor_id}/users/{line.actor_id}"
    if line.prior_role_id:
        links["prior_role"] = f"{base}/prior_role/{line.prior_role_id}/implies/{line.role_id}"
    return {
        "role": short(Role, line.role_id),
        line.actor: short(_KINDS[line.actor], line.actor_id),
        "scope": scope,
        "links": links,
    }
