"""The firewall's rules as maps to verdicts: a lookup for each layer of rules, however many rules there are.

    forward ──by zones──▶ match_N ──by family, protocol──▶ match_N_4_tcp ──▶ map of layer 0, of layer 1 ...
                                                                  └─▶ accept, drop, or the chain of a rule

`classifier` says which layer a rule is in. A map's element counts its packets and says whose it is: its
comment is the rule's number in the policy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from trunkline.resources.appliance_policy import Firewall, Rule, words
from trunkline.resources.appliance_policy.document import ANY
from trunkline.resources.appliance_policy.groups import all_prefixes, all_services
from trunkline.resources.appliance_policy.words import TCP, UDP, Network, Service
from trunkline.units.classifier import Box, layers
from trunkline.units.rates import limit
from trunkline.units.tables import Table

#: Where the first packets of connections go that a rule logs (linux/netfilter/nfnetlink_log.h), and how much
#: of each; at the most so many a second of one rule.
LOG_GROUP, LOG_BYTES, LOG_RATE = 1, 128, 100

_KINDS = {"tcp": TCP, "udp": UDP, "other": None}


def filter_(table: Table, forward: list[str], firewall: Firewall, zones: Sequence[str], share: float) -> None:
    """Adds the firewall to the rules of the chain `forward`: all that comes that far is decided."""
    chains: dict[tuple[int, ...], str] = {}
    pairs = []
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
                pairs.append(f'"{near}" . "{far}" : jump {chains[met]}')
    if pairs:
        forward.append(f"iifname . oifname vmap {{ {', '.join(pairs)} }}")
    if firewall.default != "accept":
        forward.append(f"{table.counter('dropped_default')} {_verdict(table, firewall.default)}")


def _verdict(table: Table, action: str) -> str:
    if action == "reject":
        table.chain(
            "refused", ["meta l4proto tcp reject with tcp reset", "reject with icmpx admin-prohibited"]
        )
        return "goto refused"
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
            rules.append(f"meta nfproto ipv{version} {which}goto {inner}")
            found = layers(ours)
            ip = "ip" if version == 4 else "ip6"
            last = "ct original proto-dst" if protocol else "meta l4proto"
            key = f"{which}ct original {ip} saddr . ct original {ip} daddr . {last}"
            table.chain(inner, [f"{key} vmap @{inner}_{layer}" for layer in range(max(found) + 1)])
            members: list[list[str]] = [[] for _ in range(max(found) + 1)]
            for (number, box), layer in zip(ours, found, strict=True):
                members[layer].append(f'{_written(version, box)} comment "{number}" : {verdicts[number]}')
            of = "inet_service" if protocol else "inet_proto"
            kept = f"type ipv{version}_addr . ipv{version}_addr . {of} : verdict"
            for layer, elements in enumerate(members):
                lines = [kept, "flags interval", "counter", f"elements = {{ {', '.join(elements)} }}"]
                table.set("map", f"{inner}_{layer}", lines)


def _boxes(firewall: Firewall, met: Sequence[int]) -> dict[tuple[int, str], list[tuple[int, Box]]]:
    """By family and kind of protocol: the rules' ranges of sources, targets and ports (or protocols)."""
    found: dict[tuple[int, str], list[tuple[int, Box]]] = {}
    for number in met:
        rule = firewall.rules[number]
        sources = all_prefixes(firewall.groups, rule.source)
        targets = all_prefixes(firewall.groups, rule.destination)
        services = all_services(firewall.groups, rule.service)
        for service in services:
            kind, last = _kind(service)
            for source in sources:
                for target in targets:
                    if source.version == target.version:
                        box = (_range(source), _range(target), last)
                        found.setdefault((source.version, kind), []).append((number, box))
    return found


def _kind(service: Service) -> tuple[str, tuple[int, int]]:
    if service.has_ports:
        return "tcp" if service.first == TCP else "udp", (service.ports.first, service.ports.last)
    return "other", (service.first, service.last)


def _range(network: Network) -> tuple[int, int]:
    return int(network.network_address), int(network.broadcast_address)


def _written(version: int, box: Box) -> str:
    """A box as an element of a map."""
    address = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    ends = [(str(address(first)), str(address(last))) for first, last in box[:2]]
    ends.append((str(box[2][0]), str(box[2][1])))
    return " . ".join(first if first == last else f"{first}-{last}" for first, last in ends)


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
    return f"goto {name}"
