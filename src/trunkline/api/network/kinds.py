"""The kinds of the Network API, and where their collections are."""

from __future__ import annotations

from trunkline.resources.network import (
    AddressGroup,
    AddressScope,
    Agent,
    DefaultSecurityGroupRule,
    Flavor,
    FloatingIP,
    LocalIP,
    Log,
    MeteringLabel,
    MeteringLabelRule,
    NdpProxy,
    Network,
    NetworkSegmentRange,
    Port,
    PortForwarding,
    QosPolicy,
    RbacPolicy,
    Router,
    SecurityGroup,
    SecurityGroupRule,
    Segment,
    ServiceProfile,
    Subnet,
    SubnetPool,
    TapMirror,
    Trunk,
)
from trunkline.resources.schema import Resource

KINDS: tuple[type[Resource], ...] = (
    Network,
    Subnet,
    SubnetPool,
    Port,
    Router,
    FloatingIP,
    SecurityGroup,
    SecurityGroupRule,
    AddressGroup,
    QosPolicy,
    AddressScope,
    TapMirror,
    NdpProxy,
    RbacPolicy,
    DefaultSecurityGroupRule,
    LocalIP,
    Log,
    MeteringLabel,
    MeteringLabelRule,
    NetworkSegmentRange,
    Segment,
    Trunk,
    Agent,
    Flavor,
    ServiceProfile,
)
#: Kinds whose collections are inside of another kind: (kind, parent, the field that holds the parent's id).
NESTED: tuple[tuple[type[Resource], type[Resource], str], ...] = (
    (PortForwarding, FloatingIP, "floatingip_id"),
)
