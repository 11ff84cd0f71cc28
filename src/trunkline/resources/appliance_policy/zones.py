"""Whether a policy fits the appliance that it is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trunkline.errors import BadField
from trunkline.resources.appliance_policy import words
from trunkline.resources.appliance_policy.document import ANY, NatCarrier, NatSource, Policy
from trunkline.resources.appliance_policy.proxying import pools

#: The zone that the appliance is the gateway of.
INSIDE = "inside"


@dataclass(frozen=True)
class Zone:
    """A network of the appliance, as policies name it."""

    name: str
    #: It is the far side: others' addresses are seen there as they are.
    outside: bool
    #: The appliance's own there; a prefix length is no matter.
    addresses: tuple[str, ...] = ()


def check(policy: Policy, zones: Sequence[Zone]) -> None:
    """Whether it names zones that are there, addresses that they have, and translates inner ones alone.

    Raises:
        BadField: it does not.
    """
    by_name = {zone.name: zone for zone in zones}
    known = {ANY, *by_name}
    owner = {words.address(text.partition("/")[0]): zone for zone in zones for text in zone.addresses}

    def zone(path: str, name: str) -> Zone | None:
        if name == ANY:
            return None
        if name not in by_name:
            raise BadField(
                path, f"there is no zone '{name}'. The appliance has: {', '.join(by_name) or 'none'}."
            )
        return by_name[name]

    def address(path: str, text: str, at: Zone | None) -> None:
        found = owner.get(words.address(text))
        if found is None or (at is not None and found is not at):
            where = at.name if at else "outside"
            able = [str(a) for a, z in owner.items() if (z is at if at else z.outside)]
            raise BadField(
                path,
                f"the appliance has no {text} in zone {where}. It has there: {', '.join(able) or 'none'}.",
            )
        if not found.outside:
            raise BadField(
                path, f"{text} is of zone {found.name}, which is not outside. Use an address of one that is."
            )

    firewall, nat = policy.firewall, policy.nat
    for number, rule in enumerate(firewall.rules if firewall else ()):
        # They may be thousands.
        if rule.from_ not in known:
            zone(f"firewall.rules[{number}].from", rule.from_)
        if rule.to not in known:
            zone(f"firewall.rules[{number}].to", rule.to)
    for number, limits in enumerate(firewall.syn_protection if firewall else ()):
        zone(f"firewall.syn_protection[{number}].zone", limits.zone)
    sources: dict[str, NatSource | NatCarrier] = {
        **{f"nat.source[{n}]": each for n, each in enumerate(nat.source if nat else ())},
        **{f"nat.carrier_grade[{n}]": each for n, each in enumerate(nat.carrier_grade if nat else ())},
    }
    for path, source in sources.items():
        near, far = zone(f"{path}.from", source.from_), zone(f"{path}.to", source.to)
        if near is not None and near.outside:
            raise BadField(
                f"{path}.from", f"{near.name} is outside, where nobody is translated. Name an inner zone."
            )
        for place, text in enumerate(source.addresses):
            address(f"{path}.addresses[{place}]", text, far)
    for number, target in enumerate(nat.destination if nat else ()):
        path = f"nat.destination[{number}]"
        address(f"{path}.address", target.address, zone(f"{path}.zone", target.zone))
        _not_own(f"{path}.to", target.to, owner)
    for number, pair in enumerate(nat.static if nat else ()):
        address(f"nat.static[{number}].outside", pair.outside, None)
        _not_own(f"nat.static[{number}].inside", pair.inside, owner)
    for number, listener in enumerate(policy.balancer.listeners if policy.balancer else ()):
        path = f"balancer.listeners[{number}]"
        address(f"{path}.address", listener.address, None)
        for where, pool in pools(path, listener):
            for place, member in enumerate(pool.members):
                _not_own(f"{where}.members[{place}].address", member.address, owner)
                if member.monitor_address:
                    _not_own(f"{where}.members[{place}].monitor_address", member.monitor_address, owner)
        if not (listener.masquerade or listener.through_proxy) and all(zone.outside for zone in zones):
            raise BadField(
                f"{path}.masquerade",
                "it is needed: members would answer their clients by another way. Give an address of the "
                f"appliance: {', '.join(map(str, owner)) or 'it has none'}.",
            )
        for place, text in enumerate(listener.masquerade):
            if words.address(text) not in owner:
                raise BadField(
                    f"{path}.masquerade[{place}]",
                    f"the appliance has no {text}. It has: {', '.join(map(str, owner)) or 'none'}.",
                )


def _not_own(path: str, text: str, owner: dict[words.Address, Zone]) -> None:
    if words.address(text) in owner:
        raise BadField(path, f"{text} is the appliance's own. Name who answers behind it.")
