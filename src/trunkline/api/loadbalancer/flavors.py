"""Flavors: sizes of load balancers, which operators define and tenants choose."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from trunkline.api.engine import Call
from trunkline.api.loadbalancer.profiles import Profiles
from trunkline.errors import BadField, InUse
from trunkline.resources.loadbalancer import Flavor, FlavorProfile, LoadBalancer
from trunkline.store import Reader

#: What a load balancer has without a flavor: fields of its appliance.
UNITS: Mapping[str, Any] = {
    "data_planes": 2,
    "dispatchers": 1,
    "managers": 1,
    "cu_size": 0.1,
    "cu_memory": 128,
}
#: A topology -> how many units of each kind it has.
TOPOLOGIES: Mapping[str, Mapping[str, int]] = {
    "SINGLE": {"data_planes": 1, "dispatchers": 1, "managers": 1},
    "ACTIVE_STANDBY": {"data_planes": 2, "dispatchers": 2, "managers": 2},
}
#: What a profile may say, and what that means.
CAPABILITIES: Mapping[str, str] = {
    "loadbalancer_topology": (
        "The load balancer topology. SINGLE - one unit of each kind. ACTIVE_STANDBY - two of each."
    ),
    "data_planes": "How many data planes there are, 1 to 64: they forward packets.",
    "dispatchers": "How many dispatchers there are, 1 to 16: they spread packets over data planes.",
    "managers": "How many managers there are, 1 or 2: they bring data planes what was asked for.",
    "cu_size": "What each unit has of a processor, 0.01 to 64.",
    "cu_memory": "What each unit has of memory, MiB, 64 to 65536.",
}
_FIELD = "flavor_data"


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


_VALID: Mapping[str, Callable[[Any], bool]] = {
    "loadbalancer_topology": lambda value: isinstance(value, str) and value in TOPOLOGIES,
    "data_planes": _whole(1, 64),
    "dispatchers": _whole(1, 16),
    "managers": _whole(1, 2),
    "cu_size": lambda v: isinstance(v, int | float) and not isinstance(v, bool) and 0.01 <= v <= 64,
    "cu_memory": _whole(64, 65536),
}


def units_of(reader: Reader, balancer: LoadBalancer) -> dict[str, Any]:
    """What the units of a load balancer are, by its flavor: fields of its appliance."""
    flavor = reader.get(Flavor, balancer.flavor_id) if balancer.flavor_id else None
    profile = reader.get(FlavorProfile, flavor.flavor_profile_id) if flavor is not None else None
    data: dict[str, Any] = json.loads(profile.flavor_data) if profile is not None else {}
    topology = TOPOLOGIES.get(data.pop("loadbalancer_topology", ""), {})
    return {**UNITS, **topology, **data}


def check(call: Call, balancer: LoadBalancer) -> None:
    """Refuses a flavor that is not there, or not offered any more, or of another provider."""
    if balancer.flavor_id is None:
        return
    flavor = call.tx.get(Flavor, balancer.flavor_id)
    if flavor is None:
        raise BadField("flavor_id", f"there is no flavor {balancer.flavor_id}.")
    if not flavor.enabled:
        raise BadField("flavor_id", f"flavor {flavor.name} is disabled. Choose another one.")


def create(call: Call, flavor: Flavor, given: frozenset[str]) -> Flavor:
    """Refuses one whose profile is not there, or whose name another one has."""
    PROFILES.check_there(call, flavor.flavor_profile_id)
    return _named(call, flavor)


def update(call: Call, old: Flavor, new: Flavor, given: frozenset[str]) -> Flavor:
    """Refuses a name that another one has."""
    return _named(call, new)


def delete(call: Call, flavor: Flavor) -> None:
    """Refuses while load balancers have it."""
    if call.tx.count(LoadBalancer, flavor_id=flavor.id):
        raise InUse(f"Flavor {flavor.id} is in use by load balancers. Delete them first.", type="ObjectInUse")


def _named(call: Call, flavor: Flavor) -> Flavor:
    for other in call.tx.find(Flavor, name=flavor.name):
        if other.id != flavor.id:
            raise InUse(
                f"Flavor {other.id} has the name {flavor.name} already. Choose another one.",
                type="RecordAlreadyExists",
                field="name",
            )
    return flavor


def _check_data(reader: Reader, data: dict[str, Any]) -> None:
    for name, value in data.items():
        if name not in _VALID:
            raise BadField(_FIELD, f"'{name[:80]}' is unknown. There are: {', '.join(_VALID)}.")
        if not _VALID[name](value):
            raise BadField(_FIELD, f"{name} is not valid. {CAPABILITIES[name]}")


#: What operators say of flavors.
PROFILES = Profiles(
    cls=FlavorProfile,
    name="Flavor profile",
    data=_FIELD,
    example='{"data_planes": 2}',
    check=_check_data,
    made=Flavor,
    by="flavor_profile_id",
    called="flavors",
)
