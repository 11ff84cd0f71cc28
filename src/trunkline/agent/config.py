"""What an agent is told about its host: one JSON file, and the folder that it names.

    DIRECTORY/agent.json        the file itself, usually
    DIRECTORY/host.key .crt     who the host is (from joining), and ca.crt, whom it trusts
    DIRECTORY/slice.json        the newest slice that it was told, to go on with when it is told nothing
    DIRECTORY/i/ID              images, whole and verified
    DIRECTORY/k/ID.N*           disks of servers that moved, until that is confirmed
    DIRECTORY/s/8HEX*           servers: disks, console, sockets, pid files, by the start of their ids

Unix socket paths end at 107 bytes, so names below the folder are short.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Literal

import msgspec

from trunkline.devices import files
from trunkline.devices.pki import IssuedFiles
from trunkline.errors import BadField, BadRequest

_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
#: What is added to the folder's name: "/s/01234567.qmp".
_LONGEST_INNER = 20
_SOCKET_PATH = 107


class Underlay(msgspec.Struct, frozen=True, kw_only=True):
    """How the host reaches the others of its region."""

    #: Its own address there, with prefix length: the end of its tunnels.
    address: str
    #: The Open vSwitch bridge that the agent keeps for it, the address on its internal port. None
    #: where the address is the machine's own affair.
    bridge: str | None = None
    #: What is plugged into that bridge.
    interface: str = ""
    mtu: int = 1600
    #: The bridge's MAC address; "" for any.
    hwaddr: str = ""


class PhysicalNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """A physical network that the host has a leg on."""

    bridge: str
    #: What the agent plugs into that bridge; "" where the bridge is the machine's own affair.
    interface: str = ""


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that an agent is told. See the module for what stands in `directory`."""

    host: str
    #: Where the host channel is, as "https://10.99.0.10:8443".
    control: str
    directory: str
    underlay: Underlay
    #: Its address towards other hosts for the buses of appliances, on an interface that is the machine's own
    #: affair; "" for that of the underlay.
    bus_address: str = ""
    #: SECRET.FINGERPRINT, until the host has joined.
    token: str = ""
    #: The Open_vSwitch database, as "unix:/var/run/openvswitch/db.sock".
    ovsdb: str = "unix:/var/run/openvswitch/db.sock"
    #: Where ovs-vswitchd and ovn-controller keep their sockets.
    ovs_run: str = "/var/run/openvswitch"
    #: ... and ovn-controller, where it is another.
    ovn_run: str = ""
    physical_networks: dict[str, PhysicalNetwork] = {}
    datapath: Literal["netdev", "system"] = "netdev"
    #: OVN's southbound database, as "ssl:10.99.0.10:6642", members of a cluster separated by commas: where it
    #: is to be found until the control plane tells.
    ovn_remote: str
    encapsulation: Literal["geneve", "vxlan"] = "geneve"
    #: What the names of network namespaces that the agent makes begin with.
    namespace_prefix: str = "tl-"
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    #: Seconds that a guest has to stop, or to reboot, when it is asked.
    graceful_seconds: float = 30.0
    #: ovn-controller's bridge, and the one in front of it that guards workloads.
    integration_bridge: str = "br-int"
    guard_bridge: str = "br-g"

    @property
    def folder(self) -> Path:
        """`directory`, as a path."""
        return Path(self.directory)

    @property
    def files(self) -> IssuedFiles:
        """The host's own key and certificate."""
        return IssuedFiles(self.folder / "host.key", self.folder / "host.crt")

    @property
    def authority(self) -> Path:
        """The authority's certificate."""
        return self.folder / "ca.crt"

    @property
    def ovs_run_folder(self) -> Path:
        """Where the control sockets of ovs-vswitchd and its bridges are."""
        return Path(self.ovs_run)

    @property
    def ovn_run_folder(self) -> Path:
        """Where ovn-controller's control socket is."""
        return Path(self.ovn_run or self.ovs_run)


def parse(data: bytes) -> AgentConfig:
    """A configuration from JSON.

    Raises:
        BadRequest, BadField: with the field that is wrong, and what it should be.
    """
    try:
        config = msgspec.json.decode(data, type=AgentConfig)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The agent's configuration is not right: {error}.") from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"The agent's configuration is no JSON: {error}.") from None
    if not _HOST_NAME.fullmatch(config.host):
        raise BadField("host", "a host's name is 1 to 63 of a-z, 0-9 and '-', with no '-' at either end.")
    if not re.fullmatch(r"https://[^/?#@]+:[0-9]{1,5}", config.control):
        raise BadField("control", "write it as https://ADDRESS:PORT.")
    try:
        ipaddress.ip_interface(config.underlay.address)
    except ValueError:
        raise BadField("underlay.address", "write it with its prefix length, as 10.99.0.101/24.") from None
    try:
        ipaddress.ip_address(config.bus_address or "0.0.0.0")
    except ValueError:
        raise BadField("bus_address", "write it without prefix length, as 10.98.0.101.") from None
    if not config.folder.is_absolute():
        raise BadField("directory", "write it as an absolute path.")
    if len(os.fsencode(config.directory)) > _SOCKET_PATH - _LONGEST_INNER:
        raise BadField(
            "directory", f"it is longer than {_SOCKET_PATH - _LONGEST_INNER} bytes; sockets have no room."
        )
    return config


def load(file: Path) -> AgentConfig:
    """A configuration from a file; see `parse`.

    Raises:
        BadField: there is no such file.
    """
    try:
        return parse(file.read_bytes())
    except OSError as error:
        raise BadField("config", f"{file} cannot be read: {error.strerror}.") from None


def save(config: AgentConfig, file: Path) -> None:
    """Writes a configuration, durably and readable by nobody else: it may hold a token."""
    files.replace(file, msgspec.json.format(msgspec.json.encode(config), indent=2), 0o600)
