"""A valid request for every endpoint that takes a JSON body."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from things import Things, Valid
from valid_compute import compute_requests
from valid_identity import identity_requests


def valid_requests(t: Things) -> Iterator[Valid]:
    """One for every endpoint that takes a JSON body, or more."""
    yield from _network(t)
    yield from _qos(t)
    yield from _firewalls(t)
    yield from _metering(t)
    yield from _mirrors(t)
    yield from _ndp_proxies(t)
    yield from _local_ips(t)
    yield from _segment_ranges(t)
    yield from _segments(t)
    yield from identity_requests(t)
    yield from compute_requests(t)
    yield from _image(t)
    yield from _appliances(t)
    yield from _balancers(t)


def _network(t: Things) -> Iterator[Valid]:
    def collection(
        path: str, kind: str, id: str, create: dict[str, Any], update: dict[str, Any]
    ) -> Iterator[Valid]:
        base = f"/network/v2.0/{path}"
        yield Valid(f"POST {base}", base, {kind: create})
        yield Valid(f"POST {base}", base, {f"{kind}s": [create]})
        yield Valid(f"PUT {base}/{{id}}", f"{base}/{id}", {kind: update})
        for method in ("PUT", "POST"):
            yield Valid(f"{method} {base}/{{id}}/tags", f"{base}/{id}/tags", {"tags": ["one"]})

    owner = {"project_id": t.project, "description": "d", "name": "n"}
    yield from collection(
        "networks",
        "network",
        t.network,
        {
            **owner,
            "tags": ["t"],
            "admin_state_up": True,
            "mtu": 1400,
            "port_security_enabled": True,
            "pvlan": True,
        },
        {"name": "m", "description": "e", "admin_state_up": True, "mtu": 0, "dns_domain": "lab.example."},
    )
    yield Valid(
        "POST /network/v2.0/networks",
        "/network/v2.0/networks",
        {
            "network": {
                "shared": False,
                "router:external": False,
                "is_default": False,
                "provider:network_type": "vlan",
                "provider:physical_network": "physnet1",
                "provider:segmentation_id": 101,
                "vlan_transparent": False,
                "qinq": True,
            }
        },
        "admin",
    )
    yield from collection(
        "subnets",
        "subnet",
        t.subnet,
        {
            **owner,
            "network_id": t.network,
            "ip_version": 4,
            "cidr": "10.1.0.0/24",
            "gateway_ip": "10.1.0.1",
            "allocation_pools": [{"start": "10.1.0.10", "end": "10.1.0.20"}],
            "enable_dhcp": True,
            "dns_nameservers": ["9.9.9.9"],
            "host_routes": [{"destination": "10.2.0.0/24", "nexthop": "10.1.0.2"}],
            "service_types": ["compute:nova"],
            "dns_publish_fixed_ip": False,
        },
        {
            "gateway_ip": "10.0.0.1",
            "allocation_pools": [{"start": "10.0.0.2", "end": "10.0.255.254"}],
            "dns_nameservers": ["9.9.9.9"],
            "host_routes": [{"destination": "10.2.0.0/24", "nexthop": "10.0.0.2"}],
            "dns_publish_fixed_ip": True,
        },
    )
    yield Valid(
        "POST /network/v2.0/subnets",
        "/network/v2.0/subnets",
        {
            "subnet": {
                "network_id": t.network,
                "ip_version": 6,
                "cidr": "fd00:1::/64",
                "ipv6_ra_mode": "slaac",
                "ipv6_address_mode": "slaac",
            }
        },
    )
    pool = {"prefixes": ["172.20.0.0/16"], "min_prefixlen": 20, "default_prefixlen": 24, "max_prefixlen": 28}
    yield from collection(
        "address-scopes",
        "address_scope",
        t.scope,
        {**owner, "ip_version": 4},
        {"name": "m", "description": "e"},
    )
    limits = {"address_scope_id": None, "shared": False, "is_default": False, "default_quota": 3}
    yield from collection(
        "subnetpools",
        "subnetpool",
        t.pool,
        {**owner, **pool},
        {"name": "m", "description": "e", "prefixes": ["172.16.0.0/15"], "default_prefixlen": 25},
    )
    path = "/network/v2.0/subnetpools"
    yield Valid(f"POST {path}", path, {"subnetpool": {"name": "n", **pool, **limits}}, "admin")
    for verb in ("add", "remove"):
        where = f"{path}/{t.pool}/{verb}_prefixes"
        yield Valid(f"PUT {path}/{{id}}/{verb}_prefixes", where, {"prefixes": ["172.30.0.0/16"]})
    where = f"{path}/{t.pool}/onboard_network_subnets"
    yield Valid(f"PUT {path}/{{id}}/onboard_network_subnets", where, {"network_id": t.network})
    yield from collection(
        "ports",
        "port",
        t.port,
        {
            **owner,
            "network_id": t.network,
            "fixed_ips": [{"subnet_id": t.subnet}],
            "device_id": "d",
            "device_owner": "nobody:x",
            "security_groups": [t.group],
            "allowed_address_pairs": [{"ip_address": "10.0.9.9", "mac_address": "fa:16:3e:00:00:77"}],
            "extra_dhcp_opts": [{"opt_name": "mtu", "opt_value": "1400", "ip_version": 4}],
            "port_security_enabled": True,
            "admin_state_up": True,
            "dns_name": "web",
            "dns_domain": "own.example.",
        },
        {
            "fixed_ips": [{"subnet_id": t.subnet, "ip_address": "10.0.7.7"}],
            "security_groups": [t.group],
            "allowed_address_pairs": [{"ip_address": "10.0.9.9"}],
            "extra_dhcp_opts": [{"opt_name": "mtu", "opt_value": "1400"}],
            "device_id": "d",
            "dns_name": "db",
            "dns_domain": "",
        },
    )
    yield Valid(
        "POST /network/v2.0/ports",
        "/network/v2.0/ports",
        {
            "port": {
                "network_id": t.network,
                "mac_address": "fa:16:3e:00:00:99",
                "binding:host_id": "h1",
                "binding:vnic_type": "normal",
                "binding:profile": {"a": "b"},
            }
        },
        "admin",
    )
    base = "/network/v2.0/ports"
    for fields in ({"pvlan_type": "isolated"}, {"pvlan_type": "community", "pvlan_community": "two"}):
        yield Valid(f"POST {base}", base, {"port": {"network_id": t.private, **fields}})
        yield Valid(f"PUT {base}/{{id}}", f"{base}/{t.neighbour}", {"port": fields})
    yield Valid(
        "PUT /network/v2.0/agents/{id}",
        f"/network/v2.0/agents/{t.agent}",
        {"agent": {"admin_state_up": False, "description": "d"}},
        "admin",
    )
    gateway = {"network_id": t.public, "enable_snat": True}
    yield from collection(
        "routers",
        "router",
        t.router,
        {**owner, "admin_state_up": True},
        {"name": "m", "external_gateway_info": {"network_id": t.public}},
    )
    yield Valid(
        "PUT /network/v2.0/routers/{id}",
        f"/network/v2.0/routers/{t.router}",
        {
            "router": {
                "external_gateway_info": {**gateway, "external_fixed_ips": [{"ip_address": "203.0.113.99"}]}
            }
        },
        "admin",
    )
    route = {"destination": "10.9.0.0/24", "nexthop": "203.0.113.77"}
    for verb in ("add", "remove"):
        yield Valid(
            f"PUT /network/v2.0/routers/{{id}}/{verb}_router_interface",
            f"/network/v2.0/routers/{t.router}/{verb}_router_interface",
            {"subnet_id": t.subnet},
        )
        yield Valid(
            f"PUT /network/v2.0/routers/{{id}}/{verb}_extraroutes",
            f"/network/v2.0/routers/{t.router}/{verb}_extraroutes",
            {"router": {"routes": [route]}},
        )
    for verb in ("add", "update", "remove"):
        yield Valid(
            f"PUT /network/v2.0/routers/{{id}}/{verb}_external_gateways",
            f"/network/v2.0/routers/{t.router}/{verb}_external_gateways",
            {"router": {"external_gateways": [gateway]}},
            "admin",
        )
    hinted = {"availability_zone_hints": ["nova"], "ha": False}
    yield Valid("POST /network/v2.0/routers", "/network/v2.0/routers", {"router": hinted}, "admin")
    yield from _flavors(t)
    switches = {"enable_default_route_ecmp": True, "enable_default_route_bfd": False, "distributed": True}
    yield Valid(
        "PUT /network/v2.0/routers/{id}", f"/network/v2.0/routers/{t.router}", {"router": switches}, "admin"
    )
    named = {"dns_name": "www", "dns_domain": "world.example."}
    yield from collection(
        "floatingips",
        "floatingip",
        t.floatingip,
        {
            **named,
            "project_id": t.project,
            "floating_network_id": t.public,
            "description": "d",
            "port_id": None,
        },
        {"port_id": None, "description": "d"},
    )
    forwarding = {"internal_port_id": t.inner, "protocol": "udp", "description": "d"}
    single = {**forwarding, "internal_port": 53, "external_port": 53, "internal_ip_address": "10.200.0.9"}
    several = {**forwarding, "internal_port_range": "5000:5003", "external_port_range": "6000:6003"}
    path = "/network/v2.0/floatingips/{floatingip_id}/port_forwardings"
    below = path.replace("{floatingip_id}", t.forwarder)
    for create in (single, several):
        yield Valid(f"POST {path}", below, {"port_forwarding": create})
    changes = ({**single, "external_port": 54}, {**several, "external_port_range": "7000:7003"})
    for change in changes:
        yield Valid(f"PUT {path}/{{id}}", f"{below}/{t.forwarding}", {"port_forwarding": change})
    yield from collection(
        "security-groups",
        "security_group",
        t.group,
        {**owner, "stateful": True},
        {"name": "m", "description": "e", "stateful": True},
    )
    yield from collection(
        "security-group-rules",
        "security_group_rule",
        t.rule,
        {
            "security_group_id": t.group,
            "direction": "ingress",
            "ethertype": "IPv4",
            "protocol": "tcp",
            "port_range_min": 80,
            "port_range_max": 81,
            "remote_ip_prefix": "10.0.0.0/8",
            "description": "d",
        },
        {"description": "d"},
    )
    template = {
        "direction": "ingress",
        "ethertype": "IPv4",
        "protocol": "tcp",
        "port_range_min": 80,
        "port_range_max": 81,
        "remote_group_id": "PARENT",
        "used_in_default_sg": False,
        "used_in_non_default_sg": True,
        "description": "d",
    }
    for request in collection(
        "default-security-group-rules",
        "default_security_group_rule",
        t.template,
        template,
        {"description": "d"},
    ):
        yield replace(request, by="admin")
    log = {"name": "n", "description": "d", "enabled": True, "event": "DROP"}
    sort = {"resource_type": "security_group", "resource_id": t.group, "target_id": None}
    for request in collection("log/logs", "log", t.log, {**log, **sort}, {"name": "m", "enabled": False}):
        yield replace(request, by="admin")
    base = "/network/v2.0/address-groups"
    yield from collection(
        "address-groups",
        "address_group",
        t.addresses,
        {**owner, "addresses": ["192.0.2.0/24", "2001:db8::/64"]},
        {"name": "m", "description": "e"},
    )
    for verb, members in (("add", ["198.51.100.1/32"]), ("remove", ["198.51.100.1/32"])):
        where = f"{base}/{t.addresses}/{verb}_addresses"
        yield Valid(f"PUT {base}/{{id}}/{verb}_addresses", where, {"addresses": members})
    policies = "/network/v2.0/rbac-policies"
    policy = {"object_type": "network", "object_id": t.network, "action": "access_as_shared"}
    yield Valid(f"POST {policies}", policies, {"rbac_policy": {**policy, "target_tenant": "somebody"}})
    yield Valid(
        f"POST {policies}",
        policies,
        {"rbac_policies": [{**policy, "project_id": t.project, "target_tenant": "somebody"}]},
    )
    target = {"target_tenant": "somebody"}
    yield Valid(f"PUT {policies}/{{id}}", f"{policies}/{t.sharing}", {"rbac_policy": target})
    bound = "/network/v2.0/ports/{id}/bindings"
    binding = {"host": "h1", "vnic_type": "normal", "profile": {"a": "b"}}
    yield Valid(f"POST {bound}", bound.replace("{id}", t.parent), {"binding": binding}, "admin")
    sub = {"port_id": t.sub_port, "segmentation_type": "vlan", "segmentation_id": 30}
    yield from collection(
        "trunks",
        "trunk",
        t.trunk,
        {**owner, "port_id": t.parent, "admin_state_up": True, "sub_ports": [sub]},
        {"name": "m", "description": "e", "admin_state_up": True},
    )
    for verb, taken in (("add", sub), ("remove", {"port_id": t.sub_port})):
        yield Valid(
            f"PUT /network/v2.0/trunks/{{id}}/{verb}_subports",
            f"/network/v2.0/trunks/{t.trunk}/{verb}_subports",
            {"sub_ports": [taken]},
        )
    quotas = "/network/v2.0/quotas/{project}"
    path = f"/network/v2.0/quotas/{t.lab.projects['other']}"
    yield Valid(f"PUT {quotas}", path, {"quota": {"network": 5, "port": -1}}, "admin")


def _segments(t: Things) -> Iterator[Valid]:
    base, template = "/network/v2.0/segments", "/network/v2.0/segments/{id}"
    words = {"name": "n", "description": "d"}
    wire = {"network_type": "vlan", "physical_network": "physnet2"}
    created = {"network_id": t.unsegmented, **wire, "segmentation_id": 115, **words}
    yield Valid(f"POST {base}", base, {"segment": created}, "admin")
    yield Valid(f"PUT {template}", f"{base}/{t.segment}", {"segment": words}, "admin")
    wires = [{f"provider:{name}": value for name, value in {**wire, "segmentation_id": 116}.items()}]
    wires.append({"provider:network_type": "vlan", "provider:physical_network": "physnet1"})
    networks, subnets = "/network/v2.0/networks", "/network/v2.0/subnets"
    yield Valid(f"POST {networks}", networks, {"network": {"segments": wires}}, "admin")
    subnet = {"network_id": t.segmented, "ip_version": 4, "cidr": "10.66.0.0/24", "segment_id": t.segment}
    yield Valid(f"POST {subnets}", subnets, {"subnet": subnet}, "admin")
    port = {"network_id": t.segmented, "binding:host_id": "h1"}
    yield Valid("POST /network/v2.0/ports", "/network/v2.0/ports", {"port": port}, "admin")


def _segment_ranges(t: Things) -> Iterator[Valid]:
    base, template = "/network/v2.0/network_segment_ranges", "/network/v2.0/network_segment_ranges/{id}"
    one, words = f"{base}/{t.range}", {"name": "n", "description": "d"}
    vlans = {"network_type": "vlan", "physical_network": "physnet1", "minimum": 3100, "maximum": 3109}
    overlays = {"network_type": "geneve", "minimum": 9000, "maximum": 9999, "project_id": t.project}
    created = {**vlans, **words, "tags": ["t"]}
    yield Valid(f"POST {base}", base, {"network_segment_range": created}, "admin")
    yield Valid(f"POST {base}", base, {"network_segment_ranges": [{**overlays, "shared": False}]}, "admin")
    changed = {**words, "minimum": 3000, "maximum": 3019}
    yield Valid(f"PUT {template}", one, {"network_segment_range": changed}, "admin")
    for method in ("PUT", "POST"):
        yield Valid(f"{method} {template}/tags", f"{one}/tags", {"tags": ["one"]}, "admin")


def _local_ips(t: Things) -> Iterator[Valid]:
    base, template = "/network/v2.0/local_ips", "/network/v2.0/local_ips/{id}"
    one, words = f"{base}/{t.local_ip}", {"name": "n", "description": "d"}
    fields = {"network_id": t.network, "ip_mode": "passthrough", "project_id": t.project}
    yield Valid(f"POST {base}", base, {"local_ip": {**fields, **words, "tags": ["t"]}})
    yield Valid(f"POST {base}", base, {"local_ips": [{"local_port_id": t.port, "local_ip_address": None}]})
    yield Valid(f"PUT {template}", one, {"local_ip": words})
    for method in ("PUT", "POST"):
        yield Valid(f"{method} {template}/tags", f"{one}/tags", {"tags": ["one"]})
    led = {"fixed_port_id": t.sub_port, "fixed_ip": None}
    yield Valid(f"POST {template}/port_associations", f"{one}/port_associations", {"port_association": led})


def _firewalls(t: Things) -> Iterator[Valid]:
    base = "/network/v2.0/fwaas/firewall_"
    named = {"name": "n", "description": "d"}
    ends = {"source_ip_address": "10.9.0.0/24", "destination_ip_address": "10.8.0.1"}
    ports = {"source_port": "1024:65535", "destination_port": "80"}
    rule = {"action": "reject", "protocol": "tcp", "ip_version": 4, **ends, **ports, "enabled": True}
    policies = {
        "ingress_firewall_policy_id": t.firewall_policy,
        "egress_firewall_policy_id": t.firewall_policy,
    }
    several = (
        ("group", "groups", t.firewall_group, {"ports": [t.entrance], "admin_state_up": False, **policies}),
        ("policy", "policies", t.firewall_policy, {"firewall_rules": [t.other_rule], "audited": True}),
        ("rule", "rules", t.other_rule, rule),
    )
    for kind, plural, id, fields in several:
        yield Valid(f"POST {base}{plural}", f"{base}{plural}", {f"firewall_{kind}": {**named, **fields}})
        both = {f"firewall_{plural}": [{"project_id": t.project, **named}]}
        yield Valid(f"POST {base}{plural}", f"{base}{plural}", both)
        where, change = f"{base}{plural}/{id}", {f"firewall_{kind}": fields}
        yield Valid(f"PUT {base}{plural}/{{id}}", where, change)
        for shared in (True, False):
            yield Valid(
                f"PUT {base}{plural}/{{id}}", where, {f"firewall_{kind}": {"shared": shared}}, "admin"
            )
        for method in ("PUT", "POST"):
            yield Valid(f"{method} {base}{plural}/{{id}}/tags", f"{where}/tags", {"tags": ["one"]})
    for verb, fields in (("insert", {"insert_before": t.firewall_rule}), ("remove", {})):
        where = f"{base}policies/{t.firewall_policy}/{verb}_rule"
        body = {"firewall_rule_id": t.other_rule, **fields}
        yield Valid(f"PUT {base}policies/{{id}}/{verb}_rule", where, body)


def _metering(t: Things) -> Iterator[Valid]:
    base = "/network/v2.0/metering"
    labels, rules = f"{base}/metering-labels", f"{base}/metering-label-rules"
    label = {"name": "m", "description": "d", "tags": ["t"]}
    yield Valid(f"POST {labels}", labels, {"metering_label": label}, "admin")
    more = {"metering_labels": [{"project_id": t.project, "shared": True}]}
    yield Valid(f"POST {labels}", labels, more, "admin")
    words = {"metering_label": {"name": "o", "description": "e"}}
    yield Valid(f"PUT {labels}/{{id}}", f"{labels}/{t.metering}", words, "admin")
    for method in ("PUT", "POST"):
        yield Valid(
            f"{method} {labels}/{{id}}/tags", f"{labels}/{t.metering}/tags", {"tags": ["one"]}, "admin"
        )
    rule = {"metering_label_id": t.metering, "direction": "ingress"}
    both = {"source_ip_prefix": "198.51.100.0/24", "destination_ip_prefix": "10.0.0.0/16", "excluded": True}
    one = {"remote_ip_prefix": "10.0.0.0/8", "project_id": t.project}
    for fields in (both, one):
        yield Valid(f"POST {rules}", rules, {"metering_label_rule": {**rule, **fields}}, "admin")
    several = {"metering_label_rules": [{**rule, "source_ip_prefix": "2001:db8::/32"}]}
    yield Valid(f"POST {rules}", rules, several, "admin")


def _mirrors(t: Things) -> Iterator[Valid]:
    base, template = "/network/v2.0/taas/tap_mirrors", "/network/v2.0/taas/tap_mirrors/{id}"
    fields = {"port_id": t.port, "remote_ip": "192.0.2.9", "mirror_type": "gre", "tags": ["t"]}
    first, second = ({**fields, "directions": {"IN": n, "OUT": n + 1}} for n in (10, 20))
    words = {"name": "n", "description": "d"}
    yield Valid(f"POST {base}", base, {"tap_mirror": {**first, **words, "project_id": t.project}})
    yield Valid(f"POST {base}", base, {"tap_mirrors": [second]})
    yield Valid(f"PUT {template}", f"{base}/{t.mirror}", {"tap_mirror": words})
    for method in ("PUT", "POST"):
        yield Valid(f"{method} {template}/tags", f"{base}/{t.mirror}/tags", {"tags": ["one"]})


def _ndp_proxies(t: Things) -> Iterator[Valid]:
    base, template = "/network/v2.0/ndp_proxies", "/network/v2.0/ndp_proxies/{id}"
    (port,), words = t.proxied, {"name": "n", "description": "d"}
    fields = {"router_id": t.proxying, "port_id": port, "ip_address": None, "tags": ["t"]}
    yield Valid(f"POST {base}", base, {"ndp_proxy": {**fields, **words, "project_id": t.project}})
    yield Valid(f"POST {base}", base, {"ndp_proxies": [fields]})
    yield Valid(f"PUT {template}", f"{base}/{t.proxy}", {"ndp_proxy": words})
    for method in ("PUT", "POST"):
        yield Valid(f"{method} {template}/tags", f"{base}/{t.proxy}/tags", {"tags": ["one"]})
    router = "/network/v2.0/routers"
    for on in (False, True):
        yield Valid(f"PUT {router}/{{id}}", f"{router}/{t.proxying}", {"router": {"enable_ndp_proxy": on}})


def _flavors(t: Things) -> Iterator[Valid]:
    path, profiles = "/network/v2.0/flavors", "/network/v2.0/service_profiles"
    flavor = {"name": "f", "description": "d", "service_type": "L3_ROUTER_NAT", "enabled": True}
    profile = {"description": "d", "driver": "ovn", "metainfo": "{}", "enabled": True}
    yield Valid(f"POST {path}", path, {"flavor": flavor}, "admin")
    yield Valid(f"PUT {path}/{{id}}", f"{path}/{t.router_flavor}", {"flavor": {"name": "g"}}, "admin")
    yield Valid(f"POST {profiles}", profiles, {"service_profile": profile}, "admin")
    where = f"{profiles}/{t.spare_profile}"
    yield Valid(f"PUT {profiles}/{{id}}", where, {"service_profile": {"description": "e"}}, "admin")
    where = f"{path}/{t.router_flavor}/service_profiles"
    named = {"service_profile": {"id": t.spare_profile}}
    yield Valid(f"POST {path}/{{id}}/service_profiles", where, named, "admin")
    routers = "/network/v2.0/routers"
    yield Valid(f"POST {routers}", routers, {"router": {"flavor_id": t.router_flavor}})


def _qos(t: Things) -> Iterator[Valid]:
    base, template = "/network/v2.0/qos/policies", "/network/v2.0/qos/policies/{id}"
    one = f"{base}/{t.policy}"
    policy = {"name": "n", "description": "d", "shared": False, "is_default": False}
    yield Valid(f"POST {base}", base, {"policy": {**policy, "tags": ["t"]}}, "admin")
    yield Valid(f"PUT {template}", one, {"policy": {**policy, "shared": True}}, "admin")
    for where in (base, "/network/v2.0/policies"):
        for method in ("PUT", "POST"):
            yield Valid(
                f"{method} {where}/{{id}}/tags", f"{where}/{t.policy}/tags", {"tags": ["one"]}, "admin"
            )
    limit = {"max_kbps": 1000, "max_burst_kbps": 100, "direction": "ingress"}
    for kind, id, values in (
        ("bandwidth_limit_rule", t.limit_rule, limit),
        ("dscp_marking_rule", t.dscp_rule, {"dscp_mark": 26}),
        ("minimum_bandwidth_rule", t.bandwidth_rule, {"min_kbps": 900, "direction": "ingress"}),
        ("minimum_packet_rate_rule", t.packets_rule, {"min_kpps": 9, "direction": "ingress"}),
        ("packet_rate_limit_rule", t.pace_rule, {"max_kpps": 90, "direction": "ingress"}),
    ):
        below, path = f"{base}/{{policy}}/{kind}s", f"{one}/{kind}s"
        yield Valid(f"POST {below}", path, {kind: values}, "admin")
        yield Valid(f"PUT {below}/{{id}}", f"{path}/{id}", {kind: values}, "admin")
        for name in (f"alias_{kind}s", f"alias_{kind}s".replace("_", "-")):
            where = f"/network/v2.0/qos/{name}"
            yield Valid(f"PUT {where}/{{id}}", f"{where}/{id}", {f"alias_{kind}": values}, "admin")


def _appliances(t: Things) -> Iterator[Valid]:
    base = "/appliance/v1/appliances"
    create = {
        "name": "n",
        "description": "d",
        "project_id": t.project,
        "admin_state_up": True,
        "services": ["nat", "firewall"],
        "inside_network_id": t.spare_inside,
        "outside_network_id": t.outside,
        "network_ids": [t.further],
        "data_planes": 2,
        "scaling": {"target_load": 0.6, "least": 1, "most": 4, "cool_down": 60.0},
        "dispatchers": 1,
        "managers": 1,
        "cu_size": 0.5,
        "cu_memory": 256,
        "runtime": "namespace",
        "availability_zone": "nova",
    }
    yield Valid(f"POST {base}", base, {"appliance": create})
    one = f"{base}/{t.appliance}"
    update = {
        "name": "m",
        "description": "e",
        "admin_state_up": False,
        "services": ["firewall", "nat", "balancer"],
        "network_ids": [t.further],
        "data_planes": 3,
        "scaling": {"target_load": 0.7, "least": 2, "most": 5, "cool_down": 30.0},
        "dispatchers": 2,
        "managers": 2,
    }
    yield Valid(f"PUT {base}/{{id}}", one, {"appliance": update})
    rule = {"name": "web", "from": "inside", "to": "outside", "service": ["tcp/80"], "action": "accept"}
    groups = {"addresses": {"lan": ["10.0.0.0/8"]}}
    policy = {"firewall": {"default": "drop", "groups": groups, "rules": [rule]}}
    yield Valid(f"PUT {base}/{{id}}/policy", f"{one}/policy", {"policy": policy})
    quota = "/appliance/v1/quotas"
    limits = {"quota": {"appliances": 20, "units": 2000}}
    yield Valid(f"PUT {quota}/{{project}}", f"{quota}/{t.project}", limits, "admin")


def _balancers(t: Things) -> Iterator[Valid]:
    base = "/load-balancer/v2/lbaas"
    common = {"name": "n", "description": "d", "admin_state_up": True, "tags": ["t"]}
    plain = {key: value for key, value in common.items() if key != "description"}
    member = {
        **plain,
        "address": "192.0.2.10",
        "protocol_port": 80,
        "weight": 2,
        "subnet_id": t.balancer_subnet,
    }
    pool = {
        **common,
        "protocol": "TCP",
        "lb_algorithm": "ROUND_ROBIN",
        "session_persistence": {"type": "SOURCE_IP"},
    }
    listener = {
        **common,
        "protocol": "TCP",
        "protocol_port": 81,
        "connection_limit": 100,
        "allowed_cidrs": ["10.0.0.0/8"],
    }
    whole = {
        **common,
        "project_id": t.project,
        "vip_subnet_id": t.balancer_subnet,
        "provider": "trunkline",
        "flavor_id": t.balancer_flavor,
        "availability_zone": t.balancer_zone,
        "pools": [{**pool, "members": [member]}],
        "listeners": [{**listener, "default_pool": {"name": "n"}}],
    }
    yield Valid(f"POST {base}/loadbalancers", f"{base}/loadbalancers", {"loadbalancer": whole})
    one = {"loadbalancers": t.balancer, "listeners": t.listener, "pools": t.members_pool}
    paths = {kind: (f"{base}/{kind}/{{id}}", f"{base}/{kind}/{id}") for kind, id in one.items()}
    template, path = paths["loadbalancers"]
    yield Valid(f"PUT {template}", path, {"loadbalancer": common})
    create = {**listener, "loadbalancer_id": t.balancer, "default_pool_id": t.members_pool}
    yield Valid(f"POST {base}/listeners", f"{base}/listeners", {"listener": create})
    template, path = paths["listeners"]
    update = {**common, "connection_limit": 5, "allowed_cidrs": [], "default_pool_id": t.members_pool}
    yield Valid(f"PUT {template}", path, {"listener": update})
    create = {**pool, "loadbalancer_id": t.balancer, "members": [member]}
    yield Valid(f"POST {base}/pools", f"{base}/pools", {"pool": create})
    template, path = paths["pools"]
    update = {**common, "lb_algorithm": "SOURCE_IP", "session_persistence": {"type": "SOURCE_IP"}}
    yield Valid(f"PUT {template}", path, {"pool": update})
    below, path = f"{base}/pools/{{pool}}/members", f"{base}/pools/{t.members_pool}/members"
    yield Valid(f"POST {below}", path, {"member": member})
    yield Valid(f"PUT {below}", path, {"members": [member]})
    yield Valid(f"PUT {below}/{{id}}", f"{path}/{t.member}", {"member": {**plain, "weight": 0}})
    yield from _monitors_and_policies(t, base, common, plain)
    profile = {"name": "q", "provider_name": "trunkline", "flavor_data": '{"data_planes": 1}'}
    where = f"{base}/flavorprofiles"
    yield Valid(f"POST {where}", where, {"flavorprofile": profile}, "admin")
    yield Valid(
        f"PUT {where}/{{id}}", f"{where}/{t.balancer_profile}", {"flavorprofile": {"name": "r"}}, "admin"
    )
    flavor, where = {"name": "g", "description": "d", "enabled": True}, f"{base}/flavors"
    create = {**flavor, "flavor_profile_id": t.balancer_profile}
    yield Valid(f"POST {where}", where, {"flavor": create}, "admin")
    yield Valid(f"PUT {where}/{{id}}", f"{where}/{t.balancer_flavor}", {"flavor": flavor}, "admin")
    place = {"name": "q", "provider_name": "trunkline", "availability_zone_data": '{"compute_zone": "nova"}'}
    where, one = f"{base}/availabilityzoneprofiles", t.balancer_zone_profile
    yield Valid(f"POST {where}", where, {"availability_zone_profile": place}, "admin")
    changed = {"availability_zone_profile": {"name": "r"}}
    yield Valid(f"PUT {where}/{{id}}", f"{where}/{one}", changed, "admin")
    where, zone = f"{base}/availabilityzones", {"description": "d", "enabled": True}
    create = {**zone, "name": "y", "availability_zone_profile_id": one}
    yield Valid(f"POST {where}", where, {"availability_zone": create}, "admin")
    yield Valid(f"PUT {where}/{{id}}", f"{where}/{t.balancer_zone}", {"availability_zone": zone}, "admin")
    where, limits = f"{base}/quotas", {"quota": {"loadbalancer": 20, "health_monitor": None}}
    yield Valid(f"PUT {where}/{{project}}", f"{where}/{t.project}", limits, "admin")


def _monitors_and_policies(
    t: Things, base: str, common: dict[str, Any], plain: dict[str, Any]
) -> Iterator[Valid]:
    request = {"http_method": "HEAD", "url_path": "/ok", "expected_codes": "200-204"}
    asked = {**request, "http_version": 1.1, "domain_name": "www.example.com"}
    times = {"delay": 6, "timeout": 5, "max_retries": 3, "max_retries_down": 2}
    where = f"{base}/healthmonitors"
    create = {**plain, "pool_id": t.unwatched, "type": "HTTP", **times, **asked}
    yield Valid(f"POST {where}", where, {"healthmonitor": create})
    yield Valid(f"PUT {where}/{{id}}", f"{where}/{t.monitor}", {"healthmonitor": {**plain, **times}})
    where, rule = (
        f"{base}/l7policies",
        {"type": "HEADER", "compare_type": "EQUAL_TO", "key": "A", "value": "b"},
    )
    rule = {"admin_state_up": True, "tags": ["t"], "invert": True, **rule}
    policy = {**common, "action": "REDIRECT_TO_URL", "redirect_url": "http://x/", "redirect_http_code": 301}
    create = {**policy, "listener_id": t.web_listener, "position": 1, "rules": [rule]}
    yield Valid(f"POST {where}", where, {"l7policy": create})
    yield Valid(f"PUT {where}/{{id}}", f"{where}/{t.l7_policy}", {"l7policy": {**policy, "position": 2}})
    below, path = f"{where}/{{policy}}/rules", f"{where}/{t.l7_policy}/rules"
    yield Valid(f"POST {below}", path, {"rule": rule})
    yield Valid(f"PUT {below}/{{id}}", f"{path}/{t.l7_rule}", {"rule": rule})


def _image(t: Things) -> Iterator[Valid]:
    base = "/image/v2/images"
    create = {
        "name": "n",
        "visibility": "private",
        "protected": False,
        "os_hidden": False,
        "disk_format": "raw",
        "container_format": "bare",
        "min_disk": 1,
        "min_ram": 1,
        "tags": ["t"],
        "own": "property",
    }
    yield Valid(f"POST {base}", base, create)
    one = f"{base}/{t.image}"
    patch = [{"op": "replace", "path": "/name", "value": "m"}, {"op": "add", "path": "/mine", "value": "v"}]
    yield Valid(
        f"PATCH {base}/{{id}}",
        one,
        patch,
        headers={"content-type": "application/openstack-images-v2.1-json-patch"},
    )
    older = [{"replace": "/name", "value": "m"}]
    yield Valid(
        f"PATCH {base}/{{id}}",
        one,
        older,
        headers={"content-type": "application/openstack-images-v2.0-json-patch"},
    )
    yield Valid(f"POST {base}/{{id}}/import", f"{one}/import", {"method": {"name": "glance-direct"}})
    yield Valid(f"POST {base}/{{id}}/members", f"{one}/members", {"member": t.lab.projects["admin"]})
    member = f"{one}/members/{t.lab.projects['other']}"
    yield Valid(f"PUT {base}/{{id}}/members/{{member}}", member, {"status": "accepted"}, "otto")
    yield from _metadefs(t)


def _metadefs(t: Things) -> Iterator[Valid]:
    base = "/image/v2/metadefs/namespaces"
    fields = {"display_name": "D", "description": "d", "visibility": "public", "protected": False}
    create = {"namespace": "n", **fields, "owner": t.lab.projects["demo"], "tags": [{"name": "t"}]}
    yield Valid(f"POST {base}", base, create, "admin")
    own, one = f"{base}/{{namespace}}", f"{base}/{t.namespace}"
    yield Valid(f"PUT {own}", one, {"namespace": t.namespace, **fields}, "admin")
    cores = {"name": "cores", "title": "Cores", "type": "integer", "minimum": 1}
    yield Valid(f"POST {own}/properties", f"{one}/properties", {**cores, "name": "more"}, "admin")
    yield Valid(f"PUT {own}/properties/{{name}}", f"{one}/properties/cores", cores, "admin")
    thing = {"name": "thing", "description": "d", "required": ["a"], "properties": {"a": {"title": "A"}}}
    yield Valid(f"POST {own}/objects", f"{one}/objects", {**thing, "name": "more"}, "admin")
    yield Valid(f"PUT {own}/objects/{{name}}", f"{one}/objects/thing", thing, "admin")
    yield Valid(f"POST {own}/tags", f"{one}/tags", {"tags": [{"name": "word"}, {"name": "b"}]}, "admin")
    yield Valid(f"PUT {own}/tags/{{name}}", f"{one}/tags/word", {"name": "word"}, "admin")
    kind = {"name": "OS::Nova::Flavor", "prefix": "p", "properties_target": "image"}
    yield Valid(f"POST {own}/resource_types", f"{one}/resource_types", kind, "admin")
