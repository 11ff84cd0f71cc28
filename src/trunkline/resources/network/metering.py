"""Metering labels: what of a project's traffic with the outside is counted."""

from __future__ import annotations

from typing import Annotated, Literal

from trunkline.resources.network.checks import Uuid, normal_prefix
from trunkline.resources.network.parts import Part
from trunkline.resources.schema import Check, Resource, fixed, hidden, observed, resource, settable
from trunkline.resources.standard import Standard
from trunkline.resources.types import Id, Name

#: What is counted of a label, each way.
COUNTS = ("ingress_packets", "ingress_bytes", "egress_packets", "egress_bytes")


class HostCount(Part, frozen=True, kw_only=True):
    """What one host had counted of a label when it last said so."""

    host: str
    #: Tells this count of the host from one that it began before, and lost.
    since: str
    ingress_packets: int
    ingress_bytes: int
    egress_packets: int
    egress_bytes: int


@resource(kind="metering_label", plural="metering_labels", service="network", quota=20)
class MeteringLabel(Standard, kw_only=True):
    """Counts what routers of its project carry to and from external networks, as its rules say.

    A packet is counted once, whichever rules it matches, where the router decides on its way: with the
    addresses that it has inside. The counts are at most some seconds old, and never go back; what a host
    counted in the last seconds before its switch or a rule went is not in them.
    """

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: Whether it counts at the routers of all projects.
    shared: Annotated[bool, fixed(guarded_write=True)] = False
    #: Packets that came in.
    ingress_packets: Annotated[int, observed()] = 0
    #: Bytes of these, from the IP header on.
    ingress_bytes: Annotated[int, observed()] = 0
    #: Packets that went out.
    egress_packets: Annotated[int, observed()] = 0
    #: Bytes of these, from the IP header on.
    egress_bytes: Annotated[int, observed()] = 0
    #: What each host had said when it was last heard.
    host_counts: Annotated[list[HostCount], hidden(observed=True)] = []


@resource(kind="metering_label_rule", plural="metering_label_rules", service="network", quota=50)
class MeteringLabelRule(Resource, kw_only=True):
    """Has packets counted, or left out whatever other rules of the label say."""

    #: The project of its label.
    project_id: Annotated[Id, fixed(index=True)] = ""
    #: The label it is of.
    metering_label_id: Annotated[Uuid, fixed(required=True, index=True)] = ""
    #: ingress: packets that come in from an external network. egress: those that leave to one.
    direction: Annotated[Literal["ingress", "egress"], fixed(required=True)] = "ingress"
    #: Whether packets that match are left out.
    excluded: Annotated[bool, fixed()] = False
    #: Despite its name the inner side's prefix, as in Neutron: the source of what leaves, and the
    #: destination of what comes in.
    remote_ip_prefix: Annotated[str | None, fixed(), Check(normal_prefix)] = None
    #: The prefix that packets come from.
    source_ip_prefix: Annotated[
        str | None, fixed(alias="metering_source_and_destination_fields"), Check(normal_prefix)
    ] = None
    #: The prefix that packets go to.
    destination_ip_prefix: Annotated[
        str | None, fixed(alias="metering_source_and_destination_fields"), Check(normal_prefix)
    ] = None


def sides(rule: MeteringLabelRule) -> tuple[str | None, str | None]:
    """The prefixes that packets of a rule come from and go to."""
    if rule.remote_ip_prefix is None:
        return rule.source_ip_prefix, rule.destination_ip_prefix
    return (rule.remote_ip_prefix, None) if rule.direction == "egress" else (None, rule.remote_ip_prefix)
