"""Flavors of routers: an operator's choices become a router's fields, and what is used stays."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from network_lab import ANN, ROOT, Cloud, cloud, hosts_of

from trunkline.resources.compute import Aggregate
from trunkline.resources.network import Router

__all__ = ["cloud"]


def flavor(cloud: Cloud, *metainfo: str, **fields: Any) -> tuple[str, list[str]]:
    """A flavor with a profile for each of these; the ids."""
    body = {"flavor": {"service_type": "L3_ROUTER_NAT", **fields}}
    made = cloud.ask("POST", "/flavors", body, by=ROOT).json()["flavor"]["id"]
    profiles = [cloud.make("service_profile", by=ROOT, metainfo=one)["id"] for one in metainfo]
    for profile in profiles:
        reply = bind(cloud, made, profile)
        assert reply.status_code == 201, reply.text
    return made, profiles


def bind(cloud: Cloud, flavor_id: str, profile: str, by: str = ROOT) -> Any:
    named = {"service_profile": {"id": profile}}
    return cloud.ask("POST", f"/flavors/{flavor_id}/service_profiles", named, by=by)


def test_a_router_is_made_like_its_flavor(cloud: Cloud) -> None:
    cloud.hosts("h1", "h2", "h3")
    public, _ = cloud.public()
    lone, _ = flavor(cloud, '{"ha": false, "availability_zone_hints": ["nova"]}')
    made = cloud.make("router", flavor_id=lone, external_gateway_info={"network_id": public["id"]})
    shown = cloud.show("router", made["id"], by=ROOT)
    assert (shown["flavor_id"], shown["ha"], shown["availability_zone_hints"]) == (lone, False, ["nova"])
    assert len(hosts_of(cloud, made)) == 1


def test_it_is_a_router_as_if_its_operator_had_said_so(cloud: Cloud) -> None:
    cloud.hosts("h1", "h2")
    cloud.store.write_sync(lambda tx: tx.insert(zone("edge", "h2")))
    public, _ = cloud.public()
    said = {"ha": False, "distributed": True, "availability_zone_hints": ["edge"]}
    gateway = {"external_gateway_info": {"network_id": public["id"]}}
    chosen, _ = flavor(cloud, json.dumps(said))
    made, same, other = (
        meant(cloud, cloud.make("router", by=by, **fields, **gateway))
        for by, fields in ((ANN, {"flavor_id": chosen}), (ROOT, said), (ANN, {}))
    )
    assert made == same
    assert made != other


def meant(cloud: Cloud, router: dict[str, Any]) -> dict[str, Any]:
    """What a router is to do, and where: all that is stored of it but its names, owner and addresses."""
    with cloud.store.read() as reader:
        stored = reader.get(Router, router["id"])
    assert stored is not None
    names = {"id", "project_id", "flavor_id", "created_at", "updated_at", "gateway_port_id"}
    fields = msgspec.structs.asdict(replace(stored, external_gateway_info=None))
    return {name: value for name, value in fields.items() if name not in names}


def zone(name: str, *hosts: str) -> Aggregate:
    """An availability zone of these hosts."""
    return Aggregate(id=name, number=1, name=name, zone=name, hosts=list(hosts))


def test_what_becomes_of_a_flavor_changes_no_router(cloud: Cloud) -> None:
    made, (profile,) = flavor(cloud, '{"ha": false}')
    router = cloud.make("router", by=ROOT, flavor_id=made)
    cloud.change("service_profile", profile, by=ROOT, metainfo='{"ha": true}')
    assert cloud.show("router", router["id"], by=ROOT) == router
    assert cloud.make("router", by=ROOT, flavor_id=made)["ha"] is True


def test_the_first_profile_that_is_enabled_decides(cloud: Cloud) -> None:
    made, profiles = flavor(cloud, '{"ha": false}', '{"distributed": true}')
    cloud.change("service_profile", profiles[0], by=ROOT, enabled=False)
    router = cloud.make("router", by=ROOT, flavor_id=made)
    assert (router["ha"], router["distributed"]) == (True, True)


def test_what_the_flavor_decides_a_request_does_not(cloud: Cloud) -> None:
    cloud.hosts("h1")
    made, _ = flavor(cloud, '{"availability_zone_hints": ["nova"]}')
    assert cloud.refuses("router", flavor_id=made, availability_zone_hints=["nova"])[0] == 400


def test_a_flavor_that_says_nothing_now_is_refused(cloud: Cloud) -> None:
    nothing = "5f0b2a3e-8df2-4f0c-a5a3-6e7b2f1f3c11"
    assert cloud.refuses("router", flavor_id=nothing) == (404, "FlavorNotFound")
    empty, _ = flavor(cloud)
    assert cloud.refuses("router", flavor_id=empty) == (409, "ServiceProfileDisabled")
    silent, (profile,) = flavor(cloud, '{"ha": true}')
    cloud.change("service_profile", profile, by=ROOT, enabled=False)
    assert cloud.refuses("router", flavor_id=silent) == (409, "ServiceProfileDisabled")
    off, _ = flavor(cloud, '{"ha": true}', enabled=False)
    assert cloud.refuses("router", flavor_id=off) == (409, "FlavorDisabled")


def test_what_is_used_stays(cloud: Cloud) -> None:
    made, (profile,) = flavor(cloud, '{"ha": true}')
    router = cloud.make("router", flavor_id=made)
    assert cloud.refused("DELETE", f"/flavors/{made}", by=ROOT) == (409, "FlavorInUse")
    assert cloud.refused("DELETE", f"/service_profiles/{profile}", by=ROOT) == (409, "ServiceProfileInUse")
    cloud.remove("router", router["id"])
    where = f"/flavors/{made}/service_profiles/{profile}"
    assert cloud.ask("DELETE", where, by=ROOT).status_code == 204
    assert cloud.refused("DELETE", where, by=ROOT) == (404, "FlavorServiceProfileBindingNotFound")
    cloud.remove("service_profile", profile, by=ROOT)
    assert cloud.ask("DELETE", f"/flavors/{made}", by=ROOT).status_code == 204


def test_a_profile_is_bound_once(cloud: Cloud) -> None:
    made, (profile,) = flavor(cloud, '{"ha": true}')
    assert bind(cloud, made, profile).status_code == 409
    assert bind(cloud, made, profile, by=ANN).status_code == 403


@pytest.mark.parametrize(
    "text", ["x", "[]", '{"ha": 1}', '{"color": "red"}', '{"availability_zone_hints": [""]}']
)
def test_a_profile_that_no_router_can_be_like_is_refused(cloud: Cloud, text: str) -> None:
    reply = cloud.ask("POST", "/service_profiles", {"service_profile": {"metainfo": text}}, by=ROOT)
    assert reply.status_code == 400
    assert "metainfo" in reply.json()["NeutronError"]["message"]


def test_a_profile_says_something(cloud: Cloud) -> None:
    assert cloud.refuses("service_profile", by=ROOT) == (400, "ServiceProfileEmpty")
    made = cloud.make("service_profile", by=ROOT, driver="ovn")
    where = f"/service_profiles/{made['id']}"
    assert cloud.refused("PUT", where, {"service_profile": {"driver": ""}}, by=ROOT)[0] == 400


def test_everybody_sees_flavors_and_operators_their_profiles(cloud: Cloud) -> None:
    made, (profile,) = flavor(cloud, '{"ha": true}', name="plain")
    (seen,) = cloud.ask("GET", "/flavors?name=plain").json()["flavors"]
    assert (seen["id"], seen["service_profiles"]) == (made, [profile])
    assert cloud.refused("GET", "/service_profiles")[0] == 403
    assert cloud.refused("PUT", f"/flavors/{made}", {"flavor": {"enabled": False}})[0] == 403
