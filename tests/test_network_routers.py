"""Routers: interfaces, gateways, routes; floating IPs through them."""

from __future__ import annotations

from typing import Any

import pytest
from network_lab import ANN, BOB, ROOT, Cloud, addresses, cloud

__all__ = ["cloud"]

ADD, REMOVE = "add_router_interface", "remove_router_interface"


def verb(cloud: Cloud, router: dict[str, Any], name: str, **body: Any) -> tuple[int, str]:
    return cloud.refused("PUT", f"/routers/{router['id']}/{name}", body)


def test_a_subnet_is_attached_by_its_gateway_address(cloud: Cloud) -> None:
    network, (subnet,) = cloud.net("10.0.0.0/24")
    router = cloud.make("router", name="r")
    leg = cloud.attach(router, subnet)
    assert (leg["id"], leg["subnet_ids"], leg["network_id"]) == (router["id"], [subnet["id"]], network["id"])
    port = cloud.show("port", leg["port_id"])
    assert (addresses(port), port["device_id"]) == (["10.0.0.1"], router["id"])
    assert port["device_owner"] == "network:router_interface"
    reply = cloud.ask("PUT", f"/routers/{router['id']}/{REMOVE}", {"subnet_id": subnet["id"]})
    assert (reply.status_code, reply.json()["port_id"]) == (200, port["id"])
    assert cloud.refused("GET", f"/ports/{port['id']}") == (404, "PortNotFound")


def test_a_port_is_attached_by_its_own_address(cloud: Cloud) -> None:
    network, (subnet,) = cloud.net("10.0.0.0/24")
    port = cloud.make("port", network_id=network["id"], fixed_ips=[{"ip_address": "10.0.0.99"}])
    router = cloud.make("router")
    reply = cloud.ask("PUT", f"/routers/{router['id']}/{ADD}", {"port_id": port["id"]})
    assert reply.json()["subnet_id"] == subnet["id"]
    leg = cloud.show("port", port["id"])
    assert (leg["device_id"], leg["security_groups"]) == (router["id"], [])
    assert verb(cloud, cloud.make("router"), ADD, port_id=port["id"]) == (409, "PortInUse")


def test_ipv6_subnets_of_a_network_share_one_leg(cloud: Cloud) -> None:
    _, (four, six, more) = cloud.net("10.0.0.0/24", "fd00:a::/64", "fd00:b::/64")
    router = cloud.make("router")
    legs = [cloud.attach(router, subnet)["port_id"] for subnet in (four, six, more)]
    assert legs[1] == legs[2] != legs[0]
    assert addresses(cloud.show("port", legs[1])) == ["fd00:a::1", "fd00:b::1"]
    cloud.ask("PUT", f"/routers/{router['id']}/{REMOVE}", {"subnet_id": six["id"]})
    assert addresses(cloud.show("port", legs[1])) == ["fd00:b::1"]


def test_an_interface_that_cannot_be_is_refused(cloud: Cloud) -> None:
    network, (subnet,) = cloud.net("10.0.0.0/24")
    _, (same,) = cloud.net("10.0.0.0/25")
    router = cloud.make("router")
    bare = cloud.sub(network, "10.7.0.0/24", gateway_ip=None)
    nothing = "0b7b1d0e-8a3c-4d5b-9f58-1c7b0b6f1f6e"
    assert verb(cloud, router, ADD, subnet_id=bare["id"]) == (400, "BadRequest")
    assert verb(cloud, router, ADD) == (400, "BadRequest")
    assert verb(cloud, router, ADD, subnet_id="x")[0] == 400
    assert verb(cloud, router, ADD, subnet_id=nothing) == (404, "SubnetNotFound")
    assert verb(cloud, router, ADD, port_id=nothing) == (404, "PortNotFound")
    assert verb(cloud, router, ADD, subnet_id=subnet["id"], port_id=nothing)[0] == 400
    assert verb(cloud, router, REMOVE, subnet_id=subnet["id"]) == (404, "RouterInterfaceNotFoundForSubnet")
    assert verb(cloud, router, REMOVE, port_id=nothing) == (404, "RouterInterfaceNotFound")
    cloud.attach(router, subnet)
    assert verb(cloud, router, ADD, subnet_id=subnet["id"])[0] == 400
    assert verb(cloud, router, ADD, subnet_id=same["id"])[0] == 400
    assert verb(cloud, cloud.make("router"), ADD, subnet_id=subnet["id"]) == (409, "IpAddressInUse")


