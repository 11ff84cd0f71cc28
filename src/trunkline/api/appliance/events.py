"""What happened in an appliance: told with its cause, the newest few hundred kept.

What units tell does not push out what the cloud did: of either, so many are kept.
"""

from __future__ import annotations

import time

from trunkline.api.engine import Call
from trunkline.api.ids import new_id
from trunkline.resources.appliance import Appliance, ApplianceEvent

#: How many are kept of one appliance: told by its units, and others.
MOST_TOLD, MOST_OWN = 120, 80
#: The longest text of one, characters.
_LONGEST = 500


def note(
    call: Call,
    appliance: Appliance,
    what: str,
    cause: str = "",
    *,
    unit: int | None = None,
    at: float | None = None,
    told: bool = False,
) -> None:
    """Stores an event; the oldest ones go.

    Args:
        told: a unit tells it of itself.
        at: when it happened, seconds since the epoch; by default now.
    """
    known = call.tx.find(ApplianceEvent, appliance_id=appliance.id)
    known.sort(key=lambda event: event.serial)
    alike = [event for event in known if event.told == told]
    for event in alike[: max(0, len(alike) - (MOST_TOLD if told else MOST_OWN) + 1)]:
        call.tx.delete(ApplianceEvent, event.id)
    call.tx.insert(
        ApplianceEvent(
            id=new_id(),
            project_id=appliance.project_id,
            appliance_id=appliance.id,
            serial=known[-1].serial + 1 if known else 1,
            at=text_of(at if at is not None else call.tx.now.timestamp()),
            unit=unit,
            what=what[:_LONGEST],
            cause=cause[:_LONGEST],
            told=told,
        )
    )


def text_of(at: float) -> str:
    """A time, seconds since the epoch, as events tell it: UTC, to the millisecond."""
    whole, part = divmod(round(max(at, 0.0) * 1000), 1000)
    try:
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{part:03}Z"
    except (OverflowError, ValueError, OSError):
        return text_of(time.time())
