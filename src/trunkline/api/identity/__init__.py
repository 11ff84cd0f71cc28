"""The Identity API: who there is, what they may do, tokens, and the catalog.

identity = Identity(engine, keys=state / "keys")
application([identity.service, ...], identity.authenticate)
await store.write(lambda tx: seed(tx, SeedOptions(...)))
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request as StarletteRequest

from trunkline.api.context import Context
from trunkline.api.engine import Engine
from trunkline.api.http import Service
from trunkline.api.identity.behaviours import STAGES
from trunkline.api.identity.collection import Parts
from trunkline.api.identity.dialect import service
from trunkline.api.identity.keys import KeyRepository
from trunkline.api.identity.limits import SOURCE_RATE, USER_RATE, LoginLimits, Rate
from trunkline.api.identity.login import LIFE, Logins
from trunkline.api.identity.passwords import Cost, Passwords
from trunkline.api.identity.seed import SERVICES, Seeded, SeedOptions, seed
from trunkline.api.identity.sessions import Sessions
from trunkline.api.identity.tokens import Tokens

__all__ = [
    "SERVICES",
    "STAGES",
    "Cost",
    "Identity",
    "IdentityOptions",
    "Rate",
    "SeedOptions",
    "Seeded",
    "seed",
]


@dataclass(frozen=True, kw_only=True)
class IdentityOptions:
    """What an operator, or a test, may choose."""

    #: Of a password's hash.
    cost: Cost = field(default_factory=Cost)
    #: Of failed log-ins, by user and by source; None for no limit.
    user_rate: Rate | None = USER_RATE
    source_rate: Rate | None = SOURCE_RATE
    #: Seconds a token lives.
    token_life: float = LIFE


class Identity:
    """The identity service of a control process, put together.

    Args:
        engine: with `STAGES` among its stages.
        keys: the folder of the token keys; made at need.
        prefix: the path that the service is under.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        engine: Engine,
        keys: Path,
        options: IdentityOptions | None = None,
        prefix: str = "/identity",
        clock: Callable[[], float] = time.time,
    ) -> None:
        options = options or IdentityOptions()
        self.keys = KeyRepository(keys)
        self.keys.setup()
        tokens = Tokens(self.keys)
        self.passwords = Passwords(options.cost)
        self.sessions = Sessions(engine.store, tokens, engine.rules, clock=clock)
        logins = Logins(
            engine.store,
            tokens,
            self.passwords,
            LoginLimits(user=options.user_rate, source=options.source_rate),
            life=options.token_life,
            clock=clock,
        )
        self.service: Service = service(
            Parts(engine=engine, sessions=self.sessions, logins=logins, passwords=self.passwords), prefix
        )

    async def authenticate(self, request: StarletteRequest) -> Context:
        """The caller of a request, for `api.app.application`."""
        return await self.sessions.authenticate(request)

    def close(self) -> None:
        """Ends the threads that hash passwords."""
        self.passwords.close()
