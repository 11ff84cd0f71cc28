"""The policy of an appliance: one document, refused whole or taken whole, and what a new one changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from trunkline.api.appliance import events
from trunkline.api.engine import Call
from trunkline.errors import BadField, BadRequest
from trunkline.resources.appliance import SERVICES, ZONES, Appliance, AppliancePolicy
from trunkline.resources.appliance_policy import Zone, check, parse
from trunkline.store import Reader

#: How many differences are told.
MOST = 500


def of(reader: Reader, appliance: Appliance) -> AppliancePolicy:
    """The newest policy of an appliance."""
    return reader.get(AppliancePolicy, appliance.id) or AppliancePolicy(id=appliance.id)


def first(appliance: Appliance) -> AppliancePolicy:
    """The policy of a new appliance: a firewall lets nothing begin."""
    document = {"firewall": {"default": "drop"}} if "firewall" in appliance.services else {}
    return AppliancePolicy(id=appliance.id, document=document)


def checked(appliance: Appliance, document: Any) -> dict[str, Any]:
    """The document, where the appliance can have it.

    Raises:
        BadField, BadRequest: with what is wrong in it named.
    """
    if not isinstance(document, dict):
        raise BadRequest("The policy must be a JSON object.", field="policy")
    policy = parse(document)
    for name in SERVICES:
        there = getattr(policy, name) is not None
        if there and name not in appliance.services:
            raise BadField(
                name,
                f"the appliance has no service {name}. Add it to its services, or leave this section out.",
            )
    if policy.firewall is None and "firewall" in appliance.services:
        raise BadField(
            "firewall", "without this section all connections may begin. Give it; its default is to drop."
        )
    legs = zip(ZONES, (appliance.inside_addresses, appliance.outside_addresses), strict=True)
    check(policy, [Zone(name, name == "outside", tuple(addresses)) for name, addresses in legs])
    return document


def change(call: Call, appliance: Appliance, document: Any) -> tuple[AppliancePolicy, list[dict[str, Any]]]:
    """Gives an appliance another policy, with the next revision; one that is equal changes nothing.

    Returns: the policy, and what differs from the one before.
    """
    old = of(call.tx, appliance)
    new = checked(appliance, document)
    found = list(differences(old.document, new))
    if not found:
        return old, []
    policy = AppliancePolicy(id=appliance.id, revision=old.revision + 1, document=new)
    call.tx.replace(policy)
    call.save(replace(appliance, policy_revision=policy.revision))
    events.note(call, appliance, f"Policy revision {policy.revision} is set", _summary(found))
    return policy, found


def differences(old: Any, new: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """What differs between two documents: {"path", "change": added, removed, changed, moved}.

    Members of lists that have names are known by them; the order of such a list matters too.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            where = f"{path}.{name}" if path else str(name)
            if name not in new:
                yield {"path": where, "change": "removed"}
            elif name not in old:
                yield {"path": where, "change": "added"}
            else:
                yield from differences(old[name], new[name], where)
        return
    before, after = _named(old), _named(new)
    if before is not None and after is not None:
        for name in before.keys() - after.keys():
            yield {"path": f"{path}[{name}]", "change": "removed"}
        for name, value in after.items():
            if name not in before:
                yield {"path": f"{path}[{name}]", "change": "added"}
            elif before[name] != value:
                yield {"path": f"{path}[{name}]", "change": "changed"}
        kept = [name for name in before if name in after]
        if kept != [name for name in after if name in before]:
            yield {"path": path, "change": "moved"}
    elif old != new:
        yield {"path": path, "change": "changed"}


def _named(value: Any) -> dict[str, Any] | None:
    """The members of a list by their names; None where they have none."""
    members: list[Any] = value if isinstance(value, list) else [None]
    if not all(isinstance(each, Mapping) and each.get("name") for each in members):
        return None
    found = {str(each["name"]): each for each in members}
    return found if len(found) == len(members) else None


def _summary(found: list[dict[str, Any]]) -> str:
    first = ", ".join(f"{each['path']} {each['change']}" for each in found[:5])
    return f"{first}, and {len(found) - 5} more" if len(found) > 5 else first
