"""What the identity kinds do beside the common stages of a request."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement

from trunkline.api.context import Context
from trunkline.api.engine import Call, Stages
from trunkline.api.identity import removal
from trunkline.api.identity.filters import matching, tagged
from trunkline.api.identity.roles import above, below
from trunkline.api.query import Filter
from trunkline.errors import BadField, Conflict, Forbidden, InUse, NotFound
from trunkline.resources.identity import (
    Credential,
    Domain,
    Endpoint,
    EndpointGroup,
    Group,
    Project,
    Region,
    Role,
    Service,
    User,
)
from trunkline.resources.schema import Resource, spec_of
from trunkline.store import Reader

#: The type of credentials that are access keys.
EC2 = "ec2"
#: Projects in a line from the top one down.
MAX_DEPTH = 5


def everything(context: Context) -> list[ColumnElement[bool]]:
    """Identity kinds are seen by access rules alone, not by project."""
    return []


def new_id() -> str:
    """A UUID in hexadecimal."""
    return uuid.uuid4().hex


def target_of(obj: Resource) -> dict[str, Any]:
    """An object as Keystone's rules name it: target.user.id, target.user.domain_id ..."""
    spec = spec_of(type(obj))
    return {f"target.{spec.kind}.{f.wire}": getattr(obj, f.name) for f in spec.fields.values() if f.scalar}


def _target(reader: Reader, obj: Resource) -> Mapping[str, Any]:
    return target_of(obj)


# Names.


def _unique(call: Call, obj: Any, **scope: Any) -> None:
    """Raises Conflict where another of the kind has the name in the same scope."""
    kind = type(obj)
    if any(other.id != obj.id for other in call.tx.find(kind, name=obj.name, **scope)):
        raise Conflict(
            f"A {spec_of(kind).kind} with the name '{obj.name}' is there already. Choose another name."
        )


def _domain(call: Call, domain_id: str) -> Domain:
    domain = call.tx.get(Domain, domain_id)
    if domain is None:
        raise NotFound(f"Could not find domain: {domain_id[:255]}.")
    return domain


# Domains.


def _create_domain(call: Call, domain: Domain, given: frozenset[str]) -> Domain:
    _unique(call, domain)
    return domain


def _update_domain(call: Call, old: Domain, new: Domain, given: frozenset[str]) -> Domain:
    _unique(call, new)
    return new


def _delete_domain(call: Call, domain: Domain) -> None:
    if domain.enabled:
        raise Forbidden("Cannot delete a domain that is enabled. Disable it first.")
    removal.clear_domain(call, domain.id)


# Projects.


def _create_project(call: Call, project: Project, given: frozenset[str]) -> Project:
    if project.is_domain:
        raise BadField("is_domain", "projects do not act as domains here. Create a domain.")
    domain = _domain(call, project.domain_id)
    if project.parent_id and project.parent_id != domain.id:
        parent = call.tx.get(Project, project.parent_id)
        if parent is None:
            raise NotFound(f"Could not find project: {project.parent_id[:255]}.")
        if parent.domain_id != domain.id:
            raise BadField("parent_id", f"project {parent.id} is not of domain {domain.id}.")
        if not parent.enabled:
            raise Forbidden(f"Cannot create a project below {parent.id}, which is disabled. Enable it first.")
        if len(above(call.tx, parent)) + 2 > MAX_DEPTH:
            raise Forbidden(f"A project can be {MAX_DEPTH} deep in its tree and no more.")
    else:
        project = msgspec.structs.replace(project, parent_id=domain.id)
    if project.enabled and not domain.enabled:
        raise Forbidden(f"Cannot create an enabled project in domain {domain.id}, which is disabled.")
    _unique(call, project, domain_id=domain.id)
    return project


def _update_project(call: Call, old: Project, new: Project, given: frozenset[str]) -> Project:
    _unique(call, new, domain_id=new.domain_id)
    if old.enabled and not new.enabled and any(child.enabled for child in below(call.tx, old.id)):
        raise Forbidden(
            f"Cannot disable project {old.id}: projects below it are enabled. Disable them first."
        )
    if new.enabled and not old.enabled:
        disabled = [id for id in above(call.tx, old) if not _enabled(call, id)]
        if disabled:
            raise Forbidden(f"Cannot enable project {old.id}: {disabled[0]} above it is disabled.")
    return new


