"""Appliances: network functions that a tenant orders, and the compute units that do their work."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from trunkline.resources.network.checks import Uuid, clean_uuid
from trunkline.resources.reports import Condition, ListenerCount, UnitReport
from trunkline.resources.schema import (
    Check,
    Resource,
    computed,
    fixed,
    hidden,
    observed,
    resource,
    settable,
)
from trunkline.resources.types import Description, Id, Name

Kind = Literal["data-plane", "dispatcher", "manager"]
#: In the order in which packets from inside meet them.
SERVICES = ("firewall", "nat", "balancer")
#: Those between two networks: without one inside there is nothing for them to do.
BETWEEN = frozenset({"firewall", "nat"})
#: The networks of an appliance, as policies name them; further ones are net1, net2 and so on.
INSIDE, OUTSIDE = "inside", "outside"
#: How many networks an appliance is on at the most.
MOST_LEGS = 7
#: Memory without which no unit runs, by the runtime, MiB: a guest's has a kernel and files in it.
LEAST_MEMORY = {"namespace": 64, "server": 384}
#: Units are numbered from 1, below this.
NUMBERS = 256


def _services(values: list[str]) -> list[str]:
    """In their order, each once."""
    if not values:
        raise ValueError(f"an appliance has one service or more of: {', '.join(SERVICES)}.")
    if len(set(values)) < len(values):
        raise ValueError("a service is named twice. Name each once.")
    return [name for name in SERVICES if name in values]


def _networks(values: list[str]) -> list[str]:
    if len(set(values)) < len(values):
        raise ValueError("a network is named twice. Name each once.")
    return [clean_uuid(value) for value in values]


class Scaling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many data planes there are to be by their load."""

    #: How much of their processors data planes are to use at the most, all in all: 0 to 1.
    target_load: Annotated[float, Meta(ge=0.05, le=0.95)] = 0.6
    #: There are never fewer, whatever the load,
    least: Annotated[int, Meta(ge=1, lt=NUMBERS)] = 1
    #: ... nor more.
    most: Annotated[int, Meta(ge=1, lt=NUMBERS)]
    #: One goes when its part was not needed for so long, seconds.
    cool_down: Annotated[float, Meta(ge=1, le=3600)] = 60.0


class Renewal(Struct, frozen=True, kw_only=True):
    """How far the units of an appliance are replaced by new ones, which run the newest version."""

    #: stopped: by the cloud, for the cause. What was replaced by then stays so.
    state: Literal["running", "done", "stopped", "aborted"]
    #: The numbers of the units that are still to be replaced, the next one first.
    left: list[int] = []
    #: How many there were to be replaced.
    units: int = 0
    started_at: str = ""
    cause: str = ""


def _scaling(rule: Scaling) -> Scaling:
    if rule.most < rule.least:
        raise ValueError(f"most is {rule.most}, which is fewer than least, {rule.least}. Raise it.")
    return rule


