"""A firewall's rules as tables that packets are looked up in: what is costly about many rules, done once.

    rules ──groups──▶ boxes, by family and kind of protocol ──classifier──▶ layers of keys

Control does this for the units of an appliance, and they do it themselves where they were given none.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Sequence
from typing import Literal

import msgspec

from trunkline.compiler.classifier import Box, depth, layers, layers_of_few
from trunkline.compiler.unit_slices import RuleLayer, RuleTable, RuleTables
from trunkline.resources.appliance_policy import Firewall, Policy, Rule, words
from trunkline.resources.appliance_policy.document import ANY, Groups, Words
from trunkline.resources.appliance_policy.groups import all_prefixes, all_services
from trunkline.resources.appliance_policy.words import TCP, Ports, Service

#: Of `RuleTables`: to be another when they mean something else than before.
FORM = 1
#: So many boxes in all tables are made for others. What is more is at the cost of those that it is for.
_MOST = 50_000

Kind = Literal["tcp", "udp", "other"]
Version = Literal[4, 6]
_KINDS: tuple[Kind, ...] = ("tcp", "udp", "other")
_VERSIONS: tuple[Version, ...] = (4, 6)
#: All that there is, by the place in a box. Of protocols none has all: TCP and UDP are by themselves.
_WHOLE: dict[Version, tuple[tuple[int, int], ...]] = {
    4: ((0, (1 << 32) - 1), (0, (1 << 32) - 1), (0, 65535), (0, 65535)),
    6: ((0, (1 << 128) - 1), (0, (1 << 128) - 1), (0, 65535), (0, 65535)),
}
_Boxes = list[tuple[int, Box]]
Span = tuple[int, int]


class TooMuch(Exception):
    """Rules make more tables, or overlap more, than is done for others."""


def told(policy: Policy, zones: Sequence[str]) -> bytes:
    """What units are told of a policy's rules, for an appliance with these zones, as `PolicySlice.tables`.

    Raises:
        ValueError: the rules have words that mean nothing; those that were checked have none.
    """
    try:
        found = rule_tables(policy.firewall or Firewall(), zones, most=_MOST)
    except TooMuch:
        return b""
    # It goes to every unit, and is a third of that.
    return zlib.compress(msgspec.msgpack.encode(found), 1)


def heard(said: bytes) -> RuleTables | None:
    """What was told; None where that is nothing, or of another form than this program's."""
    try:
        found = msgspec.msgpack.decode(zlib.decompress(said), type=RuleTables) if said else None
    except (msgspec.MsgspecError, zlib.error):
        return None
    return found if found is not None and found.form == FORM else None


def rule_tables(firewall: Firewall, zones: Sequence[str], *, most: int | None = None) -> RuleTables:
    """The tables of a firewall between all of these zones.

    Args:
        most: boxes that they may have together.

    Raises:
        TooMuch: they have more, or overlap too much; not without `most`.
    """
    read, places = _Read(firewall.groups), dict[tuple[int, ...], int]()
    pairs: list[tuple[str, str, int]] = []
    tables: list[tuple[RuleTable, ...]] = []
    count = 0
    for near in zones:
        for far in zones:
            met = tuple(
                number
                for number, rule in enumerate(firewall.rules)
                if rule.from_ in (ANY, near) and rule.to in (ANY, far)
            )
            if met and met not in places:
                boxes = _boxes(firewall, met, read)
                count += sum(map(len, boxes.values()))
                if most is not None and count > most:
                    raise TooMuch
                places[met] = len(tables)
                tables.append(tuple(_table(*which, ours, most) for which, ours in boxes.items() if ours))
            pairs.append((near, far, places[met] if met else -1))
    return RuleTables(FORM, tuple(pairs), tuple(tables))


def _table(version: Version, kind: Kind, boxes: _Boxes, most: int | None) -> RuleTable:
    found = layers(boxes) if most is None else layers_of_few(boxes)
    if found is None:
        raise TooMuch
    members: list[_Boxes] = [[] for _ in range(max(found) + 1)]
    for each, layer in zip(boxes, found, strict=True):
        members[layer].append(each)
    return RuleTable(version, kind, tuple(_layer(version, each) for each in members))


