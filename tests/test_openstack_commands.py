"""The `openstack` command on a real cloud: each command of the groups that people use, driven once."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Set
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from cloud import Cloud

HERE = Path(__file__).parent / "clients"
#: Commands whose every verb must be driven; an exception has the extension that is not offered yet.
GROUPS = (
    r"network (create|delete|list|set|show|unset)|network (qos|rbac|trunk) .*|network subport list|"
    r"network agent (delete|list|set|show)|availability zone .*|network segment .*|network meter .*|"
    r"network flavor .*|local ip .*|"
    r"(subnet|port|router|security group|floating ip|address group|address scope|default security) .*"
)
#: Commands of others' extensions among them: default statefulness.
NOT_OFFERED = re.compile(r"security group default statefulness .*")


class Commands:
    """The command as two users, each in a process of its own: it keeps what it learnt of the first."""

    def __init__(self, folder: Path, clouds: dict[str, Any]) -> None:
        file = folder / "clouds.yaml"
        file.write_text(yaml.safe_dump({"clouds": clouds}))
        environ = {"OS_CLIENT_CONFIG_FILE": str(file), "HOME": str(folder), "PATH": "/usr/bin:/bin"}
        self._processes = {
            user: subprocess.Popen(
                [sys.executable, str(HERE / "commands.py")],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**environ, "OS_CLOUD": user},
            )
            for user in clouds
        }  # fmt: skip

    def run(self, user: str, arguments: list[str]) -> tuple[int, str, str]:
        """Runs one; status, output, errors."""
        process = self._processes[user]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(arguments) + "\n")
        process.stdin.flush()
        status, out, errors = json.loads(process.stdout.readline())
        return status, out, errors

    def close(self) -> None:
        """Ends it."""
        for process in self._processes.values():
            process.communicate(timeout=30)


class Script:
    """commands.txt, as far as a cloud offers what it asks for."""

    def __init__(self, commands: Commands, offered: Set[str], values: dict[str, str]) -> None:
        self._commands = commands
        self._offered = offered
        self._values = values
        #: The commands that were asked, without their arguments, and those that the cloud does not offer.
        self.driven: set[str] = set()
        self.left_out: set[str] = set()
        self._known = sorted(network_commands(), key=len, reverse=True)

    def run(self, text: str) -> None:
        """Runs it to its end.

        Raises:
            AssertionError: a command did not do what it is to do; with what it said.
        """
        offered = True
        for line in text.splitlines():
            line = line.strip()
            if match := re.fullmatch(r"\[(.*)\]", line):
                offered = set(match[1].split()) <= self._offered
            elif line and not line.startswith("#"):
                self._line(line, offered)

    def _line(self, line: str, offered: bool) -> None:
        match = re.fullmatch(r"(?:([A-Z_]+) = )?(! )?(@admin )?(.*?)(?: =>(.*))?", line)
        assert match is not None, line
        name, fails, admin, command, wanted = match.groups()
        verb = next(known for known in self._known if f"{command} ".startswith(f"{known} "))
        if not offered:
            self.left_out.add(verb)
            return
        self.driven.add(verb)
        arguments = shlex.split(self._filled(command))
        shows = "-c" in arguments
        if shows:
            arguments += ["-f", "value"]
        status, out, errors = self._commands.run("admin" if admin else "me", arguments)
        told = f"openstack {command}: {status}\n{out}\n{errors}"
        assert bool(status) == bool(fails), told
        said = " ".join((errors if fails else out).split())
        if wanted is not None:
            wanted = self._filled(wanted.strip())
            assert wanted in said if wanted else not said, f"{told}\nwanted: {wanted}"
        if name:
            self._values[name] = said

    def _filled(self, text: str) -> str:
        return re.sub(r"\{([A-Z_]+)\}", lambda match: self._values[match[1]], text)


#: Where the client tells its commands of the Network API, of firewalls and of load balancers.
CLIENTS = ("openstack.network.v2", "openstack.network.v2.fwaas", "openstack.load_balancer.v2")


def network_commands() -> set[str]:
    """The commands that the client has for networks; one of them is of several APIs."""
    own = {each.name.replace("_", " ") for group in CLIENTS for each in entry_points(group=group)}
    return own | {"availability zone list"}


@pytest.fixture
def project(cloud: Cloud) -> Iterator[Any]:
    with cloud.project("commands") as mine:
        yield mine


@pytest.mark.machine
def test_the_openstack_command_drives_the_network_api(cloud: Cloud, project: Any, tmp_path: Path) -> None:
    admin = yaml.safe_load(cloud.state.clouds_yaml.read_text())["clouds"]["trunkline-admin"]
    mine = {**admin, "auth": dict(project.config.config["auth"])}
    commands = Commands(tmp_path, {"admin": admin, "me": mine})
    offered = {each.alias for each in project.network.extensions()}
    values = {"MY_PROJECT": project.current_project_id, "ADMIN_PROJECT": cloud.admin.current_project_id}
    script = Script(commands, offered, values)
    try:
        script.run((HERE / "commands.txt").read_text())
    finally:
        commands.close()
    named = {each for each in script._known if re.fullmatch(GROUPS, each) and not NOT_OFFERED.fullmatch(each)}
    assert named - script.driven - script.left_out == set()
