"""What a policy is for HAProxy: its configuration, and the files that this names. Pure.

    listener   a frontend; its routes say which backend, in their order, before anything is answered
    pool       a backend; members are servers, and tell themselves apart by a cookie where that is wanted

HAProxy's names are numbers, for it does not take all that policies do; `Rendered` says whose they are. Names
of files are relative: it is started where they are.
Reference: HAProxy 2.6, configuration manual. What stands in quotes there is taken as it is ('...', 2.2).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from trunkline.resources.appliance_policy import Condition, Health, Listener, Member, Policy, Route, words
from trunkline.resources.appliance_policy.checking import codes
from trunkline.resources.appliance_policy.document import Affinity, Answering
from trunkline.resources.appliance_policy.proxying import pools

#: What the balancer's own cookie is called, where the policy does not say.
COOKIE = "TRUNKLINE"
#: The empty folder that is all it sees of files.
JAIL = "jail"
#: HAProxy's defaults for what it keeps of a connection: two buffers of 16 kB, and what TLS needs.
_CONNECTION_KIB = 48
_PREFIXES = 32


@dataclass(frozen=True)
class Settings:
    """What depends on the unit, and not on the policy."""

    #: Its socket for questions: another one each time, or it would get that of the worker before, too.
    socket: str = "stats"
    #: How much memory there is for connections, MiB.
    memory_mib: int = 128
    #: Whom it becomes; "" for nobody else.
    user: str = ""
    group: str = ""


@dataclass(frozen=True)
class Rendered:
    """A configuration."""

    text: str
    socket: str
    #: Certificates with their keys, and lists of them, by the names of files in the folder.
    files: Mapping[str, str]
    #: By frontend: the listener's name.
    listeners: Mapping[str, str]
    #: By backend and server: "listener/pool/address:port", as statuses tell of members.
    members: Mapping[tuple[str, str], str]


def rendered(policy: Policy, settings: Settings) -> Rendered | None:
    """None: nothing in the policy is for a proxy."""
    balancer = policy.balancer
    listeners = [each for each in (balancer.listeners if balancer else ()) if each.through_proxy]
    if balancer is None or not listeners:
        return None
    files: dict[str, str] = {}
    members: dict[tuple[str, str], str] = {}
    sections = ["\n".join(_general(settings))]
    for number, listener in enumerate(listeners):
        if listener.certificates:
            # A list of certificates has no quotes.
            named = {name: f"c{place}.pem" for place, name in enumerate(balancer.certificates)}
            for name in listener.certificates:
                given = balancer.certificates[name]
                files[named[name]] = f"{given.certificate.rstrip()}\n{given.key.rstrip()}\n"
            files[f"list-{number}"] = "".join(f"{named[name]}\n" for name in listener.certificates)
        sections.append("\n".join(_frontend(number, listener)))
        for place, (_, pool) in enumerate(pools("", listener)):
            sections.append("\n".join(_backend(f"b{number}.{place}", listener, pool)))
            name = [*listener.pools][place - 1] if place else ""
            for server, member in enumerate(pool.members):
                members[f"b{number}.{place}", f"s{server}"] = f"{listener.name}/{name}/{end(member)}"
    names = {f"f{number}": listener.name for number, listener in enumerate(listeners)}
    return Rendered("\n\n".join(sections) + "\n", settings.socket, files, names, members)


def end(member: Member) -> str:
    """Address and port of a member."""
    address = words.address(member.address)
    return f"{address}:{member.port}" if address.version == 4 else f"[{address}]:{member.port}"


def quoted(text: str) -> str:
    """As the configuration takes it for what it is."""
    return "'" + text.replace("'", "'\\''") + "'"


def _general(settings: Settings) -> list[str]:
    lines = ["global"]
    if settings.user:
        lines += [f"  user {settings.user}", f"  group {settings.group}", f"  chroot {JAIL}"]
    most = max(200, settings.memory_mib * 1024 // _CONNECTION_KIB)
    return [
        *lines,
        f"  maxconn {most}",
        "  nbthread 1",
        f"  stats socket unix@{settings.socket} mode 600 level admin expose-fd listeners",
        "  ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets",
        "  ssl-server-verify none",
        "  tune.ssl.default-dh-param 2048",
        "",
        "defaults",
        f"  maxconn {most}",
        "  option redispatch",
        "  retries 2",
        "  timeout http-keep-alive 60s",
    ]


def _milliseconds(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"


def _frontend(number: int, listener: Listener) -> list[str]:
    address, http = words.address(listener.address), listener.protocol in ("http", "https")
    where = f"{address}:{listener.port}" if address.version == 4 else f"[{address}]:{listener.port}"
    tls = f" ssl crt-list list-{number} alpn h2,http/1.1" if listener.certificates else ""
    lines = [
        f"frontend f{number}",
        f"  bind {where}{tls}",
        f"  mode {'http' if http else 'tcp'}",
        f"  timeout client {_milliseconds(listener.timeouts.client)}",
    ]
    lines += _limits(listener)
    if any(pool.algorithm == "source_port" for _, pool in pools("", listener)):
        lines.append("  tcp-request connection set-var(sess.port) src_port")
    if http:
        # Who has a connection and asks nothing is answered once more by a worker that is to end.
        lines.append("  option idle-close-on-response")
    if http and listener.timeouts.inspect:
        lines.append(f"  timeout http-request {_milliseconds(listener.timeouts.inspect)}")
    inserted = listener.insert_headers
    if inserted.forwarded_for:
        lines.append("  option forwardfor")
    if inserted.forwarded_port:
        lines.append(f"  http-request set-header X-Forwarded-Port {listener.port}")
    if inserted.forwarded_proto:
        lines.append(f"  http-request set-header X-Forwarded-Proto {listener.protocol}")
    # HAProxy answers before it chooses a backend, wherever that stands: so the first route that fits is found
    # first, and what it says is done then.
    for place, route in enumerate(listener.routes):
        fits = " ".join(["!{ var(txn.route) -m found }", *map(_fits, route.when)])
        lines.append(f"  http-request set-var(txn.route) int({place}) if {fits}")
    backends = [f"  default_backend b{number}.0"]
    for place, route in enumerate(listener.routes):
        when = f"if {{ var(txn.route) -m int {place} }}"
        lines += _answer(route, when)
        if route.to:
            backends.append(f"  use_backend b{number}.{[*listener.pools].index(route.to) + 1} {when}")
    return [*lines, *backends]


def _limits(listener: Listener) -> list[str]:
    """Who may come, and how many at a time."""
    lines = [f"  maxconn {listener.connections}"] if listener.connections else []
    # A line has 64 words at the most.
    for start in range(0, len(listener.allowed), _PREFIXES):
        some = (str(words.network(text)) for text in listener.allowed[start : start + _PREFIXES])
        lines.append(f"  acl allowed src {' '.join(some)}")
    if listener.allowed:
        lines.append("  tcp-request connection reject if !allowed")
    return lines


def _fits(condition: Condition) -> str:
    """A condition as an anonymous ACL."""
    what, value = {
        "host": ("req.hdr(host),host_only,lower", condition.value.lower()),
        "path": ("path", condition.value),
        "file_type": ("path,field(-1,.)", condition.value.removeprefix(".")),
        "header": (f"req.hdr({condition.key})", condition.value),
        "cookie": (f"req.cook({condition.key})", condition.value),
    }[condition.kind]
    if condition.compare == "regex":
        value = condition.value
    how = {"equal": "str", "starts": "beg", "ends": "end", "contains": "sub", "regex": "reg"}
    return f"{'!' * condition.invert}{{ {what} -m {how[condition.compare]} -- {quoted(value)} }}"


def _answer(route: Route, when: str) -> list[str]:
    if route.reject:
        return [f"  http-request deny deny_status 403 {when}"]
    if route.redirect or route.prefix:
        kind, url = ("location", route.redirect) if route.redirect else ("prefix", route.prefix)
        # What stands there is a format, in which '%' begins a variable.
        to = quoted(url.replace("%", "%%"))
        return [f"  http-request redirect {kind} {to} code {route.code} {when}"]
    return []


_BALANCE = {
    "round_robin": ["  balance roundrobin"],
    "random": ["  balance random"],
    "least_connections": ["  balance leastconn"],
    "source": ["  balance source", "  hash-type consistent sdbm avalanche"],
    "source_port": ["  balance hash src,concat(:,sess.port)", "  hash-type consistent sdbm avalanche"],
}


def _backend(name: str, listener: Listener, pool: Answering) -> list[str]:
    http = listener.protocol in ("http", "https")
    lines = [
        f"backend {name}",
        f"  mode {'http' if http else 'tcp'}",
        *_BALANCE[pool.algorithm],
        f"  timeout connect {_milliseconds(listener.timeouts.member_connect)}",
        f"  timeout server {_milliseconds(listener.timeouts.member_data)}",
    ]
    if pool.affinity is not None:
        lines.append(_cookie(pool.affinity))
    if any(member.backup for member in pool.members):
        lines.append("  option allbackups")
    if pool.health is not None:
        lines += _asks(pool.health)
    return lines + [_server(number, pool, member) for number, member in enumerate(pool.members)]


def _asks(health: Health) -> list[str]:
    """How its servers are asked whether they are well."""
    lines = [f"  timeout check {_milliseconds(health.timeout)}"]
    if health.kind not in ("http", "https"):
        return lines
    send = f"  http-check send meth {health.method} uri {quoted(health.path)} ver HTTP/{health.version}"
    if health.host:
        send += f" hdr Host {quoted(health.host)}"
    well = ",".join(str(one) if one == other else f"{one}-{other}" for one, other in codes(health.codes))
    return [*lines, "  option httpchk", send, f"  http-check expect status {well}"]


def _asked(health: Health, pool: Answering, member: Member) -> list[str]:
    """What a server's line says of that."""
    parts = [f"check inter {_milliseconds(health.interval)} fall {health.fall} rise {health.rise}"]
    if member.monitor_address:
        parts.append(f"addr {words.address(member.monitor_address)}")
    if member.monitor_port:
        parts.append(f"port {member.monitor_port}")
    if health.kind in ("tls", "https"):
        parts.append("check-ssl" if pool.tls_to_members else "check-ssl verify none")
    elif pool.tls_to_members:
        parts.append("no-check-ssl")
    return parts


def _cookie(affinity: Affinity) -> str:
    if affinity.kind == "app_cookie":
        # What the members set gets a prefix, which they do not see: no table of who is where is needed.
        return f"  cookie {affinity.cookie} prefix"
    return f"  cookie {affinity.cookie or COOKIE} insert indirect nocache httponly"


def _server(number: int, pool: Answering, member: Member) -> str:
    parts = [f"  server s{number} {end(member)} weight {member.weight}"]
    if pool.affinity is not None:
        # The same in all data planes, whatever is added or goes.
        parts.append(f"cookie {hashlib.sha256(end(member).encode()).hexdigest()[:12]}")
    if pool.send_proxy:
        parts.append("send-proxy" if pool.send_proxy == 1 else "send-proxy-v2")
    if pool.tls_to_members:
        parts.append("ssl verify none")
    if member.backup:
        parts.append("backup")
    if pool.health is not None:
        parts += _asked(pool.health, pool, member)
    return " ".join(parts)
