"""Which of an appliance's managers leads. No input or output: it is told what was heard, and when.

Each leader has an epoch of its own, one above all that it heard of; units refuse who has a lower one. Of two
that lead, the one with the lower (epoch, number) steps down when it hears of the other; of several that could
begin, the one with the highest number does.
"""

from __future__ import annotations

from dataclasses import dataclass

from trunkline.units.words import Beat

#: How often managers say that they are there, seconds, and after how long one that does not counts as gone.
BEAT, PATIENCE = 0.25, 1.5
#: How often a manager that units refused waits twice as long before it begins again.
_DOUBLED = 3


@dataclass(frozen=True)
class _Heard:
    at: float
    beat: Beat


class Election:
    """One manager's view. Times are of a clock that does not jump, in seconds."""

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.leads = False
        #: Its own, where it leads.
        self.epoch = 0
        self.willing = True
        self._highest = 0
        self._heard: dict[int, _Heard] = {}
        #: A unit followed it since it leads.
        self._followed = False
        self._refused = 0
        self._not_before = now + PATIENCE

    def beat(self, n: int = 0) -> Beat:
        """What it says to the others."""
        return Beat(n, self.number, self.epoch if self.leads else self._highest, self.leads, self.willing)

    def heard(self, beat: Beat, now: float) -> None:
        """Another manager is there."""
        self._heard[beat.manager] = _Heard(now, beat)
        self._highest = max(self._highest, beat.epoch)
        if beat.leads:
            self._refused = 0
            if self.leads and (beat.epoch, beat.manager) > (self.epoch, self.number):
                self.leads = False

    def followed(self) -> None:
        """A unit takes it for its leader."""
        self._followed = True

    def refused(self, epoch: int, manager: int, now: float) -> None:
        """A unit follows another one, or did until now.

        One that just begins did not know of that epoch, and takes a higher one. One that units followed is
        deposed, and gives the other one time.
        """
        self._highest = max(self._highest, epoch)
        if not self.leads:
            return
        if manager == self.number:
            # They follow this one as it was before its program began anew, and nobody told it how far it was.
            if epoch > self.epoch:
                self._begin()
            return
        if self._followed and (epoch, manager) > (self.epoch, self.number):
            self.leads = False
            self._not_before = now + PATIENCE * 2 ** min(self._refused + 1, _DOUBLED)
            self._refused += 1
        elif epoch >= self.epoch:
            self._begin()

    def tick(self, now: float, others: set[int]) -> None:
        """Time has passed. `others`: the managers that there are to be besides this one."""
        near = {
            number: heard.beat
            for number, heard in self._heard.items()
            if number in others and now - heard.at < PATIENCE
        }
        willing = [number for number, beat in near.items() if beat.willing]
        if self.leads:
            self.leads = self.willing or not willing
            return
        if any(beat.leads for beat in near.values()):
            return
        if others and now < self._not_before:
            return
        if not self.willing and willing:
            return
        if self.willing and any(number > self.number for number in willing):
            return
        self._begin()

    def _begin(self) -> None:
        self.leads, self._followed = True, False
        self.epoch = self._highest = self._highest + 1
