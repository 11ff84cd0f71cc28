"""From the document to the policy: shapes first, then what the words say, then what contradicts what.

What is refused here can be told without knowing the appliance; `zones.check` has the rest.
"""

from __future__ import annotations

import functools
import re
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from trunkline.errors import BadField
from trunkline.resources.appliance_policy import words
from trunkline.resources.appliance_policy.carrier import check_carriers
from trunkline.resources.appliance_policy.checking import check_listeners
from trunkline.resources.appliance_policy.document import (
    ANY,
    NAME,
    Certificate,
    Firewall,
    Groups,
    Nat,
    Policy,
    Pool,
    Rule,
    SynProtection,
    Words,
)
from trunkline.resources.appliance_policy.endpoints import check_endpoints
from trunkline.resources.appliance_policy.groups import prefixes, services_of
from trunkline.resources.appliance_policy.proxying import check_proxied

T = TypeVar("T")
_ZONE = re.compile(r"[a-z][a-z0-9_-]{0,14}")
_AT = re.compile(r"^(.*) - at `\$(.*)`$", re.DOTALL)
_NAMED = re.compile(NAME)
_NAMES = "a name has letters, digits, spaces, '.', '_' and '-', 64 at the most, no space at its ends."
_MOST_RULES = 20_000
#: Combinations of a source, a destination and a service, in all rules together.
_MOST_RANGES = 100_000


def parse(document: dict[str, Any], *, rules_checked: bool = False) -> Policy:
    """The policy that a document says.

    Args:
        rules_checked: this very document was parsed before: of the firewall's rules, which may be thousands,
            only shapes are looked at.

    Raises:
        BadField: it cannot be done; the field is the path of what is wrong, as ``firewall.rules[3].action``,
            and the message says the remedy.
    """
    _shape_groups(document)
    try:
        policy = msgspec.convert(document, Policy)
    except msgspec.ValidationError as error:
        _shape_named(document)
        raise _explained(str(error)) from None
    _shape_named(document)
    if policy.firewall is not None and not rules_checked:
        _check_firewall(policy.firewall)
    if policy.nat is not None:
        _check_translation(policy.nat)
    check_endpoints(policy)
    check_proxied(policy)
    check_listeners(policy)
    return policy


def _shape_groups(document: Any) -> None:
    """Of what is told by its name, msgspec does not say where it is. Raises BadField."""
    for step in ("firewall", "groups"):
        document = document.get(step) if isinstance(document, dict) else None
    for kind in ("addresses", "services"):
        groups = document.get(kind) if isinstance(document, dict) else None
        for name, members in groups.items() if isinstance(groups, dict) else ():
            path = f"firewall.groups.{kind}.{name}"
            if not isinstance(name, str) or not _NAMED.fullmatch(name):
                raise BadField(path, _NAMES)
            if not isinstance(members, list | tuple):
                raise BadField(path, f"it is no list. Write its {kind} in brackets.")
            for number, member in enumerate(members):
                if not isinstance(member, str):
                    raise BadField(f"{path}[{number}]", "it is no text. Write it in quotes.")


def _shape_named(document: Any) -> None:
    """As `_shape_groups`: certificates, and pools of listeners. Raises BadField."""
    balancer = document.get("balancer") if isinstance(document, dict) else None
    balancer = balancer if isinstance(balancer, dict) else {}
    listeners = balancer.get("listeners")
    named: list[tuple[str, Any, Any]] = [("balancer.certificates", balancer.get("certificates"), Certificate)]
    for number, listener in enumerate(listeners if isinstance(listeners, list | tuple) else ()):
        if isinstance(listener, dict):
            named.append((f"balancer.listeners[{number}].pools", listener.get("pools"), Pool))
    for path, objects, kind in named:
        for name, each in objects.items() if isinstance(objects, dict) else ():
            if not isinstance(name, str) or not _NAMED.fullmatch(name):
                raise BadField(f"{path}.{name}", _NAMES)
            try:
                msgspec.convert(each, kind)
            except msgspec.ValidationError as error:
                raise _explained(str(error), f"{path}.{name}", kind) from None


