"""The logical network: what the data plane must do, in no backend's words.

The compiler derives it from a snapshot of the store; a backend makes packets obey it. Every
record is frozen and refers to others by key. Keys are stable: they are the ids of the resources
that the records come from, so that two compilations of one snapshot are equal, and a difference
between two logical networks is a difference between their dictionaries.

Addresses are text in their normal form (RFC 5952 for IPv6), prefixes are ``address/length``,
MAC addresses are lower case with colons.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, cast, get_args, get_type_hints

import msgspec

Family = Literal[4, 6]
Direction = Literal["ingress", "egress"]
Encapsulation = Literal["geneve", "vxlan"]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all records. `key` is unique among the records of one type."""

    key: str


class Uplink(msgspec.Struct, frozen=True, kw_only=True):
    """Where a switch meets the physical world, on every host that has that physical network."""

    #: The name of a physical network, which hosts map to a bridge.
    physical_network: str
    #: The VLAN id (1 to 4094), or None for untagged.
    vlan: int | None = None
    #: Whether the tag is a service's (type 0x88a8), not a customer's (0x8100).
    service_tag: bool = False


class Switch(Record, frozen=True, kw_only=True):
    """A layer-2 broadcast domain. Between hosts it is carried by the overlay, or by its uplink."""

    name: str
    #: The largest IP packet, in bytes.
    mtu: int
    #: None where the switch has uplinks and so needs no overlay.
    encapsulation: Encapsulation | None = "geneve"
    #: Each on a physical network of its own. A host that carries ports of the switch has one of these, and
    #: they are no way from one to the other.
    uplinks: tuple[Uplink, ...] = ()
    #: Frames with 802.1Q tags of guests pass.
    vlan_transparent: bool = False


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """A pair that a port may send from: a MAC address with an address or a prefix."""

    mac: str
    prefix: str


class SwitchPort(Record, frozen=True, kw_only=True):
    """A place on a switch where a workload is plugged in.

    The host plugs the interface in with `key` as its name (OVN: ``iface-id``).
    """

    switch: str
    name: str
    mac: str
    #: The addresses of the port, without prefix length.
    addresses: tuple[str, ...] = ()
    #: Whether any frame passes at all.
    enabled: bool = True
    #: None: no anti-spoofing and no filtering. Otherwise frames from any other pair are dropped
    #: (ARP, ND, IPv4, IPv6), (mac, addresses) of the port always included by the compiler.
    allowed: tuple[Allowed, ...] | None = None
    #: The keys of the rule sets that filter it. With `allowed` not None, what no rule allows is
    #: dropped in both directions, DHCP, ND and RA of the network itself excepted.
    rule_sets: tuple[str, ...] = ()
    #: Keys of `Dhcp` records that answer the port.
    dhcp4: str | None = None
    dhcp6: str | None = None
    #: What DHCP for IPv4 says that it is called; "" for nothing.
    hostname: str = ""
    #: The host that may claim it, or None for none yet.
    host: str | None = None
    #: "workload": on one host. "metadata": on every host at once, reached only from the same
    #: host (OVN: localport), of the network's metadata service.
    role: Literal["workload", "metadata"] = "workload"
    #: Whether frames to addresses that no port owns are sent to it.
    unknown: bool = False
    #: Whom it reaches on its switch (RFC 5517). None: everybody. Otherwise nobody but those of None, and
    #: those of the same community; "" is isolated, and is no community.
    community: str | None = None
    #: A sub-port of a trunk: it is plugged in where `parent` is, and its frames are those that have the
    #: tag of `vlan` there (IEEE Std 802.1Q).
    parent: str | None = None
    vlan: int | None = None


class Router(Record, frozen=True, kw_only=True):
    """A distributed layer-3 router."""

    name: str
    enabled: bool = True


class Advertisement(msgspec.Struct, frozen=True, kw_only=True):
    """Router advertisements on an internal router port (RFC 4861)."""

    #: slaac (RFC 4862), dhcpv6-stateful, dhcpv6-stateless (RFC 8415).
    mode: Literal["slaac", "dhcpv6-stateful", "dhcpv6-stateless"]
    mtu: int
    dns_servers: tuple[str, ...] = ()
    #: What names of hosts end with, without the last dot; "" to say nothing.
    domain: str = ""


