"""Moves of servers between hosts, and between flavors: their records.

begin -> advance ... -> advance, until the status is one that ends it
"""

from __future__ import annotations

import uuid

from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.resources.compute import Migration, Server
from trunkline.resources.region import Host
from trunkline.store import Reader, Tx, table_of

#: The type of those that a running server is moved by.
LIVE = "live-migration"
#: Statuses of a live migration that is under way.
UNDER_WAY = frozenset({"queued", "preparing", "running", "post-migrating"})
#: How many moves of one server are kept.
KEPT = 50
#: The newest first.
ORDER = (table_of(Migration).c.number.desc(),)


def begin(call: Call, server: Server, type: str, status: str, dest: str, new_flavor: str = "") -> Migration:
    """Records that a server starts to move.

    Args:
        type: migration, resize or live-migration.
        dest: the host that it goes to.
        new_flavor: where it gets another one.
    """
    host = call.tx.get(Host, dest)
    last = call.tx.select(Migration, order_by=ORDER, limit=1)
    made = Migration(
        id=str(uuid.uuid4()),
        number=last[0].number + 1 if last else 1,
        server_id=server.id,
        project_id=call.context.project_id,
        user_id=call.context.user_id,
        type=type,
        status=status,
        source_host=server.host,
        dest_host=dest,
        dest_address=host.underlay_address if host is not None else "",
        old_flavor_id=server.flavor_id,
        new_flavor_id=new_flavor or server.flavor_id,
        created_at=call.now,
    )
    call.tx.insert(made)
    known = sorted(call.tx.find(Migration, server_id=server.id), key=lambda m: m.number)
    for old in known[: max(0, len(known) - KEPT)]:
        call.tx.delete(Migration, old.id)
    return made


def newest(reader: Reader, server: Server) -> Migration | None:
    """The last move of a server, whether it ended or not."""
    return max(reader.find(Migration, server_id=server.id), key=lambda m: m.number, default=None)


def advance(tx: Tx, server: Server, status: str, now: str) -> None:
    """Notes how far the last move of a server is."""
    found = newest(tx, server)
    if found is not None and found.status != status:
        tx.replace(replace(found, status=status, updated_at=now))


def forget(tx: Tx, server: Server) -> None:
    """Drops the moves of a server that is gone."""
    for found in tx.find(Migration, server_id=server.id):
        tx.delete(Migration, found.id)
