"""The policy of an appliance: one document, refused whole or taken whole, and what a new one changes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from msgspec.structs import replace

from trunkline.api.appliance import events, status
from trunkline.api.engine import Call
from trunkline.errors import BadField, BadRequest
from trunkline.resources.appliance import OUTSIDE, SERVICES, Appliance, AppliancePolicy, Unit, addresses
from trunkline.resources.appliance_policy import Policy, Zone, check, difference, parse
from trunkline.resources.appliance_policy.certificates import expired, restored
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


class Checked(NamedTuple):
    """A document that an appliance can have, and what it says."""

    document: dict[str, Any]
    policy: Policy


def checked(reader: Reader, appliance: Appliance, document: Any, stored: dict[str, Any]) -> Checked:
    """The document, where the appliance can have it, with the keys that are `stored` where it hides them.

    All of its units know the zones that it names.

    Raises:
        BadField, BadRequest: with what is wrong in it named.
    """
    if not isinstance(document, dict):
        raise BadRequest("The policy must be a JSON object.", field="policy")
    whole = restored(document, stored)
    policy = parse(whole)
    expired(policy, datetime.now(UTC), stored)
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
    known = status.known(appliance, reader.find(Unit, appliance_id=appliance.id))
    check(policy, [Zone(zone, zone == OUTSIDE, tuple(addresses(appliance)[zone])) for zone in known])
    return Checked(whole, policy)


def change(call: Call, appliance: Appliance, document: Any) -> tuple[AppliancePolicy, list[str]]:
    """Gives an appliance another policy, with the next revision; one that says the same changes nothing.

    Returns: the policy, and what differs from the one before.
    """
    old = of(call.tx, appliance)
    new = checked(call.tx, appliance, document, old.document)
    found = differences(old.document, new)
    if not found:
        return old, []
    policy = AppliancePolicy(id=appliance.id, revision=old.revision + 1, document=new.document)
    call.tx.replace(policy)
    call.save(replace(appliance, policy_revision=policy.revision))
    events.note(call, appliance, f"Policy revision {policy.revision} is set", _summary(found))
    return policy, found


def differences(old: dict[str, Any], new: Checked) -> list[str]:
    """What would be otherwise with another document than the stored one, a line for each thing."""
    return difference(parse(old, rules_checked=True), new.policy) if new.document != old else []


def _summary(found: Sequence[str]) -> str:
    return f"{' '.join(found[:3])} And {len(found) - 3} more." if len(found) > 3 else " ".join(found)
