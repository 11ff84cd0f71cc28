"""The command line, as far as it needs no cloud: help, options, refusals that leave nothing behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_lab import trunkline

from trunkline.cli import COMMANDS
from trunkline.devices import machine, namespace
from trunkline.devices.state import Cloud, StateFolder


def _refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """It ended with status 1, these words on its last line, and no traceback."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert re.search(word, done.stderr), done.stderr


def test_help_names_every_command_and_loads_none(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom trunkline.cli import trunkline\n"
        "try: trunkline(['--help'])\nfinally: print(*sorted(m for m in sys.modules if 'trunkline' in m))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    *shown, modules = done.stdout.splitlines()
    for name in COMMANDS:
        assert any(line.split()[:1] == [name] for line in shown)
    assert modules.split() == ["trunkline", "trunkline.cli", "trunkline.cli.options", "trunkline.errors"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(tmp_path: Path, name: str) -> None:
    done = trunkline(tmp_path, name, "--help")
    assert done.returncode == 0
    assert "--help" in done.stdout


def test_state_is_taken_from_the_option_then_the_environment_then_xdg(tmp_path: Path) -> None:
    def named(*arguments: str, **env: str) -> str:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **env}
        command = [sys.executable, "-m", "trunkline", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        return done.stderr

    option, variable, home = (str(tmp_path / name) for name in ("option", "variable", "home"))
    assert f"in {option}." in named("--state", option, "status", TRUNKLINE_STATE=variable)
    assert f"in {option}." in named("status", "--state", option, TRUNKLINE_STATE=variable)
    assert f"in {variable}." in named("status", TRUNKLINE_STATE=variable)
    assert f"in {home}/.local/state/trunkline." in named("status", HOME=home)
    assert f"in {home}/trunkline." in named("status", XDG_STATE_HOME=home)


def test_down_of_nothing_is_no_failure(tmp_path: Path) -> None:
    done = trunkline(tmp_path / "none", "down")
    assert done.returncode == 0
    assert "no cloud" in done.stdout
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("text", ["physnet1=h1", "rack1=h1,x"])
def test_a_further_physical_network_is_named_with_its_hosts(tmp_path: Path, text: str) -> None:
    _refused(trunkline(tmp_path / "none", "up", "--physical-network", text), "of the form NAME=HOST")


@pytest.mark.parametrize("name", ["status", "logs", "ssh"])
def test_without_a_cloud_a_command_says_so(tmp_path: Path, name: str) -> None:
    arguments = [name, "s1"] if name == "ssh" else [name]
    _refused(trunkline(tmp_path / "none", *arguments), "trunkline up")


@pytest.fixture
def before() -> Iterator[None]:
    """Namespaces and interfaces of clouds are afterwards what they were."""
    found = set(namespace.interfaces(None))
    yield
    assert set(namespace.interfaces(None)) == found


@pytest.mark.machine
@pytest.mark.usefixtures("before")
class TestUpRefuses:
    """What is in the way is named, with the remedy, and nothing is left behind."""

    def test_without_root(self, tmp_path: Path) -> None:
        weak = ["setpriv", "--bounding-set=-net_admin,-sys_admin", sys.executable, "-m", "trunkline"]
        command = [*weak, "--state", str(tmp_path / "s"), "up"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        _refused(done, "need root", "sudo")
        assert not (tmp_path / "s").exists()

    def test_without_a_program(self, tmp_path: Path) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in ("ip", "ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ssh-keygen", "qemu-img"):
            (folder / name).symlink_to(shutil.which(name) or "")
        done = trunkline(tmp_path / "s", "up", env={"PATH": str(folder)})
        _refused(done, "ovn-northd", "apt-get install .*ovn-central .*qemu-system-x86")
        assert not (tmp_path / "s").exists()

    def test_a_port_in_use(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            done = trunkline(tmp_path / "a" / "s", "up", "--port", str(port))
            _refused(done, f"Port {port} of 127.0.0.1 is in use by python", "--port")
        assert not (tmp_path / "a").exists()

    def test_a_path_too_long_for_sockets(self, tmp_path: Path) -> None:
        done = trunkline(tmp_path / ("x" * 80), "up")
        _refused(done, "sockets", "shorter one with --state")
        assert not list(tmp_path.iterdir())

    def test_a_folder_of_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("precious")
        _refused(trunkline(tmp_path, "up"), "holds thesis.tex but no cloud.json")
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

    @pytest.mark.parametrize("content", ["", "{", '{"tag": 7}', '{"tag": "ab12", "api_port": 1, "x": 2}'])
    def test_a_cloud_json_that_is_broken(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "cloud.json").write_text(content)
        _refused(trunkline(tmp_path, "up"), "cloud.json cannot be used", "down --wipe")
        assert (tmp_path / "cloud.json").read_text() == content
        assert trunkline(tmp_path, "down", "--wipe").returncode == 0
        assert not tmp_path.exists()

    def test_a_full_disk(self, tmp_path: Path) -> None:
        with _small_disk(tmp_path / "disk", "8m") as disk:
            _refused(trunkline(disk / "s", "up"), "disk of .* is full", "MiB are needed")
            assert not list(disk.iterdir())

    def test_fewer_hosts_than_there_are(self, tmp_path: Path) -> None:
        state = StateFolder(tmp_path / "s")
        state.make_folders()
        cloud = Cloud(tag="00ff", api_port=1)
        state.save(cloud)
        _refused(trunkline(state.root, "up", "--hosts", "0"), "--hosts")
        _refused(trunkline(state.root, "up", "--hosts", "1000"), "--hosts")
        assert state.load() == cloud

    def test_it_when_another_is_at_work(self, tmp_path: Path) -> None:
        state = StateFolder(tmp_path)
        with state.locked():
            _refused(trunkline(tmp_path, "up"), "Another .*at work")


class _small_disk:
    """A file system of its own, of that size."""

    def __init__(self, path: Path, size: str) -> None:
        self._path, self._size = path, size

    def __enter__(self) -> Path:
        self._path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self._size}", "none", self._path], check=True)
        return self._path

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", self._path], check=True)


@pytest.mark.machine
def test_doctor_tells_what_was_tried_with_a_remedy_for_each_lack(tmp_path: Path) -> None:
    done = trunkline(tmp_path / "s", "doctor", "--json")
    told = json.loads(done.stdout)
    lines = {line["name"]: line for line in told["lines"]}
    assert {"root", "kvm", "datapath", "tun", "geneve", "vxlan", "ovn-central", "disk", "memory"} <= set(
        lines
    )
    assert all(line["remedy"] for line in told["lines"] if line["state"] != "ok")
    assert told["able"] == (done.returncode == 0) == all(s["state"] != "missing" for s in told["lines"])
    assert not (tmp_path / "s").exists()
    assert not namespace.names("tl-doctor-")


@pytest.mark.machine
def test_doctor_names_the_package_of_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ip").symlink_to(shutil.which("ip") or "")
    done = trunkline(tmp_path / "s", "doctor", env={"PATH": str(folder)})
    assert done.returncode == 1
    assert "apt-get install --no-install-recommends ovn-central" in done.stdout


@pytest.mark.machine
def test_a_guest_that_runs_is_heard_and_one_that_does_not_is_explained() -> None:
    assert machine.guest_failure("tcg", 60.0) == ""
    assert "nonesuch" in machine.guest_failure("nonesuch", 5.0)


def test_whose_ports_are_is_said_of_any_policy(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    carrier = {"subscribers": ["100.64.0.0/30"], "addresses": ["192.0.2.3"], "block": 1000}
    file.write_text(json.dumps({"nat": {"carrier_grade": [carrier | {"from": "inside", "to": "outside"}]}}))
    asked = ("appliance", "policy", "blocks", "edge")
    told = trunkline(tmp_path, *asked, f"--file={file}").stdout.splitlines()
    assert [line.split() for line in told[:2]] == [
        ["100.64.0.0", "192.0.2.3", "1024-2023"],
        ["100.64.0.1", "192.0.2.3", "2024-3023"],
    ]
    assert trunkline(tmp_path, *asked, "192.0.2.3", "2500", f"--file={file}").stdout.splitlines() == told[1:2]
    _refused(trunkline(tmp_path, *asked, "192.0.2.3", "9000", f"--file={file}"), "port 9000 of 192.0.2.3")
