"""How a host joins a region: a token for a certificate.

The token is ``SECRET.FINGERPRINT``. The control plane is asked for the authority's certificate first;
only where that has the fingerprint is it trusted, and only then is the secret sent.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import re
from pathlib import Path

import msgspec

from trunkline.agent.channel import Link
from trunkline.agent.config import AgentConfig, Underlay, parse, save
from trunkline.devices import files, pki
from trunkline.errors import BadField, Unavailable

log = logging.getLogger(__name__)
#: The Open_vSwitch database of the machine's own Open vSwitch.
SYSTEM_OVSDB = "unix:/var/run/openvswitch/db.sock"
_TOKEN = re.compile(r"([A-Za-z0-9_-]{16,128})\.([0-9a-f]{64})")


def is_joined(config: AgentConfig) -> bool:
    """Whether the host has its key, its certificate and the authority's."""
    return config.files.key.exists() and config.files.cert.exists() and config.authority.exists()


async def join(config: AgentConfig) -> None:
    """Gets the host its certificate; the key is made here and never leaves. Safe to repeat.

    Where an earlier try was cut off, the same key is used again, so that a token whose answer was lost
    is not lost.

    Raises:
        BadField: the token is malformed, or it is for another region.
        trunkline.agent.channel.Refused: the control plane refuses it.
        Unavailable: the control plane cannot be reached; try again.
    """
    await asyncio.to_thread(_join, config)


def _join(config: AgentConfig) -> None:
    match = _TOKEN.fullmatch(config.token.strip())
    if match is None:
        raise BadField("token", "a join token is SECRET.FINGERPRINT, as the control plane printed it.")
    fingerprint = match[2]
    authority = _authority(config.control, fingerprint)
    config.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key, request = _request(config)
    files.replace(config.files.key, key.encode(), 0o600)
    link = Link(config.control, pki.client_context(authority))
    try:
        body = msgspec.json.encode({"token": config.token.strip(), "host": config.host, "csr": request})
        answer = link.ask("POST", "/v1/join", body, {"Content-Type": "application/json"})
        given = msgspec.json.decode(answer.read(), type=dict[str, str])
    finally:
        link.close()
    files.replace(config.authority, authority.encode())
    files.replace(config.files.cert, given["certificate"].encode())
    log.info("joined the region at %s as %s", config.control, config.host)


def _authority(control: str, fingerprint: str) -> str:
    """The authority's certificate: whoever gives it, it is the one with the fingerprint."""
    link = Link(control, pki.client_context(None))
    try:
        pem = link.ask("GET", "/v1/authority").read(64 * 1024).decode("ascii", "replace")
    finally:
        link.close()
    try:
        found = pki.fingerprint(pem)
    except ValueError:
        raise Unavailable(f"what answers at {control} is no control plane") from None
    if not hmac.compare_digest(found, fingerprint):
        raise BadField("token", f"it is not for the region at {control}: its fingerprint is {found}.")
    return pem


def _request(config: AgentConfig) -> tuple[str, str]:
    """The key (a former one, if any), and a request for it."""
    former = config.files.key.read_text() if config.files.key.exists() else None
    if former is not None:
        return former, pki.request_for(former, config.host)
    return pki.new_request(config.host)


def prepare(
    *,
    directory: Path,
    control: str,
    token: str,
    name: str,
    underlay_address: str,
    ovsdb: str = SYSTEM_OVSDB,
    datapath: str = "system",
    encapsulation: str = "geneve",
    physical_networks: dict[str, str] | None = None,
) -> AgentConfig:
    """The configuration of a real machine, whose underlay and bridges are its own affair.

    OVN's southbound database is expected at the control plane's address, port 6642, until the control plane
    has told where all its members are.

    Args:
        physical_networks: name to Open vSwitch bridge.
    Raises:
        BadField, BadRequest: with the field that is wrong.
    """
    if not re.fullmatch(r"https://[^/?#@]+:[0-9]{1,5}", control):
        raise BadField("control", "write it as https://ADDRESS:PORT.")
    if "/" not in underlay_address:
        try:
            length = ipaddress.ip_address(underlay_address).max_prefixlen
        except ValueError:
            raise BadField("underlay-address", f"'{underlay_address}' is no IP address.") from None
        underlay_address = f"{underlay_address}/{length}"
    if not ovsdb.startswith("unix:"):
        raise BadField("ovsdb", "write it as unix:PATH, the machine's own Open_vSwitch database.")
    raw = {
        "host": name,
        "control": control,
        "token": token,
        "directory": str(directory),
        "underlay": Underlay(address=underlay_address),
        "ovsdb": ovsdb,
        "ovs_run": str(Path(ovsdb.removeprefix("unix:")).parent),
        "ovn_run": "/var/run/ovn" if ovsdb == SYSTEM_OVSDB else "",
        "datapath": datapath,
        "encapsulation": encapsulation,
        "ovn_remote": f"ssl:{control.removeprefix('https://').rpartition(':')[0]}:6642",
        "physical_networks": {k: {"bridge": v} for k, v in (physical_networks or {}).items()},
    }
    config = parse(msgspec.json.encode(raw))
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    save(config, directory / "agent.json")
    return config
