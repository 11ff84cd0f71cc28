"""Tap mirrors: whose port, and numbers that tell copies apart."""

from __future__ import annotations

from trunkline.api.engine import Call
from trunkline.api.network import common
from trunkline.api.network.addressing import refuse_field
from trunkline.errors import Conflict, Forbidden
from trunkline.resources.network import INTERNAL_OWNERS, Port, TapMirror

#: ERSPAN's session id has 10 bits.
_ERSPAN_NUMBERS = 1024


def create(call: Call, mirror: TapMirror, given: frozenset[str]) -> TapMirror:
    """Refuses another's port, and numbers that are taken.

    Raises:
        Forbidden, BadRequest; Conflict: TapMirrorTunnelConflict.
    """
    common.owned(mirror)
    port = call.get(Port, mirror.port_id)
    if not call.context.is_admin and port.project_id != call.context.project_id:
        raise Forbidden(
            f"Port {port.id} is another project's: only its owner sees what it sends.", field="port_id"
        )
    if port.device_owner in INTERNAL_OWNERS:
        raise refuse_field(
            "port_id", f"port {port.id} is the cloud's own; only workloads' ports are mirrored."
        )
    if port.parent_id:
        raise refuse_field("port_id", f"port {port.id} is a sub-port. Name its parent, {port.parent_id}.")
    for direction, number in mirror.directions.items():
        if mirror.mirror_type == "erspanv1" and number >= _ERSPAN_NUMBERS:
            raise refuse_field("directions", f"in ERSPAN the number of {direction} is from 0 to 1023.")
        # Within a project a number says it all; and two streams to one place must differ, whosever they are.
        for scope in (
            f"tap-mirror:{mirror.project_id}",
            f"tap-mirror:{mirror.mirror_type}/{mirror.remote_ip}",
        ):
            if not call.tx.claim(scope, str(number), f"{mirror.id}"):
                raise Conflict(
                    f"The number {number} is in use by another tap mirror. Choose another one.",
                    type="TapMirrorTunnelConflict",
                    field="directions",
                )
    return mirror


def leave(call: Call, port: Port) -> None:
    """The mirrors of a port that goes go with it."""
    for mirror in call.tx.find(TapMirror, port_id=port.id):
        call.drop(mirror)
