"""Ethernet frames made by hand, for what no well-behaved program sends."""

from __future__ import annotations

import ipaddress
import struct

from agent_lab import checksum


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def ethernet(destination: str, source: str, kind: int, payload: bytes, *tags: tuple[int, int]) -> bytes:
    """With tags of (TPID, VLAN id), the outer one first."""
    inner = b"".join(struct.pack("!HH", tpid, vlan) for tpid, vlan in tags)
    return mac(destination) + mac(source) + inner + struct.pack("!H", kind) + payload


def ipv4(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0)
    head += address(source) + address(destination)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv6(source: str, destination: str, following: int, payload: bytes, *, hops: int = 255) -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(payload), following, hops)
    return head + address(source) + address(destination) + payload


def udp(ports: tuple[int, int], payload: bytes, source: str, destination: str) -> bytes:
    head = struct.pack("!HHHH", *ports, 8 + len(payload), 0)
    return _summed(head + payload, 6, 17, source, destination)


def icmp6(kind: int, body: bytes, source: str, destination: str) -> bytes:
    return _summed(struct.pack("!BBH", kind, 0, 0) + body, 2, 58, source, destination)


def option(kind: int, link_address: str) -> bytes:
    """A link-layer address option of neighbour discovery: 1 of the source, 2 of the target."""
    return bytes([kind, 1]) + mac(link_address)


def solicitation(target: str, source: str, destination: str, options: bytes = b"") -> bytes:
    return icmp6(135, bytes(4) + address(target) + options, source, destination)


def advertisement(target: str, source: str, destination: str, options: bytes = b"") -> bytes:
    return icmp6(136, b"\x60\0\0\0" + address(target) + options, source, destination)


def _summed(data: bytes, offset: int, protocol: int, source: str, destination: str) -> bytes:
    pseudo = address(source) + address(destination) + struct.pack("!II", len(data), protocol)
    return data[:offset] + struct.pack("!H", checksum(pseudo + data)) + data[offset + 2 :]
