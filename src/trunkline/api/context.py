"""Who asks: what the engine and the access rules know of a caller."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One caller, as told by its token. Made by `api.identity`, read by everybody.

    `roles` holds the names of the roles of the token's scope, the implied ones included.
    """

    request_id: str = ""
    user_id: str = ""
    user_name: str = ""
    user_domain_id: str = ""
    #: The scope: at most one of project, domain and system.
    project_id: str = ""
    project_domain_id: str = ""
    domain_id: str = ""
    system: bool = False
    roles: frozenset[str] = frozenset()
    #: Whether the rule ``context_is_admin`` holds: sees every project's resources.
    is_admin: bool = False
    #: The id of the application credential the token came from, or "".
    application_credential_id: str = ""
    #: The token's audit ids, the newest first.
    audit_ids: tuple[str, ...] = field(default=())
    #: The token itself, for what a caller does to its own token.
    token: str = field(default="", repr=False)
    #: Where the request came from, for rate limits.
    remote: str = ""

    @property
    def authenticated(self) -> bool:
        """Whether a valid token came with the request."""
        return bool(self.user_id)


#: The cloud acting on its own behalf.
CLOUD = Context(user_id="cloud", user_name="cloud", system=True, roles=frozenset({"admin"}), is_admin=True)
