"""What a data plane does by a policy: the text of its table of nftables.

    prerouting   marks     the shard of the packet becomes that of its connection
                 targets   destinations are translated, listeners balanced
    forward      forward   what has begun passes; limits; rules, for what begins; the default
    input        own       pings and what its proxy listens for alone are for the appliance itself
    postrouting  sources   sources are translated

A connection is seen by the rules when it begins, and they speak of its addresses before translation
(`ct original`), so that the firewall comes first, though the kernel has translated the destination by then.
"""

from __future__ import annotations

from collections.abc import Sequence

from trunkline.compiler.unit_slices import LegSlice, RuleTables
from trunkline.resources.appliance_policy import Policy, SynProtection, Zone, check, words
from trunkline.resources.appliance_policy.zones import INSIDE
from trunkline.units import filtering
from trunkline.units.balancing import NOTHING, Seen
from trunkline.units.carrier import as_they_are, of_subscribers
from trunkline.units.fabric import SAME
from trunkline.units.local import LOCAL
from trunkline.units.proxied import delivered, protected
from trunkline.units.rates import limit
from trunkline.units.tables import Table, discarded, steps
from trunkline.units.translation import (
    PORTED,
    Endpoint,
    family,
    names,
    published,
    translate,
    translated,
)

__all__ = ["Endpoint", "discarded", "published", "ruleset", "steps", "translated"]


def ruleset(
    policy: Policy,
    legs: Sequence[LegSlice],
    *,
    replaces: str | None = None,
    share: float = 1.0,
    seen: Seen = NOTHING,
    tables: RuleTables | None = None,
) -> str:
    """What `steps` divides into transactions for ``nft -f -``: a packet meets the old policy or the new.

    Args:
        replaces: the text that is in force, as it was returned here; "" where there is none. Without it the
            table is made anew, and a packet that is under way in that moment may meet neither (`tables`).
        share: of the appliance's connections, how many begin here (of the shards, how many are here): limits
            of the policy are for the whole appliance, and this data plane has so much of them.
        seen: what is known of members.
        tables: of the policy's firewall, where they are known already.

    Raises:
        BadField: the policy does not fit the legs.
    """
    check(policy, [Zone(leg.zone, leg.outside, leg.addresses) for leg in legs])
    table = Table(replaces)
    zones = names(leg.zone for leg in legs)
    marks = table.base("marks", "filter hook prerouting priority mangle")
    forward = table.base("forward", "filter hook forward priority filter")
    own = table.base("own", "filter hook input priority filter")
    translate(table, policy, legs, seen, share)
    if not zones:
        return table.text()
    # What ends here has its mark already, and the answer's is the same.
    marks.append(f"iifname {zones} ct mark and {LOCAL} == 0 ct mark set meta mark and 0xffff")
    # Packets that listeners count are all for the kernel.
    forward.append(f"ct state established ct status & dnat == 0 meta mark set meta mark or {SAME:#x}")
    forward.append("ct state established,related accept")
    forward.append(f"ct state invalid {table.counter('dropped_invalid')} drop")
    firewall = policy.firewall
    for number, limits in enumerate(firewall.syn_protection if firewall else ()):
        _protect(table, forward, number, limits, share)
    _untranslatable(table, forward, policy)
    if firewall is None and all(leg.zone != INSIDE for leg in legs):
        # It is nobody's way out: what comes is for its listeners.
        forward.append(f"ct status & dnat == 0 {table.counter('dropped_no_listener')} drop")
    decided: dict[tuple[str, str], str] = {}
    if firewall is not None:
        decided = filtering.filter_(table, forward, firewall, [leg.zone for leg in legs], share, tables)
    own += [
        f"iifname != {zones} accept",
        "ct state established,related accept",
        *delivered(table, policy, legs, decided),
        "icmp type echo-request limit rate 1000/second burst 1000 packets accept",
        "icmpv6 type echo-request limit rate 1000/second burst 1000 packets accept",
        # Of a fabric's legs there is none; of others, neighbours have to be found (RFC 4861).
        "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept",
        f"{table.counter('dropped_own')} drop",
    ]
    return table.text()


def _untranslatable(table: Table, forward: list[str], policy: Policy) -> None:
    """What has no ports cannot be told apart behind an address that many share, and would show its own."""
    drop = f"{table.counter('dropped_untranslatable')} drop" if policy.nat else ""
    carriers = policy.nat.carrier_grade if policy.nat else ()
    if carriers:
        # Whoever is not translated leaves these rules, and meets those that follow.
        forward.append(f"jump {table.named('untranslatable')}")
        forward = table.chain("untranslatable")
    for carrier in carriers:
        whose = f'iifname "{carrier.from_}" oifname "{carrier.to}" {of_subscribers(carrier)}'
        if carrier.untranslated:
            forward.append(f"{whose} {as_they_are(carrier)} return")
        forward.append(f"{whose} meta l4proto != {PORTED[4]} {drop}")
    static = [words.address(pair.inside) for pair in (policy.nat.static if policy.nat else ())]
    for source in policy.nat.source if policy.nat else ():
        for version in sorted({words.address(text).version for text in source.addresses}):
            but = ", ".join(str(address) for address in static if address.version == version)
            others = f"{family(version)} saddr != {{ {but} }} " if but else ""
            forward.append(
                f'iifname "{source.from_}" oifname "{source.to}" meta nfproto ipv{version} {others}'
                f"meta l4proto != {PORTED[version]} {drop}"
            )


def _protect(table: Table, forward: list[str], number: int, limits: SynProtection, share: float) -> None:
    """Limits to connections of TCP that begin. What belongs to one that has begun is not asked."""
    name = f"syn_{number}"
    forward.append(protected(table, number, limits))
    rules = table.chain(name)
    drop = f"{table.counter('dropped_syn')} drop"
    for version in (4, 6):
        source = f"{family(version)} saddr"
        kept = [f"type ipv{version}_addr", "size 65536"]
        if limits.per_source:
            seen = table.set("set", f"{name}_rate_{version}", [*kept, "flags dynamic,timeout", "timeout 1m"])
            over = limit(words.rate(limits.per_source), share, over=True)
            rules.append(f"update {seen} {{ {source} {over} }} {drop}")
        if limits.connections:
            seen = table.set("set", f"{name}_count_{version}", [*kept, "flags dynamic"])
            most = max(1, round(limits.connections * share))
            rules.append(f"add {seen} {{ {source} ct count over {most} }} {drop}")
    if limits.total:
        rules.append(f"{limit(words.rate(limits.total), share, over=True)} {drop}")
