"""Who there is, what they may do, and where the services are: the resources of the Identity API.

Ids are UUIDs in hexadecimal, without dashes, for that is what fits a token; the id of a region is
chosen by who makes it, and the first domain is "default".
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import Meta, field

from trunkline.resources.schema import Check, Resource, computed, fixed, hidden, resource, settable
from trunkline.resources.types import Id, compact


def present(value: str) -> str:
    """A name in which something can be read.

    Raises:
        ValueError: it is all blanks.
    """
    if not value.strip():
        raise ValueError("it is empty. Give it a name.")
    return value


def utc_time(value: str) -> str:
    """Normal form of a time: 2026-11-21T04:00:00.000000Z.

    Raises:
        ValueError: it is none, or says another zone than UTC.
    """
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"'{value[:80]}' is no time. Write it as 2026-11-21T04:00:00Z.") from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


_TAG = re.compile(r"[^,/]{1,255}")


def tags(value: list[str]) -> list[str]:
    """Tags, each once, in order.

    Raises:
        ValueError: one is empty, too long, or has a comma or a slash; or there are more than 80.
    """
    unique = sorted(set(value))
    for tag in unique:
        if not _TAG.fullmatch(tag):
            raise ValueError(f"'{tag[:80]}' is no tag: 1 to 255 characters, no comma, no slash.")
    if len(unique) > 80:
        raise ValueError("there are more than 80 tags. Remove some.")
    return unique


def http_url(value: str) -> str:
    """A URL of a service.

    Raises:
        ValueError: it has no scheme or no host.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/]+\S*", value):
        raise ValueError(f"'{value[:80]}' is no URL. Write it as http://host:port/path.")
    return value


def one_of(*words: str) -> Check:
    """A check that a text is one of some words."""

    def check(value: str) -> str:
        if value not in words:
            raise ValueError(f"'{value[:80]}' is none of {', '.join(words)}.")
        return value

    return Check(check)


def endpoint_filters(value: dict[str, str]) -> dict[str, str]:
    """Filters of an endpoint group.

    Raises:
        ValueError: one is not by interface, service_id or region_id.
    """
    for name in value:
        if name not in ("interface", "service_id", "region_id"):
            raise ValueError(f"'{name[:80]}' is no filter. Use interface, service_id or region_id.")
    return value


#: Of a domain, project, group: at most 64 characters, as Keystone has it.
ShortName = Annotated[str, Meta(min_length=1, max_length=64), Check(present)]
LongName = Annotated[str, Meta(min_length=1, max_length=255), Check(present)]
Description = Annotated[str, Meta(max_length=4096)]
Text = Annotated[str, Meta(max_length=255)]
Time = Annotated[str, Meta(max_length=64), Check(utc_time)]
Tags = Annotated[list[str], Meta(max_length=1000), Check(tags)]
Options = Annotated[dict[str, Any], Meta(max_length=100), compact(16384)]
Password = Annotated[str, Meta(max_length=4096)]


@resource(kind="domain", plural="domains", service="identity", unique=(("name",),))
class Domain(Resource):
    """A realm of users, groups and projects, in which their names are unique."""

    #: Unique in the cloud.
    name: Annotated[ShortName, settable(required=True)]
    #: For people.
    description: Annotated[Description | None, settable()] = ""
    #: While it is not, nobody of it can log in, and no token is good for it or its projects.
    enabled: Annotated[bool, settable()] = True
    #: Words to find it by.
    tags: Annotated[Tags, settable()] = field(default_factory=list)
    #: Options of the resource; none has a meaning here.
    options: Annotated[Options, settable()] = field(default_factory=dict)


@resource(kind="project", plural="projects", service="identity", unique=(("domain_id", "name"),))
class Project(Resource):
    """What owns resources, and what a token is mostly for. Projects of a domain form trees."""

    #: Unique in the domain.
    name: Annotated[ShortName, settable(required=True)]
    #: The domain it lives in; that of who creates it by default.
    domain_id: Annotated[Id, fixed(index=True)] = ""
    #: The project above it, or its domain.
    parent_id: Annotated[Id | None, fixed(index=True)] = None
    #: For people.
    description: Annotated[Description | None, settable()] = ""
    #: While it is not, no token is good for it.
    enabled: Annotated[bool, settable()] = True
    #: Whether it acts as a domain; none does here, for domains are resources of their own.
    is_domain: Annotated[bool, fixed()] = False
    #: Words to find it by.
    tags: Annotated[Tags, settable()] = field(default_factory=list)
    #: Options of the resource; none has a meaning here.
    options: Annotated[Options, settable()] = field(default_factory=dict)


