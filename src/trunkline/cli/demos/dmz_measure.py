"""Measuring who reaches whom: every server tries all others on all ports, and notes who answered.

A probe is an HTTP request for /name (busybox's httpd listens on the ports of the services) or reads what an
SSH server says first. It got through if the right one answered: with equal addresses in two networks, an
answer alone says little.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from trunkline.cli.demos.dmz_plan import (
    OUTSIDE,
    OUTSIDE_V4,
    OUTSIDE_V6,
    PORTS,
    Probe,
)
from trunkline.cli.demos.guests import Guest, Outside
from trunkline.devices import namespace
from trunkline.errors import Conflict, Unavailable

#: For all connections of one source and their answers.
_PROBE_SECONDS = 5
_REQUEST = b"GET /name HTTP/1.0\r\n\r\n"

#: User data of every server.
LISTENERS = f"""#!/bin/sh
mkdir -p /www
hostname >/www/name
for port in {" ".join(str(port) for port in PORTS if port != 22)}; do httpd -p $port -h /www; done
"""

#: Reads lines "KEY ADDRESS PORT", answers "KEY WHAT-WAS-SAID". All at once, for most of them wait in vain,
#: and one process for each: starting them is what takes time under emulation.
_SCRIPT = f"""
folder=$(mktemp -d) && cd "$folder" || exit
printf 'GET /name HTTP/1.0\\r\\n\\r\\n' >request
while read -r key address port; do
    nc "$address" "$port" <request >"$key" 2>/dev/null &
    tries="$tries $!"
done <<'END'
%s
END
(sleep {_PROBE_SECONDS}; kill $tries) >/dev/null 2>&1 &
limit=$!
wait $tries
kill $limit
awk '{{ sub(/\\r$/, "") }}
    FNR == 1 {{ first[FILENAME] = $0 }}
    {{ last[FILENAME] = $0 }}
    END {{ for (key in last) print key, (first[key] ~ /^SSH-/ ? first[key] : last[key]) }}' [0-9]*
rm -r "$folder"
"""


class Addresses:
    """Where each server is reached: name and family to an address."""

    def __init__(self, inside: Mapping[tuple[str, int], str], floating: Mapping[str, str]) -> None:
        self._inside, self._floating = inside, floating

    def of(self, probe: Probe) -> str:
        """Where the target of a probe is for its source."""
        if probe.target == OUTSIDE:
            return OUTSIDE_V4 if probe.family == 4 else OUTSIDE_V6
        if probe.source == OUTSIDE and probe.family == 4 and probe.target in self._floating:
            return self._floating[probe.target]
        return self._inside[probe.target, probe.family]


def measure(
    probes: Iterable[Probe], addresses: Addresses, guests: Mapping[str, Guest], outside: Outside
) -> dict[Probe, bool]:
    """Tries them all, from all at once; whether each got through.

    Args:
        guests: the servers, logged in to.
        outside: the internet host.
    Raises:
        Unavailable: a server could not be asked, or does not listen itself.
    """
    by_source: dict[str, list[Probe]] = {}
    for probe in probes:
        by_source.setdefault(probe.source, []).append(probe)

    def ask(source: str) -> dict[Probe, bool]:
        mine = by_source[source]
        if source == OUTSIDE:
            said = _from_outside([(addresses.of(probe), probe.port) for probe in mine], outside.netns)
        else:
            said = _from_guest(guests[source], [(addresses.of(probe), probe.port) for probe in mine])
        return {probe: _answered(probe, words) for probe, words in zip(mine, said, strict=True)}

    return {probe: got for part in outside.each(ask, by_source) for probe, got in part.items()}


def check_listeners(guest: Guest) -> None:
    """Raises Unavailable where a server does not itself answer on every port: then closed says nothing."""
    own = [(address, port) for address in ("127.0.0.1", "::1") for port in PORTS]
    deadline = time.monotonic() + 30
    while True:
        said = dict(zip(own, _from_guest(guest, own), strict=True))
        silent = [f"{address} port {port}" for (address, port), words in said.items() if not words]
        if not silent:
            return
        if time.monotonic() > deadline:
            raise Unavailable(f"The server {guest.name} does not listen on {', '.join(silent)}.")
        time.sleep(0.5)


def _answered(probe: Probe, words: str) -> bool:
    if probe.port == 22 and words.startswith("SSH-"):
        return True
    return words == (OUTSIDE if probe.target == OUTSIDE else f"dmz-{probe.target}")


def _from_guest(guest: Guest, targets: list[tuple[str, int]]) -> list[str]:
    lines = "\n".join(f"{key} {address} {port}" for key, (address, port) in enumerate(targets))
    told = guest.run(_SCRIPT % lines, seconds=60.0 + _PROBE_SECONDS)
    said = dict(line.partition(" ")[::2] for line in told.splitlines())
    return [said.get(str(key), "").strip() for key in range(len(targets))]


def _from_outside(targets: list[tuple[str, int]], netns: str) -> list[str]:
    """Connects from the internet host to all targets at once."""
    deadline = time.monotonic() + _PROBE_SECONDS
    said = [b""] * len(targets)
    waiting: dict[socket.socket, int] = {}
    with contextlib.ExitStack() as stack:
        for key, (address, port) in enumerate(targets):
            made = stack.enter_context(_socket_in(netns, 6 if ":" in address else 4))
            if made.connect_ex((address, port)) in (0, errno.EINPROGRESS):
                waiting[made] = key
        asked: set[socket.socket] = set()
        while waiting and (left := deadline - time.monotonic()) > 0:
            fresh = [s for s in waiting if s not in asked]
            readable, writable, _ = select.select(list(asked & waiting.keys()), fresh, [], left)
            for made in writable:
                asked.add(made)
                try:
                    made.send(_REQUEST)
                except OSError:
                    del waiting[made]
            for made in readable:
                try:
                    part = made.recv(4096)
                except OSError:
                    part = b""
                said[waiting[made]] += part
                if not part:
                    del waiting[made]
    return [_last_line(words) for words in said]


def _last_line(words: bytes) -> str:
    lines = words.decode(errors="replace").split("\n")
    if lines[0].startswith("SSH-"):
        return lines[0].strip()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _socket_in(netns: str, family: int) -> socket.socket:
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    made = namespace.inside(netns, lambda: socket.socket(kind, socket.SOCK_STREAM))
    made.setblocking(False)
    return made


class _Name(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{OUTSIDE}\n".encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def listening_outside(netns: str) -> Iterator[None]:
    """In the block the internet host answers on every port, by both families.

    Raises:
        Conflict: somebody else listens there.
    """
    with contextlib.ExitStack() as stack:
        for address in (OUTSIDE_V4, OUTSIDE_V6):
            for port in PORTS:
                try:
                    opened = namespace.open_socket_in(netns, address, port)
                except OSError as error:
                    raise Conflict(
                        f"The internet host of the lab cannot listen on {address} port {port}: {error}. "
                        f"`ip netns exec {netns} ss -ltnp` shows who does."
                    ) from None
                opened.setblocking(True)
                server = ThreadingHTTPServer((address, port), _Name, bind_and_activate=False)
                server.socket.close()
                server.socket = opened
                stack.callback(server.server_close)
                thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
                thread.start()
                stack.callback(thread.join)
                stack.callback(server.shutdown)
        yield
