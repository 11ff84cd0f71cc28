"""Who sends a request: from the token in its headers to a `Context`, in microseconds.

What a token is good for is remembered until something changes that could change it. The store tells
when that was; a commit that touches no identity costs nothing, and no token is resolved again.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

from starlette.requests import Request as StarletteRequest

from trunkline.api.context import Context
from trunkline.api.identity.grants import KINDS, Grant, refused, resolve
from trunkline.api.identity.tokens import Tokens
from trunkline.errors import Forbidden
from trunkline.resources.identity import AccessRule
from trunkline.store import Store


class _Rules(Protocol):
    def allows(self, name: str, credentials: Context, target: Any) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Known:
    #: The newest revision, when it was found out, that could have changed it.
    generation: int
    grant: Grant
    context: Context


class Sessions:
    """Resolves tokens. One a control process; used from its event loop.

    Args:
        store: where users, roles and assignments are.
        tokens: reads tokens.
        rules: decides who is an administrator (rule ``context_is_admin``).
        remember: how many tokens.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        tokens: Tokens,
        rules: _Rules,
        *,
        remember: int = 4096,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._rules = rules
        self._remember = remember
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def authenticate(self, request: StarletteRequest) -> Context:
        """The caller of a request; without a token, a context that is not authenticated.

        Raises:
            Unauthenticated: the token is not valid.
            Forbidden: it is that of an application credential that is not for such requests.
        """
        remote = request.client.host if request.client else ""
        text = request.headers.get("x-auth-token")
        # A client that logs in may still send the token that it wants to replace.
        if not text or (request.method == "POST" and request.scope["path"].endswith("/v3/auth/tokens")):
            return Context(remote=remote)
        known = self._look_up(text)
        if known.grant.access_rules is not None:
            _require_access(known.grant.access_rules, request)
        return replace(known.context, remote=remote)

    def now(self) -> float:
        """Seconds since 1970."""
        return self._clock()

    def grant(self, text: str) -> Grant:
        """What a token is good for.

        Raises:
            Unauthenticated: for nothing.
        """
        return self._look_up(text).grant

    def _look_up(self, text: str) -> _Known:
        # What is read after this is as new as that, or newer.
        generation = self._store.newest(KINDS)
        known = self._known.get(text)
        if known is not None and known.generation == generation:
            if known.grant.token.expires_at <= self._clock():
                raise refused()
            return known
        token = self._tokens.read(text)
        with self._store.read() as reader:
            grant = resolve(reader, token, self._clock())
        context = grant.context(text)
        context = replace(context, is_admin=self._rules.allows("context_is_admin", context, {}))
        known = self._known[text] = _Known(generation, grant, context)
        self._known.move_to_end(text)
        if len(self._known) > self._remember:
            self._known.popitem(last=False)
        return known


def _require_access(rules: tuple[AccessRule, ...], request: StarletteRequest) -> None:
    service = str(request.scope.get("root_path", "")).strip("/").split("/")[0]
    path = str(request.scope["path"]).removeprefix(f"/{service}")
    for rule in rules:
        if (
            rule.service == service
            and rule.method == request.method
            and _pattern(rule.path).fullmatch(path) is not None
        ):
            return
    raise Forbidden(
        f"The application credential is not for {request.method} {path} of the service '{service}'. "
        "Make one whose access rules allow it."
    )


@lru_cache(maxsize=1024)
def _pattern(path: str) -> re.Pattern[str]:
    """A rule's path: * and {name} stand for one part, ** for any number of them."""
    parts = re.split(r"(\*\*|\*|\{[^{}/]*\})", path)
    return re.compile(
        "".join(
            ".*" if part == "**" else "[^/]+" if index % 2 else re.escape(part)
            for index, part in enumerate(parts)
        )
    )
