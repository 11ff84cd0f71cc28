"""NDP proxies: which routers, whose ports, which addresses; and what waits for them."""

from __future__ import annotations

from typing import Any

import pytest
from network_lab import ANN, BOB, ROOT, Cloud, cloud

__all__ = ["cloud"]


class Site:
    """A router with a gateway and an inner IPv6 network, in one address scope."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.scope = cloud.make("address_scope", by=ROOT, ip_version=6, shared=True)
        self.pool = cloud.make(
            "subnetpool",
            by=ROOT,
            name="pool",
            prefixes=["2001:db8::/48"],
            default_prefixlen=64,
            shared=True,
            address_scope_id=self.scope["id"],
        )
        self.public = cloud.public()[0]
        self.outer = self.subnet(self.public, by=ROOT)
        self.network = cloud.make("network")
        self.inner = self.subnet(self.network)
        gateway = {"network_id": self.public["id"]}
        self.router = cloud.make("router", external_gateway_info=gateway, enable_ndp_proxy=True)
        cloud.attach(self.router, self.inner)
        self.port = cloud.make("port", network_id=self.network["id"])

    def subnet(self, on: dict[str, Any], *, by: str = ANN) -> dict[str, Any]:
        """A subnet of the pool."""
        return self.cloud.make(
            "subnet", by=by, network_id=on["id"], ip_version=6, subnetpool_id=self.pool["id"]
        )

    def proxy(self, **fields: Any) -> dict[str, Any]:
        """A proxy for the port."""
        return self.cloud.make("ndp_proxy", **{**self.wanted, **fields})

    @property
    def wanted(self) -> dict[str, Any]:
        """What a request for that says."""
        return {"router_id": self.router["id"], "port_id": self.port["id"]}

    def refuses(self, *, by: str = ANN, **fields: Any) -> tuple[int, str]:
        """Why a request is refused."""
        return self.cloud.refuses("ndp_proxy", by=by, **{**self.wanted, **fields})

    def set(self, **fields: Any) -> tuple[int, str]:
        """Why a change of the router is refused."""
        return self.cloud.refused("PUT", f"/routers/{self.router['id']}", {"router": fields})


@pytest.fixture
def site(cloud: Cloud) -> Site:
    return Site(cloud)


def test_a_proxy_is_shown_renamed_listed_and_goes_with_its_port(site: Site) -> None:
    cloud, made = site.cloud, site.proxy(name="n", description="d")
    assert made["ip_address"] == site.port["fixed_ips"][0]["ip_address"]
    assert cloud.show("ndp_proxy", made["id"]) == made
    assert cloud.change("ndp_proxy", made["id"], name="m")["name"] == "m"
    (listed,) = cloud.all("ndp_proxy", f"?router_id={site.router['id']}&ip_address={made['ip_address']}")
    assert listed["id"] == made["id"]
    assert cloud.refused("GET", f"/ndp_proxies/{made['id']}", by=BOB)[0] == 404
    cloud.remove("port", site.port["id"])
    assert cloud.all("ndp_proxy") == []


def test_one_address_has_one_proxy(site: Site) -> None:
    made = site.proxy()
    assert site.refuses() == (409, "NDPProxyInUse")
    site.cloud.remove("ndp_proxy", made["id"])
    site.proxy(ip_address=made["ip_address"])


def test_only_a_router_with_an_ipv6_gateway_in_a_scope_is_a_proxy(site: Site) -> None:
    cloud = site.cloud
    not_valid = (409, "RouterGatewayNotValid")
    assert cloud.refuses("router", enable_ndp_proxy=True, external_gateway_info={}) == not_valid
    vlan = {"provider:network_type": "vlan", "provider:physical_network": "physnet2"}
    four = cloud.make("network", by=ROOT, router__external=True, **vlan, **{"provider:segmentation_id": 7})
    cloud.make("subnet", by=ROOT, network_id=four["id"], ip_version=6, cidr="2001:db8:9::/64")
    without = {"network_id": four["id"]}
    assert cloud.refuses("router", enable_ndp_proxy=True, external_gateway_info=without) == not_valid
    assert site.set(enable_ndp_proxy=True, external_gateway_info={}) == not_valid
    assert site.set(enable_ndp_proxy=True, external_gateway_info=without) == not_valid
    assert cloud.show("router", site.router["id"])["enable_ndp_proxy"] is True
    changed = cloud.change("router", site.router["id"], external_gateway_info=without)
    assert changed["enable_ndp_proxy"] is False
    assert site.refuses() == (409, "RouterNDPProxyNotEnable")


def test_a_router_made_without_a_gateway_is_a_proxy_from_its_first_one_on(site: Site) -> None:
    # So the openstack command makes routers where several gateways are offered.
    cloud = site.cloud
    router = cloud.make("router", enable_ndp_proxy=True)
    assert site.refuses(router_id=router["id"]) == (409, "RouterNDPProxyNotEnable")
    four = cloud.make("network", by=ROOT, router__external=True)
    cloud.make("subnet", by=ROOT, network_id=four["id"], ip_version=6, cidr="2001:db8:9::/64")
    where = f"/routers/{router['id']}/update_external_gateways"

    def gateway(network: dict[str, Any]) -> dict[str, Any]:
        return {"router": {"external_gateways": [{"network_id": network["id"]}]}}

    assert cloud.refused("PUT", where, gateway(four)) == (409, "RouterGatewayNotValid")
    assert cloud.show("router", router["id"])["external_gateway_info"] is None
    assert cloud.ask("PUT", where, gateway(site.public)).json()["router"]["enable_ndp_proxy"] is True
    taken = cloud.change("router", router["id"], external_gateway_info=None)
    assert taken["enable_ndp_proxy"] is False


def test_what_a_proxy_needs_stays(site: Site) -> None:
    made = site.proxy()
    assert site.set(external_gateway_info={}) == (409, "RouterGatewayInUseByNDPProxy")
    where = f"/routers/{site.router['id']}"
    leg = {"subnet_id": site.inner["id"]}
    assert site.cloud.refused("PUT", f"{where}/remove_router_interface", leg) == (
        409,
        "RouterInterfaceInUseByNDPProxy",
    )
    remove = {"router": {"external_gateways": [{"network_id": site.public["id"]}]}}
    refused = site.cloud.refused("PUT", f"{where}/remove_external_gateways", remove)
    assert refused == (409, "RouterGatewayInUseByNDPProxy")
    fixed = {"port": {"fixed_ips": []}}
    assert site.cloud.refused("PUT", f"/ports/{site.port['id']}", fixed) == (409, "PortInUse")
    site.cloud.remove("ndp_proxy", made["id"])
    assert site.cloud.ask("PUT", f"{where}/remove_router_interface", leg).status_code == 200
    assert site.cloud.change("router", site.router["id"], external_gateway_info=None)


def test_an_address_must_be_the_ports_own_and_behind_the_router_in_its_scope(site: Site) -> None:
    cloud, invalid = site.cloud, (400, "InvalidAddress")
    unreachable = (409, "PortUnreachableRouter")
    assert site.refuses(ip_address="2001:db8:77::1") == invalid
    assert site.refuses(ip_address="203.0.113.9") == invalid
    other = cloud.make("network")
    far = site.subnet(other)
    port = cloud.make("port", network_id=other["id"])
    assert site.refuses(port_id=port["id"]) == unreachable
    assert site.refuses(port_id=port["id"], ip_address=port["fixed_ips"][0]["ip_address"]) == invalid
    cloud.attach(site.router, far)
    site.proxy(port_id=port["id"])
    foreign, (plain,) = cloud.net("2001:db8:8::/64")
    cloud.attach(site.router, plain)
    port = cloud.make("port", network_id=foreign["id"])
    assert site.refuses(port_id=port["id"]) == (409, "AddressScopeConflict")
    four, (only,) = cloud.net("10.0.0.0/24")
    cloud.attach(site.router, only)
    assert site.refuses(port_id=cloud.make("port", network_id=four["id"])["id"]) == unreachable


def test_nobody_has_anothers_port_reached(site: Site) -> None:
    cloud = site.cloud
    cloud.make(
        "rbac_policy",
        object_type="network",
        object_id=site.network["id"],
        action="access_as_shared",
        target_tenant="p2",
    )
    guest = cloud.make("port", by=BOB, network_id=site.network["id"])
    # The owner of the network sees the port, and its guest does not see the router.
    assert site.refuses(port_id=guest["id"]) == (403, "HTTPForbidden")
    assert site.refuses(port_id=guest["id"], by=BOB)[0] == 404
    assert cloud.all("ndp_proxy", by=ROOT) == []
