"""The agent on a real host: Open vSwitch, ports, servers; killed at will, and everything comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_lab import GREETING, AgentLab, changed, identity, port, server, wait

from trunkline.compiler.slices import MirrorSlice
from trunkline.devices import links, namespace

pytestmark = pytest.mark.machine


@pytest.fixture
def lab() -> Iterator[AgentLab]:
    lab = AgentLab(graceful_seconds=2.0)
    try:
        lab.start_all()
        yield lab
    finally:
        lab.close()


def test_the_hosts_own_network_is_made_and_told_to_ovn(lab: AgentLab) -> None:
    assert set(lab.vsctl("list-br").split()) == {"br-int", "br-g", "br-phy", "br-ex"}
    assert lab.vsctl("port-to-br", "eth0") == "br-phy"
    assert lab.vsctl("port-to-br", "eth1") == "br-ex"
    ids = lab.vsctl("get", "Open_vSwitch", ".", "external_ids")
    for told in (
        'ovn-encap-ip="10.99.0.101"',
        "ovn-encap-type=geneve",
        'ovn-remote="ssl:10.99.0.10:6642"',
        "system-id=h1",
        'ovn-bridge-mappings="physnet1:br-ex"',
    ):
        assert told in ids
    assert lab.vsctl("get", "SSL", ".", "private_key") == f'"{lab.host}/host.key"'
    device = namespace.inside(lab.netns, lambda: links.link("br-phy"))
    assert device is not None
    assert (device.up, device.mtu, device.mac) == (True, 1600, "02:99:00:00:00:01")
    assert "10.99.0.101" in device.addresses


def test_ovn_is_told_every_member_of_its_database_and_remembers_them(lab: AgentLab) -> None:
    def told(*ports: int) -> bool:
        ids = lab.vsctl("get", "Open_vSwitch", ".", "external_ids")
        return f'ovn-remote="{",".join(remotes(*ports))}"' in ids

    def remotes(*ports: int) -> tuple[str, ...]:
        return tuple(f"ssl:10.99.0.10:{port}" for port in ports)

    lab.put(backend_remotes=remotes(6642, 6652, 6662))
    wait(lambda: told(6642, 6652, 6662))
    lab.put(backend_remotes=remotes(6642, 6652, 6672))
    wait(lambda: told(6642, 6652, 6672))
    lab.revision -= 1
    lab.restart_control()
    lab.put(backend_remotes=remotes(6642, 6652, 6682))
    wait(lambda: told(6642, 6652, 6682))
    lab.kill("agent")
    lab.control.close()
    lab.vsctl("set", "Open_vSwitch", ".", "external_ids:ovn-remote=ssl:10.99.0.9:1")
    lab.start_agent()
    wait(lambda: told(6642, 6652, 6682))


def test_the_token_is_forgotten_once_joined(lab: AgentLab) -> None:
    assert json.loads((lab.host / "agent.json").read_text())["token"] == ""


def test_the_underlay_address_comes_back_when_the_switch_restarts(lab: AgentLab) -> None:
    lab.put(ports=(port(1, attach="namespace"),))
    lab.applied()
    flows = lab.flows("br-g")
    lab.kill("ovs-vswitchd")
    lab.report(lambda r: not all(d.well for d in r.daemons if d.name == "ovs-vswitchd"))
    lab.start_vswitchd()

    def address() -> bool:
        device = namespace.inside(lab.netns, lambda: links.link("br-phy"))
        return device is not None and "10.99.0.101" in device.addresses and device.mtu == 1600

    wait(address)
    wait(lambda: lab.flows("br-g") == flows)
    lab.report(lambda r: any(d.name == "ovs-vswitchd" and d.well and d.restarts == 1 for d in r.daemons))


def test_more_mirrors_than_a_host_has_room_for_are_told_and_nothing_else_waits_for_them(
    lab: AgentLab,
) -> None:
    def mirrors(count: int) -> tuple[MirrorSlice, ...]:
        return tuple(
            MirrorSlice(
                id=f"m{n}/IN", direction="both", type="gre", remote_address="10.99.0.10", number=1000 + n
            )
            for n in range(count)
        )

    def made() -> int:
        return len(lab.vsctl("--columns=name", "--format=csv", "--no-headings", "list", "Mirror").split())

    one = port(1, attach="namespace")
    lab.put(ports=(changed(one, mirrors=mirrors(33)),))
    lab.applied()
    lab.report(lambda r: any("mirrors of host" in p.what and "1 streams" in p.cause for p in r.problems))
    wait(lambda: made() == 32)
    lab.put(ports=(changed(one, mirrors=mirrors(32)),))
    lab.report(lambda r: not any("mirrors" in p.what for p in r.problems))


def test_ports_are_plugged_and_pruned_and_foreign_ones_untouched(lab: AgentLab) -> None:
    namespace.ip(lab.netns, "link add name foreign type veth peer name foreign1")
    lab.vsctl("add-port", "br-int", "foreign", "--", "set", "Interface", "foreign", "external_ids:iface-id=x")
    one, two = port(1), port(2, attach="namespace", mtu=1400)
    lab.put(ports=(one, two))
    assert set(lab.applied().ports) == {one.id, two.id}
    assert lab.vsctl("get", "Interface", f"tli{one.id[:11]}", "external_ids:iface-id") == f'"{one.id}"'
    inside = f"{lab.prefix}p-{two.id[:8]}"
    device = namespace.inside(inside, lambda: links.link("eth0"))
    assert device is not None
    assert (device.mac, device.mtu, device.up) == (two.mac, 1400, True)
    lab.put(ports=(one,))
    assert lab.applied().ports == (one.id,)
    wait(lambda: not namespace.exists(inside))
    assert set(lab.vsctl("list-ports", "br-g").split()) == {f"tlt{one.id[:11]}", f"tlg{one.id[:11]}"}
    lab.put()
    lab.applied()
    assert lab.vsctl("list-ports", "br-int") == "foreign"
    wait(lambda: not [n for n in namespace.interfaces(lab.netns) if n.startswith("tl")])


def test_a_port_that_somebody_pulled_out_is_plugged_in_again(lab: AgentLab) -> None:
    one = port(1)
    lab.put(ports=(one,))
    lab.applied()
    lab.vsctl("del-port", "br-g", f"tlt{one.id[:11]}")
    wait(lambda: f"tlt{one.id[:11]}" in lab.vsctl("list-ports", "br-g"))


def test_a_port_name_of_somebody_elses_is_told_and_not_taken(lab: AgentLab) -> None:
    one = port(1)
    lab.vsctl("add-port", "br-int", f"tli{one.id[:11]}")
    lab.put(ports=(one,))
    found = lab.report(lambda r: any("somebody else" in p.cause for p in r.problems))
    assert found.ports == ()


def test_a_server_lives_through_all_its_states(lab: AgentLab) -> None:
    image, one = lab.image(), port(1, server=identity(1))
    s = server(1, image, one)

    def put(**fields: object) -> None:
        nonlocal s
        s = changed(s, **fields)
        lab.put(images=(image,), ports=(one,), servers=(s,))

    put()
    seen = lab.server(s.id, lambda r: r.state == "running" and r.ports == (one.id,))
    assert seen.problem is None
    wait(lambda: GREETING in lab.console(s.id))
    first = lab.qemu(s.id)
    assert first is not None

    put(power="paused")
    lab.server(s.id, lambda r: r.state == "paused")
    put(power="running")
    lab.server(s.id, lambda r: r.state == "running")
    assert lab.qemu(s.id) == first

    put(soft_reboot_serial=1)
    lab.server(s.id, lambda r: r.state == "running" and r.soft_reboot_serial == 1)
    second = lab.qemu(s.id)
    assert second not in (None, first)

    put(hard_reboot_serial=1)
    lab.server(s.id, lambda r: r.state == "running" and r.hard_reboot_serial == 1)
    assert lab.qemu(s.id) not in (None, first, second)

    put(power="stopped")
    lab.server(s.id, lambda r: r.state == "stopped")
    assert lab.qemu(s.id) is None
    put(power="running")
    lab.server(s.id, lambda r: r.state == "running")

    disk = (lab.host / "s" / f"{s.id[:8]}.disk").stat().st_ino
    put(disk_serial=1)
    lab.server(s.id, lambda r: r.state == "running" and r.disk_serial == 1)
    assert (lab.host / "s" / f"{s.id[:8]}.disk").stat().st_ino != disk

    last = lab.qemu(s.id)
    assert last is not None
    lab.put()
    lab.report(lambda r: not r.servers)
    assert not last.alive()
    assert not list((lab.host / "s").iterdir())


def test_the_console_is_told(lab: AgentLab) -> None:
    image = lab.image()
    s = server(1, image)
    lab.put(images=(image,), servers=(s,))
    wait(lambda: GREETING.encode() in lab.control.consoles["h1", s.id])


def test_a_control_plane_that_was_restarted_is_told_the_consoles_again(lab: AgentLab) -> None:
    image = lab.image()
    s = server(1, image)
    lab.put(images=(image,), servers=(s,))
    wait(lambda: GREETING.encode() in lab.control.consoles["h1", s.id])
    lab.restart_control()
    wait(lambda: GREETING.encode() in lab.control.consoles["h1", s.id])


def test_a_guest_that_does_not_listen_is_stopped_when_its_time_is_over(lab: AgentLab) -> None:
    image = lab.image("deaf")
    s = server(1, image)
    lab.put(images=(image,), servers=(s,))
    lab.server(s.id, lambda r: r.state == "running")
    wait(lambda: GREETING in lab.console(s.id))
    start = time.monotonic()
    lab.put(images=(image,), servers=(changed(s, power="stopped"),))
    lab.server(s.id, lambda r: r.state == "stopped")
    # Two seconds, and what the machine takes.
    assert 1.9 <= time.monotonic() - start < 10


def test_a_guest_that_was_booting_is_asked_to_power_down_again() -> None:
    lab = AgentLab(graceful_seconds=60.0)
    try:
        lab.start_all()
        image = lab.image("slow")
        s = server(1, image)
        lab.put(images=(image,), servers=(s,))
        wait(lambda: GREETING in lab.console(s.id))
        lab.put(images=(image,), servers=(changed(s, power="stopped"),))
        lab.server(s.id, lambda r: r.state == "stopped", 30)
    finally:
        lab.close()


def test_a_hard_reboot_does_not_wait_for_a_soft_one() -> None:
    lab = AgentLab(graceful_seconds=60.0)
    try:
        lab.start_all()
        image = lab.image("deaf")
        s = server(1, image)
        lab.put(images=(image,), servers=(s,))
        lab.server(s.id, lambda r: r.state == "running")
        lab.put(images=(image,), servers=(changed(s, soft_reboot_serial=1),))
        lab.put(images=(image,), servers=(changed(s, soft_reboot_serial=1, hard_reboot_serial=1),))
        lab.server(s.id, lambda r: r.hard_reboot_serial == 1 and r.state == "running", 30)
    finally:
        lab.close()


def test_a_guest_that_powers_itself_off_stays_off_until_started(lab: AgentLab) -> None:
    image = lab.image("brief")
    s = server(1, image)
    lab.put(images=(image,), servers=(s,))
    lab.server(s.id, lambda r: r.state == "stopped" and r.halted)
    lab.kill("agent")
    lab.start_agent()
    lab.applied()
    lab.server(s.id, lambda r: r.state == "stopped" and r.halted)
    assert lab.console(s.id).count(GREETING) == 1
    lab.put(images=(image,), servers=(changed(s, power="stopped"),))
    lab.server(s.id, lambda r: r.state == "stopped" and not r.halted)
    lab.put(images=(image,), servers=(s,))
    wait(lambda: lab.console(s.id).count(GREETING) == 2)


def test_the_agent_killed_its_servers_go_on_and_are_adopted(lab: AgentLab) -> None:
    image, one = lab.image(), port(1, server=identity(1))
    s = server(1, image, one)
    lab.put(images=(image,), ports=(one,), servers=(s,))
    lab.server(s.id, lambda r: r.state == "running")
    before = lab.qemu(s.id)
    lab.kill("agent")
    assert before is not None
    assert before.alive()
    told = len(lab.control.reports)
    lab.start_agent()
    wait(lambda: len(lab.control.reports) > told)
    seen = lab.server(s.id, lambda r: r.state == "running" and r.ports == (one.id,))
    assert seen.problem is None
    assert lab.qemu(s.id) == before
    # What was not looked at yet is not said to be off.
    states = {r.state for report in lab.control.reports[told:] for r in report.servers}
    assert states <= {"unknown", "running"}


def test_a_killed_qemu_is_told_and_started_again(lab: AgentLab) -> None:
    image = lab.image()
    s = server(1, image)
    lab.put(images=(image,), servers=(s,))
    lab.server(s.id, lambda r: r.state == "running")
    wait(lambda: GREETING in lab.console(s.id))
    before = lab.qemu(s.id)
    assert before is not None
    before.signal(signal.SIGKILL)
    crash = lab.server(s.id, lambda r: r.state == "crashed")
    assert crash.problem is not None
    assert GREETING in crash.problem.cause
    healed = lab.server(s.id, lambda r: r.state == "running")
    assert healed.problem is not None
    assert lab.qemu(s.id) not in (None, before)


def test_without_control_plane_a_restarted_agent_starts_what_it_knows(lab: AgentLab) -> None:
    image, one = lab.image(), port(1, server=identity(1))
    s = server(1, image, one)
    lab.put(images=(image,), ports=(one,), servers=(s,))
    lab.server(s.id, lambda r: r.state == "running")
    lab.kill("agent")
    running = lab.qemu(s.id)
    assert running is not None
    running.terminate(3)
    lab.control.close()
    lab.start_agent()
    wait(lambda: (found := lab.qemu(s.id)) is not None and found != running)


def test_a_network_interface_is_plugged_into_a_running_server(lab: AgentLab) -> None:
    image = lab.image()
    one, two = port(1, server=identity(1)), port(2, server=identity(1))
    s = server(1, image, one)
    lab.put(images=(image,), ports=(one,), servers=(s,))
    lab.server(s.id, lambda r: r.state == "running")
    before = lab.qemu(s.id)
    lab.put(images=(image,), ports=(one, two), servers=(changed(s, ports=(one.id, two.id)),))
    lab.server(s.id, lambda r: r.ports == (one.id, two.id))
    assert lab.qemu(s.id) == before


def test_a_damaged_image_is_told_and_never_started_from(lab: AgentLab) -> None:
    image = lab.image()
    s = server(1, changed(image, sha512="0" * 128))
    lab.put(images=(changed(image, sha512="0" * 128),), servers=(s,))
    seen = lab.server(s.id, lambda r: r.problem is not None)
    assert seen.problem is not None
    assert "damaged" in seen.problem.cause
    assert lab.qemu(s.id) is None


def test_an_image_continues_where_it_was_cut_off(lab: AgentLab) -> None:
    image = lab.image()
    folder = lab.host / "i"
    folder.mkdir(exist_ok=True)
    content = lab.control.images[image.id].read_bytes()
    (folder / f"{image.id}.part").write_bytes(content[: len(content) // 2])
    lab.control.images[image.id].write_bytes(b"\xff" * (len(content) // 2) + content[len(content) // 2 :])
    s = server(1, image)
    lab.put(images=(image,), servers=(s,))
    lab.server(s.id, lambda r: r.state == "running")
    assert (folder / image.id).read_bytes() == content


def test_a_disk_too_small_for_its_image_is_told(lab: AgentLab, tmp_path: Path) -> None:
    import hashlib

    big = tmp_path / "big"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(big), "3G"], check=True)
    data = big.read_bytes()
    image = changed(
        lab.image(),
        disk_format="qcow2",
        size=len(data),
        sha512=hashlib.sha512(data).hexdigest(),
    )
    lab.control.images[image.id] = big
    s = changed(server(1, image), disk_gib=2)
    lab.put(images=(image,), servers=(s,))
    seen = lab.server(s.id, lambda r: r.state == "failed")
    assert seen.problem is not None
    assert "3 GiB" in seen.problem.cause


def test_daemons_are_asked_and_told(lab: AgentLab) -> None:
    lab.report(
        lambda r: (
            [(d.name, d.well) for d in r.daemons if d.name != "ovn-controller"]
            == [("ovsdb-server", True), ("ovs-vswitchd", True)]
        )
    )
    lab.processes["ovs-vswitchd"].signal(signal.SIGSTOP)
    seen = lab.report(lambda r: any(d.name == "ovs-vswitchd" and not d.well for d in r.daemons))
    lab.processes["ovs-vswitchd"].signal(signal.SIGCONT)
    hung = next(d for d in seen.daemons if d.name == "ovs-vswitchd")
    assert (hung.alive, "did not answer" in hung.detail) == (True, True)


def test_it_starts_quickly(lab: AgentLab) -> None:
    """Measured against this machine, however slow: an interpreter with what any such daemon imports."""
    stat = (Path("/proc") / str(lab.processes["agent"].pid) / "stat").read_text().rsplit(")", 1)[1].split()
    seconds = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    before = os.times()
    for _ in range(3):
        subprocess.run([sys.executable, "-c", "import asyncio, http.client, msgspec, ssl"], check=True)
    after = os.times()
    beside = sum(after[2:4]) - sum(before[2:4])
    assert seconds < 6 * beside / 3
