"""Security groups, their rules, and the templates that the rules of a new group are made from."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from trunkline.resources.network.checks import Prefix, Uuid, ethertype, port_number, protocol
from trunkline.resources.schema import Check, computed, fixed, resource, settable
from trunkline.resources.standard import Standard
from trunkline.resources.types import Id, Name

_Number = Annotated[int, Check(port_number)]
#: What a template names as its remote group for the very group that a rule is made for.
PARENT = "PARENT"
#: The name of the group that every project has.
DEFAULT = "default"


@resource(kind="security_group", plural="security_groups", service="network", quota=10)
class SecurityGroup(Standard, kw_only=True):
    """Rules on what ports may send and receive."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: Whether replies to what was let through pass without a rule.
    stateful: Annotated[bool, settable(alias="stateful-security-group")] = True
    #: Other projects may use it: every one, or at least the caller's.
    shared: Annotated[bool, computed(alias="security-groups-shared-filtering")] = False


class Traffic(Standard, kw_only=True):
    """What a rule, or the template of one, lets pass."""

    #: As the port sees it: ingress or egress.
    direction: Annotated[Literal["ingress", "egress"], fixed(required=True)] = "ingress"
    #: IPv4 or IPv6.
    ethertype: Annotated[Annotated[str, Meta(max_length=8), Check(ethertype)], fixed()] = "IPv4"
    #: Name or number of an IP protocol; None for every one.
    protocol: Annotated[Annotated[str, Meta(max_length=40), Check(protocol)] | None, fixed()] = None
    #: The first destination port; for ICMP its type.
    port_range_min: Annotated[_Number | None, fixed()] = None
    #: The last destination port; for ICMP its code.
    port_range_max: Annotated[_Number | None, fixed()] = None
    #: The other side: the ports of a group.
    remote_group_id: Annotated[Id | None, fixed(index=True)] = None
    #: The other side: the prefixes of an address group.
    remote_address_group_id: Annotated[
        Id | None,
        fixed(index=True, refers="address_group", alias="security-groups-remote-address-group"),
    ] = None
    #: The other side: addresses.
    remote_ip_prefix: Annotated[Prefix | None, fixed()] = None


@resource(kind="security_group_rule", plural="security_group_rules", service="network", quota=100)
class SecurityGroupRule(Traffic, kw_only=True):
    """Lets something pass."""

    #: The group it is of.
    security_group_id: Annotated[Uuid, fixed(required=True, index=True)] = ""
    #: The prefix of the other side in its normal form.
    normalized_cidr: Annotated[str | None, computed(alias="security-groups-normalized-cidr")] = None
    #: Whether that group is the default one of its project.
    belongs_to_default_sg: Annotated[bool, computed(alias="security-groups-rules-belongs-to-default-sg")] = (
        False
    )


@resource(kind="default_security_group_rule", plural="default_security_group_rules", service="network")
class DefaultSecurityGroupRule(Traffic, kw_only=True):
    """The template of a rule that new security groups have; its remote group may be PARENT, the new one.

    It is the operator's, and of no project.
    """

    #: Whether the default group of a project gets the rule.
    used_in_default_sg: Annotated[bool, fixed()] = False
    #: Whether every other group gets it.
    used_in_non_default_sg: Annotated[bool, fixed()] = True
