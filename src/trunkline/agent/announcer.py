"""Tells the physical network where a router's gateway is now, the moment that this host carries it.

Switches send frames for a gateway's MAC address where they last came from. When its host dies, they do so
until something comes from the next host: OVN 23.03 announces a gateway that it takes over after a second
(ovn/controller/pinctrl.c, add_garp_rarp), this agent at once, and again while the flows may not be there.

Which host carries a gateway is nothing that is told: every host concludes it by itself, from what BFD says
on its tunnels. That is done here as ovn-controller does it (ovn/controller/ha-chassis.c).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence

from trunkline.agent.config import AgentConfig
from trunkline.compiler.slices import GatewaySlice, HostSlice
from trunkline.devices import openvswitch
from trunkline.devices.ovsdb import Database, Row
from trunkline.devices.tools import ToolFailed

log = logging.getLogger(__name__)
#: After how many seconds it is said again: a frame may be lost, or come before the flows.
AGAIN = (0.0, 0.05, 0.15, 0.3, 0.5)


class Announcer:
    """Manager of the above. It owns nothing that stays."""

    def __init__(self, config: AgentConfig, db: Database) -> None:
        self._config = config
        self._db = db
        self._gateways: Sequence[GatewaySlice] = ()
        #: The ids of those that this host carried when it last looked.
        self._carried: set[str] = set()
        self._wake = asyncio.Event()

    def want(self, slice_: HostSlice) -> None:
        """Takes the newest slice."""
        self._gateways = slice_.gateways
        self._wake.set()

    async def run(self) -> None:
        """Looks whenever something changed in Open vSwitch or in the slice; ends when it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            while True:
                self._wake.clear()
                carried = self._now()
                for gateway in carried.values():
                    if gateway.id not in self._carried:
                        log.info("this host carries gateway %s now", gateway.id)
                        tasks.create_task(self._announce(gateway))
                self._carried = set(carried)
                await self._wake.wait()

    async def _follow(self) -> None:
        while True:
            await self._db.changed()
            self._wake.set()

    def _now(self) -> dict[str, GatewaySlice]:
        """The gateways that this host carries, by id."""
        if not self._gateways:
            return {}
        alive = peers_alive(self._db.tables)
        host = self._config.host
        return {g.id: g for g in self._gateways if carries(host, g.hosts, alive)}

    async def _announce(self, gateway: GatewaySlice) -> None:
        physical = self._config.physical_networks.get(gateway.physical_network)
        if physical is None:
            return
        management = self._config.ovs_run_folder / f"{physical.bridge}.mgmt"
        before = 0.0
        for due in AGAIN:
            await asyncio.sleep(due - before)
            before = due
            ports = patches(self._db.tables, gateway.network, self._config.integration_bridge)
            try:
                await openvswitch.inject(
                    management, ports, frame(gateway.mac, gateway.vlan, gateway.service_tag)
                )
            except ToolFailed as error:
                log.warning("gateway %s is not announced: %s", gateway.id, error)


def carries(host: str, hosts: Sequence[str], alive: set[str]) -> bool:
    """Whether a host carries a gateway.

    Args:
        hosts: those that may, the most wanted first.
        alive: the other hosts that answer. Where none does, a host takes itself to be cut off.
    """
    if host not in hosts:
        return False
    if len(hosts) == 1:
        return True
    return bool(alive) and not alive.intersection(hosts[: hosts.index(host)])


def peers_alive(tables: Mapping[str, Mapping[str, Row]]) -> set[str]:
    """The hosts that answer BFD on their tunnels."""
    interfaces, found = tables["Interface"], set[str]()
    for port in tables["Port"].values():
        # "h2@10.99.0.102": ovn-controller's mark on its tunnels.
        host = port["external_ids"].get("ovn-chassis-id", "").partition("@")[0]
        if host and any(
            interfaces[uuid]["bfd_status"].get("state") == "up"
            for uuid in port["interfaces"]
            if uuid in interfaces
        ):
            found.add(host)
    return found


def patches(tables: Mapping[str, Mapping[str, Row]], network: str, integration_bridge: str) -> list[int]:
    """The OpenFlow ports by which an external network comes out of the integration bridge."""
    return [
        interface["ofport"]
        for interface in tables["Interface"].values()
        if interface["type"] == "patch"
        and network in interface["name"]
        and interface["name"].endswith(f"-to-{integration_bridge}")
        and isinstance(interface["ofport"], int)
        and interface["ofport"] > 0
    ]


def frame(mac: str, vlan: int | None, service_tag: bool = False) -> bytes:
    """An announcement that changes no host, only switches: a request of RFC 903, as after a migration.

    It goes to a group address that no other one went to. A switch in software (Open vSwitch) learns
    nothing for half a second from frames like those that it saw a moment ago.
    """
    own = bytes.fromhex(mac.replace(":", ""))
    group = b"\x03" + secrets.token_bytes(5)
    tag = b"" if vlan is None else (b"\x88\xa8" if service_tag else b"\x81\x00") + vlan.to_bytes(2, "big")
    request = b"\x00\x01\x08\x00\x06\x04\x00\x03" + (own + bytes(4)) * 2
    return (group + own + tag + b"\x80\x35" + request).ljust(60, b"\0")