def _explained(said: str, within: str = "", of: Any = Policy) -> BadField:
    """What msgspec says, with the path that it says it of, and what would be right there.

    `of`: the type that it was to be, of what stands at the path `within`.
    """
    found = _AT.match(said)
    problem, path = (found[1], found[2].removeprefix(".")) if found else (said, "")
    if within:
        inner = _explained_at(problem, path, of)
        at = _joined(within, inner.field) if path or inner.field != "policy" else within
        return BadField(at, inner.message.removeprefix(f"Invalid input for {inner.field}: "))
    return _explained_at(problem, path, of)


def _explained_at(problem: str, path: str, of: Any) -> BadField:
    missing = re.fullmatch(r"Object missing required field `(.+)`", problem)
    unknown = re.fullmatch(r"Object contains unknown field `(.+)`", problem)
    if missing:
        return BadField(_joined(path, missing[1]), "it is missing. Give it.")
    if unknown:
        there = ", ".join(_fields(of, path))
        return BadField(_joined(path, unknown[1]), f"there is no such field. Fields here are: {there}.")
    if problem.startswith("Invalid enum value"):
        *parent, name = path.split(".")
        choices = ", ".join(map(str, _choices(of, ".".join(parent), name)))
        return BadField(path, f"{problem.removeprefix('Invalid enum value ')} is none of: {choices}.")
    if "regex" in problem:
        problem = _NAMES
    elif not problem.endswith("."):
        problem += "."
    return BadField(path or "policy", problem)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _fields(of: Any, path: str) -> list[str]:
    """The names of the fields of the object at a path."""
    found = _type_at(of, path)
    return [each.encode_name for each in msgspec.structs.fields(found)] if found else []


def _choices(of: Any, path: str, name: str) -> Sequence[Any]:
    parent = _type_at(of, path)
    fields = {each.encode_name: each for each in msgspec.structs.fields(parent)} if parent else {}
    name = name.partition("[")[0]
    return typing.get_args(fields[name].type) if name in fields else ()


def _type_at(of: Any, path: str) -> Any:
    """The type of object that stands at a path."""
    at: Any = of
    for name in filter(None, re.sub(r"\[\d+\]", "", path).split(".")):
        known = {each.encode_name: each.type for each in msgspec.structs.fields(at)}
        at = next(_structs(known.get(name)), None)
        if at is None:
            return None
    return at