def _enabled(call: Call, project_id: str) -> bool:
    project = call.tx.get(Project, project_id)
    return project is not None and project.enabled


def _delete_project(call: Call, project: Project) -> None:
    if call.tx.count(Project, parent_id=project.id):
        raise Forbidden(
            f"Cannot delete project {project.id}: there are projects below it. Delete them first."
        )
    removal.clear_project(call, project.id)


# Users and groups.


def _create_user(call: Call, user: User, given: frozenset[str]) -> User:
    _domain(call, user.domain_id)
    _unique(call, user, domain_id=user.domain_id)
    _refuse_domain_as_project(call, user)
    return user


def _update_user(call: Call, old: User, new: User, given: frozenset[str]) -> User:
    _unique(call, new, domain_id=new.domain_id)
    _refuse_domain_as_project(call, new)
    if "password" in given or (old.enabled and not new.enabled):
        # What was issued up to and in this very second, is good no more.
        return msgspec.structs.replace(new, tokens_from=float(int(call.tx.now.timestamp()) + 1))
    return new


def _refuse_domain_as_project(call: Call, user: User) -> None:
    if user.default_project_id and call.tx.get(Domain, user.default_project_id) is not None:
        raise BadField("default_project_id", "it is the id of a domain. Give that of a project.")


def _delete_user(call: Call, user: User) -> None:
    removal.clear_user(call, user.id)


def _create_group(call: Call, group: Group, given: frozenset[str]) -> Group:
    _domain(call, group.domain_id)
    _unique(call, group, domain_id=group.domain_id)
    return group


def _update_group(call: Call, old: Group, new: Group, given: frozenset[str]) -> Group:
    _unique(call, new, domain_id=new.domain_id)
    return new


def _delete_group(call: Call, group: Group) -> None:
    removal.clear_group(call, group.id)


# Roles.


def _create_role(call: Call, role: Role, given: frozenset[str]) -> Role:
    if role.domain_id:
        call.require("identity:create_domain_role", target_of(role))
        _domain(call, role.domain_id)
    else:
        role = msgspec.structs.replace(role, domain_id=None)
    _unique(call, role, domain_id=role.domain_id)
    return role


def _update_role(call: Call, old: Role, new: Role, given: frozenset[str]) -> Role:
    _unique(call, new, domain_id=new.domain_id)
    if old.options.get("immutable") and new.options.get("immutable") is not False:
        raise Forbidden(f"Role {old.id} is immutable. Set its option 'immutable' to false first.")
    return new


def _delete_role(call: Call, role: Role) -> None:
    if role.options.get("immutable"):
        raise Forbidden(f"Role {role.id} is immutable. Set its option 'immutable' to false first.")
    removal.clear_role(call, role.id)


# The catalog.


def _create_region(call: Call, region: Region, given: frozenset[str]) -> Region:
    if not region.id:
        region = msgspec.structs.replace(region, id=new_id())
    if call.tx.get(Region, region.id) is not None:
        raise Conflict(f"A region with the id '{region.id}' is there already. Choose another id.")
    _check_parent(call, region)
    return region


def _update_region(call: Call, old: Region, new: Region, given: frozenset[str]) -> Region:
    _check_parent(call, new)
    return new


def _check_parent(call: Call, region: Region) -> None:
    seen = {region.id}
    parent = region.parent_region_id
    while parent:
        if parent in seen:
            raise BadField("parent_region_id", f"region {parent} would be above itself.")
        seen.add(parent)
        found = call.tx.get(Region, parent)
        if found is None:
            raise NotFound(f"Could not find region: {parent}.")
        parent = found.parent_region_id


def _delete_region(call: Call, region: Region) -> None:
    if call.tx.count(Region, parent_region_id=region.id):
        raise InUse(f"Region {region.id} has regions below it. Delete them first.")
    if call.tx.count(Endpoint, region_id=region.id):
        raise InUse(f"Region {region.id} has endpoints. Delete them first.")


