"""Images of a server's disk: a copy as of one moment, made while the guest runs, and uploaded.

    running, paused   QEMU copies it (blockdev-backup), and sees to it that what the guest writes
                      meanwhile is not in it
    stopped           qemu-img copies it
                          `--> NAME.ID.image, whole --> uploaded --> told no more

What was half made when an agent or a QEMU ended is made anew. Sources: QEMU, docs/interop/
live-block-operations.rst, "Live disk backup"; qapi/job.json.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from trunkline.agent.channel import Refused
from trunkline.agent.qemu import Files
from trunkline.devices import disks, files
from trunkline.devices.qmp import CommandRefused, Monitor
from trunkline.devices.tools import ToolFailed
from trunkline.errors import Unavailable
from trunkline.resources.reports import SnapshotReport

#: (image, file): gives the control plane the content of an image.
Upload = Callable[[str, Path], Awaitable[None]]

#: The node in QEMU that a copy is written to, and what the names of jobs begin with.
_NODE = "snapshot"
_AT_MOST = 3
_LOOK_AGAIN, _TRY_AGAIN = 0.2, 2.0


class Snapshot:
    """The image that is being made of one server's disk, at most one. Owns its files, and a task."""

    def __init__(self, files: Files, upload: Upload, wake: Callable[[], None]) -> None:
        self._files = files
        self._upload = upload
        self._wake = wake
        #: None: what an agent before this one left has not been looked at.
        self._image: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        #: What is told of it.
        self.report: SnapshotReport | None = None

    async def step(self, image: str, monitor: Monitor | None) -> float | None:
        """Goes on towards the image; returns when to look again, None where nothing is to be done.

        Args:
            image: its id; "" for none.
            monitor: of the server's QEMU, None where it does not run.
        """
        if image != self._image:
            await self._drop(image, monitor)
            self._image, self._failures, self.report = image, 0, None
        if not image or (self.report is not None and self.report.state == "failed"):
            return None
        try:
            return await self._step(image, monitor)
        except (Unavailable, CommandRefused, OSError, Refused) as error:
            if _lasting(error):
                self._failures += 1
            if self._failures >= _AT_MOST:
                self.report = SnapshotReport(image=image, state="failed", cause=str(error)[:500])
        return _TRY_AGAIN

    async def _step(self, image: str, monitor: Monitor | None) -> float | None:
        if self._task is not None:
            if not self._task.done():
                return _TRY_AGAIN
            done, self._task = self._task, None
            done.result()
        whole = self._files.snapshot(image)
        if whole.exists():
            self.report = SnapshotReport(image=image, state="uploading")
            self._begin(self._upload(image, whole))
            return _TRY_AGAIN
        self.report = SnapshotReport(image=image, state="taking")
        if monitor is not None:
            return await self._back_up(image, monitor)
        self._begin(self._copy(whole))
        return _TRY_AGAIN

    def _begin(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            try:
                await work
            finally:
                self._wake()

        self._task = asyncio.create_task(run(), name=f"image of {self._files.name}")

    async def _copy(self, whole: Path) -> None:
        part = whole.with_suffix(".image-part")
        await disks.copy(self._files.disk, part)
        await asyncio.to_thread(files.finish, part, whole)

    async def _back_up(self, image: str, monitor: Monitor) -> float:
        """Has QEMU copy its disk; the job outlives agents, and is found again by its name."""
        whole = self._files.snapshot(image)
        part = whole.with_suffix(".image-part")
        name = f"{_NODE}-{image}"
        job = await _job(monitor, name)
        if job is None:
            await _remove_node(monitor)
            part.unlink(missing_ok=True)
            size = (await disks.info(self._files.disk, "qcow2")).virtual_size
            await disks.create_blank(part, size)
            node = {
                "driver": "qcow2",
                "node-name": _NODE,
                "discard": "unmap",
                "detect-zeroes": "unmap",
                "file": {"driver": "file", "filename": str(part)},
            }
            await monitor.execute("blockdev-add", node)
            backup = {"job-id": name, "device": "root", "target": _NODE, "sync": "full"}
            await monitor.execute("blockdev-backup", {**backup, "auto-dismiss": False})
            return _LOOK_AGAIN
        status, error = job
        if status != "concluded":
            return _LOOK_AGAIN
        await monitor.execute("job-dismiss", {"id": name})
        await _remove_node(monitor)
        if error:
            raise CommandRefused("blockdev-backup", "GenericError", error)
        await asyncio.to_thread(files.finish, part, whole)
        return 0.0

    async def stop(self) -> None:
        """Lets go of the disk's file, and of an upload; both are begun again by `step`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _drop(self, image: str, monitor: Monitor | None) -> None:
        """Ends all that was for another image."""
        await self.stop()
        if monitor is not None:
            for job in await monitor.execute("query-jobs"):
                if job["id"].startswith(f"{_NODE}-") and job["id"] != f"{_NODE}-{image}":
                    await _end_job(monitor, job["id"])
                    await _remove_node(monitor)
        for file in self._files.snapshots:
            if not image or f".{image}." not in file.name:
                file.unlink(missing_ok=True)


def _lasting(error: Exception) -> bool:
    """Whether this is likely to fail again; not where QEMU or control is away, or still busy with it."""
    if isinstance(error, Refused):
        return error.status not in (404, 409)
    return isinstance(error, ToolFailed) or not isinstance(error, Unavailable)


async def _job(monitor: Monitor, name: str) -> tuple[str, str] | None:
    """Status and error of a job."""
    for job in await monitor.execute("query-jobs"):
        if job["id"] == name:
            return str(job["status"]), str(job.get("error", ""))
    return None


async def _end_job(monitor: Monitor, name: str) -> None:
    while (job := await _job(monitor, name)) is not None:
        command = "job-dismiss" if job[0] == "concluded" else "job-cancel"
        try:
            await monitor.execute(command, {"id": name})
        except CommandRefused:
            # It was on its way there by itself.
            pass
        await asyncio.sleep(0.05)


async def _remove_node(monitor: Monitor) -> None:
    if any(node["node-name"] == _NODE for node in await monitor.execute("query-named-block-nodes")):
        await monitor.execute("blockdev-del", {"node-name": _NODE})
