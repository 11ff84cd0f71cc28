"""How many appliances and units a project may have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trunkline.errors import BadField, BadRequest, OverQuota
from trunkline.resources.appliance import Appliance, ApplianceQuota, Unit
from trunkline.resources.schema import Resource, Spec, spec_of
from trunkline.store import Reader, Tx

#: The name of a limit -> what is counted.
COUNTED: Mapping[str, type[Resource]] = {"appliances": Appliance, "units": Unit}
LARGEST = 2**31 - 1
#: The JSON schema of the body that sets limits.
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "quota": {
            "type": "object",
            "properties": {n: {"type": "integer", "minimum": -1, "maximum": LARGEST} for n in COUNTED},
            "additionalProperties": False,
        }
    },
    "required": ["quota"],
}


def limits(reader: Reader, project_id: str) -> dict[str, int]:
    """The limits of a project, -1 for none."""
    own = reader.get(ApplianceQuota, project_id)
    default = {name: spec_of(cls).quota or 0 for name, cls in COUNTED.items()}
    return default if own is None else {**default, **own.limits}


def limit(reader: Reader, project_id: str, spec: Spec) -> int:
    """The limit of a project for a kind; for `Engine`."""
    return limits(reader, project_id).get(spec.plural, -1 if spec.quota is None else spec.quota)


def shown(reader: Reader, project_id: str) -> dict[str, dict[str, int]]:
    """Limit and use of each."""
    return {
        name: {"limit": most, "used": reader.count(COUNTED[name], project_id=project_id)}
        for name, most in limits(reader, project_id).items()
    }


def change(tx: Tx, project_id: str, body: Any) -> dict[str, int]:
    """Sets limits of a project. What it has already stays, whatever they are.

    Raises:
        BadField, BadRequest: an unknown name, or no number.
    """
    if not isinstance(body, Mapping):
        raise BadRequest("The body of quota must be a JSON object.")
    for name, value in body.items():
        if name not in COUNTED:
            raise BadField(str(name)[:80], f"there is no such limit. There are: {', '.join(COUNTED)}.")
        if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value <= LARGEST:
            raise BadField(name, f"a limit is a number from -1, for none, to {LARGEST}.")
    own = tx.get(ApplianceQuota, project_id)
    if own is None:
        tx.insert(ApplianceQuota(id=project_id, limits=dict(body)))
    else:
        tx.replace(ApplianceQuota(id=project_id, limits={**own.limits, **body}))
    return limits(tx, project_id)


def reset(tx: Tx, project_id: str) -> None:
    """The defaults again."""
    if tx.get(ApplianceQuota, project_id) is not None:
        tx.delete(ApplianceQuota, project_id)


def check_units(reader: Reader, project_id: str, more: Mapping[Any, int], fields: Mapping[Any, str]) -> None:
    """Refuses more units than the project may have.

    Args:
        more: by kind, how many there are to be more.
        fields: by kind, the field that asks for them.
    """
    most, there = limits(reader, project_id)["units"], reader.count(Unit, project_id=project_id)
    wanted = sum(more.values())
    if 0 <= most < there + wanted:
        field = fields[max(more, key=lambda kind: more[kind])]
        raise OverQuota(
            f"Quota exceeded for resources: ['units']. Invalid input for {field}: the project has {there}, "
            f"{wanted} more are asked for, and {most} is the most. Ask for fewer, or have the limit raised.",
            field=field,
        )
