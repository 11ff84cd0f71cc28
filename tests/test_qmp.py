"""A connection to a real QEMU: commands, refusals, events, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from trunkline.devices.process import Command, Process, spawn
from trunkline.devices.qmp import CommandRefused, Monitor
from trunkline.errors import Unavailable

pytestmark = pytest.mark.machine


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[tuple[Process, Path]]:
    socket = tmp_path / "m.qmp"
    argv = (
        *("qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none"),
        *("-qmp", f"unix:{socket},server=on,wait=off"),
    )
    process = spawn(Command("qemu", argv, tmp_path / "log"), tmp_path / "pid")
    yield process, socket
    process.terminate(2)


def test_it_asks_hears_and_is_refused(qemu: tuple[Process, Path]) -> None:
    async def claim() -> None:
        heard: list[str] = []
        monitor = await Monitor.connect(qemu[1], lambda name, data: heard.append(name))
        assert (await monitor.execute("query-status"))["status"] in ("running", "prelaunch")
        with pytest.raises(CommandRefused, match="device_del"):
            await monitor.execute("device_del", {"id": "nothing"})
        await monitor.execute("stop")
        async with asyncio.timeout(5):
            while "STOP" not in heard:
                await asyncio.sleep(0.01)
        await monitor.close()
        again = await Monitor.connect(qemu[1], lambda name, data: None)
        assert (await again.execute("query-status"))["status"] == "paused"
        await again.close()

    asyncio.run(claim())


def test_a_qemu_that_ends_is_noticed(qemu: tuple[Process, Path]) -> None:
    async def claim() -> None:
        monitor = await Monitor.connect(qemu[1], lambda name, data: None)
        qemu[0].terminate(2)
        async with asyncio.timeout(5):
            await monitor.lost.wait()
        with pytest.raises(Unavailable):
            await monitor.execute("query-status")
        await monitor.close()

    asyncio.run(claim())


def test_where_nothing_listens_it_gives_up(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no such socket"):
        asyncio.run(Monitor.connect(tmp_path / "none", lambda name, data: None, 0.1))
