"""The resources of the Network API (v2.0)."""

from __future__ import annotations

from trunkline.resources.network.address_groups import AddressGroup
from trunkline.resources.network.agents import Agent
from trunkline.resources.network.firewalls import FirewallGroup, FirewallPolicy, FirewallRule, FirewallSite
from trunkline.resources.network.flavors import Flavor, ServiceProfile
from trunkline.resources.network.forwarding import PortForwarding
from trunkline.resources.network.layer2 import (
    APPLIANCE,
    APPLIANCE_DISPATCHER,
    FIREWALL_LEG,
    FLOATING_IP,
    INTERNAL_OWNERS,
    METADATA,
    ROUTER_GATEWAY,
    ROUTER_INTERFACE,
    Network,
    Port,
    Subnet,
)
from trunkline.resources.network.layer3 import FloatingIP, Router, gateways_of
from trunkline.resources.network.local_ips import LOCAL_IP, LocalIP
from trunkline.resources.network.logs import Log
from trunkline.resources.network.metering import HostCount, MeteringLabel, MeteringLabelRule
from trunkline.resources.network.mirrors import TapMirror
from trunkline.resources.network.ndp_proxies import NdpProxy
from trunkline.resources.network.parts import (
    AddressPair,
    AllocationPool,
    Binding,
    ExtraDhcpOption,
    FixedIp,
    Gateway,
    GatewayPort,
    HostRoute,
    PortAssociation,
    Wire,
)
from trunkline.resources.network.pools import AddressScope, SubnetPool
from trunkline.resources.network.qos import (
    QOS_RULES,
    QosBandwidthLimitRule,
    QosDscpMarkingRule,
    QosLeastRule,
    QosMinimumBandwidthRule,
    QosMinimumPacketRateRule,
    QosPacketRateLimitRule,
    QosPolicy,
    QosPortRule,
    QosRule,
)
from trunkline.resources.network.quota import NetworkQuota
from trunkline.resources.network.security import DefaultSecurityGroupRule, SecurityGroup, SecurityGroupRule
from trunkline.resources.network.segment_ranges import NetworkSegmentRange
from trunkline.resources.network.segments import Segment, physical_networks, reached, wires_of
from trunkline.resources.network.sharing import (
    ACCESS_AS_EXTERNAL,
    ACCESS_AS_SHARED,
    ANYONE,
    RbacPolicy,
)
from trunkline.resources.network.trunks import SUBPORT, SubPort, Trunk

__all__ = [
    "ACCESS_AS_EXTERNAL",
    "ACCESS_AS_SHARED",
    "ANYONE",
    "APPLIANCE",
    "APPLIANCE_DISPATCHER",
    "FIREWALL_LEG",
    "FLOATING_IP",
    "INTERNAL_OWNERS",
    "LOCAL_IP",
    "METADATA",
    "QOS_RULES",
    "ROUTER_GATEWAY",
    "ROUTER_INTERFACE",
    "SUBPORT",
    "AddressGroup",
    "AddressPair",
    "AddressScope",
    "Agent",
    "AllocationPool",
    "Binding",
    "DefaultSecurityGroupRule",
    "ExtraDhcpOption",
    "FirewallGroup",
    "FirewallPolicy",
    "FirewallRule",
    "FirewallSite",
    "FixedIp",
    "Flavor",
    "FloatingIP",
    "Gateway",
    "GatewayPort",
    "HostCount",
    "HostRoute",
    "LocalIP",
    "Log",
    "MeteringLabel",
    "MeteringLabelRule",
    "NdpProxy",
    "Network",
    "NetworkQuota",
    "NetworkSegmentRange",
    "Port",
    "PortAssociation",
    "PortForwarding",
    "QosBandwidthLimitRule",
    "QosDscpMarkingRule",
    "QosLeastRule",
    "QosMinimumBandwidthRule",
    "QosMinimumPacketRateRule",
    "QosPacketRateLimitRule",
    "QosPolicy",
    "QosPortRule",
    "QosRule",
    "RbacPolicy",
    "Router",
    "SecurityGroup",
    "SecurityGroupRule",
    "Segment",
    "ServiceProfile",
    "SubPort",
    "Subnet",
    "SubnetPool",
    "TapMirror",
    "Trunk",
    "Wire",
    "gateways_of",
    "physical_networks",
    "reached",
    "wires_of",
]
