"""The files of images: one folder, one file an image, named by its id.

    ID             the file of an active image, complete and on disk
    ID.part        an upload under way; whoever starts finds none left over
    ID.staged      content that was staged for import

No name ever contains what a client wrote: ids are checked to be UUIDs.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from trunkline.devices import disks
from trunkline.devices.image_formats import check
from trunkline.errors import BadRequest, Conflict, NotFound, Unavailable

#: Bytes that are hashed and written at a time, in a thread.
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class FileFacts:
    """What is known of a complete file."""

    size: int
    #: The size of the disk that a guest sees, bytes.
    virtual_size: int
    md5: str
    sha512: str


class ImageFiles:
    """Owns the folder of image files; nobody else writes to it.

    Args:
        folder: made where it is not there. What a killed process left half-written is removed.
        max_bytes: the largest file that is taken.
        spare: bytes that stay free on its file system, which the store is on too: whoever fills the folder
            with images does not end the writing of everything else.
    """

    def __init__(self, folder: Path, *, max_bytes: int = 64 * 1024**3, spare: int = 1 << 30) -> None:
        self._folder = folder
        self._max = max_bytes
        self._spare = spare
        self._writing: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in folder.glob("*.part"):
            left.unlink(missing_ok=True)

    def path(self, id: str) -> Path:
        """Where the file of an image is, or would be.

        Raises:
            NotFound: the id is no UUID.
        """
        try:
            return self._folder / str(uuid.UUID(id))
        except ValueError:
            raise NotFound(f"There is no image {id[:80]}.") from None

    async def receive(
        self, id: str, content: AsyncIterator[bytes], disk_format: str, *, staged: bool = False
    ) -> FileFacts:
        """Takes the content of an image: all of it, checked and on disk, or nothing.

        Args:
            disk_format: what it is said to be.
            staged: keep it aside for `import_staged`.
        Raises:
            Conflict: another upload to the image is under way.
            BadField: the content is refused; see `image_formats.check`.
            BadRequest: it is too large.
            Unavailable: the disk is full.
        """
        if id in self._writing:
            raise Conflict(f"Another upload to image {id} is under way.")
        self._writing.add(id)
        part = self.path(id).with_suffix(".part")
        try:
            md5, sha512, size = hashlib.md5(usedforsecurity=False), hashlib.sha512(), 0

            def write(file: int, data: bytes) -> None:
                if disks.free_bytes(self._folder) < self._spare + len(data):
                    raise OSError(errno.ENOSPC, "what is left is spared")
                md5.update(data)
                sha512.update(data)
                view = memoryview(data)
                while view:
                    view = view[os.write(file, view) :]

            file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                async for data in _batches(content):
                    size += len(data)
                    if size > self._max:
                        raise BadRequest(f"The image is larger than {self._max} bytes, the largest allowed.")
                    await asyncio.to_thread(write, file, data)
                await asyncio.to_thread(os.fsync, file)
            finally:
                os.close(file)
            found = await asyncio.to_thread(check, part, disk_format)
            await asyncio.to_thread(self._finish, part, self._target(id, staged))
            return FileFacts(size, found.virtual_size, md5.hexdigest(), sha512.hexdigest())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Unavailable(
                    "There is no space left for images on the control plane's disk. "
                    "Delete images, or ask the operator for a larger disk."
                ) from None
            raise
        finally:
            self._writing.discard(id)
            part.unlink(missing_ok=True)

    async def import_staged(self, id: str, disk_format: str) -> FileFacts:
        """Makes staged content the image's file.

        Raises:
            Conflict: nothing is staged.
            BadField: the content is refused.
        """
        return await asyncio.to_thread(self._import_staged, id, disk_format)

    def _import_staged(self, id: str, disk_format: str) -> FileFacts:
        staged = self._target(id, True)
        if not staged.is_file():
            raise Conflict(f"Nothing is staged for image {id}. Upload to /v2/images/{id}/stage first.")
        facts = self.describe(staged, disk_format)
        self._finish(staged, self._target(id, False))
        return facts

    def describe(self, path: Path, disk_format: str) -> FileFacts:
        """The facts of a file that is there already.

        Raises:
            BadField: the content is refused.
        """
        found = check(path, disk_format)
        md5, sha512 = hashlib.md5(usedforsecurity=False), hashlib.sha512()
        with path.open("rb") as file:
            while data := file.read(_CHUNK):
                md5.update(data)
                sha512.update(data)
        return FileFacts(path.stat().st_size, found.virtual_size, md5.hexdigest(), sha512.hexdigest())

    async def read(self, id: str, first: int, last: int) -> AsyncIterator[bytes]:
        """The bytes of a file from `first` to `last`, the last one included."""
        file = await asyncio.to_thread(os.open, self.path(id), os.O_RDONLY | os.O_CLOEXEC)
        try:
            at = first
            while at <= last:
                data = await asyncio.to_thread(os.pread, file, min(_CHUNK, last + 1 - at), at)
                if not data:
                    return
                at += len(data)
                yield data
        finally:
            os.close(file)

    async def remove(self, id: str) -> None:
        """Removes whatever there is of an image."""
        path = self.path(id)
        for each in (path, path.with_suffix(".staged")):
            await asyncio.to_thread(each.unlink, True)

    def ids(self) -> set[str]:
        """The ids of the images that have a file here, staged ones included."""
        return {path.name.partition(".")[0] for path in self._folder.iterdir()} - self._writing

    async def prune(self, keep: Iterable[str], *, older_than: float = 3600.0) -> set[str]:
        """Removes the files of all other images; the ids that were removed.

        Args:
            older_than: seconds since a file was last written. A younger one may be of an image that is
                just being registered.
        """
        gone = set()
        for id in self.ids() - set(keep):
            files = [path for path in self._folder.glob(f"{id}*") if path.is_file()]
            if all(time.time() - path.stat().st_mtime > older_than for path in files):
                await self.remove(id)
                gone.add(id)
        return gone

    def _target(self, id: str, staged: bool) -> Path:
        path = self.path(id)
        return path.with_suffix(".staged") if staged else path

    def _finish(self, part: Path, target: Path) -> None:
        part.replace(target)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


async def _batches(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    held: list[bytes] = []
    size = 0
    async for data in content:
        held.append(data)
        size += len(data)
        if size >= _CHUNK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
