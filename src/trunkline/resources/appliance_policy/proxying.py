"""What only a proxy can do for a listener: whether it is asked of one that has a proxy, and fits together."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trunkline.errors import BadField
from trunkline.resources.appliance_policy.certificates import check_certificates
from trunkline.resources.appliance_policy.document import (
    Answering,
    Condition,
    InsertHeaders,
    Listener,
    Policy,
    Route,
    Timeouts,
)

#: Routes of one listener, and conditions of one route.
_MOST_ROUTES, _MOST_CONDITIONS = 256, 32
#: A name of a header or a cookie (RFC 9110, 5.6.2).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_URL = re.compile(r"(https?://[^\s\"']+|/[^\s\"']*)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_proxied(policy: Policy) -> None:
    """Raises BadField: a listener wants of the kernel what a proxy does, or of the proxy what it cannot."""
    if policy.balancer is None:
        return
    check_certificates(policy)
    used = set()
    for number, listener in enumerate(policy.balancer.listeners):
        path = f"balancer.listeners[{number}]"
        _check_kind(path, listener)
        for place, name in enumerate(listener.certificates):
            if name not in policy.balancer.certificates:
                there = ", ".join(policy.balancer.certificates) or "none"
                raise BadField(
                    f"{path}.certificates[{place}]",
                    f"there is no certificate '{name}'. balancer.certificates has: {there}.",
                )
            used.add(name)
        for where, pool in pools(path, listener):
            _check_affinity(where, listener, pool)
        if len(listener.routes) > _MOST_ROUTES:
            raise BadField(
                f"{path}.routes", f"there are {len(listener.routes)}; {_MOST_ROUTES} are the most."
            )
        names: dict[str, int] = {}
        for place, route in enumerate(listener.routes):
            where = f"{path}.routes[{place}]"
            if route.name in names:
                raise BadField(
                    f"{where}.name", f"'{route.name}' is routes[{names[route.name]}] too. Give another name."
                )
            names[route.name] = place
            _check_route(where, listener, route)
    for name in policy.balancer.certificates:
        if name not in used:
            raise BadField(
                f"balancer.certificates.{name}", "no listener uses it. Name it in one, or leave it out."
            )


def pools(path: str, listener: Listener) -> Iterator[tuple[str, Answering]]:
    """Where each pool of a listener stands, and the pool; the default one first."""
    yield path, listener
    for name, pool in listener.pools.items():
        yield f"{path}.pools.{name}", pool


def _check_kind(path: str, listener: Listener) -> None:
    if listener.proxied and listener.protocol == "udp":
        raise BadField(f"{path}.proxied", "a proxy does not do UDP. Leave it out.")
    http = listener.protocol in ("http", "https")
    if listener.protocol == "https" and not listener.certificates:
        raise BadField(f"{path}.certificates", "https needs one. Name one of balancer.certificates.")
    if listener.protocol != "https" and listener.certificates:
        raise BadField(f"{path}.certificates", f"{listener.protocol} has none. Leave it out, or use https.")
    for name, is_there in (
        ("insert_headers", listener.insert_headers != InsertHeaders()),
        ("pools", bool(listener.pools)),
        ("routes", bool(listener.routes)),
    ):
        if is_there and not http:
            raise BadField(f"{path}.{name}", f"{listener.protocol} has no requests. Use http or https.")
    if listener.through_proxy:
        return
    remedy = "Leave it out" + (", or set proxied: true." if listener.protocol == "tcp" else ".")
    for name, is_there in (
        ("timeouts", listener.timeouts != Timeouts()),
        ("send_proxy", bool(listener.send_proxy)),
        ("tls_to_members", listener.tls_to_members),
    ):
        if is_there:
            raise BadField(f"{path}.{name}", f"only a proxy does that. {remedy}")


def _check_affinity(path: str, listener: Listener, pool: Answering) -> None:
    affinity = pool.affinity
    if affinity is None:
        return
    if listener.protocol not in ("http", "https"):
        raise BadField(f"{path}.affinity", f"{listener.protocol} has no cookies. Use http or https.")
    if affinity.kind == "app_cookie" and not affinity.cookie:
        raise BadField(f"{path}.affinity.cookie", "it is missing. Name the cookie that the members set.")
    if affinity.cookie and not _TOKEN.fullmatch(affinity.cookie):
        raise BadField(f"{path}.affinity.cookie", "it is no name of a cookie. Use letters, digits, '-', '_'.")


def _check_route(path: str, listener: Listener, route: Route) -> None:
    said = [name for name in ("to", "redirect", "prefix", "reject") if getattr(route, name)]
    if len(said) > 1:
        raise BadField(f"{path}.{said[1]}", f"{said[0]} says where it goes already. Leave one of them out.")
    if route.to and route.to not in listener.pools:
        there = ", ".join(listener.pools) or "none"
        raise BadField(f"{path}.to", f"there is no pool '{route.to}'. The listener's pools have: {there}.")
    if route.code != 302 and not (route.redirect or route.prefix):
        raise BadField(f"{path}.code", "nobody is sent elsewhere. Leave it out.")
    for name in ("redirect", "prefix"):
        if getattr(route, name) and not _URL.fullmatch(getattr(route, name)):
            raise BadField(f"{path}.{name}", "it is no URL, as https://example.org/there or /there.")
    if len(route.when) > _MOST_CONDITIONS:
        raise BadField(f"{path}.when", f"there are {len(route.when)}; {_MOST_CONDITIONS} are the most.")
    for number, condition in enumerate(route.when):
        _check_condition(f"{path}.when[{number}]", condition)


def _check_condition(path: str, condition: Condition) -> None:
    keyed = condition.kind in ("header", "cookie")
    if keyed and not _TOKEN.fullmatch(condition.key):
        raise BadField(f"{path}.key", f"it is no name of a {condition.kind}. Name it, as X-Version.")
    if condition.key and not keyed:
        raise BadField(f"{path}.key", f"a {condition.kind} has none. Leave it out.")
    if not condition.value or len(condition.value) > 1024 or _CONTROL.search(condition.value):
        raise BadField(f"{path}.value", "it is empty, too long, or has control characters. Give a text.")
    if condition.compare == "regex":
        try:
            re.compile(condition.value)
        except re.error as error:
            raise BadField(f"{path}.value", f"it is no regular expression: {error}.") from None
