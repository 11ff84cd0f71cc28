"""The guard bridge: what a workload may claim to be, checked in front of the integration bridge.

    tap or veth --(T)-- guard bridge --(P)-- patch --- integration bridge, iface-id on that end

OVN 23.03 lets router advertisements, DHCP servers' messages and neighbour solicitations with a forged
source pass port security, and its own flows cannot be told otherwise (ND and RA are exempt from ACLs).
So each workload passes here first. Both bridges are in one datapath: the patch costs nothing a packet.

    table 0  PORTS          from P: to T. From T: to LINK; the tag of a sub-port is taken off and noted, and
                            from there on the frame is the sub-port's, not the parent's. Where packets are
                            limited, they pass a meter first
    table 1  LINK           no tag of 802.1Q (or the network lets them through, unlooked at);
                            with a guard, the source MAC is the port's own, else drop
    table 2  KIND           RA, redirect, anything to a DHCP client: drop; NS -> 3, NA -> 5; others -> 9
    table 3  DUPLICATE      NS from :: (RFC 4862, 5.4.2) asks for an own address only
    table 4  SOLICITATION   NS: the source link-layer address, if any, is the port's own
    table 5  ADVERTISEMENT  NA: the target is the port's own
    table 6  TARGET         NA: the target link-layer address, if any, is the port's own
    table 9  PASS           to P, with the tag that was taken off; what is for a local address to 10
    table 10 LOCAL          translated: to P, with the MAC address of the port that it leads to
    table 11 ANSWER         from P, of such a port, translated back: to T

The bridge is in fail mode "secure": with its flows gone, nothing passes. Fragments are matched by
their IPv6 hop limit: neighbour discovery is sent with 255 (RFC 4861) and nothing that needs fragments
is, so those are dropped (RFC 6980 forbids them anyway). A DHCP server that fragments its answers is
recognised by the first fragment (`OpenFlowProbe`), without which the others are nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from trunkline.compiler.slices import Guard, LocalAddress

_NO_MAC = "00:00:00:00:00:00"
#: Types of frames that have a tag: of a customer, of a service (IEEE Std 802.1Q, table 9-1).
_TAGS = ("0x8100", "0x88a8")
#: The outer tag goes to a register, its priority too, and back.
_TAKE_OFF = "move:NXM_OF_VLAN_TCI[]->NXM_NX_REG0[0..15],strip_vlan"
_PUT_ON = "push_vlan:0x8100,move:NXM_NX_REG0[0..15]->NXM_OF_VLAN_TCI[]"
#: Headers that may stand before ICMPv6, and ICMPv6 itself (IANA protocol numbers).
_ICMP6_OR_HIDING = (0, 43, 44, 51, 58, 60)


@dataclass(frozen=True)
class GuardedTag:
    """A sub-port of a trunk: the frames that the workload sends with the tag of a VLAN."""

    vlan: int
    guard: Guard | None
    #: Whether tags inside that tag pass.
    transparent: bool = False
    #: The meters of what it sends and gets, 0 for none.
    sends: int = 0
    gets: int = 0


@dataclass(frozen=True)
class GuardedPort:
    """The two OpenFlow ports of one workload on the guard bridge, and the sub-ports that are there too."""

    workload: int
    patch: int
    guard: Guard | None
    #: Whether frames with tags pass.
    transparent: bool = False
    tags: tuple[GuardedTag, ...] = ()
    #: Addresses that lead to other ports of this host.
    local: tuple[LocalAddress, ...] = ()
    #: The meters of what it sends and gets without its sub-ports, 0 for none.
    sends: int = 0
    gets: int = 0


#: What is the same for every port.
COMMON = (
    # A first fragment has no ICMPv6 type in Open vSwitch, and a later one has none at all.
    *(
        f"table=2,priority=300,ipv6,nw_proto={protocol},ip_frag=yes,nw_ttl=255,actions=drop"
        for protocol in _ICMP6_OR_HIDING
    ),
    "table=2,priority=200,icmp6,icmp_type=134,actions=drop",
    "table=2,priority=200,icmp6,icmp_type=137,actions=drop",
    "table=2,priority=200,udp,tp_dst=68,actions=drop",
    "table=2,priority=200,udp6,tp_dst=546,actions=drop",
    "table=2,priority=200,icmp6,icmp_type=135,ipv6_src=::,actions=resubmit(,3)",
    "table=2,priority=190,icmp6,icmp_type=135,actions=resubmit(,4)",
    "table=2,priority=190,icmp6,icmp_type=136,actions=resubmit(,5)",
    "table=2,priority=0,actions=resubmit(,9)",
)


def flows(ports: list[GuardedPort]) -> list[str]:
    """All flows of the guard bridge, in the syntax of ovs-ofctl(8), sorted."""
    lines = list(COMMON)
    for port in ports:
        lines += _port(port)
    return sorted(set(lines))


def link_local(mac: str) -> str:
    """The IPv6 link-local address of a MAC address (RFC 4291, appendix A)."""
    parts = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([parts[0] ^ 2]) + parts[1:3] + b"\xff\xfe" + parts[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier))


def _port(port: GuardedPort) -> Iterator[str]:
    t, p = port.workload, port.patch
    gets = _metered(port.gets)
    yield f"table=0,priority=100,in_port={p},actions={gets}output:{t}"
    yield f"table=0,priority=100,in_port={t},actions={_metered(port.sends)}resubmit(,1)"
    yield from _workload(port.guard, port.transparent, f"in_port={t},reg0=0", f"output:{p}")
    yield from _local(port)
    for tag in port.tags:
        arriving = f"in_port={t},dl_vlan={tag.vlan}"
        yield f"table=0,priority=110,{arriving},actions={_metered(tag.sends)}{_TAKE_OFF},resubmit(,1)"
        yield f"table=0,priority=110,in_port={p},dl_vlan={tag.vlan},actions={_metered(tag.gets)}output:{t}"
        if not tag.transparent:
            # Where Open vSwitch looks at one tag alone (vlan-limit), the second is a type of frame to it.
            yield from (f"table=0,priority=120,{arriving},dl_type={kind},actions=drop" for kind in _TAGS)
        noted = f"in_port={t},reg0={0x1000 | tag.vlan:#x}/0x1fff"
        yield from _workload(tag.guard, tag.transparent, noted, f"{_PUT_ON},output:{p}")


def _metered(meter: int) -> str:
    """The start of actions that packets come to by a meter."""
    return f"meter:{meter}," if meter else ""


def _local(port: GuardedPort) -> Iterator[str]:
    """Where packets to local addresses go. Connections are known by zones of conntrack, one a workload.

    ovn-controller numbers its own zones from 1; these are from the upper half.
    """
    t, p, gets = port.workload, port.patch, _metered(port.gets)
    zone = 0x8000 | t & 0x7FFF
    if port.local:
        yield f"table=11,priority=100,in_port={p},actions=output:{t}"
    if any(":" in each.address for each in port.local):
        # Conntrack takes no neighbour discovery.
        for message in (135, 136):
            yield f"table=0,priority=160,in_port={p},icmp6,icmp_type={message},actions={gets}output:{t}"
            found = f"in_port={t},reg0=0,vlan_tci=0,icmp6,icmp_type={message}"
            yield f"table=9,priority=210,{found},actions=output:{p}"
    for each in port.local:
        six = ":" in each.address
        kind, to, source = ("ipv6", "ipv6_dst", "ipv6_src") if six else ("ip", "nw_dst", "nw_src")
        asked = f"table=9,priority=200,in_port={t},reg0=0,vlan_tci=0,{kind},{to}={each.address}"
        if not each.translated:
            yield f"{asked},actions=mod_dl_dst:{each.mac},output:{p}"
            continue
        into = f"[{each.translated}]" if six else each.translated
        yield f"{asked},actions=ct(commit,zone={zone},nat(dst={into}),table=10)"
        translated = f"table=10,priority=100,in_port={t},{kind},{to}={each.translated}"
        yield f"{translated},actions=mod_dl_dst:{each.mac},output:{p}"
        yield (
            f"table=0,priority=150,in_port={p},vlan_tci=0,{kind},{source}={each.translated},"
            f"actions={gets}ct(zone={zone},nat,table=11)"
        )


def _workload(guard: Guard | None, transparent: bool, frames: str, passing: str) -> Iterator[str]:
    """The checks of a port's or a sub-port's frames, by the match that tells them from others'."""
    yield f"table=9,priority=100,{frames},actions={passing}"
    macs = [] if guard is None else sorted({m.lower() for m in guard.macs})
    sources = [""] if guard is None else [f",dl_src={mac}" for mac in macs]
    for source in sources:
        if transparent:
            yield f"table=1,priority=100,{frames},vlan_tci=0x1000/0x1000{source},actions=resubmit(,9)"
        # "No tag" is written as an exact match of the whole field.
        known = 9 if guard is None else 2
        yield f"table=1,priority=100,{frames},vlan_tci=0{source},actions=resubmit(,{known})"
    if guard is None:
        return
    for target in sorted(_own_prefixes(guard)):
        nd = f"{frames},icmp6,icmp_type={{}},nd_target={target}"
        yield f"table=3,priority=100,{nd.format(135)},actions=resubmit(,4)"
        yield f"table=5,priority=100,{nd.format(136)},actions=resubmit(,6)"
    for mac in (_NO_MAC, *macs):
        yield f"table=4,priority=100,{frames},icmp6,icmp_type=135,nd_sll={mac},actions=resubmit(,9)"
        yield f"table=6,priority=100,{frames},icmp6,icmp_type=136,nd_tll={mac},actions=resubmit(,9)"


def _own_prefixes(guard: Guard) -> set[str]:
    """The IPv6 addresses and prefixes that are the port's own, those that follow from its MACs included."""
    own = {link_local(mac) for mac in guard.macs}
    for prefix in guard.prefixes:
        network = ipaddress.ip_network(prefix, strict=False)
        if network.version == 6:
            own.add(str(network.network_address) if network.prefixlen == 128 else str(network))
    return own
