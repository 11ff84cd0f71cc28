"""What the words of a rule stand for, with the groups of its policy."""

from __future__ import annotations

from collections.abc import Iterable

from trunkline.resources.appliance_policy import words
from trunkline.resources.appliance_policy.document import ANY, Groups, Words
from trunkline.resources.appliance_policy.words import TCP, UDP, Network, Ports, Service

_EVERYWHERE = (words.network("0.0.0.0/0"), words.network("::/0"))


def listed(said: Words) -> tuple[str, ...]:
    return (said,) if isinstance(said, str) else said


def prefixes(groups: Groups, word: str) -> list[Network]:
    """Of "any", a group, a prefix or an address. Raises ValueError with the remedy."""
    if word == ANY:
        return list(_EVERYWHERE)
    members = groups.addresses.get(word)
    return [words.network(word)] if members is None else [words.network(member) for member in members]


def services_of(groups: Groups, word: str) -> list[Service]:
    """Of "any", a group or a service. Raises ValueError with the remedy."""
    if word == ANY:
        return [Service(0, 255)]
    found = groups.services.get(word, (word,))
    return [service for text in found for service in words.services(text)]


def all_prefixes(groups: Groups, said: Words) -> list[Network]:
    """What a field of addresses means; no address is in two of them."""
    if isinstance(said, str) and said not in groups.addresses and said != ANY:
        return [words.network(said)]
    return words.collapsed(network for word in listed(said) for network in prefixes(groups, word))


def all_services(groups: Groups, said: Words) -> list[Service]:
    """What a field of services means: disjoint, and TCP and UDP always by themselves."""
    given = [service for word in listed(said) for service in services_of(groups, word)]
    if len(given) == 1 and given[0].first == given[0].last:
        return given
    if any(service.last - service.first == 255 for service in given):
        given = [Service(0, TCP - 1), Service(TCP, TCP), Service(TCP + 1, UDP - 1), Service(UDP, UDP)]
        return [*given, Service(UDP + 1, 255)]
    found = []
    for protocol in sorted({service.first for service in given}):
        spans = [service.ports for service in given if service.first == protocol]
        found += [Service(protocol, protocol, span) for span in _merged(spans)]
    return found


def _merged(spans: Iterable[Ports]) -> list[Ports]:
    merged: list[Ports] = []
    for span in sorted(spans):
        if merged and span.first <= merged[-1].last + 1:
            merged[-1] = Ports(merged[-1].first, max(merged[-1].last, span.last))
        else:
            merged.append(span)
    return merged