def _structs(annotation: Any) -> typing.Iterator[type[msgspec.Struct]]:
    """The objects that a type may hold."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
    elif typing.get_origin(annotation) in (tuple, typing.Union, types.UnionType):
        for inner in typing.get_args(annotation):
            yield from _structs(inner)


def reads(path: str, reader: Callable[[str], T], text: str) -> T:
    """What a reader of `words` makes of the text that stands at a path. Raises BadField."""
    try:
        return reader(text)
    except ValueError as error:
        raise BadField(path, str(error)) from None


def unique(path: str, names: Iterable[str]) -> None:
    """Raises BadField: a name is there twice."""
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        if name in seen:
            first = path.format(seen[name])
            raise BadField(
                path.format(number), f"'{name}' is the name of {first} too. Give one of them another."
            )
        seen[name] = number


def _zone(path: str, name: str) -> None:
    if name != ANY and not _ZONE.fullmatch(name):
        raise BadField(path, f"'{name}' is no name of a zone. Zones are named by the appliance.")


# The firewall.


def _check_firewall(firewall: Firewall) -> None:
    groups = firewall.groups
    for name, members in groups.addresses.items():
        path = f"firewall.groups.addresses.{name}"
        _check_group(path, name, members, "addresses")
        for number, text in enumerate(members):
            reads(f"{path}[{number}]", words.network, text)
    for name, members in groups.services.items():
        path = f"firewall.groups.services.{name}"
        _check_group(path, name, members, "services")
        for number, text in enumerate(members):
            reads(f"{path}[{number}]", words.services, text)
    unique("firewall.rules[{}].name", (rule.name for rule in firewall.rules))
    if len(firewall.rules) > _MOST_RULES:
        raise BadField("firewall.rules", f"there are {len(firewall.rules)}; {_MOST_RULES} are the most.")
    room, read = _MOST_RANGES, _Read(groups)
    for number, rule in enumerate(firewall.rules):
        room -= _check_rule(number, read, rule)
        if room < 0:
            raise BadField(
                f"firewall.rules[{number}]",
                f"each source with each destination and service, the rules make more than {_MOST_RANGES}. "
                "Give prefixes in place of addresses, or fewer.",
            )
    unique("firewall.syn_protection[{}].zone", (each.zone for each in firewall.syn_protection))
    for number, limits in enumerate(firewall.syn_protection):
        _check_limits(f"firewall.syn_protection[{number}]", limits)


def _check_group(path: str, name: str, members: Sequence[str], what: str) -> None:
    if not members:
        raise BadField(path, f"the group is empty. Give it {what}, or leave it out.")
    if name == ANY:
        raise BadField(path, "'any' is all of them. Give the group another name.")
    reader: Callable[[str], object] = words.network if what == "addresses" else words.services
    try:
        reader(name)
    except ValueError:
        return
    raise BadField(path, f"'{name}' may be taken for one of the {what}. Give the group another name.")


class _Read:
    """What the words of rules mean: many rules have them in common, and each is read once."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._zones = {ANY}
        self._prefixes: dict[Words, tuple[int, int]] = {}
        self._services: dict[Words, tuple[int, str]] = {}

    def zone(self, number: int, field: str, name: str) -> None:
        """A zone of a rule. Raises BadField."""
        if name not in self._zones:
            _zone(f"firewall.rules[{number}].{field}", name)
            self._zones.add(name)

    def prefixes(self, number: int, field: str, said: Words) -> tuple[int, int]:
        """How many prefixes of IPv4 a field of a rule has, and of IPv6. Raises BadField."""
        found = self._prefixes.get(said)
        if found is None:
            versions = [
                network.version
                for where, word in placed(f"firewall.rules[{number}].{field}", said)
                for network in reads(where, functools.partial(prefixes, self._groups), word)
            ]
            found = self._prefixes[said] = versions.count(4), versions.count(6)
        return found

    def services(self, number: int, said: Words) -> tuple[int, str]:
        """How many services a rule has, and a word of it that has no ports, "" where all have. As above."""
        found = self._services.get(said)
        if found is None:
            count, without = 0, ""
            for where, word in placed(f"firewall.rules[{number}].service", said):
                services = reads(where, functools.partial(services_of, self._groups), word)
                count += len(services)
                if not without and not all(service.has_ports for service in services):
                    without = word
            found = self._services[said] = count, without
        return found


def _check_rule(number: int, read: _Read, rule: Rule) -> int:
    """Returns in how many elements of maps the rule is, at the most. Raises BadField."""
    read.zone(number, "from", rule.from_)
    read.zone(number, "to", rule.to)
    sources = read.prefixes(number, "source", rule.source)
    targets = read.prefixes(number, "destination", rule.destination)
    services, without = read.services(number, rule.service)
    path = f"firewall.rules[{number}]"
    if rule.source_port:
        if without:
            raise BadField(
                f"{path}.source_port",
                f"'{without}' is not TCP or UDP, which have ports. Say tcp or udp.",
            )
        reads(f"{path}.source_port", words.ports, rule.source_port)
    pairs = sources[0] * targets[0] + sources[1] * targets[1]
    if not pairs:
        one, other = (6 if targets[1] else 4), (6 if sources[1] else 4)
        raise BadField(
            f"{path}.destination",
            f"it is of IPv{one} alone and the source of IPv{other}, so that no "
            "packet has both. Give addresses of one family.",
        )
    if rule.rate:
        reads(f"{path}.rate", words.rate, rule.rate)
        if rule.action != "accept":
            raise BadField(
                f"{path}.rate", f"a rule that says {rule.action} has no rate. Leave it out, or say accept."
            )
    return services * pairs


