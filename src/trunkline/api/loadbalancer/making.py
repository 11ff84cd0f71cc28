"""Making a part of a load balancer with all that its request has inside, and changing and deleting one.

A request may order a whole load balancer at once: listeners, pools, members and policies stand inside of what
they are of. Whatever is changed, the load balancer follows in the same transaction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from msgspec.structs import replace

from trunkline.api.engine import Call, required
from trunkline.api.loadbalancer import beneath, members, pools
from trunkline.api.loadbalancer.dialect import given
from trunkline.errors import BadField, BadRequest, NotFound
from trunkline.resources.loadbalancer import (
    HealthMonitor,
    L7Policy,
    L7Rule,
    Listener,
    LoadBalancer,
    Member,
    Part,
    Pool,
)
from trunkline.resources.schema import spec_of

P = TypeVar("P", bound=Part)
#: Pools of a request by their names: what stands inside may name one.
Named = dict[str, Pool]
#: How many parts one request may order.
MOST = 1000


@contextlib.contextmanager
def within(place: str) -> Iterator[None]:
    """Has errors name the place in the request where the field stands."""
    try:
        yield
    except BadField as error:
        problem = error.message.removeprefix(f"Invalid input for {error.field}: ")
        raise BadField(f"{place}.{error.field}", problem, type=error.type) from None
    except BadRequest as error:
        raise BadField(place, error.message, type=error.type) from None


def loadbalancer(call: Call, body: Any) -> LoadBalancer:
    """Makes a load balancer."""
    fields, inner = _apart(body, LoadBalancer, "pools", "listeners")
    balancer = call.create(LoadBalancer, spec_of(LoadBalancer).parse_create(fields, lax=True))
    named: Named = {}
    for index, each in enumerate(_several(inner, "pools")):
        with within(f"pools[{index}]"):
            made = pool(call, balancer, each)
            if made.name:
                named[made.name] = made
    for index, each in enumerate(_several(inner, "listeners")):
        with within(f"listeners[{index}]"):
            listener(call, balancer, each, named)
    return balancer


def listener(call: Call, balancer: LoadBalancer, body: Any, named: Named | None = None) -> Listener:
    """Makes a listener of a load balancer."""
    fields, inner = _apart(body, Listener, "default_pool", "l7policies")
    values = _of(balancer, Listener, fields)
    if inner["default_pool"] is not None:
        with within("default_pool"):
            values["default_pool_id"] = _named(call, balancer, inner["default_pool"], named or {}).id
    made = call.create(Listener, values)
    for index, each in enumerate(_several(inner, "l7policies")):
        with within(f"l7policies[{index}]"):
            policy(call, balancer, {**_object(each), "listener_id": made.id}, named)
    return made


def pool(call: Call, balancer: LoadBalancer, body: Any) -> Pool:
    """Makes a pool of a load balancer, and the default one of a listener where one is named."""
    fields, inner = _apart(body, Pool, "listener_id", "members", "healthmonitor")
    made = call.create(Pool, _of(balancer, Pool, fields))
    if inner["listener_id"] is not None:
        pools.attach(call, made, find(call, Listener, inner["listener_id"], "listener_id"))
    for index, each in enumerate(_several(inner, "members")):
        with within(f"members[{index}]"):
            member(call, made, each)
    if inner["healthmonitor"] is not None:
        with within("healthmonitor"):
            monitor(call, balancer, {**_object(inner["healthmonitor"]), "pool_id": made.id})
    return made


def member(call: Call, of: Pool, body: Any) -> Member:
    """Makes a member of a pool."""
    values = spec_of(Member).parse_create(given(body, Member, creates=True), lax=True)
    return call.create(Member, {**values, **members.within(of)})


def monitor(call: Call, balancer: LoadBalancer, body: Any) -> HealthMonitor:
    """Makes the health monitor of a pool."""
    fields = given(body, HealthMonitor, creates=True)
    return call.create(HealthMonitor, _of(balancer, HealthMonitor, fields))


def policy(call: Call, balancer: LoadBalancer, body: Any, named: Named | None = None) -> L7Policy:
    """Makes a policy of a listener."""
    fields, inner = _apart(body, L7Policy, "rules", "redirect_pool")
    values = _of(balancer, L7Policy, fields)
    if inner["redirect_pool"] is not None:
        with within("redirect_pool"):
            values["redirect_pool_id"] = _named(call, balancer, inner["redirect_pool"], named or {}).id
    made = call.create(L7Policy, values)
    for index, each in enumerate(_several(inner, "rules")):
        with within(f"rules[{index}]"):
            rule(call, made, each)
    return made


def rule(call: Call, of: L7Policy, body: Any) -> L7Rule:
    """Makes a rule of a policy."""
    values = spec_of(L7Rule).parse_create(given(body, L7Rule, creates=True), lax=True)
    links = {"l7policy_id": of.id, "loadbalancer_id": of.loadbalancer_id, "project_id": of.project_id}
    return call.create(L7Rule, {**values, **links})


def find(call: Call, cls: type[P], id: Any, field: str) -> P:
    """What a request names by its id.

    Raises:
        BadField: that is no id. NotFound: there is no such thing.
    """
    if not isinstance(id, str):
        raise BadField(field, "it must be an id.")
    found = call.tx.get(cls, id)
    if found is None:
        missing = call.engine.missing(cls, id)
        raise NotFound(missing.message, type=missing.type, field=field)
    return found


def balancer_of(call: Call, part: Part) -> LoadBalancer:
    """The load balancer that a part is of."""
    id = part.id if isinstance(part, LoadBalancer) else getattr(part, "loadbalancer_id")  # noqa: B009
    found = call.tx.get(LoadBalancer, id)
    assert found is not None, "it goes with all of its parts"
    return found


def change(call: Call, part: P, body: Any) -> None:
    """Changes a part by a request body."""
    cls = type(part)
    values = spec_of(cls).parse_update(given(body, cls, creates=False), lax=True)
    changed = call.update(part, values)
    if changed != part:
        pending(call, changed)


def pending(call: Call, part: Part) -> None:
    """Has a part that was changed say that this is not in force yet."""
    found = call.tx.get(type(part), part.id)
    if found is not None and found.provisioning_status != "PENDING_CREATE":
        call.tx.observe(replace(found, provisioning_status="PENDING_UPDATE"))


def follow(call: Call, balancer: LoadBalancer) -> None:
    """Brings what has changed to the appliance that does the work."""
    pending(call, balancer)
    beneath.follow(call, balancer.id)


def _of(balancer: LoadBalancer, cls: type[Part], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a part: it is of the project of its load balancer."""
    inside = "loadbalancer_id" if cls in (Listener, Pool) else ""
    wanted = {name: value for name, value in fields.items() if name not in ("project_id", inside)}
    if fields.get("project_id") not in (None, balancer.project_id):
        raise BadField("project_id", f"it is that of the load balancer, {balancer.project_id}. Leave it out.")
    values = spec_of(cls).parse_create(wanted, lax=True)
    return {**values, "loadbalancer_id": balancer.id, "project_id": balancer.project_id}


