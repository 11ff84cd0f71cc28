"""The types of the document. What they hold is text as people write it; `words` reads that."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

#: Of rules, listeners and groups; it is shown in logs and counters.
NAME = r"^[A-Za-z0-9]([A-Za-z0-9._ -]{0,62}[A-Za-z0-9])?$"
Name = Annotated[str, Meta(pattern=NAME, max_length=64)]
#: One, or several.
Words = str | tuple[str, ...]
PortNumber = Annotated[int, Meta(ge=1, le=65535)]
Action = Literal["accept", "drop", "reject"]

#: Instead of a zone, an address or a service: all of them.
ANY = "any"
#: The ports that connections to members come from, where a listener has a masquerade.
MASQUERADE_PORTS = "1024-65535"


class _Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A part of the document: what it has no field for is refused.

    None is part of itself, so that the collector of such cycles has no need to look at thousands of rules.
    """


class Groups(_Part, frozen=True, kw_only=True):
    """Names for several addresses, or several services, to be used in rules."""

    #: Addresses and prefixes, by group.
    addresses: dict[str, tuple[str, ...]] = {}
    #: Services, by group.
    services: dict[str, tuple[str, ...]] = {}


class SynProtection(_Part, frozen=True, kw_only=True):
    """Limits to the TCP connections that begin from a zone. What is above is dropped."""

    #: The zone that they come from.
    zone: str
    #: How many may begin from one address, as "50/second".
    per_source: str = ""
    #: How many may begin from all together.
    total: str = ""
    #: How many one address may have at a time.
    connections: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class Rule(_Part, frozen=True, kw_only=True):
    """What becomes of connections that begin so. The first rule that fits decides."""

    name: Name
    #: Zones.
    from_: str = field(name="from", default=ANY)
    to: str = ANY
    #: Addresses, prefixes, groups: as the packet brings them, before translation.
    source: Words = ANY
    destination: Words = ANY
    #: Services and groups: "tcp/80", "udp/5000-5999", "tcp", "icmp", "ip/47".
    service: Words = ANY
    #: Of TCP and UDP, the ports that they come from: "1024-65535".
    source_port: str = ""
    action: Action
    #: Whether the first packet of each connection is told.
    log: bool = False
    #: Of a rule that accepts: how many connections may begin; the others are dropped.
    rate: str = ""


class Firewall(_Part, frozen=True, kw_only=True):
    """Connections that may begin. What belongs to a connection that has begun passes."""

    groups: Groups = Groups()
    #: What becomes of connections that no rule fits.
    default: Action = "drop"
    syn_protection: tuple[SynProtection, ...] = ()
    rules: tuple[Rule, ...] = ()


class NatSource(_Part, frozen=True, kw_only=True):
    """Many are seen as a few addresses: TCP, UDP and echoes from one zone to another; nothing else passes.

    Families of which there is no address here are left as they are.
    """

    from_: str = field(name="from")
    to: str
    #: Addresses of the appliance.
    addresses: tuple[str, ...]
    #: The ports that are used; each shard of the flows has a 256th of them.
    ports: str = "1024-65535"


class NatDestination(_Part, frozen=True, kw_only=True):
    """A service is reached by an address of the appliance."""

    #: Where those are who reach it.
    zone: str
    address: str
    #: One port of TCP or UDP, as "tcp/80".
    service: str
    to: str
    #: By default it stays.
    port: Annotated[int, Meta(ge=0, le=65535)] = 0


class NatStatic(_Part, frozen=True, kw_only=True):
    """An address is seen as another one, both ways, whatever the protocol."""

    inside: str
    outside: str


