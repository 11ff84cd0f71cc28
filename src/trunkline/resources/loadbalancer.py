"""Load balancers, as the Octavia API v2 has them: what listens where, and who answers.

    LoadBalancer ──┬─ Listener ── L7Policy ── L7Rule
                   └─ Pool ──┬─ Member
                             └─ HealthMonitor

A listener has its pool by `default_pool_id`, a policy one by `redirect_pool_id`. Everything names the load
balancer that it is of. Source of names and limits: OpenStack's Load Balancer API v2 reference.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from msgspec import Meta, Struct

from trunkline.resources.network.checks import Uuid, no_control
from trunkline.resources.schema import (
    Check,
    Flags,
    Resource,
    computed,
    fixed,
    hidden,
    observed,
    resource,
    settable,
)
from trunkline.resources.standard import clean_tags
from trunkline.resources.types import Description, Id, IpAddress, Name

PortNumber = Annotated[int, Meta(ge=1, le=65535)]
#: Milliseconds, up to a year.
Timeout = Annotated[int, Meta(ge=0, le=31_536_000_000)]
#: Seconds, up to a year.
Seconds = Annotated[int, Meta(ge=1, le=31_536_000)]

_TOKEN = re.compile(r"[a-zA-Z0-9!#$%&'*+.^_`|~-]+")
_CODES = re.compile(r"\d{3}(-\d{3})?(,\s*\d{3}(-\d{3})?)*")
_LABEL = r"[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
#: Headers that listeners insert.
HEADERS = ("X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto")


def _within() -> Flags:
    """A field that says what the resource is of: given on create, shown otherwise or by the path."""
    return Flags(create=True, shown=False, filter=False, sort=False, index=True)


def _cidrs(values: list[str]) -> list[str]:
    if len(set(values)) < len(values):
        raise ValueError("a range is given twice. Name each once.")
    normal = []
    for value in values:
        try:
            normal.append(str(ipaddress.ip_network(value, strict=False)))
        except ValueError:
            raise ValueError(f"'{value[:80]}' is not a valid range. Write it as 10.0.0.0/24.") from None
    return normal


def _headers(values: dict[str, str]) -> dict[str, str]:
    for name, value in values.items():
        if name not in HEADERS:
            raise ValueError(f"'{name[:80]}' is not a header that is inserted. Use: {', '.join(HEADERS)}.")
        if value.lower() not in ("true", "false"):
            raise ValueError(f"'{value[:40]}' of {name} is neither 'true' nor 'false'.")
    return {name: value.lower() for name, value in values.items()}


def _path(value: str) -> str:
    no_control(value, "a path")
    if not value.startswith("/") or " " in value:
        raise ValueError(f"'{value[:80]}' is not a path. It begins with / and has no spaces.")
    return value


def _codes(value: str) -> str:
    if not _CODES.fullmatch(value):
        raise ValueError(f"'{value[:80]}' are no codes. Write them as 200, as 200,202 or as 200-204.")
    for part in value.split(","):
        first, _, last = part.strip().partition("-")
        if not 100 <= int(first) <= int(last or first) <= 599:
            raise ValueError(f"'{part.strip()}': codes are from 100 to 599, the first one first.")
    return value


def _domain(value: str) -> str:
    if not _DOMAIN.fullmatch(value):
        raise ValueError(f"'{value[:80]}' is not a name of a host. Write it as www.example.com.")
    return value


def _url(value: str) -> str:
    no_control(value, "a URL")
    if not re.fullmatch(r"https?://[^\s/\"'\\]+\S*", value) or '"' in value:
        raise ValueError(f"'{value[:80]}' is not a URL. Write it as https://www.example.com/path.")
    return value


def _cookie(value: str) -> str:
    if not _TOKEN.fullmatch(value):
        raise ValueError(
            f"'{value[:80]}' is not a name of a cookie (RFC 6265). Use letters, digits, - and _."
        )
    return value


def _plain(value: str) -> str:
    return no_control(value, "it")


class SessionPersistence(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How clients come back to the member that they had."""

    type: Literal["APP_COOKIE", "HTTP_COOKIE", "SOURCE_IP"]
    #: The application's cookie; of APP_COOKIE alone.
    cookie_name: Annotated[str, Meta(max_length=255)] | None = None
    #: Of UDP: for how many seconds, and for how large a range of clients.
    persistence_timeout: Annotated[int, Meta(ge=1, le=31_536_000)] | None = None
    persistence_granularity: Annotated[str, Meta(max_length=64)] | None = None


def _persistence(value: SessionPersistence) -> SessionPersistence:
    if value.type == "APP_COOKIE":
        if not value.cookie_name:
            raise ValueError("APP_COOKIE needs cookie_name, the cookie of the application.")
        _cookie(value.cookie_name)
    elif value.cookie_name:
        raise ValueError(f"cookie_name is not for {value.type}. Remove it.")
    return value


