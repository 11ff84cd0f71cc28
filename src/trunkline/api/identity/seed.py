"""What a cloud begins with: a domain, two projects, two users, the roles, and the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec

from trunkline.api.identity.behaviours import new_id
from trunkline.api.identity.roles import SYSTEM, Scope, assignment, relation_id
from trunkline.resources.identity import (
    Domain,
    Endpoint,
    Project,
    Region,
    Role,
    RoleAssignment,
    RoleInference,
    Service,
    User,
)
from trunkline.resources.schema import Resource
from trunkline.store import Tx

#: The id of the first domain, as every OpenStack cloud has it.
DEFAULT = "default"
#: Each role implies the one behind it.
ROLES = ("admin", "manager", "member", "reader")
#: Of what services are to one another; no role implies it.
SERVICE_ROLE = "service"
#: Type of a service -> its path below the base URL.
SERVICES: Mapping[str, str] = {
    "identity": "/identity/v3",
    "network": "/network",
    "compute": "/compute/v2.1",
    "image": "/image",
}


@dataclass(frozen=True, kw_only=True)
class SeedOptions:
    """What is put in.

    The hashes are of `Passwords.hash_now`. Users that are there already keep their passwords, unless
    `reset_passwords`; endpoints follow the base URL.
    """

    #: http://127.0.0.1:9696, without a slash at the end.
    base_url: str
    admin_password_hash: str
    demo_password_hash: str
    region: str = "RegionOne"
    reset_passwords: bool = False
    services: Mapping[str, str] = field(default_factory=lambda: SERVICES)


@dataclass(frozen=True)
class Seeded:
    """The ids of what is there now."""

    admin_project_id: str
    demo_project_id: str
    admin_user_id: str
    demo_user_id: str


def seed(tx: Tx, options: SeedOptions) -> Seeded:
    """Puts in what is missing, in the caller's transaction; harmless when all is there."""
    if tx.get(Domain, DEFAULT) is None:
        tx.insert(Domain(id=DEFAULT, name="Default", description="The default domain"))
    admin_project = _project(tx, "admin", "For the cloud's administrators")
    demo_project = _project(tx, "demo", "For trying things out")
    admin = _user(tx, "admin", admin_project, options.admin_password_hash, reset=options.reset_passwords)
    demo = _user(tx, "demo", demo_project, options.demo_password_hash, reset=options.reset_passwords)
    roles = {name: _role(tx, name) for name in (*ROLES, SERVICE_ROLE)}
    for prior, implied in pairwise(ROLES):
        _ensure(
            tx,
            RoleInference(
                id=relation_id(roles[prior], roles[implied]),
                prior_role_id=roles[prior],
                implied_role_id=roles[implied],
            ),
        )
    _ensure(tx, assignment(roles["admin"], "user", admin, Scope("project", admin_project)))
    _ensure(tx, assignment(roles["admin"], "user", admin, SYSTEM))
    _ensure(tx, assignment(roles["member"], "user", demo, Scope("project", demo_project)))
    _catalog(tx, options)
    return Seeded(admin_project, demo_project, admin, demo)


def _project(tx: Tx, name: str, description: str) -> str:
    there = tx.find(Project, domain_id=DEFAULT, name=name)
    if there:
        return there[0].id
    project = Project(id=new_id(), name=name, description=description, domain_id=DEFAULT, parent_id=DEFAULT)
    tx.insert(project)
    return project.id


def _user(tx: Tx, name: str, project_id: str, password: str, *, reset: bool) -> str:
    there = tx.find(User, domain_id=DEFAULT, name=name)
    if not there:
        user = User(
            id=new_id(), name=name, domain_id=DEFAULT, default_project_id=project_id, password=password
        )
        tx.insert(user)
        return user.id
    if reset:
        tokens_from = float(int(tx.now.timestamp()) + 1)
        tx.replace(msgspec.structs.replace(there[0], password=password, tokens_from=tokens_from))
    return there[0].id


def _role(tx: Tx, name: str) -> str:
    there = tx.find(Role, name=name, domain_id=None)
    if there:
        return there[0].id
    role = Role(id=new_id(), name=name)
    tx.insert(role)
    return role.id


def _ensure(tx: Tx, one: RoleAssignment | RoleInference) -> None:
    if tx.get(type(one), one.id) is None:
        tx.insert(one)


def _catalog(tx: Tx, options: SeedOptions) -> None:
    if tx.get(Region, options.region) is None:
        tx.insert(Region(id=options.region))
    for type, path in options.services.items():
        service_id = relation_id("service", type)
        _put(tx, Service(id=service_id, type=type, name=type))
        for interface in ("public", "internal", "admin"):
            _put(
                tx,
                Endpoint(
                    id=relation_id("endpoint", type, interface, options.region),
                    service_id=service_id,
                    interface=interface,
                    url=f"{options.base_url}{path}",
                    region_id=options.region,
                ),
            )


def _put(tx: Tx, one: Resource) -> None:
    there = tx.get(type(one), one.id)
    if there is None:
        tx.insert(one)
    elif there != one:
        tx.replace(one)
