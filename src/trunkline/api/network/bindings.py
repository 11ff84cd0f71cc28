"""The bindings of a port: the active one is where it is plugged in, others are prepared on further hosts.

A host with an inactive binding plugs the port in too, so that nothing is left to be made when it is
activated: the network behind follows the active one alone.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from trunkline.api.context import Context
from trunkline.api.engine import Call, Engine
from trunkline.api.network import ports, reach
from trunkline.errors import BadField, Conflict, NotFound
from trunkline.resources.network import Binding, Network, Port
from trunkline.resources.region import Host
from trunkline.resources.schema import convert
from trunkline.resources.types import compact
from trunkline.store import Reader

_PROFILE = compact(4095).function
#: How many hosts a port can be prepared on.
_MOST = 8


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """What is inside the body that makes a binding."""

    host: str
    vnic_type: Literal["normal"] = "normal"
    profile: dict[str, Any] | None = None


def index(engine: Engine, reader: Reader, context: Context, port_id: str) -> list[dict[str, Any]]:
    """All bindings of a port, the active one first."""
    port = engine.get(reader, context, Port, port_id)
    engine.require("get_port_binding", context, engine.target(reader, port))
    active = [_active(port)] if port.host_id else []
    return [_shown(reader, port, each) for each in (*active, *port.bindings)]


def create(call: Call, port_id: str, body: Any) -> dict[str, Any]:
    """Prepares a port on a further host.

    Raises:
        BadField: there is no such host. Conflict: PortBindingAlreadyExists. NotFound: the port.
    """
    given: Wanted = convert(body, Wanted, what="binding")
    port = _port(call, "create_port_binding", port_id)
    ports.refuse_unbindable(port)
    if call.tx.get(Host, given.host) is None:
        raise BadField("host", f"there is no host '{given.host[:80]}'.", type="InvalidInput")
    if given.host in (port.host_id, *(each.host for each in port.bindings)):
        raise Conflict(
            f"Binding for port {port.id} on host {given.host} already exists.",
            type="PortBindingAlreadyExists",
            field="host",
        )
    if len(port.bindings) >= _MOST:
        raise Conflict(f"Port {port.id} has {_MOST} inactive bindings. Delete one.", type="PortBindingError")
    network = call.tx.get(Network, port.network_id)
    assert network is not None, "a port is on a network"
    reach.check_host(call, network, port, given.host)
    try:
        profile = _PROFILE(given.profile or {})
    except ValueError as error:
        raise BadField("profile", str(error), type="InvalidInput") from None
    made = Binding(host=given.host, vnic_type=given.vnic_type, profile=profile)
    port = call.save(replace(port, bindings=[*port.bindings, made]))
    return _shown(call.tx, port, made)


def activate(call: Call, port_id: str, host: str) -> dict[str, Any]:
    """Makes an inactive binding the active one; the one that was is inactive from then on.

    Raises:
        NotFound: PortBindingNotFound. Conflict: PortBindingAlreadyActive.
    """
    port = _port(call, "activate_port_binding", port_id)
    if host == port.host_id:
        raise Conflict(
            f"Binding for port {port.id} on host {host[:80]} is already active.",
            type="PortBindingAlreadyActive",
        )
    chosen, rest = _inactive(port, host)
    before = [_active(port)] if port.host_id else []
    moved = call.update(port, {"host_id": chosen.host, "profile": chosen.profile})
    moved = call.save(replace(moved, bindings=[*rest, *before]))
    return _shown(call.tx, moved, _active(moved))


def delete(call: Call, port_id: str, host: str) -> None:
    """Takes an inactive binding away.

    Raises:
        NotFound: PortBindingNotFound, also of the active one.
    """
    port = _port(call, "delete_port_binding", port_id)
    call.save(replace(port, bindings=_inactive(port, host)[1]))


def _port(call: Call, rule: str, id: str) -> Port:
    port = call.get(Port, id)
    call.require(rule, call.engine.target(call.tx, port))
    return port


def _active(port: Port) -> Binding:
    return Binding(host=port.host_id, vnic_type=port.vnic_type, profile=port.profile)


def _inactive(port: Port, host: str) -> tuple[Binding, list[Binding]]:
    """The binding on a host, and the others."""
    for each in port.bindings:
        if each.host == host:
            return each, [other for other in port.bindings if other is not each]
    raise NotFound(
        f"Binding for port {port.id} on host {host[:80]} could not be found.", type="PortBindingNotFound"
    )


def _shown(reader: Reader, port: Port, binding: Binding) -> dict[str, Any]:
    return {
        "host": binding.host,
        "vnic_type": binding.vnic_type,
        "profile": binding.profile,
        "status": "ACTIVE" if binding.host == port.host_id else "INACTIVE",
        "project_id": port.project_id,
        **ports.attachment(reader, binding.host),
    }
