"""The region's authority: what it makes is durable, private, and trusted by TLS and by nothing else."""

from __future__ import annotations

import socket
import ssl
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trunkline.devices import pki
from trunkline.errors import BadField


@pytest.fixture
def authority(tmp_path: Path) -> pki.Authority:
    return pki.Authority.open(tmp_path / "pki")


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> dict[str, object] | None:
    """Shakes hands over a socket pair; the certificate that the server saw. Raises what the client saw."""
    a, b = socket.socketpair()
    seen: list[dict[str, object] | None] = []

    def serve() -> None:
        try:
            with server.wrap_socket(a, server_side=True) as end:
                end.recv(1)
                seen.append(end.getpeercert())
                end.send(b"x")
        except OSError:
            a.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(b, server_hostname=name) as end:
            end.send(b"x")
            if not end.recv(1):
                raise ConnectionError("refused")
    finally:
        b.close()
        thread.join()
    return seen[0]


def test_opened_again_it_is_the_same_authority(authority: pki.Authority) -> None:
    again = pki.Authority.open(authority.directory)
    assert again.fingerprint == authority.fingerprint
    assert len(authority.fingerprint) == 64


def test_opened_by_many_at_once_there_is_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: pki.Authority.open(tmp_path / "pki"), range(8)))
    assert len({a.fingerprint for a in opened}) == 1


def test_a_key_left_without_certificate_is_used(authority: pki.Authority) -> None:
    key = (authority.directory / "ca.key").read_bytes()
    authority.certificate_file.unlink()
    again = pki.Authority.open(authority.directory)
    assert (authority.directory / "ca.key").read_bytes() == key
    assert again.issue("x").cert.exists()


def test_private_keys_are_private(authority: pki.Authority) -> None:
    files = authority.issue("control", ["127.0.0.1"])
    for file in (files.key, authority.directory / "ca.key"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_issued_is_kept_until_it_must_differ(authority: pki.Authority) -> None:
    first = authority.issue("control", ["127.0.0.1"]).cert.read_bytes()
    assert authority.issue("control", ["127.0.0.1"]).cert.read_bytes() == first
    assert authority.issue("control", ["127.0.0.1", "10.0.0.1"]).cert.read_bytes() != first


@pytest.mark.parametrize("name", ["", "ca", "../x", ".x"])
def test_a_name_that_is_no_file_name_is_refused(authority: pki.Authority, name: str) -> None:
    with pytest.raises(BadField, match="common_name"):
        authority.issue(name)


def test_both_ends_know_each_other(authority: pki.Authority, tmp_path: Path) -> None:
    files = authority.issue("control", ["10.99.0.10"], ["control.example"])
    key, csr = pki.new_request("claims-to-be-h9")
    (tmp_path / "k").write_text(key)
    (tmp_path / "c").write_text(authority.sign(csr, "h1"))
    server = pki.server_context(files, authority.certificate_file, clients=ssl.CERT_REQUIRED)
    client = pki.client_context(authority.certificate_pem, pki.IssuedFiles(tmp_path / "k", tmp_path / "c"))
    for name in ("10.99.0.10", "control.example"):
        seen = handshake(server, client, name)
        assert seen is not None
        assert seen["subject"] == ((("commonName", "h1"),),)


def test_a_server_under_another_name_is_not_trusted(authority: pki.Authority) -> None:
    server = pki.server_context(
        authority.issue("control", ["10.99.0.10"]), authority.certificate_file, clients=ssl.CERT_NONE
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, pki.client_context(authority.certificate_pem), "10.99.0.11")


def test_another_region_is_not_trusted(authority: pki.Authority, tmp_path: Path) -> None:
    other = pki.Authority.open(tmp_path / "other")
    server = pki.server_context(
        authority.issue("control", ["127.0.0.1"]), authority.certificate_file, clients=ssl.CERT_OPTIONAL
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, pki.client_context(other.certificate_pem), "127.0.0.1")
    stranger = pki.client_context(authority.certificate_pem, other.issue("h1"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(server, stranger, "127.0.0.1")


@pytest.mark.parametrize("csr", ["", "hello", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"])
def test_a_malformed_request_is_refused(authority: pki.Authority, csr: str) -> None:
    with pytest.raises(BadField, match="csr"):
        authority.sign(csr, "h1")


def test_a_request_that_was_tampered_with_is_refused(authority: pki.Authority) -> None:
    _, csr = pki.new_request("h1")
    lines = csr.splitlines()
    last = lines[-2]
    lines[-2] = ("B" if last[0] == "A" else "A") + last[1:]
    with pytest.raises(BadField, match="csr"):
        authority.sign("\n".join(lines), "h1")


def test_openssl_agrees(authority: pki.Authority) -> None:
    files = authority.issue("control", ["127.0.0.1"])
    said = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", str(authority.certificate_file), str(files.cert)],
        capture_output=True,
        text=True,
        timeout=10,
    )
    assert said.stdout.endswith(": OK\n"), said


def test_importing_it_imports_no_cryptography() -> None:
    code = "import sys, trunkline.devices.pki; print('cryptography' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=10)
    assert said.stdout == "False\n", said.stderr
