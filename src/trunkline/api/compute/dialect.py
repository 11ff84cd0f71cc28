"""The Compute API v2.1: all its paths in one place.

Source: the OpenStack Compute API reference and its history of microversions.
"""

from __future__ import annotations

from trunkline.api.compute import (
    actions,
    aggregates,
    attachments,
    details,
    extensions,
    extra_specs,
    flavors,
    groups,
    history,
    hypervisors,
    keypairs,
    labels,
    migration_api,
    quotas,
    schemas,
    server_api,
    services,
    usage,
    versions,
    wire,
)
from trunkline.api.compute.actions import Console
from trunkline.api.engine import Engine
from trunkline.api.http import Service
from trunkline.errors import Unavailable


async def no_console(host: str, server: str, lines: int | None) -> str:
    """What is read of a console where hosts cannot be asked."""
    raise Unavailable(f"The console of {server} cannot be read: host {host} cannot be asked for it.")


def service(engine: Engine, console: Console = no_console) -> Service:
    """The Compute API.

    Args:
        console: reads the console of a server from its host.
    """
    return Service(
        name="compute",
        prefix="/compute",
        error=wire.error,
        headers=wire.headers,
        endpoints=schemas.described(
            [
                *versions.endpoints(),
                *server_api.endpoints(engine),
                *actions.endpoints(engine, console),
                *attachments.endpoints(engine),
                *labels.endpoints(engine),
                *history.endpoints(engine),
                *details.endpoints(engine),
                *migration_api.endpoints(engine),
                *flavors.endpoints(engine),
                *extra_specs.endpoints(engine),
                *keypairs.endpoints(engine),
                *groups.endpoints(engine),
                *hypervisors.endpoints(engine),
                *services.endpoints(engine),
                *aggregates.endpoints(engine),
                *quotas.endpoints(engine),
                *usage.endpoints(engine),
                *extensions.endpoints(engine),
            ]
        ),
    )
