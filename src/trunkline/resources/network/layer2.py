"""Networks, subnets and ports."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from trunkline.resources.network import parts
from trunkline.resources.network.checks import (
    MacOrNew,
    Uuid,
    community_name,
    dns_servers,
    service_types,
    subnet_cidr,
)
from trunkline.resources.network.dns import DnsDomain, DnsName
from trunkline.resources.schema import (
    Check,
    computed,
    fixed,
    hidden,
    observed,
    resource,
    settable,
)
from trunkline.resources.standard import Standard
from trunkline.resources.types import Id, IpAddress, Name, compact

Ipv6Mode = Literal["slaac", "dhcpv6-stateful", "dhcpv6-stateless"]

#: Device owners that the cloud gives to ports of its own.
ROUTER_INTERFACE = "network:router_interface"
ROUTER_GATEWAY = "network:router_gateway"
FLOATING_IP = "network:floatingip"
METADATA = "network:distributed"
#: Of an appliance: what holds its addresses on a network, and is plugged in nowhere; and what a dispatcher is
#: plugged in by, which has no addresses.
APPLIANCE = "network:appliance"
APPLIANCE_DISPATCHER = "network:appliance_dispatcher"
#: Of a router: its leg on the network where a firewall of its stands.
FIREWALL_LEG = "network:router_firewall"
INTERNAL_OWNERS = frozenset(
    {ROUTER_INTERFACE, ROUTER_GATEWAY, FIREWALL_LEG, FLOATING_IP, METADATA, APPLIANCE, APPLIANCE_DISPATCHER}
)


@resource(kind="network", plural="networks", service="network", quota=100)
class Network(Standard, kw_only=True):
    """A layer-2 broadcast domain: on the overlay, or on a physical network."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: Whether it forwards frames.
    admin_state_up: Annotated[bool, settable()] = True
    #: ACTIVE: it is part of what the backend is told to carry.
    status: Annotated[str, computed()] = "ACTIVE"
    #: Other projects see it and may have ports on it: every one, or at least the caller's.
    shared: Annotated[bool, settable(guarded_write=True, index=True)] = False
    #: Routers may have their gateway on it.
    external: Annotated[bool, settable(guarded_write=True, index=True, alias="external-net")] = msgspec.field(
        default=False, name="router:external"
    )
    #: Of the external networks, the one that a router leads to where nobody chooses.
    is_default: Annotated[bool, settable(guarded_write=True, index=True, alias="auto-allocated-topology")] = (
        False
    )
    #: The ids of its subnets.
    subnets: Annotated[list[str], computed(filter=False)] = []
    #: The largest IP packet, bytes; 0 asks for the largest that fits.
    mtu: Annotated[Annotated[int, Meta(ge=0, le=65535)], settable(alias="net-mtu-writable")] = 0
    #: The default of `port_security_enabled` of its ports.
    port_security_enabled: Annotated[bool, settable(alias="port-security")] = True
    #: geneve or vxlan on the overlay, flat or vlan on a physical network.
    network_type: Annotated[
        parts.NetworkType | None, fixed(guarded_write=True, guarded_read=True, alias="provider")
    ] = msgspec.field(default=None, name="provider:network_type")
    #: The physical network, as hosts name it.
    physical_network: Annotated[
        Annotated[str, Meta(min_length=1, max_length=64)] | None,
        fixed(guarded_write=True, guarded_read=True, index=True, alias="provider"),
    ] = msgspec.field(default=None, name="provider:physical_network")
    #: The VLAN id, or the number of the overlay network (24 bits), which the cloud chooses.
    segmentation_id: Annotated[int | None, fixed(guarded_write=True, guarded_read=True, alias="provider")] = (
        msgspec.field(default=None, name="provider:segmentation_id")
    )
    #: Its segments where these are several, each on a physical network of its own; the three fields above are
    #: empty then.
    segments: Annotated[
        list[parts.Wire],
        fixed(guarded_write=True, guarded_read=True, filter=False, alias="multi-provider"),
        Check(parts.wires),
    ] = []
    #: Whether all of its ports reach each other without a router: no subnet is of one segment alone.
    l2_adjacency: Annotated[bool, computed(alias="l2_adjacency")] = True
    #: Frames that guests tag by 802.1Q pass.
    vlan_transparent: Annotated[bool | None, fixed(alias="vlan-transparent")] = None
    #: On a VLAN: its tag on the wire is a service's (IEEE Std 802.1Q, type 0x88a8), and guests' tags pass
    #: inside it.
    qinq: Annotated[bool | None, fixed(alias="qinq")] = None
    #: Whether its ports may be kept apart: `pvlan_type` of each says whom it reaches.
    pvlan: Annotated[bool, settable(alias="pvlan")] = False
    #: What the names of its hosts end with, whole; empty for the region's domain.
    dns_domain: Annotated[DnsDomain, settable(alias="dns-integration")] = ""
    #: The QoS policy of ports on it that have none of their own.
    qos_policy_id: Annotated[Uuid | None, settable(index=True, refers="qos_policy", alias="qos")] = None