@resource(kind="user", plural="users", service="identity", unique=(("domain_id", "name"),))
class User(Resource):
    """Who can log in."""

    #: Unique in the domain.
    name: Annotated[LongName, settable(required=True)]
    #: The domain it lives in; that of who creates it by default.
    domain_id: Annotated[Id, fixed(index=True)] = ""
    #: The project that a log-in without a scope is for, if the user has a role there.
    default_project_id: Annotated[Id | None, settable()] = None
    #: For people.
    description: Annotated[Description | None, settable()] = ""
    #: Where to write to.
    email: Annotated[Text | None, settable()] = None
    #: While it is not, it cannot log in, and its tokens are not good.
    enabled: Annotated[bool, settable()] = True
    #: Kept for clients that give one; `default_project_id` is what counts.
    home_project_id: Annotated[Id | None, settable()] = field(default=None, name="project_id")
    #: Options of the user: ignore_password_expiry, lock_password ...
    options: Annotated[Options, settable()] = field(default_factory=dict)
    #: When the password has to be changed; null for never.
    password_expires_at: Annotated[str | None, computed()] = None
    #: The password in a request; its hash in the store.
    password: Annotated[Password | None, hidden(create=True, update=True)] = None
    #: Seconds since 1970; tokens issued earlier are not good.
    tokens_from: Annotated[float, hidden()] = 0.0


@resource(kind="group", plural="groups", service="identity", unique=(("domain_id", "name"),))
class Group(Resource):
    """Users who are given roles together."""

    #: Unique in the domain.
    name: Annotated[ShortName, settable(required=True)]
    #: The domain it lives in; that of who creates it by default.
    domain_id: Annotated[Id, fixed(index=True)] = ""
    #: Kept for clients that give one; it has no meaning.
    home_project_id: Annotated[Id | None, settable()] = field(default=None, name="project_id")
    #: For people.
    description: Annotated[Description | None, settable()] = ""


@resource(kind="membership", plural="memberships", service="", unique=(("user_id", "group_id"),))
class Membership(Resource):
    """A user is in a group."""

    user_id: Annotated[str, computed(index=True)]
    group_id: Annotated[str, computed(index=True)]


@resource(kind="role", plural="roles", service="identity", unique=(("domain_id", "name"),))
class Role(Resource):
    """What the access rules ask for."""

    #: Unique among the roles of its domain, or among those of none.
    name: Annotated[LongName, settable(required=True)]
    #: The domain whose own it is: it then stands for the roles it implies, and for nothing itself.
    domain_id: Annotated[Id | None, fixed()] = None
    #: For people.
    description: Annotated[Description | None, settable()] = None
    #: Options of the role: {"immutable": true} keeps it from being changed and deleted.
    options: Annotated[Options, settable()] = field(default_factory=dict)


@resource(
    kind="role_inference",
    plural="role_inferences",
    service="",
    unique=(("prior_role_id", "implied_role_id"),),
)
class RoleInference(Resource):
    """Who has one role has another too."""

    prior_role_id: Annotated[str, computed(index=True)]
    implied_role_id: Annotated[str, computed(index=True)]


@resource(
    kind="role_assignment",
    plural="role_assignments",
    service="",
    unique=(("role_id", "actor", "actor_id", "scope", "scope_id", "inherited"),),
)
class RoleAssignment(Resource):
    """A user or a group has a role at a scope."""

    role_id: Annotated[str, computed(index=True)]
    #: Whose it is: user or group.
    actor: Annotated[str, computed()]
    actor_id: Annotated[str, computed(index=True)]
    #: What it is for: project, domain or system.
    scope: Annotated[str, computed()]
    #: The id of the project or domain; "all" for the system.
    scope_id: Annotated[str, computed(index=True)]
    #: Whether it holds in the projects below, and not at the scope itself.
    inherited: Annotated[bool, computed()] = False


@resource(kind="region", plural="regions", service="identity")
class Region(Resource):
    """Where endpoints are."""

    #: Chosen by who creates it, or made up.
    id: Annotated[Text, fixed()] = ""
    #: For people.
    description: Annotated[Description | None, settable()] = ""
    #: The region that it is a part of.
    parent_region_id: Annotated[Text | None, settable()] = None


@resource(kind="service", plural="services", service="identity")
class Service(Resource):
    """A kind of endpoint, in the catalog."""

    #: What clients look for: identity, network, compute, image ...
    type: Annotated[LongName, settable(required=True)]
    #: For people.
    name: Annotated[Text | None, settable()] = ""
    #: For people.
    description: Annotated[Description | None, settable()] = ""
    #: While it is not, it is not in the catalog.
    enabled: Annotated[bool, settable()] = True


