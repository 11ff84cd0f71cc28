"""Detours by firewalls as policies that reroute (ovn-nb(5): Logical_Router_Policy).

Policies are applied when the way out is known and outer addresses are translated to inner ones, and before
sources are translated. Of several that match, the one of the highest priority holds:

    what the router itself sends     goes on its way   (it drops what claims to be from its own addresses)
    to the firewall's network        is dropped        nobody reaches the firewall
    in by a protected port           to the firewall
    from the firewall, out there     goes on its way
    out by a protected port          to the firewall

All of these are below what keeps address scopes apart (`routing.barrier`) and above what only counts. What
passes such a barrier by its address is let pass above all this, so that it has a policy of its own here.
"""

from __future__ import annotations

from collections.abc import Iterator

from trunkline.backends.ovn import names
from trunkline.backends.ovn.names import Emitted, Member, Owner, Row, entry, ids
from trunkline.compiler.derive import View
from trunkline.compiler.logical import Barrier, Detour, Family, Router, RouterPort

_OWN, _REFUSED, _IN, _BACK, _OUT = 20040, 20030, 20020, 20010, 20000
#: Above whatever passes a barrier, counted or not (`routing`, `metering`).
_PAST = 30600


def detour(view: View, key: str) -> Emitted:
    """The policies of a firewall."""
    found = view.need(Detour, key)
    if not view.has(Router, found.router):
        return
    families: tuple[Family, ...] = (4, 6)
    for family in families:
        hop = next((a for a in found.next_hops if (":" in a) == (family == 6)), None)
        if hop is not None:
            for row in (*_rows(view, found, family, hop), *_past(view, found, family, hop)):
                made = entry("Logical_Router_Policy", row)
                yield made
                yield Member(Owner("Logical_Router", names.router(found.router), "policies"), made.ref)


def _rows(view: View, detour: Detour, family: Family, hop: str) -> Iterator[Row]:
    ip, leg, ports = f"ip{family}", _named((detour.leg,)), _named(detour.ports)
    own = _own(view, detour.router, family)
    for port in detour.ports if own else ():
        name = _named((port,))
        match = f"inport == {name} && outport == {name} && {ip}.src == {{{', '.join(own)}}}"
        yield _row(detour, f"{family}.own.{port}", _OWN, match)
    yield _row(detour, f"{family}.refused", _REFUSED, f"outport == {leg} && {ip}", "drop")
    yield _row(detour, f"{family}.in", _IN, f"inport == {ports} && {ip}", hop)
    yield _row(detour, f"{family}.back", _BACK, f"inport == {leg} && outport == {ports} && {ip}")
    yield _row(detour, f"{family}.out", _OUT, f"outport == {ports} && {ip}", hop)


def _past(view: View, detour: Detour, family: Family, hop: str) -> Iterator[Row]:
    """What passes a barrier by its address, in or out by a protected port."""
    for barrier in view.where(Barrier, "router", detour.router):
        if barrier.family != family:
            continue
        inside = barrier.leaving in detour.ports
        entered = barrier.entered if inside else tuple(p for p in barrier.entered if p in detour.ports)
        for side, addresses in (("src", barrier.except_from), ("dst", barrier.except_to)):
            if entered and addresses:
                way = f"inport == {_named(entered)} && outport == {_named((barrier.leaving,))}"
                match = f"{way} && ip{family}.{side} == {{{', '.join(addresses)}}}"
                yield _row(detour, f"{barrier.key}.{side}", _PAST, match, hop)


def _own(view: View, router: str, family: Family) -> list[str]:
    """The addresses that a router itself sends from."""
    found = (text for port in view.where(RouterPort, "router", router) for text in port.networks)
    return sorted({text.partition("/")[0] for text in found if (":" in text) == (family == 6)})


def _named(ports: tuple[str, ...]) -> str:
    return "{" + ", ".join(f'"{names.router_port(port)}"' for port in ports) + "}"


def _row(detour: Detour, part: str, priority: int, match: str, to: str = "") -> Row:
    """With a next hop, `to`; "drop"; or else what goes on its way."""
    rerouted = to not in ("", "drop")
    return {
        "priority": priority,
        "match": match,
        "action": "reroute" if rerouted else to or "allow",
        "nexthops": frozenset({to}) if rerouted else frozenset(),
        "external_ids": ids(f"{detour.key}.{part}"),
    }
