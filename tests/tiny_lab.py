"""A network namespace with a DHCP server and a metadata service, and tiny guests in it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

from trunkline.devices import namespace

T = TypeVar("T")
GATEWAY = "10.6.0.1"
METADATA = "169.254.169.254"
#: Addresses that DHCP gives, by MAC: the server looks for nobody else who might have them, which takes 2 s.
LEASES = {"02:00:00:00:06:01": "10.6.0.11", "02:00:00:00:06:02": "10.6.0.12"}
UUID = "5f1c9a52-6c0e-4b39-9f5e-2a7b1f0f6d01"


def wait(what: str, condition: Callable[[], T | None], seconds: float = 150.0) -> T:
    """The first truth that `condition` tells; fails after `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


class Network:
    """Taps of guests in one namespace, some of them on the segment of the DHCP server."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        #: What the metadata service answers, by path.
        self.pages: dict[str, bytes] = {}
        #: How often it is silent first, by path.
        self.silences: dict[str, int] = {}

    def tap(self, name: str, *, served: bool = True) -> None:
        """A tap; on the bridge with the DHCP server, or alone."""
        self._ip("tuntap", "add", "dev", name, "mode", "tap")
        if served:
            self._ip("link", "set", "dev", name, "master", "lan")
        self._ip("link", "set", "dev", name, "up")

    def address(self, device: str, address: str) -> None:
        self._ip("addr", "add", address, "dev", device)

    def inside(self, *argv: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *argv]

    def _ip(self, *argv: str) -> None:
        subprocess.run(["ip", "-n", self.name, *argv], check=True, stdin=subprocess.DEVNULL, timeout=10)


@contextmanager
def network(folder: Path) -> Iterator[Network]:
    net = Network(folder, f"tiny-{os.getpid()}")
    subprocess.run(["ip", "netns", "add", net.name], check=True, timeout=10)
    try:
        for argv in (
            ("link", "set", "dev", "lo", "up"),
            # An address of its own: a bridge that was given none changes it with every tap.
            ("link", "add", "lan", "address", "02:00:00:00:06:ff", "type", "bridge"),
            ("addr", "add", f"{GATEWAY}/24", "dev", "lan"),
            ("addr", "add", f"{METADATA}/32", "dev", "lan"),
            ("link", "set", "dev", "lan", "up"),
        ):
            net._ip(*argv)
        with _dhcp(net), _metadata(net):
            yield net
    finally:
        subprocess.run(["ip", "netns", "del", net.name], check=True, timeout=10)


@contextmanager
def _dhcp(net: Network) -> Iterator[None]:
    leases, config = net.folder / "leases", net.folder / "udhcpd.conf"
    leases.touch()
    fixed = "".join(f"static_lease {mac} {address}\n" for mac, address in LEASES.items())
    config.write_text(
        f"""{fixed}start 10.6.0.10
end 10.6.0.60
interface lan
lease_file {leases}
pidfile {net.folder / "udhcpd.pid"}
option subnet 255.255.255.0
option router 10.6.0.99
option dns 10.6.0.53
option domain example.org
option mtu 1442
option staticroutes {METADATA}/32 {GATEWAY}, 0.0.0.0/0 {GATEWAY}, 10.77.0.0/16 10.6.0.7
"""
    )
    with (net.folder / "udhcpd.log").open("w") as log:
        server = subprocess.Popen(
            net.inside("busybox", "udhcpd", "-f", str(config)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        server.terminate()
        server.wait(10)


@contextmanager
def _metadata(net: Network) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            if net.silences.get(path):
                net.silences[path] -= 1
                return
            body = net.pages.get(path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = namespace.inside(net.name, lambda: ThreadingHTTPServer((METADATA, 80), Handler))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Guest:
    """A machine started from a copy-on-write child of the image, in the shape that the agent gives it."""

    def __init__(self, net: Network, name: str, image: Path) -> None:
        self._net = net
        self._folder = net.folder / name
        self._folder.mkdir()
        self.disk = self._folder / "disk.qcow2"
        self._process: subprocess.Popen[bytes] | None = None
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(image), "-F", "qcow2", str(self.disk)],
            check=True,
            timeout=30,
        )

    def start(self, *taps: tuple[str, str], drive: Path | None = None) -> None:
        """Powers on with a network card a tap, given with its MAC."""
        self._console.unlink(missing_ok=True)
        argv = ["qemu-system-x86_64", "-M", "pc,accel=tcg", "-cpu", "Nehalem", "-m", "128", "-nodefaults"]
        argv += ["-display", "none", "-uuid", UUID, "-serial", f"file:{self._console}"]
        argv += ["-qmp", f"unix:{self._monitor},server=on,wait=off", "-device", "virtio-rng-pci"]
        argv += ["-drive", f"file={self.disk},if=virtio,format=qcow2"]
        if drive:
            argv += ["-drive", f"file={drive},if=virtio,format=raw,readonly=on"]
        for name, mac in taps:
            argv += ["-netdev", f"tap,id={name},ifname={name},script=no,downscript=no"]
            argv += ["-device", f"virtio-net-pci,netdev={name},mac={mac},romfile=,id=card-{name}"]
        with (self._folder / "qemu.log").open("w") as log:
            self._process = subprocess.Popen(
                self._net.inside(*argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def console(self) -> str:
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def says(self, pattern: str, *, times: int = 1, seconds: float = 150.0) -> re.Match[str]:
        """Waits for a line on the console; the last of `times` matches."""

        def found() -> re.Match[str] | None:
            matches = list(re.finditer(pattern, self.console))
            return matches[times - 1] if len(matches) >= times else None

        try:
            return wait(f"{pattern!r} on the console", found, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says:\n{self.console[-3000:]}") from error

    def ready(self, *, times: int = 1) -> dict[str, str]:
        """The fields of the line that the guest prints when it is ready."""
        line = self.says(r"trunkline-tiny ready: (.*uptime=\S+)", times=times)
        return dict(field.split("=", 1) for field in line[1].split())

    def ssh(self, address: str, key: Path, command: str) -> str:
        """What the command prints in the guest. SSH is asked again while it does not answer yet."""

        def answer() -> tuple[str] | None:
            done = self._ssh(address, key, command)
            return (done.stdout.strip(),) if done.returncode != 255 else None

        return wait(f"SSH to {address}", answer)[0]

    def refusal(self, address: str, key: Path) -> str:
        """Why SSH does not let that key in."""
        done = self._ssh(address, key, "true")
        assert done.returncode == 255
        return done.stderr.strip().rpartition(": ")[2]

    def _ssh(self, address: str, key: Path, command: str) -> subprocess.CompletedProcess[str]:
        options = ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null")
        options += ("LogLevel=ERROR", "ConnectTimeout=10", "IdentitiesOnly=yes")
        argv = self._net.inside("ssh", "-i", str(key), *(f"-o{option}" for option in options))
        return subprocess.run(
            [*argv, f"root@{address}", command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def host_key(self, address: str) -> str:
        """The line of its host key, as ssh-keyscan sees it."""

        def scan() -> str | None:
            done = subprocess.run(
                self._net.inside("ssh-keyscan", "-t", "ed25519", address),
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            return done.stdout.strip() or None

        return wait(f"the host key of {address}", scan)

    def command(self, name: str, **arguments: Any) -> None:
        """A command of QEMU's monitor (QMP)."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(10)
            monitor.connect(str(self._monitor))
            lines = monitor.makefile("rw")
            lines.readline()
            for execute, values in (("qmp_capabilities", {}), (name, arguments)):
                lines.write(json.dumps({"execute": execute, "arguments": values}) + "\n")
                lines.flush()
                while "event" in (answer := json.loads(lines.readline())):
                    pass
                assert "return" in answer, answer

    def ended(self, seconds: float) -> None:
        """Waits for QEMU to end by itself."""
        assert self._process
        self._process.wait(seconds)

    def kill(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)

    @property
    def _console(self) -> Path:
        return self._folder / "console"

    @property
    def _monitor(self) -> Path:
        return self._folder / "qmp"
