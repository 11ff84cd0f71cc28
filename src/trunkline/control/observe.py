"""What was seen, into the store: the one arrow that runs back.

Only differences are written, and no revision number of a resource is spent on them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial

import msgspec

from trunkline.api import appliance, loadbalancer
from trunkline.api.compute.observation import observe
from trunkline.api.context import CLOUD
from trunkline.api.engine import Call, Engine
from trunkline.api.network import firewall_sites, metering, reschedule, trunks
from trunkline.backends.contract import Observation
from trunkline.compiler.routing import is_at_host
from trunkline.compiler.snapshot import Snapshot
from trunkline.control.directory import RegionDirectory
from trunkline.persistent import differing_keys
from trunkline.resources.appliance import Appliance, Unit
from trunkline.resources.network import (
    APPLIANCE,
    FIREWALL_LEG,
    FLOATING_IP,
    METADATA,
    ROUTER_GATEWAY,
    ROUTER_INTERFACE,
    FirewallSite,
    FloatingIP,
    HostCount,
    Network,
    Port,
    Router,
    gateways_of,
)
from trunkline.resources.region import Host
from trunkline.resources.reports import HostReport, MeterReport
from trunkline.store import Remembered, Store, Tx

#: How often it is looked which hosts have fallen silent, seconds.
WATCH = 1.0


async def host_report(
    engine: Engine, name: str, report: HostReport, ended: Mapping[str, appliance.Counts] | None = None
) -> None:
    """Writes what a host's agent reported: the facts of the host, and its servers.

    Where a host comes with other physical networks, gateways are given their hosts anew.

    Args:
        ended: what units counted that have ended there, by their appliances.
    """
    facts = {
        "alive": True,
        "underlay_address": report.address,
        "bus_address": report.bus_address or report.address,
        "agent_since": report.since,
        "vcpus": report.vcpus,
        "memory_mib": report.memory_mib,
        "disk_gib": report.disk_gib,
        "accelerator": report.accelerator,
        "datapath": report.datapath,
        "physical_networks": list(report.physical_networks),
        "links": list(report.links),
        "daemons": list(report.daemons),
        "problems": list(report.problems),
    }
    counts = [(each.label, _count(name, each)) for each in report.meters]

    def write(call: Call) -> None:
        host = call.tx.get(Host, name)
        if host is None:
            return
        new = msgspec.structs.replace(host, **facts)
        if new != host:
            call.tx.observe(msgspec.structs.replace(new, seen_at=time.time()))
        if new.physical_networks != host.wired:
            reschedule(call)
        observe(call, name, report.servers)
        metering.observe(call, counts)
        for id in appliance.observe(call, name, report.units, ended):
            loadbalancer.observe(call, id)
            firewall_sites.told(call, id)

    await engine.write(CLOUD, write)


def _count(host: str, report: MeterReport) -> HostCount:
    told = msgspec.structs.asdict(report)
    del told["label"]
    return HostCount(host=host, **told)


async def watch_hosts(store: Store, directory: RegionDirectory) -> None:
    """Marks hosts that have fallen silent; runs until it is cancelled."""
    alive = Remembered(store, (Host,), lambda reader: [h.id for h in reader.find(Host, alive=True)])
    await asyncio.sleep(WATCH)
    while True:
        silent = [name for name in alive.get() if directory.lost(name)]
        if silent:

            def write(tx: Tx, names: list[str] = silent) -> None:
                for name in names:
                    host = tx.get(Host, name)
                    if host is not None and host.alive:
                        tx.observe(msgspec.structs.replace(host, alive=False, seen_at=time.time()))

            await store.write(write)
        await asyncio.sleep(WATCH)


async def watch_appliances(engine: Engine) -> None:
    """Does what follows from silence: units of hosts that are gone are replaced; until it is cancelled."""
    there = Remembered(engine.store, (Appliance, Unit, Host), appliance.waiting)
    while True:
        await asyncio.sleep(WATCH)
        for id in there.get():
            await engine.write(CLOUD, partial(_settle, id))


def _settle(id: str, call: Call) -> None:
    appliance.settle(call, id)
    loadbalancer.observe(call, id)
    firewall_sites.told(call, id)


async def watch_loads(engine: Engine, figures: appliance.Figures) -> None:
    """Has appliances grow and shrink by their load; until it is cancelled."""
    there = Remembered(engine.store, (Appliance, Unit, Host), appliance.watched)
    growth = appliance.Growth(figures)
    while True:
        await asyncio.sleep(WATCH)
        for step in growth.look(there.get(), time.monotonic(), time.time()):
            await engine.write(CLOUD, partial(_take, step))


def _take(step: appliance.Step, call: Call) -> None:
    appliance.take(call, step)
    appliance.settle(call, step.appliance.id)


def port_changes(
    observation: Observation, snapshot: Snapshot, ports: Mapping[str, Port] | None = None
) -> dict[str, str]:
    """Port id to its new status, where what the backend sees differs from what is stored.

    Args:
        snapshot: what the backend has applied.
        ports: those to look at, by default all.
    """
    changes = {}
    for key, port in (snapshot.all(Port) if ports is None else ports).items():
        if port.device_owner in (FLOATING_IP, APPLIANCE):
            continue  # It has addresses, and is plugged in nowhere.
        up = port.admin_state_up and _carried(key, port, observation)
        status = "ACTIVE" if up else "DOWN"
        if port.status != status:
            changes[key] = status
    return changes


def _carried(key: str, port: Port, observation: Observation) -> bool:
    if port.device_owner == ROUTER_GATEWAY:
        return key in observation.gateways
    if port.device_owner in (ROUTER_INTERFACE, FIREWALL_LEG, METADATA):
        # They are on every host at once: nobody plugs them in.
        return True
    # Where it was plugged in before its binding moved does not count.
    return key in observation.ports_up and port.host_id in ("", observation.ports_up[key])


def floating_changes(observation: Observation, snapshot: Snapshot) -> dict[str, str]:
    """Floating IP id to its new status: ACTIVE where a host carries its router's gateway.

    Of those that leave at the hosts of their ports: where the port is carried there.
    """
    changes = {}
    firewalled = {site.router_id for site in snapshot.all(FirewallSite).values()}
    for key, floating in snapshot.all(FloatingIP).items():
        router = snapshot.get(Router, floating.router_id)
        ways = [] if router is None else gateways_of(router)
        network = floating.floating_network_id
        port = snapshot.get(Port, floating.port_id)
        host = None if port is None else snapshot.get(Host, port.host_id)
        external = snapshot.get(Network, network)
        if port is not None and is_at_host(router, external, host, floating.router_id in firewalled):
            up = _carried(port.id, port, observation)
        else:
            up = any(w.info.network_id == network and w.port_id in observation.gateways for w in ways)
        status = "ACTIVE" if up else "DOWN"
        if floating.status != status:
            changes[key] = status
    return changes


class Statuses:
    """Writes the status of ports and floating IPs that the backend sees otherwise than the store has it.

    Owns what it compared last: only what is seen otherwise than then, and what is not the same as then, is
    compared again.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last: tuple[Observation, Snapshot] | None = None

    async def write(self, observation: Observation, snapshot: Snapshot) -> None:
        """Takes what is seen of what was applied."""
        wired = port_changes(observation, snapshot, self._others(observation, snapshot))
        carried = floating_changes(observation, snapshot) if self._carriage(observation, snapshot) else {}
        self._last = None
        if wired or carried:
            await self._store.write(partial(_write, wired, carried))
        self._last = observation, snapshot

    def _others(self, observation: Observation, snapshot: Snapshot) -> Mapping[str, Port] | None:
        """The ports that are seen otherwise than last, or are not as they were then; None for all."""
        if self._last is None:
            return None
        seen, before = self._last
        keys = set(differing_keys(seen.ports_up, observation.ports_up))
        keys.update(differing_keys(seen.gateways, observation.gateways))
        ports = snapshot.all(Port)
        if snapshot.since == before.revision and snapshot.touched is not None:
            keys.update(snapshot.touched.get(Port, ()))
        else:
            keys.update(differing_keys(before.all(Port), ports))
        return {key: ports[key] for key in keys if key in ports}

    def _carriage(self, observation: Observation, snapshot: Snapshot) -> bool:
        """Whether the status of a floating IP may be another."""
        if self._last is None:
            return True
        seen, before = self._last
        same = all(before.objects.get(cls) is snapshot.objects.get(cls) for cls in (FloatingIP, Router))
        if not same or seen.gateways != observation.gateways:
            return True
        ports = (
            before.objects.get(Port) is snapshot.objects.get(Port) and seen.ports_up is observation.ports_up
        )
        return not ports and any(router.distributed for router in snapshot.all(Router).values())


def _write(wired: Mapping[str, str], carried: Mapping[str, str], tx: Tx) -> None:
    for key, status in wired.items():
        port = tx.get(Port, key)
        if port is not None and port.status != status:
            tx.observe(msgspec.structs.replace(port, status=status))
    trunks.observe(tx, wired)
    for key, status in carried.items():
        floating = tx.get(FloatingIP, key)
        if floating is not None and floating.status != status:
            tx.observe(msgspec.structs.replace(floating, status=status))
