"""Whether a member is well, asked once: by an echo, a connection, a handshake, a request or a datagram.

RFC 792 and RFC 4443 (echo), RFC 9112 (HTTP/1.1, sections 3 and 4). What asks is a socket of the data plane,
so what is found is what its clients would find (`local`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import secrets
import socket
import ssl
import struct

from trunkline.resources.appliance_policy import Health
from trunkline.resources.appliance_policy.checking import codes

_ECHO = {4: (8, 0), 6: (128, 129)}
#: The longest status line that is read, bytes.
_LINE = 1024


async def ask(health: Health, address: str, port: int) -> str:
    """Returns "" where it is well, else why it is not, in a few words; within its timeout."""
    try:
        async with asyncio.timeout(health.timeout):
            match health.kind:
                case "ping":
                    return await _ping(address)
                case "udp":
                    return await _datagram(address, port)
                case "tcp":
                    return await _connect(address, port)
                case "tls":
                    return await _shake_hands(address, port)
            return await _request(health, address, port)
    except TimeoutError:
        # To a datagram nobody needs to answer.
        return "" if health.kind == "udp" else f"no answer within {health.timeout:g} s"
    except ssl.SSLError as error:
        return f"TLS: {error.reason or error}"
    except OSError as error:
        # What asyncio says names the address, which is known.
        return os.strerror(error.errno).lower() if error.errno else str(error)


def _socket(address: str, kind: int, protocol: int = 0) -> socket.socket:
    six = ipaddress.ip_address(address).version == 6
    return socket.socket(socket.AF_INET6 if six else socket.AF_INET, kind | socket.SOCK_NONBLOCK, protocol)


async def _connect(address: str, port: int) -> str:
    with _socket(address, socket.SOCK_STREAM) as wire:
        _end_at_once(wire)
        await asyncio.get_running_loop().sock_connect(wire, (address, port))
    return ""


def _end_at_once(wire: socket.socket) -> None:
    """It ends by a reset: neither end has to remember it."""
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _ping(address: str) -> str:
    version = ipaddress.ip_address(address).version
    request, reply = _ECHO[version]
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    words, loop = secrets.token_bytes(16), asyncio.get_running_loop()
    # The kernel gives it its identifier, and its checksum.
    with _socket(address, socket.SOCK_DGRAM, protocol) as wire:
        # Here, for the loop looks names up first, and refuses where the protocol is neither TCP nor UDP.
        wire.connect((address, 0))
        await loop.sock_sendall(wire, struct.pack("!BBHHH", request, 0, 0, 0, 1) + words)
        while True:
            heard = await loop.sock_recv(wire, 2000)
            if heard[:1] == bytes([reply]) and heard[8:] == words:
                return ""


async def _datagram(address: str, port: int) -> str:
    loop = asyncio.get_running_loop()
    with _socket(address, socket.SOCK_DGRAM) as wire:
        await loop.sock_connect(wire, (address, port))
        await loop.sock_sendall(wire, b"\n")
        await loop.sock_recv(wire, 2000)
    return ""


def _trusting() -> ssl.SSLContext:
    """Whoever it is: who answers is asked whether it works, not who it is."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


_TRUSTING = _trusting()


async def _shake_hands(address: str, port: int) -> str:
    _, writer = await asyncio.open_connection(address, port, ssl=_TRUSTING)
    writer.transport.abort()
    return ""


async def _request(health: Health, address: str, port: int) -> str:
    secure = _TRUSTING if health.kind == "https" else None
    name = health.host if secure is not None and health.host else None
    reader, writer = await asyncio.open_connection(
        address, port, ssl=secure, server_hostname=name, limit=_LINE
    )
    try:
        host = health.host or (f"[{address}]" if ":" in address else address)
        head = f"{health.method} {health.path} HTTP/{health.version}\r\n"
        if health.host or health.version == "1.1":
            head += f"Host: {host}\r\n"
        writer.write(f"{head}Connection: close\r\nUser-Agent: trunkline-check\r\n\r\n".encode())
        await writer.drain()
        line = b""
        with contextlib.suppress(ValueError):
            line = await reader.readline()
    finally:
        writer.transport.abort()
    said = line.split(maxsplit=2)
    if len(said) < 2 or not said[0].startswith(b"HTTP/") or not said[1].isdigit():
        return "no answer in HTTP" if line else "it ended the connection"
    code = int(said[1])
    well = any(first <= code <= last for first, last in codes(health.codes))
    return "" if well else f"code {code}"
