"""What runs in the lab: OVN's central daemons, control, and each host's own."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path

from trunkline.devices.lab import topology as t
from trunkline.devices.lab.topology import Topology
from trunkline.devices.state import LabHost, StateFolder
from trunkline.devices.units import Unit, python_environment, python_unit_argv

#: To standard error alone, which is the unit's log.
_LOGGING = ("-vconsole:info", "-vsyslog:off", "-vfile:off")


def units(state: StateFolder, lab: Topology) -> list[Unit]:
    """Every daemon of the cloud, in the order in which they are shown."""
    found = [*_control(state), *_central(state, lab), *_switch(state, lab)]
    for host in lab.cloud.hosts:
        found += _host(state, lab, host)
    return found


def switch_database(state: StateFolder) -> Path:
    """The socket of the physical switch's Open_vSwitch database."""
    return state.host("u") / "db.sock"


def controller_is_connected(state: StateFolder, host: LabHost) -> bool:
    """Whether a host's ovn-controller says that it is connected to OVN's southbound database."""
    for path in state.host(host.name).glob("ovn-controller.*.ctl"):
        with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            client.connect(str(path))
            client.sendall(b'{"id":0,"method":"connection-status","params":[]}')
            return str(json.loads(client.recv(4096)).get("result")).strip() == "connected"
    return False


def _control(state: StateFolder) -> list[Unit]:
    # It runs in the machine's own namespace, where the API listens on loopback, and opens its socket
    # for the hosts inside the lab by itself. It waits for OVN, not the keeper for it: it has much to
    # load meanwhile.
    argv = python_unit_argv("trunkline.control", "--state", str(state.root))
    return [Unit(name="control", argv=argv, env=python_environment(), grace=10.0)]


def _central(state: StateFolder, lab: Topology) -> list[Unit]:
    folder = state.central
    environment = {"OVN_RUNDIR": str(folder), "OVS_RUNDIR": str(folder)}
    tls = (
        f"--private-key={state.pki / 'ovn-sb.key'}",
        f"--certificate={state.pki / 'ovn-sb.crt'}",
        f"--ca-cert={state.pki / 'ca.crt'}",
    )
    servers = dict.fromkeys(lab.cloud.members("nb"), ()) | {
        name: (f"--remote=pssl:{port}:{t.CONTROL_ADDRESS}", *tls)
        for name, port in lab.southbound_ports.items()
    }
    databases = [
        Unit(
            name=name,
            argv=_database_argv(folder, name, *more),
            netns=lab.control,
            env=environment,
            socket=f"{folder}/{name}.sock",
        )
        for name, more in servers.items()
    ]
    northd = Unit(
        name="northd",
        argv=(
            "ovn-northd",
            f"--ovnnb-db={','.join(state.remotes(lab.cloud, 'nb'))}",
            f"--ovnsb-db={','.join(state.remotes(lab.cloud, 'sb'))}",
            f"--unixctl={folder}/northd.ctl",
            *_LOGGING,
        ),
        netns=lab.control,
        env=environment,
        after=tuple(servers),
    )
    return [*databases, northd]


def _switch(state: StateFolder, lab: Topology) -> list[Unit]:
    return _open_vswitch("switch", state.host("u"), lab.underlay)


def _host(state: StateFolder, lab: Topology, host: LabHost) -> list[Unit]:
    folder, netns = state.host(host.name), lab.host(host)
    environment = {"OVN_RUNDIR": str(folder), "OVS_RUNDIR": str(folder)}
    return [
        Unit(
            name=f"{host.name}-agent",
            argv=python_unit_argv("trunkline.agent", "--config", str(folder / "agent.json")),
            netns=netns,
            env=python_environment(),
            after=(f"{host.name}-ovsdb-server",),
        ),
        *_open_vswitch(host.name, folder, netns),
        Unit(
            name=f"{host.name}-ovn-controller",
            argv=(
                "ovn-controller",
                f"unix:{folder}/db.sock",
                f"--pidfile={folder}/ovn-controller.pid",
                *_LOGGING,
            ),
            netns=netns,
            env=environment,
            after=(f"{host.name}-ovsdb-server",),
        ),
    ]


def _open_vswitch(owner: str, folder: Path, netns: str) -> list[Unit]:
    """A private Open vSwitch. No --monitor: the keeper does that, and tells about it."""
    environment = {"OVS_RUNDIR": str(folder)}
    return [
        Unit(
            name=f"{owner}-ovsdb-server",
            argv=(
                "ovsdb-server",
                str(folder / "conf.db"),
                f"--remote=punix:{folder}/db.sock",
                *_control_files(folder, "ovsdb-server"),
                *_LOGGING,
            ),
            netns=netns,
            env=environment,
            socket=f"{folder}/db.sock",
        ),
        Unit(
            name=f"{owner}-ovs-vswitchd",
            argv=(
                "ovs-vswitchd",
                f"unix:{folder}/db.sock",
                *_control_files(folder, "ovs-vswitchd"),
                *_LOGGING,
            ),
            netns=netns,
            env=environment,
            after=(f"{owner}-ovsdb-server",),
            socket=f"{folder}/ovs-vswitchd.ctl",
            # As ovs-ctl(8) starts it: every packet of the lab waits for it.
            nice=-10,
        ),
    ]


def _control_files(folder: Path, program: str) -> tuple[str, str]:
    """Where those who ask a daemon how it is (`ovs-appctl`, the agent) look for it."""
    return f"--unixctl={folder}/{program}.ctl", f"--pidfile={folder}/{program}.pid"


def _database_argv(folder: Path, name: str, *more: str) -> tuple[str, ...]:
    return (
        "ovsdb-server",
        str(folder / f"{name}.db"),
        f"--remote=punix:{folder}/{name}.sock",
        f"--unixctl={folder}/{name}.ctl",
        *more,
        *_LOGGING,
    )
