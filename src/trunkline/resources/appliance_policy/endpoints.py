"""The addresses and ports of an appliance that the policy gives a meaning: each of them one alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from trunkline.errors import BadField
from trunkline.resources.appliance_policy import words
from trunkline.resources.appliance_policy.carrier import allocations
from trunkline.resources.appliance_policy.document import (
    MASQUERADE_PORTS,
    Answering,
    Listener,
    Policy,
)
from trunkline.resources.appliance_policy.proxying import pools
from trunkline.resources.appliance_policy.words import TCP, UDP, Address, Ports

#: How many ends of flows the dispatchers can tell apart (`published` of fabric.bpf.c).
MOST_PUBLISHED = 4096


def check_endpoints(policy: Policy) -> None:
    """Raises BadField: one thing has two meanings."""
    names: dict[str, str] = {}
    for number, listener in enumerate(policy.balancer.listeners if policy.balancer else ()):
        path = f"balancer.listeners[{number}]"
        address = _address(f"{path}.address", listener.address)
        if listener.name in names:
            raise BadField(
                f"{path}.name", f"'{listener.name}' is {names[listener.name]} too. Give another one."
            )
        names[listener.name] = path
        for where, pool in pools(path, listener):
            _check_members(where, listener, pool, address)
        _check_masquerade(path, listener, address)
    _once(policy)
    _apart(policy)


def _check_masquerade(path: str, listener: Listener, address: Address) -> None:
    found = [_address(f"{path}.masquerade[{place}]", text) for place, text in enumerate(listener.masquerade)]
    for place, each in enumerate(found):
        if each in found[:place]:
            raise BadField(f"{path}.masquerade[{place}]", f"{each} is there twice. Leave one out.")
    if found and not any(each.version == address.version for each in found):
        raise BadField(
            f"{path}.masquerade",
            f"none of them is of the family of {address}, as members are. Give one of IPv{address.version}.",
        )


def _check_members(path: str, listener: Listener, pool: Answering, address: Address) -> None:
    seen: dict[tuple[str, int], int] = {}
    for place, member in enumerate(pool.members):
        where = f"{path}.members[{place}]"
        found = _address(f"{where}.address", member.address)
        if found.version != address.version and not listener.through_proxy:
            raise BadField(
                f"{where}.address",
                f"{found} is not of the family of {address}. Give one of IPv{address.version}.",
            )
        end = (str(found), member.port)
        if end in seen:
            raise BadField(
                where, f"it is the same as members[{seen[end]}]. Leave one out; a weight says more."
            )
        seen[end] = place


def _address(path: str, text: str) -> Address:
    try:
        return words.address(text)
    except ValueError as error:
        raise BadField(path, str(error)) from None


def published_here(policy: Policy) -> Iterator[tuple[str, Address, int, int]]:
    """Path, address, protocol and port of each end that is published; 0 where it is all of them."""
    if policy.nat is not None:
        for number, target in enumerate(policy.nat.destination):
            (service,) = words.services(target.service)
            address = words.address(target.address)
            yield f"nat.destination[{number}]", address, service.first, service.ports.first
        for number, pair in enumerate(policy.nat.static):
            yield f"nat.static[{number}].outside", words.address(pair.outside), 0, 0
    if policy.balancer is not None:
        for number, listener in enumerate(policy.balancer.listeners):
            protocol = UDP if listener.protocol == "udp" else TCP
            yield f"balancer.listeners[{number}]", words.address(listener.address), protocol, listener.port


def _once(policy: Policy) -> None:
    """What is published is published once."""
    seen: dict[tuple[Address, int, int], str] = {}
    whole: dict[Address, str] = {}
    for path, address, protocol, port in published_here(policy):
        if (address, protocol, port) in seen:
            other = seen[address, protocol, port]
            raise BadField(
                path, f"{address} has the same in {other}. Leave one of them out, or use another port."
            )
        seen[address, protocol, port] = path
        if not protocol:
            whole[address] = path
    for (address, protocol, _), path in seen.items():
        if protocol and address in whole:
            raise BadField(path, f"{whole[address]} gives all of {address} away. Use another address.")
    inside: dict[Address, int] = {}
    for number, pair in enumerate(policy.nat.static if policy.nat else ()):
        address = words.address(pair.inside)
        if address in inside:
            other = f"nat.static[{inside[address]}]"
            raise BadField(
                f"nat.static[{number}].inside", f"{address} is in {other} too. Leave one of them out."
            )
        inside[address] = number


def _given(policy: Policy) -> dict[Address, tuple[str, Ports]]:
    """The addresses that sources of many are translated to: where that is said, and the ports."""
    given: dict[Address, tuple[str, Ports]] = {}
    for number, source in enumerate(policy.nat.source if policy.nat else ()):
        span = words.ports(source.ports)
        twice = [a for a, count in Counter(map(words.address, source.addresses)).items() if count > 1]
        if twice:
            raise BadField(f"nat.source[{number}].addresses", f"{twice[0]} is there twice. Leave one out.")
        for place, text in enumerate(source.addresses):
            address = words.address(text)
            path, other = given.setdefault(address, (f"nat.source[{number}]", span))
            if other != span:
                where = f"nat.source[{number}].addresses[{place}]"
                raise BadField(
                    where, f"{address} has the ports {other} in {path}. Give the same, or another address."
                )
    span = words.ports(MASQUERADE_PORTS)
    for number, listener in enumerate(policy.balancer.listeners if policy.balancer else ()):
        for place, text in enumerate(listener.masquerade):
            address, where = words.address(text), f"balancer.listeners[{number}].masquerade[{place}]"
            path, other = given.setdefault(address, (where, span))
            if other != span:
                raise BadField(
                    where, f"{address} has the ports {other} in {path}, not {span}. Use another address."
                )
    return given


def _answering(policy: Policy) -> Iterator[tuple[str, Address]]:
    """Path and address of each who answers behind what is published, and sees who asks."""
    for number, target in enumerate(policy.nat.destination if policy.nat else ()):
        yield f"nat.destination[{number}].to", words.address(target.to)
    for number, listener in enumerate(policy.balancer.listeners if policy.balancer else ()):
        if not (listener.masquerade or listener.through_proxy):
            for place, member in enumerate(listener.members):
                yield f"balancer.listeners[{number}].members[{place}].address", words.address(member.address)


def _apart(policy: Policy) -> None:
    """What sources are translated to is nobody else's."""
    given = _given(policy)
    subscribers: dict[Address, str] = {}
    for number, carrier in enumerate(policy.nat.carrier_grade if policy.nat else ()):
        path = f"nat.carrier_grade[{number}]"
        for place, text in enumerate(carrier.addresses):
            address = words.address(text)
            if address in given:
                where = given[address][0]
                raise BadField(
                    f"{path}.addresses[{place}]", f"{address} is used by {where}. Use another one."
                )
            given[address] = (f"{path}.addresses[{place}]", words.ports(carrier.ports))
        for allocation in allocations(carrier):
            address = words.address(allocation.subscriber)
            if address in subscribers:
                raise BadField(
                    f"{path}.subscribers", f"{address} is one of {subscribers[address]}. Leave it out."
                )
            subscribers[address] = path
    for number, pair in enumerate(policy.nat.static if policy.nat else ()):
        if words.address(pair.inside) in subscribers:
            where = subscribers[words.address(pair.inside)]
            raise BadField(
                f"nat.static[{number}].inside", f"it is a subscriber of {where}. Leave one of them out."
            )
    for path, address in _answering(policy):
        if address in subscribers:
            # What it sends from that port would come back to another data plane than what comes to it.
            raise BadField(
                path, f"{address} is a subscriber of {subscribers[address]}. Leave one of them out."
            )
    ends = 0
    for path, address, protocol, port in published_here(policy):
        ends += 2
        if address not in given:
            continue
        where, span = given[address]
        if not protocol:
            raise BadField(path, f"sources are translated to {address} by {where}. Use another address.")
        if span.first <= port <= span.last:
            raise BadField(
                path,
                f"port {port} of {address} is one of the ports {span} that {where} gives to sources. "
                "Use another port, or narrow those.",
            )
    if policy.balancer is not None:
        ends += sum(
            -1 if listener.through_proxy else len(listener.members) - 1
            for listener in policy.balancer.listeners
        )
    if ends > MOST_PUBLISHED:
        raise BadField(
            "balancer.listeners", f"with all members there are {ends} ends; {MOST_PUBLISHED} are the most."
        )
