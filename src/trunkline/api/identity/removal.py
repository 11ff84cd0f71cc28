"""What goes with a user, a project, a role ... when it is deleted, so that nothing refers to what is gone."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from sqlalchemy import or_

from trunkline.api.engine import Call
from trunkline.api.identity.roles import below
from trunkline.resources.identity import (
    AccessRule,
    ApplicationCredential,
    Credential,
    Endpoint,
    Group,
    Membership,
    Project,
    Role,
    RoleAssignment,
    RoleInference,
    Trust,
    User,
)
from trunkline.resources.schema import Resource
from trunkline.store import table_of

R = TypeVar("R", bound=Resource)


def clear_user(call: Call, user_id: str) -> None:
    """Removes all that belongs to a user or names it."""
    trusts = table_of(Trust)
    for trust in call.tx.select(
        Trust, or_(trusts.c.trustor_user_id == user_id, trusts.c.trustee_user_id == user_id)
    ):
        call.drop(trust)
    _drop_all(call, Membership, user_id=user_id)
    _drop_all(call, RoleAssignment, actor="user", actor_id=user_id)
    _drop_all(call, ApplicationCredential, user_id=user_id)
    _drop_all(call, AccessRule, user_id=user_id)
    _drop_all(call, Credential, user_id=user_id)


def clear_group(call: Call, group_id: str) -> None:
    """Removes the memberships and assignments of a group."""
    _drop_all(call, Membership, group_id=group_id)
    _drop_all(call, RoleAssignment, actor="group", actor_id=group_id)


def clear_project(call: Call, project_id: str) -> None:
    """Removes what gives access to a project. What services keep in it, is theirs."""
    _drop_all(call, RoleAssignment, scope="project", scope_id=project_id)
    _drop_all(call, ApplicationCredential, project_id=project_id)
    _drop_all(call, Credential, project_id=project_id)
    _drop_all(call, Trust, project_id=project_id)
    for user in call.tx.find(User, default_project_id=project_id):
        call.tx.replace(msgspec.structs.replace(user, default_project_id=None))


def clear_role(call: Call, role_id: str) -> None:
    """Takes a role from everybody who has it, and out of what implies it."""
    _drop_all(call, RoleAssignment, role_id=role_id)
    _drop_all(call, RoleInference, prior_role_id=role_id)
    _drop_all(call, RoleInference, implied_role_id=role_id)
    holders: list[Trust | ApplicationCredential] = [
        *call.tx.find(Trust),
        *call.tx.find(ApplicationCredential),
    ]
    for holder in holders:
        if role_id in holder.role_ids:
            rest = [other for other in holder.role_ids if other != role_id]
            call.tx.replace(msgspec.structs.replace(holder, role_ids=rest))


def clear_domain(call: Call, domain_id: str) -> None:
    """Removes everything of a domain: its users, groups, projects (leaves first) and roles."""
    for user in call.tx.find(User, domain_id=domain_id):
        clear_user(call, user.id)
        call.drop(user)
    for group in call.tx.find(Group, domain_id=domain_id):
        clear_group(call, group.id)
        call.drop(group)
    top = call.tx.find(Project, domain_id=domain_id, parent_id=domain_id)
    for project in [p for t in top for p in (*reversed(below(call.tx, t.id)), t)]:
        clear_project(call, project.id)
        call.drop(project)
    for role in call.tx.find(Role, domain_id=domain_id):
        clear_role(call, role.id)
        call.drop(role)
    _drop_all(call, RoleAssignment, scope="domain", scope_id=domain_id)


def clear_service(call: Call, service_id: str) -> None:
    """Removes the endpoints of a service."""
    _drop_all(call, Endpoint, service_id=service_id)


def _drop_all(call: Call, kind: type[R], **equals: object) -> None:
    for one in call.tx.find(kind, **equals):
        call.drop(one)
