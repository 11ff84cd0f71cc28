"""The metadata service tells a server about itself, and nobody about anybody else."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_lab import AgentLab, changed, identity, port, server, wait

from trunkline.agent import documents
from trunkline.compiler.slices import ImageSlice, MetadataSlice, PortSlice, ServerSlice
from trunkline.devices import configdrive, namespace

NETWORK_A, NETWORK_B = identity(1, 2), identity(2, 2)
KEY = "ssh-ed25519 AAAA somebody"
IMAGE = ImageSlice(id=identity(9, 3), disk_format="raw", size=1, sha512="")


def told(number: int, name: str, *ports: PortSlice, **more: object) -> ServerSlice:
    """A server that is stopped: what it is told does not need it to run."""
    return server(
        number,
        IMAGE,
        *ports,
        power="stopped",
        user_data=f"#!/bin/sh\necho {name}\n".encode(),
        flavor="tiny",
        public_addresses=("203.0.113.9",),
        meta_data={
            "uuid": identity(number),
            "hostname": f"{name}.example",
            "name": name,
            "availability_zone": "nova",
            "public_keys": {"mine": KEY},
            "launch_index": 0,
        },
        network_data={"links": [{"id": name}], "networks": [], "services": []},
        **more,
    )


class Guest:
    """A namespace that stands for a server: its port in it, its addresses set."""

    def __init__(self, lab: AgentLab, number: int, network: str) -> None:
        self.port = port(number, server=identity(number), attach="namespace", network=network)
        self.netns = f"{lab.prefix}p-{self.port.id[:8]}"

    def address(self, *addresses: str) -> None:
        namespace.ip(
            self.netns,
            "address flush dev eth0 scope global",
            *(f"address replace {a} dev eth0{' nodad' if ':' in a else ''}" for a in addresses),
            "route replace 169.254.169.254/32 dev eth0",
        )

    def connect(self, to: str = "169.254.169.254") -> socket.socket:
        def make() -> socket.socket:
            if ":" in to:
                made = socket.socket(socket.AF_INET6)
                target: tuple[object, ...] = (to, 80, 0, socket.if_nametoindex("eth0"))
            else:
                made = socket.socket()
                target = (to, 80)
            made.settimeout(5)
            made.connect(target)
            return made

        return namespace.inside(self.netns, make)

    def get(self, path: str, to: str = "169.254.169.254", **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("169.254.169.254", timeout=5)
        connection.sock = self.connect(to)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body


class World:
    """Two networks with the same addresses, a server on each."""

    def __init__(self, lab: AgentLab) -> None:
        self.lab = lab
        self.a, self.b = Guest(lab, 1, NETWORK_A), Guest(lab, 2, NETWORK_B)
        addresses = ("10.0.0.1", "fd00::1")
        self.a.port = changed(self.a.port, addresses=addresses)
        self.b.port = changed(self.b.port, addresses=addresses)
        self.metadata = tuple(
            MetadataSlice(
                network=network,
                port=identity(n, 4),
                mac=f"02:00:00:00:04:{n:02x}",
                addresses=("10.0.0.2/24",),
                mtu=1442,
            )
            for n, network in ((1, NETWORK_A), (2, NETWORK_B))
        )
        self.images = (lab.image(),)
        lab.start_all()
        self.put()
        lab.applied()
        self.separate()
        self.a.address("10.0.0.1/24")
        self.b.address("10.0.0.1/24")

    def put(self) -> None:
        servers = tuple(
            changed(s, image=self.images[0].id)
            for s in (told(1, "alpha", self.a.port), told(2, "beta", self.b.port))
        )
        self.lab.put(
            ports=(self.a.port, self.b.port), servers=servers, metadata=self.metadata, images=self.images
        )

    def separate(self) -> None:
        """What OVN does: each network's ports reach each other, and no others."""
        pairs = zip((self.a.port, self.b.port), self.metadata, strict=True)
        for one, other in pairs:
            names = f"tli{one.id[:11]}", f"tlm{other.port[:11]}"
            numbers = [self.lab.vsctl("get", "Interface", name, "ofport") for name in names]
            for here, there in (numbers, numbers[::-1]):
                flow = f"in_port={here},actions=output:{there}"
                management = f"unix:{self.lab.run}/br-int.mgmt"
                subprocess.run(["ovs-ofctl", "--timeout=5", "add-flow", management, flow], check=True)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    lab = AgentLab()
    try:
        yield World(lab)
    finally:
        lab.close()


