"""The steps of a move of a server, as hosts get there; `moves` has the requests, and the picture of them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from trunkline.api.compute import inventory, migrations, networking
from trunkline.api.compute.status import settle
from trunkline.api.engine import Call
from trunkline.resources.compute import Server

#: What was seen of a server says nothing of the host that it goes to.
_UNSEEN: dict[str, Any] = {
    "observed_state": "",
    "observed_disk_serial": -1,
    "observed_parked": 0,
    "observed_moved": 0,
    "plugged": [],
    "problem": None,
}
#: The fields of a server that does not move.
STILL: dict[str, Any] = {
    "move": "",
    "origin_host": "",
    "dest_host": "",
    "old_flavor": None,
    "old_flavor_id": "",
}


#: Steps in which a host's word is waited for.
UNDER_WAY = frozenset({"leaving", "arriving", "returning", "back"})


def undone(server: Server) -> Server:
    """A server whose move is to be undone: what it was before, but where it is."""
    return replace(
        server,
        flavor=server.old_flavor,
        flavor_id=server.old_flavor_id,
        move_serial=server.move_serial + 1,
        forced_error=False,
        problem=None,
    )


def follow(call: Call, server: Server) -> Server:
    """The next step of a server that moves, as far as its host is; the server itself where it is not yet."""
    if server.move == "leaving" and server.observed_parked >= server.move_serial:
        return _placed(call, server, "arriving", server.dest_host)
    if server.observed_moved < server.move_serial or not _runs(server):
        return server
    if server.move == "arriving":
        migrations.advance(call.tx, server, "finished", call.now)
        return replace(server, move="settled")
    if server.move == "back":
        migrations.advance(call.tx, server, "reverted", call.now)
        return replace(server, **STILL)
    return server


def gone(call: Call, server: Server) -> Server:
    """A server whose move is undone, and of which its new host has nothing left."""
    return settle(replace(come_back(call, server), updated_at=call.now), call.now)


def come_back(call: Call, server: Server) -> Server:
    """On its way back: its old host is to run it again, from its old disk."""
    return _placed(call, server, "back", server.origin_host)


def _placed(call: Call, server: Server, step: str, host: str) -> Server:
    zone = next((view.zone for view in inventory.views(call.tx) if view.name == host), server.zone)
    server = replace(server, **_UNSEEN, move=step, host=host, zone=zone, updated_at=call.now)
    for port in networking.attached(call, server):
        if port.device_id == server.id:
            networking.bind(call, port, server)
    return server


def _runs(server: Server) -> bool:
    """Whether its host has it as it is wanted, with its ports."""
    if server.power == "stopped":
        return server.observed_state == "stopped"
    return server.observed_state == "running" and set(server.ports) <= set(server.plugged)
