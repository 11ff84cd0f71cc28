"""A whole cloud in lab mode: started, mended, watched and taken away by the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_lab import LabCloud, bare_machine, interfaces, trunkline, wait_for

from trunkline.cli.api import Api
from trunkline.devices import namespace, process
from trunkline.devices.lab import Topology

pytestmark = pytest.mark.machine

#: A fault is promised to be seen in the status after so many seconds.
SEEN = 10.0


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabCloud]:
    """Two hosts, on any free port."""
    before = set(interfaces())
    found = LabCloud(tmp_path_factory.mktemp("c") / "s")
    try:
        told = json.loads(found.run("up", "--hosts", "2", "--port", "0", "--json", timeout=300))
        assert told["hosts"] == ["h1", "h2"]
        prefix = found.state.load().prefix
        yield found
        # Nothing of it is left: no process, no namespace, no interface, no file.
        found.run("up", timeout=300)
        running = [process.find(file) for file in found.state.run.glob("*.pid")]
        assert len(running) > 10
        found.run("down", "--wipe")
        assert not namespace.names(prefix)
        assert not [one for one in running if one is not None and one.alive()]
        assert not found.root.exists()
        assert set(interfaces()) == before
    finally:
        trunkline(found.root, "down", "--wipe")


@pytest.fixture
def well(cloud: LabCloud) -> LabCloud:
    """The cloud, when all of it is well."""
    cloud.run("up")
    cloud.is_well()
    return cloud


def test_no_interface_stands_in_the_machines_own_namespace(cloud: LabCloud) -> None:
    tag = cloud.state.load().tag
    assert not [name for name in interfaces() if tag in name or name in ("under", "phys", "br-int")]


def test_up_again_changes_nothing(well: LabCloud) -> None:
    before = well.pids()
    well.run("up")
    assert well.pids() == before


@pytest.mark.parametrize(
    "unit",
    ["nb", "sb", "northd", "control", "h1-agent", "h1-ovsdb-server", "h1-ovs-vswitchd", "h1-ovn-controller"],
)
def test_a_daemon_that_is_killed_is_told_of_and_healed(well: LabCloud, unit: str) -> None:
    before, others = well.pid(unit), well.pids()
    os.kill(before, signal.SIGKILL)

    def told() -> bool:
        row = well.daemon(unit)
        return row["ended"] == "killed by SIGKILL" and row["pid"] not in (0, before)

    wait_for(told, SEEN, well.status)
    well.is_well()
    # Nobody else was hurt.
    assert {name: pid for name, pid in well.pids().items() if name != unit} == {
        name: pid for name, pid in others.items() if name != unit
    }


def test_the_keeper_is_missed_and_another_is_started_that_takes_over(well: LabCloud) -> None:
    before = well.pids()
    os.kill(before.pop("keeper"), signal.SIGKILL)
    seen = wait_for(lambda: None if (s := well.status())["well"] else s, SEEN, well.status)
    assert any("keeper" in problem["what"] for problem in seen["problems"])
    wait_for(lambda: "keeper" in well.pids() and well.status()["well"], 60, well.status)
    after = well.pids()
    assert after.pop("keeper")
    assert after == before


def test_after_everything_was_killed_up_brings_the_same_cloud_back(well: LabCloud) -> None:
    cloud = well.state.load()
    for pid in well.pids().values():
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not well.pids(), 20, well.pids)
    seen = well.status()
    assert not seen["well"]
    assert any("trunkline up" in problem["remedy"] for problem in seen["problems"])
    well.run("up")
    assert well.state.load() == cloud
    well.is_well()


def test_after_a_reboot_up_brings_the_same_cloud_back(well: LabCloud) -> None:
    """A reboot leaves files and nothing else."""
    cloud = well.state.load()
    for pid in well.pids().values():
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not well.pids(), 20, well.pids)
    namespace.delete(*well.namespaces())
    well.run("up")
    assert well.state.load() == cloud
    well.is_well()


def test_a_namespace_that_is_missing_is_told_of(well: LabCloud) -> None:
    name = Topology(well.state.load()).internet
    namespace.delete(name)
    seen = well.status()
    assert any(name in problem["cause"] for problem in seen["problems"])
    well.run("up")
    well.is_well()


def _reaches(netns: str, address: str, *options: str) -> None:
    """Who is in a namespace, or in the machine's own, gets an echo from an address, soon."""
    inside = ("ip", "netns", "exec", netns) if netns else ()
    command = [*inside, "ping", "-c", "1", "-W", "2", *options, address]

    def once() -> bool:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    wait_for(once, 20, lambda: command)


