"""How long a server takes to be ACTIVE, and to hold a DHCP lease, without KVM.

python -m bench.server [--state DIR]

The lease is seen where it arrives: on the tap device that is the server's interface, as the DHCPACK frame
(RFC 2131, 4.3.1) that Open vSwitch sends it. The clock runs from the request to create the server.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from typing import Any

from bench.cloud import Cloud, alone, poll
from bench.figures import Figure
from trunkline.agent.ports import tap
from trunkline.devices import namespace

RUNS = 5
_ACK = bytes((53, 1, 5))
_MAGIC = bytes((99, 130, 83, 99))


async def measure(cloud: Cloud) -> Sequence[Figure]:
    """Servers, one after the other, each deleted before the next."""
    network = await cloud.network("servers", "10.0.0.0/24")
    await _once(cloud, network)  # the first one of a host fetches the image
    times = [await _once(cloud, network) for _ in range(RUNS)]
    return [
        Figure("server create to ACTIVE, TCG", [active for active, _ in times], "s", 3.0),
        Figure("  to its first DHCP lease", [lease for _, lease in times], "s", 6.0),
    ]


async def boot(cloud: Cloud, network: str) -> str:
    """Creates a server of `tiny` on a network, and returns its id when it is ACTIVE."""
    id = await _create(cloud, network)
    await poll(lambda: _is_active(cloud, id), 0.02, 60.0)
    return id


async def _create(cloud: Cloud, network: str) -> str:
    images = (await cloud.call("GET", "/image/v2/images?name=tiny"))["images"]
    flavors = (await cloud.call("GET", "/compute/v2.1/flavors"))["flavors"]
    flavor = next(one["id"] for one in flavors if one["name"] == "tiny")
    wanted = {
        "name": "bench",
        "imageRef": images[0]["id"],
        "flavorRef": flavor,
        "networks": [{"uuid": network}],
    }
    return str((await cloud.call("POST", "/compute/v2.1/servers", {"server": wanted}))["server"]["id"])


async def _is_active(cloud: Cloud, id: str) -> bool | None:
    server = (await cloud.call("GET", f"/compute/v2.1/servers/{id}"))["server"]
    assert server["status"] != "ERROR", server
    return True if server["status"] == "ACTIVE" else None


async def _once(cloud: Cloud, network: str) -> tuple[float, float]:
    """Seconds from the request to ACTIVE, and to the lease."""
    started = time.monotonic()
    id = await _create(cloud, network)
    lease = asyncio.create_task(_lease(cloud, id))
    await poll(lambda: _is_active(cloud, id), 0.02, 60.0)
    active = time.monotonic() - started
    leased = await lease - started
    await cloud.call("DELETE", f"/compute/v2.1/servers/{id}")
    await poll(lambda: _is_gone(cloud, id), 0.05, 30.0)
    return active, leased


async def _is_gone(cloud: Cloud, id: str) -> bool | None:
    listed = (await cloud.call("GET", "/compute/v2.1/servers"))["servers"]
    return True if all(server["id"] != id for server in listed) else None


async def _lease(cloud: Cloud, server: str) -> float:
    """When the server's interface gets its DHCPACK (monotonic seconds)."""

    async def port() -> dict[str, Any] | None:
        ports = (await cloud.call("GET", f"/network/v2.0/ports?device_id={server}"))["ports"]
        return ports[0] if ports and ports[0]["binding:host_id"] else None

    found = await poll(port, 0.02, 30.0)
    netns, device = f"{cloud.facts.prefix}{found['binding:host_id']}", tap(found["id"])

    async def there() -> bool | None:
        return True if device in namespace.interfaces(netns) else None

    await poll(there, 0.01, 30.0)
    return await asyncio.to_thread(_acknowledged, netns, device)


def _acknowledged(netns: str, device: str) -> float:
    def listen() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        made.bind((device, 0))
        made.settimeout(60.0)
        return made

    with namespace.inside(netns, listen) as frames:
        while True:
            frame = frames.recv(2048)
            # A reply of BOOTP (RFC 951): its options begin behind 42 bytes of headers and 236 of its own.
            if frame[12:14] == b"\x08\x00" and frame[278:282] == _MAGIC and _ACK in frame[282:]:
                return time.monotonic()


if __name__ == "__main__":
    alone(measure)
