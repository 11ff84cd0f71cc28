"""The kernel of a data plane as a router: a device for each leg, and what it must do besides and must not do.

    bus ── programs of the fabric ──▶ [zone] ── routes, nftables ──▶ [zone] ── programs of the fabric ──▶ bus

A leg's device is named for its zone, so that rules name zones. It asks for no neighbours, leads nowhere, for
programs take what leaves, and has the bus's address, or the kernel would take what comes for somebody else's.
"""

from __future__ import annotations

import json
import subprocess
import zlib
from collections.abc import Mapping, Sequence

from trunkline.compiler.unit_slices import LegSlice
from trunkline.devices import namespace
from trunkline.errors import Refusal, Unavailable
from trunkline.units.fabric import TURNING

#: How long a connection of TCP may do nothing, seconds: two hours and four minutes.
_IDLE = 7440
#: Of ip-rule(8): the kernel's table of its own addresses; and that of where they are, for what is sent to
#: them from inside and has this mark.
_LOCAL, _THERE = "local", 7
_TURNING = f"fwmark {TURNING:#x}/{TURNING:#x}"
#: How counters of what is dropped are named: by the reason.
DROPPED = "dropped_"
#: A table for policies; until there is one, nothing is forwarded.
CLOSED = """\
table inet appliance {
  chain closed { type filter hook forward priority 0; policy drop; }
}
"""
#: The unit's own: what it says to other units is not tracked, for marks would be taken for those of shards,
#: and who comes by a leg reaches neither the out-of-band bus nor an address there. Nor is anything forwarded
#: whose source is not where answers would go (RFC 3704, 2.2: strict reverse path forwarding); but for what
#: comes in again, from an address that is the appliance's own.
_OWN = """\
table inet unit {{
  counter dropped_forged_source {{ }}
  chain arriving {{ type filter hook prerouting priority -300;
    iifname {{ "{control}", "lo" }} notrack
    iifname != {{ "{control}", "lo" }} ip6 daddr {address} drop
    iifname != {{ "{control}", "lo" }} meta mark and {turning:#x} == 0 fib saddr type local drop
  }}
  chain leaving {{ type filter hook output priority -300;
    oifname {{ "{control}", "lo" }} notrack
  }}
  chain through {{ type filter hook forward priority -300;
    iifname "{control}" drop
    oifname "{control}" drop
    fib saddr type != local fib saddr . iif oif missing counter name dropped_forged_source drop
  }}
}}
"""


class Router:
    """This process's kernel. Owns the devices of legs, and the table inet unit."""

    def __init__(self, bus: str, mac: str, control: str, address: str) -> None:
        """`address` is its own on the out-of-band bus.

        Raises:
            Refusal: the kernel has no nftables, or this process no right to them.
        """
        self._mac = mac
        self._legs: dict[str, LegSlice] = {}
        namespace.sysctl(
            None,
            [
                ("ipv4/ip_forward", 1),
                ("ipv6/conf/all/forwarding", 1),
                # A proxy listens where an address is about to come.
                ("ipv4/ip_nonlocal_bind", 1),
                ("ipv6/ip_nonlocal_bind", 1),
                (f"ipv6/conf/{bus}/disable_ipv6", 1),
                *((f"ipv4/conf/{which}/rp_filter", 0) for which in ("all", "default", bus, control)),
                *((f"ipv4/conf/{which}/send_redirects", 0) for which in ("all", "default")),
            ],
        )
        apply(CLOSED + _OWN.format(control=control, address=address, turning=TURNING))
        # What goes out to one of these addresses to come in again is not for this kernel.
        namespace.ip(None, f"rule add pref 1 lookup {_LOCAL}", f"rule delete pref 0 lookup {_LOCAL}")
        # These are there when rules have asked for connections to be tracked.
        namespace.sysctl(
            None,
            [
                # The windows of connections that were begun elsewhere are not known here.
                ("netfilter/nf_conntrack_tcp_be_liberal", 1),
                # What is in the middle and not known waits for its state to come: it is no new connection.
                ("netfilter/nf_conntrack_tcp_loose", 0),
                # The kernel does not see every acknowledgement (`Fabric`), and may take what was answered for
                # unanswered. Nobody may forget a connection that does nothing sooner (RFC 5382, REQ-5).
                ("netfilter/nf_conntrack_tcp_timeout_unacknowledged", _IDLE),
                ("netfilter/nf_conntrack_tcp_timeout_max_retrans", _IDLE),
                ("netfilter/nf_conntrack_events", 1),
                # Who finds this unit dead can tell what it had begun lately (`bequest`).
                ("netfilter/nf_conntrack_timestamp", 1),
            ],
        )

    def want(self, legs: Sequence[LegSlice]) -> None:
        """Makes these the legs; what is as it was is not touched.

        Raises:
            CommandFailed: the kernel does not take one of them.
        """
        after = {leg.zone: leg for leg in legs}
        namespace.ip(None, *changes(self._legs, after, self._mac))
        given = [(f"ipv4/conf/{leg.zone}/accept_local", 1) for leg in legs if leg.outside]
        namespace.sysctl(None, given)
        self._legs = after


