"""Mirrors of a host's ports: tunnel ports on the guard bridge, and what is copied to them.

A workload's own device is on the guard bridge, so there it is that its frames are copied: on the
integration bridge it is a patch port, and Open vSwitch copies nothing that goes to one.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Literal

from trunkline.agent import ports
from trunkline.agent.config import AgentConfig
from trunkline.compiler.slices import HostSlice, MirrorSlice, PortSlice
from trunkline.devices import openvswitch
from trunkline.devices.openvswitch import WantedMirror, WantedPort
from trunkline.devices.ovsdb import Database
from trunkline.errors import Conflict

_OWNER = "mirror"
#: What a port gets, the bridge sends to it.
_SELECTED: dict[str, Literal["src", "dst", "both"]] = {"ingress": "dst", "egress": "src", "both": "both"}
#: How many mirrors a bridge of Open vSwitch has at most (ofproto/ofproto-dpif-mirror.h, MAX_MIRRORS): of more
#: it says nothing but in its log.
MOST = 32


class Mirrors:
    """Manager of the mirrors. Owns the rows of Open vSwitch marked ``mirror``, named tlx and a digest.

    Args:
        changed: called when there are other mirrors than before.
    """

    def __init__(self, config: AgentConfig, db: Database, changed: Callable[[], None]) -> None:
        self._config = config
        self._db = db
        self._changed = changed
        self._wanted: list[tuple[PortSlice, MirrorSlice]] = []
        self._left_out = 0

    def want(self, slice_: HostSlice) -> None:
        """The mirrors of this slice, and no others."""
        own = (port for port in slice_.ports if not port.parent)
        wanted = [(port, mirror) for port in own for mirror in port.mirrors]
        self._wanted, self._left_out = wanted[:MOST], len(wanted[MOST:])

    async def apply(self) -> Conflict | None:
        """Drives the host there.

        Returns: what is told of mirrors that there is no room for; the host is well without them.
        Raises:
            Unavailable, Conflict, TransactError: something is in the way.
        """
        bridge = self._config.guard_bridge
        tunnels = [_tunnel(bridge, mirror) for _, mirror in self._wanted]
        wanted = [_mirror(port, mirror) for port, mirror in self._wanted]
        # A mirror goes before the port that it leads to, and comes after it.
        for step in ("first", "last"):
            operations = openvswitch.mirror_operations(self._db, bridge, wanted, _OWNER)
            if operations:
                await self._db.transact(operations)
                self._changed()
            if step == "first":
                operations = openvswitch.port_operations(self._db, tunnels, _OWNER)
                if not operations:
                    break
                await self._db.transact(operations)
        if not self._left_out:
            return None
        return Conflict(f"{self._left_out} streams of tap mirrors are not made: a host has {MOST} at most.")


def _name(mirror: MirrorSlice) -> str:
    return "tlx" + blake2b(mirror.id.encode(), digest_size=6).hexdigest()[:11]


def _tunnel(bridge: str, mirror: MirrorSlice) -> WantedPort:
    """The port that the copies leave by (ovs-vswitchd.conf.db(5), Interface)."""
    options = {"remote_ip": mirror.remote_address, "key": str(mirror.number)}
    if mirror.type == "erspanv1":
        options |= {"erspan_ver": "1", "erspan_idx": str(mirror.number)}
    return WantedPort(bridge, _name(mirror), "gre" if mirror.type == "gre" else "erspan", options)


def _mirror(port: PortSlice, mirror: MirrorSlice) -> WantedMirror:
    return WantedMirror(_name(mirror), ports.device(port), _name(mirror), _SELECTED[mirror.direction])