@pytest.mark.machine
def test_equal_addresses_in_two_networks_are_two_servers(world: World) -> None:
    for guest, name in ((world.a, "alpha"), (world.b, "beta")):
        status, body = guest.get("/openstack/latest/meta_data.json")
        assert (status, json.loads(body)["name"]) == (200, name)


@pytest.mark.machine
def test_by_ipv6_a_server_is_known_by_its_link_local_address(world: World) -> None:
    # The guest's own link-local address is tentative for a second (RFC 4862, 5.4).
    answer = wait(lambda: world.a.get("/latest/meta-data/hostname", "fe80::a9fe:a9fe"))
    assert answer == (200, "alpha.example")


@pytest.mark.machine
def test_nothing_that_a_request_says_of_its_sender_is_believed(world: World) -> None:
    forged = {
        "X-Forwarded-For": "10.0.0.77",
        "X-Instance-ID": identity(2),
        "X-Tenant-ID": "other",
        "X-Instance-ID-Signature": "0",
        "Host": "beta",
    }
    assert world.a.get("/latest/meta-data/hostname", **forged) == (200, "alpha.example")


@pytest.mark.machine
def test_an_unknown_source_is_told_nothing(world: World) -> None:
    world.a.address("10.0.0.9/24")
    try:
        assert world.a.get("/latest/meta-data/hostname")[0] == 404
        assert world.a.get("/openstack")[0] == 404
    finally:
        world.a.address("10.0.0.1/24")


@pytest.mark.machine
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000, b"431"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
        (b"POST /latest/meta-data HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", b"405"),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"GET /latest/%00 HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
    ],
)
def test_bad_requests_are_refused(world: World, request_: bytes, status: bytes) -> None:
    with world.a.connect() as connection:
        connection.sendall(request_)
        assert connection.recv(65536).split()[1] == status


@pytest.mark.machine
def test_slow_clients_are_cut_off_and_hold_up_nobody(world: World) -> None:
    slow = [world.a.connect() for _ in range(31)]
    try:
        for connection in slow:
            connection.sendall(b"GET /latest HTTP/1.1\r\nX: ")
        assert world.b.get("/latest/meta-data/hostname") == (200, "beta.example")
        assert world.a.get("/latest/meta-data/hostname") == (200, "alpha.example")
        with world.a.connect() as one, world.a.connect() as too_many:
            assert too_many.recv(65536).split()[1] == b"503"
            one.sendall(b"GET /latest/meta-data/hostname HTTP/1.1\r\nHost: x\r\n\r\n")
            assert one.recv(65536).split()[1] == b"200"
        slow[0].settimeout(20)
        assert slow[0].recv(1) == b""
    finally:
        for connection in slow:
            connection.close()


@pytest.mark.machine
def test_a_network_that_left_takes_its_namespace_along(world: World) -> None:
    spaces = [f"{world.lab.prefix}m-{n[:8]}" for n in (NETWORK_A, NETWORK_B)]
    assert [namespace.exists(s) for s in spaces] == [True, True]
    world.metadata, kept = world.metadata[:1], world.metadata
    try:
        world.put()
        world.lab.applied()
        assert [namespace.exists(s) for s in spaces] == [True, False]
        assert world.a.get("/latest/meta-data/hostname") == (200, "alpha.example")
    finally:
        world.metadata = kept


