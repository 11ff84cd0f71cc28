"""Which rule of a firewall a packet meets, found slowly and plainly: one rule after the other."""

from __future__ import annotations

import ipaddress

from trunkline.resources.appliance_policy import Policy, Rule
from trunkline.resources.appliance_policy.groups import listed

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NUMBERS = {"tcp": (6,), "udp": (17,), "icmp": (1, 58), "gre": (47,), "esp": (50,), "sctp": (132,)}


def first_match(
    policy: Policy, source: Address, target: Address, protocol: int, port: int, near: str = "", far: str = ""
) -> int:
    """The number of the first rule that fits, -1 where none does."""
    assert policy.firewall is not None
    groups = policy.firewall.groups

    def among(address: Address, said: str | tuple[str, ...]) -> bool:
        members = [member for word in listed(said) for member in groups.addresses.get(word, (word,))]
        return "any" in members or any(address in ipaddress.ip_network(member) for member in members)

    def served(rule: Rule) -> bool:
        members = [member for word in listed(rule.service) for member in groups.services.get(word, (word,))]
        return any(_serves(member, protocol, port) for member in members)

    for number, rule in enumerate(policy.firewall.rules):
        zones = rule.from_ in ("any", near) and rule.to in ("any", far)
        if zones and among(source, rule.source) and among(target, rule.destination) and served(rule):
            return number
    return -1


def _serves(word: str, protocol: int, port: int) -> bool:
    name, _, rest = word.partition("/")
    if name == "any":
        return True
    if name == "ip":
        return protocol == int(rest)
    if protocol not in _NUMBERS[name]:
        return False
    first, _, last = rest.partition("-")
    return not rest or int(first) <= port <= int(last or first)
