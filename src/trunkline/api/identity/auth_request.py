"""The body of ``POST /v3/auth/tokens``: its shape, and what it must have."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from trunkline.api.identity.passwords import MAX_LENGTH
from trunkline.errors import BadField
from trunkline.resources.schema import convert


class DomainRef(Struct):
    """Names a domain."""

    id: str | None = None
    name: str | None = None


class UserRef(Struct):
    """Names a user, by its id, or by its name and domain."""

    id: str | None = None
    name: str | None = None
    domain: DomainRef | None = None
    password: str | None = None


class PasswordBody(Struct):
    """Proof by password."""

    user: UserRef


class TokenBody(Struct):
    """Proof by another token."""

    id: str


class CredentialBody(Struct):
    """Proof by an application credential."""

    id: str | None = None
    name: str | None = None
    user: UserRef | None = None
    secret: str | None = None


class IdentityBody(Struct):
    """Who it is."""

    methods: list[str]
    password: PasswordBody | None = None
    token: TokenBody | None = None
    application_credential: CredentialBody | None = None


class ProjectRef(Struct):
    """Names a project, by its id, or by its name and domain."""

    id: str | None = None
    name: str | None = None
    domain: DomainRef | None = None


class TrustRef(Struct):
    """Names a trust."""

    id: str


class ScopeBody(Struct):
    """What the token is for."""

    project: ProjectRef | None = None
    domain: DomainRef | None = None
    system: dict[str, Any] | None = None
    unscoped: dict[str, Any] | None = None
    trust: TrustRef | None = msgspec.field(default=None, name="OS-TRUST:trust")

    def kinds(self) -> list[str]:
        """Which are given."""
        return [name for name in self.__struct_fields__ if getattr(self, name) is not None]


class AuthBody(Struct):
    """What stands under "auth" in the request."""

    identity: IdentityBody
    scope: ScopeBody | str | None = None


def parse(body: Any) -> AuthBody:
    """Understands what stands under "auth".

    Raises:
        BadField: with the field named by its path.
    """
    auth: AuthBody = convert(body, AuthBody, what="auth")
    _check(auth)
    return auth


def _check(auth: AuthBody) -> None:
    if isinstance(auth.scope, str) and auth.scope != "unscoped":
        raise BadField(
            "auth.scope", "Give an object with one of project, domain, system, or the text 'unscoped'."
        )
    if isinstance(auth.scope, ScopeBody) and len(auth.scope.kinds()) != 1:
        raise BadField("auth.scope", "Give exactly one of project, domain, system, unscoped, OS-TRUST:trust.")
    if not auth.identity.methods:
        raise BadField(
            "auth.identity.methods", "Give at least one of password, token, application_credential."
        )
    for method in auth.identity.methods:
        if (
            method in ("password", "token", "application_credential")
            and getattr(auth.identity, method) is None
        ):
            raise BadField(f"auth.identity.{method}", "it is required by the method of that name.")
    if auth.identity.password is not None:
        _check_user(auth.identity.password.user, "auth.identity.password.user")
        if auth.identity.password.user.password is None:
            raise BadField("auth.identity.password.user.password", "it is required.")
        if len(auth.identity.password.user.password) > MAX_LENGTH:
            raise BadField(
                "auth.identity.password.user.password", f"it is longer than {MAX_LENGTH} characters."
            )
    credential = auth.identity.application_credential
    if credential is not None:
        if credential.id is None:
            if credential.name is None or credential.user is None:
                raise BadField(
                    "auth.identity.application_credential", "Give its id, or its name and its user."
                )
            _check_user(credential.user, "auth.identity.application_credential.user")
        if credential.secret is None or len(credential.secret) > MAX_LENGTH:
            raise BadField("auth.identity.application_credential.secret", "it is required.")


def _check_user(user: UserRef, path: str) -> None:
    if user.id is None and (user.name is None or user.domain is None):
        raise BadField(path, "Give its id, or its name and its domain.")
