"""The firewall's rules as maps to verdicts: a lookup for each layer of rules, however many rules there are.

    forward ──by zones──▶ match_N ──by family, protocol──▶ match_N_4_tcp ──▶ map of layer 0, of layer 1 ...
                                                                  └─▶ accept, drop, or the chain of a rule

`classifier` says which layer a rule is in. A map's element counts its packets and says whose it is: its
comment is the rule's number in the policy.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from trunkline.resources.appliance_policy import Firewall, Rule, words
from trunkline.resources.appliance_policy.document import ANY
from trunkline.resources.appliance_policy.groups import all_prefixes, all_services
from trunkline.resources.appliance_policy.words import TCP, UDP, Network, Ports, Service
from trunkline.units.classifier import Box, depth, layers
from trunkline.units.rates import limit
from trunkline.units.tables import Table

#: Where the first packets of connections go that a rule logs (linux/netfilter/nfnetlink_log.h), and how much
#: of each; at the most so many a second of one rule.
LOG_GROUP, LOG_BYTES, LOG_RATE = 1, 128, 100

_KINDS = {"tcp": TCP, "udp": UDP, "other": None}


def filter_(
    table: Table, forward: list[str], firewall: Firewall, zones: Sequence[str], share: float
) -> dict[tuple[str, str], str]:
    """Adds the firewall to the rules of the chain `forward`: all that comes that far is decided.

    Returns: by zones that connections come from and go to, the chains that decide about them where there are
    rules for these.
    """
    chains: dict[tuple[int, ...], str] = {}
    found: dict[tuple[str, str], str] = {}
    for near in zones:
        for far in zones:
            met = tuple(
                number
                for number, rule in enumerate(firewall.rules)
                if rule.from_ in (ANY, near) and rule.to in (ANY, far)
            )
            if met and met not in chains:
                chains[met] = f"match_{len(chains)}"
                _match(table, chains[met], firewall, met, share)
            if met:
                found[near, far] = chains[met]
    if found:
        pairs = [f'"{near}" . "{far}" : jump {table.named(name)}' for (near, far), name in found.items()]
        map_ = table.map("zones", "type ifname . ifname : verdict", pairs)
        forward.append(f"iifname . oifname vmap {map_}")
    forward += default(table, firewall)
    return found


def default(table: Table, firewall: Firewall) -> list[str]:
    """What becomes of that which no rule fits."""
    if firewall.default == "accept":
        return []
    return [f"{table.counter('dropped_default')} {_verdict(table, firewall.default)}"]


def _verdict(table: Table, action: str) -> str:
    if action == "reject":
        rules = ("meta l4proto tcp reject with tcp reset", "reject with icmpx admin-prohibited")
        table.chain("refused")[:] = rules
        return f"goto {table.named('refused')}"
    return action


def _match(table: Table, name: str, firewall: Firewall, met: Sequence[int], share: float) -> None:
    """A chain that finds the first of these rules that fits, if any does."""
    verdicts = {number: _of_rule(table, number, firewall.rules[number], share) for number in met}
    rules = table.chain(name)
    boxes = _boxes(firewall, met)
    for version in (4, 6):
        for kind, protocol in _KINDS.items():
            ours = boxes.get((version, kind), [])
            if not ours:
                continue
            inner = f"{name}_{version}_{kind}"
            which = f"meta l4proto {kind} " if protocol else ""
            rules.append(f"meta nfproto ipv{version} {which}goto {table.named(inner)}")
            for layer, members in enumerate(_layered(ours)):
                elements = [(box, number, verdicts[number]) for number, box in members]
                looked_up = _looked_up(table, f"{inner}_{layer}", version, protocol, elements)
                table.chain(inner).append(which + looked_up)


def _layered(boxes: Sequence[tuple[int, Box]]) -> list[list[tuple[int, Box]]]:
    found = layers(boxes)
    members: list[list[tuple[int, Box]]] = [[] for _ in range(max(found) + 1)]
    for each, layer in zip(boxes, found, strict=True):
        members[layer].append(each)
    return members


def _looked_up(
    table: Table, name: str, version: int, protocol: int | None, elements: Sequence[tuple[Box, int, str]]
) -> str:
    """Adds the map of a layer; returns what a rule says to look it up.

    The kernel goes through the parts of a key in their order, and what fits the first of them is carried on
    one by one: so that is the one that the fewest boxes can have in common.
    """
    ip = "ip" if version == 4 else "ip6"
    keys = [f"ct original {ip} saddr", f"ct original {ip} daddr"]
    keys.append("ct original proto-dst" if protocol else "meta l4proto")
    types = [f"ipv{version}_addr"] * 2 + ["inet_service" if protocol else "inet_proto"]
    if len(elements[0][0]) > len(keys):
        keys.append("ct original proto-src")
        types.append("inet_service")
    order = sorted(range(len(keys)), key=lambda place: depth([box[place] for box, _, _ in elements]))
    words_ = [
        f'{" . ".join(_span(version, box, place) for place in order)} comment "{number}" : {verdict}'
        for box, number, verdict in elements
    ]
    kept = f"type {' . '.join(types[place] for place in order)} : verdict"
    map_ = table.map(name, kept, words_, "flags interval", "counter")
    return f"{' . '.join(keys[place] for place in order)} vmap {map_}"


def _boxes(firewall: Firewall, met: Sequence[int]) -> dict[tuple[int, str], list[tuple[int, Box]]]:
    """By family and kind of protocol: the rules' ranges of sources, targets and ports (or protocols).

    Where any rule looks at them, of source ports too, where there are ports.
    """
    from_ports = any(firewall.rules[number].source_port for number in met)
    found: dict[tuple[int, str], list[tuple[int, Box]]] = {}
    for number in met:
        rule = firewall.rules[number]
        sources = all_prefixes(firewall.groups, rule.source)
        targets = all_prefixes(firewall.groups, rule.destination)
        services = all_services(firewall.groups, rule.service)
        for service in services:
            kind, last = _kind(service)
            more = (_from(rule),) if from_ports and service.has_ports else ()
            for source in sources:
                for target in targets:
                    if source.version == target.version:
                        box = (_range(source), _range(target), last, *more)
                        found.setdefault((source.version, kind), []).append((number, box))
    return found


def _from(rule: Rule) -> tuple[int, int]:
    """The source ports of a rule."""
    span = words.ports(rule.source_port) if rule.source_port else Ports()
    return span.first, span.last


def _kind(service: Service) -> tuple[str, tuple[int, int]]:
    if service.has_ports:
        return "tcp" if service.first == TCP else "udp", (service.ports.first, service.ports.last)
    return "other", (service.first, service.last)


def _range(network: Network) -> tuple[int, int]:
    return int(network.network_address), int(network.broadcast_address)


def _span(version: int, box: Box, place: int) -> str:
    """One side of a box, as a part of an element's key."""
    first, last = box[place]
    if place >= 2:
        return str(first) if first == last else f"{first}-{last}"
    return (
        _address(version, first) if first == last else f"{_address(version, first)}-{_address(version, last)}"
    )


def _address(version: int, number: int) -> str:
    if version == 4:
        return socket.inet_ntop(socket.AF_INET, number.to_bytes(4, "big"))
    return socket.inet_ntop(socket.AF_INET6, number.to_bytes(16, "big"))


def _of_rule(table: Table, number: int, rule: Rule, share: float) -> str:
    """What an element of the rule leads to."""
    verdict = _verdict(table, rule.action)
    if not rule.log and not rule.rate:
        return verdict
    name = f"rule_{number}"
    inner = table.chain(name)
    if not inner:
        if rule.log:
            inner.append(
                f"limit rate {LOG_RATE}/second burst {LOG_RATE} packets "
                f'log prefix "{rule.action} {rule.name}" group {LOG_GROUP} snaplen {LOG_BYTES}'
            )
        if rule.rate:
            inner.append(f"{limit(words.rate(rule.rate), share)} accept")
            inner.append(f"{table.counter('dropped_rate')} drop")
        else:
            inner.append(verdict)
    return f"goto {table.named(name)}"
