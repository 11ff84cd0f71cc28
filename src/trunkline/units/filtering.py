"""The firewall's rules as maps to verdicts: a lookup for each layer of rules, however many rules there are.

    forward ──by zones──▶ match_N ──by family, protocol──▶ match_N_4_tcp ──▶ map of layer 0, of layer 1 ...
                                                                  └─▶ accept, drop, or the chain of a rule

`compiler.rule_tables` says which layer a rule is in, and how it is looked up. A map's
element counts its packets and says whose it is: its comment is the rule's number in the policy.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from trunkline.compiler.rule_tables import rule_tables
from trunkline.compiler.unit_slices import RuleLayer, RuleTable, RuleTables
from trunkline.resources.appliance_policy import Firewall, Rule, words
from trunkline.units.rates import limit
from trunkline.units.tables import Table

#: Where the first packets of connections go that a rule logs (linux/netfilter/nfnetlink_log.h), and how much
#: of each; at the most so many a second of one rule.
LOG_GROUP, LOG_BYTES, LOG_RATE = 1, 128, 100


def filter_(
    table: Table,
    forward: list[str],
    firewall: Firewall,
    zones: Sequence[str],
    share: float,
    told: RuleTables | None = None,
) -> dict[tuple[str, str], str]:
    """Adds the firewall to the rules of the chain `forward`: all that comes that far is decided.

    Args:
        told: the rules' tables, where they are known. Those of fewer zones are of no use.

    Returns: by zones that connections come from and go to, the chains that decide about them where there are
    rules for these.
    """
    places = {(near, far): place for near, far, place in told.pairs} if told is not None else {}
    if told is None or any(pair not in places for pair in itertools.product(zones, zones)):
        told = rule_tables(firewall, zones)
        places = {(near, far): place for near, far, place in told.pairs}
    chains: dict[int, str] = {}
    found: dict[tuple[str, str], str] = {}
    verdicts: dict[int, str] = {}
    for pair in itertools.product(zones, zones):
        place = places[pair]
        if place < 0:
            continue
        if place not in chains:
            chains[place] = f"match_{len(chains)}"
            tables = told.tables[place]
            for each in tables:
                for layer in each.layers:
                    for number in layer.rules:
                        if number not in verdicts:
                            verdicts[number] = _of_rule(table, number, firewall.rules[number], share)
            _match(table, chains[place], tables, verdicts)
        found[pair] = chains[place]
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


def _match(table: Table, name: str, found: Sequence[RuleTable], verdicts: Mapping[int, str]) -> None:
    """A chain that finds the first rule that fits, if any does, of those that these tables are of."""
    rules = table.chain(name)
    for each in found:
        inner = f"{name}_{each.version}_{each.kind}"
        which = f"meta l4proto {each.kind} " if each.kind != "other" else ""
        rules.append(f"meta nfproto ipv{each.version} {which}goto {table.named(inner)}")
        for number, layer in enumerate(each.layers):
            looked_up = _looked_up(table, f"{inner}_{number}", each, layer, verdicts)
            table.chain(inner).append(which + looked_up)


def _looked_up(table: Table, name: str, of: RuleTable, layer: RuleLayer, verdicts: Mapping[int, str]) -> str:
    """Adds the map of a layer; returns what a rule says to look it up."""
    ip, ports = "ip" if of.version == 4 else "ip6", of.kind != "other"
    keys = [f"ct original {ip} saddr", f"ct original {ip} daddr"]
    keys += ["ct original proto-dst" if ports else "meta l4proto", "ct original proto-src"]
    types = [f"ipv{of.version}_addr"] * 2 + ["inet_service" if ports else "inet_proto", "inet_service"]
    elements = [
        f'{key} comment "{number}" : {verdicts[number]}'
        for key, number in zip(layer.keys, layer.rules, strict=True)
    ]
    kept = f"type {' . '.join(types[place] for place in layer.order)} : verdict"
    map_ = table.map(name, kept, elements, "flags interval", "counter")
    return f"{' . '.join(keys[place] for place in layer.order)} vmap {map_}"


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
