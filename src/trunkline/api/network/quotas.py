"""Quotas: how much of each kind a project may have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trunkline.errors import BadField, BadRequest
from trunkline.resources.network import NetworkQuota
from trunkline.resources.schema import Resource, Spec, spec_of, specs
from trunkline.store import Reader, Tx

#: The kinds that are counted: those whose class says how many a project may have.
COUNTED: Mapping[str, type[Resource]] = {
    spec.kind: spec.cls for spec in specs().values() if spec.service == "network" and spec.quota is not None
}
LARGEST = 2**31 - 1
#: The JSON schema of the body that sets limits.
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "quota": {
            "type": "object",
            "properties": {
                **{kind: {"type": "integer", "minimum": -1, "maximum": LARGEST} for kind in COUNTED},
                "force": {"type": "boolean"},
            },
            "additionalProperties": False,
        }
    },
    "required": ["quota"],
}


def limit(reader: Reader, project_id: str, spec: Spec) -> int:
    """The limit of a project for a kind, -1 for none; for `Engine`."""
    if spec.quota is None:
        return -1
    if spec.kind not in COUNTED:
        return spec.quota
    own = reader.get(NetworkQuota, project_id)
    return spec.quota if own is None else own.limits.get(spec.kind, spec.quota)


def defaults() -> dict[str, int]:
    """The limits of a project for which none were set."""
    return {kind: _default(cls) for kind, cls in COUNTED.items()}


def _default(cls: type[Resource]) -> int:
    quota = spec_of(cls).quota
    return -1 if quota is None else quota


def of(reader: Reader, project_id: str) -> dict[str, int]:
    """The limits of a project."""
    own = reader.get(NetworkQuota, project_id)
    return defaults() if own is None else {**defaults(), **own.limits}


def used(reader: Reader, project_id: str, kind: str) -> int:
    """How many of a kind a project has."""
    return reader.count(COUNTED[kind], project_id=project_id)


def details(reader: Reader, project_id: str) -> dict[str, dict[str, int]]:
    """Limit and use of each kind."""
    return {
        kind: {"limit": most, "used": used(reader, project_id, kind), "reserved": 0}
        for kind, most in of(reader, project_id).items()
    }


def everything(reader: Reader) -> list[dict[str, Any]]:
    """The limits of all projects for which some were set."""
    return [
        {"project_id": own.id, "tenant_id": own.id, **defaults(), **own.limits}
        for own in reader.select(NetworkQuota)
    ]


def change(tx: Tx, project_id: str, body: Any) -> dict[str, int]:
    """Sets limits of a project. Without `force`, none may be below what the project has already.

    Raises:
        BadField, BadRequest: unknown kind, no number, below use.
    """
    if not isinstance(body, Mapping):
        raise BadRequest("The body of quota must be a JSON object.")
    forced = body.get("force") in (True, "True", "true")
    limits = {}
    for kind, value in body.items():
        if kind in ("force", "check_limit", "tenant_id", "project_id"):
            continue
        if kind not in COUNTED:
            raise BadField(
                str(kind)[:80], f"Unrecognized attribute of quota. There are: {', '.join(COUNTED)}."
            )
        limits[kind] = _number(kind, value)
    if not forced:
        for kind, most in limits.items():
            have = used(tx, project_id, kind)
            if 0 <= most < have:
                raise BadRequest(
                    f"Quota limit {most} for {kind} must be greater than or equal to already used {have}.",
                    type="HTTPBadRequest",
                    field=kind,
                )
    own = tx.get(NetworkQuota, project_id)
    if own is None:
        tx.insert(NetworkQuota(id=project_id, limits=limits))
    else:
        tx.replace(NetworkQuota(id=project_id, limits={**own.limits, **limits}))
    return of(tx, project_id)


def reset(tx: Tx, project_id: str) -> None:
    """The defaults again."""
    if tx.get(NetworkQuota, project_id) is not None:
        tx.delete(NetworkQuota, project_id)


def _number(kind: str, value: Any) -> int:
    if isinstance(value, str) and value.lstrip("-").isdecimal() and len(value) < 12:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value <= LARGEST:
        raise BadField(kind, f"a limit is a number from -1, for none, to {LARGEST}.", type="InvalidInput")
    return value
