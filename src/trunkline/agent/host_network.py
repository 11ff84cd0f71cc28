"""The host's own network: its bridges, its end of the tunnels, and what ovn-controller is told.

Owns, in Open vSwitch: the bridges of the configuration and what is plugged into them (mark
``hostnet``), the keys of `external_ids` of the table Open_vSwitch listed in `_external_ids`, and the SSL
row where there was none. On a real machine (no underlay bridge configured) bridges and addresses are the
machine's affair, except for the integration and guard bridges.
"""

from __future__ import annotations

import asyncio
import socket

from trunkline.agent.config import AgentConfig
from trunkline.compiler.slices import HostSlice
from trunkline.devices import links, namespace, openvswitch
from trunkline.devices.openvswitch import MARK, WantedBridge, WantedPort
from trunkline.devices.ovsdb import Database, Operation
from trunkline.errors import Conflict, Unavailable

_OWNER = "hostnet"
#: How long a silence ovn-controller bears: of the southbound database in ms, of ovs-vswitchd in s.
_REMOTE_PROBE_MS, _OPENFLOW_PROBE_S = 5000, 5


class HostNetwork:
    """Manager of the above. It needs no slice: the configuration has all that a host needs to begin."""

    def __init__(self, config: AgentConfig, db: Database) -> None:
        self._config = config
        self._db = db
        self._remote = config.ovn_remote

    def want(self, slice_: HostSlice) -> None:
        """The members that OVN's southbound database has by this slice."""
        self._remote = ",".join(slice_.backend_remotes) or self._config.ovn_remote

    async def apply(self) -> None:
        """Puts right whatever is not.

        Raises:
            Unavailable, Conflict, TransactError: Open vSwitch is away, or something of another's is in
                the way.
        """
        await self._drive(joined=True)

    async def reach(self) -> None:
        """The underlay alone: as much as a host needs that has not joined yet. Raises as `apply`."""
        await self._drive(joined=False)

    async def _drive(self, *, joined: bool) -> None:
        db = self._db
        uuid, root = openvswitch.root(db)
        operations: list[Operation] = []
        for bridge in self._bridges():
            operations += openvswitch.bridge_operations(db, bridge, _OWNER)
        if joined:
            # Not before: ovn-controller would fail without a certificate, and then wait ever longer.
            operations += openvswitch.map_operations(
                db, "Open_vSwitch", uuid, "external_ids", root, self._external_ids()
            )
            operations += self._tls()
        if operations:
            await db.transact(operations)
        if ports := openvswitch.port_operations(db, self._uplinks(), _OWNER):
            await db.transact(ports)
        if self._config.underlay.bridge is not None:
            await self._keep_address(self._config.underlay.bridge)

    def _bridges(self) -> list[WantedBridge]:
        config = self._config
        datapath, underlay = config.datapath, config.underlay
        wanted = [
            WantedBridge(config.integration_bridge, datapath, "secure", {"disable-in-band": "true"}),
            WantedBridge(config.guard_bridge, datapath, "secure", {"disable-in-band": "true"}),
        ]
        if underlay.bridge is not None:
            other = {"hwaddr": underlay.hwaddr} if underlay.hwaddr else {}
            wanted.append(WantedBridge(underlay.bridge, datapath, None, other, underlay.mtu))
        wanted += [WantedBridge(p.bridge, datapath) for p in config.physical_networks.values() if p.interface]
        return wanted

    def _uplinks(self) -> list[WantedPort]:
        underlay = self._config.underlay
        wanted = [
            WantedPort(p.bridge, p.interface) for p in self._config.physical_networks.values() if p.interface
        ]
        if underlay.bridge is not None and underlay.interface:
            wanted.append(WantedPort(underlay.bridge, underlay.interface))
        return wanted

    def _external_ids(self) -> dict[str, str]:
        config = self._config
        mappings = sorted(f"{name}:{p.bridge}" for name, p in config.physical_networks.items())
        return {
            "system-id": config.host,
            "hostname": config.host if config.underlay.bridge is not None else socket.gethostname(),
            "ovn-remote": self._remote,
            "ovn-encap-type": config.encapsulation,
            "ovn-encap-ip": config.underlay.address.partition("/")[0],
            "ovn-bridge": config.integration_bridge,
            "ovn-bridge-datapath-type": config.datapath,
            "ovn-bridge-mappings": ",".join(mappings),
            "ovn-monitor-all": "true",
            "ovn-remote-probe-interval": str(_REMOTE_PROBE_MS),
            "ovn-openflow-probe-interval": str(_OPENFLOW_PROBE_S),
        }

    def _tls(self) -> list[Operation]:
        """ovn-controller's key and certificates: those that the host got when it joined."""
        config, db = self._config, self._db
        if not self._remote.startswith("ssl:"):
            return []
        wanted = {
            "private_key": str(config.files.key),
            "certificate": str(config.files.cert),
            "ca_cert": str(config.authority),
            "bootstrap_ca_cert": False,
        }
        for uuid, row in db.tables["SSL"].items():
            if all(row[key] == value for key, value in wanted.items()):
                return []
            if row["external_ids"].get(MARK) != _OWNER:
                raise Conflict(
                    "Open vSwitch has TLS settings of somebody else's (`ovs-vsctl get-ssl`), and "
                    "ovn-controller needs those of the region. Remove them by `ovs-vsctl del-ssl`."
                )
            return [db.ops.update("SSL", uuid, wanted)]
        row = {**wanted, "external_ids": {MARK: _OWNER}}
        return [
            db.ops.insert("SSL", row, "tls"),
            db.ops.update("Open_vSwitch", openvswitch.root(db)[0], {"ssl": "tls"}),
        ]

    async def _keep_address(self, bridge: str) -> None:
        """The underlay address on the bridge's internal port, which ovs-vswitchd makes anew, bare."""
        underlay = self._config.underlay
        address = underlay.address.partition("/")[0]
        lines = []
        for name in {p.name for p in self._uplinks()}:
            if (device := links.link(name)) is None:
                raise Unavailable(f"There is no interface {name} on the host.")
            if not device.up:
                lines.append(f"link set dev {name} up")
        inner = links.link(bridge)
        if inner is None:
            raise Unavailable(f"ovs-vswitchd has not made {bridge} yet, or it is not running.")
        if not inner.up or inner.mtu != underlay.mtu:
            lines.append(f"link set dev {bridge} mtu {underlay.mtu} up")
        if address not in inner.addresses:
            lines.append(f"address replace {underlay.address} dev {bridge}")
        if lines:
            await asyncio.to_thread(namespace.ip, None, *lines)
            await asyncio.to_thread(namespace.checksums_in_software, None, bridge)
