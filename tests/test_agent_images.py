"""The cache of images makes room, but never by removing what a disk builds on."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from trunkline.agent.images import Images
from trunkline.compiler.slices import HostSlice, ImageSlice
from trunkline.devices import disks
from trunkline.errors import Unavailable

CONTENT = b"an image"


class Source:
    """Stands for the control plane: gives every image, and counts."""

    def __init__(self) -> None:
        self.given = 0

    async def download(self, image: str, file: Path, size: int) -> None:
        self.given += 1
        await asyncio.sleep(0.01)
        await asyncio.to_thread(file.write_bytes, CONTENT)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def images(tmp_path: Path, source: Source) -> Images:
    found: Any = source
    images = Images(tmp_path, found)
    image = ImageSlice(
        id="new", disk_format="raw", size=len(CONTENT), sha512=hashlib.sha512(CONTENT).hexdigest()
    )
    images.want(HostSlice(host="h1", revision=1, images=(image,)))
    return images


def test_many_who_ask_at_once_cause_one_download(images: Images, source: Source) -> None:
    async def ask() -> list[Path]:
        return [file for file, _ in await asyncio.gather(*(images.get("new") for _ in range(9)))]

    files = asyncio.run(ask())
    assert {file.read_bytes() for file in files} == {CONTENT}
    assert source.given == 1


def test_idle_images_make_room_the_one_used_longest_ago_first(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age, name in enumerate(("young", "old", "used")):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    images.in_use = lambda: ["used"]
    # Room appears with the first that goes.
    monkeypatch.setattr(disks, "free_bytes", lambda f: (3 << 30) if len(list(f.iterdir())) < 3 else 0)
    asyncio.run(images.get("new"))
    assert {f.name for f in tmp_path.iterdir()} == {"young", "used", "new"}


def test_without_room_it_says_how_much_is_missing(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disks, "free_bytes", lambda folder: 5 << 20)
    with pytest.raises(Unavailable, match="5 MiB are free"):
        asyncio.run(images.get("new"))


def test_an_image_that_nobody_told_of_is_refused(images: Images) -> None:
    with pytest.raises(Unavailable, match="not told"):
        asyncio.run(images.get("other"))
