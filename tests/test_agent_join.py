"""A machine that has nothing of lab mode but an address joins a region, and its workloads have a network."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_lab import AgentLab, port, wait

from trunkline.agent import join
from trunkline.agent.config import load
from trunkline.devices import namespace, pki
from trunkline.devices.units import takes_connections
from trunkline.errors import BadField, BadRequest, Refusal


class Machine(AgentLab):
    """Central databases of OVN beside it, the southbound one over TLS; no bridge is configured."""

    def __init__(self) -> None:
        super().__init__()
        namespace.ip(self.netns, "address add 10.99.0.102/24 dev eth0", "link set dev eth0 up")

    def start_central(self) -> None:
        files = self.control.authority.issue("ovn-sb", ["127.0.0.1"])
        tls = (
            "--remote=pssl:6642:127.0.0.1",
            f"--private-key={files.key}",
            f"--certificate={files.cert}",
            f"--ca-cert={self.control.authority.certificate_file}",
        )
        for name, more in (("nb", ()), ("sb", tls)):
            schema = f"/usr/share/ovn/ovn-{name}.ovsschema"
            subprocess.run(["ovsdb-tool", "create", str(self.host / f"{name}.db"), schema], check=True)
            self.start(
                name,
                *("ovsdb-server", f"{name}.db", f"--remote=punix:{name}.sock", "--no-chdir"),
                *(f"--unixctl={self.run}/{name}.ctl", "-vconsole:off", *more),
            )
            wait(lambda name=name: takes_connections(self.host / f"{name}.sock"))
        databases = (f"--ovn{name}-db=unix:{self.host}/{name}.sock" for name in ("nb", "sb"))
        self.start("northd", "ovn-northd", *databases, f"--unixctl={self.run}/northd.ctl", "-vconsole:off")

    def start_controller(self) -> None:
        self.start(
            "ovn-controller",
            *("ovn-controller", f"unix:{self.host}/db.sock", "--no-chdir", "-vconsole:off"),
            f"--pidfile={self.run}/ovn-controller.pid",
        )

    def central(self, tool: str, *arguments: str) -> str:
        name = "nb" if tool == "ovn-nbctl" else "sb"
        command = [tool, "--timeout=10", f"--db=unix:{self.host}/{name}.sock", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    try:
        yield machine
    finally:
        machine.close()


@pytest.mark.machine
def test_a_bare_machine_joins_and_its_workloads_reach_each_other(machine: Machine) -> None:
    machine.start_central()
    machine.start_ovsdb()
    machine.start_vswitchd()
    config = join.prepare(
        directory=machine.host,
        control=machine.control.url,
        token=machine.control.token(),
        name="h1",
        underlay_address="10.99.0.102",
        ovsdb=f"unix:{machine.host}/db.sock",
        datapath="netdev",
    )
    namespace.inside(machine.netns, lambda: asyncio.run(join.join(config)))
    machine.config = {**json.loads((machine.host / "agent.json").read_text()), "token": ""}
    machine.config["namespace_prefix"] = machine.prefix
    machine.start_agent()
    machine.report(lambda r: not r.problems)
    machine.start_controller()
    one, two = port(1, attach="namespace"), port(2, attach="namespace")
    machine.central("ovn-nbctl", "ls-add", "n")
    for p in (one, two):
        told = f"{p.mac} {' '.join(p.addresses)}"
        machine.central(
            "ovn-nbctl",
            *("lsp-add", "n", p.id, "--", "lsp-set-addresses", p.id, told),
            *("--", "lsp-set-port-security", p.id, told),
        )
    machine.put(ports=(one, two))
    machine.applied()
    up = ("--bare", "--columns=up", "find", "Port_Binding", f"logical_port={two.id}")
    wait(lambda: machine.central("ovn-sbctl", *up) == "true")
    for p in (one, two):
        inside = f"{machine.prefix}p-{p.id[:8]}"
        namespace.ip(inside, *(f"address add {a}/{64 if ':' in a else 24} dev eth0" for a in p.addresses))
    for address in two.addresses:
        ping = ["ip", "netns", "exec", f"{machine.prefix}p-{one.id[:8]}", "ping", "-c1", "-W1", address]
        wait(lambda ping=ping: subprocess.run(ping, check=True, capture_output=True))
    machine.report(lambda r: all(d.well for d in r.daemons) and len(r.daemons) == 3)
    # The machine's own address is its own affair, and no bridge was made for it.
    assert set(machine.vsctl("list-br").split()) == {"br-int", "br-g"}


@pytest.mark.machine
def test_a_token_of_another_region_is_refused_before_it_is_sent(machine: Machine) -> None:
    other = pki.Authority.open(machine.folder / "other")
    secret = machine.control.token().partition(".")[0]
    config = join.prepare(
        directory=machine.host,
        control=machine.control.url,
        token=f"{secret}.{other.fingerprint}",
        name="h1",
        underlay_address="10.99.0.102",
    )
    with pytest.raises(BadField, match="not for the region"):
        namespace.inside(machine.netns, lambda: asyncio.run(join.join(config)))
    assert not join.is_joined(config)
    assert not machine.control.check_token("x")


@pytest.mark.machine
def test_an_interrupted_join_is_repeated_with_the_same_key(machine: Machine) -> None:
    config = join.prepare(
        directory=machine.host,
        control=machine.control.url,
        token=machine.control.token(),
        name="h1",
        underlay_address="10.99.0.102",
    )
    namespace.inside(machine.netns, lambda: asyncio.run(join.join(config)))
    config.files.cert.unlink()
    namespace.inside(machine.netns, lambda: asyncio.run(join.join(config)))
    assert join.is_joined(config)
    config.files.key.unlink()
    with pytest.raises(Refusal, match="new token"):
        namespace.inside(machine.netns, lambda: asyncio.run(join.join(config)))


GOOD = {
    "directory": Path("/tmp/h"),
    "control": "https://10.99.0.10:8443",
    "token": "x",
    "name": "h1",
    "underlay_address": "10.99.0.1",
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("control", "http://10.99.0.10:8443"),
        ("control", "https://10.99.0.10"),
        ("underlay_address", "10.99.0"),
        ("underlay_address", "10.99.0.1/99"),
        ("name", "H1"),
        ("name", "a b"),
        ("ovsdb", "tcp:127.0.0.1:6640"),
        ("directory", Path("relative")),
        ("directory", Path("/tmp/" + "x" * 100)),
        ("datapath", "fast"),
    ],
)
def test_what_is_wrong_is_named(field: str, value: object, tmp_path: Path) -> None:
    given = {**GOOD, "directory": tmp_path, field: value}
    with pytest.raises((BadField, BadRequest)) as refused:
        join.prepare(**given)  # type: ignore[arg-type]
    named = {"name": "host", "underlay_address": "underlay"}.get(field, field)
    assert named in refused.value.message


@pytest.mark.parametrize("content", [None, b"", b"{", b"{}", b'{"host": "h1", "surprise": 1}'])
def test_a_bad_configuration_is_told(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadRequest):
        load(file)
