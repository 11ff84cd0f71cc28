"""The agents of the Network API: every daemon that carries the network, as it is seen just now.

    Host rows (what agents report), when each host was heard last ──┐
    the backend: who is there and follows, what it is connected to ─┼─▶ seen() ─▶ Agent rows
    pid files of the control plane's own daemons ───────────────────┘

Alive is who does what it is for: a process that exists, and does not answer or lags behind, is not. An agent
comes by itself when it is first seen alive. One that is dead stays until somebody deletes it, or until its
host is no more.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from msgspec.structs import replace

from trunkline.api.zones import zones
from trunkline.backends.contract import Observation
from trunkline.devices import process
from trunkline.devices.state import Cloud, StateFolder
from trunkline.resources.compute import Aggregate
from trunkline.resources.network import Agent, agents
from trunkline.resources.region import Host
from trunkline.resources.reports import HostDaemon
from trunkline.store import Reader, Remembered, Store, Tx

#: How often it is looked, seconds.
WATCH = 1.0
#: Where the control plane's own daemons are said to be.
CONTROL = "control"
_NAMESPACE = uuid.UUID("b7d3b9a2-3a55-5d6c-8d0c-6f2b3f0a9c11")
_CONTROLLER = "ovn-controller"


@dataclass(frozen=True, kw_only=True)
class Central:
    """A daemon of the control plane."""

    #: The keeper's name of it: northd, nb, sb2 ...
    unit: str
    alive: bool
    #: Seconds since the epoch.
    since: float


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What the store does not hold."""

    #: Seconds since the epoch, now.
    now: float
    #: Host to when its agent reported last, seconds since the epoch.
    heard: Mapping[str, float]
    observation: Observation
    central: tuple[Central, ...] = ()


class CentralDaemons:
    """The control plane's own daemons, by the pid files of their keeper and by what the backend sees."""

    def __init__(self, folder: StateFolder, cloud: Cloud) -> None:
        databases = [*cloud.members("nb"), *cloud.members("sb")]
        self._pidfiles = {unit: folder.pidfile(unit) for unit in (*databases, "northd")}
        #: What each was last, and since when.
        self._known: dict[str, tuple[process.Process, float]] = {}

    def look(self, keeping_up: Mapping[str, bool]) -> tuple[Central, ...]:
        """Each of them now: alive is what runs and, where one process is all there is of it, keeps up."""
        return tuple(self._look(unit, keeping_up.get(unit, True)) for unit in self._pidfiles)

    def _look(self, unit: str, keeps_up: bool) -> Central:
        running, since = self._known.get(unit, (None, 0.0))
        if running is None or not running.alive():
            running = process.find(self._pidfiles[unit])
            if running is not None:
                since = process.since(running.pid)
                self._known[unit] = running, since
        return Central(unit=unit, alive=running is not None and keeps_up, since=since)


def _placed(reader: Reader) -> Sequence[tuple[Host, str]]:
    """The hosts, each with its availability zone."""
    hosts = reader.select(Host)
    zone_of = zones(reader, hosts)
    return [(host, zone_of[host.id]) for host in hosts]


def seen(placed: Iterable[tuple[Host, str]], sight: Sight) -> Iterator[Agent]:
    """Every agent that there should be."""
    carried = Counter(sight.observation.gateways.values())
    for host, zone in placed:
        for agent in _of_host(host, sight, carried[host.id]):
            yield replace(agent, availability_zone=zone)
    for daemon in sight.central:
        yield _central(daemon)


def _of_host(host: Host, sight: Sight, gateways: int) -> Iterator[Agent]:
    problems = [problem.what for problem in host.problems]
    yield Agent(
        id=_id("agent", host.id),
        agent_type=agents.HOST_AGENT,
        binary="trunkline-agent",
        host=host.id,
        alive=host.alive,
        started_at=_time(host.agent_since),
        configurations={
            "accelerator": host.accelerator,
            "datapath": host.datapath,
            "physical_networks": host.physical_networks,
            "daemons": {d.name: {"well": d.well, "restarts": d.restarts} for d in host.daemons},
            "problems": problems,
        },
    )
    yield Agent(
        id=_id("metadata", host.id),
        agent_type=agents.METADATA_AGENT,
        # The host's agent answers by itself.
        binary="trunkline-agent",
        host=host.id,
        alive=host.alive and not any(what.startswith("metadata ") for what in problems),
        started_at=_time(host.agent_since),
    )
    controller = next((d for d in host.daemons if d.name == _CONTROLLER), None)
    if controller is not None:
        yield _controller(host, controller, sight.observation, gateways)


