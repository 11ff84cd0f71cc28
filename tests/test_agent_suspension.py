"""Suspended servers on a host: their memory is a file, and whoever dies, they go on or are told not to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agent_lab import GREETING, AgentLab, changed, identity, port, server, wait

from trunkline.compiler.slices import ImageSlice, ServerSlice
from trunkline.resources.reports import ServerReport

pytestmark = pytest.mark.machine


@pytest.fixture(scope="module")
def lab() -> Iterator[AgentLab]:
    made = AgentLab()
    try:
        made.start_all()
        yield made
    finally:
        made.close()


def _in(state: str) -> Callable[[ServerReport], bool]:
    return lambda report: report.state == state


class Suspended:
    """A server that was suspended, after it had greeted."""

    def __init__(self, lab: AgentLab, number: int) -> None:
        self.lab = lab
        self.image: ImageSlice = lab.image()
        self.ports = [port(number, server=identity(number))]
        self.slice: ServerSlice = server(number, self.image, *self.ports)
        self.id = self.slice.id
        self.put(power="running")
        wait(lambda: GREETING in lab.console(self.id))
        lab.server(self.id, lambda r: r.state == "running")
        self.put(power="suspended")
        lab.server(self.id, lambda r: r.state == "suspended")

    def put(self, **fields: object) -> None:
        self.slice = changed(self.slice, **fields)
        self.lab.put(images=(self.image,), ports=tuple(self.ports), servers=(self.slice,))

    @property
    def memory(self) -> Path:
        return self.lab.host / "s" / f"{self.id[:8]}.memory"

    @property
    def greetings(self) -> int:
        return self.lab.console(self.id).count(GREETING)


def test_its_memory_is_a_file_and_it_goes_on_from_there(lab: AgentLab) -> None:
    found = Suspended(lab, 1)
    assert lab.qemu(found.id) is None
    assert found.memory.stat().st_mode & 0o777 == 0o600
    lab.kill("agent")
    lab.start_agent()
    lab.server(found.id, lambda r: r.state == "suspended")
    found.put(power="running")
    lab.server(found.id, lambda r: r.state == "running")
    wait(lambda: not found.memory.exists())
    # It did not boot.
    assert found.greetings == 1
    found.put(power="stopped")
    lab.server(found.id, lambda r: r.state == "stopped")


def test_an_interface_that_went_meanwhile_is_let_go_of(lab: AgentLab) -> None:
    found = Suspended(lab, 2)
    one, two = found.ports[0], port(3, server=found.id)
    found.ports = [two]
    found.put(ports=(two.id,))
    wait(lambda: f"tlt{one.id[:11]}" not in lab.vsctl("list-ports", "br-g"))
    found.put(power="running")
    lab.server(found.id, lambda r: r.state == "running" and r.ports == (two.id,))
    assert found.greetings == 1


def test_a_memory_that_is_damaged_is_told_and_a_reboot_starts_anew(lab: AgentLab) -> None:
    found = Suspended(lab, 4)
    with found.memory.open("r+b") as stream:
        stream.truncate(found.memory.stat().st_size // 2)
    found.put(power="running")
    told = lab.server(found.id, lambda r: r.state == "failed", 40)
    assert told.problem is not None
    assert "its memory cannot be loaded" in told.problem.cause
    assert "Reboot it (hard)" in told.problem.remedy
    assert lab.qemu(found.id) is None
    found.put(hard_reboot_serial=1)
    lab.server(found.id, lambda r: r.state == "running" and r.problem is None, 40)
    wait(lambda: found.greetings == 2)
    wait(lambda: not found.memory.exists())


def test_one_whose_memory_is_not_wanted_any_more_boots_from_its_disk(lab: AgentLab) -> None:
    found = Suspended(lab, 5)
    found.put(power="stopped")
    lab.server(found.id, lambda r: r.state == "stopped")
    wait(lambda: not found.memory.exists())
    found.put(power="running", hard_reboot_serial=1)
    wait(lambda: found.greetings == 2)


def test_an_agent_that_dies_on_the_way_leaves_nothing_undecided(lab: AgentLab) -> None:
    found = Suspended(lab, 6)
    for power, state in (("running", "running"), ("suspended", "suspended")):
        found.put(power=power)
        lab.kill("agent")
        lab.start_agent()
        lab.server(found.id, _in(state), 40)
    assert found.greetings == 1
    assert found.memory.exists()


def test_a_server_without_room_for_its_memory_goes_on(lab: AgentLab) -> None:
    image = lab.image()
    made = changed(server(7, image), memory_mib=1 << 30)
    running = server(7, image)
    lab.put(images=(image,), servers=(running,))
    lab.server(running.id, lambda r: r.state == "running")
    lab.put(images=(image,), servers=(changed(made, power="suspended"),))
    told = lab.server(running.id, lambda r: r.unsuspended != "")
    assert (told.state, "Free some" in told.unsuspended) == ("running", True)
    assert lab.qemu(running.id) is not None
