"""The peer's processes: started in the order in which they need each other, all ended at the end."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.peer import config
from bench.peer.config import PASSWORD, Ports

_SCHEMAS = Path("/usr/share")


class Peer:
    """A Neutron that runs, as its administrator sees it.

    Args:
        installed: the folder that ``scripts/install-peer`` filled.
        root: a folder for its state, with a short path.
    """

    def __init__(self, installed: Path, root: Path) -> None:
        self.root = root
        self._venv = installed / "venv"
        self._netns = f"peer-{secrets.token_hex(2)}"
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = Ports(*(_free_port() for _ in range(4)))
        self.url = f"http://127.0.0.1:{self._ports.neutron}"
        self.headers: dict[str, str] = {}

    def up(self) -> None:
        """Starts everything, and logs in.

        Raises:
            AssertionError: something did not start; with the end of its log.
        """
        for name in ("state/lock", "log", "run"):
            (self.root / name).mkdir(parents=True)
        shutil.copytree(self._venv / "etc" / "neutron", self.root / "etc")
        config.write(self.root, self._ports)
        self._databases()
        self._ovn()
        self._identity()
        self._network()

    def down(self) -> None:
        """Ends what was started, the last first."""
        for child in reversed(self._children.values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        subprocess.run(["ip", "netns", "delete", self._netns], capture_output=True, check=False)

    def sql(self, statements: str, database: str = "neutron") -> None:
        """Runs statements in its database."""
        self._run("mariadb", "-uroot", f"--socket={self.root}/sql.sock", database, input=statements)

    def memory(self) -> float:
        """What the control plane holds, without OVN and Open vSwitch: proportional set size, MB."""
        kept = ("mariadbd", "memcached", "keystone", "neutron", "maintenance", "periodic")
        pids = [pid for name in kept for pid in _group(self._children[name].pid)]
        return sum(proportional(pid) for pid in pids)

    def _databases(self) -> None:
        data, ports = self.root / "sql", self._ports
        auth = "--auth-root-authentication-method=normal"
        self._run("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", auth)
        self._start(
            "mariadbd",
            *("mariadbd", "--no-defaults", "--user=root", f"--datadir={data}"),
            *(f"--socket={self.root}/sql.sock", f"--port={ports.database}", "--bind-address=127.0.0.1"),
            *("--max-connections=400", "--innodb-buffer-pool-size=512M", "--character-set-server=utf8mb4"),
        )
        _until(lambda: (self.root / "sql.sock").exists(), "MariaDB")
        for name in ("neutron", "keystone"):
            self.sql(
                f"CREATE DATABASE {name}; CREATE USER '{name}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';"
                f"GRANT ALL ON {name}.* TO '{name}'@'127.0.0.1';",
                "mysql",
            )
        listen = ("-l", "127.0.0.1", "-p", str(ports.cache))
        self._start("memcached", "memcached", "-u", "root", *listen, "-m", "64")

    def _ovn(self) -> None:
        """OVN's databases and one host, in a network namespace, with Open vSwitch in user space."""
        root = self.root
        schemas = {
            "nb": _SCHEMAS / "ovn" / "ovn-nb.ovsschema",
            "sb": _SCHEMAS / "ovn" / "ovn-sb.ovsschema",
            "ovs": _SCHEMAS / "openvswitch" / "vswitch.ovsschema",
        }
        self._run("ip", "netns", "add", self._netns)
        self._run("ip", "-n", self._netns, "link", "set", "lo", "up")
        for name, schema in schemas.items():
            self._run("ovsdb-tool", "create", str(root / f"{name}.db"), str(schema))
            files = (str(root / f"{name}.db"), f"--remote=punix:{root}/{name}.sock")
            self._start(f"db-{name}", "ovsdb-server", *files, f"--unixctl={root}/{name}.ctl")
            _until((root / f"{name}.sock").exists, f"the database {name}")
        north, south, switch = (f"unix:{root}/{name}.sock" for name in schemas)
        self._start(
            "northd",
            *("ovn-northd", f"--ovnnb-db={north}", f"--ovnsb-db={south}", f"--unixctl={root}/northd.ctl"),
        )
        vsctl = ("ovs-vsctl", f"--db={switch}", "--timeout=20")
        self._run("ovn-nbctl", f"--db={north}", "--timeout=20", "init")
        self._run(*vsctl, "--no-wait", "init")
        facts = {
            "system-id": "peer1",
            "hostname": "peer1",
            "ovn-remote": south,
            "ovn-encap-type": "geneve",
            "ovn-encap-ip": "127.0.0.1",
            "ovn-bridge-datapath-type": "netdev",
            "ovn-bridge-mappings": "physnet1:br-ex",
            "ovn-cms-options": "enable-chassis-as-gw",
        }
        set_facts = (f"external_ids:{name}={value}" for name, value in facts.items())
        self._run(*vsctl, "--no-wait", "set", "Open_vSwitch", ".", *set_facts)
        inside = ("ip", "netns", "exec", self._netns)
        self._start("vswitchd", *inside, "ovs-vswitchd", switch, f"--unixctl={root}/vs.ctl")
        for bridge in ("br-int", "br-ex"):
            self._run(*vsctl, "add-br", bridge, "--", "set", "Bridge", bridge, "datapath_type=netdev")
        self._start("controller", *inside, "ovn-controller", switch, f"--unixctl={root}/controller.ctl")

    def _identity(self) -> None:
        manage = (str(self._venv / "bin" / "keystone-manage"), f"--config-file={self.root}/etc/keystone.conf")
        for folder in ("fernet", "credential"):
            (self.root / "state" / folder).mkdir(mode=0o700)
        self._run(*manage, "db_sync")
        for step in ("fernet_setup", "credential_setup"):
            self._run(*manage, step, "--keystone-user", "root", "--keystone-group", "root")
        url = f"http://127.0.0.1:{self._ports.keystone}/v3"
        urls = [text for kind in ("admin", "public", "internal") for text in (f"--bootstrap-{kind}-url", url)]
        self._run(*manage, "bootstrap", "--bootstrap-password", PASSWORD, *urls)
        self._serve("keystone", {"OS_KEYSTONE_CONFIG_DIR": f"{self.root}/etc"})
        _until(lambda: _answers(url), "Keystone")
        self._log_in(url)

    def _log_in(self, url: str) -> None:
        domain = {"id": "default"}
        user = {"name": "admin", "domain": domain, "password": PASSWORD}
        scope = {"project": {"name": "admin", "domain": domain}}
        identity = {"methods": ["password"], "password": {"user": user}}
        body = json.dumps({"auth": {"identity": identity, "scope": scope}}).encode()
        request = urllib.request.Request(f"{url}/auth/tokens", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as reply:
            self.headers = {"X-Auth-Token": str(reply.headers["X-Subject-Token"])}

    def _network(self) -> None:
        programs, etc = self._venv / "bin", self.root / "etc"
        files = ("neutron.conf", "plugins/ml2/ml2_conf.ini")
        options = tuple(f"--config-file={etc}/{file}" for file in files)
        self._run(str(programs / "neutron-db-manage"), *options, "upgrade", "heads")
        environment = {
            "OS_NEUTRON_CONFIG_DIR": str(etc),
            "OS_NEUTRON_CONFIG_FILES": ";".join(files),
        }
        self._serve("neutron", environment)
        self._start("maintenance", str(programs / "neutron-ovn-maintenance-worker"), *options)
        self._start("periodic", str(programs / "neutron-periodic-workers"), *options)
        _until(lambda: _answers(f"{self.url}/v2.0/networks", self.headers), "Neutron")

    def _serve(self, name: str, environment: Mapping[str, str]) -> None:
        program = str(self._venv / "bin" / "uwsgi")
        self._start(name, program, "--ini", f"{self.root}/etc/{name}-uwsgi.ini", environment=environment)

    def _start(self, name: str, *command: str, environment: Mapping[str, str] | None = None) -> None:
        with (self.root / "log" / f"{name}.log").open("wb") as log:
            self._children[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**self._environment(), **(environment or {})},
            )

    def _run(self, *command: str, input: str = "") -> None:
        done = subprocess.run(
            command,
            input=input,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=self._environment(),
        )
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "OVS_RUNDIR": str(self.root), "OVN_RUNDIR": str(self.root)}


@contextlib.contextmanager
def running(installed: Path) -> Iterator[Peer]:
    """A fresh peer, taken away at the end."""
    root = Path(tempfile.mkdtemp(prefix="tlpeer"))
    peer = Peer(installed, root)
    try:
        peer.up()
        yield peer
    finally:
        peer.down()
        shutil.rmtree(root, ignore_errors=True)


def proportional(pid: int) -> float:
    """The memory of a process, what it shares divided by who shares it: MB."""
    try:
        for line in (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0.0


def _group(leader: int) -> list[int]:
    """The processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(int(entry.name)) == leader:
                    found.append(int(entry.name))
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(url: str, headers: Mapping[str, str] | None = None) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers or {})), timeout=20):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _until(ready: Callable[[], Any], what: str, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what} did not start within {seconds:g} s"
        time.sleep(0.1)
