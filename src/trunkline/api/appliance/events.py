"""What happened in an appliance: told with its cause, the newest few hundred kept."""

from __future__ import annotations

import time

from trunkline.api.engine import Call
from trunkline.api.ids import new_id
from trunkline.resources.appliance import Appliance, ApplianceEvent

#: How many are kept of one appliance.
MOST = 200
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
) -> None:
    """Stores an event; the oldest ones go.

    Args:
        at: when it happened, seconds since the epoch; by default now.
    """
    known = call.tx.find(ApplianceEvent, appliance_id=appliance.id)
    serials = sorted((event.serial, event.id) for event in known)
    for _, id in serials[: max(0, len(serials) - MOST + 1)]:
        call.tx.delete(ApplianceEvent, id)
    call.tx.insert(
        ApplianceEvent(
            id=new_id(),
            project_id=appliance.project_id,
            appliance_id=appliance.id,
            serial=serials[-1][0] + 1 if serials else 1,
            at=_text(at if at is not None else call.tx.now.timestamp()),
            unit=unit,
            what=what[:_LONGEST],
            cause=cause[:_LONGEST],
        )
    )


def _text(at: float) -> str:
    whole, part = divmod(round(max(at, 0.0) * 1000), 1000)
    try:
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{part:03}Z"
    except (OverflowError, ValueError, OSError):
        return _text(time.time())
