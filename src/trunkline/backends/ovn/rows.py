"""The whole translation: a logical network as rows of OVN's northbound database. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from trunkline.backends.ovn import balancing, dhcp, filters, names, routing, switching
from trunkline.backends.ovn.names import OWNED, Ref, Rows, Tables
from trunkline.compiler.logical import LogicalNetwork


def desired(network: LogicalNetwork) -> Tables:
    """Every row that should be there, by table and key; equal networks give equal rows."""
    tables: Tables = {}
    for translate in (switching.rows, routing.rows, balancing.rows, filters.rows, dhcp.rows):
        tables |= translate(network)
    return {table: tables[table] for table in OWNED}


class Translation:
    """Owns the last network and its rows, and translates again only what a change can have touched.

    Equal to `desired` for every network, whatever came before. Rows, and whole tables, that come out
    equal are the same objects as before.
    """

    def __init__(self) -> None:
        #: The last network, None before the first.
        self.network: LogicalNetwork | None = None
        self._tables: Tables = {}

    def tables(self, network: LogicalNetwork) -> Tables:
        """The rows of a network. Nobody changes them."""
        old = self.network
        if old is None:
            self._tables = desired(network)
        elif old is not network:
            if all(known is getattr(network, name) for name, known in _records(old) if name != "ports"):
                self._tables = _with_ports(self._tables, old, network)
            else:
                self._tables = _kept(self._tables, desired(network))
        self.network = network
        return self._tables


def _records(network: LogicalNetwork) -> Iterator[tuple[str, object]]:
    return ((name, records) for name, records in vars(network).items() if name != "revision")


def _with_ports(tables: Tables, old: LogicalNetwork, new: LogicalNetwork) -> Tables:
    """The rows of `new`, which differs from `old` in its ports alone."""
    changed = [key for key, port in new.ports.items() if old.ports.get(key) is not port]
    changed += old.ports.keys() - new.ports.keys()
    if not changed:
        return tables
    ports = dict(tables["Logical_Switch_Port"])
    gone: defaultdict[tuple[str, str], set[Ref]] = defaultdict(set)
    come: defaultdict[tuple[str, str], set[Ref]] = defaultdict(set)
    for key in changed:
        ref = Ref("Logical_Switch_Port", key)
        for place in _places(old, key):
            gone[place].add(ref)
        for place in _places(new, key):
            come[place].add(ref)
        ports.pop(key, None)
        if (port := new.ports.get(key)) is not None and port.switch in new.switches:
            ports[key] = switching.port_row(port, new)
    result = {**tables, "Logical_Switch_Port": ports}
    for table, name in gone.keys() | come.keys():
        row = result[table].get(name)
        members = row["ports"] - gone[table, name] | come[table, name] if row is not None else ()
        if row is not None and members != row["ports"]:
            if result[table] is tables[table]:
                result[table] = dict(tables[table])
            result[table][name] = {**row, "ports": members}
    return result


def _places(network: LogicalNetwork, key: str) -> Iterator[tuple[str, str]]:
    """The rows that have the port among their `ports`: its switch, and the groups that filter it."""
    port = network.ports.get(key)
    if port is not None and port.switch in network.switches:
        yield "Logical_Switch", names.switch(port.switch)
        yield from (("Port_Group", group) for group in filters.groups_of(port))


def _kept(old: Tables, new: Tables) -> Tables:
    """`new`, of the objects of `old` wherever they are equal."""
    return {table: _kept_rows(old[table], rows) for table, rows in new.items()}


def _kept_rows(old: Rows, new: Rows) -> Rows:
    kept = {key: known if (known := old.get(key)) == row else row for key, row in new.items()}
    same = len(kept) == len(old) and all(old.get(key) is row for key, row in kept.items())
    return old if same else kept
