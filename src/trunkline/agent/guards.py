"""The guard bridge: what a workload may claim to be, checked in front of the integration bridge.

    tap or veth --(T)-- guard bridge --(P)-- patch --- integration bridge, iface-id on that end

OVN 23.03 lets router advertisements, DHCP servers' messages and neighbour solicitations with a forged
source pass port security, and its own flows cannot be told otherwise (ND and RA are exempt from ACLs).
So each workload passes here first. Both bridges are in one datapath: the patch costs nothing a packet.

    table 0  PORTS          from P: to T. From T: to P where there is no guard, else to LINK
    table 1  LINK           no tag of 802.1Q (or the network lets them through, unlooked at);
                            the source MAC is the port's own, else drop
    table 2  KIND           RA, redirect, anything to a DHCP client: drop; NS -> 3, NA -> 5; others -> 9
    table 3  DUPLICATE      NS from :: (RFC 4862, 5.4.2) asks for an own address only
    table 4  SOLICITATION   NS: the source link-layer address, if any, is the port's own
    table 5  ADVERTISEMENT  NA: the target is the port's own
    table 6  TARGET         NA: the target link-layer address, if any, is the port's own
    table 9  PASS           to P

The bridge is in fail mode "secure": with its flows gone, nothing passes. Fragments are matched by
their IPv6 hop limit: neighbour discovery is sent with 255 (RFC 4861) and nothing that needs fragments
is, so those are dropped (RFC 6980 forbids them anyway). A DHCP server that fragments its answers is
recognised by the first fragment (`OpenFlowProbe`), without which the others are nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from trunkline.compiler.slices import Guard

_NO_MAC = "00:00:00:00:00:00"
#: Headers that may stand before ICMPv6, and ICMPv6 itself (IANA protocol numbers).
_ICMP6_OR_HIDING = (0, 43, 44, 51, 58, 60)


@dataclass(frozen=True)
class GuardedPort:
    """The two OpenFlow ports of one workload on the guard bridge."""

    workload: int
    patch: int
    guard: Guard | None


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
    return sorted(lines)


def link_local(mac: str) -> str:
    """The IPv6 link-local address of a MAC address (RFC 4291, appendix A)."""
    parts = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([parts[0] ^ 2]) + parts[1:3] + b"\xff\xfe" + parts[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier))


def _port(port: GuardedPort) -> Iterator[str]:
    t, p = port.workload, port.patch
    yield f"table=0,priority=100,in_port={p},actions=output:{t}"
    if port.guard is None:
        yield f"table=0,priority=100,in_port={t},actions=output:{p}"
        return
    macs = sorted({m.lower() for m in port.guard.macs})
    targets = sorted(_own_prefixes(port.guard))
    yield f"table=0,priority=100,in_port={t},actions=resubmit(,1)"
    yield f"table=9,priority=100,in_port={t},actions=output:{p}"
    if port.guard.vlan_transparent:
        tagged = f"in_port={t},vlan_tci=0x1000/0x1000"
        yield from (f"table=1,priority=100,{tagged},dl_src={m},actions=output:{p}" for m in macs)
    # "No tag" is written as an exact match of the whole field.
    yield from (f"table=1,priority=100,in_port={t},vlan_tci=0,dl_src={m},actions=resubmit(,2)" for m in macs)
    for target in targets:
        nd = f"in_port={t},icmp6,icmp_type={{}},nd_target={target}"
        yield f"table=3,priority=100,{nd.format(135)},actions=resubmit(,4)"
        yield f"table=5,priority=100,{nd.format(136)},actions=resubmit(,6)"
    for mac in (_NO_MAC, *macs):
        yield f"table=4,priority=100,in_port={t},icmp6,icmp_type=135,nd_sll={mac},actions=resubmit(,9)"
        yield f"table=6,priority=100,in_port={t},icmp6,icmp_type=136,nd_tll={mac},actions=resubmit(,9)"


def _own_prefixes(guard: Guard) -> set[str]:
    """The IPv6 addresses and prefixes that are the port's own, those that follow from its MACs included."""
    own = {link_local(mac) for mac in guard.macs}
    for prefix in guard.prefixes:
        network = ipaddress.ip_network(prefix, strict=False)
        if network.version == 6:
            own.add(str(network.network_address) if network.prefixlen == 128 else str(network))
    return own
