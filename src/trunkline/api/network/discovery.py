"""What there is to know of the Network API and its cloud: versions, extensions, zones, addresses left."""

from __future__ import annotations

from typing import Any

from trunkline.api.engine import Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.api.network import availability, dialect, extensions, logs, topology
from trunkline.api.network.collection import Handle, path_of
from trunkline.api.network.kinds import KINDS
from trunkline.api.zones import zones
from trunkline.resources.network import Network, Subnet
from trunkline.resources.region import Host
from trunkline.resources.schema import spec_of
from trunkline.store import Reader, table_of


class Discovery:
    """What clients ask to learn what they may ask for."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

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

    async def extensions(self, request: Request) -> Reply:
        """List what is offered beside the core"""
        return Reply({"extensions": extensions.entries()})

    async def extension(self, request: Request) -> Reply:
        """Show one extension"""
        found = extensions.entry(request.path["alias"])
        if found is None:
            raise dialect.no_such(f"Extension {request.path['alias'][:80]}")
        return Reply({"extension": found})

    async def service_providers(self, request: Request) -> Reply:
        """List who provides services"""
        self.engine.require("get_service_provider", request.context, {})
        provider = {"service_type": "L3_ROUTER_NAT", "name": "ovn", "default": True}
        return Reply({"service_providers": [provider]})

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

    def endpoints(self) -> list[Endpoint]:
        """All of them."""

        def at(method: str, path: str, handler: Handle, **more: Any) -> Endpoint:
            return Endpoint(method, path, handler, summary=(handler.__doc__ or "").strip(), **more)

        return [
            at("GET", "/", self.versions, token=False),
            at("GET", "/v2.0", self.root),
            at("GET", "/v2.0/", self.root),
            at("GET", "/v2.0/extensions", self.extensions),
            at("GET", "/v2.0/extensions/{alias}", self.extension),
            at("GET", "/v2.0/service-providers", self.service_providers),
            at("GET", "/v2.0/floatingip_pools", self.pools),
            at("GET", "/v2.0/floatingip-pools", self.pools),
            at("GET", "/v2.0/network-ip-availabilities", self.availabilities),
            at("GET", "/v2.0/network-ip-availabilities/{network}", self.availability),
            at("GET", "/v2.0/auto-allocated-topology/{project}", self.topology),
            at("DELETE", "/v2.0/auto-allocated-topology/{project}", self.delete_topology, success=204),
            at("GET", "/v2.0/availability_zones", self.zones),
            at("GET", "/v2.0/log/loggable-resources", self.loggable),
        ]
