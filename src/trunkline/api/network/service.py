"""The Network API v2.0: its paths and what each does."""

from __future__ import annotations

from trunkline.api.engine import Engine
from trunkline.api.http import Service
from trunkline.api.network import dialect, flavors, qos_rules
from trunkline.api.network.collection import Collection
from trunkline.api.network.discovery import Discovery
from trunkline.api.network.kinds import KINDS, NESTED
from trunkline.api.network.nested import Nested
from trunkline.api.network.quota_api import Quotas
from trunkline.api.network.verbs import Verbs


def service(engine: Engine) -> Service:
    """The Network API."""
    endpoints = [endpoint for cls in KINDS for endpoint in Collection(engine, cls).endpoints()]
    nested = [endpoint for each in NESTED for endpoint in Nested(engine, *each).endpoints()]
    return Service(
        name="network",
        prefix="/network",
        endpoints=[
            *endpoints,
            *nested,
            *qos_rules.endpoints(engine),
            *flavors.endpoints(engine),
            *Verbs(engine).endpoints(),
            *Discovery(engine).endpoints(),
            *Quotas(engine).endpoints(),
        ],
        error=dialect.error,
    )
