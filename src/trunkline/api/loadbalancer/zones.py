"""Availability zones: where load balancers are, which operators define and tenants choose.

A zone is called by its name. Its profile says which zone of the region's hosts it stands for, and which
networks VIPs there may be on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trunkline.api.engine import Call
from trunkline.api.loadbalancer.profiles import Profiles
from trunkline.api.zones import zones
from trunkline.errors import BadField, InUse
from trunkline.resources.loadbalancer import AvailabilityZone, AvailabilityZoneProfile, LoadBalancer
from trunkline.resources.network.checks import clean_uuid
from trunkline.resources.region import Host
from trunkline.store import Reader

#: What a profile may say, and what that means.
CAPABILITIES: Mapping[str, str] = {
    "compute_zone": "The compute availability zone.",
    "valid_vip_networks": "List of network IDs that are allowed for VIP use.",
}
#: What profiles for amphorae say too. Units are managed on a bus of their own, whichever network it names.
_WITHOUT_EFFECT = ("management_network",)
_FIELD = "availability_zone_data"


def named(reader: Reader, name: str) -> AvailabilityZone | None:
    """The zone of a name."""
    return reader.first(AvailabilityZone, name=name)


def host_zone(reader: Reader, balancer: LoadBalancer) -> str | None:
    """The zone of the hosts that a load balancer's units are on, None for any."""
    found: str | None = _data(reader, balancer).get("compute_zone")
    return found


def check(call: Call, balancer: LoadBalancer) -> None:
    """Refuses a zone that is not there, or not offered any more."""
    if balancer.availability_zone is None:
        return
    zone = named(call.tx, balancer.availability_zone)
    if zone is None:
        raise BadField("availability_zone", f"there is no zone '{balancer.availability_zone[:80]}'.")
    if not zone.enabled:
        raise BadField("availability_zone", f"zone {zone.name} is disabled. Choose another one.")


def check_network(reader: Reader, balancer: LoadBalancer) -> None:
    """Refuses a VIP on a network where those of the zone may not be."""
    allowed = _data(reader, balancer).get("valid_vip_networks")
    if allowed is not None and balancer.vip_network_id not in allowed:
        raise BadField(
            "vip_network_id",
            f"no VIP of zone {balancer.availability_zone} may be on network {balancer.vip_network_id}. "
            f"Use one of: {', '.join(allowed) or 'none'}.",
        )


def create(call: Call, zone: AvailabilityZone, given: frozenset[str]) -> AvailabilityZone:
    """Refuses one whose profile is not there, or whose name another one has."""
    if not zone.name:
        raise BadField("name", "it is by its name that a zone is called. Give it one.")
    PROFILES.check_there(call, zone.availability_zone_profile_id)
    if named(call.tx, zone.name) is not None:
        raise InUse(
            f"An availability zone has the name {zone.name} already. Choose another one.",
            type="RecordAlreadyExists",
            field="name",
        )
    return zone


def delete(call: Call, zone: AvailabilityZone) -> None:
    """Refuses while load balancers are in it."""
    if call.tx.count(LoadBalancer, availability_zone=zone.name):
        raise InUse(
            f"Availability zone {zone.name} is in use by load balancers. Delete them first.",
            type="ObjectInUse",
        )


def _data(reader: Reader, balancer: LoadBalancer) -> Mapping[str, Any]:
    """What the profile of a load balancer's zone says."""
    zone = named(reader, balancer.availability_zone) if balancer.availability_zone else None
    profile = (
        reader.get(AvailabilityZoneProfile, zone.availability_zone_profile_id) if zone is not None else None
    )
    found: dict[str, Any] = json.loads(profile.availability_zone_data) if profile is not None else {}
    return found


def _check_data(reader: Reader, data: dict[str, Any]) -> None:
    for name in data:
        if name not in CAPABILITIES and name not in _WITHOUT_EFFECT:
            raise BadField(_FIELD, f"'{name[:80]}' is unknown. There are: {', '.join(CAPABILITIES)}.")
    if "compute_zone" in data:
        there = sorted(set(zones(reader, reader.select(Host)).values()))
        if data["compute_zone"] not in there:
            raise BadField(_FIELD, f"no host is in that compute_zone. There are: {', '.join(there)}.")
    networks = data.get("valid_vip_networks", [])
    try:
        if not isinstance(networks, list) or [clean_uuid(each) for each in networks] != networks:
            raise ValueError
    except (TypeError, ValueError, AttributeError):
        raise BadField(_FIELD, "valid_vip_networks must be a list of ids of networks.") from None


#: What operators say of zones.
PROFILES = Profiles(
    cls=AvailabilityZoneProfile,
    name="Availability zone profile",
    data=_FIELD,
    example='{"compute_zone": "nova"}',
    check=_check_data,
    made=AvailabilityZone,
    by="availability_zone_profile_id",
    called="zones",
)
