"""Agents: the daemons that carry the network, as they were last seen."""

from __future__ import annotations

from typing import Annotated, Any

from trunkline.resources.schema import Resource, changeable, computed, observed, resource
from trunkline.resources.types import Description

#: The ovn-controller of a host without and with a physical network, as OpenStack's tools know them.
CONTROLLER, GATEWAY_CONTROLLER = "OVN Controller agent", "OVN Controller Gateway agent"
METADATA_AGENT = "OVN Metadata agent"
HOST_AGENT = "Trunkline agent"
NORTHD = "OVN northd"
NORTHBOUND, SOUTHBOUND = "OVN Northbound database", "OVN Southbound database"


@resource(kind="agent", plural="agents", service="network")
class Agent(Resource, kw_only=True):
    """A daemon that carries the network. It comes by itself when it is first seen alive."""

    #: What it does, in words that OpenStack's tools know where they have any.
    agent_type: Annotated[str, observed()] = ""
    #: The program that does it.
    binary: Annotated[str, observed()] = ""
    #: The host that it runs on.
    host: Annotated[str, computed(index=True)] = ""
    #: Always empty: agents take no messages from a bus.
    topic: Annotated[str, computed(filter=False, sort=False)] = ""
    #: The zone of its host; empty for daemons of the control plane.
    availability_zone: Annotated[str, observed(alias="availability_zone")] = ""
    #: Whether its host may carry gateways of routers; always true of an agent that carries none.
    admin_state_up: Annotated[bool, changeable()] = True
    #: A text for people.
    description: Annotated[Description, changeable()] = ""
    #: Whether it did what it is for when it was last looked at.
    alive: Annotated[bool, observed()] = False
    #: What else was seen of it.
    configurations: Annotated[dict[str, Any], observed(filter=False, sort=False)] = {}
    #: When it was first seen, UTC.
    created_at: Annotated[str, computed(filter=False, sort=False)] = ""
    #: When its process started, UTC.
    started_at: Annotated[str, observed(filter=False, sort=False)] = ""
    #: When it was last seen alive, UTC.
    heartbeat_timestamp: Annotated[str, observed(filter=False, sort=False)] = ""
