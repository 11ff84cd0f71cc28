"""Flavors of routers: what a router that names one is made like, and what stays while it is used.

The choices are written to the router when it is made: what becomes of the flavor later changes no router.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from trunkline.api import openapi
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import BadField, BadRequest, Conflict, InUse, NotFound
from trunkline.resources.network import Flavor, Router, ServiceProfile
from trunkline.resources.network.flavors import choices
from trunkline.resources.schema import convert

#: Profiles of one flavor.
MOST = 16


class Named(msgspec.Struct, forbid_unknown_fields=True):
    """The body that gives a flavor a profile."""

    id: str


def applied(call: Call, router: Router, given: frozenset[str]) -> Router:
    """A new router as its flavor says.

    Raises:
        Conflict: the flavor is not to be used now.
        BadField: the request says something of its own where the flavor decides.
    """
    if router.flavor_id is None:
        return router
    flavor = call.get(Flavor, router.flavor_id)
    if not flavor.enabled:
        raise Conflict(f"Flavor {flavor.id} is not enabled.", type="FlavorDisabled", field="flavor_id")
    profiles = (call.tx.get(ServiceProfile, id) for id in flavor.service_profiles)
    profile = next((p for p in profiles if p is not None and p.enabled), None)
    if profile is None:
        raise Conflict(
            f"Flavor {flavor.id} has no service profile that is enabled.",
            type="ServiceProfileDisabled",
            field="flavor_id",
        )
    said = msgspec.structs.asdict(choices(profile.metainfo))
    chosen = {name: value for name, value in said.items() if value is not UNSET}
    for name in sorted(chosen.keys() & given):
        raise BadField(name, f"flavor {flavor.id} decides it. Leave one of them out.")
    return replace(router, **chosen)


def delete(call: Call, flavor: Flavor) -> None:
    """Refuses while a router names it."""
    if call.tx.count(Router, flavor_id=flavor.id):
        raise InUse(f"Flavor {flavor.id} is used by some service instance.", type="FlavorInUse")


def create_profile(call: Call, profile: ServiceProfile, given: frozenset[str]) -> ServiceProfile:
    """Refuses one that says nothing."""
    return _saying(profile)


def update_profile(
    call: Call, old: ServiceProfile, new: ServiceProfile, given: frozenset[str]
) -> ServiceProfile:
    """Refuses one that says nothing."""
    return _saying(new)


def delete_profile(call: Call, profile: ServiceProfile) -> None:
    """Refuses while a flavor has it."""
    if any(profile.id in flavor.service_profiles for flavor in call.tx.select(Flavor)):
        raise InUse(
            f"Service Profile {profile.id} is used by some service instance.", type="ServiceProfileInUse"
        )


def _saying(profile: ServiceProfile) -> ServiceProfile:
    if not profile.driver and not profile.metainfo:
        raise BadRequest(
            "Service Profile needs either a driver or metainfo.", type="ServiceProfileEmpty", field="metainfo"
        )
    return profile


def attach(call: Call, flavor_id: str, body: Any) -> ServiceProfile:
    """Gives a flavor one more profile, after those that it has."""
    flavor = call.get(Flavor, flavor_id)
    call.require("create_flavor_service_profile", {})
    profile = call.get(ServiceProfile, convert(body, Named, what="service_profile").id)
    if profile.id in flavor.service_profiles:
        raise Conflict(
            f"Service Profile {profile.id} is already associated with flavor {flavor.id}.",
            type="FlavorServiceProfileBindingExists",
        )
    if len(flavor.service_profiles) >= MOST:
        raise BadField("service_profile", f"a flavor has at most {MOST}.")
    call.save(replace(flavor, service_profiles=[*flavor.service_profiles, profile.id]))
    return profile


def detach(call: Call, flavor_id: str, profile_id: str) -> None:
    """Takes a profile away from a flavor."""
    flavor = call.get(Flavor, flavor_id)
    call.require("delete_flavor_service_profile", {})
    if profile_id not in flavor.service_profiles:
        raise NotFound(
            f"Service Profile {profile_id[:80]} is not associated with flavor {flavor.id}.",
            type="FlavorServiceProfileBindingNotFound",
        )
    left = [id for id in flavor.service_profiles if id != profile_id]
    call.save(replace(flavor, service_profiles=left))


def endpoints(engine: Engine) -> list[Endpoint]:
    """The paths by which flavors get and lose profiles."""

    async def add(request: Request) -> Reply:
        body, id = await request.envelope("service_profile"), request.path["id"]

        def run(call: Call) -> dict[str, Any]:
            return engine.render(call.tx, call.context, [attach(call, id, body)])[0]

        return Reply({"service_profile": await engine.write(request.context, run)}, 201)

    async def remove(request: Request) -> Reply:
        id, profile = request.path["id"], request.path["profile"]
        await engine.write(request.context, lambda call: detach(call, id, profile))
        return Reply(status=204)

    where, shape = "/v2.0/flavors/{id}/service_profiles", openapi.shape_schema(Named, "service_profile")
    return [
        Endpoint("POST", where, add, summary="Give a flavor a service profile", success=201, request=shape),
        Endpoint(
            "DELETE", f"{where}/{{profile}}", remove, summary="Take a service profile away", success=204
        ),
    ]