def _delete_service(call: Call, service: Service) -> None:
    removal.clear_service(call, service.id)


def _create_endpoint(call: Call, endpoint: Endpoint, given: frozenset[str]) -> Endpoint:
    if call.tx.get(Service, endpoint.service_id) is None:
        raise BadField("service_id", f"there is no service {endpoint.service_id}.")
    if endpoint.region_id and call.tx.get(Region, endpoint.region_id) is None:
        raise BadField("region_id", f"there is no region {endpoint.region_id}. Create it first.")
    return endpoint


def _update_endpoint(call: Call, old: Endpoint, new: Endpoint, given: frozenset[str]) -> Endpoint:
    return _create_endpoint(call, new, given)


def _see_endpoint(reader: Reader, context: Context, endpoints: Sequence[Endpoint]) -> list[dict[str, Any]]:
    return [{"region": endpoint.region_id} for endpoint in endpoints]


# Credentials.


def _create_credential(call: Call, credential: Credential, given: frozenset[str]) -> Credential:
    if call.tx.get(User, credential.user_id) is None:
        raise BadField("user_id", f"there is no user {credential.user_id}.")
    if "project_id" not in given:
        credential = msgspec.structs.replace(credential, project_id=None)
    if credential.project_id and call.tx.get(Project, credential.project_id) is None:
        raise BadField("project_id", f"there is no project {credential.project_id}.")
    if credential.type != EC2:
        return credential
    if not credential.project_id:
        raise BadField("project_id", "it is required for credentials of type ec2.")
    id = ec2_id(_access_key(credential))
    if call.tx.get(Credential, id) is not None:
        raise Conflict("A credential with this access key is there already. Choose another.")
    return msgspec.structs.replace(credential, id=id)


def _update_credential(call: Call, old: Credential, new: Credential, given: frozenset[str]) -> Credential:
    if new.type == EC2:
        _access_key(new)
    return new


def _access_key(credential: Credential) -> str:
    try:
        return msgspec.json.decode(credential.blob, type=_Key).access
    except msgspec.MsgspecError:
        raise BadField("blob", "of type ec2 it is a JSON object with 'access' and 'secret'.") from None


class _Key(msgspec.Struct):
    """What stands in the blob of an EC2 credential."""

    access: str
    secret: str


def ec2_id(access: str) -> str:
    """The id of an EC2 credential: SHA-256 of its access key, as Keystone has it."""
    return hashlib.sha256(access.encode()).hexdigest()


def _stages(kind: type[Resource], **more: Any) -> Stages[Any]:
    filters: dict[str, Filter] = dict(more.pop("filters", {}))
    if "name" in spec_of(kind).fields:
        filters.update(matching(kind, "name"))
    return Stages(
        visible=everything,
        target=_target,
        new_id=more.pop("new_id", new_id),
        not_found=f"Could not find {spec_of(kind).kind}: {{id}}.",
        filters=filters,
        **more,
    )


#: By kind, for the engine.
STAGES: Mapping[str, Stages[Any]] = {
    "domain": _stages(
        Domain, create=_create_domain, update=_update_domain, delete=_delete_domain, filters=tagged(Domain)
    ),
    "project": _stages(
        Project,
        create=_create_project,
        update=_update_project,
        delete=_delete_project,
        filters=tagged(Project),
    ),
    "user": _stages(User, create=_create_user, update=_update_user, delete=_delete_user),
    "group": _stages(Group, create=_create_group, update=_update_group, delete=_delete_group),
    "role": _stages(Role, create=_create_role, update=_update_role, delete=_delete_role),
    "region": _stages(Region, create=_create_region, update=_update_region, delete=_delete_region),
    "service": _stages(Service, delete=_delete_service),
    "endpoint": _stages(Endpoint, create=_create_endpoint, update=_update_endpoint, view=_see_endpoint),
    "endpoint_group": _stages(EndpointGroup),
    "credential": _stages(Credential, create=_create_credential, update=_update_credential),
}
