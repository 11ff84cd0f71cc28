"""The resources of the Compute API: servers, flavors, key pairs, server groups, host aggregates.

A server has three kinds of fields beside its description: what is wanted of it (`power`, the serials),
which requests set; what was seen of it (`observed_*`, the serials reached, `plugged`), which hosts
report; and what follows from both (`status`, `vm_state`, `task_state`, `power_state`), which
`api.compute.status.settle` alone sets, so that they can be filtered and sorted by.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from trunkline.resources.schema import Resource, computed, hidden, observed, resource

#: Bounds of the Compute API for counts and sizes.
MAX_INT = 0x7FFFFFFF

Name = Annotated[str, Meta(min_length=1, max_length=255)]
Power = Literal["running", "stopped", "paused", "suspended"]


class FlavorFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A flavor as it was when a server was made from it."""

    name: str
    vcpus: int
    #: MiB.
    ram: int
    #: Root disk, GiB; 0 for the size of the image.
    disk: int = 0
    ephemeral: int = 0
    #: MiB.
    swap: int = 0
    extra_specs: dict[str, str] = {}


class ImageFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An image as it was when a server was made from it: it outlives the image."""

    disk_format: str
    size: int
    sha512: str
    properties: dict[str, str] = {}
    min_ram: int = 0
    min_disk: int = 0


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a server is in error."""

    code: int
    message: str
    created: str
    details: str = ""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An image that is being made of a server's disk."""

    image_id: str
    kind: Literal["snapshot", "backup", "shelve"] = "snapshot"
    #: Of shelving: the power that the server had.
    power: str = ""
    #: Of backups: how many of their type are kept, and the type.
    rotation: int = 0
    backup_type: str = ""


