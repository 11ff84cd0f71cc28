"""What a unit that is a server is told before it runs, on the command line of its kernel.

``trunkline.KIND=NAME,MAC,MTU`` is an interface; KIND is bus, control or leg, and legs are in their order.
"""

from __future__ import annotations

from dataclasses import dataclass

#: The port that leads to the agent (virtio 1.1, 5.3).
PORT = "trunkline.agent"


@dataclass(frozen=True)
class Device:
    """An interface of the guest."""

    kind: str
    name: str
    mac: str
    mtu: int

    def word(self) -> str:
        """As the kernel is told."""
        return f"trunkline.{self.kind}={self.name},{self.mac},{self.mtu}"


def devices(line: str) -> list[Device]:
    """What a command line of the kernel says, in its order."""
    found = []
    for word in line.split():
        key, _, value = word.partition("=")
        if key.startswith("trunkline.") and value.count(",") == 2:
            name, mac, mtu = value.split(",")
            found.append(Device(key.removeprefix("trunkline."), name, mac, int(mtu)))
    return found
