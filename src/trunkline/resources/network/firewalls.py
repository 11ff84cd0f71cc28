"""Firewalls of routers: rules in an order, policies made of them, and groups of ports that they hold for.

What stands behind a group is an appliance for each router (`FirewallSite`), which the router sends to what
comes in by the ports of the group, and what leaves by them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from trunkline.resources.network.checks import Uuid, address_or_prefix, clean_uuid, port_range, protocol
from trunkline.resources.schema import Check, Resource, fixed, hidden, observed, resource, settable
from trunkline.resources.standard import Standard
from trunkline.resources.types import Name

ACTIONS = ("allow", "deny", "reject")
#: How many rules a policy has, and how many ports a group, at the most.
MOST_RULES, MOST_PORTS = 100, 50


def action(value: str) -> str:
    """One of `ACTIONS`, whatever the case."""
    if value.lower() not in ACTIONS:
        raise ValueError(f"'{value[:40]}' is not supported. Use one of: {', '.join(ACTIONS)}.")
    return value.lower()


def ports_of_rule(value: str) -> str:
    """A port, or the first and the last one, as 8000:8099."""
    first, _, last = port_range(value).partition(":")
    return first if first == last else f"{first}:{last}"


def rule_ids(values: list[str]) -> list[str]:
    """Ids of rules, none twice."""
    return _ids(values, "rule", MOST_RULES)


def port_ids(values: list[str]) -> list[str]:
    """Ids of ports, none twice."""
    return _ids(values, "port", MOST_PORTS)


def _ids(values: list[str], what: str, most: int) -> list[str]:
    if len(values) > most:
        raise ValueError(f"at most {most} of them.")
    found = [clean_uuid(value) for value in values]
    if len(set(found)) < len(found):
        raise ValueError(f"a {what} is given twice.")
    return found


@resource(kind="firewall_rule", plural="firewall_rules", service="network", quota=100)
class FirewallRule(Standard, kw_only=True):
    """What becomes of connections that begin so."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: Every project may use it.
    shared: Annotated[bool, settable(guarded_write=True, index=True)] = False
    #: allow: they begin. deny: their packets are dropped. reject: ... and the sender is told.
    action: Annotated[Annotated[str, Meta(max_length=8), Check(action)], settable()] = "deny"
    #: Name or number of an IP protocol; None for every one.
    protocol: Annotated[Annotated[str, Meta(max_length=40), Check(protocol)] | None, settable()] = None
    #: 4 or 6.
    ip_version: Annotated[Literal[4, 6], settable()] = 4
    #: An address or a prefix that they come from; None for all.
    source_ip_address: Annotated[
        Annotated[str, Meta(max_length=64), Check(address_or_prefix)] | None, settable()
    ] = None
    #: ... and that they go to.
    destination_ip_address: Annotated[
        Annotated[str, Meta(max_length=64), Check(address_or_prefix)] | None, settable()
    ] = None
    #: Of TCP and UDP: the ports that they come from, as 1024:65535.
    source_port: Annotated[Annotated[str, Meta(max_length=16), Check(ports_of_rule)] | None, settable()] = (
        None
    )
    #: ... and that they go to.
    destination_port: Annotated[
        Annotated[str, Meta(max_length=16), Check(ports_of_rule)] | None, settable()
    ] = None
    #: Whether it is looked at.
    enabled: Annotated[bool, settable()] = True


@resource(kind="firewall_policy", plural="firewall_policies", service="network", quota=10)
class FirewallPolicy(Standard, kw_only=True):
    """Rules in an order: the first one that fits decides. What none fits is denied."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: Every project may use it.
    shared: Annotated[bool, settable(guarded_write=True, index=True)] = False
    #: Somebody has looked at it. Each change of it, or of a rule in it, takes that back.
    audited: Annotated[bool, settable()] = False
    #: The ids of its rules, in their order.
    firewall_rules: Annotated[list[str], settable(filter=False), Check(rule_ids)] = []


@resource(kind="firewall_group", plural="firewall_groups", service="network", quota=10)
class FirewallGroup(Standard, kw_only=True):
    """Ports of routers, and the policies that hold for what passes them."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: Other projects see it.
    shared: Annotated[bool, settable(guarded_write=True, index=True)] = False
    #: Whether anything passes.
    admin_state_up: Annotated[bool, settable()] = True
    #: For connections to the networks behind the ports. Without one, while there is another, none begins.
    ingress_firewall_policy_id: Annotated[Uuid | None, settable(index=True, refers="firewall_policy")] = None
    #: For connections from the networks behind the ports.
    egress_firewall_policy_id: Annotated[Uuid | None, settable(index=True, refers="firewall_policy")] = None
    #: The ids of its ports: interfaces of routers.
    ports: Annotated[list[str], settable(filter=False), Check(port_ids)] = []
    #: ACTIVE: its appliances were seen to do what it says. PENDING_CREATE, PENDING_UPDATE: they are on their
    #: way there. INACTIVE: it has no ports, or no policy. DOWN: nothing passes. ERROR: an appliance fails.
    status: Annotated[str, observed()] = "INACTIVE"


@resource(
    kind="firewall_site",
    plural="firewall_sites",
    service="region",
    unique=(("firewall_group_id", "router_id"),),
)
class FirewallSite(Resource, kw_only=True):
    """Where a firewall group stands at a router: a network between the two, and the appliance on it."""

    firewall_group_id: Annotated[Uuid, fixed(index=True)] = ""
    router_id: Annotated[Uuid, fixed(index=True)] = ""
    #: The router's interfaces that are of the group.
    ports: Annotated[list[str], hidden()] = []
    #: The network between the router and the appliance, and the router's leg on it.
    network_id: Annotated[str, hidden()] = ""
    leg_id: Annotated[str, hidden(index=True)] = ""
    appliance_id: Annotated[str, hidden(index=True)] = ""
    #: The appliance's address of each family.
    next_hops: Annotated[list[str], hidden()] = []
