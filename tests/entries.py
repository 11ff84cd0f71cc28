"""Connections made by hand, for a kernel to have that saw no packet of them."""

from __future__ import annotations

import socket
import struct

from trunkline.devices.conntrack import Entry
from trunkline.devices.ctnetlink import Cta, attribute, family

_NESTED = 0x8000


def datagrams(port: int, mark: int) -> Entry:
    """A connection from that port."""
    ways = [("10.0.0.5", "192.0.2.9", port, 53), ("192.0.2.9", "10.0.0.5", 53, port)]
    original, reply = (_way(*way) for way in ways)
    told = [
        family(socket.AF_INET),
        attribute(Cta.ORIGINAL | _NESTED, original),
        attribute(Cta.TIMEOUT, struct.pack("!I", 600)),
        attribute(Cta.REPLY | _NESTED, reply),
        attribute(Cta.STATUS, struct.pack("!I", 0xE)),
        attribute(Cta.MARK, struct.pack("!I", mark)),
    ]
    return Entry(mark, b"".join(told))


def _way(source: str, target: str, source_port: int, target_port: int) -> bytes:
    addresses = attribute(1, socket.inet_aton(source)) + attribute(2, socket.inet_aton(target))
    ports = [attribute(n, struct.pack("!H", port)) for n, port in ((2, source_port), (3, target_port))]
    protocol = attribute(1, bytes([socket.IPPROTO_UDP])) + b"".join(ports)
    return attribute(1 | _NESTED, addresses) + attribute(2 | _NESTED, protocol)
