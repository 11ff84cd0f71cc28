"""What may be fetched: the operator's list, and addresses that are public unless they are on it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from pathlib import Path

import pytest
from image_lab import web_server

from trunkline.devices.web import Source, Sources, Web, is_global
from trunkline.errors import BadField, Unavailable


def web(tmp_path: Path, *entries: str) -> Web:
    file = tmp_path / "sources.yaml"
    file.write_text("".join(f"- '{entry}'\n" for entry in entries))
    return Web(Sources(file))


async def whole(web: Web, url: str) -> bytes:
    return b"".join([piece async for piece in web.get(url)])


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("images.test", "http://images.test/a?b"),
        ("images.test", "https://IMAGES.test/a"),
        ("*.images.test", "http://a.images.test/a"),
        ("images.test:8080", "http://images.test:8080/"),
        ("10.1.0.0/16", "http://10.1.2.3/"),
        ("10.1.2.3:81", "http://10.1.2.3:81/"),
        ("2001:db8::/32", "http://[2001:db8::1]/"),
        ("[2001:db8::1]:81", "http://[2001:db8::1]:81/"),
    ],
)
def test_what_is_listed_is_allowed(tmp_path: Path, entry: str, url: str) -> None:
    web(tmp_path, entry).check(url)


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("images.test", "http://images.test:8080/"),
        ("images.test", "http://a.images.test/"),
        ("images.test", "http://images.test.evil.test/"),
        ("images.test", "http://images.test@evil.test/"),
        ("images.test", "http://evil.test/#images.test"),
        ("images.test", "http://127.0.0.1/"),
        ("images.test", "file:///etc/passwd"),
        ("images.test", "ftp://images.test/"),
        ("images.test", "images.test/"),
        ("images.test", "http://images.test/ x"),
        ("images.test", "http://images.test:99999/"),
        ("images.test", "http://images.test/\r\nX: y"),
        ("*.images.test", "http://images.test/"),
        ("*.images.test", "http://evilimages.test/"),
        ("10.1.0.0/16", "http://10.2.0.1/"),
        ("10.1.0.0/16", "http://[::ffff:10.2.0.1]/"),
        ("10.1.2.3:81", "http://10.1.2.3/"),
    ],
)
def test_what_is_not_listed_is_refused(tmp_path: Path, entry: str, url: str) -> None:
    with pytest.raises(BadField, match="uri"):
        web(tmp_path, entry).check(url)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "0.0.0.0",
     "224.0.0.1", "240.0.0.1", "198.18.0.1", "::1", "::", "fe80::1", "fd00::1", "ff02::1", "fec0::1",
     "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "2001:0:4136:e378::1"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_global(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_global(ipaddress.ip_address(address))


def test_a_listed_name_that_leads_to_loopback_is_refused(tmp_path: Path) -> None:
    with web_server({"/": (200, {}, b"secret")}) as port:
        with pytest.raises(BadField, match="no public address"):
            asyncio.run(whole(web(tmp_path, f"localhost:{port}"), f"http://localhost:{port}/"))
        listed = web(tmp_path, f"localhost:{port}", "127.0.0.0/8", "::1")
        assert asyncio.run(whole(listed, f"http://localhost:{port}/")) == b"secret"


def test_the_address_that_was_looked_at_is_the_one_connected_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["192.0.2.1", "127.0.0.1"])
    asked: list[str] = []

    def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(BadField, match=r"192\.0\.2\.1"):
        asyncio.run(whole(web(tmp_path, "images.test"), "http://images.test/"))
    assert asked == ["images.test"]


@pytest.mark.parametrize("text", ["a: b", "- 1", "- 'a b'", "- 'h:99999'", "- 300.1.1.1", "- [x", "- ''"])
def test_a_list_with_an_error_allows_nothing(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sources.yaml"
    file.write_text(text)
    found = Web(Sources(file))
    assert not found.offered()
    with pytest.raises(Unavailable, match="list of sources"):
        found.check("http://images.test/")


def test_without_a_list_nothing_is_allowed(tmp_path: Path) -> None:
    found = Web(Sources(tmp_path / "none"))
    assert not found.offered()
    with pytest.raises(BadField):
        found.check("http://images.test/")


def test_entries_are_read_as_they_are_written() -> None:
    assert Source.parse("Images.Test:81") == Source(name="images.test", port=81)
    assert Source.parse("10.0.0.0/8").prefix == ipaddress.ip_network("10.0.0.0/8")
