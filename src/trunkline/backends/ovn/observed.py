"""What OVN's databases tell of the data plane: ports, gateways, hosts, and who lags behind."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import replace

from trunkline.backends.contract import Observation, Problem
from trunkline.backends.ovn.names import MARK, redirect
from trunkline.devices.ovsdb import Row
from trunkline.persistent import changed_map

Database = Mapping[str, Mapping[str, Row]]

#: What is watched in the southbound database (ovn-sb(5)).
SOUTHBOUND: dict[str, tuple[str, ...]] = {
    "Port_Binding": ("logical_port", "type", "chassis", "up", "external_ids"),
    "Chassis": ("name", "hostname"),
    "Chassis_Private": ("name", "nb_cfg"),
    "Encap": ("type", "chassis_name"),
}
_REDIRECT = redirect("")
#: The key of northd among those that may lag; no host can have it.
NORTHD = ""


class Lag:
    """Since when who has not reached the newest configuration number (NB_Global: nb_cfg)."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._since: dict[str, float] = {}

    def update(self, behind: set[str], now: float) -> None:
        """Notes who is behind at `now` (seconds, monotonic)."""
        self._since = {who: self._since.get(who, now) for who in behind}

    def late(self, now: float) -> dict[str, float]:
        """Who has been behind for too long, and for how many seconds."""
        return {who: now - since for who, since in self._since.items() if now - since >= self._patience}

    def due(self, now: float, told: Container[str]) -> float | None:
        """In how many seconds somebody will be late who is not among `told`."""
        waits = [since + self._patience - now for who, since in self._since.items() if who not in told]
        return max(min(waits), 0.0) if waits else None


_BLANK: Row = {"nb_cfg": 0, "sb_cfg": 0}


def translated(northbound: Database) -> bool:
    """Whether northd has passed the newest configuration on."""
    row = next(iter(northbound["NB_Global"].values()), _BLANK)
    return bool(row["sb_cfg"] == row["nb_cfg"])


def behind(northbound: Database, southbound: Database) -> set[str]:
    """Who has not reached the newest configuration: hosts by name, and northd."""
    row = next(iter(northbound["NB_Global"].values()), _BLANK)
    late = set() if translated(northbound) else {NORTHD}
    hosts = {chassis["name"] for chassis in southbound["Chassis"].values()}
    # A host follows what northd has passed on, so northd's lag is not its own.
    for host in southbound["Chassis_Private"].values():
        if host["name"] in hosts and host["nb_cfg"] != row["sb_cfg"]:
            late.add(host["name"])
    return late


class Eyes:
    """Owns what was seen last, and looks again only where rows have changed.

    While nothing is another, an observation is of the same dictionaries. Nobody changes one.
    """

    def __init__(self) -> None:
        self._seen: Observation | None = None
        #: The bindings that changed, by UUID, each with the names that it had.
        self._changed: dict[str, set[str]] = {}

    def note(self, table: str, uuid: str, old: Row | None) -> None:
        """A row changed in a way that matters."""
        if table == "Port_Binding":
            self._changed.setdefault(uuid, set()).update([old["logical_port"]] if old is not None else [])
        else:
            self._seen = None

    def look(self, southbound: Database) -> Observation:
        """Ports, gateways and hosts as the southbound database has them."""
        bindings, last = southbound["Port_Binding"], self._seen
        if last is not None and not self._changed:
            return last
        hosts = {uuid: row["name"] for uuid, row in southbound["Chassis"].items()}
        if last is None:
            last, rows = Observation(hosts=set(hosts.values())), list(bindings.values())
        else:
            rows = [bindings[uuid] for uuid in self._changed if uuid in bindings]
        ports: dict[str, str] = {}
        gateways: dict[str, str] = {}
        for row in rows:
            _see(row, hosts, ports, gateways)
        names = {name for names in self._changed.values() for name in names}
        self._changed.clear()
        self._seen = replace(
            last,
            ports_up=changed_map(last.ports_up, ports, names - ports.keys()),
            gateways=changed_map(
                last.gateways, gateways, {name.removeprefix(_REDIRECT) for name in names} - gateways.keys()
            ),
        )
        return self._seen


def _see(row: Row, hosts: Mapping[str, str], ports: dict[str, str], gateways: dict[str, str]) -> None:
    """Notes what a binding tells."""
    host = hosts.get(row["chassis"])
    if host is None:
        return
    if row["type"] == "" and row["up"] and MARK in row["external_ids"]:
        ports[row["logical_port"]] = host
    elif row["type"] == "chassisredirect" and row["logical_port"].startswith(_REDIRECT):
        gateways[row["logical_port"].removeprefix(_REDIRECT)] = host


def lagging(late: Mapping[str, float]) -> Iterator[Problem]:
    """The problem of each who is late."""
    for who, seconds in sorted(late.items()):
        if who == NORTHD:
            yield Problem(
                what="changes of the network do not reach the hosts",
                cause=f"ovn-northd has not translated the newest configuration for {seconds:.0f} s",
                remedy="See the log of ovn-northd, and restart it.",
            )
        else:
            yield Problem(
                what=f"host {who} does not follow the network",
                cause=f"its ovn-controller has not reached the newest configuration for {seconds:.0f} s",
                remedy=f"See whether host {who} is up and the log of its ovn-controller.",
            )


def matters(table: str, old: Row | None, new: Row | None) -> bool:
    """Whether a southbound change can change an observation, lag apart."""
    if table != "Port_Binding":
        return table != "Chassis_Private"
    return _bound(old) != _bound(new)


def _bound(row: Row | None) -> tuple[object, object]:
    return (None, None) if row is None else (row["chassis"], row["up"] or None)
