"""Tap mirrors: what a port sends and gets is also sent to somebody who looks.

| claim | and in reverse |
| --- | --- |
| IN copies what comes to the port, OUT what it sends, by numbers | the other direction is not there |
| BOTH copies the two under one number | |
| in GRE (RFC 2784, RFC 2890) and in ERSPAN | mirror deleted: no copies |
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from cloud import Cloud
from flows import PATIENCE, Ping, must_pass, must_stop
from probes import Probe, Space
from tenants import Tenant

pytestmark = pytest.mark.machine

#: The control plane's leg on the underlay stands for a machine that looks.
SINK = "10.99.0.10"
_GRE = 47
#: Key of GRE that carries Ethernet frames; ERSPAN of version 1, whose session is in its own header.
_PLAIN, _ERSPAN = 0x6558, 0x88BE


class Copied:
    """A datagram from one probe to another, of which a copy under a number comes to the sink."""

    def __init__(self, sink: Space, number: int, source: Probe, to: Probe) -> None:
        self.sink, self.number, self.source, self.to = sink, number, source, to

    def __repr__(self) -> str:
        return f"copy {self.number} of {self.source} -> {self.to}"

    def once(self) -> bool:
        marker = f"copied {time.monotonic_ns()}".encode()
        with (
            self.sink.open(socket.AF_INET, socket.SOCK_RAW, _GRE) as ear,
            self.source.open(socket.AF_INET, socket.SOCK_DGRAM) as mouth,
        ):
            ear.settimeout(PATIENCE)
            mouth.sendto(marker, (self.to.v4, 9))
            deadline = time.monotonic() + PATIENCE
            with contextlib.suppress(TimeoutError):
                while time.monotonic() < deadline:
                    packet = ear.recv(2000)
                    if marker in packet and number_of(packet) == self.number:
                        return True
        return False


def number_of(packet: bytes) -> int:
    """The number that a copy carries, of an IPv4 packet with GRE in it."""
    gre = packet[(packet[0] & 15) * 4 :]
    (kind,) = struct.unpack("!H", gre[2:4])
    if kind == _PLAIN:
        return int(struct.unpack("!I", gre[4:8])[0])
    assert kind == _ERSPAN
    return int(struct.unpack("!H", gre[10:12])[0]) & 0x3FF


@pytest.fixture(scope="module")
def pair(tenant: Tenant) -> tuple[Probe, Probe]:
    """a (h1) and b (h2) on one network."""
    a, b = tenant.probes(tenant.network("10.0.0.0/24"), "h1", "h2")
    must_pass(Ping(a, b.v4))
    return a, b


@pytest.fixture
def sink(cloud: Cloud) -> Space:
    return Space(cloud.namespace("c"), name="the sink")


@contextlib.contextmanager
def mirrored(tenant: Tenant, probe: Probe, kind: str, **directions: int) -> Iterator[None]:
    """The port of a probe has a mirror in the block."""
    api, path = tenant.api, "/taas/tap_mirrors"
    fields = {"port_id": probe.port.id, "directions": directions, "remote_ip": SINK, "mirror_type": kind}
    reply = api.post(path, json={"tap_mirror": fields})
    assert reply.status_code == 201, reply.text
    try:
        yield
    finally:
        api.delete(f"{path}/{reply.json()['tap_mirror']['id']}")


@pytest.mark.parametrize("kind", ["gre", "erspanv1"])
def test_what_a_port_gets_and_sends_is_copied(
    tenant: Tenant, pair: tuple[Probe, Probe], sink: Space, kind: str
) -> None:
    a, b = pair
    come, sent = Copied(sink, 101, b, a), Copied(sink, 102, a, b)
    with mirrored(tenant, a, kind, IN=101, OUT=102):
        must_pass(come, sent)
        must_pass(Ping(a, b.v4))
    must_stop(come, sent, control=Ping(a, b.v4))


def test_one_direction_alone_is_copied(tenant: Tenant, pair: tuple[Probe, Probe], sink: Space) -> None:
    a, b = pair
    with mirrored(tenant, b, "gre", IN=103):
        must_pass(Copied(sink, 103, a, b))
        must_stop(Copied(sink, 103, b, a), control=Copied(sink, 103, a, b))


def test_both_directions_come_under_one_number(
    tenant: Tenant, pair: tuple[Probe, Probe], sink: Space
) -> None:
    a, b = pair
    with mirrored(tenant, a, "gre", BOTH=104):
        must_pass(Copied(sink, 104, b, a), Copied(sink, 104, a, b), within=20.0)
    must_stop(Copied(sink, 104, b, a), Copied(sink, 104, a, b), control=Ping(a, b.v4))
