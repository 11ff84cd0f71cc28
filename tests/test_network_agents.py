"""Agents: rows follow what is seen, an operator takes hosts out of those that carry gateways."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from network_lab import ANN, BOB, ROOT, Cloud, cloud, hosts_of

from trunkline.backends.contract import Observation
from trunkline.control.agents import Agents, Central, Sight
from trunkline.resources.network import Agent
from trunkline.resources.region import Host
from trunkline.resources.reports import Condition, HostDaemon
from trunkline.store import Store

__all__ = ["cloud"]

CONTROLLER = HostDaemon(name="ovn-controller", alive=True, well=True, detail="connected", since=1000.0)
HOST = Host(id="h1", alive=True, physical_networks=["physnet1"], daemons=[CONTROLLER], agent_since=900.0)


class Watched:
    """A store of hosts, and the agents that are seen there."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(folder / "store")
        self.heartbeats: dict[str, str] = {}
        self.watcher = Agents(self.store, self.heartbeats)
        self.host(HOST)

    def host(self, host: Host) -> None:
        """Has a host as it is given."""
        self.store.write_sync(
            lambda tx: tx.observe(host) if tx.get(Host, host.id) is not None else tx.insert(host)
        )

    def look(self, now: float = 2000.0, follows: bool = True, northd: bool = True) -> dict[str, Agent]:
        """Looks; what is stored then, by type."""
        sight = Sight(
            now=now,
            heard={"h1": now - 1.0},
            observation=Observation(hosts={"h1"} if follows else set(), gateways={"g": "h1"}),
            central=(
                Central(unit="nb", alive=True, since=10.0),
                Central(unit="northd", alive=northd, since=20.0),
            ),
        )
        asyncio.run(self.watcher.look(sight))
        with self.store.read() as reader:
            return {agent.agent_type: agent for agent in reader.select(Agent)}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.store.close()


def test_every_daemon_is_an_agent(watched: Watched) -> None:
    found = watched.look()
    assert {(a.agent_type, a.binary, a.host, a.alive) for a in found.values()} == {
        ("Trunkline agent", "trunkline-agent", "h1", True),
        ("OVN Metadata agent", "trunkline-agent", "h1", True),
        ("OVN Controller Gateway agent", "ovn-controller", "h1", True),
        ("OVN Northbound database", "ovsdb-server", "control", True),
        ("OVN northd", "ovn-northd", "control", True),
    }
    gateway = found["OVN Controller Gateway agent"]
    assert gateway.configurations["gateways"] == 1
    assert gateway.started_at == "1970-01-01 00:16:40"
    assert (gateway.availability_zone, found["OVN northd"].availability_zone) == ("nova", "")


def dead(found: dict[str, Agent]) -> set[str]:
    return {name for name, agent in found.items() if not agent.alive}


def test_a_host_that_is_silent_has_no_agent_alive(watched: Watched) -> None:
    watched.look()
    watched.host(replace(HOST, alive=False))
    assert dead(watched.look()) == {"Trunkline agent", "OVN Metadata agent", "OVN Controller Gateway agent"}
    watched.host(HOST)
    assert dead(watched.look()) == set()


@pytest.mark.parametrize(
    ("host", "agent"),
    [
        (replace(HOST, daemons=[replace(CONTROLLER, well=False)]), "OVN Controller Gateway agent"),
        (replace(HOST, problems=[Condition(what="metadata of host h1", cause="c")]), "OVN Metadata agent"),
    ],
)
def test_one_daemon_that_is_not_well_is_one_dead_agent(watched: Watched, host: Host, agent: str) -> None:
    watched.look()
    watched.host(host)
    assert dead(watched.look()) == {agent}


def test_a_controller_that_lags_behind_is_dead(watched: Watched) -> None:
    watched.look()
    assert dead(watched.look(follows=False)) == {"OVN Controller Gateway agent"}


def test_a_dead_northd_is_told_of(watched: Watched) -> None:
    watched.look()
    assert dead(watched.look(northd=False)) == {"OVN northd"}


def test_a_host_without_a_physical_network_has_no_gateway_agent(watched: Watched) -> None:
    watched.host(replace(HOST, physical_networks=[]))
    assert "OVN Controller agent" in watched.look()


def test_nothing_is_written_while_nothing_is_seen_otherwise(watched: Watched) -> None:
    watched.look(2000.0)
    revision = watched.store.revision
    (id,) = {a.id for a in watched.look(3000.0).values() if a.agent_type == "OVN northd"}
    assert watched.store.revision == revision
    assert watched.heartbeats[id] == "1970-01-01 00:50:00"


