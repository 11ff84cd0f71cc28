"""What tests of imports of images need: waiting for one, and a web server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from compute_lab import Lab

#: Path -> (status, headers, body). A length that the headers give is not looked at.
Answers = Mapping[str, tuple[int, Mapping[str, str], bytes]]


async def ended(lab: Lab, id: str, caller: str = "ann@p1") -> dict[str, Any]:
    """The newest import of an image, when it is over."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        reply = await lab.call("GET", f"/image/v2/images/{id}/tasks", caller)
        *_, task = reply.json()["tasks"]
        if task["status"] != "processing":
            return dict(task)
        await asyncio.sleep(0.02)
    raise AssertionError(f"the import to image {id} did not end")


@contextlib.contextmanager
def web_server(answers: Answers, asked: list[tuple[str, dict[str, str]]] | None = None) -> Iterator[int]:
    """A server of these answers on loopback; its port. What it was asked, with headers, goes to `asked`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if asked is not None:
                asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            status, headers, body = answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
