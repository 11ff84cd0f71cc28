"""An HTTP server that ends when its task is cancelled, and leaves signals to the process it runs in."""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets
from collections.abc import Iterator

import uvicorn


async def serve(config: uvicorn.Config, socket: sockets.socket) -> None:
    """Serves on a listening socket until it is cancelled; requests under way are answered first."""
    server = _Server(config)
    task = asyncio.ensure_future(server.serve(sockets=[socket]))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        server.end()
        await task
        raise


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Answers no more requests than those that are under way."""
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        """Writes the date of answers anew each second; uvicorn's own looks ten times whether it is to end."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._ending.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
