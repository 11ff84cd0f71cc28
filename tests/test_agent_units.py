"""Compute units on a host: their processes, interfaces and parts of the processors, whoever dies.

| claim | and in reverse |
| --- | --- |
| a unit has namespaces, interfaces and limits of its own, and is told its slice | |
| its processes have their part of a processor | a start may have more |
| it is started again when it dies, with new interfaces that carry packets | nothing of the old one stays |
| its kernel goes on for a moment when it was killed, whichever agent started it | then nothing is left |
| what a data plane had begun lately when it was killed is told to the others | what is older is not |
| it outlives its agent, which finds it again | |
| when it is not wanted any more, nothing of it stays | |
| what cannot be had is told, with its remedy | it is had once it can be |
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from agent_lab import AgentLab, changed, port, wait
from entries import datagrams
from probes import Space

from trunkline.agent.unit_files import Left, end
from trunkline.agent.unit_runtime import LINGER
from trunkline.compiler.unit_slices import BusMember, BusSlice, LegSlice, UnitSlice
from trunkline.devices import namespace, process
from trunkline.devices.conntrack import Conntrack, Entry
from trunkline.resources.reports import UnitReport
from trunkline.units.local import LOCAL
from trunkline.units.words import Bequest, Done

pytestmark = pytest.mark.machine
APPLIANCE, UNIT, LEG = (str(uuid.uuid4()) for _ in range(3))
CLIENT = port(2, attach="namespace")
PORT = changed(port(1, server=UNIT, attach="unit", guard=None), id=LEG)
MEMBER = BusMember(
    number=9,
    kind="dispatcher",
    host="h1",
    underlay="10.99.0.101",
    bus_mac="02:0b:00:00:00:09",
    control_mac="02:0c:00:00:00:09",
    control_address="fd00:74:6c::9",
)
SLICE = UnitSlice(
    id=UNIT,
    appliance=APPLIANCE,
    number=9,
    kind="dispatcher",
    cores=0.2,
    memory_mib=256,
    legs=(LegSlice(zone="inside", addresses=("10.0.0.1/24",), mtu=1442),),
    ports=(LEG,),
    members=(MEMBER,),
)
BUS = BusSlice(appliance=APPLIANCE, bus_vni=7001, control_vni=7002, mtu=1500, members=(MEMBER,))
DEVICES = {"lo", f"tlb{UNIT.replace('-', '')[:11]}", f"tlc{UNIT.replace('-', '')[:11]}", f"tll{LEG[:11]}"}


@pytest.fixture
def lab() -> Iterator[AgentLab]:
    lab = AgentLab()
    try:
        lab.start_all()
        yield lab
    finally:
        lab.close()


def want(lab: AgentLab, **other: object) -> None:
    lab.put(units=(changed(SLICE, **other),), buses=(BUS,), ports=(PORT, CLIENT))


def unit(lab: AgentLab, fits: Callable[[UnitReport], bool]) -> UnitReport:
    """The first report about the unit that fits."""
    found: list[UnitReport] = []

    def look(report: object) -> bool:
        found[:] = [u for u in report.units if u.id == UNIT and fits(u)]  # type: ignore[attr-defined]
        return bool(found)

    lab.report(look)
    return found[0]


def running(lab: AgentLab, fits: Callable[[UnitReport], bool] = lambda _: True) -> process.Process:
    unit(lab, lambda u: u.state == "running" and fits(u))
    found = process.find(lab.host / "u" / f"{UNIT[:8]}.pid")
    assert found is not None
    return found


def groups(lab: AgentLab) -> tuple[Path, ...]:
    """The folders of its control group: of processors, and of memory."""
    left = Left(lab.host / "u" / f"{UNIT[:8]}.pid").read()
    assert left is not None
    return Path(left.folders[0]), Path(left.folders[-1])


def answers(lab: AgentLab, pid: int) -> bool:
    """Whether the leg's address is known to a client on its network, when it asks now."""
    namespace.ip(namespace.of_process(pid), f"address replace 10.0.0.1/24 dev tll{LEG[:11]}")
    space = Space(namespace.names(f"{lab.prefix}p-")[0])
    space.ip("neigh flush dev eth0")
    space.run("ping", "-c", "1", "-W", "1", "10.0.0.1")
    return PORT.mac in space.run("ip", "neigh", "show", "10.0.0.1").stdout


def index(lab: AgentLab) -> int:
    """The number of the leg's other end."""
    return namespace.inside(lab.netns, lambda: socket.if_nametoindex(f"tlv{LEG[:11]}"))


