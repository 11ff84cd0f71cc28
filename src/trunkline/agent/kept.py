"""Disks that were set aside: of servers that move to another host, or to another flavor on this one.

    put      the machine has stopped its guest: its files go, by name alone, to FOLDER
    serve    the one host that is to have them reads them, by HTTPS between hosts
    fetch    the same from the other end: a copy, of a file here or on another host
    take     the move is undone: they are given back, by name alone

They stay until a slice that came from the control plane names them no more: not the slice of the last
run, which may be older than they are. Nobody writes to them, so a copy that was cut off goes on from there.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import http.server
import logging
import os
import re
import shutil
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from trunkline.compiler.slices import KeptSlice, Origin
from trunkline.devices import disks, pki
from trunkline.devices.files import sync_names
from trunkline.errors import NotFound, Unavailable

log = logging.getLogger(__name__)

#: Where hosts serve disks to each other, on their underlay addresses.
PORT = 8444
_PIECE = 1 << 20
_SECONDS = 20.0
#: What is left free on the file system when a disk is fetched.
_MARGIN = 1 << 30
#: How many hosts may fetch at once.
_READERS = 8
_PATH = re.compile(r"/v1/disks/([0-9a-f-]{36})\.([0-9]{1,9})/([a-z]{1,16})")


class Kept:
    """Owns FOLDER: ``SERVER.SERIAL.NAME`` is a file of a server; ``SERVER.SERIAL``, of no bytes, says that
    all of them are there.

    `put`, `take` and `has` are quick, and leave what they do on the disk.
    """

    def __init__(
        self, folder: Path, host: str, address: str, files: pki.IssuedFiles, authority: Path
    ) -> None:
        """`host` and `address`: this host's own."""
        self._folder = folder
        self._host = host
        self._address = address
        self._files = files
        self._authority = authority
        self._wanted: Mapping[tuple[str, int], KeptSlice] = {}
        self._certain = False
        self._server: _Server | None = None
        self._threads = ThreadPoolExecutor(4, "disk")
        self._closing = threading.Event()

    def want(self, kept: Sequence[KeptSlice], *, certain: bool) -> None:
        """What is to stay, and who may read it.

        Args:
            certain: the control plane says so now; it is not what it said in an earlier run.
        """
        self._wanted = {(each.server, each.serial): each for each in kept}
        self._certain = self._certain or certain

    async def apply(self) -> None:
        """Drops what is not to stay, and serves the rest."""
        await asyncio.to_thread(self._apply)

    def _apply(self) -> None:
        readable = any(each.reader != self._host for each in self._wanted.values())
        if readable and self._server is None:
            self._server = _Server(self)
        elif not readable and self._server is not None:
            self._server.stop()
            self._server = None
        if self._certain and self._folder.exists():
            for file in self._folder.iterdir():
                server, serial = _key(file.name)
                if (server, serial) not in self._wanted:
                    file.unlink(missing_ok=True)

    def has(self, server: str, serial: int | None = None) -> bool:
        """Whether all files of a server are here, of one move or of any."""
        if serial is not None:
            return self._mark(server, serial).exists()
        return self._folder.exists() and any(_key(f.name)[0] == server for f in self._folder.iterdir())

    def put(self, server: str, serial: int, files: Mapping[str, Path]) -> None:
        """Sets files aside, those that are there, under their names; may be repeated after a crash."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, file in files.items():
            with suppress(FileNotFoundError):
                file.rename(self._file(server, serial, name))
        self._mark(server, serial).touch()
        sync_names(self._folder)

    def take(self, server: str, serial: int, files: Mapping[str, Path]) -> None:
        """Gives files back, those that are here; may be repeated after a crash."""
        for name, file in files.items():
            with suppress(FileNotFoundError):
                self._file(server, serial, name).rename(file)
        for file in files.values():
            sync_names(file.parent)
        self._mark(server, serial).unlink(missing_ok=True)

    async def fetch(self, server: str, origin: Origin, name: str, file: Path) -> bool:
        """Continues a copy of a file that was set aside, until it is whole; what came is kept.

        Returns: whether there is such a file.
        Raises:
            Unavailable: it cannot be had now; ask again.
        """
        stop = threading.Event()

        def run() -> bool:
            try:
                if origin.host == self._host:
                    return self._copied(self._file(server, origin.kept, name), file)
                return self._fetched(f"/v1/disks/{server}.{origin.kept}/{name}", origin, file, stop)
            except OSError as error:
                raise Unavailable(f"the disk cannot be fetched from host {origin.host}: {error}") from None

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, run)
        finally:
            stop.set()

    def close(self) -> None:
        """Ends all transfers."""
        self._closing.set()
        if self._server is not None:
            self._server.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # Reading.

    def _copied(self, source: Path, file: Path) -> bool:
        if not source.exists():
            return False
        _need_room(file, source.stat().st_size)
        shutil.copyfile(source, file)
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
        return True

    def _fetched(self, path: str, origin: Origin, file: Path, stop: threading.Event) -> bool:
        context = pki.client_context(self._authority.read_text(), self._files)
        # Who it is, its certificate says: hosts are known by name and key, not by address.
        context.check_hostname = False
        if not origin.address:
            raise Unavailable(f"host {origin.host} has not told its address yet")
        connection = http.client.HTTPSConnection(origin.address, PORT, timeout=_SECONDS, context=context)
        try:
            connection.connect()
            assert isinstance(connection.sock, ssl.SSLSocket)
            if _peer(connection.sock) != (origin.host, origin.key):
                raise Unavailable(f"what answers at {origin.address} is not host {origin.host}")
            have = file.stat().st_size if file.exists() else 0
            connection.request("GET", path, headers={"Range": f"bytes={have}-"})
            answer = connection.getresponse()
            if answer.status == 404:
                return False
            if answer.status == 416:
                # It was worked on already when the agent ended: what stands there is no beginning of it.
                file.unlink()
                raise Unavailable(f"the copy from host {origin.host} is longer than the disk; it begins anew")
            if answer.status != 206:
                raise Unavailable(f"host {origin.host} does not give the disk: status {answer.status}")
            left = int(answer.headers["Content-Length"])
            _need_room(file, left)
            with file.open("ab") as stream:
                while left and (piece := answer.read(min(_PIECE, left))):
                    stream.write(piece)
                    left -= len(piece)
                    if stop.is_set() or self._closing.is_set():
                        raise Unavailable("it is not wanted any more")
                stream.flush()
                os.fsync(stream.fileno())
            if left:
                raise Unavailable(f"the disk came in part from host {origin.host}; it goes on from there")
            return True
        except http.client.HTTPException as error:
            raise Unavailable(f"host {origin.host} broke off: {error!r}") from None
        finally:
            connection.close()

    # Serving.

    def readable(self, path: str, peer: tuple[str, str]) -> Path:
        """The file that a request of another host means.

        Raises:
            NotFound: there is none, or it is not for that host.
        """
        match = _PATH.fullmatch(path)
        found = self._wanted.get((match[1], int(match[2]))) if match else None
        if match is None or found is None or peer != (found.reader, found.reader_key):
            raise NotFound("There is nothing of that name for this host.")
        if not self.has(found.server, found.serial):
            raise NotFound("It is not there.")
        return self._file(found.server, found.serial, match[3])

    def listen(self) -> socket.socket:
        """The socket that other hosts connect to; its address may come to be there later."""
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listening.bind((self._address, PORT))
        listening.listen(_READERS)
        return listening

    def context(self) -> ssl.SSLContext:
        """The TLS settings of what is served."""
        return pki.server_context(self._files, self._authority, clients=ssl.CERT_REQUIRED)

    def _mark(self, server: str, serial: int) -> Path:
        return self._folder / f"{server}.{serial}"

    def _file(self, server: str, serial: int, name: str) -> Path:
        return self._folder / f"{server}.{serial}.{name}"


#: ip(7); Python names it from 3.13 on.
_IP_FREEBIND = 15


class _Server(http.server.ThreadingHTTPServer):
    """Serves what is kept, each connection in a thread of its own, until `stop`."""

    daemon_threads = True

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.context = kept.context()
        self._free = threading.BoundedSemaphore(_READERS)
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = kept.listen()
        threading.Thread(target=self.serve_forever, args=(0.5,), daemon=True, name="disks").start()

    def stop(self) -> None:
        """Ends it."""
        self.shutdown()
        self.server_close()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The handshake and the requests of one connection."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            request.settimeout(_SECONDS)
            secured = self.context.wrap_socket(request, server_side=True)
            super().process_request_thread(secured, client_address)
        except OSError:
            request.close()
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Somebody hung up, or is nobody of ours."""
        log.info("a transfer to %s ended early", client_address[0], exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request at a time."""

    protocol_version = "HTTP/1.1"
    server: _Server
    connection: ssl.SSLSocket

    def do_GET(self) -> None:
        """A file, from where the range says on."""
        try:
            file = self.server.kept.readable(self.path, _peer(self.connection))
            stream = file.open("rb")
        except (NotFound, FileNotFoundError):
            self.send_error(404)
            return
        with stream:
            size = os.fstat(stream.fileno()).st_size
            match = re.fullmatch(r"bytes=([0-9]{1,18})-", self.headers.get("Range", "bytes=0-"))
            if match is None or int(match[1]) > size:
                self.send_error(416)
                return
            stream.seek(int(match[1]))
            self.send_response(206)
            self.send_header("Content-Length", str(size - int(match[1])))
            self.send_header("Content-Type", "application/octet-stream")
            self.end_headers()
            shutil.copyfileobj(stream, self.wfile, _PIECE)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def _peer(connection: ssl.SSLSocket) -> tuple[str, str]:
    """The common name of the other end, and SHA-256 of its public key, as the control plane knows it."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from cryptography.x509.oid import NameOID

    certificate = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return str(names[0].value) if len(names) == 1 else "", hashlib.sha256(key).hexdigest()


def _key(name: str) -> tuple[str, int]:
    """The server and the serial of a file's name; of another's file, what nobody wants."""
    parts = name.split(".")
    return (parts[0], int(parts[1])) if len(parts) > 1 and parts[1].isdigit() else ("", 0)


def _need_room(file: Path, size: int) -> None:
    free = disks.free_bytes(file.parent)
    if free < size + _MARGIN:
        raise Unavailable(
            f"a disk of {size >> 20} MiB does not fit: {free >> 20} MiB are free in {file.parent}. Free some."
        )
