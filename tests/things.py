"""One of everything in a lab of the APIs, and what a valid request is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from api_lab import ApiLab

from trunkline.api.compute.observation import observe
from trunkline.api.context import CLOUD
from trunkline.api.engine import Call
from trunkline.resources.network import Agent
from trunkline.resources.reports import ServerReport

LATEST = {"openstack-api-version": "compute 2.96"}


def forwarder(lab: ApiLab) -> tuple[str, str]:
    """A floating IP of the demo project whose ports can be forwarded, and a port that they can lead to."""

    def make(path: str, kind: str, **fields: Any) -> str:
        made = lab.ok("POST", f"/network/v2.0/{path}", {kind: fields}, by="demo")
        return str(made[kind]["id"])

    (public,) = lab.ok("GET", "/network/v2.0/networks?name=public")["networks"]
    network = make("networks", "network", name="behind")
    subnet = make("subnets", "subnet", network_id=network, ip_version=4, cidr="10.200.0.0/24")
    router = make("routers", "router", external_gateway_info={"network_id": public["id"]})
    where = f"/network/v2.0/routers/{router}/add_router_interface"
    lab.ok("PUT", where, {"subnet_id": subnet}, by="demo")
    floating = make("floatingips", "floatingip", floating_network_id=public["id"])
    address = {"subnet_id": subnet, "ip_address": "10.200.0.9"}
    return floating, make("ports", "port", network_id=network, fixed_ips=[address])


def proxying(lab: ApiLab, ports: int) -> tuple[str, list[str]]:
    """A router of the demo project that is an NDP proxy, and ports behind it."""

    def make(path: str, by: str = "demo", **body: Any) -> dict[str, Any]:
        made = lab.ok("POST", f"/network/v2.0/{path}", body, by=by)
        return dict(next(iter(made.values())))

    scope = make("address-scopes", "admin", address_scope={"ip_version": 6})["id"]
    prefix = {"prefixes": ["2001:db8:f::/48"], "default_prefixlen": 64}
    pool = make("subnetpools", "admin", subnetpool={"name": "f", "address_scope_id": scope, **prefix})["id"]
    wire = {"provider:network_type": "vlan", "provider:physical_network": "physnet1"}
    outer = make("networks", "admin", network={"router:external": True, **wire})["id"]
    inner = make("networks", network={"name": "proxied"})["id"]
    subnet = {"ip_version": 6, "subnetpool_id": pool}
    make("subnets", "admin", subnet={"network_id": outer, **subnet})
    leg = make("subnets", "admin", subnet={"network_id": inner, **subnet})["id"]
    fields = {"external_gateway_info": {"network_id": outer}, "enable_ndp_proxy": True}
    router = make("routers", router=fields)["id"]
    lab.ok("PUT", f"/network/v2.0/routers/{router}/add_router_interface", {"subnet_id": leg}, by="demo")
    bulk = {"ports": [{"network_id": inner}] * ports}
    made = lab.ok("POST", "/network/v2.0/ports", bulk, by="demo")["ports"]
    return router, [port["id"] for port in made]


def network_of_segments(lab: ApiLab, *physical: str) -> str:
    """A network of the demo project with a segment on each of these physical networks: a free VLAN."""
    wires = [{"provider:network_type": "vlan", "provider:physical_network": name} for name in physical]
    fields = {"segments": wires, "project_id": lab.projects["demo"]}
    return str(lab.ok("POST", "/network/v2.0/networks", {"network": fields})["network"]["id"])


def network_segment(lab: ApiLab, network: str, physical: str) -> str:
    """A further segment of a network."""
    vlan = {"network_type": "vlan", "physical_network": physical, "segmentation_id": 2900}
    fields = {"network_id": network, **vlan}
    return str(lab.ok("POST", "/network/v2.0/segments", {"segment": fields})["segment"]["id"])


class Things:
    """One of everything that the requests below refer to; the demo project's, where a project has it."""

    def __init__(self, lab: ApiLab) -> None:
        self.lab = lab
        self._unlimited()
        network = self._maker("/network/v2.0", "demo")
        self.network = network("networks", network={"name": "net"})
        self.subnet = network(
            "subnets", subnet={"network_id": self.network, "ip_version": 4, "cidr": "10.0.0.0/16"}
        )
        self.port = network("ports", port={"network_id": self.network})
        self.private = network("networks", network={"name": "private", "pvlan": True})
        community = {"pvlan_type": "community", "pvlan_community": "one"}
        self.neighbour = network("ports", port={"network_id": self.private, **community})
        self.router = network("routers", router={"name": "router"})
        self.pool = network("subnetpools", subnetpool={"name": "pool", "prefixes": ["172.16.0.0/16"]})
        self.group = network("security-groups", security_group={"name": "group"})
        self.rule = network(
            "security-group-rules",
            security_group_rule={"security_group_id": self.group, "direction": "ingress"},
        )
        self.scope = network("address-scopes", address_scope={"ip_version": 4})
        self.sharing = network(
            "rbac-policies",
            rbac_policy={
                "object_type": "network",
                "object_id": self.network,
                "action": "access_as_shared",
                "target_tenant": lab.projects["other"],
            },
        )
        behind = network("networks", network={"name": "behind a firewall"})
        subnet = network("subnets", subnet={"network_id": behind, "ip_version": 4, "cidr": "10.200.0.0/24"})
        guarded = network("routers", router={"name": "guarded"})
        entrance = f"/network/v2.0/routers/{guarded}/add_router_interface"
        self.entrance = lab.ok("PUT", entrance, {"subnet_id": subnet}, by="demo")["port_id"]
        self.firewall_rule = network("fwaas/firewall_rules", firewall_rule={"action": "allow"})
        self.other_rule = network("fwaas/firewall_rules", firewall_rule={"protocol": "tcp"})
        rules = {"firewall_rules": [self.firewall_rule]}
        self.firewall_policy = network("fwaas/firewall_policies", firewall_policy=rules)
        policy = {"egress_firewall_policy_id": self.firewall_policy}
        self.firewall_group = network("fwaas/firewall_groups", firewall_group=policy)
        self.addresses = network("address-groups", address_group={"name": "addresses"})
        self.log = self._maker("/network/v2.0", "admin")("log/logs", log={"resource_type": "security_group"})
        self.metering = self._maker("/network/v2.0", "admin")(
            "metering/metering-labels", metering_label={"name": "label", "project_id": lab.projects["demo"]}
        )
        self.metered = self._maker("/network/v2.0", "admin")(
            "metering/metering-label-rules",
            metering_label_rule={
                "metering_label_id": self.metering,
                "direction": "egress",
                "remote_ip_prefix": "10.0.0.0/8",
            },
        )
        self.template = self._maker("/network/v2.0", "admin")(
            "default-security-group-rules", default_security_group_rule={"direction": "ingress"}
        )
        operator = self._maker("/network/v2.0", "admin")
        self.router_flavor = operator("flavors", flavor={"service_type": "L3_ROUTER_NAT"})
        self.profile = operator("service_profiles", service_profile={"metainfo": '{"ha": true}'})
        lab.ok(
            "POST",
            f"/network/v2.0/flavors/{self.router_flavor}/service_profiles",
            {"service_profile": {"id": self.profile}},
        )
        self.spare_profile = operator("service_profiles", service_profile={"driver": "ovn"})
        self.agent = "0f4b1ad0-6cf3-4d1b-9a52-3f7a3e1c9b77"
        dead = Agent(id=self.agent, agent_type="OVN Controller Gateway agent", binary="x", host="h1")
        lab.store.write_sync(lambda tx: tx.insert(dead))
        self.trunk = network("trunks", trunk={"port_id": network("ports", port={"network_id": self.network})})
        self.parent, self.sub_port = (network("ports", port={"network_id": self.network}) for _ in range(2))
        (public,) = lab.ok("GET", "/network/v2.0/networks?name=public")["networks"]
        self.public = str(public["id"])
        self.floatingip = network("floatingips", floatingip={"floating_network_id": self.public})
        self.forwarder, self.inner = forwarder(lab)
        self.forwarding = network(
            f"floatingips/{self.forwarder}/port_forwardings",
            port_forwarding={
                "internal_port_id": self.inner,
                "protocol": "tcp",
                "internal_port": 80,
                "external_port": 80,
            },
        )

        self.range = self._maker("/network/v2.0", "admin")(
            "network_segment_ranges",
            network_segment_range={
                "network_type": "vlan",
                "physical_network": "physnet2",
                "minimum": 3000,
                "maximum": 3009,
            },
        )
        self.segmented = network_of_segments(lab, "physnet1")
        self.segment = network_segment(lab, self.segmented, "physnet2")
        self.unsegmented = network_of_segments(lab, "physnet1")
        self.local_ip = network("local_ips", local_ip={"network_id": self.network})
        self.led_to = network("ports", port={"network_id": self.network})
        led = f"/network/v2.0/local_ips/{self.local_ip}/port_associations"
        lab.ok("POST", led, {"port_association": {"fixed_port_id": self.led_to}}, by="demo")
        self.mirror = network(
            "taas/tap_mirrors",
            tap_mirror={
                "port_id": self.port,
                "directions": {"IN": 1},
                "remote_ip": "192.0.2.9",
                "mirror_type": "gre",
            },
        )
        self.proxying, self.proxied = proxying(lab, 2)
        fields = {"router_id": self.proxying, "port_id": self.proxied.pop()}
        self.proxy = network("ndp_proxies", ndp_proxy=fields)
        operator = self._maker("/network/v2.0/qos", "admin")
        self.policy = operator("policies", policy={"name": "policy", "shared": True})
        below = f"policies/{self.policy}"
        self.limit_rule = operator(f"{below}/bandwidth_limit_rules", bandwidth_limit_rule={"max_kbps": 9000})
        least = {"min_kbps": 8000}
        self.bandwidth_rule = operator(f"{below}/minimum_bandwidth_rules", minimum_bandwidth_rule=least)
        packets = {"min_kpps": 8, "direction": "egress"}
        self.packets_rule = operator(f"{below}/minimum_packet_rate_rules", minimum_packet_rate_rule=packets)
        pace = {"max_kpps": 80, "max_burst_kpps": 8}
        self.pace_rule = operator(f"{below}/packet_rate_limit_rules", packet_rate_limit_rule=pace)
        self.dscp_rule = operator(f"{below}/dscp_marking_rules", dscp_marking_rule={"dscp_mark": 46})

        identity = self._maker("/identity/v3", "admin")
        self.project = lab.projects["demo"]
        self.user = lab.users["demo"]
        self.admin = lab.users["admin"]
        self.dummies = {
            "domain": identity("domains", domain={"name": "dummy"}),
            "project": identity("projects", project={"name": "dummy"}),
            "user": identity("users", user={"name": "dummy", "password": "secret"}),
            "group": identity("groups", group={"name": "dummy"}),
            "role": identity("roles", role={"name": "dummy"}),
            "region": identity("regions", region={"id": "dummy"}),
            "service": identity("services", service={"type": "dummy"}),
        }
        self.dummies["endpoint"] = identity(
            "endpoints",
            endpoint={"service_id": self.dummies["service"], "interface": "public", "url": "http://dummy"},
        )
        self.dummies["endpoint_group"] = identity(
            "OS-EP-FILTER/endpoint_groups",
            endpoint_group={"name": "dummy", "filters": {"interface": "public"}},
        )
        self.credential = self._maker("/identity/v3", "demo")(
            "credentials", credential={"type": "cert", "blob": "secret"}
        )

        compute = self._maker("/compute/v2.1", "demo")
        self.server = compute(
            "servers",
            server={
                "name": "s",
                "imageRef": lab.image,
                "flavorRef": "1",
                "networks": [{"uuid": self.network}],
            },
        )
        self.runs(self.server)
        self.server_group = compute("os-server-groups", server_group={"name": "g", "policies": ["affinity"]})
        admin = self._maker("/compute/v2.1", "admin")
        self.flavor = admin(
            "flavors",
            flavor={"name": "own", "vcpus": 1, "ram": 1, "disk": 0, "os-flavor-access:is_public": False},
        )
        self.aggregate = str(admin("os-aggregates", aggregate={"name": "a"}))
        self.image = str(
            lab.ok("POST", "/image/v2/images", {"name": "i", "visibility": "shared"}, by="demo")["id"]
        )
        self.namespace = "definitions"
        held = {
            "properties": {"cores": {"title": "Cores", "type": "integer"}},
            "objects": [{"name": "thing"}],
            "tags": [{"name": "word"}],
        }
        lab.ok("POST", "/image/v2/metadefs/namespaces", {"namespace": self.namespace, **held})
        other = {"member": lab.projects["other"]}
        lab.ok("POST", f"/image/v2/images/{self.image}/members", other, by="demo")
        self._appliances()
        self._balancers()

    def _balancers(self) -> None:
        """A load balancer with what it is made of, and a flavor."""
        make = self._maker("/load-balancer/v2/lbaas", "demo")
        self.balancer_subnet = self._subnet_of(self._maker("/network/v2.0", "demo")("networks", network={}))
        lb = {"loadbalancer_id": make("loadbalancers", loadbalancer={"vip_subnet_id": self.balancer_subnet})}
        self.balancer = lb["loadbalancer_id"]
        pool = {**lb, "protocol": "TCP", "lb_algorithm": "ROUND_ROBIN"}
        self.members_pool = make("pools", pool=pool)
        self.listener = make("listeners", listener={**lb, "protocol": "TCP", "protocol_port": 80})
        member = {"address": "192.0.2.9", "protocol_port": 80}
        self.member = make(f"pools/{self.members_pool}/members", member=member)
        http = make("listeners", listener={**lb, "protocol": "HTTP", "protocol_port": 88})
        self.web_listener = http
        self.l7_policy = make("l7policies", l7policy={"listener_id": http, "action": "REJECT"})
        rule = {"type": "PATH", "compare_type": "STARTS_WITH", "value": "/a"}
        self.l7_rule = make(f"l7policies/{self.l7_policy}/rules", rule=rule)
        times = {"delay": 5, "timeout": 5, "max_retries": 3}
        watched = make("pools", pool=pool)
        self.monitor = make("healthmonitors", healthmonitor={"pool_id": watched, "type": "TCP", **times})
        self.unwatched = make("pools", pool={**pool, "protocol": "HTTP"})
        admin = self._maker("/load-balancer/v2/lbaas", "admin")
        profile = {"name": "p", "provider_name": "trunkline", "flavor_data": "{}"}
        self.balancer_profile = admin("flavorprofiles", flavorprofile=profile)
        flavor = {"name": "f", "flavor_profile_id": self.balancer_profile}
        self.balancer_flavor = admin("flavors", flavor=flavor)
        place = {"name": "p", "provider_name": "trunkline", "availability_zone_data": "{}"}
        self.balancer_zone_profile = admin("availabilityzoneprofiles", availability_zone_profile=place)
        self.balancer_zone = "z"
        zone = {"name": self.balancer_zone, "availability_zone_profile_id": self.balancer_zone_profile}
        self.lab.ok("POST", "/load-balancer/v2/lbaas/availabilityzones", {"availability_zone": zone})

    def _subnet_of(self, network: str) -> str:
        subnet = {"network_id": network, "ip_version": 4, "cidr": "10.211.0.0/24"}
        return self._maker("/network/v2.0", "demo")("subnets", subnet=subnet)

    def _appliances(self) -> None:
        """An appliance, and what another one can be made of."""
        network = self._maker("/network/v2.0", "demo")
        made = [network("networks", network={}) for _ in range(4)]
        self.outside, self.inside, self.spare_inside, self.further = made
        for number, id in enumerate(made):
            cidr = f"10.210.{number}.0/24"
            network("subnets", subnet={"network_id": id, "ip_version": 4, "cidr": cidr})
        legs = {"inside_network_id": self.inside, "outside_network_id": self.outside}
        fields = {"name": "edge", "services": ["firewall", "nat"], **legs}
        self.appliance = self._maker("/appliance/v1", "demo")("appliances", appliance=fields)

    def runs(self, server: str) -> None:
        """The server's host says that it runs."""
        seen = [ServerReport(id=server, state="running")]
        engine = self.lab.api.engine
        self.lab.store.write_sync(lambda tx: observe(Call(engine, CLOUD, tx), "h1", seen))

    def _unlimited(self) -> None:
        kinds = ("network", "subnet", "port", "router", "floatingip", "security_group", "security_group_rule")
        project = self.lab.projects["demo"]
        self.lab.ok(
            "PUT", f"/network/v2.0/quotas/{project}", {"quota": dict.fromkeys((*kinds, "rbac_policy"), -1)}
        )
        quota = {"appliances": -1, "units": -1}
        self.lab.ok("PUT", f"/appliance/v1/quotas/{project}", {"quota": quota})
        kinds = ("loadbalancer", "listener", "pool", "member", "healthmonitor", "l7policy", "l7rule")
        limits = {"quota": dict.fromkeys(kinds, -1)}
        self.lab.ok("PUT", f"/load-balancer/v2/lbaas/quotas/{project}", limits)
        names = ("instances", "cores", "ram", "key_pairs", "server_groups", "server_group_members")
        self.lab.ok("PUT", f"/compute/v2.1/os-quota-sets/{project}", {"quota_set": dict.fromkeys(names, -1)})

    def _maker(self, base: str, by: str) -> Callable[..., str]:
        def make(path: str, **body: Any) -> str:
            reply = self.lab.ok("POST", f"{base}/{path}", body, by=by)
            return str(next(iter(reply.values()))["id"])

        return make


@dataclass(frozen=True)
class Valid:
    """A valid request: what is wrong with any copy of it is what was changed in it."""

    #: POST /network/v2.0/networks; a parameter stands as {name}.
    endpoint: str
    path: str
    body: Any
    by: str = "demo"
    headers: Mapping[str, str] | None = None

    @property
    def method(self) -> str:
        return self.endpoint.partition(" ")[0]

    @property
    def service(self) -> str:
        return self.path.split("/")[1]