@resource(kind="subnet", plural="subnets", service="network", quota=100)
class Subnet(Standard, kw_only=True):
    """A range of addresses on a network, and what its hosts are told."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: The network it is on.
    network_id: Annotated[Uuid, fixed(required=True, index=True)] = ""
    #: The segment that it is of: hosts which reach it have ports with these addresses, no others.
    segment_id: Annotated[
        Uuid | None,
        settable(index=True, guarded_write=True, guarded_read=True, refers="segment", alias="segment"),
    ] = None
    #: 4 or 6.
    ip_version: Annotated[Literal[4, 6], fixed(required=True)] = 4
    #: The range. Without it, one is cut from a subnet pool.
    cidr: Annotated[Annotated[str, Meta(max_length=64), Check(subnet_cidr)], fixed()] = ""
    #: The subnet pool that the range is of.
    subnetpool_id: Annotated[Uuid | None, fixed(index=True, alias="subnet_allocation")] = None
    #: The length of a range that is cut from a pool.
    prefixlen: Annotated[
        Annotated[int, Meta(ge=0, le=128)] | None, fixed(shown=False, filter=False, sort=False)
    ] = None
    #: Whether the range is cut from the default pool of its family.
    use_default_subnetpool: Annotated[
        bool, fixed(shown=False, filter=False, sort=False, alias="default-subnetpools")
    ] = False
    #: The default gateway of its hosts, None for none. By default the first address.
    gateway_ip: Annotated[IpAddress | None, settable()] = None
    #: What addresses are handed out from. By default all but the gateway.
    allocation_pools: Annotated[
        list[parts.AllocationPool], settable(filter=False), Check(parts.allocation_pools)
    ] = []
    #: Whether DHCP, and on IPv6 router advertisements, tell hosts their addresses.
    enable_dhcp: Annotated[bool, settable()] = True
    #: The name servers that hosts are told.
    dns_nameservers: Annotated[list[str], settable(filter=False), Check(dns_servers)] = []
    #: Whether the names of its hosts are told on all networks of the project.
    dns_publish_fixed_ip: Annotated[bool, settable(alias="subnet-dns-publish-fixed-ip")] = False
    #: The routes that hosts are told.
    host_routes: Annotated[list[parts.HostRoute], settable(filter=False), Check(parts.routes)] = []
    #: The device owners of the ports whose addresses are of this subnet; empty for all others.
    service_types: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=255)]],
        settable(filter=False, alias="subnet-service-types"),
        Check(service_types),
    ] = []
    #: Who advertises the router: the cloud's router in this mode, or None for nobody.
    ipv6_ra_mode: Annotated[Ipv6Mode | None, fixed()] = None
    #: How hosts get their addresses.
    ipv6_address_mode: Annotated[Ipv6Mode | None, fixed()] = None


@resource(kind="port", plural="ports", service="network", quota=500)
class Port(Standard, kw_only=True):
    """A place on a network where a workload, a router or a service of the cloud is plugged in."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: The network it is on.
    network_id: Annotated[Uuid, fixed(required=True, index=True)] = ""
    #: Whether it forwards frames.
    admin_state_up: Annotated[bool, settable()] = True
    #: ACTIVE where it was seen plugged in and wired, else DOWN; N/A for addresses without a wire.
    status: Annotated[str, observed()] = "DOWN"
    #: Its Ethernet address. Empty, the cloud makes one.
    mac_address: Annotated[MacOrNew, settable(guarded_write=True)] = ""
    #: Its addresses. In a request each names a subnet, an address, or both.
    fixed_ips: Annotated[
        list[parts.FixedIp], settable(guarded_write=True, filter=False), Check(parts.fixed_ips)
    ] = []
    #: immediate: it has its addresses; deferred: it gets them with its host; none: it is to have none.
    ip_allocation: Annotated[Literal["immediate", "deferred", "none"], computed(alias="ip_allocation")] = (
        "immediate"
    )
    #: The id of what it is plugged into: a server, a router.
    device_id: Annotated[Annotated[str, Meta(max_length=255)], settable(guarded_write=True, index=True)] = ""
    #: What kind of thing that is, as compute:nova or network:router_interface.
    device_owner: Annotated[
        Annotated[str, Meta(max_length=255)], settable(guarded_write=True, index=True)
    ] = ""
    #: The security groups that filter it.
    security_groups: Annotated[list[Id], settable(filter=False, alias="security-group")] = []
    #: Whether it is filtered at all, and its addresses enforced.
    port_security_enabled: Annotated[bool, settable(guarded_write=True, alias="port-security")] = True
    #: What it may send from beside its own addresses.
    allowed_address_pairs: Annotated[
        list[parts.AddressPair],
        settable(guarded_write=True, filter=False, alias="allowed-address-pairs"),
        Check(parts.address_pairs),
    ] = []
    #: DHCP options of its own.
    extra_dhcp_opts: Annotated[
        list[parts.ExtraDhcpOption], settable(filter=False, alias="extra_dhcp_opt"), Check(parts.dhcp_options)
    ] = []
    #: The name that its addresses have in DNS, and that DHCP tells it; a server's ports have its host name.
    dns_name: Annotated[DnsName, settable(alias="dns-integration")] = ""
    #: What that name ends with, whole; empty for the network's domain.
    dns_domain: Annotated[DnsDomain, settable(guarded_write=True, alias="dns-domain-ports")] = ""
    #: The host it is plugged in on.
    host_id: Annotated[
        Annotated[str, Meta(max_length=255)],
        settable(guarded_write=True, guarded_read=True, index=True, alias="binding"),
    ] = msgspec.field(default="", name="binding:host_id")
    #: How a workload is attached.
    vnic_type: Annotated[Literal["normal"], settable(guarded_write=True, alias="binding")] = msgspec.field(
        default="normal", name="binding:vnic_type"
    )
    #: Notes of who binds the port.
    profile: Annotated[
        dict[str, Any],
        settable(guarded_write=True, guarded_read=True, filter=False, alias="binding"),
        compact(4095),
    ] = msgspec.field(default_factory=dict, name="binding:profile")
    #: unbound, ovs, or binding_failed where the host is not known.
    vif_type: Annotated[str, computed(guarded_read=True, alias="binding")] = msgspec.field(
        default="unbound", name="binding:vif_type"
    )
    #: What the host must know to plug it in.
    vif_details: Annotated[dict[str, Any], computed(guarded_read=True, filter=False, alias="binding")] = (
        msgspec.field(default_factory=dict, name="binding:vif_details")
    )
    #: The QoS policy that it obeys, instead of its network's.
    qos_policy_id: Annotated[Uuid | None, settable(index=True, refers="qos_policy", alias="qos")] = None
    #: On a network with `pvlan`: promiscuous reaches all, community its own community and what is
    #: promiscuous, isolated what is promiscuous alone. By default promiscuous; isolated, for who may not
    #: choose: guests of a shared network. None on other networks, and on the cloud's own ports, which all
    #: reach.
    pvlan_type: Annotated[
        Literal["promiscuous", "isolated", "community"] | None, settable(guarded_write=True, alias="pvlan")
    ] = None
    #: The name of its community on its network.
    pvlan_community: Annotated[
        Annotated[str, Meta(max_length=232), Check(community_name)] | None,
        settable(guarded_write=True, alias="pvlan"),
    ] = None
    #: Its inactive bindings: hosts that are prepared for it.
    bindings: Annotated[list[parts.Binding], hidden()] = []
    #: The trunk that it is the parent or a sub-port of.
    trunk_id: Annotated[str, hidden()] = ""
    #: Of a sub-port: the parent port, and the VLAN in which the parent's workload reaches it.
    parent_id: Annotated[str, hidden()] = ""
    trunk_vlan: Annotated[int | None, hidden()] = None
