"""Processes that outlive who started them, and are never mistaken for others."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trunkline.devices import namespace, process
from trunkline.devices.process import Command, MissingProgram, Process
from trunkline.errors import Unavailable


def _command(tmp_path: Path, *argv: str, netns: str | None = None) -> Command:
    return Command("test", argv, tmp_path / "log", netns=netns)


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    started = process.spawn(_command(tmp_path, "sleep", "60"), tmp_path / "pid")
    yield started
    started.terminate(1.0)


def test_it_is_found_by_its_pid_file(sleeper: Process, tmp_path: Path) -> None:
    assert process.find(tmp_path / "pid") == sleeper
    assert sleeper.alive()


def test_a_number_given_to_somebody_else_is_not_taken_for_it(sleeper: Process, tmp_path: Path) -> None:
    pid, started, boot = (tmp_path / "pid").read_text().split()
    (tmp_path / "pid").write_text(f"{pid}\n{int(started) - 1}\n{boot}\n")
    assert process.find(tmp_path / "pid") is None
    (tmp_path / "pid").write_text(f"{pid}\n{started}\nanother-boot\n")
    assert process.find(tmp_path / "pid") is None
    assert Process(sleeper.pid, sleeper.started - 1).signal(signal.SIGKILL) is False
    assert sleeper.alive()


@pytest.mark.parametrize("content", ["", "12\n", "x y z\n", "99999999\n1\nboot\n"])
def test_a_pid_file_that_makes_no_sense_is_of_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "pid").write_text(content)
    assert process.find(tmp_path / "pid") is None
    assert process.find(tmp_path / "none") is None


def test_its_end_is_waited_for_and_its_status_told(tmp_path: Path) -> None:
    async def run(*argv: str) -> int | None:
        return await process.spawn(_command(tmp_path, *argv), tmp_path / "pid").wait()

    assert asyncio.run(run("sh", "-c", "echo said; exit 3")) == 3
    assert (tmp_path / "log").read_text() == "said\n"
    assert asyncio.run(run("sh", "-c", "kill -9 $$")) == -signal.SIGKILL
    assert process.find(tmp_path / "pid") is None


def test_one_that_will_not_end_is_killed(tmp_path: Path) -> None:
    stubborn = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 60; done")
    started = process.spawn(_command(tmp_path, *stubborn), tmp_path / "pid")

    async def end() -> None:
        while not (tmp_path / "log").read_text():
            await asyncio.sleep(0.01)
        await started.stop(0.1)

    asyncio.run(asyncio.wait_for(end(), 10))
    assert not started.alive()


def test_it_goes_on_when_who_started_it_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, signal; from trunkline.devices import process; "
        f"p = pathlib.Path({str(tmp_path)!r}); "
        "process.spawn(process.Command('x', ('sleep', '60'), p / 'log'), p / 'pid'); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", script], check=False)
    assert ended.returncode == -signal.SIGKILL
    orphan = process.find(tmp_path / "pid")
    assert orphan is not None
    assert os.getsid(orphan.pid) == orphan.pid
    # Not our child, and yet its end is seen.
    orphan.signal(signal.SIGKILL)
    assert asyncio.run(asyncio.wait_for(orphan.wait(), 10)) is None
    assert process.find(tmp_path / "pid") is None


def test_nothing_runs_where_the_pid_file_cannot_be_written(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    with pytest.raises(FileNotFoundError):
        process.spawn(_command(tmp_path, "touch", str(mark)), tmp_path / "no" / "folder" / "pid")
    assert not mark.exists()


def test_a_program_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingProgram, match="no-such-program"):
        process.spawn(_command(tmp_path, "no-such-program"), tmp_path / "pid")


@pytest.fixture
def netns() -> Iterator[str]:
    name = f"tltest-{os.getpid()}"
    namespace.create(name)
    yield name
    namespace.delete(name)


@pytest.mark.machine
def test_it_runs_in_its_namespace(tmp_path: Path, netns: str) -> None:
    started = process.spawn(_command(tmp_path, "sleep", "60", netns=netns), tmp_path / "pid")
    try:
        assert namespace.processes(netns) == [started.pid]
    finally:
        started.terminate(1.0)
    assert namespace.processes(netns) == []


@pytest.mark.machine
def test_a_socket_belongs_to_the_namespace_it_was_opened_in(netns: str) -> None:
    listening = namespace.open_socket_in(netns, "127.0.0.1", 0)
    port = listening.getsockname()[1]
    with listening:
        inside = namespace.inside(netns, lambda: socket.create_connection(("127.0.0.1", port), 5))
        inside.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5)


@pytest.mark.machine
def test_iproute2_is_quoted_when_it_refuses(netns: str) -> None:
    with pytest.raises(Unavailable, match=r"link set dev nothing up: Cannot find device"):
        namespace.ip(netns, "link set dev lo up", "link set dev nothing up")


def test_a_namespace_that_is_not_there_is_named() -> None:
    with pytest.raises(Unavailable, match="no network namespace tltest-none"):
        namespace.inside("tltest-none", lambda: None)
