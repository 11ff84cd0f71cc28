"""What routers count, as policies that let everything go on its way (ovn-nb(5): Logical_Router_Policy).

A policy is a flow of its own on every host, which counts; of several that match, the one of the highest
priority. Measured: the counters are exact, each way, of either family. A policy cannot mark its packets
(`pkt_mark`) to be known by it: in the user-space datapath no packet that has a mark gets into a tunnel.
"""

from __future__ import annotations

from trunkline.backends.ovn import names
from trunkline.backends.ovn.names import Emitted, Member, Owner, entry, ids
from trunkline.compiler.derive import View
from trunkline.compiler.logical import Meter, Router, RouterPort

#: The longer the prefixes, the higher: by 256 at most. What is kept apart is dropped before it is counted
#: (`routing`), and counted before it is let pass all the same.
_PRIORITY, _PRIORITY_PAST = 1000, 30002


def meter(view: View, key: str) -> Emitted:
    """A policy that counts."""
    found = view.need(Meter, key)
    port = view.get(RouterPort, found.gateway)
    if port is None or not view.has(Router, found.router):
        return
    own = f'"{names.router_port(found.gateway)}"'
    legs = ", ".join(f'"{names.router_port(leg)}"' for leg in found.past_barrier)
    if found.direction == "egress":
        # The flow shows the address, and whose it is: hosts know the gateway by it.
        terms = [f"outport == {own}", f"eth.src == {port.mac}", f"inport == {{{legs}}}" if legs else ""]
    else:
        terms = [f"inport == {own}", f"outport == {{{legs}}}" if legs else ""]
    family = f"ip{found.family}"
    terms += [family]
    terms += [f"{family}.src == {found.source}" if found.source else ""]
    terms += [f"{family}.dst == {found.destination}" if found.destination else ""]
    base = _PRIORITY_PAST if legs else _PRIORITY
    row = {
        "priority": base + _length(found.source) + _length(found.destination),
        "match": " && ".join(term for term in terms if term),
        "action": "allow",
        "external_ids": ids(f"meter.{key}"),
    }
    made = entry("Logical_Router_Policy", row)
    yield made
    yield Member(Owner("Logical_Router", names.router(found.router), "policies"), made.ref)


def _length(prefix: str) -> int:
    return int(prefix.rpartition("/")[2]) if prefix else 0
