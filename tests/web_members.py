"""Web servers that answer behind a balancer, and clients that look at what they say."""

from __future__ import annotations

import contextlib
import http.client
import http.cookies
import http.server
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from probes import Space

#: A long download: so many pieces, one after the other.
PIECE, PAUSE = b"x" * 1000, 0.05


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/long/"):
            count = int(self.path.rpartition("/")[2])
            self.send_response(200)
            self.send_header("Content-Length", str(count * len(PIECE)))
            self.end_headers()
            for _ in range(count):
                self.wfile.write(PIECE)
                time.sleep(PAUSE)
            return
        heard = "\n".join(f"{name.lower()}: {value}" for name, value in self.headers.items())
        body = f"{self.server.name}\n{self.path}\n{heard}".encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Set-Cookie", "SID=abc")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, *what: object) -> None:
        """Whoever ends a connection in its middle is no news."""


@contextlib.contextmanager
def member(space: Space, address: str, port: int, name: str) -> Iterator[None]:
    """A web server of that name, in a namespace: it says its name, the path, and the headers that it got."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    ear = space.open(family, socket.SOCK_STREAM)
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ear.bind((address, port))
    ear.listen(128)
    server = _Server((address, port), _Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = ear
    server.name = name  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Answer:
    """What a client got."""

    status: int
    headers: dict[str, str]
    cookies: dict[str, str]
    body: str

    @property
    def member(self) -> str:
        return self.body.partition("\n")[0]

    def heard(self, header: str) -> str:
        """What the member got of that header."""
        lines = [line.partition(": ") for line in self.body.splitlines()[2:]]
        return ", ".join(value for name, _, value in lines if name == header)


class Client:
    """One connection to a listener. Raises OSError, http.client.HTTPException where it is broken."""

    def __init__(
        self,
        space: Space,
        address: str,
        port: int,
        *,
        tls: str = "",
        trusted: str = "",
        patience: float = 10.0,
    ) -> None:
        """`tls`: the name that is asked for; `trusted`: the certificate that is to answer, PEM."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made: socket.socket = space.open(family, socket.SOCK_STREAM)
        made.settimeout(patience)
        try:
            made.connect((address, port))
            if tls:
                context = ssl.create_default_context(cadata=trusted)
                made = context.wrap_socket(made, server_hostname=tls)
        except BaseException:
            made.close()
            raise
        self.port = int(made.getsockname()[1])
        self._connection = http.client.HTTPConnection(address, port)
        self._connection.sock = made
        self._connection.auto_open = 0

    def close(self) -> None:
        self._connection.close()

    def get(self, path: str = "/", **headers: str) -> Answer:
        self._connection.request("GET", path, headers=headers)
        response = self._connection.getresponse()
        said = {name.lower(): value for name, value in response.getheaders()}
        cookies = http.cookies.SimpleCookie()
        for value in response.headers.get_all("Set-Cookie", []):
            cookies.load(value)
        values = {name: each.value for name, each in cookies.items()}
        return Answer(response.status, said, values, response.read().decode())


def once(space: Space, address: str, port: int, path: str = "/", **more: Any) -> Answer | None:
    """A request by a connection of its own; None where nobody answers."""
    headers = more.pop("headers", {})
    try:
        with contextlib.closing(Client(space, address, port, **more)) as client:
            return client.get(path, **headers)
    except (OSError, http.client.HTTPException):
        return None


def certificate(name: str, days: float = 30.0) -> dict[str, str]:
    """One that says itself who it is, with its key; both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    text = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"certificate": made.public_bytes(pem).decode(), "key": text.decode()}
