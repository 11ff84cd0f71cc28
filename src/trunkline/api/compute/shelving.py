"""Servers are shelved: their disk becomes an image, their host is free again; and they come back, anywhere.

    shelve       powers down, an image is made of the disk   SHELVED when the image is durable
    offload      the host drops what it has                  SHELVED_OFFLOADED: ports are bound nowhere
    unshelve     a host is chosen, the disk made anew        ACTIVE; the image goes

The host drops a disk only when its image is durable. The image's facts stand in the server's row, and its
file stays for as long as they do, whoever deletes the image. Ports keep their MAC and IP addresses.
"""

from __future__ import annotations

from msgspec.structs import replace

from trunkline.api.compute import history, inventory, networking, snapshots
from trunkline.api.compute.servers import find_host
from trunkline.api.compute.status import settle
from trunkline.api.engine import Call
from trunkline.errors import BadField, Conflict
from trunkline.plan.placement import NoHost
from trunkline.resources.compute import Server, Snapshot
from trunkline.resources.image import Image
from trunkline.resources.region import Host


def shelve(call: Call, server: Server) -> Server:
    """Begins to shelve a server whose state allows it; the caller saves it."""
    wish = Snapshot(image_id="", kind="shelve", power=server.power)
    server = snapshots.begin(call, server, f"{server.name}-shelved"[:255], {}, wish)
    return replace(server, power="stopped", shelved="shelving")


def offloaded(call: Call, server: Server) -> None:
    """Takes a server from its host, which has nothing of it any more."""
    cloud = networking.by_cloud(call)
    for port in networking.attached(call, server):
        cloud.update(port, {"host_id": ""})
    server = replace(
        server,
        shelved="offloaded",
        host="",
        zone="",
        observed_state="",
        observed_disk_serial=-1,
        plugged=[],
        problem=None,
    )
    server = call.save(settle(server, call.now))
    history.finish(call.tx, server, call.now)


def offload_lost(call: Call) -> None:
    """Takes servers from hosts that are gone or silent: they drop what they have when they are back."""
    for server in call.tx.find(Server, shelved="offloading"):
        host = call.tx.get(Host, server.host)
        if host is None or not host.alive:
            offloaded(call, server)


def unshelve(call: Call, server: Server, zone: str | None, host: str) -> Server:
    """Places a shelved server; the caller has checked its state, and saves it.

    Args:
        zone: where it is to be from now on, "" for anywhere; None for where it was asked to be.
        host: the host asked for, "" for any.
    Raises:
        BadField: there is no such zone or host.
        Conflict: no host has room for it.
    """
    known = {view.name: view for view in inventory.views(call.tx)}
    if zone and zone not in {view.zone for view in known.values()}:
        raise BadField("unshelve.availability_zone", "The requested availability zone is not available")
    if host and host not in known:
        raise BadField("unshelve.host", f"Compute host {host[:80]} could not be found.")
    if zone is not None:
        server = replace(server, requested_zone=zone)
    found = find_host(call.tx, server, host=host)
    if isinstance(found, NoHost):
        raise Conflict(f"No valid host was found for instance {server.id}. {found}")
    server = replace(
        server,
        host=found,
        zone=known[found].zone,
        shelved="unshelving",
        power="running",
        # Whatever the host may have of it, is older than the image.
        disk_serial=server.disk_serial + 1,
        hard_reboot_serial=server.hard_reboot_serial + 1,
    )
    for port in networking.attached(call, server):
        networking.bind(call, port, server)
    return server


def forget_image(call: Call, server: Server) -> Server:
    """The server without the image that it was shelved in, which goes."""
    if not server.disk_image_id:
        return server
    image = call.tx.get(Image, server.disk_image_id)
    if image is not None and not image.protected:
        snapshots.drop(call.tx, image)
    return replace(server, disk_image_id="", disk_image=None)