def test_the_outside_reaches_the_external_network(well: LabCloud) -> None:
    lab = Topology(well.state.load())
    for address in ("203.0.113.1", "2001:db8:113::1"):
        _reaches(lab.internet, address)


def test_hosts_reach_each_other_with_frames_of_the_underlay(well: LabCloud) -> None:
    lab = Topology(well.state.load())
    host = lab.host(lab.cloud.hosts[0])
    for address in ("10.99.0.102", "10.99.0.10"):
        _reaches(host, address, "-M", "do", "-s", str(1600 - 28))


def test_a_host_is_added_and_joins(well: LabCloud) -> None:
    others = well.pids()
    well.run("up", "--hosts", "3")
    seen = wait_for(lambda: (s := well.status()) and s["well"] and s, 60, well.status)
    assert [host["name"] for host in sorted(seen["hosts"], key=lambda h: h["name"])] == ["h1", "h2", "h3"]
    assert well.pid("h1-ovs-vswitchd") == others["h1-ovs-vswitchd"]
    done = trunkline(well.root, "up", "--hosts", "2")
    assert done.returncode == 1
    assert "3 hosts" in done.stderr


def test_a_leg_for_the_machine_itself_comes_and_goes(well: LabCloud) -> None:
    device = Topology(well.state.load()).exposed_device
    well.run("up", "--expose")
    assert device in interfaces()
    _reaches("", "203.0.113.1")
    well.run("up", "--no-expose")
    assert device not in interfaces()


def test_logs_are_shown_by_daemon_and_by_host(cloud: LabCloud) -> None:
    assert "ovsdb-server" in cloud.run("logs", "nb")
    assert {line.split()[0] for line in cloud.run("logs", "h1").splitlines()} >= {
        "h1-ovsdb-server",
        "h1-ovs-vswitchd",
    }
    done = trunkline(cloud.root, "logs", "nonesuch")
    assert done.returncode == 1
    assert "northd" in done.stderr


def test_two_clouds_live_side_by_side(well: LabCloud, tmp_path: Path) -> None:
    other = LabCloud(tmp_path / "o")
    before = well.pids()
    try:
        other.run("up", "--hosts", "1", "--port", "0", timeout=300)
        other.is_well()
        assert other.state.load().tag != well.state.load().tag
        other.run("down")
        assert not other.namespaces()
        assert other.state.load().hosts
    finally:
        other.run("down", "--wipe")
    assert well.pids() == before
    well.is_well()


