"""Address groups: prefixes under one name, which rules of security groups refer to."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from msgspec import Meta

from trunkline.resources.network.checks import normal_prefix
from trunkline.resources.schema import Check, computed, fixed, resource, settable
from trunkline.resources.standard import Standard
from trunkline.resources.types import Name

#: How many prefixes one group has at most: each is a match in the data plane.
MOST = 1000


def group_prefixes(values: list[str]) -> list[str]:
    """Normal forms of prefixes, none twice, in the order of the addresses; IPv4 first."""
    if len(values) > MOST:
        raise ValueError(f"at most {MOST} addresses. Use more groups.")
    parsed = {ipaddress.ip_network(normal_prefix(value)) for value in values}
    return [str(one) for one in sorted(parsed, key=lambda p: (p.version, p.network_address, p.prefixlen))]


def given_prefixes(values: list[str]) -> list[str]:
    """As `group_prefixes`; each must be written with its length."""
    for value in values:
        if "/" not in value:
            normal = normal_prefix(value)
            raise ValueError(f"'{value}' isn't a recognized IP subnet cidr, '{normal}' is recommended.")
    return group_prefixes(values)


@resource(kind="address_group", plural="address_groups", service="network", quota=50)
class AddressGroup(Standard, kw_only=True):
    """Prefixes under one name: a rule that refers to it follows every change of them."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: Other projects may use it: every one, or at least the caller's.
    shared: Annotated[bool, computed()] = False
    #: The prefixes, of both families; the verbs add_addresses and remove_addresses change them.
    addresses: Annotated[
        list[Annotated[str, Meta(max_length=64)]], fixed(filter=False), Check(given_prefixes)
    ] = []