def switch(lab: AgentLab) -> None:
    """What OVN would do: the two ports are on one network."""
    wait(lambda: lab.vsctl("get", "bridge", "br-int", "name"))
    management = f"unix:{lab.run}/br-int.mgmt"
    subprocess.run(["ovs-ofctl", "add-flow", management, "actions=NORMAL"], check=True, timeout=10)
    space = wait(lambda: Space(namespace.names(f"{lab.prefix}p-")[0]))
    wait(lambda: "eth0" in namespace.interfaces(space.netns))
    space.ip("address replace 10.0.0.5/24 dev eth0")


def test_it_has_its_own_and_no_more_than_its_part(lab: AgentLab) -> None:
    want(lab)
    found = running(lab)
    told = unit(lab, lambda u: u.state == "running")
    assert told.problem is None
    assert told.status is not None
    # Its prober may go before others.
    assert told.status.problems == ()
    assert set(namespace.interfaces(namespace.of_process(found.pid))) == DEVICES
    for kind in ("net", "mnt", "pid"):
        assert os.readlink(f"/proc/{found.pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    # What is the host's it does not see, but for the socket.
    inside = ("sh", "-c", f"cd {lab.host} && find . /run -not -path '/run/mount*' | sort")
    command = ["nsenter", f"--target={found.pid}", "--mount", "--", *inside]
    told_files = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert told_files == [".", "./u", f"./u/{UNIT[:8]}", f"./u/{UNIT[:8]}/s", "/run"]
    # What root may do to the machine, it may not.
    capabilities = Path(f"/proc/{found.pid}/status").read_text().partition("CapEff:")[2].split()[0]
    assert not int(capabilities, 16) & 1 << 21  # CAP_SYS_ADMIN
    cpu, memory = groups(lab)
    for group in (cpu, memory):
        assert str(found.pid) in (group / "cgroup.procs").read_text().split()
    # Its processes: one that takes what it gets.
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        (cpu / "cgroup.procs").write_text(str(busy.pid))
        began, had = time.monotonic(), process.used(busy.pid)
        time.sleep(1.5)
        part = (process.used(busy.pid) - had) / (time.monotonic() - began)
        assert 0.05 < part < 0.25
    finally:
        busy.kill()
        busy.wait()


def test_one_that_is_killed_is_started_again(lab: AgentLab) -> None:
    want(lab)
    switch(lab)
    first = running(lab)
    wait(lambda: answers(lab, first.pid))
    before = index(lab)
    first.signal(signal.SIGKILL)
    again = running(lab, lambda u: u.restarts == 1)
    told = unit(lab, lambda u: u.restarts == 1)
    assert told.problem is not None
    assert "SIGKILL" in told.problem.cause
    assert again.pid != first.pid
    assert index(lab) != before
    assert set(namespace.interfaces(namespace.of_process(again.pid))) == DEVICES
    wait(lambda: answers(lab, again.pid))
    # A fresh start is no accident.
    want(lab, serial=1)
    running(lab, lambda u: u.serial == 1 and u.restarts == 0)


def test_its_kernel_goes_on_for_a_moment_when_it_is_killed(lab: AgentLab) -> None:
    want(lab)
    switch(lab)
    must_linger(lab, running(lab))
    again = running(lab, lambda u: u.restarts == 1)
    lab.kill("agent")
    lab.start_agent()
    assert running(lab).pid == again.pid
    must_linger(lab, again)
    running(lab, lambda u: u.restarts == 2)


def must_linger(lab: AgentLab, found: process.Process) -> None:
    """It is killed: for so long its leg is there and carries, and then its namespace is gone."""
    before, leg = index(lab), f"tlv{LEG[:11]}"
    wait(lambda: leg in lab.vsctl("list-ports", "br-g"))
    wait(lambda: namespace.inside(lab.netns, lambda: carries(leg)))
    wait(lambda: os.readlink(f"/proc/{found.pid}/ns/net") in held(lab) and watches(lab, found.pid))
    began = time.monotonic()
    found.signal(signal.SIGKILL)
    wait(lambda: not found.alive())
    while namespace.inside(lab.netns, lambda: carries(leg)) and before in indices(lab):
        time.sleep(0.005)
    passed = time.monotonic() - began
    assert passed > LINGER, f"its leg is gone after {passed:.3f} s"
    # With the last who has it open, a namespace ends, and what is in it; another one may get its number.
    wait(lambda: before not in indices(lab) and len(held(lab)) <= 1)


def test_what_a_killed_data_plane_had_begun_is_told_to_the_others(lab: AgentLab) -> None:
    own = changed(MEMBER, kind="data-plane")
    other = changed(
        own,
        number=10,
        bus_mac="02:0b:00:00:00:0a",
        control_mac="02:0c:00:00:00:0a",
        control_address="fd00:74:6c::a",
    )
    slice_ = changed(SLICE, kind="data-plane", ports=(), members=(own, other))
    lab.put(units=(slice_,), buses=(changed(BUS, members=(own, other)),), ports=())
    found = running(lab)
    kernel = Conntrack(namespace.of_process(found.pid))
    # The other one is this test, at the bridge of the bus.
    (buses,) = namespace.names(f"{lab.prefix}b-")
    namespace.sysctl(buses, [("ipv6/conf/control/disable_ipv6", 0)])
    Space(buses).ip(f"address add {other.control_address}/64 dev control nodad")
    listening = namespace.inside(
        buses, lambda: socket.create_server((other.control_address, 7000), family=socket.AF_INET6)
    )
    with contextlib.closing(kernel), listening:
        assert kernel.put([datagrams(1000, 7)]) == []
        time.sleep(3)
        lately = [datagrams(1001, 8), datagrams(1002, LOCAL | 8)]
        assert kernel.put(lately) == []
        found.signal(signal.SIGKILL)
        for _ in ("it may not have been passed by", "it has"):
            listening.settimeout(20)
            wire = listening.accept()[0].makefile("rwb")
            (size,) = struct.unpack("!I", wire.read(4))
            told = msgspec.msgpack.decode(wire.read(size), type=Bequest)
            assert told.unit == SLICE.number
            assert [Entry(*each).name for each in told.there] == [lately[0].name]
            done = msgspec.msgpack.encode(Done(told.n))
            wire.write(struct.pack("!I", len(done)) + done)
            wire.flush()


def carries(device: str) -> bool:
    """Whether both ends of a pair are there, and up."""
    shown = subprocess.run(["ip", "link", "show", "dev", device], capture_output=True, text=True, check=False)
    return "LOWER_UP" in shown.stdout and ",UP" in shown.stdout


def indices(lab: AgentLab) -> list[int]:
    """The numbers of all interfaces of the host."""
    return [number for number, _ in namespace.inside(lab.netns, socket.if_nameindex)]


def watches(lab: AgentLab, pid: int) -> bool:
    """Whether the agent would see that process end (pidfd_open(2))."""
    told = Path(f"/proc/{lab.processes['agent'].pid}/fdinfo").iterdir()
    return any(f"\nPid:\t{pid}\n" in place.read_text() for place in told)


def held(lab: AgentLab) -> list[str]:
    """The network namespaces that the agent holds open."""
    found = []
    for place in Path(f"/proc/{lab.processes['agent'].pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(place))
    return [each for each in found if each.startswith("net:")]


def test_it_outlives_its_agent_and_goes_with_its_slice(lab: AgentLab) -> None:
    want(lab)
    found = running(lab)
    lab.kill("agent")
    assert found.alive()
    # Meanwhile it has not ended, and is told the rest when the agent is back.
    want(lab, cores=0.4)
    lab.start_agent()
    cpu, memory = groups(lab)
    wait(lambda: (cpu / "cpu.cfs_quota_us").read_text().strip() == "8000", 20)
    assert running(lab).pid == found.pid
    lab.put(ports=(CLIENT,))
    lab.report(lambda r: not r.units)
    gone(lab, found, cpu, memory)
    wait(lambda: not namespace.names(f"{lab.prefix}b-"))
    wait(lambda: f"tlv{LEG[:11]}" not in lab.vsctl("list-ports", "br-g"))
    # And so without an agent, as when a cloud is stopped.
    want(lab)
    found = running(lab)
    groups_ = groups(lab)
    lab.kill("agent")
    end(lab.host / "u" / f"{UNIT[:8]}.pid")
    for left in (lab.host / "u").glob("*.[jl]*"):
        left.unlink()
    gone(lab, found, *groups_)


def gone(lab: AgentLab, found: process.Process, cpu: Path, memory: Path) -> None:
    """Nothing of it stays."""
    assert not found.alive()
    assert not cpu.exists()
    assert not memory.exists()
    assert not list((lab.host / "u").iterdir())
    wait(lambda: not [n for n in namespace.interfaces(lab.netns) if n == f"tlv{LEG[:11]}"])


def test_what_cannot_be_had_is_told(lab: AgentLab) -> None:
    # Its port is missing, and it needs more memory than it may have.
    lab.put(units=(SLICE,), buses=(BUS,))
    told = unit(lab, lambda u: u.problem is not None and "not there yet" in u.problem.cause)
    assert told.state == "starting"
    want(lab, memory_mib=6, serial=1)
    told = unit(lab, lambda u: u.serial == 1 and u.state == "failed" and u.problem is not None)
    assert told.problem is not None
    assert "more memory" in told.problem.cause
    want(lab, serial=2)
    running(lab, lambda u: u.serial == 2)
