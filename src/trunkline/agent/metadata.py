"""The services of the host's networks: metadata at 169.254.169.254 and fe80::a9fe:a9fe, and names.

Each network has a namespace of its own with the network's metadata port in it, and sockets that listen
there; all are served by the agent's own process. Who asks is known by the network, that is the socket,
and the source address, which the port's anti-spoofing vouches for. Nothing that a request says of its
sender is looked at.

    guest -- integration bridge -- tlm3f2a9c1e-aa -- eth0 in the namespace: 10.0.0.2/24, 169.254.169.254
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from msgspec.structs import replace

from trunkline.agent import documents, web
from trunkline.agent.config import AgentConfig
from trunkline.agent.guards import link_local
from trunkline.agent.own import OwnNamespaces
from trunkline.agent.resolver import Resolver
from trunkline.agent.zone import Zone
from trunkline.compiler.slices import HostSlice, MetadataSlice, PortSlice, ServerSlice
from trunkline.devices import links, namespace, openvswitch
from trunkline.devices.openvswitch import WantedPort
from trunkline.devices.ovsdb import Database

_OWNER = "metadata"
_DEVICE = "tlm"
IPV4, IPV6 = "169.254.169.254", "fe80::a9fe:a9fe"


@dataclass
class _Served:
    """What is there for one network."""

    want: MetadataSlice
    #: The namespace's inode: another one means that it was made anew by somebody.
    inode: int
    servers: list[asyncio.Server] = field(default_factory=list)
    resolver: Resolver | None = None


class Metadata:
    """Manager of the metadata service. Owns its namespaces, sockets, and rows marked ``metadata``."""

    def __init__(self, config: AgentConfig, db: Database) -> None:
        self._config = config
        self._db = db
        self._namespaces = OwnNamespaces(config.folder / "n", f"{config.namespace_prefix}m-")
        self._wanted: dict[str, MetadataSlice] = {}
        self._served: dict[str, _Served] = {}
        #: (network, source address) to the server, with its ports.
        self._who: dict[tuple[str, str], tuple[ServerSlice, list[PortSlice]]] = {}

    def want(self, slice_: HostSlice) -> None:
        """The networks and servers of this slice."""
        self._wanted = {m.network: m for m in slice_.metadata}
        servers = {server.id: server for server in slice_.servers}
        ports = {port.id: port for port in slice_.ports}
        who: dict[tuple[str, str], tuple[ServerSlice, list[PortSlice]]] = {}
        for port in slice_.ports:
            if (server := servers.get(port.server)) is not None:
                told = (server, [ports[p] for p in server.ports if p in ports])
                for address in (*port.addresses, link_local(port.mac)):
                    who[port.network, address] = told
        self._who = who

    async def apply(self) -> None:
        """Drives the host there.

        Raises:
            Unavailable, Conflict, TransactError, OSError: something is in the way.
        """
        for network in [n for n in self._served if n not in self._wanted]:
            self._close(self._served.pop(network))
        await asyncio.to_thread(self._make)
        ends = [
            WantedPort(self._config.integration_bridge, self._device(m), external_ids={"iface-id": m.port})
            for m in self._wanted.values()
        ]
        if operations := openvswitch.port_operations(self._db, ends, _OWNER):
            await self._db.transact(operations)
        for wanted in self._wanted.values():
            await self._listen(wanted)
        await asyncio.to_thread(self._remove)

    def answer(self, network: str, source: str, path: str) -> bytes | None:
        """What a guest of that network with that address gets for a path; None where it is nothing."""
        told = self._who.get((network, source))
        if told is None:
            return None
        return documents.find(documents.service(*told), path)

    async def close(self) -> None:
        """Stops answering; what was made stays."""
        for served in self._served.values():
            self._close(served)

    def _device(self, wanted: MetadataSlice) -> str:
        return _DEVICE + wanted.port[:11]

    def _make(self) -> None:
        present = links.names()
        for wanted in self._wanted.values():
            name, inside = self._device(wanted), self._namespaces.name(wanted.network)
            if name in present and namespace.exists(inside) and "eth0" in namespace.interfaces(inside):
                served = self._served.get(wanted.network)
                if served is None or replace(served.want, zone=None) != replace(wanted, zone=None):
                    self._settle(wanted, name, inside)
                continue
            if name in present:
                namespace.ip(None, f"link delete dev {name}")
            self._namespaces.make(inside)
            namespace.ip(None, f"link add name {name} type veth peer name eth0 netns {inside}")
            self._settle(wanted, name, inside)

    def _settle(self, wanted: MetadataSlice, name: str, inside: str) -> None:
        namespace.ip(None, f"link set dev {name} mtu {wanted.mtu} up")
        addresses = (*wanted.addresses, f"{IPV4}/32", f"{IPV6}/64")
        namespace.ip(
            inside,
            f"link set dev eth0 address {wanted.mac} mtu {wanted.mtu} up",
            "address flush dev eth0 scope global",
            *(f"address replace {a} dev eth0{' nodad' if ':' in a else ''}" for a in addresses),
        )
        namespace.checksums_in_software(inside, "eth0")

    async def _listen(self, wanted: MetadataSlice) -> None:
        inside = self._namespaces.name(wanted.network)
        inode = (await asyncio.to_thread(namespace.path(inside).stat)).st_ino
        served = self._served.get(wanted.network)
        if served is not None and served.inode == inode:
            if served.want != wanted:
                await self._name(served, wanted)
            served.want = wanted
            return
        if served is not None:
            self._close(self._served.pop(wanted.network))
        served = _Served(wanted, inode)
        network = wanted.network

        def answer(source: str, path: str) -> bytes | None:
            return self.answer(network, source, path)

        try:
            for address in (IPV4, IPV6):
                listening = await asyncio.to_thread(
                    namespace.open_socket_in, inside, address, 80, device="eth0", free_bind=True
                )
                served.servers.append(await web.serve(listening, answer))
            await self._name(served, wanted)
        except BaseException:
            self._close(served)
            raise
        self._served[network] = served

    async def _name(self, served: _Served, wanted: MetadataSlice) -> None:
        """Answers questions for names as wanted."""
        if wanted.zone is None:
            if served.resolver is not None:
                served.resolver.close()
                served.resolver = None
            return
        before = served.resolver.zone if served.resolver is not None else None
        zone = await asyncio.to_thread(Zone, wanted.zone, wanted.addresses, before)
        if served.resolver is None:
            served.resolver = Resolver(zone)
        served.resolver.zone = zone
        held = {address.partition("/")[0] for address in wanted.addresses}
        await served.resolver.listen(self._namespaces.name(wanted.network), held)

    def _remove(self) -> None:
        wanted = {self._device(m) for m in self._wanted.values()}
        unwanted = [name for name in links.names() if name.startswith(_DEVICE) and name not in wanted]
        namespace.ip(None, *(f"link delete dev {name}" for name in unwanted))
        kept = {self._namespaces.name(network) for network in self._wanted}
        for name in self._namespaces.all() - kept:
            self._namespaces.remove(name)

    @staticmethod
    def _close(served: _Served) -> None:
        for server in served.servers:
            server.close()
        if served.resolver is not None:
            served.resolver.close()