@resource(kind="endpoint", plural="endpoints", service="identity")
class Endpoint(Resource):
    """A URL of a service."""

    #: The service that answers there.
    service_id: Annotated[Id, settable(required=True, index=True)]
    #: For whom it is.
    interface: Annotated[str, one_of("public", "internal", "admin"), settable(required=True)]
    #: In it, $(project_id)s and %(project_id)s stand for the project of the token.
    url: Annotated[str, Meta(max_length=2048), Check(http_url), settable(required=True)]
    #: The region it is in.
    region_id: Annotated[Text | None, settable()] = None
    #: For people.
    name: Annotated[Text | None, settable()] = None
    #: For people.
    description: Annotated[Description | None, settable()] = None
    #: While it is not, it is not in the catalog.
    enabled: Annotated[bool, settable()] = True


@resource(
    kind="application_credential",
    plural="application_credentials",
    service="identity",
    unique=(("user_id", "name"),),
)
class ApplicationCredential(Resource):
    """A secret with which a program logs in as its user, with some of the user's roles in one project."""

    #: Unique among those of the user.
    name: Annotated[LongName, fixed(required=True)]
    #: Whose it is.
    user_id: Annotated[str, computed(index=True)] = ""
    #: What it is for.
    project_id: Annotated[str, computed(index=True)] = ""
    #: For people.
    description: Annotated[Description | None, fixed()] = None
    #: When it stops working; null for never.
    expires_at: Annotated[Time | None, fixed()] = None
    #: Whether it may make and delete application credentials and trusts.
    unrestricted: Annotated[bool, fixed()] = False
    #: The ids of its roles.
    role_ids: Annotated[list[str], hidden()] = field(default_factory=list)
    #: The ids of the rules that it may use; null for everything.
    access_rule_ids: Annotated[list[str] | None, hidden()] = None
    #: The hash of the secret.
    secret: Annotated[Password | None, hidden(create=True)] = None


@resource(
    kind="access_rule",
    plural="access_rules",
    service="identity",
    unique=(("user_id", "service", "method", "path"),),
)
class AccessRule(Resource):
    """A request that an application credential is good for."""

    #: The type of the service.
    service: Annotated[LongName, fixed(required=True)]
    #: The method of the request.
    method: Annotated[str, one_of("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"), fixed(required=True)]
    #: The path of the request; * stands for a part of it, ** for any number of parts.
    path: Annotated[str, Meta(min_length=1, max_length=255), fixed(required=True)]
    #: Whose it is.
    user_id: Annotated[str, hidden(index=True)] = ""


@resource(kind="trust", plural="trusts", service="identity")
class Trust(Resource):
    """A user lets another act with some of its roles in a project."""

    #: Who gives.
    trustor_user_id: Annotated[Id, fixed(required=True, index=True)]
    #: Who is given to.
    trustee_user_id: Annotated[Id, fixed(required=True, index=True)]
    #: Whether tokens of it are in the name of the trustor.
    impersonation: Annotated[bool, fixed(required=True)]
    #: What it is for.
    project_id: Annotated[Id | None, fixed()] = None
    #: When it ends; null for never.
    expires_at: Annotated[Time | None, fixed()] = None
    #: How many tokens can still be had by it; null for any number.
    remaining_uses: Annotated[Annotated[int, Meta(ge=1)] | None, fixed()] = None
    #: Whether the trustee may hand it on.
    allow_redelegation: Annotated[bool, fixed()] = False
    #: How many times it may be handed on.
    redelegation_count: Annotated[Annotated[int, Meta(ge=0, le=3)] | None, fixed()] = 0
    #: The ids of its roles.
    role_ids: Annotated[list[str], hidden()] = field(default_factory=list)


@resource(kind="credential", plural="credentials", service="identity")
class Credential(Resource):
    """A secret that the cloud keeps for a user: access keys of type ec2, and what users store."""

    #: What stands in `blob`: ec2, totp, cert ...
    type: Annotated[LongName, fixed(required=True)]
    #: The secret, in the form of its type.
    blob: Annotated[str, Meta(max_length=65536), settable(required=True)]
    #: Whose it is; who creates it by default.
    user_id: Annotated[Id, fixed(index=True)] = ""
    #: What it is for.
    project_id: Annotated[Id | None, fixed()] = None


@resource(kind="endpoint_group", plural="endpoint_groups", service="identity")
class EndpointGroup(Resource):
    """The endpoints that a filter picks."""

    #: For people.
    name: Annotated[LongName, settable(required=True)]
    #: What endpoints must have: interface, service_id, region_id.
    filters: Annotated[dict[str, Id], Check(endpoint_filters), settable(required=True)]
    #: For people.
    description: Annotated[Description | None, settable()] = None


@resource(kind="revocation", plural="revocations", service="")
class Revocation(Resource):
    """The token with this audit id is not good any more; kept for as long as it would live."""

    #: The token's own audit id.
    audit_id: Annotated[str, computed(index=True)]
    #: Seconds since 1970: when the token ends.
    expires_at: Annotated[float, computed(index=True)] = 0.0
