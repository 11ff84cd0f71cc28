"""What a region is made of, beside what its users order: its hosts and the tokens they join with."""

from __future__ import annotations

from typing import Annotated

from trunkline.resources.reports import Condition, HostDaemon, HostLink
from trunkline.resources.schema import Resource, computed, hidden, observed, resource


@resource(kind="host", plural="hosts", service="region")
class Host(Resource):
    """A machine (or in the lab, a network namespace) that carries workloads. Its id is its name."""

    #: Its address on the underlay, without prefix length.
    underlay_address: Annotated[str, observed()] = ""
    #: ... and where other hosts reach it for the buses of appliances.
    bus_address: Annotated[str, observed()] = ""
    #: The availability zone it is in.
    zone: Annotated[str, computed()] = "nova"
    #: Whether new servers may be placed on it.
    enabled: Annotated[bool, computed()] = True
    #: Why not.
    disabled_reason: Annotated[str | None, computed()] = None
    #: Whether gateways of routers may be on it.
    carries_gateways: Annotated[bool, computed()] = True
    #: When it joined, seconds since the epoch.
    joined_at: Annotated[float, computed()] = 0.0
    #: SHA-256 of the public key that it joined with, hexadecimal.
    key: Annotated[str, hidden()] = ""
    #: Whether its agent reports. (Each single report is not stored: only what it changes.)
    alive: Annotated[bool, observed()] = False
    #: When that last changed, seconds since the epoch.
    seen_at: Annotated[float, observed()] = 0.0
    #: When its agent's process started, seconds since the epoch.
    agent_since: Annotated[float, observed()] = 0.0
    #: The newest revision that its agent has applied.
    applied_revision: Annotated[int, observed()] = 0
    #: Processors, threads of execution.
    vcpus: Annotated[int, observed()] = 0
    #: Memory, MiB.
    memory_mib: Annotated[int, observed()] = 0
    #: Disk for servers, GiB.
    disk_gib: Annotated[int, observed()] = 0
    #: kvm or tcg.
    accelerator: Annotated[str, observed()] = "tcg"
    #: Open vSwitch's datapath: system or netdev.
    datapath: Annotated[str, observed()] = "netdev"
    #: The physical networks it is connected to.
    physical_networks: Annotated[list[str], observed()] = []
    #: The same, as gateways and floating IPs are placed by them: it changes what hosts are told.
    wired: Annotated[list[str], hidden()] = []
    #: Its links, as fast as their interfaces say.
    links: Annotated[list[HostLink], observed()] = []
    #: What of its links the operator lets it promise to ports, where that is not their speed.
    promised_links: Annotated[list[HostLink], computed()] = []
    #: The packets that it forwards in a second, thousands, as the operator measured it. 0: it promises none.
    packet_rate_kpps: Annotated[int, computed()] = 0
    daemons: Annotated[list[HostDaemon], observed()] = []
    problems: Annotated[list[Condition], observed()] = []


@resource(kind="join_token", plural="join_tokens", service="region")
class JoinToken(Resource):
    """A permission for one host to join. Its id is the digest of the secret (`control.channel`)."""

    #: Seconds since the epoch.
    created_at: Annotated[float, computed()] = 0.0
    #: Seconds since the epoch.
    expires_at: Annotated[float, computed()] = 0.0
    #: The host that joined with it, or "" while it is unused.
    host: Annotated[str, computed()] = ""
