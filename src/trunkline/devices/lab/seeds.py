"""The files that the lab's daemons start from. What is there is kept."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import msgspec

from trunkline.devices import files
from trunkline.devices.lab import topology as t
from trunkline.devices.lab.topology import Topology
from trunkline.devices.process import MissingProgram
from trunkline.devices.state import LabHost, StateFolder
from trunkline.errors import Unavailable

_OVS_SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
_OVN_SCHEMAS = Path("/usr/share/ovn")


def prepare_files(state: StateFolder, lab: Topology, tokens: dict[str, str]) -> None:
    """Databases and the agents' configurations.

    Args:
        tokens: by host, the join token of those that have not joined yet.
    Raises:
        Unavailable: a tool failed, as on a full disk, with its words.
    """
    # ovn-controller 23.03 crashes where it finds no name of the host, and makes its bridge of the wrong
    # kind where it finds none; so both are there before the agent is.
    first = {
        host.name: {"system-id": host.name, "ovn-bridge-datapath-type": lab.cloud.datapath}
        for host in lab.cloud.hosts
    }
    for name, external_ids in {"u": {"system-id": "switch"}, **first}.items():
        folder = state.host(name)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _switch_database(folder / "conf.db", external_ids)
        _forget_sockets(folder)
    for kind in ("nb", "sb"):
        schema = _OVN_SCHEMAS / f"ovn-{kind}.ovsschema"
        if lab.cloud.databases == 1:
            _database(state.central / f"{kind}.db", schema)
        else:
            _cluster([state.central / f"{name}.db" for name in lab.cloud.members(kind)], schema)
    for host in lab.cloud.hosts:
        _agent(state, lab, host, tokens.get(host.name))


def _switch_database(file: Path, external_ids: dict[str, str]) -> None:
    """An Open_vSwitch database with its one row, made under another name: it is there as a whole or not."""
    if not file.exists():
        new = file.with_suffix(".new")
        new.unlink(missing_ok=True)
        _tool("create", str(new), str(_OVS_SCHEMA))
        row = {"external_ids": ["map", list(external_ids.items())]}
        insert = {"op": "insert", "table": "Open_vSwitch", "row": row}
        _tool("transact", str(new), msgspec.json.encode(["Open_vSwitch", insert]).decode())
        new.replace(file)
    _database(file, _OVS_SCHEMA)


def _database(file: Path, schema: Path) -> None:
    """Creates a database of that schema; brings one of another version of it to this one."""
    wanted = f"{schema} {files.size(schema)} {int(schema.stat().st_mtime) if schema.exists() else 0}\n"
    note = file.with_suffix(".schema")
    try:
        if file.exists() and note.read_text() == wanted:
            return
    except FileNotFoundError:
        pass
    if not file.exists():
        _tool("create", str(file), str(schema))
    elif _tool("needs-conversion", str(file), str(schema)).strip() == "yes":
        _tool("convert", str(file), str(schema))
    note.write_text(wanted)


def _cluster(files: list[Path], schema: Path) -> None:
    """The members of a cluster that are missing: the first founds it, the others join when they start."""
    name = json.loads(schema.read_bytes())["name"]
    founder, *others = files
    first = f"unix:{founder.with_suffix('.raft')}"
    if not founder.exists():
        _tool("create-cluster", str(founder), str(schema), first)
    for file in others:
        if not file.exists():
            _tool("join-cluster", str(file), name, f"unix:{file.with_suffix('.raft')}", first)


def _tool(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["ovsdb-tool", *arguments], capture_output=True, text=True, timeout=60, check=False
        )
    except FileNotFoundError:
        raise MissingProgram("ovsdb-tool") from None
    if done.returncode:
        raise Unavailable(f"ovsdb-tool {' '.join(arguments)}: {' '.join(done.stderr.split())}")
    return done.stdout


def _forget_sockets(folder: Path) -> None:
    """ovn-controller names its socket after its pid, and leaves it behind when it is killed."""
    for socket in folder.glob("ovn-controller.*.ctl"):
        if not Path(f"/proc/{socket.name.split('.')[1]}").exists():
            socket.unlink(missing_ok=True)


def _agent(state: StateFolder, lab: Topology, host: LabHost, token: str | None) -> None:
    folder = state.host(host.name)
    config = {
        "host": host.name,
        "control": f"https://{t.CONTROL_ADDRESS}:{t.CHANNEL_PORT}",
        "token": token or "",
        "directory": str(folder),
        "ovsdb": f"unix:{folder}/db.sock",
        "ovs_run": str(folder),
        "underlay": {
            "address": f"{t.underlay_address(host)}/24",
            "bridge": "br-phy",
            "interface": "eth0",
            "mtu": t.UNDERLAY_MTU,
            "hwaddr": t.underlay_mac(host),
        },
        # The user-space switch that the underlay goes through takes too long under load.
        "bus_address": t.bus_address(host),
        "physical_networks": {t.PHYSICAL_NETWORK: {"bridge": "br-ex", "interface": "eth1"}}
        | {
            name: {"bridge": f"br-p-{name}", "interface": near}
            for name, (near, _) in t.further_cables(host).items()
        },
        "datapath": lab.cloud.datapath,
        "ovn_remote": ",".join(lab.southbound_remotes),
        "encapsulation": lab.cloud.encapsulation,
        # The hosts of a lab share the machine, and a network has its metadata service on several of them.
        "namespace_prefix": f"{lab.host(host)}-",
        "accelerator": lab.cloud.accelerator,
    }
    content = msgspec.json.format(msgspec.json.encode(config), indent=2)
    file = folder / "agent.json"
    if not file.exists() or file.read_bytes() != content:
        files.replace(file, content, 0o600)
