"""Logging in: from the body of ``POST /v3/auth/tokens`` to a token.

    methods  -> who it is: by password, by a token, by an application credential
    scope    -> what for: a project, a domain, the system, a trust, or nothing
    grant    -> what the token is good for; a token that would be good for nothing is not issued

Every refusal of who asks is the same error after the same work, so that nothing is learnt from it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec

from trunkline.api.identity import auth_request
from trunkline.api.identity.auth_request import (
    CredentialBody,
    DomainRef,
    IdentityBody,
    ProjectRef,
    ScopeBody,
    UserRef,
)
from trunkline.api.identity.grants import Grant, enabled_domain, enabled_user, past, refused, resolve
from trunkline.api.identity.limits import LoginLimits
from trunkline.api.identity.passwords import Passwords
from trunkline.api.identity.tokens import METHODS, Token, Tokens, new_audit_id, seconds
from trunkline.errors import Forbidden, Unauthenticated
from trunkline.resources.identity import ApplicationCredential, Domain, Project, Trust, User
from trunkline.store import Reader, Store, Tx

T = TypeVar("T")

#: Seconds a token lives.
LIFE = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """Who it is, as proven by the methods."""

    user_id: str
    methods: tuple[str, ...]
    #: The token that was shown, if one was.
    token: Token | None = None
    credential: ApplicationCredential | None = None


class Logins:
    """Issues tokens. One a control process.

    Args:
        store: where users are.
        tokens: writes and reads tokens.
        passwords: verifies.
        limits: how often a log-in may fail.
        life: seconds a token lives.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        tokens: Tokens,
        passwords: Passwords,
        limits: LoginLimits,
        *,
        life: float = LIFE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._passwords = passwords
        self._limits = limits
        self._life = life
        self._clock = clock

    async def log_in(self, body: Any, remote: str) -> tuple[str, Grant]:
        """Issues a token for the body of a request; `remote` is where the request came from.

        Returns: the token's text, and what it is good for.
        Raises:
            BadField: the body is malformed.
            Unauthenticated: it is not who it says, or has no role where it wants to go.
            TooMany: too many log-ins of this user or from this source have failed.
        """
        auth = auth_request.parse(body)
        proven = await self._prove(auth.identity, remote)
        return await self._issue(proven, auth.scope)

    # Who.

    async def _prove(self, identity: IdentityBody, remote: str) -> Proven:
        proofs = []
        for method in dict.fromkeys(identity.methods):
            if method == "password" and identity.password is not None:
                proofs.append(await self._by_password(identity.password.user, remote))
            elif method == "application_credential" and identity.application_credential is not None:
                proofs.append(await self._by_credential(identity.application_credential, remote))
            elif method == "token" and identity.token is not None:
                proofs.append(await self._read(self._by_token, identity.token.id))
            else:
                raise refused()
        if not proofs or len({proof.user_id for proof in proofs}) > 1:
            raise refused()
        used = {method for proof in proofs for method in proof.methods}
        return Proven(
            user_id=proofs[0].user_id,
            methods=tuple(method for method in METHODS if method in used),
            token=next((proof.token for proof in proofs if proof.token), None),
            credential=next((proof.credential for proof in proofs if proof.credential), None),
        )

    async def _by_password(self, ref: UserRef, remote: str) -> Proven:
        user = await self._read(_user, ref)
        hashed = user.password or "" if user else ""
        await self.verify(_limit_key(ref, user), remote, hashed, ref.password or "")
        assert user is not None
        await self._read(enabled_user, user.id)
        return Proven(user_id=user.id, methods=("password",))

    async def _by_credential(self, ref: CredentialBody, remote: str) -> Proven:
        credential = await self._read(_credential, ref)
        key = f"credential/{credential.id if credential else ref.id or ref.name}"
        hashed = credential.secret or "" if credential else ""
        await self.verify(key, remote, hashed, ref.secret or "")
        assert credential is not None
        if past(credential.expires_at, self._clock()):
            raise refused()
        return Proven(user_id=credential.user_id, methods=("application_credential",), credential=credential)

    async def verify(self, key: str, remote: str, hashed: str, secret: str) -> None:
        """Verifies a password against its hash, "" for none, within the limits of `key` and of the source.

        Raises:
            Unauthenticated: it is wrong.
            TooMany: too many were wrong.
        """
        self._limits.take(key, remote)
        if not await self._passwords.verify(hashed, secret):
            raise refused()
        self._limits.give_back(key, remote)

    def _by_token(self, reader: Reader, text: str) -> Proven:
        token = self._tokens.read(text)
        grant = resolve(reader, token, self._clock())
        if grant.delegated:
            raise Forbidden(
                "A token of a trust or an application credential cannot be exchanged for another."
            )
        return Proven(user_id=token.user_id, methods=(*token.methods, "token"), token=token)

    # What for.

    async def _issue(self, proven: Proven, scope: ScopeBody | str | None) -> tuple[str, Grant]:
        token = await self._read(self._token, proven, scope)
        grant = await self._read(resolve, token, self._clock())
        if grant.trust is not None and grant.trust.remaining_uses is not None:
            await self._store.write(lambda tx: _use(tx, token.trust_id))
        return self._tokens.write(token), grant

    def _token(self, reader: Reader, proven: Proven, scope: ScopeBody | str | None) -> Token:
        now = self._clock()
        user, _ = enabled_user(reader, proven.user_id)
        audit = new_audit_id()
        token = Token(
            user_id=user.id,
            methods=proven.methods,
            audit_ids=(audit, proven.token.audit_ids[-1]) if proven.token else (audit,),
            # Tokens that are older than a change of the password are refused by the second.
            issued_at=max(float(int(now)), user.tokens_from),
            expires_at=min(now + self._life, proven.token.expires_at if proven.token else now + self._life),
        )
        if proven.credential is not None:
            if scope is not None:
                raise refused()
            return replace(
                token,
                project_id=proven.credential.project_id,
                application_credential_id=proven.credential.id,
                expires_at=_earlier(token.expires_at, proven.credential.expires_at),
            )
        if isinstance(scope, ScopeBody):
            return _for_scope(reader, token, scope)
        if scope is None and user.default_project_id and self._usable(reader, token, user.default_project_id):
            return replace(token, project_id=user.default_project_id)
        return token

    def _usable(self, reader: Reader, token: Token, project_id: str) -> bool:
        try:
            resolve(reader, replace(token, project_id=project_id), self._clock())
        except Unauthenticated:
            return False
        return True

    async def _read(self, work: Callable[..., T], *arguments: Any) -> T:
        def inside() -> T:
            with self._store.read() as reader:
                return work(reader, *arguments)

        return await asyncio.to_thread(inside)