def _apart(body: Any, cls: type[Part], *names: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a part, and what stands inside of it."""
    fields = given(body, cls, creates=True)
    return fields, {name: fields.pop(name, None) for name in names}


def _several(inner: Mapping[str, Any], name: str) -> list[Any]:
    found = inner[name]
    if found is None:
        return []
    if not isinstance(found, list) or len(found) > MOST:
        raise BadField(name, f"it must be a list, of {MOST} at the most.")
    return found


def _object(body: Any) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        raise BadRequest("What stands inside of a request must be a JSON object.")
    return body


def _named(call: Call, balancer: LoadBalancer, body: Any, named: Named) -> Pool:
    """A pool that stands inside, or another one of the request by its name alone."""
    if set(_object(body)) == {"name"}:
        found = named.get(str(body["name"]))
        if found is None:
            raise BadField(
                "name", f"the request has no pool '{str(body['name'])[:80]}'. Define it under pools."
            )
        return found
    made = pool(call, balancer, body)
    if made.name:
        named[made.name] = made
    return made


def loadbalancer_named(call: Call, body: Any, cls: type[Part]) -> LoadBalancer:
    """The load balancer that a request for a new part names, by itself or by what the part is of.

    Raises:
        BadRequest: it is no object. BadField, NotFound: it names none.
    """
    fields = _object(body)
    if cls is HealthMonitor:
        return balancer_of(call, find(call, Pool, fields.get("pool_id") or _missing("pool_id"), "pool_id"))
    if cls is L7Policy:
        return balancer_of(
            call, find(call, Listener, fields.get("listener_id") or _missing("listener_id"), "listener_id")
        )
    by_listener = None
    if cls is Pool and fields.get("listener_id"):
        by_listener = balancer_of(call, find(call, Listener, fields["listener_id"], "listener_id"))
    if not fields.get("loadbalancer_id"):
        return by_listener or _missing("loadbalancer_id")
    balancer = find(call, LoadBalancer, fields["loadbalancer_id"], "loadbalancer_id")
    if by_listener is not None and by_listener.id != balancer.id:
        raise BadField("listener_id", f"it is of load balancer {by_listener.id}. Name one of them.")
    return balancer


def _missing(field: str) -> Any:
    raise required(field)
