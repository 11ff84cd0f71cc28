"""The whole translation: a logical network as rows of OVN's northbound database. Pure."""

from __future__ import annotations

from trunkline.backends.ovn import dhcp, filters, routing, switching
from trunkline.backends.ovn.names import OWNED, Tables
from trunkline.compiler.logical import LogicalNetwork


def desired(network: LogicalNetwork) -> Tables:
    """Every row that should be there, by table and key; equal networks give equal rows."""
    tables: Tables = {}
    for translate in (switching.rows, routing.rows, filters.rows, dhcp.rows):
        tables |= translate(network)
    return {table: tables[table] for table in OWNED}
