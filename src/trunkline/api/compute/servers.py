"""Servers are made, inside the transaction that does it.

quota -> image, flavor, key -> place on a host -> ports -> the rows
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from trunkline.api.compute import groups, history, inventory, networking
from trunkline.api.compute.quotas import check_servers, limits_of, spent
from trunkline.api.compute.requests import Wanted, default_host_name
from trunkline.api.compute.status import settle
from trunkline.api.engine import Call, Stages
from trunkline.api.network import promises, reach
from trunkline.errors import BadField, NotFound, OverQuota
from trunkline.plan.placement import NoHost, Spread, Wish, place
from trunkline.plan.promises import Amounts, total
from trunkline.resources.compute import (
    Fault,
    Flavor,
    FlavorFacts,
    ImageFacts,
    KeyPair,
    Server,
    ServerGroup,
)
from trunkline.resources.image import BOOTABLE, Image
from trunkline.resources.network import Network, Port
from trunkline.store import Reader

_RULE = "os_compute_api:servers:"

STAGES: dict[str, Stages[Any]] = {
    "server": Stages[Server](
        rules={verb: f"{_RULE}{verb}" for verb in ("create", "update", "delete")},
        not_found="Instance {id} could not be found.",
    )
}

_GIB = 1024**3


def create(call: Call, wanted: Wanted) -> list[Server]:
    """Makes the servers of a request, as many as the quota allows between the least and the most wanted.

    A server for which no host is found is made all the same, in error, with the reasons: so clients of
    this API expect it.

    Raises:
        BadField, Conflict, Forbidden, OverQuota: nothing is made.
    """
    project = call.context.project_id
    if not project:
        raise BadField("project_id", "servers belong to a project. Use a token of one.")
    target = {"project_id": project, "user_id": call.context.user_id}
    call.require(f"{_RULE}create", target)
    flavor = flavor_of(call, wanted.flavor)
    image, facts = image_of(call, wanted.image)
    check_fit(flavor_facts(flavor), facts, image)
    public_key = key_of(call, wanted.key_name)
    zone, host = _destination(call, wanted, target)
    group = _group(call, wanted)
    check_labels(call, project, wanted.metadata)
    count = _count(call, wanted, flavor)
    if wanted.networks not in (None, "none", "auto"):
        call.require(f"{_RULE}create:attach_network", target)
    interfaces = networking.understand(call, wanted.networks, wanted.groups, count)
    reservation = f"r-{secrets.token_hex(4)}"
    made = []
    for index in range(count):
        id = str(uuid.uuid4())
        name = wanted.name if count == 1 else f"{wanted.name}-{index + 1}"
        server = Server(
            id=id,
            name=name,
            description=wanted.description,
            project_id=project,
            user_id=call.context.user_id,
            hostname=wanted.hostname or default_host_name(name, id),
            image_id=image.id,
            image=facts,
            flavor_id=flavor.id,
            flavor=flavor_facts(flavor),
            key_name=wanted.key_name,
            public_key=public_key,
            admin_password=wanted.password,
            user_data=wanted.user_data,
            config_drive=wanted.config_drive,
            metadata=dict(wanted.metadata),
            tags=list(wanted.tags),
            access_ip_v4=wanted.access_v4,
            access_ip_v6=wanted.access_v6,
            disk_config=wanted.disk_config,
            reservation_id=reservation,
            launch_index=index,
            group_id=group.id if group else "",
            requested_zone=zone,
            scheduler_hints=dict(wanted.hints),
        )
        made.append(_placed(call, server, group, host, interfaces))
    return made


def wish_of(
    server: Server,
    group: ServerGroup | None,
    host: str,
    physical: frozenset[str],
    spread: Sequence[Spread],
    promises: Amounts,
) -> Wish:
    """What a server asks of its host.

    Args:
        host: the one it must be, "" for any.
        physical: the physical networks that its ports are on.
        spread: of its ports on networks that are made of segments, which hosts fit.
        promises: what its ports are promised.
    """
    load = inventory.load_of(server)
    return Wish(
        vcpus=load.vcpus,
        memory_mib=load.memory_mib,
        disk_gib=load.disk_gib,
        zone=server.requested_zone,
        host=host,
        physical_networks=physical,
        spread=spread,
        promises=promises,
        group=server.group_id,
        policy=group.policy if group else "",
        max_per_host=group.max_server_per_host if group else 1,
        same_host=frozenset(server.scheduler_hints.get("same_host", ())),
        different_host=frozenset(server.scheduler_hints.get("different_host", ())),
    )


def _placed(
    call: Call, server: Server, group: ServerGroup | None, host: str, interfaces: networking.Interfaces
) -> Server:
    wish = wish_of(server, group, host, interfaces.physical_networks, interfaces.spread, interfaces.promises)
    hosts = inventory.views(call.tx)
    found = place(hosts, inventory.loads(call.tx), wish)
    if isinstance(found, NoHost):
        fault = Fault(
            code=500,
            message="No valid host was found. There are not enough hosts available.",
            created=call.now,
            details=str(found),
        )
        server = replace(server, fault=fault)
    else:
        zone = next(view.zone for view in hosts if view.name == found)
        server = replace(server, host=found, zone=zone)
        server = networking.plug(call, server, interfaces)
    server = settle(call.engine.stamped(call, server), call.now)
    call.tx.insert(server)
    history.record(call, server, "create")
    history.finish(call.tx, server, call.now)
    return server


def find_host(reader: Reader, server: Server, *, host: str = "", leave: bool = False) -> str | NoHost:
    """The host that a server which is there can go to, with its ports, its group and what it was asked with.

    Args:
        host: the one asked for, "" for any.
        leave: whether it must be another than the one it is on.
    """
    group = reader.get(ServerGroup, server.group_id) if server.group_id else None
    ports = [port for id in server.ports if (port := reader.get(Port, id)) is not None]
    networks = [network for p in ports if (network := reader.get(Network, p.network_id)) is not None]
    physical = frozenset(network.physical_network for network in networks if network.physical_network)
    asked = total(promises.of_plugged(reader, port) for port in ports)
    there = inventory.views_without(reader, server.host, asked)
    hosts = [view for view in there if not leave or view.name != server.host]
    loads = [load for load in inventory.loads(reader) if load.server != server.id]
    wish = wish_of(server, group, host, physical, reach.spread_of(reader, ports), asked)
    return place(hosts, loads, wish)


def flavor_of(call: Call, id: str) -> Flavor:
    """A flavor that the caller may use.

    Raises:
        BadField: there is none.
    """
    try:
        flavor = call.get(Flavor, id)
    except NotFound:
        raise BadField("flavorRef", f"Flavor {id[:80]} could not be found.") from None
    if flavor.disabled:
        raise BadField("flavorRef", f"Flavor {id} is disabled.")
    return flavor


def flavor_facts(flavor: Flavor) -> FlavorFacts:
    """What a server keeps of its flavor."""
    return FlavorFacts(
        name=flavor.name,
        vcpus=flavor.vcpus,
        ram=flavor.ram,
        disk=flavor.disk,
        ephemeral=flavor.ephemeral,
        swap=flavor.swap,
        extra_specs=dict(flavor.extra_specs),
    )


def image_of(call: Call, id: str) -> tuple[Image, ImageFacts]:
    """An image that servers can boot from.

    Raises:
        BadField: it is not there, not active, or of a format that no host runs.
    """
    try:
        image = call.get(Image, id)
    except NotFound:
        raise BadField("imageRef", f"Can not find requested image {id}.") from None
    if image.status != "active":
        raise BadField("imageRef", f"Image {id} is not active, it is {image.status}.")
    if image.disk_format not in BOOTABLE or image.container_format != "bare":
        raise BadField(
            "imageRef",
            f"Image {id} is of format {image.disk_format} in {image.container_format}. "
            f"Servers boot from {' or '.join(sorted(BOOTABLE))} in bare.",
        )
    facts = ImageFacts(
        disk_format=str(image.disk_format),
        size=image.size or 0,
        sha512=image.os_hash_value or "",
        properties=dict(image.properties),
        min_ram=image.min_ram,
        min_disk=image.min_disk,
    )
    return image, facts


def check_fit(flavor: FlavorFacts, facts: ImageFacts, image: Image) -> None:
    """Refuses a flavor that is too small for an image.

    Raises:
        BadField: with what is too small.
    """
    if flavor.ram < image.min_ram:
        raise BadField(
            "flavorRef",
            f"Flavor's memory is too small for requested image: {flavor.ram} MiB, {image.min_ram} needed.",
        )
    if flavor.disk == 0:
        return
    least = max(image.min_disk * _GIB, image.virtual_size or facts.size)
    if flavor.disk * _GIB < least:
        raise BadField(
            "flavorRef",
            f"Flavor's disk is too small for requested image: {flavor.disk} GiB, "
            f"{-(-least // _GIB)} GiB needed.",
        )


def key_of(call: Call, name: str | None) -> str:
    """The public key of a name, of the caller's own.

    Raises:
        BadField: there is none.
    """
    if name is None:
        return ""
    for pair in call.tx.find(KeyPair, user_id=call.context.user_id, name=name):
        return pair.public_key
    raise BadField("key_name", "Invalid key_name provided. There is no key pair of that name.")


def check_labels(call: Call, project: str, metadata: Any) -> None:
    """Refuses more metadata than the quota allows.

    Raises:
        OverQuota: too many entries.
    """
    limit = limits_of(call.tx, project)["metadata_items"]
    if 0 <= limit < len(metadata):
        raise spent("metadata_items", f"Maximum number of metadata items exceeds {limit}")


def _destination(call: Call, wanted: Wanted, target: dict[str, Any]) -> tuple[str, str]:
    """The zone and the host asked for, each "" for any."""
    zone, colon, host = wanted.zone.partition(":")
    host = host.partition(":")[0]
    if colon:
        call.require(f"{_RULE}create:forced_host", target)
    if wanted.host:
        call.require("compute:servers:create:requested_destination", target)
        host = wanted.host
    hosts = {view.name: view for view in inventory.views(call.tx)}
    if zone and zone not in {view.zone for view in hosts.values()}:
        raise BadField("availability_zone", "The requested availability zone is not available")
    if host and host not in hosts:
        raise BadField("host", f"Compute host {host} could not be found.")
    return zone, host


def _group(call: Call, wanted: Wanted) -> ServerGroup | None:
    asked = wanted.hints.get("group")
    if not asked:
        return None
    try:
        group = call.get(ServerGroup, asked[0])
    except NotFound:
        raise BadField("os:scheduler_hints.group", f"Instance group {asked[0]} could not be found.") from None
    limit = limits_of(call.tx, group.project_id)["server_group_members"]
    if 0 <= limit < len(groups.members_of(call.tx, group.id)) + wanted.least:
        raise spent("server_group_members", "Quota exceeded, too many servers in group")
    return group


def _count(call: Call, wanted: Wanted, flavor: Flavor) -> int:
    """How many servers the quota allows, of the least to the most wanted."""
    for count in range(wanted.count, wanted.least, -1):
        try:
            check_servers(call.tx, call.context.project_id, count, flavor.vcpus, flavor.ram)
        except OverQuota:
            continue
        return count
    check_servers(call.tx, call.context.project_id, wanted.least, flavor.vcpus, flavor.ram)
    return wanted.least