class Part(Resource, kw_only=True):
    """What everything has that a load balancer is made of, and the load balancer too."""

    #: The project that owns it.
    project_id: Annotated[Id, fixed(index=True)] = ""
    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: Whether it does its work.
    admin_state_up: Annotated[bool, settable()] = True
    #: Labels to find it by.
    tags: Annotated[list[str], settable(filter=False), Check(clean_tags)] = []
    #: ACTIVE: what was asked for is in force. PENDING_CREATE, PENDING_UPDATE: not yet. ERROR: it cannot be.
    provisioning_status: Annotated[str, observed()] = "PENDING_CREATE"
    #: What was seen: ONLINE, OFFLINE, DEGRADED, ERROR, NO_MONITOR or DRAINING.
    operating_status: Annotated[str, observed()] = "OFFLINE"
    #: When it was created, UTC.
    created_at: Annotated[str, computed()] = ""
    #: When it was last changed, UTC; none where it was not.
    updated_at: Annotated[str | None, computed()] = None


@resource(kind="loadbalancer", plural="loadbalancers", service="loadbalancer", quota=10)
class LoadBalancer(Part, kw_only=True):
    """An address at which listeners spread what arrives over members."""

    #: A text for people.
    description: Annotated[Description, settable()] = ""
    #: The address that clients connect to.
    vip_address: Annotated[IpAddress | None, fixed()] = None
    #: The subnet that it is of.
    vip_subnet_id: Annotated[Uuid | None, fixed(index=True)] = None
    #: The network that it is on.
    vip_network_id: Annotated[Uuid | None, fixed()] = None
    #: The port that holds it.
    vip_port_id: Annotated[Uuid | None, fixed(index=True)] = None
    #: Who does the work.
    provider: Annotated[Annotated[str, Meta(max_length=64)], fixed()] = "trunkline"
    #: Its flavor: how large it is.
    flavor_id: Annotated[Uuid | None, fixed(index=True)] = None
    #: The name of its availability zone: on which hosts it is; None: on any.
    availability_zone: Annotated[Annotated[str, Meta(max_length=255)] | None, fixed(index=True)] = None
    #: The API made its port, which goes with it.
    vip_made: Annotated[bool, hidden()] = False
    #: The appliance that does its work.
    appliance_id: Annotated[str, hidden(index=True)] = ""
    #: Addresses of it from which members are asked.
    masquerade: Annotated[list[str], hidden()] = []
    #: The revision of its appliance's policy that has its last change.
    policy_revision: Annotated[int, hidden()] = 0


@resource(kind="listener", plural="listeners", service="loadbalancer", quota=100)
class Listener(Part, kw_only=True):
    """A port at which a load balancer takes connections."""

    #: A text for people.
    description: Annotated[Description, settable()] = ""
    #: The load balancer that it is of.
    loadbalancer_id: Annotated[Uuid, _within()] = ""
    #: What is spoken there.
    protocol: Annotated[
        Literal["HTTP", "HTTPS", "PROMETHEUS", "SCTP", "TCP", "TERMINATED_HTTPS", "UDP"], fixed(required=True)
    ] = "TCP"
    #: The port.
    protocol_port: Annotated[PortNumber, fixed(required=True)] = 0
    #: How many connections there may be at a time, -1 for any number.
    connection_limit: Annotated[Annotated[int, Meta(ge=-1, le=2**31 - 1)], settable()] = -1
    #: The pool that takes what no policy sends elsewhere.
    default_pool_id: Annotated[Uuid | None, settable(index=True)] = None
    #: Headers that requests have when they come to members.
    insert_headers: Annotated[dict[str, str], settable(filter=False), Check(_headers)] = {}
    #: For how long a client may be silent, ms.
    timeout_client_data: Annotated[Timeout, settable()] = 50_000
    #: For how long a member may take to answer a connection, ms.
    timeout_member_connect: Annotated[Timeout, settable()] = 5_000
    #: For how long a member may be silent, ms.
    timeout_member_data: Annotated[Timeout, settable()] = 50_000
    #: For how long more of the beginning of a connection is waited for, ms.
    timeout_tcp_inspect: Annotated[Timeout, settable()] = 0
    #: Whom connections are taken from; of none, from everybody.
    allowed_cidrs: Annotated[list[str] | None, settable(filter=False), Check(_cidrs)] = None


