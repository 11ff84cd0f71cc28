"""Profiles: what operators say, as JSON, of the flavors and availability zones that are made by them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from trunkline.api.engine import Call
from trunkline.api.loadbalancer import offered
from trunkline.errors import BadField, InUse
from trunkline.resources.loadbalancer import AvailabilityZone, AvailabilityZoneProfile, Flavor, FlavorProfile
from trunkline.store import Reader

P = TypeVar("P", FlavorProfile, AvailabilityZoneProfile)


@dataclass(frozen=True)
class Profiles(Generic[P]):
    """The profiles of one kind. One by which something was made keeps its data and its provider.

    Args:
        cls: the class of the profiles.
        name: what messages call one.
        data: the name of the field that has the data.
        example: what data may look like, for messages.
        check: (reader, data) refuses what means nothing here.
        made: the class of what is made by profiles.
        by: the name of its field that says by which profile.
        called: what messages call several of them.
    """

    cls: type[P]
    name: str
    data: str
    example: str
    check: Callable[[Reader, dict[str, Any]], None]
    made: type[Flavor | AvailabilityZone]
    by: str
    called: str

    def create(self, call: Call, profile: P, given: frozenset[str]) -> P:
        """Refuses data that mean nothing here."""
        offered.check_provider("provider_name", profile.provider_name)
        self._check_data(call, profile)
        return profile

    def update(self, call: Call, old: P, new: P, given: frozenset[str]) -> P:
        """Refuses to change what others were made by."""
        offered.check_provider("provider_name", new.provider_name)
        other = getattr(new, self.data) != getattr(old, self.data)
        if other:
            # What was right when it was said may say a zone of hosts that is gone.
            self._check_data(call, new)
        if (other or new.provider_name != old.provider_name) and self._in_use(call, old):
            raise InUse(
                f"{self.name} {old.id} is in use by {self.called}: its data and provider stay. "
                "Make another one.",
                type="ObjectInUse",
                field=self.data,
            )
        return new

    def delete(self, call: Call, profile: P) -> None:
        """Refuses while something is made by it."""
        if self._in_use(call, profile):
            raise InUse(
                f"{self.name} {profile.id} is in use by {self.called}. Delete them first.",
                type="ObjectInUse",
            )

    def check_there(self, call: Call, id: str) -> None:
        """Refuses to make something by a profile that is not there."""
        if call.tx.get(self.cls, id) is None:
            raise BadField(self.by, f"there is no {self.name.lower()} {id}.")

    def _in_use(self, call: Call, profile: P) -> bool:
        return call.tx.count(self.made, **{self.by: profile.id}) > 0

    def _check_data(self, call: Call, profile: P) -> None:
        try:
            data = json.loads(getattr(profile, self.data))
        except (ValueError, RecursionError):
            raise BadField(self.data, "it is not valid JSON.") from None
        if not isinstance(data, dict):
            raise BadField(self.data, f"it must be a JSON object, such as {self.example}.")
        self.check(call.tx, data)
