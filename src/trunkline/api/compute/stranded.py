"""Servers on their way whose host has fallen silent: told after a while, with what to do; nothing is assumed.

    arriving, returning   its new host is silent: it may run there, or not
    handed over, alive    the same, of a live migration
    leaving, back         the host that has its only disk is silent

They are in error meanwhile, and go on where they were when the host is heard again. Nobody here can see that
a silent host is off. Where an operator knows, resetting the server's state says so: it runs again on the host
that has its old disk.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from trunkline.api.compute import history, live, migrations, move_steps
from trunkline.api.compute.status import settle
from trunkline.api.engine import Call
from trunkline.errors import Conflict
from trunkline.resources.compute import Server
from trunkline.resources.region import Host
from trunkline.store import table_of

#: How long a host may be silent before its servers that move are told of, seconds.
PATIENCE = 60.0


def watch(call: Call) -> None:
    """Notes since when the hosts of servers that move are silent, and that they are heard again."""
    silent = {}
    for host in call.tx.find(Host, alive=False):
        if call.tx.now.timestamp() - host.seen_at >= PATIENCE:
            silent[host.id] = datetime.fromtimestamp(host.seen_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for name, since in silent.items():
        for server in call.tx.find(Server, host=name):
            if server.move in move_steps.UNDER_WAY and not server.deleting:
                _note(call, server, since)
        for server in call.tx.find(Server, arriving_on=name):
            if server.live is not None and server.live.gone and not server.deleting:
                _note(call, server, since)
    for server in call.tx.select(Server, table_of(Server).c.silent_since > ""):
        if _waits_for(server) not in silent:
            _note(call, server, "")


def _waits_for(server: Server) -> str:
    """The host whose word is waited for, "" for none."""
    if server.live is not None:
        return server.arriving_on
    return server.host if server.move in move_steps.UNDER_WAY else ""


def _note(call: Call, server: Server, since: str) -> None:
    if server.silent_since != since:
        new = settle(replace(server, silent_since=since), call.now)
        call.tx.observe(new)
        history.finish(call.tx, new, call.now)


def given_up(call: Call, server: Server) -> Server:
    """A server on its way whose silent host is off, by an operator's word: it runs where its old disk is.

    Raises:
        Conflict: the host that has the old disk is not heard of either.
    """
    server = replace(server, silent_since="")
    if server.live is not None:
        return live.failed(call, server, "The state was reset.", "cancelled")
    if server.move not in ("arriving", "returning"):
        return server
    old = call.tx.get(Host, server.origin_host)
    if old is None or not old.alive:
        raise Conflict(
            f"Host {server.origin_host}, which has the old disk, does not report. Try again later."
        )
    if server.move == "arriving":
        migrations.advance(call.tx, server, "reverting", call.now)
        server = move_steps.undone(server)
    return move_steps.come_back(call, server)
