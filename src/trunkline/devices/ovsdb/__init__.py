"""A client of OVSDB (RFC 7047, with the extensions of ovsdb-server(7)), on asyncio.

    db = await Database.connect(["unix:/run/db.sock"], "Open_vSwitch", tables={"Bridge": None})
    for uuid, row in db.tables["Bridge"].items():
        print(uuid, row["name"], row["ports"])
    await db.transact([db.ops.update("Bridge", uuid, {"fail_mode": "secure"})])

Python's values for those of OVSDB are described at `Column`.
"""

from trunkline.devices.ovsdb.database import Database
from trunkline.devices.ovsdb.jsonrpc import ProtocolError
from trunkline.devices.ovsdb.operations import Clause, Operation, Operations, TransactError
from trunkline.devices.ovsdb.replica import Listener, Row
from trunkline.devices.ovsdb.schema import Column, Schema, Table

__all__ = [
    "Clause",
    "Column",
    "Database",
    "Listener",
    "Operation",
    "Operations",
    "ProtocolError",
    "Row",
    "Schema",
    "Table",
    "TransactError",
]