def changes(before: Mapping[str, LegSlice], after: Mapping[str, LegSlice], mac: str) -> list[str]:
    """What iproute2 is told so that legs, by zone, are as `after` says."""
    lines = [f"link delete dev {zone}" for zone in before if zone not in after]
    for zone, leg in after.items():
        old = before.get(zone)
        if old is None:
            other = f"peer-{zlib.crc32(zone.encode()):08x}"
            lines += [
                f"link add {zone} address {mac} mtu {leg.mtu} arp off "
                f"type veth peer name {other} mtu {leg.mtu}",
                f"link set dev {other} up",
                # No addresses of its own making, nor questions to others.
                f"link set dev {zone} addrgenmode none up",
            ]
            if not leg.outside:
                lines.append(f"rule add pref 0 {_TURNING} iif {zone} lookup {_THERE}")
        elif old.mtu != leg.mtu:
            lines.append(f"link set dev {zone} mtu {leg.mtu}")
        gone = [route for route in old.routes if route not in leg.routes] if old else []
        lines += [f"route delete {prefix} dev {zone}" for prefix, _ in gone]
        addresses = old.addresses if old else ()
        for address in addresses:
            if address not in leg.addresses:
                # With the last address, all routes would go.
                if leg.outside and ":" not in address:
                    lines.append(f"route delete {address.partition('/')[0]} dev {zone} table {_THERE}")
                lines.append(f"address delete {address} dev {zone}")
        for address in leg.addresses:
            if address not in addresses:
                lines.append(f"address add {address} dev {zone}{' nodad' if ':' in address else ''}")
                if leg.outside and ":" not in address:
                    lines.append(f"route add {address.partition('/')[0]} dev {zone} table {_THERE}")
        # Whoever is the next hop is the dispatcher's to find. Where an address went, its routes may have too.
        lines += [f"route replace {prefix} dev {zone}" for prefix, _ in leg.routes]
    return lines


def apply(rules: str, *options: str) -> None:
    """Has the kernel take rules, in the words of nft(8): all of them, or none.

    Args:
        options: of nft; ``--check`` changes nothing.

    Raises:
        Refusal: they are not taken, and why.
        Unavailable: there is no nft.
    """
    _nft(*options, "-f", "-", input=rules)


def counters() -> dict[str, tuple[int, int]]:
    """Packets and bytes that rules counted, by the names of counters.

    Raises:
        Refusal: as `apply`.
    """
    told = json.loads(_nft("-j", "list", "counters"))["nftables"]
    found = (each["counter"] for each in told if "counter" in each)
    return {each["name"]: (each["packets"], each["bytes"]) for each in found}


def _nft(*arguments: str, input: str = "") -> str:
    try:
        done = subprocess.run(
            ["nft", *arguments], input=input, text=True, capture_output=True, timeout=60, check=False
        )
    except FileNotFoundError:
        raise Unavailable("nft is missing: install the package nftables.") from None
    if done.returncode:
        raise Refusal(f"The kernel does not take these rules: {' '.join(done.stderr.split())}")
    return done.stdout
