"""What of the Network API is no create, read, update or delete of a resource."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trunkline.api import openapi
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.api.network import (
    address_groups,
    availability,
    bindings,
    dialect,
    extensions,
    interfaces,
    local_ips,
    logs,
    multihoming,
    quotas,
    subnetpools,
    topology,
    trunks,
)
from trunkline.api.network.collection import Handle, path_of
from trunkline.api.zones import zones
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
from trunkline.resources.region import Host
from trunkline.resources.schema import Resource, spec_of
from trunkline.store import Reader, table_of

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


class Verbs:
    """What is no create, read, update or delete of a resource."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def add_interface(self, request: Request) -> Reply:
        """Attach a router to a subnet"""
        body, id = await request.json(), request.path["id"]
        leg = await self.engine.write(request.context, lambda call: interfaces.add(call, id, body))
        return Reply(leg)

    async def remove_interface(self, request: Request) -> Reply:
        """Detach a router from a subnet"""
        body, id = await request.json(), request.path["id"]
        leg = await self.engine.write(request.context, lambda call: interfaces.remove(call, id, body))
        return Reply(leg)

    async def add_routes(self, request: Request) -> Reply:
        """Add routes to a router"""
        return await self._routes(request, interfaces.add_routes)

    async def remove_routes(self, request: Request) -> Reply:
        """Remove routes of a router"""
        return await self._routes(request, interfaces.remove_routes)

    async def _routes(self, request: Request, change: Callable[[Call, str, Any], Router]) -> Reply:
        body = await request.envelope("router")

        def run(call: Call) -> dict[str, Any]:
            router = change(call, request.path["id"], body)
            return self.engine.render(call.tx, call.context, [router])[0]

        return Reply({"router": await self.engine.write(request.context, run)})

    async def add_gateways(self, request: Request) -> Reply:
        """Add gateways to a router"""
        return await self._routes(request, multihoming.add)

    async def remove_gateways(self, request: Request) -> Reply:
        """Remove gateways of a router"""
        return await self._routes(request, multihoming.remove)

    async def update_gateways(self, request: Request) -> Reply:
        """Change gateways of a router"""
        return await self._routes(request, multihoming.update)

    async def service_providers(self, request: Request) -> Reply:
        """List who provides services"""
        self.engine.require("get_service_provider", request.context, {})
        provider = {"service_type": "L3_ROUTER_NAT", "name": "ovn", "default": True}
        return Reply({"service_providers": [provider]})

    async def add_prefixes(self, request: Request) -> Reply:
        """Add prefixes to a subnet pool"""
        return await self._prefixes(request, subnetpools.add_prefixes)

    async def remove_prefixes(self, request: Request) -> Reply:
        """Remove prefixes of a subnet pool"""
        return await self._prefixes(request, subnetpools.remove_prefixes)

    async def onboard(self, request: Request) -> Reply:
        """Take the subnets of a network into a subnet pool"""
        body, id = await request.json(), request.path["id"]
        return Reply(
            await self.engine.write(request.context, lambda call: subnetpools.onboard(call, id, body))
        )

    async def _prefixes(self, request: Request, change: Callable[[Call, str, Any], list[str]]) -> Reply:
        body, id = await request.json(), request.path["id"]
        found = await self.engine.write(request.context, lambda call: change(call, id, body))
        return Reply({"prefixes": found})

    async def add_addresses(self, request: Request) -> Reply:
        """Add addresses to an address group"""
        return await self._addresses(request, address_groups.add_addresses)

    async def remove_addresses(self, request: Request) -> Reply:
        """Remove addresses of an address group"""
        return await self._addresses(request, address_groups.remove_addresses)

    async def _addresses(self, request: Request, change: Callable[[Call, str, Any], AddressGroup]) -> Reply:
        body, id = await request.json(), request.path["id"]

        def run(call: Call) -> dict[str, Any]:
            return self.engine.render(call.tx, call.context, [change(call, id, body)])[0]

        return Reply({"address_group": await self.engine.write(request.context, run)})

    async def bindings(self, request: Request) -> Reply:
        """List the bindings of a port"""
        with self.engine.store.read() as reader:
            found = bindings.index(self.engine, reader, request.context, request.path["id"])
        return Reply({"bindings": found})

    async def add_binding(self, request: Request) -> Reply:
        """Prepare a port on a further host"""
        body, id = await request.envelope("binding"), request.path["id"]
        made = await self.engine.write(request.context, lambda call: bindings.create(call, id, body))
        return Reply({"binding": made}, 201)

    async def activate_binding(self, request: Request) -> Reply:
        """Move a port to a host that it is prepared on"""
        id, host = request.path["id"], request.path["host"]
        moved = await self.engine.write(request.context, lambda call: bindings.activate(call, id, host))
        return Reply({"binding": moved})

    async def remove_binding(self, request: Request) -> Reply:
        """Delete an inactive binding of a port"""
        id, host = request.path["id"], request.path["host"]
        await self.engine.write(request.context, lambda call: bindings.delete(call, id, host))
        return Reply(status=204)

    async def associations(self, request: Request) -> Reply:
        """List the ports that a local IP leads to"""
        with self.engine.store.read() as reader:
            found = local_ips.index(self.engine, reader, request.context, request.path["id"])
        return Reply({"port_associations": found})

    async def association(self, request: Request) -> Reply:
        """Show how a local IP leads to a port"""
        id, port = request.path["id"], request.path["port"]
        with self.engine.store.read() as reader:
            found = local_ips.show(self.engine, reader, request.context, id, port)
        return Reply({"port_association": found})

    async def associate(self, request: Request) -> Reply:
        """Have a local IP lead to a port on its host"""
        body, id = await request.envelope("port_association"), request.path["id"]
        made = await self.engine.write(request.context, lambda call: local_ips.associate(call, id, body))
        return Reply({"port_association": made}, 201)

    async def dissociate(self, request: Request) -> Reply:
        """Have a local IP lead to a port no more"""
        id, port = request.path["id"], request.path["port"]
        await self.engine.write(request.context, lambda call: local_ips.dissociate(call, id, port))
        return Reply(status=204)

    async def add_subports(self, request: Request) -> Reply:
        """Add sub-ports to a trunk"""
        return await self._subports(request, trunks.add_subports)

    async def remove_subports(self, request: Request) -> Reply:
        """Remove sub-ports of a trunk"""
        return await self._subports(request, trunks.remove_subports)

    async def _subports(self, request: Request, change: Callable[[Call, str, Any], Trunk]) -> Reply:
        body, id = await request.json(), request.path["id"]

        def run(call: Call) -> dict[str, Any]:
            return self.engine.render(call.tx, call.context, [change(call, id, body)])[0]

        return Reply(await self.engine.write(request.context, run))

    async def subports(self, request: Request) -> Reply:
        """List the sub-ports of a trunk"""
        with self.engine.store.read() as reader:
            trunk = self.engine.get(reader, request.context, Trunk, request.path["id"])
            self.engine.require("get_subports", request.context, self.engine.target(reader, trunk))
        return Reply({"sub_ports": trunk.sub_ports})

    async def pools(self, request: Request) -> Reply:
        """List what floating IPs are taken from"""
        own = {"project_id": request.context.project_id}
        self.engine.require("get_floatingip_pool", request.context, own)

        def run(reader: Reader) -> list[dict[str, Any]]:
            networks = table_of(Network)
            seen = self.engine.visible(request.context, Network)
            external = reader.select(Network, networks.c.external.is_(True), *seen)
            return [
                {
                    "subnet_id": subnet.id,
                    "subnet_name": subnet.name,
                    "tenant_id": subnet.project_id,
                    "project_id": subnet.project_id,
                    "network_id": subnet.network_id,
                    "cidr": subnet.cidr,
                }
                for network in external
                for subnet in reader.find(Subnet, network_id=network.id, ip_version=4)
            ]

        return Reply({"floatingip_pools": await self.engine.read(run)})

    async def loggable(self, request: Request) -> Reply:
        """List the types of resources that can be logged"""
        self.engine.require("get_loggable_resource", request.context, {})
        return Reply({"loggable_resources": [{"type": name} for name in logs.LOGGABLE]})

    async def availabilities(self, request: Request) -> Reply:
        """List how many addresses networks have, and how many are in use"""
        self.engine.require("get_network_ip_availability", request.context, {})
        found = await self.engine.read(lambda reader: availability.every(reader, request.query))
        return Reply({"network_ip_availabilities": found})

    async def availability(self, request: Request) -> Reply:
        """Show how many addresses a network has, and how many are in use"""
        self.engine.require("get_network_ip_availability", request.context, {})
        found = await self.engine.read(lambda reader: availability.one(reader, request.path["network"]))
        return Reply({"network_ip_availability": found})

    async def topology(self, request: Request) -> Reply:
        """Show the network that a project gets by asking; make it at the first time"""
        project = self._project(request)
        dry = "dry-run" in dialect.shown_fields(request.query)
        act = topology.check if dry else topology.get
        found = await self.engine.write(request.context, lambda call: act(call, project))
        return Reply({"auto_allocated_topology": found})

    async def delete_topology(self, request: Request) -> Reply:
        """Delete the network that a project got by asking, with its router"""
        project = self._project(request)
        await self.engine.write(request.context, lambda call: topology.delete(call, project))
        return Reply(status=204)

    def _project(self, request: Request) -> str:
        """The project that the path names; null and None are the caller's."""
        named = request.path["project"]
        project = request.context.project_id if named in ("null", "None") else named
        if not project:
            raise dialect.no_such("A project")
        return project

    async def zones(self, request: Request) -> Reply:
        """List the availability zones"""
        self.engine.require("get_availability_zone", request.context, {})

        def run(reader: Reader) -> list[dict[str, str]]:
            hosts = reader.select(Host)
            zone_of = zones(reader, hosts)
            alive = {"network": [h for h in hosts if h.alive]}
            alive["router"] = [h for h in alive["network"] if h.carries_gateways]
            there = {resource: {zone_of[h.id] for h in found} for resource, found in alive.items()}
            return [
                {"name": name, "resource": resource, "state": "available" if name in well else "unavailable"}
                for name in sorted(set(zone_of.values()))
                for resource, well in there.items()
            ]

        return Reply({"availability_zones": await self.engine.read(run)})

    async def extensions(self, request: Request) -> Reply:
        """List what is offered beside the core"""
        return Reply({"extensions": extensions.entries()})

    async def extension(self, request: Request) -> Reply:
        """Show one extension"""
        found = extensions.entry(request.path["alias"])
        if found is None:
            raise dialect.no_such(f"Extension {request.path['alias'][:80]}")
        return Reply({"extension": found})

    async def versions(self, request: Request) -> Reply:
        """List the versions of the API"""
        link = {"rel": "self", "href": f"{request.base_url}/v2.0/"}
        return Reply({"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]})

    async def root(self, request: Request) -> Reply:
        """List the kinds of resources"""
        resources = []
        for cls in KINDS:
            spec = spec_of(cls)
            link = {"rel": "self", "href": f"{request.base_url}{path_of(spec)}"}
            resources.append({"name": spec.kind, "collection": spec.plural, "links": [link]})
        return Reply({"resources": resources})

    # Quotas.

    async def all_quotas(self, request: Request) -> Reply:
        """List the limits that were set"""
        self.engine.require("get_quota", request.context, {})
        return Reply({"quotas": await self.engine.read(quotas.everything)})

    async def show_quota(self, request: Request) -> Reply:
        """Show the limits of a project"""
        project = request.path["project"]
        if project in ("tenant", "project"):
            return Reply({project: {f"{project}_id": request.context.project_id}})
        self._may_see(request, project)
        return Reply({"quota": await self.engine.read(lambda reader: quotas.of(reader, project))})

    async def default_quota(self, request: Request) -> Reply:
        """Show the limits of a project for which none were set"""
        self._may_see(request, request.path["project"])
        return Reply({"quota": quotas.defaults()})

    async def quota_details(self, request: Request) -> Reply:
        """Show limits and use of a project"""
        project = request.path["project"]
        self._may_see(request, project)
        return Reply({"quota": await self.engine.read(lambda reader: quotas.details(reader, project))})

    async def change_quota(self, request: Request) -> Reply:
        """Set limits of a project"""
        project = request.path["project"]
        body = await request.envelope("quota")
        self.engine.require("update_quota", request.context, {"project_id": project})
        changed = await self.engine.write(request.context, lambda call: quotas.change(call.tx, project, body))
        return Reply({"quota": changed})

    async def reset_quota(self, request: Request) -> Reply:
        """Give a project the default limits again"""
        project = request.path["project"]
        self.engine.require("delete_quota", request.context, {"project_id": project})
        await self.engine.write(request.context, lambda call: quotas.reset(call.tx, project))
        return Reply(status=204)

    def _may_see(self, request: Request, project: str) -> None:
        if project != request.context.project_id:
            self.engine.require("get_quota", request.context, {"project_id": project})

    def endpoints(self) -> list[Endpoint]:
        """All of them."""

        def at(method: str, path: str, handler: Handle, **more: Any) -> Endpoint:
            return Endpoint(method, path, handler, summary=(handler.__doc__ or "").strip(), **more)

        router, quota = "/v2.0/routers/{id}", "/v2.0/quotas/{project}"
        pool, prefixes = "/v2.0/subnetpools/{id}", openapi.shape_schema(subnetpools.Prefixes)
        group, members = "/v2.0/address-groups/{id}", openapi.shape_schema(address_groups.Addresses)
        trunk, bound = "/v2.0/trunks/{id}", "/v2.0/ports/{id}/bindings"
        led = "/v2.0/local_ips/{id}/port_associations"
        leg = openapi.shape_schema(interfaces.Interface)
        routes = openapi.shape_schema(interfaces.RouteChange, "router")
        ways = openapi.shape_schema(multihoming.GatewayChange, "router")
        return [
            at("GET", "/", self.versions, token=False),
            at("GET", "/v2.0", self.root),
            at("GET", "/v2.0/", self.root),
            at("GET", "/v2.0/extensions", self.extensions),
            at("GET", "/v2.0/extensions/{alias}", self.extension),
            at("PUT", f"{router}/add_router_interface", self.add_interface, kind="router", request=leg),
            at("PUT", f"{router}/remove_router_interface", self.remove_interface, kind="router", request=leg),
            at("PUT", f"{router}/add_extraroutes", self.add_routes, kind="router", request=routes),
            at("PUT", f"{router}/remove_extraroutes", self.remove_routes, kind="router", request=routes),
            at("PUT", f"{pool}/add_prefixes", self.add_prefixes, kind="subnetpool", request=prefixes),
            at("PUT", f"{pool}/remove_prefixes", self.remove_prefixes, kind="subnetpool", request=prefixes),
            at(
                "PUT",
                f"{pool}/onboard_network_subnets",
                self.onboard,
                kind="subnetpool",
                request=openapi.shape_schema(subnetpools.Onboarding),
            ),
            at("PUT", f"{group}/add_addresses", self.add_addresses, kind="address_group", request=members),
            at(
                "PUT",
                f"{group}/remove_addresses",
                self.remove_addresses,
                kind="address_group",
                request=members,
            ),
            at("GET", bound, self.bindings, kind="port"),
            at("POST", bound, self.add_binding, kind="port", success=201, request=_BINDING),
            at("PUT", f"{bound}/{{host}}/activate", self.activate_binding, kind="port"),
            at("DELETE", f"{bound}/{{host}}", self.remove_binding, kind="port", success=204),
            at("GET", led, self.associations, kind="local_ip"),
            at("POST", led, self.associate, kind="local_ip", success=201, request=_ASSOCIATION),
            at("GET", f"{led}/{{port}}", self.association, kind="local_ip"),
            at("DELETE", f"{led}/{{port}}", self.dissociate, kind="local_ip", success=204),
            at("GET", f"{trunk}/get_subports", self.subports, kind="trunk"),
            at("PUT", f"{trunk}/add_subports", self.add_subports, kind="trunk", request=_SUBPORTS),
            at("PUT", f"{trunk}/remove_subports", self.remove_subports, kind="trunk", request=_REMOVED),
            at("PUT", f"{router}/add_external_gateways", self.add_gateways, kind="router", request=ways),
            at(
                "PUT", f"{router}/remove_external_gateways", self.remove_gateways, kind="router", request=ways
            ),
            at(
                "PUT", f"{router}/update_external_gateways", self.update_gateways, kind="router", request=ways
            ),
            at("GET", "/v2.0/service-providers", self.service_providers),
            at("GET", "/v2.0/floatingip_pools", self.pools),
            at("GET", "/v2.0/floatingip-pools", self.pools),
            at("GET", "/v2.0/network-ip-availabilities", self.availabilities),
            at("GET", "/v2.0/network-ip-availabilities/{network}", self.availability),
            at("GET", "/v2.0/auto-allocated-topology/{project}", self.topology),
            at("DELETE", "/v2.0/auto-allocated-topology/{project}", self.delete_topology, success=204),
            at("GET", "/v2.0/availability_zones", self.zones),
            at("GET", "/v2.0/log/loggable-resources", self.loggable),
            at("GET", "/v2.0/quotas", self.all_quotas),
            at("GET", quota, self.show_quota),
            at("PUT", quota, self.change_quota, request=quotas.SCHEMA),
            at("DELETE", quota, self.reset_quota, success=204),
            at("GET", f"{quota}/default", self.default_quota),
            at("GET", f"{quota}/details", self.quota_details),
        ]


_ASSOCIATION = openapi.shape_schema(local_ips.Wanted, "port_association")
_BINDING = openapi.shape_schema(bindings.Wanted, "binding")
_SUBPORTS = openapi.shape_schema(trunks.Added)
_REMOVED = openapi.shape_schema(trunks.Removed)
