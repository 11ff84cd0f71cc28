"""What a host is told of the compute units of appliances that it runs, and what the units are told.

docs/designs/0003-appliances.md has the picture.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class BusMember(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A unit of an appliance on its two buses."""

    #: Of the unit in its appliance, below 256: two units that are there at once have different ones.
    number: int
    kind: Literal["data-plane", "dispatcher", "manager"]
    #: Where it is: the name of the host, and where others reach it; "" where that is not known yet.
    host: str
    underlay: str = ""
    #: Addresses of its interfaces on the in-band bus and the out-of-band one; there, it has an IPv6 address
    #: too, without prefix length (64 bits of it are the bus's).
    bus_mac: str
    control_mac: str
    control_address: str
    #: It is to go, once nothing is its own any more.
    leaves: bool = False


class BusSlice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The two buses of an appliance that has a unit on the host: networks that nobody else is on."""

    appliance: str
    #: VXLAN network identifiers (RFC 7348).
    bus_vni: int
    control_vni: int
    mtu: int
    #: Everybody, wherever they are.
    members: tuple[BusMember, ...]


class AdvertisedSlice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the hosts on a leg are told of by whoever serves it (router advertisements: RFC 4861)."""

    #: Where they send what is for elsewhere: a link-local address, which is whoever's the leg is.
    router: str
    #: Prefixes that are on the link, and whether they form addresses of them (RFC 4862).
    prefixes: tuple[tuple[str, bool], ...]
    #: They ask DHCPv6 for addresses, and for the rest.
    managed: bool = False
    other: bool = False
    name_servers: tuple[str, ...] = ()
    #: What names of hosts end with, without the last dot; "" to say nothing.
    domain: str = ""
    mtu: int


class LegSlice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A network that an appliance forwards from and to. Its number is its place in the slice."""

    #: As policies name it.
    zone: str
    #: Addresses are translated for those behind it: it is the far side.
    outside: bool = False
    #: The appliance's own, with prefix length: whichever dispatcher serves the leg has them.
    addresses: tuple[str, ...]
    #: Prefixes and next hops.
    routes: tuple[tuple[str, str], ...] = ()
    mtu: int
    #: Where it is the gateway of hosts that are to learn it by themselves.
    advertised: AdvertisedSlice | None = None


class RuleLayer(msgspec.Struct, frozen=True, array_like=True):
    """Boxes of rules that do not meet each other: a packet is in one of them at the most."""

    #: The parts of a key as they are looked up: 0 source, 1 target, 2 target port or protocol, 3 source port.
    order: tuple[int, ...]
    #: The boxes as keys in that order, in the words of nft(8), and the number of each one's rule.
    keys: tuple[str, ...]
    rules: tuple[int, ...]


class RuleTable(msgspec.Struct, frozen=True, array_like=True):
    """What rules say of packets of one family of addresses and one kind of protocol."""

    version: Literal[4, 6]
    kind: Literal["tcp", "udp", "other"]
    #: To be looked up one after the other: the first that has the packet decides.
    layers: tuple[RuleLayer, ...]


class RuleTables(msgspec.Struct, frozen=True, array_like=True):
    """A firewall's rules as what packets are looked up in (`compiler.rule_tables`)."""

    #: Of what is written here; a unit goes by none but its own.
    form: int
    #: Zones that connections come from and go to, and which of `tables` decides: -1 where no rule does.
    pairs: tuple[tuple[str, str, int], ...] = ()
    tables: tuple[tuple[RuleTable, ...], ...] = ()


class PolicySlice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an appliance does: one document, as `units.policy` takes it."""

    revision: int
    document: dict[str, Any]
    #: Its firewall's `RuleTables`, as `compiler.rule_tables` tells them; nobody reads them on the way. They
    #: are made once, of rules that were checked, and who is given them does not check those again. b"": there
    #: are none, and each does all of that itself.
    tables: bytes = b""


class UnitSlice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A compute unit that the host runs. The agent tells the unit all of this, as it is."""

    id: str
    appliance: str
    number: int
    kind: Literal["data-plane", "dispatcher", "manager"]
    runtime: Literal["namespace", "server"] = "namespace"
    #: Processors that it has, and no more.
    cores: float
    memory_mib: int
    #: Counts its replacements: a new number means a fresh start.
    serial: int = 0
    legs: tuple[LegSlice, ...]
    #: Of a dispatcher: the port by which it is on each leg's network.
    ports: tuple[str, ...] = ()
    #: Everybody; those besides managers learn from these what changes.
    members: tuple[BusMember, ...]
    #: Told to managers alone, which bring it to all.
    policy: PolicySlice | None = None
