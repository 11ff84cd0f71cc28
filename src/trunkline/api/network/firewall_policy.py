"""What a firewall group says, as the policy of an appliance. Pure.

The appliance has one leg, so it tells directions by addresses: the *inner* ones are those behind the ports
that the group has at the router. What goes from inner to inner addresses meets both policies, and begins only
if both let it: for each pair of rules there is one for what fits both.

    from inner to inner    each egress rule with each ingress rule, in the order of both
    from inner             egress
    to inner               ingress
    anything else          dropped
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from typing import Any

from trunkline.resources.appliance_policy.words import collapsed
from trunkline.resources.network import FirewallRule
from trunkline.resources.network.checks import ICMP, ICMPV6, protocol_number

Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network
Span = tuple[int, int]
_ANY: Mapping[int, Prefix] = {4: ipaddress.ip_network("0.0.0.0/0"), 6: ipaddress.ip_network("::/0")}
_WORDS = {6: "tcp", 17: "udp"}
_ACTIONS = {"allow": "accept", "deny": "drop", "reject": "reject"}


@dataclass(frozen=True)
class Part:
    """Connections of one family, and what becomes of them."""

    name: str
    sources: tuple[Prefix, ...]
    targets: tuple[Prefix, ...]
    protocol: int | None = None
    source_ports: Span | None = None
    target_ports: Span | None = None
    action: str = "deny"


def document(
    ingress: Sequence[FirewallRule], egress: Sequence[FirewallRule], inner: Sequence[Prefix]
) -> dict[str, Any]:
    """The policy's document.

    Args:
        ingress: the rules for what goes to the inner addresses, in their order.
        egress: ... for what comes from them.
        inner: the prefixes behind the ports.
    """
    rules = [_said(number, part) for number, part in enumerate(parts(ingress, egress, inner))]
    return {"firewall": {"default": "drop", "rules": rules}}


def parts(
    ingress: Sequence[FirewallRule], egress: Sequence[FirewallRule], inner: Sequence[Prefix]
) -> Iterator[Part]:
    """The first that fits decides."""
    for version in (4, 6):
        own = tuple(collapsed(p for p in inner if p.version == version))
        if not own:
            continue
        leaving = [part for rule in egress if (part := _of_rule(rule, version)) is not None]
        coming = [part for rule in ingress if (part := _of_rule(rule, version)) is not None]
        if sum(p.version == version for p in inner) > 1:
            for out in leaving:
                both = _within(out, own, own)
                if out.action != "allow":
                    yield from _some(both)
                    continue
                for one in coming:
                    yield from _some(_common(both, one) if both is not None else None)
            yield Part(f"inside {version}", own, own)
        for out in leaving:
            yield from _some(_within(out, own, (_ANY[version],)))
        yield Part(f"egress {version}", own, (_ANY[version],))
        for one in coming:
            yield from _some(_within(one, (_ANY[version],), own))


def _some(part: Part | None) -> Iterator[Part]:
    if part is not None:
        yield part


def _of_rule(rule: FirewallRule, version: int) -> Part | None:
    if not rule.enabled or rule.ip_version != version:
        return None
    number = protocol_number(rule.protocol)
    ends = (rule.source_ip_address, rule.destination_ip_address)
    source, target = (_ANY[version] if text is None else ipaddress.ip_network(text) for text in ends)
    return Part(
        name=rule.id,
        sources=(source,),
        targets=(target,),
        protocol=ICMPV6 if number == ICMP and version == 6 else number,
        source_ports=_span(rule.source_port),
        target_ports=_span(rule.destination_port),
        action=rule.action,
    )


def _span(text: str | None) -> Span | None:
    if text is None:
        return None
    first, _, last = text.partition(":")
    return int(first), int(last or first)


def _within(part: Part, sources: Sequence[Prefix], targets: Sequence[Prefix]) -> Part | None:
    """A part, of these addresses alone; None where nothing is left."""
    ours, theirs = _meeting(part.sources, sources), _meeting(part.targets, targets)
    return changed(part, sources=ours, targets=theirs) if ours and theirs else None


def _common(one: Part, other: Part) -> Part | None:
    """What is of both, which the second decides."""
    found = _within(one, other.sources, other.targets)
    if found is None or (None not in (one.protocol, other.protocol) and one.protocol != other.protocol):
        return None
    spans = []
    for mine, its in ((one.source_ports, other.source_ports), (one.target_ports, other.target_ports)):
        span = mine or its
        if mine is not None and its is not None:
            span = max(mine[0], its[0]), min(mine[1], its[1])
            if span[0] > span[1]:
                return None
        spans.append(span)
    return changed(
        found,
        name=f"{one.name[:18]} {other.name}",
        protocol=other.protocol if one.protocol is None else one.protocol,
        source_ports=spans[0],
        target_ports=spans[1],
        action=other.action,
    )


def _meeting(some: Sequence[Prefix], others: Sequence[Prefix]) -> tuple[Prefix, ...]:
    """The addresses that are in both."""
    found = []
    for one in some:
        for other in others:
            longer, shorter = (one, other) if one.prefixlen >= other.prefixlen else (other, one)
            if longer.supernet(new_prefix=shorter.prefixlen) == shorter and longer not in found:
                found.append(longer)
    return tuple(found)


def _said(number: int, part: Part) -> dict[str, Any]:
    said: dict[str, Any] = {
        "name": f"{number} {part.name}",
        "source": [str(prefix) for prefix in part.sources],
        "destination": [str(prefix) for prefix in part.targets],
        "action": _ACTIONS[part.action],
    }
    if part.protocol is not None:
        word = _WORDS.get(part.protocol, f"ip/{part.protocol}")
        said["service"] = word if part.target_ports is None else f"{word}/{_dashed(part.target_ports)}"
    if part.source_ports is not None:
        said["source_port"] = _dashed(part.source_ports)
    return said


def _dashed(span: Span) -> str:
    return str(span[0]) if span[0] == span[1] else f"{span[0]}-{span[1]}"
