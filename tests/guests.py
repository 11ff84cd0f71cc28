"""Servers of a tenant on the real cloud, and shells in them: from the internet host, by floating IP."""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloud import Cloud
from openstack.connection import Connection
from openstack.exceptions import NotFoundException
from probes import wait_for
from tenants import Net, Tenant

from trunkline.cli.ssh import ssh_argv
from trunkline.devices import namespace, process

#: How long a guest may take to boot: emulated, on a machine that others use too.
BOOT = 120.0


@dataclass
class Line:
    """A connection that is held open."""

    running: subprocess.Popen[str]

    def says(self, word: str, seconds: float = 60.0) -> str:
        """The answer to a word."""
        assert self.running.stdin is not None
        assert self.running.stdout is not None
        self.running.stdin.write(f"{word}\n")
        self.running.stdin.flush()
        there, _, _ = select.select([self.running.stdout], [], [], seconds)
        assert there, f"no answer to {word} within {seconds} s"
        return self.running.stdout.readline().strip()


@dataclass
class Guest:
    """A server, and what of it can be seen from outside."""

    cloud: Cloud
    api: Any
    id: str
    #: Its floating IP, where it has one.
    address: str = ""
    #: The private key that opens it; the operator's where none is named.
    key: Path | None = None
    #: The host that it is on.
    host: str = field(init=False, default="")

    def __repr__(self) -> str:
        return f"server {self.id} at {self.address}"

    @property
    def server(self) -> Any:
        """As the API shows it now."""
        return self.api.get_server(self.id)

    def reaches(self, *statuses: str, seconds: float = BOOT) -> Guest:
        """Returns when its status is the last of these with nothing under way; the others it may pass."""

        def there() -> bool:
            seen = self.server
            assert seen.status in (*statuses, "BUILD"), f"{self}: {seen.status} {seen.fault}"
            return seen.status == statuses[-1] and seen.task_state is None

        wait_for(there, seconds, f"{self} is {statuses[-1]}")
        self.host = self.cloud.admin.compute.get_server(self.id).compute_host
        return self

    def try_shell(self, *words: str, seconds: int = 5) -> subprocess.CompletedProcess[str]:
        """A command in the guest; what it ends with is for the caller to judge."""
        argv = ssh_argv(
            self.cloud.state, self.cloud.namespace("i"), "root", self.address, words, seconds=seconds
        )
        if self.key is not None:
            argv[argv.index("-i") + 1] = str(self.key)
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )

    @contextmanager
    def line(self) -> Iterator[Line]:
        """One connection to a program in the guest that says what it hears."""
        argv = ssh_argv(
            self.cloud.state, self.cloud.namespace("i"), "root", self.address, ("cat",), seconds=5
        )
        if self.key is not None:
            argv[argv.index("-i") + 1] = str(self.key)
        running = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield Line(running)
        finally:
            running.kill()
            running.communicate()

    def shell(self, *words: str) -> str:
        """What a command in the guest writes; the guest may still be booting."""
        last: list[str] = [""]

        def ran() -> str | None:
            done = self.try_shell(*words)
            last[0] = done.stderr
            # 255 is OpenSSH's own: not reached, or not let in yet.
            assert done.returncode in (0, 255), f"{self}: {words}: {done.returncode} {done.stderr}"
            return done.stdout.strip() if done.returncode == 0 else None

        try:
            return wait_for(ran, BOOT, f"{self} lets in")
        except AssertionError as error:
            raise AssertionError(f"{error}; it said: {last[0]}; console: {self.console()[-1500:]}") from None

    def boot_id(self) -> str:
        """Another one after each boot of the guest's kernel."""
        return self.shell("cat", "/proc/sys/kernel/random/boot_id")

    def asks(self, path: str) -> str:
        """What the metadata service tells the guest."""
        return self.shell("wget", "-q", "-O", "-", f"http://169.254.169.254/{path}")

    def told(self) -> dict[str, Any]:
        """``meta_data.json``, from the metadata service."""
        found: dict[str, Any] = json.loads(self.asks("openstack/latest/meta_data.json"))
        return found

    def console(self) -> str:
        """What it last wrote on its console."""
        return str(self.api.get_server_console_output(self.id)["output"])

    def says(self, text: str, seconds: float = BOOT) -> str:
        """Its console, once this text is in it."""
        wait_for(lambda: text in self.console(), seconds, f"'{text}' on the console of {self}")
        return self.console()

    def traces(self) -> list[str]:
        """What its host has of it: files, its QEMU, and the interfaces of its ports."""
        folder = self.cloud.state.host(self.host) / "s"
        found = [file.name for file in folder.glob(f"{self.id[:8]}*")]
        if (running := process.find(folder / f"{self.id[:8]}.pid")) is not None:
            found.append(f"process {running.pid}")
        return found

    def taps(self, *ports: str) -> list[str]:
        """Those of these ports that have an interface on its host."""
        there = namespace.interfaces(self.cloud.namespace(self.host))
        return [port for port in ports if any(port[:11] in name for name in there)]


class Guests:
    """Makes servers in the project of a tenant; they go before what they are plugged into."""

    def __init__(self, tenant: Tenant, connection: Connection) -> None:
        self.tenant = tenant
        self.compute: Any = connection.compute
        self._connection = connection
        self._made: list[Guest] = []
        image: Any = connection.image
        self.image = image.find_image("tiny", ignore_missing=False)
        self.flavor = self.compute.find_flavor("tiny", ignore_missing=False)

    def boot(
        self, name: str, *nets: Net, key: Path | None = None, floating: bool = True, **fields: Any
    ) -> Guest:
        """A server on these networks, not waited for; with a floating IP on the first, unless told not to."""
        group = self.tenant.anything
        ports = fields.pop("ports", None) or [
            self.tenant.api.create_port(network_id=net.id, security_group_ids=[group.id], name=name)
            for net in nets
        ]
        made = self.compute.create_server(
            name=name,
            image_id=fields.pop("image_id", self.image.id),
            flavor_id=self.flavor.id,
            networks=[{"port": port.id} for port in ports],
            **fields,
        )
        guest = Guest(self.tenant.cloud, self.compute, made.id, key=key)
        self._made.append(guest)
        if floating:
            address = self.tenant.api.create_ip(
                floating_network_id=self.tenant.public.id, port_id=ports[0].id
            )
            guest.address = address.floating_ip_address
        return guest

    def delete_image(self, image: Any) -> None:
        """Of a server, which it outlives."""
        self._connection.image.delete_image(image.id)

    def delete(self, guest: Guest, seconds: float = 40.0) -> None:
        """Returns when the server is gone."""
        self.compute.delete_server(guest.id, ignore_missing=True)

        def gone() -> bool:
            try:
                self.compute.get_server(guest.id)
            except NotFoundException:
                return True
            return False

        wait_for(gone, seconds, f"{guest} is gone")

    def close(self) -> None:
        """Removes them, with their ports and floating IPs."""
        for guest in self._made:
            self.compute.delete_server(guest.id, ignore_missing=True)
        for guest in self._made:
            self.delete(guest)
        network = self.tenant.api
        for address in network.ips(project_id=self.tenant.project_id):
            network.delete_ip(address)
        for port in network.ports(project_id=self.tenant.project_id):
            if not port.device_owner:
                network.delete_port(port)