def test_others_subnets_cannot_be_attached(cloud: Cloud) -> None:
    _, (subnet,) = cloud.net("10.0.0.0/24", by=BOB)
    assert verb(cloud, cloud.make("router"), ADD, subnet_id=subnet["id"]) == (404, "SubnetNotFound")


def test_a_router_with_interfaces_is_not_deleted(cloud: Cloud) -> None:
    _, (subnet,) = cloud.net("10.0.0.0/24")
    router = cloud.make("router")
    cloud.attach(router, subnet)
    assert cloud.refused("DELETE", f"/routers/{router['id']}") == (409, "RouterInUse")


def test_a_gateway_has_addresses_and_hosts(cloud: Cloud) -> None:
    cloud.hosts("h1", "h2", "h3")
    public, subnet = cloud.public()
    router = cloud.make("router", external_gateway_info={"network_id": public["id"]})
    info = router["external_gateway_info"]
    assert info == {
        "network_id": public["id"],
        "enable_snat": True,
        "external_fixed_ips": [{"subnet_id": subnet["id"], "ip_address": "203.0.113.2"}],
        "qos_policy_id": None,
    }
    (port,) = cloud.all("port", "?device_owner=network:router_gateway", by=ROOT)
    assert (port["device_id"], port["project_id"]) == (router["id"], "")
    assert cloud.all("port", "?device_owner=network:router_gateway") == []
    gone = cloud.change("router", router["id"], external_gateway_info={})
    assert gone["external_gateway_info"] is None
    assert cloud.all("port", "?device_owner=network:router_gateway", by=ROOT) == []


def test_admins_choose_the_gateways_address_and_snat(cloud: Cloud) -> None:
    public, _ = cloud.public()
    chosen = {
        "network_id": public["id"],
        "enable_snat": False,
        "external_fixed_ips": [{"ip_address": "203.0.113.99"}],
    }
    assert cloud.refuses("router", external_gateway_info=chosen)[0] == 403
    router = cloud.make("router", by=ROOT, external_gateway_info=chosen)
    assert router["external_gateway_info"]["enable_snat"] is False
    assert router["external_gateway_info"]["external_fixed_ips"][0]["ip_address"] == "203.0.113.99"
    assert cloud.refuses("router", by=ROOT, external_gateway_info=chosen) == (409, "IpAddressInUse")
    moved = {**chosen, "external_fixed_ips": [{"ip_address": "203.0.113.98"}]}
    info = cloud.change("router", router["id"], by=ROOT, external_gateway_info=moved)["external_gateway_info"]
    assert info["external_fixed_ips"][0]["ip_address"] == "203.0.113.98"
    cloud.make("router", by=ROOT, external_gateway_info=chosen)


def test_a_gateway_is_on_an_external_network_with_addresses(cloud: Cloud) -> None:
    network, _ = cloud.net("10.0.0.0/24")
    assert cloud.refuses("router", external_gateway_info={"network_id": network["id"]})[0] == 400
    empty = cloud.make("network", by=ROOT, router__external=True)
    assert cloud.refuses("router", external_gateway_info={"network_id": empty["id"]})[0] == 400
    nothing = "0b7b1d0e-8a3c-4d5b-9f58-1c7b0b6f1f6e"
    refused = cloud.refuses("router", external_gateway_info={"network_id": nothing})
    assert refused == (404, "NetworkNotFound")
    assert cloud.refuses("router", external_gateway_info={"enable_snat": True})[0] == 400


def test_hosts_that_come_are_wanted_for_gateways(cloud: Cloud) -> None:
    from trunkline.api.context import CLOUD
    from trunkline.api.network import reschedule
    from trunkline.resources.network import Router

    public, _ = cloud.public()
    router = cloud.make("router", external_gateway_info={"network_id": public["id"]})
    cloud.hosts("h1", "h2", "h3")
    assert cloud.loop.run_until_complete(cloud.engine.write(CLOUD, reschedule)) == 1
    with cloud.store.read() as reader:
        stored = reader.get(Router, router["id"])
    assert stored is not None
    assert sorted(stored.gateway_hosts) == ["h1", "h2", "h3"]
    assert cloud.loop.run_until_complete(cloud.engine.write(CLOUD, reschedule)) == 0