class NatCarrier(_Part, frozen=True, kw_only=True):
    """Carrier-grade translation (RFC 6888): each subscriber has a block of ports for itself (`carrier`).

    As with sources, TCP, UDP and echoes pass, and nothing else. What comes from one port of a subscriber is
    seen to come from one port, whoever it speaks to; who is not spoken to does not reach it. Subscribers
    reach each other by their outer addresses, too.
    """

    from_: str = field(name="from")
    to: str
    #: Prefixes: each address of theirs is a subscriber.
    subscribers: tuple[str, ...]
    #: Addresses of the appliance that nothing else uses.
    addresses: tuple[str, ...]
    ports: str = "1024-65535"
    #: How many ports a subscriber has.
    block: Annotated[int, Meta(ge=64, le=64512)] = 1024
    #: Prefixes: who is there sees subscribers' own addresses (requirement 6).
    untranslated: tuple[str, ...] = ()


class Nat(_Part, frozen=True, kw_only=True):
    source: tuple[NatSource, ...] = ()
    carrier_grade: tuple[NatCarrier, ...] = ()
    destination: tuple[NatDestination, ...] = ()
    static: tuple[NatStatic, ...] = ()


class Member(_Part, frozen=True, kw_only=True):
    """Who answers."""

    address: str
    port: PortNumber
    #: Its share, against those of the others; 0: no new connections.
    weight: Annotated[int, Meta(ge=0, le=256)] = 1
    #: It answers when none of the others can.
    backup: bool = False
    #: Where it is asked whether it is well, if elsewhere.
    monitor_address: str = ""
    monitor_port: Annotated[int, Meta(ge=0, le=65535)] = 0


class Health(_Part, frozen=True, kw_only=True):
    """How members are asked whether they are well: by each data plane, for itself."""

    #: ping: an echo. tcp: a connection. tls: a handshake, whatever the certificate. http, https: an answer
    #: with one of the codes. udp: nobody says that the port is closed.
    kind: Literal["ping", "tcp", "tls", "http", "https", "udp"]
    #: Seconds from one to the next; for how long an answer is waited for, at the most as long.
    interval: Annotated[float, Meta(ge=0.1, le=3600)] = 5.0
    timeout: Annotated[float, Meta(ge=0.05, le=3600)] = 5.0
    #: How many answers in a row make one who was down be up, and how many failures one who was up be down.
    rise: Annotated[int, Meta(ge=1, le=50)] = 2
    fall: Annotated[int, Meta(ge=1, le=50)] = 3
    #: Of http and https: the request, by version 1.0 or 1.1, with a header Host where there is one.
    method: Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "TRACE"] = "GET"
    path: str = "/"
    version: Literal["1.0", "1.1"] = "1.0"
    host: str = ""
    #: Status codes that are well: "200", "200,202", "200-204".
    codes: str = "200"


Seconds = Annotated[float, Meta(ge=0.001, le=30 * 24 * 3600)]


class Affinity(_Part, frozen=True, kw_only=True):
    """What tells that a client was here before, and with which member: of http and https.

    A member is told by the cookie itself, so that all data planes understand it.
    """

    #: cookie: the balancer's own; app_cookie: one that the members set, in which the balancer writes.
    kind: Literal["cookie", "app_cookie"]
    #: The name of the cookie; of app_cookie it is needed.
    cookie: str = ""


class Answering(_Part, frozen=True, kw_only=True):
    """Who answers, and who of them a connection or a request goes to."""

    #: Whom new connections go to: "source": always the same for one address, while the members are the same.
    #: least_connections: each data plane counts its own.
    algorithm: Literal["round_robin", "random", "source", "source_port", "least_connections"] = "round_robin"
    members: tuple[Member, ...] = ()
    #: By default members are taken to be well.
    health: Health | None = None
    affinity: Affinity | None = None
    #: Members are told who the client is: the version of the PROXY protocol (HAProxy, proxy-protocol.txt).
    send_proxy: Literal[0, 1, 2] = 0
    #: What goes to members is encrypted; their certificates are not looked at.
    tls_to_members: bool = False


class Pool(Answering, frozen=True, kw_only=True):
    """Members that a route leads to."""