def _layer(version: Version, boxes: _Boxes) -> RuleLayer:
    """The keys of boxes that do not meet each other.

    The kernel goes through the parts of a key in their order, and what fits the first of them is carried on
    one by one: so that is the one that the fewest boxes can have in common. What may be anything in all of
    them is no part, but for the two that a key of ranges has at the least.
    """
    spans = list(zip(*(box for _, box in boxes), strict=True))
    whole = _WHOLE[version]
    order = sorted(range(len(spans)), key=lambda place: depth(spans[place]))
    order.sort(key=lambda place: spans[place].count(whole[place]) == len(boxes))
    while len(order) > 2 and spans[order[-1]].count(whole[order[-1]]) == len(boxes):
        order.pop()
    columns = []
    for place in order:
        said = _ports if place >= 2 else _addresses_6 if version == 6 else _addresses_4
        known: dict[Span, str] = {}
        columns.append([known.get(span) or known.setdefault(span, said(span)) for span in spans[place]])
    return RuleLayer(
        tuple(order),
        tuple(map(" . ".join, zip(*columns, strict=True))),
        tuple(number for number, _ in boxes),
    )


def _ports(span: Span) -> str:
    """One side of a box, as a part of an element's key. So are the following."""
    first, last = span
    return str(first) if first == last else f"{first}-{last}"


def _addresses_4(span: Span) -> str:
    first, last = (socket.inet_ntop(socket.AF_INET, number.to_bytes(4, "big")) for number in span)
    return first if first == last else f"{first}-{last}"


def _addresses_6(span: Span) -> str:
    first, last = (socket.inet_ntop(socket.AF_INET6, number.to_bytes(16, "big")) for number in span)
    return first if first == last else f"{first}-{last}"


class _Read:
    """What the words of rules mean, as sides of boxes: many rules have them in common."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._addresses: dict[Words, tuple[list[Span], list[Span]]] = {}
        self._services: dict[Words, list[tuple[Kind, Span]]] = {}

    def addresses(self, said: Words) -> tuple[list[Span], list[Span]]:
        """Ranges of IPv4, and of IPv6."""
        found = self._addresses.get(said)
        if found is None:
            found = self._addresses[said] = [], []
            for network in all_prefixes(self._groups, said):
                first = int(network.network_address)
                last = first + (1 << network.max_prefixlen - network.prefixlen) - 1
                found[network.version == 6].append((first, last))
        return found

    def services(self, said: Words) -> list[tuple[Kind, Span]]:
        """Kinds of protocols, with ports, or numbers of others."""
        found = self._services.get(said)
        if found is None:
            found = self._services[said] = [_kind(each) for each in all_services(self._groups, said)]
        return found


def _boxes(firewall: Firewall, met: Sequence[int], read: _Read) -> dict[tuple[Version, Kind], _Boxes]:
    """By family and kind of protocol: the rules' ranges of sources, targets and ports (or protocols).

    Where any rule looks at them, of source ports too, where there are ports.
    """
    from_ports = any(firewall.rules[number].source_port for number in met)
    found: dict[tuple[Version, Kind], _Boxes] = {
        (version, kind): [] for version in _VERSIONS for kind in _KINDS
    }
    for number in met:
        rule = firewall.rules[number]
        sources, targets = read.addresses(rule.source), read.addresses(rule.destination)
        services = read.services(rule.service)
        more = (_from(rule),) if from_ports else ()
        for version, of_family in zip(_VERSIONS, zip(sources, targets, strict=True), strict=True):
            for source in of_family[0]:
                for target in of_family[1]:
                    for kind, last in services:
                        box = (source, target, last) if kind == "other" else (source, target, last, *more)
                        found[version, kind].append((number, box))
    return found


def _from(rule: Rule) -> Span:
    """The source ports of a rule."""
    span = words.ports(rule.source_port) if rule.source_port else Ports()
    return span.first, span.last


def _kind(service: Service) -> tuple[Kind, Span]:
    if service.has_ports:
        return "tcp" if service.first == TCP else "udp", (service.ports.first, service.ports.last)
    return "other", (service.first, service.last)
