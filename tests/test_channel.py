"""The host channel's server: a host is who its certificate says, and nobody else is told anything."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_control import FakeControl

from trunkline.compiler.slices import RUN_HEADER, HostSlice
from trunkline.control import channel
from trunkline.devices import pki
from trunkline.errors import TooMany
from trunkline.resources.reports import HostReport


@pytest.fixture
def control(tmp_path: Path) -> Iterator[FakeControl]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        control = FakeControl(tmp_path, listening, long_poll=0.5)
        yield control
        control.close()


class Client:
    """One host's connection."""

    def __init__(self, control: FakeControl, files: pki.IssuedFiles | None = None) -> None:
        context = pki.client_context(control.authority.certificate_pem, files)
        self.http = http.client.HTTPSConnection(*control.address, context=context, timeout=10)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        self.http.request(method, path, data, headers)
        answer = self.http.getresponse()
        return answer.status, answer.read()


def join(control: FakeControl, folder: Path, name: str, token: str) -> pki.IssuedFiles:
    key, csr = pki.new_request("whatever")
    status, body = Client(control).ask("POST", "/v1/join", {"token": token, "host": name, "csr": csr})
    assert status == 200, body
    files = pki.IssuedFiles(folder / f"{name}.key", folder / f"{name}.crt")
    files.key.write_text(key)
    files.cert.write_text(json.loads(body)["certificate"])
    return files


@pytest.fixture
def h1(control: FakeControl, tmp_path: Path) -> pki.IssuedFiles:
    return join(control, tmp_path, "h1", control.token())


def test_a_host_that_joined_gets_its_own_slice(control: FakeControl, h1: pki.IssuedFiles) -> None:
    control.put(HostSlice(host="h1", revision=7))
    control.put(HostSlice(host="h2", revision=8))
    status, body = Client(control, h1).ask("GET", "/v1/slice?after=0")
    assert (status, msgspec.json.decode(body, type=HostSlice)) == (200, HostSlice(host="h1", revision=7))


def test_nothing_newer_is_204_after_the_wait(control: FakeControl, h1: pki.IssuedFiles) -> None:
    control.put(HostSlice(host="h1", revision=7))
    start = time.monotonic()
    assert Client(control, h1).ask("GET", "/v1/slice?after=7") == (204, b"")
    assert time.monotonic() - start >= 0.4


def test_a_newer_slice_ends_the_wait(control: FakeControl, h1: pki.IssuedFiles) -> None:
    control.put(HostSlice(host="h1", revision=7))
    timer = threading.Timer(0.1, control.put, [HostSlice(host="h1", revision=8)])
    timer.start()
    status, body = Client(control, h1).ask("GET", "/v1/slice?after=7")
    timer.join()
    assert (status, json.loads(body)["revision"]) == (200, 8)


def test_a_report_is_the_certificates_hosts_whatever_it_claims(
    control: FakeControl, h1: pki.IssuedFiles
) -> None:
    lie = HostReport(host="h2", applied_revision=1, vcpus=1, memory_mib=1, disk_gib=1)
    assert Client(control, h1).ask("POST", "/v1/report", msgspec.json.encode(lie))[0] == 204
    assert [r.host for r in control.reports] == ["h1"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/slice?after=0"), ("POST", "/v1/report"), ("GET", "/v1/images/i")]
)
def test_without_a_certificate_nothing_is_told(control: FakeControl, method: str, path: str) -> None:
    assert Client(control).ask(method, path)[0] == 401


def test_a_certificate_of_another_authority_is_refused(control: FakeControl, tmp_path: Path) -> None:
    stranger = pki.Authority.open(tmp_path / "other").issue("h1")
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        Client(control, stranger).ask("GET", "/v1/slice?after=0")


def test_a_removed_host_is_refused_on_the_connection_it_has(
    control: FakeControl, h1: pki.IssuedFiles
) -> None:
    control.put(HostSlice(host="h1", revision=7))
    client = Client(control, h1)
    assert client.ask("GET", "/v1/slice?after=0")[0] == 200
    control.removed.add("h1")
    assert client.ask("GET", "/v1/slice?after=0")[0] == 403


def test_joined_again_with_a_new_token_the_old_key_is_refused(
    control: FakeControl, h1: pki.IssuedFiles, tmp_path: Path
) -> None:
    (tmp_path / "again").mkdir()
    new = join(control, tmp_path / "again", "h1", control.token())
    control.put(HostSlice(host="h1", revision=7))
    assert Client(control, new).ask("GET", "/v1/slice?after=0")[0] == 200
    assert Client(control, h1).ask("GET", "/v1/slice?after=0")[0] == 403