def test_an_up_that_is_told_to_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    found = LabCloud(tmp_path / "s")
    command = [sys.executable, "-m", "trunkline", "--state", str(found.root), "up", "--port", "0"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with running:
        wait_for(lambda: found.state.pidfile("nb").exists(), 30, lambda: "no daemon was started")
        prefix = found.state.load().prefix
        nb = process.find(found.state.pidfile("nb"))
        running.terminate()
        running.communicate(timeout=60)
    assert running.returncode != 0
    assert not namespace.names(prefix)
    assert nb is None or not nb.alive()
    assert not found.root.exists()


def test_an_up_that_was_killed_half_way_is_finished_or_taken_away(tmp_path: Path) -> None:
    found = LabCloud(tmp_path / "s")
    command = [sys.executable, "-m", "trunkline", "--state", str(found.root), "up", "--port", "0"]
    try:
        with subprocess.Popen([*command, "--hosts", "1"], stderr=subprocess.PIPE) as running:
            wait_for(lambda: found.state.pidfile("nb").exists(), 30, lambda: "no daemon was started")
            running.kill()
        prefix = found.state.load().prefix
        found.run("up", timeout=300)
        assert found.state.load().prefix == prefix
        found.is_well()
    finally:
        found.run("down", "--wipe")
    assert not namespace.names(prefix)


def test_a_server_is_reached_and_comes_back_with_its_cloud(well: LabCloud) -> None:
    api = Api.open(well.state)
    network = api.post("network", "/v2.0/networks", {"network": {"name": "web"}})["network"]["id"]
    subnet = {"network_id": network, "ip_version": 4, "cidr": "10.0.0.0/24"}
    subnet = api.post("network", "/v2.0/subnets", {"subnet": subnet})["subnet"]
    public = api.find("network", "/v2.0/networks", "networks", "public")["id"]
    router = {"name": "edge", "external_gateway_info": {"network_id": public}}
    router = api.post("network", "/v2.0/routers", {"router": router})["router"]
    api.put("network", f"/v2.0/routers/{router['id']}/add_router_interface", {"subnet_id": subnet["id"]})
    image = api.find("image", "/v2/images", "images", "tiny")["id"]
    flavor = api.find("compute", "/v2.1/flavors", "flavors", "tiny")["id"]
    wanted = {"name": "s1", "imageRef": image, "flavorRef": flavor, "networks": [{"uuid": network}]}
    server = api.post("compute", "/v2.1/servers", {"server": wanted})["server"]["id"]

    def active() -> bool:
        return bool(api.get("compute", f"/v2.1/servers/{server}")["server"]["status"] == "ACTIVE")

    wait_for(active, 120, lambda: api.get("compute", f"/v2.1/servers/{server}"))
    refused = trunkline(well.root, "ssh", "s1", "--", "true")
    assert refused.returncode == 1
    assert "openstack server add floating ip s1" in refused.stderr
    port = api.get("network", "/v2.0/ports", device_id=server)["ports"][0]["id"]
    body = {"floatingip": {"floating_network_id": public, "port_id": port}}
    api.post("network", "/v2.0/floatingips", body)

    def name() -> str:
        return trunkline(well.root, "ssh", "s1", "--", "hostname").stdout.strip()

    assert wait_for(name, 120, lambda: trunkline(well.root, "ssh", "s1", "--", "hostname")) == "s1"
    assert trunkline(well.root, "ssh", "s1", "--", "exit", "7").returncode == 7
    guests = [process.find(file) for file in well.root.glob("h/*/s/*.pid")]
    assert len(guests) == 1
    well.run("down")
    assert not [guest for guest in guests if guest is not None and guest.alive()]
    well.run("up")
    assert wait_for(name, 120, lambda: trunkline(well.root, "ssh", "s1", "--", "hostname")) == "s1"


def test_up_proves_itself_with_a_first_server_and_takes_it_away(well: LabCloud) -> None:
    told = json.loads(well.run("up", "--prove", "--json", timeout=300))
    assert {"first server", "reached", "tidied up"} <= set(told["seconds"])
    api = Api.open(well.state)
    assert not [s for s in api.get("compute", "/v2.1/servers")["servers"] if s["name"] == "trunkline-proof"]
    assert not api.get("network", "/v2.0/networks", name="trunkline-proof")["networks"]


def test_a_machine_with_an_open_vswitch_of_its_own_joins(well: LabCloud, tmp_path: Path) -> None:
    """It has nothing of lab mode but an address on the underlay. (The last test: this host stays known.)"""
    lab = Topology(well.state.load())
    netns = f"{lab.cloud.prefix}m"
    token = json.loads(well.run("host", "token", "--json"))
    with bare_machine(lab.underlay, netns, "10.99.0.77/24", tmp_path) as ovsdb:
        command = ["ip", "netns", "exec", netns, sys.executable, "-m", "trunkline", "host"]
        command += ["join", "--control", token["control"], "--token", token["token"], "--name", "m1"]
        command += ["--underlay-address", "10.99.0.77", "--ovsdb", f"unix:{ovsdb}", "--datapath", "netdev"]
        command += ["--directory", str(tmp_path / "m")]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr

            def joined() -> bool:
                seen = {host["name"]: host for host in well.status()["hosts"]}
                return bool(seen.get("m1", {}).get("alive")) and "m1" in well.status()["backend"]["hosts"]

            wait_for(joined, 60, well.status)
            # Good for one host.
            command[command.index("m1")] = "m2"
            command[command.index(str(tmp_path / "m"))] = str(tmp_path / "m2")
            again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert again.returncode == 1
            assert "token" in again.stderr
        finally:
            agent = process.find(tmp_path / "m" / "agent.pid")
            if agent is not None:
                agent.terminate(10.0)
