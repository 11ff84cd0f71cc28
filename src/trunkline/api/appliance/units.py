"""The compute units of an appliance: how many, where, and which of them go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from trunkline.api.appliance import events, legs, quotas
from trunkline.api.compute import inventory
from trunkline.api.engine import Call
from trunkline.api.ids import new_id
from trunkline.api.zones import zones as zones_of_hosts
from trunkline.errors import BadField, Exhausted
from trunkline.plan.placement import NoHost
from trunkline.plan.units import Held, Room, Wish, fullest, largest, place
from trunkline.resources.appliance import LEAST_MEMORY, NUMBERS, Appliance, Kind, Unit, zones
from trunkline.resources.region import Host
from trunkline.store import Reader

#: Kind of unit -> the field that says how many there are to be.
FIELDS: Mapping[Kind, str] = {
    "dispatcher": "dispatchers",
    "manager": "managers",
    "data-plane": "data_planes",
}


def of(reader: Reader, appliance_id: str) -> list[Unit]:
    """The units of an appliance, by number."""
    return sorted(reader.find(Unit, appliance_id=appliance_id), key=lambda unit: unit.number)


def rooms(reader: Reader) -> list[Room]:
    """What hosts there are for units."""
    taken: dict[str, int] = {}
    for load in inventory.server_loads(reader):
        taken[load.host] = taken.get(load.host, 0) + load.memory_mib
    found = []
    hosts = inventory.all_hosts(reader)
    zone_of = zones_of_hosts(reader, hosts)
    for host in hosts:
        closed = "" if host.alive else "its agent does not report"
        if not host.enabled:
            closed = f"disabled ({host.disabled_reason})" if host.disabled_reason else "disabled"
        found.append(
            Room(
                name=host.id,
                vcpus=host.vcpus,
                memory_mib=host.memory_mib - taken.get(host.id, 0),
                physical_networks=frozenset(host.physical_networks),
                zone=zone_of[host.id],
                closed=closed,
            )
        )
    return found


def held(reader: Reader) -> list[Held]:
    """What every unit has of its host."""
    return [
        Held(host=u.host, cores=u.cores, memory_mib=u.memory_mib, group=_group(u.appliance_id, u.kind))
        for u in reader.select(Unit)
    ]


def _group(appliance_id: str, kind: str) -> str:
    return f"{appliance_id}/{kind}"


def check_size(call: Call, appliance: Appliance) -> None:
    """Refuses units larger than any host, more of them than there are numbers, and zones without hosts."""
    wanted = sum(getattr(appliance, field) for field in FIELDS.values())
    if wanted >= NUMBERS:
        raise BadField(
            "data_planes", f"with dispatchers and managers it is {wanted} units; {NUMBERS - 1} is the most."
        )
    least = LEAST_MEMORY[appliance.runtime]
    if appliance.cu_memory < least:
        raise BadField("cu_memory", f"units of the runtime '{appliance.runtime}' need {least} MiB at least.")
    there = rooms(call.tx)
    zone = appliance.availability_zone
    if zone is not None and zone not in (known := {room.zone for room in there}):
        raise BadField(
            "availability_zone",
            f"no host is in zone '{zone[:80]}'. There are: {', '.join(sorted(known)) or 'none yet'}.",
        )
    most = largest(room for room in there if zone in (None, room.zone))
    if most and appliance.cu_size > most:
        raise BadField(
            "cu_size",
            f"no host has so much: a unit is to have {appliance.cu_size:g} processors, and the largest host "
            f"promises {most:g} in all. Take smaller units, and more of them.",
        )
    memory = max((host.memory_mib for host in inventory.all_hosts(call.tx)), default=0)
    if memory and appliance.cu_memory > memory:
        raise BadField(
            "cu_memory",
            f"no host has so much: a unit is to have {appliance.cu_memory} MiB, and the largest host has "
            f"{memory}. Take smaller units.",
        )


def follow(call: Call, appliance: Appliance, cause: str) -> Appliance:
    """Adds units, or tells some to leave, until there are as many as there are to be.

    Raises:
        Exhausted: no host has room. OverQuota: the project has too many.
    """
    there = of(call.tx, appliance.id)
    missing: dict[Kind, int] = {}
    for kind, field in FIELDS.items():
        staying = [u for u in there if u.kind == kind and not u.leaves and u.replaced_by is None]
        more = getattr(appliance, field) - len(staying)
        # Those who have not gone yet have their flows still.
        for unit in [u for u in there if u.kind == kind and u.leaves and u.replaced_by is None][
            : max(more, 0)
        ]:
            call.tx.replace(replace(unit, leaves=False, left_at=0.0))
            events.note(call, appliance, f"The {kind} stays after all", cause, unit=unit.number)
            more -= 1
        if more > 0:
            missing[kind] = more
        for _ in range(-more):
            unit = _dispensable(call, appliance, staying)
            staying.remove(unit)
            leave(call, appliance, unit, cause)
    if missing:
        quotas.check_units(call.tx, appliance.project_id, missing, FIELDS)
    for kind, count in missing.items():
        for _ in range(count):
            appliance, _ = add(call, appliance, kind, cause)
    return appliance


def add(
    call: Call, appliance: Appliance, kind: Kind, cause: str, without: Sequence[str] = ()
) -> tuple[Appliance, Unit]:
    """Places one more unit.

    Args:
        without: hosts that it must not be on.
    Raises:
        Exhausted: no host has room, with the reasons of each.
    """
    wish = Wish(
        cores=appliance.cu_size,
        memory_mib=appliance.cu_memory,
        group=_group(appliance.id, kind),
        physical_networks=legs.needed_by(call, appliance) if kind == "dispatcher" else frozenset(),
        zone=appliance.availability_zone or "",
        without=frozenset(without),
    )
    host = place(rooms(call.tx), held(call.tx), wish)
    if isinstance(host, NoHost):
        field = FIELDS[kind]
        raise Exhausted(
            f"Invalid input for {field}: no host has room for one more {kind}. {host} Free some, or take "
            "fewer or smaller units.",
            type="NoRoomForUnit",
            field=field,
        )
    number = _number(call, appliance)
    where = call.tx.get(Host, host)
    unit = Unit(
        id=new_id(),
        project_id=appliance.project_id,
        appliance_id=appliance.id,
        number=number,
        kind=kind,
        host=host,
        cause=cause,
        underlay=where.bus_address if where is not None else "",
        cores=appliance.cu_size,
        memory_mib=appliance.cu_memory,
        bus_mac=_mac(appliance.bus_vni, number),
        control_mac=_mac(appliance.control_vni, number),
        control_address=_address(appliance.control_vni, number),
        since=call.tx.now.timestamp(),
        legs=len(zones(appliance)),
    )
    if kind == "dispatcher":
        unit = replace(unit, ports=legs.plug_in(call, appliance, unit))
    unit = call.add(unit)
    events.note(call, appliance, f"A {kind} comes", cause, unit=number)
    return replace(appliance, last_number=number), unit


def succeed(
    call: Call, appliance: Appliance, unit: Unit, cause: str, left: str, without: Sequence[str] = ()
) -> tuple[Appliance, Unit]:
    """Has another unit come instead of one, which leaves when that one does its work; that one's new state.

    Args:
        cause: why the other one comes. left: why this one goes.
    Raises:
        Exhausted: as `add`.
    """
    appliance, new = add(call, appliance, unit.kind, cause, without)
    unit = replace(unit, replaced_by=new.number, cause=f"{left}, unit {new.number} came instead")
    call.tx.replace(unit)
    return appliance, unit


def leave(call: Call, appliance: Appliance, unit: Unit, cause: str) -> Unit:
    """Tells a unit to go once nothing depends on it any more."""
    unit = replace(unit, leaves=True, left_at=call.tx.now.timestamp())
    call.tx.replace(unit)
    events.note(call, appliance, f"The {unit.kind} leaves", cause, unit=unit.number)
    return unit


def drop(call: Call, unit: Unit) -> None:
    """Removes a unit, with its ports."""
    legs.drop(call, unit.ports)
    call.drop(unit)


def _dispensable(call: Call, appliance: Appliance, staying: Sequence[Unit]) -> Unit:
    """Of the units of a kind, the one to leave: of the fullest host; a manager that does not lead."""
    group = _group(appliance.id, staying[0].kind)
    followers = [u for u in staying if not (u.seen and u.seen.status and u.seen.status.leads)]
    there = followers if staying[0].kind == "manager" and followers else staying
    host = fullest(rooms(call.tx), held(call.tx), group, {unit.host for unit in there})
    return max((unit for unit in there if unit.host == host), key=lambda unit: unit.number)


def _number(call: Call, appliance: Appliance) -> int:
    """The next number that no unit has: one that is gone is not given to another at once."""
    taken = {unit.number for unit in call.tx.find(Unit, appliance_id=appliance.id)}
    for step in range(1, NUMBERS):
        number = (appliance.last_number + step - 1) % (NUMBERS - 1) + 1
        if number not in taken:
            return number
    raise Exhausted(
        f"Invalid input for data_planes: {NUMBERS - 1} units are there, of which some are about to leave. "
        "Try again when they have.",
        type="NoRoomForUnit",
        field="data_planes",
    )


def _mac(vni: int, number: int) -> str:
    """An address on a bus, that no other bus has either: locally administered (IEEE Std 802, 8.4)."""
    tail = f"{vni:06x}{number:04x}"
    return ":".join(["0a", *(tail[at : at + 2] for at in range(0, 10, 2))])


def _address(vni: int, number: int) -> str:
    """A unique local address (RFC 4193) of which 64 bits are the bus's."""
    return f"fd74:6c:{vni >> 16:x}:{vni & 0xFFFF:x}::{number:x}"
