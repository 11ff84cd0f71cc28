"""Disks that were set aside: what stays, who may read them, and transfers that are cut off, over real TLS."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from trunkline.agent import kept
from trunkline.agent.kept import Kept
from trunkline.compiler.slices import KeptSlice, Origin
from trunkline.devices.pki import Authority
from trunkline.errors import Unavailable

SERVER = "0001aaaa-0000-4000-8000-000000000001"
_NUMBERS = itertools.count(1)


class Hosts:
    """Some hosts of one region, each on an address of loopback of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = Authority.open(folder / "pki")
        self._made: list[Kept] = []
        #: Host name to its address, and to SHA-256 of its key.
        self.addresses: dict[str, str] = {}
        self.keys: dict[str, str] = {}

    def host(self, name: str) -> Kept:
        pid = os.getpid()
        self.addresses[name] = f"127.{pid >> 16 & 63 | 64}.{pid >> 8 & 255}.{next(_NUMBERS)}"
        files = self._authority.issue(name)
        key = x509.load_pem_x509_certificate(files.cert.read_bytes()).public_key()
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.keys[name] = hashlib.sha256(der).hexdigest()
        made = Kept(self._folder / name, name, self.addresses[name], files, self._authority.certificate_file)
        self._made.append(made)
        return made

    def origin(self, name: str, serial: int = 1) -> Origin:
        return Origin(serial=9, kept=serial, host=name, address=self.addresses[name], key=self.keys[name])

    def slice(self, reader: str, serial: int = 1) -> KeptSlice:
        return KeptSlice(server=SERVER, serial=serial, image="i", reader=reader, reader_key=self.keys[reader])

    def close(self) -> None:
        for each in self._made:
            each.close()


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    made = Hosts(tmp_path)
    yield made
    made.close()


def a_disk(folder: Path, size: int = 3_000_000) -> Path:
    file = folder / "disk"
    file.write_bytes(os.urandom(size))
    return file


def set_aside(hosts: Hosts, source: Kept, folder: Path, reader: str) -> bytes:
    """A disk that one host may read; its content."""
    file = a_disk(folder)
    content = file.read_bytes()
    source.put(SERVER, 1, {"root": file})
    source.want([hosts.slice(reader)], certain=True)
    asyncio.run(source.apply())
    return content


def test_the_host_it_goes_to_copies_it_and_the_old_host_keeps_it(hosts: Hosts, tmp_path: Path) -> None:
    source, dest = hosts.host("h1"), hosts.host("h2")
    content = set_aside(hosts, source, tmp_path, "h2")
    copy = tmp_path / "copy"
    assert asyncio.run(dest.fetch(SERVER, hosts.origin("h1"), "root", copy))
    assert copy.read_bytes() == content
    assert not asyncio.run(dest.fetch(SERVER, hosts.origin("h1"), "ephemeral", tmp_path / "none"))
    back = tmp_path / "back"
    source.take(SERVER, 1, {"root": back})
    assert back.read_bytes() == content
    assert not source.has(SERVER)


def test_a_copy_that_was_cut_off_goes_on_from_there(hosts: Hosts, tmp_path: Path) -> None:
    source, dest = hosts.host("h1"), hosts.host("h2")
    content = set_aside(hosts, source, tmp_path, "h2")
    copy = tmp_path / "copy"
    copy.write_bytes(b"what came" + content[9:1_000_000])
    assert asyncio.run(dest.fetch(SERVER, hosts.origin("h1"), "root", copy))
    assert copy.read_bytes() == b"what came" + content[9:]


def test_a_copy_that_had_become_larger_begins_anew(hosts: Hosts, tmp_path: Path) -> None:
    """An agent that is killed while it makes a disk of a copy leaves one that is too long."""
    source, dest = hosts.host("h1"), hosts.host("h2")
    content = set_aside(hosts, source, tmp_path, "h2")
    copy = tmp_path / "copy"
    copy.write_bytes(content + b"grown")
    with pytest.raises(Unavailable, match="begins anew"):
        asyncio.run(dest.fetch(SERVER, hosts.origin("h1"), "root", copy))
    assert asyncio.run(dest.fetch(SERVER, hosts.origin("h1"), "root", copy))
    assert copy.read_bytes() == content


def test_a_copy_on_the_same_host_needs_no_network(hosts: Hosts, tmp_path: Path) -> None:
    source = hosts.host("h1")
    content = set_aside(hosts, source, tmp_path, "h1")
    copy = tmp_path / "copy"
    assert asyncio.run(source.fetch(SERVER, hosts.origin("h1"), "root", copy))
    assert copy.read_bytes() == content
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((hosts.addresses["h1"], kept.PORT), 1.0)


@pytest.mark.parametrize("who", ["another host", "the same name with another key", "another move"])
def test_nobody_else_reads_it(hosts: Hosts, tmp_path: Path, who: str) -> None:
    source, dest, other = hosts.host("h1"), hosts.host("h2"), hosts.host("h3")
    set_aside(hosts, source, tmp_path, "h2")
    if who == "the same name with another key":
        hosts.keys["h2"] = hosts.keys["h3"]
        source.want([hosts.slice("h2")], certain=True)
    reader = other if who == "another host" else dest
    origin = hosts.origin("h1", serial=2 if who == "another move" else 1)
    assert not asyncio.run(reader.fetch(SERVER, origin, "root", tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


def test_a_host_that_is_not_who_it_should_be_is_not_asked(hosts: Hosts, tmp_path: Path) -> None:
    source, dest = hosts.host("h1"), hosts.host("h2")
    set_aside(hosts, source, tmp_path, "h2")
    hosts.keys["h1"] = hosts.keys["h2"]
    with pytest.raises(Unavailable, match="is not host h1"):
        asyncio.run(dest.fetch(SERVER, hosts.origin("h1"), "root", tmp_path / "copy"))


def test_it_stays_until_the_control_plane_itself_names_it_no_more(hosts: Hosts, tmp_path: Path) -> None:
    source = hosts.host("h1")
    source.put(SERVER, 1, {"root": a_disk(tmp_path)})
    source.want([], certain=False)
    asyncio.run(source.apply())
    assert source.has(SERVER, 1), "the slice of an earlier run may be older than the disk"
    hosts.host("h2")
    source.want([hosts.slice("h2")], certain=True)
    asyncio.run(source.apply())
    assert source.has(SERVER, 1)
    source.want([], certain=True)
    asyncio.run(source.apply())
    assert not source.has(SERVER)


def test_to_set_aside_and_to_give_back_may_be_cut_off_and_repeated(hosts: Hosts, tmp_path: Path) -> None:
    source = hosts.host("h1")
    first, second = tmp_path / "first", tmp_path / "second"
    for file in (first, second):
        file.write_text(file.name)
    source.put(SERVER, 1, {"root": first})
    for _ in range(2):
        source.put(SERVER, 1, {"root": first, "ephemeral": second})
        assert not list(tmp_path.glob("first"))
        assert not list(tmp_path.glob("second"))
    for _ in range(2):
        source.take(SERVER, 1, {"root": first, "ephemeral": second})
        assert (first.read_text(), second.read_text()) == ("first", "second")