def test_only_operators_see_and_choose_whether_a_router_is_distributed(cloud: Cloud) -> None:
    router = cloud.make("router")
    assert "distributed" not in router
    assert cloud.refused("PUT", f"/routers/{router['id']}", {"router": {"distributed": True}})[0] == 403
    assert cloud.show("router", router["id"], by=ROOT)["distributed"] is False
    assert cloud.change("router", router["id"], by=ROOT, distributed=True)["distributed"] is True
    assert cloud.make("router", by=ROOT, distributed=True)["distributed"] is True


def test_routes_lead_to_neighbours(cloud: Cloud) -> None:
    _, (subnet,) = cloud.net("10.0.0.0/24")
    router = cloud.make("router")
    cloud.attach(router, subnet)
    where = f"/routers/{router['id']}"
    route = {"destination": "10.9.0.0/16", "nexthop": "10.0.0.9"}
    assert cloud.change("router", router["id"], routes=[route])["routes"] == [route]
    for nexthop in ("10.0.0.1", "10.8.0.1"):
        bad = {"router": {"routes": [{**route, "nexthop": nexthop}]}}
        assert cloud.refused("PUT", where, bad) == (400, "InvalidRoutes")
    refused = verb(cloud, router, REMOVE, subnet_id=subnet["id"])
    assert refused == (409, "RouterInterfaceInUseByRoute")
    assert cloud.change("router", router["id"], routes=None)["routes"] == []


def test_routes_are_added_and_removed_one_by_one(cloud: Cloud) -> None:
    _, (subnet,) = cloud.net("10.0.0.0/24")
    router = cloud.make("router")
    cloud.attach(router, subnet)
    a, b = ({"destination": f"10.{n}.0.0/16", "nexthop": "10.0.0.9"} for n in (8, 9))

    def ask(name: str, *routes: Any) -> list[Any]:
        reply = cloud.ask("PUT", f"/routers/{router['id']}/{name}", {"router": {"routes": list(routes)}})
        assert reply.status_code == 200, reply.text
        return list(reply.json()["router"]["routes"])

    assert ask("add_extraroutes", a) == [a]
    assert ask("add_extraroutes", b, a) == [a, b]
    assert ask("remove_extraroutes", a) == [b]
    assert ask("remove_extraroutes", a) == [b]


class Outside:
    """A server's port behind a router with a gateway."""

    def __init__(self, cloud: Cloud) -> None:
        self.public, _ = cloud.public()
        self.network, (self.subnet,) = cloud.net("10.0.0.0/24")
        self.router = cloud.make("router", external_gateway_info={"network_id": self.public["id"]})
        self.leg = cloud.attach(self.router, self.subnet)
        self.port = cloud.make("port", network_id=self.network["id"])


def test_a_floating_ip_stands_for_a_ports_address(cloud: Cloud) -> None:
    out = Outside(cloud)
    floating = cloud.make("floatingip", floating_network_id=out.public["id"], port_id=out.port["id"])
    assert floating["fixed_ip_address"] == addresses(out.port)[0]
    assert floating["router_id"] == out.router["id"]
    assert floating["floating_ip_address"].startswith("203.0.113.")
    assert floating["port_details"]["mac_address"] == out.port["mac_address"]
    free = cloud.change("floatingip", floating["id"], port_id=None)
    assert (free["port_id"], free["router_id"], free["fixed_ip_address"]) == (None, None, None)
    again = cloud.change("floatingip", floating["id"], port_id=out.port["id"])
    assert again["port_id"] == out.port["id"]


def test_a_floating_ip_outlives_its_port(cloud: Cloud) -> None:
    out = Outside(cloud)
    floating = cloud.make("floatingip", floating_network_id=out.public["id"], port_id=out.port["id"])
    cloud.remove("port", out.port["id"])
    assert cloud.show("floatingip", floating["id"])["port_id"] is None


def test_a_floating_ip_gives_its_address_back(cloud: Cloud) -> None:
    out = Outside(cloud)
    one = cloud.make("floatingip", floating_network_id=out.public["id"])
    where = {"floating_network_id": out.public["id"], "floating_ip_address": one["floating_ip_address"]}
    assert cloud.refuses("floatingip", **where)[0] == 403
    assert cloud.refuses("floatingip", by=ROOT, **where) == (409, "IpAddressInUse")
    cloud.remove("floatingip", one["id"])
    cloud.make("floatingip", by=ROOT, **where)