def placed(path: str, said: Words) -> list[tuple[str, str]]:
    """The words of a field, each with its path. Raises BadField where there is none."""
    if isinstance(said, str):
        return [(path, said)]
    if not said:
        raise BadField(path, "it is empty. Leave it out where all are meant.")
    return [(f"{path}[{number}]", word) for number, word in enumerate(said)]


def _check_limits(path: str, limits: SynProtection) -> None:
    if limits.zone == ANY:
        raise BadField(f"{path}.zone", "'any' is no zone. Name the one that connections come from.")
    _zone(f"{path}.zone", limits.zone)
    for name, text in (("per_source", limits.per_source), ("total", limits.total)):
        if text:
            reads(f"{path}.{name}", words.rate, text)
    if not (limits.per_source or limits.total or limits.connections):
        raise BadField(path, "it limits nothing. Give per_source, total or connections.")


# Translation.


def _check_translation(nat: Nat) -> None:
    for number, source in enumerate(nat.source):
        path = f"nat.source[{number}]"
        _between(path, source.from_, source.to)
        if not source.addresses:
            raise BadField(f"{path}.addresses", "it is empty. Give one or more addresses of the zone.")
        for place, text in enumerate(source.addresses):
            reads(f"{path}.addresses[{place}]", words.address, text)
        span = reads(f"{path}.ports", words.ports, source.ports)
        if span.last - span.first < 255:
            raise BadField(
                f"{path}.ports",
                f"'{source.ports}' are fewer than 256, one for each shard. Give more, as 1024-65535.",
            )
    for number, carrier in enumerate(nat.carrier_grade):
        _between(f"nat.carrier_grade[{number}]", carrier.from_, carrier.to)
    check_carriers("nat.carrier_grade", nat.carrier_grade)
    unique("nat.source[{}]", (f"{source.from_} to {source.to}" for source in nat.source))
    for number, target in enumerate(nat.destination):
        path = f"nat.destination[{number}]"
        _zone(f"{path}.zone", target.zone)
        if target.zone == ANY:
            raise BadField(f"{path}.zone", "'any' is no zone. Name the one where they are who reach it.")
        found = reads(f"{path}.service", words.services, target.service)
        if len(found) > 1 or not found[0].has_ports or found[0].ports.first != found[0].ports.last:
            raise BadField(
                f"{path}.service", f"'{target.service}' is not one port. Write it as tcp/80 or udp/53."
            )
        _one_family(path, "address", target.address, "to", target.to)
    for number, pair in enumerate(nat.static):
        _one_family(f"nat.static[{number}]", "inside", pair.inside, "outside", pair.outside)


def _between(path: str, near: str, far: str) -> None:
    for name, zone in (("from", near), ("to", far)):
        _zone(f"{path}.{name}", zone)
        if zone == ANY:
            raise BadField(f"{path}.{name}", "'any' is no zone. Name the one that is meant.")
    if near == far:
        raise BadField(f"{path}.to", "it is the zone that they come from. Name another one.")


def _one_family(path: str, one: str, first: str, other: str, second: str) -> None:
    a, b = reads(f"{path}.{one}", words.address, first), reads(f"{path}.{other}", words.address, second)
    if a.version != b.version:
        raise BadField(
            f"{path}.{other}", f"{b} is of IPv{b.version}, {a} of IPv{a.version}. Give two of one family."
        )
    if a == b:
        raise BadField(
            f"{path}.{other}", f"{b} would be translated to itself. Give another one, or leave it out."
        )
