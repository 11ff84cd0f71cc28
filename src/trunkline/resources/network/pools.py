"""Subnet pools: prefixes that subnets are cut from; and the scopes in which addresses are unique."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from msgspec import Meta

from trunkline.resources.network.checks import Uuid, subnet_cidr
from trunkline.resources.schema import Check, computed, fixed, resource, settable
from trunkline.resources.standard import Standard
from trunkline.resources.types import Name


def pool_prefixes(values: list[str]) -> list[str]:
    """Prefixes of one family, joined where they touch, in order."""
    if len(values) > 256:
        raise ValueError("at most 256 prefixes.")
    parsed = [ipaddress.ip_network(subnet_cidr(value)) for value in values]
    if not parsed:
        raise ValueError("at least one prefix is required.")
    four = [p for p in parsed if isinstance(p, ipaddress.IPv4Network)]
    six = [p for p in parsed if isinstance(p, ipaddress.IPv6Network)]
    if four and six:
        raise ValueError("the prefixes are of different families.")
    joined = ipaddress.collapse_addresses(four) if four else ipaddress.collapse_addresses(six)
    return [str(prefix) for prefix in joined]


_Length = Annotated[int, Meta(ge=0, le=128)]


@resource(kind="address_scope", plural="address_scopes", service="network", quota=100)
class AddressScope(Standard, kw_only=True):
    """Where addresses are unique: within it they are routed as they are, out of it only translated."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: 4 or 6.
    ip_version: Annotated[Literal[4, 6], fixed(required=True)] = 4
    #: Other projects may have subnet pools in it: every one, or at least the caller's.
    shared: Annotated[bool, settable(guarded_write=True, index=True)] = False


@resource(kind="subnetpool", plural="subnetpools", service="network", quota=100)
class SubnetPool(Standard, kw_only=True):
    """Prefixes that the ranges of subnets are cut from, so that they do not overlap."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: The prefixes; an update may only add to them.
    prefixes: Annotated[
        list[str], settable(required=True, filter=False, alias="subnet_allocation"), Check(pool_prefixes)
    ] = []
    #: 4 or 6.
    ip_version: Annotated[int, computed()] = 4
    #: The longest prefix, that of the smallest subnet. By default a single address.
    max_prefixlen: Annotated[_Length | None, settable(as_text=True)] = None
    #: The shortest prefix, that of the largest subnet. By default 8 or, in IPv6, 64.
    min_prefixlen: Annotated[_Length | None, settable(as_text=True)] = None
    #: The prefix length of subnets that do not say. By default the shortest.
    default_prefixlen: Annotated[_Length | None, settable(as_text=True)] = None
    #: How much of it one project may have: addresses, or in IPv6 /64 ranges. None for no limit.
    default_quota: Annotated[Annotated[int, Meta(ge=0)] | None, settable()] = None
    #: The address scope that it is in.
    address_scope_id: Annotated[
        Uuid | None, settable(index=True, refers="address_scope", alias="address-scope")
    ] = None
    #: Other projects may use it: every one, or at least the caller's.
    shared: Annotated[bool, fixed(guarded_write=True, index=True)] = False
    #: Subnets that ask for the default pool of their family get it.
    is_default: Annotated[bool, settable(guarded_write=True, alias="default-subnetpools")] = False