def test_a_taken_name_needs_a_new_token_and_is_told(control: FakeControl, tmp_path: Path) -> None:
    token = control.token()
    join(control, tmp_path, "h1", token)
    _, csr = pki.new_request("h1")
    status, body = Client(control).ask("POST", "/v1/join", {"token": token, "host": "h1", "csr": csr})
    assert (status, "new token" in json.loads(body)["error"]["message"]) == (409, True)


def test_the_same_key_joins_again_after_a_lost_answer(control: FakeControl) -> None:
    _, csr = pki.new_request("h1")
    body = {"token": control.token(), "host": "h1", "csr": csr}
    assert [Client(control).ask("POST", "/v1/join", body)[0] for _ in range(2)] == [200, 200]


@pytest.mark.parametrize(
    "host", ["", "H1", "h_1", "-h", "h-", "a" * 64, "h1\n", "../x", "h1.example", "h1\x00"]
)
def test_a_bad_host_name_is_refused_and_named(control: FakeControl, host: str) -> None:
    _, csr = pki.new_request("h1")
    status, body = Client(control).ask(
        "POST", "/v1/join", {"token": control.token(), "host": host, "csr": csr}
    )
    assert (status, json.loads(body)["error"]["field"]) == (400, "host")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"token": 1}', b"\xff" * 100, b" " * 20_000])
def test_a_malformed_join_is_refused(control: FakeControl, body: bytes) -> None:
    assert Client(control).ask("POST", "/v1/join", body)[0] == 400


def test_guessing_tokens_is_stopped_and_holds_for_a_right_one_too(control: FakeControl) -> None:
    _, csr = pki.new_request("h1")
    client = Client(control)
    guesses = [
        client.ask("POST", "/v1/join", {"token": f"guess{n}.x", "host": "h1", "csr": csr})[0]
        for n in range(12)
    ]
    assert guesses == [401] * 10 + [429] * 2
    right = {"token": control.token(), "host": "h1", "csr": csr}
    assert client.ask("POST", "/v1/join", right)[0] == 429


def test_the_limit_ends_with_its_window() -> None:
    limit = channel.FailureLimit(by_source=1, in_all=2, window=10)
    limit.failed("a", 0)
    limit.check("b", 1)
    with pytest.raises(TooMany, match="10 seconds"):
        limit.check("a", 0)
    limit.failed("b", 1)
    with pytest.raises(TooMany):
        limit.check("c", 2)
    limit.check("a", 10.5)


def test_an_image_comes_whole_and_in_part(control: FakeControl, h1: pki.IssuedFiles, tmp_path: Path) -> None:
    control.images["i1"] = tmp_path / "image"
    content = bytes(range(256)) * 1000
    control.images["i1"].write_bytes(content)
    client = Client(control, h1)
    assert client.ask("GET", "/v1/images/i1") == (200, content)
    assert client.ask("GET", "/v1/images/i1", Range="bytes=1000-") == (206, content[1000:])
    assert client.ask("GET", "/v1/images/i2")[0] == 404


def test_a_console_is_of_the_certificates_host(control: FakeControl, h1: pki.IssuedFiles) -> None:
    client = Client(control, h1)
    assert client.ask("POST", "/v1/consoles/s1", b"\xffhello")[0] == 204
    assert control.consoles == {("h1", "s1"): b"\xffhello"}
    assert client.ask("POST", "/v1/consoles/s1", b" " * 70_000)[0] == 400
    assert Client(control).ask("POST", "/v1/consoles/s1", b"x")[0] == 401


def test_a_report_is_answered_with_the_run_that_heard_it(control: FakeControl, h1: pki.IssuedFiles) -> None:
    seen = HostReport(host="h1", applied_revision=1, vcpus=1, memory_mib=1, disk_gib=1)

    def heard_by() -> str | None:
        client = Client(control, h1)
        client.http.request("POST", "/v1/report", msgspec.json.encode(seen), {})
        return client.http.getresponse().headers[RUN_HEADER]

    first = heard_by()
    assert first
    assert heard_by() == first


def test_a_report_too_large_is_refused(control: FakeControl, h1: pki.IssuedFiles) -> None:
    client = Client(control, h1)
    assert client.ask("POST", "/v1/report", b" " * (9 << 20))[0] == 400
