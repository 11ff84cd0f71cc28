"""The state folder: where everything of a cloud stands, and the file that says what cloud it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from trunkline.devices import files, namespace
from trunkline.errors import Conflict, NotFound, Unavailable

#: The longest name below the folder that a socket has: "/h/h99/ovn-controller.4194304.ctl".
_LONGEST_INNER = 33
#: sun_path of unix(7), less its closing zero.
_SOCKET_PATH = 107
MOST_HOSTS = 99


class LabHost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A host of the lab. The token is its permission to join; only its digest is here."""

    name: str
    #: Counts from 1; names, addresses and MAC addresses are made of it.
    number: int
    #: SHA-256 of the secret of its join token, hexadecimal: control admits a host that has it.
    token_digest: str
    #: When that token was made, seconds since the epoch.
    token_at: float
    #: The physical networks that it has beside the one of all hosts, each with a cable of its own.
    physical_networks: tuple[str, ...] = ()


class Cloud(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What this cloud is (``STATE/cloud.json``). Written by `trunkline up`, read by all others."""

    #: Of this file's form.
    version: Literal[1] = 1
    #: 4 hexadecimal digits: the cloud's namespaces are ``tlTAG-NAME``.
    tag: str
    region: str = "RegionOne"
    #: Where the APIs listen.
    api_address: str = "127.0.0.1"
    api_port: int
    hosts: tuple[LabHost, ...] = ()
    #: Open vSwitch's datapath on the hosts.
    datapath: Literal["netdev", "system"] = "netdev"
    #: Of the tunnels between hosts.
    encapsulation: Literal["geneve", "vxlan"] = "geneve"
    #: The name servers that hosts ask for guests, for names that are nobody's here: addresses.
    dns_forwarders: tuple[str, ...] = ()
    #: How many members each of OVN's databases has: alone, or a cluster of three (RAFT).
    databases: Literal[1, 3] = 1
    #: Whether guests run under KVM: "auto" is by trying.
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    #: Whether the machine itself has a leg on the external network.
    expose: bool = False

    @property
    def prefix(self) -> str:
        """What the names of the cloud's network namespaces begin with."""
        return f"tl{self.tag}-"

    @property
    def api_url(self) -> str:
        return f"http://{self.api_address}:{self.api_port}"

    def members(self, database: Literal["nb", "sb"]) -> list[str]:
        """The names of the servers of OVN's northbound or southbound database."""
        if self.databases == 1:
            return [database]
        return [f"{database}{number}" for number in range(1, self.databases + 1)]


@dataclass(frozen=True)
class StateFolder:
    """Paths below a state folder; see docs/architecture.md."""

    root: Path

    @property
    def cloud_file(self) -> Path:
        return self.root / "cloud.json"

    @property
    def clouds_yaml(self) -> Path:
        return self.root / "clouds.yaml"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def central(self) -> Path:
        return self.root / "c"

    @property
    def units_file(self) -> Path:
        return self.run / "units.json"

    @property
    def keeper_file(self) -> Path:
        return self.run / "keeper.json"

    @property
    def operator_key(self) -> Path:
        return self.root / "ssh" / "id_ed25519"

    def remotes(self, cloud: Cloud, database: Literal["nb", "sb"]) -> list[str]:
        """Where the members of one of OVN's databases listen on this machine."""
        return [f"unix:{self.central / name}.sock" for name in cloud.members(database)]

    def host(self, name: str) -> Path:
        return self.root / "h" / name

    def pidfile(self, unit: str) -> Path:
        return self.run / f"{unit}.pid"

    def log_file(self, unit: str) -> Path:
        return self.log / f"{unit}.log"

    def load(self) -> Cloud:
        """What cloud it is.

        Raises:
            NotFound: there is no cloud in this folder.
            Conflict: there are things in the folder, but not the file that says what they are, or it
                cannot be read.
        """
        try:
            content = self.cloud_file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            self._check_empty()
            raise NotFound(f"There is no cloud in {self.root}. `trunkline up` makes one.") from None
        try:
            return msgspec.json.decode(content, type=Cloud)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise Conflict(
                f"{self.cloud_file} cannot be used: {error}. Put back a copy of it, or give up this cloud: "
                f"`trunkline down --wipe --state {self.root}`."
            ) from None

    def _check_empty(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise Conflict(f"{self.root} is not a folder. Name another with --state.")
        # A draft of cloud.json is all that a command leaves that was killed at the very start.
        if self.root.is_dir() and (found := sorted(set(os.listdir(self.root)) - {".cloud.json.new"})):
            shown = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
            raise Conflict(
                f"{self.root} holds {shown} but no cloud.json, so it is not (or no longer) the state of a "
                "cloud. Name another folder with --state, or remove what is in it."
            )

    def save(self, cloud: Cloud) -> None:
        """Writes what cloud it is, durably."""
        content = msgspec.json.format(msgspec.json.encode(cloud), indent=2)
        files.replace(self.cloud_file, content + b"\n")

    def check_length(self) -> None:
        """Refuses a folder whose path leaves no room for the names of sockets below it.

        Raises:
            Conflict: with how long it may be.
        """
        length, most = len(os.fsencode(self.root)), _SOCKET_PATH - _LONGEST_INNER
        if length > most:
            raise Conflict(
                f"The path of the state folder, {self.root}, has {length} bytes; for the sockets in it there "
                f"is room for {most}. Name a shorter one with --state."
            )

    def make_folders(self) -> None:
        """Makes the folders that are missing; only their owner may look into them."""
        for folder in (self.root, self.run, self.log, self.pki, self.central, self.root / "h"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One command at a time changes the cloud.

        Raises:
            Unavailable: another one is at it.
        """
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Unavailable(
                    f"Another `trunkline up` or `down` is at work in {self.root}. Try again when it is done."
                ) from None
            yield
        finally:
            os.close(descriptor)


def new_tag() -> str:
    """4 hexadecimal digits that no namespace of this machine begins with."""
    while namespace.names(f"tl{(tag := secrets.token_hex(2))}-"):
        pass
    return tag
