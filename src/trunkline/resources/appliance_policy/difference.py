"""What would change if one policy took the place of another, in words: a line for each thing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from trunkline.resources.appliance_policy.document import (
    Balancer,
    Certificate,
    Firewall,
    Listener,
    Member,
    Nat,
    Policy,
    Pool,
    Rule,
)

T = TypeVar("T", bound=msgspec.Struct)


def difference(old: Policy, new: Policy) -> list[str]:
    """Lines as "firewall: rule 3 'web' is added: ..."; none where both say the same."""
    found: list[str] = []
    for name, one, other in (
        ("firewall", old.firewall, new.firewall),
        ("nat", old.nat, new.nat),
        ("balancer", old.balancer, new.balancer),
    ):
        if (one is None) != (other is None):
            found.append(f"{name}: it is {'added' if one is None else 'removed'}.")
    found += _firewall(old.firewall or Firewall(), new.firewall or Firewall())
    found += _nat(old.nat or Nat(), new.nat or Nat())
    before, after = (policy.balancer or Balancer() for policy in (old, new))
    found += _certificates(before.certificates, after.certificates)
    found += _listeners(before.listeners, after.listeners)
    return found


def _said(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_said, value)) or "nothing"
    if isinstance(value, msgspec.Struct):
        fields = msgspec.to_builtins(value)
        return " ".join(f"{name} {_said(each)}" for name, each in fields.items())
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    if isinstance(value, dict):
        return " ".join(f"{name} {_said(each)}" for name, each in value.items())
    return "yes" if value is True else "no" if value is False else str(value)


def _changed(old: msgspec.Struct, new: msgspec.Struct) -> str:
    """The fields that are others, of two of one type: "action was accept, is drop"."""
    names = zip(old.__struct_fields__, old.__struct_encode_fields__, strict=True)
    pairs = [(shown, getattr(old, name), getattr(new, name)) for name, shown in names]
    return "; ".join(f"{shown} was {_said(a)}, is {_said(b)}" for shown, a, b in pairs if a != b)


def _firewall(old: Firewall, new: Firewall) -> Iterator[str]:
    if old.default != new.default:
        yield f"firewall: what no rule fits was to {old.default}, is to {new.default}."
    for kind in ("addresses", "services"):
        yield from _groups(kind, getattr(old.groups, kind), getattr(new.groups, kind))
    yield from _by_key("firewall: the limits of SYNs from", old.syn_protection, new.syn_protection, _zone)
    yield from _rules(old.rules, new.rules)


def _zone(limits: Any) -> str:
    return str(limits.zone)


def _groups(
    kind: str, old: Mapping[str, tuple[str, ...]], new: Mapping[str, tuple[str, ...]]
) -> Iterator[str]:
    for name in sorted({*old, *new}):
        before, after = old.get(name, ()), new.get(name, ())
        added = [each for each in after if each not in before]
        gone = [each for each in before if each not in after]
        words = [f"{', '.join(added)} added"] * bool(added) + [f"{', '.join(gone)} removed"] * bool(gone)
        if words:
            yield f"firewall: group '{name}' of {kind}: {'; '.join(words)}."


def _rules(old: Sequence[Rule], new: Sequence[Rule]) -> Iterator[str]:
    before = {rule.name: (place, rule) for place, rule in enumerate(old)}
    after = {rule.name: (place, rule) for place, rule in enumerate(new)}
    for name, (place, rule) in before.items():
        if name not in after:
            yield f"firewall: rule {place + 1} '{name}' is removed: {_said(rule)}."
    kept = [before[name][0] for name in after if name in before]
    stay = _rising(kept)
    for name, (place, rule) in after.items():
        if name not in before:
            yield f"firewall: rule {place + 1} '{name}' is added: {_said(rule)}."
            continue
        was, former = before[name]
        if was not in stay:
            follows = f"after '{new[place - 1].name}'" if place else "the first"
            yield f"firewall: rule '{name}' is moved: it was {was + 1}, is {place + 1}, {follows}."
        if former != rule and (changes := _changed(former, rule)):
            yield f"firewall: rule {place + 1} '{name}' is changed: {changes}."


def _rising(places: Sequence[int]) -> set[int]:
    """The most of these that are in order already: the others are those that moved (patience sorting)."""
    ends: list[int] = []
    lengths: list[int] = []
    for place in places:
        length = bisect_left(ends, place)
        ends[length : length + 1] = [place]
        lengths.append(length)
    found: set[int] = set()
    wanted = len(ends) - 1
    for place, length in zip(reversed(places), reversed(lengths), strict=True):
        if length == wanted:
            found.add(place)
            wanted -= 1
    return found


def _nat(old: Nat, new: Nat) -> Iterator[str]:
    yield from _by_key("nat: sources", old.source, new.source, lambda s: f"from {s.from_} to {s.to}")
    yield from _by_key(
        "nat: subscribers", old.carrier_grade, new.carrier_grade, lambda c: f"from {c.from_} to {c.to}"
    )
    yield from _by_key(
        "nat:", old.destination, new.destination, lambda d: f"{d.service} of {d.address} in {d.zone}"
    )
    yield from _by_key("nat: the static address", old.static, new.static, lambda pair: str(pair.outside))


def _listeners(old: Sequence[Listener], new: Sequence[Listener]) -> Iterator[str]:
    def bare(listener: Listener) -> Listener:
        return msgspec.structs.replace(listener, members=(), pools={}, routes=())

    yield from _by_key(
        "balancer: listener", [*map(bare, old)], [*map(bare, new)], lambda listener: f"'{listener.name}'"
    )
    before = {listener.name: listener for listener in old}
    for listener in new:
        former = before.get(listener.name, Listener(name="", address="", port=1))
        what = f"balancer: listener '{listener.name}'"
        yield from _by_key(f"{what}: member", former.members, listener.members, _end)
        for name in sorted(former.pools.keys() | listener.pools.keys()):
            one, other = former.pools.get(name), listener.pools.get(name)
            if one is None or other is None:
                yield f"{what}: pool '{name}': {'added' if one is None else 'removed'}."
            one, other = one or Pool(), other or Pool()
            if changes := _changed(*(msgspec.structs.replace(each, members=()) for each in (one, other))):
                yield f"{what}: pool '{name}': {changes}."
            yield from _by_key(f"{what}: pool '{name}': member", one.members, other.members, _end)
        yield from _by_key(f"{what}: route", former.routes, listener.routes, lambda r: f"'{r.name}'")
        order = [[route.name for route in each.routes] for each in (former, listener)]
        if order[0] != order[1] and sorted(order[0]) == sorted(order[1]):
            yield f"{what}: routes are in another order: {', '.join(order[1])}."


def _end(member: Member) -> str:
    return f"{member.address} port {member.port}"


def _certificates(old: Mapping[str, Certificate], new: Mapping[str, Certificate]) -> Iterator[str]:
    """Which are others, and nothing of what they are."""
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            how = "added" if name not in old else "removed" if name not in new else "another one"
            yield f"balancer: certificate '{name}': {how}."


def _by_key(what: str, old: Sequence[T], new: Sequence[T], key: Callable[[T], str]) -> Iterator[str]:
    before, after = ({key(each): each for each in some} for some in (old, new))
    for name in before:
        if name not in after:
            yield f"{what} {name}: removed."
    for name, each in after.items():
        if name not in before:
            yield f"{what} {name}: added: {_said(each)}."
        elif changes := _changed(before[name], each):
            yield f"{what} {name}: {changes}."
