"""What security groups let pass and drop, from the logs of the hosts, with the names of what took part.

A log is asked for over the API (``openstack network log create``). The lines are those of
ovn-controller (ovn-nb(5), ACL): they name the list that decided, and the packet, whose MAC address
leads to the port.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from trunkline.cli.api import Api, ApiError
from trunkline.devices import files
from trunkline.devices.state import StateFolder

_SUFFIX = "-ovn-controller"
#: How much of a host's log is looked at, bytes from its end.
_AT_MOST = 8 * 1024 * 1024
_LINE = re.compile(
    r'^(?P<time>\S+?)\|\d+\|acl_log\S*\|INFO\|name="(?P<kind>rule|group|port)/(?P<id>[^"]*)", '
    r"verdict=(?P<verdict>\w+), severity=\w+, direction=(?P<way>to|from)-lport: (?P<flow>.*)$"
)


class Entry(msgspec.Struct, kw_only=True):
    """One packet that a list wrote of."""

    #: UTC, as the host's clock has it: 2026-11-21T08:14:09Z.
    time: str
    host: str
    #: accepted or dropped.
    verdict: str
    #: As the port sees it: ingress or egress.
    direction: str
    #: What decided: the id of a rule, or of the group or the port that was asked for.
    rule_id: str | None = None
    group_id: str | None = None
    port_id: str | None = None
    protocol: str = ""
    source: str = ""
    destination: str = ""
    source_port: int | None = None
    destination_port: int | None = None
    #: The MAC address on the port's side.
    mac: str = ""
    #: Names, where they are known.
    port: str = ""
    group: str = ""


def parse(host: str, line: str) -> Entry | None:
    """What a line of ovn-controller's log says of a packet; None where it is another one."""
    match = _LINE.match(line)
    if match is None:
        return None
    protocol, _, rest = match["flow"].partition(",")
    flow = dict(part.partition("=")[::2] for part in rest.split(","))
    inward = match["way"] == "to"
    return Entry(
        time=match["time"],
        host=host,
        verdict="dropped" if match["verdict"] in ("drop", "reject") else "accepted",
        direction="ingress" if inward else "egress",
        **{f"{match['kind']}_id": match["id"]},
        protocol=protocol,
        source=flow.get("nw_src") or flow.get("ipv6_src", ""),
        destination=flow.get("nw_dst") or flow.get("ipv6_dst", ""),
        source_port=_number(flow.get("tp_src")),
        destination_port=_number(flow.get("tp_dst")),
        mac=flow.get("dl_dst" if inward else "dl_src", ""),
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


class Names:
    """Finds out what entries are of; asks the API once for each."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[str, Any] = {}

    def complete(self, entry: Entry) -> Entry:
        """The entry with the ids and names of port and group, as far as they are still there."""
        if entry.rule_id and (rule := self._one("security-group-rules", entry.rule_id)):
            entry.group_id = rule["security_group_id"]
        if entry.group_id and (group := self._one("security-groups", entry.group_id)):
            entry.group = group["name"]
        port = self._port(entry)
        if port is not None:
            entry.port_id, entry.port = port["id"], port["name"]
        return entry

    def _port(self, entry: Entry) -> Any:
        if entry.port_id:
            return self._one("ports", entry.port_id)
        own = entry.destination if entry.direction == "ingress" else entry.source
        found = [
            port
            for port in self._all("ports", mac_address=entry.mac)
            if entry.group_id is None or entry.group_id in port["security_groups"]
        ]
        exact = [port for port in found if own in (each["ip_address"] for each in port["fixed_ips"])]
        return next(iter(exact or found), None)

    def _one(self, collection: str, id: str) -> Any:
        return next(iter(self._all(collection, id=id)), None)

    def _all(self, collection: str, **query: str) -> list[Any]:
        key = f"{collection} {query}"
        if key not in self._known:
            try:
                answer = self._api.get("network", f"/v2.0/{collection}", **query)
                self._known[key] = next(iter(answer.values()))
            except ApiError:
                self._known[key] = []
        found: list[Any] = self._known[key]
        return found


def of_host(log: Path) -> str:
    """The host whose log it is, or "" where no packets are told of."""
    return log.stem.removesuffix(_SUFFIX) if log.stem.endswith(_SUFFIX) else ""


def entries(state: StateFolder) -> list[Entry]:
    """What all logs of the state folder tell of packets, in the order of time."""
    found = (
        entry
        for log in sorted(state.log.glob(f"*{_SUFFIX}.log"))
        for entry in parsed(of_host(log), files.last_lines(log, _AT_MOST, at_most=_AT_MOST))
    )
    return sorted(found, key=lambda entry: entry.time)


def parsed(host: str, lines: Iterable[str]) -> Iterator[Entry]:
    """The entries among the lines of a host's log."""
    return (entry for line in lines if "|acl_log" in line and (entry := parse(host, line)) is not None)


def shown(entry: Entry) -> str:
    """One line for people."""
    way = "in " if entry.direction == "ingress" else "out"
    port = f"port {entry.port or entry.port_id or entry.mac}"
    group = f" group {entry.group or entry.group_id}" if entry.group_id else ""
    rule = f" rule {entry.rule_id}" if entry.rule_id else ""
    source = entry.source + (f":{entry.source_port}" if entry.source_port is not None else "")
    target = entry.destination + (f":{entry.destination_port}" if entry.destination_port is not None else "")
    return (
        f"{entry.time} {entry.host} {entry.verdict:<8} {way} {port}{group}{rule} "
        f"{entry.protocol} {source} -> {target}"
    )