class LiveMove(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A server's way to another host while it runs: what both hosts said."""

    #: The id of its `Migration`.
    id: str
    #: By the source: the sizes of its disks, and where its devices are on the PCI bus.
    disks: list[tuple[str, int]] = []
    slots: list[tuple[str, int]] = []
    #: Where the destination waits, "" as long as it does not.
    address: str = ""
    memory_port: int = 0
    disk_port: int = 0
    #: The guest is to stand still until it is there.
    force: bool = False
    #: It is to stay after all, where the source can still keep it.
    abort: bool = False
    #: The source has handed it over.
    gone: bool = False


@resource(kind="flavor", plural="flavors", service="compute", unique=(("name",),))
class Flavor(Resource):
    """A size of servers."""

    #: Unique in the cloud.
    name: Annotated[str, computed(index=True)] = ""
    #: For people.
    description: Annotated[str | None, computed()] = None
    #: Virtual processors.
    vcpus: Annotated[int, computed()] = 1
    #: Memory, MiB.
    ram: Annotated[int, computed()] = 0
    #: Root disk, GiB; 0 for the size of the image.
    disk: Annotated[int, computed()] = 0
    #: A second disk, GiB.
    ephemeral: Annotated[int, computed()] = 0
    #: A disk to swap to, MiB.
    swap: Annotated[int, computed()] = 0
    #: Kept for clients that give one; it has no effect.
    rxtx_factor: Annotated[float, computed()] = 1.0
    #: Every project may use it; otherwise those alone that were given access.
    is_public: Annotated[bool, computed()] = True
    #: Whether it may not be used any more; never, here.
    disabled: Annotated[bool, computed()] = False
    #: What more it asks for, by name.
    extra_specs: Annotated[dict[str, str], computed(filter=False)] = {}
    #: When it was created, UTC.
    created_at: Annotated[str, computed()] = ""
    #: When it was last changed, UTC.
    updated_at: Annotated[str, computed()] = ""


@resource(
    kind="flavor_access", plural="flavor_access", service="compute", unique=(("flavor_id", "project_id"),)
)
class FlavorAccess(Resource):
    """A project may use a flavor that is not public."""

    #: The flavor.
    flavor_id: Annotated[str, computed(index=True)] = ""
    #: The project that may use it.
    project_id: Annotated[str, computed(index=True)] = ""


@resource(kind="keypair", plural="keypairs", service="compute", unique=(("user_id", "name"),))
class KeyPair(Resource):
    """A public key of a user, which servers let in."""

    #: Unique among those of the user.
    name: Annotated[str, computed(index=True)] = ""
    #: Whose it is.
    user_id: Annotated[str, computed(index=True)] = ""
    #: ssh or x509.
    type: Annotated[str, computed()] = "ssh"
    #: OpenSSH's form, one line.
    public_key: Annotated[str, computed()] = ""
    #: MD5 of the key, as pairs with colons.
    fingerprint: Annotated[str, computed()] = ""
    #: When it was created, UTC.
    created_at: Annotated[str, computed()] = ""


@resource(kind="server_group", plural="server_groups", service="compute", quota=10)
class ServerGroup(Resource):
    """Servers that belong on one host, or on different ones."""

    #: A name for people.
    name: Annotated[str, computed()] = ""
    #: The project that owns it.
    project_id: Annotated[str, computed(index=True)] = ""
    #: Who made it.
    user_id: Annotated[str, computed()] = ""
    #: affinity, anti-affinity, soft-affinity or soft-anti-affinity.
    policy: Annotated[str, computed()] = ""
    #: anti-affinity: how many of them one host may carry.
    max_server_per_host: Annotated[int, computed()] = 1
    #: When it was created, UTC.
    created_at: Annotated[str, computed()] = ""


@resource(kind="aggregate", plural="aggregates", service="compute", unique=(("name",), ("number",)))
class Aggregate(Resource):
    """Hosts that have something in common; one with a zone makes that availability zone."""

    #: What the API calls its id.
    number: Annotated[int, computed()] = 0
    #: Unique in the cloud.
    name: Annotated[str, computed()] = ""
    #: The availability zone that its hosts are in, null for none of their own.
    zone: Annotated[str | None, computed()] = None
    #: The names of its hosts.
    hosts: Annotated[list[str], computed()] = []
    #: Labels; `availability_zone` is the zone.
    metadata: Annotated[dict[str, str], computed()] = {}
    #: When it was created, UTC.
    created_at: Annotated[str, computed()] = ""
    #: When it was last changed, UTC.
    updated_at: Annotated[str, computed()] = ""


@resource(kind="compute_quota", plural="compute_quotas", service="compute")
class ComputeQuota(Resource):
    """Limits of a project that are not the default. Its id is the project's, or class:NAME."""

    #: Name of a limit to its value, -1 for none.
    limits: Annotated[dict[str, int], computed()] = {}


@resource(kind="server_action", plural="server_actions", service="compute")
class ServerAction(Resource):
    """Something that was asked of a server, and how it went. Its id is the request's and the server's."""

    #: The server.
    server_id: Annotated[str, computed(index=True)] = ""
    #: The request that asked for it.
    request_id: Annotated[str, computed()] = ""
    #: The project of who asked.
    project_id: Annotated[str, computed()] = ""
    #: Who asked.
    user_id: Annotated[str, computed()] = ""
    #: create, reboot, stop ...
    action: Annotated[str, computed()] = ""
    #: What went wrong.
    message: Annotated[str | None, computed()] = None
    #: When it was asked, UTC.
    started_at: Annotated[str, computed()] = ""
    #: Order among the actions of one server.
    number: Annotated[int, computed()] = 0
    #: The host that carries it out.
    host: Annotated[str, computed()] = ""
    #: When it was done, UTC.
    finished_at: Annotated[str | None, observed()] = None
    #: Success or Error, once it is finished.
    result: Annotated[str | None, observed()] = None


@resource(kind="migration", plural="migrations", service="compute")
class Migration(Resource):
    """A move of a server to another host, or to another flavor. Its id is what the API calls its uuid."""

    #: What the API calls its id: counts the moves of the cloud.
    number: Annotated[int, computed(index=True)] = 0
    #: The server.
    server_id: Annotated[str, computed(index=True)] = ""
    #: The project of who asked.
    project_id: Annotated[str, computed()] = ""
    #: Who asked.
    user_id: Annotated[str, computed()] = ""
    #: migration, resize or live-migration.
    type: Annotated[str, computed()] = "migration"
    #: How far it is: migrating, finished, confirmed, reverting, reverted or error; of live migrations
    #: preparing, running, completed, cancelled, failed.
    status: Annotated[str, computed()] = ""
    #: The host that the server leaves.
    source_host: Annotated[str, computed()] = ""
    #: The host that it goes to.
    dest_host: Annotated[str, computed()] = ""
    #: The address of that host.
    dest_address: Annotated[str, computed()] = ""
    #: The flavor before.
    old_flavor_id: Annotated[str, computed()] = ""
    #: The flavor after, which may be the same.
    new_flavor_id: Annotated[str, computed()] = ""
    #: When it was asked for, UTC.
    created_at: Annotated[str, computed()] = ""
    #: When it last came further, UTC.
    updated_at: Annotated[str | None, computed()] = None


@resource(kind="server", plural="servers", service="compute")
class Server(Resource):
    """A virtual machine."""

    #: A name for people.
    name: Annotated[str, computed()] = ""
    #: For people.
    description: Annotated[str | None, computed()] = None
    #: The project that owns it.
    project_id: Annotated[str, computed(index=True)] = ""
    #: Who made it.
    user_id: Annotated[str, computed()] = ""
    #: When it was created, UTC.
    created_at: Annotated[str, computed()] = ""
    #: When it was last changed, UTC.
    updated_at: Annotated[str, computed()] = ""
    #: The name that the guest is given.
    hostname: Annotated[str, computed()] = ""
    #: The image that its disk is made from.
    image_id: Annotated[str, computed(index=True)] = ""
    image: Annotated[ImageFacts | None, hidden()] = None
    #: The flavor that it was made from.
    flavor_id: Annotated[str, computed(index=True)] = ""
    flavor: Annotated[FlavorFacts | None, hidden()] = None
    #: The key pair whose key the guest lets in.
    key_name: Annotated[str | None, computed()] = None
    #: The key itself, as it was when the server was made.
    public_key: Annotated[str, hidden()] = ""
    #: The password that the guest is told to give its first user.
    admin_password: Annotated[str, hidden()] = ""
    #: base64, as given.
    user_data: Annotated[str, hidden()] = ""
    #: Whether the guest gets its metadata on a disk too.
    config_drive: Annotated[bool, computed()] = False
    #: Labels, which the guest is told.
    metadata: Annotated[dict[str, str], computed(filter=False)] = {}
    #: Words to find it by.
    tags: Annotated[list[str], computed(filter=False)] = []
    #: Where people reach it by IPv4, as they say.
    access_ip_v4: Annotated[str, computed()] = ""
    #: Where people reach it by IPv6, as they say.
    access_ip_v6: Annotated[str, computed()] = ""
    #: MANUAL or AUTO.
    disk_config: Annotated[str, computed()] = "MANUAL"
    #: Servers that one request created share it.
    reservation_id: Annotated[str, computed()] = ""
    #: Its place among the servers of its request.
    launch_index: Annotated[int, computed()] = 0
    #: Whether it is kept from being changed.
    locked: Annotated[bool, computed()] = False
    #: Why it was locked.
    locked_reason: Annotated[str | None, computed()] = None
    #: An operator locked it: only operators unlock it.
    locked_by_admin: Annotated[bool, hidden()] = False
    #: The server group.
    group_id: Annotated[str, computed(index=True)] = ""
    #: The availability zone that was asked for, "" for any.
    requested_zone: Annotated[str, computed()] = ""
    scheduler_hints: Annotated[dict[str, list[str]], hidden()] = {}
    #: The host that it is placed on, "" where none was found.
    host: Annotated[str, computed(index=True)] = ""
    #: The availability zone that it is in.
    zone: Annotated[str, computed()] = ""
    #: Port ids, in the order of the interfaces.
    ports: Annotated[list[str], hidden()] = []
    #: Of these, the ones that were made for it, and are deleted with it.
    own_ports: Annotated[list[str], hidden()] = []
    #: Tags of interfaces, by port.
    port_tags: Annotated[dict[str, str], hidden()] = {}
    #: What is wanted.
    power: Annotated[str, computed()] = "running"
    disk_serial: Annotated[int, hidden()] = 0
    hard_reboot_serial: Annotated[int, hidden()] = 0
    soft_reboot_serial: Annotated[int, hidden()] = 0
    #: It runs from this image's disk, beside its own; "" where it runs from its own.
    rescue_image_id: Annotated[str, computed()] = ""
    #: What that image was when it was chosen.
    rescue_image: Annotated[ImageFacts | None, hidden()] = None
    #: The host that it is on its way to while it runs, "" for none.
    arriving_on: Annotated[str, computed(index=True)] = ""
    #: How far that is.
    live: Annotated[LiveMove | None, hidden()] = None
    #: shelving, offloading, offloaded or unshelving; "" for neither.
    shelved: Annotated[str, computed(index=True)] = ""
    #: The image that it was shelved in, and whose content its next disk has.
    disk_image_id: Annotated[str, computed()] = ""
    #: What that image is, whatever becomes of it.
    disk_image: Annotated[ImageFacts | None, hidden()] = None
    #: The image that its host is to make of its disk.
    snapshot: Annotated[Snapshot | None, hidden()] = None
    #: How far a move of it is: leaving, arriving, settled, returning, back; "" for none.
    move: Annotated[str, hidden()] = ""
    #: Counts moves, and the undoing of moves.
    move_serial: Annotated[int, hidden()] = 0
    #: The number that its old disk is set aside under.
    kept_serial: Annotated[int, hidden()] = 0
    #: The host that it leaves, which keeps its disk until the move is confirmed, and the one it goes to.
    origin_host: Annotated[str, hidden()] = ""
    dest_host: Annotated[str, hidden()] = ""
    #: What it was before the move.
    old_flavor: Annotated[FlavorFacts | None, hidden()] = None
    old_flavor_id: Annotated[str, hidden()] = ""
    #: It is to be removed, and goes when its host has done so.
    deleting: Annotated[bool, computed()] = False
    #: An operator set it to error.
    forced_error: Annotated[bool, hidden()] = False
    #: Why it could not be placed or is in error by request.
    fault: Annotated[Fault | None, hidden()] = None

    #: What the host last said: absent, fetching, starting, running, stopped, paused, suspended, crashed,
    #: failed; "" before it said anything.
    observed_state: Annotated[str, observed()] = ""
    observed_disk_serial: Annotated[int, observed(shown=False)] = -1
    observed_hard_reboot_serial: Annotated[int, observed(shown=False)] = 0
    observed_soft_reboot_serial: Annotated[int, observed(shown=False)] = 0
    #: How far its host is with the image of its disk: taking or uploading; "" for not begun.
    observed_snapshot: Annotated[str, observed(shown=False)] = ""
    observed_parked: Annotated[int, observed(shown=False)] = 0
    observed_moved: Annotated[int, observed(shown=False)] = 0
    #: Ports that the guest's devices answer for.
    plugged: Annotated[list[str], observed(shown=False)] = []
    #: What is not well, by the host's word.
    problem: Annotated[Fault | None, observed(shown=False)] = None
    #: Whether it runs by KVM.
    accelerated: Annotated[bool, observed()] = False
    #: Since when the host is silent that its move waits for; "" where none is, or not for long.
    silent_since: Annotated[str, observed(shown=False, index=True)] = ""
    #: When it first ran.
    launched_at: Annotated[str | None, observed()] = None

    #: ACTIVE, BUILD, SHUTOFF, PAUSED, ERROR ...
    status: Annotated[str, observed(index=True)] = "BUILD"
    #: The status in the words that operators know: active, building, stopped, rescued ...
    vm_state: Annotated[str, observed()] = "building"
    #: What is being done to it, null for nothing.
    task_state: Annotated[str | None, observed()] = None
    #: 0 none, 1 running, 3 paused, 4 shut down, 6 crashed.
    power_state: Annotated[int, observed()] = 0