class RouterPort(Record, frozen=True, kw_only=True):
    """A router's leg on a switch."""

    router: str
    switch: str
    mac: str
    #: The router's own addresses there, with prefix length.
    networks: tuple[str, ...]
    enabled: bool = True
    advertisement: Advertisement | None = None
    #: For a leg on an external switch: the hosts that may carry it, the most wanted first.
    #: Empty for a distributed leg.
    gateway_hosts: tuple[str, ...] = ()
    #: The largest IP packet of the leg.
    mtu: int = 1500


class Route(Record, frozen=True, kw_only=True):
    """A static route of a router."""

    router: str
    prefix: str
    next_hop: str
    #: The router port it leaves by, where the next hop alone does not tell.
    port: str | None = None
    #: It is taken only while the next hop answers BFD (RFC 5880).
    bfd: bool = False


class Nat(Record, frozen=True, kw_only=True):
    """An address translation of a router, on its gateway.

    snat: sources in `internal` (a prefix) leave as `external`.
    floating: `external` and `internal` (an address) stand for each other, both ways.
    proxy: both are one address, which stays as it is; the gateway answers for it (RFC 4389).
    """

    router: str
    type: Literal["snat", "floating", "proxy"]
    external: str
    internal: str
    #: For a floating address that is translated on the workload's own host: the switch port
    #: it belongs to, and the MAC address that it answers with.
    port: str | None = None
    external_mac: str | None = None
    gateway_port: str | None = None


class Barrier(Record, frozen=True, kw_only=True):
    """What does not leave a router by one leg, because it came in by others."""

    router: str
    family: Family
    #: Keys of router ports.
    leaving: str
    entered: tuple[str, ...]
    #: Addresses whose packets pass all the same: those that floating addresses stand for.
    except_from: tuple[str, ...] = ()
    #: Addresses that packets to pass all the same.
    except_to: tuple[str, ...] = ()
    #: What an address translation brought here passes all the same.
    except_translated: bool = False


class Detour(Record, frozen=True, kw_only=True):
    """A firewall that a router has packets go by: what comes in by some of its ports, and what leaves there.

    What comes back goes on its way, and by the firewall no more. Nobody else reaches the firewall.
    """

    router: str
    #: The router port on the firewall's switch.
    leg: str
    #: Router ports.
    ports: tuple[str, ...]
    #: The firewall's address of each family.
    next_hops: tuple[str, ...]


class Meter(Record, frozen=True, kw_only=True):
    """Packets that a router carries between its networks and a gateway, which are counted.

    A packet is counted by one of several: the one whose sides are within those of all others that it is in.
    """

    router: str
    #: The router port.
    gateway: str
    #: ingress: what comes in by the gateway. egress: what leaves by it. Addresses are those inside.
    direction: Direction
    family: Family
    #: Prefixes; "" for any.
    source: str = ""
    destination: str = ""
    #: The inner router ports of packets that pass a barrier, which are counted before they do.
    past_barrier: tuple[str, ...] = ()


class Forwarding(Record, frozen=True, kw_only=True):
    """Ports of an external address of a router that lead to ports inside, for whoever asks, from
    outside or from a network of the router. Replies come from the external address."""

    router: str
    protocol: Literal["tcp", "udp"]
    external: str
    internal: str
    #: The first and the last port.
    external_ports: tuple[int, int]
    #: As many as outside, or one for all of them.
    internal_ports: tuple[int, int]