@resource(kind="pool", plural="pools", service="loadbalancer", quota=100)
class Pool(Part, kw_only=True):
    """Members that do the same work, and how it is spread over them."""

    #: A text for people.
    description: Annotated[Description, settable()] = ""
    #: The load balancer that it is of.
    loadbalancer_id: Annotated[Uuid, _within()] = ""
    #: What members speak.
    protocol: Annotated[
        Literal["HTTP", "HTTPS", "PROXY", "PROXYV2", "SCTP", "TCP", "UDP"], fixed(required=True)
    ] = "TCP"
    #: Who is next.
    lb_algorithm: Annotated[
        Literal["LEAST_CONNECTIONS", "ROUND_ROBIN", "SOURCE_IP", "SOURCE_IP_PORT"], settable(required=True)
    ] = "ROUND_ROBIN"
    #: How clients come back to the member that they had.
    session_persistence: Annotated[SessionPersistence | None, settable(filter=False), Check(_persistence)] = (
        None
    )
    #: Whether members are asked by TLS.
    tls_enabled: Annotated[bool, settable()] = False


@resource(kind="member", plural="members", service="loadbalancer", quota=1000)
class Member(Part, kw_only=True):
    """A server that answers."""

    #: The pool and the load balancer that it is of.
    pool_id: Annotated[str, hidden(index=True)] = ""
    loadbalancer_id: Annotated[str, hidden(index=True)] = ""
    #: Its address.
    address: Annotated[IpAddress, fixed(required=True)] = ""
    #: Its port.
    protocol_port: Annotated[PortNumber, fixed(required=True)] = 0
    #: Its part of new connections, in proportion to others'; 0: none.
    weight: Annotated[Annotated[int, Meta(ge=0, le=256)], settable()] = 1
    #: It is asked where no other member is well.
    backup: Annotated[bool, settable()] = False
    #: The subnet that its address is reached by; by default that of the VIP.
    subnet_id: Annotated[Uuid | None, fixed(refers="subnet")] = None
    #: Where it is asked how it is, if not where it works.
    monitor_address: Annotated[IpAddress | None, settable()] = None
    #: ... and at which port.
    monitor_port: Annotated[PortNumber | None, settable()] = None


@resource(kind="healthmonitor", plural="healthmonitors", service="loadbalancer", quota=100)
class HealthMonitor(Part, kw_only=True):
    """How the members of a pool are asked how they are."""

    #: The pool that it is of, and its load balancer.
    pool_id: Annotated[Uuid, Flags(create=True, required=True, shown=False, filter=False, index=True)] = ""
    loadbalancer_id: Annotated[str, hidden(index=True)] = ""
    #: What is asked.
    type: Annotated[
        Literal["HTTP", "HTTPS", "PING", "SCTP", "TCP", "TLS-HELLO", "UDP-CONNECT"], fixed(required=True)
    ] = "TCP"
    #: From one question to the next, seconds.
    delay: Annotated[Seconds, settable(required=True)] = 5
    #: For how long an answer is waited for, seconds.
    timeout: Annotated[Seconds, settable(required=True)] = 5
    #: After how many good answers a member is well.
    max_retries: Annotated[Annotated[int, Meta(ge=1, le=10)], settable(required=True)] = 3
    #: After how many bad ones it is not.
    max_retries_down: Annotated[Annotated[int, Meta(ge=1, le=10)], settable()] = 3
    #: Of HTTP and HTTPS: the request's method,
    http_method: Annotated[
        Literal["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"] | None,
        settable(),
    ] = None
    #: ... its path,
    url_path: Annotated[Annotated[str, Meta(max_length=2048)] | None, settable(), Check(_path)] = None
    #: ... which codes of answers are good,
    expected_codes: Annotated[Annotated[str, Meta(max_length=64)] | None, settable(), Check(_codes)] = None
    #: ... the version of HTTP, 1.0 or 1.1,
    http_version: Annotated[float | None, settable()] = None
    #: ... and the host that a request of 1.1 names.
    domain_name: Annotated[Annotated[str, Meta(max_length=255)] | None, settable(), Check(_domain)] = None


@resource(kind="l7policy", plural="l7policies", service="loadbalancer", quota=100)
class L7Policy(Part, kw_only=True):
    """What becomes of requests that its rules fit."""

    #: A text for people.
    description: Annotated[Description, settable()] = ""
    #: The listener that it is of, and its load balancer.
    listener_id: Annotated[Uuid, fixed(required=True, index=True)] = ""
    loadbalancer_id: Annotated[str, hidden(index=True)] = ""
    #: What becomes of them.
    action: Annotated[
        Literal["REDIRECT_PREFIX", "REDIRECT_TO_POOL", "REDIRECT_TO_URL", "REJECT"], settable(required=True)
    ] = "REJECT"
    #: Its place among those of the listener: the first one that fits decides.
    position: Annotated[Annotated[int, Meta(ge=1, le=2**31 - 1)], settable()] = 2**31 - 1
    #: The pool that they go to,
    redirect_pool_id: Annotated[Uuid | None, settable(index=True)] = None
    #: ... or the URL that clients are sent to,
    redirect_url: Annotated[Annotated[str, Meta(max_length=255)] | None, settable(), Check(_url)] = None
    #: ... or what goes before the request's path there.
    redirect_prefix: Annotated[Annotated[str, Meta(max_length=255)] | None, settable(), Check(_url)] = None
    #: The code of an answer that sends clients elsewhere.
    redirect_http_code: Annotated[Literal[301, 302, 303, 307, 308] | None, settable()] = None


