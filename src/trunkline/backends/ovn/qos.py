"""Limits and marks as rows of the switches where they hold (ovn-nb(5): QoS).

A limit is a meter on every host that the packets come through. What names an address goes before what
names none: a floating IP that has a policy of its own is not counted to its gateway.

Open vSwitch's queues, by options of the port, would cost nothing; but in the user-space datapath they
have no effect.
"""

from __future__ import annotations

from trunkline.backends.ovn import names
from trunkline.backends.ovn.names import Emitted, Member, Owner, Row, entry, ids
from trunkline.compiler.derive import View
from trunkline.compiler.logical import RouterPort, Shaping, Switch

_ANY, _ADDRESS = 100, 200


def shaping(view: View, key: str) -> Emitted:
    """A limit or a mark, or both."""
    found = view.need(Shaping, key)
    if view.has(Switch, found.switch):
        made = entry("QoS", _row(found, at_router=view.has(RouterPort, found.place)))
        yield made
        yield Member(Owner("Logical_Switch", names.switch(found.switch), "qos_rules"), made.ref)


def _row(one: Shaping, *, at_router: bool) -> Row:
    side, field = ("inport", "src") if one.direction == "egress" else ("outport", "dst")
    match = f'{side} == "{names.router_leg(one.place) if at_router else one.place}"'
    if one.address is not None:
        match += f" && ip{6 if ':' in one.address else 4}.{field} == {one.address}"
    bandwidth = {"rate": one.rate_kbps, "burst": one.burst_kbit}
    return {
        "direction": "from-lport" if one.direction == "egress" else "to-lport",
        "priority": _ANY if one.address is None else _ADDRESS,
        "match": match,
        "bandwidth": {name: value for name, value in bandwidth.items() if value is not None},
        "action": {} if one.dscp is None else {"dscp": one.dscp},
        "external_ids": ids(one.key),
    }