@pytest.mark.machine
def test_a_restarted_agent_serves_without_a_control_plane(world: World) -> None:
    world.lab.kill("agent")
    world.lab.control.close()
    world.lab.start_agent()
    assert wait(lambda: world.a.get("/latest/meta-data/hostname")) == (200, "alpha.example")


# What is told.

ONE = port(1, server=identity(1))
TREE = documents.service(told(1, "alpha", ONE), [ONE])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/latest/meta-data/instance-id", "i-00010000"),
        ("/latest/meta-data/local-ipv4", "10.0.0.1"),
        ("/latest/meta-data/public-ipv4", "203.0.113.9"),
        ("/latest/meta-data/instance-type", "tiny"),
        ("/latest/meta-data/placement/availability-zone", "nova"),
        ("/latest/meta-data/public-keys/", "0=mine"),
        ("/latest/meta-data/public-keys/0/openssh-key", KEY),
        ("/latest/meta-data/public-keys/0/", "openssh-key"),
        ("/2009-04-04/meta-data/hostname", "alpha.example"),
        ("/latest/user-data", "#!/bin/sh\necho alpha\n"),
        ("/openstack/latest/user_data", "#!/bin/sh\necho alpha\n"),
        ("/openstack/2013-04-04/", "meta_data.json\nuser_data\npassword"),
        ("//openstack//latest//password", ""),
    ],
)
def test_a_path_shows(path: str, body: str) -> None:
    assert documents.find(TREE, path) == body.encode()


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/latest/meta-data/hostname/more",
        "/openstack/2012-08-10/network_data.json",
        "/openstack/9999-01-01/meta_data.json",
        "/latest/meta-data/public-keys/0/_label/more",
    ],
)
def test_a_path_shows_nothing(path: str) -> None:
    assert documents.find(TREE, path) is None


def test_directories_list_what_is_in_them() -> None:
    assert b"latest/" in (documents.find(TREE, "/openstack") or b"").split(b"\n")
    listed = (documents.find(TREE, "/latest/meta-data/") or b"").split(b"\n")
    assert b"public-keys/" in listed
    assert b"hostname" in listed


def test_without_user_data_there_is_none() -> None:
    tree = documents.service(server(1, IMAGE), [])
    assert documents.find(tree, "/openstack/latest/user_data") is None
    assert documents.find(tree, "/latest/user-data") is None


def test_the_password_of_the_first_user_is_on_the_drive_alone() -> None:
    known = server(1, IMAGE)
    known = changed(known, meta_data={"uuid": known.id, "admin_pass": "secret"})
    drive = documents.drive(known, [])["openstack/latest/meta_data.json"]
    asked = documents.find(documents.service(known, []), "/openstack/latest/meta_data.json") or b""
    assert json.loads(drive)["admin_pass"] == "secret"
    assert b"secret" not in asked
    assert json.loads(asked)["uuid"] == known.id


async def _write(file: Path) -> None:
    await configdrive.write(file, documents.drive(told(1, "alpha", ONE), [ONE]))


@pytest.mark.machine
def test_a_config_drive_is_found_by_its_label_and_holds_the_same(tmp_path: Path) -> None:
    import asyncio

    file = tmp_path / "drive.iso"
    asyncio.run(_write(file))
    label = subprocess.run(
        ["blkid", "-p", "-o", "value", "-s", "LABEL", str(file)], capture_output=True, text=True
    ).stdout
    assert label == "config-2\n"
    out = tmp_path / "out"
    subprocess.run(
        ["xorriso", "-osirrox", "on", "-indev", str(file), "-extract", "/", str(out)],
        check=True,
        capture_output=True,
    )
    meta = json.loads((out / "openstack/latest/meta_data.json").read_text())
    assert meta["hostname"] == "alpha.example"
    assert (out / "openstack/latest/user_data").read_text() == "#!/bin/sh\necho alpha\n"
    ec2 = json.loads((out / "ec2/latest/meta-data.json").read_text())
    assert ec2["public-keys"]["0"]["openssh-key"] == KEY
    assert [f.name for f in tmp_path.iterdir() if f.name.startswith(".")] == []
