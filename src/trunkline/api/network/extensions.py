"""What is offered beside the core of the API, by the names that clients look for."""

from __future__ import annotations

from typing import Any

#: alias -> (name, description, the day it was defined upstream)
_EXTENSIONS: dict[str, tuple[str, str, str]] = {
    "address-group": ("Address group", "Prefixes that rules refer to by one name", "2020-07-15"),
    "address-scope": ("Address scope", "Where addresses are unique, and routed as they are", "2015-07-26"),
    "agent": ("agent", "The daemons that carry the network, as they are seen", "2013-02-03"),
    "allowed-address-pairs": ("Allowed Address Pairs", "Addresses that a port may send from", "2012-07-23"),
    "auto-allocated-topology": ("Auto Allocated Topology Services", "A network by asking", "2016-01-01"),
    "availability_zone": ("Availability Zone", "The zones of the region, and of agents", "2015-01-01"),
    "binding": ("Port Binding", "The host that a port is plugged in on", "2014-02-03"),
    "binding-extended": ("Port Bindings Extended", "Further hosts that a port is prepared on", "2017-07-17"),
    "default-subnetpools": ("Default Subnetpools", "The pool that subnets are cut from", "2016-02-18"),
    "dns-domain-ports": ("dns_domain for ports", "Domains of single ports", "2017-04-24"),
    "dns-integration": ("DNS Integration", "Names of ports, networks and floating IPs", "2015-08-15"),
    "dvr": ("Distributed Virtual Router", "Floating IPs at the hosts of their servers", "2014-06-01"),
    "enable-default-route-bfd": (
        "Enable Default Route BFD",
        "Default routes that are taken while the next hop answers",
        "2023-02-27",
    ),
    "enable-default-route-ecmp": (
        "Enable Default Route ECMP",
        "Default routes by all gateways at once",
        "2023-02-27",
    ),
    "empty-string-filtering": (
        "Empty String Filtering",
        "Lists can be filtered by empty values",
        "2018-04-09",
    ),
    "external-gateway-multihoming": (
        "Neutron L3 External Gateway Multihoming",
        "Several gateways of one router",
        "2023-01-18",
    ),
    "external-net": ("Neutron external network", "Networks that routers have gateways on", "2013-01-14"),
    "ext-gw-mode": ("Neutron L3 Configurable external gateway mode", "SNAT on and off", "2013-03-28"),
    "extra_dhcp_opt": ("Neutron Extra DHCP options", "DHCP options of single ports", "2013-03-17"),
    "extraroute": ("Neutron Extra Route", "Static routes of routers", "2013-02-01"),
    "extraroute-atomic": ("Atomically add/remove extra routes", "Routes one by one", "2019-07-10"),
    "expose-port-forwarding-in-fip": (
        "Expose Floating IP port forwardings",
        "A floating IP shows which of its ports are forwarded",
        "2018-06-28",
    ),
    "filter-validation": ("Filter parameters validation", "Unknown filters are refused", "2018-03-21"),
    "fip-port-details": ("Floating IP Port Details", "What a floating IP stands for", "2018-04-09"),
    "fwaas_v2": ("Firewall service v2", "Firewalls at interfaces of routers", "2016-08-16"),
    "flavors": ("Neutron Service Flavors", "Choices that an operator makes once", "2015-09-17"),
    "floating-ip-port-forwarding": (
        "Floating IP Port Forwarding",
        "Single ports of a floating IP that lead to ports inside",
        "2018-01-19",
    ),
    "floating-ip-port-forwarding-description": (
        "Floating IP Port Forwarding new attribute description",
        "Descriptions of forwarded ports",
        "2019-11-01",
    ),
    "floating-ip-port-forwarding-detail": (
        "Floating IP port forwarding detail",
        "... with id and inner port",
        "2022-05-06",
    ),
    "floating-ip-port-forwarding-port-ranges": (
        "Floating IP Port Forwarding support port ranges",
        "Several ports by one",
        "2020-07-01",
    ),
    "floatingip-pools": ("Floatingip pools", "What floating IPs are taken from", "2018-03-21"),
    "ip_allocation": ("IP Allocation", "When a port gets its addresses", "2016-06-10"),
    "ip-substring-filtering": ("IP address substring filtering", "Ports by part of an address", "2017-11-28"),
    "l3-ext-ndp-proxy": ("Router support to enable NDP proxy", "Routers that are NDP proxies", "2020-08-25"),
    "l3-ndp-proxy": ("L3 NDP Proxy", "IPv6 addresses that routers answer for outside", "2021-06-29"),
    "l3-ha": ("HA Router extension", "Gateways that move when their host dies", "2014-04-26"),
    "local_ip": ("Local IP", "Addresses that lead to a port on the asker's host", "2021-07-26"),
    "l2_adjacency": ("L2 Adjacency", "Networks whose ports need no router between them", "2016-04-12"),
    "l3-flavors": ("Router Flavor Extension", "Routers like an operator's choice", "2016-05-17"),
    "logging": ("Logging API Extension", "Logs of what passes and what is dropped", "2017-01-01"),
    "metering": ("Neutron Metering", "What passes the routers of a project, counted", "2013-06-12"),
    "metering_source_and_destination_fields": (
        "Neutron Metering with source and destination filtering",
        "What is counted, by where it comes from and goes to",
        "2020-08-21",
    ),
    "multi-provider": ("Multi Provider Network", "Networks of several segments", "2013-06-27"),
    "net-mtu": ("Network MTU", "The largest packet of a network", "2015-03-25"),
    "net-mtu-writable": ("Network MTU (writable)", "The largest packet of a network, set", "2017-07-12"),
    "network-ip-availability": (
        "Network IP Availability",
        "How many addresses networks have, and how many are in use",
        "2015-09-24",
    ),
    "network-segment-range": (
        "Neutron Network Segment Range",
        "The numbers that networks of a project get",
        "2018-11-29",
    ),
    "pagination": ("Pagination support", "Lists come in pages", "2016-06-12"),
    "port-resource-request": ("Port Resource Request", "What a port asks its host for", "2018-05-08"),
    "port-resource-request-groups": (
        "Port Resource Request Groups",
        "... bandwidth and packets each by itself",
        "2021-08-02",
    ),
    "port-mac-address-regenerate": ("Neutron Port MAC address regenerate", "A new MAC address", "2018-05-03"),
    "port-security": ("Port Security", "Anti-spoofing, on and off", "2012-07-23"),
    "project-id": ("project_id field enabled", "Projects by their present name", "2016-09-09"),
    "provider": ("Provider Network", "Networks on physical networks", "2012-09-07"),
    "pvlan": ("Private VLAN", "Ports of one network that are kept apart", "2026-02-03"),
    "qos": ("Quality of Service", "Limits and marks of what is sent and comes", "2015-06-08"),
    "qos-bw-limit-direction": ("Direction for QoS bandwidth limit rule", "Limits both ways", "2017-04-10"),
    "qos-bw-minimum-ingress": (
        "Ingress direction for QoS minimum bandwidth rule",
        "Least bandwidths both ways",
        "2018-07-09",
    ),
    "qos-default": ("QoS default policy", "The policy of a project's new networks", "2017-06-04"),
    "qos-fip": ("Floating IP QoS", "Policies of floating IPs", "2017-07-20"),
    "qos-fip-network-policy": ("QoS floating IP network policy ID", "... by their network", "2021-11-15"),
    "qos-gateway-ip": ("Router gateway IP QoS", "Policies of routers' gateways", "2018-02-24"),
    "qos-port-network-policy": ("QoS port network policy ID", "Policies of ports' networks", "2019-11-01"),
    "qos-pps": ("QoS packet rate limit rule", "Limits of packets", "2021-04-01"),
    "qos-pps-minimum": ("QoS minimum packet rate rule", "Least rates of packets", "2021-07-14"),
    "qos-pps-minimum-rule-alias": (
        "QoS minimum packet rate rule alias",
        "... by their own ids",
        "2021-10-22",
    ),
    "qos-rule-type-details": ("Details of QoS rule types", "What rules may hold", "2017-06-22"),
    "qos-rule-type-filter": ("Allow to filter the list of QoS rule types", "All types", "2022-02-02"),
    "qos-rules-alias": ("Quality of Service rules alias API", "Rules by their own ids", "2018-10-07"),
    "qinq": ("QinQ networks", "VLANs of services, with guests' tags inside", "2024-12-02"),
    "quota-check-limit": ("Quota engine limit check", "Limits below use are refused", "2021-05-27"),
    "quota-check-limit-default": ("Quota engine limit check by default", "... unless forced", "2021-08-23"),
    "quota_details": ("Quota details management support", "Use beside limit", "2017-02-10"),
    "quotas": ("Quota management support", "Limits of projects", "2012-07-29"),
    "rbac-address-scope": ("Add address_scope type to RBAC", "Shared address scopes", "2019-12-17"),
    "rbac-address-group": ("Add address_group type to RBAC", "Shared address groups", "2021-03-01"),
    "rbac-policies": ("RBAC Policies", "Networks and more, shared with single projects", "2015-06-17"),
    "rbac-security-groups": ("Add security_group type to network RBAC", "Shared groups", "2019-04-01"),
    "rbac-subnetpool": ("Add subnetpool type to RBAC", "Shared subnet pools", "2019-12-19"),
    "revision-if-match": (
        "If-Match constraints based on revision_number",
        "Optimistic locking",
        "2016-12-11",
    ),
    "router": ("Neutron L3 Router", "Routers and floating IPs", "2012-07-20"),
    "security-group": ("security-group", "What ports may send and receive", "2012-10-05"),
    "security-groups-default-rules": (
        "Default rules for security groups",
        "Templates of the rules that new groups have",
        "2022-12-19",
    ),
    "security-groups-normalized-cidr": (
        "Normalized CIDR field for security group rules",
        "The normal form of a rule's prefix",
        "2019-11-05",
    ),
    "security-groups-remote-address-group": (
        "Remote address group id field for security group rules",
        "Rules for the prefixes of an address group",
        "2020-08-25",
    ),
    "security-groups-rules-belongs-to-default-sg": (
        "Security group rule belongs to the project's default security group",
        "Whether a rule is of a default group",
        "2023-05-23",
    ),
    "security-groups-shared-filtering": (
        "Security group filtering on the shared field",
        "Groups by whether they are shared",
        "2021-10-05",
    ),
    "router_availability_zone": (
        "Router Availability Zone",
        "The zones that a router's gateway may be in",
        "2015-01-01",
    ),
    "segment": ("Segment", "What networks are made of, and whose subnets are whose", "2016-02-24"),
    "service-type": ("Neutron Service Type Management", "Who provides services", "2013-01-20"),
    "sorting": ("Sorting support", "Lists come in order", "2016-06-12"),
    "standard-attr-description": ("standard-attr-description", "Descriptions", "2016-02-10"),
    "standard-attr-revisions": ("Resource revision numbers", "Counters of changes", "2016-04-11"),
    "standard-attr-segment": ("standard-attr-segment", "Descriptions and times of segments", "2017-01-01"),
    "standard-attr-tag": ("Tag support for resources with standard attribute", "Tags", "2017-01-01"),
    "standard-attr-timestamp": ("Resource timestamps", "Times of creation and change", "2016-09-12"),
    "stateful-security-group": ("Stateful security group", "Replies pass, or need a rule", "2019-11-26"),
    "subnet-dns-publish-fixed-ip": (
        "Subnet DNS publish fixed IP",
        "Names that are told on all networks of the project",
        "2019-05-24",
    ),
    "subnet-external-network": ("Subnet of an external network", "Everybody sees them", "2023-03-28"),
    "subnet-segmentid-writable": (
        "Subnet SegmentID (writable)",
        "Subnets that are there become those of a segment",
        "2018-03-12",
    ),
    "subnet-service-types": ("Subnet service types", "Subnets for kinds of ports", "2016-03-15"),
    "subnet_allocation": ("Subnet Allocation", "Subnets are cut from pools", "2015-03-30"),
    "subnet_onboard": ("Subnet Onboard", "Pools take subnets that are there", "2018-12-18"),
    "subnetpool-prefix-ops": ("Subnet Pool Prefix Operations", "Prefixes one by one", "2019-02-08"),
    "tag": ("Tag support", "Tags of networks", "2016-01-01"),
    "tag-creation": ("Tag creation extension", "Several tags are added at once", "2024-07-23"),
    "tag-ext": ("Tag support for resources", "Tags of all resources", "2017-01-01"),
    "tag-ports-during-bulk-creation": ("Tag Ports During Bulk Creation", "Tags on creation", "2019-12-29"),
    "tap-mirror": ("Tap as a Service GRE or ERSPAN mirror", "Copies of what ports send", "2023-05-05"),
    "tap-mirror-both-direction": (
        "Tap as a Service mirror with BOTH direction support",
        "... both ways in one stream",
        "2025-12-15",
    ),
    "trunk": ("Trunk Extension", "Ports whose workloads reach several networks by VLAN", "2016-01-01"),
    "trunk-details": ("Trunk port details", "The trunk of a port", "2016-01-01"),
    "vlan-transparent": ("Vlantransparent", "Frames that guests tag pass", "2015-03-23"),
}


def entry(alias: str) -> dict[str, Any] | None:
    """One extension, as it stands in the list."""
    found = _EXTENSIONS.get(alias)
    if found is None:
        return None
    name, description, updated = found
    return {
        "alias": alias,
        "name": name,
        "description": description,
        "updated": f"{updated}T00:00:00-00:00",
        "links": [],
    }


def entries() -> list[dict[str, Any]]:
    """All of them."""
    return [found for alias in _EXTENSIONS if (found := entry(alias)) is not None]