def test_a_floating_ip_holds_no_more_than_its_address(cloud: Cloud) -> None:
    out = Outside(cloud)
    modes = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    cloud.sub(out.public, "2001:db8:113::/64", by=ROOT, **modes)
    floating = cloud.make("floatingip", floating_network_id=out.public["id"])
    (port,) = cloud.all("port", f"?device_id={floating['id']}", by=ROOT)
    assert addresses(port) == [floating["floating_ip_address"]]
    with cloud.store.read() as reader:
        assert len([scope for scope, _ in reader.claims_of(port["id"]) if scope.startswith("ip:")]) == 1


def test_the_address_is_named_where_a_port_has_several(cloud: Cloud) -> None:
    out = Outside(cloud)
    fixed = [{"ip_address": "10.0.0.50"}, {"ip_address": "10.0.0.51"}]
    port = cloud.make("port", network_id=out.network["id"], fixed_ips=fixed)
    base = {"floating_network_id": out.public["id"], "port_id": port["id"]}
    assert cloud.refuses("floatingip", **base)[0] == 400
    assert cloud.refuses("floatingip", **base, fixed_ip_address="10.0.0.52")[0] == 400
    one = cloud.make("floatingip", **base, fixed_ip_address="10.0.0.51")
    assert one["fixed_ip_address"] == "10.0.0.51"
    twice = cloud.refuses("floatingip", **base, fixed_ip_address="10.0.0.51")
    assert twice == (409, "FloatingIPPortAlreadyAssociated")
    cloud.make("floatingip", **base, fixed_ip_address="10.0.0.50")
    refused = cloud.refused("PUT", f"/ports/{port['id']}", {"port": {"fixed_ips": fixed[:1]}})
    assert refused == (409, "PortInUse")


def test_a_floating_ip_needs_a_way_from_outside(cloud: Cloud) -> None:
    out = Outside(cloud)
    other, _ = cloud.net("10.5.0.0/24")
    port = cloud.make("port", network_id=other["id"])
    base = {"floating_network_id": out.public["id"]}
    refused = cloud.refuses("floatingip", **base, port_id=port["id"])
    assert refused == (404, "ExternalGatewayForFloatingIPNotFound")
    assert cloud.refuses("floatingip", floating_network_id=other["id"])[0] == 400
    assert cloud.refuses("floatingip", **base, fixed_ip_address="10.0.0.3")[0] == 400
    theirs, _ = cloud.net("10.6.0.0/24", by=BOB)
    hidden = cloud.make("port", by=BOB, network_id=theirs["id"])
    assert cloud.refuses("floatingip", **base, port_id=hidden["id"]) == (404, "PortNotFound")
    assert cloud.all("floatingip") == []


@pytest.mark.parametrize("what", ["gateway", "interface"])
def test_the_way_stays_while_a_floating_ip_needs_it(cloud: Cloud, what: str) -> None:
    out = Outside(cloud)
    cloud.make("floatingip", floating_network_id=out.public["id"], port_id=out.port["id"])
    if what == "gateway":
        body = {"router": {"external_gateway_info": None}}
        refused = cloud.refused("PUT", f"/routers/{out.router['id']}", body)
        assert refused == (409, "RouterExternalGatewayInUseByFloatingIp")
    else:
        refused = verb(cloud, out.router, REMOVE, subnet_id=out.subnet["id"])
        assert refused == (409, "RouterInterfaceInUseByFloatingIP")


def test_unused_floating_ips_go_with_their_network(cloud: Cloud) -> None:
    public, _ = cloud.public()
    cloud.make("floatingip", floating_network_id=public["id"])
    cloud.remove("network", public["id"], by=ROOT)
    assert cloud.all("floatingip") == cloud.all("port", by=ROOT) == []


def test_pools_are_the_ipv4_subnets_outside(cloud: Cloud) -> None:
    public, subnet = cloud.public()
    (pool,) = cloud.ask("GET", "/floatingip_pools").json()["floatingip_pools"]
    assert (pool["network_id"], pool["subnet_id"]) == (public["id"], subnet["id"])
    floating = cloud.make("floatingip", floating_network_id=public["id"], subnet_id=subnet["id"])
    assert floating["floating_ip_address"].startswith("203.0.113.")
    assert ANN != BOB