@resource(kind="appliance", plural="appliances", service="appliance", quota=10)
class Appliance(Resource, kw_only=True):
    """A firewall, NAT and load balancer on one network or several, made of compute units."""

    #: The project that owns it.
    project_id: Annotated[Id, fixed(index=True)] = ""
    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: A text for people.
    description: Annotated[Description, settable()] = ""
    #: Whether it forwards packets.
    admin_state_up: Annotated[bool, settable()] = True
    #: What it does. Whatever the order here, the firewall comes before NAT, and NAT before the balancer.
    services: Annotated[
        list[Literal["firewall", "nat", "balancer"]],
        settable(required=True, filter=False),
        Check(_services),
    ] = []
    #: The network that it is the gateway of: it has the gateway's address of each of the subnets. A balancer
    #: needs none.
    inside_network_id: Annotated[Uuid, fixed(index=True, refers="network")] = ""
    #: The network on its far side: it has an address of each family there, and its default routes lead there.
    outside_network_id: Annotated[Uuid, fixed(required=True, index=True, refers="network")] = ""
    #: Further networks, the zones net1, net2 and so on: it has an address of each subnet there. Others can
    #: be added; its units are replaced for that, one by one.
    network_ids: Annotated[list[Uuid], settable(filter=False, refers="network"), Check(_networks)] = []
    #: How many data planes there are to be, which forward packets.
    data_planes: Annotated[Annotated[int, Meta(ge=1, lt=NUMBERS)], settable()] = 2
    #: How many of these there are to be by their load; None: as many as are asked for.
    scaling: Annotated[Scaling | None, settable(filter=False), Check(_scaling)] = None
    #: How many dispatchers, which spread packets over them.
    dispatchers: Annotated[Annotated[int, Meta(ge=1, lt=NUMBERS)], settable()] = 1
    #: How many managers, which give them their policy: with two, one takes over when the other dies.
    managers: Annotated[Annotated[int, Meta(ge=1, le=2)], settable()] = 1
    #: What each of the units has of a host's processors.
    cu_size: Annotated[Annotated[float, Meta(ge=0.01, le=256)], fixed(filter=False)] = 0.25
    #: ... and of its memory, MiB.
    cu_memory: Annotated[Annotated[int, Meta(ge=64, le=1 << 20)], fixed()] = 256
    #: What units are: processes in namespaces of their own, or guests with the same program, which want more
    #: memory and forward as fast as their host runs guests.
    runtime: Annotated[Literal["namespace", "server"], fixed()] = "namespace"
    #: The availability zone of the hosts that its units are on; None: they are on any.
    availability_zone: Annotated[Annotated[str, Meta(min_length=1, max_length=255)] | None, fixed()] = None
    #: Counts the policies that it had.
    policy_revision: Annotated[int, computed()] = 1
    #: Its addresses on the network inside.
    inside_addresses: Annotated[list[str], computed(filter=False)] = []
    #: ... and on the one outside.
    outside_addresses: Annotated[list[str], computed(filter=False)] = []
    #: ... and on each of the further ones.
    network_addresses: Annotated[list[list[str]], computed(filter=False)] = []
    #: What of the cloud it does the work of, and is changed with: "loadbalancer:ID"; "" where it was ordered
    #: by itself.
    owner: Annotated[str, computed(index=True)] = ""
    #: ACTIVE: every leg is served, all data planes have their share and the newest policy, and connections
    #: have their copies. BUILD: it has not been ACTIVE yet. UPDATING: it forwards, and a change is under way.
    #: DEGRADED: it forwards, and something is not well. ERROR: it does not forward. DOWN: it is not to.
    status: Annotated[str, observed()] = "BUILD"
    #: What is not as it is to be: what, why, and what to do.
    conditions: Annotated[list[Condition], observed(filter=False)] = []
    #: How far its units are replaced by new ones, the last time that this was asked for.
    renewal: Annotated[Renewal | None, computed(filter=False)] = None
    #: Counts its changes.
    revision_number: Annotated[int, computed()] = 0
    #: When it was created, UTC.
    created_at: Annotated[str, computed()] = ""
    #: When it was last changed, UTC.
    updated_at: Annotated[str, computed()] = ""
    #: It was ACTIVE once.
    was_active: Annotated[bool, hidden()] = False
    #: VXLAN network identifiers of its buses.
    bus_vni: Annotated[int, hidden()] = 0
    control_vni: Annotated[int, hidden()] = 0
    #: The ports that hold its addresses, in the order of `zones`.
    leg_ports: Annotated[list[str], hidden()] = []
    #: The link-local address by which hosts inside know it as their router.
    inside_router: Annotated[str, hidden()] = ""
    #: A port that it was lent, whose addresses are its first ones outside; its device owner, device before.
    lent_port: Annotated[str, hidden()] = ""
    lent_as: Annotated[tuple[str, str], hidden()] = ("", "")
    #: The number that was given to a unit last.
    last_number: Annotated[int, hidden()] = 0
    #: When it was to have another number of data planes, seconds since the epoch.
    scaled_at: Annotated[float, hidden()] = 0.0
    #: When the last step of its renewal ended, seconds since the epoch.
    renewal_since: Annotated[float, hidden()] = 0.0
    #: Why it has not as many data planes as its load wants.
    short: Annotated[Condition | None, hidden()] = None
    #: What units counted of its listeners that have ended, by the listeners' names.
    counted: Annotated[dict[str, ListenerCount], hidden()] = {}
    #: Why it has no address on subnets that came to its networks, by their ids.
    unserved: Annotated[dict[str, Condition], hidden()] = {}


def zones(appliance: Appliance) -> tuple[str, ...]:
    """The names of its networks in policies: the number of a leg is its place here."""
    near = (INSIDE,) if appliance.inside_network_id else ()
    return (*near, OUTSIDE, *(f"net{number}" for number in range(1, len(appliance.network_ids) + 1)))


