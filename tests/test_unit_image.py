"""What guests that are units boot, and what they are told: without starting one.

| claim | and in reverse |
| --- | --- |
| the image has the program with all that it imports, and the same program finds it again | |
| a program without sections is what it was to its loader | what is none is left as it is |
| what QEMU is told of interfaces, the guest reads | |
| the agent's words reach the unit, and the unit's the agent | |
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path

from trunkline.agent.unit_machine import OVERHEAD, arguments
from trunkline.devices.guest_words import Device, devices
from trunkline.devices.unit_image.elf import loaded
from trunkline.devices.unit_image.python import find, rest
from trunkline.units.guest import relay


def test_the_program_is_all_that_it_imports() -> None:
    program = find()
    places = {module.place for module in program.modules}
    assert {"os.pyc", "trunkline/units/dataplane.pyc", "trunkline/units/prober.pyc"} <= places
    beside, archive = rest(program)
    # A part of a package is beside its other parts, whoever imported those.
    assert "concurrent/futures/thread.pyc" in beside.keys() | places
    assert archive.startswith(b"PK")
    assert not any("/test/" in place for place in beside)


def test_a_program_runs_without_what_debuggers_read(tmp_path: Path) -> None:
    source = Path(shutil.which("true") or "/bin/true").read_bytes()
    made = tmp_path / "true"
    made.write_bytes(loaded(source))
    made.chmod(0o755)
    assert made.stat().st_size <= len(source)
    assert subprocess.run([made], check=False, timeout=10).returncode == 0
    assert loaded(b"#!/bin/sh\n") == b"#!/bin/sh\n"


def test_what_qemu_is_told_the_guest_reads() -> None:
    wanted = [
        Device("bus", "tlb1", "02:0b:00:00:00:09", 1450),
        Device("control", "tlc1", "02:0c:00:00:00:09", 1450),
        Device("leg", "tll1", "02:00:00:00:00:01", 1442),
    ]
    taps = [(device, number) for number, device in enumerate(wanted, 5)]
    image = (Path("/k"), Path("/i"))
    line = arguments(Path("/s"), image, taps, memory_mib=512, processors=2, accelerated=False)
    told = dict(itertools.pairwise(line))
    assert devices(told["-append"]) == wanted
    assert (told["-m"], told["-smp"]) == (str(512 - OVERHEAD), "2")
    assert "virtio-net-pci,netdev=n2,mac=02:00:00:00:00:01,romfile=" in line


def test_words_are_carried_both_ways(tmp_path: Path) -> None:
    agent, port = socket.socketpair()
    port.setblocking(False)
    listener = socket.socket(socket.AF_UNIX)
    place = tmp_path / "s"
    carrying = threading.Thread(target=relay, args=(os.dup(port.fileno()), place))
    carrying.start()
    agent.sendall(b"\nslice\n")
    # The unit may be there later than the first word.
    listener.bind(str(place))
    listener.listen()
    unit, _ = listener.accept()
    assert unit.recv(100) == b"\nslice\n"
    unit.sendall(b"status\n")
    assert agent.recv(100) == b"status\n"
    unit.close()
    carrying.join(10)
    assert not carrying.is_alive()
    for each in (agent, port, listener):
        each.close()