@resource(kind="l7rule", plural="rules", service="loadbalancer", quota=100)
class L7Rule(Part, kw_only=True):
    """A condition of a policy: all of them must hold."""

    #: The policy and the load balancer that it is of.
    l7policy_id: Annotated[str, hidden(index=True)] = ""
    loadbalancer_id: Annotated[str, hidden(index=True)] = ""
    #: What is looked at.
    type: Annotated[
        Literal[
            "COOKIE", "FILE_TYPE", "HEADER", "HOST_NAME", "PATH",
            "SSL_CONN_HAS_CERT", "SSL_DN_FIELD", "SSL_VERIFY_RESULT",
        ],
        settable(required=True),
    ] = "PATH"  # fmt: skip
    #: How.
    compare_type: Annotated[
        Literal["CONTAINS", "ENDS_WITH", "EQUAL_TO", "REGEX", "STARTS_WITH"], settable(required=True)
    ] = "EQUAL_TO"
    #: The name of the header or of the cookie.
    key: Annotated[Annotated[str, Meta(max_length=255)] | None, settable(), Check(_cookie)] = None
    #: What it is compared with.
    value: Annotated[
        Annotated[str, Meta(min_length=1, max_length=255)], settable(required=True), Check(_plain)
    ] = ""
    #: It holds where the comparison does not.
    invert: Annotated[bool, settable()] = False


@resource(kind="loadbalancer_flavorprofile", plural="flavorprofiles", service="loadbalancer")
class FlavorProfile(Resource, kw_only=True):
    """How large the load balancers of a flavor are; an operator's to say."""

    #: A name for people.
    name: Annotated[Name, settable(required=True)] = ""
    #: Who does the work.
    provider_name: Annotated[Annotated[str, Meta(max_length=255)], settable(required=True)] = ""
    #: Its units, as JSON: data_planes, dispatchers, managers, cu_size, cu_memory.
    flavor_data: Annotated[Annotated[str, Meta(max_length=4096)], settable(required=True)] = "{}"


@resource(kind="loadbalancer_flavor", plural="flavors", service="loadbalancer", unique=(("name",),))
class Flavor(Resource, kw_only=True):
    """A size that tenants choose."""

    #: Its name, which no other has.
    name: Annotated[Name, settable(required=True)] = ""
    #: A text for people.
    description: Annotated[Description, settable()] = ""
    #: The profile that says how large.
    flavor_profile_id: Annotated[Uuid, fixed(required=True, index=True)] = ""
    #: Whether new load balancers may have it.
    enabled: Annotated[bool, settable()] = True


@resource(
    kind="loadbalancer_availability_zone_profile",
    plural="availability_zone_profiles",
    service="loadbalancer",
)
class AvailabilityZoneProfile(Resource, kw_only=True):
    """Where the load balancers of a zone are; an operator's to say."""

    #: A name for people.
    name: Annotated[Name, settable(required=True)] = ""
    #: Who does the work.
    provider_name: Annotated[Annotated[str, Meta(max_length=255)], settable(required=True)] = ""
    #: As JSON: compute_zone, the zone of the hosts, and valid_vip_networks, ids of the networks for VIPs.
    availability_zone_data: Annotated[Annotated[str, Meta(max_length=4096)], settable(required=True)] = "{}"


@resource(
    kind="loadbalancer_availability_zone",
    plural="availability_zones",
    service="loadbalancer",
    unique=(("name",),),
)
class AvailabilityZone(Resource, kw_only=True):
    """A place that tenants choose. It is called by its name."""

    #: Its id, which nobody asks for.
    id: Annotated[str, hidden()] = ""
    #: Its name, which no other has.
    name: Annotated[Name, fixed(required=True)] = ""
    #: A text for people.
    description: Annotated[Description, settable()] = ""
    #: The profile that says where.
    availability_zone_profile_id: Annotated[Uuid, fixed(required=True, index=True)] = ""
    #: Whether new load balancers may be in it.
    enabled: Annotated[bool, settable()] = True


@resource(kind="loadbalancer_quota", plural="loadbalancer_quotas", service="")
class LoadBalancerQuota(Resource, kw_only=True):
    """The limits that were set for a project; its id is the project's."""

    #: Kind to limit, -1 for none.
    limits: Annotated[dict[str, int], computed(filter=False)] = {}


#: What a load balancer is made of, in the order in which it is taken apart.
PARTS: tuple[type[Part], ...] = (L7Rule, L7Policy, HealthMonitor, Member, Listener, Pool)
