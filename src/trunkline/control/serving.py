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
        server.should_exit = True
        await task
        raise


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
