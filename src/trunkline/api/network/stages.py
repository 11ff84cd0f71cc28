"""The wiring page of the Network API: what each kind does beside the common stages.

Network ── VNI or VLAN, MTU            Router ───── gateway port, gateway hosts, routes
Subnet ─── pools, modes ─▶ metadata    FloatingIP ─ address port, reachability
                                       PortForwarding ─ inner address, router
Port ───── MAC, addresses, groups      SecurityGroup, -Rule ─ defaults, meaning, duplicates
                                       AddressGroup ─ stays while a rule refers to it
NetworkSegmentRange ─ numbers of networks
Segment ── physical network, VLAN ─▶ its network; hosts of ports
RbacPolicy ─ shared, external: around the stages of whatever can be shared
TapMirror ── numbers                   NdpProxy ─── address, scope
LocalIP ──── address port, associations
MeteringLabel, -Rule ─ prefixes
QosPolicy ── users, default            QosRules ─── the policy changes with them
Flavor, ServiceProfile ─ used ones stay
Agent ──── gateways of its host
FirewallGroup, -Policy, -Rule ─ ports, rules ─▶ FirewallSite, its appliance
Trunk ──── parent, sub-ports, VLANs
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from trunkline.api.engine import Stages
from trunkline.api.network import (
    address_groups,
    address_scopes,
    agents,
    common,
    dns,
    filters,
    firewall_groups,
    firewalls,
    flavors,
    floatingips,
    forwarding,
    local_ips,
    logs,
    metering,
    mirrors,
    multihoming,
    ndp_proxies,
    ports,
    promises,
    qos,
    rbac,
    routers,
    security_groups,
    security_rules,
    segment_ranges,
    segments,
    subnetpools,
    subnets,
    trunks,
)
from trunkline.api.network.networks import Networks, Settings
from trunkline.resources.network import (
    QOS_RULES,
    AddressGroup,
    AddressScope,
    DefaultSecurityGroupRule,
    FirewallGroup,
    FirewallPolicy,
    FirewallRule,
    FloatingIP,
    LocalIP,
    Log,
    MeteringLabel,
    NdpProxy,
    Network,
    NetworkSegmentRange,
    QosPolicy,
    Router,
    SecurityGroup,
    SecurityGroupRule,
    SubnetPool,
    TapMirror,
    Trunk,
)

_VERBS = ("create", "get", "update", "delete")


def stages(settings: Settings) -> Mapping[str, Stages[Any]]:
    """The stages of all kinds of the Network API, by kind."""
    networks = Networks(settings)
    own: Mapping[str, Stages[Any]] = {
        "network": Stages(
            create=networks.create,
            created=segments.created,
            update=networks.update,
            delete=networks.delete,
            view=address_scopes.network_view,
            filters=filters.standard(Network),
            lax=True,
        ),
        "subnet": Stages(
            create=subnets.create,
            created=subnets.created,
            update=subnets.update,
            delete=subnets.delete,
            visible=common.subnet_visible,
            view=common.tenants,
            target=common.on_network,
            filters=filters.subnet_filters(),
            callers_filters=common.subnet_filters,
            lax=True,
        ),
        "subnetpool": Stages(
            create=subnetpools.create,
            update=subnetpools.update,
            delete=subnetpools.delete,
            view=subnetpools.view,
            filters=filters.standard(SubnetPool),
            lax=True,
        ),
        "port": Stages(
            create=ports.create,
            update=ports.update,
            delete=ports.delete,
            visible=common.port_visible,
            view=common.views(qos.with_network_policy, trunks.details, dns.assignments, promises.view),
            target=common.on_network,
            filters=filters.port_filters(),
            lax=True,
        ),
        "router": Stages(
            create=routers.create,
            update=firewall_groups.update_router,
            delete=routers.delete,
            view=common.views(multihoming.view, routers.zone_view),
            filters=filters.standard(Router),
            lax=True,
        ),
        "floatingip": Stages(
            create=floatingips.create,
            update=floatingips.update,
            delete=floatingips.delete,
            view=floatingips.view,
            filters=filters.standard(FloatingIP),
            lax=True,
        ),
        "address_scope": Stages(
            create=address_scopes.create,
            update=address_scopes.update,
            delete=address_scopes.delete,
            view=common.tenants,
            filters=filters.standard(AddressScope),
            lax=True,
        ),
        "address_group": Stages(
            create=address_groups.create,
            delete=address_groups.delete,
            view=common.tenants,
            filters=filters.standard(AddressGroup),
            lax=True,
        ),
        "firewall_group": Stages(
            create=firewall_groups.create_group,
            created=firewall_groups.created_group,
            update=firewall_groups.update_group,
            delete=firewall_groups.delete_group,
            view=common.tenants,
            filters=filters.standard(FirewallGroup),
            lax=True,
        ),
        "firewall_policy": Stages(
            create=firewalls.create_policy,
            update=firewalls.update_policy,
            delete=firewalls.delete_policy,
            view=common.tenants,
            filters=filters.standard(FirewallPolicy),
            lax=True,
        ),
        "firewall_rule": Stages(
            create=firewalls.create_rule,
            update=firewalls.update_rule,
            delete=firewalls.delete_rule,
            view=firewalls.rule_view,
            filters=filters.standard(FirewallRule),
            lax=True,
        ),
        "port_forwarding": Stages(
            create=forwarding.create,
            update=forwarding.update,
            delete=forwarding.delete,
            rules={verb: f"{verb}_floatingip_port_forwarding" for verb in common.VERBS},
            lax=True,
        ),
        "security_group": Stages(
            create=security_groups.create,
            created=security_groups.created,
            update=security_groups.update,
            delete=security_groups.delete,
            view=security_groups.view,
            filters=filters.standard(SecurityGroup),
            lax=True,
        ),
        "security_group_rule": Stages(
            create=security_rules.create,
            delete=security_rules.delete,
            visible=common.rule_visible,
            view=common.tenants,
            target=common.in_group,
            filters=filters.standard(SecurityGroupRule),
            lax=True,
        ),
        "rbac_policy": Stages(
            create=rbac.create,
            created=rbac.created,
            update=rbac.update,
            delete=rbac.delete,
            view=common.tenants,
            lax=True,
        ),
        "agent": Stages(
            update=agents.update,
            delete=agents.delete,
            visible=agents.visible,
            view=agents.Agents(settings.heartbeats).view,
            lax=True,
        ),
        "local_ip": Stages(
            create=local_ips.create,
            delete=local_ips.delete,
            view=common.tenants,
            filters=filters.standard(LocalIP),
            lax=True,
        ),
        "network_segment_range": Stages(
            create=partial(segment_ranges.create, settings.overlay),
            update=segment_ranges.update,
            delete=segment_ranges.delete,
            view=segment_ranges.view,
            filters=filters.standard(NetworkSegmentRange),
            lax=True,
        ),
        "segment": Stages(create=segments.create, delete=segments.delete, visible=segments.visible, lax=True),
        "network_flavor": Stages(
            delete=flavors.delete,
            rules={verb: f"{verb}_flavor" for verb in _VERBS},
            not_found="Flavor {id} could not be found.",
            lax=True,
        ),
        "service_profile": Stages(
            create=flavors.create_profile,
            update=flavors.update_profile,
            delete=flavors.delete_profile,
            lax=True,
        ),
        "log": Stages(
            create=logs.create,
            view=common.tenants,
            filters=filters.standard(Log),
            lax=True,
        ),
        "metering_label": Stages(
            create=metering.create,
            delete=metering.delete,
            view=common.tenants,
            filters=filters.standard(MeteringLabel),
            lax=True,
        ),
        "metering_label_rule": Stages(create=metering.create_rule, view=common.tenants, lax=True),
        "default_security_group_rule": Stages(
            create=security_rules.create_template,
            visible=security_rules.template_visible,
            view=common.tenants,
            filters=filters.standard(DefaultSecurityGroupRule),
            lax=True,
        ),
        "tap_mirror": Stages(
            create=mirrors.create, view=common.tenants, filters=filters.standard(TapMirror), lax=True
        ),
        "ndp_proxy": Stages(
            create=ndp_proxies.create, view=common.tenants, filters=filters.standard(NdpProxy), lax=True
        ),
        "qos_policy": Stages(
            create=qos.create,
            update=qos.update,
            delete=qos.delete,
            visible=qos.visible,
            view=qos.view,
            filters=filters.standard(QosPolicy),
            rules={verb: f"{verb}_policy" for verb in _VERBS},
            lax=True,
        ),
        **{
            f"qos_{name}_rule": Stages(
                create=qos.create_rule,
                update=qos.update_rule,
                delete=qos.delete_rule,
                visible=partial(qos.rule_visible, cls),
                target=qos.rule_target,
                rules={verb: f"{verb}_policy_{name}_rule" for verb in _VERBS},
                lax=True,
            )
            for name, cls in QOS_RULES.items()
        },
        "trunk": Stages(
            create=trunks.create,
            delete=trunks.delete,
            view=common.tenants,
            filters=filters.standard(Trunk),
            lax=True,
        ),
    }
    return rbac.with_sharing(own)
