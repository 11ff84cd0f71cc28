"""The whole translation: a logical network as rows of OVN's northbound database. Pure.

    Switch ───────▶ Logical_Switch, its uplink        Router ─────▶ Logical_Router
    SwitchPort ───▶ Logical_Switch_Port               RouterPort ─▶ Logical_Router_Port, Gateway_Chassis,
       │                                                            the switch's end
       └─ member of ▶ Logical_Switch, Port_Group      Route, Nat ─▶ Logical_Router_Static_Route, NAT
    RuleSet ──────▶ Port_Group, ACL                   Dhcp ───────▶ DHCP_Options
    AddressGroup ─▶ Address_Set                       Forwarding ─▶ Load_Balancer
    Shaping ──────▶ QoS, member of ▶ Logical_Switch   Barrier ────▶ Logical_Router_Policy
    communities ──▶ Port_Group, Address_Set, ACL
    TrafficLog ───▶ ACL, as part of the groups        always ─────▶ Meter
    Meter ────────▶ Logical_Router_Policy             Detour ─────▶ Logical_Router_Policy

One line a node: what it goes over, and the function of one of these (`compiler.derive`). What many
derivations add to one row, the ports of a switch, are members that are gathered (`names.GATHERED`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field
from typing import cast

from trunkline.backends.ovn import (
    balancing,
    communities,
    dhcp,
    filters,
    firewalls,
    logging,
    metering,
    qos,
    routing,
    switching,
)
from trunkline.backends.ovn.names import GATHERED, OWNED, Entry, Member, Once, Owner, Ref, Row, Tables
from trunkline.compiler.derive import Derivations, Node, Sources
from trunkline.compiler.logical import (
    AddressGroup,
    Barrier,
    Detour,
    Dhcp,
    Forwarding,
    LogicalNetwork,
    Meter,
    Nat,
    Route,
    Router,
    RouterPort,
    RuleSet,
    Shaping,
    Switch,
    SwitchPort,
)

NODES = (
    Node(Switch, switching.switch),
    Node(SwitchPort, switching.port),
    Node(RouterPort, switching.leg),
    Node(Router, routing.router),
    Node(RouterPort, routing.port),
    Node(Route, routing.route),
    Node(Nat, routing.nat),
    Node(Barrier, routing.barrier),
    Node(Detour, firewalls.detour),
    Node(Meter, metering.meter),
    Node(Forwarding, balancing.balancer),
    Node(Shaping, qos.shaping),
    Node(Once, filters.always),
    Node(Once, filters.dhcp_servers),
    Node(Once, logging.meter),
    Node(RuleSet, filters.group),
    Node(SwitchPort, filters.memberships),
    Node(Switch, communities.groups),
    Node(SwitchPort, communities.membership),
    Node(AddressGroup, filters.address_sets),
    Node(Dhcp, dhcp.answers),
)
_ONCE: Mapping[str, Once] = {"once": Once()}


@dataclass(frozen=True)
class Wanted:
    """The rows that should be there. Nobody changes one."""

    #: Rows by table and key, members by owner and key of the child.
    outputs: Mapping[Hashable, Mapping[str, Entry | Member]] = field(default_factory=dict)

    def row(self, ref: Ref) -> Row | None:
        """A row without the columns that are gathered; None where there should be none."""
        found = cast("Mapping[str, Entry]", self.outputs.get(ref.table, {})).get(ref.key)
        return None if found is None else found.row

    def members(self, owner: Owner) -> Collection[str]:
        """The keys of the members of a column."""
        return self.outputs.get(owner, {}).keys()

    def owners(self, ref: Ref) -> list[Owner]:
        """The columns of a row that are gathered."""
        return [Owner(ref.table, ref.key, column) for column in GATHERED.get(ref.table, ())]

    def tables(self) -> Tables:
        """Whole rows, by table and key."""
        return {
            table: {key: self._whole(Ref(table, key)) for key in self.outputs.get(table, ())}
            for table in OWNED
        }

    def _whole(self, ref: Ref) -> Row:
        row = self.row(ref) or {}
        if ref.table not in GATHERED:
            return row
        gathered = {
            owner.column: frozenset(Ref(owner.children, key) for key in self.members(owner))
            for owner in self.owners(ref)
        }
        return row | gathered


@dataclass
class News:
    """What is another in what is wanted, since it was last right in the database."""

    rows: set[Ref] = field(default_factory=set)
    #: The keys of the children that came or went.
    members: dict[Owner, set[str]] = field(default_factory=dict)


def desired(network: LogicalNetwork) -> Tables:
    """Every row that should be there, by table and key; equal networks give equal rows."""
    return Translation().update(network).tables()


class Translation:
    """Owns the last network and its rows, and translates again only what a change can have touched.

    Equal to `desired` for every network, whatever came before. Rows that come out equal are the same
    objects as before.

    Args:
        breathe: as of `Derivations`.
    """

    def __init__(self, breathe: Callable[[], object] = lambda: None) -> None:
        #: The last network, None before the first.
        self.network: LogicalNetwork | None = None
        #: Gathers what changes; emptied by whoever has brought it into the database.
        self.news = News()
        self._derivations: Derivations[Entry | Member] = Derivations(NODES, _place, breathe)
        self._wanted = Wanted()

    def update(self, network: LogicalNetwork) -> Wanted:
        """The rows of a network."""
        old = self.network
        if network is old:
            return self._wanted
        known = old is not None and network.delta is not None and network.delta.before() is old
        self.network = None
        outcome = self._derivations.update(
            _sources(network), network.delta.keys if known and network.delta is not None else None
        )
        for kind, keys in outcome.changed.items():
            if isinstance(kind, Owner):
                self.news.members.setdefault(kind, set()).update(keys)
            else:
                self.news.rows.update(Ref(cast("str", kind), key) for key in keys)
        self.network, self._wanted = network, Wanted(outcome.outputs)
        return self._wanted


def _sources(network: LogicalNetwork) -> Sources:
    return {**network.records(), Once: _ONCE}


def _place(one: Entry | Member) -> tuple[Hashable, str]:
    return one.ref if isinstance(one, Entry) else (one.owner, one.child.key)
