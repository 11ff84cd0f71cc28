"""Ports of one switch that are kept apart (RFC 5517), as port groups and access control lists.

The ports of each community are in a group, the isolated ones in one more. What comes to a port of a group
from a port of any other one is dropped, and what comes to an isolated port from another isolated one. A list
of a higher priority than any that allows does it, so that security groups hold among those that reach each
other.

Who sent a frame is told by its source MAC address, to which port security holds the sender, and of IP also
by the port that it came in by. The port is known on the same host and behind Geneve's tunnels; VXLAN and
physical networks carry none. Answers to ARP that OVN gives itself come in by the port that asked: there, only
the MAC address counts.

Neighbour discovery passes OVN's access control lists whatever they say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator

from trunkline.backends.ovn import logging, names
from trunkline.backends.ovn.names import Emitted, Member, Owner, Ref, entry, ids
from trunkline.compiler.derive import View
from trunkline.compiler.logical import Switch, SwitchPort

#: Above all that `filters` has, what is logged included.
_APART = 2100


def kept_apart(port: SwitchPort) -> Iterator[str]:
    """The switch on which a port does not reach everybody."""
    if port.community is not None:
        yield port.switch


def membership(view: View, key: str) -> Emitted:
    """The group that a port is in."""
    port = view.need(SwitchPort, key)
    if port.community is not None and view.has(Switch, port.switch):
        group = names.community(port.switch, port.community)
        yield Member(Owner("Port_Group", group, "ports"), Ref("Logical_Switch_Port", key))


def groups(view: View, key: str) -> Emitted:
    """The groups of a switch, with what drops and the MAC addresses that it goes by."""
    macs: defaultdict[str, set[str]] = defaultdict(set)
    for port in view.where(SwitchPort, kept_apart, key):
        if port.community is not None:
            macs[port.community] |= {port.mac, *(pair.mac for pair in port.allowed or ())}
    for community in macs:
        name = names.community(key, community)
        others = [names.community(key, other) for other in sorted(macs) if other != community or not other]
        addresses = frozenset(macs[community])
        yield entry(
            "Address_Set", {"name": _macs(name), "addresses": addresses, "external_ids": ids(_macs(name))}
        )
        lists: list[Ref] = []
        if others:
            dropping = entry("ACL", _drop(name, others))
            lists.append(dropping.ref)
            yield dropping
        yield entry("Port_Group", {"name": name, "acls": frozenset(lists), "external_ids": ids(name)})


def _macs(group: str) -> str:
    return f"{group}_mac"


def _drop(group: str, others: Collection[str]) -> names.Row:
    sent_from = ", ".join(f"${_macs(other)}" for other in others)
    sent_by = ", ".join(f"@{other}" for other in others)
    return {
        "direction": "to-lport",
        "priority": _APART,
        "action": "drop",
        "match": f"outport == @{group} && (eth.src == {{{sent_from}}} || (ip && inport == {{{sent_by}}}))",
        **logging.SILENT,
        "external_ids": ids(group),
    }
