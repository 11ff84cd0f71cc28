"""A look at the physical side of a lab, to prove that a demo left it alone. Nothing is written.

What belongs to it: the cables between the namespaces, their addresses and routes, the underlay's bridge, the
physical switch with its ports, VLANs and flows, each host's bridges towards both, and the tunnels between the
hosts. What does not: the taps and namespaces of workloads, which hosts plug into the overlay's bridge.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trunkline.devices.lab import Topology, switch_database
from trunkline.devices.state import StateFolder
from trunkline.errors import Unavailable

#: What agents call the devices of workloads and of metadata services, and the bridges that they plug into.
_OVERLAY = re.compile(r"tl[a-z][0-9a-f]{8}-|br-int$|br-g$|ovs-netdev$")
#: On a host, the bridges that face the physical networks; the tunnels stand on another.
_PHYSICAL_BRIDGES = ("br-phy", "br-ex")
_PORT_COLUMNS = ("tag", "trunks", "vlan_mode", "other_config")
_INTERFACE_COLUMNS = ("type", "options", "mac_in_use", "mtu")
_COUNTERS = re.compile(r"(cookie|duration|n_packets|n_bytes|idle_age|hard_age)=\S+ ?")

Facts = dict[str, frozenset[str]]


def facts(state: StateFolder, lab: Topology) -> Facts:
    """What is seen, in words, by namespace.

    Raises:
        Unavailable: a tool failed, with its words.
    """
    found = {netns: set(_kernel(netns)) for netns in lab.namespaces}
    switch = switch_database(state)
    found[lab.underlay] |= set(_open_vswitch(switch, None))
    found[lab.underlay] |= {f"flow {flow}" for flow in _flows(switch.parent)}
    for host in lab.cloud.hosts:
        found[lab.host(host)] |= set(_open_vswitch(state.host(host.name) / "db.sock", _PHYSICAL_BRIDGES))
    return {netns: frozenset(lines) for netns, lines in found.items()}


def changes(before: Facts, after: Facts) -> list[str]:
    """What is no longer so (-) and what was not so before (+), with its namespace."""
    return [
        f"{sign} {netns}: {line}"
        for netns in sorted(before.keys() | after.keys())
        for sign, old, new in (("-", before, after), ("+", after, before))
        for line in sorted(old.get(netns, frozenset()) - new.get(netns, frozenset()))
    ]


def learned(state: StateFolder, lab: Topology) -> set[str]:
    """The MAC addresses of hosts that the underlay's bridge and the physical switch have seen frames of."""
    shown = _run("bridge", "-n", lab.underlay, "-json", "fdb", "show")
    macs = {entry["mac"] for entry in json.loads(shown or "[]")}
    control = switch_database(state).parent / "ovs-vswitchd.ctl"
    shown = _run("ovs-appctl", "--timeout=5", f"--target={control}", "fdb/show", "phys")
    macs |= set(re.findall(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", shown))
    # Groups that the machine's own ends listen to are in the table too: their first octet is odd.
    return {mac for mac in macs if not int(mac[:2], 16) & 1}


def _kernel(netns: str) -> Iterator[str]:
    for link in json.loads(_run("ip", "-n", netns, "-json", "address") or "[]"):
        name = link["ifname"]
        if _OVERLAY.match(name):
            continue
        state = f"mtu {link['mtu']} {link.get('address', '')} {'up' if 'UP' in link['flags'] else 'down'}"
        yield f"link {name} {state} in {link.get('master', 'no bridge')}"
        for address in link["addr_info"]:
            yield f"address {address['local']}/{address['prefixlen']} on {name}"
    for family in ("-4", "-6"):
        for route in json.loads(_run("ip", "-n", netns, "-json", family, "route") or "[]"):
            if not _OVERLAY.match(route.get("dev", "")):
                yield f"route {route['dst']} via {route.get('gateway', 'the link')} on {route.get('dev')}"


def _open_vswitch(database: Path, bridges: tuple[str, ...] | None) -> Iterator[str]:
    """Bridges (None for all) with their ports, and the tunnels of whatever bridge."""
    interfaces = {row["_uuid"]: row for row in _table(database, "Interface", _INTERFACE_COLUMNS)}
    ports = {row["_uuid"]: row for row in _table(database, "Port", (*_PORT_COLUMNS, "interfaces"))}
    for bridge in _table(database, "Bridge", ("ports", "datapath_type", "fail_mode")):
        wanted = bridges is None or bridge["name"] in bridges
        if wanted:
            yield f"bridge {bridge['name']} {bridge['datapath_type']} {bridge['fail_mode']}"
        for port in (ports[key] for key in _references(bridge["ports"])):
            vlan = " ".join(f"{name}={_plain(port[name])}" for name in _PORT_COLUMNS)
            for interface in (interfaces[key] for key in _references(port["interfaces"])):
                if wanted or interface["type"] in ("geneve", "vxlan"):
                    told = " ".join(f"{name}={_plain(interface[name])}" for name in _INTERFACE_COLUMNS)
                    yield f"port {port['name']} of {bridge['name']} {vlan} {told}"


def _table(database: Path, table: str, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    shown = _run(
        "ovs-vsctl",
        "--timeout=5",
        f"--db=unix:{database}",
        "--format=json",
        f"--columns={','.join(('_uuid', 'name', *columns))}",
        "list",
        table,
    )
    answer = json.loads(shown)
    rows = [dict(zip(answer["headings"], row, strict=True)) for row in answer["data"]]
    return [{**row, "_uuid": row["_uuid"][1]} for row in rows]


def _references(value: Any) -> list[str]:
    """The UUIDs of a column: OVSDB writes one as ["uuid", X], several as ["set", [["uuid", X], ...]]."""
    return [value[1]] if value[0] == "uuid" else [each[1] for each in value[1]]


def _plain(value: Any) -> str:
    """An OVSDB value in one form; see RFC 7047, section 5.1."""
    if isinstance(value, list) and value[0] in ("set", "map"):
        return ",".join(sorted(map(str, value[1]))) or "none"
    return str(value)


def _flows(folder: Path) -> list[str]:
    shown = _run("ovs-ofctl", "--timeout=5", "dump-flows", f"unix:{folder / 'phys.mgmt'}")
    return [_COUNTERS.sub("", line).strip(" ,") for line in shown.splitlines() if "actions=" in line]


def _run(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=15, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"The underlay cannot be looked at: {error}") from None
    if done.returncode:
        raise Unavailable(
            f"The underlay cannot be looked at: {' '.join(argv)}: {' '.join(done.stderr.split())}"
        )
    return done.stdout
