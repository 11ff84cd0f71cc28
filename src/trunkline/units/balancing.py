"""Listeners of the kernel's own in the words of nftables: connections are led to members as slots say.

    targets ──by listener──▶ chain ── who may come, how many ── number of a slot ──▶ map: slot -> member

The maps are the only part that changes while a policy is in force: some elements, between one packet and the
next, when a member is down or back. A connection that has begun does not look them up again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from trunkline.resources.appliance_policy import Listener, Member, Policy, words
from trunkline.units import slots
from trunkline.units.tables import NAME, Table, named_in

#: A member that new connections do not go to: name of the listener, address, port.
Down = tuple[str, str, int]
#: Of a member, by the name of its listener, address and port.
End = tuple[str, str, int]
#: Elements of maps, by name of the map: what each slot leads to.
Slots = Mapping[str, Mapping[int, str]]
#: Maps of any number: what is said of the type does not count, and nftables 1.0.6 cannot list those of jhash.
NUMBERED = "typeof numgen inc mod 2 :"


@dataclass(frozen=True)
class Seen:
    """What is known of members."""

    down: Collection[Down] = ()
    #: How many connections each has, and how many more came to its listener since that was asked before.
    busy: Mapping[End, int] = field(default_factory=dict)
    coming: Mapping[str, int] = field(default_factory=dict)


#: Nothing is known of any: all of them are well.
NOTHING = Seen()


def protocol(listener: Listener) -> int:
    """As in the IP header."""
    return words.UDP if listener.protocol == "udp" else words.TCP


def able(listener: Listener, down: Collection[Down]) -> list[Member]:
    """Those whom new connections may go to: who stands in for others does when none of them can."""
    up = [
        member
        for member in listener.members
        if member.weight and (listener.name, member.address, member.port) not in down
    ]
    return [member for member in up if not member.backup] or up


def slots_of(policy: Policy, seen: Seen) -> Slots:
    """What the maps hold that change."""
    return {_map(number): _slots(listener, seen) for number, listener in kernels(policy)}


def changes(text: str, before: Slots, after: Slots) -> str:
    """What makes the maps of a table hold this in place of that: one transaction, or nothing at all."""
    lines = []
    for name, wanted in after.items():
        there, which = before.get(name, {}), f"inet {NAME} {named_in(text, name)}"
        gone = [str(slot) for slot, value in there.items() if wanted.get(slot) != value]
        new = [f"{slot} : {value}" for slot, value in wanted.items() if there.get(slot) != value]
        lines += [f"delete element {which} {{ {', '.join(gone)} }}"] if gone else []
        lines += [f"add element {which} {{ {', '.join(new)} }}"] if new else []
    return "\n".join([*lines, ""]) if lines else ""


def balance(table: Table, targets: list[str], policy: Policy, outside: str, seen: Seen, share: float) -> None:
    """Adds what becomes of what comes to listeners.

    Args:
        outside: the interfaces that it comes by, as a set.
        share: of the appliance's connections, how many begin here.
    """
    elements: dict[int, list[str]] = {}
    filled = slots_of(policy, seen)
    for number, listener in kernels(policy):
        address, name = words.address(listener.address), f"listener_{number}"
        key = f"{address} . {protocol(listener)} . {listener.port}"
        elements.setdefault(address.version, []).append(f"{key} : goto {table.named(name)}")
        rules = table.chain(name)
        began, lost, missed = (
            table.counter(counter(kind, listener.name)) for kind in ("began", "lost", "missed")
        )
        rules += [f"{rule} {lost} drop" for rule in _limits(table, name, listener, share)]
        rules.append(began)
        rules.append(_chosen(table, number, listener, filled[_map(number)]))
        rules.append(f"{table.counter('dropped_no_member')} {missed} drop")
    for version, found in elements.items():
        of = f"type ipv{version}_addr . inet_proto . inet_service : verdict"
        map_ = table.map(f"listeners_{version}", of, found)
        ip = "ip" if version == 4 else "ip6"
        targets.append(f"iifname {outside} {ip} daddr . meta l4proto . th dport vmap {map_}")
    _count(table, policy)


def counter(kind: str, listener: str) -> str:
    """The name of a counter, which stays while policies change.

    Args:
        kind: "began" are connections, of which "missed" found no member; "lost" were not let in; "in" and
            "out" are packets to members and from them.
    """
    return f"{kind}_{hashlib.sha256(listener.encode()).hexdigest()[:16]}"


def _count(table: Table, policy: Policy) -> None:
    """What passes is counted by listener, before anything lets it pass."""
    forward = table.base("forward", "filter hook forward priority filter")
    elements: dict[tuple[int, str, str], list[str]] = {}
    for number, listener in kernels(policy):
        address = words.address(listener.address)
        for kind in ("in", "out"):
            name = f"{kind}_{number}"
            table.chain(name).append(table.counter(counter(kind, listener.name)))
            led = elements.setdefault((address.version, listener.protocol, kind), [])
            led.append(f"{address} . {listener.port} : jump {table.named(name)}")
    for (version, carried, kind), found in elements.items():
        of = f"type ipv{version}_addr . inet_service : verdict"
        map_ = table.map(f"counted_{kind}_{version}_{carried}", of, found)
        way, ip = "original" if kind == "in" else "reply", "ip" if version == 4 else "ip6"
        forward.append(
            f"meta nfproto ipv{version} meta l4proto {carried} ct status dnat ct direction {way} "
            f"ct original {ip} daddr . ct original proto-dst vmap {map_}"
        )


def kernels(policy: Policy) -> Iterator[tuple[int, Listener]]:
    """Those that have members, and no proxy; with their numbers."""
    for number, listener in enumerate(policy.balancer.listeners if policy.balancer else ()):
        if listener.members and not listener.through_proxy:
            yield number, listener


def _map(number: int) -> str:
    return f"slots_{number}"


def _limits(table: Table, name: str, listener: Listener, share: float) -> list[str]:
    """What keeps connections from beginning."""
    address, rules = words.address(listener.address), []
    if listener.allowed:
        who = [str(words.network(text)) for text in listener.allowed]
        kept = [f"type ipv{address.version}_addr", "flags interval", "auto-merge"]
        set_ = table.set("set", f"{name}_allowed", [*kept, f"elements = {{ {', '.join(who)} }}"])
        ip = "ip" if address.version == 4 else "ip6"
        rules.append(f"{ip} saddr != {set_} {table.counter('dropped_not_allowed')}")
    if listener.connections:
        most = max(1, round(listener.connections * share))
        rules.append(f"ct count over {most} {table.counter('dropped_full')}")
    return rules


def _chosen(table: Table, number: int, listener: Listener, filled: Mapping[int, str]) -> str:
    """The rule that leads a connection to a member; where there is none, the next one decides."""
    ip = "ip" if words.address(listener.address).version == 4 else "ip6"
    count = slots.size(len(listener.members))
    which = {
        "round_robin": f"numgen inc mod {count}",
        "least_connections": f"numgen inc mod {count}",
        "random": f"numgen random mod {count}",
        "source": f"jhash {ip} saddr mod {count} seed 0x1",
        "source_port": f"jhash {ip} saddr . {listener.protocol} sport mod {count} seed 0x1",
    }[listener.algorithm]
    lines = [f"{NUMBERED} {ip} daddr . {listener.protocol} dport", f"size {count}"]
    if filled:
        lines.append(f"elements = {{ {', '.join(f'{slot} : {value}' for slot, value in filled.items())} }}")
    map_ = table.set("map", _map(number), lines)
    return f"meta l4proto {listener.protocol} dnat {ip} to {which} map {map_}"


def _slots(listener: Listener, seen: Seen) -> dict[int, str]:
    count, up = slots.size(len(listener.members)), able(listener, seen.down)
    weights: Sequence[float] = [member.weight for member in up]
    if listener.algorithm in ("source", "source_port"):
        # Each keeps its clients whoever else is there.
        row = slots.by_hash([f"{member.address} {member.port}" for member in up], weights, count)
    elif listener.algorithm == "least_connections":
        busy = [seen.busy.get((listener.name, member.address, member.port), 0) for member in up]
        parts = slots.by_load(weights, busy, seen.coming.get(listener.name, 0))
        row = slots.in_turn(parts, count)
    else:
        row = slots.in_turn(weights, count)
    ends = [f"{words.address(member.address)} . {member.port}" for member in up]
    return {slot: ends[number] for slot, number in enumerate(row)}
