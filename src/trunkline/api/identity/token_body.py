"""The body of a token, as Keystone writes it (keystone/common/render_token.py), and where its user can go."""

from __future__ import annotations

from typing import Any

from trunkline.api.identity import roles
from trunkline.api.identity.catalog import catalog
from trunkline.api.identity.grants import Grant
from trunkline.api.identity.tokens import isotime
from trunkline.resources.identity import Domain, Project
from trunkline.store import Reader


def render(reader: Reader, grant: Grant, *, with_catalog: bool = True) -> dict[str, Any]:
    """A token that holds, in the envelope."""
    token = grant.token
    body: dict[str, Any] = {
        "methods": list(token.methods),
        "user": {
            "id": grant.user.id,
            "name": grant.user.name,
            "domain": _short(grant.user_domain),
            "password_expires_at": grant.user.password_expires_at,
        },
        "audit_ids": list(token.audit_ids),
        "expires_at": isotime(token.expires_at),
        "issued_at": isotime(token.issued_at),
    }
    if token.system:
        body["system"] = {"all": True}
    if grant.domain is not None:
        body["domain"] = _short(grant.domain)
    if grant.project is not None and grant.project_domain is not None:
        body["project"] = {**_short(grant.project), "domain": _short(grant.project_domain)}
        body["is_domain"] = False
    if grant.roles:
        body["roles"] = [_short(role) for role in grant.roles]
        if with_catalog:
            body["catalog"] = catalog(reader, project_id=token.project_id, user_id=grant.user.id)
    if grant.trust is not None:
        body["OS-TRUST:trust"] = {
            "id": grant.trust.id,
            "impersonation": grant.trust.impersonation,
            "trustor_user": {"id": grant.trust.trustor_user_id},
            "trustee_user": {"id": grant.trust.trustee_user_id},
        }
    if grant.credential is not None:
        body["application_credential"] = {
            "id": grant.credential.id,
            "name": grant.credential.name,
            "restricted": not grant.credential.unrestricted,
        }
        if grant.access_rules:
            body["application_credential"]["access_rules"] = [
                {"id": rule.id, "service": rule.service, "method": rule.method, "path": rule.path}
                for rule in grant.access_rules
            ]
    return {"token": body}


def _short(thing: Any) -> dict[str, str]:
    return {"id": thing.id, "name": thing.name}


def reachable(reader: Reader, user_id: str) -> tuple[list[Project], list[Domain], bool]:
    """The enabled projects and domains that a user can have a token for, and whether the system is too."""
    scopes = roles.scopes_of(reader, user_id)
    domains = {d.id: d for d in reader.find(Domain, enabled=True)}
    projects = [
        project
        for scope in scopes
        if scope.kind == "project"
        and (project := reader.get(Project, scope.id)) is not None
        and project.enabled
        and project.domain_id in domains
    ]
    return (
        sorted(projects, key=lambda project: (project.name, project.id)),
        [domains[s.id] for s in sorted(scopes, key=lambda s: s.id) if s.kind == "domain" and s.id in domains],
        roles.SYSTEM in scopes,
    )
