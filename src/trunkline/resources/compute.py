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
Power = Literal["running", "stopped", "paused"]


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


@resource(kind="flavor", plural="flavors", service="compute", unique=(("name",),))
class Flavor(Resource):
    """A size of servers."""

    name: Annotated[str, computed(index=True)] = ""
    description: Annotated[str | None, computed()] = None
    vcpus: Annotated[int, computed()] = 1
    #: MiB.
    ram: Annotated[int, computed()] = 0
    #: Root disk, GiB; 0 for the size of the image.
    disk: Annotated[int, computed()] = 0
    #: A second disk, GiB.
    ephemeral: Annotated[int, computed()] = 0
    #: MiB.
    swap: Annotated[int, computed()] = 0
    rxtx_factor: Annotated[float, computed()] = 1.0
    #: Every project may use it; otherwise those alone that were given access.
    is_public: Annotated[bool, computed()] = True
    disabled: Annotated[bool, computed()] = False
    extra_specs: Annotated[dict[str, str], computed(filter=False)] = {}
    created_at: Annotated[str, computed()] = ""
    updated_at: Annotated[str, computed()] = ""


@resource(
    kind="flavor_access", plural="flavor_access", service="compute", unique=(("flavor_id", "project_id"),)
)
class FlavorAccess(Resource):
    """A project may use a flavor that is not public."""

    flavor_id: Annotated[str, computed(index=True)] = ""
    project_id: Annotated[str, computed(index=True)] = ""


@resource(kind="keypair", plural="keypairs", service="compute", unique=(("user_id", "name"),))
class KeyPair(Resource):
    """A public key of a user, which servers let in."""

    name: Annotated[str, computed(index=True)] = ""
    user_id: Annotated[str, computed(index=True)] = ""
    #: ssh or x509.
    type: Annotated[str, computed()] = "ssh"
    #: OpenSSH's form, one line.
    public_key: Annotated[str, computed()] = ""
    #: MD5 of the key, as pairs with colons.
    fingerprint: Annotated[str, computed()] = ""
    created_at: Annotated[str, computed()] = ""


@resource(kind="server_group", plural="server_groups", service="compute", quota=10)
class ServerGroup(Resource):
    """Servers that belong on one host, or on different ones."""

    name: Annotated[str, computed()] = ""
    project_id: Annotated[str, computed(index=True)] = ""
    user_id: Annotated[str, computed()] = ""
    #: affinity, anti-affinity, soft-affinity or soft-anti-affinity.
    policy: Annotated[str, computed()] = ""
    #: anti-affinity: how many of them one host may carry.
    max_server_per_host: Annotated[int, computed()] = 1
    created_at: Annotated[str, computed()] = ""


@resource(kind="aggregate", plural="aggregates", service="compute", unique=(("name",), ("number",)))
class Aggregate(Resource):
    """Hosts that have something in common; one with a zone makes that availability zone."""

    #: What the API calls its id.
    number: Annotated[int, computed()] = 0
    name: Annotated[str, computed()] = ""
    zone: Annotated[str | None, computed()] = None
    hosts: Annotated[list[str], computed()] = []
    metadata: Annotated[dict[str, str], computed()] = {}
    created_at: Annotated[str, computed()] = ""
    updated_at: Annotated[str, computed()] = ""


@resource(kind="compute_quota", plural="compute_quotas", service="compute")
class ComputeQuota(Resource):
    """Limits of a project that are not the default. Its id is the project's, or class:NAME."""

    limits: Annotated[dict[str, int], computed()] = {}


@resource(kind="server_action", plural="server_actions", service="compute")
class ServerAction(Resource):
    """Something that was asked of a server, and how it went. Its id is the request's and the server's."""

    server_id: Annotated[str, computed(index=True)] = ""
    request_id: Annotated[str, computed()] = ""
    project_id: Annotated[str, computed()] = ""
    user_id: Annotated[str, computed()] = ""
    #: create, reboot, stop ...
    action: Annotated[str, computed()] = ""
    message: Annotated[str | None, computed()] = None
    started_at: Annotated[str, computed()] = ""
    #: Order among the actions of one server.
    number: Annotated[int, computed()] = 0
    host: Annotated[str, computed()] = ""
    finished_at: Annotated[str | None, observed()] = None
    #: Success or Error, once it is finished.
    result: Annotated[str | None, observed()] = None


@resource(kind="server", plural="servers", service="compute")
class Server(Resource):
    """A virtual machine."""

    name: Annotated[str, computed()] = ""
    description: Annotated[str | None, computed()] = None
    project_id: Annotated[str, computed(index=True)] = ""
    user_id: Annotated[str, computed()] = ""
    created_at: Annotated[str, computed()] = ""
    updated_at: Annotated[str, computed()] = ""
    #: The name that the guest is given.
    hostname: Annotated[str, computed()] = ""
    #: The image that its disk is made from.
    image_id: Annotated[str, computed(index=True)] = ""
    image: Annotated[ImageFacts | None, hidden()] = None
    flavor_id: Annotated[str, computed(index=True)] = ""
    flavor: Annotated[FlavorFacts | None, hidden()] = None
    key_name: Annotated[str | None, computed()] = None
    #: The key itself, as it was when the server was made.
    public_key: Annotated[str, hidden()] = ""
    #: The password that the guest is told to give its first user, where the request gave one.
    admin_password: Annotated[str, hidden()] = ""
    #: base64, as given.
    user_data: Annotated[str, hidden()] = ""
    config_drive: Annotated[bool, computed()] = False
    metadata: Annotated[dict[str, str], computed(filter=False)] = {}
    tags: Annotated[list[str], computed(filter=False)] = []
    access_ip_v4: Annotated[str, computed()] = ""
    access_ip_v6: Annotated[str, computed()] = ""
    #: MANUAL or AUTO.
    disk_config: Annotated[str, computed()] = "MANUAL"
    #: Servers that one request created share it.
    reservation_id: Annotated[str, computed()] = ""
    launch_index: Annotated[int, computed()] = 0
    locked: Annotated[bool, computed()] = False
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
    #: It is to be removed, and goes when its host has done so.
    deleting: Annotated[bool, computed()] = False
    #: An operator set it to error.
    forced_error: Annotated[bool, hidden()] = False
    #: Why it could not be placed or is in error by request.
    fault: Annotated[Fault | None, hidden()] = None

    #: What the host last said: absent, fetching, starting, running, stopped, paused, crashed, failed; ""
    #: before it said anything.
    observed_state: Annotated[str, observed()] = ""
    observed_disk_serial: Annotated[int, observed(shown=False)] = -1
    observed_hard_reboot_serial: Annotated[int, observed(shown=False)] = 0
    observed_soft_reboot_serial: Annotated[int, observed(shown=False)] = 0
    #: Ports that the guest's devices answer for.
    plugged: Annotated[list[str], observed(shown=False)] = []
    #: What is not well, by the host's word.
    problem: Annotated[Fault | None, observed(shown=False)] = None
    accelerated: Annotated[bool, observed()] = False
    #: When it first ran.
    launched_at: Annotated[str | None, observed()] = None

    status: Annotated[str, observed(index=True)] = "BUILD"
    vm_state: Annotated[str, observed()] = "building"
    task_state: Annotated[str | None, observed()] = None
    #: 0 none, 1 running, 3 paused, 4 shut down, 6 crashed.
    power_state: Annotated[int, observed()] = 0