def _controller(host: Host, daemon: HostDaemon, observation: Observation, gateways: int) -> Agent:
    follows = host.id in observation.hosts
    return Agent(
        id=_id(_CONTROLLER, host.id),
        agent_type=agents.GATEWAY_CONTROLLER if host.physical_networks else agents.CONTROLLER,
        binary=_CONTROLLER,
        host=host.id,
        admin_state_up=host.carries_gateways,
        alive=host.alive and daemon.well and follows,
        started_at=_time(daemon.since),
        configurations={
            "chassis_name": host.id,
            "datapath_type": host.datapath,
            "physical_networks": host.physical_networks,
            "connection": daemon.detail,
            "follows_northbound": follows,
            "gateways": gateways,
            "restarts": daemon.restarts,
        },
    )


def _central(daemon: Central) -> Agent:
    northd = daemon.unit == "northd"
    database = agents.NORTHBOUND if daemon.unit.startswith("nb") else agents.SOUTHBOUND
    return Agent(
        id=_id(daemon.unit, CONTROL),
        agent_type=agents.NORTHD if northd else database,
        binary="ovn-northd" if northd else "ovsdb-server",
        host=CONTROL,
        alive=daemon.alive,
        started_at=_time(daemon.since),
        configurations={"unit": daemon.unit},
    )


def _id(what: str, where: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{what}:{where}"))


def _time(seconds: float) -> str:
    """As Neutron writes times of agents: 2026-11-21 04:00:00, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S") if seconds else ""


class Agents:
    """Keeps the rows of agents as they are seen.

    Owns what it saw last: only where something else is seen, it makes them anew.

    Args:
        heartbeats: agent id to when it was alive last, as text; what the API shows beside the rows.
    """

    def __init__(self, store: Store, heartbeats: MutableMapping[str, str]) -> None:
        self._store = store
        self._heartbeats = heartbeats
        self._placed = Remembered(store, (Host, Aggregate), _placed)
        self._last: dict[str, Agent] = {}
        #: What they were made of.
        self._of: tuple[object, ...] = ()

    async def look(self, sight: Sight) -> None:
        """Writes what is seen otherwise than last time."""
        placed, observation = self._placed.get(), sight.observation
        made_of = placed, observation.gateways, observation.hosts, sight.central
        now = self._last
        if made_of != self._of:
            now = {agent.id: agent for agent in seen(placed, sight)}
        for agent in now.values():
            if beat := agent.alive and (sight.now if agent.host == CONTROL else sight.heard.get(agent.host)):
                self._heartbeats[agent.id] = _time(beat)
        if now != self._last:
            self._last, self._of = {}, ()
            await self._store.write(lambda tx: self._write(tx, now, _time(sight.now)))
        self._last, self._of = now, made_of

    def _write(self, tx: Tx, now: Mapping[str, Agent], time: str) -> None:
        stored = {agent.id: agent for agent in tx.select(Agent)}
        for id in stored.keys() - now.keys():
            tx.delete(Agent, id)
            self._heartbeats.pop(id, None)
        for id, agent in now.items():
            beat = self._heartbeats.get(id, "")
            old = stored.get(id)
            if old is None:
                if agent.alive:
                    tx.insert(replace(agent, created_at=time, heartbeat_timestamp=beat))
                continue
            new = replace(
                agent,
                created_at=old.created_at,
                admin_state_up=old.admin_state_up,
                description=old.description,
                heartbeat_timestamp=old.heartbeat_timestamp,
            )
            if new != old:
                tx.observe(replace(new, heartbeat_timestamp=beat or old.heartbeat_timestamp))
