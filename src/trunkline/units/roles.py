"""What a unit may be."""

from __future__ import annotations

from collections.abc import Callable

from trunkline.units.dataplane import DataPlane
from trunkline.units.dispatcher import Dispatcher
from trunkline.units.manager import Manager
from trunkline.units.unit import Place, Role

#: By kind: data-plane, dispatcher, manager.
ROLES: dict[str, Callable[[Place, Callable[[], None]], Role]] = {
    "data-plane": DataPlane,
    "dispatcher": Dispatcher,
    "manager": Manager,
}
