"""How many load balancers, and parts of them, a project may have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trunkline.errors import BadField, BadRequest
from trunkline.resources.loadbalancer import (
    HealthMonitor,
    L7Policy,
    L7Rule,
    Listener,
    LoadBalancer,
    LoadBalancerQuota,
    Member,
    Pool,
)
from trunkline.resources.schema import Spec, spec_of
from trunkline.store import Reader, Tx

#: The kinds that are counted.
COUNTED = tuple(
    spec_of(cls).kind for cls in (LoadBalancer, Listener, Pool, Member, HealthMonitor, L7Policy, L7Rule)
)
#: Names that some clients have for them.
OLDER = {"load_balancer": "loadbalancer", "health_monitor": "healthmonitor"}
LARGEST = 2**31 - 1
#: The JSON schema of the body that sets limits.
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "quota": {
            "type": "object",
            "properties": {
                name: {"type": ["integer", "null"], "minimum": -1, "maximum": LARGEST}
                for name in (*COUNTED, *OLDER)
            },
            "additionalProperties": False,
        }
    },
    "required": ["quota"],
}


def defaults() -> dict[str, int]:
    """The limits of a project for which none were set."""
    return {kind: spec_of(kind).quota or 0 for kind in COUNTED}


def limits(reader: Reader, project_id: str) -> dict[str, int]:
    """The limits of a project, -1 for none."""
    own = reader.get(LoadBalancerQuota, project_id)
    return defaults() if own is None else {**defaults(), **own.limits}


def limit(reader: Reader, project_id: str, spec: Spec) -> int:
    """The limit of a project for a kind; for `Engine`."""
    return limits(reader, project_id).get(spec.kind, -1 if spec.quota is None else spec.quota)


def shown(found: Mapping[str, int]) -> dict[str, int]:
    """Limits, under their older names too."""
    return {**found, **{older: found[name] for older, name in OLDER.items()}}


def everything(reader: Reader) -> list[dict[str, Any]]:
    """The limits of all projects for which any were set."""
    own = reader.select(LoadBalancerQuota)
    return [{"project_id": each.id, **shown({**defaults(), **each.limits})} for each in own]


def change(tx: Tx, project_id: str, body: Any) -> dict[str, int]:
    """Sets limits of a project; null is the default. What it has already stays.

    Raises:
        BadField, BadRequest: an unknown name, or no number.
    """
    if not isinstance(body, Mapping):
        raise BadRequest("The body of quota must be a JSON object.")
    known = tx.get(LoadBalancerQuota, project_id)
    new = dict(known.limits) if known is not None else {}
    for name, value in body.items():
        kind = OLDER.get(name, name)
        if kind not in COUNTED:
            raise BadField(str(name)[:80], f"there is no such limit. There are: {', '.join(COUNTED)}.")
        if value is None:
            new.pop(kind, None)
        elif isinstance(value, bool) or not isinstance(value, int) or not -1 <= value <= LARGEST:
            raise BadField(name, f"a limit is a number from -1, for none, to {LARGEST}.")
        else:
            new[kind] = value
    quota = LoadBalancerQuota(id=project_id, limits=new)
    if known is None:
        tx.insert(quota)
    else:
        tx.replace(quota)
    return limits(tx, project_id)


def reset(tx: Tx, project_id: str) -> None:
    """The defaults again."""
    if tx.get(LoadBalancerQuota, project_id) is not None:
        tx.delete(LoadBalancerQuota, project_id)