def test_an_agent_comes_when_it_is_first_seen_alive_and_goes_with_its_host(watched: Watched) -> None:
    watched.host(replace(HOST, alive=False))
    assert set(watched.look()) == {"OVN Northbound database", "OVN northd"}
    watched.host(HOST)
    assert len(watched.look()) == 5
    watched.store.write_sync(lambda tx: tx.delete(Host, "h1"))
    assert set(watched.look()) == {"OVN Northbound database", "OVN northd"}


def test_one_that_was_deleted_stays_away_until_it_lives(watched: Watched) -> None:
    northd = watched.look()["OVN northd"]
    watched.look(northd=False)
    watched.store.write_sync(lambda tx: tx.delete(Agent, northd.id))
    watched.host(replace(HOST, alive=False))
    assert "OVN northd" not in watched.look(northd=False)
    assert watched.look()["OVN northd"].created_at == "1970-01-01 00:33:20"


# Over the API.


def agent(cloud: Cloud, **fields: Any) -> dict[str, Any]:
    """An agent, as the cloud stores what it sees; its path, and how it is shown."""
    made = Agent(
        id=f"agent-{fields['host']}",
        **{"agent_type": "OVN Controller Gateway agent", "binary": "b", **fields},
    )
    cloud.store.write_sync(lambda tx: tx.insert(made))
    return cloud.show("agent", made.id, by=ROOT)


def test_operators_see_agents_and_nobody_else(cloud: Cloud) -> None:
    shown = agent(cloud, host="h1", alive=True)
    assert cloud.all("agent", "?alive=true&host=h1", by=ROOT) == [shown]
    assert cloud.all("agent", "?alive=false", by=ROOT) == []
    assert cloud.all("agent") == []
    assert cloud.refused("GET", f"/agents/{shown['id']}") == (404, "AgentNotFound")
    for method, body in (("PUT", {"agent": {"description": "x"}}), ("DELETE", None)):
        assert cloud.refused(method, f"/agents/{shown['id']}", body, by=BOB)[0] == 404
    assert cloud.refused("POST", "/agents", {"agent": {}}, by=ROOT)[0] == 405


def test_an_agent_is_described(cloud: Cloud) -> None:
    id = agent(cloud, host="h1")["id"]
    assert cloud.change("agent", id, by=ROOT, description="left rack")["description"] == "left rack"
    assert cloud.refused("PUT", f"/agents/{id}", {"agent": {"host": "h2"}}, by=ROOT)[0] == 400


def test_the_dead_are_deleted_and_the_living_not(cloud: Cloud) -> None:
    dead, alive = agent(cloud, host="h1"), agent(cloud, host="h2", alive=True)
    assert cloud.refused("DELETE", f"/agents/{alive['id']}", by=ROOT) == (409, "AgentInUse")
    cloud.remove("agent", dead["id"], by=ROOT)
    assert [a["id"] for a in cloud.all("agent", by=ROOT)] == [alive["id"]]


def test_a_gateway_agent_that_is_set_down_takes_its_host_out_of_all_gateways(cloud: Cloud) -> None:
    cloud.hosts("h1", "h2", "h3")
    public, _ = cloud.public()
    before = cloud.make("router", external_gateway_info={"network_id": public["id"]})
    id = agent(cloud, host="h2", alive=True)["id"]
    assert cloud.change("agent", id, by=ROOT, admin_state_up=False)["admin_state_up"] is False
    after = cloud.make("router", external_gateway_info={"network_id": public["id"]})
    assert [hosts_of(cloud, router) for router in (before, after)] == [["h1", "h3"]] * 2
    cloud.change("agent", id, by=ROOT, admin_state_up=True)
    assert hosts_of(cloud, before) == ["h1", "h2", "h3"]


def test_the_state_of_other_agents_is_not_set(cloud: Cloud) -> None:
    cloud.hosts("h1")
    shown = agent(cloud, host="h1", agent_type="OVN Metadata agent")
    where = f"/agents/{shown['id']}"
    assert cloud.ask("PUT", where, {"agent": {"admin_state_up": True}}, by=ROOT).status_code == 200
    reply = cloud.ask("PUT", where, {"agent": {"admin_state_up": False}}, by=ROOT)
    assert reply.status_code == 400
    assert "admin_state_up" in reply.json()["NeutronError"]["message"]
    assert cloud.refused("PUT", where, {"agent": {"admin_state_up": False}}, by=ANN)[0] == 404