class Shaping(Record, frozen=True, kw_only=True):
    """What is done to the packets of one place, one way, on their way through the switch.

    As who is at the place sees it: egress is what it sends. Of several at one place, those that name an
    address hold for packets from it (to it, of ingress), and the one that names none for all others.
    """

    switch: str
    #: The switch port or the router port.
    place: str
    direction: Direction
    address: str | None = None
    #: The limit, kilobits a second. What is more is dropped.
    rate_kbps: int | None = None
    #: How much may come at once, kilobits.
    burst_kbit: int | None = None
    #: The differentiated services code point that IP packets get (RFC 2474).
    dscp: int | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule set lets pass. Rules only allow; their order has no meaning."""

    key: str
    direction: Direction
    family: Family
    #: IANA protocol number, or None for every protocol.
    protocol: int | None = None
    #: TCP, UDP, SCTP, DCCP, UDP-Lite: first and last destination port.
    ports: tuple[int, int] | None = None
    #: ICMP and ICMPv6.
    icmp_type: int | None = None
    icmp_code: int | None = None
    #: The other side: a prefix; or the addresses of the ports of another rule set; or the prefixes of an
    #: address group; or anyone.
    remote_prefix: str | None = None
    remote_set: str | None = None
    remote_addresses: str | None = None


class RuleSet(Record, frozen=True, kw_only=True):
    """A security group: rules, applied to the ports that name it."""

    name: str
    #: Whether replies to what was let through pass without a rule.
    stateful: bool = True
    rules: tuple[Rule, ...] = ()


class AddressGroup(Record, frozen=True, kw_only=True):
    """Prefixes that rules refer to."""

    name: str
    #: Of both families; they may lie in each other.
    prefixes: tuple[str, ...] = ()


class TrafficLog(Record, frozen=True, kw_only=True):
    """Has lines written of what rule sets let pass, and of what no rule of their ports does."""

    rule_sets: tuple[str, ...] = ()
    #: The only port that is looked at, which is filtered; or None for every one.
    port: str | None = None
    accepted: bool = False
    dropped: bool = False


class Dhcp(Record, frozen=True, kw_only=True):
    """What DHCP tells the clients of a subnet (with the extra options of one port, if its own).

    `options` are standard names with text values, for whatever the other fields do not say; the
    names are those of `dhcp_option_name` of the network API (``domain-name``, ``bootfile-name``,
    ``tftp-server`` ...), the values unquoted and without control characters.
    """

    family: Family
    prefix: str
    #: The address and MAC that the server answers with.
    server_address: str
    server_mac: str
    lease_seconds: int = 43200
    mtu: int | None = None
    router: str | None = None
    dns_servers: tuple[str, ...] = ()
    #: What names of hosts end with, without the last dot.
    domain: str | None = None
    #: (prefix, next hop), RFC 3442; the default route included where there is one.
    routes: tuple[tuple[str, str], ...] = ()
    #: IPv6: other configuration only, no addresses.
    stateless: bool = False
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Delta:
    """What is another than in the logical network before: for whoever has that one."""

    before: weakref.ref[LogicalNetwork]
    #: The keys that came, went or differ, by the type of record.
    keys: Mapping[type[Record], Collection[str]]


@dataclass
class LogicalNetwork:
    """The whole of it: a dictionary by key for each type of record."""

    switches: dict[str, Switch] = field(default_factory=dict)
    ports: dict[str, SwitchPort] = field(default_factory=dict)
    routers: dict[str, Router] = field(default_factory=dict)
    router_ports: dict[str, RouterPort] = field(default_factory=dict)
    routes: dict[str, Route] = field(default_factory=dict)
    nats: dict[str, Nat] = field(default_factory=dict)
    barriers: dict[str, Barrier] = field(default_factory=dict)
    detours: dict[str, Detour] = field(default_factory=dict)
    meters: dict[str, Meter] = field(default_factory=dict)
    forwardings: dict[str, Forwarding] = field(default_factory=dict)
    rule_sets: dict[str, RuleSet] = field(default_factory=dict)
    address_groups: dict[str, AddressGroup] = field(default_factory=dict)
    logs: dict[str, TrafficLog] = field(default_factory=dict)
    dhcps: dict[str, Dhcp] = field(default_factory=dict)
    shapings: dict[str, Shaping] = field(default_factory=dict)
    #: The revision of the store that it was compiled from.
    revision: int = 0
    #: Set by the compiler where it knows. No part of what the network is, so that copies do not have it.
    delta: Delta | None = field(default=None, init=False, compare=False, repr=False)

    def records(self) -> dict[type[Record], dict[str, Record]]:
        """The dictionaries, by the type of record."""
        return {cls: getattr(self, name) for cls, name in KINDS.items()}


def _kinds() -> dict[type[Record], str]:
    hints = get_type_hints(LogicalNetwork)
    names = [each.name for each in fields(LogicalNetwork) if each.name not in ("revision", "delta")]
    return {cast("type[Record]", get_args(hints[name])[1]): name for name in names}


#: Each type of record, to the attribute of `LogicalNetwork` that holds those of the type.
KINDS: Mapping[type[Record], str] = _kinds()
