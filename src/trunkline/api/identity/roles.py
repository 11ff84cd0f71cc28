"""Which roles somebody has somewhere: by groups, by inheritance down the project tree, by implication.

    assignment --group--> every member
    assignment, inherited --tree--> every project below its domain or project (and not there itself)
    role --inference--> every role that it implies, and those that they imply

A role of a domain's own is no role in a token: it stands for the roles that it implies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import and_, or_

from trunkline.resources.identity import Membership, Project, Role, RoleAssignment, RoleInference
from trunkline.store import Reader, table_of


@dataclass(frozen=True, slots=True)
class Scope:
    """Where roles count: kind is project, domain or system, id that of the project or domain, or all."""

    kind: str
    id: str


SYSTEM = Scope("system", "all")


def relation_id(*parts: str) -> str:
    """The id of what joins others, which is known by what it joins."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def assignment(
    role_id: str, actor: str, actor_id: str, scope: Scope, inherited: bool = False
) -> RoleAssignment:
    """The record that an actor ("user" or "group") has a role at a scope."""
    return RoleAssignment(
        id=relation_id(role_id, actor, actor_id, scope.kind, scope.id, "inherited" if inherited else ""),
        role_id=role_id,
        actor=actor,
        actor_id=actor_id,
        scope=scope.kind,
        scope_id=scope.id,
        inherited=inherited,
    )


def groups_of(reader: Reader, user_id: str) -> list[str]:
    """The ids of the groups that a user is in."""
    return [m.group_id for m in reader.find(Membership, user_id=user_id)]


def above(reader: Reader, project: Project) -> list[str]:
    """The ids of the projects above a project, the nearest first; its domain is not among them."""
    found: list[str] = []
    parent = project.parent_id
    while parent and parent != project.domain_id and parent not in found:
        found.append(parent)
        above_it = reader.get(Project, parent)
        parent = above_it.parent_id if above_it else None
    return found


def below(reader: Reader, project_id: str) -> list[Project]:
    """The projects below a project, parents before their children."""
    found: list[Project] = []
    level = [project_id]
    while level:
        children = reader.select(Project, table_of(Project).c.parent_id.in_(level))
        found += children
        level = [child.id for child in children]
    return found


def implications(reader: Reader) -> dict[str, set[str]]:
    """Role id -> the ids of the roles that it implies directly."""
    implied: dict[str, set[str]] = {}
    for inference in reader.find(RoleInference):
        implied.setdefault(inference.prior_role_id, set()).add(inference.implied_role_id)
    return implied


def closure(role_ids: Iterable[str], implied: Mapping[str, set[str]]) -> set[str]:
    """The roles with all that they imply."""
    found = set(role_ids)
    fresh = set(found)
    while fresh:
        fresh = {other for role_id in fresh for other in implied.get(role_id, ())} - found
        found |= fresh
    return found


def named(reader: Reader, role_ids: Iterable[str]) -> list[Role]:
    """The roles of the ids that there are, by name; those of a domain's own are left out."""
    table = table_of(Role)
    return reader.select(
        Role, table.c.id.in_(set(role_ids)), table.c.domain_id.is_(None), order_by=[table.c.name]
    )


def effective(reader: Reader, user_id: str, scope: Scope) -> list[Role]:
    """The roles that count in a token of the user for a scope, by name."""
    direct = _assigned(reader, user_id, scope)
    return named(reader, closure(direct, implications(reader))) if direct else []


def _assigned(reader: Reader, user_id: str, scope: Scope) -> set[str]:
    table = table_of(RoleAssignment)
    actors = [and_(table.c.actor == "user", table.c.actor_id == user_id)]
    groups = groups_of(reader, user_id)
    if groups:
        actors.append(and_(table.c.actor == "group", table.c.actor_id.in_(groups)))
    places = [and_(table.c.scope == scope.kind, table.c.scope_id == scope.id, table.c.inherited.is_(False))]
    project = reader.get(Project, scope.id) if scope.kind == "project" else None
    if project is not None:
        ancestors = above(reader, project)
        places += [
            and_(
                table.c.scope == "domain", table.c.scope_id == project.domain_id, table.c.inherited.is_(True)
            ),
            and_(table.c.scope == "project", table.c.scope_id.in_(ancestors), table.c.inherited.is_(True)),
        ]
    return {found.role_id for found in reader.select(RoleAssignment, or_(*actors), or_(*places))}


def scopes_of(reader: Reader, user_id: str) -> set[Scope]:
    """Every scope at which the user has a role."""
    table = table_of(RoleAssignment)
    actors = [and_(table.c.actor == "user", table.c.actor_id == user_id)]
    groups = groups_of(reader, user_id)
    if groups:
        actors.append(and_(table.c.actor == "group", table.c.actor_id.in_(groups)))
    found: set[Scope] = set()
    for one in reader.select(RoleAssignment, or_(*actors)):
        found.update(reached(reader, one))
    return found


def reached(reader: Reader, one: RoleAssignment) -> list[Scope]:
    """The scopes at which an assignment counts."""
    if not one.inherited:
        return [Scope(one.scope, one.scope_id)]
    if one.scope == "domain":
        return [Scope("project", p.id) for p in reader.find(Project, domain_id=one.scope_id)]
    return [Scope("project", p.id) for p in below(reader, one.scope_id)]


# The list of assignments, with where each comes from.


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """One line of the list: an actor has a role at a scope, because of `source`."""

    role_id: str
    actor: str
    actor_id: str
    scope: Scope
    source: RoleAssignment
    #: The role that implied this one, or "".
    prior_role_id: str = ""

    @property
    def inherited(self) -> bool:
        """Whether it is there by inheritance, or is to be inherited."""
        return self.source.inherited


def expanded(reader: Reader, assignments: Iterable[RoleAssignment]) -> list[Assigned]:
    """Assignments as they come out: members for groups, projects for what is inherited, implied roles."""
    implied = implications(reader)
    found: dict[tuple[str, str, Scope], Assigned] = {}
    for one in assignments:
        if one.actor == "user":
            users = [one.actor_id]
        else:
            users = [m.user_id for m in reader.find(Membership, group_id=one.actor_id)]
        for scope in reached(reader, one):
            for user_id in users:
                line = Assigned(role_id=one.role_id, actor="user", actor_id=user_id, scope=scope, source=one)
                for each in _with_implied(line, implied):
                    found.setdefault((each.role_id, user_id, scope), each)
    own = {role.id for role in reader.select(Role, table_of(Role).c.domain_id.is_not(None))}
    return [line for line in found.values() if line.role_id not in own]


def _with_implied(line: Assigned, implied: Mapping[str, set[str]]) -> list[Assigned]:
    lines = [line]
    seen = {line.role_id}
    for each in lines:
        for role_id in sorted(implied.get(each.role_id, set()) - seen):
            seen.add(role_id)
            lines.append(replace(each, role_id=role_id, prior_role_id=each.role_id))
    return lines