def networks(appliance: Appliance) -> tuple[str, ...]:
    """Its networks, in the order of `zones`."""
    near = (appliance.inside_network_id,) if appliance.inside_network_id else ()
    return (*near, appliance.outside_network_id, *appliance.network_ids)


def addresses(appliance: Appliance) -> dict[str, list[str]]:
    """Its addresses by zone, in the order of `zones`."""
    near = [appliance.inside_addresses] if appliance.inside_network_id else []
    found = [*near, appliance.outside_addresses, *appliance.network_addresses]
    return dict(zip(zones(appliance), found, strict=True))


@resource(kind="appliance_policy", plural="appliance_policies", service="appliance")
class AppliancePolicy(Resource, kw_only=True):
    """The policy of an appliance; its id is the appliance's."""

    #: Counts the policies that the appliance had.
    revision: Annotated[int, computed()] = 1
    #: The policy itself.
    document: Annotated[dict[str, Any], computed(filter=False)] = {}


@resource(
    kind="appliance_unit",
    plural="units",
    service="appliance",
    quota=64,
    unique=(("appliance_id", "number"),),
)
class Unit(Resource, kw_only=True):
    """A compute unit: a fraction of a processor that does one part of an appliance's work."""

    #: The project that owns its appliance.
    project_id: Annotated[Id, computed(index=True)] = ""
    #: The appliance that it is of.
    appliance_id: Annotated[str, computed(index=True)] = ""
    #: Its number there: two that are there at once have different ones.
    number: Annotated[int, computed()] = 0
    #: data-plane, dispatcher or manager.
    kind: Annotated[Kind, computed()] = "data-plane"
    #: The host that it is on.
    host: Annotated[str, computed(guarded_read=True, index=True)] = ""
    #: It is to go, once nothing depends on it any more.
    leaves: Annotated[bool, computed()] = False
    #: The number of the unit that comes instead of it; it leaves when that one does its work.
    replaced_by: Annotated[int | None, computed()] = None
    #: Why it is there.
    cause: Annotated[str, computed()] = ""
    #: When it was created, UTC.
    created_at: Annotated[str, computed()] = ""
    #: The address of its host on the underlay.
    underlay: Annotated[str, hidden()] = ""
    cores: Annotated[float, hidden()] = 0.0
    memory_mib: Annotated[int, hidden()] = 0
    #: Counts fresh starts.
    serial: Annotated[int, hidden()] = 0
    #: Of how many networks it knows, of those that the appliance is on: it was made for so many.
    legs: Annotated[int, hidden()] = 2
    #: Of a dispatcher: its ports, in the order of `zones`.
    ports: Annotated[list[str], hidden()] = []
    bus_mac: Annotated[str, hidden()] = ""
    control_mac: Annotated[str, hidden()] = ""
    control_address: Annotated[str, hidden()] = ""
    #: When it was created, and when it was told to leave, seconds since the epoch.
    since: Annotated[float, hidden()] = 0.0
    left_at: Annotated[float, hidden()] = 0.0
    #: What its host saw of it last, but for what changes all the time.
    seen: Annotated[UnitReport | None, hidden()] = None
    #: The last of its own events that is stored: of which start of its program, and the serial.
    heard: Annotated[tuple[str, int], hidden()] = ("", 0)


@resource(kind="appliance_event", plural="events", service="appliance")
class ApplianceEvent(Resource, kw_only=True):
    """Something that happened in an appliance."""

    #: The project that owns the appliance.
    project_id: Annotated[Id, computed(index=True)] = ""
    #: The appliance.
    appliance_id: Annotated[str, computed(index=True)] = ""
    #: Its place among those of the appliance: the newest has the highest.
    serial: Annotated[int, computed()] = 0
    #: When it happened, UTC.
    at: Annotated[str, computed()] = ""
    #: The number of the unit that it is about, None where it is about no single one.
    unit: Annotated[int | None, computed()] = None
    #: What happened.
    what: Annotated[str, computed()] = ""
    #: Why.
    cause: Annotated[str, computed()] = ""
    #: A unit told it of itself.
    told: Annotated[bool, hidden()] = False


@resource(kind="appliance_quota", plural="appliance_quotas", service="")
class ApplianceQuota(Resource, kw_only=True):
    """The limits that were set for a project; its id is the project's."""

    #: Kind to limit, -1 for none.
    limits: Annotated[dict[str, int], computed(filter=False)] = {}