def _limit_key(ref: UserRef, user: User | None) -> str:
    """One bucket a user, however it is named; and one for each name that is nobody's."""
    if user is not None:
        return user.id
    domain = ref.domain or DomainRef()
    return f"{domain.id or domain.name}/{ref.id or ref.name}"


def _domain(reader: Reader, ref: DomainRef | None) -> Domain | None:
    if ref is None or not (ref.id or ref.name):
        return None
    return reader.get(Domain, ref.id) if ref.id else reader.first(Domain, name=ref.name)


def _user(reader: Reader, ref: UserRef) -> User | None:
    if ref.id:
        return reader.get(User, ref.id)
    domain = _domain(reader, ref.domain)
    if domain is None:
        return None
    return reader.first(User, domain_id=domain.id, name=ref.name)


def _credential(reader: Reader, ref: CredentialBody) -> ApplicationCredential | None:
    if ref.id:
        return reader.get(ApplicationCredential, ref.id)
    user = _user(reader, ref.user) if ref.user else None
    if user is None:
        return None
    return reader.first(ApplicationCredential, user_id=user.id, name=ref.name)


def _for_scope(reader: Reader, token: Token, scope: ScopeBody) -> Token:
    if scope.unscoped is not None:
        return token
    if scope.system is not None:
        return replace(token, system="all")
    if scope.trust is not None:
        trust = reader.get(Trust, scope.trust.id)
        if trust is None or trust.trustee_user_id != token.user_id or not trust.project_id:
            raise refused()
        expires = _earlier(token.expires_at, trust.expires_at)
        return replace(token, project_id=trust.project_id, trust_id=trust.id, expires_at=expires)
    if scope.domain is not None:
        domain = _domain(reader, scope.domain)
        if domain is None:
            raise refused()
        return replace(token, domain_id=domain.id)
    project = _project(reader, scope.project)
    if project is None:
        raise refused()
    return replace(token, project_id=project.id)


def _project(reader: Reader, ref: ProjectRef | None) -> Project | None:
    if ref is None:
        return None
    if ref.id:
        return reader.get(Project, ref.id)
    domain = _domain(reader, ref.domain)
    if domain is None:
        return None
    enabled_domain(reader, domain.id)
    return reader.first(Project, domain_id=domain.id, name=ref.name)


def _earlier(end: float, time: str | None) -> float:
    return end if time is None else min(end, seconds(time))


def _use(tx: Tx, trust_id: str) -> None:
    """Spends one use of a trust."""
    trust = tx.get(Trust, trust_id)
    if trust is None or not trust.remaining_uses:
        raise refused()
    tx.replace(msgspec.structs.replace(trust, remaining_uses=trust.remaining_uses - 1))
