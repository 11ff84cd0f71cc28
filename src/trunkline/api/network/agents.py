"""Agents: seen, never made. An operator describes them, and takes a host out of those that carry gateways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace
from sqlalchemy import ColumnElement, false

from trunkline.api.context import Context
from trunkline.api.engine import Call
from trunkline.api.network import routers
from trunkline.errors import BadField, Conflict
from trunkline.resources.network import Agent
from trunkline.resources.network.agents import GATEWAY_CONTROLLER
from trunkline.resources.region import Host
from trunkline.store import Reader


class Agents:
    """The stages of agents.

    Args:
        heartbeats: agent id to when it was alive last; too often another to be stored.
    """

    def __init__(self, heartbeats: Mapping[str, str]) -> None:
        self._heartbeats = heartbeats

    def view(self, reader: Reader, context: Context, objects: Sequence[Agent]) -> Sequence[Mapping[str, Any]]:
        """When each was alive last."""
        return [
            {"heartbeat_timestamp": self._heartbeats.get(agent.id, agent.heartbeat_timestamp)}
            for agent in objects
        ]


def visible(context: Context) -> list[ColumnElement[bool]]:
    """Operators see all of them, others none."""
    return [] if context.is_admin else [false()]


def update(call: Call, old: Agent, new: Agent, given: frozenset[str]) -> Agent:
    """Takes the host of a gateway agent out of those that carry gateways, or back: they move at once.

    Raises:
        BadField: nothing would obey the state of this agent.
    """
    if new.admin_state_up != old.admin_state_up:
        host = call.tx.get(Host, old.host)
        if host is None or old.agent_type != GATEWAY_CONTROLLER:
            raise BadField(
                "admin_state_up",
                f"nothing depends on it for an agent of this type, but for the '{GATEWAY_CONTROLLER}' alone. "
                "To keep servers off a host, disable its compute service.",
            )
        call.save(replace(host, carries_gateways=new.admin_state_up))
        routers.reschedule(call)
    return new


def delete(call: Call, agent: Agent) -> None:
    """Refuses what is alive: it would be back at once."""
    if agent.alive:
        raise Conflict(
            f"Agent {agent.id} is alive. Stop {agent.binary} on {agent.host} first.", type="AgentInUse"
        )
