"""Quality of service: policies, and the rules in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from trunkline.resources.schema import Check, Resource, fixed, resource, settable
from trunkline.resources.standard import Standard
from trunkline.resources.types import Id, Name

#: The marks that a rule may set: class selectors, assured and expedited forwarding (RFC 2474, 2597, 3246).
MARKS = frozenset({*range(8, 41, 2), 0, 46, 48, 56})


def _mark(value: int) -> int:
    if value not in MARKS:
        raise ValueError(f"{value} is no mark of a class. Use one of: {', '.join(map(str, sorted(MARKS)))}.")
    return value


_Kbps = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_Burst = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_Direction = Literal["egress", "ingress"]
_Kpps = Annotated[int, Meta(ge=1, le=2**31 - 1)]


@resource(kind="qos_policy", plural="policies", service="network")
class QosPolicy(Standard, kw_only=True):
    """What ports, floating IPs and gateways that have it may send and get, by the rules in it."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: Every project may use it.
    shared: Annotated[bool, settable(index=True)] = False
    #: New networks of its project that name no policy have it.
    is_default: Annotated[bool, settable(alias="qos-default")] = False


class QosRule(Resource, kw_only=True):
    """Base of the rules. A policy has one of each kind, or one for each direction."""

    #: The policy that it is in.
    qos_policy_id: Annotated[Id, fixed(required=True, index=True)] = ""


@resource(
    kind="qos_bandwidth_limit_rule",
    plural="bandwidth_limit_rules",
    service="network",
    unique=(("qos_policy_id", "direction"),),
)
class QosBandwidthLimitRule(QosRule, kw_only=True):
    """How much may be sent, or come, in a second. What is more is dropped."""

    #: The limit, kilobits a second.
    max_kbps: Annotated[_Kbps, settable(required=True)] = 1
    #: How much may come at once, kilobits. 0: what the limit lets pass in 0.8 s. Never less than a packet.
    max_burst_kbps: Annotated[_Burst, settable()] = 0
    #: As the port sees it: egress is what it sends.
    direction: Annotated[_Direction, settable(alias="qos-bw-limit-direction")] = "egress"


@resource(
    kind="qos_dscp_marking_rule",
    plural="dscp_marking_rules",
    service="network",
    unique=(("qos_policy_id",),),
)
class QosDscpMarkingRule(QosRule, kw_only=True):
    """Marks the IP packets that are sent."""

    #: The differentiated services code point (RFC 2474).
    dscp_mark: Annotated[Annotated[int, Meta(ge=0, le=63), Check(_mark)], settable(required=True)] = 0


class QosPortRule(QosRule, kw_only=True):
    """Base of the rules that a port's host keeps to, at the port's own device: nothing else can have them."""


@resource(
    kind="qos_packet_rate_limit_rule",
    plural="packet_rate_limit_rules",
    service="network",
    unique=(("qos_policy_id", "direction"),),
)
class QosPacketRateLimitRule(QosPortRule, kw_only=True):
    """How many packets may be sent, or come, in a second. What is more is dropped."""

    #: The limit, thousands of packets a second.
    max_kpps: Annotated[_Kpps, settable(required=True)] = 1
    #: How many may come at once, thousands. 0: what the limit lets pass in 0.8 s.
    max_burst_kpps: Annotated[_Burst, settable()] = 0
    #: As the port sees it: egress is what it sends.
    direction: Annotated[_Direction, settable()] = "egress"


class QosLeastRule(QosPortRule, kw_only=True):
    """Base of the promises: the host of a port that has one must be able to keep it."""


@resource(
    kind="qos_minimum_bandwidth_rule",
    plural="minimum_bandwidth_rules",
    service="network",
    unique=(("qos_policy_id", "direction"),),
)
class QosMinimumBandwidthRule(QosLeastRule, kw_only=True):
    """How much may be sent, or come, in a second whatever others do."""

    #: What is promised, kilobits a second.
    min_kbps: Annotated[_Kbps, settable(required=True)] = 1
    #: As the port sees it: egress is what it sends.
    direction: Annotated[_Direction, settable()] = "egress"


@resource(
    kind="qos_minimum_packet_rate_rule",
    plural="minimum_packet_rate_rules",
    service="network",
    unique=(("qos_policy_id", "direction"),),
)
class QosMinimumPacketRateRule(QosLeastRule, kw_only=True):
    """How many packets may be sent, or come, in a second whatever others do."""

    #: What is promised, thousands of packets a second.
    min_kpps: Annotated[_Kpps, settable(required=True)] = 1
    #: As the port sees it: egress is what it sends; any: both together, and no other rule beside it.
    direction: Annotated[Literal["any", "egress", "ingress"], settable(required=True)] = "any"


#: The kinds of rules, by their type.
QOS_RULES: Mapping[str, type[QosRule]] = {
    "bandwidth_limit": QosBandwidthLimitRule,
    "dscp_marking": QosDscpMarkingRule,
    "minimum_bandwidth": QosMinimumBandwidthRule,
    "minimum_packet_rate": QosMinimumPacketRateRule,
    "packet_rate_limit": QosPacketRateLimitRule,
}
