"""A real cloud for tests, started by the command as a user starts it, one for the whole session.

The fixture `cloud` (conftest.py) gives it. It has three lab hosts, an API on a free port of loopback,
and the users of every new cloud. Tests make what they need in projects of their own, and take it away.

With TRUNKLINE_TEST_STATE=FOLDER the cloud of that state folder is used, started if it does not run, and
left running: for whoever works on one test and does not want to wait for the start.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openstack.config import OpenStackConfig
from openstack.connection import Connection

from trunkline.cli.observe import control_status
from trunkline.devices import namespace
from trunkline.devices.state import StateFolder

REUSE = "TRUNKLINE_TEST_STATE"
HOSTS = 3
#: The physical networks of the session's cloud, beside the one of all hosts.
RACKS = {"rack1": ("h1", "h3"), "rack2": ("h2",)}


class Cloud:
    """A cloud that runs. Nobody but who started it may stop it.

    Args:
        options: more of ``trunkline up``.
    """

    def __init__(self, root: Path, *options: str) -> None:
        self.state = StateFolder(root)
        self._options = options
        self._connections: dict[str, Connection] = {}
        try:
            self.up()
        except BaseException:
            if REUSE not in os.environ:
                self.trunkline("down", "--wipe")
            raise

    def trunkline(self, *arguments: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Runs ``trunkline ARGUMENTS`` for this cloud's state folder."""
        return subprocess.run(
            [sys.executable, "-m", "trunkline", *arguments],
            env={**os.environ, "TRUNKLINE_STATE": str(self.state.root)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def up(self) -> None:
        """Starts it, or puts right what does not run; everything is kept.

        Raises:
            AssertionError: with what the command said.
        """
        again = self.state.cloud_file.exists()
        options = () if again else ("--hosts", str(HOSTS), "--port", "0", *self._options)
        done = self.trunkline("up", *options, timeout=280.0)
        assert done.returncode == 0, f"trunkline up:\n{done.stdout}{done.stderr}\n{self.logs()}"
        facts = self.state.load()
        #: Four hexadecimal digits; the cloud's namespaces are ``tlTAG-NAME``.
        self.tag = facts.tag
        self.prefix = facts.prefix
        #: The names of its hosts.
        self.hosts = [host.name for host in facts.hosts]
        self.url = facts.api_url

    @property
    def demo(self) -> Connection:
        """The user demo with the role member in the project demo, by clouds.yaml."""
        return self._by_file("trunkline")

    @property
    def admin(self) -> Connection:
        """The user admin in the project admin, by clouds.yaml."""
        return self._by_file("trunkline-admin")

    def _by_file(self, name: str) -> Connection:
        if name not in self._connections:
            config = OpenStackConfig(config_files=[str(self.state.clouds_yaml)], load_envvars=False)
            self._connections[name] = Connection(config=config.get_one(cloud=name))
        return self._connections[name]

    @contextlib.contextmanager
    def project(self, name: str = "") -> Iterator[Connection]:
        """A new project, as its only member sees it; both are deleted at the end of the block."""
        name = f"{name or 'test'}-{secrets.token_hex(4)}"
        identity: Any = self.admin.identity
        password = secrets.token_urlsafe(12)
        role = identity.find_role("member", ignore_missing=False)
        project = identity.create_project(name=name, domain_id="default")
        user = identity.create_user(name=name, password=password, domain_id="default")
        identity.assign_project_role_to_user(project, user, role)
        connection = Connection(
            auth={
                "auth_url": f"{self.url}/identity/v3",
                "username": name,
                "password": password,
                "project_name": name,
                "user_domain_id": "default",
                "project_domain_id": "default",
            },
            region_name=self.state.load().region,
            identity_api_version="3",
        )
        try:
            yield connection
        finally:
            connection.close()
            identity.delete_user(user)
            identity.delete_project(project)

    def namespace(self, name: str) -> str:
        """The full name of a network namespace: h1 ..., u, c, x (outside router), i (internet host)."""
        return f"{self.prefix}{name}"

    def status(self) -> dict[str, Any]:
        """What ``trunkline status --json`` tells; its exit status tells whether all is well."""
        told: dict[str, Any] = json.loads(self.trunkline("status", "--json").stdout)
        return told

    def gateway(self, router: Any) -> dict[str, Any]:
        """What control tells of a router's first gateway: the host that carries it, those that may."""
        told = control_status(self.state, self.state.load())["gateways"]
        found: dict[str, Any] = next(each for each in told if each["router"] == router.id)
        return found

    def logs(self, pattern: str = "[ck]*.log", lines: int = 15) -> str:
        """The ends of daemons' logs, for the message of a test that fails; by default control and keeper."""
        shown = []
        for file in sorted(self.state.log.glob(pattern)):
            end = file.read_text(errors="replace").splitlines()[-lines:]
            shown.append("\n".join([f"--- {file.name}", *end]))
        return "\n".join(shown)

    def remove(self) -> None:
        """Stops it, forgets it, and makes sure that nothing of it is left.

        Raises:
            AssertionError: with what is left.
        """
        for connection in self._connections.values():
            connection.close()
        done = self.trunkline("down", "--wipe")
        assert done.returncode == 0, f"trunkline down --wipe:\n{done.stdout}{done.stderr}"
        assert self.leftovers() == []
        assert not self.state.root.exists()

    def leftovers(self) -> list[str]:
        """Namespaces, processes and interfaces of this cloud, in words; of a removed one there are none."""
        spaces = [f"namespace {name}" for name in namespace.names(self.prefix)]
        own = f"tl{self.tag}"
        interfaces = [f"interface {name}" for name in namespace.interfaces(None) if name.startswith(own)]
        return spaces + interfaces + [f"process {p}" for p in _processes_naming(str(self.state.root))]


def _processes_naming(text: str) -> list[str]:
    """The command lines of other processes that have this text in them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if text in line:
                    found.append(f"{entry.name}: {line.strip()}")
    return found


@contextlib.contextmanager
def running_cloud() -> Iterator[Cloud]:
    """The cloud of a test session; see the top of this page."""
    racks = [f"--physical-network={name}={','.join(hosts)}" for name, hosts in RACKS.items()]
    if reused := os.environ.get(REUSE):
        yield Cloud(Path(reused), *racks)
        return
    with own_cloud(*racks) as cloud:
        yield cloud


@contextlib.contextmanager
def own_cloud(*options: str) -> Iterator[Cloud]:
    """A cloud for some tests alone, started with more options of ``trunkline up``."""
    # Sockets below it have paths of 107 bytes at most, so it is not in a folder of pytest's.
    root = Path(tempfile.mkdtemp(prefix="tl"))
    try:
        cloud = Cloud(root, *options)
        try:
            yield cloud
        finally:
            cloud.remove()
    finally:
        shutil.rmtree(root, ignore_errors=True)
