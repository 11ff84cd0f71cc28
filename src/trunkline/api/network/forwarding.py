"""Port forwarding: ports of a floating IP that stands for no port, each leading to a port inside.

What forwards is the router between the inner address and the external network, one for all ports of one
floating IP; it is the floating IP's router as long as there is any.
"""

from __future__ import annotations

from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.api.network import floatingips
from trunkline.errors import BadField, BadRequest, Conflict, InUse
from trunkline.resources.network import FloatingIP, Port, PortForwarding
from trunkline.store import Reader

#: How many ports one range may have: each is an entry of the data plane's.
MOST_PORTS = 256


def create(call: Call, forwarding: PortForwarding, given: frozenset[str]) -> PortForwarding:
    """Finds the inner address and the way to it; the floating IP gets its router with the first."""
    floating = _parent(call, forwarding)
    if floating.port_id is not None:
        raise Conflict(
            f"Floating IP {floating.floating_ip_address} ({floating.id}) stands for port "
            f"{floating.port_id}. Disassociate it first.",
            type="PortForwardingNotSupported",
        )
    forwarding, router_id = _connected(
        call, floating, _with_ports(replace(forwarding, project_id=floating.project_id))
    )
    call.save(replace(floating, router_id=router_id))
    return forwarding


def update(call: Call, old: PortForwarding, new: PortForwarding, given: frozenset[str]) -> PortForwarding:
    """Other ports, or another address inside."""
    for side in ("external", "internal"):
        # Of a port and a range, what is given stands; the other one follows.
        one, several = f"{side}_port", f"{side}_port_range"
        if one in given and several not in given:
            new = replace(new, **{several: None})
        elif several in given and one not in given:
            new = replace(new, **{one: None})
    if "internal_port_id" in given and "internal_ip_address" not in given:
        same = new.internal_port_id == old.internal_port_id
        new = replace(new, internal_ip_address=old.internal_ip_address if same else None)
    floating = _parent(call, new)
    new, router_id = _connected(call, floating, _with_ports(new))
    if floating.router_id != router_id:
        call.save(replace(floating, router_id=router_id))
    return new


def delete(call: Call, forwarding: PortForwarding) -> None:
    """The floating IP has no router any more when the last one goes."""
    floating = _parent(call, forwarding)
    others = [f for f in of(call.tx, floating.id) if f.id != forwarding.id]
    call.save(floating if others else replace(floating, router_id=None, status="DOWN"))


def of(reader: Reader, floatingip_id: str) -> list[PortForwarding]:
    """All of a floating IP."""
    return reader.find(PortForwarding, floatingip_id=floatingip_id)


def drop_of(call: Call, port: Port) -> None:
    """Those that lead to a port that goes."""
    for forwarding in call.tx.find(PortForwarding, internal_port_id=port.id):
        delete(call, forwarding)
        call.drop(forwarding)


def refuse_without(call: Call, port: Port, gone: set[str | None]) -> None:
    """Refuses to take an address from a port that ports are forwarded to."""
    if not gone:
        return
    for forwarding in call.tx.find(PortForwarding, internal_port_id=port.id):
        if forwarding.internal_ip_address in gone:
            raise InUse(
                f"Address {forwarding.internal_ip_address} of port {port.id} is in use by port forwarding "
                f"{forwarding.id} of floating IP {forwarding.floatingip_id}. Delete it first.",
                type="PortInUse",
                field="fixed_ips",
            )


def ports(text: str | None) -> tuple[int, int]:
    """The first and the last port of a range as it is stored."""
    first, _, last = (text or "").partition(":")
    return int(first), int(last)


def _parent(call: Call, forwarding: PortForwarding) -> FloatingIP:
    floating = call.tx.get(FloatingIP, forwarding.floatingip_id)
    assert floating is not None
    return floating


def _with_ports(forwarding: PortForwarding) -> PortForwarding:
    """Port and range of each side in agreement, and the sides with each other."""
    for side in ("external", "internal"):
        one, several = getattr(forwarding, f"{side}_port"), getattr(forwarding, f"{side}_port_range")
        if one is None and several is None:
            raise BadField(f"{side}_port", f"it is required, or {side}_port_range.")
        if one is not None and several not in (None, f"{one}:{one}"):
            raise BadField(f"{side}_port_range", f"it contradicts {side}_port. Give one of them.")
        several = several or f"{one}:{one}"
        first, last = ports(several)
        changes = {f"{side}_port": first if first == last else None, f"{side}_port_range": several}
        forwarding = replace(forwarding, **changes)
    outside, inside = (_count(r) for r in (forwarding.external_port_range, forwarding.internal_port_range))
    if inside not in (1, outside):
        raise BadField(
            "internal_port_range",
            f"it has {inside} ports, of {outside} outside. Give as many, or one for all.",
        )
    if outside > MOST_PORTS:
        raise BadField("external_port_range", f"it has {outside} ports, and may have {MOST_PORTS}.")
    return forwarding


def _count(text: str | None) -> int:
    first, last = ports(text)
    return last - first + 1


def _connected(call: Call, floating: FloatingIP, forwarding: PortForwarding) -> tuple[PortForwarding, str]:
    """With its inner address; and the id of the router that leads there."""
    others = [f for f in of(call.tx, floating.id) if f.id != forwarding.id]
    for other in others:
        if other.protocol == forwarding.protocol and _overlap(other, forwarding):
            raise BadRequest(
                f"Bad port_forwarding request: {forwarding.protocol} ports {forwarding.external_port_range} "
                f"of floating IP {floating.id} are forwarded already, by {other.id}.",
                type="BadRequest",
                field="external_port",
            )
    port = call.get(Port, forwarding.internal_port_id)
    if port.project_id != floating.project_id and not call.context.is_admin:
        raise BadRequest(
            f"Bad port_forwarding request: port {port.id} is owned by a different project.",
            type="BadRequest",
            field="internal_port_id",
        )
    fixed = floatingips.choose_fixed(
        port, forwarding.internal_ip_address, ("internal_port_id", "internal_ip_address")
    )
    if call.tx.find(FloatingIP, port_id=port.id, fixed_ip_address=fixed.ip_address):
        raise Conflict(
            f"Cannot forward ports to port {port.id}: its address {fixed.ip_address} has a floating IP.",
            type="PortHasBindingFloatingIP",
            field="internal_port_id",
        )
    router = floatingips.router_for(call, floating, port, fixed)
    if others and floating.router_id != router.id:
        raise Conflict(
            f"Floating IP {floating.id} forwards ports by router {floating.router_id}, which does not lead "
            f"to port {port.id}.",
            type="FipInUseByOtherRouter",
            field="internal_port_id",
        )
    return replace(forwarding, internal_ip_address=fixed.ip_address), router.id


def _overlap(one: PortForwarding, other: PortForwarding) -> bool:
    (a, b), (c, d) = ports(one.external_port_range), ports(other.external_port_range)
    return a <= d and c <= b
