"""Members: who answers; and the whole of a pool at once."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from trunkline.api.engine import Call
from trunkline.api.loadbalancer.dialect import given as given_fields
from trunkline.errors import BadField, BadRequest, Conflict
from trunkline.resources.loadbalancer import LoadBalancer, Member, Pool
from trunkline.resources.schema import spec_of

#: In one request.
MOST = 1000


def create(call: Call, member: Member, given: frozenset[str]) -> Member:
    """Refuses an address and port that the pool has already, and addresses that no server has."""
    for other in call.tx.find(Member, pool_id=member.pool_id):
        if (other.address, other.protocol_port) == (member.address, member.protocol_port):
            raise Conflict(
                f"Another member on this pool is already using ip {member.address} on protocol_port "
                f"{member.protocol_port}: {other.id}.",
                type="DuplicateMember",
                field="protocol_port",
            )
    balancer = call.tx.get(LoadBalancer, member.loadbalancer_id)
    vip = ipaddress.ip_address((balancer and balancer.vip_address) or "0.0.0.0")
    for field in ("address", "monitor_address"):
        _check_address(field, getattr(member, field), vip)
    return member


def update(call: Call, old: Member, new: Member, given: frozenset[str]) -> Member:
    """Looks at where it is asked how it is."""
    balancer = call.tx.get(LoadBalancer, new.loadbalancer_id)
    vip = ipaddress.ip_address((balancer and balancer.vip_address) or "0.0.0.0")
    _check_address("monitor_address", new.monitor_address, vip)
    return new


def replace_all(call: Call, pool: Pool, bodies: Any, *, additive: bool) -> None:
    """Gives a pool these members: those of the same address and port are changed, others are new.

    Args:
        additive: those that are not named stay.
    Raises:
        BadRequest, BadField: one is wrong, or named twice.
    """
    call.require("os_load-balancer_api:member:put", call.engine.target(call.tx, pool))
    if not isinstance(bodies, list):
        raise BadField("members", "it must be a list of members.")
    if len(bodies) > MOST:
        raise BadField("members", f"at most {MOST} in one request.")
    there = {(m.address, m.protocol_port): m for m in call.tx.find(Member, pool_id=pool.id)}
    named: set[tuple[str, int]] = set()
    for index, values in enumerate(_parsed(bodies)):
        key = (values["address"], values["protocol_port"])
        if key in named:
            raise BadField(f"members[{index}]", f"{key[0]}, port {key[1]}, is named twice.")
        named.add(key)
        member = there.get(key)
        if member is None:
            call.create(Member, {**values, **within(pool)})
            continue
        if "subnet_id" in values and values["subnet_id"] != member.subnet_id:
            raise BadField(f"members[{index}].subnet_id", "it stays. Delete the member, and create it again.")
        updates = {name for name, f in spec_of(Member).fields.items() if f.flags.update}
        call.update(member, {name: value for name, value in values.items() if name in updates})
    if not additive:
        for key, member in there.items():
            if key not in named:
                call.delete(member)


def within(pool: Pool) -> dict[str, str]:
    """What a member of the pool is of."""
    return {"pool_id": pool.id, "loadbalancer_id": pool.loadbalancer_id, "project_id": pool.project_id}


def _parsed(bodies: Sequence[Any]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for index, body in enumerate(bodies):
        try:
            found.append(spec_of(Member).parse_create(given_fields(body, Member, creates=True), lax=True))
        except BadField as error:
            problem = error.message.removeprefix(f"Invalid input for {error.field}: ")
            raise BadField(f"members[{index}].{error.field}", problem) from None
        except BadRequest:
            raise BadField(f"members[{index}]", "it must be a JSON object.") from None
    return found


def _check_address(field: str, text: str | None, vip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if text is None:
        return
    address = ipaddress.ip_address(text)
    if address.is_loopback or address.is_multicast or address.is_unspecified or address.is_link_local:
        raise BadField(field, f"{text} is no address by which a server is reached from elsewhere.")
    if address == vip:
        raise BadField(field, f"{text} is the VIP itself. Use the address of a server.")
