"""How a cloud in lab mode is started and stopped.

    machine ─▶ state folder ─▶ namespaces ─▶ daemons ─▶ API ─▶ hosts

Every step makes what is missing and leaves what is there, so `bring_up` also mends. Where it fails and
nothing of the cloud ran before, what it did is undone.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from trunkline.cli import teardown
from trunkline.cli.progress import Step, Steps
from trunkline.devices import lab, machine, namespace, process, units
from trunkline.devices.lab import topology
from trunkline.devices.state import MOST_HOSTS, Cloud, LabHost, StateFolder, new_tag
from trunkline.devices.units import Unit
from trunkline.errors import BadField, Conflict, NotFound, Unavailable

DEFAULT_PORT, DEFAULT_HOSTS = 8800, 3
#: Bytes without which nothing is begun: databases, logs, the image `tiny` and the disk of a first server.
_LEAST_DISK = 300 * 1024 * 1024


@dataclass(frozen=True)
class Wish:
    """What is asked of `bring_up`; None keeps what the cloud has, or takes the default."""

    hosts: int | None = None
    #: 0 for any free one.
    port: int | None = None
    expose: bool | None = None
    datapath: Literal["netdev", "system"] | None = None
    encapsulation: Literal["geneve", "vxlan"] | None = None
    accelerator: Literal["auto", "kvm", "tcg"] | None = None
    databases: Literal[1, 3] | None = None
    #: Addresses; none at all for an empty one.
    dns_forwarders: tuple[str, ...] | None = None
    #: Of each physical network beside the one that all hosts have: its hosts.
    physical_networks: Mapping[str, Sequence[str]] | None = None


def bring_up(state: StateFolder, wish: Wish, steps: Steps) -> Cloud:
    """Starts the cloud of a state folder, or mends it; returns when it answers and its hosts are there.

    Raises:
        Refusal: what is in the way, and the remedy. Nothing is left behind where nothing was.
    """
    with steps.step("machine") as step:
        _check_machine(state)
        step.note("root, programs, disk")
    with _made_folder(state.root), state.locked():
        try:
            former = state.load()
        except NotFound:
            former = None
        was_running = former is not None and teardown.is_running(state, former)
        try:
            with _disk_full_told(state):
                return _bring_up(state, former, wish, steps)
        except BaseException:
            if not was_running:
                with steps.step("undo") as step:
                    teardown.stop_everything(state, step)
                    if former is None:
                        teardown.wipe(state)
                    step.note("nothing is left behind")
            raise


def _bring_up(state: StateFolder, former: Cloud | None, wish: Wish, steps: Steps) -> Cloud:
    with steps.step("state folder") as step:
        cloud, tokens = _settle(state, former, wish)
        _make_operator_key(state)
        step.note(f"{state.root}, tag {cloud.tag}")
    plan = lab.Topology(cloud)
    listed = lab.units(state, plan)
    with ThreadPoolExecutor(1) as beside:
        certificate = beside.submit(_make_certificate, state)
        with steps.step("namespaces") as step:
            namespace.create(*plan.namespaces)
            if not units.load_units(state):
                # Control takes the longest by far until it is ready, so it begins before there is a lab.
                _tell_keeper(state, listed[:1])
            lab.wire(plan)
            lab.prepare_files(state, plan, tokens)
            step.note(", ".join(name.removeprefix(cloud.prefix) for name in plan.namespaces))
        certificate.result()
    with steps.step("daemons") as step:
        _start_daemons(state, plan, listed, former not in (None, cloud), step)
    with steps.step("API") as step:
        wait_for_control(state, cloud, step, lambda done: done.get("steps", {}).get("api") == "done")
        step.note(cloud.api_url)
    with steps.step("hosts") as step:
        _wait_for_controllers(state, cloud, step)
        wait_for_control(state, cloud, step, lambda done: done.get("steps", {}).get("backend") == "done")
        _wait_for_agents(state, cloud, step)
        step.note(" ".join(host.name for host in cloud.hosts))
    return cloud


def wait_for_image(state: StateFolder, cloud: Cloud, steps: Steps) -> None:
    """Until the image `tiny` is there; at the first start it is built.

    Raises:
        Unavailable: it cannot be built, with the cause. The cloud runs without it.
    """
    with steps.step("image") as step:
        wait_for_control(state, cloud, step, lambda done: bool(done.get("ready")), seconds=600.0)
        step.note("tiny")


def _check_machine(state: StateFolder) -> None:
    if not machine.is_root():
        raise Conflict(
            "Namespaces and Open vSwitch need root (with CAP_NET_ADMIN and CAP_SYS_ADMIN): start "
            "`trunkline up` as root, as by sudo."
        )
    missing = machine.missing_programs()
    if missing:
        raise Conflict(
            f"Not installed: {', '.join(missing)}. On Debian: {machine.apt_line(missing.values())}"
        )
    if failure := machine.tun_failure():
        raise Conflict(f"No tap interfaces can be made: {failure}. Load the module: `modprobe tun`.")
    state.check_length()
    free = machine.free_disk(state.root)
    if free < _LEAST_DISK:
        raise Conflict(
            f"The disk of {state.root} is full: {free // 2**20} MiB are free, {_LEAST_DISK // 2**20} MiB are "
            "needed to begin. Make room, or name a folder on another disk with --state."
        )


@contextlib.contextmanager
def _made_folder(root: Path) -> Iterator[None]:
    """Makes the folder; those that were made for it go again if it is left empty."""
    made = [path for path in (root, *root.parents) if not path.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Conflict(
            f"The state folder {root} cannot be made: {error.strerror}. Name another with --state."
        ) from None
    try:
        yield
    except BaseException:
        for path in made:
            with contextlib.suppress(OSError):  # gone already, or not empty
                path.rmdir()
        raise


@contextlib.contextmanager
def _disk_full_told(state: StateFolder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Conflict(
            f"The disk of {state.root} is full. Make room, or name a folder on another disk with --state."
        ) from error


def _settle(state: StateFolder, former: Cloud | None, wish: Wish) -> tuple[Cloud, dict[str, str]]:
    """What the cloud is from now on, written down, and the join tokens of hosts that are new."""
    count = wish.hosts or (len(former.hosts) if former else DEFAULT_HOSTS)
    if not 1 <= count <= MOST_HOSTS:
        raise BadField("--hosts", f"from 1 to {MOST_HOSTS} are possible.")
    if former is not None and count < len(former.hosts):
        raise Conflict(
            f"This cloud has {len(former.hosts)} hosts, and there may be servers on all of them. Hosts can "
            "be added; for fewer, begin anew: `trunkline down --wipe`."
        )
    if former is not None and wish.databases not in (None, former.databases):
        raise Conflict(
            "How many members OVN's databases have is settled at a cloud's first start; this one has "
            f"{former.databases}. Leave --databases out, or begin anew: `trunkline down --wipe`."
        )
    strangers = {h for names in (wish.physical_networks or {}).values() for h in names} - {
        f"h{number}" for number in range(1, count + 1)
    }
    if strangers:
        raise BadField("--physical-network", f"there is no host {', '.join(sorted(strangers))}.")
    state.make_folders()
    tokens, hosts = {}, []
    for number in range(1, count + 1):
        known = former.hosts[number - 1] if former and number <= len(former.hosts) else None
        host, token = _admit(state, known, number)
        hosts.append(_connected(host, known, wish.physical_networks))
        tokens[host.name] = token
    tag = former.tag if former else new_tag()
    base = former or Cloud(tag=tag, api_port=DEFAULT_PORT)
    chosen: dict[str, Any] = {
        name: value
        for name in ("expose", "datapath", "encapsulation", "accelerator", "databases", "dns_forwarders")
        if (value := getattr(wish, name)) is not None
    }
    port = _settle_port(state, former, wish.port)
    cloud = msgspec.structs.replace(base, hosts=tuple(hosts), api_port=port, **chosen)
    if cloud != former:
        state.save(cloud)
    return cloud, tokens


def _admit(state: StateFolder, known: LabHost | None, number: int) -> tuple[LabHost, str]:
    """A host, and the token in its configuration ("" once it has joined)."""
    name = f"h{number}"
    folder = state.host(name)
    if known is not None and (folder / "host.crt").exists():
        return known, ""
    try:
        config = msgspec.json.decode((folder / "agent.json").read_bytes(), type=dict[str, Any])
        token = str(config.get("token", ""))
    except (OSError, msgspec.MsgspecError):
        token = ""
    if known is not None and token and _digest(token) == known.token_digest:
        return known, token
    token = f"{secrets.token_urlsafe(24)}.{_fingerprint(state)}"
    return LabHost(name=name, number=number, token_digest=_digest(token), token_at=time.time()), token


def _connected(host: LabHost, known: LabHost | None, wanted: Mapping[str, Sequence[str]] | None) -> LabHost:
    """A host with its further physical networks, which it keeps."""
    if wanted is None:
        return (
            host
            if known is None
            else msgspec.structs.replace(host, physical_networks=known.physical_networks)
        )
    found = tuple(sorted(name for name, hosts in wanted.items() if host.name in hosts))
    if known is not None and found != known.physical_networks:
        raise Conflict(
            f"Which physical networks a host has is settled at its first start; {host.name} has physnet1"
            f"{''.join(f', {name}' for name in known.physical_networks)}. Leave --physical-network out, or "
            "begin anew: `trunkline down --wipe`."
        )
    return msgspec.structs.replace(host, physical_networks=found)


def _digest(token: str) -> str:
    """Of its secret, as control keeps it."""
    return hashlib.sha256(token.partition(".")[0].encode()).hexdigest()


def _fingerprint(state: StateFolder) -> str:
    from trunkline.devices.pki import Authority

    return Authority.open(state.pki).fingerprint


def _settle_port(state: StateFolder, former: Cloud | None, wanted: int | None) -> int:
    address = "127.0.0.1"
    port = wanted if wanted is not None else (former.api_port if former else DEFAULT_PORT)
    if port == 0:
        if former is not None:
            port = former.api_port
        else:
            with contextlib.closing(namespace.open_socket_in(None, address, 0)) as probe:
                return int(probe.getsockname()[1])
    ours = process.find(state.pidfile("control")) is not None and former is not None
    if ours and former is not None and former.api_port == port:
        return port
    if (owner := machine.owner_of_port(address, port)) is not None:
        raise Conflict(
            f"Port {port} of {address} is in use by {owner}. Name another with --port, or --port 0 for any."
        )
    return port


def _make_certificate(state: StateFolder) -> None:
    """The region's authority, and OVN's certificate of it."""
    from trunkline.devices.pki import Authority

    Authority.open(state.pki).issue("ovn-sb", addresses=[topology.CONTROL_ADDRESS])


def _make_operator_key(state: StateFolder) -> None:
    """The SSH key of `trunkline ssh`; control puts its public half in every server."""
    key = state.operator_key
    if not key.exists():
        key.parent.mkdir(exist_ok=True, mode=0o700)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "trunkline-operator", "-f", str(key)]
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True, timeout=30)


def _tell_keeper(state: StateFolder, listed: list[Unit]) -> None:
    """The keeper gets the list, and is started if it does not run."""
    changed = units.save_units(state, listed)
    keeper, new = units.ensure_keeper(state)
    if changed and not new:
        keeper.signal(signal.SIGHUP)


def _start_daemons(
    state: StateFolder, plan: lab.Topology, listed: list[Unit], changed: bool, step: Step
) -> None:
    _tell_keeper(state, listed)
    if changed and (control := process.find(state.pidfile("control"))) is not None:
        # It reads what the cloud is when it starts; the keeper starts it again.
        control.signal(signal.SIGTERM)
    database = lab.switch_database(state)
    _wait(state, 20.0, lambda: "the lab's switch does not answer", partial(units.takes_connections, database))
    lab.connect_switch(plan, database)

    def running() -> bool:
        seen = units.load_keeper(state)
        live = [] if seen is None else [u.name for u in listed if _lives(seen, u.name)]
        step.note(f"{len(live)} of {len(listed)}")
        return len(live) == len(listed)

    _wait(state, 30.0, lambda: f"not all daemons run ({step.detail})", running)


def _lives(seen: units.KeeperState, name: str) -> bool:
    return name in seen.units and seen.units[name].pid > 0


def _wait_for_controllers(state: StateFolder, cloud: Cloud, step: Step) -> None:
    """Until every host's ovn-controller is connected to, and registered in, OVN's southbound database."""

    def connected() -> bool:
        waiting = [host.name for host in cloud.hosts if not lab.controller_is_connected(state, host)]
        step.note(f"ovn-controller of {' '.join(waiting)} connects")
        return not waiting

    _wait(state, 60.0, lambda: f"not every host came up ({step.detail})", connected)
    command = ["ovn-sbctl", f"--db={','.join(state.remotes(cloud, 'sb'))}", "--timeout=30"]
    for host in cloud.hosts:
        command += ["--", "wait-until", "Chassis", host.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
    if done.returncode:
        raise Unavailable(f"Not every host registered in OVN. {_causes(state)}".strip())


def _wait_for_agents(state: StateFolder, cloud: Cloud, step: Step) -> None:
    """Until control has heard of every host by its agent: servers can be placed on it from then on."""
    from trunkline.cli.observe import control_status

    def heard() -> bool:
        try:
            seen = {host["name"]: host for host in control_status(state, cloud)["hosts"]}
        except OSError:
            return False
        waiting = [host.name for host in cloud.hosts if not seen.get(host.name, {}).get("well")]
        step.note(f"{' '.join(waiting)} reports")
        return not waiting

    _wait(state, 60.0, lambda: f"not every host is well ({step.detail}): see `trunkline status`", heard)


def wait_for_control(
    state: StateFolder,
    cloud: Cloud,
    step: Step,
    done: Callable[[dict[str, Any]], bool],
    seconds: float = 60.0,
) -> None:
    """Until control's /ready says so.

    Raises:
        Unavailable: it does not in time, or control keeps dying; with the cause.
    """
    from trunkline.cli.api import get_json

    def asked() -> bool:
        try:
            answer = get_json(f"{cloud.api_url}/ready", timeout=5.0)
        except OSError:
            return False
        for name, text in answer.get("steps", {}).items():
            if str(text).startswith("failed"):
                raise Unavailable(f"{name}: {text}. More: `trunkline logs control`.")
        pending = [f"{n}: {s}" for n, s in answer.get("steps", {}).items() if s != "done"]
        step.note(", ".join(pending))
        return done(answer)

    step.note("control starts")
    _wait(state, seconds, lambda: f"control is not ready ({step.detail})", asked)


def _wait(
    state: StateFolder, seconds: float, complaint: Callable[[], str], condition: Callable[[], bool]
) -> None:
    deadline, pause = time.monotonic() + seconds, 0.005
    before = _restarts(state)
    while not condition():
        dying = any(count > before.get(name, 0) + 3 for name, count in _restarts(state).items())
        if dying or time.monotonic() > deadline:
            told = complaint()
            raise Unavailable(f"{told[0].upper()}{told[1:]}. {_causes(state)}".strip())
        time.sleep(pause)
        pause = min(pause * 1.2, 0.05)


def _restarts(state: StateFolder) -> dict[str, int]:
    seen = units.load_keeper(state)
    return {name: unit.restarts for name, unit in seen.units.items()} if seen else {}


def _causes(state: StateFolder) -> str:
    """What the keeper knows of daemons that do not run."""
    seen = units.load_keeper(state)
    if seen is None:
        return "The keeper has told nothing: `trunkline logs keeper`."
    found = [
        f"{name}: {unit.ended or unit.state}{f' ({unit.cause})' if unit.cause else ''}"
        for name, unit in seen.units.items()
        if unit.state in ("backing-off", "missing") or unit.restarts > 2
    ]
    return "; ".join(found)
