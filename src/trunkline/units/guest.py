"""``python -m trunkline.units.guest``: the program of a unit that is a server.

    agent ── socket of QEMU ── virtio-serial ──▶ relay ── /run/agent ──▶ the unit, as in a namespace

The guest's first process runs it; words of the kernel's command line say what the interfaces are. When the
unit ends, so does this.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from trunkline.devices import namespace
from trunkline.devices.guest_words import PORT, Device, devices
from trunkline.errors import Unavailable
from trunkline.units import __main__ as unit

_SOCKET = Path("/run/agent")
_NETWORKS, _PORTS = Path("/sys/class/net"), Path("/sys/class/virtio-ports")
_PATIENCE, _TICK = 30.0, 0.02


def prepare(wanted: list[Device]) -> None:
    """Gives the interfaces their names, up.

    Raises:
        Unavailable: one is not there.
    """
    namespace.ip(None, "link set dev lo up")
    for device in wanted:
        there = _name_of(device.mac)
        if there != device.name:
            namespace.ip(None, f"link set dev {there} name {device.name}")
        if device.kind == "bus":
            # Frames there are no IP packets: nothing is to be said by itself.
            namespace.sysctl(None, [(f"ipv6/conf/{device.name}/disable_ipv6", 1)])
        namespace.ip(None, f"link set dev {device.name} mtu {device.mtu} up")


def _name_of(mac: str) -> str:
    return _wait(lambda: _holding(_NETWORKS, "address", mac.lower()), f"interface with {mac}")


def _holding(folder: Path, file: str, content: str) -> str:
    """The entry of a folder whose file has that content; "" where there is none."""
    there = (entry for entry in folder.glob("*") if (entry / file).is_file())
    return next((entry.name for entry in there if (entry / file).read_text().strip() == content), "")


def _wait(look: Callable[[], str], what: str) -> str:
    deadline = time.monotonic() + _PATIENCE
    while not (found := look()):
        if time.monotonic() > deadline:
            raise Unavailable(f"There is no {what}.")
        time.sleep(_TICK)
    return found


def relay(port: int, listener: Path) -> None:
    """Carries what the agent and the unit say, until the unit ends or does not want to hear any more.

    The port has no connections: it hangs up while no agent is there. The unit has one from what the agent
    says first until then.
    """
    unit: socket.socket | None = None
    while True:
        poll = select.poll()
        poll.register(port, select.POLLIN)
        if unit is not None:
            poll.register(unit, select.POLLIN)
        ready = dict(poll.poll())
        if ready.get(port, 0) & select.POLLIN and (data := _read(port)):
            if unit is None:
                unit = _connected(listener)
            unit.sendall(data)
        elif ready.get(port, 0) & select.POLLHUP:
            if unit is not None:
                unit.close()
                unit = None
            time.sleep(_TICK)
        if unit is not None and unit.fileno() in ready:
            if not (data := unit.recv(1 << 16)):
                return
            _write(port, data)


def _read(port: int) -> bytes:
    try:
        return os.read(port, 1 << 16)
    except BlockingIOError:
        return b""


def _write(port: int, data: bytes) -> None:
    """Says it, unless the agent goes: then the next one hears what comes after."""
    while data:
        try:
            data = data[os.write(port, data) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(port, select.POLLOUT)
            if any(events & select.POLLHUP for _, events in poll.poll(1000)):
                return


def _connected(listener: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)

    def connect() -> str:
        try:
            made.connect(str(listener))
        except (FileNotFoundError, ConnectionRefusedError):
            return ""
        return "connected"

    _wait(connect, f"unit at {listener}")
    return made


def main() -> int:
    """Runs the unit; returns its exit status."""
    wanted = devices(Path("/proc/cmdline").read_text())
    prepare(wanted)
    name = _wait(lambda: _holding(_PORTS, "name", PORT), f"port {PORT}")
    port = os.open(f"/dev/{name}", os.O_RDWR | os.O_NONBLOCK)

    def carry() -> None:
        try:
            relay(port, _SOCKET)
        finally:
            # A unit that nobody can speak to is none.
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=carry, name="relay", daemon=True).start()
    options = [f"--socket={_SOCKET}", *(f"--{device.kind}={device.name}" for device in wanted)]
    return unit.main(options)


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    os._exit(status)
