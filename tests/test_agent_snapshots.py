"""The agent makes images of disks: while the guest runs, pauses or is off, and again after it was killed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from agent_lab import AgentLab, changed, guest_image, identity, server, wait

from trunkline.compiler.slices import ImageSlice, ServerSlice

pytestmark = pytest.mark.machine

#: The smallest place that a guest's disk is padded to is this.
SIZE = 1 << 20


@pytest.fixture(scope="module")
def host() -> Iterator[tuple[AgentLab, ImageSlice, ServerSlice]]:
    lab = AgentLab()
    try:
        image = lab.image("polite")
        lab.start_all()
        s = server(1, image)
        lab.put(images=(image,), servers=(s,))
        lab.server(s.id, lambda r: r.state == "running")
        yield lab, image, s
    finally:
        lab.close()


def uploaded(lab: AgentLab, folder: Path, id: str) -> bytes:
    """What a guest of the image would read."""
    wait(lambda: id in lab.control.received)
    (folder / "image").write_bytes(lab.control.received[id])
    command = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(folder / "image"), str(folder / "raw")]
    subprocess.run(command, check=True)
    return (folder / "raw").read_bytes()


def left(lab: AgentLab) -> list[str]:
    return [file.name for file in (lab.host / "s").glob("*.image*")]


@pytest.mark.parametrize("power", ["running", "paused", "stopped"])
def test_an_image_has_what_the_disk_has_and_its_base_too(
    host: tuple[AgentLab, ImageSlice, ServerSlice],
    tmp_path: Path,
    power: Literal["running", "paused", "stopped"],
) -> None:
    lab, image, s = host
    id = identity(["running", "paused", "stopped"].index(power) + 1, 7)
    s = changed(s, power=power)
    lab.put(images=(image,), servers=(s,))
    lab.server(s.id, lambda r: r.state == power)
    running = lab.qemu(s.id)
    lab.control.expected.add(id)
    lab.put(images=(image,), servers=(changed(s, snapshot=id),))
    assert uploaded(lab, tmp_path, id)[:SIZE] == guest_image("polite")
    lab.put(images=(image,), servers=(s,))
    lab.server(s.id, lambda r: r.snapshot is None and r.state == power)
    wait(lambda: left(lab) == [])
    assert lab.qemu(s.id) == running
    lab.put(images=(image,), servers=(changed(s, power="running", hard_reboot_serial=s.hard_reboot_serial),))
    lab.server(s.id, lambda r: r.state == "running")


def test_an_agent_that_was_killed_in_the_middle_begins_again(
    host: tuple[AgentLab, ImageSlice, ServerSlice], tmp_path: Path
) -> None:
    lab, image, s = host
    id = identity(9, 7)
    lab.put(images=(image,), servers=(changed(s, snapshot=id),))
    told = lab.server(s.id, lambda r: r.snapshot is not None and r.snapshot.state == "uploading")
    assert told.snapshot is not None
    assert told.snapshot.image == id
    running = lab.qemu(s.id)
    lab.kill("agent")
    lab.control.expected.add(id)
    lab.start_agent()
    assert uploaded(lab, tmp_path, id)[:SIZE] == guest_image("polite")
    assert lab.qemu(s.id) == running
    lab.put(images=(image,), servers=(s,))
    wait(lambda: left(lab) == [])


def test_what_cannot_be_made_is_told_and_leaves_nothing(
    host: tuple[AgentLab, ImageSlice, ServerSlice],
) -> None:
    lab, image, s = host
    id = identity(10, 7)
    (lab.host / "s" / f"{s.id.replace('-', '')[:8]}.{id}.image-part").mkdir()
    lab.put(images=(image,), servers=(changed(s, snapshot=id),))
    told = lab.server(s.id, lambda r: r.snapshot is not None and r.snapshot.state == "failed")
    assert told.state == "running"
    assert told.snapshot is not None
    assert told.snapshot.cause
    (lab.host / "s" / f"{s.id.replace('-', '')[:8]}.{id}.image-part").rmdir()
    lab.put(images=(image,), servers=(s,))
    lab.server(s.id, lambda r: r.snapshot is None)
