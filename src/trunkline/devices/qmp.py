"""A connection to a running QEMU over its machine protocol (QMP), by QEMU's own client library."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qemu.qmp import ConnectError, ExecuteError, QMPClient, QMPError

from trunkline.errors import Unavailable

#: Called with the name of an event and its data.
OnEvent = Callable[[str, dict[str, Any]], None]


class CommandRefused(Exception):
    """QEMU refused a command. `kind` is QMP's class of the error."""

    def __init__(self, command: str, kind: str, words: str) -> None:
        super().__init__(f"{command}: {words}")
        self.kind = kind


class Monitor:
    """One connection. `lost` is set when it has ended; it does not come back."""

    def __init__(self, client: QMPClient, on_event: OnEvent) -> None:
        """Of a client that is connected; use `connect`."""
        self._client = client
        self._on_event = on_event
        self.lost = asyncio.Event()
        self._tasks = [asyncio.create_task(self._events()), asyncio.create_task(self._watch())]

    @classmethod
    async def connect(cls, socket: Path, on_event: OnEvent, timeout: float = 10.0) -> Monitor:
        """Connects, as soon as QEMU listens.

        Raises:
            Unavailable: it did not within `timeout` seconds.
        """
        trouble: object = "there is no such socket"
        try:
            async with asyncio.timeout(timeout):
                while True:
                    # Asked first, for the library logs every try that fails.
                    if os.path.exists(socket):  # noqa: ASYNC240
                        client = QMPClient(socket.stem)
                        try:
                            await client.connect(str(socket))
                            return cls(client, on_event)
                        except ConnectError as error:
                            trouble = error.exc
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise Unavailable(f"QEMU does not answer on {socket.name}: {trouble}") from None

    async def execute(
        self, command: str, arguments: dict[str, Any] | None = None, timeout: float = 10.0
    ) -> Any:
        """Runs a command, and returns what QEMU answers.

        Raises:
            CommandRefused: QEMU said no.
            Unavailable: the connection was lost, or there is no answer within `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._client.execute(command, arguments or {})
        except ExecuteError as error:
            raise CommandRefused(command, error.error_class, str(error)) from None
        except TimeoutError:
            raise Unavailable(f"QEMU did not answer {command} within {timeout:g} s") from None
        except (QMPError, OSError, EOFError) as error:
            raise Unavailable(f"QEMU went away during {command}: {error}") from None

    async def lend(self, name: str, descriptor: int) -> None:
        """Gives QEMU a file that is open here, under a name for the command that uses it.

        Raises:
            CommandRefused, Unavailable: as `execute`.
        """
        try:
            self._client.send_fd_scm(descriptor)
        except (QMPError, OSError) as error:
            raise Unavailable(f"QEMU takes no files: {error}") from None
        await self.execute("getfd", {"fdname": name})

    async def close(self) -> None:
        """Ends the connection; QEMU goes on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self._client.disconnect()
        self.lost.set()

    async def _events(self) -> None:
        async for event in self._client.events:
            data = event.get("data")
            self._on_event(str(event["event"]), data if isinstance(data, dict) else {})

    async def _watch(self) -> None:
        await self._client.runstate_changed()
        self.lost.set()
