"""What a token is good for now: everything that it refers to is looked up, and must still be so."""

from __future__ import annotations

from dataclasses import dataclass, replace

from trunkline.api.context import Context
from trunkline.api.identity import roles
from trunkline.api.identity.roles import SYSTEM, Scope
from trunkline.api.identity.tokens import Token, seconds
from trunkline.errors import Unauthenticated
from trunkline.resources.identity import (
    AccessRule,
    ApplicationCredential,
    Domain,
    Project,
    Revocation,
    Role,
    Trust,
    User,
)
from trunkline.store import Reader, table_of

#: The kinds of which a change can make a token good for something else.
KINDS = frozenset(
    (
        "domain",
        "project",
        "user",
        "membership",
        "role",
        "role_inference",
        "role_assignment",
        "application_credential",
        "access_rule",
        "trust",
        "revocation",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A token that holds, with what it refers to."""

    token: Token
    #: Who acts: of a trust with impersonation, the trustor.
    user: User
    user_domain: Domain
    roles: tuple[Role, ...] = ()
    project: Project | None = None
    project_domain: Domain | None = None
    domain: Domain | None = None
    trust: Trust | None = None
    credential: ApplicationCredential | None = None
    #: The requests it is good for; None for all.
    access_rules: tuple[AccessRule, ...] | None = None

    @property
    def delegated(self) -> bool:
        """Whether somebody else than the user itself holds it: a trustee or a program."""
        return self.trust is not None or self.credential is not None

    def context(self, text: str) -> Context:
        """The caller, as the engine knows it. `text` is the token."""
        return Context(
            user_id=self.user.id,
            user_name=self.user.name,
            user_domain_id=self.user.domain_id,
            project_id=self.token.project_id,
            project_domain_id=self.project.domain_id if self.project else "",
            domain_id=self.token.domain_id,
            system=self.token.system == "all",
            roles=frozenset(role.name for role in self.roles),
            application_credential_id=self.token.application_credential_id,
            audit_ids=self.token.audit_ids,
            token=text,
        )


def refused() -> Unauthenticated:
    """The one error for everything that is wrong with who asks: it tells nothing."""
    return Unauthenticated("The request you have made requires authentication.")


def resolve(reader: Reader, token: Token, now: float) -> Grant:
    """What a token is good for at a time (seconds since 1970).

    Raises:
        Unauthenticated: for nothing: it expired, was revoked, or what it refers to is gone or disabled.
    """
    if token.expires_at <= now or _revoked(reader, token):
        raise refused()
    trust = _trust(reader, token, now)
    user, user_domain = enabled_user(reader, token.user_id, token)
    scope = Scope("project", token.project_id)
    if token.system:
        return _scoped(reader, Grant(token=token, user=user, user_domain=user_domain), SYSTEM)
    if token.domain_id:
        domain = enabled_domain(reader, token.domain_id)
        grant = Grant(token=token, user=user, user_domain=user_domain, domain=domain)
        return _scoped(reader, grant, Scope("domain", domain.id))
    if not token.project_id:
        return Grant(token=token, user=user, user_domain=user_domain)
    project, project_domain = enabled_project(reader, token.project_id)
    allowed: set[str] | None = None
    if trust is not None:
        trustor, trustor_domain = enabled_user(reader, trust.trustor_user_id)
        if trust.impersonation:
            user, user_domain = trustor, trustor_domain
        allowed = set(trust.role_ids)
    credential, access_rules = _credential(reader, token, now)
    if credential is not None:
        allowed = set(credential.role_ids)
    grant = Grant(
        token=token,
        user=user,
        user_domain=user_domain,
        project=project,
        project_domain=project_domain,
        trust=trust,
        credential=credential,
        access_rules=access_rules,
    )
    return _scoped(reader, grant, scope, trust.trustor_user_id if trust else user.id, allowed)


def enabled_user(reader: Reader, user_id: str, token: Token | None = None) -> tuple[User, Domain]:
    """A user that may act, and its domain.

    Raises:
        Unauthenticated: it may not; or the token is older than what the user still accepts.
    """
    user = reader.get(User, user_id)
    if user is None or not user.enabled or (token is not None and token.issued_at < user.tokens_from):
        raise refused()
    return user, enabled_domain(reader, user.domain_id)


def enabled_domain(reader: Reader, domain_id: str) -> Domain:
    """A domain that is enabled; raises Unauthenticated where it is not."""
    domain = reader.get(Domain, domain_id)
    if domain is None or not domain.enabled:
        raise refused()
    return domain


def enabled_project(reader: Reader, project_id: str) -> tuple[Project, Domain]:
    """A project that is enabled, as its domain is; raises Unauthenticated where it is not."""
    project = reader.get(Project, project_id)
    if project is None or not project.enabled:
        raise refused()
    return project, enabled_domain(reader, project.domain_id)


def past(time: str | None, now: float) -> bool:
    """Whether a time, written as 2026-11-21T04:00:00.000000Z, is over. None never is."""
    return time is not None and seconds(time) <= now


def _scoped(
    reader: Reader, grant: Grant, scope: Scope, user_id: str = "", allowed: set[str] | None = None
) -> Grant:
    found = roles.effective(reader, user_id or grant.user.id, scope)
    if allowed is not None:
        allowed = roles.closure(allowed, roles.implications(reader))
        found = [role for role in found if role.id in allowed]
    if not found:
        raise refused()
    return replace(grant, roles=tuple(found))


def _revoked(reader: Reader, token: Token) -> bool:
    return bool(reader.count(Revocation, audit_id=token.audit_ids[0]))


def _trust(reader: Reader, token: Token, now: float) -> Trust | None:
    if not token.trust_id:
        return None
    trust = reader.get(Trust, token.trust_id)
    if trust is None or past(trust.expires_at, now):
        raise refused()
    return trust


def _credential(
    reader: Reader, token: Token, now: float
) -> tuple[ApplicationCredential | None, tuple[AccessRule, ...] | None]:
    if not token.application_credential_id:
        return None, None
    credential = reader.get(ApplicationCredential, token.application_credential_id)
    if credential is None or past(credential.expires_at, now):
        raise refused()
    if credential.access_rule_ids is None:
        return credential, None
    table = table_of(AccessRule)
    return credential, tuple(reader.select(AccessRule, table.c.id.in_(credential.access_rule_ids)))
