"""A valid request for every endpoint of the Identity API that takes a JSON body."""

from __future__ import annotations

from collections.abc import Iterator

from things import Things, Valid


def identity_requests(t: Things) -> Iterator[Valid]:
    base = "/identity/v3"
    made = {
        "domain": (
            "domains",
            {
                "name": "d",
                "description": "d",
                "enabled": True,
                "tags": ["t"],
                "options": {"immutable": False},
            },
        ),
        "project": (
            "projects",
            {
                "name": "p",
                "domain_id": "default",
                "parent_id": "default",
                "enabled": True,
                "is_domain": False,
                "tags": ["t"],
            },
        ),
        "user": (
            "users",
            {
                "name": "u",
                "domain_id": "default",
                "default_project_id": t.project,
                "email": "a@b",
                "enabled": True,
                "password": "secret",
                "options": {"lock_password": False},
            },
        ),
        "group": ("groups", {"name": "g", "domain_id": "default", "description": "d"}),
        "role": (
            "roles",
            {"name": "r", "description": "d", "domain_id": None, "options": {"immutable": False}},
        ),
        "region": ("regions", {"id": "r", "description": "d", "parent_region_id": "RegionOne"}),
        "service": ("services", {"type": "t", "name": "n", "description": "d", "enabled": True}),
        "endpoint": (
            "endpoints",
            {
                "service_id": t.dummies["service"],
                "interface": "public",
                "url": "http://x",
                "region_id": "RegionOne",
                "enabled": True,
            },
        ),
        "endpoint_group": (
            "OS-EP-FILTER/endpoint_groups",
            {
                "name": "n",
                "filters": {"interface": "public", "service_id": t.dummies["service"]},
                "description": "d",
            },
        ),
    }
    for kind, (path, create) in made.items():
        fixed = ("domain_id", "parent_id", "is_domain", "id")
        update = {k: v for k, v in create.items() if k not in fixed}
        yield Valid(f"POST {base}/{path}", f"{base}/{path}", {kind: create}, "admin")
        yield Valid(
            f"PATCH {base}/{path}/{{id}}", f"{base}/{path}/{t.dummies[kind]}", {kind: update}, "admin"
        )
    yield Valid(
        f"PUT {base}/regions/{{id}}", f"{base}/regions/elsewhere", {"region": {"description": "d"}}, "admin"
    )
    yield Valid(
        f"POST {base}/credentials",
        f"{base}/credentials",
        {"credential": {"type": "cert", "blob": "b", "user_id": t.user, "project_id": t.project}},
    )
    yield Valid(
        f"PATCH {base}/credentials/{{id}}",
        f"{base}/credentials/{t.credential}",
        {"credential": {"blob": "c"}},
    )
    programs = f"{base}/users/{t.user}/application_credentials"
    yield Valid(
        f"POST {base}/users/{{user_id}}/application_credentials",
        programs,
        {
            "application_credential": {
                "name": "n",
                "description": "d",
                "expires_at": "2100-01-01T00:00:00Z",
                "unrestricted": False,
                "secret": "s",
                "roles": [{"name": "member"}],
                "access_rules": [{"service": "network", "method": "GET", "path": "/v2.0/**"}],
            }
        },
    )
    yield Valid(
        f"POST {base}/OS-TRUST/trusts",
        f"{base}/OS-TRUST/trusts",
        {
            "trust": {
                "trustor_user_id": t.user,
                "trustee_user_id": t.lab.users["otto"],
                "impersonation": False,
                "project_id": t.project,
                "expires_at": "2100-01-01T00:00:00Z",
                "remaining_uses": 3,
                "roles": [{"name": "member"}],
            }
        },
    )
    keys = f"{base}/users/{t.user}/credentials/OS-EC2"
    yield Valid(f"POST {base}/users/{{user_id}}/credentials/OS-EC2", keys, {"tenant_id": t.project})
    yield Valid(
        f"POST {base}/users/{{id}}/password",
        f"{base}/users/{t.dummies['user']}/password",
        {"user": {"password": "secret", "original_password": "wrong"}},
    )
    tags = f"{base}/projects/{t.dummies['project']}/tags"
    yield Valid(f"PUT {base}/projects/{{id}}/tags", tags, {"tags": ["one"]}, "admin")
    login = {"user": {"name": "dummy", "domain": {"id": "default"}, "password": "secret"}}
    domain = {"domain": {"name": "Default"}}
    yield Valid(
        f"POST {base}/auth/tokens",
        f"{base}/auth/tokens",
        {
            "auth": {
                "identity": {"methods": ["password"], "password": login},
                "scope": {"project": {"name": "dummy", **domain}},
            }
        },
    )
    yield Valid(
        f"POST {base}/auth/tokens",
        f"{base}/auth/tokens",
        {"auth": {"identity": {"methods": ["token"], "token": {"id": t.lab.tokens["demo"]}}}},
    )
    secret = {"name": "n", "user": {"id": t.user}, "secret": "s"}
    yield Valid(
        f"POST {base}/auth/tokens",
        f"{base}/auth/tokens",
        {"auth": {"identity": {"methods": ["application_credential"], "application_credential": secret}}},
    )
