"""Servers move to another host (migrate), or to another flavor (resize), while they do not run.

    begin ──▶ leaving ──▶ arriving ──▶ settled ──▶ confirm: the old disk goes
              the old       the new       │
              host parks    host copies   └──▶ revert ──▶ returning ──▶ back: as it was, from the old disk
              the disk      and starts               the new host      the old host
                                                     has removed it    starts it

Each step is taken in the transaction that writes what a host saw (`move_steps`), so a control plane that
died goes on where it was. The old disk stays on the old host, untouched, from `leaving` to the end: a server
whose new host fails is in error, and can be reverted. Ports are bound to the host that is to run it, from
`arriving` on and from `back` on.
"""

from __future__ import annotations

import dataclasses

from msgspec.structs import replace

from trunkline.api.compute import changes, history, inventory, migrations, move_steps, networking
from trunkline.api.compute.quotas import check_growth
from trunkline.api.compute.servers import check_fit, flavor_facts, flavor_of, wish_of
from trunkline.api.engine import Call
from trunkline.api.network import promises, reach
from trunkline.errors import BadField, BadRequest, Conflict
from trunkline.plan.placement import NoHost, place
from trunkline.plan.promises import total
from trunkline.resources.compute import Flavor, FlavorFacts, Server, ServerGroup
from trunkline.resources.image import Image
from trunkline.resources.network import Network
from trunkline.resources.region import Host


def resize(call: Call, server: Server, flavor_id: str, disk_config: str | None) -> Server:
    """Gives a server another flavor, on whichever host has room.

    Raises:
        BadField: the flavor is not there, the same, or too small.
        BadRequest: no host has room.
        Conflict: its state does not allow it.
        OverQuota: the project may not have so much.
    """
    changes.check(call, server, "resize", ("active", "stopped"))
    flavor = flavor_of(call, flavor_id)
    new = flavor_facts(flavor)
    _check_flavor(call, server, flavor, new)
    _check_quota(call, server, new)
    if disk_config is not None:
        server = replace(server, disk_config=disk_config)
    return _begin(call, server, "resize", "", flavor.id, new)


def migrate(call: Call, server: Server, host: str) -> Server:
    """Moves a server to another host.

    Args:
        host: which one; "" for any.
    Raises:
        BadField, BadRequest: the host is not there, or the one that it is on; or none has room.
        Conflict: its state does not allow it.
    """
    changes.check(call, server, "migrate", ("active", "stopped"))
    if host and call.tx.get(Host, host) is None:
        raise BadField("migrate.host", f"Compute host {host[:80]} could not be found.")
    if host == server.host:
        raise BadField("migrate.host", f"instance {server.id} is on host {host} already.")
    return _begin(call, server, "migration", host, server.flavor_id, _facts(server))


def confirm(call: Call, server: Server) -> Server:
    """Keeps what a move made: the old disk goes, as soon as its host hears of it."""
    changes.check(call, server, "confirmResize", ("resized",), moving=True)
    history.record(call, server, "confirmResize")
    migrations.advance(call.tx, server, "confirmed", call.now)
    return changes.save(call, replace(server, **move_steps.STILL))


def revert(call: Call, server: Server) -> Server:
    """Undoes a move: the server runs again from its old disk, on its old host, as its old flavor.

    Raises:
        Conflict: it did not move, or its old host is not heard of.
        OverQuota: the old flavor is larger, and the project may not have so much any more.
    """
    changes.check(call, server, "revertResize", ("resized", "error"), moving=True)
    if not server.move or server.old_flavor is None:
        raise Conflict(f"Cannot 'revertResize' instance {server.id} while it is in vm_state error")
    old = call.tx.get(Host, server.origin_host)
    if old is None or not old.alive:
        raise Conflict(
            f"Host {server.origin_host}, which has the old disk, does not report. Try again later."
        )
    _check_quota(call, server, server.old_flavor)
    history.record(call, server, "revertResize")
    migrations.advance(call.tx, server, "reverting", call.now)
    server = move_steps.undone(server)
    if server.move == "leaving":
        return changes.save(call, move_steps.come_back(call, server))
    return changes.save(call, replace(server, move="returning"))


def _begin(call: Call, server: Server, type: str, host: str, flavor_id: str, flavor: FlavorFacts) -> Server:
    dest = _destination(call, replace(server, flavor=flavor), host, elsewhere=type == "migration")
    migrations.begin(call, server, type, "migrating", dest, flavor_id)
    history.record(call, server, "resize" if type == "resize" else "migrate")
    serial = server.move_serial + 1
    return changes.save(
        call,
        replace(
            server,
            move="leaving",
            move_serial=serial,
            kept_serial=serial,
            origin_host=server.host,
            dest_host=dest,
            old_flavor=_facts(server),
            old_flavor_id=server.flavor_id,
            flavor=flavor,
            flavor_id=flavor_id,
        ),
    )


def _facts(server: Server) -> FlavorFacts:
    assert server.flavor is not None, "every server has a flavor"
    return server.flavor


def _check_flavor(call: Call, server: Server, flavor: Flavor, new: FlavorFacts) -> None:
    old = _facts(server)
    if flavor.id == server.flavor_id:
        raise BadField("flavorRef", "When resizing, instances must change flavor!")
    if old.disk and not new.disk:
        raise BadField("flavorRef", "Resize to zero disk flavor is not allowed.")
    for name, has, wanted in (
        ("disk", old.disk, new.disk),
        ("ephemeral disk", old.ephemeral, new.ephemeral),
    ):
        if wanted < has:
            raise BadField(
                "flavorRef", f"Unable to resize disk down: the {name} has {has} GiB, the flavor {wanted}."
            )
    image = call.tx.get(Image, server.image_id)
    if image is not None and server.image is not None:
        check_fit(new, server.image, image)


def _check_quota(call: Call, server: Server, new: FlavorFacts) -> None:
    now = _facts(server)
    check_growth(call.tx, server.project_id, {"cores": new.vcpus - now.vcpus, "ram": new.ram - now.ram})


def _destination(call: Call, server: Server, host: str, *, elsewhere: bool) -> str:
    """The host that a server goes to, which is given with its new flavor.

    Args:
        host: the one asked for, "" for any.
        elsewhere: not the one that it is on.
    Raises:
        BadRequest: none fits.
    """
    ports = networking.attached(call, server)
    found = [call.tx.get(Network, id) for id in {port.network_id for port in ports}]
    physical = frozenset(net.physical_network for net in found if net is not None and net.physical_network)
    asked = total(promises.of_plugged(call.tx, port) for port in ports)
    spread = reach.spread_of(call.tx, ports)
    wish = wish_of(server, call.tx.get(ServerGroup, server.group_id), host, physical, spread, asked)
    there = inventory.views_without(call.tx, server.host, asked)
    views = [view for view in there if not elsewhere or view.name != server.host]
    # Of its group it is not kept apart from itself, nor held to where it is.
    loads = [
        dataclasses.replace(load, group="") if load.server == server.id else load
        for load in inventory.loads(call.tx)
    ]
    chosen = place(views, loads, wish)
    if isinstance(chosen, NoHost):
        reasons = str(chosen) if views else "There is no other host."
        raise BadRequest(f"No valid host was found. {reasons}", type="NoValidHost")
    return chosen
