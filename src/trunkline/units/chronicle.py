"""What happened lately, in words, for whoever looks at an appliance."""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable

from trunkline.resources.reports import UnitEvent

log = logging.getLogger(__name__)
_EVENTS = 40


class Chronicle:
    """The last few events; `changed` is called when there is another one."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        # A program that began anew counts on above all that it said before.
        self._serials = itertools.count(int(time.time() * 1000))
        self._events: deque[UnitEvent] = deque(maxlen=_EVENTS)

    def tell(self, what: str, cause: str = "") -> None:
        log.info("%s %s", what, cause)
        event = UnitEvent(serial=next(self._serials), at=time.time(), what=what, cause=cause)
        self._events.append(event)
        self._changed()

    def events(self) -> tuple[UnitEvent, ...]:
        return tuple(self._events)
