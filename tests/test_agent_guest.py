"""The agent and a guest with a kernel: it learns who it is, lets go of devices, powers down when asked."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_lab import AgentLab, changed, identity, port, server, wait

from trunkline.compiler.slices import ImageSlice, ServerSlice
from trunkline.devices import tiny

pytestmark = pytest.mark.machine

#: How long an emulated guest may take to boot, and how long one that does not listen is asked to power down.
BOOT, GRACEFUL = 150.0, 120.0

READY = re.compile(r"trunkline-tiny ready: host=(\S+) .*source=(\S+)")


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AgentLab, ImageSlice, ServerSlice]]:
    file: Path = tmp_path_factory.mktemp("tiny") / "tiny.img"
    built = tiny.build(file, tiny.default_cache(), lambda step: None)
    assert built.sha512 == hashlib.sha512(file.read_bytes()).hexdigest()
    image = ImageSlice(id=identity(1, 3), disk_format=built.disk_format, size=built.size, sha512=built.sha512)
    lab = AgentLab(graceful_seconds=GRACEFUL)
    try:
        lab.control.images[image.id] = file
        lab.start_all()
        one = port(1, server=identity(1))
        s = server(
            1,
            image,
            one,
            config_drive=True,
            user_data=b"#!/bin/sh\necho mtu=$(cat /sys/class/net/eth0/mtu)\n",
            meta_data={"uuid": identity(1), "name": "driven", "hostname": "driven"},
        )
        s = changed(s, memory_mib=128)
        lab.put(images=(image,), ports=(one,), servers=(s,))
        yield lab, image, s
    finally:
        lab.close()


def test_it_boots_and_reads_its_config_drive(guest: tuple[AgentLab, ImageSlice, ServerSlice]) -> None:
    lab, _, s = guest
    found = wait(lambda: READY.search(lab.console(s.id)), BOOT)
    assert found.groups() == ("driven", "config-drive")
    wait(lambda: "mtu=1442" in lab.console(s.id))


def test_an_interface_comes_and_goes_while_it_runs(guest: tuple[AgentLab, ImageSlice, ServerSlice]) -> None:
    lab, image, s = guest
    one, two = port(1, server=s.id), port(2, server=s.id)
    wait(lambda: READY.search(lab.console(s.id)), BOOT)
    running = lab.qemu(s.id)
    lab.put(images=(image,), ports=(one, two), servers=(changed(s, ports=(one.id, two.id)),))
    lab.server(s.id, lambda r: r.ports == (one.id, two.id))
    lab.put(images=(image,), ports=(one,), servers=(s,))
    lab.applied()
    lab.server(s.id, lambda r: r.ports == (one.id,))
    wait(lambda: f"tlt{two.id[:11]}" not in lab.vsctl("list-ports", "br-g"))
    # ... and again, with the same names.
    lab.put(images=(image,), ports=(one, two), servers=(changed(s, ports=(one.id, two.id)),))
    lab.server(s.id, lambda r: r.ports == (one.id, two.id) and r.problem is None)
    lab.put(images=(image,), ports=(one,), servers=(s,))
    lab.applied()
    assert lab.qemu(s.id) == running


def test_a_soft_reboot_asks_it(guest: tuple[AgentLab, ImageSlice, ServerSlice]) -> None:
    lab, image, s = guest
    wait(lambda: READY.search(lab.console(s.id)), BOOT)
    before = len(READY.findall(lab.console(s.id)))
    start = time.monotonic()
    one = port(1, server=s.id)
    lab.put(images=(image,), ports=(one,), servers=(changed(s, soft_reboot_serial=1),))
    lab.server(s.id, lambda r: r.soft_reboot_serial == 1, GRACEFUL)
    assert time.monotonic() - start < GRACEFUL / 2
    wait(lambda: len(READY.findall(lab.console(s.id))) > before, BOOT)
