"""What the control plane keeps of its hosts in memory, and what it makes of their silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from trunkline.compiler.slices import HostSlice, MetadataSlice, NamesSlice, ZoneSlice
from trunkline.control import directory
from trunkline.control.directory import RegionDirectory
from trunkline.devices.pki import Authority
from trunkline.errors import Conflict
from trunkline.resources.region import Host
from trunkline.resources.reports import HostReport, ServerReport
from trunkline.store import Store

RUNNING = ServerReport(id="s", state="running")


def report(*servers: ServerReport) -> HostReport:
    return HostReport(
        host="h1", applied_revision=1, vcpus=1, memory_mib=1024, disk_gib=10, servers=tuple(servers)
    )


@pytest.fixture
def region(tmp_path: Path) -> Iterator[RegionDirectory]:
    store = Store.open(tmp_path / "store")

    async def observe(host: str, seen: HostReport) -> None:
        return None

    async def receive(host: str, id: str, content: AsyncIterator[bytes]) -> None:
        async for _ in content:
            pass

    yield RegionDirectory(store, Authority.open(tmp_path / "pki"), tmp_path / "images", observe, receive)
    store.close()


def test_a_host_is_silent_until_it_is_heard_of(region: RegionDirectory) -> None:
    assert region.silent("h1")
    asyncio.run(region.report("h1", report()))
    assert not region.silent("h1")


def test_a_control_plane_that_just_started_takes_no_host_for_lost(
    region: RegionDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not region.lost("h1")
    monkeypatch.setattr(directory, "SILENCE", 0.0)
    assert region.lost("h1")


def test_the_content_of_an_image_comes_once_at_a_time(region: RegionDirectory) -> None:
    """The second one, of an agent that follows a killed one, would end with taking the first away."""

    async def run() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            begun.set()
            await go_on.wait()
            yield b"x"

        async def quick() -> AsyncIterator[bytes]:
            yield b"x"

        first = asyncio.create_task(region.receive_image("h1", "i", slow()))
        await begun.wait()
        with pytest.raises(Conflict, match="on its way"):
            await region.receive_image("h1", "i", quick())
        await region.receive_image("h1", "another", quick())
        go_on.set()
        await first
        await region.receive_image("h1", "i", quick())

    asyncio.run(run())


def test_consoles_are_kept_of_servers_that_their_host_has(region: RegionDirectory) -> None:
    asyncio.run(region.console("h1", "s", b"too early"))
    assert asyncio.run(region.read_console("h1", "s", None)) == ""
    asyncio.run(region.report("h1", report(RUNNING)))
    asyncio.run(region.console("h1", "s", b"one\ntwo\nthree"))
    assert asyncio.run(region.read_console("h1", "s", 2)) == "two\nthree"
    asyncio.run(region.report("h1", report()))
    assert asyncio.run(region.read_console("h1", "s", None)) == ""


def test_a_host_that_has_the_slice_before_is_told_only_the_names_that_changed(
    region: RegionDirectory,
) -> None:
    def told(revision: int, *names: NamesSlice) -> HostSlice:
        zone = ZoneSlice(region_domain="cloud.internal", domain="cloud.internal", names=names)
        service = MetadataSlice(network="n", port="p", mac="m", addresses=(), mtu=1442, zone=zone)
        return HostSlice(host="h1", revision=revision, metadata=(service,))

    def given(after: int) -> HostSlice | None:
        return asyncio.run(region.slice_after("h1", after, 1.0))

    one, other, new = (NamesSlice(own={name: ("10.0.0.5",)}) for name in ("one", "other", "new"))
    before, after = told(1, one, other), told(2, one, new)
    region.publish({"h1": before})
    assert given(-1) == before
    region.publish({"h1": after})
    sent = given(1)
    assert sent is not None
    assert sent.metadata[0].zone is not None
    assert sent.metadata[0].zone.names == (None, new)
    # Whoever asks again did not get it.
    assert [given(1), given(-1)] == [after, after]


def test_a_host_is_accepted_with_its_newest_key_until_it_is_removed(tmp_path: Path) -> None:
    async def ignored(*_: object) -> None:
        return None

    store = Store.open(tmp_path / "store")
    region = RegionDirectory(store, Authority.open(tmp_path / "pki"), tmp_path / "images", ignored, ignored)
    host = Host(id="h1", key="old")

    def accepted() -> list[str]:
        return [key for key in ("old", "new") if region.accepts("h1", key)]

    try:
        assert accepted() == []
        store.write_sync(lambda tx: tx.insert(host))
        assert accepted() == ["old"]
        store.write_sync(lambda tx: tx.replace(replace(host, key="new")))
        assert accepted() == ["new"]
        store.write_sync(lambda tx: tx.delete(Host, "h1"))
        assert accepted() == []
    finally:
        store.close()
