"""The hosts of routers' gateways: by availability zone, and one alone or several."""

from __future__ import annotations

from typing import Any

from network_lab import ANN, ROOT, Cloud, cloud, hosts_of

from trunkline.resources.compute import Aggregate

__all__ = ["cloud"]


def zone(cloud: Cloud, name: str, *hosts: str) -> None:
    """Makes hosts a zone, as an aggregate of the Compute API does."""
    made = Aggregate(id=name, number=1, name=name, zone=name, hosts=list(hosts))
    cloud.store.write_sync(lambda tx: tx.insert(made))


def router(cloud: Cloud, **fields: Any) -> dict[str, Any]:
    """A router with a gateway, of an operator."""
    (public,) = cloud.all("network", "?router:external=true", by=ROOT) or [cloud.public()[0]]
    return cloud.make("router", by=ROOT, external_gateway_info={"network_id": public["id"]}, **fields)


def test_a_gateway_is_in_the_zones_that_its_router_asks_for(cloud: Cloud) -> None:
    cloud.hosts("h1", "h2", "h3", "h4")
    zone(cloud, "edge", "h2", "h4")
    there = router(cloud, availability_zone_hints=["edge"])
    assert (there["availability_zone_hints"], there["availability_zones"]) == (["edge"], ["edge"])
    assert hosts_of(cloud, there) == ["h2", "h4"]
    assert hosts_of(cloud, router(cloud, availability_zone_hints=["nova"])) == ["h1", "h3"]
    both = router(cloud, availability_zone_hints=["nova", "edge"])
    assert hosts_of(cloud, both) == ["h1", "h2", "h3", "h4"]
    anywhere = router(cloud)
    assert anywhere["availability_zone_hints"] == []
    assert anywhere["availability_zones"] == ["edge", "nova"]


def test_a_router_without_a_gateway_is_in_no_zone(cloud: Cloud) -> None:
    cloud.hosts("h1")
    assert cloud.make("router", availability_zone_hints=["nova"])["availability_zones"] == []


def test_a_gateway_that_comes_later_obeys_the_zones_too(cloud: Cloud) -> None:
    cloud.hosts("h1", "h2")
    zone(cloud, "edge", "h2")
    public, _ = cloud.public()
    made = cloud.make("router", availability_zone_hints=["edge"])
    cloud.change("router", made["id"], external_gateway_info={"network_id": public["id"]})
    assert hosts_of(cloud, made) == ["h2"]


def test_a_zone_that_there_is_not_is_refused(cloud: Cloud) -> None:
    cloud.hosts("h1")
    refused = cloud.refuses("router", availability_zone_hints=["nova", "mars"])
    assert refused == (404, "AvailabilityZoneNotFound")
    for hints in ("nova", [""], [7], ["x" * 256], [f"z{n}" for n in range(17)]):
        assert cloud.refuses("router", availability_zone_hints=hints)[0] == 400
    made = cloud.make("router", availability_zone_hints=["nova"])
    body = {"router": {"availability_zone_hints": []}}
    assert cloud.refused("PUT", f"/routers/{made['id']}", body)[0] == 400


def test_a_router_that_is_not_highly_available_has_one_host(cloud: Cloud) -> None:
    cloud.hosts("h1", "h2", "h3")
    made = router(cloud, ha=False)
    assert made["ha"] is False
    (one,) = hosts_of(cloud, made)
    assert cloud.change("router", made["id"], by=ROOT, ha=True)["ha"] is True
    assert hosts_of(cloud, made) == ["h1", "h2", "h3"]
    cloud.change("router", made["id"], by=ROOT, ha=False)
    assert hosts_of(cloud, made) == [one]


def test_availability_is_the_operators(cloud: Cloud) -> None:
    assert cloud.refuses("router", ha=True)[0] == 403
    made = cloud.make("router")
    assert "ha" not in made
    assert cloud.show("router", made["id"], by=ROOT)["ha"] is True
    assert cloud.refused("PUT", f"/routers/{made['id']}", {"router": {"ha": False}}, by=ANN)[0] == 403


def test_zones_of_aggregates_are_zones_of_networks_and_routers(cloud: Cloud) -> None:
    cloud.hosts("h1", "h2")
    zone(cloud, "edge", "h2")
    listed = cloud.ask("GET", "/availability_zones").json()["availability_zones"]
    assert [(z["name"], z["resource"]) for z in listed] == [
        ("edge", "network"),
        ("edge", "router"),
        ("nova", "network"),
        ("nova", "router"),
    ]
