"""What of the Network API is no create, read, update or delete of a resource."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trunkline.api import openapi
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.api.network import (
    address_groups,
    bindings,
    firewalls,
    interfaces,
    local_ips,
    multihoming,
    subnetpools,
    trunks,
)
from trunkline.api.network.collection import Handle
from trunkline.resources.network import (
    AddressGroup,
    FirewallPolicy,
    Router,
    Trunk,
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

    async def insert_rule(self, request: Request) -> Reply:
        """Put a rule into a firewall policy"""
        return await self._rule(request, firewalls.insert_rule)

    async def remove_rule(self, request: Request) -> Reply:
        """Take a rule out of a firewall policy"""
        return await self._rule(request, firewalls.remove_rule)

    async def _rule(self, request: Request, change: Callable[[Call, str, Any], FirewallPolicy]) -> Reply:
        body, id = await request.json(), request.path["id"]

        def run(call: Call) -> dict[str, Any]:
            return self.engine.render(call.tx, call.context, [change(call, id, body)])[0]

        return Reply(await self.engine.write(request.context, run))

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

    def endpoints(self) -> list[Endpoint]:
        """All of them."""

        def at(method: str, path: str, handler: Handle, **more: Any) -> Endpoint:
            return Endpoint(method, path, handler, summary=(handler.__doc__ or "").strip(), **more)

        router = "/v2.0/routers/{id}"
        pool, prefixes = "/v2.0/subnetpools/{id}", openapi.shape_schema(subnetpools.Prefixes)
        group, members = "/v2.0/address-groups/{id}", openapi.shape_schema(address_groups.Addresses)
        trunk, bound = "/v2.0/trunks/{id}", "/v2.0/ports/{id}/bindings"
        led = "/v2.0/local_ips/{id}/port_associations"
        policy, inserted = "/v2.0/fwaas/firewall_policies/{id}", openapi.shape_schema(firewalls.Inserted)
        removed = openapi.shape_schema(firewalls.Removed)
        leg = openapi.shape_schema(interfaces.Interface)
        routes = openapi.shape_schema(interfaces.RouteChange, "router")
        ways = openapi.shape_schema(multihoming.GatewayChange, "router")
        return [
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
            at("PUT", f"{policy}/insert_rule", self.insert_rule, kind="firewall_policy", request=inserted),
            at("PUT", f"{policy}/remove_rule", self.remove_rule, kind="firewall_policy", request=removed),
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
        ]


_ASSOCIATION = openapi.shape_schema(local_ips.Wanted, "port_association")
_BINDING = openapi.shape_schema(bindings.Wanted, "binding")
_SUBPORTS = openapi.shape_schema(trunks.Added)
_REMOVED = openapi.shape_schema(trunks.Removed)
