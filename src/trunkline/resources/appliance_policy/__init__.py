"""What an appliance does with packets: one document, for all of its units.

    text ──read──▶ document ──parse──▶ Policy ──check──▶ fits the appliance's zones
                                          └──difference──▶ what would change, in words

A packet passes the services in one order: firewall, then address translation, then balancer. So the rules of
the firewall speak of addresses as packets bring them, before anything is translated.
"""

from trunkline.resources.appliance_policy.difference import difference
from trunkline.resources.appliance_policy.document import (
    Balancer,
    Condition,
    Firewall,
    Groups,
    Health,
    Listener,
    Member,
    Nat,
    NatCarrier,
    NatDestination,
    NatSource,
    NatStatic,
    Policy,
    Pool,
    Route,
    Rule,
    SynProtection,
)
from trunkline.resources.appliance_policy.parsing import parse
from trunkline.resources.appliance_policy.text import Misread, Source, read
from trunkline.resources.appliance_policy.words import Ports, Rate, Service
from trunkline.resources.appliance_policy.zones import Zone, check

__all__ = [
    "Balancer",
    "Condition",
    "Firewall",
    "Groups",
    "Health",
    "Listener",
    "Member",
    "Misread",
    "Nat",
    "NatCarrier",
    "NatDestination",
    "NatSource",
    "NatStatic",
    "Policy",
    "Pool",
    "Ports",
    "Rate",
    "Route",
    "Rule",
    "Service",
    "Source",
    "SynProtection",
    "Zone",
    "check",
    "difference",
    "parse",
    "read",
]
