"""What a policy says of members' health, and of who may come to a listener and how many."""

from __future__ import annotations

import re
from collections.abc import Sequence

from trunkline.errors import BadField
from trunkline.resources.appliance_policy import words
from trunkline.resources.appliance_policy.document import Health, Listener, Member, Policy
from trunkline.resources.appliance_policy.proxying import pools

_CODES = re.compile(r"[1-5]\d\d(-[1-5]\d\d)?(\s*,\s*[1-5]\d\d(-[1-5]\d\d)?)*")
_PATH = re.compile(r"/[!-~]*")
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{0,255}")
#: What only a request has.
_REQUEST = ("method", "path", "version", "host", "codes")


def check_listeners(policy: Policy) -> None:
    """Raises BadField: something there cannot be done."""
    for number, listener in enumerate(policy.balancer.listeners if policy.balancer else ()):
        path = f"balancer.listeners[{number}]"
        _check_allowed(f"{path}.allowed", listener)
        for where, pool in pools(path, listener):
            check_health(where, pool.health, pool.members)
            if listener.through_proxy and pool.health is not None and pool.health.kind in ("ping", "udp"):
                raise BadField(
                    f"{where}.health.kind",
                    f"a proxy does not ask by '{pool.health.kind}'. Use tcp, tls, http or https.",
                )


def check_health(path: str, health: Health | None, members: Sequence[Member]) -> None:
    """Of a listener or a pool that stands at a path. Raises BadField."""
    for place, member in enumerate(members):
        where = f"{path}.members[{place}]"
        for field in ("monitor_address", "monitor_port"):
            if health is None and getattr(member, field):
                raise BadField(f"{where}.{field}", "nobody asks there. Give 'health' too, or leave it out.")
        if member.monitor_address:
            try:
                words.address(member.monitor_address)
            except ValueError as error:
                raise BadField(f"{where}.monitor_address", str(error)) from None
    if health is None:
        return
    path += ".health"
    if health.timeout > health.interval:
        raise BadField(
            f"{path}.timeout",
            f"{health.timeout:g} s is longer than the interval, {health.interval:g} s. Give a shorter one.",
        )
    if health.kind not in ("http", "https"):
        plain = Health(kind=health.kind)
        for field in _REQUEST:
            if getattr(health, field) != getattr(plain, field):
                raise BadField(
                    f"{path}.{field}", f"'{health.kind}' makes no request. Leave it out, or use kind 'http'."
                )
        return
    if not _PATH.fullmatch(health.path):
        raise BadField(
            f"{path}.path", f"'{health.path}' is no path. It begins with '/' and has no spaces: '/healthy'."
        )
    if not _HOST.fullmatch(health.host):
        raise BadField(
            f"{path}.host", f"'{health.host}' is no name of a host. Write it as 'www.example.com'."
        )
    if not _CODES.fullmatch(health.codes):
        raise BadField(
            f"{path}.codes", f"'{health.codes}' are no status codes. Write '200', '200,202' or '200-204'."
        )
    for first, last in codes(health.codes):
        if first > last:
            raise BadField(f"{path}.codes", f"{first}-{last} is the wrong way round. Write {last}-{first}.")


def codes(text: str) -> list[tuple[int, int]]:
    """Ranges of status codes, first and last."""
    found = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        found.append((int(first), int(last or first)))
    return found


def _check_allowed(path: str, listener: Listener) -> None:
    version = words.address(listener.address).version
    for place, text in enumerate(listener.allowed):
        try:
            found = words.network(text)
        except ValueError as error:
            raise BadField(
                f"{path}[{place}]", str(error).replace(", nor a group of this policy", "")
            ) from None
        if found.version != version:
            raise BadField(
                f"{path}[{place}]",
                f"{found} is not of the family of {listener.address}: nobody comes from there. Leave it out.",
            )
