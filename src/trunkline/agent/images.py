"""The host's cache of images: fetched once, whole and verified, and removed when room is needed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from trunkline.agent.channel import Channel, Refused
from trunkline.compiler.slices import HostSlice, ImageSlice
from trunkline.devices import disks, files
from trunkline.errors import Unavailable

#: What is left free on the file system when images are fetched.
_MARGIN = 1 << 30
_PIECE = 4 << 20


class Images:
    """Owns FOLDER: ``ID`` is an image whose SHA-512 was right when it came, ``ID.part`` one on its way."""

    def __init__(self, folder: Path, channel: Channel) -> None:
        self._folder = folder
        self._channel = channel
        self._known: dict[str, ImageSlice] = {}
        #: What disks that were set aside build on.
        self._kept: set[str] = set()
        self._fetching: dict[str, asyncio.Task[Path]] = {}
        #: Says which images disks of servers build on: they must stay.
        self.in_use: Callable[[], Iterable[str]] = tuple

    def want(self, slice_: HostSlice) -> None:
        """The images that servers of the slice start from. They are fetched when `get` asks."""
        self._known = {image.id: image for image in slice_.images}
        self._kept = {kept.image for kept in slice_.kept}

    async def apply(self) -> None:
        """Removes what was on its way for nobody."""
        await asyncio.to_thread(self._drop_parts)

    async def get(self, id: str) -> tuple[Path, ImageSlice]:
        """The file of an image, fetched if need be; many may ask at once.

        Raises:
            Unavailable: it cannot be had now; ask again. What came is kept.
        """
        image = self._known.get(id)
        if image is None:
            raise Unavailable(f"The control plane has not told about image {id}.")
        if (self._folder / id).exists():
            return self._folder / id, image
        task = self._fetching.get(id)
        if task is None:
            task = self._fetching[id] = asyncio.create_task(self._fetch(image), name=f"image {id}")
            task.add_done_callback(lambda _: self._fetching.pop(id, None))
        return await asyncio.shield(task), image

    async def _fetch(self, image: ImageSlice) -> Path:
        part, whole = self._folder / f"{image.id}.part", self._folder / image.id
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            await asyncio.to_thread(self._make_room, image.size + _MARGIN)
            await self._channel.download(image.id, part, image.size)
            found = await asyncio.to_thread(_sha512, part)
            if part.stat().st_size < image.size:
                raise Unavailable(f"Image {image.id} came in part; it goes on from there.")
            if found != image.sha512:
                part.unlink()
                raise Unavailable(f"Image {image.id} came damaged (its SHA-512 differs); it is fetched anew.")
            part.chmod(0o444)
            await asyncio.to_thread(files.finish, part, whole)
        except Refused as error:
            raise Unavailable(f"Image {image.id} is not given: {error.message}") from None
        except OSError as error:
            raise Unavailable(f"Image {image.id} cannot be kept: {error.strerror or error}.") from None
        return whole

    def _make_room(self, size: int) -> None:
        """Removes images that nothing uses, those that were used longest ago first, until `size` is free."""
        used = {*self._known, *self._kept, *self.in_use()}
        idle = [f for f in self._folder.iterdir() if not f.suffix and f.name not in used]
        for file in sorted(idle, key=lambda f: f.stat().st_atime):
            if disks.free_bytes(self._folder) >= size:
                return
            file.unlink()
        if disks.free_bytes(self._folder) < size:
            raise Unavailable(
                f"An image of {size >> 20} MiB does not fit: {disks.free_bytes(self._folder) >> 20} MiB are "
                f"free in {self._folder}. Free some."
            )

    def _drop_parts(self) -> None:
        for part in self._folder.glob("*.part"):
            if part.stem not in self._known and part.stem not in self._fetching:
                part.unlink(missing_ok=True)


def _sha512(file: Path) -> str:
    digest = hashlib.sha512()
    with file.open("rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