class Condition(_Part, frozen=True, kw_only=True):
    """Something that a request has or has not."""

    kind: Literal["host", "path", "file_type", "header", "cookie"]
    compare: Literal["equal", "starts", "ends", "contains", "regex"] = "equal"
    #: The name of the header or the cookie.
    key: str = ""
    value: str
    #: It must not be so.
    invert: bool = False


class Route(_Part, frozen=True, kw_only=True):
    """Where requests go for which all of these are so. The first route that fits decides."""

    name: Name
    when: tuple[Condition, ...] = ()
    #: A pool of the listener; "" is the default one, where nothing else is said.
    to: str = ""
    #: The client is sent to this URL ...
    redirect: str = ""
    #: ... or to the same path behind this one, by this status code.
    prefix: str = ""
    code: Literal[301, 302, 303, 307, 308] = 302
    #: The answer is 403.
    reject: bool = False


class Timeouts(_Part, frozen=True, kw_only=True):
    """For how long nothing may come, seconds, before a connection ends."""

    client: Seconds = 50.0
    member_connect: Seconds = 5.0
    member_data: Seconds = 50.0
    #: For how long it is waited for the whole head of a request; 0: as long as for anything else.
    inspect: Annotated[float, Meta(ge=0, le=30 * 24 * 3600)] = 0.0


class InsertHeaders(_Part, frozen=True, kw_only=True):
    """What members are told of a request, besides what it says."""

    #: The client's address, behind those that are there.
    forwarded_for: bool = field(name="X-Forwarded-For", default=False)
    #: The port of the listener, and its protocol.
    forwarded_port: bool = field(name="X-Forwarded-Port", default=False)
    forwarded_proto: bool = field(name="X-Forwarded-Proto", default=False)


class Certificate(_Part, frozen=True, kw_only=True):
    """Who a listener is: PEM (RFC 7468)."""

    #: The certificate, and behind it those by which it is trusted.
    certificate: str
    #: Is never shown.
    key: str


class Listener(Answering, frozen=True, kw_only=True):
    """A service that several answer. A connection stays with whom it began with.

    The kernel does those of tcp and udp; http, https and what is `proxied` is a proxy's in the data plane.
    """

    name: Name
    address: str
    #: https: TLS ends here, and requests are seen.
    protocol: Literal["tcp", "udp", "http", "https"] = "tcp"
    port: PortNumber
    #: Of tcp: through a proxy, which can do what the kernel cannot.
    proxied: bool = False
    #: Of https: names of certificates; a client gets the one whose names fit, or the first.
    certificates: tuple[str, ...] = ()
    timeouts: Timeouts = Timeouts()
    insert_headers: InsertHeaders = InsertHeaders()
    #: Other members, by name, for routes to lead to.
    pools: dict[str, Pool] = {}
    #: Where requests go that are not for the default members.
    routes: tuple[Route, ...] = ()
    #: Addresses of the appliance that members see connections come from, so that their answers need no route
    #: of their own: of each zone where there are members. Without any they see the client's.
    masquerade: tuple[str, ...] = ()
    #: At most so many connections at a time, of all data planes together; 0: any number.
    connections: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    #: Who may come, by prefixes; everybody where there are none.
    allowed: tuple[str, ...] = ()

    @property
    def through_proxy(self) -> bool:
        """Whether its connections end in a proxy of the data plane."""
        return self.proxied or self.protocol in ("http", "https")


class Balancer(_Part, frozen=True, kw_only=True):
    #: By the names that listeners call them.
    certificates: dict[str, Certificate] = {}
    listeners: tuple[Listener, ...] = ()


class Policy(_Part, frozen=True, kw_only=True):
    """All that an appliance does. What is left out does nothing: without a firewall, all may begin."""

    firewall: Firewall | None = None
    nat: Nat | None = None
    balancer: Balancer | None = None
